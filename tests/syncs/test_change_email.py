from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Call,
    Changed,
    Entry,
    Invalid,
    Operation,
    Record,
    Removed,
)
from airflow_provider_iterable.errors import ConfigurationError, ModelError
from airflow_provider_iterable.syncs.change_email import ChangeEmail, EmailChangeOptions

COLUMNS = ("id", "mail", "uid", "new")
UPDATE = "POST /api/users/updateEmail"
BULK = "POST /api/users/bulkUpdate"
BY_EMAIL = "GET /api/users/getByEmail"
BY_ID = "GET /api/users/byUserId"


def changes(match: str = "email", project_type: str | None = "email", **options: Any) -> ChangeEmail:
    """Make a sync of email changes."""
    whole: dict[str, Any] = {
        "primary_key": ("id",),
        "match": match,
        "identifier_column": "mail" if match == "email" else "uid",
        "new_email_column": "new",
        "project_type": project_type,
        **options,
    }
    return ChangeEmail(EmailChangeOptions(**whole), COLUMNS)


def row(**values: Any) -> tuple[Any, ...]:
    """Return a row of the model."""
    whole = {"id": 1, "mail": "Ada@Example.com", "uid": "u-1", "new": " Lovelace@Example.com"}
    return tuple({**whole, **values}[column] for column in COLUMNS)


def mapped(sync: ChangeEmail, **values: Any) -> Record | Invalid:
    """Map a row, alone and between others: that makes no difference."""
    alone = sync.records(["[1]"], [row(**values)]).record(0)
    assert alone == sync.records(["[0]", "[1]"], [row(mail="e@x.io"), row(**values)]).record(1)
    return alone


def record(sync: ChangeEmail, **values: Any) -> Record:
    """Map a row that can be sent."""
    found = mapped(sync, **values)
    assert isinstance(found, Record)
    return found


def ways(call: Call | None) -> list[str]:
    """Return the calls an operation may go through."""
    return [] if call is None else [f"{call.method} {call.template}", *ways(call.then)]


@pytest.mark.parametrize(
    ("match", "project_type", "body", "way"),
    [
        (
            "email",
            "email",
            {"currentEmail": "ada@example.com", "newEmail": "lovelace@example.com"},
            [UPDATE, BY_EMAIL, BY_EMAIL],
        ),
        ("user_id", "email", {"currentUserId": "u-1", "newEmail": "lovelace@example.com"}, [UPDATE, BY_ID]),
        (
            "email",
            "hybrid",
            {"email": "ada@example.com", "dataFields": {"email": "lovelace@example.com"}},
            [BY_EMAIL, BULK, BY_EMAIL, BULK, BY_EMAIL],
        ),
        ("user_id", "hybrid", {"userId": "u-1", "dataFields": {"email": "lovelace@example.com"}}, [BY_ID, BULK]),
        ("user_id", "user_id", {"userId": "u-1", "dataFields": {"email": "lovelace@example.com"}}, [BY_ID, BULK]),
    ],
)
def test_what_is_sent(match: str, project_type: str, body: dict[str, Any], way: list[str]) -> None:
    """One identifier selects, the new address follows, and nothing else is said."""
    sync = changes(match, project_type)
    operation = sync.added(Added(record(sync)))
    assert msgspec.json.decode(operation.body) == body
    assert ways(operation.call) == way
    current = ("email", "ada@example.com") if match == "email" else ("user_id", "u-1")
    assert operation.handles == (current, ("email", "lovelace@example.com"))


@pytest.mark.parametrize(
    ("match", "project_type", "way", "words"),
    [
        ("user_id", "hybrid", [BULK], "bulk update with updateOnly"),
        ("user_id", "user_id", [BULK], "bulk update with updateOnly"),
        ("email", "hybrid", [BY_EMAIL, BULK, BY_EMAIL, BULK, BY_EMAIL], "looked up first"),
        ("user_id", "email", [UPDATE, BY_ID], "one request for each change"),
    ],
)
def test_update_only_spares_look_ups_by_user_id(match: str, project_type: str, way: list[str], words: str) -> None:
    """By email, only a look-up tells whether somebody who was skipped had moved before."""
    sync = changes(match, project_type, update_only=True)
    operation = sync.added(Added(record(sync)))
    assert operation.call is not None
    assert ways(operation.call) == way
    assert words in sync.way
    assert (b'],"updateOnly":true}' in (operation.call.wrap([operation]).body or b"")) is ("updateOnly" in words)
    assert sync.recipe == changes(match, project_type).recipe


def test_a_body_is_a_whole_request_or_a_record_of_one() -> None:
    """``updateEmail`` takes one change, ``bulkUpdate`` an array of users."""
    for project_type, head, tail in (("email", b"", b""), ("hybrid", b'{"users":[', b"]}")):
        sync = changes("email", project_type)
        operation = sync.added(Added(record(sync)))
        call = operation.call
        assert call is not None
        change = call if project_type == "email" else call.then
        assert change is not None
        assert change.wrap([operation]).body == head + operation.body + tail


def test_look_ups_ask_for_the_right_address() -> None:
    """First whoever may have the new address, then whoever may still have the old one; in bulk the other way round."""
    sync = changes("email", "email")
    operation = sync.added(Added(record(sync)))
    assert operation.call is not None
    new, old = operation.call.then, operation.call.then and operation.call.then.then
    assert new is not None
    assert old is not None
    assert new.wrap([operation]).query == {"email": "lovelace@example.com"}
    assert old.wrap([operation]).query == {"email": "ada@example.com"}

    sync = changes("email", "hybrid")
    operation = sync.added(Added(record(sync)))
    assert operation.call is not None
    assert operation.call.wrap([operation]).query == {"email": "ada@example.com"}
    left = sync.salvage(operation, {"email"}, "")
    assert left is not None
    assert operation.call.wrap([left]).query == {"email": "lovelace@example.com"}
    assert (left.key, left.body, left.remember, left.partial) == ("[1]", operation.body, operation.remember, "")


@pytest.mark.parametrize(
    ("match", "values", "reason", "detail"),
    [
        ("email", {"mail": None}, Reason.NO_IDENTIFIER, ""),
        ("email", {"mail": "nobody"}, Reason.INVALID_EMAIL, ""),
        ("user_id", {"uid": " "}, Reason.NO_IDENTIFIER, ""),
        ("user_id", {"uid": "ü"}, Reason.INVALID_USER_ID, ""),
        ("email", {"new": None}, Reason.INVALID_EMAIL, "the new address"),
        ("email", {"new": ""}, Reason.INVALID_EMAIL, "the new address"),
        ("user_id", {"new": "nobody"}, Reason.INVALID_EMAIL, "the new address"),
        ("user_id", {"new": 5}, Reason.INVALID_EMAIL, "the new address"),
    ],
)
def test_bad_rows(match: str, values: dict[str, Any], reason: Reason, detail: str) -> None:
    """A row without somebody, or without somewhere to go, is rejected before it is sent."""
    found = mapped(changes(match), **values)
    assert isinstance(found, Invalid)
    assert (found.key, found.reason, found.detail) == ("[1]", reason, detail)


def test_matched_by_email_only_a_new_row_says_anything() -> None:
    """A key is remembered for ever, without the address, which is one of the past."""
    sync = changes("email")
    assert sync.keeps_leavers
    first = sync.added(Added(record(sync)))
    assert first.remember == Entry(record(sync).fingerprint, "")
    changed = sync.changed(Changed(first.remember, record(sync, new="third@example.com")))
    assert (changed.call, changed.kind) == (None, Kind.CHANGED)
    assert changed.remember == Entry(record(sync, new="third@example.com").fingerprint, "")
    assert sync.removed(Removed("[1]", first.remember)) == Operation(
        "[1]", Kind.REMOVED, None, b"", (("", ""),), first.remember
    )


def test_matched_by_user_id_a_change_is_another_move() -> None:
    """Whom the entry is about is remembered; a row that left is forgotten without a word."""
    sync = changes("user_id")
    assert not sync.keeps_leavers
    first = sync.added(Added(record(sync)))
    assert first.remember is not None
    assert sync.identity(first.remember.ref) == ("user_id", "u-1")
    change = Changed(first.remember, record(sync, new="third@example.com"))
    changed = sync.changed(change)
    assert changed.call is first.call
    assert sync.moved(change) is None
    removed = sync.removed(Removed("[1]", first.remember))
    assert (removed.call, removed.remember) == (None, None)


@pytest.mark.parametrize("project_type", ["email", "hybrid"])
def test_equal_addresses_are_no_move(project_type: str) -> None:
    """Nothing is called and nothing remembered: the key has not fired."""
    sync = changes("email", project_type)
    operation = sync.added(Added(record(sync, new="ADA@example.com ")))
    assert (operation.call, operation.remember) == (None, None)


def test_the_other_columns_do_not_matter() -> None:
    """The fingerprint is that of the identifier and the new address."""
    sync = changes("user_id", "email")
    first = record(sync).fingerprint
    assert record(sync, mail="bob@example.com", new="lovelace@example.com").fingerprint == first
    assert record(sync, uid="u-2").fingerprint != first
    assert record(sync, new="x@example.com").fingerprint != first


def test_the_project_type_must_be_told() -> None:
    """No call changes an email in every type of project."""
    for match in ("email", "user_id"):
        with pytest.raises(ConfigurationError, match="Set project_type in the connection"):
            changes(match, None)


@pytest.mark.parametrize("option", ["identifier_column", "new_email_column"])
def test_a_missing_column_is_said_before_a_row_is_read(option: str) -> None:
    """The message lists the columns there are."""
    with pytest.raises(ModelError, match=r"no column 'nope'\. Its columns are: id, mail, uid, new"):
        changes(**{option: "nope"})
