from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_iterable.operators import IterableCatalogOperator, IterableListOperator
from airflow_provider_iterable.operators.links import APP_KEY, LINKS, RUN_KEY, IterableLink, SyncRunLink, run_url
from airflow_provider_iterable.state import xcom
from tests.airflow_db import AIRFLOW, Dags, run_dag
from tests.operators.conftest import KEY, Make, World

APP = "https://app.example.com"
URLS = {"project": f"{APP}/home", "list": f"{APP}/lists/{{list_id}}/x", "catalog": f"{APP}/catalogs?name={{catalog}}"}
PULL_FROM = xcom.pull_from
"""Airflow's own XComs, where the worlds of other tests have theirs."""
DAG_FILE = """
from datetime import UTC, datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_iterable.operators import IterableCatalogOperator
from airflow_provider_iterable.state import TableState

with DAG(dag_id="{dag_id}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    IterableCatalogOperator(
        task_id="sync", table="users", sql_conn_id="warehouse", primary_key="id", catalog_name="Shops",
        max_rejected=0, state=TableState(),
    )
"""


def link(world: World, key: str, run: int = 1) -> Any:
    """Return what was left for a link."""
    return world.xcoms.get((f"run-{run}", key))


def lists(world: World, **parameters: Any) -> Any:
    """Run a sync of a list."""
    world.make = lambda **more: IterableListOperator(  # type: ignore[method-assign]
        **{
            "task_id": "sync_users",
            "table": "users",
            "sql_conn_id": "warehouse",
            "email_column": "email",
            **parameters,
            **more,
        }
    )
    return world.run()


def test_a_list_is_linked_once_its_id_is_known(make_world: Make) -> None:
    """The first run creates it, under a name; the second one knows its ID; and a dry run before both knows none."""
    world = make_world("email", extra={"links": URLS})
    world.people(1)
    lists(world, dry_run=True)
    assert link(world, APP_KEY, 1) == f"{APP}/home"
    lists(world)
    (number,) = (one["id"] for one in world.sandbox.lists)
    assert link(world, APP_KEY, 2) == f"{APP}/lists/{number}/x"
    lists(world)
    assert link(world, APP_KEY, 3) == f"{APP}/lists/{number}/x"
    assert world.operator is not None
    assert IterableLink().get_link(world.operator, ti_key=None) == f"{APP}/lists/{number}/x"  # type: ignore[arg-type]


def test_a_profile_is_linked_to_its_project(make_world: Make) -> None:
    """A user sync has no page of its own."""
    world = make_world("email", extra={"links": json.dumps(URLS)})
    world.people(1)
    world.run()
    assert link(world, APP_KEY) == f"{APP}/home"


def test_without_an_address_there_is_no_link(world: World) -> None:
    """Iterable documents no addresses of its web app: none is made up."""
    world.people(1)
    world.run()
    assert link(world, APP_KEY) is None
    assert world.operator is not None
    assert IterableLink().get_link(world.operator, ti_key=None) == ""  # type: ignore[arg-type]


def test_a_wrong_address_fails_no_sync(make_world: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The log says what is wrong with it, as the connection's test does."""
    world = make_world("email", extra={"links": {"project": "javascript:alert(1)"}})
    world.people(1)
    assert world.run()["accepted"] == 1
    assert "the link project must be an http(s) URL" in caplog.text
    assert link(world, APP_KEY) is None


@pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2 has no page of sync runs")
def test_the_run_is_linked_from_its_beginning(world: World) -> None:
    """A run that fails before anything else has its link already."""
    with pytest.raises(AirflowFailException):
        world.run(allow_empty="{{ what }}")
    url = urlsplit(link(world, RUN_KEY))
    assert (url.scheme, url.netloc, url.path) == ("", "", "iterable/run")
    about = {"dag_id": ["adhoc_airflow"], "run_id": ["run-1"], "task_id": ["sync_users"], "map_index": ["-1"]}
    assert parse_qs(url.query) == about


def test_what_is_in_a_link_is_quoted() -> None:
    """Airflow's run IDs have plus signs and colons."""
    url = run_url("dag", "manual__2026-03-01T00:00:00+00:00", "group.task", 3)
    assert parse_qs(urlsplit(url).query)["run_id"] == ["manual__2026-03-01T00:00:00+00:00"]
    assert url.endswith("&task_id=group.task&map_index=3")


def test_which_links_there_are() -> None:
    """Airflow 2 has no page of sync runs to link to."""
    kinds = [IterableLink] if AIRFLOW < (3, 0) else [SyncRunLink, IterableLink]
    assert [type(one) for one in LINKS] == kinds
    assert tuple(IterableCatalogOperator.operator_extra_links) == LINKS


@pytest.mark.parametrize("name", ["good", "Käse & Co"])
def test_airflow_shows_the_links_of_runs_that_succeed_and_fail(
    make_world: Make, dags: Dags, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Airflow's own task runner leaves what its UI shows; the operator is asked as the UI does it."""
    monkeypatch.setattr(xcom, "pull_from", PULL_FROM)
    world = make_world("email", extra={"links": URLS})
    world.rows((1 if name == "good" else name, "a"), columns=("id", "title"))
    dag_id = f"links_{name == 'good'}"
    dag = dags.write(dag_id, DAG_FILE.replace("{dag_id}", dag_id))
    done = run_dag(dag, datetime(2026, 3, 1, tzinfo=UTC))
    assert str(done.state) == ("success" if name == "good" else "failed")
    (instance,) = done.get_task_instances()
    pulled = {key: instance.xcom_pull(task_ids="sync", key=key) for key in (APP_KEY, RUN_KEY)}
    shown = {key: value for key, value in pulled.items() if value is not None}
    app = f"{APP}/catalogs?name=shops"
    run = {} if AIRFLOW < (3, 0) else {RUN_KEY: run_url(dag_id, done.run_id, "sync", -1)}
    assert shown == {APP_KEY: app, **run}
    assert KEY not in json.dumps(shown)
    if AIRFLOW < (3, 0):  # whose webserver asks the class, and has no task
        assert IterableLink().get_link(SimpleNamespace(), ti_key=instance.key) == app  # type: ignore[arg-type]
