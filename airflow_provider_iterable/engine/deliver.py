"""Batches out, outcomes back: patience, splitting, a few in flight; knows no endpoint and no store.

Packing and committing stay on the caller's thread; only requests run in the pool.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count, takewhile
from operator import attrgetter
from typing import Any, assert_never

import tenacity

from airflow_provider_iterable.engine.doubt import Doubts, patch_of
from airflow_provider_iterable.engine.pack import Packer
from airflow_provider_iterable.engine.vocabulary import (
    Accepted,
    Again,
    Batch,
    Call,
    Commit,
    Doubt,
    Fate,
    Halt,
    Intents,
    Operation,
    Outcome,
    Patch,
    Reason,
    Reply,
    Send,
    Settled,
    Split,
    Verdict,
)

Screen = Callable[[Operation], Operation | Outcome]
Salvage = Callable[[Operation, Collection[str], str], Operation | None]
Part = Callable[[Sequence[Operation], frozenset[str]], tuple[Sequence[Operation], Sequence[Outcome]]]

_RECEIPT = attrgetter("key", "remember")

SILENT_AT_ONCE = 1000
"""Entries that need no call, committed in one go."""

RESCUE_SECONDS = 4.0
"""How long an interrupted delivery waits for the requests in flight."""


@dataclass(frozen=True)
class Patience:
    """How long delivery tries.

    :param tries: most tries of one batch
    :param seconds: longest time spent on one batch
    :param first_wait: first back-off in seconds; it doubles, with jitter
    :param longest_wait: longest back-off in seconds
    :param in_flight: bulk requests in flight; single-record calls have four times as many
    :param unanswered: batches in a row without a usable answer after which the rest is deferred
    :param splits: requests a run may spend on taking refused batches apart
    :param commit_batches: batches whose outcomes are committed together
    """

    tries: int = 5
    seconds: float = 600.0
    first_wait: float = 1.0
    longest_wait: float = 60.0
    in_flight: int = 4
    unanswered: int = 3
    splits: int = 500
    commit_batches: int = 1


@dataclass
class _Parcel:
    """A batch on its way: what it leaves behind if it is never answered, and whether the state knows that."""

    batch: Batch
    doubts: Sequence[Doubt]
    doubtful: bool = False
    """Whether a request with these operations was sent and not answered."""
    intent: int | None = None
    """The number under which the state knows the doubts."""

    @property
    def ready(self) -> bool:
        """Whether it may be sent."""
        return self.intent is not None or not self.doubts


@dataclass(frozen=True)
class _Attempted:
    """How the tries of a batch ended."""

    verdict: Verdict
    unanswered: bool
    """Whether any of them was sent and not answered."""


@dataclass
class _Tally:
    """What delivery has learned so far."""

    unanswered: int = 0
    splits: int = 0
    stopped_by: Reason | None = None
    halted: str = ""
    commits: int = 0
    in_doubt: int = 0
    patch: Patch = field(default_factory=dict)
    begun: dict[int, Sequence[Doubt]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    outcomes: list[Outcome | Accepted] = field(default_factory=list)


class Delivery:
    """One run's deliveries.

    :param send: performs one request
    :param commit: stores a patch, all or nothing; an error ends the delivery
    :param screen: a last look at an operation before it is packed
    :param salvage: gives a rejected operation without the fields that are to blame, or ``None`` to let it be
    :param part: parts operations that were accepted, if without some fields, into those that were taken whole, and
        what is to be told of the others
    :param doubts: says what a request leaves behind that is never answered; announced to the state before it is sent
    :param stop: set from outside to end the delivery: what is in flight is finished and committed
    :param sleep: waits between tries; by default on ``stop``, so that stopping interrupts it
    """

    def __init__(
        self,
        send: Send,
        commit: Commit,
        *,
        screen: Screen | None = None,
        salvage: Salvage | None = None,
        part: Part | None = None,
        doubts: Doubts | None = None,
        patience: Patience | None = None,
        batch_size: int = 1000,
        stop: threading.Event | None = None,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        self._send, self._commit, self._screen, self._salvage = send, commit, screen, salvage
        self._part = part
        self._doubts: Doubts = doubts or (lambda call, operations: ())
        self._patience = patience or Patience()
        self._stop = stop or threading.Event()
        self._sleep: Callable[[float], Any] = sleep or self._stop.wait
        self._packer = Packer(batch_size)
        self._ready: deque[_Parcel] = deque()
        self._flying: dict[Future[_Attempted], _Parcel] = {}
        self._announced: set[int] = set()
        """Numbers of intents that the state has."""
        self._tally = _Tally()
        self._pool: ThreadPoolExecutor | None = None
        self._committing = False

    @property
    def halted(self) -> str:
        """Why nothing more can be sent; empty when nothing speaks against it."""
        return self._tally.halted

    @property
    def in_doubt(self) -> int:
        """Operations that were sent, not answered, and are remembered as in doubt."""
        return self._tally.in_doubt

    def run(self, waves: Iterable[Iterable[Operation]]) -> Iterator[Outcome | Accepted]:
        """Deliver wave after wave; yield outcomes once what they accepted is committed."""
        pool = self._pool = ThreadPoolExecutor(self._patience.in_flight * 4, thread_name_prefix="iterable")
        try:
            for wave in waves:
                for operation in wave:
                    self._take(operation)
                    if self._tally.outcomes:
                        yield from self._told()
                yield from self._drain()
        except BaseException:
            # Not to be waited for at the end: a request may take longer than a task that was stopped has left.
            self._stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            if not self._committing:
                self._rescue()
            raise
        pool.shutdown()

    def _take(self, operation: Operation) -> None:
        """Pack one operation and send what is full."""
        call = operation.call
        if call is None:
            self._settle_silently(operation)
            return
        if self._tally.stopped_by is not None:
            self._put_off([operation], self._tally.stopped_by)
            return
        if self._screen is not None:
            screened = self._screen(operation)
            if isinstance(screened, Outcome):
                self._tally.outcomes.append(screened)
                return
            operation = screened
        self._pack(operation, call)
        if self._ready:
            self._launch_ready()

    def _pack(self, operation: Operation, call: Call) -> None:
        if len(operation.body) + call.envelope > call.max_bytes:
            detail = f"{len(operation.body)} bytes"
            self._tally.outcomes.append(
                Outcome(operation.key, operation.kind, Fate.REJECTED, Reason.TOO_LARGE, detail, operation)
            )
            return
        closed = self._packer.add(operation, call)
        if closed is not None:
            self._ready.append(self._parcel(closed))

    def _parcel(self, batch: Batch, doubtful: bool = False) -> _Parcel:
        """Return a batch with what it leaves behind if it is never answered: a look-up changes nothing."""
        return _Parcel(batch, () if batch.call.reads else self._doubts(batch.call, batch.operations), doubtful)

    def _over(self) -> bool:
        if self._tally.stopped_by is None and self._stop.is_set():
            self._tally.stopped_by = Reason.STOPPED
        return self._tally.stopped_by is not None

    def _launch_ready(self, rest: bool = False) -> None:
        """Send what is packed, once the state knows of it.

        :param rest: do not wait until as many batches are packed as are committed together
        """
        while self._ready:
            parcel = self._ready[0]
            if self._full(parcel.batch.call) and not self._over():
                self._collect(flush=parcel.ready)  # and perhaps parts of a batch come before this one
                continue
            if self._over():
                self._ready.popleft()
                self._end(parcel)
                self._defer(parcel, self._tally.stopped_by or Reason.STOPPED)
                continue
            if not parcel.ready:
                if not rest and len(self._ready) < self._announced_together(parcel.batch.call):
                    return
                self._announce()
            self._ready.popleft()
            assert self._pool is not None
            self._flying[self._pool.submit(self._attempt, parcel.batch)] = parcel

    def _announce(self) -> None:
        """Commit what the next batches would leave behind, together with what earlier ones were answered.

        Only the next one where a batch must not be sent twice: what is announced and not sent counts as sent.
        """
        together = takewhile(lambda parcel: parcel.batch.call.repeatable, self._ready)
        numbers = (number for number in count() if number not in self._announced)
        for parcel in list(together) or [self._ready[0]]:
            if not parcel.ready:
                parcel.intent = next(numbers)
                self._tally.begun[parcel.intent] = parcel.doubts
        self._announced.update(self._tally.begun)
        self._flush()

    def _end(self, parcel: _Parcel) -> None:
        """Have the next commit settle what a batch would have left behind."""
        if parcel.intent is not None:
            self._tally.ended.add(parcel.intent)
            parcel.intent = None

    def _announced_together(self, call: Call) -> int:
        """Return how many batches are announced by one commit; those of one record would make one commit for each."""
        if not call.repeatable:
            return 1
        return max(self._patience.commit_batches, self._most(call) if call.max_items == 1 else 1)

    def _most(self, call: Call) -> int:
        """Return how many requests may be in flight."""
        return self._patience.in_flight * (4 if call.max_items == 1 else 1)

    def _full(self, call: Call) -> bool:
        return sum(1 for parcel in self._flying.values() if parcel.batch.call is call) >= self._most(call)

    def _drain(self) -> Iterator[Outcome | Accepted]:
        """Send what is packed and wait until everything is settled and committed."""
        while True:
            self._ready.extend(map(self._parcel, self._packer.flush()))
            if not self._ready and not self._flying:
                break
            self._launch_ready(rest=True)
            if self._flying:
                self._collect()
            yield from self._told()
        self._flush()
        yield from self._told()

    def _collect(self, flush: bool = True) -> None:
        """Wait for the next answer and settle it.

        :param flush: whether to commit what is due; otherwise a commit follows that announces the next batch
        """
        done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        for future in done:
            attempted = future.result()
            self._settle(self._flying.pop(future), attempted)
        if flush and self._tally.commits >= self._patience.commit_batches:
            self._flush()

    def _rescue(self) -> None:
        """Interrupted: give what is in flight a few seconds, and commit what Iterable accepted and what is in doubt."""
        wait([future for future in self._flying if not future.cancelled()], timeout=RESCUE_SECONDS)
        for future, parcel in self._flying.items():
            if future.cancelled():
                self._end(parcel)
            elif future.done() and future.exception() is None:
                self._settle(parcel, future.result())
            else:
                self._settle(parcel, _Attempted(Again(Reason.STOPPED), unanswered=not parcel.batch.call.reads))
        for parcel in self._ready:
            self._end(parcel)
        self._flush()

    def _attempt(self, batch: Batch) -> _Attempted:
        """Send a batch until its verdict is final or patience ends; runs in the pool."""
        unanswered = False

        def attempt() -> Verdict:
            nonlocal unanswered
            reply = self._send(batch)
            verdict = batch.call.judge(batch, reply)
            if isinstance(verdict, Again) and not batch.call.reads:
                unanswered = unanswered or (reply.sent and not _refused(reply))
            return verdict

        patience = self._patience
        backoff = tenacity.wait_random_exponential(patience.first_wait, patience.longest_wait)

        def pause(state: tenacity.RetryCallState) -> float:
            verdict = state.outcome.result() if state.outcome else None
            asked = verdict.after if isinstance(verdict, Again) else None
            return backoff(state) if asked is None else asked

        def last(state: tenacity.RetryCallState) -> Verdict:
            assert state.outcome is not None
            verdict: Verdict = state.outcome.result()
            return verdict

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(patience.tries)
            | tenacity.stop_before_delay(patience.seconds)
            | tenacity.stop_when_event_set(self._stop),
            wait=pause,
            retry=tenacity.retry_if_result(
                lambda verdict: isinstance(verdict, Again) and (batch.call.repeatable or not unanswered)
            ),
            sleep=lambda seconds: self._sleep(seconds),
            retry_error_callback=last,
        )
        verdict: Verdict = retrying(attempt)
        return _Attempted(verdict, unanswered)

    def _settle(self, parcel: _Parcel, attempted: _Attempted) -> None:
        tally, batch = self._tally, parcel.batch
        self._end(parcel)
        parcel.doubtful = parcel.doubtful or attempted.unanswered
        if not isinstance(attempted.verdict, Again):
            tally.unanswered = 0
        match attempted.verdict:
            case Settled(told, left_out):
                tally.commits += 1
                rest = [op for n, op in enumerate(batch.operations) if n not in told] if told else batch.operations
                self._accept(rest, batch.call.then, left_out)
                for outcome in told.values():
                    if outcome.reason is Reason.UNATTRIBUTED and outcome.operation and not batch.call.repeatable:
                        tally.patch[outcome.key] = outcome.operation.remember
                    self._keep(outcome, parcel)
            case Again(reason):
                tally.unanswered += 1
                if batch.call.repeatable or not parcel.doubtful:
                    self._defer(parcel, reason)
                else:
                    self._presume(batch.operations)
                if tally.unanswered >= self._patience.unanswered and not self._over():
                    tally.stopped_by = reason
            case Split() as split:
                self._split(parcel, split)
            case Halt(message):
                tally.halted = tally.halted or message
                tally.stopped_by = tally.stopped_by or Reason.HALTED
                self._defer(parcel, Reason.HALTED)
            case _:
                assert_never(attempted.verdict)

    def _accept(
        self, operations: Sequence[Operation], then: Call | None, left_out: frozenset[str] | None = None
    ) -> None:
        if then is not None:
            for operation in operations:
                self._pack(operation, then)
        elif operations:
            self._tally.patch.update(map(_RECEIPT, operations))
            if left_out is not None and self._part is not None:
                operations, told = self._part(operations, left_out)
                self._tally.outcomes.extend(told)
            self._tally.outcomes.append(Accepted(operations))

    def _presume(self, operations: Iterable[Operation]) -> None:
        """Remember operations that must not go twice, and of which nobody knows whether they arrived."""
        for operation in operations:
            self._tally.patch[operation.key] = operation.remember
            self._refuse(operation, Reason.UNCONFIRMED, "", Fate.REJECTED)

    def _keep(self, outcome: Outcome, parcel: _Parcel) -> None:
        if outcome.operation is not None:
            if outcome.fate is Fate.ACCEPTED:
                self._tally.patch[outcome.key] = outcome.operation.remember
            else:
                self._leave_in_doubt(parcel, [outcome.operation])
        self._tally.outcomes.append(outcome)

    def _leave_in_doubt(self, parcel: _Parcel, operations: Sequence[Operation]) -> None:
        """Remember operations that are not accepted as in doubt, if a request with them was not answered."""
        if parcel.doubtful and operations and parcel.batch.call.repeatable:
            left = patch_of(self._doubts(parcel.batch.call, operations))
            self._tally.patch.update(left)
            self._tally.in_doubt += len(operations) if left else 0

    def _split(self, parcel: _Parcel, split: Split) -> None:
        """Set aside who is to blame, then suspects, then the rest; without a clue, halves."""
        batch, operations = parcel.batch, parcel.batch.operations
        salvaged: list[Operation] = []
        for index, detail in split.rejected.items():
            fields = split.fields.get(index)
            rest_of_it = self._salvage(operations[index], fields, detail) if self._salvage and fields else None
            if rest_of_it is None:
                self._leave_in_doubt(parcel, [operations[index]])
                self._refuse(operations[index], split.reason, detail, Fate.REJECTED)
            else:
                salvaged.append(rest_of_it)
        if len(operations) == 1:
            if not split.rejected:
                self._leave_in_doubt(parcel, operations)
                self._refuse(operations[0], split.reason, split.detail, split.last)
            parts: list[Sequence[Operation]] = [[operation] for operation in salvaged]
        else:
            rest = [op for i, op in enumerate(operations) if i not in split.rejected and i not in split.suspects]
            suspects = [operations[i] for i in sorted(split.suspects) if i not in split.rejected]
            rest.extend(salvaged)
            if not split.rejected and not (suspects and rest):
                half = len(operations) // 2
                suspects, rest = list(operations[:half]), list(operations[half:])
            parts = [part for part in (suspects, rest) if part]
            if self._tally.splits + len(parts) > self._patience.splits:
                for part in parts:
                    self._defer(self._parcel(Batch(batch.call, part), parcel.doubtful), Reason.SPLIT_BUDGET)
                return
            self._tally.splits += len(parts)
        self._ready.extendleft(self._parcel(Batch(batch.call, part), parcel.doubtful) for part in reversed(parts))

    def _refuse(self, operation: Operation, reason: Reason, detail: str, fate: Fate) -> None:
        self._tally.outcomes.append(Outcome(operation.key, operation.kind, fate, reason, detail, operation))

    def _defer(self, parcel: _Parcel, reason: Reason) -> None:
        self._leave_in_doubt(parcel, parcel.batch.operations)
        self._put_off(parcel.batch.operations, reason)

    def _put_off(self, operations: Iterable[Operation], reason: Reason) -> None:
        for operation in operations:
            self._refuse(operation, reason, "", Fate.DEFERRED)

    def _settle_silently(self, operation: Operation) -> None:
        self._tally.patch[operation.key] = operation.remember
        if len(self._tally.patch) >= SILENT_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Commit what was accepted since the last commit, and what is announced and settled."""
        tally = self._tally
        if tally.patch or tally.begun or tally.ended:
            self._committing = True
            self._commit(tally.patch, Intents(tally.begun, tally.ended))
            self._committing = False
        self._announced -= tally.ended
        tally.patch, tally.begun, tally.ended, tally.commits = {}, {}, set(), 0

    def _told(self) -> Iterator[Outcome | Accepted]:
        """Hand over outcomes whose patch is committed."""
        if self._tally.outcomes and not self._tally.patch:
            told, self._tally.outcomes = self._tally.outcomes, []
            yield from told


def _refused(reply: Reply) -> bool:
    """Whether an answer says that nothing was applied; a 408 says that the request was not read to its end in time."""
    return 400 <= reply.status < 500 and reply.status != 408
