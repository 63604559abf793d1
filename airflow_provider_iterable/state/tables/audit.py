"""The audit tables: their columns, and the statements that read and write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.tables.connection import Tables, encode, encoded, pieces
from airflow_provider_iterable.state.tables.layout import Layout, establish

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

T = TypeVar("T")
DELETED_AT_ONCE = 10_000
CREATION_PATIENCE = 2.0
"""Seconds for which making the tables is tried again: of two runs that do it at once, one may fail."""

OPERATIONS: Mapping[Kind, str] = {Kind.ADDED: "add", Kind.CHANGED: "change", Kind.REMOVED: "remove"}
COUNTS = tuple(
    f"num_{what}_{kind}" for what in ("planned", "attempted", "succeeded", "failed") for kind in OPERATIONS.values()
)


_ROW = (
    "sync_id VARCHAR(250) NOT NULL, sync_run_id VARCHAR(300) NOT NULL, row_id VARCHAR(500) NOT NULL, "
    "op_type VARCHAR(20) NOT NULL, status VARCHAR(20) NOT NULL, failure_reason {text}, failure_detail {text}, "
    "fields {text}, person VARCHAR(64), recorded_at {time} NOT NULL"
)
_ROW_COLUMNS = (
    "sync_id",
    "sync_run_id",
    "row_id",
    "op_type",
    "status",
    "failure_reason",
    "failure_detail",
    "fields",
    "person",
    "recorded_at",
)
_ROW_KEY = ("sync_id", "row_id")
_CHANGELOG = "CREATE TABLE IF NOT EXISTS {changelog} (" + _ROW + ")"
_SNAPSHOT = "CREATE TABLE IF NOT EXISTS {snapshot} (" + _ROW + ", PRIMARY KEY (sync_id, row_id))"
_RUNS = (
    "CREATE TABLE IF NOT EXISTS {runs} (sync_id VARCHAR(250) NOT NULL, sync_run_id VARCHAR(300) NOT NULL, "
    "primary_key {text}, destination {text}, model_name {text}, error {text}, status VARCHAR(20) NOT NULL, "
    "started_at {time} NOT NULL, finished_at {time}, "
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
    "request_id VARCHAR(200), recorded_at {time} NOT NULL)"
)
_INDEXES = (
    ("{prefix}changelog_row", "changelog", "sync_id", "row_id"),
    ("{prefix}changelog_time", "changelog", "sync_id", "recorded_at"),
    ("{prefix}requests_time", "requests", "sync_id", "recorded_at"),
)
AUDIT = Layout(
    "audit", {"runs": _RUNS, "changelog": _CHANGELOG, "snapshot": _SNAPSHOT, "requests": _REQUESTS}, _INDEXES
)
PERSON_INDEXES = (
    ("{prefix}changelog_person", "changelog", "person"),
    ("{prefix}snapshot_person", "snapshot", "person"),
)
"""Indexes by which rows about a person are found: name, table and column of each."""

Line = tuple[str, Kind, str, str | None, str | None, str | None, str | None]
"""A row of ``sync_changelog``: its columns from ``row_id`` to ``person``."""


class AuditTables(Tables):
    """The audit tables of one database; each transaction is tried once."""

    def __init__(self, hook: DbApiHook, schema: str | None = None) -> None:
        super().__init__(hook, schema, CREATION_PATIENCE)

    def create(self) -> None:
        """Make the tables if they are missing.

        :raises ConfigurationError: see :func:`establish`
        """
        establish(self, (AUDIT,), "the audit", "The sync does without them.")

    def transact(self, work: Callable[[], T]) -> T:
        """Do the work in one transaction with short lock timeouts."""

        def limited() -> T:
            for statement in self.dialect.limits:
                self.execute(statement)
            return work()

        return super().transact(limited)

    def _moment(self, value: str) -> str:
        return self.dialect.moment.replace("{value}", value)

    def mark_aborted(self, sync_id: str, run_id: str, error: str) -> None:
        """Set the status of earlier runs that are still ``running`` to ``aborted``."""
        statement = (
            "UPDATE {runs} SET status = 'aborted', error = :error "
            "WHERE sync_id = :sync_id AND sync_run_id <> :run_id AND status = 'running'"
        )
        self.transact(lambda: self.change(statement, error=error, sync_id=sync_id, run_id=run_id))

    def run(self, *values: Any) -> None:
        """Write the row of a run, in place of an earlier one."""
        columns = {name: self._moment(f":{name}") if name.endswith("_at") else f":{name}" for name in _RUN_COLUMNS}
        named = dict(zip(_RUN_COLUMNS, values, strict=True))
        self.transact(lambda: self.replace("runs", columns, ("sync_id", "sync_run_id"), named))

    def keys_not_accepted(self, sync_id: str) -> set[str]:
        """Return the keys of rows whose newest audit row says that they were not accepted."""
        query = "SELECT row_id FROM {snapshot} WHERE sync_id = :sync_id AND status <> 'succeeded'"
        return {key for (key,) in self.transact(lambda: self.find(query, sync_id=sync_id))}

    def add(
        self, sync_id: str, run_id: str, moment: str, lines: Sequence[Line], calls: Sequence[tuple[Any, ...]]
    ) -> None:
        """Write rows and requests in one transaction, with a statement for each table."""
        rows = self.dialect.rows(("k", "o", "s", "r", "d", "f", "w"))
        parts = (":sync_id", ":run_id", *"kosrdf", self.dialect.digests or "w", self._moment(":moment"))
        whose = {"sync_id": sync_id, "run_id": run_id, "moment": moment}
        changelog = (
            f"INSERT INTO {{changelog}} ({', '.join(_ROW_COLUMNS)}) SELECT {', '.join(parts)} FROM ({rows}) AS given"
        )
        snapshot = dict(zip(_ROW_COLUMNS, parts, strict=True))
        if not self.dialect.digests:
            lines = [(*line[:-1], line[-1] and tombstone(line[-1])) for line in lines]
        latest = {line[0]: line for line in lines if line[0]}
        most = self.dialect.most
        texts = list(encoded(lines, most))
        last = texts
        if len(latest) < len(lines):
            last = list(encoded(list(latest.values()), most))

        def work() -> None:
            for some, count in texts:
                self.change(changelog, count, json=some, **whose)
            for some, count in last:
                self.replace("snapshot", snapshot, _ROW_KEY, {**whose, "json": some}, rows, count)
            if calls:
                self._add_calls(sync_id, run_id, calls)

        self.transact(work)

    def _add_calls(self, sync_id: str, run_id: str, calls: Sequence[tuple[Any, ...]]) -> None:
        rows = self.dialect.rows(("m", "t", "s", "c", "n", "b", "ms", "i", "z"))
        status, number, size, taken = (
            self.dialect.cast.format(value=value, type=kind)
            for value, kind in (("s", "INTEGER"), ("n", "INTEGER"), ("b", "BIGINT"), ("ms", "DOUBLE PRECISION"))
        )
        statement = (
            "INSERT INTO {requests} (sync_id, sync_run_id, method, path_template, status, code, num_rows, num_bytes, "
            f"milliseconds, request_id, recorded_at) SELECT :sync_id, :run_id, m, t, {status}, c, {number}, {size}, "
            f"{taken}, i, {self._moment('z')} FROM ({rows}) AS given"
        )
        for some in pieces(list(calls), self.dialect.most):
            self.change(statement, sync_id=sync_id, run_id=run_id, json=encode(some))

    def forget(self, sync_id: str, before: str, complete: bool, batches: int) -> None:
        """Delete old rows of a sync, some at a time.

        :param complete: whether the snapshot holds all rows; those that succeeded and were not removed stay
        :param batches: most deletions for each table
        """
        stale = " AND (status <> 'succeeded' OR op_type = 'removed')" if complete else ""
        for table in ("changelog", "snapshot", "requests", "runs"):
            column = "started_at" if table == "runs" else "recorded_at"
            where = f"sync_id = :sync_id AND {column} < {self._moment(':before')}"
            where += stale if table == "snapshot" else ""
            some = self.dialect.some.format(table=f"{{{table}}}", where=where, limit=DELETED_AT_ONCE)
            statement = f"DELETE FROM {{{table}}} WHERE {some}"
            count = f"SELECT count(*) FROM (SELECT 1 FROM {{{table}}} WHERE {where} LIMIT {DELETED_AT_ONCE}) AS old"
            delete = partial(self._delete, count, statement, sync_id=sync_id, before=before)
            for _ in range(batches):
                if self.transact(delete) < DELETED_AT_ONCE:
                    break

    def _delete(self, count: str, statement: str, **values: Any) -> int:
        """Delete rows and return how many; drivers differ about counting what is deleted."""
        ((old,),) = self.find(count, **values)
        if old:
            self.change(statement, **values)
        return int(old)
