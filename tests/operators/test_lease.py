from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import Intents, Patch
from airflow_provider_iterable.errors import IterableSyncError, StateUnavailable, Unfinished
from airflow_provider_iterable.operators.instances import holder_of
from airflow_provider_iterable.runs.run import Run
from airflow_provider_iterable.runs.runner import permitting
from airflow_provider_iterable.runs.users import UserRun
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.tables import lease as leases
from airflow_provider_iterable.state.tables.session import TableSession
from airflow_provider_iterable.syncs.users import Users
from tests.operators.conftest import BULK, KEY, Make, World, person, taken_as
from tests.services import postgres_uri
from tests.state.test_table import execute

COLUMNS = "sync_id, holder, instance, attempt, label, expires_at"
FAR = 4_102_444_800_000
"""A time that is long from now."""


def lease(world: World) -> list[tuple[str, str]]:
    """Return the leases, and who has them."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        return connection.execute("SELECT sync_id, label FROM iterable_sync_lease").fetchall()


def steal(world: World) -> None:
    """Let another run have the lease of every sync."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        connection.execute("UPDATE iterable_sync_lease SET holder = 'other', label = 'the other run'")
        connection.commit()


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let a run find that very much time has passed."""
    now = [0.0]
    monkeypatch.setattr(leases, "elapsing", lambda: now[0])

    def away() -> None:
        now[0] += 100_000.0

    return away


def test_a_run_lets_the_lease_go(world: World) -> None:
    """When it has succeeded, and when it has failed."""
    world.people(1, 2)
    world.run()
    assert lease(world) == []
    world.people(1, 3, name="other")
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "times": -1})
    world.failure(AirflowException)
    assert lease(world) == []
    world.rows()
    world.failure(AirflowFailException)
    assert lease(world) == []


def test_a_second_run_fails_and_names_the_first(make_world: Make) -> None:
    """While requests of the first are under way: before it reads anything, and whatever it would do."""
    told: list[str] = []

    def second(seconds: float) -> None:
        calls = world.calls.copy()
        for options in ({}, {"dry_run": True}, {"resync": "baseline"}):
            with pytest.raises(AirflowException) as failed:
                world.run(sql="SELECT * FROM nothing", **options)
            assert taken_as(failed.value) is AirflowException, "a retry may help"
            told.append(str(failed.value))
        assert world.calls == calls

    world = make_world(sleep=second)
    world.people(*range(1, 4))
    world.sandbox.faults({"kind": "slow", "path": "/api/users/bulkUpdate"})
    assert world.run()["accepted"] == 3
    assert len(told) == 3
    for message in told:
        assert "being run by another run: task " in message
        assert ".sync_users, run run-1, try 1, on " in message
        assert KEY not in message
    assert lease(world) == []
    assert world.run()["unchanged"] == 3


def test_who_lost_the_lease_remembers_no_more(make_world: Make) -> None:
    """The next commit notices. A retry would be in the way of the new holder, who sends these rows again."""

    def sleep(seconds: float) -> None:
        steal(world)

    world: World = make_world(sleep=sleep)
    world.people(*range(1, 101))
    world.sandbox.faults({"kind": "slow", "path": "/api/users/bulkUpdate", "after": 9, "times": 1})
    message, report = world.failure(AirflowFailException, batch_size=1)
    assert "is lost: the other run holds it now" in message
    assert "nothing more is written or sent" in message
    assert report["status"] == "failed"
    assert len(world.remembered) == report["accepted"] < 100
    assert len(world.profiles) > report["accepted"] >= 10 - Patience().in_flight
    assert lease(world) == [("adhoc_airflow.sync_users", "the other run")]


def test_who_was_away_and_lost_the_lease_sends_nothing(make_world: Make, away: Callable[[], None]) -> None:
    """Its lease has run out, and before the next request it asks whose it is."""

    def sleep(seconds: float) -> None:
        steal(world)
        away()

    world = make_world(sleep=sleep)
    world.people(*range(1, 101))
    world.sandbox.faults({"kind": "slow", "path": "/api/users/getFields"})
    message, report = world.failure(AirflowFailException, batch_size=1)
    assert "is lost: the other run holds it now" in message
    assert report["accepted"] == 0
    assert world.calls[BULK] == 0
    assert world.profiles == {}
    assert world.remembered == []


def test_who_was_away_and_still_has_the_lease_goes_on(make_world: Make, away: Callable[[], None]) -> None:
    """Nobody took over: there is no reason to fail."""
    world = make_world(sleep=lambda seconds: away())
    world.people(*range(1, 31))
    world.sandbox.faults({"kind": "slow", "path": "/api/users/bulkUpdate", "after": 9, "times": 1})
    world.sandbox.faults({"kind": "slow", "path": "/api/users/getFields"})
    assert world.run(batch_size=1)["accepted"] == 30
    assert world.calls[BULK] == 30


def test_a_killed_run_is_taken_over_when_its_lease_has_run_out(world: World) -> None:
    """By any run; until then by none but a later try."""
    world.people(1, 2)
    world.run()
    with closing(sqlite3.connect(world.warehouse)) as connection:
        row = ("adhoc_airflow.sync_users", "it", "that", 1, "the killed run", FAR)
        connection.execute(f"INSERT INTO iterable_sync_lease ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.commit()
    message, _ = world.failure(AirflowException)
    assert "the killed run" in message
    with closing(sqlite3.connect(world.warehouse)) as connection:
        connection.execute("UPDATE iterable_sync_lease SET expires_at = 1")
        connection.commit()
    assert world.run()["unchanged"] == 2
    assert lease(world) == []


def test_tries_belong_to_one_task_instance() -> None:
    """Run and map index make one; so do DAG and task, whose names the label has."""

    class Instance:
        try_number = 3
        map_index = -1

    instance, task = Instance(), ("crm", "sync_users")
    first = holder_of(instance, "run-1", *task)
    assert first.attempt == 3
    assert first.label.startswith("task crm.sync_users, run run-1, try 3, on ")
    instance.try_number = 4
    assert holder_of(instance, "run-1", *task).instance == first.instance
    assert holder_of(instance, "run-2", *task).instance != first.instance
    instance.map_index = 7
    assert holder_of(instance, "run-1", *task).instance != first.instance
    assert "sync_users (map index 7), run run-1" in holder_of(instance, "run-1", *task).label
    assert holder_of(Instance(), "run-1", "crm", "other").instance != first.instance
    assert len(person(1)) == 6


def test_a_run_that_is_over_lets_no_request_start() -> None:
    """Also where the state has no lease: requests that wait for their turn end with the run that failed."""
    stop = threading.Event()
    permitted = permitting(None, stop)
    assert permitted()
    stop.set()
    assert not permitted()


def test_a_plan_beside_another_run_is_none(
    world: World, away: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run that lost its lease fails, although it would write nothing."""
    build = UserRun.build

    def late(kind: UserRun, run: Run, columns: Sequence[str]) -> Users:
        steal(world)
        away()
        assert isinstance(run.session.lease, leases.Lease)
        run.session.lease.renew_if_due()
        return build(kind, run, columns)

    monkeypatch.setattr(UserRun, "build", late)
    world.people(1)
    message, report = world.failure(AirflowFailException, dry_run=True)
    assert "is lost: the other run holds it now" in message
    assert report["status"] == "failed"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StateUnavailable("3 rows are not remembered"), "3 rows are not remembered"),
        (Unfinished("rows were deferred"), "the lease could not be renewed"),
    ],
)
def test_what_is_not_remembered_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, error: IterableSyncError, told: str
) -> None:
    """A lease that could not be renewed is the reason for what it led to, but a commit that failed says more."""

    def commit(session: TableSession, patch: Patch, intents: Intents) -> None:
        session.lease.failure = StateUnavailable("the lease could not be renewed")
        raise error

    monkeypatch.setattr(TableSession, "commit", commit)
    world.people(1)
    assert world.failure(AirflowException)[0] == told


def test_a_lease_outlasts_a_long_query(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database works on the model, the lease is renewed, and nobody else gets it."""
    monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_uri())
    schema, hook = f"query_{uuid.uuid4().hex[:12]}", PostgresHook("state")
    parameters: dict[str, Any] = {
        "sql_conn_id": "state",
        "sql": f"SELECT i AS id, 'person' || i || '@example.com' AS email FROM generate_series(1, 3) AS i "
        f"WHERE pg_advisory_xact_lock_shared(hashtext('{schema}')) IS NOT NULL",
        "fields": {},
        "state": TableState(schema=schema, lease_seconds=3.0, compare="database"),
    }

    def ends() -> list[int]:
        if execute(hook, f"SELECT to_regclass('{schema}.sync_lease')") == [(None,)]:
            return []
        return [end for (end,) in execute(hook, f"SELECT expires_at FROM {schema}.sync_lease")]

    with ThreadPoolExecutor(1) as pool, closing(hook.get_conn()) as lock:
        try:
            lock.cursor().execute(f"SELECT pg_advisory_lock(hashtext('{schema}'))")
            run = pool.submit(world.run, **parameters)
            seen = set[int]()
            while len(seen) < 4 and not run.done():
                seen.update(ends())
            with pytest.raises(AirflowException, match="being run by another run"):
                world.run(**parameters)
            assert not world.calls
            lock.close()
            assert run.result(60)["accepted"] == 3
        finally:
            lock.close()
            execute(hook, "SET lock_timeout = '5s'", f"DROP SCHEMA IF EXISTS {schema} CASCADE")
