from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.mapping import Json
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.tables.warehouse import Compare
from tests.operators.conftest import Make, World
from tests.services import postgres_uri
from tests.state.test_table import execute, postgres_hook

PEOPLE = "SELECT i AS id, 'u' || i || '@example.com' AS email{more} FROM generate_series(1, 50) AS i"


@dataclass
class Place:
    """A project, and a schema of a role of its own in Postgres, which holds model and state."""

    world: World
    owner: DbApiHook
    role: str
    compare: Compare

    def make(self, *statements: str) -> None:
        """Execute statements as the owner of everything."""
        execute(self.owner, f"SET search_path = {self.role}", *statements)

    def table(self, query: str) -> None:
        """Make the model's table."""
        self.make(f"CREATE TABLE people AS {query}", f"GRANT SELECT ON people TO {self.role}")

    def run(self, **parameters: Any) -> Any:
        """Run the sync as the role."""
        state = TableState(schema=self.role, compare=self.compare, audit=True)
        defaults = {"sql": "SELECT * FROM people", "sql_conn_id": "role", "fields": None, "state": state}
        return self.world.run(**{**defaults, "email_column": "email", **parameters})

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """Return what is in a table of the state."""
        return [tuple(row) for row in execute(self.owner, query.format(schema=self.role))]


@pytest.fixture(params=["database", "worker"])
def place(request: pytest.FixtureRequest, make_world: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Give the place, compared by the database and by the worker."""
    owner = postgres_hook(monkeypatch)
    role = f"iterable_{uuid.uuid4().hex[:12]}"
    execute(owner, f"CREATE ROLE {role} LOGIN", f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    scheme, _, address = postgres_uri().partition("://")
    uri = f"{scheme}://{role}@{address.partition('@')[2]}"
    monkeypatch.setenv("AIRFLOW_CONN_ROLE", uri)
    yield Place(make_world("email"), owner, role, request.param)
    execute(owner, f"DROP SCHEMA {role} CASCADE", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_one_infinity_costs_one_row(place: Place) -> None:
    """And nothing where its column is not mapped."""
    place.table(PEOPLE.format(more=", CASE WHEN i = 7 THEN 'infinity'::timestamptz ELSE '2030-01-01Z' END AS until"))
    report = place.run()
    assert (report["accepted"], report["rejected"], report["reasons"]) == (49, 1, {"invalid_value": 1})
    report = place.run(fields={"email2": "email"})
    assert (report["accepted"], report["rejected"]) == (50, 0)


@pytest.mark.parametrize("value", ["{}", "ARRAY[{}]"])
def test_decimals_are_doubles_whichever_comes_first(place: Place, value: str) -> None:
    """Also a whole one of which a double has not all digits, alone or among others."""
    number = value.format("CASE WHEN i = 1 THEN 9007199254740993 ELSE i + 0.5 END::numeric")
    place.table(PEOPLE.format(more=f", {number} AS score"))
    first = place.run(sql="SELECT * FROM people WHERE id = 1")
    assert first["new_fields"]["score"] == "double"
    report = place.run()
    assert (report["accepted"], report["rejected"]) == (49, 0)
    assert place.world.sandbox.project.schema.types["score"] == "double"


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_the_order_of_members_is_no_change(place: Place, kind: str) -> None:
    """Nor are blanks; another value is one."""
    more = f""", '{{"a": 1, "b": {{"c": [1, 2], "d": "x"}}}}'::{kind} AS meta"""
    place.table(PEOPLE.format(more=more))
    assert place.run()["accepted"] == 50
    place.make(f"""UPDATE people SET meta = '{{"b":{{"d":"x","c":[1,2]}},   "a":1}}'::{kind}""")
    assert place.run()["unchanged"] == 50
    place.make(f"""UPDATE people SET meta = '{{"b":{{"d":"x","c":[2,1]}},"a":1}}'::{kind} WHERE id = 1""")
    report = place.run()
    assert (report["changed"], report["unchanged"]) == (1, 49)


@pytest.mark.parametrize("place", ["worker"], indirect=True)
def test_the_order_of_members_of_text_is_no_change_for_the_worker(place: Place) -> None:
    """Text that is mapped by ``Json()`` is compared as what it means."""
    place.table(PEOPLE.format(more=""", '{"a": 1, "b": 2}'::text AS meta"""))
    fields = {"meta": Json("meta")}
    place.run(fields=fields)
    place.make("""UPDATE people SET meta = '{"b":2,   "a":1}'""")
    assert place.run(fields=fields)["unchanged"] == 50


@pytest.mark.parametrize("style", ["German, DMY", "SQL, MDY", "Postgres, DMY"])
def test_a_role_may_have_a_style_of_dates(place: Place, style: str) -> None:
    """What it says about its sessions is not what the sync relies on."""
    execute(place.owner, f"ALTER ROLE {place.role} SET datestyle = '{style}'")
    execute(place.owner, f"ALTER ROLE {place.role} SET intervalstyle = 'sql_standard'")
    place.table(PEOPLE.format(more=", '2030-01-02 03:04:05Z'::timestamptz AS at, interval '26 hours' AS span"))
    assert place.run()["accepted"] == 50
    assert place.world.profiles["u1@example.com"] == {"at": "2030-01-02 03:04:05 +00:00", "span": "26:00:00"}
    assert place.run()["unchanged"] == 50


def test_sessions_that_are_ended_when_idle_lose_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the state nor the audit."""
    execute(place.owner, f"ALTER ROLE {place.role} SET idle_session_timeout = '200ms'")
    place.table(PEOPLE.format(more=", i % 10 = 3 AS odd"))
    place.make("UPDATE people SET email = 'nobody' WHERE odd")
    place.world.sandbox.service.faults.add([{"kind": "slow", "seconds": 0.7, "times": 20}])
    report = place.run(batch_size=10, max_rejected=10)
    assert (report["accepted"], report["rejected"]) == (45, 5)
    assert "audit tables" not in "".join(r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert place.read("SELECT count(*) FROM {schema}.sync_state") == [(45,)]
    assert place.read("SELECT status, count(*) FROM {schema}.sync_changelog GROUP BY 1 ORDER BY 1") == [
        ("failed", 5),
        ("succeeded", 45),
    ]
    assert place.read("SELECT status FROM {schema}.sync_runs") == [("succeeded",)]


def test_a_role_whose_path_leads_nowhere_is_told_at_once(place: Place) -> None:
    """Nothing can be made there, however often it is tried."""
    execute(place.owner, f"ALTER ROLE {place.role} SET search_path = nowhere")
    place.table(PEOPLE.format(more=""))
    started = time.monotonic()
    sql = f"SELECT * FROM {place.role}.people"
    message, _ = place.world.failure(
        AirflowFailException, sql=sql, sql_conn_id="role", fields=None, state=TableState(), email_column="email"
    )
    assert time.monotonic() - started < 20
    assert "no schema has been selected to create in" in message
