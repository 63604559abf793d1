"""A state knows its project at Iterable: other keys of it are noted, keys of another one are refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterablePrivacyOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.runs import project as projects
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.store import Store
from tests.operators.conftest import CHANNELS, KEY, Make, World, email, person

pytestmark = pytest.mark.slow

ROTATED, OTHER = "rotated-key-of-the-project", "key-of-another-project"
KEYS = {KEY: 10216, ROTATED: 10216, OTHER: 77}
MORE_KEYS = {f"key-{number}": 10216 for number in range(12)}

Connect = Callable[..., None]


@pytest.fixture
def place(make_world: Make) -> World:
    """A host with two projects, of which one has several keys."""
    world = make_world(project_keys={**KEYS, **MORE_KEYS})
    world.people(1, 2)
    return world


@pytest.fixture
def connect(place: World, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Have the connection hold another key, and other extras."""

    def connect(key: str, **extra: Any) -> None:
        connection = {"conn_type": "iterable", "password": key, "host": place.sandbox.url}
        whole = {**connection, "extra": {"project_type": "email", **extra}}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(whole))

    return connect


STORES: dict[str, Callable[[Path], Store]] = {
    "table": lambda path: TableState(),
    "worker": lambda path: TableState(compare="worker"),
    "object": lambda path: ObjectState(f"file://{path}/state"),
    "xcom": lambda path: XComState(),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Every kind of store."""
    return STORES[request.param](tmp_path)


def users(world: World, number: int = 10216) -> set[str]:
    """Return who is in a project."""
    return {str(profile.email) for profile in world.sandbox.service.numbered(number).profiles}


def asked(world: World) -> int:
    """Return how often the channels were asked for."""
    return sum(f"{call.method} {call.template}" == CHANNELS for call in world.sandbox.calls)


def notes(world: World) -> dict[str, str]:
    """Return the notes in the state table's header."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        ((text,),) = connection.execute("SELECT notes FROM iterable_sync_header").fetchall() or [("{}",)]
    return dict(json.loads(text))


def test_the_channels_are_asked_for_once(place: World, store: Store) -> None:
    """In the first run that has something to send; a run with a key that is known asks nothing."""
    run = partial(place.run, state=store)
    run(dry_run=True)
    assert asked(place) == 0
    run()
    assert asked(place) == 1
    place.forget_calls()
    run()
    assert not place.sandbox.calls
    place.people(1, 2, 3)
    run()
    assert (asked(place), users(place)) == (0, {email(1), email(2), email(3)})


def test_another_key_of_the_project_is_noted(
    place: World, connect: Connect, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked about once, and said once; two Airflows with a key each go on side by side."""
    place.run(state=store)
    caplog.set_level("INFO")
    for number, key in enumerate((ROTATED, KEY, ROTATED, KEY), 3):
        connect(key)
        place.forget_calls()
        place.people(1, number)
        report = place.run(state=store, max_removed=None)
        assert (report["added"], report["unchanged"], report["removed"]) == (1, 1, 1)
        assert asked(place) == (number == 3)
    said = "its project has another API key than before"
    assert sum(said in record.getMessage() for record in caplog.records) == 1


def test_another_project_is_refused_before_anything_is_read(place: World, connect: Connect, store: Store) -> None:
    """The message names what differs and the choices; the state stays, and goes on with the former key."""
    place.run(state=store)
    connect(OTHER)
    place.forget_calls()
    message, report = place.failure(AirflowFailException, state=store)
    for words in (
        "The state of sync 'adhoc_airflow.sync_users' belongs to another project at Iterable",
        "message channels: remembered 102161, 102162, 102163, 102164, now 771, 772, 773, 774",
        "Nothing was read or sent",
        "another sync_id",
        'resync="full"',
        'resync="baseline"',
        "restore the former key",
        "a project",
    ):
        assert words in message
    assert place.sandbox.calls[-1].template == "/api/channels"
    assert (len(place.sandbox.calls), report["status"], report["seconds"]) == (1, "failed", {})
    connect(KEY)
    place.people(1, 2, 3)
    report = place.run(state=store)
    assert (report["added"], report["unchanged"]) == (1, 2)


def test_a_full_resync_takes_the_state_to_another_project(place: World, connect: Connect, store: Store) -> None:
    """Everything is sent there, and from then on the former key is that of another project."""
    place.run(state=store)
    connect(OTHER)
    assert place.run(state=store, resync="full")["accepted"] == 2
    assert users(place, 77) == {email(1), email(2)}
    assert place.run(state=store)["unchanged"] == 2
    connect(KEY)
    message, _ = place.failure(AirflowFailException, state=store)
    assert "now 102161" in message


def test_a_baseline_takes_the_state_to_another_project(place: World, connect: Connect, store: Store) -> None:
    """Nothing is sent."""
    place.run(state=store)
    connect(OTHER)
    assert place.run(state=store, resync="baseline")["status"] == "succeeded"
    assert users(place, 77) == set()
    assert place.run(state=store)["unchanged"] == 2
    connect(KEY)
    place.failure(AirflowFailException, state=store)


@pytest.mark.parametrize("kind", ["table", "object"])
@pytest.mark.parametrize("resync", ["full", "baseline"])
def test_a_resync_that_did_not_begin_leaves_the_project(
    place: World, connect: Connect, tmp_path: Path, kind: str, resync: str
) -> None:
    """Stopped by a guard, or before its end where nothing is voided, the state is about the former project."""
    store = STORES[kind](tmp_path)
    place.run(state=store)
    connect(OTHER)
    place.failure(AirflowFailException, state=store, resync=resync, sql="SELECT * FROM users WHERE FALSE")
    if resync == "baseline":  # what it reached is remembered, and the project is not: it is to be repeated
        place.rows(person(1), person(2), person(3, email="nobody"), person(4))
        place.failure(AirflowFailException, state=store, resync=resync, max_rejected=0, commit_batches=1, batch_size=1)
    message, _ = place.failure(AirflowFailException, state=store)
    assert "belongs to another project" in message
    connect(KEY)
    place.people(1, 2)
    assert place.run(state=store, max_removed=None)["unchanged"] == 2


def test_a_full_resync_that_was_broken_off_goes_on_in_the_new_project(place: World, connect: Connect) -> None:
    """The state belongs to the new project from the first call on."""
    place.run()
    connect(OTHER)
    place.sandbox.faults({"kind": "5xx_html", "times": -1, "path": "/api/users/bulkUpdate"})
    place.failure(AirflowException, resync="full")
    place.sandbox.service.faults.clear()
    assert place.run()["accepted"] == 2
    assert users(place, 77) == {email(1), email(2)}


def test_notes_about_the_former_project_are_left_behind(place: World, connect: Connect) -> None:
    """A list is looked for by its name there, and not by the number that it has here."""
    place.make = partial(a_list, place)  # type: ignore[method-assign]
    place.run()
    number = notes(place)["list_id"]
    connect(OTHER)
    place.failure(AirflowFailException)
    assert notes(place)["list_id"] == number
    place.run(resync="full")
    there = place.sandbox.service.numbered(77).lists.get(int(notes(place)["list_id"]))
    assert there is not None
    assert there.name == "VIP"


def a_list(world: World, **parameters: Any) -> IterableModelOperator:
    """Make a list sync."""
    common = {"task_id": "sync_users", "sql_conn_id": "warehouse", "state": TableState(), "email_column": "email"}
    return IterableListOperator(**{**common, "sql": "SELECT * FROM users", "list_name": "VIP", **parameters})


OPERATORS: dict[str, Callable[..., IterableModelOperator]] = {
    "events": partial(IterableEventOperator, email_column="email", event_name="seen", primary_key="id"),
    "lists": partial(IterableListOperator, email_column="email", list_name="VIP"),
    "catalogs": partial(IterableCatalogOperator, catalog_name="Shop", primary_key="id"),
    "privacy": partial(IterablePrivacyOperator, action="delete", email_column="email", primary_key="id"),
}


@pytest.mark.parametrize("kind", OPERATORS)
def test_every_kind_of_sync_knows_its_project(place: World, connect: Connect, kind: str) -> None:
    """It is asked about in the same place for all of them."""
    common = {"task_id": "sync_users", "sql_conn_id": "warehouse", "state": TableState(), "sql": "SELECT * FROM users"}
    place.make = lambda **parameters: OPERATORS[kind](**{**common, **parameters})  # type: ignore[method-assign]
    for number in (1, 2):
        place.create(number)
    place.run()
    connect(ROTATED)
    place.forget_calls()
    place.run()
    assert (asked(place), len(place.sandbox.calls)) == (1, 1)
    connect(OTHER)
    place.forget_calls()
    message, _ = place.failure(AirflowFailException)
    assert "belongs to another project at Iterable" in message
    assert (asked(place), len(place.sandbox.calls)) == (1, 1)


def test_a_state_of_an_earlier_version_is_adopted(place: World, connect: Connect) -> None:
    """Silently, with the key it meets; the channels follow once there is something to send."""
    place.run()
    with closing(sqlite3.connect(place.warehouse)) as connection:
        connection.execute("UPDATE iterable_sync_header SET notes = '{}'")
        connection.commit()
    place.forget_calls()
    assert place.run()["unchanged"] == 2
    assert not place.sandbox.calls
    assert json.loads(notes(place)["project"])["channels"] is None
    connect(OTHER)
    message, _ = place.failure(AirflowFailException)
    assert "may belong to another project" in message
    assert "its message channels are not remembered" in message
    connect(KEY)
    place.people(1, 2, 3)
    place.run()
    connect(OTHER)
    message, _ = place.failure(AirflowFailException)
    assert "now 771" in message


def test_a_name_decides(place: World, connect: Connect, store: Store) -> None:
    """The same name is the same project and another name another one, whatever the key; nothing is asked."""
    connect(KEY, project="production")
    place.run(state=store)
    connect(ROTATED, project="production ")
    place.run(state=store)
    connect(KEY, project="staging")
    message, _ = place.failure(AirflowFailException, state=store)
    assert "project: remembered 'production', now 'staging'" in message
    assert "set project to 'production' in the connection's extra" in message
    assert asked(place) == 0
    connect(ROTATED)
    assert place.run(state=store)["unchanged"] == 2
    assert place.run(state=store, resync="full")["accepted"] == 2
    connect(OTHER, project="production")
    assert place.run(state=store)["unchanged"] == 2


def test_a_name_may_be_given_later(place: World, connect: Connect) -> None:
    """With a key that is known it is taken; with another one the channels have the word."""
    place.run()
    connect(OTHER, project="staging")
    place.failure(AirflowFailException)
    connect(ROTATED, project="production")
    place.run()
    connect(OTHER, project="production")
    assert place.run()["unchanged"] == 2


def test_a_name_that_is_taken_away_is_missed(place: World, connect: Connect) -> None:
    """A new key cannot be compared then: it is refused rather than trusted."""
    connect(KEY, project="production")
    place.run()
    connect(ROTATED)
    message, _ = place.failure(AirflowFailException)
    assert "may belong to another project" in message
    assert "set project to 'production'" in message


def test_a_dry_run_asks_nothing_and_warns(place: World, connect: Connect, store: Store) -> None:
    """Nor does it note anything: the run after it asks."""
    place.run(state=store)
    place.forget_calls()
    connect(ROTATED)
    place.run(state=store, dry_run=True)
    assert not place.sandbox.calls
    assert place.operator is not None
    place.run(state=store)
    assert asked(place) == 1
    connect(OTHER)
    place.forget_calls()
    report = place.run(state=store, dry_run=True)
    assert (report["status"], len(place.sandbox.calls)) == ("planned", 0)
    place.failure(AirflowFailException, state=store)


def test_a_dry_run_with_a_new_key_says_so(place: World, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, and among the report's notes."""
    place.run()
    connect(OTHER)
    place.run(dry_run=True)
    said = [record.levelname for record in caplog.records if "that this sync has not used yet" in record.getMessage()]
    assert sorted(said) == ["INFO", "WARNING"], "in the log, and in the summary of the report"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"kind": "5xx_html"}, AirflowException, "did not return the project's channels: 503"),
        ({"kind": "drop_before"}, AirflowException, "did not return the project's channels: no answer"),
        ({"kind": "429", "seconds": 0.0}, AirflowException, "did not return the project's channels: 429"),
        ({"kind": "malformed"}, AirflowException, "did not return the project's channels: 200"),
    ],
)
def test_a_new_key_is_not_trusted_without_an_answer(
    place: World, connect: Connect, fault: dict[str, Any], kind: type[AirflowException], words: str
) -> None:
    """It is tried a few times, then the task fails so that Airflow tries again."""
    place.run()
    connect(ROTATED)
    place.forget_calls()
    place.sandbox.faults({**fault, "times": -1, "path": "/api/channels"})
    message, _ = place.failure(kind)
    assert words in message
    assert "No row was sent" in message
    assert (asked(place), len(place.sandbox.calls)) == (5, 5)
    place.sandbox.service.faults.clear()
    assert place.run()["unchanged"] == 2


def test_a_new_key_that_is_refused_ends_the_run(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """No retry can help; nothing else is called."""
    world = make_world(api_key=KEY)
    world.people(1)
    world.run()
    connection = {"conn_type": "iterable", "password": "typo", "host": world.sandbox.url}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps({**connection, "extra": {"project_type": "email"}}))
    world.forget_calls()
    message, _ = world.failure(AirflowFailException)
    assert "Iterable refused the API key (401 BadApiKey)" in message
    assert (asked(world), len(world.sandbox.calls)) == (1, 1)


@pytest.mark.parametrize("fault", ["5xx_html", "drop_before", "malformed"])
def test_a_first_look_that_fails_is_repeated_by_the_next_run(place: World, connect: Connect, fault: str) -> None:
    """Nobody doubts the key, so that rows go; it is asked once in each run."""
    place.sandbox.faults({"kind": fault, "times": 1, "path": "/api/channels"})
    assert place.run()["accepted"] == 2
    place.people(1, 2, 3)
    place.run()
    assert asked(place) == 2
    connect(ROTATED)
    assert place.run()["unchanged"] == 3


def test_a_key_that_may_not_read_channels_is_not_trusted_once_it_is_new(
    place: World, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said when it begins to matter, and once; a name for the project makes it unnecessary."""
    asking = []

    def nothing(*arguments: Any, **options: Any) -> list[int]:
        asking.append(options)
        return []

    monkeypatch.setattr(projects, "get_channels", nothing)
    for number in (3, 4):
        place.people(1, 2, number)
        place.run(max_removed=None)
    warnings = [record for record in caplog.records if "may not read the project's message channels" in record.message]
    assert [record.levelname for record in warnings] == ["WARNING"]
    assert len(asking) == 1
    connect(ROTATED)
    message, _ = place.failure(AirflowFailException)
    assert "may belong to another project at Iterable" in message
    assert "Nothing was read or sent" in message
    connect(KEY, project="production")
    place.run()
    connect(ROTATED, project="production")
    place.run()


def test_keys_are_remembered_up_to_a_number(place: World, connect: Connect) -> None:
    """A key that was forgotten is asked about again."""
    place.run()
    for key in MORE_KEYS:
        connect(key)
        place.run()
    assert asked(place) == 1 + len(MORE_KEYS)
    assert len(json.loads(notes(place)["project"])["keys"]) == 8
    connect(KEY)
    place.run()
    assert asked(place) == 2 + len(MORE_KEYS)


def test_neither_key_nor_digest_is_told(place: World, connect: Connect, heard: Callable[[], str]) -> None:
    """Keys are in no table; their digests are in the notes, and nowhere in log, report or XCom."""
    place.run()
    for key in (ROTATED, OTHER):
        connect(key)
        place.run(dry_run=True)
    place.failure(AirflowFailException)
    place.run(resync="full")
    digests = json.loads(notes(place)["project"])["keys"]
    with closing(sqlite3.connect(place.warehouse)) as connection:
        dump = "\n".join(connection.iterdump())
    said = heard() + json.dumps([*place.xcoms.values()])
    for key in KEYS:
        assert key not in dump + said
    for digest in digests:
        assert len(digest) == 16
        assert digest in dump
        assert digest not in said


def test_a_run_that_remembers_nothing_binds_nobody(place: World, connect: Connect) -> None:
    """Without an entry there is no project to be true to."""
    place.failure(AirflowFailException, sql="SELECT * FROM users WHERE FALSE")
    connect(OTHER)
    assert place.run()["accepted"] == 2
    assert users(place, 77) == {email(1), email(2)}
