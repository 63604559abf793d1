from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.values import CATALOG_OFFSET
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
from airflow_provider_iterable.sandbox.endpoints.routes import ROUTES, Table
from airflow_provider_iterable.syncs.catalogs import FIELD_TYPES, MAX_ITEM_BYTES, CatalogOptions, Catalogs

COLUMNS = ("id", "sku", "name", "price", "size", "specs")
FIELDS: Fields = {"name": "name", "price": "price"}
ITEM = {"name": "Tea", "price": 2.5}
OLD = Entry(b"another one.", '["item","old"]')


def catalogs(fields: Fields | None = FIELDS, nulls: Any = "send", **options: Any) -> Catalogs:
    """Make a catalog sync; the item ID has a column of its own."""
    options = {"catalog_name": "shop", "primary_key": ("id",), "item_id_column": "sku", **options}
    zone = ZoneInfo("Europe/Berlin")
    return Catalogs(CatalogOptions(**options), Mapper(fields, nulls, zone, frozenset(), CATALOG_OFFSET), COLUMNS)


def row(**values: Any) -> tuple[Any, ...]:
    """Return a row of the model."""
    whole = {"id": 1, "sku": "tea-1", "name": "Tea", "price": Decimal("2.5"), "size": None, "specs": None}
    return tuple({**whole, **values}[column] for column in COLUMNS)


def mapped(sync: Catalogs, **values: Any) -> Record | Invalid:
    """Map a row, alone and between others: that makes no difference."""
    alone = sync.records(["[1]"], [row(**values)]).record(0)
    assert alone == sync.records(["[0]", "[1]", "[2]"], [row(), row(**values), row(name="Pot")]).record(1)
    return alone


def record(sync: Catalogs, **values: Any) -> Record:
    """Map a row that can be sent."""
    found = mapped(sync, **values)
    assert isinstance(found, Record)
    return found


def body(sync: Catalogs, **values: Any) -> Any:
    """Return what is sent for a row."""
    return msgspec.json.decode(record(sync, **values).body)


def added(sync: Catalogs, **values: Any) -> Operation:
    """Return the operation for a new row."""
    return sync.added(Added(record(sync, **values)))


def call_of(operation: Operation) -> Call:
    """Return the call of an operation that has one."""
    assert operation.call is not None
    return operation.call


def test_a_body_is_the_item_under_its_id() -> None:
    """The ID is no field; columns that are not mapped are not sent."""
    assert body(catalogs()) == {"tea-1": ITEM}
    assert record(catalogs()).handles == (("item", "tea-1"),)


def test_the_primary_key_is_the_item_id_by_default() -> None:
    """A number becomes its text."""
    assert body(catalogs(item_id_column=None), id=7) == {"7": ITEM}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("A-1", "A-1"),
        ("a-1", "a-1"),
        ("-", "-"),
        ("x" * 255, "x" * 255),
        (7, "7"),
        (-7, "-7"),
        (Decimal("7.0"), "7"),
        (7.0, "7"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("x" * 256, None),
        ("", None),
        (" a", None),
        ("a\n", None),
        ("a_b", None),
        ("a.b", None),
        ("a/b", None),
        ("ä", None),
        ("٣", None),
        (7.5, None),
        (float("nan"), None),
        (True, None),
        (None, None),
        (b"a", None),
        (date(2026, 5, 31), None),
    ],
    ids=repr,
)
def test_item_ids(value: Any, found: str | None) -> None:
    """Letters, digits and dashes, told apart by case, at most 255; anything else refuses its row."""
    if found is None:
        assert mapped(catalogs(), sku=value) == Invalid("[1]", Reason.INVALID_ITEM_ID)
    else:
        assert record(catalogs(), sku=value).handles == (("item", found),)
        assert body(catalogs(), sku=value) == {found: ITEM}


def test_objects_nest_by_dots_and_by_json() -> None:
    """Dotted names make objects, JSON text makes objects and arrays; an item may be empty."""
    sync = catalogs({"size.kg": "size", "specs": Json("specs"), "size.unit": Constant("kg")})
    assert body(sync, size=1.5, specs='[{"a":{"b":[1]}}]') == {
        "tea-1": {"size": {"kg": 1.5, "unit": "kg"}, "specs": [{"a": {"b": [1]}}]}
    }
    assert body(catalogs({"size": Column("size", nulls="skip")})) == {"tea-1": {}}


def test_nulls_are_sent_or_skipped() -> None:
    """As the sync or the field says."""
    assert body(catalogs(), price=None) == {"tea-1": {"name": "Tea", "price": None}}
    assert body(catalogs(nulls="skip"), price=None) == {"tea-1": {"name": "Tea"}}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (datetime(2026, 5, 31, 18, 20, tzinfo=UTC), "2026-05-31 18:20:00 +0000"),
        (datetime(2026, 5, 31, 18, 20, tzinfo=timezone(timedelta(hours=-4))), "2026-05-31 22:20:00 +0000"),
        (datetime(2026, 5, 31, 18, 20), "2026-05-31 16:20:00 +0000"),
        (date(2026, 5, 31), "2026-05-31"),
    ],
    ids=str,
)
def test_dates_have_no_colon_in_their_offset(value: Any, found: str) -> None:
    """The form of Iterable's examples for catalogs; naive ones are read in the sync's zone."""
    assert body(catalogs({"since": "size"}), size=value) == {"tea-1": {"since": found}}
    many = catalogs({"since": "size"}).records(["[1]", "[2]"], [row(size=value), row(size=value)])
    assert [msgspec.json.decode(body) for body in many.bodies] == [{"tea-1": {"since": found}}] * 2


@pytest.mark.parametrize(
    ("values", "reason", "detail"),
    [
        ({"name": b"x"}, Reason.INVALID_VALUE, "field name: a value of type bytes"),
        ({"price": float("inf")}, Reason.INVALID_VALUE, "field price: number inf"),
        ({"name": "\ud800"}, Reason.INVALID_VALUE, "text that is not valid Unicode"),
        ({"name": "x" * 30_000}, Reason.TOO_LARGE, "an item of 30023 bytes; Iterable takes 30000"),
        ({"name": "ü" * 15_000}, Reason.TOO_LARGE, "an item of 30023 bytes; Iterable takes 30000"),
    ],
)
def test_rows_that_cannot_be_sent(values: dict[str, Any], reason: Reason, detail: str) -> None:
    """Which item they are about still counts as present."""
    assert mapped(catalogs(), **values) == Invalid("[1]", reason, detail, (("item", "tea-1"),))


@pytest.mark.parametrize("sku", ["a", "x" * 255])
def test_the_largest_item(sku: str) -> None:
    """Its ID does not count."""
    longest = MAX_ITEM_BYTES - len('{"name":"","price":2.5}')
    assert len(record(catalogs(), sku=sku, name="x" * longest).body) == MAX_ITEM_BYTES + len(sku) + 5
    assert isinstance(mapped(catalogs(), sku=sku, name="x" * (longest + 1)), Invalid)


def test_what_belongs_to_the_fingerprint() -> None:
    """Values, the ID, and whether other fields are kept; not what becomes of items that leave, nor types."""
    same = record(catalogs()).fingerprint
    assert same == record(catalogs(on_removed="delete", salvage=True, field_types={"name": "string"})).fingerprint
    assert same != record(catalogs(), name="Pot").fingerprint
    assert same != record(catalogs(), sku="tea-2").fingerprint
    assert same != record(catalogs(replace_uploaded_fields_only=True)).fingerprint
    assert record(catalogs()).body == record(catalogs(replace_uploaded_fields_only=True)).body


@pytest.mark.parametrize("only", [False, True])
def test_items_go_in_one_request(only: bool) -> None:
    """Their bodies are joined to one object of documents; the flag is always said, for Iterable requires it."""
    sync = catalogs(replace_uploaded_fields_only=only)
    operations = [added(sync, sku=sku) for sku in ("a", "b", "c")]
    call = call_of(operations[0])
    assert all(operation.call is call for operation in operations)
    request = call.wrap(operations)
    assert (request.method, request.path, request.template) == (
        "POST",
        "/api/catalogs/shop/items",
        "/api/catalogs/{name}/items",
    )
    assert json.loads(request.body or b"") == {
        "documents": {"a": ITEM, "b": ITEM, "c": ITEM},
        "replaceUploadedFieldsOnly": only,
    }
    assert len(request.body or b"") <= call.envelope + sum(len(operation.body) + 1 for operation in operations)


def test_items_are_deleted_in_one_request() -> None:
    """Their IDs are joined to one array; the entries are forgotten."""
    sync = catalogs(on_removed="delete")
    operations = [sync.removed(Removed(f"[{n}]", Entry(b"", f'["item","i-{n}"]'))) for n in (1, 2)]
    call = call_of(operations[0])
    assert [(op.kind, op.handles, op.remember) for op in operations] == [
        (Kind.REMOVED, (("item", "i-1"),), None),
        (Kind.REMOVED, (("item", "i-2"),), None),
    ]
    request = call.wrap(operations)
    assert (request.method, request.path) == ("DELETE", "/api/catalogs/shop/items")
    assert json.loads(request.body or b"") == {"itemIds": ["i-1", "i-2"]}
    assert len(request.body or b"") <= call.envelope + sum(len(operation.body) + 1 for operation in operations)


def test_kept_items_are_forgotten_without_a_call() -> None:
    """Only the entry goes."""
    operation = catalogs().removed(Removed("[1]", OLD))
    assert (operation.call, operation.remember, operation.key) == (None, None, "[1]")


def test_what_is_remembered_finds_the_item_again() -> None:
    """The entry holds the fingerprint and names the item."""
    sync = catalogs()
    entry = added(sync).remember
    assert entry is not None
    assert entry == Entry(record(sync).fingerprint, '["item","tea-1"]')
    assert sync.identity(entry.ref) == ("item", "tea-1")
    changed = sync.changed(Changed(OLD, record(sync)))
    assert isinstance(changed, Operation)
    assert (changed.kind, changed.remember, changed.key) == (Kind.CHANGED, entry, "[1]")


def test_an_item_that_a_row_was_before_follows_on_removed() -> None:
    """It is left alone, or deleted under a key that is no row's, short enough for every state, and its own."""
    sync = catalogs(on_removed="delete")
    after = record(sync)
    assert catalogs().moved(Changed(OLD, after)) is None
    left = sync.moved(Changed(OLD, after))
    assert left is not None
    assert call_of(left) is call_of(sync.removed(Removed("[1]", OLD)))
    assert (left.kind, left.body, left.handles, left.remember) == (Kind.REMOVED, b'"old"', (("item", "old"),), None)
    assert not left.key.startswith("[")
    long = sync.moved(Changed(OLD, msgspec.structs.replace(after, key="x" * 500)))
    other = sync.moved(Changed(Entry(b"", '["item","older"]'), after))
    assert long is not None
    assert other is not None
    assert len({left.key, long.key, other.key}) == 3
    assert max(len(left.key), len(long.key)) <= 500
    assert left.key.isprintable()


def screened(sync: Catalogs, types: dict[str, str], **values: Any) -> Any:
    """Return the item that passes, or the outcome."""
    sync.learn_types(types)
    found = sync.screen(added(sync, **values))
    return found if isinstance(found, Outcome) else msgspec.json.decode(found.body)["tea-1"]


@pytest.mark.parametrize(
    ("kind", "value", "passes"),
    [
        ("string", "x", "x"),
        ("string", 5, "5"),
        ("string", [1, "a"], ["1", "a"]),
        ("long", 5, 5),
        ("long", 5.0, 5),
        ("long", "5", 5),
        ("long", 5.5, None),
        ("double", 5, 5),
        ("double", "5.5", 5.5),
        ("double", "x", None),
        ("boolean", True, True),
        ("boolean", "true", True),
        ("boolean", 1, True),
        ("boolean", 2, None),
        ("date", "2026-05-31", "2026-05-31"),
        ("date", "2026-05-31 18:20:00", "2026-05-31 18:20:00"),
        ("date", "2026-05-31 18:20:00 -0400", "2026-05-31 18:20:00 -0400"),
        ("date", "2026-05-31 18:20:00 -04:00", "2026-05-31 18:20:00 -04:00"),
        ("date", "2026-05-31T18:20:00.000Z", "2026-05-31T18:20:00.000Z"),
        ("date", "2026-05-31T18:20:00", "2026-05-31 18:20:00 +0000"),
        ("date", datetime(2026, 5, 31, tzinfo=UTC), "2026-05-31 00:00:00 +0000"),
        ("date", "2026-02-30", None),
        ("date", "05/31/2026", None),
        ("date", 5, None),
        ("geo_location", {"lat": 1, "lon": 2.5}, {"lat": 1, "lon": 2.5}),
        ("geo_location", [{"lat": 1, "lon": 2.5}], [{"lat": 1, "lon": 2.5}]),
        ("geo_location", {"lat": 1}, None),
        ("geo_location", {"lat": 1, "lon": "x"}, None),
        ("geo_location", {"lat": 1, "lon": 2, "alt": 3}, None),
        ("geo_location", "1,2", None),
        ("object", {"a": 1}, {"a": 1}),
        ("object", "{}", None),
        ("unheard of", "x", "x"),
        ("double", None, None),
    ],
    ids=repr,
)
def test_values_beside_the_types_of_a_catalog(kind: str, value: Any, passes: Any) -> None:
    """A value fits, is converted without loss, or rejects its row; nulls fit everything."""
    found = screened(catalogs({"f": "size"}), {"f": kind, "other": "long"}, size=value)
    if passes is None and value is not None:
        assert isinstance(found, Outcome)
        assert (found.fate, found.reason) == (Fate.REJECTED, Reason.TYPE_MISMATCH)
        assert found.detail.startswith("field f: ")
    else:
        assert found == {"f": passes}


def test_types_inside_objects() -> None:
    """A mapping with a dotted name is about what is inside."""
    sync = catalogs({"size.kg": "size", "name": "name"})
    sync.learn_types({"size.kg": "long", "size": "object", "sizes": "long", "name": "date"})
    assert [name for name, _, _ in sync.checked_fields] == ["size.kg", "size", "name"]
    assert screened(sync, {"size.kg": "long", "size": "object"}, size=5.0) == {"size": {"kg": 5}, "name": "Tea"}
    assert screened(sync, {"size.kg": "long"}, size=5.5).reason is Reason.TYPE_MISMATCH


@pytest.mark.parametrize("specs", [{"a.b": 1}, {"a": {"b.c": 1}}, [{"a": [{"b.c": None}]}]], ids=str)
def test_names_with_a_period(specs: Any) -> None:
    """Inside a value they refuse the row, whether or not types are known; the detail names the field only."""
    sync = catalogs({"specs": "specs", "name": "name"})
    found = sync.screen(added(sync, specs=specs))
    assert isinstance(found, Outcome)
    assert (found.reason, found.detail) == (Reason.INVALID_VALUE, "field specs: a name inside it has a period")
    salvaging = catalogs({"specs": "specs", "name": "name"}, salvage=True)
    assert screened(salvaging, {}, specs=specs) == {"name": "Tea"}


def test_deletions_are_not_screened() -> None:
    """There is nothing to compare."""
    sync = catalogs(on_removed="delete")
    sync.learn_types({"name": "long"})
    operation = sync.removed(Removed("[1]", OLD))
    assert sync.screen(operation) is operation


def test_salvage() -> None:
    """Without it a rejected item is not tried again; with it, it goes without the fields, and that is told."""
    sync = catalogs(salvage=True)
    assert catalogs().salvage(added(sync), ["price"], "why") is None
    rest = sync.salvage(added(sync), ["price"], "why")
    assert rest is not None
    assert (msgspec.json.decode(rest.body), rest.partial) == ({"tea-1": {"name": "Tea"}}, "why")
    assert rest.remember == added(sync).remember


def test_a_catalog_sync_says_what_it_is() -> None:
    """An item is one thing at Iterable, rows that leave are removals, and keys are unique."""
    sync = catalogs()
    assert (sync.removals_first, sync.exclusive, sync.keeps_leavers, sync.collapses) == (False, True, False, False)
    assert sync.keys([row(id="a"), row(id=None)]) == ['["a"]', Invalid("", Reason.NULL_KEY)]


def test_missing_columns_and_unknown_fields() -> None:
    """Both are said before a row is read."""
    for options in ({"item_id_column": "nope"}, {"primary_key": ("nope",)}):
        with pytest.raises(ModelError, match="no column 'nope'"):
            catalogs(**options)
    with pytest.raises(ConfigurationError, match="field_types names colour, which the sync does not send"):
        catalogs(field_types={"colour": "string", "name": "string"})
    catalogs({"size.kg": "size"}, field_types={"size": "object"})


@pytest.mark.parametrize("kind", FIELD_TYPES)
def test_every_type_of_a_catalog_can_be_declared(kind: str) -> None:
    """Catalogs have no ``nested``."""
    catalogs(field_types={"name": kind})
    with pytest.raises(ConfigurationError, match="not 'nested'"):
        catalogs(field_types={"name": "nested"})


@pytest.mark.parametrize("call", [endpoints.write_items("Shop-1"), endpoints.delete_items("Shop-1")])
def test_limits_are_those_of_iterable(call: Call) -> None:
    """1000 items, 100 requests a second where a rate is documented; a request may go twice."""
    (route,) = [route for route in ROUTES if (route.method, route.template) == (call.method, call.template)]
    assert call.rate == (route.rate or 0)
    assert (call.max_items, call.max_bytes, call.repeatable, call.then) == (1000, 4_000_000, True, None)
    sync = catalogs(catalog_name="Shop-1", on_removed="delete")
    operation = added(sync) if call.method == "POST" else sync.removed(Removed("[1]", OLD))
    request = call.wrap([operation])
    found = Table().find(request.method, request.path)
    assert found is not None
    assert (found[0].template, found[1]) == (call.template, {"name": "Shop-1"})


def test_the_name_of_a_catalog_is_quoted() -> None:
    """Whatever it is, it stays one part of the path."""
    operation = added(catalogs())
    for call in (endpoints.write_items("a/b?c"), endpoints.delete_items("a/b?c")):
        assert call.wrap([operation]).path == "/api/catalogs/a%2Fb%3Fc/items"
