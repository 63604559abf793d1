"""The command that explains a row, with a DAG file and Airflow's own database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable.explain.__main__ import EXPLAINED, FAILS, NO_ROW, NO_TASK, main
from airflow_provider_iterable.sandbox import Sandbox
from tests.airflow_db import AIRFLOW, Dags, run_dag

DAG = """
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.state import TableState, XComState

print("a DAG file that prints")

common = dict(sql_conn_id="warehouse", primary_key="id", email_column="email", params={"table": "people"})
common["sql"] = "SELECT * FROM {{ params.table }}"
parts = {**common, "sql": "SELECT * FROM people WHERE id % 2 = {{ task.partition }}"}

with DAG("explained_users", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    IterableUserSyncOperator(task_id="sync", state=TableState(), **common)
    IterableUserSyncOperator(task_id="small", state=XComState(), **common)

with DAG("explained_others", schedule=None, start_date=datetime(2026, 1, 1)):
    IterableUserSyncOperator(task_id="wrong", state=TableState(schema="1 2"), **common)
    IterableUserSyncOperator.partial(task_id="parts", state=TableState(), **parts).expand(partition=[0, 1])
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    dags: Dags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Runs the command on a DAG that ran once: exit code, output and what was said beside it."""
    if AIRFLOW < (3, 0):  # which keeps the session that a mapped task was rendered with; a command ends with it
        monkeypatch.setattr("airflow.utils.task_instance_session.__current_task_instance_session", None)
    sandbox = Sandbox("email", rates=False).start()
    warehouse = tmp_path / "warehouse.db"
    connections: dict[str, Any] = {
        "ITERABLE_DEFAULT": {"conn_type": "iterable", "password": "0" * 32, "host": sandbox.url},
        "WAREHOUSE": {"conn_type": "sqlite", "host": str(warehouse)},
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    with closing(sqlite3.connect(warehouse)) as opened:
        opened.execute("CREATE TABLE people (id, email, name)")
        opened.executemany("INSERT INTO people VALUES (?, ?, ?)", [(n, f"p{n}@example.com", f"N{n}") for n in (1, 2)])
        opened.commit()
        dag = dags.write("explained_users", DAG)
        run_dag(dag, datetime(2026, 1, 2, tzinfo=UTC))
        opened.execute("UPDATE people SET name = 'Changed' WHERE id = 2")
        opened.commit()
    capsys.readouterr()

    def run(*arguments: str, task: str = "sync", dag_id: str = "explained_users") -> tuple[int, str, str]:
        code = main(["--dag", dag_id, "--task", task, *arguments])
        return code, *capsys.readouterr()

    yield run
    sandbox.stop()


def test_a_person_on_call_reads_it(command: Command) -> None:
    """The verdict first; nothing that Airflow or the DAG file prints is in it."""
    code, text, _ = command("--key", "2")
    assert EXPLAINED == code
    first, empty, *rest = text.splitlines()
    assert first.startswith("The next run sends it (upsert users, POST /api/users/bulkUpdate): its payload is not")
    assert "" == empty
    assert "key          [2]" in rest
    assert "in the model yes" in rest
    assert any(line.startswith("fields       email: string like ") for line in rest)
    assert "@example.com" not in text
    assert len(rest) < 20


def test_a_program_reads_json(command: Command) -> None:
    """And the state in XCom is found by the events in Airflow's database."""
    for task in ("sync", "small"):
        changes = []
        for key in "12":
            code, text, _ = command("--key", key, "--json", task=task)
            assert EXPLAINED == code
            changes.append(json.loads(text)["change"])
        assert ["unchanged", "changed"] == changes, task


def test_a_mapped_task_is_told_by_its_index(command: Command) -> None:
    """Without one it cannot be rendered."""
    code, text, _ = command("--key", "1", "--map-index", "1", "--json", task="parts", dag_id="explained_others")
    told = json.loads(text)
    assert (EXPLAINED, "1", "added") == (code, told["partition"], told["change"])
    code, text, said = command("--key", "1", task="parts", dag_id="explained_others")
    assert (NO_TASK, "") == (code, text)
    assert "--map-index" in said


@pytest.mark.parametrize(
    ("options", "code", "about"),
    [
        ({"task": "sync", "key": "99"}, NO_ROW, "no row of the model has this key, and nothing is remembered of it"),
        (
            {"task": "wrong", "key": "1", "dag_id": "explained_others"},
            FAILS,
            "The next run fails before it sends anything",
        ),
        ({"task": "none", "key": "1"}, NO_TASK, "has no task none"),
        ({"task": "sync", "key": "1", "dag_id": "none"}, NO_TASK, "There is no DAG none"),
    ],
)
def test_exit_codes(command: Command, options: dict[str, str], code: int, about: str) -> None:
    """They tell a program what came of it."""
    key = options.pop("key")
    found, text, said = command("--key", key, **options)
    assert (code, True) == (found, about in text + said)


def test_a_connection_that_is_missing_is_what_the_run_would_fail_with(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Airflow's words, without a traceback."""
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE")
    code, text, _ = command("--key", "1")
    assert FAILS == code
    assert text.startswith("The next run fails before it sends anything: ")
    assert "warehouse" in text


def test_wrong_arguments_have_the_usual_code() -> None:
    """As argparse has it."""
    with pytest.raises(SystemExit) as left:
        main(["--dag", "x"])
    assert 2 == left.value.code
