from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Call,
    Changed,
    Entry,
    Invalid,
    Operation,
    Outcome,
    Record,
    Removed,
)
from airflow_provider_iterable.errors import ConfigurationError, ModelError
from airflow_provider_iterable.mapping import Column, Constant, Fields, Json, Mapper
from airflow_provider_iterable.syncs.users import UserOptions, Users

COLUMNS = ("id", "mail", "uid", "name", "city", "pets", "age")
NAME: Fields = {"firstName": "name"}
OLD = Entry(b"another one.")


def users(fields: Fields | None = NAME, columns: tuple[str, ...] = COLUMNS, **options: Any) -> Users:
    """Make a user sync, by default matched by email."""
    options = {"primary_key": ("id",), "match": "email", **options}
    if "email_column" not in options and "user_id_column" not in options:
        options["email_column" if options["match"] == "email" else "user_id_column"] = (
            "mail" if options["match"] == "email" else "uid"
        )
    return Users(UserOptions(**options), Mapper(fields), columns)


def row(**values: Any) -> tuple[Any, ...]:
    """Return a row of the model."""
    whole = {"id": 1, "mail": "Ada@Example.com", "uid": "u-1", "name": "Ada", "city": None, "pets": None, "age": 36}
    return tuple({**whole, **values}[column] for column in COLUMNS)


def mapped(sync: Users, **values: Any) -> Record | Invalid:
    """Map a row, alone and between others: that makes no difference."""
    alone = sync.records(["[1]"], [row(**values)]).record(0)
    assert alone == sync.records(["[0]", "[1]", "[2]"], [row(), row(**values), row(name="Eve")]).record(1)
    return alone


def record(sync: Users, **values: Any) -> Record:
    """Map a row that can be sent."""
    found = mapped(sync, **values)
    assert isinstance(found, Record)
    return found


def body(sync: Users, **values: Any) -> Any:
    """Return what is sent for a row."""
    return msgspec.json.decode(record(sync, **values).body)


def added(sync: Users, **values: Any) -> Operation:
    """Return the operation for a new row."""
    return sync.added(Added(record(sync, **values)))


def removed(sync: Users) -> Operation:
    """Return the operation for a row that was sent and left."""
    entry = added(sync).remember
    assert entry is not None
    return sync.removed(Removed("[1]", entry))


def call_of(operation: Operation) -> Call:
    """Return the call of an operation that has one."""
    assert operation.call is not None
    return operation.call


def test_matched_by_email_the_address_is_on_top() -> None:
    """Folded as Iterable folds it; columns that are not mapped are not sent."""
    assert body(users()) == {"email": "ada@example.com", "dataFields": {"firstName": "Ada"}}


@pytest.mark.parametrize(
    ("project", "mode", "prefers"),
    [
        ("email", "upsert", {"preferUserId": True}),
        (None, "upsert", {"preferUserId": True}),
        ("hybrid", "upsert", {}),
        ("user_id", "upsert", {}),
        ("email", "update", {"preferUserId": False}),
        (None, "update", {"preferUserId": False}),
        ("hybrid", "update", {}),
        ("user_id", "update", {}),
    ],
)
def test_matched_by_user_id(project: str | None, mode: str, prefers: dict[str, bool]) -> None:
    """Email-based projects create by user ID only when asked to: upsert asks, update does not."""
    sync = users(match="user_id", project_type=project, mode=mode)
    assert body(sync) == {"userId": "u-1", "dataFields": {"firstName": "Ada"}, **prefers}


def test_matched_by_email_nothing_is_said_about_user_ids() -> None:
    """The flag means nothing there."""
    for mode in ("upsert", "update"):
        assert "preferUserId" not in body(users(project_type="email", mode=mode))


@pytest.mark.parametrize(
    ("match", "name", "value", "other", "other_value"),
    [
        ("email", "email", "ada@example.com", "userId", "u-1"),
        ("user_id", "userId", "u-1", "email", "ada@example.com"),
    ],
)
def test_the_other_identifier_is_a_field(match: str, name: str, value: str, other: str, other_value: str) -> None:
    """One identifier selects, the other is written; both are names by which Iterable may blame the row."""
    sync = users(match=match, email_column="mail", user_id_column="uid", project_type="hybrid")
    assert body(sync) == {name: value, "dataFields": {"firstName": "Ada", other: other_value}}
    kinds = {"email": "email", "userId": "user_id"}
    assert record(sync).handles == ((kinds[name], value), (kinds[other], other_value))
    empty = "uid" if match == "email" else "mail"
    assert body(sync, **{empty: None}) == {name: value, "dataFields": {"firstName": "Ada"}}
    assert record(sync, **{empty: None}).handles == ((kinds[name], value),)


@pytest.mark.parametrize(
    ("match", "values", "reason", "handles"),
    [
        ("email", {"mail": None}, Reason.NO_IDENTIFIER, ()),
        ("email", {"mail": " "}, Reason.NO_IDENTIFIER, ()),
        ("email", {"mail": "nobody"}, Reason.INVALID_EMAIL, ()),
        ("email", {"uid": "x" * 53}, Reason.INVALID_USER_ID, (("email", "ada@example.com"),)),
        ("email", {"uid": ""}, Reason.NO_IDENTIFIER, (("email", "ada@example.com"),)),
        ("user_id", {"uid": None}, Reason.NO_IDENTIFIER, ()),
        ("user_id", {"uid": "ü"}, Reason.INVALID_USER_ID, ()),
        ("user_id", {"mail": "nobody"}, Reason.INVALID_EMAIL, (("user_id", "u-1"),)),
    ],
)
def test_bad_identifiers(match: str, values: dict[str, Any], reason: Reason, handles: tuple[Any, ...]) -> None:
    """A row is refused for either identifier; whom it is about still counts as present."""
    sync = users(match=match, email_column="mail", user_id_column="uid", project_type="hybrid")
    names = () if reason is Reason.NO_IDENTIFIER else tuple(values.values())
    assert mapped(sync, **values) == Invalid("[1]", reason, "", handles, names)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"Ada", "field firstName: a value of type bytes"),
        (float("nan"), "field firstName: number nan"),
        (2**63, "field firstName: an integer beyond 64 bits"),
        (10**400, "field firstName: an integer beyond 64 bits"),
        ([2**64], "field firstName: an integer beyond 64 bits"),
        ("\ud800", "text that is not valid Unicode"),
    ],
)
def test_bad_values(value: object, detail: str) -> None:
    """A value without JSON form refuses its row; the detail tells field and type, and no value."""
    found = mapped(users(), name=value)
    assert found == Invalid("[1]", Reason.INVALID_VALUE, detail, (("email", "ada@example.com"),))


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (7, "[7]"),
        ("u-1", '["u-1"]'),
        (Decimal("7.0"), "[7]"),
        (None, Invalid("", Reason.NULL_KEY)),
        ("x" * 497, Invalid('["' + "x" * 497 + '"', Reason.KEY_TOO_LONG)),
        ("x" * 600, Invalid('["' + "x" * 498, Reason.KEY_TOO_LONG)),
        (b"u-1", Invalid("", Reason.INVALID_VALUE, "primary key: a value of type bytes")),
        (float("nan"), Invalid("", Reason.INVALID_VALUE, "primary key: a number that is infinite, too large or none")),
        ("\ud800", Invalid("", Reason.INVALID_VALUE, "primary key: text that is not valid Unicode")),
    ],
    ids=["int", "str", "decimal", "null", "one too long", "too long", "bytes", "nan", "surrogate"],
)
def test_keys(key: object, found: object) -> None:
    """A row is named by its key text; a key that is none refuses the row and does not tell the key."""
    assert users().keys([row(id=key)]) == [found]
    assert users().keys([row(), row(id=key), row(id="u")]) == ["[1]", found, '["u"]']


def test_a_missing_column_is_said_before_a_row_is_read() -> None:
    """The message lists the columns there are."""
    for options in (
        {"email_column": "nope"},
        {"email_column": "mail", "user_id_column": "nope"},
        {"primary_key": ("nope",)},
    ):
        with pytest.raises(ModelError, match=r"no column 'nope'\. Its columns are: id, mail, uid"):
            users(**options)


def test_json_and_constants_are_first_class() -> None:
    """Arrays of objects travel as such."""
    sync = users({"pets": Json("pets"), "source": Constant("warehouse")})
    assert body(sync, pets='[{"name":"Rex"}]')["dataFields"] == {"pets": [{"name": "Rex"}], "source": "warehouse"}


@pytest.mark.parametrize(
    ("fields", "merge", "flag"),
    [
        (NAME, None, None),
        (NAME, True, True),
        (NAME, False, None),
        ({"address.city": "city"}, None, True),
        ({"address.city": "city"}, True, True),
        ({"address.city": "city"}, False, None),
    ],
)
def test_merging(fields: Fields, merge: bool | None, flag: bool | None) -> None:
    """A dotted name turns merging on, lest it destroy its siblings; an explicit choice wins."""
    assert body(users(fields, merge_nested_objects=merge)).get("mergeNestedObjects") is flag


def test_dotted_names_reach_two_levels() -> None:
    """Iterable merges one level deep: a deeper name would destroy what stands beside it, and is refused."""
    with pytest.raises(ConfigurationError, match=r"'a\.b\.c' is nested deeper .* Map its parent as Json"):
        users({"a.b.c": "city"})
    assert body(users({"a.b.c": "city"}, merge_nested_objects=False))["dataFields"] == {"a": {"b": {"c": None}}}


@pytest.mark.parametrize(
    ("create", "tail"), [(None, b"]}"), (True, b'],"createNewFields":true}'), (False, b'],"createNewFields":false}')]
)
def test_new_fields(create: bool | None, tail: bytes) -> None:
    """Whether new fields are created is said on the request, or left to the project's setting."""
    operation = added(users(create_new_fields=create))
    sent = call_of(operation).wrap([operation]).body
    assert sent == b'{"users":[' + operation.body + tail


def test_what_was_accepted_is_remembered() -> None:
    """An operation carries the entry to store: the fingerprint of all that was sent, and whom it was sent to."""
    sync = users()
    operation = added(sync)
    entry = operation.remember
    assert entry is not None
    assert (operation.key, operation.kind, operation.handles) == ("[1]", Kind.ADDED, (("email", "ada@example.com"),))
    assert sync.identity(entry.ref) == ("email", "ada@example.com")
    assert entry.fingerprint == record(sync).fingerprint
    assert len(entry.fingerprint) == 12


def test_a_fingerprint_covers_all_that_is_sent() -> None:
    """Fields, identifiers and flags change it; what is not sent does not."""
    sync = users(email_column="mail", user_id_column="uid", project_type="email")
    first = record(sync).fingerprint
    assert record(sync, age=37, city="Paris", mail=" ada@example.com").fingerprint == first
    for change in ({"name": "Eve"}, {"mail": "eve@example.com"}, {"uid": "u-2"}, {"uid": None}):
        assert record(sync, **change).fingerprint != first
    merging = users(email_column="mail", user_id_column="uid", project_type="email", merge_nested_objects=True)
    assert record(merging).fingerprint != first


BULK = "POST /api/users/bulkUpdate"
BY_EMAIL = "GET /api/users/getByEmail"
BY_ID = "GET /api/users/byUserId"


def ways(call: Call) -> list[str]:
    """Return the calls an operation goes through."""
    return [f"{call.method} {call.template}"] + (ways(call.then) if call.then else [])


@pytest.mark.parametrize(
    ("options", "new", "known", "words"),
    [
        ({}, [BULK], [BULK], "bulk upsert"),
        ({"mode": "update"}, [BY_EMAIL, BULK], [BY_EMAIL, BULK], "each user is looked up first"),
        ({"mode": "update", "project_type": "email"}, [BY_EMAIL, BULK], [BY_EMAIL, BULK], "looked up first"),
        (
            {"mode": "update", "recheck_known_users": "never"},
            [BY_EMAIL, BULK],
            [BULK],
            "users known to the state are not looked up again",
        ),
        ({"mode": "update", "update_only": True}, [BULK], [BULK], "bulk update with updateOnly"),
        ({"mode": "update", "match": "user_id"}, [BY_ID, BULK], [BY_ID, BULK], "looked up first"),
        ({"mode": "update", "match": "user_id", "project_type": "hybrid"}, [BY_ID, BULK], [BY_ID, BULK], "updateOnly"),
        (
            {"mode": "update", "match": "user_id", "project_type": "email", "update_only": True},
            [BULK],
            [BULK],
            "preferUserId off, which never creates",
        ),
        ({"match": "user_id", "project_type": "user_id"}, [BULK], [BULK], "bulk upsert"),
    ],
)
def test_the_way_of_writing(options: dict[str, Any], new: list[str], known: list[str], words: str) -> None:
    """Update mode takes the quickest way that never creates a user, and says which, and what would be faster."""
    sync = users(**options)
    first = added(sync)
    assert first.remember is not None
    assert ways(call_of(first)) == new
    changed = sync.changed(Changed(Entry(OLD.fingerprint, first.remember.ref), record(sync, name="Eve")))
    assert (changed.kind, ways(call_of(changed))) == (Kind.CHANGED, known)
    assert words in sync.way


def test_another_identity_is_not_a_known_user() -> None:
    """A row whose address changed is about somebody the state does not know: that user is looked up."""
    sync = users(mode="update", recheck_known_users="never")
    before = added(sync).remember
    assert before is not None
    changed = sync.changed(Changed(before, record(sync, mail="eve@example.com")))
    assert ways(call_of(changed)) == [BY_EMAIL, BULK]


@pytest.mark.parametrize("user_id", [".", ".."])
def test_a_user_id_that_is_a_step_in_a_path_is_not_deleted(user_id: str) -> None:
    """Whatever its form, the HTTP client would walk the step and delete something else; writing names it in a body."""
    sync = users(match="user_id", project_type="hybrid", on_removed="delete")
    written = added(sync, uid=user_id)
    assert sync.screen(written) is written
    assert written.remember is not None
    operation = sync.removed(Removed("[1]", written.remember))
    found = sync.screen(operation)
    assert isinstance(found, Outcome)
    assert (found.fate, found.reason, found.operation) == (Fate.REJECTED, Reason.INVALID_USER_ID, operation)
    assert "delete the profile at Iterable" in found.detail
    for on_removed in ("keep", "clear"):
        other = users(match="user_id", project_type="hybrid", on_removed=on_removed)
        operation = other.removed(Removed("[1]", written.remember))
        assert other.screen(operation) is operation


def test_update_only_is_on_the_request() -> None:
    """Iterable's switch is a member of the request, not of the record."""
    operation = added(users(mode="update", update_only=True))
    assert (call_of(operation).wrap([operation]).body or b"").endswith(b'],"updateOnly":true}')


def test_kept_users_are_forgotten_without_a_call() -> None:
    """``keep`` drops the entry and says nothing."""
    operation = removed(users())
    assert (operation.call, operation.remember, operation.kind) == (None, None, Kind.REMOVED)


@pytest.mark.parametrize(
    ("match", "project", "path"),
    [
        ("email", "email", "/api/users/ada%40example.com"),
        ("email", "hybrid", "/api/users/ada%40example.com"),
        ("user_id", "hybrid", "/api/users/byUserId/u-1"),
        ("user_id", "user_id", "/api/users/byUserId/u-1"),
    ],
)
def test_deleted_users(match: str, project: str, path: str) -> None:
    """``delete`` names whom the entry was about."""
    operation = removed(users(match=match, project_type=project, on_removed="delete"))
    request = call_of(operation).wrap([operation])
    assert (request.method, request.path, operation.remember) == ("DELETE", path, None)


@pytest.mark.parametrize("project", ["email", None])
def test_a_shared_user_id_needs_consent(project: str | None) -> None:
    """Where several profiles may have one ID, deleting by it is refused unless it is allowed."""
    options: dict[str, Any] = {"match": "user_id", "project_type": project, "on_removed": "delete"}
    with pytest.raises(ConfigurationError, match="allow_shared_user_id=True"):
        users(**options)
    assert removed(users(**options, allow_shared_user_id=True)).call is not None


CLEARABLE: Fields = {"firstName": "name", "address.city": Column("city"), "source": Constant("x"), "pets": Json("pets")}
CLEARED = {"firstName": None, "address": {"city": None}, "source": None, "pets": None}


@pytest.mark.parametrize(
    ("options", "way", "expected"),
    [
        ({"project_type": "email"}, [BY_EMAIL, BULK], {"email": "ada@example.com"}),
        ({"update_only": True}, [BULK], {"email": "ada@example.com"}),
        ({"match": "user_id", "project_type": "hybrid"}, [BY_ID, BULK], {"userId": "u-1"}),
        ({"match": "user_id", "project_type": "email"}, [BULK], {"userId": "u-1", "preferUserId": False}),
        ({"match": "user_id", "project_type": None}, [BY_ID, BULK], {"userId": "u-1", "preferUserId": False}),
    ],
)
def test_cleared_users(options: dict[str, Any], way: list[str], expected: dict[str, Any]) -> None:
    """``clear`` nulls the mapped leaves, never an identifier, merges, and takes a way that never creates a user."""
    sync = users(CLEARABLE, on_removed="clear", **options)
    operation = removed(sync)
    assert ways(call_of(operation)) == way
    assert msgspec.json.decode(operation.body) == {"dataFields": CLEARED, "mergeNestedObjects": True, **expected}
    assert operation.remember is None
    assert ways(call_of(added(sync))) == [BULK]


def test_clearing_leaves_the_other_identifier_alone() -> None:
    """Iterable takes null for no identifier."""
    sync = users(on_removed="clear", email_column="mail", user_id_column="uid", project_type="email")
    assert msgspec.json.decode(removed(sync).body)["dataFields"] == {"firstName": None}


def test_clearing_merges_where_writing_does_not() -> None:
    """Even with merging off for writes, a nested null takes its leaf and no sibling."""
    sync = users({"address.city": "city"}, on_removed="clear", merge_nested_objects=False)
    assert msgspec.json.decode(removed(sync).body)["mergeNestedObjects"] is True


@pytest.mark.parametrize("name", ["email", "userId"])
def test_an_identifier_is_mapped_once(name: str) -> None:
    """A field that an identifier's column fills cannot be filled by another column too."""
    with pytest.raises(ConfigurationError, match=f"{name!r} is mapped twice"):
        users({name: "name"}, email_column="mail", user_id_column="uid", project_type="email")


TYPES = {
    "firstName": "string",
    "age": "long",
    "score": "double",
    "vip": "boolean",
    "since": "date",
    "address.city": "string",
    "address.number": "long",
    "pets.name": "string",
    "pets.age": "long",
    "tags": "string",
    "unmapped": "long",
    "email": "string",
    "userId": "string",
}


def screened(field: str, value: Any, types: dict[str, str] | None = None) -> Any:
    """Return the fields that are sent for a value of a field, or the outcome that keeps the row back."""
    sync = users({field: Json("pets")})
    sync.learn_types(TYPES if types is None else types)
    operation = added(sync, pets=value)
    found = sync.screen(operation)
    if isinstance(found, Outcome):
        assert found.operation is operation
        return f"{found.fate} {found.reason}: {found.detail}"
    assert (found.key, found.handles, found.remember) == (operation.key, operation.handles, operation.remember)
    return msgspec.json.decode(found.body)["dataFields"][field.partition(".")[0]]


@pytest.mark.parametrize(
    ("field", "value", "sent"),
    [
        ("firstName", '"Ada"', "Ada"),
        ("firstName", 5, "5"),
        ("firstName", True, "true"),
        ("age", 36, 36),
        ("age", 36.0, 36),
        ("age", Decimal("36.00"), 36),
        ("age", '"36"', 36),
        ("age", None, None),
        ("score", 5, 5),
        ("score", '"5.5"', 5.5),
        ("vip", '"true"', True),
        ("since", '"2024-11-25T13:37:19Z"', "2024-11-25 13:37:19 +00:00"),
        ("since", datetime(2024, 11, 25, tzinfo=UTC), "2024-11-25 00:00:00 +00:00"),
        ("address.city", 75001, {"city": "75001"}),
        ("address", {"city": 75001, "number": "12", "new": 1}, {"city": "75001", "number": 12, "new": 1}),
        ("pets", [{"name": "Rex", "age": "3"}, {"age": 4.0}, {}], [{"name": "Rex", "age": 3}, {"age": 4}, {}]),
        ("tags", ["a", 1, None], ["a", "1", None]),
        ("unheard_of", {"a": [1]}, {"a": [1]}),
    ],
)
def test_values_are_coerced_where_nothing_is_lost(field: str, value: Any, sent: Any) -> None:
    """Before it is sent, a value is brought into the type that its field has at Iterable."""
    found = screened(field, value)
    assert json.dumps(found, sort_keys=True) == json.dumps(sent, sort_keys=True)  # 1 is not 1.0 or true


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("age", 36.5, "field age: long expected, decimal number"),
        ("age", '"about 40"', "field age: long expected, string like xxxxx 00"),
        ("age", True, "field age: long expected, boolean"),
        ("age", {"a": 1}, "field age: long expected, object"),
        ("vip", 2, "field vip: boolean expected, integer"),
        ("since", '"0000-00-00 00:00:00"', "field since: date expected, string like 0000-00-00 00:00:00"),
        ("firstName", {"first": "Ada"}, "field firstName: string expected, object"),
        ("address.number", '"12b"', "field address.number: long expected, string like 00x"),
        ("pets", [{"age": 3}, {"age": "old"}], "field pets.age: long expected, string like xxx"),
        ("tags", [["a"], [{"b": 1}]], "field tags: string expected, object"),
    ],
)
def test_values_that_would_fail_a_batch_are_kept_back(field: str, value: Any, detail: str) -> None:
    """One wrong value would fail a thousand rows: its row is rejected with field, expected type and shape."""
    assert screened(field, value) == f"{Fate.REJECTED} {Reason.TYPE_MISMATCH}: {detail}"


def test_only_mapped_fields_are_looked_at() -> None:
    """Types of other fields and of identifiers mean nothing to the sync."""
    sync = users({"age": "age", "address.city": "city"})
    sync.learn_types(TYPES)
    assert [name for name, _, _ in sync.checked_fields] == ["age", "address.city", "address.number"]


def test_without_types_nothing_is_looked_at() -> None:
    """Before the types are learned, and where Iterable has none of the fields, operations pass as they are."""
    sync = users({"age": "age"})
    operation = added(sync, age="x")
    assert sync.screen(operation) is operation
    sync.learn_types({"other": "long"})
    assert sync.screen(operation) is operation


def test_what_fits_passes_as_it_is() -> None:
    """The same bytes are sent, and the fingerprint is that of the row, coerced or not."""
    sync = users({"age": "age"})
    sync.learn_types(TYPES)
    operation = added(sync, age=36)
    assert sync.screen(operation) is operation


def test_removals_pass_the_screen() -> None:
    """A null fits every type, and a deletion has no fields."""
    for on_removed in ("keep", "clear", "delete"):
        sync = users({"age": "age"}, on_removed=on_removed)
        sync.learn_types(TYPES)
        operation = removed(sync)
        assert sync.screen(operation) is operation
