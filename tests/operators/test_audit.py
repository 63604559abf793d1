"""What operators leave in the audit tables, and that they never fail over it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.operators import IterableListOperator, IterablePrivacyOperator
from airflow_provider_iterable.runs.audit import Audit
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.tables import audit as audit_tables
from airflow_provider_iterable.state.tables.audit import RunRow
from airflow_provider_iterable.state.tables.dialects import DIALECTS
from airflow_provider_iterable.state.tables.store import Auditing
from tests.operators.conftest import BULK, CHANNELS, FIELDS, Make, World, email, person
from tests.state.test_table import execute, postgres_hook, postgres_tables

pytestmark = pytest.mark.slow

SYNC = "dag.sync_users"
NAMES = ("runs", "changelog", "snapshot", "requests")
COUNTS = [name for name in RunRow.__struct_fields__ if re.match("num_(planned|attempted|succeeded|failed)_", name)]
WATCHED = "row_id, op_type, status, failure_reason"


@dataclass
class Desk:
    """A world, and where its state is."""

    world: World
    hook: DbApiHook
    schema: str | None

    def state(self, audit: Auditing = True, **options: Any) -> TableState:
        """Return the store."""
        return TableState("state" if self.schema else None, self.schema, audit=audit, **options)

    def run(self, audit: Auditing = True, **parameters: Any) -> Any:
        """Run the operator as a new DAG run."""
        return self.world.run(**{"sync_id": SYNC, "state": self.state(audit), **parameters})

    def failure(self, kind: type[AirflowException], audit: Auditing = True, **parameters: Any) -> tuple[str, Any]:
        """Run it into an error."""
        return self.world.failure(kind, **{"sync_id": SYNC, "state": self.state(audit), **parameters})

    def table(self, name: str) -> str:
        """Return the name of a table."""
        return f'"{self.schema}".sync_{name}' if self.schema else f"iterable_sync_{name}"

    def read(self, name: str, columns: str, order: str = "1", run: int = 0) -> list[tuple[Any, ...]]:
        """Return the sync's rows of a table, of all runs or of one."""
        where = f"sync_id = '{SYNC}'" + (f" AND sync_run_id = 'run-{run}'" if run else "")
        query = f"SELECT {columns} FROM {self.table(name)} WHERE {where} ORDER BY {order}"
        return [tuple(row) for row in execute(self.hook, query)]

    def counts(self, run: int) -> dict[str, int]:
        """Return the numbers of a run that are not 0."""
        (row,) = self.read("runs", ", ".join(COUNTS), run=run)
        return {name[4:]: n for name, n in zip(COUNTS, row, strict=True) if n}

    def dump(self) -> str:
        """Return all that is in the tables."""
        return "\n".join(repr(row) for name in NAMES for row in execute(self.hook, f"SELECT * FROM {self.table(name)}"))


@pytest.fixture(params=["sqlite", "postgres"])
def desk(request: pytest.FixtureRequest, make_world: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """State in the model's own database, and in another one."""
    monkeypatch.setattr(audit_tables, "CREATION_PATIENCE", 0.01)
    world = make_world()
    if request.param == "sqlite":
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        yield Desk(world, SqliteHook("warehouse"), None)
    else:
        with postgres_tables(postgres_hook(monkeypatch)) as tables:
            yield Desk(world, tables.hook, tables.schema)


def words(reason: Reason) -> str:
    """Return a reason as it is written."""
    return f"{reason}: {reason.sentence}"


def members(world: World, **parameters: Any) -> IterableListOperator:
    """Make a list operator."""
    defaults: dict[str, Any] = {
        "task_id": "sync_list", "sql": "SELECT * FROM users", "sql_conn_id": "warehouse",
        "email_column": "email", "list_name": "VIP",
    }  # fmt: skip
    return IterableListOperator(**{**defaults, **parameters})


def eraser(**parameters: Any) -> IterablePrivacyOperator:
    """Make a privacy operator for whom the model names."""
    defaults: dict[str, Any] = {
        "task_id": "erase", "action": "delete", "sql": f"SELECT * FROM users WHERE email = '{email(2)}'",
        "sql_conn_id": "warehouse", "primary_key": "id", "email_column": "email",
    }  # fmt: skip
    return IterablePrivacyOperator(**{**defaults, **parameters})


def test_the_life_of_users(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Each run has its rows, its numbers and its requests; an unchanged one has no rows."""
    world = desk.world
    parameters: dict[str, Any] = {"on_removed": "delete", "max_removed": None, "max_rejected": 3}
    world.rows(person(1), person(2), person(3, email="nobody"))
    desk.run(**parameters)
    first = [
        ("[1]", "added", "succeeded", None),
        ("[2]", "added", "succeeded", None),
        ("[3]", "added", "failed", words(Reason.INVALID_EMAIL)),
    ]
    assert first == desk.read("changelog", WATCHED) == desk.read("snapshot", WATCHED)
    assert desk.counts(1) == {"planned_add": 3, "attempted_add": 3, "succeeded_add": 2, "failed_add": 1}

    world.people(1, 2)
    desk.run(**parameters)
    assert desk.read("changelog", WATCHED, run=2) == []
    assert desk.counts(2) == {}

    world.rows(person(1, name="New"), person(2, email="no"), person(4))
    desk.run(**parameters)
    assert desk.read("changelog", WATCHED, run=3) == [
        ("[1]", "changed", "succeeded", None),
        ("[2]", "changed", "failed", words(Reason.INVALID_EMAIL)),
        ("[4]", "added", "succeeded", None),
    ]
    world.people(2, 4)
    desk.run(**parameters)
    assert desk.read("changelog", WATCHED, run=4) == [("[1]", "removed", "succeeded", None)]
    assert desk.counts(4) == {"planned_remove": 1, "attempted_remove": 1, "succeeded_remove": 1}
    world.people(1, 2, 4)
    desk.run(**parameters)
    assert desk.read("changelog", WATCHED, run=5) == [("[1]", "added", "succeeded", None)]
    assert desk.read("snapshot", "row_id, op_type, status, sync_run_id") == [
        ("[1]", "added", "succeeded", "run-5"),
        ("[2]", "changed", "failed", "run-3"),
        ("[3]", "added", "failed", "run-1"),
        ("[4]", "added", "succeeded", "run-3"),
    ]

    destination = {"host": world.sandbox.url, "type": "users", "match": "email"}
    for run, primary_key, about, model, status, error in desk.read(
        "runs", "sync_run_id, primary_key, destination, model_name, status, error"
    ):
        assert (primary_key, json.loads(about), model, status, error) == ("id", destination, "", "succeeded", None), run
    assert [row for row in desk.read("runs", "sync_run_id") if row] == [(f"run-{n}",) for n in range(1, 6)]
    made = Counter((method, template, 200) for method, template in (call.split() for call in world.calls.elements()))
    asked = ("GET", "/api/channels", 200)  # once in the life of a sync
    assert Counter(desk.read("requests", "method, path_template, status")) == made + Counter([asked])
    assert [record for record in caplog.records if "audit" in record.getMessage()] == []
    assert "@" not in desk.dump()


def test_failures_are_the_default(desk: Desk) -> None:
    """Rows that are accepted leave none; rows that were refused are told of until they are accepted."""
    world = desk.world
    world.rows(person(1), person(2, email="nobody"))
    desk.run("failures", max_rejected=1)
    refused = ("[2]", "added", "failed", words(Reason.INVALID_EMAIL))
    assert desk.read("changelog", WATCHED) == [refused]
    world.people(1, 2)
    desk.run("failures")
    mended = ("[2]", "added", "succeeded", None)
    assert desk.read("changelog", WATCHED, "recorded_at") == [refused, mended]
    assert desk.read("snapshot", WATCHED) == [mended]
    assert TableState().audit == "failures"
    assert desk.read("requests", "count(*)") == [(len(world.sandbox.calls),)]


def test_the_life_of_members(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Rows are named by the member; the calls that find and make the list are there as well."""
    world = desk.world
    world.make = partial(members, world)  # type: ignore[method-assign]
    one, two = (f'["{email(n)}"]' for n in (1, 2))
    world.people(1, 2)
    desk.run()
    assert desk.read("changelog", WATCHED) == [(one, "added", "succeeded", None), (two, "added", "succeeded", None)]
    assert {
        (method, path, rows) for method, path, rows in desk.read("requests", "method, path_template, num_rows")
    } == {
        ("GET", "/api/channels", 1),
        ("GET", "/api/lists", 1),
        ("POST", "/api/lists", 1),
        ("POST", "/api/lists/subscribe", 2),
    }
    world.people(2)
    desk.run(max_removed=None)
    world.people(1, 2)
    desk.run()
    assert desk.read("changelog", WATCHED, "recorded_at")[2:] == [
        (one, "removed", "succeeded", None),
        (one, "added", "succeeded", None),
    ]
    assert desk.read("snapshot", "row_id, op_type, sync_run_id") == [(one, "added", "run-3"), (two, "added", "run-1")]
    assert [record for record in caplog.records if "audit" in record.getMessage()] == []


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "5xx_html"])
def test_lost_answers(desk: Desk, kind: str) -> None:
    """Each try is a request of its own, with the error's class where no answer came."""
    world = desk.world
    world.people(1, 2)
    world.sandbox.faults({"kind": kind, "path": "/api/users/bulkUpdate", "times": 2})
    desk.run()
    found = desk.read("requests", "status, code", "recorded_at")
    calls = [(status, bool(code)) for status, code in found]
    lost = (503, False) if kind == "5xx_html" else (0, True)
    assert calls[-3:] == [lost, lost, (200, calls[-1][1])]
    assert [row[2] for row in desk.read("changelog", WATCHED)] == ["succeeded", "succeeded"]


def test_deferred_rows(desk: Desk) -> None:
    """They are aborted, and the run failed: it tells why."""
    world = desk.world
    world.people(1, 2)
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "times": -1})
    message, _ = desk.failure(AirflowException)
    assert desk.read("runs", "status, error") == [("failed", message)]
    assert desk.read("changelog", WATCHED) == [(f"[{n}]", "added", "aborted", words(Reason.NO_ANSWER)) for n in (1, 2)]
    assert desk.counts(1) == {"planned_add": 2}


def test_errors_before_the_first_call(desk: Desk) -> None:
    """A guard, another destination and a wrong parameter are told as the task tells them."""
    desk.world.rows()
    guarded, _ = desk.failure(AirflowFailException)
    desk.world.people(1)
    desk.run()
    other, _ = desk.failure(AirflowFailException, email_column=None, user_id_column="uid")
    wrong, _ = desk.failure(AirflowFailException, resync="{{ params.left_over }}")
    expected = [("failed", guarded), ("succeeded", None), ("failed", other), ("failed", wrong)]
    assert expected == desk.read("runs", "status, error", "sync_run_id")
    assert desk.read("runs", "destination", run=3) != [("{}",)]


def test_a_model_that_breaks(desk: Desk) -> None:
    """The run failed, and says of the error what holds no values."""
    desk.world.people(1)
    message, report = desk.failure(AirflowFailException, sql=f"SELECT id, email, oops_{'x' * 5} FROM users")
    assert "query is wrong (OperationalError): no such column: oops_xxxxx" in message
    assert report["status"] == "failed"
    assert desk.read("runs", "status, error") == [("failed", message)]


def test_later_tries_have_a_name_of_their_own(desk: Desk) -> None:
    """So that a retry does not hide what it retries."""
    desk.world.people(1)
    desk.run()
    desk.world.tries = 3
    desk.run()
    assert desk.read("runs", "sync_run_id") == [("run-1",), ("run-2#3",)]


def test_a_run_names_its_task(desk: Desk) -> None:
    """As Airflow calls it, so that runs are found by Dag; one that is mapped has its number."""
    desk.world.people(1)
    desk.run()
    operator = desk.world.operator
    assert operator is not None
    assert desk.read("runs", "dag_id, task_id, map_index") == [(operator.dag_id, "sync_users", -1)]


def test_a_dry_run_leaves_nothing(desk: Desk) -> None:
    """Not even tables."""
    desk.world.people(1)
    desk.run(dry_run=True)
    with pytest.raises(Exception, match="sync_runs"):
        desk.read("runs", "1")


def test_no_audit_leaves_nothing(desk: Desk) -> None:
    """Not even tables."""
    desk.world.people(1)
    desk.run(False)
    with pytest.raises(Exception, match="sync_runs"):
        desk.read("runs", "1")


def test_a_baseline_has_no_rows(desk: Desk) -> None:
    """Nothing was said to Iterable; rows that could not be are told of."""
    desk.world.rows(person(1), person(2, email="nobody"))
    desk.run(resync="baseline", max_rejected=1)
    assert desk.read("changelog", "row_id, status") == [("[2]", "failed")]
    assert desk.counts(1) == {"planned_add": 1, "attempted_add": 1, "failed_add": 1}


def test_what_was_sent_is_not_in_the_log(desk: Desk, heard: Callable[[], str]) -> None:
    """The tables have it when asked for."""
    desk.world.rows(person(1, name="Ada Lovelace"), person(2, name="Grace Hopper", age="x"))
    desk.world.create(9, age=3)
    desk.run(state=desk.state(True, audit_fields=True), max_rejected=1)
    rows = dict(desk.read("changelog", "row_id, fields"))
    assert json.loads(rows["[1]"])["dataFields"]["firstName"] == "Ada Lovelace"
    assert "Lovelace" not in heard()
    assert email(1) not in heard()


BROKEN = {
    "another table": "CREATE TABLE {changelog} (x INTEGER)",
    "other runs": "CREATE TABLE {runs} (x INTEGER)",
    "a view": "CREATE VIEW {snapshot} AS SELECT 1 AS sync_id, 2 AS row_id, 3 AS status",
    "other requests": "CREATE TABLE {requests} (sync_id TEXT, recorded_at TEXT)",
}


@pytest.mark.parametrize("audit", [True, "failures"])
@pytest.mark.parametrize("broken", BROKEN)
def test_an_audit_that_fails(desk: Desk, broken: str, audit: Auditing, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried once more and said, by the error's class; the run does what it does without an audit."""
    world = desk.world
    desk.world.people(*range(50))
    desk.run(False, batch_size=10)
    execute(desk.hook, BROKEN[broken].format(**{name: desk.table(name) for name in NAMES}))
    world.rows(*(person(n, name="New") for n in range(30)), person(99, email="nobody"))
    report = desk.run(audit, batch_size=10, on_removed="delete", max_removed=None)
    assert (report["status"], report["accepted"], report["rejected"]) == ("succeeded", 50, 1)
    assert report["rejected_before"] is None, "what the tables know is not known"
    assert len(world.profiles) == 30
    said = [record for record in caplog.records if "audit" in record.getMessage()]
    assert [record.levelname for record in said] == ["INFO", "WARNING"]
    assert not [record for record in said if "example.com" in record.getMessage()]
    assert desk.run(False)["unchanged"] == 30


def test_an_audit_that_breaks_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that goes away in the middle of a run takes nothing else with it."""
    world = desk.world
    monkeypatch.setattr("airflow_provider_iterable.runs.audit.AT_ONCE", 10)
    world.people(*range(50))
    seen = world.sandbox.service.calls

    def gone(told: Any) -> None:
        if len(seen) == 3:
            execute(desk.hook, f"DROP TABLE IF EXISTS {desk.table('changelog')}")
        observe(told)

    observe: Callable[[Any], None] = lambda told: None  # noqa: E731 (given below)

    def begin(audit: Audit, recall: Any, *, anonymous: bool) -> None:
        nonlocal observe
        whole(audit, recall, anonymous=anonymous)
        observe = audit._observe
        monkeypatch.setattr(audit, "_observe", gone)

    whole = Audit.begin
    monkeypatch.setattr(Audit, "begin", begin)
    report = desk.run(batch_size=10, check_types=False)
    assert (report["status"], report["accepted"]) == ("succeeded", 50)
    assert desk.read("runs", "status") == [("succeeded",)]


@pytest.mark.parametrize("desk", ["postgres"], indirect=True)  # SQLite has no lock of a single table
def test_a_locked_table_holds_nobody_up_for_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody else holds the table, the run goes on without it."""
    short = replace(DIALECTS["postgres"], limits=("SET LOCAL lock_timeout = '50ms'",))
    monkeypatch.setattr("airflow_provider_iterable.state.tables.notation.DIALECTS", {"postgres": short})
    desk.world.people(1)
    desk.run()
    connection = desk.hook.get_conn()
    try:
        connection.cursor().execute(f"LOCK TABLE {desk.table('changelog')} IN ACCESS EXCLUSIVE MODE")
        desk.world.people(1, 2)
        assert desk.run()["accepted"] == 1
    finally:
        connection.close()
    assert desk.read("changelog", "row_id") == [("[1]",)]


def test_who_is_erased(desk: Desk) -> None:
    """The rows about them go, those of lists as well; later ones are hashed, and the request names nobody."""
    world = desk.world
    users = world.make
    world.people(1, 2)
    world.rows(person(1), person(2))
    desk.run(fields={"firstName": "name"})
    world.make = partial(members, world)  # type: ignore[method-assign]
    desk.run(sync_id="dag.members")
    world.make = lambda **parameters: eraser(**parameters)  # type: ignore[method-assign]
    desk.run(sync_id="dag.erase", state=desk.state(True, audit_fields=True))
    world.make = users  # type: ignore[method-assign]
    assert desk.read("changelog", "row_id") == desk.read("snapshot", "row_id") == [("[1]",)]
    assert email(2) not in desk.dump()
    assert email(1) in desk.dump()  # the member's name on the list
    desk.run(fields={"firstName": "name"})
    hashed = sha256(b"[2]").hexdigest()
    assert set(desk.read("changelog", WATCHED)) == {
        ("[1]", "added", "succeeded", None),
        (hashed, "added", "aborted", words(Reason.ERASED_PERSON)),
    }
    (request,) = execute(desk.hook, f"SELECT row_id, fields, person FROM {desk.table('changelog')} WHERE sync_id = 'dag.erase'")  # fmt: skip # noqa: E501
    assert tuple(request) == (hashed, None, None)


def test_the_model_has_its_name(desk: Desk) -> None:
    """That of its table, or of its file."""
    desk.world.people(1)
    desk.run(sql=None, table="main.users")
    assert desk.read("runs", "model_name") == [("users",)]


def test_the_sandbox_was_called_as_told(desk: Desk) -> None:
    """Rows, bytes and times are those of the requests."""
    desk.world.people(1, 2, 3)
    desk.run(batch_size=2)
    found = desk.read(
        "requests", "method, path_template, num_rows, num_bytes, milliseconds", "num_bytes, path_template"
    )
    assert [f"{method} {path}" for method, path, *_ in found] == [CHANNELS, FIELDS, BULK, BULK]
    assert [row[2] for row in found] == [1, 1, 1, 2]
    assert found[0][3] == found[1][3] == 0 < found[2][3] < found[3][3]
