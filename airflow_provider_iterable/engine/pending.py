"""What the next commit stores, and the outcomes that are reported after it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from operator import attrgetter

from airflow_provider_iterable.engine.apart import Search
from airflow_provider_iterable.engine.doubt import Doubts, has_receipts, patch_of
from airflow_provider_iterable.engine.parcels import Parcel
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Accepted,
    Batch,
    Commit,
    Doubt,
    Intents,
    Operation,
    Outcome,
    Patch,
)

Part = Callable[[Sequence[Operation], frozenset[str]], tuple[Sequence[Operation], Sequence[Outcome]]]

_RECEIPT = attrgetter("key", "remember")


class Pending:
    """What a delivery has settled or announced since its last commit.

    :param commit: stores a patch and intents, all or nothing; an error ends the delivery
    :param doubts: returns what a request leaves behind that is never answered
    :param part: parts operations that were accepted, if without some fields, into those that were taken whole, and
        outcomes for the others
    """

    def __init__(self, commit: Commit, doubts: Doubts, part: Part | None) -> None:
        self._commit, self._doubts, self._part = commit, doubts, part
        self.patch: Patch = {}
        self.begun: dict[int, Sequence[Doubt]] = {}
        self.ended: set[int] = set()
        self.accepted: dict[int, Sequence[Doubt]] = {}
        """Batches that were accepted as they were announced, with what was."""
        self.outcomes: deque[Outcome | Accepted] = deque()
        """What is not committed yet, or follows on that."""
        self.known: deque[Outcome | Accepted] = deque()
        """What is committed, and not yielded yet."""
        self.answered = 0
        """Batches that were answered since the last commit."""
        self.announced: set[int] = set()
        """Numbers of intents that the state has, or is about to have."""
        self.in_doubt = 0
        """Operations that were sent, not answered, and are remembered as in doubt."""
        self.committing = False
        """Whether a commit was begun and did not return."""

    def parcel(self, batch: Batch, doubtful: bool = False) -> Parcel:
        """Return a batch with what it leaves behind if it is never answered: a look-up changes nothing."""
        return Parcel(batch, () if batch.call.reads else self._doubts(batch.call, batch.operations), doubtful)

    def announce(self, parcels: Iterable[Parcel]) -> None:
        """Have the next commit announce batches that are not announced."""
        numbers = (number for number in count() if number not in self.announced)
        for parcel in parcels:
            if not parcel.ready:
                parcel.intent = next(numbers)
                self.begun[parcel.intent] = parcel.doubts
                self.announced.add(parcel.intent)

    def end(self, parcel: Parcel | Search) -> None:
        """Have the next commit settle what a batch would have left behind."""
        if parcel.intent is not None:
            self.ended.add(parcel.intent)
            parcel.intent = None

    def commit(self) -> None:
        """Commit what was accepted since the last commit, and what is announced and settled."""
        if self.patch or self.begun or self.ended:
            self.committing = True
            self._commit(self.patch, Intents(self.begun, self.ended, self.accepted))
            self.committing = False
        self.announced -= self.ended
        self.patch, self.begun, self.ended, self.accepted, self.answered = {}, {}, set(), {}, 0
        self.known.extend(self.outcomes)
        self.outcomes.clear()

    def committed(self) -> Iterator[Outcome | Accepted]:
        """Yield outcomes whose patch is committed."""
        if not self.patch and not self.accepted:
            self.known.extend(self.outcomes)
            self.outcomes.clear()
        while self.known:
            yield self.known.popleft()

    def accept(self, parcel: Parcel, operations: Sequence[Operation], left_out: frozenset[str] | None) -> None:
        """Remember what was accepted of a batch: where that is all, by what was announced."""
        if not operations:
            return
        if (
            parcel.intent is not None
            and has_receipts(parcel.doubts)
            and len(operations) == len(parcel.batch.operations)
        ):
            self.accepted[parcel.intent] = parcel.doubts
        else:
            self.patch.update(map(_RECEIPT, operations))
        if left_out is not None and self._part is not None:
            operations, outcomes = self._part(operations, left_out)
            self.outcomes.extend(outcomes)
        self.outcomes.append(Accepted(operations))

    def keep(self, outcome: Outcome, parcel: Parcel) -> None:
        """Keep an outcome, and remember its operation if that was accepted."""
        if outcome.operation is not None:
            if outcome.fate is Fate.ACCEPTED:
                self.patch[outcome.key] = outcome.operation.remember
            else:
                self.leave_in_doubt(parcel, [outcome.operation])
        self.outcomes.append(outcome)

    def carry(self, parcel: Parcel) -> None:
        """Remember as in doubt what goes on to a look-up because it is not known whether it arrived."""
        if parcel.batch.call.looks_back:
            self.patch.update(patch_of(parcel.doubts))

    def presume(self, operations: Iterable[Operation]) -> None:
        """Remember operations that must not go twice, and of which it is not known whether they arrived."""
        for operation in operations:
            self.patch[operation.key] = operation.remember
            self.refuse(operation, Reason.UNCONFIRMED, "", Fate.REJECTED)

    def leave_in_doubt(self, parcel: Parcel, operations: Sequence[Operation]) -> None:
        """Remember operations that are not accepted as in doubt, if a request with them was not answered."""
        if parcel.doubtful and operations and parcel.batch.call.repeatable:
            left = patch_of(self._doubts(parcel.batch.call, operations))
            self.patch.update(left)
            self.in_doubt += len(operations) if left else 0

    def refuse(self, operation: Operation, reason: Reason, detail: str, fate: Fate) -> None:
        """Keep the outcome of an operation that was not accepted."""
        self.outcomes.append(Outcome(operation.key, operation.kind, fate, reason, detail, operation))

    def put_off(self, operations: Iterable[Operation], reason: Reason, detail: str = "") -> None:
        """Defer operations that were not sent."""
        for operation in operations:
            self.refuse(operation, reason, detail, Fate.DEFERRED)

    def defer(self, parcel: Parcel, reason: Reason, detail: str = "") -> None:
        """Defer the operations of a batch, which was perhaps sent."""
        self.leave_in_doubt(parcel, parcel.batch.operations)
        self.put_off(parcel.batch.operations, reason, detail)

    def give_up(self, parcel: Parcel, reason: Reason, detail: str = "") -> None:
        """Defer what is not sent, or not sent again, with all that is not settled of the batch it is a part of."""
        self.end(parcel)
        if parcel.sample:
            return  # its batch is still to be settled
        self.defer(parcel, reason, detail)
        if parcel.search is not None:
            rest = Batch(parcel.batch.call, parcel.search.rest)
            self.defer(Parcel(rest, (), parcel.doubtful), reason, detail)
            self.end(parcel.search)
