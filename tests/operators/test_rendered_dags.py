"""Templates and dry runs in real DAG runs: what Airflow renders, shows and tells others."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_iterable.state import xcom
from tests.airflow_db import AIRFLOW, Dags, run_dag
from tests.conftest import AIRFLOW_HOME
from tests.operators.conftest import BULK, FIELDS, World, email

DAG_FILE = """
from datetime import UTC, datetime
from airflow.providers.common.compat.sdk import Asset, DAG
from airflow_provider_iterable.mapping import Column, Constant
from airflow_provider_iterable.operators import *
from airflow_provider_iterable.state import TableState, XComState

with DAG(
    dag_id="{dag_id}",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={params},
    render_template_as_native_obj={native},
) as dag:
    common = dict(sql="SELECT * FROM users", sql_conn_id="warehouse", email_column="email", outlets=[Asset("x://{dag_id}")])
    {body}
"""
USERS = """IterableUserSyncOperator(
        task_id="sync",
        primary_key="id",
        fields={
            "firstName": "name",
            "city": Column("{{ params.column }}"),
            "batch": Constant("of {{ params.dry }}"),
            "lasting": Constant(7),
        },
        state=XComState(),
        dry_run="{{ params.dry }}",
        allow_empty="{{ params.dry }}",
        max_removed="{{ params.limit }}",
        **common,
    )"""
LIST = """IterableListOperator(
        task_id="sync",
        list_name="{{ params.list }}",
        list_description="about {{ params.list }}",
        fields={"city": "{{ params.column }}"},
        state=TableState(),
        dry_run="{{ params.dry }}",
        **common,
    )"""
PARTITIONS = """sync = IterableUserSyncOperator.partial(
        task_id="sync",
        sql="SELECT * FROM users WHERE id % 2 = {{ task.partition }}",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        fields={"city": Column("{{ params.column }}")},
        state=TableState(),
        dry_run="{{ params.dry }}",
    ).expand(partition=[0, 1])
    IterableSyncSummaryOperator(task_id="summary", reports=sync.output, outlets=common["outlets"])"""
PULL_FROM = xcom.pull_from
"""Airflow's own XComs, where the worlds of other tests have theirs."""
EVENTS = "asset_event" if AIRFLOW >= (3, 0) else "dataset_event"


class Runs:
    """Runs of one DAG that is written anew for each, with other params."""

    def __init__(self, folder: Dags, dag_id: str, body: str, native: bool = False) -> None:
        self._dags, self._dag_id, self._body, self._native = folder, dag_id, body, native
        self._hour = 0
        self._last: Any = None

    def run(self, **params: Any) -> tuple[str, Any]:
        """Return how a run ended, and what it returned."""
        source = DAG_FILE.replace("{body}", self._body)
        for name, value in (("dag_id", self._dag_id), ("params", repr(params)), ("native", repr(self._native))):
            source = source.replace(f"{{{name}}}", value)
        dag = self._dags.write(self._dag_id, source)
        del self._dags.files[:-1]
        self._hour += 1
        done = run_dag(dag, datetime(2026, 3, 1, self._hour, tzinfo=UTC))
        ending = "summary" if "summary" in self._body else "sync"
        self._last = done.get_task_instances()[-1]
        return str(done.state), self._last.xcom_pull(task_ids=ending)

    @property
    def events(self) -> int:
        """How many events of assets Airflow has of this DAG."""
        with closing(sqlite3.connect(AIRFLOW_HOME / "airflow.db")) as database:
            query = f"SELECT count(*) FROM {EVENTS} WHERE source_dag_id = ?"
            return int(database.execute(query, (self._dag_id,)).fetchone()[0])

    @property
    def shown(self) -> dict[str, Any]:
        """The rendered templates of the last run, as Airflow shows them."""
        from airflow.models.renderedtifields import RenderedTaskInstanceFields

        return dict(RenderedTaskInstanceFields.get_templated_fields(self._last) or {})


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_a_dry_run_tells_nobody(
    world: World,
    dags: Dags,
    monkeypatch: pytest.MonkeyPatch,
    native: bool,
) -> None:
    """No asset gets an event, the author's own neither; the state in XCom is found past the dry run."""
    monkeypatch.setattr(xcom, "pull_from", PULL_FROM)
    runs = Runs(dags, f"dry_{native}", USERS, native)
    world.people(1, 2)
    params = {"column": "city", "limit": "0.5", "dry": False}
    state, report = runs.run(**params)
    assert (state, report["accepted"], report["dry_run"], runs.events) == ("success", 2, False, 3)
    assert world.profiles[email(1)]["batch"] == "of False"
    assert world.profiles[email(1)]["lasting"] == 7
    world.people(1, 2, 3)
    world.forget_calls()
    state, report = runs.run(**{**params, "dry": True})
    assert (state, report["status"], report["dry_run"], runs.events) == ("success", "planned", True, 3)
    assert set(world.calls) == {FIELDS}
    assert runs.shown["dry_run"] in (True, "True")
    assert runs.shown["max_removed"] in (0.5, "0.5")
    assert "city" in str(runs.shown["fields"])
    assert "{{" not in str(runs.shown)
    state, report = runs.run(**params)
    assert (state, report["accepted"], report["unchanged"], runs.events) == ("success", 1, 2, 6)
    assert world.calls[BULK] == 1


def test_a_list_is_named_by_the_run(world: World, dags: Dags) -> None:
    """And its members' fields come from the column that the run names."""
    runs = Runs(dags, "named_list", LIST)
    world.people(1, city="Paris")
    state, report = runs.run(list="VIP", column="city", dry=True)
    assert (state, report["destination"]["list"], world.sandbox.lists, runs.events) == ("success", "VIP", [], 0)
    state, _ = runs.run(list="VIP", column="city", dry=False)
    (found,) = world.sandbox.lists
    assert (state, found["name"], found["description"], runs.events) == ("success", "VIP", "about VIP", 3)
    assert world.profiles[email(1)]["city"] == "Paris"
    assert runs.shown["list_name"] == "VIP"


@pytest.mark.parametrize(
    "params", [{"dry": "perhaps", "list": "VIP"}, {"dry": False, "list": ""}, {"dry": False, "list": "{{ x }}"}]
)
def test_what_is_misread_fails_before_anything_is_read(
    world: World,
    dags: Dags,
    params: dict[str, Any],
) -> None:
    """Nothing is called, no list made, and nobody told."""
    runs = Runs(dags, f"misread_{abs(hash(str(params)))}", LIST)
    world.people(1)
    state, _ = runs.run(column="city", **params)
    assert (state, world.calls, world.sandbox.lists, runs.events) == ("failed", {}, [], 0)


def test_a_dry_run_of_partitions_tells_nobody(world: World, dags: Dags) -> None:
    """The summary knows from the reports that nothing has changed; each partition's templates are rendered."""
    runs = Runs(dags, "dry_partitions", PARTITIONS)
    world.people(1, 2, 3, city="Rome")
    state, report = runs.run(column="city", dry=True)
    assert (state, report["dry_run"], report["added"], runs.events) == ("success", True, 3, 0)
    assert set(world.calls) == {FIELDS}
    state, report = runs.run(column="city", dry=False)
    assert (state, report["dry_run"], report["accepted"], runs.events) == ("success", False, 3, 3)
    assert world.profiles[email(3)]["city"] == "Rome"
