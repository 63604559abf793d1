from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.operators import IterableListOperator, IterableMergeOperator, IterablePrivacyOperator
from airflow_provider_iterable.operators.explain import explain_row
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import BULK, MATCH, Make, Scene, World, email, identifier, person, uid

pytestmark = pytest.mark.slow

MERGE, BY_EMAIL, BY_ID = "POST /api/users/merge", "GET /api/users/getByEmail", "GET /api/users/byUserId"
PROJECTS: tuple[ProjectType, ...] = ("email", "user_id", "hybrid")
projects = pytest.mark.parametrize("project_type", PROJECTS)
PATH = "/api/users/merge"
Pair = tuple[int, int, int]
"""Key, source and destination."""


def columns(world: World) -> dict[str, Any]:
    """Return the parameters that name both sides as the project does."""
    kind = "email" if MATCH[world.project_type] == "email" else "user_id"
    return {f"source_{kind}_column": "source", f"destination_{kind}_column": "destination"}


def operator(world: World, **parameters: Any) -> IterableMergeOperator:
    """Make the operator, with the identifiers that the project uses."""
    defaults: dict[str, Any] = {
        "task_id": "merge",
        "sql": "SELECT * FROM pairs",
        "sql_conn_id": "warehouse",
        "primary_key": "id",
        "state": TableState(),
    }
    if not any(name.endswith("_column") for name in parameters):
        defaults |= columns(world)
    return IterableMergeOperator(**{**defaults, **parameters})


def texts(world: World, *rows: Sequence[Any]) -> None:
    """Let the model be these rows: key, source, destination."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        connection.execute("DROP TABLE IF EXISTS pairs")
        connection.execute("CREATE TABLE pairs (id, source, destination)")
        connection.executemany("INSERT INTO pairs VALUES (?, ?, ?)", rows)
        connection.commit()


def pairs(world: World, *rows: Pair) -> None:
    """Let the model be these pairs of numbered people."""
    name = partial(identifier, world.project_type)
    texts(world, *((key, name(source), name(destination)) for key, source, destination in rows))


def merge(world: World, failing: type[AirflowException] | None = None, **parameters: Any) -> Any:
    """Run the operator as a new DAG run; return its report, or the message with which it fails and its report."""
    return other(world, partial(operator, world), failing, **parameters)


def other(world: World, make: Any, failing: type[AirflowException] | None = None, **parameters: Any) -> Any:
    """Run another operator than that of users; the calls are counted from here on."""
    world.forget_calls()
    users = world.make
    world.make = make  # type: ignore[method-assign]
    try:
        return world.failure(failing, **parameters) if failing else world.run(**parameters)
    finally:
        world.make = users  # type: ignore[method-assign]


def known(world: World, *numbers: int) -> None:
    """Have Iterable know people, each with a field of their own and one that all have."""
    for number in numbers:
        world.create(number, **{f"own{number}": number, "name": f"Name {number}"})


def held(world: World) -> dict[int, set[int]]:
    """Whom Iterable has, and whose fields each of them has."""
    digits = {identifier(world.project_type, number): number for number in range(1, 60)}
    return {
        digits[name]: {int(field[3:]) for field in fields if field.startswith("own")}
        for name, fields in world.profiles.items()
    }


def entries(world: World, where: str = "sync_id LIKE '%merge'") -> list[tuple[Any, ...]]:
    """Return what is remembered."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        query = f"SELECT record_key, fingerprint, ref FROM iterable_sync_state WHERE {where} ORDER BY 1"
        return list(connection.execute(query))


def audited(world: World, table: str, where: str = "sync_id LIKE '%merge'") -> list[tuple[Any, ...]]:
    """Return rows of an audit table: key, status, reason."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        query = (
            f"SELECT row_id, status, failure_reason, failure_detail, person FROM iterable_sync_{table} WHERE {where}"
        )
        return sorted((row[0], row[1], (row[2] or "").partition(":")[0], *row[3:]) for row in connection.execute(query))


@projects
def test_a_pair_is_merged_once_ever(make_world: Make, project_type: ProjectType) -> None:
    """New, it is merged; unchanged, gone and back again, nothing is sent; a source that is there again is another."""
    world = make_world(project_type)
    known(world, 1, 2, 3)
    pairs(world, (1, 1, 2))
    report = merge(world)
    assert (report["added"], report["accepted"], report["reasons"]) == (1, 1, {})
    look_up = BY_EMAIL if project_type == "email" else BY_ID
    assert world.calls == {look_up: 1, MERGE: 1}
    assert held(world) == {2: {1, 2}, 3: {3}}
    assert world.profiles[identifier(project_type, 2)]["name"] == "Name 2"  # the destination's value stays
    for rows in ([(1, 1, 2)], [], [(1, 1, 2)]):
        pairs(world, *rows)
        report = merge(world)
        assert (report["accepted"], report["removed"], world.calls) == (0, 0, {})
    known(world, 1)
    merge(world)
    assert world.calls == {}
    pairs(world, (1, 1, 2), (2, 1, 3))
    assert merge(world)["accepted"] == 1
    assert held(world) == {2: {1, 2}, 3: {1, 3}}


@pytest.mark.parametrize("scene", ["postgres, database", "mysql, database", "mysql, worker"], indirect=True)
def test_model_and_state_may_be_in_another_database(scene: Scene) -> None:
    """A pair is merged, one is in doubt and looked up, another one is refused, and the source becomes a tombstone."""
    people = {number: f"Name {number}" for number in (1, 2, 3, 4)}
    scene.sync(people)
    where: dict[str, Any] = {"sql_conn_id": scene.connection, "state": scene.store}

    def query(*rows: Pair) -> dict[str, Any]:
        texts = (f"SELECT {key} AS id, '{email(a)}' AS source, '{email(b)}' AS destination" for key, a, b in rows)
        return {"sql": " UNION ALL ".join(texts), **where}

    assert merge(scene, **query((1, 1, 2)))["accepted"] == 1
    scene.sandbox.faults({"kind": "drop_after", "path": "/api/users", "times": -1, "after": 1})
    merge(scene, AirflowException, **query((1, 1, 2), (2, 3, 2)))
    scene.sandbox.service.faults.clear()
    report = merge(scene, **query((1, 1, 4), (2, 3, 2)), max_rejected=1)
    assert report["reasons"] == {"already_merged": 1, "pair_changed": 1}
    assert merge(scene, **query((1, 1, 2), (2, 3, 2)))["unchanged"] == 2
    assert scene.calls == {}
    report = scene.sync(people)
    assert (report["reasons"], set(scene.held)) == ({"erased_person": 2}, {2, 4})


@projects
def test_another_pair_under_a_key_is_refused(make_world: Make, project_type: ProjectType) -> None:
    """Nothing is called for it, in each run; the others go, and the pair that was merged is as it was."""
    world = make_world(project_type)
    known(world, 1, 2, 3, 4)
    pairs(world, (1, 1, 2))
    merge(world)
    before = entries(world)
    pairs(world, (1, 3, 2), (2, 4, 2))
    report = merge(world, max_rejected=1, state=TableState(audit=True))
    assert (report["reasons"], report["rejected"], report["accepted"]) == ({"pair_changed": 1}, 1, 1)
    assert held(world) == {2: {1, 2, 4}, 3: {3}}
    assert entries(world)[0] == before[0]
    assert [row[:3] for row in audited(world, "snapshot")] == [
        ("[1]", "failed", "pair_changed"),
        ("[2]", "succeeded", ""),
    ]
    report = merge(world, max_rejected=1)
    assert (report["reasons"], world.calls) == ({"pair_changed": 1}, {})
    pairs(world, (1, 1, 2))
    assert merge(world)["unchanged"] == 1


@projects
def test_unknown_sides(make_world: Make, project_type: ProjectType) -> None:
    """A source or a destination that is not there is skipped, and goes again with each run until both are."""
    world = make_world(project_type)
    known(world, 1, 2)
    pairs(world, (1, 1, 9), (2, 8, 2))
    for _ in range(2):
        report = merge(world)
        assert report["reasons"] == {"unknown_destination": 1, "unknown_user": 1}
        assert (report["skipped"], held(world), entries(world)) == (2, {1: {1}, 2: {2}}, [])
        assert world.calls[MERGE] == 1
    known(world, 8, 9)
    assert merge(world)["accepted"] == 2
    assert held(world) == {9: {1, 9}, 2: {2, 8}}


@projects
def test_a_destination_may_be_made(make_world: Make, project_type: ProjectType) -> None:
    """Where it is allowed the source takes its identifier, without a look-up, and what follows is merged into that."""
    world = make_world(project_type)
    known(world, 1, 2)
    pairs(world, (1, 1, 9), (2, 2, 9))
    assert merge(world, create_destination=True)["accepted"] == 2
    assert (held(world), world.calls) == ({9: {1, 2}}, {MERGE: 2})


FAULTS = ["drop_before", "drop_after", "malformed", "5xx_html"]


@projects
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_lost_answer_is_made_up_for(make_world: Make, project_type: ProjectType, kind: str, times: int) -> None:
    """Within the run the source is looked up: gone, it was merged; there, it is merged again."""
    world = make_world(project_type)
    known(world, 1, 2)
    world.sandbox.faults({"kind": kind, "path": PATH, "times": times})
    pairs(world, (1, 1, 2))
    report = merge(world)
    applied = kind in ("drop_after", "malformed")
    assert report["reasons"] == ({"already_merged": 1} if applied else {})
    assert (report["accepted"], held(world)) == (1, {2: {1, 2}})
    assert world.calls[MERGE] == (1 if applied else 1 + times)
    assert merge(world)["unchanged"] == 1
    assert world.calls == {}


@projects
@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_a_row_in_doubt_waits_for_the_next_run(make_world: Make, project_type: ProjectType, kind: str) -> None:
    """Its key, pair and source are remembered; the next run looks the source up."""
    world = make_world(project_type)
    known(world, 1, 2, 3)
    world.sandbox.faults({"kind": kind, "path": "/api/users", "times": -1, "after": 1})
    pairs(world, (1, 1, 2))
    message, report = merge(world, AirflowException)
    assert "1 rows were deferred (no_answer 1)" in message
    world.sandbox.service.faults.clear()
    ((key, fingerprint, ref),) = entries(world)
    assert (key, fingerprint[:24], len(fingerprint)) == ("[1]", "0" * 24, 48)
    assert identifier(project_type, 1) in ref
    report = merge(world)
    applied = kind == "drop_after"
    assert report["reasons"] == ({"already_merged": 1} if applied else {})
    assert (report["changed"], report["accepted"], world.calls[MERGE]) == (1, 1, 0 if applied else 1)
    assert held(world) == {2: {1, 2}, 3: {3}}
    assert merge(world)["unchanged"] == 1


class Dead(BaseException):
    """The worker is gone."""


@projects
@pytest.mark.parametrize("arrived", [True, False])
def test_a_killed_run_leaves_its_pairs_in_doubt(
    make_world: Make, project_type: ProjectType, arrived: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could say nothing more; the next run finds out what was merged, and merges the rest."""
    from airflow_provider_iterable.api.client import Client
    from airflow_provider_iterable.engine.deliver import Delivery

    world = make_world(project_type)
    known(world, 1, 2, 3, 4)
    pairs(world, (1, 1, 2), (2, 3, 4))
    with monkeypatch.context() as patched:
        send = Client.send

        def die(client: Client, batch: Any) -> Any:
            if batch.call.reads:
                return send(client, batch)
            if arrived:
                send(client, batch)
            raise Dead

        patched.setattr(Client, "send", die)
        patched.setattr(Delivery, "_rescue", lambda delivery: None)
        with pytest.raises(Dead):
            merge(world)
    merged = {number for number in (1, 3) if number not in held(world)}
    assert bool(merged) is arrived
    report = merge(world)
    found = report["reasons"].pop("already_merged", 0)  # a request may have been under way when the worker died
    assert (report["accepted"], report["reasons"]) == (2, {})
    assert len(merged) <= found <= (2 if arrived else 0)
    assert held(world) == {2: {1, 2}, 4: {3, 4}}
    assert len(entries(world)) == 2
    merge(world)
    assert world.calls == {}


def test_a_doubt_outlives_a_kill_between_its_look_up_and_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merge was answered by nobody, and the worker is gone before the look-up is: the next run still knows."""
    from airflow_provider_iterable.api.client import Client
    from airflow_provider_iterable.engine.deliver import Delivery

    known(world, 1, 2)
    pairs(world, (1, 1, 2))
    world.sandbox.faults({"kind": "drop_after", "path": PATH})
    send, sent = Client.send, []

    def die(client: Client, batch: Any) -> Any:
        sent.append(batch.call.reads)
        if sent == [True, False, True]:
            raise Dead
        return send(client, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Client, "send", die)
        patched.setattr(Delivery, "_rescue", lambda delivery: None)
        with pytest.raises(Dead):
            merge(world)
    assert sent == [True, False, True]
    assert merge(world)["reasons"] == {"already_merged": 1}


def test_a_source_that_comes_late_is_not_taken_for_a_merged_one(world: World) -> None:
    """Its pair was refused without a doubt, and so it is merged once it is there."""
    known(world, 2)
    pairs(world, (1, 1, 2))
    world.sandbox.faults({"kind": "429", "path": PATH, "seconds": 0.0})
    assert merge(world)["reasons"] == {"unknown_user": 1}
    known(world, 1)
    assert (merge(world)["accepted"], held(world)) == (1, {2: {1, 2}})


WRONG: dict[str, tuple[list[Pair], dict[int, str]]] = {
    "chain": ([(1, 1, 2), (2, 2, 3), (3, 5, 6)], {1: "merge_chain", 2: "merge_chain"}),
    "cycle": ([(1, 1, 2), (2, 2, 1), (3, 3, 1)], {1: "merge_cycle", 2: "merge_cycle", 3: "merge_chain"}),
    "two destinations": ([(1, 1, 2), (2, 1, 3), (3, 5, 6)], {1: "source_twice", 2: "source_twice"}),
    "one pair twice": ([(1, 1, 2), (2, 1, 2), (3, 5, 6)], {1: "same_merge", 2: "same_merge"}),
    "itself": ([(1, 1, 1), (2, 5, 6)], {1: "merges_itself"}),
}


@projects
@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("dry_run", [False, True])
def test_rows_that_are_wrong_beside_one_another(
    make_world: Make, project_type: ProjectType, kind: str, dry_run: bool, heard: Callable[[], str]
) -> None:
    """Nothing is sent for any row; each of them is named in the message, the log, the report and the audit."""
    rows, expected = WRONG[kind]
    world = make_world(project_type)
    known(world, 1, 2, 3, 4, 5, 6)
    pairs(world, *rows)
    message, report = merge(world, AirflowFailException, dry_run=dry_run, max_rejected=1.0)
    assert f"{len(expected)} of {len(rows)} merges cannot be made beside one another" in message
    assert world.calls == {}
    assert dry_run or entries(world, "1 = 1") == []
    assert (report["rejected"], report["accepted"]) == (len(expected), 0)
    said = heard()
    for key, reason in expected.items():
        assert f"[{key}] {reason}" in message
        assert f"key [{key}]: {reason}: " in said
        assert report["reasons"][reason] == list(expected.values()).count(reason)
    if not dry_run:
        assert {row[0]: row[2] for row in audited(world, "snapshot")} == {
            f"[{key}]": why for key, why in expected.items()
        }
    for number in range(1, 7):
        assert identifier(project_type, number) not in message + said
    pairs(world, *(row for row in rows if row[0] not in expected))
    merge(world)


def test_folded_addresses_are_one(world: World) -> None:
    """Letters and spaces make no other person."""
    texts(world, (1, " A@x.io", "a@X.io "), (2, "b@x.io", "C@x.io"), (3, "c@x.io", "d@x.io"))
    message, _ = merge(world, AirflowFailException)
    assert "[1] merges_itself, [2] merge_chain, [3] merge_chain" in message


def test_somebody_who_was_merged_away_is_no_destination(world: World) -> None:
    """Also in later runs, whatever sync of these tables merged them; the source of an earlier pair may come again."""
    known(world, 1, 2, 3)
    pairs(world, (1, 1, 2))
    merge(world)
    pairs(world, (2, 3, 1))
    for parameters in ({}, {"sync_id": "another"}):
        message, report = merge(world, AirflowFailException, create_destination=True, **parameters)
        assert "[2] merge_chain" in message
        assert (world.calls, report["rejected"]) == ({}, 1)
    assert "by an earlier run" in audited(world, "snapshot")[-1][3]
    pairs(world, (1, 1, 2), (3, 2, 3))  # what was a destination may go on
    assert (merge(world)["accepted"], held(world)) == (1, {3: {1, 2, 3}})
    pairs(world, (4, 1, 3))
    assert merge(world)["reasons"] == {"unknown_user": 1}


@pytest.mark.parametrize("side", ["source", "destination"])
def test_people_who_were_erased_are_not_merged(world: World, side: str) -> None:
    """A privacy sync left tombstones in these tables: such a pair keeps the run from sending anything."""
    world.people(1, 2)
    world.run()
    known(world, 3, 4)
    erased = 1 if side == "source" else 2
    erase = partial(
        IterablePrivacyOperator,
        task_id="erase",
        action="delete",
        sql=f"SELECT '{email(erased)}' AS email",
        sql_conn_id="warehouse",
        primary_key="email",
        email_column="email",
        state=TableState(),
    )
    other(world, erase)
    pairs(world, (1, 1, 2), (2, 3, 4))
    message, _ = merge(world, AirflowFailException)
    assert "1 of 2 merges cannot be made beside one another (merge_of_erased 1)" in message
    assert "[1] merge_of_erased" in message
    assert world.calls == {}


@projects
def test_forgotten_sides_are_skipped(make_world: Make, project_type: ProjectType) -> None:
    """Iterable answers 409 about either; nothing is remembered."""
    world = make_world(project_type)
    known(world, 1, 2, 3, 4)
    for number in (1, 4):
        by_email = MATCH[project_type] == "email"
        world.sandbox.project.forget(email(number) if by_email else None, None if by_email else uid(number))
    pairs(world, (1, 1, 2), (2, 3, 4))
    for create in (False, True):
        report = merge(world, create_destination=create)
        assert (report["skipped"], report["rejected"], entries(world)) == (2, 0, [])
        assert set(report["reasons"]) <= {"forgotten_user", "unknown_destination"}
        assert held(world) == {2: {2}, 3: {3}}


def test_merges_into_one_destination_go_in_the_order_of_their_keys(world: World) -> None:
    """What the first one brings stays, however many requests could be under way at once."""
    known(world, *range(2, 13))
    world.create(1)
    pairs(world, *((100 + number, number, 1) for number in reversed(range(2, 13))))
    report = merge(world)
    assert (report["accepted"], report["collapsed"], report["notes"][1:]) == (11, 0, [])
    assert held(world) == {1: set(range(2, 13))}
    assert world.profiles[email(1)]["name"] == "Name 2"


def test_what_was_merged_is_remembered_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those that share a destination, of which others are still to go when the worker dies."""
    from airflow_provider_iterable.api.client import Client
    from airflow_provider_iterable.engine.deliver import Delivery

    known(world, 1, 2, 3, 4)
    pairs(world, (1, 1, 4), (2, 2, 4), (3, 3, 4))
    send, sent = Client.send, []

    def die(client: Client, batch: Any) -> Any:
        sent.append(batch.call.reads)
        if sent.count(False) == 3:
            raise Dead
        return send(client, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Client, "send", die)
        patched.setattr(Delivery, "_rescue", lambda delivery: None)
        with pytest.raises(Dead):
            merge(world)
    assert [(key, len(fingerprint)) for key, fingerprint, _ in entries(world)] == [("[1]", 24), ("[2]", 24)]
    report = merge(world)
    assert (report["unchanged"], report["accepted"], report["reasons"]) == (2, 1, {})
    assert held(world) == {4: {1, 2, 3, 4}}


def test_a_merge_cannot_be_sent_by_a_key_that_may_not(world: World) -> None:
    """A 403 ends the run; what is left goes with the next one."""
    known(world, 1, 2, 3, 4)
    pairs(world, (1, 1, 2), (2, 3, 4))
    world.sandbox.faults({"kind": "poison", "path": PATH, "text": "source", "status": 403})
    message, report = merge(world, AirflowFailException)
    assert "may not make this call (POST /api/users/merge)" in message
    assert (report["deferred"], entries(world)) == (2, [])


def test_the_guard_counts_before_the_first_call(world: World) -> None:
    """More pairs than max_merges are refused; None allows any number, and what was merged does not count."""
    known(world, 1, 2, 3, 4)
    pairs(world, (1, 1, 2), (2, 3, 4))
    message, _ = merge(world, AirflowFailException, max_merges=1)
    assert "would merge 2 profiles" in message
    assert "max_merges allows 1" in message
    assert (world.calls, held(world)) == ({}, {1: {1}, 2: {2}, 3: {3}, 4: {4}})
    assert merge(world, max_merges="None")["accepted"] == 2
    merge(world, max_merges=0)


def test_a_plan_is_approved(world: World) -> None:
    """The dry run calls nothing and shows what goes; only that plan is applied."""
    known(world, 1, 2, 3, 4)
    pairs(world, (1, 1, 2))
    planned = merge(world, dry_run=True)
    assert (world.calls, held(world)[1]) == ({}, {1})
    assert "merge users" in planned["plan_text"]
    assert planned["plan"]["summary"].startswith("look up users 1, merge users 1")
    pairs(world, (1, 1, 3))
    message, _ = merge(world, AirflowFailException, approved_plan=planned["plan_hash"])
    assert "Nothing was sent" in message
    pairs(world, (1, 1, 2))
    message, _ = merge(world, AirflowFailException, approved_plan=planned["plan_hash"], array_merge={"pets": None})
    assert "array_merge" in message
    assert merge(world, approved_plan=planned["plan_hash"])["accepted"] == 1


def test_arrays_are_joined(world: World) -> None:
    """By a member, or what is equal is dropped; that is no other pair."""
    world.create(1, pets=[{"id": 1}, {"id": 2}], tags=["a", "b"])
    world.create(2, pets=[{"id": 1, "name": "Rex"}], tags=["b"])
    pairs(world, (1, 1, 2))
    assert merge(world, array_merge={"pets": "id", "tags": None})["accepted"] == 1
    assert world.profiles[email(2)] == {"pets": [{"id": 1, "name": "Rex"}, {"id": 2}], "tags": ["b", "a"]}
    assert merge(world)["unchanged"] == 1


def test_a_source_does_not_come_back_by_other_syncs(world: World) -> None:
    """Rows about it, of a user and of a list sync in the same tables, are skipped until they have left the model."""
    people = [person(number) for number in (1, 2)]
    world.rows(*people)
    members = partial(
        IterableListOperator,
        task_id="members",
        sql="SELECT * FROM users ORDER BY id",
        sql_conn_id="warehouse",
        email_column="email",
        list_name="VIP",
        state=TableState(),
    )
    world.run()
    other(world, members)
    pairs(world, (1, 1, 2))
    merge(world)
    assert set(world.profiles) == {email(2)}
    world.rows(person(1, name="Another"), people[1])  # a changed row of the source
    report = world.run()
    assert report["reasons"] == {"erased_person": 1}
    report = other(world, members, allow_empty=True)
    assert report["reasons"] == {"erased_person": 1}
    report = world.run(resync="full")
    assert report["reasons"] == {"erased_person": 1}
    assert set(world.profiles) == {email(2)}
    assert [one["email"] for found in world.sandbox.lists for one in found["members"]] == [email(2)]
    world.rows(people[1])
    assert world.run(max_removed=None)["removed"] == 0
    other(world, members)
    assert entries(world, "fingerprint = ''") == []
    world.rows(*people)  # who is there anew is another
    world.run()
    assert set(world.profiles) == {email(1), email(2)}


def test_what_is_kept_about_the_source(world: World) -> None:
    """Neither identifier is in the state; of the audit the history stays, and goes when a privacy sync asks for it."""
    world.people(1, 2)
    world.run(state=TableState(audit=True))
    pairs(world, (1, 1, 2))
    merge(world, state=TableState(audit=True))
    kept = entries(world, "1 = 1")
    assert email(1) not in str(kept)
    ((_, fingerprint, ref),) = entries(world)
    assert (len(fingerprint), ref) == (24, sha256(f'["email","{email(1)}"]'.encode()).hexdigest())
    users = "sync_id LIKE '%sync_users'"
    assert [row[0] for row in audited(world, "snapshot", users)] == ["[2]"]
    assert [row[0] for row in audited(world, "changelog", users)] == ["[1]", "[2]"]
    assert [(row[0], row[4]) for row in audited(world, "changelog")] == [("[1]", None)]
    erase = partial(
        IterablePrivacyOperator,
        task_id="erase",
        action="delete",
        sql=f"SELECT 1 AS id, '{email(1)}' AS email",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        state=TableState(),
    )
    other(world, erase)
    assert [row[0] for row in audited(world, "changelog", users)] == ["[2]"]


def test_keys_that_name_people_are_hashed(world: World, heard: Callable[[], str]) -> None:
    """A key with the source in it would be there for ever; its hash finds the row, and nothing else changes."""
    known(world, 1, 2, 3)
    pairs(world, (1, 1, 2))
    report = merge(world, primary_key=["Source", "id"])
    name = sha256(f'["{email(1)}",1]'.encode()).hexdigest()
    assert [key for key, *_ in entries(world)] == [name]
    assert report["destination"]["keys"] == "hashed"
    assert merge(world, primary_key=["source", "id"])["unchanged"] == 1
    message, _ = merge(world, AirflowFailException)
    assert "belongs to another destination" in message
    assert email(1) not in heard()


def test_bad_rows_are_named(world: World, heard: Callable[[], str]) -> None:
    """Malformed and missing identifiers of either side are rejected before anything is sent; the others go."""
    known(world, 1, 2)
    texts(
        world,
        (1, email(1), email(2)),
        (2, None, email(2)),
        (3, "nobody", email(2)),
        (4, email(2), " "),
        (5, "b@x.io", "@"),
        (6, "c@x.io", "d@x.io"),
        (6, "c@x.io", "d@x.io"),
    )
    report = merge(world, max_rejected=1.0)
    assert report["reasons"] == {"no_identifier": 2, "invalid_email": 2, "duplicate_key": 2}
    assert (report["accepted"], held(world)) == (1, {2: {1, 2}})
    assert "key [2]: the source" in heard()


def test_a_baseline_remembers_and_sends_nothing(world: World) -> None:
    """For a state that was lost: the pairs are as if they were merged, and nobody becomes a tombstone."""
    world.people(1, 2)
    world.run()
    pairs(world, (1, 1, 2))
    report = merge(world, resync="baseline")
    assert (world.calls, set(world.profiles), report["accepted"]) == ({}, {email(1), email(2)}, 0)
    assert entries(world, "fingerprint = ''") == []
    assert merge(world)["unchanged"] == 1
    pairs(world, (1, 2, 1))
    assert merge(world, resync="baseline", max_rejected=1)["reasons"] == {"pair_changed": 1}
    message, _ = merge(world, AirflowFailException, resync="full")
    assert "nothing undoes that" in message


def test_a_chain_by_the_other_identifier_is_found(make_world: Make) -> None:
    """A look-up of a destination tells its other identifier, by which the run merges it into somebody else."""
    mixed: dict[str, Any] = {"source_email_column": "source", "destination_user_id_column": "destination"}
    world = make_world("hybrid")
    known(world, 1, 2, 3)
    texts(world, (1, email(1), uid(2)), (2, email(2), uid(3)))
    report = merge(world, **mixed, max_in_flight=1, max_rejected=1.0)
    assert (report["accepted"], report["rejected"], report["reasons"]) == (1, 1, {"merge_chain": 1})
    assert held(world) == {1: {1}, 3: {2, 3}}


def test_an_answer_that_names_nobody_is_no_destination(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whom it is cannot be told, so the pair waits for the next run."""
    known(world, 1, 2)
    pairs(world, (1, 1, 2))
    send = Client.send

    def nameless(client: Client, batch: Any) -> Any:
        reply = send(client, batch)
        return msgspec.structs.replace(reply, body=b'{"user":{"dataFields":{}}}') if batch.call.reads else reply

    monkeypatch.setattr(Client, "send", nameless)
    merge(world, AirflowException)
    assert MERGE not in world.calls


def test_what_a_project_cannot_do_fails_first(make_world: Make) -> None:
    """Identifiers that several profiles may have, and a project of unknown type: nothing is sent."""
    by_email = {"source_email_column": "source", "destination_email_column": "destination"}
    by_id = {"source_user_id_column": "source", "destination_user_id_column": "destination"}
    mixed: dict[str, Any] = {"source_email_column": "source", "destination_user_id_column": "destination"}
    for project_type, extra, parameters, told in (
        ("email", {}, by_id, "Set source_email_column in the place of source_user_id_column"),
        ("email", {}, mixed, "Set destination_email_column in the place of"),
        ("user_id", {}, by_email, "Set source_user_id_column in the place of source_email_column"),
        ("email", {"project_type": None}, by_email, "Set project_type in the connection"),
    ):
        world = make_world(project_type, extra)
        pairs(world, (1, 1, 2))
        message, _ = merge(world, AirflowFailException, **parameters)
        assert told in message
        assert world.calls == {}
    world = make_world("hybrid")
    known(world, 1, 2)
    texts(world, (1, email(1), uid(2)))
    assert (merge(world, **mixed)["accepted"], held(world)) == (1, {2: {1, 2}})


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"source_email_column": "a"}, "Set destination_email_column or destination_user_id_column, one of the two"),
        (
            {"source_email_column": "a", "source_user_id_column": "b", "destination_email_column": "c"},
            "Set source_email_column or source_user_id_column, one of the two",
        ),
        ({"fields": {"a": "b"}}, "leave fields out"),
        ({"state": XComState()}, "Use state=TableState"),
        ({"array_merge": ["pets"]}, "array_merge must be a dict of field"),
        ({"array_merge": {"pets": 1}}, "array_merge must be a dict of field"),
        ({"max_merges": -1}, "max_merges must be a number of rows"),
    ],
)
def test_parameters_that_make_no_sense(parameters: dict[str, Any], told: str) -> None:
    """They are told when the DAG is parsed."""
    needed: dict[str, Any] = {"task_id": "merge", "sql": "SELECT 1", "sql_conn_id": "warehouse", "primary_key": "id"}
    needed["state"] = TableState()
    if not any(name.endswith("_column") for name in parameters):
        needed |= {"source_email_column": "a", "destination_email_column": "b"}
    with pytest.raises(ConfigurationError, match=told):
        IterableMergeOperator(**{**needed, **parameters})


def test_no_more_than_a_few_rows_are_named_in_the_message(world: World) -> None:
    """It has the first twenty, and counts the others."""
    pairs(world, *((number, number, number + 1) for number in range(1, 51)))
    message, report = merge(world, AirflowFailException)
    assert "50 of 50 merges cannot be made beside one another (merge_chain 50)" in message
    assert "[20] merge_chain and 30 more" in message
    assert (report["reasons"], len(audited(world, "snapshot"))) == ({"merge_chain": 50}, 50)
    assert BULK not in world.calls


def explained(world: World, key: str, **parameters: Any) -> Any:
    """Explain a row of the model."""
    context: dict[str, Any] = {"run_id": "next", "ti": SimpleNamespace(try_number=1, map_index=-1)}
    return explain_row(operator(world, **parameters), context, key)  # type: ignore[arg-type]


@pytest.mark.parametrize("hashed", [False, True])
def test_a_pair_is_explained(world: World, hashed: bool) -> None:
    """New, merged, another than was merged, in doubt, and gone; nothing is called, and nobody is named."""
    how: dict[str, Any] = {"primary_key": ["id", "source"]} if hashed else {}

    def key(number: int) -> str:
        return f'[{number},"{email(1)}"]' if hashed else str(number)

    known(world, 1, 2, 3)
    pairs(world, (1, 1, 2))
    told = explained(world, key(1), **how)
    assert (told.action, told.operation) == ("send", "merge users")
    assert told.endpoints == [BY_EMAIL, MERGE]
    assert email(1) not in told.identity
    assert world.calls == {}
    world.sandbox.faults({"kind": "drop_before", "path": "/api/users", "times": -1, "after": 1})
    merge(world, AirflowException, **how)
    world.sandbox.service.faults.clear()
    told = explained(world, key(1), **how)
    assert (told.remembered.status, told.action) == ("in_doubt", "send")
    assert told.endpoints == [BY_EMAIL, BY_EMAIL, MERGE]
    merge(world, **how)
    assert explained(world, key(1), **how).change == "unchanged"
    pairs(world, (1, 1, 3))
    told = explained(world, key(1), **how)
    assert (told.action, told.fate, told.reason) == ("refuse", "rejected", "pair_changed")
    pairs(world)
    assert "remembered for ever" in explained(world, key(1), **how).why
