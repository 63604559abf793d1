from __future__ import annotations

import hashlib
import json
import math
from collections import namedtuple
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.values import BadValue, Renderer, Unreadable
from airflow_provider_iterable.columns import UNKNOWN, Columns, ColumnType
from airflow_provider_iterable.columns import Kind as ColumnKind
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Again,
    Batch,
    Changed,
    Entry,
    Invalid,
    Operation,
    Outcome,
    Record,
    Removed,
    Reply,
    Settled,
)
from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.mapping import Fields, Mapper
from airflow_provider_iterable.syncs import items
from airflow_provider_iterable.syncs.event_options import EventOptions
from airflow_provider_iterable.syncs.events import Events

COLUMNS = ("id", "mail", "uid", "name", "event_id", "at", "items", "total", "campaign", "plan", "tier")
SCREW = {"id": "s-1", "name": "Screw", "price": 0.5, "quantity": 10}
OWN: dict[str, dict[str, Any]] = {
    "custom": {"event_name": "Signed Up"},
    "purchase": {"items_column": "items", "total_column": "total"},
    "cart": {"items_column": "items"},
}
OLD = Entry(b"another one.")


def events(
    event_type: str = "custom",
    *,
    match: Any = "email",
    project_type: str | None = "hybrid",
    fields: Fields | None = None,
    user_fields: Fields | None = None,
    sync_id: str = "shop.events",
    **options: Any,
) -> Events:
    """Make an event sync, by default of custom events matched by email."""
    return Events(
        EventOptions(
            **{"event_type": event_type, **OWN[event_type], **options},
            sync_id=sync_id,
            primary_key=("id",),
            match=match,
            identifier_column="mail" if match == "email" else "uid",
            project_type=project_type,
        ),
        Mapper(fields or {}),
        Mapper(user_fields or {}),
        COLUMNS,
    )


def row(**values: Any) -> tuple[Any, ...]:
    """Return a row of the model."""
    whole = {
        "id": 1,
        "mail": "Ada@Example.com",
        "uid": "u-1",
        "name": "Left",
        "event_id": "e-1",
        "at": None,
        "items": [SCREW],
        "total": 5,
        "campaign": None,
        "plan": "free",
        "tier": "gold",
    }
    return tuple({**whole, **values}[column] for column in COLUMNS)


def mapped(sync: Events, **values: Any) -> Record | Invalid:
    """Map a row, alone and between others: that makes no difference."""
    alone = sync.records(["[1]"], [row(**values)]).record(0)
    assert alone == sync.records(["[0]", "[1]", "[2]"], [row(), row(**values), row(name="Eve")]).record(1)
    return alone


def record(sync: Events, **values: Any) -> Record:
    """Map a row that can be sent."""
    found = mapped(sync, **values)
    assert isinstance(found, Record)
    return found


def body(sync: Events, **values: Any) -> Any:
    """Return what is sent for a row, without a derived ID."""
    found = msgspec.json.decode(record(sync, **values).body)
    if len(found.get("id", "")) == 32:
        del found["id"]
    return found


def refused(sync: Events, **values: Any) -> tuple[Reason, str]:
    """Return why a row is not sent."""
    found = mapped(sync, **values)
    assert isinstance(found, Invalid)
    return found.reason, found.detail


def added(sync: Events, **values: Any) -> Operation:
    """Return the operation for a new row."""
    return sync.added(Added(record(sync, **values)))


def test_a_custom_event() -> None:
    """One identifier on top, the name, and fields; what is not mapped is not sent."""
    sync = events(fields={"plan": "plan"})
    assert body(sync) == {"email": "ada@example.com", "eventName": "Signed Up", "dataFields": {"plan": "free"}}
    sync = events(match="user_id", event_name=None, event_name_column="name", create_new_fields=False)
    assert body(sync) == {"userId": "u-1", "eventName": "Left", "dataFields": {}, "createNewFields": False}
    sync = events(timestamp_column="at", campaign_id_column="campaign", template_id_column="total")
    assert body(sync, at=datetime(1970, 1, 1, 1), campaign=2**40) == {
        "email": "ada@example.com",
        "eventName": "Signed Up",
        "dataFields": {},
        "createdAt": 3600,
        "campaignId": 2**40,
        "templateId": 5,
    }
    assert body(sync, total=None).keys() == {"email", "eventName", "dataFields"}


@pytest.mark.parametrize(
    ("match", "project", "prefers"),
    [
        ("email", "email", {}),
        ("email", None, {}),
        ("user_id", "email", {"preferUserId": True}),
        ("user_id", None, {"preferUserId": True}),
        ("user_id", "hybrid", {}),
        ("user_id", "user_id", {}),
    ],
)
@pytest.mark.parametrize("event_type", ["purchase", "cart"])
def test_users_of_purchases_and_carts(event_type: str, match: str, project: str | None, prefers: Any) -> None:
    """The identifier and no other; email-based projects make users by ID only when asked to."""
    user = {"email": "ada@example.com"} if match == "email" else {"userId": "u-1"}
    sync = events(event_type, match=match, project_type=project)
    assert body(sync)["user"] == {**user, **prefers}
    sync = events(
        event_type,
        match=match,
        project_type=project,
        user_fields={"tier": "tier", "address.city": "plan"},
        create_new_fields=True,
    )
    assert body(sync)["user"] == {
        **user,
        **prefers,
        "dataFields": {"tier": "gold", "address": {"city": "free"}},
        "mergeNestedObjects": True,
        "createNewFields": True,
    }


def test_a_purchase_and_a_cart() -> None:
    """A purchase has all that an event has but the name; a cart has its items only."""
    user = {"email": "ada@example.com"}
    assert body(events("cart")) == {"user": user, "items": [SCREW]}
    assert body(events("cart"), items="[]") == {"user": user, "items": []}
    sync = events(
        "purchase",
        fields={"plan": "plan"},
        timestamp_column="at",
        campaign_id_column="campaign",
        event_id_column="name",
    )
    assert body(sync, at="2026-05-31", campaign=Decimal(7)) == {
        "user": user,
        "items": [SCREW],
        "total": 5.0,
        "id": "Left",
        "createdAt": 1780185600,
        "campaignId": 7,
        "dataFields": {"plan": "free"},
    }
    assert b'"total":5.0' in record(sync).body
    assert body(sync, name="order_1/2026 ü")["id"] == "order_1/2026 ü"


@pytest.mark.parametrize("event_type", ["custom", "purchase"])
def test_a_derived_id_is_a_digest_of_sync_and_key(event_type: str) -> None:
    """It is the same for ever: this test must never be changed."""
    sync = events(event_type, sync_id="shop.events")
    (found,) = [msgspec.json.decode(record(sync).body)["id"]]
    assert found == hashlib.sha256(b"shop.events\0[1]").hexdigest()[:32] == "642d4c13bed839b6503541178a3e9c4e"


def test_handles() -> None:
    """An event is named by its ID, or by its key where none is sent, and bears its user; a cart is its user's."""
    user = ("email", "ada@example.com")
    derived = hashlib.sha256(b"shop.events\0[1]").hexdigest()[:32]
    assert record(events()).handles == (("event", derived), user)
    assert record(events(event_id_column="event_id")).handles == (("event", "e-1"), user)
    assert record(events(derive_ids=False)).handles == (("event", "[1]"), user)
    assert b'"id"' not in record(events(derive_ids=False)).body
    assert record(events("cart")).handles == (user,)
    assert record(events("cart", match="user_id")).handles == (("user_id", "u-1"),)


@pytest.mark.parametrize(
    ("options", "repeatable"),
    [
        ({}, True),
        ({"event_id_column": "event_id", "derive_ids": False}, True),
        ({"derive_ids": False}, False),
        ({"derive_ids": False, "retry_unsafe": True}, True),
    ],
)
@pytest.mark.parametrize("event_type", ["custom", "purchase"])
def test_what_may_be_sent_twice(event_type: str, options: dict[str, Any], repeatable: bool) -> None:
    """All that has an ID; the rest only when it was asked for."""
    call = added(events(event_type, **options)).call
    assert call is not None
    assert call.repeatable is repeatable
    assert call.template == {"custom": "/api/events/trackBulk", "purchase": "/api/commerce/trackPurchase"}[event_type]


def test_what_a_row_becomes() -> None:
    """Without a mapped ID a changed row is only remembered; with one it goes again, and tells what it was about."""
    for sync in (events(), events("purchase"), events("cart"), events(derive_ids=False)):
        new = record(sync)
        assert sync.added(Added(new)).remember == Entry(new.fingerprint, "")
        changed = sync.changed(Changed(OLD, new))
        assert (changed.kind, changed.call, changed.body) == (Kind.CHANGED, None, b"")
        assert changed.remember == Entry(new.fingerprint, "")
        assert sync.identity("") == ("", "")
    for event_type in ("custom", "purchase"):
        sync = events(event_type, event_id_column="event_id")
        new = record(sync)
        changed = sync.changed(Changed(OLD, new))
        assert changed.call is sync.added(Added(new)).call is not None
        assert changed.remember == Entry(new.fingerprint, '["event","e-1"]')
        assert sync.identity('["event","e-1"]') == ("event", "e-1") == new.handles[0]


def test_leavers_are_kept() -> None:
    """Should one be asked about all the same, nothing is called and nothing forgotten."""
    sync = events()
    assert sync.keeps_leavers
    gone = sync.removed(Removed("[1]", OLD))
    assert (gone.call, gone.remember) == (None, OLD)
    assert sync.moved(Changed(OLD, record(sync))) is None
    assert sync.salvage(added(sync), {"plan"}, "") is None


@pytest.mark.parametrize(
    ("options", "values", "told"),
    [
        ({}, {"mail": None}, (Reason.NO_IDENTIFIER, "")),
        ({}, {"mail": "nobody"}, (Reason.INVALID_EMAIL, "")),
        ({"match": "user_id"}, {"uid": "ü"}, (Reason.INVALID_USER_ID, "")),
        (
            {"event_name": None, "event_name_column": "name"},
            {"name": None},
            (Reason.INVALID_EVENT, "column name: null"),
        ),
        (
            {"event_name": None, "event_name_column": "name"},
            {"name": " "},
            (Reason.INVALID_EVENT, "column name: blank"),
        ),
        (
            {"event_name": None, "event_name_column": "name"},
            {"name": 7},
            (Reason.INVALID_EVENT, "column name: integer"),
        ),
        ({"event_id_column": "event_id"}, {"event_id": None}, (Reason.INVALID_EVENT, "column event_id: null")),
        ({"event_id_column": "event_id"}, {"event_id": " "}, (Reason.INVALID_EVENT, "column event_id: blank")),
        (
            {"event_id_column": "event_id"},
            {"event_id": "a_b"},
            (
                Reason.INVALID_EVENT,
                "column event_id: only letters, digits and dashes are allowed, string like x_x",
            ),
        ),
        ({"timestamp_column": "at"}, {"at": True}, (Reason.INVALID_EVENT, "column at: a time expected, boolean")),
        (
            {"campaign_id_column": "campaign"},
            {"campaign": 1.5},
            (Reason.INVALID_EVENT, "column campaign: a whole number expected, decimal number"),
        ),
        ({"fields": {"plan": "plan"}}, {"plan": b"x"}, (Reason.INVALID_VALUE, "field plan: a value of type bytes")),
        (
            {"event_type": "purchase", "campaign_id_column": "campaign"},
            {"campaign": 2**31},
            (Reason.INVALID_EVENT, "column campaign: a whole number of 32 bits expected"),
        ),
        (
            {"event_type": "purchase"},
            {"total": None},
            (Reason.INVALID_EVENT, "column total: a number expected, null"),
        ),
        (
            {"event_type": "purchase"},
            {"total": "much"},
            (Reason.INVALID_EVENT, "column total: a number expected, string like xxxx"),
        ),
        (
            {"event_type": "cart"},
            {"items": None},
            (Reason.INVALID_EVENT, "column items: an array of objects expected, null"),
        ),
        (
            {"event_type": "cart", "user_fields": {"tier": "tier"}},
            {"tier": math.nan},
            (Reason.INVALID_VALUE, "field tier: number nan"),
        ),
    ],
)
def test_bad_rows(options: dict[str, Any], values: dict[str, Any], told: tuple[Reason, str]) -> None:
    """A row is refused for any part of it, and the detail tells column and shape, and no value."""
    assert refused(events(**options), **values) == told


def test_a_missing_column_is_said_before_a_row_is_read() -> None:
    """The message lists the columns there are."""
    for options in (
        {"event_id_column": "nope"},
        {"timestamp_column": "nope"},
        {"event_type": "cart", "items_column": "nope"},
        {"event_type": "cart", "user_fields": {"a": "nope"}},
    ):
        with pytest.raises(ModelError, match=r"no column 'nope'\. Its columns are: id, mail"):
            events(**options)


def test_user_fields_are_screened() -> None:
    """What can be converted is, what cannot is held back; without types nothing is looked at."""
    sync = events("cart", user_fields={"tier": "tier"})
    operation = added(sync, tier="5")
    assert sync.screen(operation) is operation
    sync.learn_types({"tier": "long", "other": "long"})
    found = sync.screen(operation)
    assert isinstance(found, Operation)
    assert msgspec.json.decode(found.body)["user"]["dataFields"] == {"tier": 5}
    bad = added(sync, tier="x")
    detail = "field tier: long expected, string like x"
    assert sync.screen(bad) == Outcome("[1]", Kind.ADDED, Fate.REJECTED, Reason.TYPE_MISMATCH, detail, operation=bad)
    fine = added(sync, tier=5)
    assert sync.screen(fine) is fine


RENDER = Renderer()
Struct = namedtuple("Struct", "id name price quantity")


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (json.dumps([SCREW]), {}),
        (json.dumps([SCREW]).encode(), {}),
        ([SCREW], {}),
        ((SCREW,), {}),
        ([Struct("s-1", "Screw", 0.5, 10)], {}),
        ([{**SCREW, "price": Decimal("0.50"), "quantity": Decimal("10")}], {}),
        ('[{"id":1,"name":"Screw","price":"0.5","quantity":10.0}]', {"id": "1"}),
        ([{**SCREW, "id": Decimal(7), "sku": 12, "description": None}], {"id": "7", "sku": "12"}),
        ([{**SCREW, "id": UUID(int=1)}], {"id": "00000000-0000-0000-0000-000000000001"}),
        ('[{"id":"s-1","name":"Screw","price":5,"quantity":10}]', {"price": 5.0}),
        (
            [{**SCREW, "categories": ["a"], "imageUrl": "i", "url": "u", "dataFields": {"x": Decimal("1.5")}}],
            {"categories": ["a"], "imageUrl": "i", "url": "u", "dataFields": {"x": 1.5}},
        ),
    ],
)
def test_items(given: Any, changes: dict[str, Any]) -> None:
    """JSON text, arrays, structs and dicts say the same; what loses nothing by it is converted."""
    found = items.items_of(given, RENDER)
    assert json.loads(msgspec.json.encode(found)) == [{**SCREW, **changes}]
    assert b'"price":0.5' in msgspec.json.encode(found) or b'"price":5.0' in msgspec.json.encode(found)


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (None, "an array of objects expected, null"),
        ("", "text that is not JSON"),
        ("[", "text that is not JSON"),
        ('"x"', "an array of objects expected, string like x"),
        (json.dumps(SCREW), "an array of objects expected, object"),
        (SCREW, "an array of objects expected, object"),
        (Struct(1, 2, 3, 4), "an array of objects expected, Struct"),
        ([SCREW, None], "item 2: an object expected, null"),
        ([SCREW, "x"], "item 2: an object expected, string like x"),
        ([SCREW, {**SCREW, "id": None}], "item 2, field id: missing"),
        *(
            (
                [SCREW, {name: value for name, value in SCREW.items() if name != missing}],
                f"item 2, field {missing}: missing",
            )
            for missing in SCREW
        ),
        ([{**SCREW, "price": "cheap"}], "item 1, field price: double expected, string like xxxxx"),
        ([{**SCREW, "price": math.nan}], "item 1, field price: double expected, number nan"),
        ([{**SCREW, "price": True}], "item 1, field price: double expected, boolean"),
        ([{**SCREW, "quantity": 1.5}], "item 1, field quantity: long expected, decimal number"),
        ([{**SCREW, "quantity": 2**63}], "item 1, field quantity: long expected, an integer beyond 64 bits"),
        ([{**SCREW, "id": " "}], "item 1, field id: blank"),
        ([{**SCREW, "id": True}], "item 1, field id: text expected, boolean"),
        ([{**SCREW, "name": ["x"]}], "item 1, field name: string expected, array of 1, first string like x"),
        ([{**SCREW, "categories": "x"}], "item 1, field categories: array of strings expected, string like x"),
        (
            [{**SCREW, "categories": [1]}],
            "item 1, field categories: array of strings expected, array of 1, first integer",
        ),
        ([{**SCREW, "dataFields": [{}]}], "item 1, field dataFields: object expected, array of 1, first object"),
        (
            [{**SCREW, "dataFields": {"x": b"x"}}],
            "item 1, field dataFields: object expected, a value of type bytes",
        ),
        (
            [{**SCREW, "color": "red"}],
            "item 1, field color: Iterable's items have no such field; what is your own goes into the item's "
            "dataFields",
        ),
    ],
)
def test_malformed_items(given: Any, detail: str) -> None:
    """The position of the item and the field are told, and no value."""
    with pytest.raises(BadValue) as found:
        items.items_of(given, RENDER)
    assert str(found.value) == detail


plain = st.fixed_dictionaries(
    {
        "id": st.text().filter(str.strip),
        "name": st.text(),
        "price": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        "quantity": st.integers(-(2**63), 2**63 - 1),
    },
    optional={
        "sku": st.none() | st.text(),
        "categories": st.lists(st.text()),
        "dataFields": st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1) | st.text()),
    },
)


@given(st.lists(plain, max_size=3))
def test_the_quick_way_and_the_careful_way_agree(given: list[dict[str, Any]]) -> None:
    """Items that need no conversion are read at once; looking at each field comes to the same."""
    careful = items._one_by_one(given, RENDER)
    assert items.items_of(given, RENDER) == careful
    assert items.items_of(msgspec.json.encode(given), RENDER) == careful


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SCREW, "x"]), inner, max_size=5),
    max_leaves=12,
)


@given(anything)
def test_anything_is_items_or_told(given: Any) -> None:
    """Whatever stands in the column, it is sent as items or refused, and never a crash."""
    try:
        found = items.items_of(given, RENDER)
    except BadValue:
        return
    assert all(math.isfinite(item.price) for item in found)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, UNSET),
        ("", UNSET),
        (" ", UNSET),
        (0, 0),
        (1780251600, 1780251600),
        (1780251600.9, 1780251600),
        (Decimal("1780251600.5"), 1780251600),
        (1780251600123, 1780251600),
        ("1780251600", 1780251600),
        ("1780251600123", 1780251600),
        ("1710122512345", 1710122512),  # not a day of the year 1710
        (99_999_999_999, 99_999_999_999),
        (100_000_000_000, 100_000_000),
        (1690366967048491, 1690366967),
        (1690366967048491123, 1690366967),
        (Decimal("1690366967048.491"), 1690366967),
        ("1690366967048491", 1690366967),
        (-1690366967048491, -1690366968),
        (20261331, 20261331),
        (99_999_999, 99_999_999),
        (-1.5, -2),
        (datetime(2026, 5, 31, 20, 20, 0, 999999), 1780251600),
        (datetime(2026, 5, 31, 18, 20, tzinfo=UTC), 1780251600),
        (datetime(2026, 5, 31, 16, 20, tzinfo=timezone(timedelta(hours=-2))), 1780251600),
        (date(2026, 5, 31), 1780178400),
        ("2026-05-31", 1780178400),
        ("20260531", 1780178400),
        ("2026-05-31 20:20:00", 1780251600),
        ("2026-05-31T18:20:00.123Z", 1780251600),
        ("2026-05-31 18:20:00 +00:00", 1780251600),
        ("2026-05-31 18:20:00 +0000", 1780251600),
        (datetime(1969, 12, 31, 23, 59, 59, 500000, UTC), -1),
    ],
    ids=repr,
)
def test_times_are_seconds(given: Any, found: Any) -> None:
    """Whatever a warehouse calls a time; what names no zone is in the sync's."""
    assert items.seconds(given, BERLIN) == found


def test_an_instant_is_in_no_zone() -> None:
    """Its type says so, whatever the driver returns; what the type refuses costs its row."""

    def load(value: datetime) -> datetime:
        if value.year == 1:
            raise BadValue("a year of its own")
        return value.replace(tzinfo=UTC)

    types = [ColumnType(ColumnKind.INSTANT, load=load) if name == "at" else UNKNOWN for name in COLUMNS]
    at = EventOptions(
        event_type="custom", event_name="Signed Up", sync_id="s", primary_key=("id",), match="email",
        identifier_column="mail", project_type="hybrid", timestamp_column="at", zone=BERLIN,
    )  # fmt: skip
    sync = Events(at, Mapper({}), Mapper({}), Columns(COLUMNS, types))
    assert body(sync, at=datetime(2026, 5, 31, 18, 20))["createdAt"] == 1780251600
    assert "createdAt" not in body(sync, at=None)
    assert refused(sync, at=datetime(1, 5, 31)) == (Reason.INVALID_EVENT, "column at: a year of its own")
    assert refused(sync, at=Unreadable("no day")) == (Reason.INVALID_EVENT, "column at: no day")


@pytest.mark.parametrize(
    "given",
    [
        "yesterday",
        "0000-00-00 00:00:00",
        "12",
        "ä",
        True,
        b"x",
        [],
        math.nan,
        math.inf,
        Decimal("sNaN"),
        10**400,
        10**22,
        20240301,
        10000101,
        99991231,
        202403,
        210012,
        20240301.0,
        Decimal(20240301),
        20240301123000,
        Unreadable("a date beyond the years 1 to 9999"),
    ],
)
def test_what_is_no_time(given: Any) -> None:
    """It is refused, and not told."""
    with pytest.raises(BadValue):
        items.seconds(given)


def test_a_number_with_the_digits_of_a_day_names_the_way_out() -> None:
    """As seconds it would be in 1970, and Iterable would take it."""
    with pytest.raises(
        BadValue, match=r"looks like a day or a month, string like 00000000: have the model make a date of it"
    ):
        items.seconds(20240301)


def test_a_cart_that_went_again_says_so() -> None:
    """Only after a lost answer, only once it is accepted, and only about that cart."""
    call = endpoints.update_cart()
    entry = Entry(b"fingerprint.")

    def judge(key: str, reply: Reply) -> Any:
        return call.judge(Batch(call, [Operation(key, Kind.ADDED, call, b"{}", (("email", key),), entry)]), reply)

    good = Reply(200, b'{"msg":"","code":"Success","params":null}')
    assert judge("[1]", good) == Settled()
    assert judge("[1]", Reply(0, error="ReadTimeout")) == Again(Reason.NO_ANSWER)
    assert judge("[2]", Reply(429)) == Again(Reason.RATE_LIMITED)
    assert judge("[3]", Reply(0, error="Stopped", sent=False)) == Again(Reason.RATE_LIMITED)
    assert [judge(key, good) for key in ("[2]", "[3]")] == [Settled(), Settled()]
    (told,) = judge("[1]", good).outcomes.values()
    assert (told.fate, told.reason, told.operation.remember) == (Fate.ACCEPTED, Reason.REPEATED, entry)
    assert endpoints.update_cart().judge is not call.judge


@pytest.mark.parametrize("error", ["Stopped", "ConnectTimeout"])
def test_what_never_left_may_go_again(error: str) -> None:
    """An event without ID that was not sent is not taken for one that may have arrived."""
    for call in (endpoints.track_events(repeatable=False), endpoints.track_purchase(repeatable=False)):
        operation = Operation("[1]", Kind.ADDED, call, b"{}", (("event", "[1]"),), OLD)
        assert call.judge(Batch(call, [operation]), Reply(0, error=error, sent=False)) == Again(Reason.RATE_LIMITED)
        assert call.judge(Batch(call, [operation]), Reply(0, error="ReadTimeout")) == Again(Reason.NO_ANSWER)
