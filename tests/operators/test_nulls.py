"""What becomes of nulls: each sync follows the operator's policy, and each field may have one of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from airflow_provider_iterable.mapping import Column, Fields, Json
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import Make, email

FIELDS: Fields = {
    "plain": "a",
    "asked": Column("a", nulls="send"),
    "spared": Column("a", nulls="skip"),
    "json": Json("a", nulls="send"),
    "skipped_json": Json("a", nulls="skip"),
}
MATCH = {"email_column": "email"}
ITEMS = json.dumps([{"id": "s-1", "name": "Screw", "price": 0.5, "quantity": 10}])
BASKET = {"items_column": "items", "user_fields": FIELDS}
Case = tuple[type[IterableModelOperator], dict[str, Any], str, Sequence[str | int]]
CASES: dict[str, Case] = {
    "users": (
        IterableUserSyncOperator,
        {**MATCH, "fields": FIELDS},
        "/api/users/bulkUpdate",
        ("users", 0, "dataFields"),
    ),
    "lists": (
        IterableListOperator,
        {**MATCH, "list_name": "VIP", "fields": FIELDS},
        "/api/lists/subscribe",
        ("subscribers", 0, "dataFields"),
    ),
    "custom events": (
        IterableEventOperator,
        {**MATCH, "event_name": "Seen", "fields": FIELDS},
        "/api/events/trackBulk",
        ("events", 0, "dataFields"),
    ),
    "purchases": (
        IterableEventOperator,
        {**MATCH, **BASKET, "event_type": "purchase", "total_column": "total", "fields": FIELDS},
        "/api/commerce/trackPurchase",
        ("dataFields",),
    ),
    "users of purchases": (
        IterableEventOperator,
        {**MATCH, **BASKET, "event_type": "purchase", "total_column": "total", "fields": {}},
        "/api/commerce/trackPurchase",
        ("user", "dataFields"),
    ),
    "users of carts": (
        IterableEventOperator,
        {**MATCH, **BASKET, "event_type": "cart"},
        "/api/commerce/updateCart",
        ("user", "dataFields"),
    ),
    "catalogs": (
        IterableCatalogOperator,
        {"catalog_name": "Shop", "item_id_column": "sku", "fields": FIELDS},
        "/api/catalogs/{name}/items",
        ("documents", "sku-1"),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("nulls", ["send", "skip", None])
def test_every_sync_honours_both_policies(make_world: Make, case: str, nulls: str | None) -> None:
    """A field's own policy wins, the operator's is the others', and by default nulls are sent."""
    kind, parameters, template, path = CASES[case]
    world = make_world(record_bodies=20)
    world.create(1)
    world.rows((1, email(1), "sku-1", None, ITEMS, 5.0), columns=("id", "email", "sku", "a", "items", "total"))
    options: dict[str, Any] = {"sql": "SELECT * FROM users", "sql_conn_id": "warehouse", "primary_key": "id"}
    options |= {"task_id": "sync", "state": TableState(), **parameters, **({} if nulls is None else {"nulls": nulls})}
    world.make = lambda **given: kind(**options)  # type: ignore[method-assign]
    assert world.run()["accepted"] == 1
    (call,) = [call for call in world.sandbox.calls if call.template == template]
    found = json.loads(str(call.request))
    for part in path:
        found = found[part]
    assert found == {"asked": None, "json": None, **({} if nulls == "skip" else {"plain": None})}
