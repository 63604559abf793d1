from __future__ import annotations

import ast
import inspect
import json
import sqlite3
import textwrap
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.engine.report import NOTHING_REMEMBERED
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.operators import IterableEventOperator
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import CHANNELS, FIELDS, MATCH, Make, World, email, uid
from tests.operators.test_base import loads, methods_of_init

pytestmark = pytest.mark.slow

PROJECTS: tuple[ProjectType, ...] = ("email", "user_id", "hybrid")
TYPES = ("custom", "purchase", "cart")
BULK = "POST /api/events/trackBulk"
PURCHASE = "POST /api/commerce/trackPurchase"
CART = "POST /api/commerce/updateCart"
CALLS = {"custom": BULK, "purchase": PURCHASE, "cart": CART}
SCREW = {"id": "s-1", "name": "Screw", "price": 0.5, "quantity": 10}
COLUMNS = ("id", "event_id", "email", "uid", "name", "at", "items", "total", "plan", "campaign", "tier")
OWN: dict[str, dict[str, Any]] = {
    "custom": {"event_name": "Signed Up", "timestamp_column": "at", "fields": {"plan": "plan"}},
    "purchase": {
        "items_column": "items",
        "total_column": "total",
        "timestamp_column": "at",
        "fields": {"plan": "plan"},
    },
    "cart": {"items_column": "items"},
}


def event(number: int, **changes: Any) -> tuple[Any, ...]:
    """Return a row: something that the person of this number did."""
    whole = {
        "id": number,
        "event_id": f"event-{number}",
        "email": email(number),
        "uid": uid(number),
        "name": "Signed Up",
        "at": "2026-05-31 18:20:00",
        "items": json.dumps([SCREW]),
        "total": 5.0,
        "plan": "free",
        "campaign": None,
        "tier": "gold",
    }
    return tuple({**whole, **changes}[column] for column in COLUMNS)


class Shop(World):
    """A world in which things happen."""

    event_type = "custom"

    def make(self, **parameters: Any) -> IterableEventOperator:
        """Make the operator, matched by what the project uses."""
        event_type = parameters.get("event_type", self.event_type)
        defaults: dict[str, Any] = {
            "task_id": "sync_users",
            "event_type": event_type,
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "primary_key": "id",
            "state": TableState(),
            **OWN.get(event_type, OWN["custom"]),
        }
        if "email_column" not in parameters and "user_id_column" not in parameters:
            column = MATCH[self.project_type]
            defaults["email_column" if column == "email" else "user_id_column"] = column
        return IterableEventOperator(**{**defaults, **parameters})

    def happen(self, *numbers: int, **changes: Any) -> None:
        """Let the model be numbered events, all with these values."""
        self.rows(*(event(number, **changes) for number in numbers), columns=COLUMNS)

    def model(self, *rows: Sequence[Any]) -> None:
        """Let the model be these rows."""
        self.rows(*rows, columns=COLUMNS)

    def know(self, *numbers: int) -> None:
        """Have Iterable know these people: nothing else makes them in an email-based project."""
        for number in numbers:
            self.create(number)

    @property
    def seen(self) -> list[dict[str, Any]]:
        """What Iterable has, in the order in which it was first written."""
        return self.sandbox.purchases if self.event_type == "purchase" else self.sandbox.events

    @property
    def people(self) -> list[str]:  # type: ignore[override]  # here they do something
        """Whom the events are about."""
        return [found["email" if MATCH[self.project_type] == "email" else "userId"] for found in self.seen]


Open = Callable[..., Shop]


@pytest.fixture
def open_shop(make_world: Make) -> Open:
    """Open shops whose first people Iterable knows."""

    def open_shop(event_type: str = "custom", project_type: ProjectType = "email", **options: Any) -> Shop:
        world = make_world(project_type, **options)
        shop = Shop(world.sandbox, world.warehouse, world.project_type)
        shop.event_type = event_type
        return shop

    return open_shop


def who(project_type: str, *numbers: int) -> list[str]:
    """Return by what a project knows people."""
    return [email(number) if MATCH[project_type] == "email" else uid(number) for number in numbers]


@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("event_type", TYPES)
def test_the_life_of_a_row(open_shop: Open, project_type: ProjectType, event_type: str) -> None:
    """A row fires when its key first appears; changed, gone or back again it fires no more."""
    shop = open_shop(event_type, project_type)
    shop.know(1, 2, 3)
    shop.happen(1, 2)
    report = shop.run()
    assert sorted(shop.people) == who(project_type, 1, 2)
    assert (report["status"], report["added"], report["accepted"], report["read"]) == ("succeeded", 2, 2, 2)
    requests = {CHANNELS: {"200": 1}, CALLS[event_type]: {"200": 1 if event_type == "custom" else 2}}
    types = {FIELDS: {"200": 1}} if event_type == "cart" else {}  # a cart is part of a profile
    assert report["requests"] == requests | types

    shop.forget_calls()
    report = shop.run()
    assert (report["unchanged"], report["accepted"], shop.sandbox.calls) == (2, 0, [])

    changed = json.dumps([{**SCREW, "quantity": 11}])
    shop.model(event(1, plan="paid", items=changed), event(3))
    report = shop.run()
    assert (report["added"], report["changed"], report["removed"], report["accepted"]) == (1, 1, 0, 1)
    assert sorted(shop.people) == who(project_type, 1, 2, 3)
    assert shop.remembered == ["[1]", "[2]", "[3]"]

    shop.forget_calls()
    shop.model(event(1, plan="paid", items=changed), event(2), event(3))
    report = shop.run()
    assert (report["unchanged"], report["changed"], shop.sandbox.calls) == (3, 0, [])
    assert [found["writes"] for found in shop.seen] == [1, 1, 1]

    shop.model()
    report = shop.run()
    assert (report["status"], report["read"], report["removed"]) == ("succeeded", 0, 0)
    assert len(shop.remembered) == 3


@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("event_type", ["custom", "purchase"])
@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_with_a_mapped_id_changed_rows_overwrite(
    open_shop: Open, project_type: ProjectType, event_type: str, state: Any
) -> None:
    """The event stays one, with the new data; a row that left and comes back changed overwrites too."""
    shop = open_shop(event_type, project_type)
    shop.know(1, 2)
    options = {"event_id_column": "event_id", "state": state}
    shop.happen(1, 2)
    shop.run(**options)
    assert sorted(found["id"] for found in shop.seen) == ["event-1", "event-2"]
    shop.model(event(1, plan="paid"))
    report = shop.run(**options)
    assert (report["changed"], report["accepted"]) == (1, 1)
    by_id = {found["id"]: found for found in shop.seen}
    assert by_id["event-1"]["dataFields"]["plan"] == "paid"
    assert (by_id["event-1"]["writes"], by_id["event-2"]["writes"]) == (2, 1)
    shop.happen(1, 2, plan="paid")
    report = shop.run(**options)
    assert (report["changed"], report["unchanged"]) == (1, 1)
    assert [found["writes"] for found in sorted(shop.seen, key=lambda found: str(found["id"]))] == [2, 2]
    assert shop.run(**options)["unchanged"] == 2


def test_everything_a_custom_event_can_hold(open_shop: Open) -> None:
    """Name, time in seconds, ID, campaign, template and fields arrive under Iterable's names."""
    shop = open_shop()
    shop.know(1)
    shop.model(event(1, name="Left", at="2026-05-31T20:20:00+02:00", campaign=7, tier=12))
    shop.run(
        event_name=None,
        event_name_column="name",
        event_id_column="event_id",
        campaign_id_column="campaign",
        template_id_column="tier",
        fields={"plan": "plan", "deep.er.price": "total"},
    )
    (found,) = shop.seen
    assert found == {
        "id": "event-1",
        "given": True,
        "eventName": "Left",
        "email": email(1),
        "userId": uid(1),
        "createdAt": "2026-05-31 18:20:00 +00:00",
        "campaignId": 7,
        "templateId": 12,
        "dataFields": {"plan": "free", "deep": {"er": {"price": 5.0}}},
        "writes": 1,
    }


def test_everything_a_purchase_can_hold(open_shop: Open) -> None:
    """The user's fields are merged into the profile, which is made where it is missing; its cart is emptied."""
    shop = open_shop("cart")
    shop.model(event(1, tier="gold"))
    shop.run(user_fields={"tier": "tier", "address.city": "plan"}, create_new_fields=True)
    assert shop.profiles == {email(1): {"tier": "gold", "address": {"city": "free"}, "shoppingCartItems": [SCREW]}}

    shop.event_type = "purchase"
    items = [{**SCREW, "sku": 12, "categories": ["a", "b"], "imageUrl": "i", "url": "u", "dataFields": {"x": 1}}]
    shop.model(event(1, items=json.dumps(items), campaign=7, tier="silver"))
    shop.run(
        sync_id="purchases",
        campaign_id_column="campaign",
        template_id_column="campaign",
        user_fields={"tier": "tier", "address.street": "plan"},
        fields=None,
    )
    (found,) = shop.seen
    assert (found["email"], found["total"], found["campaignId"], found["templateId"]) == (email(1), 5.0, 7, 7)
    assert found["items"] == [{**items[0], "sku": "12"}]
    assert found["createdAt"] == "2026-05-31 18:20:00 +00:00"
    assert set(found["dataFields"]) == {"event_id", "uid", "name"}  # what no other parameter uses
    assert shop.profiles == {
        email(1): {"tier": "silver", "address": {"city": "free", "street": "free"}, "shoppingCartItems": []}
    }


def test_a_row_without_a_time_happens_on_arrival(open_shop: Open) -> None:
    """Null and blank are no time; Iterable takes the time of arrival."""
    for at in (None, ""):
        shop = open_shop()
        shop.know(1)
        shop.happen(1, at=at)
        shop.run()
        (found,) = shop.seen
        assert found["createdAt"] >= datetime.now().isoformat(" ")[:4]


@pytest.mark.parametrize("project_type", PROJECTS)
@pytest.mark.parametrize("event_type", TYPES)
def test_one_identifier_goes_and_the_other_stays(open_shop: Open, project_type: ProjectType, event_type: str) -> None:
    """With both mapped, the project type decides; the other one is not written, not even where it is malformed."""
    shop = open_shop(event_type, project_type)
    if project_type == "email" and event_type == "custom":
        import requests

        requests.post(
            f"{shop.sandbox.url}/api/users/update", json={"email": email(1)}, headers={"Api-Key": "k"}, timeout=10
        )
    other = {"uid": " bad "} if project_type == "email" else {"email": "nobody"}
    shop.happen(1, **other)
    assert shop.run(email_column="email", user_id_column="uid")["accepted"] == 1
    (profile,) = shop.sandbox.project.profiles
    expected = (email(1), None) if project_type == "email" else (None, uid(1))
    assert (profile.email, profile.user_id) == expected


def test_purchases_by_user_id_make_users_in_an_email_project(open_shop: Open) -> None:
    """Iterable is asked to, and makes up an address."""
    shop = open_shop("purchase")
    shop.happen(1)
    assert shop.run(user_id_column="uid")["accepted"] == 1
    (profile,) = shop.sandbox.project.profiles
    assert profile.user_id == uid(1)


@pytest.mark.parametrize("event_type", TYPES)
def test_bad_rows_are_named_and_go_again(open_shop: Open, heard: Callable[[], str], event_type: str) -> None:
    """Nothing of a bad row is sent; once it is mended it fires."""
    shop = open_shop(event_type)
    shop.know(1, 2, 3, 4, 5, 6)
    broken = json.dumps([SCREW, {**SCREW, "price": "cheap"}])
    shop.model(
        event(1),
        event(2, email=None),
        event(3, email="nobody"),
        event(4, **({"at": "yesterday"} if event_type == "custom" else {"items": broken})),
        event(5, at=None),
        event(5),
    )
    report = shop.run(max_rejected=1.0)
    assert (report["accepted"], report["invalid"], report["rejected"]) == (1, 5, 5)
    assert report["reasons"] == {"duplicate_key": 2, "invalid_email": 1, "invalid_event": 1, "no_identifier": 1}
    said = heard()
    if event_type == "custom":
        assert "key [4]: column at: a time expected, string like xxxxxxxxx" in said
    else:
        assert "key [4]: column items: item 2, field price: double expected, string like xxxxx" in said
    assert "cheap" not in said
    shop.happen(1, 2, 3, 4, 5)
    report = shop.run()
    assert (report["added"], report["unchanged"], report["accepted"]) == (4, 1, 4)
    assert len(shop.seen) == 5


def test_a_name_that_is_missing_rejects_its_row(open_shop: Open) -> None:
    """Null and blank are no names."""
    shop = open_shop()
    shop.know(1, 2, 3)
    shop.model(event(1, name=None), event(2, name=" "), event(3))
    report = shop.run(event_name=None, event_name_column="name", max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (1, {"invalid_event": 2})


@pytest.mark.parametrize(("event_type", "bad"), [("custom", "a_b"), ("custom", None), ("purchase", "é" * 257)])
def test_an_id_that_iterable_would_refuse_rejects_its_row(open_shop: Open, event_type: str, bad: Any) -> None:
    """It would refuse a whole batch; a null one could be counted twice."""
    shop = open_shop(event_type)
    shop.know(1, 2)
    shop.model(event(1), event(2, event_id=bad))
    report = shop.run(event_id_column="event_id", max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (1, {"invalid_event": 1})


def test_unknown_and_forgotten_users_are_skipped(open_shop: Open) -> None:
    """A blamed user blames each of their events; they are not remembered, and fire once the user is known."""
    shop = open_shop()
    shop.know(1, 3)
    shop.sandbox.project.forget(email(3), None)
    shop.model(event(1), event(2), event(3), event(4, email=email(2)), event(5, email=email(1)))
    report = shop.run()
    assert (report["accepted"], report["skipped"], report["rejected"]) == (2, 3, 0)
    assert report["reasons"] == {"unknown_user": 2, "forgotten_user": 1}
    assert shop.calls == {BULK: 1}
    assert shop.remembered == ["[1]", "[5]"]
    shop.know(2)
    report = shop.run()
    assert (report["accepted"], report["skipped"]) == (2, 1)
    assert sorted(shop.people) == [email(1), email(1), email(2), email(2)]


@pytest.mark.parametrize("event_type", ["purchase", "cart"])
@pytest.mark.parametrize("status", [400, 409])
def test_forgotten_users_of_single_calls_are_skipped(open_shop: Open, event_type: str, status: int) -> None:
    """Both statuses are documented."""
    shop = open_shop(event_type, forgotten_status=status)
    shop.sandbox.project.forget(email(1), None)
    shop.happen(1, 2)
    report = shop.run()
    assert (report["accepted"], report["skipped"], report["reasons"]) == (1, 1, {"forgotten_user": 1})


@pytest.mark.parametrize("counts", ["failed", "success", "uncounted"])
def test_names_that_are_not_tracked(open_shop: Open, heard: Callable[[], str], counts: str) -> None:
    """However Iterable counts them, their rows are rejected, and those of other names and other users are judged."""
    shop = open_shop(disallowed_events=frozenset({"Blocked"}), disallowed=counts)
    shop.know(1, 2)
    shop.model(event(1), event(2, name="Blocked"), event(3), event(4, email=email(1)), event(5, name="Blocked"))
    report = shop.run(event_name=None, event_name_column="name", max_rejected=1.0)
    assert (report["accepted"], report["rejected"], report["skipped"]) == (2, 2, 1)
    assert report["reasons"] == {"refused": 2, "unknown_user": 1}
    assert shop.calls == {BULK: 1}
    assert shop.remembered == ["[1]", "[4]"]
    assert "key [2]: the project does not track events of this name" in heard()


def test_events_with_one_id_go_one_after_the_other(open_shop: Open) -> None:
    """The greatest key has the last word, whatever the order of rows."""
    shop = open_shop()
    shop.know(1)
    same = {"event_id": "one", "email": email(1)}
    shop.model(event(1, plan="a", **same), event(2, plan="b", **same), event(3, plan="c", **same))
    report = shop.run(event_id_column="event_id", sql="SELECT * FROM users ORDER BY id DESC")
    (found,) = shop.seen
    assert (found["dataFields"], found["writes"]) == ({"plan": "c"}, 3)
    assert (report["accepted"], report["collapsed"]) == (3, 2)
    shop.forget_calls()
    assert shop.run(event_id_column="event_id")["unchanged"] == 3
    assert not shop.calls
    shop.model(event(1, plan="z", **same), event(2, plan="b", **same), event(3, plan="c", **same))
    shop.run(event_id_column="event_id")
    assert [found["dataFields"] for found in shop.seen] == [{"plan": "c"}]


def test_without_a_mapped_id_nothing_collapses(open_shop: Open) -> None:
    """Equal events of one user are as many events, in one request."""
    shop = open_shop()
    shop.know(1)
    shop.happen(1, 2, 3, email=email(1))
    report = shop.run()
    assert (len(shop.seen), report["collapsed"], shop.calls) == (3, 0, {BULK: 1})


def test_carts_of_one_user_go_in_key_order(open_shop: Open) -> None:
    """The cart of the greatest key stays."""
    shop = open_shop("cart")
    rows = [event(n, email=email(1), items=json.dumps([{**SCREW, "quantity": n}])) for n in (3, 1, 2)]
    shop.model(*rows)
    shop.run(sql="SELECT * FROM users")
    assert shop.profiles[email(1)]["shoppingCartItems"] == [{**SCREW, "quantity": 3}]
    assert len(shop.seen) == 3
    shop.model(*rows, event(4, email=email(1), items="[]"))
    report = shop.run()
    assert (report["added"], report["unchanged"], report["accepted"]) == (1, 3, 1)
    assert shop.profiles[email(1)]["shoppingCartItems"] == []


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "5xx_html", "malformed"])
@pytest.mark.parametrize("event_type", ["custom", "purchase"])
@pytest.mark.parametrize("mapped", [None, "event_id"])
def test_with_an_id_a_lost_answer_counts_nothing_twice(
    open_shop: Open, kind: str, event_type: str, mapped: str | None
) -> None:
    """The request goes again, and writes over what it may have written."""
    shop = open_shop(event_type)
    shop.know(1, 2, 3)
    shop.sandbox.faults({"kind": kind, "path": CALLS[event_type].split()[1], "times": 2})
    shop.happen(1, 2, 3)
    report = shop.run(event_id_column=mapped)
    assert (report["accepted"], len(shop.seen), report["reasons"]) == (3, 3, {})


@pytest.mark.parametrize("event_type", ["custom", "purchase"])
def test_a_derived_id_survives_a_lost_state(open_shop: Open, event_type: str) -> None:
    """A restored state sends again, and nothing is counted twice: the IDs are those of before."""
    shop = open_shop(event_type)
    shop.know(1, 2)
    shop.happen(1, 2)
    shop.run()
    with closing(sqlite3.connect(shop.warehouse)) as connection, connection:
        connection.execute("DELETE FROM iterable_sync_state")
    assert shop.run()["accepted"] == 2
    assert [found["writes"] for found in shop.seen] == [2, 2]
    assert all(len(found["id"]) == 32 for found in shop.seen)
    shop.run(sync_id="another")
    assert len(shop.seen) == 4


@pytest.mark.parametrize(("kind", "applied"), [("drop_before", 0), ("drop_after", 1), ("malformed", 1)])
@pytest.mark.parametrize("event_type", ["custom", "purchase"])
def test_without_an_id_nothing_goes_twice(open_shop: Open, kind: str, applied: int, event_type: str) -> None:
    """After a lost answer the event is remembered, told as unconfirmed, and never sent again."""
    shop = open_shop(event_type)
    shop.know(1, 2)
    shop.sandbox.faults({"kind": kind, "path": CALLS[event_type].split()[1]})
    shop.happen(1)
    report = shop.run(derive_ids=False, max_rejected=1.0)
    assert (report["accepted"], report["rejected"], report["reasons"]) == (0, 1, {"unconfirmed": 1})
    assert len(shop.seen) == applied
    shop.forget_calls()
    assert shop.run(derive_ids=False)["unchanged"] == 1
    assert not shop.calls
    shop.happen(1, 2)
    assert shop.run(derive_ids=False)["accepted"] == 1
    assert len(shop.seen) == applied + 1
    assert not any(found["given"] for found in shop.seen)


@pytest.mark.parametrize("event_type", ["custom", "purchase"])
def test_retry_unsafe_sends_again(open_shop: Open, event_type: str) -> None:
    """Who would rather have an event twice than not at all says so."""
    shop = open_shop(event_type)
    shop.know(1)
    shop.sandbox.faults({"kind": "drop_after", "path": CALLS[event_type].split()[1]})
    shop.happen(1)
    report = shop.run(derive_ids=False, retry_unsafe=True)
    assert (report["accepted"], len(shop.seen), report["reasons"]) == (1, 2, {})


def test_without_an_id_a_limited_rate_and_a_refusal_are_safe(open_shop: Open) -> None:
    """Neither was applied: after a 429 the batch goes again, after a 400 it is taken apart."""
    shop = open_shop(max_records=2)
    shop.know(1, 2, 3)
    shop.sandbox.faults({"kind": "429", "path": "/api/events/trackBulk", "times": 2})
    shop.happen(1, 2, 3)
    report = shop.run(derive_ids=False)
    assert (report["accepted"], len(shop.seen), report["reasons"]) == (3, 3, {})


@pytest.mark.parametrize(("kind", "events"), [("drop_before", 1), ("drop_after", 2), ("5xx_html", 1), ("malformed", 2)])
def test_after_a_lost_answer_a_cart_goes_again_and_is_counted(
    open_shop: Open, heard: Callable[[], str], kind: str, events: int
) -> None:
    """The profile is right; that the event may be there twice is in the report."""
    shop = open_shop("cart")
    shop.sandbox.faults({"kind": kind, "path": "/api/commerce/updateCart"})
    shop.happen(1)
    report = shop.run()
    assert (report["accepted"], report["rejected"], report["reasons"]) == (1, 0, {"repeated": 1})
    assert shop.profiles[email(1)]["shoppingCartItems"] == [SCREW]
    assert len(shop.seen) == events
    assert "repeated, 1 row" in heard()
    assert shop.run()["unchanged"] == 1


def test_a_cart_that_had_to_wait_is_no_repeated_one(open_shop: Open) -> None:
    """A 429 says that nothing was done."""
    shop = open_shop("cart")
    shop.sandbox.faults({"kind": "429", "path": "/api/commerce/updateCart", "times": 2})
    shop.happen(1)
    assert shop.run()["reasons"] == {}
    assert len(shop.seen) == 1


@pytest.mark.parametrize("event_type", TYPES)
def test_what_stays_unanswered_is_deferred(open_shop: Open, event_type: str) -> None:
    """With an ID, or for a cart, the next run sends it."""
    shop = open_shop(event_type)
    shop.know(1)
    shop.sandbox.faults({"kind": "5xx_html", "path": CALLS[event_type].split()[1], "times": 5})
    shop.happen(1)
    _, report = shop.failure(AirflowException)
    assert (report["deferred"], report["reasons"], shop.remembered) == (1, {"no_answer": 1}, [])
    assert shop.run()["accepted"] == 1
    assert len(shop.seen) == 1


@pytest.mark.parametrize("named", ["bare", "named"])
@pytest.mark.parametrize("clues", [True, False])
def test_a_wrong_type_costs_its_row_only(open_shop: Open, named: str, clues: bool) -> None:
    """Fields are typed for each event name: what is wrong in one event is right in another of the same request."""
    shop = open_shop(event_field_names=named, hide_clues=not clues)
    shop.know(*range(1, 3))
    shop.model(event(1, name="Numbers", plan=1), event(2, name="Words", plan="free"))
    options = {"event_name": None, "event_name_column": "name"}
    assert shop.run(**options)["accepted"] == 2
    rows = [event(n, email=email(1), name="Words", plan="x") for n in range(10, 60)]
    rows += [event(n, email=email(1), name="Numbers", plan="wrong" if n == 77 else n) for n in range(60, 110)]
    shop.model(*rows)
    shop.forget_calls()
    report = shop.run(**options)
    assert (report["accepted"], report["rejected"], report["reasons"]) == (99, 1, {"type_mismatch": 1})
    assert "[77]" not in shop.remembered
    assert shop.calls[BULK] <= (5 if clues else 20)


def test_a_wrong_type_in_a_purchase_is_told(open_shop: Open, heard: Callable[[], str]) -> None:
    """Its own call is refused, and no other."""
    shop = open_shop("purchase")
    shop.happen(1, plan=1)
    shop.run()
    shop.model(event(2, plan="x"), event(3, plan=3))
    report = shop.run(max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (1, {"type_mismatch": 1})
    assert "key [2]: field plan: long expected, string like x" in heard()


def test_user_fields_are_compared_with_their_types(open_shop: Open, heard: Callable[[], str]) -> None:
    """What can be converted is, what cannot is held back; the types are read once, and only for user fields."""
    shop = open_shop("purchase")
    shop.create(9, tier=1)
    shop.model(event(1, tier="2"), event(2, tier="x"))
    report = shop.run(user_fields={"tier": "tier"}, max_rejected=1.0)
    assert (report["accepted"], report["reasons"]) == (1, {"type_mismatch": 1})
    assert shop.profiles[email(1)]["tier"] == 2
    assert shop.calls == {FIELDS: 1, PURCHASE: 1}
    assert "key [2]: field tier: long expected, string like x" in heard()
    shop.sandbox.faults({"kind": "5xx_html", "path": "/api/users/getFields", "times": 1})
    shop.happen(3, tier=3)
    assert shop.run(user_fields={"tier": "tier"})["accepted"] == 1
    assert "Values are sent without comparing them" in heard()
    shop.sandbox.faults({"kind": "5xx_html", "status": 403, "path": "/api/users/getFields", "times": -1})
    shop.forget_calls()
    shop.happen(5, tier=3)
    message, _ = shop.failure(AirflowFailException, user_fields={"tier": "tier"})
    assert f"{FIELDS} was refused, and not in Iterable's way (HTTP 403)" in message
    assert shop.calls == {FIELDS: 1}
    shop.forget_calls()
    shop.happen(4, tier="5")
    assert shop.run(user_fields={"tier": "tier"}, check_types=False, max_rejected=1.0)["rejected"] == 1
    assert shop.calls == {PURCHASE: 1}


def test_a_limit_of_fields_halts_the_run(open_shop: Open) -> None:
    """No further request could mend it."""
    shop = open_shop(max_event_fields=1)
    shop.know(1)
    shop.happen(1)
    message, _ = shop.failure(AirflowFailException)
    assert "limit of unique fields" in message


def test_unknown_fields_are_created_as_asked(open_shop: Open) -> None:
    """For each event, or for the user of a purchase."""
    shop = open_shop()
    shop.know(1)
    shop.happen(1)
    shop.run(create_new_fields=False)
    assert shop.seen[0]["dataFields"] == {}
    shop.event_type = "purchase"
    shop.run(sync_id="purchases", create_new_fields=False, user_fields={"tier": "tier"})
    assert shop.profiles[email(1)].get("tier") is None
    assert shop.seen[0]["total"] == 5.0


@pytest.mark.parametrize("change", [{"fields": {}}, {"user_fields": {"tier": "tier"}}, {"timestamp_column": None}])
def test_another_mapping_sends_again_what_has_a_mapped_id(open_shop: Open, change: dict[str, Any]) -> None:
    """And says that this is why; without one, nothing goes again and nothing is said."""
    shop = open_shop("purchase")
    shop.happen(1)
    options = {"event_id_column": "event_id", "sync_id": "mapped"}
    assert shop.run(**options)["resend_reason"] == NOTHING_REMEMBERED
    assert shop.run(**options)["resend_reason"] is None
    report = shop.run(**options, **change)
    assert report["resend_reason"] == "the mapping changed, so rows whose payload differs go again"
    assert (report["changed"], report["accepted"]) == (1, 1)
    shop.run()
    report = shop.run(**change)
    assert (report["resend_reason"], report["changed"], report["accepted"]) == (None, 1, 0)


@pytest.mark.parametrize("event_type", ["custom", "purchase"])
@pytest.mark.parametrize("mapped", [None, "event_id"])
def test_with_an_id_every_row_may_go_again(open_shop: Open, event_type: str, mapped: str | None) -> None:
    """A full resync writes over what is there; a baseline remembers rows and sends none."""
    shop = open_shop(event_type)
    shop.know(1, 2, 3)
    shop.happen(1, 2)
    shop.run(event_id_column=mapped)
    assert shop.run(event_id_column=mapped, resync="full")["accepted"] == 2
    assert [found["writes"] for found in shop.seen] == [2, 2]
    shop.happen(1, 2, 3)
    shop.forget_calls()
    assert shop.run(event_id_column=mapped, resync="baseline")["accepted"] == 0
    assert shop.run(event_id_column=mapped)["unchanged"] == 3
    assert not shop.calls


@pytest.mark.parametrize(
    ("event_type", "what"), [("custom", "events without ID"), ("purchase", "events without ID"), ("cart", "carts")]
)
def test_without_an_id_no_row_goes_again(open_shop: Open, event_type: str, what: str) -> None:
    """A full resync would track everything a second time; a baseline is fine."""
    shop = open_shop(event_type)
    options = {"derive_ids": False} if event_type != "cart" else {}
    shop.happen(1)
    message, _ = shop.failure(AirflowFailException, resync="full", **options)
    assert f"{what} would be tracked a second time" in message
    assert not shop.sandbox.calls
    shop.run(resync="baseline", **options)
    assert shop.run(**options)["unchanged"] == 1
    assert not shop.sandbox.calls


def test_a_dry_run_calls_nothing(open_shop: Open) -> None:
    """It tells how many requests there would be."""
    shop = open_shop("purchase")
    shop.happen(1, 2)
    report = shop.run(dry_run=True)
    assert (report["status"], report["added"], shop.sandbox.calls) == ("planned", 2, [])
    assert shop.run(approved_plan=report["plan_hash"])["accepted"] == 2


def test_another_type_of_event_is_another_destination(open_shop: Open) -> None:
    """What was tracked as one thing is not believed to be tracked as another."""
    shop = open_shop("purchase")
    shop.happen(1)
    shop.run()
    message, _ = shop.failure(AirflowFailException, **{"event_type": "cart", **OWN["cart"]})
    assert 'event_type: remembered "purchase", now "cart"' in message


CUSTOM: dict[str, Any] = {"event_type": "custom"}
PARSE_TIME: list[tuple[dict[str, Any], str]] = [
    ({"event_type": "visit", "event_name": None}, 'event_type must be "custom", "purchase" or "cart"'),
    ({"event_name": None}, "needs event_name or event_name_column"),
    ({"event_name_column": "name"}, "needs event_name or event_name_column"),
    ({"event_name": " "}, "event_name must be a text that is not blank"),
    ({"items_column": "items"}, 'items_column has no meaning for event_type="custom"'),
    ({"user_fields": {"tier": "tier"}}, 'user_fields has no meaning for event_type="custom"'),
    ({"event_type": "purchase", "event_name": "x"}, 'event_name has no meaning for event_type="purchase"'),
    ({"event_type": "purchase", "total_column": None}, 'event_type="purchase" needs total_column'),
    ({"event_type": "purchase", "items_column": None}, 'event_type="purchase" needs items_column'),
    ({"event_type": "cart", "items_column": None}, 'event_type="cart" needs items_column'),
    ({"event_type": "cart", "event_id_column": "event_id"}, 'event_id_column has no meaning for event_type="cart"'),
    ({"event_type": "cart", "timestamp_column": "at"}, 'timestamp_column has no meaning for event_type="cart"'),
    ({"event_type": "cart", "fields": {"a": "plan"}}, "A cart has no fields of its own"),
    ({"event_type": "cart", "user_fields": {"email": "email"}}, "user_fields must not name 'email'"),
    ({"event_type": "cart", "user_fields": {"shoppingCartItems": "items"}}, "must not name 'shoppingCartItems'"),
    ({"event_type": "cart", "user_fields": {"a.b.c": "plan"}}, "nested deeper than Iterable merges"),
    ({"event_type": "cart", "user_fields": {"": "plan"}}, "is not a field name"),
    ({"email_column": None, "user_id_column": None}, "Map email_column, user_id_column or both"),
    (
        {"event_type": "cart", "state": XComState()},
        "what a failed try has sent goes again; carts would be tracked a second time",
    ),
    ({"event_type": "cart", "state": None}, "Use state=TableState()"),
    ({"derive_ids": False, "state": XComState()}, "events without ID would be tracked a second time"),
    ({"derive_ids": False, "retry_unsafe": True, "state": None}, "events without ID would be tracked a second time"),
    ({"event_type": "purchase", "derive_ids": False, "state": None}, "Use state=TableState()"),
]


@pytest.mark.parametrize(("parameters", "message"), PARSE_TIME)
def test_mistakes_are_found_when_the_dag_is_parsed(open_shop: Open, parameters: dict[str, Any], message: str) -> None:
    """What makes no sense together is told before anything runs."""
    with pytest.raises(ConfigurationError) as failed:
        open_shop().make(**parameters)
    assert message in str(failed.value)


def test_the_constructor_only_keeps_template_fields() -> None:
    """What is rendered later is assigned under its own name, and not looked at."""
    names = set(IterableEventOperator.template_fields)
    methods = methods_of_init(IterableEventOperator)
    assert {"__init__", "_check_parameters", "_check_state"} <= {method.__name__ for method in methods}
    for method in methods:
        assert loads(ast.parse(textwrap.dedent(inspect.getsource(method))), names) == []


def test_an_id_lets_xcom_remember(open_shop: Open) -> None:
    """With an ID, derived or mapped, what goes twice is there once."""
    shop = open_shop()
    shop.make(state=None)
    shop.make(state=XComState(), derive_ids=False, event_id_column="event_id")


@pytest.mark.parametrize("event_type", TYPES)
def test_a_missing_column_is_found_before_the_first_call(open_shop: Open, event_type: str) -> None:
    """The message lists those there are."""
    shop = open_shop(event_type)
    shop.happen(1)
    wrong = {"timestamp_column": "nope"} if event_type == "custom" else {"items_column": "nope"}
    message, _ = shop.failure(AirflowFailException, **wrong)
    assert "no column 'nope'. Its columns are: id, event_id" in message
    assert not shop.sandbox.calls


@pytest.mark.parametrize("event_type", TYPES)
@pytest.mark.parametrize("kind", ["", "5xx_html", "drop_after", "malformed"])
def test_runs_tell_nothing_private(open_shop: Open, heard: Callable[[], str], event_type: str, kind: str) -> None:
    """Neither address nor value is told, whatever goes wrong."""
    shop = open_shop(event_type)
    shop.know(1, 2)
    shop.sandbox.project.forget(email(2), None)
    secret = "Lovelace-Byron"
    bad = json.dumps([{**SCREW, "price": secret}])
    shop.model(event(1, plan=1), event(2, plan=1), event(3, plan=1), event(4, at=secret, items=bad))
    shop.run(max_rejected=1.0)
    if kind:
        shop.sandbox.faults({"kind": kind, "times": -1})
    shop.model(event(5, plan=secret, email=email(1)), event(6, plan=secret), event(7, at=secret, items=bad))
    said = ""
    try:
        shop.run(max_rejected=1.0)
    except AirflowException as error:
        said = str(error)
    text = heard() + said + json.dumps([*shop.xcoms.values()])
    for private in ("@example.com", secret, "Screw"):
        assert private not in text
