"""A row is explained from what there is, without a trace."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Intents
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.explain import explain_row
from airflow_provider_iterable.runs.explained import Explanation
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state import ObjectState, TableState
from airflow_provider_iterable.state.scope import Scope
from tests.operators.conftest import FIELDS, Make, Scene, World, email, person, uid


def explained(world: World, key: str, types: bool = True, **parameters: Any) -> Explanation:
    """Explain a row of the world's operator."""
    return _explained(world.make(**parameters), key, world.events, types)


def _explained(
    operator: IterableModelOperator, key: str, events: Any = (), types: bool = True, index: int = -1
) -> Explanation:
    context: dict[str, Any] = {
        "run_id": "next",
        "ti": SimpleNamespace(try_number=1, map_index=index),
        "inlet_events": {operator.asset: list(events)},
    }
    return explain_row(operator, context, key, types=types)  # type: ignore[arg-type]


def dump(path: Path) -> list[str]:
    """Return all that a SQLite file holds."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_what_is_told_of_a_row(world: World) -> None:
    """Shapes and masked people; never a value."""
    world.people(1, 2)
    world.run()
    world.people(1, 2, city="Amsterdam")
    world.forget_calls()
    told = explained(world, "1")
    assert (told.key, told.rows, told.change, told.action) == ("[1]", 1, "changed", "send")
    assert ("upsert users", ["POST /api/users/bulkUpdate"]) == (told.operation, told.endpoints)
    assert (told.identity, told.remembered.status) == ("email pe***@ex***", "accepted")
    assert told.remembered.same_payload is False
    fields = {found["field"]: (found["column"], found["type"], found["shapes"]) for found in told.fields}
    assert fields["address.city"] == ("city", "string", ["string like xxxxxxxxx"])
    assert fields["age"] == ("age", "long", ["integer"])
    text = json.dumps(told.to_dict())
    for secret in (email(1), "Amsterdam", "Name 1", "0123456789abcdef"):
        assert secret not in text
    assert told.verdict == (
        "The next run sends it (upsert users, POST /api/users/bulkUpdate): "
        "its payload is not the one that was accepted."
    )
    assert {FIELDS: 1} == dict(world.calls)


def test_nothing_is_asked_where_that_is_not_wanted(world: World) -> None:
    """Not even the types of Iterable's fields; that is said."""
    world.people(1)
    told = explained(world, "1", types=False)
    assert (told.action, told.types_known) == ("send", False)
    assert {} == dict(world.calls)
    assert any("were not asked" in note for note in told.notes)


@pytest.mark.parametrize("given", ["7", "[7]", " 7"])
def test_a_key_is_given_as_the_state_has_it_or_as_its_value(world: World, given: str) -> None:
    """A number may be meant, or a text that looks like one."""
    world.people(7)
    assert (1, "[7]") == (explained(world, given).rows, explained(world, given).key)


def test_a_text_that_looks_like_a_number_is_found(world: World) -> None:
    """If no number has that key."""
    world.rows(person(7, id="7"))
    assert '["7"]' == explained(world, "7").key


@pytest.mark.parametrize("store", [TableState(), TableState(compare="worker"), None])
def test_nothing_is_written(world: World, tmp_path: Path, store: Any) -> None:
    """Neither before the first run, when there are no tables, nor later; nor a lease."""
    folder = tmp_path / "state"
    store = store or ObjectState(f"file://{folder}")
    world.people(1)
    before = dump(world.warehouse)
    assert "added" == explained(world, "1", state=store).change
    assert before == dump(world.warehouse)
    assert not folder.exists()
    world.run(state=store)
    world.people(1, city="Paris")
    before, files = dump(world.warehouse), {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert "changed" == explained(world, "1", state=store).change
    assert before == dump(world.warehouse)
    assert files == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_row_is_explained_while_a_run_is_under_way(world: World) -> None:
    """The lease is that run's, and is not asked for."""
    world.people(1)
    world.run()
    with closing(sqlite3.connect(world.warehouse)) as connection:
        held = "UPDATE iterable_sync_lease SET holder = 'another', expires_at = '2999-01-01 00:00:00'"
        connection.execute(held)
        connection.commit()
    assert "unchanged" == explained(world, "1").change


def test_who_shares_the_identity_is_named(world: World) -> None:
    """And whose values Iterable keeps."""
    world.rows(person(1), person(2, email=email(1)), person(3))
    told = explained(world, "1")
    assert ["[2]"] == told.shared_with
    assert any("keeps the last: [2]." in note for note in told.notes)
    world.run()
    world.rows(person(1), person(2, email=email(1), name="Changed"), person(3))
    assert "another row with its identity changes" in explained(world, "1").verdict
    assert "unchanged" == explained(world, "3").change


def test_what_is_wrong_is_told_as_reports_tell_it(world: World) -> None:
    """With the reason, its sentence and the detail, and what the audit has of the last try."""
    world.people(1, 2, 3, 4)
    world.run()
    world.rows(person(1, age="old"), person(2, email="nobody"), person(3), person(3, age=4))
    report = world.run(max_rejected=1.0)
    told = {key: explained(world, key) for key in "1234"}
    reasons = [told[key].reason for key in "123"]
    assert ["type_mismatch", "invalid_email", "duplicate_key"] == reasons
    assert {*reasons} == {*report["reasons"]}
    assert "field age: long expected, string like xxx" == told["1"].detail
    assert 2 == told["3"].rows
    last = told["1"].last_tried
    assert last is not None
    assert ("failed", "type_mismatch") == (last.status, str(last.reason).partition(":")[0])


def test_a_run_that_would_fail_is_said_to_fail(make_world: Make) -> None:
    """With what it would fail with."""
    world = make_world("hybrid")
    world.people(1)
    world.run()
    told = explained(world, "1", email_column="email", user_id_column="uid", match_by="email")
    assert ("fail", True) == (told.action, "belongs to another destination" in told.verdict)
    assert uid(1) not in told.verdict


def test_only_a_dry_run_is_said_to_be_one(world: World) -> None:
    """What is explained is what the run would do without it."""
    world.people(1)
    told = explained(world, "1", dry_run=True)
    assert "send" == told.action
    assert told.notes[0].startswith("dry_run=True")


@contextmanager
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the rows that leave the database."""
    rows: list[int] = []
    chunks = Model.chunks

    def counted(model: Model) -> Iterator[Any]:
        for chunk in chunks(model):
            rows.append(len(chunk))
            yield chunk

    with monkeypatch.context() as patch:
        patch.setattr(Model, "chunks", counted)
        yield rows


@pytest.mark.parametrize("compare", ["database", "worker"])
def test_the_database_looks_for_the_row(world: World, compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large model no other row leaves it."""
    world.people(*range(1000))
    store = TableState(compare=compare)
    world.run(state=store)
    with reading(monkeypatch) as rows:
        told = explained(world, "500", state=store)
    assert (told.change, told.reads_whole_model) == ("unchanged", False)
    assert sum(rows) < 10


def test_where_the_database_cannot_look_the_model_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here because a value of the key may be a moment, which databases write in other ways."""
    world.rows(*(person(number, id=f"2026-01-{number:02}") for number in range(1, 31)))
    world.run()
    told = explained(world, '["2026-01-07"]')
    assert (told.change, told.reads_whole_model) == ("unchanged", True)


def test_each_store_tells_the_same(scene: Scene) -> None:
    """Whoever compares, and wherever it is remembered."""
    scene.sync({1: "a", 2: "b", 3: "c"})
    rows = {1: "a", 2: "changed", 4: "new"}
    query = " UNION ALL ".join(
        f"SELECT {number} AS id, 'person{number}@example.com' AS email, 'sku-{number}' AS sku, '{name}' AS name"
        for number, name in rows.items()
    )
    operator = scene.make(sql=query)
    told = [_explained(operator, str(number)) for number in (1, 2, 3, 4, 5)]
    assert ["unchanged", "changed", "removed", "added", "unknown"] == [one.change for one in told]
    assert ["nothing", "send", "remove", "send", "nothing"] == [one.action for one in told]
    assert not any(one.reads_whole_model for one in told)


def test_a_row_in_another_partition_is_pointed_to(world: World) -> None:
    """The key is remembered there; this partition has neither a row nor a memory."""
    world.people(1, 2, 3, 4)
    made = {
        part: {
            "partition": part,
            "partitions": [0, 1],
            "sql": f"SELECT * FROM users WHERE id % 2 = {part}",
            "task_id": "sync_users",
        }
        for part in (0, 1)
    }
    for part in (0, 1):
        operator = world.make(**made[part])
        instance = SimpleNamespace(try_number=1, map_index=part, xcom_push=lambda key, value: None)
        operator.execute({"run_id": "run", "ti": instance, "outlet_events": {}})  # type: ignore[typeddict-item]
    here = _explained(world.make(**made[1]), "3", index=1)
    assert (here.partition, here.change) == ("1", "unchanged")
    elsewhere = _explained(world.make(**made[1]), "2", index=1)
    assert (elsewhere.change, elsewhere.other_partition) == ("unknown", "0")
    world.people(1, 3)
    assert "removed" == _explained(world.make(**made[0]), "2", index=0).change


@pytest.mark.parametrize("where", ["tables", "objects"])
def test_what_a_killed_run_was_sending_is_in_doubt(world: World, tmp_path: Path, where: str) -> None:
    """As it is for the next run, which writes that down; whoever only looks does not."""
    store: Any = TableState() if where == "tables" else ObjectState(f"file://{tmp_path / 'state'}")
    world.people(1, 2)
    world.run(state=store)
    operator = world.make(state=store)
    destination = operator.destination(IterableHook("iterable_default"))
    session = store.open(Scope(operator.sync_id, destination, hook=operator._sql_hook))
    ref = session.recall(["[1]"])["[1]"].ref
    session.commit({}, Intents({0: [("[1]", NEVER_EQUAL.hex(), ref, "")]}))
    session.close()
    for _ in range(2):
        told = [explained(world, key, state=store) for key in "12"]
        assert ["in_doubt", "accepted"] == [one.remembered.status for one in told]
        assert ["send", "nothing"] == [one.action for one in told]
    assert 1 == world.run(state=store)["changed"]


def test_tables_of_another_version_are_not_taken_for_none(world: World) -> None:
    """Otherwise every row would be called new."""
    world.people(1)
    world.run()
    with closing(sqlite3.connect(world.warehouse)) as connection:
        connection.execute("UPDATE iterable_sync_version SET version = 1 WHERE part = 'state'")
        connection.commit()
    told = explained(world, "1")
    assert (told.action, "are not of this version" in told.verdict) == ("fail", True)


def test_a_connection_that_is_missing_fails_the_run(world: World) -> None:
    """And is said in its words."""
    world.people(1)
    with pytest.raises(AirflowNotFoundException):
        explained(world, "1", iterable_conn_id="none_such")
