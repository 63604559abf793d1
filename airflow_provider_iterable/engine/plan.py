"""Changes into spooled operations, counts and guards; knows what will be done, and does nothing."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from operator import attrgetter

from msgspec.structs import replace

from airflow_provider_iterable.engine.compare import RECALL_AT_ONCE, GoesAgain, compare, recalled
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Added,
    Call,
    Changed,
    Duplicate,
    Entry,
    Erased,
    Fate,
    Fresh,
    Incomplete,
    Invalid,
    Kind,
    News,
    Operation,
    Outcome,
    Patch,
    Present,
    Quiet,
    Reason,
    Record,
    Records,
    Removed,
    Row,
    State,
    Sync,
    Unchanged,
    Unseen,
    people,
)
from airflow_provider_iterable.errors import GuardTripped

_KIND, _CALL = attrgetter("kind"), attrgetter("call")

ASKED_AT_ONCE = 50_000
"""References in one question about unseen rows: each question reads all that is remembered."""

FIRST_GUARDED_REMOVAL = 20
"""``max_removed`` looks at 20 removals and more: below that a share says nothing."""


@dataclass(frozen=True)
class Guards:
    """What must not happen unasked.

    :param allow_empty: whether a model without rows is believed
    :param max_removed: most removals; a float is a share of the remembered rows, an int a number of rows
    :param max_deletes: most profiles deleted in one run; ``None`` when the sync deletes nobody
    """

    allow_empty: bool = False
    max_removed: float | int | None = 0.3
    max_deletes: int | None = None


@dataclass
class Plan:
    """What a run will do: operations in a spool, and what is to be said about them before they go."""

    rows: Spool
    removals: Spool
    counts: Counter[Kind] = field(default_factory=Counter)
    calls: Counter[Call] = field(default_factory=Counter)
    unchanged: int = 0
    resent: int = 0
    """Unchanged rows that go again because another row with the same identity changed."""
    moved: int = 0
    """Rows whose identity changed under the same key."""
    followed: int = 0
    """Those of them whose former identity is removed."""
    trails: dict[str, tuple[str, Entry]] = field(default_factory=dict)
    """By the key of a moved row: the key and the entry of what it leaves. It is remembered together with the row's new
    identity, so that it is removed by a later run if not by this one, and never before the new one was accepted."""
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
    """Keys for which another row than the first speaks, and the position up to which what was planned is void."""
    doubted: Patch = field(default_factory=dict)
    """Memories that the run overwrites at Iterable under another key, so that it would not do to trust them after it
    was cut short or their own row refused; to be committed before the first call."""
    again: array[int] = field(default_factory=lambda: array("q"))
    """Positions of unchanged rows that go again, for they carry fields that are there by now."""

    @property
    def read(self) -> int:
        """Rows the model gave."""
        return self.counts[Kind.ADDED] + self.counts[Kind.CHANGED] + self.unchanged + self.counts[Kind.INVALID]

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

    def incomplete(self) -> Iterator[Operation]:
        """Yield the unchanged rows that go again, for they carry fields that are there by now."""
        again = iter(self.again)
        due = next(again, None)
        for position, operation in self.present() if self.again else ():
            while due is not None and due < position:
                due = next(again, None)
            if due == position:
                yield operation

    def removed(self) -> Iterator[Operation]:
        """Yield the removals; they call nothing where a present row bears their identity."""
        yield from self.leaving()
        for operation in self._removals(borne=True):
            yield replace(operation, call=None, body=b"")

    def leaving(self) -> Iterator[Operation]:
        """Yield the removals whose identity no present row bears."""
        return self._removals(borne=False)

    def forgettable(self) -> Iterator[Operation]:
        """Yield the removals whose identity a present row bears that is remembered with it; they call nothing.

        The other removals of that kind have to wait: what is remembered of a row that left is all that would have its
        record removed, if the row that bears its identity is not accepted and leaves in its turn.
        """
        for operation in self._removals(borne=True):
            if hash(operation.handles[0]) in self.borne_and_accepted:
                yield replace(operation, call=None, body=b"")

    def accept(self, operations: Iterable[Operation]) -> None:
        """Take notice of what Iterable accepted."""
        if self.borne:
            accepted = (hash(operation.handles[0]) for operation in operations if operation.kind is not Kind.REMOVED)
            self.borne_and_accepted.update(self.borne.intersection(accepted))

    def _removals(self, borne: bool) -> Iterator[Operation]:
        void = {self.trails[key][0] for key in self.duplicates if key in self.trails}
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

    Identities are kept as 8-byte hashes in arrays: those that go out, those that are present and quiet, those that
    must go. That is all it takes to find rows that share one.

    :param again: tells by its body whether an unchanged row goes again; ``None``: none does
    """

    def __init__(self, sync: Sync, rows: Spool, removals: Spool, again: GoesAgain | None = None) -> None:
        self._sync, self._again = sync, again
        self.plan = Plan(rows, removals)
        self._spoken = array("q")
        self._quiet = array("q")
        self._bearers = array("q")
        self._left: set[int] = set()
        self._removed_once: set[int] = set()
        self._removed_again: set[int] = set()
        """Identities of which several rows left, so that each of their removals is about the same record."""
        self._moved_at = array("q")
        self._moved_from = array("q")
        self._unseen: Unseen | None = None
        self._left_refs: list[str] = []
        """References of identities that rows left, kept only where unseen rows may bear them."""
        self._hidden: dict[str, int] = {}
        """Keys of unseen rows that bear an identity this run touches, and its hash."""
        self.collapsing: set[str] = set()
        """Keys that several rows share, of which one is still to be chosen by a second reading of the model."""
        self._repeated: list[Duplicate] = []
        """Keys that several rows share, all of which are still to be refused."""

    def take(self, news: Iterable[News]) -> None:
        """Take all news of one pass over the model."""
        plan, quiet = self.plan, self._quiet
        for item in news:
            if isinstance(item, Unchanged):
                plan.unchanged += len(item.names)
                quiet.extend(map(hash, zip(repeat(item.kind), item.names)))
            elif isinstance(item, Fresh):
                self._arrive(item.records)
            elif isinstance(item, Added):
                self._speak(self._sync.added(item), item.after)
            elif isinstance(item, Changed):
                self._changed(item)
            elif isinstance(item, Incomplete):
                self._complete(item.after)
            elif isinstance(item, Removed):
                self._removed(item)
            elif isinstance(item, Invalid):
                self._invalid(item)
            elif isinstance(item, Quiet):
                plan.unchanged += item.rows
                self._unseen = item.unseen
            elif isinstance(item, Erased):
                plan.counts[Kind.ADDED] += len(item.keys)
                plan.erased.extend(Outcome(key, Kind.ADDED, Fate.SKIPPED, Reason.ERASED_PERSON) for key in item.keys)
            elif self._sync.collapses:
                self.collapsing.add(item.key)
                plan.collapsed += item.rows - 1
            else:
                self._duplicate(item)
        if plan.duplicates:
            self._unsay_duplicates()

    def _duplicate(self, item: Duplicate) -> None:
        self.plan.duplicates.add(item.key)
        self._repeated.append(item)

    def _refuse_duplicates(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """Reject all rows of the keys that turned out to be duplicates.

        :param names: what the people are called, where it is known, by key
        """
        for item in self._repeated:
            reason, detail, called = Reason.DUPLICATE_KEY, f"{item.rows} rows", names.get(item.key, ())
            outcome = Outcome(item.key, Kind.INVALID, Fate.REJECTED, reason, detail, names=called)
            self.plan.invalid.extend([outcome] * item.rows)
        self._repeated = []

    def _unsay_duplicates(self) -> None:
        """Let the first row of a key that turned out to be a duplicate bear its identity, but not change it."""
        plan, spoken = self.plan, array("q")
        positions, names = set(), {outcome.key: outcome.called for outcome in plan.invalid if outcome.names}
        for position, operation in plan.rows.read():
            if operation.key in plan.duplicates:
                positions.add(position)
                names[operation.key] = people(operation.handles)
                self._bearers.append(hash(operation.handles[0]))
            elif operation.call is not None:
                spoken.append(hash(operation.handles[0]))
        self._spoken = spoken
        kept = [n for n, position in enumerate(self._moved_at) if position not in positions]
        self._moved_at = array("q", (self._moved_at[n] for n in kept))
        self._moved_from = array("q", (self._moved_from[n] for n in kept))
        plan.moved = len(kept)
        self._refuse_duplicates(names)

    def _arrive(self, records: Records) -> None:
        """Plan rows of which nothing is remembered, many at a time."""
        plan, operations = self.plan, list[Operation]()
        for number in range(len(records.keys)):
            record = records.record(number)
            if isinstance(record, Record):
                operations.append(self._sync.added(Added(record)))
            else:
                self._invalid(record)
        spoken = [operation for operation in operations if operation.call is not None]
        plan.counts.update(map(_KIND, operations))
        plan.calls.update(map(_CALL, spoken))
        self._spoken.extend(hash(operation.handles[0]) for operation in spoken)
        self._quiet.extend(hash(operation.handles[0]) for operation in operations if operation.call is None)
        plan.rows.extend(operations)

    def _speak(self, operation: Operation, record: Record) -> None:
        plan = self.plan
        plan.counts[operation.kind] += 1
        if operation.call is not None:
            plan.calls[operation.call] += 1
            self._spoken.append(hash(record.handles[0]))
        else:
            self._quiet.append(hash(record.handles[0]))
        plan.rows.append(operation)

    def _changed(self, change: Changed) -> None:
        operation = self._sync.changed(change)
        if change.before.ref:
            before = hash(self._sync.identity(change.before.ref))
            if before != hash(change.after.handles[0]):
                operation = replace(operation, before=change.before.ref)
                self.plan.moved += 1
                if self._unseen is not None:
                    self._left_refs.append(change.before.ref)
                self._moved_at.append(self.plan.rows.size)
                self._moved_from.append(before)
                left = self._sync.moved(change)
                if left is not None:
                    self.plan.followed += 1
                    self.plan.trails[change.after.key] = (left.key, Entry(NEVER_EQUAL, change.before.ref))
                    self._leave(replace(left, before=change.before.ref))
        if operation.call is None and self._again is not None and self._again(change.after.body):
            self._complete(change.after)
        else:
            self._speak(operation, change.after)

    def _complete(self, record: Record) -> None:
        """Plan a row again about which there is no news; where keys are remembered for ever, only a new row speaks."""
        operation = self._sync.added(Added(record))
        if not self._sync.keeps_leavers and operation.remember is not None:
            operation = self._sync.changed(Changed(operation.remember, record))
        self.plan.again.append(self.plan.rows.size)
        self._speak(operation, record)

    def _removed(self, change: Removed) -> None:
        if change.before.ref:
            self._left.add(hash(self._sync.identity(change.before.ref)))
            if self._unseen is not None:
                self._left_refs.append(change.before.ref)
        self._leave(replace(self._sync.removed(change), before=change.before.ref))

    def _leave(self, operation: Operation) -> None:
        plan = self.plan
        plan.counts[Kind.REMOVED] += 1
        if operation.call is not None:
            plan.calls[operation.call] += 1
            identity = hash(operation.handles[0])
            if identity in self._removed_once:
                self._removed_again.add(identity)
            self._removed_once.add(identity)
            self._left.add(identity)
        plan.removals.append(operation)

    def _invalid(self, item: Invalid) -> None:
        names = (*item.names, *people(item.handles))
        self.plan.invalid.append(Outcome(item.key, Kind.INVALID, Fate.REJECTED, item.reason, item.detail, names=names))
        self._bearers.extend(hash(handle) for handle in item.handles[:1])

    def unsaid(self) -> set[int]:
        """Hashes of identities that this run changes while other, unchanged rows bear them too.

        Those rows have to be said again, in key order, or the last word would not be the greatest key's.
        """
        if self._unseen is not None and self.plan.unchanged:
            self._look_for_bearers(self._unseen)
        if not self._sync.exclusive or not self._quiet:
            return set()
        touched = self._left.union(self._moved_from)
        touched.update(self._spoken)
        return {identity for identity in self._quiet if identity in touched}

    def _look_for_bearers(self, unseen: Unseen) -> None:
        """Take notice of the unseen rows that bear an identity which this run touches: all others may stay unseen."""
        plan, found = self.plan, dict[str, str]()
        refs = dict.fromkeys(self._left_refs)
        for _, operation in plan.rows.read():
            if operation.call is not None and operation.remember is not None:
                refs[operation.remember.ref] = None
        refs.pop("", None)
        asked = list(refs)
        for start in range(0, len(asked), ASKED_AT_ONCE):
            found.update(unseen.bearers(asked[start : start + ASKED_AT_ONCE]))
        for spool in (plan.rows, plan.removals):
            for _, operation in spool.read():
                found.pop(operation.key, None)
        for outcome in plan.invalid:
            found.pop(outcome.key, None)
        self._hidden = {key: hash(self._sync.identity(ref)) for key, ref in found.items()}
        self._quiet.extend(self._hidden.values())

    @property
    def unheard(self) -> bool:
        """Whether rows left while duplicate rows, of which only the first was looked at, may bear their identities."""
        return bool(self._left and self.plan.duplicates)

    def say_again(self, chunks: Iterable[Sequence[Row]], unsaid: set[int]) -> None:
        """Read the model once more and plan the unchanged rows that bear one of these identities."""
        plan = self.plan
        planned = {op.key for _, op in plan.rows.read() if op.handles and hash(op.handles[0]) in unsaid}
        planned.update(outcome.key for outcome in plan.erased)
        if self._unseen is not None:
            wanted = [key for key, identity in self._hidden.items() if identity in unsaid and key not in planned]
            if self._left:
                wanted.extend(plan.duplicates.difference(wanted))
            for pair in self._unseen.present(wanted):
                self._say_again(self._sync.records(pair.keys, pair.rows, pair.fingerprints), unsaid)
            return
        for rows in chunks:
            named = [
                (key, row)
                for key, row in zip(self._sync.keys(rows), rows, strict=True)
                if not isinstance(key, Invalid) and key not in planned
            ]
            if named:
                self._say_again(self._sync.records(*zip(*named, strict=True)), unsaid)

    def _say_again(self, records: Records, unsaid: set[int]) -> None:
        plan = self.plan
        for number, (key, name) in enumerate(zip(records.keys, records.names, strict=True)):
            identity = hash((records.kind, name))
            if key in plan.duplicates:
                self._bearers.append(identity)
            elif identity in unsaid and isinstance(record := records.record(number), Record):
                operation = self._sync.changed(Changed(Entry(record.fingerprint), record))
                if operation.call is not None:
                    plan.unchanged -= 1
                    plan.resent += 1
                    self._speak(operation, record)

    def collapse(self, chunks: Iterable[Sequence[Row]], state: State) -> None:
        """Read the model once more, and let the row of the greatest rank speak for each key that several rows share."""
        best: dict[str, tuple[str, Row]] = {}
        first: dict[str, Row] = {}
        for rows in chunks:
            for key, rank, row in zip(self._sync.keys(rows), self._sync.ranks(rows), rows, strict=True):
                if isinstance(key, str) and key in self.collapsing:
                    first.setdefault(key, row)
                    if key not in best or rank > best[key][0]:
                        best[key] = (rank, row)
        others = {key: row for key, (_, row) in best.items() if row is not first[key]}
        if not others:
            return
        self._withdraw(others.keys())
        keys = list(others)
        for start in range(0, len(keys), RECALL_AT_ONCE):
            some = keys[start : start + RECALL_AT_ONCE]
            entries = state.recall(some)
            before = [entries[key].fingerprint if key in entries else None for key in some]
            pair = Present(some, [others[key] for key in some], before)
            self.take(recalled(state, compare(self._sync, [pair], self._again)))

    def _withdraw(self, keys: Collection[str]) -> None:
        """Take back what was planned for the first rows of these keys."""
        plan = self.plan
        quiet = set(keys)
        for _, operation in plan.rows.read():
            if operation.key in quiet:
                quiet.discard(operation.key)
                plan.counts[operation.kind] -= 1
                if operation.call is not None:
                    plan.calls[operation.call] -= 1
        quiet.difference_update(outcome.key for outcome in plan.invalid)
        plan.invalid = [outcome for outcome in plan.invalid if outcome.key not in keys]
        plan.unchanged -= len(quiet)
        plan.superseded.update(dict.fromkeys(keys, plan.rows.size))

    def finish(self) -> Plan:
        """Settle what only the last row decides: duplicate keys, shared identities, removals that are none."""
        plan = self.plan
        if plan.duplicates:
            self._uncount_duplicates()
        plan.counts[Kind.INVALID] = len(plan.invalid)
        if self._sync.exclusive and len(set(self._spoken)) < len(self._spoken):
            ordered = sorted(self._spoken)
            plan.shared = {one for one, other in pairwise(ordered) if one == other}
        if self._left:
            for bearers in (self._spoken, self._quiet, self._bearers):
                plan.borne.update(identity for identity in bearers if identity in self._left)
            plan.borne_and_accepted.update(plan.borne.intersection(self._quiet))
        if plan.borne:
            for _, operation in plan.removals.read():
                if operation.call and hash(operation.handles[0]) in plan.borne:
                    plan.calls[operation.call] -= 1
        return plan

    def doubt(self, state: State) -> None:
        """Find the memories that others overwrite at Iterable before their own row has its say, or without it.

        Several rows bear one identity, and the greatest key has the last word. Were the run cut short after another's
        word, or were the last word refused, the row's old memory would be wrong, and its row might match it again.
        """
        plan = self.plan
        if not self._sync.exclusive:
            return
        moved_from = set(self._moved_from)
        contested = plan.shared | plan.borne
        if moved_from:
            contested.update(identity for identity in self._spoken if identity in moved_from)
        keys = sorted(self._doubtful(contested))
        found: dict[str, Entry] = {}
        for start in range(0, len(keys), RECALL_AT_ONCE):
            found.update(state.recall(keys[start : start + RECALL_AT_ONCE]))
        about = {key: hash(self._sync.identity(entry.ref)) for key, entry in found.items()}
        asked = set(about.values())
        touched = contested | self._left
        touched.update(identity for identity in self._spoken if identity in asked)
        plan.doubted = {
            key: Entry(NEVER_EQUAL, entry.ref)
            for key, entry in found.items()
            if about[key] in touched and entry.fingerprint != NEVER_EQUAL
        }

    def _doubtful(self, contested: set[int]) -> set[str]:
        """Return the keys of rows whose memory others may overwrite.

        They are refused, have another say about a contested identity, or left one that another row bears or left, too.
        """
        plan = self.plan
        keys = {outcome.key for outcome in plan.invalid if outcome.key}
        if others := plan.borne | self._removed_again:
            keys.update(op.key for _, op in plan.removals.read() if op.handles and hash(op.handles[0]) in others)
        if contested:
            moved_from = dict(zip(self._moved_at, self._moved_from, strict=True))
            for position, operation in plan.rows.read():
                if operation.kind is Kind.CHANGED and (
                    hash(operation.handles[0]) in contested or moved_from.get(position) in contested
                ):
                    keys.add(operation.key)
        return keys

    def _uncount_duplicates(self) -> None:
        """Take back what was counted for the first row of a key that turned out to be a duplicate."""
        plan, counted = self.plan, set()
        for _, operation in plan.rows.read():
            if operation.key in plan.duplicates:
                counted.add(operation.key)
                plan.counts[operation.kind] -= 1
                if operation.call is not None:
                    plan.calls[operation.call] -= 1
        void = {plan.trails[key][0] for key in plan.duplicates if key in plan.trails}
        for _, operation in plan.removals.read() if void else ():
            if operation.key in void:
                plan.counts[operation.kind] -= 1
                plan.followed -= 1
                if operation.call is not None:
                    plan.calls[operation.call] -= 1
        kept = []
        for outcome in plan.invalid:
            if outcome.key in plan.duplicates and outcome.reason is not Reason.DUPLICATE_KEY:
                counted.add(outcome.key)
            else:
                kept.append(outcome)
        plan.invalid = kept
        plan.unchanged -= len(plan.duplicates - counted)


def guard(plan: Plan, guards: Guards, remembered: int) -> None:
    """Refuse a plan that removes more than was allowed.

    :raises GuardTripped: nothing was sent; the message says how to allow it
    """
    if plan.read == 0 and not guards.allow_empty:
        raise GuardTripped(
            f"The model returned no rows ({remembered} are remembered). Nothing was sent and nothing is forgotten. "
            "If an empty model is right, set allow_empty=True."
        )
    removed = plan.counts[Kind.REMOVED]
    if guards.max_removed is not None and removed >= FIRST_GUARDED_REMOVAL:
        limit = guards.max_removed
        most = limit * remembered if isinstance(limit, float) else limit
        if removed > most:
            raise GuardTripped(
                f"{removed} of {remembered} remembered rows have left the model; max_removed={limit!r} allows "
                f"{int(most)}. Nothing was sent and nothing is forgotten. If the rows really left, raise "
                "max_removed (a float is a share of the remembered rows, an int a number of rows) for this run."
            )
    if guards.max_deletes is not None:
        deletes = sum(1 for operation in plan.removed() if operation.call is not None)
        if deletes > guards.max_deletes:
            raise GuardTripped(
                f"The run would delete {deletes} users or items; max_deletes allows {guards.max_deletes}. Nothing was "
                "sent. If they should go, raise max_deletes for this run."
            )
