"""The sync-runs page as a web application, mounted by Airflow's API server below ``/iterable``.

A page, and what it asks for as JSON. Each answer is about Dags that the user may see, and nobody else gets one; what
rows are about is shown as logs show it, masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Query, Response

from airflow_provider_iterable.errors import IterableSyncError
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.sql.hook import sql_hook
from airflow_provider_iterable.state.tables.connection import cause
from airflow_provider_iterable.ui import history
from airflow_provider_iterable.ui.audit import AuditReader, Run, reader_of
from airflow_provider_iterable.ui.history import Instance

log = logger(__name__)

PAGE = Path(__file__).with_name("page.html")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' "
    "'unsafe-inline'; frame-ancestors 'self'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""People's keys are on it, masked: it is kept nowhere, and no other site may show it."""

_SEES_REPORTS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))
_SEES_ROWS = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.TASK_LOGS))
"""Rows that were not accepted are what a task's log names as well."""

Text = Annotated[str, Query(max_length=500)]
Index = Annotated[int, Query(ge=-1)]


def build_app() -> FastAPI:
    """Return the application."""
    app = FastAPI(title="Iterable syncs", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/", page, methods=["GET"])
    app.add_api_route("/run", page, methods=["GET"])
    app.add_api_route("/api/syncs", syncs, methods=["GET"])
    app.add_api_route("/api/dags/{dag_id}/run", run, methods=["GET"], dependencies=[_SEES_REPORTS])
    app.add_api_route("/api/dags/{dag_id}/rows", rows, methods=["GET"], dependencies=[_SEES_REPORTS, _SEES_ROWS])
    app.add_api_route("/api/dags/{dag_id}/requests", requests, methods=["GET"], dependencies=[_SEES_REPORTS])
    app.add_api_route("/api/dags/{dag_id}/row", row, methods=["GET"], dependencies=[_SEES_REPORTS, _SEES_ROWS])
    return app


def page(user: GetUserDep) -> Response:
    """Return the page, which shows nothing by itself."""
    return Response(PAGE.read_bytes(), media_type="text/html; charset=utf-8", headers=HEADERS)


def syncs(
    session: SessionDep,
    user: GetUserDep,
    dag_id: Text | None = None,
    run_id: Text | None = None,
    words: Text = "",
    state: Text = "",
    type: Text = "",
    page: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """Return the list of syncs that the user may see, a page of it."""
    dags = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    found = history.tasks(session, dags, dag_id, run_id)
    given = {"words": words, "state": state, "type": type}
    return _json({"now": datetime.now(UTC), **msgspec.structs.asdict(history.listing(session, found, given, page))})


def run(session: SessionDep, dag_id: str, run_id: Text, task_id: Text, map_index: Index | None = None) -> Response:
    """Return a run of a sync: its instances, the report of one of them, and that of the run before."""
    found = history.instances(session, dag_id, run_id, task_id)
    if not found:
        raise HTTPException(404, "There is no such run.")
    chosen = _chosen(found, map_index)
    before = history.before(session, chosen)
    others = [
        {"map_index": each.map_index, "state": each.state, "shown_as": each.shown_as, **each.count} for each in found
    ]
    account: dict[str, Any] = {"instance": chosen, "before": before, "instances": others, "now": datetime.now(UTC)}
    account["progress"] = history.progress(session, chosen)
    account["assets"] = history.assets(session, chosen)
    with _tables(history.latest(session, chosen)) as (reader, trouble):
        account["audit"] = reader.run(_name(chosen)) if reader is not None and reader.audited else None
        account["holder"] = reader.holder() if reader is not None and chosen.state == "running" else ""
        account["trouble"] = trouble
    return _json(account)


def rows(session: SessionDep, dag_id: str, run_id: Text, task_id: Text, map_index: Index | None = None) -> Response:
    """Return the rows of a run that were not accepted, by reason."""
    return _json(_of_run(session, dag_id, run_id, task_id, map_index, lambda reader, ran: reader.reasons(ran)))


def requests(session: SessionDep, dag_id: str, run_id: Text, task_id: Text, map_index: Index | None = None) -> Response:
    """Return the requests of a run."""
    return _json(_of_run(session, dag_id, run_id, task_id, map_index, lambda reader, ran: reader.requests(ran)))


def row(
    session: SessionDep, dag_id: str, run_id: Text, task_id: Text, key: Text, map_index: Index | None = None
) -> Response:
    """Return the history of a row of a sync, and what the next run does with it, whatever run somebody looks at."""
    chosen = _instance(session, dag_id, run_id, task_id, map_index)
    return _json(_read(history.newest(session, chosen), lambda reader: reader.row(key)))


def _of_run(
    session: Any,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int | None,
    read: Callable[[AuditReader, Run], Any],
) -> dict[str, Any]:
    chosen = _instance(session, dag_id, run_id, task_id, map_index)

    def of_run(reader: AuditReader) -> Any:
        ran = reader.run(_name(chosen)) if reader.audited else None
        return None if ran is None else read(reader, ran)

    return _read(history.latest(session, chosen), of_run)


def _read(reported: Instance | None, read: Callable[[AuditReader], Any]) -> dict[str, Any]:
    """Return what is read from the tables of a sync, or why it is not."""
    with _tables(reported) as (reader, trouble):
        if reader is None:
            return {"found": None, "trouble": trouble}
        try:
            return {"found": read(reader), "trouble": trouble}
        except Exception as error:  # drivers differ in their errors; of those there is no more than the class
            why = str(error) if isinstance(error, IterableSyncError) else cause(error)
            log.warning("The tables of a sync could not be read: %s", why)
            return {"found": None, "trouble": f"The tables could not be read: {why}."}


def _instance(session: Any, dag_id: str, run_id: str, task_id: str, map_index: int | None) -> Instance:
    found = history.instances(session, dag_id, run_id, task_id)
    if not found:
        raise HTTPException(404, "There is no such run.")
    return _chosen(found, map_index)


def _chosen(found: list[Instance], map_index: int | None) -> Instance:
    for each in found:
        if map_index is None or each.map_index == map_index:
            return each
    raise HTTPException(404, "There is no such run.")


@contextmanager
def _tables(reported: Instance | None) -> Iterator[tuple[AuditReader | None, str]]:
    """Give what reads the tables of a sync, or say why there is nothing.

    :param reported: an instance of it that has left a report; ``None``: there is none
    """
    report = None if reported is None else reported.report
    if report is None:
        yield None, "The task has left no report."
        return
    name = report["sync_id"] if report.get("partition") is None else f"{report['sync_id']}[{report['partition']}]"
    try:
        reader = reader_of(report, sql_hook, name)
        if reader is not None:
            _ = reader.run("") if reader.audited else reader.holder()  # opens the connection
    except Exception as error:
        why = str(error) if isinstance(error, IterableSyncError) else cause(error)
        log.warning("The tables of sync %s could not be opened: %s", name, why)
        yield None, f"The tables could not be read: {why}."
        return
    if reader is None:
        yield None, "This state is not in tables, so the page cannot look into it; TableState is."
        return
    with closing(reader):
        yield reader, "" if reader.audited else "The sync has no audit tables: audit=False."


def _name(instance: Instance) -> str:
    """Return what the audit calls a try of a task."""
    return instance.run_id if instance.try_number <= 1 else f"{instance.run_id}#{instance.try_number}"


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=HEADERS)
