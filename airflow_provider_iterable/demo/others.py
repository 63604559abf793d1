"""The tables beside the customers, and what Iterable must hold of them; shares no code with what it checks."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from airflow_provider_iterable.demo.check import Check


@dataclass(frozen=True)
class Step:
    """An example DAG of the second scene."""

    dag_id: str
    label: str
    about: str
    """What its rows are, in words."""
    leave_out: str | None = None
    """A pattern of tasks that are marked as done instead of being run."""


STEPS = (
    # The rest of this DAG sends what the others send as well, and waits a minute in between.
    Step("example_iterable_email_change_order", "emails", "changes of address", "let_it_settle|sync_.*"),
    Step("example_iterable_users", "users", "customers"),
    Step("example_iterable_events", "events", "visits, carts and orders"),
    Step("example_iterable_lists", "list", "loyal customers"),
    Step("example_iterable_catalogs", "catalog", "products on sale"),
    Step("example_iterable_privacy", "privacy", "requests to be forgotten"),
)
"""The second scene, in its order: an address changes before anything is written under the new one."""

BESIDE = frozenset(
    (
        "lastCoupon",
        "shoppingCartItems",
        "emailListIds",
        "userListIds",
        "subscribedMessageTypeIds",
        "unsubscribedChannelIds",
        "unsubscribedMessageTypeIds",
    )
)
"""Profile fields that carts and purchases write, and those that Iterable writes itself once somebody is on a list."""

_TABLES = """
CREATE TABLE email_changes (change_id INTEGER, old_email TEXT, new_email TEXT);
CREATE TABLE visits (id INTEGER, customer_id INTEGER, kind TEXT, page TEXT, happened_at TEXT);
CREATE TABLE carts (customer_id INTEGER, changed_at TEXT, items TEXT);
CREATE TABLE orders (id INTEGER, order_number TEXT, customer_id INTEGER, ordered_at TEXT, items TEXT, total REAL,
                     coupon TEXT);
CREATE TABLE products (id INTEGER, sku TEXT, name TEXT, price REAL, on_sale_since TEXT, attributes TEXT,
                       on_sale INTEGER);
CREATE TABLE forget_requests (request_id TEXT, email TEXT, requested_at TEXT);
"""
_VISITS, _CARTS, _ORDERS, _PRODUCTS = 300, 5, 40, 60
_LOYAL = "SELECT id FROM customers WHERE order_count >= 5 ORDER BY id"


def _items(number: int, price: float) -> str:
    return json.dumps([{"id": f"sku-{number}", "name": f"Thing {number}", "price": price, "quantity": 1 + number % 3}])


class Others:
    """The tables beside the customers, in the same warehouse.

    :param path: the SQLite file
    :param url: where the sandbox is
    """

    steps = STEPS

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url
        loyal = [number for (number,) in self._rows(_LOYAL)]
        self._moving, self._leaving, self._slackening = loyal[:3]
        cast = set(loyal[:3])
        self._others = [
            number for (number,) in self._rows("SELECT id FROM customers ORDER BY id") if number not in cast
        ]
        self._late_visits: list[tuple[str, str, str]] = []
        self._cart_updates = _CARTS

    def happen(self) -> list[str]:
        """Make the tables, and fill them; say what there is."""
        visitors = [self._moving, self._leaving, self._slackening, *self._others]
        many, buyers = len(visitors) // 4, [self._leaving, *self._others[::-1]]
        tables: dict[str, list[tuple[Any, ...]]] = {
            "visits": [
                (n, visitors[n % many], "Visited", f"/page/{n % 9}", f"2026-02-{1 + n % 28:02d} 10:00:00")
                for n in range(_VISITS)
            ],
            "carts": [(visitors[3 * n], "2026-03-01 09:00:00", _items(n, 4.5)) for n in range(_CARTS)],
            "orders": [
                (n, f"A-{n}", buyers[n], "2026-03-01 10:00:00", _items(n, 10.0 + n), (10.0 + n) * (1 + n % 3), "SPRING")
                for n in range(_ORDERS)
            ],
            "products": [
                (n, f"sku_{n}", f"Thing {n}", 1.5 + n, "2026-02-01 08:00:00", json.dumps({"shelf": n % 7}), 1)
                for n in range(_PRODUCTS)
            ],
        }  # fmt: skip
        with closing(sqlite3.connect(self._path)) as database, database:
            database.executescript(_TABLES)
            for name, rows in tables.items():
                database.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        return [
            f"{_VISITS} visits, {_CARTS} carts, {_ORDERS} orders, {_PRODUCTS} products on sale",
            "customers with five orders or more are loyal",
            "nobody changed their email address, and nobody asked to be forgotten",
        ]

    def go_on(self) -> list[str]:
        """Let some things change; say what."""
        ((visit, *deleted),) = self._rows(
            "SELECT visits.id, kind, lower(email), page FROM visits JOIN customers ON customers.id = customer_id "
            f"WHERE customer_id = {self._others[1]} LIMIT 1"
        )
        self._late_visits.append((deleted[0], deleted[1], deleted[2]))
        move, new = self._moving, f"moved.{self._moving}@example.com"
        with closing(sqlite3.connect(self._path)) as database, database:
            do = database.execute
            do("INSERT INTO email_changes SELECT 1, email, ? FROM customers WHERE id = ?", (new, move))
            do("UPDATE customers SET email = ? WHERE id = ?", (new, move))
            do("INSERT INTO visits VALUES (1001, ?, 'Visited', '/new', '2026-03-02 10:00:00')", (self._others[5],))
            do("DELETE FROM visits WHERE id = ?", (visit,))
            do("UPDATE carts SET changed_at = '2026-03-02 09:00:00', items = ? WHERE customer_id = ?",
               (_items(9, 2.5), self._others[0]))  # fmt: skip
            do("UPDATE orders SET total = 1.0, coupon = 'SORRY' WHERE id = 3")
            do("UPDATE products SET price = 99.5 WHERE id = 4")
            do("UPDATE products SET on_sale = 0 WHERE id = 5")
            do("UPDATE customers SET order_count = 4 WHERE id = ?", (self._slackening,))
            do("INSERT INTO forget_requests SELECT 'r-' || id, email, '2026-03-02' FROM customers WHERE id IN (?, ?)",
               (self._leaving, self._others[-1]))  # fmt: skip
        self._cart_updates += 1
        return [
            f"customer {move} has the new email address {new}",
            "a visit is new, one was deleted; a cart, an order and a price changed; a product is off sale",
            f"customer {self._slackening} cancelled orders and is loyal no more",
            f"customers {self._leaving} and {self._others[-1]} ask to be forgotten; both have bought something",
        ]

    def differences(self, check: Check, customers: Iterable[dict[str, Any]]) -> tuple[list[str], list[str]]:
        """Compare all of it with what the sandbox holds.

        :param check: compares profiles
        :param customers: the customers in the warehouse
        :returns: what differs, and what was compared, in words
        """
        gone = {email for (email,) in self._rows("SELECT lower(email) FROM forget_requests")}
        state = self._read("state?users=1")
        profiles = {profile["email"]: profile["dataFields"] for profile in state["profiles"]}
        users = check([row for row in customers if row["email"].lower() not in gone], beside=BESIDE)
        checks: dict[str, tuple[Any, Any]] = {
            "events": (self._due_events(gone), self._events()),
            "purchases": (self._due_purchases(gone), self._purchases(profiles)),
            "carts": (self._due_carts(gone), _carts(profiles)),
            "cart updates": (self._cart_updates, self._read("events?name=updateCart&limit=0")["count"]),
            "members of the list": (self._due_members(gone), self._members()),
            "items of the catalog": (self._due_items(), self._items()),
            "forgotten people": (
                {sha256(email.encode()).hexdigest() for email in gone},
                {*state["forgotten"]["emails"]},
            ),
        }
        differences = [_difference(name, due, found) for name, (due, found) in checks.items() if due != found]
        compared = [f"{_size(due):,} {name}" for name, (due, _) in checks.items()]
        return [*users.differences[:5], *differences], [f"{users.equal:,} users ({users.fields:,} values)", *compared]

    def _due_events(self, gone: set[str]) -> Counter[tuple[str, str, str]]:
        rows = self._rows("SELECT kind, lower(email), page FROM visits JOIN customers ON customers.id = customer_id")
        # A visit that left the warehouse after it was sent stays at Iterable.
        return Counter(row for row in [*rows, *self._late_visits] if row[1] not in gone)

    def _events(self) -> Counter[tuple[str, str, str]]:
        found = self._read("events?name=Visited&limit=100000")["events"]
        return Counter((event["eventName"], event["email"], event["dataFields"]["page"]) for event in found)

    def _due_purchases(self, gone: set[str]) -> dict[str, tuple[Any, ...]]:
        rows = self._rows(
            "SELECT order_number, lower(email), total, coupon FROM orders JOIN customers ON customers.id = customer_id"
        )
        return {number: (email, total, coupon, coupon) for number, email, total, coupon in rows if email not in gone}

    def _purchases(self, profiles: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
        coupons = {email: fields.get("lastCoupon") for email, fields in profiles.items()}
        return {
            found["id"]: (email := found["email"], found["total"], found["dataFields"]["coupon"], coupons[email])
            for found in self._read("purchases?limit=100000")["purchases"]
        }

    def _due_carts(self, gone: set[str]) -> dict[str, list[str]]:
        rows = self._rows("SELECT lower(email), items FROM carts JOIN customers ON customers.id = customer_id")
        return {email: [item["id"] for item in json.loads(items)] for email, items in rows if email not in gone}

    def _due_members(self, gone: set[str]) -> set[str]:
        loyal = {email for (email,) in self._rows("SELECT lower(email) FROM customers WHERE order_count >= 5")}
        return loyal - gone

    def _members(self) -> set[str]:
        lists = self._read("lists?members=1&limit=1000000")["lists"]
        return {member["email"] for found in lists for member in found["members"]}

    def _due_items(self) -> dict[str, tuple[Any, ...]]:
        rows = self._rows("SELECT replace(sku, '_', '-'), name, price, attributes FROM products WHERE on_sale = 1")
        return {item: (name, price, json.loads(attributes)) for item, name, price, attributes in rows}

    def _items(self) -> dict[str, tuple[Any, ...]]:
        catalogs = self._read("catalogs?items=1&limit=1000000")["catalogs"]
        items = {item["id"]: item["value"] for catalog in catalogs for item in catalog["values"]}
        return {name: (item["name"], item["price"], item["attributes"]) for name, item in items.items()}

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as database:
            return database.execute(query).fetchall()

    def _read(self, what: str) -> Any:
        with build_opener(ProxyHandler({})).open(f"{self._url}/sandbox/{what}", timeout=60) as answer:
            return json.load(answer)


def _carts(profiles: dict[str, Any]) -> dict[str, list[str]]:
    carts = {email: fields.get("shoppingCartItems") for email, fields in profiles.items()}
    return {email: [item["id"] for item in cart] for email, cart in carts.items() if cart}


def _size(due: Any) -> int:
    if isinstance(due, int):
        return due
    return due.total() if isinstance(due, Counter) else len(due)


def _difference(name: str, due: Any, found: Any) -> str:
    """Say by how much the two differ, and give an example."""
    text = f"{name}: {_size(due):,} expected, {_size(found):,} at Iterable"
    if isinstance(due, int):
        return text
    example = min(repr(pair) for pair in _pairs(due) ^ _pairs(found))
    return f"{text}; they differ in {example}"


def _pairs(side: Any) -> set[Any]:
    return {(name, repr(value)) for name, value in side.items()} if isinstance(side, dict) else set(side)
