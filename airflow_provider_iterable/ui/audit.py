"""What the audit tables know of a run: its rows that were not accepted, its requests, and the history of a row."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.masking import masked_key
from airflow_provider_iterable.runs.asked import candidates
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.tables.connection import Tables
from airflow_provider_iterable.ui.explained import Explained, Remembering, explained
from airflow_provider_iterable.ui.remedies import REMEDIES

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

ROWS_SHOWN = 20
"""Of each reason."""
REASONS_SHOWN = 50
REQUESTS_SHOWN = 20
HISTORY_SHOWN = 200


class Row(Struct, kw_only=True):
    """A row that was not accepted."""

    key: str
    kind: str
    detail: str
    first_seen: str
    """When a run said so of it first, as far as the tables go back."""
    new: bool
    """Whether the run before did not say so of it."""


class Reasons(Struct, kw_only=True):
    """Rows that were not accepted for the same reason."""

    reason: str
    sentence: str
    remedy: str
    status: str
    count: int
    new: int
    rows: list[Row]
    sql: str
    """The query that finds all of them, with their keys as they are."""


class Run(Struct, kw_only=True):
    """What ``sync_runs`` has of a run."""

    sync_id: str
    sync_run_id: str
    status: str
    error: str
    model: str
    primary_key: str
    started_at: str
    finished_at: str


class Calls(Struct, kw_only=True):
    """Requests to one endpoint with one status."""

    endpoint: str
    status: int
    code: str
    requests: int
    rows: int
    average: float
    slowest: float


class Call(Struct, kw_only=True):
    """One request."""

    endpoint: str
    status: int
    code: str
    rows: int
    bytes: int
    milliseconds: float
    request_id: str
    recorded_at: str


class Event(Struct, kw_only=True):
    """What one run did with a row."""

    sync_run_id: str
    kind: str
    status: str
    reason: str
    detail: str
    recorded_at: str


class Last(Struct, kw_only=True):
    """What became of a row when it was last written down, and what to do about it."""

    sync_run_id: str
    kind: str
    status: str
    reason: str
    sentence: str
    detail: str
    remedy: str
    recorded_at: str


class Found(Struct, kw_only=True):
    """All that is known of a row."""

    key: str
    explained: Explained
    last: Last | None
    events: list[Event]


class AuditReader:
    """Reads the audit tables of one sync; makes and changes nothing.

    :param hook: the SQL hook of the state's connection
    :param schema: the schema of the tables; ``None``: the connection's default
    :param sync_id: the sync, or the partition of one
    :param report: of a run of the sync
    """

    def __init__(self, hook: DbApiHook, schema: str | None, sync_id: str, report: Mapping[str, Any]) -> None:
        self._tables = Tables(hook, schema, patience=0)
        self._sync_id, self._report, state = sync_id, report, report.get("state") or {}
        self._identifying: Collection[int] | None = state.get("identifying")
        """Which parts of a key are identifiers of people; ``None``: all, for nobody knows."""
        self.audited = bool(state.get("audit"))
        """Whether there are audit tables."""

    def close(self) -> None:
        """Close the connection."""
        self._tables.close()

    def run(self, run_id: str) -> Run | None:
        """Return a run; ``None``: there is no trace of it."""
        found = self._find(
            "SELECT sync_run_id, status, error, model_name, primary_key, started_at, finished_at FROM {runs} "
            "WHERE sync_id = :sync_id AND sync_run_id = :run_id",
            run_id=run_id,
        )
        return self._run(found[0]) if found else None

    def before(self, run: Run) -> Run | None:
        """Return the run before this one, or the try before it."""
        found = self._find(
            "SELECT sync_run_id, status, error, model_name, primary_key, started_at, finished_at FROM {runs} "
            f"WHERE sync_id = :sync_id AND started_at < {self._moment(':started')} ORDER BY started_at DESC LIMIT 1",
            started=run.started_at,
        )
        return self._run(found[0]) if found else None

    def reasons(self, run: Run) -> list[Reasons]:
        """Return the rows of a run that were not accepted, by reason; those of which there are most first."""
        last = self.before(run)
        keys = "SELECT row_id FROM {changelog} WHERE " + self._during("last", last) if last else ""
        new = f"CASE WHEN row_id IN ({keys} AND status <> 'succeeded') THEN 0 ELSE 1 END" if last else "1"
        values = {**self._values("run", run), **(self._values("last", last) if last else {})}
        own = self._during("run", run)
        counted = self._find(
            f"SELECT failure_reason, status, count(*), sum({new}) FROM {{changelog}} WHERE {own} "
            "AND status <> 'succeeded' GROUP BY failure_reason, status ORDER BY count(*) DESC, failure_reason "
            f"LIMIT {REASONS_SHOWN}",
            **values,
        )
        found = []
        for text, status, count, fresh in counted:
            rows = self._find(
                f"SELECT DISTINCT row_id, op_type, failure_detail, {new} AS is_new FROM {{changelog}} WHERE {own} "
                f"AND status = :status AND coalesce(failure_reason, '') = :reason ORDER BY is_new DESC, row_id "
                f"LIMIT {ROWS_SHOWN}",
                status=status,
                reason=text or "",
                **values,
            )
            since = self._first_seen([str(row[0]) for row in rows], text or "")
            name, _, sentence = (text or "").partition(": ")
            found.append(
                Reasons(
                    reason=name, sentence=sentence, remedy=REMEDIES.get(_reason(name), ""), status=status,
                    count=int(count), new=int(fresh or 0), sql=self._sql(run, status, name),
                    rows=[
                        Row(
                            key=self._masked(str(key)), kind=kind, detail=detail or "",
                            first_seen=since.get(str(key), ""), new=bool(is_new),
                        )
                        for key, kind, detail, is_new in rows
                    ],
                )
            )  # fmt: skip
        return found

    def _sql(self, run: Run, status: str, reason: str) -> str:
        def text(value: str) -> str:
            return "'" + value.replace("'", "''") + "'"

        return self._tables.written("SELECT row_id, op_type, failure_detail, recorded_at\nFROM {changelog}\n") + (
            f"WHERE sync_id = {text(self._sync_id)} AND sync_run_id = {text(run.sync_run_id)}\n"
            f"  AND status = {text(status)} AND failure_reason LIKE {text(f'{reason}: %')};"
        )

    def requests(self, run: Run) -> tuple[list[Calls], list[Call]]:
        """Return the requests of a run, by endpoint and status, and the slowest of them."""
        where, values = self._during("run", run), self._values("run", run)
        grouped = self._find(
            "SELECT method, path_template, status, code, count(*), sum(num_rows), avg(milliseconds), max(milliseconds) "
            f"FROM {{requests}} WHERE {where} GROUP BY method, path_template, status, code "
            f"ORDER BY count(*) DESC, status LIMIT {REASONS_SHOWN}",
            **values,
        )
        slowest = self._find(
            "SELECT method, path_template, status, code, num_rows, num_bytes, milliseconds, request_id, recorded_at "
            f"FROM {{requests}} WHERE {where} ORDER BY milliseconds DESC LIMIT {REQUESTS_SHOWN}",
            **values,
        )
        calls = [
            Calls(
                endpoint=f"{method} {path}", status=status, code=code or "", requests=int(count), rows=int(rows or 0),
                average=round(float(average), 1), slowest=round(float(most), 1),
            )
            for method, path, status, code, count, rows, average, most in grouped
        ]  # fmt: skip
        single = [
            Call(
                endpoint=f"{method} {path}", status=status, code=code or "", rows=rows, bytes=size,
                milliseconds=round(float(taken), 1), request_id=request or "", recorded_at=_time(moment),
            )
            for method, path, status, code, rows, size, taken, request, moment in slowest
        ]  # fmt: skip
        return calls, single

    def row(self, given: str) -> Found:
        """Return all that is known of a row.

        :param given: its key as the tables have it, such as ``[42]``, or the value of a key of one column
        """
        remembering = Remembering(self._tables, self._sync_id)
        keys = candidates(self._report.get("destination") or {}, given.strip())
        stories = {key: self._history(key) for key in keys} if self.audited else {}
        key = next((key for key in keys if remembering.recall(key) != (None, False) or stories.get(key)), keys[0])
        events = stories.get(key, [])
        last = self._last(key) if self.audited else None
        found = explained(
            remembering, self._report, key, msgspec.structs.asdict(last) if last else None, self._unwell()
        )
        return Found(key=self._masked(key), explained=found, last=last, events=events)

    def holder(self) -> str:
        """Return the run that has the sync's lease, as it calls itself; empty: none does."""
        found = self._find("SELECT label FROM {lease} WHERE sync_id = :sync_id AND expires_at > {now}")
        return str(found[0][0]) if found else ""

    def _history(self, key: str) -> list[Event]:
        """Return what became of a row in each run, the newest first; of erased people under their hash."""
        found = self._find(
            "SELECT sync_run_id, op_type, status, failure_reason, failure_detail, recorded_at FROM {changelog} "
            f"WHERE sync_id = :sync_id AND row_id IN (:keys) ORDER BY recorded_at DESC LIMIT {HISTORY_SHOWN}",
            keys=[key, tombstone(key)],
        )
        return [
            Event(
                sync_run_id=run, kind=kind, status=status, reason=reason or "", detail=detail or "",
                recorded_at=_time(moment),
            )
            for run, kind, status, reason, detail, moment in found
        ]  # fmt: skip

    def _last(self, key: str) -> Last | None:
        found = self._find(
            "SELECT sync_run_id, op_type, status, failure_reason, failure_detail, recorded_at FROM {snapshot} "
            "WHERE sync_id = :sync_id AND row_id IN (:keys) ORDER BY recorded_at DESC LIMIT 1",
            keys=[key, tombstone(key)],
        )
        for run, kind, status, text, detail, moment in found:
            name, _, sentence = (text or "").partition(": ")
            return Last(
                sync_run_id=run, kind=kind, status=status, reason=name, sentence=sentence, detail=detail or "",
                remedy=REMEDIES.get(_reason(name), ""), recorded_at=_time(moment),
            )  # fmt: skip
        return None

    def _unwell(self) -> str | None:
        """Return the last run that did not end well."""
        found = self.audited and self._find(
            "SELECT sync_run_id FROM {runs} WHERE sync_id = :sync_id AND status <> 'succeeded' "
            "ORDER BY started_at DESC LIMIT 1"
        )
        return str(found[0][0]) if found else None

    def _first_seen(self, keys: list[str], reason: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for key in keys:
            ((moment,),) = self._find(
                "SELECT min(recorded_at) FROM {changelog} WHERE sync_id = :sync_id AND row_id = :key "
                "AND coalesce(failure_reason, '') = :reason",
                key=key,
                reason=reason,
            )
            found[key] = _time(moment)
        return found

    def _during(self, name: str, run: Run) -> str:
        """Return the condition that rows are a run's: also by time, for which there is an index."""
        until = f" AND recorded_at <= {self._moment(f':{name}_until')}" if run.finished_at else ""
        since = f"recorded_at >= {self._moment(f':{name}_since')}"
        return f"sync_id = :sync_id AND sync_run_id = :{name}_id AND {since}{until}"

    def _values(self, name: str, run: Run) -> dict[str, str]:
        values = {f"{name}_id": run.sync_run_id, f"{name}_since": run.started_at}
        return {**values, f"{name}_until": run.finished_at} if run.finished_at else values

    def _moment(self, value: str) -> str:
        return self._tables.dialect.moment.replace("{value}", value)

    def _find(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._tables.transact(lambda: self._tables.find(query, sync_id=self._sync_id, **values))

    def _run(self, row: tuple[Any, ...]) -> Run:
        run_id, status, error, model, primary_key, started, finished = row
        return Run(
            sync_id=self._sync_id, sync_run_id=run_id, status=status, error=error or "", model=model or "",
            primary_key=primary_key or "", started_at=_time(started), finished_at=_time(finished),
        )  # fmt: skip

    def _masked(self, key: str) -> str:
        return masked_key(key, (), range(len(_parts(key))) if self._identifying is None else self._identifying)


def reader_of(report: Mapping[str, Any], hook: Any, sync_id: str) -> AuditReader | None:
    """Return what reads the tables of a report's run; ``None``: there are none.

    :param hook: returns the SQL hook of a connection
    """
    state = report.get("state") or {}
    if not state.get("conn_id"):
        return None
    return AuditReader(hook(state["conn_id"]), state.get("schema"), sync_id, report)


def _reason(name: str) -> Reason | None:
    return Reason(name) if name in Reason.__members__.values() else None


def _parts(key: str) -> list[Any]:
    try:
        parts = json.loads(key)
    except ValueError:
        return [key]
    return parts if isinstance(parts, list) else [parts]


def _time(moment: Any) -> str:
    """Return a time as the tables take it, in UTC; empty if there is none."""
    if moment is None:
        return ""
    if isinstance(moment, datetime):
        return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%d %H:%M:%S.%f")
    return str(moment)
