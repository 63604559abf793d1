"""What whoever is called on failure learns: the class of the error, its words and the report."""

from __future__ import annotations

import pickle
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable import errors
from airflow_provider_iterable.operators.failures import for_airflow
from tests.airflow_db import Dags, run_dag
from tests.operators.conftest import World, person

PAGE = (Path(__file__).parents[2] / "docs/reasons.md").read_text("utf-8").partition("## Whom to call\n")[2]
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, (errors.CannotRetry, errors.WorthRetrying))
    and kind not in (errors.CannotRetry, errors.WorthRetrying, errors.RequestRefused, errors.RequestUnanswered)
]
"""Those that a sync may end with; requests of a DAG author's own end with the others."""
"""What a run may end with."""

DAG_FILE = """
from datetime import UTC, datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.state import TableState

TOLD = []

with DAG(dag_id="{dag_id}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    IterableUserSyncOperator(
        task_id="sync",
        sql="SELECT * FROM users",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        fields={{"firstName": "name"}},
        state=TableState(),
        on_failure_callback=lambda context: TOLD.append(context["exception"]),
        **{parameters},
    )
"""


def hold_lease(world: World) -> None:
    """Let another run have the lease of the sync."""
    world.run(sync_id="calling.sync")
    with closing(sqlite3.connect(world.warehouse)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(iterable_sync_lease)")]
        values = {
            **dict.fromkeys(columns, 0),
            "sync_id": "calling.sync",
            "holder": "other",
            "instance": "other",
            "label": "the other run",
            "expires_at": 4_102_444_800_000,
        }
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO iterable_sync_lease ({names}) VALUES ({marks})", [values[c] for c in columns])
        connection.commit()


def refuse_key(world: World) -> None:
    """Let Iterable refuse the key."""
    world.sandbox.faults({"kind": "5xx_html", "status": 401, "path": "/api/users/bulkUpdate", "times": -1})


def fail(world: World) -> None:
    """Let Iterable fail at each request with rows."""
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "times": -1})


def nothing(world: World) -> None:
    """Let everything be well."""


CASES: dict[str, tuple[Callable[[World], None], dict[str, Any], type[errors.IterableSyncError], str | None]] = {
    "a wrong key": (refuse_key, {}, errors.Halted, "halted"),
    "no answers": (fail, {}, errors.Unfinished, "unfinished"),
    "rejected rows": (nothing, {"max_rejected": 0}, errors.TooManyRejected, "too_many_rejected"),
    "an empty model": (nothing, {"sql": "SELECT * FROM users WHERE 1 = 0"}, errors.GuardTripped, "failed"),
    "a wrong query": (nothing, {"sql": "SELECT nope FROM users"}, errors.ModelError, None),
    "a held lease": (hold_lease, {}, errors.LeaseHeld, None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_callback_of_a_real_dag_run_gets_the_class(world: World, dags: Dags, case: str) -> None:
    """Airflow's task runner hands on the error itself; its report is beside it where there is one."""
    prepare, parameters, kind, status = CASES[case]
    world.people(1, 2)
    prepare(world)
    world.rows(person(1), person(2, email="nobody"))
    if case != "rejected rows":
        parameters = {"max_rejected": 1.0, **parameters}
    source = DAG_FILE
    if "sql" in parameters:
        source = source.replace('"SELECT * FROM users"', repr(parameters["sql"]))
    rest = {name: value for name, value in parameters.items() if name != "sql"}
    dag = dags.write("calling", source.format(dag_id="calling", parameters=rest))
    assert run_dag(dag, datetime(2026, 4, 1, tzinfo=UTC)).state == "failed"
    told = dag.get_task("sync").on_failure_callback
    told = (told[0] if isinstance(told, (list, tuple)) else told).__globals__["TOLD"]
    assert [type(error).__name__ for error in told] == [kind.__name__]
    assert isinstance(told[0], kind)
    assert (told[0].report or {}).get("status") == status


def test_the_page_tells_every_class_and_whether_airflow_retries() -> None:
    """Each class that a run may end with, once, in the table for those who choose whom to call."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]+ \| (yes|no) \|$", PAGE, re.MULTILINE)
    told = {name: retried for names, retried in rows for name in re.findall(r"\w+", names)}
    assert told == {kind.__name__: "yes" if issubclass(kind, errors.WorthRetrying) else "no" for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_callback_on_the_page_calls_somebody(kind: type[errors.IterableSyncError]) -> None:
    """It is run as it stands there: nobody is called for a run that was in the way of another, or was stopped."""
    called: list[str] = []
    names = ("page_on_call", "tell_owner_of_the_model", "tell_channel")
    scope: dict[str, Any] = {name: lambda words, name=name: called.append(name) for name in names}
    exec(PAGE.partition("```python\n")[2].partition("```")[0], scope)
    scope["on_failure"]({"exception": for_airflow(kind("the words"))})
    expected: dict[type, list[str]] = {
        errors.LeaseHeld: [],
        errors.Stopped: [],
        errors.Halted: ["page_on_call"],
        errors.ConfigurationError: ["page_on_call"],
        errors.TooManyRejected: ["tell_owner_of_the_model"],
        errors.Unfinished: ["tell_channel"],
    }
    assert called == expected.get(kind, called)
    assert len(called) == (0 if kind in (errors.LeaseHeld, errors.Stopped) else 1)
    scope["on_failure"]({"exception": RuntimeError("nobody foresaw it")})
    assert called[-1] == "page_on_call"


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_also_one_of_airflow(kind: type[errors.IterableSyncError]) -> None:
    """Of the class that decides whether Airflow tries again; processes that it is sent to get the provider's own."""
    error = for_airflow(kind("the words", {"status": "failed"}))
    assert isinstance(error, kind)
    assert isinstance(error, AirflowException)
    assert isinstance(error, AirflowFailException) is issubclass(kind, errors.CannotRetry)
    assert f"{type(error).__module__}.{type(error).__qualname__}" == f"{errors.__name__}.{kind.__name__}"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.report) == (kind, "the words", {"status": "failed"})
