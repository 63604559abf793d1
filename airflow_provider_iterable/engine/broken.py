"""Finds out whether a row is to blame for server errors, or the endpoint is down; sends nothing itself."""

from __future__ import annotations

import random
from collections import Counter

from airflow_provider_iterable.engine.apart import Search
from airflow_provider_iterable.engine.batches import Queue
from airflow_provider_iterable.engine.parcels import Parcel
from airflow_provider_iterable.engine.pending import Pending
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import Batch, Call

PROBES = 3
"""Rows that are sent alone to find out whether an endpoint that failed at all others answers at all."""


class Broken:
    """Looks for the rows that a server fails at, once it is known that the server answers others.

    What is to be sent for that goes to the front of the queue.
    """

    def __init__(self, queue: Queue, pending: Pending, patience: Patience) -> None:
        self._queue, self._pending, self._patience = queue, pending, patience
        self.parked: list[Parcel] = []
        """Batches that the server failed at, until it is known whether it answers others."""
        self._answers: Counter[Call] = Counter()
        """How often each endpoint gave an answer that settles something."""
        self._unanswered = 0
        """Batches in a row without a usable answer."""
        self._probed: set[str] = set()
        """Keys of rows that were sent to find out whether the endpoint answers."""

    def sent(self, parcel: Parcel) -> None:
        """Note how often the endpoint had answered when a batch was first sent."""
        if parcel.answers is None:
            parcel.answers = self._answers[parcel.batch.call]

    def answered(self, parcel: Parcel) -> None:
        """Take notice that an endpoint answered: what the server failed at meanwhile is taken apart."""
        call = parcel.batch.call
        self._unanswered = 0
        self._probed.clear()
        self._answers[call] += 1
        if parcel.search is not None:
            parcel.search.answered()
            self._go_on(parcel.search, call)
        parked, self.parked = self.parked, []
        for broken in parked:
            if broken.batch.call is call:
                self._take_apart(broken)
            else:
                self.parked.append(broken)

    def unanswered(self, reason: Reason) -> None:
        """Take notice that a batch got no usable answer; after several in a row nothing more is sent."""
        self._unanswered += 1
        if self._unanswered >= self._patience.unanswered and not self.parked and not self._queue.over():
            self._queue.stopped_by = reason

    def failed(self, parcel: Parcel) -> None:
        """The server failed at a batch in all its tries: the batch is to blame if others were answered meanwhile."""
        search, call = parcel.search, parcel.batch.call
        lives = self._answers[call] > (parcel.answers or 0)
        if search is not None and (lives or not search.afresh):
            culprit = search.failed()
            if culprit is not None:
                self._pending.defer(parcel, Reason.SERVER_ERROR, parcel.detail)
            self._go_on(search, call)
        elif lives and len(parcel.batch.operations) == 1:
            self._pending.give_up(parcel, Reason.SERVER_ERROR, parcel.detail)
        elif lives:
            self._take_apart(parcel)
        else:
            if search is not None:
                parcel.search, parcel.intent = None, search.intent
            self.parked.append(parcel)
            self._unanswered += 1

    def _take_apart(self, parcel: Parcel) -> None:
        """Look for the row that the server fails at."""
        call = parcel.batch.call
        search = Search(parcel.batch.operations, parcel.intent, self._answers[call])
        parcel.intent = None
        self._go_on(search, call)

    def _go_on(self, search: Search, call: Call) -> None:
        """Send what is to be sent next of a batch that is taken apart, within the budget."""
        if not search.asked:
            self._pending.end(search)
            return
        part = Parcel(Batch(call, search.asked), (), doubtful=not call.reads, search=search)
        if search.afresh:  # whether the endpoint answers was seen while the last culprit was looked for
            part.answers, search.answers = search.answers, self._answers[call]
        if self._queue.spend(1):
            self._queue.ready.appendleft(part)
        else:
            self._pending.give_up(part, Reason.SPLIT_BUDGET)

    @property
    def suspicious(self) -> bool:
        """Whether so much was not answered that perhaps the endpoint is down."""
        limit = self._patience.unanswered
        return len(self.parked) >= limit or (bool(self.parked) and self._unanswered >= limit)

    @property
    def waiting(self) -> bool:
        """Whether something is in flight whose answer will show whether the endpoint is down."""
        call = self.parked[0].batch.call
        return any(parcel.sample or parcel.batch.call is call for parcel in self._queue.flying)

    def find_out(self) -> None:
        """Find out whether an endpoint that failed at whole batches answers at all: send single rows of them.

        Where each row has a request of its own, others are sent, which were not tried yet. If it answers none, it is
        down, and its batches are put off; after several batches in a row, everything is.
        """
        queue, call = self._queue, self.parked[0].batch.call
        broken = [parcel for parcel in self.parked if parcel.batch.call is call]
        if len(self._probed) < PROBES and not queue.ended(call) and self._probe(broken, call):
            return
        self.parked = [parcel for parcel in self.parked if parcel.batch.call is not call]
        for parcel in broken:
            reason, detail = queue.ending(call) if queue.ended(call) else (Reason.NO_ANSWER, parcel.detail)
            self._pending.give_up(parcel, reason, detail)
        self._probed.clear()
        if self._unanswered >= self._patience.unanswered and not queue.over():
            queue.stopped_by = Reason.NO_ANSWER

    def _probe(self, broken: list[Parcel], call: Call) -> bool:
        """Put a row that was not probed yet in front of the queue; return whether there was one."""
        ready = self._queue.ready
        batches = [parcel.batch.operations for parcel in broken if len(parcel.batch.operations) > 1]
        rows = [operation for batch in batches for operation in batch if operation.key not in self._probed]
        if rows:
            row = random.choice(rows)
            self._probed.add(row.key)
            ready.appendleft(Parcel(Batch(call, [row]), (), doubtful=not call.reads, sample=True))
            return True
        untried = next((parcel for parcel in ready if parcel.batch.call is call and parcel.answers is None), None)
        if untried is not None:
            self._probed.add(untried.batch.operations[0].key)
            ready.remove(untried)
            ready.appendleft(untried)
            untried.trial = True
        return untried is not None
