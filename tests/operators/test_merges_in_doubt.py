"""Merges of which no answer came, and whose row has left the model or names another pair by the next run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.deliver import Delivery
from airflow_provider_iterable.engine.vocabulary import Reply
from airflow_provider_iterable.operators import IterablePrivacyOperator
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import World, email, person
from tests.operators.test_merges import (
    BY_EMAIL,
    MERGE,
    Dead,
    entries,
    explained,
    held,
    known,
    merge,
    other,
    pairs,
)

pytestmark = pytest.mark.slow
both = pytest.mark.parametrize("applied", [True, False])
ways = pytest.mark.parametrize("way", ["lost", "killed"])


@contextmanager
def unanswered(monkeypatch: pytest.MonkeyPatch, *, applied: bool, way: str) -> Iterator[None]:
    """Let no merge be answered, and nothing that is looked up after it; or let the worker die with the merge."""
    send, merged = Client.send, list[bool]()

    def lose(client: Client, batch: Any) -> Any:
        if not batch.call.looks_back:
            reply = send(client, batch)
            return msgspec.structs.replace(reply, status=0, body=b"") if merged else reply
        merged.append(True)
        if applied:
            send(client, batch)
        if way == "killed":
            raise Dead
        return Reply(0)

    with monkeypatch.context() as patched:
        patched.setattr(Client, "send", lose)
        if way == "killed":
            patched.setattr(Delivery, "_rescue", lambda delivery: None)
        yield


def leave_in_doubt(world: World, monkeypatch: pytest.MonkeyPatch, *, applied: bool, way: str = "lost") -> None:
    """Have a user sync accept the source, and leave its merge in doubt."""
    known(world, 1, 2, 3)
    world.rows(person(1), person(2))
    world.run(state=TableState())
    pairs(world, (1, 1, 2))
    with (
        unanswered(monkeypatch, applied=applied, way=way),
        pytest.raises(Dead if way == "killed" else AirflowException),
    ):
        merge(world)
    assert (email(1) in world.profiles) is not applied


def tombstones(world: World) -> int:
    """Return how many entries became tombstones."""
    return len(entries(world, "fingerprint = ''"))


@both
@ways
def test_a_row_that_left_is_settled(world: World, applied: bool, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged, its source does not come back by other syncs; otherwise the pair is as if it had never been there."""
    leave_in_doubt(world, monkeypatch, applied=applied, way=way)
    pairs(world)
    told = explained(world, "1")
    assert (told.action, told.endpoints, told.change) == ("look_up", [BY_EMAIL], "removed")
    report = merge(world, max_merges=0)
    assert world.calls == {BY_EMAIL: 1}
    assert (report["removed"], report["reasons"]) == (1, {"already_merged": 1} if applied else {})
    assert (len(entries(world)), tombstones(world)) == ((1, 1) if applied else (0, 0))
    assert email(1) not in str(entries(world))
    world.rows(person(1, city="Ulm"), person(2))
    world.run(state=TableState())
    assert (email(1) in world.profiles) is not applied
    merge(world)
    assert world.calls == {}
    pairs(world, (1, 1, 2))
    merge(world)
    assert world.calls[MERGE] == (0 if applied else 1)
    assert email(1) not in held_names(world)


def held_names(world: World) -> set[str]:
    """Return whom Iterable has."""
    return set(world.profiles)


@both
@ways
def test_another_pair_under_its_key(world: World, applied: bool, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged, the new pair is refused as any other would be; otherwise it is merged in its place."""
    leave_in_doubt(world, monkeypatch, applied=applied, way=way)
    pairs(world, (1, 3, 2))
    report = merge(world, max_rejected=1.0)
    assert report["reasons"] == ({"pair_changed": 1} if applied else {})
    assert not [note for note in report["notes"] if "identity" in note]
    assert world.calls[MERGE] == (0 if applied else 1)
    assert held(world) == ({2: {1, 2}, 3: {3}} if applied else {1: {1}, 2: {2, 3}})
    assert tombstones(world) == (1 if applied else 0)
    assert email(1) not in str(entries(world))
    report = merge(world, max_rejected=1.0)
    assert (report["reasons"], world.calls) == ({"pair_changed": 1} if applied else {}, {})
    if applied:
        pairs(world, (1, 1, 2))
        assert merge(world)["unchanged"] == 1


@pytest.mark.parametrize("now", [[], [(1, 3, 2)]])
def test_a_look_up_that_is_lost_leaves_the_doubt(
    world: World, now: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run settles it."""
    leave_in_doubt(world, monkeypatch, applied=True)
    before = entries(world)
    pairs(world, *now)
    world.sandbox.faults({"kind": "drop_before", "path": "/api/users", "times": -1})
    merge(world, AirflowException)
    assert entries(world) == before
    world.sandbox.service.faults.clear()
    merge(world, max_rejected=1.0)
    assert (tombstones(world), entries(world) == before) == (1, False)


@pytest.mark.parametrize(
    "named", [b'{"user": {"email": "other@example.com", "dataFields": {}}}', b'{"user": {"dataFields": {"own1": 1}}}']
)
@pytest.mark.parametrize("now", [[], [(1, 3, 2)]])
def test_a_look_up_that_does_not_name_the_source_settles_nothing(
    world: World, now: list[tuple[int, int, int]], named: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of the source, so that it is no reason to forget or to merge anything."""
    leave_in_doubt(world, monkeypatch, applied=False)
    before, send = entries(world), Client.send
    pairs(world, *now)

    def mistake(client: Client, batch: Any) -> Any:
        reply = send(client, batch)
        return msgspec.structs.replace(reply, body=named) if batch.call.reads else reply

    with monkeypatch.context() as patched:
        patched.setattr(Client, "send", mistake)
        merge(world, AirflowException)
    assert (entries(world), world.calls[MERGE]) == (before, 0)


def test_what_cannot_be_looked_up_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, heard: Callable[[], str]
) -> None:
    """An older version remembered no source, so that only the row as it was settles it."""
    leave_in_doubt(world, monkeypatch, applied=True)
    with closing(sqlite3.connect(world.warehouse)) as connection:
        connection.execute("UPDATE iterable_sync_state SET ref = '' WHERE sync_id LIKE '%merge'")
        connection.commit()
    for now in ([], [(1, 3, 2)]):
        pairs(world, *now)
        report = merge(world, max_rejected=1.0)
        assert world.calls == {}
        assert [note.partition(" pairs")[0] for note in report["notes"] if "not answered" in note] == ["1"]
        assert "Put these rows back as they were for one run." in heard()
    pairs(world, (1, 1, 2))
    report = merge(world)
    assert report["reasons"] == {"already_merged": 1}
    assert not [note for note in report["notes"] if "not answered" in note]


def test_nothing_is_looked_up_by_a_dry_run_or_a_baseline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doubt stays."""
    leave_in_doubt(world, monkeypatch, applied=True)
    before = entries(world)
    pairs(world)
    for parameters in ({"dry_run": True}, {"resync": "baseline"}):
        merge(world, **parameters)
        assert (world.calls, entries(world)) == ({}, before)


def test_who_is_erased_is_not_kept_in_a_doubt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A privacy sync finds the source, and nothing is in doubt any more."""
    leave_in_doubt(world, monkeypatch, applied=False)
    world.rows(person(1))

    def forget(**parameters: Any) -> IterablePrivacyOperator:
        return IterablePrivacyOperator(
            task_id="forget", sql=f"SELECT '{email(1)}' AS email", sql_conn_id="warehouse", primary_key="email",
            email_column="email", action="forget", state=TableState(), **parameters,
        )  # fmt: skip

    other(world, forget)
    assert email(1) not in str(entries(world, "1 = 1"))
    report = merge(world)
    assert (report["reasons"], world.calls) == ({"erased_person": 1}, {})
