from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.references import is_made, made
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Added,
    Batch,
    Changed,
    Entry,
    Removed,
    Reply,
    Settled,
)
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.syncs.new_users import NewUsers
from airflow_provider_iterable.syncs.users import UserOptions
from tests.syncs.test_users import BULK, BY_EMAIL, BY_ID, COLUMNS, call_of, record, users, ways

ADA = '["email","ada@example.com"]'
KNOWN = Entry(b"another one.", ADA)


def creating(**options: Any) -> NewUsers:
    """Make a sync that creates, by default matched by email."""
    match = options.setdefault("match", "email")
    column = {"email_column": "mail"} if match == "email" else {"user_id_column": "uid"}
    whole = UserOptions(**{"primary_key": ("id",), "mode": "create", **column, **options})
    return NewUsers(whole, Mapper({"firstName": "name"}), COLUMNS)


@pytest.mark.parametrize(
    ("options", "way", "flags"),
    [
        ({}, [BY_EMAIL, BULK], {}),
        ({"match": "user_id", "project_type": "hybrid"}, [BY_ID, BULK], {}),
        ({"match": "user_id", "project_type": "email"}, [BY_ID, BULK], {"preferUserId": True}),
        ({"match": "user_id"}, [BY_ID, BULK], {"preferUserId": True}),
        ({"update_only": True}, [BY_EMAIL, BULK], {}),
    ],
)
def test_the_way_of_creating(options: dict[str, Any], way: list[str], flags: dict[str, bool]) -> None:
    """A look-up, then bulk; by user ID Iterable is told to create, where it would not by itself."""
    sync = creating(**options)
    operation = sync.added(Added(record(sync)))
    assert ways(call_of(operation)) == way
    body = msgspec.json.decode(operation.body)
    assert {name: value for name, value in body.items() if isinstance(value, bool)} == flags


def test_only_who_is_created_is_remembered_as_made() -> None:
    """What goes on after the look-up says so; what was there already does not."""
    sync = creating()
    operation = sync.added(Added(record(sync)))
    assert operation.remember is not None
    assert operation.remember.ref == ADA
    verdict = call_of(operation).judge(Batch(call_of(operation), [operation]), Reply(200, b"{}"))
    assert isinstance(verdict, Settled)
    remember = verdict.onward[0].remember
    assert remember == Entry(operation.remember.fingerprint, made(ADA))
    assert sync.identity(made(ADA)) == ("email", "ada@example.com")


@pytest.mark.parametrize(
    ("before", "values", "sends", "is_kept"),
    [
        (KNOWN, {}, False, False),
        (Entry(KNOWN.fingerprint, made(ADA)), {}, False, True),
        (Entry(KNOWN.fingerprint, ""), {}, False, False),
        (Entry(KNOWN.fingerprint, made(ADA)), {"mail": "eve@example.com"}, True, False),
        (Entry(NEVER_EQUAL, made(ADA)), {}, True, False),
        (Entry(VOID, made(ADA)), {}, True, True),
        (Entry(VOID, ADA), {}, True, False),
        (Entry(VOID, made(ADA)), {"mail": "eve@example.com"}, True, False),
    ],
)
def test_a_changed_row(before: Entry, values: dict[str, Any], sends: bool, is_kept: bool) -> None:
    """It is sent where the person is another one, or may not be there; who made them is kept where it is certain."""
    sync = creating()
    operation = sync.changed(Changed(before, record(sync, **values)))
    assert operation.kind is Kind.CHANGED
    assert (operation.call is not None) is sends
    assert operation.remember is not None
    assert operation.remember.fingerprint == record(sync, **values).fingerprint
    assert is_made(operation.remember.ref) is is_kept


@pytest.mark.parametrize("on_removed", ["keep", "clear", "delete"])
def test_a_row_that_left(on_removed: str) -> None:
    """Only somebody of whom it is certain that the sync made them is cleared or deleted."""
    sync = creating(on_removed=on_removed)
    for entry, is_ours in (
        (Entry(KNOWN.fingerprint, made(ADA)), True),
        (Entry(VOID, made(ADA)), True),
        (Entry(NEVER_EQUAL, made(ADA)), False),
        (KNOWN, False),
    ):
        operation = sync.removed(Removed("[1]", entry))
        assert (operation.call is not None) is (is_ours and on_removed != "keep")
        assert (operation.remember, operation.handles) == (None, (("email", "ada@example.com"),))


def test_another_mode_is_another_fingerprint() -> None:
    """Rows that were created, or left alone, were not kept equal; what is sent is the same."""
    one, two = creating(), users()
    assert record(one).body == record(two).body
    assert record(one).fingerprint != record(two).fingerprint
    assert one.recipe != two.recipe
