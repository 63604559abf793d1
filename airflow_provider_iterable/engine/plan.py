"""Turns changes into a plan: operations in a spool, and counts; sends nothing."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter

from msgspec.structs import replace

from airflow_provider_iterable.engine.compare import GoesAgain
from airflow_provider_iterable.engine.identities import Identities
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.resync import recorded
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Added,
    Bearer,
    Call,
    Changed,
    Duplicate,
    Entry,
    Erased,
    Fresh,
    Incomplete,
    Invalid,
    News,
    Operation,
    Outcome,
    Overwritten,
    Patch,
    Record,
    Records,
    Removed,
    Unchanged,
    UnchangedInDatabase,
    Unseen,
    people,
)

_KIND, _CALL = attrgetter("kind"), attrgetter("call")


@dataclass
class Plan:
    """What a run will do: operations in a spool, and what has to be known of them before they go."""

    rows: Spool
    removals: Spool
    plural: bool = False
    """Whether an identity has a record of its own under each key."""
    in_turn: bool = False
    """Whether operations that share an identity are sent one after the other, though they overwrite nothing."""
    counts: Counter[Kind] = field(default_factory=Counter)
    calls: Counter[Call] = field(default_factory=Counter)
    sizes: Counter[Call] = field(default_factory=Counter)
    """Bytes of the bodies of each call."""
    removing: set[Call] = field(default_factory=set)
    """The calls of removals, which are others than those of rows that are there."""
    unchanged: int = 0
    deletes: int = 0
    """Removals that make a call."""
    resent: int = 0
    """Unchanged rows that go again because another row with the same identity changed."""
    moved: int = 0
    """Rows whose identity changed under the same key."""
    followed: int = 0
    """Those of them whose former identity is removed."""
    former: dict[str, tuple[str, Entry]] = field(default_factory=dict)
    """By the key of a moved row: the key and the entry of its former identity. It is remembered together with the row's
    new identity, so that it is removed by a later run if not by this one, and never before the new one was accepted."""
    invalid: list[Outcome] = field(default_factory=list)
    erased: list[Outcome] = field(default_factory=list)
    """Rows about people whom a privacy sync erased."""
    duplicates: set[str] = field(default_factory=set)
    shared: set[int] = field(default_factory=set)
    """Hashes of identities that several operations bear."""
    borne: set[int] = field(default_factory=set)
    """Hashes of removed identities that a present row still bears: nothing is called for them."""
    borne_and_accepted: set[int] = field(default_factory=set)
    """Those of them that such a row is remembered with, be it from before or because it was accepted by now."""
    collapsed: int = 0
    """Rows beyond the first of each key, where the sync collapses them."""
    superseded: dict[str, int] = field(default_factory=dict)
    """Keys for which another row than the first is sent, and the position up to which what was planned is void."""
    doubted: Patch = field(default_factory=dict)
    """Entries that are to be committed as in doubt before the first call: another row of the run overwrites at Iterable
    what they are about, so they would be wrong if the run were cut short or their own row refused."""
    again: array[int] = field(default_factory=lambda: array("q"))
    """Positions of unchanged rows that go again because they carry fields that Iterable has by now."""

    @property
    def read(self) -> int:
        """Rows the model gave."""
        return self.counts[Kind.ADDED] + self.counts[Kind.CHANGED] + self.unchanged + self.counts[Kind.INVALID]

    @property
    def subscribed(self) -> int:
        """Operations that subscribe somebody to messages."""
        return sum(number for call, number in self.calls.items() if call.subscribes)

    @property
    def sends(self) -> int:
        """Operations that make a call."""
        return self.calls.total()

    def present(self) -> Iterator[tuple[int, Operation]]:
        """Yield ``(position, operation)`` for rows that are there; those with a duplicate key are passed over."""
        if not self.duplicates and not self.superseded:
            yield from self.rows.read()
            return
        for position, operation in self.rows.read():
            if operation.key not in self.duplicates and position >= self.superseded.get(operation.key, 0):
                yield position, operation

    def is_shared(self, operation: Operation) -> bool:
        """Whether several operations that make a call bear an operation's identity."""
        return bool(self.shared) and operation.call is not None and hash(operation.handles[0]) in self.shared

    def alone(self) -> Iterator[tuple[int, Operation]]:
        """Yield ``(position, operation)`` for rows that are there and share their identity with no other."""
        return ((position, operation) for position, operation in self.present() if not self.is_shared(operation))

    def incomplete(self) -> Iterator[Operation]:
        """Yield the unchanged rows that go again because they carry fields that Iterable has by now."""
        return (self.rows.at(position) for position in self.again)

    def removed(self) -> Iterator[Operation]:
        """Yield the removals; they call nothing where a present row bears their identity."""
        yield from self.leaving()
        for operation in self.uncalled():
            yield replace(operation, call=None, body=b"")

    def leaving(self) -> Iterator[Operation]:
        """Yield the removals whose identity no present row bears."""
        return self._removals(borne=False)

    def uncalled(self) -> Iterator[Operation]:
        """Yield the removals whose identity a present row bears, as they would be if none did."""
        return self._removals(borne=True)

    def forgettable(self) -> Iterator[Operation]:
        """Yield the removals whose identity a present row bears that is remembered with it; they call nothing.

        The other removals of that kind have to wait: what is remembered of a row that left is all that would have its
        record removed, if the row that bears its identity is not accepted and leaves in its turn.
        """
        for operation in self.uncalled():
            if hash(operation.handles[0]) in self.borne_and_accepted:
                yield replace(operation, call=None, body=b"")

    def accept(self, operations: Iterable[Operation]) -> None:
        """Note which identities that rows left are by now accepted with another row."""
        if self.borne:
            accepted = (hash(operation.handles[0]) for operation in operations if operation.kind is not Kind.REMOVED)
            self.borne_and_accepted.update(self.borne.intersection(accepted))

    def take_back(self, operation: Operation) -> None:
        """Uncount an operation that is not to be done."""
        self.counts[operation.kind] -= 1
        if operation.call is not None:
            self.uncount(operation, operation.call)

    def count(self, operation: Operation, call: Call) -> None:
        """Count the call of an operation."""
        self.calls[call] += 1
        self.sizes[call] += len(operation.body) + 1
        if operation.kind is Kind.REMOVED:
            self.deletes += 1
            self.removing.add(call)

    def uncount(self, operation: Operation, call: Call) -> None:
        """Uncount the call of an operation."""
        self.calls[call] -= 1
        self.sizes[call] -= len(operation.body) + 1
        self.deletes -= operation.kind is Kind.REMOVED

    def void_former(self) -> set[str]:
        """Return the keys of removals that are void because the row that moved turned out to be a duplicate."""
        return {self.former[key][0] for key in self.duplicates if key in self.former}

    def _removals(self, borne: bool) -> Iterator[Operation]:
        void = self.void_former()
        for _, operation in self.removals.read():
            if operation.key not in void:
                bears = operation.call is not None and hash(operation.handles[0]) in self.borne
                if bears is borne:
                    yield operation

    def operations(self) -> Iterator[Operation]:
        """Yield all operations, removals last."""
        yield from (operation for _, operation in self.present())
        yield from self.removed()

    def patch(self) -> Iterator[Patch]:
        """Yield what the state would become if every operation were accepted."""
        for operation in self.operations():
            yield {operation.key: operation.remember}


class Planner:
    """Takes news one at a time and ends up with a plan.

    :param goes_again: ``None``: no unchanged row goes again
    :param baseline: whether rows are only recorded as if they had been sent
    """

    def __init__(
        self, sync: Sync, rows: Spool, removals: Spool, goes_again: GoesAgain | None = None, *, baseline: bool = False
    ) -> None:
        self.sync, self.goes_again = sync, goes_again
        self._added = recorded(sync.added) if baseline else sync.added
        self._changed = recorded(sync.changed) if baseline else sync.changed
        self._baseline = baseline
        self.exclusive = sync.exclusive and not baseline
        """Whether rows that share an identity overwrite one another in this run."""
        self.plan = Plan(rows, removals, plural=sync.plural, in_turn=sync.in_turn)
        self.identities = Identities()
        self.unseen: Unseen | None = None
        """Unchanged rows that stayed in the database."""
        self.left_refs: list[str] = []
        """References of identities that rows left, kept only where unseen rows may bear them."""
        self.collapsing: set[str] = set()
        """Keys that several rows share, of which one is still to be chosen by a second reading of the model."""
        self._repeated: list[Duplicate] = []
        """Keys that several rows share, all of which are still to be refused."""

    @property
    def needs_second_reading(self) -> bool:
        """Whether rows left while duplicate rows, of which only the first was looked at, may bear their identities."""
        return bool(self.identities.left and self.plan.duplicates)

    def take(self, news: Iterable[News]) -> None:
        """Take all news of one pass over the model."""
        plan, unchanged = self.plan, self.identities.unchanged
        for item in news:
            if isinstance(item, Unchanged):
                plan.unchanged += len(item.names)
                unchanged.extend(map(hash, zip(repeat(item.kind), item.names)))
            elif isinstance(item, Fresh):
                self._take_fresh(item.records)
            elif isinstance(item, Added):
                self.add(self._added(item), item.after)
            elif isinstance(item, Changed):
                self._take_changed(item)
            elif isinstance(item, Incomplete):
                self._take_incomplete(item.after)
            elif isinstance(item, Removed):
                self._take_removed(item)
            elif isinstance(item, Invalid):
                self._take_invalid(item)
            elif isinstance(item, UnchangedInDatabase):
                plan.unchanged += item.rows
                self.unseen = item.unseen
            elif isinstance(item, Erased):
                plan.counts[Kind.ADDED] += len(item.keys)
                plan.erased.extend(Outcome(key, Kind.ADDED, Fate.SKIPPED, Reason.ERASED_PERSON) for key in item.keys)
            elif isinstance(item, Overwritten):
                self._take_overwritten(item.after)
            elif isinstance(item, Bearer):
                self.identities.refused.append(item.identity)
            elif self.sync.collapses:
                self.collapsing.add(item.key)
                plan.collapsed += item.rows - 1
            else:
                plan.duplicates.add(item.key)
                self._repeated.append(item)
        if self._repeated:
            self._drop_duplicates()

    def _take_fresh(self, records: Records) -> None:
        """Plan rows of which nothing is remembered, many at a time."""
        plan, identities, operations = self.plan, self.identities, list[Operation]()
        for number in range(len(records.keys)):
            record = records.record(number)
            if isinstance(record, Record):
                operations.append(self._added(Added(record)))
            else:
                self._take_invalid(record)
        sent = [operation for operation in operations if operation.call is not None]
        plan.counts.update(map(_KIND, operations))
        for call, number in Counter(map(_CALL, sent)).items():  # one in most syncs, and so without a step for each row
            bodies = [operation.body for operation in sent if operation.call is call]
            plan.calls[call] += number
            plan.sizes[call] += sum(map(len, bodies)) + number
        identities.sent.extend(hash(operation.handles[0]) for operation in sent)
        identities.unchanged.extend(hash(operation.handles[0]) for operation in operations if operation.call is None)
        plan.rows.extend(operations)

    def add(self, operation: Operation, record: Record) -> None:
        """Plan an operation for a row that is there."""
        plan = self.plan
        plan.counts[operation.kind] += 1
        if operation.call is not None:
            plan.count(operation, operation.call)
            self.identities.sent.append(hash(record.handles[0]))
        else:
            self.identities.unchanged.append(hash(record.handles[0]))
        plan.rows.append(operation)

    def _take_changed(self, change: Changed) -> None:
        operation = self._changed(change)
        if isinstance(operation, Invalid):
            self._take_invalid(operation)
            return
        if change.before.ref and not self.sync.looks_back:  # there, it is of a request, not of what is accepted
            before = hash(self.sync.identity(change.before.ref))
            if before != hash(change.after.handles[0]):
                operation = replace(operation, before=change.before.ref)
                self._move(change, before)
        if operation.call is None and self.goes_again is not None and self.goes_again(change.after.body):
            self._take_incomplete(change.after)
        else:
            self.add(operation, change.after)

    def _move(self, change: Changed, before: int) -> None:
        """Note that a row has another identity than before, and plan what becomes of that one."""
        plan = self.plan
        plan.moved += 1
        if self.unseen is not None:
            self.left_refs.append(change.before.ref)
        self.identities.move(plan.rows.size, before)
        former = None if self._baseline else self.sync.moved(change)
        if former is not None:
            plan.followed += 1
            plan.former[change.after.key] = (former.key, Entry(NEVER_EQUAL, change.before.ref))
            self._remove(replace(former, before=change.before.ref))

    def _take_incomplete(self, record: Record) -> None:
        """Plan a row again about which there is no news.

        It is a change, but where keys are remembered for ever: there, only a new row is sent.
        """
        operation = self._added(Added(record))
        if not self.sync.keeps_leavers and operation.remember is not None:
            changed = self._changed(Changed(operation.remember, record))
            assert isinstance(changed, Operation)
            operation = changed
        self.plan.again.append(self.plan.rows.size)
        self.add(operation, record)

    def _take_overwritten(self, record: Record) -> None:
        operation = self._changed(Changed(Entry(record.fingerprint), record))
        if isinstance(operation, Operation) and operation.call is not None:
            self.plan.unchanged -= 1
            self.plan.resent += 1
            self.add(operation, record)

    def _take_removed(self, change: Removed) -> None:
        if change.before.ref:
            self.identities.left.add(hash(self.sync.identity(change.before.ref)))
            if self.unseen is not None:
                self.left_refs.append(change.before.ref)
        operation = self.sync.removed(change)
        if operation.call is not None or operation.remember != change.before:
            self._remove(replace(operation, before=change.before.ref))

    def _remove(self, operation: Operation) -> None:
        plan = self.plan
        plan.counts[Kind.REMOVED] += 1
        if operation.call is not None:
            plan.count(operation, operation.call)
            self.identities.remove(hash(operation.handles[0]))
        plan.removals.append(operation)

    def _take_invalid(self, item: Invalid) -> None:
        names = (*item.names, *people(item.handles))
        self.plan.invalid.append(Outcome(item.key, Kind.INVALID, Fate.REJECTED, item.reason, item.detail, names=names))
        self.identities.refused.extend(hash(handle) for handle in item.handles[:1])

    def _drop_duplicates(self) -> None:
        """Refuse all rows of the keys that turned out to be duplicates.

        What was planned for the first row of each is taken back; what is left of it is that it bears its identity.
        """
        plan, identities, sent = self.plan, self.identities, array("q")
        names = {outcome.key: outcome.called for outcome in plan.invalid if outcome.names}
        planned = {outcome.key for outcome in plan.invalid if outcome.key in plan.duplicates}
        positions = set[int]()
        for position, operation in plan.rows.read():
            if operation.key in plan.duplicates:
                positions.add(position)
                planned.add(operation.key)
                names[operation.key] = people(operation.handles)
                identities.refused.append(hash(operation.handles[0]))
                plan.take_back(operation)
            elif operation.call is not None:
                sent.append(hash(operation.handles[0]))
        identities.sent = sent
        identities.forget_moves(positions)
        plan.moved = len(identities.moved_at)
        plan.again = array("q", (position for position in plan.again if position not in positions))
        plan.unchanged -= len(plan.duplicates - planned)
        void = plan.void_former()
        for _, operation in plan.removals.read() if void else ():
            if operation.key in void:
                plan.take_back(operation)
                plan.followed -= 1
        plan.invalid = [outcome for outcome in plan.invalid if outcome.key not in plan.duplicates]
        for item in self._repeated:
            reason, detail, called = Reason.DUPLICATE_KEY, f"{item.rows} rows", names.get(item.key, ())
            outcome = Outcome(item.key, Kind.INVALID, Fate.REJECTED, reason, detail, names=called)
            plan.invalid.extend([outcome] * item.rows)
        self._repeated = []

    def identities_to_resend(self) -> set[int]:
        """Return identities that the run changes while other, unchanged rows bear them too."""
        return self.identities.to_resend() if self.exclusive else set()

    def finish(self) -> Plan:
        """Settle what only the last row decides: which identities are shared, and which removals are none."""
        plan, identities = self.plan, self.identities
        plan.counts[Kind.INVALID] = len(plan.invalid)
        if self.exclusive:
            plan.shared = identities.shared()
        plan.borne = set() if plan.plural else identities.borne()
        if plan.borne:
            plan.borne_and_accepted = plan.borne.intersection(identities.unchanged)
            for operation in plan.uncalled():
                assert operation.call is not None
                plan.uncount(operation, operation.call)
        return plan
