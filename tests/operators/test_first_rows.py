"""Fields of types that nothing tells: a few rows go alone first, and what is refused of them is known from then on."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
import requests

from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterableMergeOperator,
    IterableSubscriptionOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.runs.first import FEW
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import BULK, FIELDS, KEY, OPT_IN, Make, World, email

EVENTS = "POST /api/events/trackBulk"
PURCHASES = "POST /api/commerce/trackPurchase"
CARTS = "POST /api/commerce/updateCart"
LISTS = "POST /api/lists/subscribe"
ITEMS = "POST /api/catalogs/{name}/items"
MANY = 400
"""Rows of a model, which go in batches of 50."""


class Stage(World):
    """A world with a model of numbered rows that have a score."""

    def scores(self, *scores: Any, **columns: Any) -> None:
        """Let the model have a row for each score."""
        self.model(*({"score": score, **columns} for score in scores))

    def model(self, *rows: dict[str, Any]) -> None:
        """Let the model be these rows, which are about a person each."""
        names = ["id", "email", "sku", *rows[0]]
        values = [(n, email(n), f"sku-{n}", *row.values()) for n, row in enumerate(rows)]
        with closing(sqlite3.connect(self.warehouse)) as connection:
            connection.execute("DROP TABLE IF EXISTS users")
            connection.execute(f"CREATE TABLE users ({', '.join(names)})")
            connection.executemany(f"INSERT INTO users VALUES ({', '.join('?' * len(names))})", values)
            connection.commit()

    def make(self, **parameters: Any) -> Any:
        """Make an operator of a kind."""
        kind = parameters.pop("kind", "events")
        common: dict[str, Any] = {
            "task_id": "sync",
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "primary_key": "id",
            "state": TableState(),
            "batch_size": 50,
            "max_rejected": 1.0,
            **({} if kind in ("carts", "subscriptions", "merges") else {"fields": {"score": "score"}}),
            **({} if kind in ("catalogs", "merges") else {"email_column": "email"}),
            **parameters,
        }
        if kind == "users":
            return IterableUserSyncOperator(**common)
        if kind == "lists":
            return IterableListOperator(list_name="VIP", **common)
        if kind == "subscriptions":
            told: dict[str, Any] = {"subscription_type": "message_type", "subscription_id": OPT_IN}
            return IterableSubscriptionOperator(consent_waived="a test", **told, **common)
        if kind == "merges":
            common["sql"] = "SELECT *, 'kept' || email AS kept FROM users"
            sides: dict[str, Any] = {"source_email_column": "email", "destination_email_column": "kept"}
            return IterableMergeOperator(create_destination=True, **sides, **common)
        if kind == "catalogs":
            return IterableCatalogOperator(catalog_name="Shop", item_id_column="sku", **common)
        if kind == "purchases":
            return IterableEventOperator(event_type="purchase", items_column="items", total_column="total", **common)
        if kind == "carts":
            return IterableEventOperator(event_type="cart", items_column="items", **common)
        named: dict[str, Any] = {} if "event_name_column" in common else {"event_name": "Played"}
        return IterableEventOperator(**named, **common)

    def track(self, name: str, **fields: Any) -> None:
        """Have somebody else's event decide the types of fields."""
        self.post("/api/events/track", {"email": "else@example.com", "eventName": name, "dataFields": fields})

    def post(self, path: str, body: Any) -> None:
        """Make a call that the sync does not make."""
        answer = requests.post(f"{self.sandbox.url}{path}", json=body, headers={"Api-Key": KEY}, timeout=10)
        assert answer.status_code == 200
        self.forget_calls()

    def sent(self, endpoint: str) -> list[tuple[int, int]]:
        """Return how many records each request of an endpoint had, and its status, in the order of the answers."""
        calls = [call for call in self.sandbox.service.calls.after() if f"{call.method} {call.template}" == endpoint]
        return [(call.records, call.status) for call in calls]

    @property
    def arrived(self) -> list[Any]:
        """The scores of the events that were tracked by the sync."""
        return sorted((e["dataFields"]["score"] for e in self.sandbox.events if "score" in e["dataFields"]), key=repr)


@pytest.fixture
def make_stage(make_world: Make) -> Any:
    """Make stages; in these projects events make the people."""

    def make(**options: Any) -> Stage:
        world = make_world("email", **options)
        stage = Stage(world.sandbox, world.warehouse, world.project_type)
        users = [{"email": address} for address in (*map(email, range(MANY)), "else@example.com")]
        stage.post("/api/users/bulkUpdate", {"users": users})
        return stage

    return make


def refused(sent: list[tuple[int, int]]) -> list[int]:
    """Return the sizes of requests that were refused."""
    return [records for records, status in sent if status == 400]


@pytest.mark.parametrize("where", ["early", "late", "all over"])
@pytest.mark.parametrize("clues", ["single", "array"])
def test_what_is_refused_of_events_costs_one_small_batch(make_stage: Any, where: str, clues: str) -> None:
    """Wherever the rows are that do not fit; all others arrive."""
    stage = make_stage(offending_value=clues)
    stage.track("Played", score=1)
    bad = {"early": {3}, "late": {MANY - 1}, "all over": set(range(0, MANY, 7))}[where]
    stage.scores(*("n/a" if number in bad else number for number in range(MANY)))
    report = stage.run()
    (size,) = refused(stage.sent(EVENTS))
    assert size <= FEW
    assert (report["accepted"], report["rejected"]) == (MANY - len(bad), len(bad))
    assert report["reasons"] == {"type_mismatch": len(bad)}
    assert len(stage.arrived) == MANY - len(bad) + 1


def test_nothing_else_is_sent_until_the_small_batch_is_settled(make_stage: Any) -> None:
    """The first request is small and alone, and what is left of it goes before the others."""
    stage = make_stage()
    stage.track("Played", score=1)
    stage.scores(*["n/a", 5] * (MANY // 2))
    stage.run()
    records = [n for n, _ in stage.sent(EVENTS)]
    assert max(records[:2]) <= FEW
    calls = [call for call in stage.sandbox.service.calls.after() if call.template == "/api/events/trackBulk"]
    large = [call for call in calls if call.records > FEW]
    small = [call for call in calls if call.records <= FEW]
    assert large
    assert max(call.finished for call in small if call.status == 400) <= min(call.started for call in large)


def test_where_all_rows_are_refused_the_others_are_not_even_sent(make_stage: Any) -> None:
    """One small request shows it."""
    stage = make_stage()
    stage.track("Played", score=1)
    stage.scores(*["n/a"] * MANY)
    report = stage.run()
    assert stage.sent(EVENTS) == [(FEW, 400)]
    assert (report["accepted"], report["rejected"]) == (0, MANY)


def test_values_that_can_be_converted_are(make_stage: Any) -> None:
    """Those of the small batch, too, once the type is known."""
    stage = make_stage()
    stage.track("Played", score=1)
    stage.scores(*(str(number) for number in range(MANY)))
    report = stage.run()
    assert (report["accepted"], refused(stage.sent(EVENTS))) == (MANY, [FEW])
    assert stage.arrived == sorted([1, *range(MANY)], key=repr)


@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_fields_that_were_sent_before_are_not_held_up(make_stage: Any, state: Any) -> None:
    """Neither without news nor with them."""
    stage = make_stage()
    stage.scores(*range(150))
    stage.run(state=state)
    assert stage.sent(EVENTS)[0] == (FEW, 200)
    stage.forget_calls()
    stage.run(state=state)
    assert stage.sent(EVENTS) == []
    stage.scores(*range(300))
    stage.run(state=state)
    assert stage.sent(EVENTS) == [(50, 200)] * 3
    stage.forget_calls()
    stage.model(*({"score": n, "level": n} for n in range(400)))
    stage.run(state=state, fields={"score": "score", "level": "level"})
    assert stage.sent(EVENTS)[0] == (FEW, 200), "one field is new"


@pytest.mark.parametrize("state", [TableState(), XComState()], ids=["table", "xcom"])
def test_what_was_refused_is_not_sent_again_by_the_next_run(make_stage: Any, state: Any) -> None:
    """The type is remembered, for it never changes; a full resync forgets it."""
    stage = make_stage()
    stage.track("Played", score=1)
    stage.scores(*["n/a" if number == 70 else number for number in range(100)])
    stage.run(state=state)
    stage.forget_calls()
    report = stage.run(state=state)
    assert (report["rejected"], stage.sent(EVENTS)) == (1, [])
    report = stage.run(state=state, resync="full")
    assert (report["rejected"], len(refused(stage.sent(EVENTS)))) == (1, 1)


@pytest.mark.parametrize("names", ["bare", "named"])
def test_events_of_each_name_have_types_of_their_own(make_stage: Any, names: str) -> None:
    """What is refused of one is taken of another."""
    stage = make_stage(event_field_names=names)
    stage.track("Played", score=1)
    stage.track("Won", score="gold")
    rows = [{"score": "n/a" if n % 3 else n, "name": "Won" if n % 2 else "Played"} for n in range(MANY)]
    stage.model(*rows)
    report = stage.run(event_name_column="name")
    bad = sum(1 for row in rows if row["name"] == "Played" and row["score"] == "n/a")
    wanted = MANY - bad
    assert (report["accepted"], report["rejected"]) == (wanted, bad)
    assert all(size <= FEW for size in refused(stage.sent(EVENTS)))


def test_a_name_that_was_not_sent_before_goes_first(make_stage: Any) -> None:
    """The fields are known, and not as those of such events."""
    stage = make_stage()
    stage.model(*({"score": n, "name": "Played"} for n in range(100)))
    stage.run(event_name_column="name")
    stage.track("Won", score="gold")
    stage.model(*({"score": n, "name": "Won" if n >= 100 else "Played"} for n in range(300)))
    report = stage.run(event_name_column="name")
    # Whole numbers have a form as texts.
    assert (report["accepted"], refused(stage.sent(EVENTS))) == (200, [FEW])
    stage.forget_calls()
    stage.model(*({"score": n, "name": "Won" if n >= 100 else "Played"} for n in range(400)))
    report = stage.run(event_name_column="name")
    assert (report["accepted"], stage.sent(EVENTS)) == (100, [(50, 200)] * 2)


@pytest.mark.parametrize(
    ("values", "kind", "accepted"),
    [(["n/a", 1, 2, 3], "long", 3), (["soon", "2026-05-31", "2026-06-01"], "date", 2), ([1, 2.5, 2.5], "double", 3)],
)
def test_most_values_decide_what_a_new_field_of_events_becomes(
    make_stage: Any, values: list[Any], kind: str, accepted: int
) -> None:
    """Not those of the first row."""
    stage = make_stage()
    stage.scores(*values)
    report = stage.run()
    assert stage.sandbox.project.event_schema.custom["Played"]["score"] == kind
    assert (report["accepted"], report["rejected"]) == (accepted, len(values) - accepted)


def test_values_are_sent_as_they_are_where_types_are_not_checked(make_stage: Any) -> None:
    """Nothing goes first, and nothing is learned."""
    stage = make_stage()
    stage.track("Played", score=1)
    stage.scores(*["n/a", 5] * (MANY // 2))
    report = stage.run(check_types=False)
    assert (report["accepted"], report["rejected"]) == (MANY // 2, MANY // 2)
    assert refused(stage.sent(EVENTS)) == [50] * (MANY // 50)


def items(**fields: Any) -> str:
    """Return an item with fields of its own."""
    return json.dumps([{"id": "s", "name": "Screw", "price": 0.5, "quantity": 1, "dataFields": fields}])


def test_types_of_a_cart_are_those_of_the_profile(make_stage: Any) -> None:
    """What does not fit is not sent at all."""
    stage = make_stage()
    cart = {"user": {"email": "else@example.com"}, "items": json.loads(items(size=1))}
    stage.post("/api/commerce/updateCart", cart)
    stage.model(*({"items": items(size=size)} for size in (5, "6", "large")))
    report = stage.run(kind="carts")
    assert (report["accepted"], report["rejected"], stage.calls[FIELDS]) == (2, 1, 1)
    assert stage.sent(CARTS) == [(1, 200)] * 2
    assert report["reasons"] == {"type_mismatch": 1}


def test_types_of_purchases_are_learned(make_stage: Any) -> None:
    """Each has a request of its own; a few of them show what the others need not try."""
    stage = make_stage()
    bought = {"user": {"email": "else@example.com"}, "items": json.loads(items(size=1)), "total": 1.0}
    stage.post("/api/commerce/trackPurchase", {**bought, "dataFields": {"score": 1}})
    rows = [{"items": items(size="large" if n % 2 else n), "score": "n/a" if n % 5 == 4 else n} for n in range(100)]
    stage.model(*({**row, "total": 1.0} for row in rows))
    report = stage.run(kind="purchases")
    good = sum(1 for n in range(100) if n % 2 == 0 and n % 5 != 4)
    assert (report["accepted"], report["rejected"]) == (good, 100 - good)
    assert len(refused(stage.sent(PURCHASES))) <= FEW


@pytest.mark.parametrize(("kind", "endpoint"), [("users", BULK), ("lists", LISTS), ("catalogs", ITEMS)])
def test_new_fields_of_others_go_first_too(make_stage: Any, kind: str, endpoint: str) -> None:
    """There, types are told, and values that disagree are settled before; once sent, nothing is held up."""
    stage = make_stage()
    stage.scores(*range(200))
    stage.run(kind=kind)
    assert stage.sent(endpoint)[0] == (FEW, 202 if kind == "catalogs" else 200)
    assert len(stage.sent(endpoint)) == 1 + 4
    stage.forget_calls()
    stage.scores(*range(1, 201))
    stage.run(kind=kind)
    assert len(stage.sent(endpoint)) == 4
    assert stage.sent(endpoint)[0][0] == 50


@pytest.mark.parametrize(("kind", "endpoint"), [("users", BULK), ("catalogs", ITEMS)])
def test_too_many_fields_are_refused_once(make_stage: Any, kind: str, endpoint: str) -> None:
    """The small batch shows it, and no other is sent."""
    stage = make_stage(max_fields=1, catalog_max_fields=1)
    stage.model(*({"score": n, "level": n} for n in range(200)))
    with pytest.raises(Exception, match="fields"):
        stage.run(kind=kind, fields={"score": "score", "level": "level"})
    assert stage.sent(endpoint) == [(FEW, 400)]


def test_declared_types_of_a_catalog_need_no_trial(make_stage: Any) -> None:
    """They are Iterable's before the first item goes; values that do not fit are not sent."""
    stage = make_stage()
    stage.scores(*("n/a" if number == 99 else number for number in range(100)))
    report = stage.run(kind="catalogs", field_types={"score": "long"})
    assert (report["accepted"], report["rejected"]) == (99, 1)
    assert sorted(records for records, _ in stage.sent(ITEMS)) == [49, 50]


def test_types_that_are_not_told_are_learned(make_stage: Any) -> None:
    """A profile's, too, if Iterable does not answer."""
    stage = make_stage()
    stage.post("/api/users/update", {"email": "else@example.com", "dataFields": {"score": 1}})
    stage.sandbox.faults({"kind": "5xx_html", "path": "/api/users/getFields", "times": -1})
    stage.scores(*("n/a" if number % 90 == 89 else number for number in range(MANY)))
    report = stage.run(kind="users")
    assert (report["accepted"], report["rejected"]) == (MANY - 4, 4)
    (size,) = refused(stage.sent(BULK))
    assert size <= FEW


def test_a_field_that_is_first_seen_late_is_found(make_stage: Any) -> None:
    """Most rows lack it."""
    stage = make_stage()
    stage.track("Played", score=1)
    stage.scores(*[None] * (MANY - 2), "n/a", 7)
    report = stage.run()
    (size,) = refused(stage.sent(EVENTS))
    assert size <= FEW
    assert (report["accepted"], report["rejected"]) == (MANY - 1, 1)
