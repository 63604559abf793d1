from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_iterable.engine.report import NOTHING_REMEMBERED
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.store import Store
from airflow_provider_iterable.state.tables.warehouse import BY_THE_DATABASE, BY_THE_WORKER
from tests.operators.conftest import World, email
from tests.services import postgres_uri
from tests.state.test_table import execute

IN_THE_DATABASE = "Rows are compared by the database; only those with news leave it."
ROWS = 12


@dataclass(frozen=True)
class Stop:
    """Where the sync remembers next, and why rows go again when it simply gets there."""

    name: str
    store: Store
    reason: str
    in_the_database: bool = False


class House:
    """Users on Postgres, with a schema for them and for the state."""

    def __init__(self, world: World, schema: str, hook: PostgresHook, folder: Path) -> None:
        self.world, self.schema, self.hook = world, schema, hook
        execute(
            hook,
            f'CREATE SCHEMA "{schema}"',
            f"CREATE TABLE \"{schema}\".users AS SELECT i AS id, 'person' || i || '@example.com' AS email, "
            f"'London' AS city FROM generate_series(1, {ROWS}) AS i",
        )
        table = TableState(schema=schema, compare="worker")
        self.chain = (
            Stop("XCom", XComState(), NOTHING_REMEMBERED),
            Stop("table", table, NOTHING_REMEMBERED),
            Stop("in-database", TableState(schema=schema, compare="database"), BY_THE_DATABASE, in_the_database=True),
            Stop("object", ObjectState(f"file://{folder}"), NOTHING_REMEMBERED),
            Stop("table again", table, BY_THE_WORKER),
        )

    def run(self, stop: Stop, **parameters: Any) -> Any:
        """Run the sync with this store, and count its calls alone."""
        self.world.forget_calls()
        return self.world.run(
            sql_conn_id="state",
            sql=f'SELECT * FROM "{self.schema}".users',
            fields={"city": "city"},
            state=stop.store,
            **parameters,
        )

    def move(self, number: int, city: str) -> None:
        """Let somebody of the model live elsewhere."""
        execute(self.hook, f"UPDATE \"{self.schema}\".users SET city = '{city}' WHERE id = {number}")

    @property
    def cities(self) -> dict[str, str]:
        """Where Iterable believes people to live."""
        return {name: fields["city"] for name, fields in self.world.profiles.items()}

    @property
    def comparison(self) -> str:
        """The scheme of the fingerprints in the tables, as the header names it; ``d1`` is Postgres's."""
        ((notes,),) = execute(self.hook, f'SELECT notes FROM "{self.schema}".sync_header')
        return str(json.loads(notes).get("comparison", "")).partition(" ")[0]


@pytest.fixture
def house(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Users who are at Iterable already, delivered by a sync with XComs."""
    monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_uri())
    schema, hook = f"moving_{uuid.uuid4().hex[:12]}", PostgresHook("state")
    yield House(world, schema, hook, tmp_path / "objects")
    execute(hook, "SET lock_timeout = '5s'", f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def test_with_a_baseline_moving_sends_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """From XCom to a table, into the database, to objects and back to the table: no request is made for any of it.

    After each move one person's row changes: that one goes, and no other.
    """
    caplog.set_level(logging.INFO)
    first, *moves = house.chain
    assert house.run(first)["accepted"] == ROWS
    for number, stop in enumerate(moves, 1):
        caplog.clear()
        report = house.run(stop, resync="baseline")
        assert (report["read"], report["accepted"], report["requests"]) == (ROWS, 0, {}), stop.name
        assert report["resend_reason"] is None, stop.name
        assert not house.world.calls, stop.name
        report = house.run(stop)
        assert (report["unchanged"], report["accepted"], report["resend_reason"]) == (ROWS, 0, None), stop.name
        assert not house.world.calls, stop.name
        house.move(number, stop.name)
        report = house.run(stop)
        assert (report["changed"], report["unchanged"], report["accepted"]) == (1, ROWS - 1, 1), stop.name
        assert house.cities[email(number)] == stop.name
        assert caplog.text.count(IN_THE_DATABASE) == (3 if stop.in_the_database else 0), stop.name
        assert "go again" not in caplog.text, stop.name
        if isinstance(stop.store, TableState):
            assert house.comparison == ("d1" if stop.in_the_database else ""), stop.name


def test_without_a_baseline_the_log_says_why_rows_go_again(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """So does the report, for each move; rows go again once, and then the sync is quiet."""
    caplog.set_level(logging.INFO)
    for stop in house.chain:
        caplog.clear()
        report = house.run(stop)
        assert (report["accepted"], report["resend_reason"]) == (ROWS, stop.reason), stop.name
        assert house.world.calls["POST /api/users/bulkUpdate"] == 1, stop.name
        said = caplog.text.lower()
        assert stop.reason.lower() in said, stop.name
        assert 'resync="baseline"' in said, stop.name
        assert (IN_THE_DATABASE.lower() in said) is stop.in_the_database, stop.name
        report = house.run(stop)
        assert (report["unchanged"], report["resend_reason"]) == (ROWS, None), stop.name
        assert not house.world.calls, stop.name
