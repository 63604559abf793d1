"""What a merge sync means: a row is a pair of people, of whom one is merged into the other; knows no store.

A pair is merged once, when its key first appears. Nothing undoes it, so a row that is wrong beside others, or for what
is remembered, keeps all others from being sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from airflow_provider_iterable.api.endpoints import Merging
from airflow_provider_iterable.engine.doubt import doubted, in_doubt, undoubted
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.refused import Refused
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Added,
    Call,
    Changed,
    Entry,
    Handle,
    Invalid,
    Operation,
    Outcome,
    Record,
    Records,
    Removed,
    Row,
    people,
)
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import position
from airflow_provider_iterable.syncs.chunk import Chunk, encode, namer
from airflow_provider_iterable.syncs.identity import Match
from airflow_provider_iterable.syncs.pairs import Pairs
from airflow_provider_iterable.syncs.privacy import hashed_name
from airflow_provider_iterable.syncs.sync import BaseSync, SentField

ASKED_AT_ONCE = 1000
"""Rows whose people are looked for in the state in one go."""
Gone = Callable[[Sequence[str]], tuple[set[str], set[str]]]
"""Returns which of some references are of people who were merged into others, and of people who were erased."""
REMEDY = "Mend these rows, or leave them out of the model; docs/merges.md has the queries that find and resolve them."
_SENT = {"email": "Email", "user_id": "UserId"}


@dataclass(frozen=True)
class MergeOptions:
    """Who is merged into whom, and how: parameters of ``IterableMergeOperator``, and what the connection says.

    :param source: the identifier of who is merged
    :param destination: the identifier of whom they are merged into
    :param hashes_keys: whether the primary key names people, so that it is remembered as a hash
    :param array_merge: fields whose arrays are joined, and which member tells objects in them apart
    :param project_type: ``"email"``, ``"user_id"``, ``"hybrid"``, or ``None`` where the connection does not say it
    :raises ConfigurationError: the project cannot do it; the message says what to do instead
    """

    primary_key: tuple[str, ...]
    source: Match
    source_column: str
    destination: Match
    destination_column: str
    project_type: str | None
    hashes_keys: bool = False
    array_merge: Mapping[str, str | None] = field(default_factory=dict)
    create_destination: bool = False

    def __post_init__(self) -> None:
        if self.project_type is None:
            raise ConfigurationError(
                "A merge needs the project type, and the connection does not say it: by an identifier that several "
                "profiles may have, the wrong one could be merged. Nothing was sent. Set project_type in the "
                "connection."
            )
        for side, match in (("source", self.source), ("destination", self.destination)):
            if match == "user_id" and self.project_type == "email":
                raise ConfigurationError(
                    f"In an email-based project several profiles may have one user ID, and a merge cannot be taken "
                    f"back. Nothing was sent. Set {side}_email_column in the place of {side}_user_id_column."
                )
            if match == "email" and self.project_type == "user_id":
                raise ConfigurationError(
                    f"In a user-ID-based project emails are not unique, and name nobody. Nothing was sent. Set "
                    f"{side}_user_id_column in the place of {side}_email_column."
                )


class Merges(BaseSync):
    """The merge sync: a row is a pair. Its first handle is the destination, its second one the source.

    :param options: see :class:`MergeOptions`
    :param columns: the model's columns
    :raises ModelError: a column is missing
    """

    exclusive = False
    keeps_leavers = True
    looks_back = True

    def __init__(self, options: MergeOptions, columns: Sequence[str]) -> None:
        self._options = options
        self._pairs: Pairs | None = None
        """The pairs that are to be sent."""
        self._name, self.hashes_keys = namer(columns, options.primary_key), options.hashes_keys
        self.keys = self._hashed if options.hashes_keys else self._name
        self._source = position(columns, options.source_column)
        self._destination = position(columns, options.destination_column)
        names = [f"destination{_SENT[options.destination]}", f"source{_SENT[options.source]}"]
        read = (self._destination, self._source)
        self.sent_fields = [SentField(name, (name,), columns[column]) for name, column in zip(names, read, strict=True)]
        self._body: Any = msgspec.defstruct("Pair", names, gc=False)
        way = Merging(
            options.source, options.destination, _tail(options.array_merge), options.create_destination, self._is_source
        )
        self._call, self._doubtful = way.calls()
        self._left, self._replaced = way.look_up_left(), way.look_up_former(self._with_former, self._call)
        self._former: dict[str, Entry] = {}
        """Pairs in doubt under whose keys the model has others by now, as they are remembered if they were merged."""
        self.way = "one request for each pair"
        if not options.create_destination:
            self.way += ", after a look-up of its destination"

    def _hashed(self, rows: Sequence[Row]) -> list[str | Invalid]:
        return [hashed_name(name) for name in self._name(rows)]

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: the two identifiers are all there is to say."""
        chunk = Chunk(keys, rows, fingerprints)
        destinations = chunk.identify(self._options.destination, self._destination)
        sources = chunk.add_identifier(self._options.source, self._source)
        for number, source in enumerate(sources):
            if source is UNSET:
                chunk.refuse(number, Reason.NO_IDENTIFIER, "the source")
        return chunk.records(map(self._body, destinations, sources))

    def _is_source(self, handle: Handle) -> bool:
        return self._pairs is not None and self._pairs.has_source(hash(handle))

    def identity(self, ref: str) -> Handle:
        """Return nobody: of a source that was merged, only a digest is remembered."""
        return "", ""

    def _merge(self, kind: Kind, record: Record, call: Call) -> Operation:
        entry = Entry(record.fingerprint, self.reference(record.handles[1]))
        return Operation(record.key, kind, call, record.body, record.handles, entry)

    def added(self, change: Added) -> Operation:
        """A new pair is merged."""
        return self._merge(Kind.ADDED, change.after, self._call)

    def changed(self, change: Changed) -> Operation | Invalid:
        """A pair in doubt is merged unless it is found to be; another pair than was merged under a key is refused."""
        after = change.after
        if change.before.fingerprint in (NEVER_EQUAL, doubted(after.fingerprint)):
            return self._merge(Kind.CHANGED, after, self._doubtful)
        if in_doubt(change.before) and change.before.ref:
            former = self._former[after.key] = _settled(change.before)
            operation = self._merge(Kind.CHANGED, after, self._replaced)
            return replace(operation, handles=(*after.handles, super().identity(former.ref)))
        return Invalid(after.key, Reason.PAIR_CHANGED, _told(after.handles), after.handles)

    def removed(self, change: Removed) -> Operation:
        """The source of a pair in doubt is looked up; any other key that left is remembered for ever."""
        before = change.before
        if not before.ref or not in_doubt(before):
            return Operation(change.key, Kind.REMOVED, None, b"", (), before)
        handles = (("", ""), super().identity(before.ref))
        return Operation(change.key, Kind.REMOVED, self._left, b"", handles, _settled(before))

    def _with_former(self, operation: Operation) -> Operation:
        return replace(operation, remember=self._former[operation.key])

    def refuse(self, plan: Plan, gone: Gone) -> Refused | None:
        """Look for rows that are wrong beside one another, or for what is remembered; have the others go in turn.

        Those that share a destination go one after the other, for what the first one brings stays.
        """
        pairs = Pairs((hash(source), hash(destination)) for _, (destination, source) in _sent(plan))
        plan.shared, self._pairs = pairs.crowded, pairs
        if next(self._faults(plan, pairs, gone), None) is None:
            return None
        return Refused(lambda: self._faults(plan, pairs, gone), "merges", REMEDY)

    def _faults(self, plan: Plan, pairs: Pairs, gone: Gone) -> Iterator[Outcome]:
        rows = _sent(plan)
        while some := list(islice(rows, ASKED_AT_ONCE)):
            refs = {handle: self.reference(handle) for _, handles in some for handle in handles}
            merged, erased = gone(sorted(set(refs.values())))
            for operation, (destination, source) in some:
                reason = pairs.fault(hash(source), hash(destination))
                why = ""
                if reason is None and refs[destination] in merged:
                    reason, why = Reason.MERGE_CHAIN, "; the destination was merged into somebody by an earlier run"
                elif reason is None and not erased.isdisjoint((refs[source], refs[destination])):
                    reason = Reason.MERGE_OF_ERASED
                if reason is not None:
                    yield Outcome(
                        operation.key,
                        operation.kind,
                        Fate.REJECTED,
                        reason,
                        _told((destination, source)) + why,
                        names=people((destination, source)),
                    )


def _sent(plan: Plan) -> Iterator[tuple[Operation, tuple[Handle, Handle]]]:
    """Yield the pairs that are to be sent: destination and source."""
    for _, operation in plan.present():
        if operation.call is not None:
            destination, source, *_ = operation.handles
            yield operation, (destination, source)


def _settled(entry: Entry) -> Entry:
    """Return what is remembered of a pair in doubt once it is known that it was merged."""
    return Entry(undoubted(entry.fingerprint), entry.ref)


def _told(handles: Sequence[Handle]) -> str:
    """Say who is to be merged into whom; an outcome masks the names."""
    (kind_of_destination, destination), (kind_of_source, source) = handles
    return f"{kind_of_source} {source} into {kind_of_destination} {destination}".replace("user_id", "user ID")


def _tail(array_merge: Mapping[str, str | None]) -> bytes:
    if not array_merge:
        return b""
    merges = [
        {"field": name} if member is None else {"field": name, "dedupeBy": member}
        for name, member in array_merge.items()
    ]
    return b',"arrayMerge":' + encode(merges)
