"""Erasures through something that answers in Iterable's place: nothing is done, so nothing is remembered as done."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project
from tests.api.foreign import FOREIGN
from tests.gateways import Gateway, first, gateway_before, only
from tests.operators.conftest import KEY, Make, World, email, person
from tests.operators.test_privacy import act, forgotten, hashes, known, people_ask
from tests.services import Answer
from tests.state.test_table import execute, postgres_hook, postgres_tables

pytestmark = pytest.mark.slow

ALL = list(range(1, 6))
KONG = Answer(
    404, b'{"message":"no Route matched with those values"}', {"Content-Type": "application/json", "Server": "kong/3.4"}
)
HALTING = ["kong, no route", "nginx 404", "express 404", "302 login", "307 portal", "waf 403"]
UNANSWERED = ["status ok 200", "message Success 200", "login page 200", "object 200", "nothing 200", "204"]
KEPT = [
    *(("sqlite", foreign) for foreign in (*HALTING, *UNANSWERED)),
    *(("postgres", foreign) for foreign in ("kong, no route", "nothing 200")),
]
"""Where the state is, and what answers: the other database sees one answer of each kind."""
USERS = "users"


@dataclass
class Place:
    """A project behind a gateway, five people whom it knows and a user sync remembers, and the tables of the state."""

    world: World
    gateway: Gateway
    state: TableState
    read: Callable[[str], list[tuple[Any, ...]]]
    """Runs a query."""
    prefix: str

    def count(self, table: str, where: str = "1 = 1") -> int:
        """Count rows of a table of the state."""
        return int(self.read(f"SELECT count(*) FROM {self.prefix}{table} WHERE {where}")[0][0])

    @property
    def tombstones(self) -> int:
        """People who count as erased."""
        return self.count("state", "fingerprint = ''")

    @property
    def left(self) -> set[str]:
        """Whom Iterable still has."""
        return set(self.world.profiles)

    def sync(self, *numbers: int, **parameters: Any) -> dict[str, Any]:
        """Run the parameters of a user sync that deletes who left the model."""
        self.world.rows(*map(person, numbers))
        own = {"sync_id": USERS, "on_removed": "delete", "allow_empty": True, "max_removed": 1.0, "state": self.state}
        return {**own, **parameters}


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, make_world: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """State beside the model, or in a Postgres."""
    world = make_world()
    with gateway_before(world.sandbox.url) as gateway:
        connection = {
            "conn_type": "iterable",
            "password": KEY,
            "host": gateway.url,
            "extra": {"project_type": "email"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        if request.param == "sqlite":

            def read(query: str) -> list[tuple[Any, ...]]:
                with closing(sqlite3.connect(world.warehouse)) as found:
                    return list(found.execute(query))

            place = Place(world, gateway, TableState(), read, "iterable_sync_")
            world.run(**place.sync(*ALL))
            yield place
            return
        hook = postgres_hook(monkeypatch)
        with postgres_tables(hook) as made:
            state = TableState("state", made.schema)
            place = Place(world, gateway, state, partial(execute, hook), f'"{made.schema}".sync_')
            world.run(**place.sync(*ALL))
            yield place


@pytest.mark.parametrize(("place", "foreign"), KEPT, indirect=["place"])
@pytest.mark.parametrize("action", ["delete", "forget"])
@pytest.mark.parametrize("reach", ["every call", "erasures"])
def test_nobody_is_erased_by_a_gateway(place: Place, action: str, foreign: str, reach: str) -> None:
    """The task fails, all are still at Iterable, and neither ledger, state nor tombstones say otherwise; the same
    requests go once the gateway is out of the way."""
    world, gateway = place.world, place.gateway
    gateway.answer = FOREIGN[foreign]
    gateway.passes = only("/api/channels" if reach == "erasures" else "")
    people_ask(world, *ALL)
    kind = AirflowFailException if foreign in HALTING else AirflowException
    message, report = act(world, kind, action=action, state=place.state)
    assert gateway.answered > 0
    assert place.left == {email(number) for number in ALL}
    assert forgotten(world) == set()
    assert report["accepted"] == 0
    assert report["reasons"].keys() <= {"halted", "no_answer", "unreachable"}
    assert email(1) not in message
    assert (place.tombstones, place.count("state", f"sync_id <> '{USERS}'")) == (0, 0)
    assert place.count("state", f"sync_id = '{USERS}'") == len(ALL)
    if action == "forget":
        assert place.count("ledger") == 0

    gateway.passes = lambda method, path: True
    report = act(world, action=action, state=place.state)
    assert (report["accepted"], report["reasons"]) == (5, {})
    assert place.left == set()
    assert place.tombstones == len(ALL)
    if action == "forget":
        assert place.count("ledger") == len(ALL)
        assert forgotten(world) == hashes(world, *ALL)


@pytest.mark.parametrize(("place", "foreign"), KEPT, indirect=["place"])
def test_nobody_who_left_is_deleted_by_a_gateway(place: Place, foreign: str) -> None:
    """A user sync with ``on_removed="delete"`` remembers them until Iterable has deleted them."""
    world, gateway = place.world, place.gateway
    gateway.answer, gateway.passes = FOREIGN[foreign], only("")
    kind = AirflowFailException if foreign in HALTING else AirflowException
    _, report = world.failure(kind, **place.sync())
    assert (report["removed"], report["accepted"]) == (5, 0)
    assert place.left == {email(number) for number in ALL}
    assert (place.tombstones, place.count("state")) == (0, len(ALL))

    gateway.passes = lambda method, path: True
    report = world.run(**place.sync())
    assert (report["removed"], report["accepted"], report["reasons"]) == (5, 5, {})
    assert (place.left, place.count("state")) == (set(), 0)


@pytest.mark.parametrize("action", ["delete", "forget", "unforget"])
def test_a_gateway_that_comes_in_the_middle_of_a_run(place: Place, action: str) -> None:
    """What Iterable answered stays remembered, the rest does not; the message says who answered, how many are left and
    what to do, and a run without the gateway sends those."""
    world, gateway = place.world, place.gateway
    if action == "unforget":
        for number in ALL:
            world.sandbox.project.forget(email(number), None)
    part = "/api/users/" if action == "delete" else f"/api/users/{action}"
    gateway.answer, gateway.passes = KONG, first(3, part)
    people_ask(world, *ALL)
    world.forget_calls()
    message, report = act(world, AirflowFailException, action=action, state=place.state, max_in_flight=1)
    template = "/api/users/{email}" if action == "delete" else part
    method = "DELETE" if action == "delete" else "POST"
    assert f"{method} {template} is not there (HTTP 404): check the connection's host" in message
    assert "JSON of another form than Iterable's, from a server that calls itself kong/3.4." in message
    assert "a new run sends what is left. 2 rows were not sent; accepted 3, rejected 0, skipped 0." in message
    assert (report["accepted"], report["deferred"], report["reasons"]) == (3, 2, {"halted": 2})
    assert place.count("state", f"sync_id <> '{USERS}'") == 3
    if action != "unforget":
        assert place.tombstones == 3
        assert place.left == {email(number) for number in (4, 5)}
    if action != "delete":
        assert place.count("ledger") == 3

    gateway.passes = lambda method, path: True
    world.forget_calls()
    report = act(world, action=action, state=place.state)
    assert (report["added"], report["unchanged"], report["accepted"], report["reasons"]) == (2, 3, 2, {})
    assert sum(world.calls.values()) == 2
    assert place.left == set()


def test_who_is_unknown_to_iterable_is_still_gone(place: Place) -> None:
    """Through a gateway that passes everything on, Iterable's own words count as they did."""
    world = place.world
    people_ask(world, 6, 7)
    report = act(world, action="delete", state=place.state, user_id_column="uid", allow_shared_user_id=True)
    assert (report["accepted"], report["reasons"]) == (2, {"already_gone": 2})
    assert place.left == {email(number) for number in ALL}


def test_a_gateway_says_nothing_about_the_project(place: Place) -> None:
    """That nobody may read its channels would be believed for ever."""
    world, gateway = place.world, place.gateway
    known(world, 6)
    gateway.answer, gateway.passes = KONG, lambda method, path: path != "/api/channels"
    people_ask(world, 6)
    message, report = act(world, AirflowFailException, action="delete", state=place.state)
    assert "GET /api/channels is not there (HTTP 404)" in message
    assert report["requests"] == {"GET /api/channels": {"404": 1}}
    notes = [json.loads(text) for (text,) in place.read(f"SELECT notes FROM {place.prefix}header")]
    projects = [Project.noted(each.get(PROJECT_NOTE)) for each in notes]
    assert all(project is None or project.channels != () for project in projects)
