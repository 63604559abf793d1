from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.quota import Quota
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks import iterable as hooks
from airflow_provider_iterable.operators import IterablePrivacyOperator
from airflow_provider_iterable.runs import privacy
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.sandbox.project.project import digest
from airflow_provider_iterable.state import TableState, XComState
from airflow_provider_iterable.state.tables.ledger import project_of
from tests.operators.conftest import BULK, CHANNELS, KEY, MATCH, Make, World, email, identifier, person, uid
from tests.state.test_table import execute, postgres_hook, postgres_tables

pytestmark = pytest.mark.slow

PROJECTS: tuple[ProjectType, ...] = ("email", "user_id", "hybrid")
FORGET, UNFORGET = "POST /api/users/forget", "POST /api/users/unforget"
DELETE = {
    "email": "DELETE /api/users/{email}",
    "user_id": "DELETE /api/users/byUserId/{userId}",
    "hybrid": "DELETE /api/users/byUserId/{userId}",
}
DAY = 86_400.0
ALL = list(range(1, 6))


@dataclass
class Clock:
    """The time, for the operator and for Iterable."""

    now: float = datetime(2026, 3, 1, 6, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        """Return the seconds since the epoch."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let seconds pass."""
        self.now += seconds

    def said(self, seconds: float = 0.0) -> str:
        """Return a moment as a report says it."""
        return f"{datetime.fromtimestamp(self.now, UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M} UTC"


@pytest.fixture
def clock() -> Clock:
    """Time that passes only when somebody waits."""
    return Clock()


@pytest.fixture
def make_desk(make_world: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make worlds in which there is one time for all."""

    def make(project_type: ProjectType = "email", **options: Any) -> World:
        world = make_world(project_type, clock=clock, **options)
        monkeypatch.setattr(hooks, "Client", partial(Client, clock=clock, sleep=clock.sleep))
        monkeypatch.setattr(privacy, "clock", clock)
        monkeypatch.setattr(privacy, "Quota", partial(Quota, sleep=clock.sleep))
        return world

    return make


@pytest.fixture
def desk(make_desk: Make) -> World:
    """An email-based project with real rates and the daily quota."""
    return make_desk(rates=True)


def asks(world: World, *rows: Sequence[Any]) -> None:
    """Let these be the requests: number, email, user ID, moment."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        connection.execute("DROP TABLE IF EXISTS requests")
        connection.execute("CREATE TABLE requests (id, email, uid, asked_at)")
        connection.executemany("INSERT INTO requests VALUES (?, ?, ?, ?)", rows)
        connection.commit()


def people_ask(world: World, *numbers: int) -> None:
    """Let numbered people ask, in this order."""
    asks(world, *((number, email(number), uid(number), None) for number in numbers))


def operator(world: World, **parameters: Any) -> IterablePrivacyOperator:
    """Make the operator, matched by what the project uses."""
    column = MATCH[world.project_type]
    defaults: dict[str, Any] = {
        "task_id": f"privacy_{parameters.get('action', 'forget')}",
        "action": "forget",
        "sql": "SELECT * FROM requests",
        "sql_conn_id": "warehouse",
        "primary_key": "id",
        "state": TableState(),
    }
    if "email_column" not in parameters and "user_id_column" not in parameters:
        defaults["email_column" if column == "email" else "user_id_column"] = column
    return IterablePrivacyOperator(**{**defaults, **parameters})


def act(world: World, failing: type[AirflowException] | None = None, **parameters: Any) -> Any:
    """Run the operator as a new DAG run; return its report, or the message with which it fails and its report."""
    users = world.make
    world.make = partial(operator, world)  # type: ignore[method-assign]
    try:
        return world.failure(failing, **parameters) if failing else world.run(**parameters)
    finally:
        world.make = users  # type: ignore[method-assign]


def known(world: World, *numbers: int) -> None:
    """Have Iterable know people."""
    for number in numbers:
        world.create(number)


def forgotten(world: World) -> set[str]:
    """Return the hashes of those who are forgotten."""
    return {*world.sandbox.project.forgotten_emails, *world.sandbox.project.forgotten_user_ids}


def hashes(world: World, *numbers: int) -> set[str]:
    """Return the hashes of people's identifiers, as Iterable makes them."""
    return {digest(identifier(world.project_type, number)) for number in numbers}


def dump(path: Path) -> str:
    """Return all that the state tables in a SQLite file hold."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'iterable%'"
        names = [name for (name,) in connection.execute(query)]
        assert len(names) >= 2
        return "\n".join(repr(row) for name in names for row in connection.execute(f"SELECT * FROM {name}"))


@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("action", ["delete", "forget", "unforget"])
def test_the_life_of_a_request(make_desk: Make, project_type: ProjectType, action: str) -> None:
    """It fires once: not when it changes, not when it leaves, not when it comes back; others are not touched."""
    world = make_desk(project_type, rates=True)
    call = {"delete": DELETE[project_type], "forget": FORGET, "unforget": UNFORGET}[action]
    if action == "unforget":
        for number in ALL:
            address, user_id = (email(number), None) if project_type == "email" else (None, uid(number))
            world.sandbox.project.forget(address, user_id)
    else:
        known(world, *ALL)

    def left() -> set[str]:
        if action == "unforget":
            return forgotten(world)
        return set(world.profiles)

    def of(*numbers: int) -> set[str]:
        if action == "unforget":
            return hashes(world, *numbers)
        return {identifier(project_type, number) for number in numbers}

    people_ask(world, 1, 2)
    report = act(world, action=action)
    assert left() == of(3, 4, 5)
    assert (report["status"], report["added"], report["accepted"], report["read"]) == ("succeeded", 2, 2, 2)
    assert report["requests"] == {CHANNELS: {"200": 1}, call: {"200": 2}}
    assert report["destination"]["action"] == action
    if action == "forget":
        assert forgotten(world) == hashes(world, 1, 2)

    world.forget_calls()
    asks(world, (1, email(5), uid(5), None), (2, email(2), uid(2), "2026-01-01"))
    report = act(world, action=action)
    assert (report["changed"], report["unchanged"], report["accepted"], report["requests"]) == (1, 1, 0, {})

    people_ask(world)
    report = act(world, action=action)
    assert (report["read"], report["removed"], report["requests"]) == (0, 0, {})
    people_ask(world, 1, 2, 3)
    report = act(world, action=action)
    assert (report["added"], report["accepted"]) == (1, 1)
    assert left() == of(4, 5)
    report = act(world, action=action)
    assert (report["unchanged"], world.calls) == (3, {call: 1})


@pytest.mark.parametrize("unknown", ["accept", "refuse"])
@pytest.mark.parametrize("project_type", PROJECTS)
def test_forgetting_nobody_is_done(make_desk: Make, project_type: ProjectType, unknown: str) -> None:
    """Who does not exist, or was forgotten already, counts as done and does not go again."""
    world = make_desk(project_type, forget_unknown=unknown)
    known(world, 2)
    people_ask(world, 1, 2)
    act(world, task_id="before")
    report = act(world)
    assert (report["accepted"], report["rejected"], report["skipped"]) == (2, 0, 0)
    assert report["reasons"] == ({"already_gone": 2} if unknown == "refuse" else {})
    assert act(world)["unchanged"] == 2


@pytest.mark.parametrize("project_type", PROJECTS)
def test_deleting_nobody_is_done(make_desk: Make, project_type: ProjectType) -> None:
    """Likewise."""
    world = make_desk(project_type)
    people_ask(world, 1)
    assert act(world, action="delete")["accepted"] == 1
    assert act(world, action="delete")["unchanged"] == 1


@pytest.mark.parametrize("action", ["delete", "forget", "unforget"])
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "malformed", "5xx_html", "429"])
def test_lost_answers_do_no_harm(make_desk: Make, action: str, kind: str) -> None:
    """An answer that was lost is asked for again; each attempt is in the ledger, whether it was answered or not."""
    world = make_desk()
    path = DELETE["email"] if action == "delete" else f"POST /api/users/{action}"
    known(world, *ALL)
    people_ask(world, *ALL)
    world.sandbox.faults({"kind": kind, "path": path.partition(" ")[2], "times": 3, "after": 1, "seconds": 0.0})
    report = act(world, action=action)
    assert (report["accepted"], report["deferred"], report["rejected"]) == (5, 0, 0)
    assert world.calls[path] == 8
    if action != "delete":
        assert len(attempts(world)) == 8
    if action == "forget":
        assert forgotten(world) == hashes(world, *ALL)
    assert act(world, action=action)["unchanged"] == 5


def attempts(world: World) -> list[tuple[str, str, int]]:
    """Return the ledger: project, action, moment."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        query = "SELECT project, action, attempted_at FROM iterable_sync_ledger ORDER BY attempted_at"
        return list(connection.execute(query))


def test_an_attempt_is_written_before_it_is_made(make_desk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever kills the worker in the middle of a request finds it in the ledger."""
    world = make_desk()
    people_ask(world, *ALL)
    written = []
    send = Client.send

    def watched(client: Client, batch: Any) -> Any:
        written.append(len(attempts(world)))
        return send(client, batch)

    monkeypatch.setattr(Client, "send", watched)
    act(world)
    assert written == [1, 2, 3, 4, 5]


@pytest.fixture
def ten_a_day(make_desk: Make, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project whose quota is soon used up."""
    monkeypatch.setattr(privacy, "DAILY", 10)
    return make_desk(rates=True, forget_quota=10)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["forget", "unforget"])
def test_the_daily_quota_is_never_exceeded(desk: World, clock: Clock, heard: Callable[[], str], action: str) -> None:
    """2,500 requests take three days; Iterable never refuses one, and each report says how many wait until when."""
    people_ask(desk, *range(1, 2501))
    path = f"POST /api/users/{action}"
    done = 0
    for accepted, waiting in ((1000, 1500), (1000, 500), (500, 0)):
        started = clock.now
        report = act(desk, action=action)
        assert (report["status"], report["accepted"], report["deferred"]) == ("succeeded", accepted, waiting)
        assert report["requests"] == ({} if done else {CHANNELS: {"200": 1}}) | {path: {"200": accepted}}
        assert report["reasons"] == ({"quota": waiting} if waiting else {})
        done += accepted
        assert len(desk.remembered) == done
        if waiting:
            said = heard()
            assert f"{waiting} requests wait for Iterable's quota of 1000 in 24 hours." in said
            assert f"The first can go from {Clock(started + DAY + 60).said()} on" in said
        pace = clock.now - started
        assert accepted / 3 - 2 < pace < accepted / 3 + 30
        clock.sleep(DAY)
    assert [call.status for call in desk.sandbox.calls] == [200] * 2501
    if action == "forget":
        assert len(forgotten(desk)) == 2500
    assert act(desk, action=action)["unchanged"] == 2500


def test_a_forecast_says_for_how_many_days_the_quota_lets_wait(
    ten_a_day: World, clock: Clock, heard: Callable[[], str]
) -> None:
    """Those that were made count, by whatever name of the project, and an end beyond the deadline lets nothing go."""
    clock.now = time.time()
    people_ask(ten_a_day, *range(1, 26))
    (line,) = act(ten_a_day, dry_run=True)["forecast"]
    assert (line["rows"], line["requests"], line["waiting"], line["rate"]) == (10, 10, 15, 3)
    assert line["end"][:16] == clock.said(2 * (DAY + 60)).replace(" ", "T")[:16]
    assert "15 rows wait for Iterable's quota of 10 in 24 hours: the last can go in 2 days, from " in heard()
    assert act(ten_a_day)["accepted"] == 10
    ten_a_day.forget_calls()
    (line,) = act(ten_a_day, dry_run=True, max_actions=12)["forecast"]
    assert (line["rows"], line["requests"], line["waiting"]) == (0, 0, 15)
    said = heard()
    assert "3 rows wait for later runs: max_actions=12." in said
    assert "12 rows wait for Iterable's quota of 10 in 24 hours: the last can go in 2 days, from " in said
    deadline = datetime.fromtimestamp(clock.now, UTC) + timedelta(days=1.9)
    message, _ = act(ten_a_day, AirflowFailException, deadline=deadline, deadline_action="fail")
    assert message.startswith("15 rows would be done at ")
    assert not ten_a_day.calls


def test_requests_that_the_quota_counts_are_forecast_one_at_a_time(ten_a_day: World) -> None:
    """Each waits for the answer of the one before."""
    people_ask(ten_a_day, 1)
    act(ten_a_day)
    with closing(sqlite3.connect(ten_a_day.warehouse)) as connection:
        connection.execute("UPDATE iterable_sync_header SET notes = ?", (json.dumps({"pace": f'{{"{FORGET}": [2]}}'}),))
        connection.commit()
    people_ask(ten_a_day, 1, 2, 3, 4, 5)
    assert act(ten_a_day, dry_run=True)["forecast"][0]["measured_seconds"] == 8.0


def test_a_schedule_of_a_day_loses_none(ten_a_day: World, clock: Clock) -> None:
    """A run that begins 24 hours after the last one began waits for the quota to come back, never beyond it."""
    people_ask(ten_a_day, *range(1, 21))
    started = clock.now
    assert act(ten_a_day)["accepted"] == 10
    clock.now = started + DAY
    report = act(ten_a_day)
    assert (report["accepted"], report["deferred"]) == (10, 0)
    assert {call.status for call in ten_a_day.sandbox.calls} == {200}
    assert started + DAY + 60 <= clock.now < started + DAY + 70


def test_a_second_run_of_the_day_waits(ten_a_day: World, clock: Clock) -> None:
    """Nothing is called while the quota is used up, and the task does not fail for it."""
    people_ask(ten_a_day, *range(1, 12))
    act(ten_a_day)
    ten_a_day.forget_calls()
    clock.sleep(3600)
    report = act(ten_a_day)
    assert (report["status"], report["accepted"], report["deferred"]) == ("succeeded", 0, 1)
    assert not ten_a_day.calls


def test_syncs_share_the_quota_of_a_project(ten_a_day: World, clock: Clock) -> None:
    """All syncs in the same tables count together; forgetting and unforgetting have a quota each."""
    people_ask(ten_a_day, *range(1, 8))
    assert act(ten_a_day, task_id="one")["accepted"] == 7
    clock.sleep(10)
    report = act(ten_a_day, task_id="other")
    assert (report["accepted"], report["deferred"]) == (3, 4)
    assert act(ten_a_day, action="unforget")["accepted"] == 7


def test_another_project_has_a_quota_of_its_own(
    make_desk: Make, monkeypatch: pytest.MonkeyPatch, heard: Callable[[], str]
) -> None:
    """Projects are told apart by host and channels, or keys, of which the ledger tells nothing."""
    monkeypatch.setattr(privacy, "DAILY", 3)
    world = make_desk(forget_quota=None, project_keys={"another-key": 77})
    people_ask(world, *range(1, 5))
    act(world)
    connection = {"conn_type": "iterable", "password": "another-key", "host": world.sandbox.url}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps({**connection, "extra": {"project_type": "email"}}))
    assert act(world, task_id="elsewhere")["accepted"] == 3
    projects = {project for project, _, _ in attempts(world)}
    assert len(projects) == 2
    for secret in (KEY, "another-key"):
        assert secret not in dump(world.warehouse) + heard()
        assert sha256(secret.encode()).hexdigest() not in projects


def rekey(world: World, monkeypatch: pytest.MonkeyPatch, key: str, **extra: Any) -> None:
    """Have the connection hold another key."""
    connection = {"conn_type": "iterable", "password": key, "host": world.sandbox.url}
    whole = {**connection, "extra": {"project_type": world.project_type, **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(whole))


def test_another_key_of_the_project_shares_its_quota(make_desk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is rotated, or held by another Airflow, does not begin a count of its own."""
    monkeypatch.setattr(privacy, "DAILY", 3)
    world = make_desk(forget_quota=None)
    people_ask(world, 1, 2)
    act(world)
    rekey(world, monkeypatch, "rotated")
    people_ask(world, 1, 2, 3, 4)
    report = act(world)
    assert (report["accepted"], report["reasons"]) == (1, {"quota": 1})
    people_ask(world, 5)
    assert act(world, task_id="elsewhere")["deferred"] == 1
    assert len({project for project, _, _ in attempts(world)}) == 1


def test_no_sample_is_kept_of_who_asked(make_desk: Make) -> None:
    """Of other syncs some rows are noted field by field; of these nothing that is about somebody."""
    world = make_desk()
    people_ask(world, 1, 2)
    assert act(world)["accepted"] == 2
    with closing(sqlite3.connect(world.warehouse)) as connection:
        ((notes,),) = connection.execute("SELECT notes FROM iterable_sync_header").fetchall()
    assert "sample" not in json.loads(notes)


def test_a_count_that_began_under_the_key_goes_on(make_desk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier versions named projects by host and key: these attempts still count, and outlive the key."""
    monkeypatch.setattr(privacy, "DAILY", 3)
    world = make_desk(forget_quota=None)
    people_ask(world, 1, 2)
    act(world)
    with closing(sqlite3.connect(world.warehouse)) as connection:
        former = project_of(world.sandbox.url, KEY)
        connection.execute("UPDATE iterable_sync_ledger SET project = ?", (former,))
        connection.execute("UPDATE iterable_sync_header SET notes = '{}'")
        connection.commit()
    people_ask(world, 1, 2, 3)
    assert act(world)["accepted"] == 1
    rekey(world, monkeypatch, "rotated")
    people_ask(world, 1, 2, 3, 4)
    assert act(world)["reasons"] == {"quota": 1}
    assert former not in {project for project, _, _ in attempts(world)}


def test_a_named_project_is_counted_by_its_name(make_desk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the key; nothing is asked."""
    monkeypatch.setattr(privacy, "DAILY", 3)
    world = make_desk(forget_quota=None, project_keys={"other": 77})
    rekey(world, monkeypatch, KEY, project="production")
    people_ask(world, 1, 2)
    act(world)
    rekey(world, monkeypatch, "rotated", project="production")
    people_ask(world, 3, 4)
    assert act(world, task_id="elsewhere")["deferred"] == 1
    rekey(world, monkeypatch, "other", project="staging")
    assert act(world, task_id="staging")["deferred"] == 0
    assert CHANNELS not in {f"{call.method} {call.template}" for call in world.sandbox.calls}


def test_somebody_else_uses_the_quota_too(make_desk: Make, clock: Clock) -> None:
    """When Iterable says to come back in hours, nothing more is sent and the requests wait."""
    world = make_desk(retry_after_header=True, forget_quota=3)
    people_ask(world, *ALL)
    report = act(world)
    assert (report["status"], report["accepted"], report["deferred"]) == ("succeeded", 3, 2)
    assert report["requests"] == {CHANNELS: {"200": 1}, FORGET: {"200": 3, "429": 1}}
    assert report["reasons"] == {"quota": 2}
    clock.sleep(DAY)
    assert act(world)["accepted"] == 2


def test_who_asked_first_goes_first(make_desk: Make) -> None:
    """By the moment of the request, whatever the order of the rows; without a moment last."""
    world = make_desk()
    asks(
        world,
        (1, email(1), None, None),
        (2, email(2), None, "2026-02-03 10:00:00"),
        (3, email(3), None, "2026-02-03T10:00:00+02:00"),
        (4, email(4), None, "2026-02-01"),
        (5, email(5), None, "2026-02-03 10:00:01"),
    )
    order = []
    for _ in range(5):
        before = forgotten(world)
        act(world, requested_at_column="asked_at", max_actions=1)
        order.append(forgotten(world) - before)
    assert order == [hashes(world, number) for number in (4, 3, 2, 5, 1)]


@pytest.mark.parametrize("action", ["delete", "forget", "unforget"])
def test_max_actions_caps_a_run(make_desk: Make, action: str, heard: Callable[[], str]) -> None:
    """The first ones of the model go; the others wait for the next run, which is no failure."""
    world = make_desk()
    people_ask(world, 3, 1, 2, 5, 4)
    for accepted, deferred in ((2, 3), (2, 1), (1, 0)):
        report = act(world, action=action, max_actions=2)
        assert (report["status"], report["accepted"], report["deferred"]) == ("succeeded", accepted, deferred)
        assert report["reasons"] == ({"max_actions": deferred} if deferred else {})
    assert "3 requests wait for the next run: max_actions=2." in heard()
    report = act(world, action=action, max_actions=0, task_id="never")
    assert (report["accepted"], report["deferred"]) == (0, 5)


def test_requests_of_one_key_take_nobodys_turn(make_desk: Make) -> None:
    """They are rejected, and do not count against max_actions."""
    world = make_desk()
    asks(world, *[(1, email(1), None, None)] * 2, *((number, email(number), None, None) for number in (2, 3)))
    report = act(world, max_actions=1, max_rejected=1.0)
    assert (report["rejected"], report["accepted"], report["deferred"]) == (2, 1, 1)
    assert forgotten(world) == hashes(world, 2)


def test_bad_requests_are_rejected(make_desk: Make, heard: Callable[[], str]) -> None:
    """Before anything is sent; the key that the log names is a hash."""
    world = make_desk()
    asks(
        world,
        (1, "nobody", None, None),
        (2, None, None, None),
        (None, email(3), None, None),
        ("k" * 600, email(4), None, None),
    )
    report = act(world, max_rejected=1.0)
    assert report["reasons"] == {"invalid_email": 1, "key_too_long": 1, "no_identifier": 1, "null_key": 1}
    assert not world.calls
    said = heard()
    assert f"key {sha256(b'[1]').hexdigest()}" in said
    assert "kkkk" not in said


@pytest.mark.parametrize("requests", ["forget", "unforget"])
def test_a_user_id_cannot_be_forgotten_in_an_email_project(make_desk: Make, requests: str) -> None:
    """It fails before anything is sent."""
    world = make_desk()
    people_ask(world, 1)
    message, _ = act(world, AirflowFailException, action=requests, user_id_column="uid")
    assert "takes email addresses in an email-based project" in message
    assert not world.sandbox.calls


def test_an_email_cannot_be_forgotten_in_a_user_id_project(make_desk: Make) -> None:
    """Likewise."""
    world = make_desk("user_id")
    people_ask(world, 1)
    message, _ = act(world, AirflowFailException, email_column="email")
    assert "cannot match by email" in message
    assert not world.sandbox.calls


@pytest.mark.parametrize("match", ["email", "user_id"])
def test_a_hybrid_project_forgets_by_either(make_desk: Make, match: str) -> None:
    """By the one that is chosen."""
    world = make_desk("hybrid")
    people_ask(world, 1)
    act(world, email_column="email", user_id_column="uid", match_by=match)
    assert forgotten(world) == {digest(email(1) if match == "email" else uid(1))}


def test_a_shared_user_id_is_not_deleted_unasked(make_desk: Make) -> None:
    """In an email-based project several profiles may bear it."""
    world = make_desk()
    known(world, 1)
    people_ask(world, 1)
    message, _ = act(world, AirflowFailException, action="delete", user_id_column="uid")
    assert "allow_shared_user_id=True" in message
    assert not world.sandbox.calls
    assert act(world, action="delete", user_id_column="uid", allow_shared_user_id=True)["accepted"] == 1
    assert world.profiles == {}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"state": XComState()}, "TableState"),
        ({"state": None}, "TableState"),
        ({"action": "destroy"}, '"delete", "forget" or "unforget"'),
        ({"fields": {"a": "b"}}, "leave fields out"),
        ({"max_actions": -1}, "max_actions"),
        ({"email_column": None}, "Map email_column, user_id_column or both"),
        ({"match_by": "user_id"}, "needs user_id_column"),
    ],
)
def test_what_makes_no_sense_is_refused_at_parse_time(world: World, parameters: dict[str, Any], message: str) -> None:
    """The DAG does not import."""
    with pytest.raises(ConfigurationError, match=message):
        operator(world, **{"email_column": "email", **parameters})


def test_a_dry_run_calls_and_remembers_nothing(make_desk: Make) -> None:
    """Nor does it write to the ledger."""
    world = make_desk()
    people_ask(world, *ALL)
    report = act(world, dry_run=True)
    assert (report["status"], report["added"]) == ("planned", 5)
    assert not world.calls
    assert world.remembered == []
    assert attempts(world) == []
    assert act(world, approved_plan=report["plan_hash"])["accepted"] == 5


def test_killing_ends_the_delivery(make_desk: Make) -> None:
    """What was accepted is remembered, nothing else starts, and a retry does the rest."""
    world = make_desk(sleep=lambda seconds: kill())

    def kill() -> None:
        assert world.operator is not None
        world.operator.on_kill()

    people_ask(world, *range(1, 31))
    world.sandbox.faults({"kind": "slow", "path": "/api/users/forget", "after": 9, "times": 1})
    _, report = act(world, AirflowException)
    assert report["accepted"] == len(world.remembered) == len(forgotten(world)) == 10
    assert len(attempts(world)) == 10
    assert act(world)["accepted"] == 20
    assert len(attempts(world)) == 30


def test_a_baseline_erases_nobody(make_desk: Make) -> None:
    """Requests that were met before the state was lost are recorded; nothing is called, and others' entries stay."""
    world = make_desk()
    world.people(1, 2)
    world.run(sync_id=USERS)
    people_ask(world, 1)
    report = act(world, resync="baseline")
    assert not world.calls[FORGET]
    assert world.run(sync_id=USERS)["unchanged"] == 2
    assert act(world)["unchanged"] == 1
    assert email(1) not in repr([key for key in world.remembered if len(key) == 64])
    assert report["requests"] == {}


def test_requests_do_not_go_again(make_desk: Make) -> None:
    """A full resync is refused."""
    world = make_desk()
    people_ask(world, 1)
    message, _ = act(world, AirflowFailException, resync="full")
    assert "each request is acted on once" in message
    assert not world.calls


def test_no_thread_is_left(make_desk: Make) -> None:
    """The ledger's thread ends with the run, even when the run fails."""
    world = make_desk()
    people_ask(world, 1)
    before = threading.active_count()
    act(world)
    act(world, AirflowFailException, primary_key="nope")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ledger")], before


# What other syncs remember


@dataclass
class Tables:
    """State tables, and what they hold."""

    state: TableState
    read: Callable[[str], list[tuple[Any, ...]]]
    prefix: str

    def entries(self, sync_id: str) -> list[tuple[Any, ...]]:
        """Return a sync's entries: key, fingerprint, reference."""
        query = f"SELECT record_key, fingerprint, ref FROM {self.prefix}state WHERE sync_id = '{sync_id}' ORDER BY 1"
        return self.read(query)

    def everything(self) -> str:
        """Return all that is in the tables."""
        names = ("state", "header", "ledger")
        return "\n".join(repr(row) for name in names for row in self.read(f"SELECT * FROM {self.prefix}{name}"))


@pytest.fixture(params=["sqlite", "postgres"])
def tables(request: pytest.FixtureRequest, desk: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    """Tables beside the model, or in a Postgres."""
    if request.param == "sqlite":

        def in_sqlite(query: str) -> list[tuple[Any, ...]]:
            with closing(sqlite3.connect(desk.warehouse)) as connection:
                return list(connection.execute(query))

        yield Tables(TableState(), in_sqlite, "iterable_sync_")
        return
    hook = postgres_hook(monkeypatch)
    with postgres_tables(hook) as made:
        yield Tables(TableState("state", made.schema), partial(execute, hook), f'"{made.schema}".sync_')


def of(text: str) -> str:
    """Return the SHA-256 of a text."""
    return sha256(text.encode()).hexdigest()


def ref(number: int) -> str:
    """Return the reference of a person's entry."""
    return json.dumps(["email", email(number)], separators=(",", ":"))


USERS = "sync_users"


def users(world: World, tables: Tables, **parameters: Any) -> Any:
    """Run a user sync whose key is the address."""
    return world.run(state=tables.state, primary_key="email", sync_id=USERS, max_removed=1.0, **parameters)


@pytest.mark.parametrize("action", ["delete", "forget"])
def test_an_erased_person_is_left_out(desk: World, tables: Tables, action: str, heard: Callable[[], str]) -> None:
    """Their entry becomes a tombstone; their row is skipped, run by run and changed or not, without a call."""
    desk.people(1, 2, 3)
    users(desk, tables)
    people_ask(desk, 2)
    act(desk, action=action, state=tables.state)
    found = {key: (fingerprint, who) for key, fingerprint, who in tables.entries(USERS)}
    assert found.keys() == {f'["{email(1)}"]', f'["{email(3)}"]', of(f'["{email(2)}"]')}
    assert found[of(f'["{email(2)}"]')] == ("", of(ref(2)))
    assert "1 entries of other syncs in the same tables became tombstones." in heard()

    for name in ("Name 2", "New"):
        desk.rows(person(1), person(2, name=name), person(3))
        desk.forget_calls()
        report = users(desk, tables)
        assert (report["read"], report["added"], report["skipped"], report["unchanged"]) == (3, 1, 1, 2)
        assert (report["reasons"], report["removed"], report["rejected"]) == ({"erased_person": 1}, 0, 0)
        assert not desk.calls
    assert set(desk.profiles) == {email(1), email(3)}

    desk.people(1, 2, 4)
    report = users(desk, tables, on_removed="delete")
    assert (report["accepted"], report["removed"], report["skipped"]) == (2, 1, 1)
    assert set(desk.profiles) == {email(1), email(4)}
    assert of(f'["{email(2)}"]') in {key for key, _, _ in tables.entries(USERS)}


@pytest.mark.parametrize("on_removed", ["keep", "clear", "delete"])
def test_a_tombstone_goes_with_its_row(desk: World, tables: Tables, on_removed: str) -> None:
    """Once the row has left the model nothing is called and nothing is left; a row that comes back is a new one."""
    desk.people(1, 2)
    users(desk, tables)
    people_ask(desk, 2)
    act(desk, action="delete", state=tables.state)
    desk.people(1)
    desk.forget_calls()
    report = users(desk, tables, dry_run=True, on_removed=on_removed)
    assert len(tables.entries(USERS)) == 2
    report = users(desk, tables, on_removed=on_removed)
    assert (report["removed"], report["skipped"], report["unchanged"]) == (0, 0, 1)
    assert not desk.calls
    assert [key for key, _, _ in tables.entries(USERS)] == [f'["{email(1)}"]']
    desk.people(1, 2)
    assert users(desk, tables)["added"] == 1
    assert set(desk.profiles) == {email(1), email(2)}


def test_an_empty_model_that_is_not_believed_keeps_tombstones(desk: World, tables: Tables) -> None:
    """What a guard stops changes nothing."""
    desk.people(1, 2)
    users(desk, tables)
    people_ask(desk, 2)
    act(desk, state=tables.state)
    desk.people()
    desk.failure(AirflowFailException, state=tables.state, primary_key="email", sync_id=USERS, on_removed="delete")
    assert len(tables.entries(USERS)) == 2


def test_unforgetting_lifts_the_tombstone(desk: World, tables: Tables, heard: Callable[[], str]) -> None:
    """The row is an added row again; other people's tombstones stay."""
    desk.people(1, 2, 3)
    users(desk, tables)
    people_ask(desk, 2, 3)
    act(desk, state=tables.state)
    assert users(desk, tables)["skipped"] == 2
    people_ask(desk, 2)
    act(desk, action="unforget", state=tables.state)
    assert "1 entries of other syncs in the same tables may go to Iterable again." in heard()
    report = users(desk, tables)
    assert (report["added"], report["accepted"], report["skipped"]) == (2, 1, 1)
    assert set(desk.profiles) == {email(1), email(2)}
    assert users(desk, tables)["unchanged"] == 2


def test_all_entries_of_a_person_are_found(desk: World, tables: Tables) -> None:
    """In whatever sync, under whatever key; those of others, and of who was not acted on, stay as they are."""
    desk.rows(person(1), person(2, email=email(1)), person(3), person(4))
    options = {"state": tables.state, "max_removed": 1.0}
    desk.run(sync_id="by_number", **options)
    desk.run(sync_id="by_name", primary_key=["name", "uid"], **options)
    before = tables.entries("by_number")
    asks(desk, (1, email(1), None, "2026-01-01"), (2, email(4), None, "2026-01-02"))
    act(desk, state=tables.state, max_actions=1)
    after = tables.entries("by_number")
    assert [entry for entry in after if entry[1]] == [entry for entry in before if entry[0] in ("[3]", "[4]")]
    assert {entry[0] for entry in after if not entry[1]} == {of("[1]"), of("[2]")}
    assert sum(not fingerprint for _, fingerprint, _ in tables.entries("by_name")) == 2
    report = desk.run(sync_id="by_number", **options)
    assert (report["skipped"], report["unchanged"]) == (2, 2)


@pytest.mark.parametrize("kind", ["5xx_html", "drop_before", "malformed"])
def test_only_what_iterable_accepted_is_erased(desk: World, tables: Tables, kind: str) -> None:
    """Entries of people whose request got no answer stay until it does."""
    desk.people(1, 2)
    users(desk, tables)
    before = tables.entries(USERS)
    desk.sandbox.faults({"kind": kind, "path": "/api/users/forget", "times": -1})
    people_ask(desk, 1, 2)
    act(desk, AirflowException, state=tables.state)
    assert tables.entries(USERS) == before
    desk.sandbox.service.faults.clear()
    act(desk, state=tables.state)
    assert all(not fingerprint for _, fingerprint, _ in tables.entries(USERS))


def test_rows_that_share_an_erased_key_are_all_left_out(desk: World, tables: Tables) -> None:
    """Duplicates of an erased person are no news either."""
    desk.people(1, 2)
    users(desk, tables)
    people_ask(desk, 2)
    act(desk, state=tables.state)
    desk.rows(person(1), person(2), person(2))
    desk.forget_calls()
    report = users(desk, tables)
    assert (report["read"], report["skipped"], report["rejected"], report["unchanged"]) == (3, 2, 0, 1)
    assert not desk.calls


def test_an_erased_row_is_not_said_again(desk: World, tables: Tables) -> None:
    """Not even when it has taken the identity of unchanged rows, which another row has just written."""
    options = {"state": tables.state, "max_removed": 1.0}
    desk.rows(person(1), person(2), person(3))
    desk.run(**options)
    people_ask(desk, 1)
    act(desk, state=tables.state)
    desk.rows(person(1, email=email(2), name="Erased"), person(2), person(3, email=email(2), name="New"))
    desk.forget_calls()
    report = desk.run(**options)
    assert report["skipped"] == 1
    assert desk.profiles[email(2)]["firstName"] == "New"
    assert sum(call.records for call in desk.sandbox.calls if f"{call.method} {call.template}" == BULK) == 2


def test_nobody_can_be_told_afterwards(desk: World, tables: Tables, heard: Callable[[], str]) -> None:
    """State, logs and reports of the privacy syncs hold no identifier of those who were erased."""
    desk.people(*range(11, 21))
    users(desk, tables)
    assert all(email(number) in repr(tables.entries(USERS)) for number in range(11, 21))
    runs = desk.runs
    erased = {"delete": [11, 12, 13], "forget": [14, 15, 16]}
    for action, numbers in erased.items():
        asks(desk, *((email(number), email(number), uid(number), None) for number in numbers))
        kept = act(desk, action=action, state=tables.state)
        act(desk, action=action, state=tables.state)
    act(desk, action="unforget", state=tables.state, task_id="undone")
    asks(desk, ("secret.person@example.com", "secret.person@", None, None), *[(email(17), email(17), None, None)] * 2)
    act(desk, AirflowFailException, state=tables.state)
    people_ask(desk, *[14] * 2)
    act(desk, AirflowFailException, state=tables.state)
    said = heard() + json.dumps([kept, *desk.xcoms.values()]) + repr(vars(desk))
    assert desk.runs == runs + 7
    for secret in [*(email(n) for n in range(11, 17)), *(uid(n) for n in range(11, 17)), "secret.person"]:
        assert secret not in tables.everything()
        assert secret not in said
    assert email(18) in tables.everything()
    privacy_entries = [entry for action in erased for entry in tables.entries(f"adhoc_airflow.privacy_{action}")]
    assert {key for key, _, _ in privacy_entries} == {of(f'["{email(n)}"]') for n in range(11, 17)}
    assert {who for _, _, who in privacy_entries} == {""}
