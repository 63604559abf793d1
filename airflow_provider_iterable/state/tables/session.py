"""The state tables, opened for one run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import NO_INTENTS, Entry, Intents, Pair, Patch, Row
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.pairing import pair_some, pair_with
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project
from airflow_provider_iterable.state.scope import MAPPING_CHANGED, Scope, same_destination
from airflow_provider_iterable.state.store import Header
from airflow_provider_iterable.state.tables.claims import Claims
from airflow_provider_iterable.state.tables.connection import COMMIT_PATIENCE, Tables
from airflow_provider_iterable.state.tables.entries import (
    STATE,
    Entries,
    check_length,
    refuse_former_schema,
    refuse_other_version,
)
from airflow_provider_iterable.state.tables.intents import Announced, not_erased, settle, unsettled
from airflow_provider_iterable.state.tables.layout import Layout, are_there, establish
from airflow_provider_iterable.state.tables.lease import SECONDS, Lease
from airflow_provider_iterable.state.tables.partitions import Partitions, grouped

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook


class TableSession:
    """The state tables, opened for one run, which has the lease of its sync.

    :param scope: the run
    :param hook: the SQL hook of the tables
    :param schema: the schema of the tables; ``None``: the connection's default
    :param lease_seconds: how long the lease lasts without being renewed
    :param patience: seconds for which what fails is tried again
    """

    layouts: ClassVar[tuple[Layout, ...]] = (STATE,)
    """The tables that it needs."""

    def __init__(
        self,
        scope: Scope,
        hook: DbApiHook,
        schema: str | None = None,
        lease_seconds: float = SECONDS,
        patience: float = COMMIT_PATIENCE,
    ) -> None:
        self._scope, self.tables = scope, Tables(hook, schema, patience)
        self.remembered = 0
        self.commit_batches = self.tables.dialect.batches
        """Batches that are committed together unless the operator says otherwise."""
        self.resend_reason: str | None = None
        self.notes: dict[str, str] = {}
        self._new = False
        """Whether the header is still to be written, with the first entries."""
        self._moved = False
        """Whether the stored header is about another destination or project; false once this run's is stored."""
        self._tombstones_without_row: list[str] = []
        """Tombstones of people who have left the model."""
        check_length(scope)

        def hold(sync_id: str, seconds: float) -> Lease:
            return Lease(self.tables, self.tables.apart(), sync_id, scope.holder, min(seconds, lease_seconds))

        self.lease = hold(scope.sync_id, lease_seconds)
        self._entries = Entries(self.tables, self.lease, scope.sync_id)
        self._announced = Announced(self._entries)
        self._partitions = Partitions(self._entries, scope, hold)
        self._claims = Claims(self._entries, scope, self._partitions)
        self._none_yet = False
        """Whether the tables are not there: nothing is remembered."""
        self._unsettled: dict[str, Entry] = {}
        """What a run that was killed left in doubt, where that is only looked at."""
        try:
            if scope.reading:
                self._look()
            else:
                self._prepare()
                self._partitions.join(self.lease)
                self._read_header()
                settle(self._entries, scope.sync_id)
        except BaseException:
            self.close()
            raise

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Pair rows with entries; keys without a row that another partition also holds are left out."""
        notes = self._claims.claim(sync)
        if notes is not None:
            self.notes = dict(notes)
        return self._claims.pairs(sync, self._pair(sync, chunks))

    def alone(self) -> AbstractContextManager[None]:
        """Keep the other partitions of the sync from doing this at the same time; they wait for their turn.

        :raises LeaseHeld: waiting took too long
        """
        return self._partitions.alone()

    def siblings(self) -> Sequence[Header]:
        """Return the headers of the other partitions of the sync that are about the run's destination and project.

        :raises StateUnavailable: they could not be read
        """
        part, destination = self._scope.part, dict(self._scope.destination)
        project = Project.noted(self.notes.get(PROJECT_NOTE))

        def elsewhere(header: Header) -> bool:
            other = Project.noted(header.notes.get(PROJECT_NOTE))
            return project is not None and other is not None and project.same(other) is False

        return [
            header
            for sync_id, header in self._headers()
            if part and sync_id.startswith(f"{part.sync_id}[") and header.destination == destination
            if not elsewhere(header)
        ]

    def _pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Pair rows with fingerprints held in memory; whole entries are recalled for the few that differ."""
        known, erased = self._entries.read(self._load)
        self.remembered = len(known)
        pairs = pair_with(known, sync, chunks, erased)
        return self._noting_tombstones_without_row(pairs, erased) if erased and not sync.keeps_leavers else pairs

    def _load(self) -> tuple[dict[bytes, bytes], dict[str, int]]:
        """Return the fingerprints by key, and the tombstones with a count of 0 rows."""
        known: dict[bytes, bytes] = {}
        erased: dict[str, int] = {}
        for keys, fingerprints in self._entries.fingerprints():
            known.update(zip(map(str.encode, keys), map(bytes.fromhex, fingerprints), strict=True))
            if "" in fingerprints:
                found = zip(keys, fingerprints, strict=True)
                erased.update((key, 0) for key, fingerprint in found if not fingerprint)
        for key in erased:
            del known[key.encode()]
        return known, erased

    def _noting_tombstones_without_row(self, pairs: Iterator[Pair], erased: Mapping[str, int]) -> Iterator[Pair]:
        """Yield the pairs, then note which tombstones had no row: they are deleted when the run ends well."""
        yield from pairs
        self._tombstones_without_row = [key for key, rows in erased.items() if not rows]

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys.

        :raises StateUnavailable: they could not be read
        """
        if self._none_yet:
            return {}
        found = self._entries.read(lambda: self._entries.find(self._scope.sync_id, keys))
        entries = {key: Entry(bytes.fromhex(fingerprint), ref) for key, fingerprint, ref in found}
        return {**entries, **{key: self._unsettled[key] for key in keys if key in self._unsettled}}

    def bearing(self, refs: Sequence[str]) -> Collection[str]:
        """Return the keys that are remembered with one of some references.

        :raises StateUnavailable: they could not be read
        """
        if self._none_yet or not refs:
            return ()
        found = dict(self._entries.read(lambda: self._entries.bearers(self._scope.sync_id, refs)))
        doubted = (key for key, entry in self._unsettled.items() if entry.ref in refs)
        return {*found, *doubted}

    def partition_of(self, key: str) -> str | None:
        """Return the other partition of the sync that remembers a key; ``None``: none does.

        :raises StateUnavailable: that could not be read
        """
        part = self._scope.part
        if part is None or self._none_yet:
            return None
        for name in sorted({*part.names} - {part.name}):
            if self._entries.read(partial(self._entries.find, part.state_id(name), [key])):
                return name
        return None

    def pair_some(self, sync: Sync, model: Model, keys: Collection[str]) -> Iterator[Pair]:
        """Pair the rows of some keys with entries; of keys without a row, those that another partition also holds are
        left out."""
        pairs = self._pair_some(sync, model, keys)
        return pairs if self._none_yet else self._claims.pairs(sync, pairs)

    def _pair_some(self, sync: Sync, model: Model, keys: Collection[str]) -> Iterator[Pair]:
        return pair_some(self.recall, sync, model.chunks(), keys)

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents, all or nothing; a failure is tried again for 30 s.

        :raises StateUnavailable: it could not be stored; what it held was accepted by Iterable and goes again
        :raises LeaseLost: another run has the sync, and nothing is stored
        """
        kept = [(key, entry.fingerprint.hex(), entry.ref) for key, entry in patch.items() if entry is not None]
        dropped = [key for key, entry in patch.items() if entry is None] if len(kept) < len(patch) else []
        begun, sync_id = self._announced.encoded(intents), self._scope.sync_id

        def write() -> None:
            if self._new:
                self._write_header()
            if kept:
                self._entries.put(sync_id, kept)
            if dropped:
                self._entries.drop(sync_id, dropped)
            self._announced.write(begun, intents)
            self._write_with_commit()

        rows = len(patch) + sum(map(len, intents.accepted.values()))
        with self.tables.explaining_failure(
            f"The state of sync {sync_id!r} could not be written",
            f"{rows} rows that Iterable accepted are not remembered; they and the batches in flight go again with the "
            "next try.",
        ):
            self._entries.store(write)
            self._new = False
            self._announced.written(begun, intents)

    def close(self) -> None:
        """Release the lease, and close the connection."""
        self.lease.release()
        self.tables.close()

    def _write_with_commit(self) -> None:
        """Write more in the transaction of a commit; here, nothing."""

    def note(self, name: str, value: str) -> None:
        """Store a note at once; a failure is tried again for 30 s.

        :raises StateUnavailable: it could not be stored
        """
        if self._moved:  # the note is about the new destination, and the entries are about the former one
            self.void(name, value)
            return
        self.notes[name] = value
        # Only the notes, where there is a header: the mapping is not delivered yet.
        notes = partial(self._entries.write_notes, self._scope.sync_id, self.notes)
        with self.tables.explaining_failure(
            f"The note {name!r} of sync {self._scope.sync_id!r} could not be written", "Every entry is as it was."
        ):
            self._entries.store(self._write_header if self._new else notes)
            self._new = False

    def note_along(self, name: str, value: str) -> None:
        """Store a note at once if the state is about the run's destination already, otherwise with the header.

        :raises StateUnavailable: it could not be stored
        """
        self.notes[name] = value
        if not self._new and not self._moved:
            self.note(name, value)

    def move(self) -> None:
        """Drop the notes: the header is about another project from its next write on."""
        self.notes, self._moved = {}, True

    def void(self, name: str, value: str) -> None:
        """Void every entry's fingerprint, and store a note and the run's destination.

        :raises StateUnavailable: it could not be stored
        """
        self.notes[name] = value

        def write() -> None:
            if self._new:
                self._write_header()
            else:
                self._entries.set_destination(self._scope.destination, self.notes)
            self._entries.void()

        with self.tables.explaining_failure(
            f"The state of sync {self._scope.sync_id!r} could not be written",
            "Nothing was sent, and every entry is as it was.",
        ):
            self._entries.store(write)
            self._new = self._moved = False

    def others(self) -> Mapping[str, Header]:
        """Return the headers of the other syncs in these tables.

        :raises StateUnavailable: they could not be read
        """
        part = self._scope.part
        return {sync_id: header for sync_id, header in self._headers() if not grouped(sync_id, header.notes, part)}

    def _headers(self) -> Iterator[tuple[str, Header]]:
        if self._none_yet:
            return
        for sync_id, destination, notes in self._entries.read(self._entries.headers):
            yield sync_id, Header(json.loads(destination), json.loads(notes))

    def check(self, plan: Plan) -> None:
        """Accept any plan."""

    def finish(self, delivered: bool) -> None:
        """Remember the mapping that was delivered.

        :raises StateUnavailable: it could not be stored; every entry is
        """
        if not delivered:
            return

        def write() -> None:
            self._write_header()
            if self._tombstones_without_row and not self._partitions.moving:
                self._entries.remove_tombstones(self._tombstones_without_row)

        with self.tables.explaining_failure(
            f"The header of sync {self._scope.sync_id!r} could not be written",
            "Everything was delivered and is remembered.",
        ):
            self._entries.store(write)
            self._claims.forget()

    def _look(self) -> None:
        """Read what is there, and write nothing.

        :raises StateUnavailable: the database is not there, or refuses
        :raises PartitionsChanged: the state is of other partitions
        """
        entries, sync_id = self._entries, self._scope.sync_id
        with self.tables.explaining_failure(f"The state of sync {sync_id!r} could not be read", "Nothing was written."):
            refuse_former_schema(self.tables, sync_id)
            self._none_yet = self._new = not are_there(self.tables, (STATE,))
        if self._none_yet:
            refuse_other_version(self.tables, sync_id)
            return
        self._partitions.look()
        self._read_header()
        if doubts := unsettled(entries, sync_id):
            left = entries.read(lambda: not_erased(entries, sync_id, doubts))
            self._unsettled = {key: Entry(bytes.fromhex(fingerprint), ref) for key, fingerprint, ref in left}

    def _prepare(self) -> None:
        """Make the tables that are missing.

        :raises StateUnavailable: the database is not there, or refuses
        :raises ConfigurationError: see :func:`establish`; or the sync is remembered in another schema
        """
        tables, sync_id = self.tables, self._scope.sync_id
        with tables.explaining_failure(
            f"The state of sync {sync_id!r} could not be opened",
            "Nothing was read or sent. The next try begins anew; look at the connection and what it may do, if it "
            "stays so.",
        ):
            refuse_former_schema(tables, sync_id)
            establish(tables, self.layouts, f"the state of sync {sync_id!r}", "Nothing was read or sent.")
            for seed in tables.dialect.seeds:
                tables.patiently(partial(tables.execute, seed))

    def _read_header(self) -> None:
        header = self._entries.read(lambda: self._entries.header(self._scope.sync_id))
        self._new = header is None
        if header is None:
            return
        self._moved = not same_destination(self._scope, json.loads(header.destination))
        if not self._moved:
            self.notes = json.loads(header.notes)
        if header.mapping != self._scope.mapping:
            self.resend_reason = MAPPING_CHANGED

    def _write_header(self) -> None:
        self._entries.write_header(self._scope.destination, self._scope.mapping, self.notes)
