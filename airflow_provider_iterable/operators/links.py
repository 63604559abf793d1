"""Links from a task in Airflow's UI: to its run on the page of sync runs, and to what it fills at Iterable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.masking import logger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_iterable.operators.lineage import Ran

log = logger(__name__)

RUN_KEY, APP_KEY = "iterable_link_run", "iterable_link_app"
"""XCom keys under which the links are left."""


class SyncRunLink(BaseOperatorLink):
    """To the run on the page of sync runs, which Airflow 3 has."""

    name = "Sync run"
    xcom_key = RUN_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's address, below that of the webserver."""
        return run_url(ti_key.dag_id, ti_key.run_id, ti_key.task_id, ti_key.map_index)


class IterableLink(BaseOperatorLink):
    """To the list, the catalog or the project in Iterable's own web app, as far as the connection knows the address."""

    name = "Iterable"
    xcom_key = APP_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's address; empty: it is not known."""
        known = getattr(
            operator, "app_link", None
        )  # to the task itself, which Airflow 3 asks; Airflow 2 asks the webserver
        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "" if known is None else str(known)


LINKS: tuple[BaseOperatorLink, ...] = (SyncRunLink(), IterableLink()) if AIRFLOW_V_3_0_PLUS else (IterableLink(),)
"""The links of every sync: Airflow 2 has no page of sync runs."""


def run_url(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return where a run is on the page of sync runs, below the webserver's own address."""
    about = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    return f"iterable/run?{urlencode(about)}"


def app_url(hook: IterableHook, filled: Mapping[str, object]) -> str:
    """Return the address of the most that is known in Iterable's web app; empty: none is.

    :param hook: the connection, which has the addresses
    :param filled: the ``list_id`` or the name of the ``catalog`` that a sync fills, as far as there is one and it is
        known
    """
    try:
        links = hook.links
    except ConfigurationError as wrong:  # no reason to fail
        log.warning("%s", wrong)
        return ""
    for kind, name in (("list", "list_id"), ("catalog", "catalog")):
        if kind in links and filled.get(name) is not None:
            return links[kind].replace(f"{{{name}}}", quote(str(filled[name]), safe=""))
    return links.get("project", "")


def leave_run_link(task: BaseOperator, context: Context) -> None:
    """Leave the link to the run where Airflow looks for it: it is there while the task runs, too."""
    if AIRFLOW_V_3_0_PLUS:
        mapped = getattr(context["ti"], "map_index", -1)
        _leave(context, RUN_KEY, run_url(task.dag_id, str(context["run_id"]), task.task_id, mapped))


def leave_app_link(context: Context, ran: Ran) -> str:
    """Leave the link to what was filled, which may have been made by this run, and return it, or an empty text."""
    if ran.hook is None:
        return ""
    filled = {} if ran.kind is None else ran.kind.filled()
    url = app_url(ran.hook, {"catalog": ran.report.destination.get("catalog"), **filled})
    if url:
        _leave(context, APP_KEY, url)
    return url


def _leave(context: Context, key: str, url: str) -> None:
    try:
        context["ti"].xcom_push(key=key, value=url)
    except Exception as failed:  # as when Airflow has ended the task already
        log.warning("The link could not be left in XCom: %s", type(failed).__name__)
