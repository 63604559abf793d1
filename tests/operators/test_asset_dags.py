"""Assets in real DAG runs: who is woken by a sync, and how a state in XCom is found."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_iterable.assets import create_asset, sync_asset, target_alias
from airflow_provider_iterable.state import ObjectState, TableState, XComState, xcom
from tests.airflow_db import AIRFLOW, Dags, run_dag
from tests.conftest import AIRFLOW_HOME
from tests.operators.conftest import World

DAG_FILE = """
from datetime import UTC, datetime
from airflow.providers.common.compat.sdk import Asset, BaseOperator, DAG
from airflow_provider_iterable.assets import create_asset
from airflow_provider_iterable.operators import *
from airflow_provider_iterable.state import TableState, XComState

with DAG(dag_id="{dag_id}", schedule={schedule}, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    {body}
"""
SYNC = """IterableUserSyncOperator(
        task_id="sync", table="users", sql_conn_id="warehouse", primary_key="id", email_column="email",
        fields={"firstName": "name"}, state=XComState(), dry_run=%s
    )"""
PARTITIONS = """sync = IterableUserSyncOperator.partial(
        task_id="sync", sql="SELECT * FROM users WHERE id % 2 = {{ task.partition }}", sql_conn_id="warehouse",
        primary_key="id", email_column="email", fields={"firstName": "name"}, state=TableState(),
    ).expand(partition=[0, 1])
    IterableSyncSummaryOperator(task_id="summary", reports=sync.output)"""
PULL_FROM = xcom.pull_from
"""Airflow's own XComs, where the worlds of other tests have theirs."""
KIND = "asset" if AIRFLOW >= (3, 0) else "dataset"


def write(dags: Dags, dag_id: str, body: str, schedule: str = "None") -> Any:
    """Return a DAG from a file of its own."""
    source = DAG_FILE
    for name, value in (("dag_id", dag_id), ("schedule", schedule), ("body", body)):
        source = source.replace(f"{{{name}}}", value)
    return dags.write(dag_id, source)


def know(dag: Any) -> None:
    """Have Airflow know a DAG and what it is scheduled on, as when its file has been parsed; and have it on."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    if AIRFLOW >= (3, 0):
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
        from airflow.models.dagbundle import DagBundleModel

        with create_session() as session:
            session.merge(DagBundleModel(name="testing"))
        bag: Any = DagBag(dag_folder="/dev/null")
        bag.bag_dag(dag)
        sync_bag_to_db(bag, bundle_name="testing", bundle_version=None)
    else:
        from tests.airflow_db import prepare_2

        prepare_2(dag)
    with create_session() as session:
        session.query(DagModel).filter(DagModel.dag_id == dag.dag_id).update({"is_paused": False})


def ask(query: str, *values: str) -> list[tuple[Any, ...]]:
    """Return what Airflow's database has."""
    with closing(sqlite3.connect(AIRFLOW_HOME / "airflow.db")) as database:
        return database.execute(query.replace("{kind}", KIND), values).fetchall()


def woken(dag_id: str) -> int:
    """Return for how many assets a DAG that waits for them has an event."""
    return len(ask("SELECT * FROM {kind}_dag_run_queue WHERE target_dag_id = ?", dag_id))


def events(dag_id: str) -> list[str]:
    """Return the URIs of the assets that a DAG's tasks have updated, once for each event."""
    query = "SELECT uri FROM {kind}_event JOIN {kind} ON {kind}.id = {kind}_id WHERE source_dag_id = ? ORDER BY uri"
    return [uri for (uri,) in ask(query, dag_id)]


@pytest.mark.parametrize(("kind", "body"), [("one", SYNC % "False"), ("dry", SYNC % "True"), ("parts", PARTITIONS)])
def test_a_sync_wakes_who_waits_for_its_target(
    world: World, dags: Dags, monkeypatch: pytest.MonkeyPatch, kind: str, body: str
) -> None:
    """Once in a run, also of several partitions; and not by a dry run, nor who waits for another target."""
    monkeypatch.setattr(xcom, "pull_from", PULL_FROM)
    world.people(1, 2, 3)
    host = urlsplit(world.sandbox.url).netloc
    consumer = f"waits_for_users_{kind}"
    other = f"waits_for_a_list_{kind}"
    know(write(dags, consumer, 'BaseOperator(task_id="x")', f'[create_asset("users", host="{host}")]'))
    know(write(dags, other, 'BaseOperator(task_id="x")', f'[create_asset("lists/VIP", host="{host}")]'))
    producer = f"writes_users_{kind}"
    dag = write(dags, producer, body)
    assert str(run_dag(dag, datetime(2026, 3, 1, tzinfo=UTC)).state) == "success"
    own = f"iterable://users/{producer}.sync"
    told = [] if kind == "dry" else [f"iterable://{host}/users", own]
    assert (events(producer), woken(consumer), woken(other)) == (sorted(told), len(told) // 2, 0)


def test_a_state_in_xcom_is_found_through_the_asset_that_it_always_had(
    world: World, dags: Dags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run sends nothing."""
    monkeypatch.setattr(xcom, "pull_from", PULL_FROM)
    world.people(1, 2)
    dag = write(dags, "state_in_xcom", SYNC % "False")
    run_dag(dag, datetime(2026, 3, 1, 1, tzinfo=UTC))
    assert len(world.profiles) == 2
    before = len(world.sandbox.calls)
    assert str(run_dag(dag, datetime(2026, 3, 1, 2, tzinfo=UTC)).state) == "success"
    assert len(world.sandbox.calls) == before
    assert events("state_in_xcom").count("iterable://users/state_in_xcom.sync") == 2


def test_only_a_state_in_xcom_has_its_sync_read_its_own_asset(world: World, tmp_path: Any) -> None:
    """Elsewhere a sync would wait for itself in the graph of assets, for nothing."""
    own = sync_asset("users", "mine")
    made = world.make(state=XComState(), sync_id="mine")
    assert (made.inlets, made.outlets) == ([own], [own, target_alias("users", "mine")])
    if AIRFLOW >= (3, 0):
        assert {one.group for one in made.outlets} == {"iterable"}
    for state in (TableState(), ObjectState(f"file://{tmp_path}")):
        made = world.make(state=state, sync_id="mine", inlets=[create_asset("users")])
        assert made.inlets == [create_asset("users")]
        assert own in made.outlets
