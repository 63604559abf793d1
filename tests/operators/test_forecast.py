"""What operators forecast before they call anything, and what comes of a deadline."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.turns import Measured
from airflow_provider_iterable.hooks import iterable as hooks
from airflow_provider_iterable.runs import pace
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.store import Store
from tests.operators.conftest import BULK, Make, World

LOOK_UP, DELETE = "GET /api/users/getByEmail", "DELETE /api/users/{email}"
STORES: dict[str, Callable[[Path], Store]] = {
    "tables": lambda path: TableState(),
    "xcom": lambda path: XComState(),
    "objects": lambda path: ObjectState(f"file://{path}/state"),
}


@pytest.fixture
def slow(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> World:
    """Give a world in which time passes, and each answer takes 0.3 s."""
    world = make_world(sleep=time.sleep)
    world.sandbox.faults({"kind": "slow", "path": "/api/users", "times": -1, "seconds": 0.3})
    monkeypatch.setattr(hooks, "Client", Client)
    return world


@pytest.mark.parametrize("store", STORES)
def test_the_second_run_knows_what_the_first_one_measured(
    slow: World, store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever keeps the state; a dry run knows it too, and leaves it as it was."""
    caplog.set_level("INFO")
    state = STORES[store](tmp_path)
    slow.people(1, 2, 3)
    (first,) = slow.run(state=state)["forecast"]
    assert (first["endpoint"], first["rows"], first["requests"], first["rate"]) == (BULK, 3, 1, 5.0)
    assert (first["documented"], first["seconds"], first["measured_seconds"], first["waiting"]) == (True, 0.2, None, 0)
    assert "3 rows through POST /api/users/bulkUpdate: about 1 requests, 0.2 s at the rate limit of 5" in caplog.text
    assert "measured" not in caplog.text
    slow.people(1, 2, 3, 4)
    for dry_run in (True, True, False):
        (later,) = slow.run(state=state, dry_run=dry_run)["forecast"]
        assert (later["requests"], later["seconds"]) == (1, 0.2)
        assert later["measured_seconds"] >= 0.3
    assert "s at the pace measured in an earlier run.\n  All is expected to be done in" in caplog.text


def test_a_run_that_sends_nothing_knows_what_earlier_ones_measured(slow: World) -> None:
    """It measures nothing, and what is known stays."""
    slow.people(1)
    slow.run()
    assert slow.run()["forecast"] == []
    slow.people(1, 2)
    assert slow.run(dry_run=True)["forecast"][0]["measured_seconds"] >= 0.3


def test_what_was_measured_is_no_part_of_a_plan(slow: World) -> None:
    """The same rows are the same plan, however quickly Iterable answered last time."""
    slow.people(1)
    slow.run()
    slow.people(1, 2)
    plan = slow.run(dry_run=True)["plan_hash"]
    with closing(sqlite3.connect(slow.warehouse)) as connection:
        (text,) = connection.execute("SELECT notes FROM iterable_sync_header").fetchone()
        assert json.loads(json.loads(text)[pace.NOTE])[BULK][1] is None
        notes = {**json.loads(text), pace.NOTE: json.dumps({BULK: [60.0, 0.5]})}
        connection.execute("UPDATE iterable_sync_header SET notes = ?", (json.dumps(notes),))
        connection.commit()
    report = slow.run(dry_run=True)
    assert (report["plan_hash"], report["forecast"][0]["measured_seconds"]) == (plan, 60.0)
    assert slow.run(approved_plan=plan)["accepted"] == 1


def test_look_ups_and_deletions_are_foreseen(world: World) -> None:
    """Who may be updated is looked up, updated, and deleted once the row has left."""
    world.people(*range(1, 31))
    world.run(resync="baseline")
    world.people(*range(11, 61))
    given = {"mode": "update", "on_removed": "delete", "max_removed": None}
    report = world.run(**given, dry_run=True)
    assert {line["endpoint"]: (line["rows"], line["requests"]) for line in report["forecast"]} == {
        LOOK_UP: (30, 30),
        BULK: (30, 1),
        DELETE: (10, 10),
    }
    for number in range(1, 61):
        world.create(number)
    world.run(**given)
    assert {name: made for name, made in world.calls.items() if name in (LOOK_UP, DELETE)} == {LOOK_UP: 30, DELETE: 10}


@pytest.mark.parametrize("deadline", [datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_deadline_that_would_be_missed_lets_nothing_go(world: World, deadline: Any, dry_run: bool) -> None:
    """The message says what would be done when; nothing is called, and the state is as it was."""
    world.people(1)
    world.run()
    world.people(1, 2)
    remembered = world.remembered
    world.forget_calls()
    given = {"deadline": deadline, "deadline_action": "fail", "dry_run": dry_run}
    message, report = world.failure(AirflowFailException, **given)
    assert message.startswith("1 rows would be done at ")
    assert (
        " after the deadline (2026-01-01 00:00 UTC). 1 rows through POST /api/users/bulkUpdate: about 1 req" in message
    )
    assert "Nothing was sent. What makes it faster: " in message
    assert (report["status"], report["forecast"][0]["rows"]) == ("failed", 1)
    assert (world.calls, world.remembered) == ({}, remembered)
    world.people(1)
    assert world.run(**given)["status"] in ("planned", "succeeded")


def test_a_deadline_that_would_be_missed_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """That is all, by default."""
    world.people(1)
    caplog.set_level("WARNING")
    assert world.run(deadline="2026-01-01T00:00:00Z")["accepted"] == 1
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "after the deadline (2026-01-01 00:00 UTC)" in record.message


def test_a_deadline_that_is_kept_is_not_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does it keep anything from going."""
    world.people(1)
    deadline = datetime.now(UTC) + timedelta(hours=1)
    assert world.run(deadline=deadline, deadline_action="fail")["accepted"] == 1
    assert "deadline" not in caplog.text


@pytest.mark.parametrize(
    "text", [None, "", "nonsense", "[1]", '{"a": 1}', '{"a": [0.0]}', '{"a": [-1, 2]}', '{"a": [1, 0]}']
)
def test_a_note_that_is_none_says_nothing(text: str | None) -> None:
    """Another version may have written it."""
    assert pace.noted(text) == {}


@pytest.mark.parametrize(
    ("measured", "expected", "decisive", "known", "noted"),
    [
        (Measured(0.2, 4.9), 5.0, True, None, Measured(0.2)),
        (Measured(0.2, 2.5), 5.0, True, None, Measured(0.2, 2.5)),
        (Measured(0.2, 4.9), 5.0, True, Measured(1.0, 2.5), Measured(0.2)),
        (Measured(0.2, 0.1), 5.0, False, None, Measured(0.2)),
        (Measured(0.2, 0.1), 5.0, False, Measured(1.0, 2.5), Measured(0.2, 2.5)),
        (Measured(0.2), 5.0, True, Measured(1.0, 2.5), Measured(0.2, 2.5)),
    ],
)
def test_a_rate_is_noted_where_it_decides_and_is_less_than_what_is_allowed(
    measured: Measured, expected: float, decisive: bool, known: Measured | None, noted: Measured
) -> None:
    """One that only follows another endpoint says nothing, and neither does one that is as fast as it may be."""
    session: Any = SimpleNamespace(notes={pace.NOTE: json.dumps({BULK: [known.seconds, known.rate]})} if known else {})
    client: Any = SimpleNamespace(measured=lambda: {BULK: (measured, expected), "GET /somewhere/else": (measured, 1.0)})
    report: Any = SimpleNamespace(decisive={BULK} if decisive else {LOOK_UP})
    pace.note(session, client, report)
    assert pace.noted(session.notes[pace.NOTE]) == {BULK: noted}
    client.measured = dict
    pace.note(session, client, report)
    assert pace.noted(session.notes[pace.NOTE]) == {BULK: noted}
