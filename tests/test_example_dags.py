from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable.demo.check import Check
from airflow_provider_iterable.demo.warehouse import Warehouse
from airflow_provider_iterable.sandbox import Sandbox
from tests.airflow_db import AIRFLOW, Dags, airflow_db, dags, run_dag  # noqa: F401 (fixtures)

EXAMPLES = Path(__file__).parent.parent / "example_dags"
DAG_IDS = {"users.py": "example_iterable_users"}
"""The DAG that each example file defines."""
CUSTOMERS = 150


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **connection: Any) -> None:
    """Define an Airflow connection, here and in subprocesses."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A local Iterable, behind the connection ``iterable_default``."""
    with Sandbox("email") as sandbox:
        extra = {"data_center": "us", "project_type": "email"}
        connect(
            monkeypatch, "iterable_default", conn_type="iterable", host=sandbox.url, password="only-a-test", extra=extra
        )
        yield sandbox


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A shop's customers in SQLite, behind the connection ``warehouse``."""
    path = tmp_path / "warehouse.db"
    connect(monkeypatch, "warehouse", conn_type="sqlite", host=str(path))
    return Warehouse(path, CUSTOMERS)


@pytest.fixture
def examples(dags: Dags) -> Iterator[dict[str, Any]]:  # noqa: F811
    """The example DAGs by ID, as Airflow finds them in its folder of DAGs."""
    shutil.copytree(EXAMPLES, dags.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    yield load(dags.folder)
    shutil.rmtree(dags.folder)
    dags.folder.mkdir()


def load(folder: Path) -> dict[str, Any]:
    """Parse a folder as Airflow does, and fail where it would show an import error."""
    module = import_module("airflow.dag_processing.dagbag" if AIRFLOW >= (3, 2) else "airflow.models.dagbag")
    bag = module.DagBag(str(folder), **({"include_examples": False} if AIRFLOW < (3, 0) else {}))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_every_example_is_known_here() -> None:
    """No file is added to the examples without being run by these tests."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(DAG_IDS)


def test_the_examples_import_without_any_connection(examples: dict[str, Any]) -> None:
    """Airflow parses every example where neither the warehouse nor Iterable is known, and finds it in order."""
    assert not [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
    assert set(examples) == set(DAG_IDS.values())
    for dag in examples.values():
        dag.validate()


@pytest.mark.parametrize("dag_id", DAG_IDS.values())
def test_runs_of_an_example_do_not_overlap_and_do_not_catch_up(dag_id: str, examples: dict[str, Any]) -> None:
    """An example shows what a sync wants of its DAG: one run at a time, none for the past, and retries."""
    dag = examples[dag_id]
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    for task in dag.tasks:
        assert task.max_active_tis_per_dag == 1
        assert task.retries > 0


def test_the_users_example_brings_iterable_up_to_the_model(
    examples: dict[str, Any], sandbox: Sandbox, warehouse: Warehouse
) -> None:
    """Run by run: all customers, nothing at all, the differences without the bad rows, and the mended rows."""
    dag, check = examples["example_iterable_users"], Check(sandbox.url)
    dag.get_task("sync_users").retries = 0  # a failure is to be seen at once

    def run(hour: int) -> int:
        before = len(sandbox.calls)
        dag_run = run_dag(dag, datetime(2026, 3, 1, hour, tzinfo=UTC))
        assert dag_run.state == "success"
        return len(sandbox.calls) - before

    assert run(1) > 0
    found = check(warehouse.rows())
    assert (found.differences, found.users, found.equal) == ([], CUSTOMERS, CUSTOMERS)

    assert run(2) == 0

    story = warehouse.live_a_little()
    assert run(3) > 0
    found = check(warehouse.rows(), story.spoilt)
    assert found.differences == []
    assert found.kept == 2  # a customer with two addresses, one with a date that is none; the third is new

    warehouse.mend()
    run(4)
    found = check(warehouse.rows())
    assert (found.differences, found.equal) == ([], found.users)
    assert run(5) == 0

    with closing(sqlite3.connect(warehouse.path)) as database, database:  # as docs/users.md says
        database.execute("UPDATE iterable_sync_state SET fingerprint = '00' WHERE record_key = '[1]'")
    assert run(6) > 0
    assert sandbox.calls[-1].records == 1


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_db")
def test_the_users_example_runs_from_the_command_line(
    sandbox: Sandbox, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``airflow dags test`` on the folder of examples does what the scheduler would do."""
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(EXAMPLES))
    command = [sys.executable, "-m", "airflow", "dags", "test", "example_iterable_users", "2026-04-01T00:00:00+00:00"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    found = Check(sandbox.url)(warehouse.rows())
    assert (found.differences, found.users) == ([], CUSTOMERS)
