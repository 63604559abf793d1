"""Batches out, outcomes back: settling, splitting, a few in flight; knows no endpoint and no store.

Packing and committing stay on the caller's thread; only requests run in threads of their own.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, takewhile
from operator import attrgetter
from typing import Any, assert_never

from airflow_provider_iterable.engine.apart import Search
from airflow_provider_iterable.engine.doubt import Doubts, has_receipts, patch_of
from airflow_provider_iterable.engine.pack import Packer
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.tries import Attempted, Patience, attempt
from airflow_provider_iterable.engine.vocabulary import (
    Accepted,
    Again,
    Batch,
    Call,
    Commit,
    Doubt,
    Halt,
    Intents,
    Operation,
    Outcome,
    Patch,
    Send,
    Settled,
    Split,
)
from airflow_provider_iterable.engine.workers import Workers

Screen = Callable[[Operation], Operation | Outcome]
Salvage = Callable[[Operation, Collection[str], str], Operation | None]
Part = Callable[[Sequence[Operation], frozenset[str]], tuple[Sequence[Operation], Sequence[Outcome]]]

_RECEIPT = attrgetter("key", "remember")

SILENT_AT_ONCE = 1000
"""Entries that need no call, committed in one go."""
RESCUE_SECONDS = 3.0
"""How long a delivery that is stopped waits for the requests in flight."""
LOOKS = 0.25
"""Seconds between two looks at whether it is stopped."""
ANNOUNCED_TOGETHER = 2
"""Fewest batches that a commit announces if it can: each commit costs a transaction."""
PROBES = 3
"""Rows that are sent alone to find out whether an endpoint that failed at all others answers at all."""
ERRORS_OF_A_PART, ERRORS_OF_ONE = 1, 2
"""Tries of a part of a batch that end with an error of the server. The batch had all tries before it was taken apart,
and a part that fails by accident is only looked at more closely; what stands alone has a second chance."""


@dataclass(eq=False)
class _Parcel:
    """A batch on its way: what it leaves behind if it is never answered, and whether the state knows that."""

    batch: Batch
    doubts: Sequence[Doubt]
    doubtful: bool = False
    """Whether a request with these operations was sent and not answered."""
    intent: int | None = None
    """The number under which the state knows the doubts."""
    search: Search | None = None
    """Of what batch it is a part, if that is taken apart because the server failed at it; the state knows the whole."""
    sample: bool = False
    """Whether it is a row of a batch that is not settled, sent only to see whether anybody is there."""
    trial: bool = False
    """Whether it goes although its endpoint seems to be down, to see whether that is so."""
    answers: int | None = None
    """How often its endpoint had answered when it was first sent."""
    detail: str = ""
    """How the server failed at it."""

    @property
    def ready(self) -> bool:
        """Whether it may be sent."""
        return self.intent is not None or not self.doubts


@dataclass
class _Tally:
    """What delivery has learned so far."""

    unanswered: int = 0
    splits: int = 0
    stopped_by: Reason | None = None
    halted: str = ""
    commits: int = 0
    in_doubt: int = 0
    answers: Counter[Call] = field(default_factory=Counter)
    """How often each endpoint gave an answer that settles something."""
    closed: dict[Call, tuple[Reason, str]] = field(default_factory=dict)
    """Endpoints that ask for a longer wait than there is time for."""
    probed: set[str] = field(default_factory=set)
    """Keys of rows that were sent to find out whether anybody is there."""
    patch: Patch = field(default_factory=dict)
    begun: dict[int, Sequence[Doubt]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    accepted: dict[int, Sequence[Doubt]] = field(default_factory=dict)
    """Batches that were accepted as they were announced, with what was."""
    outcomes: deque[Outcome | Accepted] = field(default_factory=deque)


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
        self._flying: dict[_Parcel, None] = {}
        self._parked: list[_Parcel] = []
        """Batches that the server failed at, until it is known whether it answers others."""
        self._announced: set[int] = set()
        """Numbers of intents that the state has."""
        self._tally = _Tally()
        self._workers = Workers(self._attempt, self._patience.in_flight * 4)
        self._committing = False
        self._stopped_at: float | None = None

    @property
    def halted(self) -> str:
        """Why nothing more can be sent; empty when nothing speaks against it."""
        return self._tally.halted

    @property
    def in_doubt(self) -> int:
        """Operations that were sent, not answered, and are remembered as in doubt."""
        return self._tally.in_doubt

    def run(self, waves: Iterable[Iterable[Operation]]) -> Generator[Outcome | Accepted, None, None]:
        """Deliver wave after wave; yield outcomes once what they accepted is committed.

        What is not packed yet when the delivery is stopped has no outcome.
        """
        try:
            for wave in waves:
                for operation in wave:
                    if self._stop.is_set():
                        break
                    self._take(operation)
                    if self._tally.outcomes:
                        yield from self._told()
                yield from self._drain()
                if self._stop.is_set():
                    break
        except BaseException as error:
            # Not to be waited for at the end: a request may take longer than a task that was stopped has left.
            self._stop.set()
            self._workers.close(wait=False)
            if not self._committing or not isinstance(error, Exception):
                with suppress(Exception):  # the state knows the intents, and the first error is the one to tell
                    self._rescue()
            raise
        self._workers.close(wait=not self._stop.is_set())

    def rescued(self) -> Iterator[Outcome | Accepted]:
        """Yield the outcomes that a delivery which was interrupted has not told."""
        yield from self._told()

    def _take(self, operation: Operation) -> None:
        """Pack one operation and send what is full."""
        call = operation.call
        if call is None:
            self._settle_silently(operation)
            return
        tally = self._tally
        if tally.stopped_by is not None or (tally.closed and call in tally.closed):
            self._put_off([operation], *self._ending(call))
            return
        if self._screen is not None:
            screened = self._screen(operation)
            if isinstance(screened, Outcome):
                tally.outcomes.append(screened)
                return
            operation = screened
        if self._pack(operation, call):
            self._launch_ready()

    def _pack(self, operation: Operation, call: Call) -> bool:
        """Pack one operation; return whether that made a batch ready."""
        if len(operation.body) + call.envelope > call.max_bytes:
            detail = f"{len(operation.body)} bytes"
            self._tally.outcomes.append(
                Outcome(operation.key, operation.kind, Fate.REJECTED, Reason.TOO_LARGE, detail, operation)
            )
            return False
        closed = self._packer.add(operation, call)
        if closed is None:
            return False
        self._ready.append(self._parcel(closed))
        return True

    def _parcel(self, batch: Batch, doubtful: bool = False) -> _Parcel:
        """Return a batch with what it leaves behind if it is never answered: a look-up changes nothing."""
        return _Parcel(batch, () if batch.call.reads else self._doubts(batch.call, batch.operations), doubtful)

    def _over(self) -> bool:
        if self._tally.stopped_by is None and self._stop.is_set():
            self._tally.stopped_by = Reason.STOPPED
        return self._tally.stopped_by is not None

    def _ending(self, call: Call) -> tuple[Reason, str]:
        """Return why operations of a call are not sent any more."""
        return (self._tally.stopped_by, "") if self._tally.stopped_by else self._tally.closed[call]

    def _launch_ready(self, rest: bool = False) -> None:
        """Send what is packed, once the state knows of it.

        :param rest: do not wait until as many batches are packed as are committed together
        """
        while self._ready:
            parcel = self._ready[0]
            call = parcel.batch.call
            if self._over() or call in self._tally.closed:
                self._give_up(self._ready.popleft(), *self._ending(call))
                continue
            if self._suspicious and not parcel.sample and not parcel.trial:
                self._find_out()
                continue
            flying, most = self._in_flight(call), self._most(call)
            if flying >= most:
                self._collect()  # and perhaps parts of a batch come before this one
                continue
            if not parcel.ready:
                if not rest and len(self._ready) < self._announced_together(call):
                    return
                self._announce()
            elif self._tally.commits and flying + self._tally.commits >= most + self._patience.commit_batches - 1:
                self._flush()  # what a kill would have sent again is no more than may be in flight
            self._ready.popleft()
            if parcel.answers is None:
                parcel.answers = self._tally.answers[call]
            self._flying[parcel] = None
            self._workers.give(parcel)

    def _announce(self) -> None:
        """Commit what the next batches would leave behind, together with what earlier ones were answered.

        Only the next one where a batch must not be sent twice: what is announced and not sent counts as sent.
        """
        together = takewhile(lambda parcel: parcel.batch.call.repeatable, self._ready)
        self._begin(list(together) or [self._ready[0]])
        self._flush()

    def _begin(self, parcels: Iterable[_Parcel]) -> None:
        """Have the next commit announce batches that are not announced."""
        numbers = (number for number in count() if number not in self._announced)
        for parcel in parcels:
            if not parcel.ready:
                parcel.intent = next(numbers)
                self._tally.begun[parcel.intent] = parcel.doubts
                self._announced.add(parcel.intent)

    def _end(self, parcel: _Parcel | Search) -> None:
        """Have the next commit settle what a batch would have left behind."""
        if parcel.intent is not None:
            self._tally.ended.add(parcel.intent)
            parcel.intent = None

    def _announced_together(self, call: Call) -> int:
        """Return how many batches are announced by one commit; those of one record would make one commit for each."""
        if not call.repeatable:
            return 1
        return max(self._patience.commit_batches, self._most(call) if call.max_items == 1 else ANNOUNCED_TOGETHER)

    def _most(self, call: Call) -> int:
        """Return how many requests may be in flight."""
        return self._patience.in_flight * (4 if call.max_items == 1 else 1)

    def _in_flight(self, call: Call) -> int:
        return sum(1 for parcel in self._flying if parcel.batch.call is call)

    def _drain(self) -> Iterator[Outcome | Accepted]:
        """Send what is packed and wait until everything is settled and committed."""
        while True:
            self._ready.extend(map(self._parcel, self._packer.flush()))
            if not self._ready and not self._flying:
                if not self._parked:
                    break
                self._find_out()
            self._launch_ready(rest=True)
            if self._flying:
                self._collect()
                if self._tally.commits >= self._patience.commit_batches:
                    self._flush()
            yield from self._told()
        self._flush()
        yield from self._told()

    def _collect(self) -> None:
        """Wait for the next answer, and settle it and those that are there by then; if stopped, only a few seconds."""
        while (done := self._workers.next(LOOKS)) is None:
            if self._stop.is_set():
                now = time.monotonic()
                self._stopped_at = now if self._stopped_at is None else self._stopped_at
                if now >= self._stopped_at + RESCUE_SECONDS:
                    self._abandon_flying()
                    return
        while done is not None:
            self._receive(*done)
            done = self._workers.next(0)

    def _receive(self, parcel: _Parcel, attempted: Attempted | BaseException) -> None:
        """Settle what came back, unless it was given up meanwhile."""
        if parcel not in self._flying:
            return
        del self._flying[parcel]
        if isinstance(attempted, BaseException):
            self._settle(parcel, _unheard(parcel))
            raise attempted
        self._settle(parcel, attempted)

    def _abandon_flying(self) -> None:
        """Take what is in flight for unanswered."""
        for parcel in list(self._flying):
            del self._flying[parcel]
            self._settle(parcel, _unheard(parcel))

    def _rescue(self) -> None:
        """Interrupted: give what is in flight a few seconds, and commit what Iterable accepted and what is in doubt."""
        deadline = time.monotonic() + RESCUE_SECONDS
        while self._flying and (done := self._workers.next(deadline - time.monotonic())) is not None:
            parcel, attempted = done
            self._receive(parcel, _unheard(parcel) if isinstance(attempted, BaseException) else attempted)
        self._abandon_flying()
        self._over()
        for parcel in [*self._ready, *map(self._parcel, self._packer.flush()), *self._parked]:
            self._give_up(parcel, *self._ending(parcel.batch.call))
        self._ready.clear()
        self._parked.clear()
        self._flush()

    def _attempt(self, parcel: _Parcel) -> Attempted:
        """Send a batch until its verdict is final or patience ends; runs in a thread of its own."""
        errors = None
        if parcel.sample or parcel.trial:
            errors = ERRORS_OF_A_PART
        elif parcel.search is not None:
            errors = ERRORS_OF_ONE if len(parcel.batch.operations) == 1 else ERRORS_OF_A_PART
        return attempt(self._send, parcel.batch, self._patience, self._stop, self._sleep, errors)

    def _settle(self, parcel: _Parcel, attempted: Attempted) -> None:
        tally, batch = self._tally, parcel.batch
        parcel.doubtful = parcel.doubtful or attempted.unanswered
        match attempted.verdict:
            case Again(reason):
                self._settle_unanswered(parcel, attempted, reason)
                return
            case Settled() | Split() if parcel.sample:
                pass  # somebody is there, and the row goes again with its batch
            case Settled(told, left_out):
                tally.commits += 1
                rest = [op for n, op in enumerate(batch.operations) if n not in told] if told else batch.operations
                self._accept(parcel, rest, left_out)
                for outcome in told.values():
                    if outcome.reason is Reason.UNATTRIBUTED and outcome.operation and not batch.call.repeatable:
                        tally.patch[outcome.key] = outcome.operation.remember
                    self._keep(outcome, parcel)
            case Split() as split:
                self._split(parcel, split)
            case Halt(message):
                tally.halted = tally.halted or message
                tally.stopped_by = tally.stopped_by or Reason.HALTED
                self._give_up(parcel, Reason.HALTED)
                parcel.search = None  # the rest of its batch was put off with it
            case _:
                assert_never(attempted.verdict)
        self._end(parcel)
        self._heard_from(parcel)

    def _heard_from(self, parcel: _Parcel) -> None:
        """An endpoint answered: what the server failed at meanwhile is taken apart."""
        tally, call = self._tally, parcel.batch.call
        tally.unanswered = 0
        tally.probed.clear()
        tally.answers[call] += 1
        if parcel.search is not None:
            parcel.search.answered()
            self._go_on(parcel.search, call)
        parked, self._parked = self._parked, []
        for broken in parked:
            if broken.batch.call is call:
                self._take_apart(broken)
            else:
                self._parked.append(broken)

    def _settle_unanswered(self, parcel: _Parcel, attempted: Attempted, reason: Reason) -> None:
        """Nothing usable came back in spite of all tries."""
        tally, call = self._tally, parcel.batch.call
        if self._stop.is_set():
            self._give_up(parcel, Reason.STOPPED)
            return
        if attempted.wait is not None:
            tally.closed[call] = reason, f"Iterable asks to come back in {attempted.wait:.0f} s"
            self._give_up(parcel, *tally.closed[call])
            return
        if parcel.sample:
            return
        if attempted.broken and call.repeatable:
            parcel.detail = f"HTTP {attempted.broken}"
            self._settle_broken(parcel)
            return
        tally.unanswered += 1
        if call.repeatable or not parcel.doubtful:
            self._give_up(parcel, reason)
        else:
            self._end(parcel)
            self._presume(parcel.batch.operations)
        if tally.unanswered >= self._patience.unanswered and not self._parked and not self._over():
            tally.stopped_by = reason

    def _settle_broken(self, parcel: _Parcel) -> None:
        """The server failed at a batch in all its tries: the batch is to blame if others were answered meanwhile."""
        search, call = parcel.search, parcel.batch.call
        lives = self._tally.answers[call] > (parcel.answers or 0)
        if search is not None and (lives or not search.afresh):
            culprit = search.failed()
            if culprit is not None:
                self._defer(parcel, Reason.SERVER_ERROR, parcel.detail)
            self._go_on(search, call)
        elif lives and len(parcel.batch.operations) == 1:
            self._give_up(parcel, Reason.SERVER_ERROR, parcel.detail)
        elif lives:
            self._take_apart(parcel)
        else:
            if search is not None:
                parcel.search, parcel.intent = None, search.intent
            self._parked.append(parcel)
            self._tally.unanswered += 1

    def _take_apart(self, parcel: _Parcel) -> None:
        """Look for whom the server fails at."""
        call = parcel.batch.call
        search = Search(parcel.batch.operations, parcel.intent, self._tally.answers[call])
        parcel.intent = None
        self._go_on(search, call)

    def _go_on(self, search: Search, call: Call) -> None:
        """Send what is to be sent next of a batch that is taken apart, within the budget."""
        if not search.asked:
            self._end(search)
            return
        part = _Parcel(Batch(call, search.asked), (), doubtful=not call.reads, search=search)
        if search.afresh:  # whether anybody is there was seen while the last culprit was looked for
            part.answers, search.answers = search.answers, self._tally.answers[call]
        if self._tally.splits >= self._patience.splits:
            self._give_up(part, Reason.SPLIT_BUDGET)
            return
        self._tally.splits += 1
        self._ready.appendleft(part)

    @property
    def _suspicious(self) -> bool:
        """Whether so much was not answered that perhaps nobody is there."""
        limit = self._patience.unanswered
        return len(self._parked) >= limit or (bool(self._parked) and self._tally.unanswered >= limit)

    def _find_out(self) -> None:
        """Find out whether an endpoint that failed at whole batches answers at all: send single rows of them.

        Where each row has a request of its own, others are sent, which were not tried yet. If it answers none, nobody
        is there, and its batches are put off; after several batches in a row, everything is.
        """
        tally, call = self._tally, self._parked[0].batch.call
        if any(parcel.sample or parcel.batch.call is call for parcel in self._flying):
            self._collect()
            return
        broken = [parcel for parcel in self._parked if parcel.batch.call is call]
        batches = [parcel.batch.operations for parcel in broken if len(parcel.batch.operations) > 1]
        rows = [operation for batch in batches for operation in batch if operation.key not in tally.probed]
        untried = [parcel for parcel in self._ready if parcel.batch.call is call and parcel.answers is None]
        if (rows or untried) and len(tally.probed) < PROBES and not self._over() and call not in tally.closed:
            if rows:
                row = random.choice(rows)
                tally.probed.add(row.key)
                self._ready.appendleft(_Parcel(Batch(call, [row]), (), doubtful=not call.reads, sample=True))
            else:
                tally.probed.add(untried[0].batch.operations[0].key)
                self._ready.remove(untried[0])
                self._ready.appendleft(untried[0])
                untried[0].trial = True
            return
        self._parked = [parcel for parcel in self._parked if parcel.batch.call is not call]
        for parcel in broken:
            ended = self._over() or call in tally.closed
            self._give_up(parcel, *(self._ending(call) if ended else (Reason.NO_ANSWER, parcel.detail)))
        tally.probed.clear()
        if tally.unanswered >= self._patience.unanswered and not self._over():
            tally.stopped_by = Reason.NO_ANSWER

    def _accept(self, parcel: _Parcel, operations: Sequence[Operation], left_out: frozenset[str] | None) -> None:
        """Remember what was accepted of a batch: where that is all, by what was announced."""
        tally, batch = self._tally, parcel.batch
        if batch.call.then is not None:
            for operation in operations:
                self._pack(operation, batch.call.then)
        elif operations:
            if parcel.intent is not None and has_receipts(parcel.doubts) and len(operations) == len(batch.operations):
                tally.accepted[parcel.intent] = parcel.doubts
            else:
                tally.patch.update(map(_RECEIPT, operations))
            if left_out is not None and self._part is not None:
                operations, told = self._part(operations, left_out)
                tally.outcomes.extend(told)
            tally.outcomes.append(Accepted(operations))

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

    def _give_up(self, parcel: _Parcel, reason: Reason, detail: str = "") -> None:
        """Put off what is not sent, or not sent again, with all that is not settled of the batch it is a part of."""
        self._end(parcel)
        if parcel.sample:
            return  # its batch is still to be settled
        self._defer(parcel, reason, detail)
        if parcel.search is not None:
            rest = Batch(parcel.batch.call, parcel.search.rest)
            self._defer(_Parcel(rest, (), parcel.doubtful), reason, detail)
            self._end(parcel.search)

    def _defer(self, parcel: _Parcel, reason: Reason, detail: str = "") -> None:
        self._leave_in_doubt(parcel, parcel.batch.operations)
        self._put_off(parcel.batch.operations, reason, detail)

    def _put_off(self, operations: Iterable[Operation], reason: Reason, detail: str = "") -> None:
        for operation in operations:
            self._refuse(operation, reason, detail, Fate.DEFERRED)

    def _settle_silently(self, operation: Operation) -> None:
        self._tally.patch[operation.key] = operation.remember
        if len(self._tally.patch) >= SILENT_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Commit what was accepted since the last commit, and what is announced and settled."""
        tally = self._tally
        self._begin(parcel for parcel in self._ready if parcel.doubtful)
        if tally.patch or tally.begun or tally.ended:
            self._committing = True
            self._commit(tally.patch, Intents(tally.begun, tally.ended, tally.accepted))
            self._committing = False
        self._announced -= tally.ended
        tally.patch, tally.begun, tally.ended, tally.accepted, tally.commits = {}, {}, set(), {}, 0

    def _told(self) -> Iterator[Outcome | Accepted]:
        """Hand over outcomes whose patch is committed."""
        while self._tally.outcomes and not self._tally.patch and not self._tally.accepted:
            yield self._tally.outcomes.popleft()


def _unheard(parcel: _Parcel) -> Attempted:
    """Return how the tries of a batch ended that nobody waits for any more."""
    return Attempted(Again(Reason.STOPPED), unanswered=not parcel.batch.call.reads)
