"""Delivers a plan: packs operations into batches, sends a few at a time, commits what was accepted.

Packing and committing stay on the caller's thread; only requests run in threads of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Any

from airflow_provider_iterable.engine.batches import Queue
from airflow_provider_iterable.engine.broken import Broken
from airflow_provider_iterable.engine.doubt import Doubts
from airflow_provider_iterable.engine.failed import Failure
from airflow_provider_iterable.engine.parcels import Parcel
from airflow_provider_iterable.engine.pending import Part, Pending
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.settle import Learn, Salvage, Settler
from airflow_provider_iterable.engine.tries import Attempted, Patience, attempt
from airflow_provider_iterable.engine.vocabulary import Accepted, Again, Call, Commit, Operation, Outcome, Send
from airflow_provider_iterable.engine.workers import Workers

Screen = Callable[[Operation], Operation | Outcome]

SILENT_AT_ONCE = 1000
"""Entries that need no call, committed in one go."""
RESCUE_SECONDS = 3.0
"""How long a delivery that is stopped waits for the requests in flight."""
POLL_SECONDS = 0.25
"""Seconds between two checks of whether it is stopped."""
ERRORS_OF_A_PART, ERRORS_OF_ONE = 1, 2
"""Tries of a part of a batch that end with an error of the server. The batch had all tries before it was taken apart,
and a part that fails by accident is only looked at more closely; what stands alone has a second chance."""


class Delivery:
    """One run's deliveries.

    :param send: performs one request
    :param commit: stores a patch, all or nothing; an error ends the delivery
    :param screen: a last look at an operation before it is packed
    :param salvage: gives a rejected operation without the fields that are to blame, or ``None`` to let it be
    :param learn: told which types fields have at Iterable, so that ``screen`` knows them from then on
    :param part: parts operations that were accepted, if without some fields, into those that were taken whole, and
        outcomes for the others
    :param doubts: returns what a request leaves behind that is never answered; announced to the state before it is sent
    :param window: returns how many requests of a call are to be in flight; by default as ``patience`` says
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
        learn: Learn | None = None,
        part: Part | None = None,
        doubts: Doubts | None = None,
        patience: Patience | None = None,
        batch_size: int = 1000,
        window: Callable[[Call], int] | None = None,
        stop: threading.Event | None = None,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        self._send, self._screen = send, screen
        self._patience = patience or Patience()
        self._stop = stop or threading.Event()
        self._sleep: Callable[[float], Any] = sleep or self._stop.wait
        self._pending = Pending(commit, doubts or (lambda call, operations: ()), part)
        self._queue = Queue(self._pending, self._patience, batch_size, self._stop, window)
        self._broken = Broken(self._queue, self._pending, self._patience)
        self._settler = Settler(self._queue, self._pending, self._broken, salvage, learn, self._stop)
        self._workers = Workers(self._attempt, self._patience.most_in_flight)
        self._stopped_at: float | None = None

    @property
    def halted(self) -> str:
        """Why nothing more can be sent; empty as long as something can."""
        return self._settler.halted

    @property
    def failure(self) -> Failure | None:
        """The request to which no usable answer came in spite of most tries; of several the last one."""
        return self._settler.failure

    @property
    def in_doubt(self) -> int:
        """Operations that were sent, not answered, and are remembered as in doubt."""
        return self._pending.in_doubt

    def end(self, reason: Reason) -> None:
        """Send nothing more: what is still to come is put off for this reason."""
        self._queue.stopped_by = self._queue.stopped_by or reason

    def run(self, waves: Iterable[Iterable[Operation]]) -> Generator[Outcome | Accepted, None, None]:
        """Deliver wave after wave; yield outcomes once what they accepted is committed.

        What is not packed yet when the delivery is stopped has no outcome.
        """
        pending = self._pending
        try:
            for wave in waves:
                for operation in wave:
                    if self._stop.is_set():
                        break
                    self._take(operation)
                    if pending.known or (pending.outcomes and not pending.patch and not pending.accepted):
                        yield from pending.committed()
                yield from self._drain()
                if self._stop.is_set():
                    break
        except BaseException as error:
            # Not to be waited for at the end: a request may take longer than a task that was stopped has left.
            self._stop.set()
            self._workers.close(wait=False)
            if not self._pending.committing or not isinstance(error, Exception):
                with suppress(Exception):  # the state knows the intents, and the first error is the one to be raised
                    self._rescue()
            raise
        self._workers.close(wait=not self._stop.is_set())

    def rescued(self) -> Iterator[Outcome | Accepted]:
        """Yield the outcomes that a delivery which was interrupted has not yielded."""
        yield from self._pending.committed()

    def _take(self, operation: Operation) -> None:
        """Pack one operation and send what is full; one without a call is only remembered."""
        call, queue, pending = operation.call, self._queue, self._pending
        if call is None:
            pending.patch[operation.key] = operation.remember
            if len(pending.patch) >= SILENT_AT_ONCE:
                self._commit()
            return
        if queue.stopped_by is not None or (queue.closed and call in queue.closed):
            pending.put_off([operation], *queue.ending(call))
            return
        if self._screen is not None:
            screened = self._screen(operation)
            if isinstance(screened, Outcome):
                pending.outcomes.append(screened)
                return
            operation = screened
        if queue.pack(operation, call):
            self._send_ready()

    def _send_ready(self, rest: bool = False) -> None:
        """Send what is packed, once the state knows of it.

        :param rest: do not wait until as many batches are packed as are committed together
        """
        queue, pending, broken = self._queue, self._pending, self._broken
        while queue.ready:
            parcel = queue.ready[0]
            call = parcel.batch.call
            if queue.ended(call):
                pending.give_up(queue.ready.popleft(), *queue.ending(call))
                continue
            if broken.suspicious and not parcel.sample and not parcel.trial:
                self._find_out()
                continue
            flying, most = queue.in_flight(call), queue.most(call)
            if flying >= most:
                self._collect()  # and perhaps parts of a batch come before this one
                continue
            # What a kill would have sent again is to be no more than may be in flight.
            full = pending.answered and flying + pending.answered >= most + self._patience.commit_batches - 1
            if full or not parcel.ready:
                unknown = sum(1 for waiting in queue.ready if not waiting.ready)
                if not rest and not parcel.follows and parcel.doubts and unknown < queue.announced_together(call):
                    return  # a commit follows that announces more
                self._announce()
            queue.ready.popleft()
            broken.sent(parcel)
            queue.take_off(parcel)
            self._workers.give(parcel)

    def _announce(self) -> None:
        """Commit what the next batches would leave behind, together with what earlier ones were answered.

        Only the next one where a batch must not be sent twice: what is announced and not sent counts as sent.
        """
        together = takewhile(lambda parcel: parcel.batch.call.repeatable, self._queue.ready)
        self._pending.announce(list(together) or [self._queue.ready[0]])
        self._commit()

    def _commit(self) -> None:
        """Commit what was settled, and announce again what waits and was sent before."""
        self._pending.announce(parcel for parcel in self._queue.ready if parcel.doubtful)
        self._pending.commit()

    def _find_out(self) -> None:
        """Find out whether an endpoint that the server fails at is down."""
        if self._broken.waiting:
            self._collect()
        else:
            self._broken.find_out()

    def _drain(self) -> Iterator[Outcome | Accepted]:
        """Send what is packed and wait until everything is settled and committed."""
        queue, pending = self._queue, self._pending
        while True:
            queue.pack_rest()
            if not queue.ready and not queue.flying:
                if not self._broken.parked:
                    break
                self._find_out()
            self._send_ready(rest=True)
            if queue.flying:
                self._collect()
                if pending.answered >= self._patience.commit_batches:
                    self._commit()
            yield from pending.committed()
        self._commit()
        yield from pending.committed()

    def _collect(self) -> None:
        """Wait for the next answer, and settle it and those that are there by then; if stopped, only a few seconds."""
        while (done := self._workers.next(POLL_SECONDS)) is None:
            if self._stop.is_set():
                now = time.monotonic()
                self._stopped_at = now if self._stopped_at is None else self._stopped_at
                if now >= self._stopped_at + RESCUE_SECONDS:
                    self._abandon_flying()
                    return
        while done is not None:
            self._receive(*done)
            done = self._workers.next(0)

    def _receive(self, parcel: Parcel, attempted: Attempted | BaseException) -> None:
        """Settle what came back, unless it was given up meanwhile."""
        if parcel not in self._queue.flying:
            return
        self._queue.land(parcel)
        if isinstance(attempted, BaseException):
            self._settler.settle(parcel, _abandoned(parcel))
            raise attempted
        self._settler.settle(parcel, attempted)

    def _abandon_flying(self) -> None:
        """Take what is in flight for unanswered."""
        for parcel in list(self._queue.flying):
            self._queue.land(parcel)
            self._settler.settle(parcel, _abandoned(parcel))

    def _rescue(self) -> None:
        """Interrupted: give what is in flight a few seconds, and commit what Iterable accepted and what is in doubt."""
        queue, deadline = self._queue, time.monotonic() + RESCUE_SECONDS
        while queue.flying and (done := self._workers.next(deadline - time.monotonic())) is not None:
            parcel, attempted = done
            self._receive(parcel, _abandoned(parcel) if isinstance(attempted, BaseException) else attempted)
        self._abandon_flying()
        queue.over()
        queue.pack_rest()
        for parcel in [*queue.ready, *self._broken.parked]:
            self._pending.give_up(parcel, *queue.ending(parcel.batch.call))
        queue.ready.clear()
        self._broken.parked.clear()
        self._commit()

    def _attempt(self, parcel: Parcel) -> Attempted:
        """Send a batch until its verdict is final or patience ends; runs in a thread of its own."""
        errors = None
        if parcel.sample or parcel.trial:
            errors = ERRORS_OF_A_PART
        elif parcel.search is not None:
            errors = ERRORS_OF_ONE if len(parcel.batch.operations) == 1 else ERRORS_OF_A_PART
        return attempt(self._send, parcel.batch, self._patience, self._stop, self._sleep, errors)


def _abandoned(parcel: Parcel) -> Attempted:
    """Return how the tries of a batch ended whose answer is not waited for any more."""
    return Attempted(Again(Reason.STOPPED), unanswered=not parcel.batch.call.reads)
