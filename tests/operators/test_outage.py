from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tenacity
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.sqlite.hooks.sqlite import SqliteHook

from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.sql import model as models
from airflow_provider_iterable.state import ObjectState, TableState
from airflow_provider_iterable.state.tables import lease as leases
from airflow_provider_iterable.state.tables.connection import COMMIT_PATIENCE
from airflow_provider_iterable.state.tables.session import TableSession
from airflow_provider_iterable.state.tables.warehouse import WarehouseSession
from tests.operators.conftest import BULK, Make, email, person
from tests.services import Line, postgres_uri
from tests.state.test_table import Time, execute

ROWS = 40
IN_FLIGHT = Patience().in_flight
SLOW = {"kind": "slow", "path": "/api/users/bulkUpdate", "times": 1}
FILLER = "x" * 300
NOT_REMEMBERED = re.compile(
    r"could not be written for 30 s \(\w+Error(?:: .*)?\)\. (\d+) rows that Iterable accepted are not"
)


class Patient(Time):
    """Time that something may happen in while somebody waits to try again."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[float, Callable[[], None]]] = []

    def sleep(self, seconds: float) -> None:
        """Let the seconds pass, and what is due by then happen."""
        super().sleep(seconds)
        while self.events and self.now >= self.events[0][0]:
            self.events.pop(0)[1]()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Patient:
    """Time as it passes for those who try again."""
    time = Patient()
    monkeypatch.setattr(tenacity, "time", time)
    monkeypatch.setattr(tenacity.nap, "time", time)
    return time


class Outage:
    """A world whose state is on Postgres, behind a line that can be cut; and in a database that cannot, to look at."""

    def __init__(self, make_world: Make, line: Line, schema: str, hook: PostgresHook) -> None:
        self.line, self.schema, self.hook = line, schema, hook
        self.during: Callable[[], None] = line.cut
        self.world = make_world(sleep=lambda seconds: self.during())
        self.store = TableState("state", schema)
        self.world.people(*range(1, ROWS + 1))

    def slow(self, after: int) -> None:
        """Let something happen while the request after so many is under way."""
        self.world.sandbox.faults({**SLOW, "after": after})

    @property
    def remembered(self) -> set[str]:
        """Whom the state remembers."""
        found = execute(self.hook, f'SELECT ref FROM "{self.schema}".sync_state')
        return {json.loads(ref)[1] for (ref,) in found}

    @property
    def holders(self) -> list[str]:
        """Who has a lease."""
        return [label for (label,) in execute(self.hook, f'SELECT label FROM "{self.schema}".sync_lease')]

    def run(self, **parameters: Any) -> Any:
        """Run the operator, one row at a time."""
        return self.world.run(**{"state": self.store, "batch_size": 1, "max_in_flight": IN_FLIGHT, **parameters})

    def retry(self, **parameters: Any) -> Any:
        """Run it as Airflow does when it failed."""
        return self.world.retry(**{"state": self.store, "batch_size": 1, "max_in_flight": IN_FLIGHT, **parameters})

    def failure(self, **parameters: Any) -> tuple[str, Any]:
        """Run it into an error that is worth a retry; return what it says, and the report."""
        told = self.world.failure(
            AirflowException, **{"state": self.store, "batch_size": 1, "max_in_flight": IN_FLIGHT, **parameters}
        )
        settle()
        assert told[1]["status"] == "failed"
        return told

    def is_complete(self) -> bool:
        """Tell whether Iterable holds the model, and a run finds nothing to do."""
        assert self.world.profiles.keys() == {email(number) for number in range(1, ROWS + 1)}
        self.world.forget_calls()
        report = self.run()
        return report["unchanged"] == ROWS and not self.world.calls


def settle() -> None:
    """Wait for requests that were in flight when the run ended."""
    for thread in threading.enumerate():
        if thread.name.startswith(("iterable", "lease")):
            thread.join(60)


@pytest.fixture
def outage(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    """State on Postgres behind a line."""
    uri, schema = postgres_uri(), f"outage_{uuid.uuid4().hex[:12]}"
    line = Line(uri)
    monkeypatch.setenv("AIRFLOW_CONN_STATE", line.uri)
    monkeypatch.setenv("AIRFLOW_CONN_DIRECTLY", uri)
    hook = PostgresHook("directly")
    yield Outage(make_world, line, schema, hook)
    line.close()
    execute(hook, "SET lock_timeout = '5s'", f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


@pytest.mark.parametrize("after", [0, 9, ROWS - 1])
def test_a_state_that_goes_away_in_the_middle_of_delivery(outage: Outage, time: Patient, after: int) -> None:
    """The task fails and says what is not remembered: no more than was in flight. The next try sends that, no more."""
    outage.slow(after)
    message, report = outage.failure()
    assert COMMIT_PATIENCE <= time.now < COMMIT_PATIENCE + 6
    told = NOT_REMEMBERED.search(message)
    assert told
    assert "not remembered; they and the batches in flight go again with the next try" in message
    world, remembered = outage.world, outage.remembered
    lost = world.profiles.keys() - remembered
    assert remembered <= world.profiles.keys()
    assert report["accepted"] <= len(remembered)
    assert 0 <= int(told[1]) <= IN_FLIGHT, "none, where the next request could not be announced"
    assert len(lost) <= IN_FLIGHT, "a commit whose answer was cut off may be there all the same"
    assert world.calls[BULK] == len(world.profiles) <= after + 1 + IN_FLIGHT
    outage.line.mend()
    world.forget_calls()
    assert outage.retry()["accepted"] == ROWS - len(remembered)
    assert world.calls[BULK] == ROWS - len(remembered)
    assert outage.is_complete()
    assert outage.holders == []


def test_another_run_waits_for_the_lease_of_one_that_could_not_let_it_go(outage: Outage, time: Patient) -> None:
    """It is told whose it is; a later try of that one need not wait."""
    outage.slow(9)
    outage.failure()
    outage.line.mend()
    message, _ = outage.failure()
    assert "is being run by another run: task " in message
    assert ", run run-1, try 1, on " in message
    outage.world.runs -= 1
    outage.retry()
    assert outage.is_complete()


@pytest.mark.parametrize("after", [0, 9, ROWS - 1])
def test_a_state_that_is_away_for_a_moment(outage: Outage, time: Patient, after: int) -> None:
    """The commit is tried again, the run goes on and ends well, and no row goes twice."""
    outage.slow(after)
    time.events.append((10.0, outage.line.mend))
    assert outage.run()["accepted"] == ROWS
    assert not time.events, "it was away"
    assert outage.world.calls[BULK] == ROWS
    assert len(outage.remembered) == ROWS
    assert outage.holders == []
    assert outage.is_complete()


def test_a_state_that_is_away_when_it_is_opened(outage: Outage, time: Patient) -> None:
    """Nothing is read or sent; away for a moment, it is waited for."""
    outage.line.cut()
    message, report = outage.failure(sql="SELECT * FROM nothing")
    assert re.search(r"could not be opened for 30 s \(OperationalError: .*\)\. Nothing was read or sent\.", message)
    assert (report["requests"], outage.world.calls) == ({}, {})
    time.events.append((time.now + 10.0, outage.line.mend))
    assert outage.run()["accepted"] == ROWS
    assert not time.events
    assert outage.is_complete()


AT: dict[str, tuple[type, str, dict[str, Any], str]] = {
    "the lease is taken": (
        leases.Lease,
        "take",
        {},
        "lease of sync .* could not be taken .OperationalError: .*Nothing",
    ),
    "the header is read": (TableSession, "_read_header", {}, "could not be read for 30 s .*No row was sent"),
    "fingerprints are read": (WarehouseSession, "pair", {}, "could not be read for 30 s .*No row was sent"),
    "entries are recalled": (TableSession, "recall", {}, "could not be read for 30 s .*No row was sent"),
    "fingerprints are voided": (
        TableSession,
        "void",
        {"resync": "full"},
        "could not be written for 30 s .*Nothing was",
    ),
    "the end is noted": (TableSession, "note", {"resync": "full"}, "note 'resync' .*could not be written for 30 s"),
    "the run ends": (TableSession, "finish", {}, "could not be written for 30 s .*Everything was delivered and is rem"),
}


@pytest.mark.parametrize("when", AT)
def test_a_state_that_goes_away_when(outage: Outage, time: Patient, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The error says what is remembered; nothing is sent but by runs that were done; the next try goes on."""
    outage.run(batch_size=10)
    world = outage.world
    world.rows(*(person(number, city="Paris" if number > 30 else "London") for number in range(1, ROWS + 1)))
    world.forget_calls()
    place, name, parameters, expected = AT[when]
    method = getattr(place, name)

    def cutting(*args: Any, **kwargs: Any) -> Any:
        outage.line.cut()
        return method(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, cutting)
        message, report = outage.failure(batch_size=10, **parameters)
    assert re.search(expected, message), message
    done = when in ("the end is noted", "the run ends")
    changed = 40 if "resync" in parameters else 10
    assert report["accepted"] == (changed if done else 0)
    assert world.calls[BULK] == (changed // 10 if done else 0)
    outage.line.mend()
    assert outage.retry(batch_size=10, **parameters)["accepted"] == (0 if done else changed)
    assert {world.profiles[email(number)]["address"]["city"] for number in range(31, 41)} == {"Paris"}
    assert outage.is_complete()


@pytest.mark.parametrize("compare", ["database", "worker"])
def test_a_database_that_goes_away_while_rows_are_compared(
    outage: Outage, time: Patient, monkeypatch: pytest.MonkeyPatch, compare: Any
) -> None:
    """In the midst of the model's rows nothing was sent yet, and another try reads them again."""
    chunks, met = models._chunks, list[int]()

    def cutting(*args: Any) -> Iterator[Any]:
        for chunk in chunks(*args):
            met.append(len(chunk))
            yield chunk
            outage.line.cut()

    parameters: dict[str, Any] = {
        "sql_conn_id": "state",
        "sql": "SELECT i AS id, 'person' || i || '@example.com' AS email, 'x' AS name "
        f"FROM generate_series(1, {ROWS}) AS i",
        "fields": {"firstName": "name"},
        "state": TableState(schema=outage.schema, compare=compare),
        "batch_size": 1,
    }
    monkeypatch.setattr(models.Model.__init__, "__defaults__", (None, 7))
    with monkeypatch.context() as patched:
        patched.setattr(models, "_chunks", cutting)
        message, report = outage.failure(**parameters)
    assert met == [7]
    assert re.search(r"The model could not be read .(OperationalError|AdminShutdown).*Nothing was sent", message)
    assert (report["accepted"], outage.world.calls) == (0, {})
    outage.line.mend()
    assert outage.retry(**parameters)["accepted"] == ROWS


def test_a_database_that_is_away_while_the_model_is_described(
    outage: Outage, time: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That says nothing about whether it can compare: another try may find that it can."""
    describe = models.Model.describe

    def cutting(*args: Any) -> None:
        outage.line.cut()
        try:
            describe(*args)
        finally:
            outage.line.mend()

    parameters: dict[str, Any] = {
        "sql_conn_id": "state",
        "sql": "SELECT 1 AS id, 'person1@example.com' AS email, 'x' AS name",
        "fields": {"firstName": "name"},
        "state": TableState(schema=outage.schema, compare="database"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(models.Model, "describe", cutting)
        message, _ = outage.failure(**parameters)
    assert re.search(r"The model could not be read .OperationalError.: .*\. Nothing was sent\.", message)
    assert outage.retry(**parameters)["accepted"] == 1


@pytest.mark.parametrize("back", [True, False])
def test_a_state_that_is_away_while_the_lease_is_renewed(
    outage: Outage, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """No request starts once the lease has run out: the run fails in the end, or goes on if the database is back.

    Users are looked up first: of a look-up the state need not be told before.
    """
    for number in range(1, ROWS + 1):
        outage.world.create(number)
    now, steps = [0.0], [0.0]

    def elapsing() -> float:
        now[0] += steps[0]
        if back and steps[0] and now[0] > 100_010.0:
            outage.line.mend()
        return now[0]

    def away() -> None:
        outage.line.cut()
        now[0], steps[0] = 100_000.0, 1.0

    monkeypatch.setattr(leases, "elapsing", elapsing)
    monkeypatch.setattr(leases, "PATIENCE", 30.0 if back else 0.5)
    outage.during = away
    outage.world.sandbox.faults({"kind": "slow", "path": "/api/users/getFields", "times": 1})
    if not back:
        message, report = outage.failure(mode="update")
        assert re.search(r"lease of sync .* could not be renewed for \d+ s.*Nothing more is sent", message)
        assert (report["accepted"], outage.world.calls[BULK]) == (0, 0)
        outage.line.mend()
        outage.retry(mode="update")
    else:
        assert outage.run(mode="update")["accepted"] == ROWS
        assert outage.world.calls[BULK] == ROWS
    assert outage.is_complete()


@pytest.fixture
def impatient_sqlite(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is executed on each new connection to SQLite; it does not wait for locks by itself."""
    pragmas = ["PRAGMA busy_timeout = 0"]
    get_conn = SqliteHook.get_conn

    def impatient(hook: SqliteHook) -> sqlite3.Connection:
        connection = get_conn(hook)
        for pragma in pragmas:
            connection.execute(pragma)
        return connection

    monkeypatch.setattr(SqliteHook, "get_conn", impatient)
    return pragmas


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA busy_timeout = 60000")
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def remembered(path: Path) -> set[str]:
    """Return whom a state in SQLite remembers."""
    with closing(sqlite3.connect(path)) as connection:
        return {json.loads(ref)[1] for (ref,) in connection.execute("SELECT ref FROM iterable_sync_state")}


def test_a_sqlite_that_another_process_locks(
    make_world: Make, time: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient_sqlite: list[str]
) -> None:
    """For longer than the patience: the task fails. For a moment: it goes on."""
    path = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    others: list[subprocess.Popen[str]] = []

    def lock(seconds: float) -> None:
        other = subprocess.Popen(
            [sys.executable, "-c", LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        others.append(other)
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"

    def unlock() -> None:
        others.pop().communicate()

    world = make_world(sleep=lock)
    world.people(*range(1, ROWS + 1))
    world.sandbox.faults({**SLOW, "after": 9})
    try:
        message, _ = world.failure(AirflowException, state=TableState("state"), batch_size=1, max_in_flight=IN_FLIGHT)
    finally:
        unlock()
    settle()
    assert NOT_REMEMBERED.search(message)
    assert 1 <= len(world.profiles.keys() - remembered(path)) <= IN_FLIGHT
    world.sandbox.faults({**SLOW, "after": 5})
    time.events.append((time.now + 10.0, unlock))
    before = len(remembered(path))
    assert world.retry(state=TableState("state"), batch_size=1, max_in_flight=IN_FLIGHT)["accepted"] == ROWS - before
    assert not others
    assert len(world.profiles) == len(remembered(path)) == ROWS
    world.forget_calls()
    assert world.run(state=TableState("state"))["unchanged"] == ROWS
    assert not world.calls


def test_a_disk_that_is_full(
    make_world: Make, time: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient_sqlite: list[str]
) -> None:
    """The task fails when no more can be remembered; with more room the next try sends the rest."""
    path, store = tmp_path / "state.db", TableState("state", audit=False)
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    world = make_world()
    world.rows(person(1, id=f"1{FILLER}"))
    world.run(state=store)
    with closing(sqlite3.connect(path)) as connection:
        ((pages,),) = connection.execute("PRAGMA page_count")
    impatient_sqlite.append(f"PRAGMA max_page_count = {pages + 3}")
    world.rows(*(person(number, id=f"{number}{FILLER}") for number in range(1, 101)))
    message, _ = world.failure(AirflowException, state=store, batch_size=1, max_in_flight=IN_FLIGHT)
    settle()
    assert NOT_REMEMBERED.search(message)
    kept = remembered(path)
    assert 1 < len(kept) < 100
    assert len(world.profiles.keys() - kept) <= IN_FLIGHT
    impatient_sqlite.pop()
    assert world.retry(state=store, batch_size=1, max_in_flight=IN_FLIGHT)["accepted"] == 100 - len(kept)
    assert len(world.profiles) == 100
    world.forget_calls()
    assert world.run(state=store)["unchanged"] == 100
    assert not world.calls


@pytest.mark.parametrize("moment", [True, False])
def test_a_folder_that_cannot_be_written_any_more(
    make_world: Make, time: Patient, tmp_path: Path, moment: bool
) -> None:
    """Objects are tried for 30 s too, and the run fails with what is not remembered, or goes on."""
    folder, there, nothing = tmp_path / "objects", tmp_path / "there", tmp_path / "nothing"
    there.mkdir()
    nothing.write_text("no folder")
    store = ObjectState(f"file://{folder}")

    def lead_to(target: Path) -> None:  # at one blow: a commit in the midst of it would make the folder again
        link = tmp_path / "link"
        link.symlink_to(target)
        link.replace(folder)

    def away(seconds: float) -> None:
        lead_to(nothing)

    def back() -> None:
        lead_to(there)

    back()
    world = make_world(sleep=away)
    world.people(*range(1, ROWS + 1))
    world.sandbox.faults({**SLOW, "after": 9})
    if moment:
        time.events.append((10.0, back))
        assert world.run(state=store, batch_size=1, max_in_flight=IN_FLIGHT)["accepted"] == ROWS
        assert world.calls[BULK] == ROWS
    else:
        message, report = world.failure(AirflowException, state=store, batch_size=1, max_in_flight=IN_FLIGHT)
        settle()
        assert NOT_REMEMBERED.search(message)
        back()
        accepted = world.run(state=store, batch_size=1, max_in_flight=IN_FLIGHT)["accepted"]
        assert ROWS - report["accepted"] - IN_FLIGHT <= accepted <= ROWS - report["accepted"]
    assert len(world.profiles) == ROWS
    world.forget_calls()
    assert world.run(state=store)["unchanged"] == ROWS
    assert not world.calls
