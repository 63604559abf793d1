from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.api import project
from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Reply
from airflow_provider_iterable.errors import ConfigurationError, WorthRetrying
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Constant, Json
from airflow_provider_iterable.operators import IterableCatalogOperator
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import CHANNELS, KEY, Make, World

COLUMNS = ("id", "sku", "name", "price", "specs")
TYPES = "GET /api/catalogs/{name}/fieldMappings"
DEFINE = "PUT /api/catalogs/{name}/fieldMappings"
CREATE = "POST /api/catalogs/{name}"
WRITE = "POST /api/catalogs/{name}/items"
DELETE = "DELETE /api/catalogs/{name}/items"
NO_ANSWER = ("drop_before", "drop_after", "malformed", "5xx_html", "429")


class Shop(World):
    """A warehouse of products, and the catalog they go to."""

    def goods(self, *rows: tuple[Any, ...]) -> None:
        """Let the model be these products."""
        self.rows(*rows, columns=COLUMNS)

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        defaults: dict[str, Any] = {
            "task_id": "sync_products",
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "primary_key": "id",
            "catalog_name": "Shop-1",
            "item_id_column": "sku",
            "fields": {"name": "name", "price": "price", "specs": Json("specs")},
            "state": TableState(),
        }
        return IterableCatalogOperator(**{**defaults, **parameters})

    def call(self, method: str, path: str, body: Any = None) -> None:
        """Have somebody else change the project."""
        import requests

        answer = requests.request(
            method, f"{self.sandbox.url}/api/catalogs{path}", json=body, headers={"Api-Key": KEY}, timeout=10
        )
        assert answer.ok, answer.text
        self.forget_calls()

    @property
    def catalog(self) -> dict[str, Any]:
        """The one catalog there is."""
        (catalog,) = self.sandbox.catalogs
        return catalog

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        """Its items by ID."""
        return {item["id"]: item["value"] for item in self.catalog["values"]}

    @property
    def indexed(self) -> dict[str, list[str]]:
        """The fields by which each item is found."""
        return {item["id"]: item["indexed"] for item in self.catalog["values"]}


def good(number: int, **changes: Any) -> tuple[Any, ...]:
    """Return a product's row."""
    whole = {"id": number, "sku": f"sku-{number}", "name": f"Name {number}", "price": 1.5, "specs": '{"kg":2}'}
    return tuple({**whole, **changes}[column] for column in COLUMNS)


def item(number: int, **changes: Any) -> dict[str, Any]:
    """Return the item that a product's row becomes."""
    return {"name": f"Name {number}", "price": 1.5, "specs": {"kg": 2}, **changes}


@pytest.fixture
def make_shop(make_world: Make) -> Callable[..., Shop]:
    """Make shops in projects without catalogs."""

    def make(*arguments: Any, **options: Any) -> Shop:
        world = make_world(*arguments, **options)
        return Shop(world.sandbox, world.warehouse, world.project_type)

    return make


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    """A shop in a project without catalogs."""
    return make_shop()


@pytest.mark.parametrize("project_type", ["email", "user_id", "hybrid"])
@pytest.mark.parametrize("on_removed", ["keep", "delete"])
@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_the_life_of_a_row(make_shop: Any, project_type: str, on_removed: str, state: Any) -> None:
    """Added, changed, removed and added again: each run sends the difference, and an unchanged one nothing."""
    shop = make_shop(project_type)
    options: dict[str, Any] = {"on_removed": on_removed, "state": state}

    shop.goods(good(1), good(2))
    report = shop.run(**options)
    assert shop.catalog["name"] == "Shop-1"
    assert shop.items == {"sku-1": item(1), "sku-2": item(2)}
    assert (report["status"], report["added"], report["accepted"], report["read"]) == ("succeeded", 2, 2, 2)
    asked = {CHANNELS: {"200": 1}, TYPES: {"200": 1, "404": 1}}
    assert report["requests"] == {**asked, CREATE: {"201": 1}, WRITE: {"202": 1}}
    assert report["destination"] == {"host": shop.sandbox.url, "type": "catalogs", "catalog": "shop-1"}

    shop.forget_calls()
    report = shop.run(**options)
    assert not shop.sandbox.calls
    assert (report["unchanged"], report["accepted"]) == (2, 0)

    shop.goods(good(1), good(2, name="New"), good(3))
    report = shop.run(**options)
    assert shop.items == {"sku-1": item(1), "sku-2": item(2, name="New"), "sku-3": item(3)}
    assert (report["added"], report["changed"], report["unchanged"], report["accepted"]) == (1, 1, 1, 2)

    shop.goods(good(1), good(3))
    shop.forget_calls()
    report = shop.run(**options)
    assert (report["removed"], report["unchanged"]) == (1, 2)
    left = {"sku-2": item(2, name="New")} if on_removed == "keep" else {}
    assert shop.items == {"sku-1": item(1), "sku-3": item(3), **left}
    assert shop.calls == ({} if on_removed == "keep" else {TYPES: 1, DELETE: 1})

    shop.goods(good(1), good(2), good(3))
    report = shop.run(**options)
    assert (report["added"], report["unchanged"]) == (1, 2)
    assert shop.items == {"sku-1": item(1), "sku-2": item(2), "sku-3": item(3)}


@pytest.mark.parametrize("on_removed", ["keep", "delete"])
def test_an_item_whose_id_changed_follows_on_removed(shop: Shop, on_removed: str, heard: Callable[[], str]) -> None:
    """The new item is written, the old one is kept or deleted; nothing is left to do after that."""
    shop.goods(good(1), good(2))
    shop.run(on_removed=on_removed)
    shop.goods(good(1, sku="other"), good(2))
    report = shop.run(on_removed=on_removed)
    left = {"sku-1": item(1)} if on_removed == "keep" else {}
    assert shop.items == {"other": item(1), "sku-2": item(2), **left}
    assert (report["changed"], report["removed"]) == (1, on_removed == "delete")
    assert shop.remembered == ["[1]", "[2]"]
    shop.forget_calls()
    assert shop.run(on_removed=on_removed)["unchanged"] == 2
    assert not shop.calls
    shop.goods(good(2))
    shop.run(on_removed=on_removed)
    assert shop.items == {"sku-2": item(2), **({"sku-1": item(1), "other": item(1)} if on_removed == "keep" else {})}


def test_a_duplicate_key_with_a_new_item_id_deletes_nothing(shop: Shop) -> None:
    """None of the rows is sent, so the old item stays."""
    shop.goods(good(1), good(2))
    shop.run(on_removed="delete")
    shop.goods(good(1, sku="new"), good(1, sku="newer"), good(2))
    report = shop.run(on_removed="delete", max_rejected=1.0)
    assert (report["removed"], report["reasons"]) == (0, {"duplicate_key": 2})
    assert shop.items == {"sku-1": item(1), "sku-2": item(2)}


def test_a_new_item_that_is_rejected_leaves_the_old_one(shop: Shop) -> None:
    """The entry stays as it was, and so does what it is about."""
    types: Any = {"price": "double"}
    shop.goods(good(1), good(2))
    shop.run(on_removed="delete", field_types=types)
    shop.goods(good(1, sku="new", price="much"), good(2))
    report = shop.run(on_removed="delete", field_types=types, max_rejected=1.0)
    assert report["reasons"]["type_mismatch"] == 1
    assert shop.items == {"sku-1": item(1), "sku-2": item(2)}
    shop.goods(good(1, sku="new"), good(2))
    shop.run(on_removed="delete", field_types=types)
    assert shop.items == {"new": item(1), "sku-2": item(2)}


def test_an_old_item_that_could_not_be_deleted_goes_with_the_next_run(shop: Shop) -> None:
    """The new one was accepted before; the old one is not forgotten."""
    shop.goods(good(1), good(2))
    shop.run(on_removed="delete")
    shop.goods(good(1, sku="new"), good(2))
    shop.sandbox.faults({"kind": "5xx_html", "path": DELETE.partition(" ")[2], "times": 5, "after": 1})
    shop.failure(AirflowException, on_removed="delete")
    shop.sandbox.service.faults.clear()
    shop.run(on_removed="delete")
    assert shop.items == {"new": item(1), "sku-2": item(2)}
    assert shop.remembered == ["[1]", "[2]"]


def test_rows_that_swap_their_ids_lose_no_item(shop: Shop) -> None:
    """An ID that one row left and another bears now is not deleted."""
    shop.goods(good(1), good(2), good(3))
    shop.run(on_removed="delete")
    shop.goods(good(1, sku="sku-2"), good(2, sku="sku-1"), good(3))
    shop.run(on_removed="delete")
    assert shop.items == {"sku-1": item(2), "sku-2": item(1), "sku-3": item(3)}
    assert DELETE not in shop.calls


def test_a_removed_row_whose_item_another_row_bears_deletes_nothing(shop: Shop) -> None:
    """Two rows had one item, or one took it over: as long as a row bears the ID the item stays."""
    shop.goods(good(1, sku="a"), good(2, sku="a"), good(3, sku="b"))
    report = shop.run(on_removed="delete")
    assert shop.items == {"a": item(2), "b": item(3)}
    assert (report["accepted"], report["collapsed"], shop.calls[WRITE]) == (3, 1, 3)
    shop.goods(good(1, sku="a"), good(4, sku="b"))
    shop.run(on_removed="delete")
    assert shop.items == {"a": item(1), "b": item(4)}
    assert DELETE not in shop.calls
    shop.goods(good(1, sku="a"))
    shop.run(on_removed="delete")
    assert shop.items == {"a": item(1)}


def test_the_primary_key_is_the_item_id_by_default(shop: Shop) -> None:
    """A number becomes its text; every other column is a field."""
    shop.rows((7, "Tea", 2.0), (8, "Pot", 3.5), columns=("id", "name", "price"))
    shop.run(item_id_column=None, fields=None)
    assert shop.items == {"7": {"name": "Tea", "price": 2.0}, "8": {"name": "Pot", "price": 3.5}}


def test_the_columns_of_key_and_id_are_no_fields_by_default(shop: Shop) -> None:
    """Without ``fields`` the rest of the columns is sent."""
    shop.goods(good(1))
    shop.run(fields=None)
    assert shop.items == {"sku-1": item(1, specs='{"kg":2}')}


def test_bad_rows_are_named_and_go_again(shop: Shop, heard: Callable[[], str]) -> None:
    """Good rows arrive; bad ones are rejected before sending, and tried again until they are mended."""
    large = {"name": "x" * 30_000}
    ids = ["a_b", "a.b", "", None, "x" * 256, " a", "ä"]
    shop.goods(good(1), *(good(10 + n, sku=sku) for n, sku in enumerate(ids)), good(2, **large), good(3), good(3))
    for run in range(2):
        report = shop.run(max_rejected=1.0)
        assert (report["accepted"], report["rejected"], report["invalid"]) == (1 - run, 10, 10)
        assert report["reasons"] == {"duplicate_key": 2, "invalid_item_id": 7, "too_large": 1}
    assert shop.calls[WRITE] == 1
    said = heard()
    assert "key [2]: an item of 30040 bytes; Iterable takes 30000" in said
    assert "key [10]" in said
    assert "a_b" not in said
    shop.goods(good(1), good(2), good(10))
    report = shop.run()
    assert (report["added"], report["removed"]) == (2, 0)
    assert shop.items.keys() == {"sku-1", "sku-2", "sku-10"}


def test_the_largest_item_arrives(shop: Shop) -> None:
    """30,000 bytes of JSON are taken by both sides, one more by neither."""
    frame = len('{"name":"","price":1.5,"specs":{"kg":2}}')
    shop.goods(good(1, name="x" * (30_000 - frame)), good(2, name="x" * (30_001 - frame)))
    report = shop.run(max_rejected=1.0)
    assert (report["accepted"], report["rejected"]) == (1, 1)
    assert shop.items.keys() == {"sku-1"}


def test_a_row_that_turned_bad_is_no_removal(shop: Shop) -> None:
    """Its item is not deleted, and its entry stays."""
    shop.goods(good(1), good(2))
    shop.run(on_removed="delete")
    shop.goods(good(1), good(2, sku="no_good"))
    report = shop.run(on_removed="delete", max_rejected=1.0)
    assert (report["removed"], report["rejected"]) == (0, 1)
    assert shop.items.keys() == {"sku-1", "sku-2"}
    assert shop.remembered == ["[1]", "[2]"]


def test_many_items_go_in_few_requests(shop: Shop) -> None:
    """A thousand at once, after one for all fields, and fewer where they are large; deletions too."""
    shop.goods(*(good(number) for number in range(2500)))
    shop.run()
    assert shop.calls[WRITE] == 1 + 3
    shop.goods(*(good(number, name="x" * 25_000) for number in range(300)))
    shop.forget_calls()
    shop.run(on_removed="delete", max_deletes=2200, max_removed=1.0)
    assert (shop.calls[WRITE], shop.calls[DELETE]) == (2, 3)
    assert len(shop.items) == 300


@pytest.mark.parametrize("only", [False, True])
def test_fields_that_are_not_mapped(shop: Shop, only: bool) -> None:
    """The whole item is replaced, or only the given fields; an item is sent again when that changes."""
    shop.call("POST", "/Shop-1")
    shop.call("PUT", "/Shop-1/items/sku-1", {"value": {"name": "Old", "stock": 5}})
    shop.goods(good(1))
    shop.run(replace_uploaded_fields_only=only)
    assert shop.items == {"sku-1": item(1, **({"stock": 5} if only else {}))}
    assert shop.run(replace_uploaded_fields_only=only)["unchanged"] == 1
    assert shop.run(replace_uploaded_fields_only=not only)["changed"] == 1
    assert shop.items == {"sku-1": item(1)}


def test_declared_types_are_set_once_and_before_the_items(shop: Shop, heard: Callable[[], str]) -> None:
    """The first items are found by the typed fields already; nothing is set a second time."""
    types = {"name": "string", "price": "double", "specs": "object"}
    shop.goods(good(1))
    report = shop.run(field_types=types)
    assert shop.catalog["definedMappings"] == types
    assert shop.indexed == {"sku-1": ["name", "price", "specs"]}
    assert report["requests"][DEFINE] == {"200": 1}
    shop.goods(good(1, price=2.5))
    shop.forget_calls()
    shop.run(field_types=types)
    assert shop.calls == {TYPES: 1, WRITE: 1}
    assert "types were given to name, price, specs" in heard()


def test_only_types_that_are_missing_are_set(shop: Shop) -> None:
    """Those that somebody else has set stay as they are."""
    shop.call("POST", "/Shop-1")
    shop.call("PUT", "/Shop-1/fieldMappings", {"mappingsUpdates": [{"fieldName": "price", "fieldType": "double"}]})
    shop.goods(good(1))
    shop.run(field_types={"name": "string", "price": "double"})
    assert shop.catalog["definedMappings"] == {"price": "double", "name": "string"}


def test_a_declared_type_that_contradicts_the_catalog_is_an_error_before_anything_is_sent(shop: Shop) -> None:
    """Neither a type nor an item goes, and the message names both types."""
    shop.call("POST", "/Shop-1")
    shop.call("PUT", "/Shop-1/fieldMappings", {"mappingsUpdates": [{"fieldName": "price", "fieldType": "string"}]})
    shop.goods(good(1))
    message, report = shop.failure(AirflowFailException, field_types={"name": "string", "price": "double"})
    assert "field_types contradicts the catalog Shop-1: price (double declared, string there). Nothing was" in message
    assert (report["status"], shop.calls, shop.catalog["values"]) == ("failed", {TYPES: 1}, [])
    assert shop.catalog["definedMappings"] == {"price": "string"}


@pytest.mark.parametrize("declared", [True, False])
def test_values_are_compared_with_the_types(shop: Shop, declared: bool, heard: Callable[[], str]) -> None:
    """Iterable would take a wrong value and never find it: it is converted without loss, or its row is rejected."""
    types: dict[str, Any] = {"name": "string", "price": "long", "specs": "geo_location"}
    if not declared:
        shop.call("POST", "/Shop-1")
        updates = [{"fieldName": name, "fieldType": kind} for name, kind in types.items()]
        shop.call("PUT", "/Shop-1/fieldMappings", {"mappingsUpdates": updates})
    place = '{"lat":1.5,"lon":2}'
    shop.goods(
        good(1, price=5.0, specs=place),
        good(2, price=5.5, specs=place),
        good(3, price=None, name=7, specs=place),
        good(4, price=1, specs='{"lat":1.5}'),
    )
    report = shop.run(max_rejected=1.0, field_types=types if declared else None)
    assert report["reasons"] == {"type_mismatch": 2}
    assert shop.items == {
        "sku-1": {"name": "Name 1", "price": 5, "specs": {"lat": 1.5, "lon": 2}},
        "sku-3": {"name": "7", "price": None, "specs": {"lat": 1.5, "lon": 2}},
    }
    assert shop.indexed == {"sku-1": ["name", "price", "specs"], "sku-3": ["name", "specs"]}
    said = heard()
    assert "key [2]: field price: long expected, decimal number" in said
    assert "key [4]: field specs: lat and lon expected, object" in said


def test_without_check_types_wrong_values_go(shop: Shop) -> None:
    """Iterable takes them, and does not find them."""
    shop.goods(good(1, price="much"))
    report = shop.run(field_types={"price": "double", "name": "string"}, check_types=False)
    assert (report["accepted"], shop.indexed) == (1, {"sku-1": ["name"]})


def test_salvaged_items_go_without_the_wrong_fields(shop: Shop) -> None:
    """Counted as accepted and as partial."""
    shop.goods(good(1, price="much"), good(2, specs='{"a.b":1}'))
    report = shop.run(field_types={"price": "double"}, salvage=True)
    assert (report["accepted"], report["partial"], report["rejected"]) == (2, 2, 0)
    assert shop.items == {
        "sku-1": {"name": "Name 1", "specs": {"kg": 2}},
        "sku-2": {"name": "Name 2", "price": 1.5},
    }


def test_names_with_periods_inside_a_value_cost_their_row(shop: Shop, heard: Callable[[], str]) -> None:
    """Iterable would refuse the whole upload for one; the name itself is not told."""
    shop.goods(good(1), good(2, specs='[{"ada@x.io":1}]'), good(3, specs='{"a":[{"b":1.5}]}'))
    report = shop.run(max_rejected=1.0)
    assert (report["accepted"], report["reasons"], shop.calls[WRITE]) == (2, {"invalid_value": 1}, 1)
    said = heard()
    assert "key [2]: field specs: a name inside it has a period" in said
    assert "ada@x.io" not in said


def test_dates_are_found_by(shop: Shop) -> None:
    """Dates go in a form of which Iterable gives examples for catalogs; other ISO text becomes that form."""
    shop.rows((1, "2026-05-31T18:20:00Z", "2026-05-31"), columns=("id", "since", "day"))
    shop.run(item_id_column=None, fields=None, field_types={"since": "date", "day": "date"})
    assert shop.items == {"1": {"since": "2026-05-31 18:20:00 +0000", "day": "2026-05-31"}}
    assert shop.indexed == {"1": ["day", "since"]}


def test_date_times_have_the_form_of_catalogs(shop: Shop) -> None:
    """In UTC, whose offset is written without a colon; naive ones are read in the zone."""
    shop.goods(good(1))
    shop.run(fields={"since": Constant(datetime(2026, 5, 31, 18, 20))}, timezone="Europe/Berlin")
    assert shop.items == {"sku-1": {"since": "2026-05-31 16:20:00 +0000"}}


def test_a_missing_catalog_that_is_not_to_be_created(shop: Shop) -> None:
    """The task fails before anything is sent, and says what to do."""
    shop.goods(good(1))
    message, _ = shop.failure(AirflowFailException, create_catalog=False)
    assert message.startswith("There is no catalog Shop-1 at Iterable, and create_catalog is False. Nothing was sent.")
    assert (shop.calls, shop.sandbox.catalogs) == ({TYPES: 1}, [])


def test_a_catalog_that_is_there_is_used_whatever_the_case_of_its_name(shop: Shop) -> None:
    """Names differ in more than case; state for one is state for the other."""
    shop.call("POST", "/SHOP-1")
    shop.goods(good(1))
    shop.run()
    assert shop.items == {"sku-1": item(1)}
    assert shop.run(catalog_name="shop-1")["unchanged"] == 1


def test_another_catalog_is_another_destination(shop: Shop) -> None:
    """State says what is where; it is not believed about elsewhere."""
    shop.goods(good(1))
    shop.run()
    shop.forget_calls()
    message, _ = shop.failure(AirflowFailException, catalog_name="Shop-2")
    assert 'catalog: remembered "shop-1", now "shop-2"' in message
    assert not shop.calls


def test_a_catalog_that_vanished_is_not_quietly_filled_with_the_differences(shop: Shop) -> None:
    """The sync remembers items that are gone: nothing is sent, and the message names the choices."""
    shop.goods(good(1), good(2))
    shop.run()
    shop.call("DELETE", "/Shop-1")
    shop.goods(good(1), good(2, price=2.5))
    message, report = shop.failure(AirflowFailException)
    assert message.startswith("The catalog Shop-1 has vanished from Iterable, and sync ")
    assert (
        'remembers 2 items in it. Nothing was sent. If it was deleted on purpose, run once with resync="full"'
        in message
    )
    assert (report["status"], shop.sandbox.catalogs) == ("failed", [])
    shop.run(resync="full")
    assert shop.items == {"sku-1": item(1), "sku-2": item(2, price=2.5)}


@pytest.mark.parametrize("refusals", ["envelope", "error"])
def test_a_catalog_that_vanishes_during_the_run_halts_it(make_shop: Any, refusals: str) -> None:
    """What was accepted before is remembered; the message says what to do."""
    shop: Shop

    def vanish(seconds: float) -> None:
        project = shop.sandbox.project
        (catalog,) = project.catalogs
        project.catalogs.delete(catalog)

    shop = make_shop(sleep=vanish, catalog_refusals=refusals)
    shop.goods(*(good(number) for number in range(6)))
    shop.sandbox.faults({"kind": "slow", "path": WRITE.partition(" ")[2], "after": 1, "times": 1})
    message, report = shop.failure(AirflowFailException, batch_size=1)
    assert "The catalog is not at Iterable (HTTP 404 error.catalogs.notFound)" in message
    assert report["status"] == "halted"
    assert len(shop.remembered) == report["accepted"] < 6
    assert report["deferred"] == 6 - report["accepted"]


@pytest.mark.parametrize("refusals", ["envelope", "error"])
def test_a_catalog_without_room_for_fields_halts_the_run(make_shop: Any, refusals: str) -> None:
    """No row is to blame, and no other would fare better."""
    shop = make_shop(catalog_max_fields=2, catalog_refusals=refusals)
    shop.goods(good(1))
    message, report = shop.failure(AirflowFailException)
    assert "The catalog has no room for the new fields (HTTP 400 UniqueFieldsLimitExceeded)" in message
    assert (report["status"], report["deferred"]) == ("halted", 1)


@pytest.mark.parametrize("types", ["no room", "refused"])
def test_types_that_iterable_refuses_end_the_run_before_an_item_goes(make_shop: Any, types: str) -> None:
    """The message names the fields; a retry would not help."""
    shop = make_shop(catalog_max_fields=1)
    shop.goods(good(1))
    message, _ = shop.failure(AirflowFailException, field_types={"name": "string", "price": "double"})
    assert "Iterable refused the types of name, price in catalog Shop-1 (400 UniqueFieldsLimitExceeded)" in message
    assert WRITE not in shop.calls


@pytest.mark.parametrize(
    "options",
    [
        {"catalog_wrapped": False},
        {"catalog_status": 200},
        {"catalog_created_status": 200},
        {"catalog_refusals": "error"},
        {"catalog_effect_after": 60.0},
    ],
    ids=str,
)
def test_every_known_form_of_answers_will_do(make_shop: Any, options: dict[str, Any]) -> None:
    """With or without an envelope, 200, 201 or 202, at once or later."""
    shop = make_shop(**options)
    shop.goods(good(1), good(2))
    report = shop.run(field_types={"name": "string"})
    shop.goods(good(1, price=3))
    assert (report["accepted"], shop.run(on_removed="delete", field_types={"name": "string"})["accepted"]) == (2, 2)
    assert shop.catalog["definedMappings"] == {"name": "string"}


def test_items_that_iterable_refuses_cost_no_other(make_shop: Any) -> None:
    """A refusal names nobody: the upload is halved until the item stands alone."""
    shop = make_shop(catalog_max_item_bytes=500)
    shop.goods(*(good(number) for number in range(20)), good(20, name="x" * 500))
    report = shop.run()
    assert (report["accepted"], report["reasons"]) == (20, {"refused": 1})
    assert len(shop.items) == 20


def test_too_many_items_for_iterable_are_halved(make_shop: Any) -> None:
    """Whatever its limit turns out to be."""
    shop = make_shop(catalog_max_items=4)
    shop.goods(*(good(number) for number in range(30)))
    assert shop.run()["accepted"] == 30
    assert len(shop.items) == 30


@pytest.mark.parametrize("kind", NO_ANSWER)
@pytest.mark.parametrize("endpoint", [TYPES, CREATE, DEFINE, WRITE, DELETE])
def test_a_lost_answer_does_no_harm(make_shop: Any, kind: str, endpoint: str) -> None:
    """One answer lost or broken, of whichever endpoint: the run goes on, and the catalog is made once."""
    shop = make_shop()
    method, _, path = endpoint.partition(" ")
    options: dict[str, Any] = {"on_removed": "delete", "field_types": {"name": "string"}}
    if endpoint == DELETE:
        shop.goods(good(1), good(2))
        shop.run(**options)
        shop.forget_calls()
    # Methods share a path, and a fault is told by path: what comes before passes.
    before = {CREATE: 0, TYPES: 0, DEFINE: 2, WRITE: 0, DELETE: 0}[endpoint]
    shop.sandbox.faults({"kind": kind, "path": path, "times": 1, "after": before, "seconds": 0.0})
    shop.goods(good(1))
    report = shop.run(**options)
    assert (report["status"], report["rejected"], report["deferred"]) == ("succeeded", 0, 0)
    assert shop.sandbox.service.faults.listed()[0]["fired"] == 1
    assert any(call.status in (0, 200, 429, 503) and call.method == method for call in shop.sandbox.calls)
    assert (shop.items, shop.indexed) == ({"sku-1": item(1)}, {"sku-1": ["name"]})
    assert shop.sandbox.project.catalogs.created == {"Shop-1": 1}
    shop.forget_calls()
    assert shop.run(**options)["unchanged"] == 1
    assert not shop.calls


@pytest.mark.parametrize("endpoint", [CREATE, DEFINE])
def test_an_answer_that_cannot_be_read_is_none(shop: Shop, endpoint: str) -> None:
    """Whether it was done is looked up."""
    shop.goods(good(1))
    after = 2 if endpoint == DEFINE else 0
    shop.sandbox.faults({"kind": "malformed", "path": endpoint.partition(" ")[2], "after": after})
    shop.run(field_types={"name": "string"})
    calls = [f"{call.method} {call.template}" for call in shop.sandbox.calls]
    assert calls == [CHANNELS, TYPES, CREATE, TYPES, DEFINE, *([TYPES] if endpoint == DEFINE else []), WRITE]


def test_a_repeated_creation_is_asked_about_first(shop: Shop) -> None:
    """After a creation without an answer the catalog is looked for, and found; there is no second one."""
    shop.goods(good(1))
    shop.sandbox.faults({"kind": "drop_after", "path": CREATE.partition(" ")[2]})
    shop.run()
    assert [f"{call.method} {call.template}" for call in shop.sandbox.calls] == [CHANNELS, TYPES, CREATE, TYPES, WRITE]
    shop.forget_calls()
    shop.call("DELETE", "/Shop-1")
    shop.sandbox.service.faults.clear()
    shop.sandbox.faults({"kind": "drop_before", "path": CREATE.partition(" ")[2]})
    shop.run(sync_id="anew")
    assert [f"{call.method} {call.template}" for call in shop.sandbox.calls] == [
        CHANNELS,
        TYPES,
        CREATE,
        TYPES,
        CREATE,
        TYPES,
        WRITE,
    ]


class SlowIterable:
    """A client, and questions to a project in which what was asked for shows late, with a history."""

    def __init__(self, *found: dict[str, str] | None, answers: tuple[str, ...] = ("",)) -> None:
        self.queue, self.answers = deque(found), deque(answers)
        self.history: list[Any] = []

    def get_catalog_types(self, client: Any, catalog: str) -> dict[str, str] | None:
        """Look for the catalog."""
        self.history.append("look")
        return self.queue.popleft()

    def create_catalog(self, client: Any, catalog: str) -> str:
        """Create the catalog."""
        self.history.append("create")
        return self.answers.popleft()

    def set_catalog_types(self, client: Any, catalog: str, types: dict[str, str]) -> bool:
        """Take the types."""
        self.history.append(types)
        return self.answers.popleft() == ""

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.history.append(seconds)

    def prepare(self, shop: Shop, **parameters: Any) -> None:
        """Do what an operator does before the first item goes."""
        kind: Any = shop.make(**parameters).kind(IterableHook())
        run: Any = SimpleNamespace(client=self, report=Report("sync", "run", {}))
        with pytest.MonkeyPatch.context() as patched:
            for name in ("get_catalog_types", "create_catalog", "set_catalog_types"):
                patched.setattr(project, name, getattr(self, name))
            kind._with_types(run, kind._found(run))


def test_a_catalog_that_was_created_is_waited_for(shop: Shop) -> None:
    """A new catalog may take a moment to be seen; a creation that was acknowledged is not repeated."""
    iterable = SlowIterable(None, None, None, {})
    iterable.prepare(shop)
    assert iterable.history == ["look", "create", "look", 2.0, "look", 4.0, "look"]
    never = SlowIterable(*[None] * 6)
    with pytest.raises(WorthRetrying, match=r"is not there after 5 tries to create it \(last answer: created\)"):
        never.prepare(shop)


def test_types_that_were_set_without_an_answer_are_looked_up(shop: Shop) -> None:
    """Only what is still missing is set again, and what contradicts by then is an error."""
    types = {"name": "string", "price": "double"}
    iterable = SlowIterable({}, {"name": "string"}, answers=("503", ""))
    iterable.prepare(shop, field_types=types)
    assert iterable.history == ["look", types, "look", 2.0, {"price": "double"}]
    late = SlowIterable(*[{}] * 5, types, answers=("503",) * 5)
    late.prepare(shop, field_types=types)
    assert late.history[-3:] == [16.0, types, "look"], "the last look counts"
    with pytest.raises(ConfigurationError, match="name \\(string declared, long there\\)"):
        SlowIterable({}, {"name": "long"}, answers=("503",)).prepare(shop, field_types=types)
    with pytest.raises(WorthRetrying, match="The types of name, price could not be set"):
        SlowIterable(*[{}] * 6, answers=("503",) * 5).prepare(shop, field_types=types)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (TYPES, "did not return the fields of catalog Shop-1"),
        (CREATE, "The catalog Shop-1 is not there after 5 tries to create it (last answer: 503)"),
        (DEFINE, "did not return the fields of catalog Shop-1"),
    ],
)
def test_what_stays_without_an_answer_is_worth_a_retry(shop: Shop, path: str, message: str) -> None:
    """Nothing is sent, nothing is remembered, and the next run does it all."""
    shop.goods(good(1))
    after = 2 if path == DEFINE else 0
    shop.sandbox.faults({"kind": "5xx_html", "path": path.partition(" ")[2], "times": -1, "after": after})
    said, report = shop.failure(AirflowException, field_types={"name": "string"})
    assert message in said
    assert (report["accepted"], shop.remembered) == (0, [])
    assert WRITE not in shop.calls
    shop.sandbox.service.faults.clear()
    assert shop.run(field_types={"name": "string"})["accepted"] == 1
    assert shop.indexed == {"sku-1": ["name"]}


@pytest.mark.parametrize("kind", NO_ANSWER)
@pytest.mark.parametrize("after", range(0, 9, 2))
def test_faults_anywhere_end_in_the_model(make_shop: Any, kind: str, after: int) -> None:
    """A third of all answers fail for a while: once it is over, the catalog is the model."""
    shop = make_shop(seed=after)
    options: dict[str, Any] = {"on_removed": "delete", "batch_size": 2, "field_types": {"name": "string"}}
    shop.goods(*(good(number) for number in range(8)))
    shop.sandbox.faults(
        {"kind": kind, "path": "/api/catalogs", "times": 12, "probability": 0.34, "after": after, "seconds": 0.0}
    )
    shop.patiently(**options)
    shop.goods(*(good(number, price=9.5) for number in range(3, 9)))
    report = shop.patiently(**options)
    assert (report["rejected"], report["deferred"]) == (0, 0)
    assert shop.items == {f"sku-{number}": item(number, price=9.5) for number in range(3, 9)}
    shop.sandbox.service.faults.clear()
    shop.forget_calls()
    shop.run(**options)
    assert not shop.calls


def test_guards(shop: Shop) -> None:
    """Deletions have a limit of their own, and an empty model is not believed."""
    shop.goods(*(good(number) for number in range(30)))
    shop.run()
    shop.goods(good(1))
    for options, message in (
        ({"max_removed": 1.0, "max_deletes": 28, "on_removed": "delete"}, "max_deletes allows 28"),
        ({}, "29 of 30 remembered rows have left the model"),
    ):
        assert message in shop.failure(AirflowFailException, **options)[0]
    shop.goods()
    assert "The model returned no rows" in shop.failure(AirflowFailException)[0]
    assert len(shop.items) == 30


def test_a_dry_run_changes_nothing(shop: Shop) -> None:
    """It does not even create the catalog; its plan can be approved."""
    shop.goods(good(1), good(2, sku="no_good"))
    planned = shop.run(dry_run=True)
    assert (planned["status"], planned["added"], planned["invalid"]) == ("planned", 1, 1)
    assert shop.calls == {"GET /api/catalogs/{name}/fieldMappings": 1}
    report = shop.run(approved_plan=planned["plan_hash"], max_rejected=1.0)
    assert (report["accepted"], shop.items) == (1, {"sku-1": item(1)})


def test_a_key_that_may_not(make_shop: Any) -> None:
    """A read-only key may not even ask for a catalog."""
    shop = make_shop(read_only_keys=(KEY,))
    shop.goods(good(1))
    message, _ = shop.failure(AirflowFailException)
    assert "refused the API key (HTTP 401 BadApiKey): it is wrong, disabled, of another data centre" in message
    assert f"or may not make this call ({TYPES}). No row was sent." in message
    assert shop.calls == {TYPES: 1}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("method", ["CREATE", "DEFINE"])
def test_the_first_refusal_of_the_key_ends_the_run(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, method: str, status: int
) -> None:
    """Whether it is met by a creation, or by setting types: no item is sent."""
    refused = {"CREATE": CREATE, "DEFINE": DEFINE}[method]

    def request(client: Client, request: Any, rate: float) -> Reply:
        if f"{request.method} {request.template}" == refused:
            return Reply(status=status, body=b'{"msg":"","code":"Forbidden","params":null}')
        return answered(client, request, rate)

    answered = Client.request
    monkeypatch.setattr(Client, "request", request)
    shop.goods(good(1))
    message, report = shop.failure(AirflowFailException, field_types={"price": "double"})
    assert f"refused the API key (HTTP {status} Forbidden)" in message
    assert f"({refused}). No row was sent." in message
    assert WRITE not in shop.calls
    assert report["status"] == "failed"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"catalog_name": "my_shop"}, "catalog_name must be letters, digits and dashes, at most 255"),
        ({"catalog_name": ""}, "catalog_name must be"),
        ({"catalog_name": "x" * 256}, "catalog_name must be"),
        ({"catalog_name": "a/b"}, "catalog_name must be"),
        ({"on_removed": "clear"}, 'on_removed must be "keep" or "delete", not \'clear\''),
        ({"primary_key": ["id", "sku"], "item_id_column": None}, "an item has one ID: name item_id_column"),
        ({"primary_key": []}, "primary_key must be a column, or a list of at least one column"),
        ({"field_types": {"price": "number"}}, "the type of 'price' must be one of boolean, date, geo_location"),
        ({"field_types": {"a.b": "long"}}, "'a.b' is no top-level field"),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(shop: Shop, parameters: dict[str, Any], message: str) -> None:
    """Before there is a run."""
    with pytest.raises(ConfigurationError, match=message):
        shop.make(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"field_types": {"prise": "double"}}, "field_types names prise, which the sync does not send"),
        ({"item_id_column": "nope"}, "The model has no column 'nope'"),
    ],
)
def test_mistakes_are_found_before_the_first_call(shop: Shop, parameters: dict[str, Any], message: str) -> None:
    """Where only the model tells."""
    shop.goods(good(1))
    assert message in shop.failure(AirflowFailException, **parameters)[0]
    assert not shop.calls


def test_every_parameter_is_described() -> None:
    """The page about catalogs lists each parameter of the operator, once, with its default."""
    page = (Path(__file__).parents[2] / "docs" / "catalogs.md").read_text("utf-8")
    section = page.partition("\n## Parameters\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:3] == "| `"
    ]
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(IterableCatalogOperator.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert [row[0].strip("`") for row in rows] == list(known)
    for row in rows:
        default = known[row[0].strip("`")]
        if default not in (None, inspect.Parameter.empty):
            assert row[1] == f"`{default!r}`".replace("'", '"')
