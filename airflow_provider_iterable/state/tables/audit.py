"""The audit tables: their columns and what is written in each of them, and the statements on them.

A field of a row below is a column: a new one is a field with its type, the version that adds it to tables that are
there, and its value in ``of``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, get_type_hints

from msgspec import Struct
from msgspec.structs import asdict, replace

from airflow_provider_iterable.api.client import CallLog
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.references import plain
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Operation, Outcome
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.tables.connection import Tables, encode, encoded, pieces
from airflow_provider_iterable.state.tables.layout import Addition, Layout, establish

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

T = TypeVar("T")
DELETED_AT_ONCE = 10_000
CREATION_PATIENCE = 2.0
"""Seconds for which making the tables is tried again: of two runs that do it at once, one may fail."""

OPERATIONS: Mapping[Kind, str] = {Kind.ADDED: "add", Kind.CHANGED: "change", Kind.REMOVED: "remove"}
STATUSES: Mapping[Fate, str] = {
    Fate.ACCEPTED: "succeeded",
    Fate.REJECTED: "failed",
    Fate.SKIPPED: "aborted",
    Fate.DEFERRED: "aborted",
}
TEXT = 200
"""Longest text that Iterable may have written, in characters."""


class Column(NamedTuple):
    """A column of an audit table, as a field of one of the rows below says it.

    :param kind: its type
    :param since: the version of the tables that has it first; a later one than 1 has no ``NOT NULL``
    """

    kind: str
    since: int = 1


Count = Annotated[int, Column("BIGINT NOT NULL")]
Counts = Mapping[str, Mapping[Kind, int]]
"""Rows of each kind that are planned, attempted, succeeded and failed."""


class Task(NamedTuple):
    """What runs a sync, as whoever starts it calls it."""

    dag_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    """-1: it is not one of several."""


UNNAMED = Task()


class RunRow(Struct, kw_only=True):
    """A row of ``sync_runs``: what there is to say of a run."""

    sync_id: Annotated[str, Column("VARCHAR(250) NOT NULL")]
    sync_run_id: Annotated[str, Column("VARCHAR(300) NOT NULL")]
    primary_key: Annotated[str, Column("{text}")]
    destination: Annotated[str, Column("{text}")]
    model_name: Annotated[str, Column("{text}")]
    error: Annotated[str | None, Column("{text}")]
    status: Annotated[str, Column("VARCHAR(20) NOT NULL")]
    started_at: Annotated[str, Column("{time} NOT NULL")]
    finished_at: Annotated[str | None, Column("{time}")]
    num_planned_add: Count
    num_planned_change: Count
    num_planned_remove: Count
    num_attempted_add: Count
    num_attempted_change: Count
    num_attempted_remove: Count
    num_succeeded_add: Count
    num_succeeded_change: Count
    num_succeeded_remove: Count
    num_failed_add: Count
    num_failed_change: Count
    num_failed_remove: Count
    dag_id: Annotated[str | None, Column("VARCHAR(250)", since=2)] = None
    task_id: Annotated[str | None, Column("VARCHAR(250)", since=2)] = None
    map_index: Annotated[int | None, Column("INTEGER", since=2)] = None

    @classmethod
    def of(
        cls,
        report: Report,
        counts: Counts,
        *,
        run_id: str,
        primary_key: Sequence[str],
        model_name: str,
        started: datetime,
        finished: datetime | None,
        status: str,
        error: str | None,
        task: Task = UNNAMED,
    ) -> RunRow:
        """Return the row of a run."""
        return cls(
            sync_id=report.name,
            sync_run_id=run_id,
            primary_key=", ".join(primary_key),
            destination=json.dumps(report.destination, sort_keys=True),
            model_name=model_name,
            error=error,
            status=status,
            started_at=time_text(started),
            finished_at=None if finished is None else time_text(finished),
            dag_id=task.dag_id,
            task_id=task.task_id,
            map_index=task.map_index,
            **{
                f"num_{what}_{OPERATIONS[kind]}": of_kind[kind]
                for what, of_kind in counts.items()
                for kind in OPERATIONS
            },
        )


class Line(Struct, array_like=True, gc=False):
    """A row of ``sync_changelog`` and ``sync_snapshot``, but for what all rows of a run share.

    Its key is as the state has it, by which it is found; all else about it is masked.
    """

    row_id: Annotated[str, Column("VARCHAR(500) NOT NULL")]
    op_type: Annotated[Kind, Column("VARCHAR(20) NOT NULL")]
    status: Annotated[str, Column("VARCHAR(20) NOT NULL")]
    failure_reason: Annotated[str | None, Column("{text}")] = None
    failure_detail: Annotated[str | None, Column("{text}")] = None
    fields: Annotated[str | None, Column("{text}")] = None
    person: Annotated[str | None, Column("VARCHAR(64)")] = None
    """Whom the row is about, as the state says it; only a digest of it is written."""

    @classmethod
    def accepted(cls, operation: Operation) -> Line:
        """Return the row of an operation that was accepted, and of which nothing else is to be said."""
        return cls(operation.key, operation.kind, STATUSES[Fate.ACCEPTED], person=_person(operation))

    @classmethod
    def of(cls, outcome: Outcome, kind: Kind, *, anonymous: bool, fields: bool) -> Line:
        """Return the row of an outcome.

        :param kind: added, changed or removed, also where the row could not be mapped
        :param anonymous: whether nothing is kept about whom it is about
        :param fields: whether what was sent is written
        """
        operation, reason = outcome.operation, outcome.reason
        line = cls(
            tombstone(outcome.key) if reason is Reason.ERASED_PERSON else outcome.key,
            kind,
            STATUSES[outcome.fate],
            failure_reason=None if reason is None else f"{reason}: {reason.sentence}",
            failure_detail=outcome.detail or None,
        )
        if operation is not None and not anonymous:
            line.person = _person(operation)
            line.fields = operation.body.decode() if fields and operation.body else None
        return line


class RequestRow(Struct, array_like=True):
    """A row of ``sync_requests``, but for the run."""

    method: Annotated[str, Column("VARCHAR(10) NOT NULL")]
    path_template: Annotated[str, Column("VARCHAR(200) NOT NULL")]
    status: Annotated[int, Column("INTEGER NOT NULL")]
    code: Annotated[str | None, Column("VARCHAR(200)")]
    num_rows: Annotated[int, Column("INTEGER NOT NULL")]
    num_bytes: Annotated[int, Column("BIGINT NOT NULL")]
    milliseconds: Annotated[float, Column("DOUBLE PRECISION NOT NULL")]
    request_id: Annotated[str | None, Column("VARCHAR(200)")]
    recorded_at: Annotated[str, Column("{time} NOT NULL")]

    @classmethod
    def of(cls, call: CallLog, moment: datetime) -> RequestRow:
        """Return the row of a request."""
        return cls(
            method=call.method,
            path_template=call.template,
            status=call.status,
            code=call.code[:TEXT] or None,
            num_rows=call.rows,
            num_bytes=call.sent,
            milliseconds=round(call.milliseconds, 3),
            request_id=call.request_id[:TEXT] or None,
            recorded_at=time_text(moment),
        )


def time_text(moment: datetime) -> str:
    """Return a time as text; without a zone, as some databases would take the text to be local."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _person(operation: Operation) -> str | None:
    if not operation.handles or operation.handles[0][0] not in ("email", "user_id"):
        return None
    remember = operation.remember
    if remember is not None and remember.ref:
        return plain(remember.ref)
    return encode(operation.handles[0])


def _columns(row: type[Struct]) -> dict[str, Column]:
    """Return the columns that a row's fields say."""
    return {name: hint.__metadata__[0] for name, hint in get_type_hints(row, include_extras=True).items()}


RUN_KEY = ("sync_id", "sync_run_id")
ROW_KEY = ("sync_id", "row_id")
_RUN, _LINE, _REQUEST = _columns(RunRow), _columns(Line), _columns(RequestRow)
_WHOSE = {name: _RUN[name] for name in RUN_KEY}
_ROW = {**_WHOSE, **_LINE, "recorded_at": Column("{time} NOT NULL")}
_TABLES: Mapping[str, tuple[Mapping[str, Column], Sequence[str]]] = {
    "runs": (_RUN, RUN_KEY),
    "changelog": (_ROW, ()),
    "snapshot": (_ROW, ROW_KEY),
    "requests": ({**_WHOSE, **_REQUEST}, ()),
}
"""The columns of each table, and its key."""

_INDEXES = (
    ("{prefix}changelog_row", "changelog", "sync_id", "row_id"),
    ("{prefix}changelog_time", "changelog", "sync_id", "recorded_at"),
    ("{prefix}requests_time", "requests", "sync_id", "recorded_at"),
)


def _layout() -> Layout:
    """Write what makes the tables, and the steps that add columns to those of earlier versions."""
    made = {}
    for table, (columns, key) in _TABLES.items():
        parts = [f"{name} {column.kind}" for name, column in columns.items()]
        parts += [f"PRIMARY KEY ({', '.join(key)})"] if key else []
        made[table] = f"CREATE TABLE IF NOT EXISTS {{{table}}} ({', '.join(parts)})"
    added = [
        (column.since, Addition(table, name, column.kind))
        for table, (columns, _) in _TABLES.items()
        for name, column in columns.items()
    ]
    latest = max(since for since, _ in added)
    steps = [tuple(addition for since, addition in added if since == version) for version in range(2, latest + 1)]
    return Layout("audit", made, _INDEXES, tuple(steps))


AUDIT = _layout()
PERSON_INDEXES = (
    ("{prefix}changelog_person", "changelog", "person"),
    ("{prefix}snapshot_person", "snapshot", "person"),
)
"""Indexes by which rows about a person are found: name, table and column of each."""


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

    def run(self, row: RunRow) -> None:
        """Write what there is to say of a run, in place of what was said of it before."""
        columns = {name: self._moment(f":{name}") if name.endswith("_at") else f":{name}" for name in _RUN}
        self.transact(lambda: self.replace("runs", columns, RUN_KEY, asdict(row)))

    def newest(self, sync_id: str, key: str) -> tuple[Any, ...] | None:
        """Return what became of a row that was audited last: run, operation, status, reason, detail, moment."""
        query = (
            "SELECT sync_run_id, op_type, status, failure_reason, failure_detail, recorded_at FROM {snapshot} "
            "WHERE sync_id = :sync_id AND row_id = :row_id"
        )
        found = self.transact(lambda: self.find(query, sync_id=sync_id, row_id=key))
        return found[0] if found else None

    def keys_with(self, sync_id: str, status: str) -> set[str]:
        """Return the keys of rows whose newest audit row has a status."""
        query = "SELECT row_id FROM {snapshot} WHERE sync_id = :sync_id AND status = :status"
        return {key for (key,) in self.transact(lambda: self.find(query, sync_id=sync_id, status=status))}

    def add(
        self, sync_id: str, run_id: str, moment: datetime, lines: Sequence[Line], requests: Sequence[RequestRow]
    ) -> None:
        """Write rows and requests in one transaction, with a statement for each table."""
        source, given = self._given(_LINE)
        if self.dialect.digests:
            given["person"] = self.dialect.digests.replace("{value}", given["person"])
        else:
            lines = [replace(line, person=line.person and tombstone(line.person)) for line in lines]
        whose = {"sync_id": ":sync_id", "sync_run_id": ":run_id"}
        row = {**whose, **given, "recorded_at": self._moment(":moment")}
        values = {"sync_id": sync_id, "run_id": run_id, "moment": time_text(moment)}
        latest = {line.row_id: line for line in lines if line.row_id}
        most = self.dialect.most
        texts = list(encoded(lines, most))
        last = texts
        if len(latest) < len(lines):
            last = list(encoded(list(latest.values()), most))

        def work() -> None:
            for some, count in texts:
                self.change(_insert("changelog", row, source), count, json=some, **values)
            for some, count in last:
                self.replace("snapshot", row, ROW_KEY, {**values, "json": some}, source, count)
            if requests:
                source_of_requests, request = self._given(_REQUEST)
                for piece in pieces(list(requests), most):
                    statement = _insert("requests", {**whose, **request}, source_of_requests)
                    self.change(statement, sync_id=sync_id, run_id=run_id, json=encode(piece))

        self.transact(work)

    def _given(self, columns: Mapping[str, Column]) -> tuple[str, dict[str, str]]:
        """Return the query that reads rows from ``:json``, and the expression of each of their columns."""
        given = {}
        for name, column in columns.items():
            kind, value = column.kind.removesuffix(" NOT NULL"), f"v_{name}"
            if kind == "{time}":
                given[name] = self._moment(value)
            elif kind == "{text}" or kind.startswith("VARCHAR"):
                given[name] = value
            else:
                given[name] = self.dialect.cast.format(value=value, type=kind)
        return self.dialect.rows([f"v_{name}" for name in columns]), given

    def forget(self, sync_id: str, before: datetime, complete: bool, batches: int) -> None:
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
            delete = partial(self._delete, count, statement, sync_id=sync_id, before=time_text(before))
            for _ in range(batches):
                if self.transact(delete) < DELETED_AT_ONCE:
                    break

    def _delete(self, count: str, statement: str, **values: Any) -> int:
        """Delete rows and return how many; drivers differ about counting what is deleted."""
        ((old,),) = self.find(count, **values)
        if old:
            self.change(statement, **values)
        return int(old)


def _insert(table: str, columns: Mapping[str, str], source: str) -> str:
    return (
        f"INSERT INTO {{{table}}} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM ({source}) AS given"
    )
