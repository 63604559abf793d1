"""Counts of the run under way, as Airflow shows them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.engine.reasons import Fate
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Accepted
from airflow_provider_iterable.operators import running
from airflow_provider_iterable.operators.running import EVERY_SECONDS, KEY, Running
from tests.airflow_db import AIRFLOW, Dags, run_dag
from tests.conftest import AIRFLOW_HOME
from tests.operators.conftest import KEY as API_KEY
from tests.operators.conftest import World

LARGEST = 65_535
"""Bytes that Airflow's state store holds of one value."""
DAG_FILE = """
from datetime import UTC, datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.state import TableState

with DAG(dag_id="shows_counts", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    IterableUserSyncOperator(
        task_id="sync",
        table="users",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        state=TableState(),
    )
"""


class Store:
    """A state store that keeps what it was told, or cannot be reached."""

    def __init__(self, broken: bool = False) -> None:
        self.told: list[Any] = []
        self._broken = broken

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        assert key == KEY
        self.told.append(json.loads(json.dumps(value)))
        if self._broken:
            raise ConnectionError("ada@example.com")


def test_a_run_shows_how_far_it_has_come(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first moment to its last, in counts alone."""
    monkeypatch.setattr(running, "EVERY_SECONDS", 0.0)
    world.context["task_state_store"] = store = Store()
    world.people(1, 2, 3, 4)
    world.run(batch_size=1)
    phases = [told["phase"] for told in store.told]
    assert phases == ["running"] * (len(phases) - 1) + ["complete"]
    assert [told["to_send"] for told in store.told[:2]] == [0, 4]
    assert [told["accepted"] for told in store.told] == sorted(told["accepted"] for told in store.told)
    assert {2, 3} & {told["accepted"] for told in store.told}, "also while rows are sent"
    last = store.told[-1]
    assert {name: last[name] for name in ("status", "sync", "run_id", "read", "accepted", "rejected")} == {
        "status": "succeeded",
        "sync": "adhoc_airflow.sync_users",
        "run_id": "run-1",
        "read": 4,
        "accepted": 4,
        "rejected": 0,
    }
    text = json.dumps(store.told)
    assert "example.com" not in text
    assert API_KEY not in text
    assert len(json.dumps(last)) < LARGEST / 50


def test_what_an_earlier_run_left_is_not_read(world: World) -> None:
    """The store keeps it when a task is cleared; the next run is one from the start."""
    world.context["task_state_store"] = store = Store()
    world.people(1)
    world.run()
    world.people(1, 2)
    assert world.run()["accepted"] == 1
    first = next(told for told in store.told if told["run_id"] == "run-2")
    assert (first["phase"], first["accepted"], first["status"]) == ("running", 0, "running")


def test_a_run_that_fails_ends_as_well(world: World) -> None:
    """Nothing says for ever that it runs."""
    world.context["task_state_store"] = store = Store()
    world.people(1, 2)
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "times": -1})
    world.failure(AirflowException)
    assert (store.told[-1]["phase"], store.told[-1]["status"]) == ("complete", "unfinished")
    assert store.told[-1]["deferred"] == 2


def test_a_store_that_fails_costs_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked once, said once, and not asked again."""
    world.context["task_state_store"] = store = Store(broken=True)
    world.people(1, 2)
    assert world.run()["accepted"] == 2
    assert len(store.told) == 1
    said = [line for line in caplog.messages if "task state" in line]
    assert said == ["The counts of the run are not shown in Airflow's task state: ConnectionError"]


def test_it_is_written_every_now_and_then() -> None:
    """However many rows are settled in between."""
    now, store, report = [0.0], Store(), Report("s", "r", {})
    shown = Running(store, report, lambda: now[0])
    shown.begin()
    for second in range(100):
        now[0] = second / 2
        report.fates[Fate.ACCEPTED] += 1
        shown.observe(Accepted([]))
    assert len(store.told) == 1 + int(99 / 2 / EVERY_SECONDS)
    shown.end()
    assert (store.told[-1]["phase"], store.told[-1]["accepted"]) == ("complete", 100)


if AIRFLOW >= (3, 3):

    @pytest.mark.slow
    def test_airflow_has_the_counts(world: World, dags: Dags) -> None:
        """In its own store, of a task that ran in its own task runner."""
        world.people(1, 2)
        done = run_dag(dags.write("shows_counts", DAG_FILE), datetime(2026, 3, 1, tzinfo=UTC))
        assert str(done.state) == "success"
        with closing(sqlite3.connect(AIRFLOW_HOME / "airflow.db")) as database:
            query = "SELECT value FROM task_state_store WHERE dag_id = 'shows_counts' AND key = ?"
            ((value,),) = database.execute(query, (KEY,)).fetchall()
        counts = json.loads(value)
        counts = json.loads(counts) if isinstance(counts, str) else counts
        assert (counts["phase"], counts["status"], counts["accepted"]) == ("complete", "succeeded", 2)

    @pytest.mark.slow
    def test_the_page_finds_the_counts(world: World, dags: Dags) -> None:
        """Of a task that is under way, which Airflow's database says of each mapped instance apart."""
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        from airflow_provider_iterable.ui import history

        world.people(1, 2)
        source = DAG_FILE.replace("shows_counts", "counts_shown")
        done = run_dag(dags.write("counts_shown", source), datetime(2026, 3, 1, tzinfo=UTC))
        under_way = {"phase": "running", "accepted": 9}
        with create_session() as session:
            query = select(TaskStateStoreModel).where(TaskStateStoreModel.dag_id == "counts_shown")
            session.scalars(query).one().value = json.dumps(under_way)
            session.flush()
            (instance,) = history.instances(session, "counts_shown", done.run_id, "sync")
            assert history.progress(session, instance) is None
            instance.state = "running"
            assert history.progress(session, instance) == under_way
            instance.map_index = 0
            assert history.progress(session, instance) is None
