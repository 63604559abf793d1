from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api.endpoints import MailingList
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
from airflow_provider_iterable.mapping import Fields, Mapper
from airflow_provider_iterable.syncs.lists import ListOptions, Lists

COLUMNS = ("id", "mail", "uid", "name", "age")
OLD = Entry(b"another one.", '["email","ada@example.com"]')


def lists(fields: Fields | None = None, **options: Any) -> Lists:
    """Make a list sync, by default matched by email."""
    options = {"match": "email", **options}
    if "email_column" not in options and "user_id_column" not in options:
        by_email = options["match"] == "email"
        options["email_column" if by_email else "user_id_column"] = "mail" if by_email else "uid"
    return Lists(ListOptions(**options), Mapper(fields or {}), COLUMNS, MailingList(7))


def row(**values: Any) -> tuple[Any, ...]:
    """Return a row of the model."""
    whole = {"id": 1, "mail": "Ada@Example.com", "uid": "u-1", "name": "Ada", "age": 36}
    return tuple({**whole, **values}[column] for column in COLUMNS)


def record(sync: Lists, **values: Any) -> Record:
    """Map a row that can be sent, alone and between others."""
    keys = sync.keys([row(**values)])
    (key,) = keys
    assert isinstance(key, str)
    found = sync.records([key], [row(**values)]).record(0)
    assert found == sync.records(["[0]", key], [row(mail="x@x.io"), row(**values)]).record(1)
    assert isinstance(found, Record)
    return found


def chain(call: Call | None) -> list[str]:
    """Return the paths of a call and of those it goes on to."""
    return [] if call is None else [call.template, *chain(call.then)]


def sent(operation: Operation) -> Any:
    """Return the request of an operation."""
    call = operation.call
    assert call is not None
    while call.then is not None:
        call = call.then
    return msgspec.json.decode(call.wrap([operation]).body or b"")


@pytest.mark.parametrize(
    ("match", "values", "key"),
    [
        ("email", {}, '["ada@example.com"]'),
        ("email", {"mail": " ADA@example.com\t"}, '["ada@example.com"]'),
        ("user_id", {}, '["u-1"]'),
        ("user_id", {"uid": 7}, '["7"]'),
        ("user_id", {"uid": 'a"b'}, '["a\\"b"]'),
        ("email", {"mail": None}, Invalid("", Reason.NO_IDENTIFIER, "primary key [1]")),
        ("email", {"mail": " "}, Invalid("", Reason.NO_IDENTIFIER, "primary key [1]")),
        ("email", {"mail": "nobody"}, Invalid("", Reason.INVALID_EMAIL, "primary key [1]", names=("nobody",))),
        ("email", {"mail": "nobody", "id": None}, Invalid("", Reason.INVALID_EMAIL, names=("nobody",))),
        ("user_id", {"uid": " u1"}, Invalid("", Reason.INVALID_USER_ID, "primary key [1]", names=(" u1",))),
        ("user_id", {"uid": "ü"}, Invalid("", Reason.INVALID_USER_ID, "primary key [1]", names=("ü",))),
    ],
)
def test_a_key_is_the_identifier_in_the_call(match: str, values: dict[str, Any], key: object) -> None:
    """Folded as it is sent; a row without one is named by its primary key. Neighbours make no difference."""
    sync = lists(match=match, primary_key=("id",))
    other = row(mail="x@x.io", uid="x")
    named = '["x@x.io"]' if match == "email" else '["x"]'
    assert sync.keys([row(**values)]) == [key]
    assert sync.keys([other, row(**values), other]) == [named, key, named]


def test_a_primary_key_that_identifies_is_not_told() -> None:
    """Where the key is the address, a bad one is not repeated in the log; where there is none, nothing is told."""
    for primary_key in (("mail",), ("id", "mail"), ()):
        sync = lists(primary_key=primary_key)
        assert sync.keys([row(mail="nobody")]) == [Invalid("", Reason.INVALID_EMAIL, names=("nobody",))]


@given(st.text(max_size=30) | st.integers() | st.none())
def test_every_key_names_its_member(value: object) -> None:
    """Who is subscribed by a call is unsubscribed by the key alone."""
    for match, column in (("email", "mail"), ("user_id", "uid")):
        sync = lists(match=match)
        (key,) = sync.keys([row(**{column: value})])
        if isinstance(key, str):
            found = sync.records([key], [row(**{column: value})]).record(0)
            assert isinstance(found, Record)
            removal = sync.removed(Removed(key, Entry(b"")))
            assert removal.handles == found.handles[:1]


def test_a_member_is_an_identifier_and_fields() -> None:
    """What is not mapped does not ride along."""
    assert msgspec.json.decode(record(lists()).body) == {"email": "ada@example.com", "dataFields": {}}
    assert msgspec.json.decode(record(lists({"firstName": "name"})).body)["dataFields"] == {"firstName": "Ada"}
    nested = msgspec.json.decode(record(lists({"a.b": "name"})).body)
    assert (nested["dataFields"], nested["mergeNestedObjects"]) == ({"a": {"b": "Ada"}}, True)


@pytest.mark.parametrize("match", ["email", "user_id"])
def test_the_other_identifier_is_a_field(match: str) -> None:
    """One is on top, the other one in the fields; Iterable may blame either."""
    sync = lists(match=match, email_column="mail", user_id_column="uid", project_type="hybrid")
    names = {"email": ("email", "ada@example.com"), "user_id": ("userId", "u-1")}
    (top, value), (other, other_value) = (names[match], names["user_id" if match == "email" else "email"])
    found = record(sync)
    assert msgspec.json.decode(found.body) == {top: value, "dataFields": {other: other_value}}
    assert len(found.handles) == 2
    assert found.handles[0] == (match, value)


@pytest.mark.parametrize(
    ("project", "existing", "flag", "path", "only"),
    [
        ("email", False, {"preferUserId": True}, ["/api/lists/subscribe"], {}),
        (None, False, {"preferUserId": True}, ["/api/lists/subscribe"], {}),
        ("hybrid", False, {}, ["/api/lists/subscribe"], {}),
        ("user_id", False, {}, ["/api/lists/subscribe"], {}),
        ("email", True, {"preferUserId": False}, ["/api/lists/subscribe"], {}),
        (
            None,
            True,
            {"preferUserId": False},
            ["/api/users/byUserId", "/api/lists/subscribe"],
            {"updateExistingUsersOnly": True},
        ),
        ("hybrid", True, {}, ["/api/users/byUserId", "/api/lists/subscribe"], {"updateExistingUsersOnly": True}),
        ("user_id", True, {}, ["/api/users/byUserId", "/api/lists/subscribe"], {"updateExistingUsersOnly": True}),
    ],
)
def test_matched_by_user_id(
    project: str | None, existing: bool, flag: dict[str, bool], path: list[str], only: dict[str, bool]
) -> None:
    """Email-based projects create by user ID only when asked to; elsewhere they are looked up if none may be made."""
    sync = lists(match="user_id", project_type=project, update_existing_users_only=existing)
    operation = sync.added(Added(record(sync)))
    assert chain(operation.call) == path
    assert sent(operation) == {"listId": 7, "subscribers": [{"userId": "u-1", "dataFields": {}, **flag}], **only}


@pytest.mark.parametrize("project", ["email", "hybrid", None])
def test_matched_by_email_existing_users_are_looked_up(project: str | None) -> None:
    """In an email-based project nothing else keeps Iterable from creating them."""
    sync = lists(project_type=project, update_existing_users_only=True)
    operation = sync.added(Added(record(sync)))
    assert chain(operation.call) == ["/api/users/getByEmail", "/api/lists/subscribe"]
    assert "looked up" in sync.way


def test_what_each_change_says() -> None:
    """New and changed members are subscribed, those who left are unsubscribed, and the channel is left alone."""
    sync = lists({"firstName": "name"})
    found = record(sync)
    for operation, kind in ((sync.added(Added(found)), Kind.ADDED), (sync.changed(Changed(OLD, found)), Kind.CHANGED)):
        assert (operation.kind, operation.key) == (kind, '["ada@example.com"]')
        assert chain(operation.call) == ["/api/lists/subscribe"]
        assert operation.remember == Entry(found.fingerprint, '["email","ada@example.com"]')
        assert sync.identity(operation.remember.ref) == operation.handles[0]
    removal = sync.removed(Removed(found.key, OLD))
    assert (removal.kind, removal.key, removal.remember) == (Kind.REMOVED, found.key, None)
    assert chain(removal.call) == ["/api/lists/unsubscribe"]
    assert sent(removal) == {"listId": 7, "subscribers": [{"email": "ada@example.com"}], "channelUnsubscribe": False}
    assert (sync.removals_first, sync.collapses, sync.keeps_leavers) == (True, True, False)


def test_the_list_may_become_known_late() -> None:
    """An operation is made before the list is; the request names it."""
    sync = lists()
    operation = sync.added(Added(record(sync)))
    sync.target.number = 2**62
    assert sent(operation)["listId"] == 2**62
    assert operation.call is not None
    body = operation.call.wrap([operation] * 3).body or b""
    assert len(body) <= operation.call.envelope + 3 * (len(operation.body) + 1)


@pytest.mark.parametrize("key", [("id",), ()])
def test_ranks_do_not_depend_on_the_order_of_rows(key: tuple[str, ...]) -> None:
    """The greatest key is the greatest rank; without keys, or with equal ones, the record decides."""
    sync = lists({"n": "name"}, primary_key=key)
    rows = [row(id=1, name="b"), row(id=2, name="a"), row(id=2, name="c"), row(id=None, name="z")]
    ranks = sync.ranks(rows)
    assert ranks == [sync.ranks([one])[0] for one in rows]
    assert len(set(ranks)) == 4
    greatest = max(zip(ranks, rows, strict=True))[1]
    assert greatest == (rows[2] if key else rows[3])


def test_rows_that_cannot_be_sent_have_a_rank_too() -> None:
    """Ranks are asked for all rows."""
    sync = lists({"n": "name"}, primary_key=("id",))
    assert len(sync.ranks([row(name=b"x"), row(mail="nobody"), row(id=b"x"), row()])) == 4


def test_a_bad_value_refuses_its_row_and_names_it() -> None:
    """By primary key, for the member's own name is masked."""
    sync = lists({"n": "name"}, primary_key=("id",))
    found = sync.records(['["ada@example.com"]'], [row(name=b"x")]).record(0)
    detail = "field n: a value of type bytes; primary key [1]"
    assert found == Invalid('["ada@example.com"]', Reason.INVALID_VALUE, detail, (("email", "ada@example.com"),))


def test_types_are_compared() -> None:
    """What fits after a harmless conversion goes; what does not is rejected, or goes without the field."""
    for salvage in (False, True):
        sync = lists({"age": "age"}, salvage=salvage)
        sync.learn_types({"age": "long"})
        fine = sync.screen(sync.added(Added(record(sync, age="42"))))
        assert isinstance(fine, Operation)
        assert msgspec.json.decode(fine.body)["dataFields"] == {"age": 42}
        bad = sync.screen(sync.added(Added(record(sync, age="old"))))
        if salvage:
            assert isinstance(bad, Operation)
            assert msgspec.json.decode(bad.body)["dataFields"] == {}
        else:
            assert isinstance(bad, Outcome)
            assert (bad.fate, bad.reason) == (Fate.REJECTED, Reason.TYPE_MISMATCH)
        removal = sync.removed(Removed('["ada@example.com"]', OLD))
        assert sync.screen(removal) == removal


@pytest.mark.parametrize("options", [{"email_column": "nope"}, {"primary_key": ("nope",)}])
def test_a_missing_column_is_said_before_a_row_is_read(options: dict[str, Any]) -> None:
    """The message lists the columns there are."""
    with pytest.raises(ModelError, match=r"no column 'nope'\. Its columns are: id, mail, uid"):
        lists(**options)


def test_fields_nested_too_deeply_are_refused() -> None:
    """As for users."""
    with pytest.raises(ConfigurationError, match="nested deeper"):
        lists({"a.b.c": "name"})
