"""The audit tables: what they look like in each database, and the statements on them; knows no run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_iterable.engine.vocabulary import Kind
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.state.memory import tombstone
from airflow_provider_iterable.state.table import Tables, TableState, encode

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

DELETED_AT_ONCE = 10_000
CREATION_PATIENCE = 2.0
"""Seconds for which the tables are made again: of two runs that make them at once, one may lose."""

OPERATIONS: Mapping[Kind, str] = {Kind.ADDED: "add", Kind.CHANGED: "change", Kind.REMOVED: "remove"}
COUNTS = tuple(
    f"num_{what}_{kind}" for what in ("planned", "attempted", "succeeded", "failed") for kind in OPERATIONS.values()
)


@dataclass(frozen=True)
class Form:
    """What the audit needs of one database, beside what the state does.

    :param time: the type of a time
    :param moment: makes a time of a text, ``{value}``, which is in UTC
    :param part: gives the part of a row that has a number, from 0 on
    :param source: rows of a JSON array of arrays
    :param some: a condition that ``{limit}`` rows of a table meet, of those that meet another one
    :param digests: the SHA-256 of ``w`` in hexadecimal; empty: the worker makes it
    :param limits: statements at the beginning of each transaction: nothing here is worth waiting long for
    """

    time: str
    moment: str
    part: Callable[[int], str]
    source: str
    some: str
    digests: str = ""
    limits: tuple[str, ...] = ()

    def rows(self, *names: str) -> str:
        """Return a table expression that turns a JSON array of arrays into rows of these names."""
        parts = ", ".join(f"{self.part(number)} AS {name}" for number, name in enumerate(names))
        return f"SELECT {parts} FROM {self.source}"


FORMS: Mapping[str, Form] = {
    "postgres": Form(
        time="TIMESTAMP WITH TIME ZONE",
        moment="CAST(CAST({value} AS TEXT) || '+00:00' AS TIMESTAMP WITH TIME ZONE)",
        part=lambda number: f"e->>{number}",
        source="json_array_elements({p}::json) AS t(e)",
        some="ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {where} LIMIT {limit}))",
        digests="encode(sha256(convert_to(w, 'UTF8')), 'hex')",
        limits=("SET LOCAL lock_timeout = '5s'", "SET LOCAL statement_timeout = '60s'"),
    ),
    "sqlite": Form(
        time="TIMESTAMP",
        moment="{value}",
        part=lambda number: f"json_extract(value, '$[{number}]')",
        source="json_each({p})",
        some="rowid IN (SELECT rowid FROM {table} WHERE {where} LIMIT {limit})",
    ),
    "duckdb": Form(
        time="TIMESTAMP",
        moment="CAST({value} AS TIMESTAMP)",
        part=lambda number: f"e[{number + 1}]",
        source="(SELECT unnest(from_json({p}::JSON, '[[\"VARCHAR\"]]')) AS e)",
        some="rowid IN (SELECT rowid FROM {table} WHERE {where} LIMIT {limit})",
        digests="sha256(w)",
    ),
}

_ROW = (
    "sync_id VARCHAR(250) NOT NULL, sync_run_id VARCHAR(300) NOT NULL, row_id VARCHAR(500) NOT NULL, "
    "op_type VARCHAR(20) NOT NULL, status VARCHAR(20) NOT NULL, failure_reason TEXT, failure_detail TEXT, fields TEXT, "
    "person VARCHAR(64), recorded_at <time> NOT NULL"
)
_ROW_COLUMNS = (
    "sync_id, sync_run_id, row_id, op_type, status, failure_reason, failure_detail, fields, person, recorded_at"
)
_ROW_KEY = ("sync_id", "row_id")
_CHANGELOG = f"CREATE TABLE IF NOT EXISTS {{changelog}} ({_ROW})"
_SNAPSHOT = f"CREATE TABLE IF NOT EXISTS {{snapshot}} ({_ROW}, PRIMARY KEY (sync_id, row_id))"
_RUNS = (
    "CREATE TABLE IF NOT EXISTS {runs} (sync_id VARCHAR(250) NOT NULL, sync_run_id VARCHAR(300) NOT NULL, "
    "primary_key TEXT, destination TEXT, model_name TEXT, error TEXT, status VARCHAR(20) NOT NULL, "
    "started_at <time> NOT NULL, finished_at <time>, "
    + "".join(f"{name} BIGINT NOT NULL, " for name in COUNTS)
    + "PRIMARY KEY (sync_id, sync_run_id))"
)
_RUN_COLUMNS = (
    "sync_id",
    "sync_run_id",
    "primary_key",
    "destination",
    "model_name",
    "error",
    "status",
    "started_at",
    "finished_at",
    *COUNTS,
)
_REQUESTS = (
    "CREATE TABLE IF NOT EXISTS {requests} (sync_id VARCHAR(250) NOT NULL, sync_run_id VARCHAR(300) NOT NULL, "
    "method VARCHAR(10) NOT NULL, path_template VARCHAR(200) NOT NULL, status INTEGER NOT NULL, code VARCHAR(200), "
    "num_rows INTEGER NOT NULL, num_bytes BIGINT NOT NULL, milliseconds DOUBLE PRECISION NOT NULL, "
    "request_id VARCHAR(200), recorded_at <time> NOT NULL)"
)
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS {prefix}changelog_row ON {changelog} (sync_id, row_id)",
    "CREATE INDEX IF NOT EXISTS {prefix}changelog_time ON {changelog} (sync_id, recorded_at)",
    "CREATE INDEX IF NOT EXISTS {prefix}requests_time ON {requests} (sync_id, recorded_at)",
)
_PERSONS = (
    "CREATE INDEX IF NOT EXISTS {prefix}changelog_person ON {changelog} (person)",
    "CREATE INDEX IF NOT EXISTS {prefix}snapshot_person ON {snapshot} (person)",
)

Line = tuple[str, Kind, str, str | None, str | None, str | None, str | None]
"""A row of ``sync_changelog``: its columns from ``row_id`` to ``person``."""


def person_tables(kind: str, indexes: bool) -> list[str]:
    """Return the statements that make the tables in which people may be, and what finds a person in them; none where
    there are no such tables."""
    if kind not in FORMS:
        return []
    made = [statement.replace("<time>", FORMS[kind].time) for statement in (_CHANGELOG, _SNAPSHOT)]
    return [*made, *_PERSONS] if indexes else made


class AuditTables(Tables):
    """The audit tables of one database; each transaction is tried once."""

    def __init__(self, store: TableState, hook: DbApiHook) -> None:
        super().__init__(store, hook, CREATION_PATIENCE)
        kind = str(hook.conn_type)
        if kind not in FORMS:
            raise ConfigurationError(f"there are no audit tables on a connection of type {kind!r}")
        self._form = FORMS[kind]

    def create(self) -> None:
        """Make the tables, if one is missing.

        Postgres locks a table to make an index of it, also one that is there: so they are looked for first.
        """
        names = ("runs", "changelog", "snapshot", "requests")

        def look() -> None:
            for name in names:
                self._fetch(self._sql(f"SELECT 1 FROM {{{name}}} WHERE 1 = 0"), ())

        def work() -> None:
            if self._schema:
                self._execute(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
            tables = (_RUNS, _CHANGELOG, _SNAPSHOT, _REQUESTS)
            for statement in (*tables, *(_INDEXES if self._dialect.indexes else ())):
                self._execute(self._sql(statement.replace("<time>", self._form.time)))

        try:
            self._transact(look)
        except Exception:  # whatever a driver calls it
            self._patiently(work)

    def _transact(self, work: Callable[[], Any]) -> Any:
        def limited() -> Any:
            for statement in self._form.limits:
                self._execute(statement)
            return work()

        return super()._transact(limited)

    def _moment(self, value: str = "{p}") -> str:
        return self._form.moment.replace("{value}", value)

    def lose(self, sync_id: str, run_id: str, error: str) -> None:
        """Write that earlier runs which still seem to run do not."""
        statement = self._sql(
            "UPDATE {runs} SET status = 'aborted', error = {p} "
            "WHERE sync_id = {p} AND sync_run_id <> {p} AND status = 'running'"
        )
        self._transact(lambda: self._execute(statement, (error, sync_id, run_id)))

    def run(self, *values: Any) -> None:
        """Write what there is to say of a run, in place of what was said of it before."""
        marks = [self._moment() if name.endswith("_at") else "{p}" for name in _RUN_COLUMNS]
        statement = self._sql(
            f"INSERT INTO {{runs}} ({', '.join(_RUN_COLUMNS)}) VALUES ({', '.join(marks)}) "
            "ON CONFLICT (sync_id, sync_run_id) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in _RUN_COLUMNS[2:])
        )
        self._transact(lambda: self._execute(statement, values))

    def failing(self, sync_id: str) -> set[str]:
        """Return the rows that were not accepted when they were last written about."""
        statement = self._sql("SELECT row_id FROM {snapshot} WHERE sync_id = {p} AND status <> 'succeeded'")
        found: list[tuple[str]] = self._transact(lambda: self._fetch(statement, (sync_id,)))
        return {key for (key,) in found}

    def add(
        self, sync_id: str, run_id: str, moment: str, lines: Sequence[Line], calls: Sequence[tuple[Any, ...]]
    ) -> None:
        """Write rows and requests in one transaction, with a statement for each table."""
        rows = self._form.rows("k", "o", "s", "r", "d", "f", "w")
        person = self._form.digests or "w"
        select = f"SELECT {{p}}, {{p}}, k, o, s, r, d, f, {person}, {self._moment()} FROM ({rows}) AS told WHERE TRUE"
        changelog = self._sql(f"INSERT INTO {{changelog}} ({_ROW_COLUMNS}) {select}")
        snapshot = self._sql(
            f"INSERT INTO {{snapshot}} ({_ROW_COLUMNS}) {select} ON CONFLICT (sync_id, row_id) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in _ROW_COLUMNS.split(", ") if name not in _ROW_KEY)
        )
        if not self._form.digests:
            lines = [(*line[:-1], line[-1] and tombstone(line[-1])) for line in lines]
        latest = {line[0]: line for line in lines if line[0]}
        told = encode(list(lines))
        last = told if len(latest) == len(lines) else encode(list(latest.values()))

        def work() -> None:
            if lines:
                self._execute(changelog, (sync_id, run_id, moment, told))
            if latest:
                self._execute(snapshot, (sync_id, run_id, moment, last))
            if calls:
                self._add_calls(sync_id, run_id, calls)

        self._transact(work)

    def _add_calls(self, sync_id: str, run_id: str, calls: Sequence[tuple[Any, ...]]) -> None:
        rows = self._form.rows("m", "t", "s", "c", "n", "b", "ms", "i", "z")
        statement = self._sql(
            "INSERT INTO {requests} (sync_id, sync_run_id, method, path_template, status, code, num_rows, num_bytes, "
            "milliseconds, request_id, recorded_at) SELECT {p}, {p}, m, t, CAST(s AS INTEGER), c, CAST(n AS INTEGER), "
            f"CAST(b AS BIGINT), CAST(ms AS DOUBLE PRECISION), i, {self._moment('z')} FROM ({rows}) AS told"
        )
        self._execute(statement, (sync_id, run_id, encode(list(calls))))

    def forget(self, sync_id: str, before: str, complete: bool, batches: int) -> None:
        """Delete old rows of a sync, some at a time.

        :param complete: whether the snapshot is of all rows, so that those that succeeded and are still there stay
        :param batches: most batches of each table
        """
        stale = " AND (status <> 'succeeded' OR op_type = 'removed')" if complete else ""
        for table in ("changelog", "snapshot", "requests", "runs"):
            column = "started_at" if table == "runs" else "recorded_at"
            where = f"sync_id = {{p}} AND {column} < {self._moment()}" + (stale if table == "snapshot" else "")
            some = self._form.some.format(table=f"{{{table}}}", where=where, limit=DELETED_AT_ONCE)
            statement = self._sql(f"DELETE FROM {{{table}}} WHERE {some}")
            count = self._sql(
                f"SELECT count(*) FROM (SELECT 1 FROM {{{table}}} WHERE {where} LIMIT {DELETED_AT_ONCE}) AS old"
            )
            for _ in range(batches):
                if self._transact(partial(self._delete, count, statement, (sync_id, before))) < DELETED_AT_ONCE:
                    break

    def _delete(self, count: str, statement: str, parameters: tuple[Any, ...]) -> int:
        """Delete rows and return how many; drivers differ about counting what is deleted."""
        ((old,),) = self._fetch(count, parameters)
        if old:
            self._execute(statement, parameters)
        return int(old)
