from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_iterable.mapping import Column, Json
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import Make, World

STORES = [TableState(compare="database"), TableState(compare="worker"), XComState()]


@pytest.fixture(params=STORES, ids=["database", "worker", "xcom"])
def state(request: pytest.FixtureRequest) -> Any:
    """Give each state."""
    return request.param


def fill(world: World, columns: str, *rows: tuple[Any, ...]) -> None:
    """Let the model have these columns and rows."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        connection.execute("DROP TABLE IF EXISTS users")
        connection.execute(f"CREATE TABLE users ({columns})")
        connection.executemany(f"INSERT INTO users VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.commit()


def people(*values: Any) -> list[tuple[Any, ...]]:
    """Return a row for each value."""
    return [(number, f"p{number}@example.com", value) for number, value in enumerate(values)]


def test_a_dry_run_shows_the_types_that_new_fields_get(make_world: Make, state: Any) -> None:
    """Before anything is made; once it is, the next run has no new field."""
    world = make_world("email")
    row = (1, "p1@example.com", "gold", 7, 1.5, "2026-05-31", '{"zip": "1", "tags": [true]}')
    fill(world, "id, email, tier, age, spent, since, more", row)
    names = ("tier", "age", "spent", "since")
    fields = {**{name: name for name in names}, "more": Json("more")}
    # What names the members of an object may be data, and is not shown.
    types = {"tier": "string", "age": "long", "spent": "double", "since": "date", "more": "object"}
    planned = world.run(fields=fields, state=state, dry_run=True)
    assert planned["new_fields"] == types
    assert world.run(fields=fields, state=state)["new_fields"] == types
    assert world.run(fields=fields, state=state)["new_fields"] == {}
    report = world.run(fields={**fields, "level": "tier"}, state=state, dry_run=True)
    assert report["new_fields"] == {"level": "string"}


def test_the_log_shows_them_before_they_are_made(make_world: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Those that Iterable lacks: others have a type."""
    world = make_world("email")
    world.create(7, age=1)
    fill(world, "id, email, tier, age", (1, "p1@example.com", "gold", 7))
    with caplog.at_level(logging.INFO):
        world.run(fields={"tier": "tier", "age": "age"})
    (said,) = [r.getMessage() for r in caplog.records if "types them for ever" in r.getMessage()]
    assert said == "Iterable has no such fields yet, and types them for ever by this run: tier (string)."


@pytest.mark.parametrize(
    ("values", "kind", "accepted"),
    [
        (["n/a", 1, 2, 3], "long", 3),
        ([1, 2.5, 3], "double", 3),
        (["2026-05-31", "soon", "later"], "string", 2),
        (["soon", "2026-05-31", "2026-06-01"], "date", 2),
        ([1, "2", "three", "four"], "string", 4),
    ],
)
def test_values_that_disagree_do_not_make_the_field(
    make_world: Make, state: Any, caplog: pytest.LogCaptureFixture, values: list[Any], kind: str, accepted: int
) -> None:
    """Whichever comes first: the type of most values is the field's, and rows that do not fit are rejected."""
    world = make_world("email")
    fill(world, "id, email, score", *people(*values))
    report = world.run(fields={"score": "score"}, state=state, max_rejected=10)
    assert world.sandbox.project.schema.types["score"] == kind
    left = len(values) - accepted
    skipped = left if kind == "string" else 0  # texts that look like dates go once the field is no date
    assert (report["accepted"], report["skipped"], report["rejected"]) == (accepted, skipped, left - skipped)
    assert report["reasons"].get("type_mismatch", 0) == left
    assert ("The values of score disagree" in caplog.text) == (values != [1, 2.5, 3])
    assert report["requests"]["POST /api/users/bulkUpdate"] == {"200": 1}
    again = world.run(fields={"score": "score"}, state=state, max_rejected=10)
    assert (again["accepted"], again["skipped"]) == (skipped, 0)


def test_a_field_that_is_not_created_holds_no_row_back(make_world: Make, state: Any) -> None:
    """It is left out of all of them, whatever its values are."""
    world = make_world("email")
    fill(world, "id, email, score", *people("2026-05-31", "soon", 5))
    report = world.run(fields={"score": "score"}, state=state, create_new_fields=False)
    assert (report["accepted"], report["rejected"], report["left_out"]) == (3, 0, {"score": 3})


def test_half_the_texts_may_look_like_dates(make_world: Make, state: Any) -> None:
    """They wait for one run, in which nothing fails."""
    world = make_world("email")
    fill(world, "id, email, score", *people(*["soon", "2026-05-31"] * 15, "later"))
    report = world.run(fields={"score": "score"}, state=state)
    assert (report["accepted"], report["skipped"], report["rejected"]) == (16, 15, 0)
    assert world.run(fields={"score": "score"}, state=state)["accepted"] == 15


def test_columns_in_capitals_are_no_new_fields(make_world: Make, state: Any) -> None:
    """A model that moves to another database keeps its fields, or says that it does not."""
    world = make_world("email")
    fill(world, "id, email, first_name", (1, "p1@example.com", "Ada"))
    options = {"fields": None, "state": state}
    world.run(**options)
    fill(world, "ID, EMAIL, FIRST_NAME", (1, "p1@example.com", "Ada"))
    message, _ = world.failure(AirflowFailException, **options)
    assert "The model's columns FIRST_NAME were first_name in the last run." in message
    assert "Nothing was sent." in message
    assert list(world.profiles["p1@example.com"]) == ["first_name"]
    report = world.run(fields={"first_name": Column("FIRST_NAME")}, state=state)
    assert list(world.profiles["p1@example.com"]) == ["first_name"]
    assert report["rejected"] == 0


def test_other_columns_are_named(make_world: Make, state: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Rows go again because of them, and the report says so."""
    world = make_world("email")
    fill(world, "id, email, tier", (1, "p1@example.com", "gold"))
    world.run(fields=None, state=state)
    fill(world, "id, email, level", (1, "p1@example.com", "gold"))
    with caplog.at_level(logging.INFO):
        report = world.run(fields=None, state=state)
    assert "the fields are others than in the last run (new: level; no longer sent: tier)" in caplog.text
    assert report["resend_reason"] is not None
    again = world.run(fields=None, state=state)
    assert (again["unchanged"], again["resend_reason"]) == (1, None), "which is the last run by then"


def test_unnamed_expressions_are_refused_before_anything_is_sent(make_world: Make) -> None:
    """The message names the column."""
    world = make_world("email")
    fill(world, "id, email, tier", (1, "p1@example.com", "gold"))
    message, _ = world.failure(AirflowFailException, sql="SELECT id, email, upper(tier), 1 FROM users", fields=None)
    assert message.startswith("Column 3 of the model has no name, or one that looks like an expression")
    assert not world.calls


def test_a_note_that_is_none_is_no_note(make_world: Make) -> None:
    """Another version may have written it."""
    world = make_world("email")
    fill(world, "id, email, tier", (1, "p1@example.com", "gold"))
    world.run(fields={"tier": "tier"})
    with closing(sqlite3.connect(world.warehouse)) as connection:
        ((notes,),) = connection.execute("SELECT notes FROM iterable_sync_header").fetchall()
        assert json.loads(json.loads(notes)["fields"]) == ["tier"]
        connection.execute(
            "UPDATE iterable_sync_header SET notes = ?", [json.dumps({**json.loads(notes), "fields": "7"})]
        )
        connection.commit()
    assert world.run(fields={"tier": "tier"})["unchanged"] == 1
