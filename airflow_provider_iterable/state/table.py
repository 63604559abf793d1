"""A table that remembers, through any Airflow SQL hook; knows SQL, not what the entries are about.

Writes are this module's own statements: a hook's ``insert_rows`` and ``run`` log their parameters, and parameters
are people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args

import msgspec
import tenacity

from airflow_provider_iterable.engine.doubt import lines_of
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.vocabulary import NO_INTENTS, Entry, Intents, Pair, Patch, Row
from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError, StateUnavailable
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.dialects import DIALECTS, UNFIT, Dialect
from airflow_provider_iterable.state.layout import Layout, establish
from airflow_provider_iterable.state.lease import CREATE as _CREATE_LEASE
from airflow_provider_iterable.state.lease import MIN_SECONDS, Lease
from airflow_provider_iterable.state.memory import pair_with, tombstone
from airflow_provider_iterable.state.partitions import Partitions, grouped
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project
from airflow_provider_iterable.state.scope import MAPPING_CHANGED, Header, Scope, same_destination

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

log = logger(__name__)

T = TypeVar("T")
Compare = Literal["auto", "database", "worker"]
Auditing = bool | Literal["failures"]
COMMIT_PATIENCE = 30.0
"""Seconds for which a failed commit is tried again."""
AUDIT = ("runs", "changelog", "snapshot", "requests")
MAX_SYNC_ID = 250
"""Longest ``sync_id`` in characters; with the longest key it still fits an index."""

STATE = Layout(
    "state",
    {
        "state": "CREATE TABLE IF NOT EXISTS {state} (sync_id VARCHAR(250) NOT NULL, record_key VARCHAR(500) NOT NULL, "
        "fingerprint VARCHAR(64) NOT NULL, ref {text} NOT NULL, PRIMARY KEY (sync_id, record_key))",
        "header": "CREATE TABLE IF NOT EXISTS {header} (sync_id VARCHAR(250) NOT NULL PRIMARY KEY, "
        "destination {text} NOT NULL, mapping VARCHAR(64) NOT NULL, notes {text} NOT NULL)",
        "intents": "CREATE TABLE IF NOT EXISTS {intents} (sync_id VARCHAR(250) NOT NULL, number INTEGER NOT NULL, "
        "part INTEGER NOT NULL, doubts {text} NOT NULL, PRIMARY KEY (sync_id, number, part))",
        "lease": _CREATE_LEASE,
    },
    # Version 2 has intents, of which version 1 would not know what a killed run left in doubt.
    steps=((),),
)


class Miscounted(Exception):
    """The database changed another number of rows than were written."""


@dataclass(frozen=True)
class TableState:
    """State in tables of an Airflow SQL connection, committed batch by batch; the recommended store.

    Runs on Postgres, MySQL, MariaDB, SQLite and DuckDB, and was tried on no real Snowflake, Databricks or Redshift. The
    tables (``sync_state``, ``sync_header``, ``sync_intents``, ``sync_lease``) and the schema are created when missing;
    without a schema their names begin with ``iterable_``. A sync is one run's at a time.

    :param conn_id: the connection; by default the model's own
    :param schema: the schema of the tables; ``None``: the connection's default
    :param compare: ``"auto"`` lets the database compare where the tables are on the model's own connection and it can,
        so that only rows with news leave it; ``"database"`` fails where it cannot; ``"worker"`` never asks it
    :param audit: what is written beside the state: ``"failures"`` runs, requests, and rows that were not accepted;
        ``True`` every row that makes a call, which is a row for each of the model in a first run; ``False`` nothing
    :param audit_retention_days: days for which it is kept; ``None``: for ever
    :param audit_fields: whether rows are written with what was sent, which is about people
    :param lease_seconds: how long a run that was lost keeps other runs of the sync out; it is renewed while a run lives
    """

    conn_id: str | None = None
    schema: str | None = None
    compare: Compare = "auto"
    audit: Auditing = "failures"
    audit_retention_days: int | None = 30
    audit_fields: bool = False
    lease_seconds: float = 300.0

    def open(self, scope: Scope) -> TableSession:
        """Open the tables, creating them when missing.

        :raises LeaseHeld: another run of the sync is under way
        :raises StateUnavailable: the database is not there, or refuses
        :raises DestinationChanged: the state belongs to another destination
        :raises ConfigurationError: the database is none that is supported, or the schema's name is none
        """
        if scope.hook is None:
            raise ConfigurationError("TableState needs a SQL connection")
        if self.compare not in get_args(Compare):
            raise ConfigurationError(f'compare must be "auto", "database" or "worker", not {self.compare!r}')
        if self.audit not in (True, False, "failures"):
            raise ConfigurationError(f'audit must be True, False or "failures", not {self.audit!r}')
        if self.audit_retention_days is not None and self.audit_retention_days < 1:
            raise ConfigurationError(f"audit_retention_days must be at least 1, not {self.audit_retention_days}")
        if self.lease_seconds < MIN_SECONDS:
            raise ConfigurationError(f"lease_seconds must be at least {MIN_SECONDS:.0f}, not {self.lease_seconds}")
        from airflow_provider_iterable.state.warehouse import WarehouseSession  # it builds on this module

        return WarehouseSession(self, scope, scope.hook(self.conn_id))


class Tables:
    """A connection to the state tables: transactions, one at a time; used from one thread."""

    def __init__(self, store: TableState, hook: DbApiHook, patience: float = COMMIT_PATIENCE) -> None:
        self._hook, self._patience = hook, patience
        hook.log_sql = False
        kind = hook.conn_type
        if kind not in DIALECTS:
            name, why = UNFIT.get(kind, ("", ""))
            raise ConfigurationError(
                f"TableState runs on {', '.join(sorted(DIALECTS))}; the connection is of type {kind!r}"
                f"{f', and {name} cannot keep the state: {why}' if name else ''}. Name another connection for the "
                "state with TableState(conn_id=...)."
            )
        self.kind = kind
        self._dialect = DIALECTS[kind]
        self._names = _names(store.schema, self._dialect)
        self.schema = store.schema
        self.reached = False
        """Whether the database has let anybody in."""
        self._placeholder = self._dialect.placeholder or hook.placeholder
        self._connection: Any = None
        self._cursor: Any = None

    def close(self) -> None:
        """Close the connection, broken or not: what was committed is committed."""
        connection, self._connection, self._cursor = self._connection, None, None
        _close_quietly(connection)

    def transact(self, work: Callable[[], T], patiently: bool = False) -> T:
        """Do the work in one transaction; patiently: again for 30 s when it fails."""
        return self._patiently(work) if patiently else self._transact(work)

    def find(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a query in the transaction; a list, as the last parameter, is what ``{keys}`` stands for."""
        if not parameters or not isinstance(parameters[-1], list):
            return self._fetch(self._sql(statement), parameters)
        return [
            row
            for some in pieces(parameters[-1], self._dialect.most)
            for row in self._fetch(*self._about(statement, *parameters[:-1], some))
        ]

    def change(self, statement: str, parameters: tuple[Any, ...] = ()) -> int:
        """Run a statement in the transaction, and return how many rows it changed; -1 for what changes none."""
        self._execute(*self._about(statement, *parameters))
        count = int(self._cursor.rowcount)
        if count < 0 and self._cursor.description:  # so some versions of DuckDB tell it
            ((count,),) = self._cursor.fetchall()
        return int(count)

    def execute(self, statement: str) -> None:
        """Run a statement in the transaction whose outcome is of no interest."""
        self._execute(self._sql(statement))

    def written(self, statement: str) -> str:
        """Return a statement as the database is told it."""
        return self._sql(statement)

    def columns(self, table: str) -> set[str]:
        """Return the names of a table's columns, in the transaction."""
        self.find(f"SELECT * FROM {{{table}}} WHERE 1 = 0")
        return {str(column[0]).lower() for column in self._cursor.description}

    def _patiently(self, work: Callable[[], T], waiting: Callable[[], None] = lambda: None) -> T:
        """Do the work in one transaction, again for 30 s when it fails; before each wait, say so."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._patience),
            wait=tenacity.wait_exponential(0.2, max=5.0),
            retry=tenacity.retry_if_not_exception_type(IterableSyncError),
            before_sleep=lambda state: waiting(),
            reraise=True,
        )
        result: T = retrying(self._transact, work)
        return result

    def _transact(self, work: Callable[[], T]) -> T:
        """Do the work in one transaction; a connection that failed is not used again."""
        try:
            if self._connection is None:
                # A hook of its own: some hand out the connection that they opened first, closed or not.
                self._connection = copy(self._hook).get_conn()
                self._cursor = self._dialect.cursor(self._connection)
                self.reached = True
            if self._dialect.begins:
                self._cursor.execute("BEGIN TRANSACTION")
            result = work()
            if self._dialect.begins:
                self._cursor.execute("COMMIT")
            else:
                self._connection.commit()
        except BaseException:
            connection, self._connection, self._cursor = self._connection, None, None
            _close_quietly(connection)
            raise
        return result

    def _execute(self, statement: str, parameters: tuple[Any, ...] = ()) -> None:
        if parameters:
            self._cursor.execute(statement, parameters)
        else:
            self._cursor.execute(statement)

    def _fetch(self, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        self._execute(statement, parameters)
        return list(self._cursor.fetchall())

    def _sql(self, statement: str, keys: str = "") -> str:
        p, dialect = self._placeholder, self._dialect
        statement = statement.replace("<time>", dialect.time)
        rows = dialect.rows(("k", "f", "r")).format(p=p)
        doubts = dialect.rows(("k", "d", "r", "f")).format(p=p)
        return statement.format(p=p, rows=rows, doubts=doubts, keys=keys, text=dialect.text, **self._names)

    def _about(self, statement: str, *parameters: Any) -> tuple[str, tuple[Any, ...]]:
        """Return a statement and its parameters; a list, as the last one, is what ``{keys}`` stands for."""
        if not parameters or not isinstance(parameters[-1], list):
            return self._sql(statement), parameters
        *others, keys = parameters
        if self._dialect.keys:
            return self._sql(statement, self._dialect.keys.format(p=self._placeholder)), (*others, encode(keys))
        return self._sql(statement, ", ".join([self._placeholder] * len(keys)) or "NULL"), (*others, *keys)

    def _replace(
        self,
        table: str,
        values: Mapping[str, str],
        key: Sequence[str],
        parameters: tuple[Any, ...],
        source: str = "",
        rows: int = 1,
    ) -> None:
        """Store rows in place of those with the same key.

        :param rows: how many the source has
        :raises Miscounted: the database stored another number, where it can be trusted to count
        """
        dialect, name = self._dialect, f"{{{table}}}"
        if dialect.clears is not None:
            bound = sum("{p}" in values[column] for column in key)
            given = parameters[-1:] if source else ()
            self._execute(self._sql(dialect.clears(name, values, key, source)), (*parameters[:bound], *given))
        self._counted(dialect.upsert(name, values, key, source), parameters, rows)

    def _counted(self, statement: str, parameters: tuple[Any, ...], rows: int) -> None:
        """Run a statement that changes so many rows.

        :raises Miscounted: it did not, where the database can be trusted to count
        """
        count = self.change(statement, parameters)
        if self._dialect.counts and count != rows:
            raise Miscounted


class TableSession(Tables):
    """The state tables, opened for one run, which has the lease of its sync."""

    layouts: ClassVar[tuple[Layout, ...]] = (STATE,)
    """The tables that it needs."""

    def __init__(self, store: TableState, scope: Scope, hook: DbApiHook, patience: float = COMMIT_PATIENCE) -> None:
        super().__init__(store, hook, patience)
        self._scope = scope
        self.remembered = 0
        self.commit_batches = self._dialect.batches
        """Batches that are committed together unless the operator says otherwise."""
        self.resend_reason: str | None = None
        self.notes: dict[str, str] = {}
        self._new = False
        """Whether the header is still to be written, with the first entries."""
        self._moved = False
        """Whether the header is about another destination or project, until the state is taken to the run's."""
        self._announced: dict[int, list[tuple[str, int]]] = {}
        """What was announced and is not settled, as it is in the database."""
        self._lapsed: list[str] = []
        """Tombstones of people who have left the model."""
        longest = max(map(scope.part.state_id, scope.part.names), key=len) if scope.part else scope.sync_id
        if len(longest) > MAX_SYNC_ID:
            raise ConfigurationError(
                f"The sync_id {longest!r} has {len(longest)} characters; a state table holds {MAX_SYNC_ID}. Set a "
                "shorter sync_id."
            )
        # A hook of its own: some keep the connection that they opened last.
        self.lease = Lease(self, Tables(store, copy(hook)), scope.sync_id, scope.holder, store.lease_seconds)
        self._partitions = Partitions(
            self,
            scope,
            lambda sync_id, seconds: Lease(
                self, Tables(store, copy(hook)), sync_id, scope.holder, min(seconds, store.lease_seconds)
            ),
            self._store,
        )
        try:
            self._prepare()
            self._partitions.join(self.lease)
            self._read_header()
            self.settle_intents(scope.sync_id)
        except BaseException:
            self.close()
            raise

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Pair rows with what is remembered; what another partition of the sync remembers, too, has not left."""
        return self._partitions.pairs(sync, lambda: self._pair(sync, chunks))

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
        known, erased = self._read(self._load)
        self.remembered = len(known)
        pairs = pair_with(known, sync, chunks, erased)
        return self._lapsing(pairs, erased) if erased and not sync.keeps_leavers else pairs

    def _load(self) -> tuple[dict[bytes, bytes], dict[str, int]]:
        """Return the fingerprints by key, and the tombstones, of which no row was met yet."""
        known: dict[bytes, bytes] = {}
        erased: dict[str, int] = {}
        query = self._sql("SELECT record_key, fingerprint FROM {state} WHERE sync_id = {p}")
        for entries in _Stored(self._hook, query, (self._scope.sync_id,)).chunks():
            keys, fingerprints = zip(*entries, strict=True)
            known.update(zip(map(str.encode, keys), map(bytes.fromhex, fingerprints), strict=True))
            if "" in fingerprints:
                erased.update((key, 0) for key, fingerprint in entries if not fingerprint)
        for key in erased:
            del known[key.encode()]
        return known, erased

    def _read(self, work: Callable[[], T]) -> T:
        """Read, again for 30 s when it fails.

        :raises StateUnavailable: it could not be read
        """
        try:
            return self._patiently(work)
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The state of sync {self._scope.sync_id!r} could not be read for {self._patience:.0f} s "
                f"({type(error).__name__}). No row was sent, and every entry is as it was. The next try begins anew."
            ) from None

    def _lapsing(self, pairs: Iterator[Pair], erased: Mapping[str, int]) -> Iterator[Pair]:
        """Draw the pairs, and see from them which tombstones have no row any more: they go when the run ends well."""
        yield from pairs
        self._lapsed = [key for key, rows in erased.items() if not rows]

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys.

        :raises StateUnavailable: they could not be read
        """
        found = self._read(lambda: self.entries(self._scope.sync_id, keys))
        return {key: Entry(bytes.fromhex(fingerprint), ref) for key, fingerprint, ref in found}

    def entries(self, sync_id: str, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return keys, fingerprints and references that are remembered of some keys, in the transaction."""
        query = "SELECT record_key, fingerprint, ref FROM {state} WHERE sync_id = {p} AND record_key IN ({keys})"
        return self.find(query, (sync_id, list(keys)))

    def take_over(self, sync_id: str, keys: list[str]) -> None:
        """Move entries of another ``sync_id`` here, in the transaction; an entry that is here already stays."""
        here = {key for key, _, _ in self.entries(self._scope.sync_id, keys)}
        there = [(key, fingerprint, ref) for key, fingerprint, ref in self.entries(sync_id, keys)]
        moved = [entry for entry in there if entry[0] not in here]
        if moved:
            self._put(self._scope.sync_id, moved)
        self.drop_known(sync_id, [key for key, _, _ in there])

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents, all or nothing; a failure is tried again for 30 s.

        :raises StateUnavailable: it could not be stored; what it held was accepted by Iterable and goes again
        :raises LeaseLost: another run has the sync, and nothing is stored
        """
        kept = [(key, entry.fingerprint.hex(), entry.ref) for key, entry in patch.items() if entry is not None]
        dropped = [key for key, entry in patch.items() if entry is None] if len(kept) < len(patch) else []
        begun = {number: list(encoded(doubts, self._dialect.most)) for number, doubts in intents.begun.items()}
        sync_id, announced = self._scope.sync_id, self._announced

        def write() -> None:
            if self._new:
                self._write_header()
            if kept:
                self._put(sync_id, kept)
            if dropped:
                self.drop(sync_id, dropped)
            for number in intents.accepted:
                self._put_announced(sync_id, announced[number])
            if begun or intents.ended:
                self._write_intents(begun, intents.ended)
            self._write_along()

        try:
            self._store(write)
            self._new = False
            for number in intents.ended:
                announced.pop(number, None)
            announced.update(begun)
        except IterableSyncError:
            raise
        except Exception as error:
            rows = len(patch) + sum(map(len, intents.accepted.values()))
            raise StateUnavailable(
                f"The state of sync {sync_id!r} could not be written for {self._patience:.0f} s "
                f"({type(error).__name__}). {rows} rows that Iterable accepted are not remembered; they and "
                "the batches in flight go again with the next try."
            ) from None

    def _put_announced(self, sync_id: str, texts: Iterable[tuple[str, int]]) -> None:
        """Remember what was announced with its receipts: by the text that is in the database already."""
        values = {"sync_id": "{p}", "record_key": "k", "fingerprint": "f", "ref": "r"}
        for text, rows in texts:
            self._replace("state", values, ("sync_id", "record_key"), (sync_id, text), "{doubts}", rows)

    def _write_intents(self, begun: Mapping[int, Iterable[tuple[str, int]]], ended: Iterable[int]) -> None:
        """Store the requests that are announced in place of those that are settled."""
        sync_id = self._scope.sync_id
        numbers = [*ended, *begun]  # a commit that is tried again may have stored what it announces
        numbered = ", ".join([self._placeholder] * len(numbers))
        gone = self._sql(f"DELETE FROM {{intents}} WHERE sync_id = {{p}} AND number IN ({numbered})")
        self._execute(gone, (sync_id, *numbers))
        statement = "INSERT INTO {intents} (sync_id, number, part, doubts) VALUES ({p}, {p}, {p}, {p})"
        for number, texts in begun.items():
            for part, (text, _) in enumerate(texts):
                self._counted(statement, (sync_id, number, part, text), 1)

    def settle_intents(self, sync_id: str) -> None:
        """Take what an earlier run announced and did not settle for entries in doubt: it was killed.

        :raises StateUnavailable: it could not be read or stored
        """
        query = self._sql("SELECT doubts FROM {intents} WHERE sync_id = {p} ORDER BY number, part")
        found = self._read(lambda: self._fetch(query, (sync_id,)))
        if not found:
            return
        doubts = {line[0]: line for (text,) in found for line in lines_of(json.loads(text))}
        keys = list(doubts)

        def write() -> None:
            erased = {key for key, _, _ in self.entries(sync_id, list(map(tombstone, keys)))}
            self._put(sync_id, [doubts[key] for key in keys if tombstone(key) not in erased])
            self.change("DELETE FROM {intents} WHERE sync_id = {p}", (sync_id,))

        try:
            self._store(write)
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"What was being sent when a run of sync {sync_id!r} was killed could not be written for "
                f"{self._patience:.0f} s ({type(error).__name__}). Nothing was read or sent. The next try begins anew."
            ) from None
        log.info(
            "Sync %s: %d rows were being sent when an earlier run was killed. Iterable may have them or not: they are "
            "in doubt, and go again or are removed; those that must not be sent twice count as sent.",
            sync_id,
            len(doubts),
        )

    def _put(self, sync_id: str, entries: list[tuple[str, str, str]]) -> None:
        values = {"sync_id": "{p}", "record_key": "k", "fingerprint": "f", "ref": "r"}
        for text, rows in encoded(entries, self._dialect.most):
            self._replace("state", values, ("sync_id", "record_key"), (sync_id, text), "{rows}", rows)

    def drop(self, sync_id: str, keys: list[str]) -> int:
        """Forget some keys, in the transaction; return how many there were, or something negative."""
        statement = "DELETE FROM {state} WHERE sync_id = {p} AND record_key IN ({keys})"
        return sum(self.change(statement, (sync_id, some)) for some in pieces(keys, self._dialect.most))

    def drop_known(self, sync_id: str, keys: list[str]) -> None:
        """Forget keys that were found in this transaction.

        :raises TimeoutError: they are not there any more, so that all of it is to be tried again
        """
        if 0 <= self.drop(sync_id, keys) < len(keys):
            raise TimeoutError("Entries were erased or moved at this very moment.")

    def _store(self, write: Callable[[], Any]) -> None:
        """Write patiently, in a transaction that renews the lease before anything else."""
        with self.lease.written() as renew:

            def work() -> None:
                renew()
                write()

            self._patiently(work, self.lease.hold)

    def close(self) -> None:
        """Let the lease go, and close the connection."""
        self.lease.release()
        super().close()

    def _write_along(self) -> None:
        """Write what else belongs to the transaction of a commit: nothing here."""

    def note(self, name: str, value: str) -> None:
        """Store a note at once; a failure is tried again for 30 s.

        :raises StateUnavailable: it could not be stored
        """
        if self._moved:  # what is noted is about the new destination, and what is remembered about the former one
            self.void(name, value)
            return
        self.notes[name] = value
        try:
            self._store(self._write_header if self._new else self._write_notes)
            self._new = False
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The note {name!r} of sync {self._scope.sync_id!r} could not be written for {self._patience:.0f} s "
                f"({type(error).__name__}). Every entry is as it was."
            ) from None

    def note_along(self, name: str, value: str) -> None:
        """Store a note at once where the state is the run's already, otherwise with the header.

        :raises StateUnavailable: it could not be stored
        """
        self.notes[name] = value
        if not self._new and not self._moved:
            self.note(name, value)

    def move(self) -> None:
        """Have the header be about another project, once it is written: its notes are left behind."""
        self.notes, self._moved = {}, True

    def void(self, name: str, value: str) -> None:
        """Void every entry's fingerprint, take the header to the run's destination and store a note.

        :raises StateUnavailable: it could not be stored
        """
        self.notes[name] = value
        scope = self._scope

        def write() -> None:
            if self._new:
                self._write_header()
            else:
                self._counted(
                    "UPDATE {header} SET destination = {p}, notes = {p} WHERE sync_id = {p}",
                    (json.dumps(dict(scope.destination), sort_keys=True), json.dumps(self.notes), scope.sync_id),
                    1,
                )
            self._execute(
                self._sql("UPDATE {state} SET fingerprint = {p} WHERE sync_id = {p} AND fingerprint <> ''"),
                (VOID.hex(), scope.sync_id),
            )

        try:
            self._store(write)
            self._new = self._moved = False
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The state of sync {scope.sync_id!r} could not be written for {self._patience:.0f} s "
                f"({type(error).__name__}). Nothing was sent, and every entry is as it was."
            ) from None

    def others(self) -> Mapping[str, Header]:
        """Return the headers of the other syncs in these tables.

        :raises StateUnavailable: they could not be read
        """
        part = self._scope.part
        return {sync_id: header for sync_id, header in self._headers() if not grouped(sync_id, header.notes, part)}

    def _headers(self) -> Iterator[tuple[str, Header]]:
        query = self._sql("SELECT sync_id, destination, notes FROM {header} WHERE sync_id <> {p}")
        for sync_id, destination, notes in self._read(lambda: self._fetch(query, (self._scope.sync_id,))):
            yield sync_id, Header(json.loads(destination), json.loads(notes))

    def check(self, plan: Plan) -> None:
        """A table holds any plan."""

    def finish(self, delivered: bool) -> None:
        """Remember the mapping that was delivered.

        :raises StateUnavailable: it could not be stored; every entry is
        """
        if not delivered:
            return

        def write() -> None:
            self._write_header()
            if self._lapsed and not self._partitions.moving:
                gone = "DELETE FROM {state} WHERE sync_id = {p} AND fingerprint = '' AND record_key IN ({keys})"
                self._execute(*self._about(gone, self._scope.sync_id, self._lapsed))

        try:
            self._store(write)
            self._partitions.forget()
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The header of sync {self._scope.sync_id!r} could not be written for {self._patience:.0f} s "
                f"({type(error).__name__}). Everything was delivered and is remembered."
            ) from None

    def _prepare(self) -> None:
        """Make what is missing.

        :raises StateUnavailable: the database is not there, or refuses
        :raises ConfigurationError: see :func:`establish`
        """
        try:
            establish(self, self.layouts, f"the state of sync {self._scope.sync_id!r}", "Nothing was read or sent.")
            for seed in self._dialect.seeds:
                self._patiently(partial(self.execute, seed))
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The state of sync {self._scope.sync_id!r} could not be opened for {self._patience:.0f} s "
                f"({type(error).__name__}). Nothing was read or sent. The next try begins anew; look at the connection "
                "and what it may do, if it stays so."
            ) from None

    def _read_header(self) -> None:
        query = self._sql("SELECT destination, mapping, notes FROM {header} WHERE sync_id = {p}")
        found = self._read(lambda: self._fetch(query, (self._scope.sync_id,)))
        self._new = not found
        if not found:
            return
        destination, mapping, notes = found[0]
        self._moved = not same_destination(self._scope, json.loads(destination))
        if not self._moved:
            self.notes = json.loads(notes)
        if mapping != self._scope.mapping:
            self.resend_reason = MAPPING_CHANGED

    def _write_header(self) -> None:
        scope = self._scope
        self._replace(
            "header",
            dict.fromkeys(("sync_id", "destination", "mapping", "notes"), "{p}"),
            ("sync_id",),
            (scope.sync_id, json.dumps(dict(scope.destination), sort_keys=True), scope.mapping, json.dumps(self.notes)),
        )

    def _write_notes(self) -> None:
        """Store the notes alone: the mapping is not delivered yet."""
        self._counted(
            "UPDATE {header} SET notes = {p} WHERE sync_id = {p}", (json.dumps(self.notes), self._scope.sync_id), 1
        )


class _Stored(Model):
    """A query on the state's own tables, whose errors are the driver's."""

    def _prepare(self, connection: Any, cursor: Any) -> None:
        DIALECTS[str(self.hook.conn_type)].cursor(connection).close()

    def _wrap_error(self, error: Exception) -> Exception:
        return error


def encode(parameter: Sequence[Any]) -> str:
    """Return a list as the one JSON parameter in which it travels."""
    return msgspec.json.encode(parameter).decode()


def encoded(items: Sequence[Any], most: int) -> Iterator[tuple[str, int]]:
    """Return a list as JSON, in texts of so many characters at most, and how many items are in each."""
    text = encode(items)
    if len(text) <= most:
        if items:
            yield text, len(items)
        return
    for some in pieces(list(items), most):
        yield encode(some), len(some)


def pieces(items: list[T], most: int) -> Iterator[list[T]]:
    """Cut a list into pieces that take so many characters at most; one item is never cut."""
    if len(encode(items)) <= most:
        yield from [items] if items else []
        return
    start = size = 0
    for end, item in enumerate(items):
        size += len(encode([item]))
        if size > most and end > start:
            yield items[start:end]
            start, size = end, len(encode([item]))
    yield items[start:]


def _names(schema: str | None, dialect: Dialect) -> dict[str, str]:
    if schema is None:
        return {
            "state": "iterable_sync_state",
            "header": "iterable_sync_header",
            "intents": "iterable_sync_intents",
            "ledger": "iterable_sync_ledger",
            "lease": "iterable_sync_lease",
            "version": "iterable_sync_version",
            "index": "iterable_sync_state_ref",
            "prefix": "iterable_sync_",
            **{name: f"iterable_sync_{name}" for name in AUDIT},
        }
    if not dialect.schemas:
        raise ConfigurationError("SQLite has no schemas: leave schema out of TableState")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", schema):
        raise ConfigurationError(f"{schema!r} is not the name of a schema: letters, digits and underscores")
    quoted = f"{dialect.quote}{schema}{dialect.quote}"
    names = ("state", "header", "intents", "ledger", "lease", "version", *AUDIT)
    tables = {name: f"{quoted}.sync_{name}" for name in names}
    return {**tables, "schema": quoted, "index": "sync_state_ref", "prefix": "sync_"}


def _close_quietly(connection: Any) -> None:
    """Close a connection that has failed already; what it says about that adds nothing."""
    if connection is not None:
        with suppress(Exception):
            connection.close()
