"""Batches that wait to be sent or are in flight, and whether sending goes on; sends nothing."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from airflow_provider_iterable.engine.pack import Packer
from airflow_provider_iterable.engine.parcels import Parcel
from airflow_provider_iterable.engine.pending import Pending
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import Call, Operation

ANNOUNCED_TOGETHER = 2
"""Fewest batches that a commit announces if it can: each commit costs a transaction."""


class Queue:
    """The batches of one delivery that are not settled.

    :param batch_size: most records per request
    :param stop: set from outside to end the delivery
    :param window: returns how many requests of a call are to be in flight
    """

    def __init__(
        self,
        pending: Pending,
        patience: Patience,
        batch_size: int,
        stop: threading.Event,
        window: Callable[[Call], int] | None = None,
    ) -> None:
        self._pending, self._patience, self._stop = pending, patience, stop
        self._window = window or patience.window
        self._packer = Packer(batch_size)
        self.ready: deque[Parcel] = deque()
        self.flying: dict[Parcel, None] = {}
        self._flying: Counter[Call] = Counter()
        self.stopped_by: Reason | None = None
        """Why nothing more is sent."""
        self.closed: dict[Call, tuple[Reason, str]] = {}
        """Endpoints that ask for a longer wait than there is time for."""
        self._splits = 0

    def pack(self, operation: Operation, call: Call) -> bool:
        """Pack one operation; return whether that made a batch ready."""
        if len(operation.body) + call.envelope > call.max_bytes:
            self._pending.refuse(operation, Reason.TOO_LARGE, f"{len(operation.body)} bytes", Fate.REJECTED)
            return False
        closed = self._packer.add(operation, call)
        if closed is None:
            return False
        self.ready.append(self._pending.parcel(closed))
        return True

    def follow(self, operation: Operation, call: Call) -> None:
        """Pack an operation for the call that follows on an earlier one."""
        if not self.pack(operation, call) or not call.looks_back:
            return
        parcel = self.ready.pop()
        parcel.follows = True
        self.ready.appendleft(parcel)

    def pack_rest(self) -> None:
        """Make batches of what is packed and not full."""
        self.ready.extend(map(self._pending.parcel, self._packer.flush()))

    def over(self) -> bool:
        """Whether nothing more is sent."""
        if self.stopped_by is None and self._stop.is_set():
            self.stopped_by = Reason.STOPPED
        return self.stopped_by is not None

    def ended(self, call: Call) -> bool:
        """Whether operations of a call are not sent any more."""
        return self.over() or call in self.closed

    def ending(self, call: Call) -> tuple[Reason, str]:
        """Return why operations of a call are not sent any more."""
        return (self.stopped_by, "") if self.stopped_by else self.closed[call]

    def spend(self, requests: int) -> bool:
        """Take requests from what a run may spend on taking batches apart; return whether there were as many."""
        if self._splits + requests > self._patience.splits:
            return False
        self._splits += requests
        return True

    def most(self, call: Call) -> int:
        """Return how many requests of a call may be in flight."""
        return self._window(call)

    def in_flight(self, call: Call) -> int:
        """Return how many requests of a call are."""
        return self._flying[call]

    def take_off(self, parcel: Parcel) -> None:
        """Count a batch among those in flight."""
        self.flying[parcel] = None
        self._flying[parcel.batch.call] += 1

    def land(self, parcel: Parcel) -> None:
        """Count a batch among those in flight no longer."""
        del self.flying[parcel]
        self._flying[parcel.batch.call] -= 1

    def announced_together(self, call: Call) -> int:
        """Return how many batches are announced by one commit; those of one record would make one commit for each."""
        if not call.repeatable:
            return 1
        return max(self._patience.commit_batches, self.most(call) if call.max_items == 1 else ANNOUNCED_TOGETHER)
