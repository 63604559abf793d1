"""Knows what else happens in the shop, and what Iterable must hold of it; shares no code with what it checks."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

DAGS = {
    "example_iterable_events": "visits, carts and orders",
    "example_iterable_lists": "the list of loyal customers",
    "example_iterable_catalogs": "products on sale",
    "example_iterable_privacy": "requests to be forgotten",
}
"""The example DAGs of the second scene, in their order, and what each is about."""

_TABLES = """
CREATE TABLE visits (id INTEGER, customer_id INTEGER, kind TEXT, page TEXT, happened_at TEXT);
CREATE TABLE carts (customer_id INTEGER, changed_at TEXT, items TEXT);
CREATE TABLE orders (id INTEGER, order_number TEXT, customer_id INTEGER, ordered_at TEXT, items TEXT, total REAL,
                     coupon TEXT);
CREATE TABLE products (id INTEGER, sku TEXT, name TEXT, price REAL, on_sale_since TEXT, attributes TEXT,
                       on_sale INTEGER);
CREATE TABLE forget_requests (request_id TEXT, email TEXT, requested_at TEXT);
"""
_VISITS, _CARTS, _ORDERS, _PRODUCTS = 300, 5, 40, 60


def _items(number: int, price: float) -> str:
    return json.dumps([{"id": f"sku-{number}", "name": f"Thing {number}", "price": price, "quantity": 1 + number % 3}])


class Others:
    """The tables beside the customers, in the same warehouse.

    :param path: the SQLite file
    :param url: where the sandbox is
    """

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url
        self._customers = [number for (number,) in self._rows("SELECT id FROM customers ORDER BY id")]
        self._cart_versions = _CARTS

    def happen(self) -> list[str]:
        """Make the tables, and fill them; say what there is."""
        some, half = self._customers, len(self._customers) // 2
        with closing(sqlite3.connect(self._path)) as database:
            database.executescript(_TABLES)
            database.executemany(
                "INSERT INTO visits VALUES (?, ?, 'Visited', ?, ?)",
                [
                    (n, some[n % (half // 2)], f"/page/{n % 9}", f"2026-02-{1 + n % 28:02d} 10:00:00")
                    for n in range(_VISITS)
                ],
            )
            database.executemany(
                "INSERT INTO carts VALUES (?, '2026-03-01 09:00:00', ?)",
                [(some[half + n], _items(n, 4.5)) for n in range(_CARTS)],
            )
            database.executemany(
                "INSERT INTO orders VALUES (?, ?, ?, '2026-03-01 10:00:00', ?, ?, ?)",
                [
                    (
                        n,
                        f"A-{n}",
                        some[(half + 10 + n) % len(some)],
                        _items(n, 10.0 + n),
                        (10.0 + n) * (1 + n % 3),
                        "SPRING",
                    )
                    for n in range(_ORDERS)
                ],
            )
            database.executemany(
                "INSERT INTO products VALUES (?, ?, ?, ?, '2026-02-01 08:00:00', ?, 1)",
                [(n, f"sku_{n}", f"Thing {n}", 1.5 + n, json.dumps({"shelf": n % 7})) for n in range(_PRODUCTS)],
            )
            database.commit()
        return [f"{_VISITS} visits, {_CARTS} carts, {_ORDERS} orders, {_PRODUCTS} products on sale"]

    def go_on(self) -> list[str]:
        """Let some things change; say what."""
        some, half = self._customers, len(self._customers) // 2
        changes: list[tuple[str, tuple[Any, ...]]] = [
            ("INSERT INTO visits VALUES (1001, ?, 'Visited', '/new', '2026-03-02 10:00:00')", (some[7],)),
            ("DELETE FROM visits WHERE id = 1", ()),
            ("UPDATE carts SET changed_at = '2026-03-02 09:00:00', items = ? WHERE customer_id = ?",
             (_items(9, 2.5), some[half])),
            ("UPDATE orders SET total = 1.0 WHERE id = 3", ()),
            ("UPDATE products SET price = 99.5 WHERE id = 4", ()),
            ("UPDATE products SET on_sale = 0 WHERE id = 5", ()),
            ("UPDATE customers SET order_count = 0 WHERE id = (SELECT min(id) FROM customers WHERE order_count >= 5)",
             ()),
            ("INSERT INTO forget_requests SELECT 'r-' || id, email, '2026-03-02' FROM customers WHERE id IN (?, ?)",
             (some[-1], some[-2])),
        ]  # fmt: skip
        with closing(sqlite3.connect(self._path)) as database, database:
            for statement, values in changes:
                database.execute(statement, values)
        self._cart_versions += 1
        return [
            "a new visit, another cart, an order that changed; a visit that was deleted stays at Iterable",
            "a product got another price, one is no longer on sale, and a customer is no longer loyal",
            "two customers ask to be forgotten",
        ]

    def differences(self) -> tuple[list[str], str]:
        """Compare all of it with what the sandbox holds; return what differs, and what was compared in words."""
        gone = {email for (email,) in self._rows("SELECT lower(email) FROM forget_requests")}
        checks: dict[str, tuple[Any, Any]] = {
            "events": (self._due_events(gone), self._events()),
            "purchases": (self._due_purchases(gone), self._purchases()),
            "carts": (self._due_carts(gone), self._carts()),
            "members of the list": (self._due_members(gone), self._members()),
            "items of the catalog": (self._due_items(), self._items()),
            "forgotten people": ({sha256(email.encode()).hexdigest() for email in gone}, self._forgotten(gone)),
        }
        differing = [f"{name}: {len(due)} expected, and Iterable differs" for name, (due, found) in checks.items()
                     if due != found]  # fmt: skip
        return differing, ", ".join(f"{_size(due)} {name}" for name, (due, _) in checks.items())

    def _due_events(self, gone: set[str]) -> Counter[tuple[str, str, str | None]]:
        rows = self._rows("SELECT kind, lower(email), page FROM visits JOIN customers ON customers.id = customer_id")
        due = Counter((kind, email, page) for kind, email, page in rows if email not in gone)
        ((late,),) = self._rows("SELECT count(*) FROM visits WHERE id = 1")
        if not late:  # it was sent before it was deleted
            ((email,),) = self._rows(f"SELECT lower(email) FROM customers WHERE id = {self._customers[1]}")
            due[("Visited", email, "/page/1")] += 1
        return due

    def _events(self) -> Counter[tuple[str, str, str | None]]:
        found = self._read("events?name=Visited&limit=100000")["events"]
        return Counter((event["eventName"], event["email"], event["dataFields"].get("page")) for event in found)

    def _due_purchases(self, gone: set[str]) -> dict[str, tuple[str, float]]:
        rows = self._rows("SELECT order_number, lower(email), total FROM orders JOIN customers c ON c.id = customer_id")
        return {number: (email, total) for number, email, total in rows if email not in gone}

    def _purchases(self) -> dict[str, tuple[str, float]]:
        found = self._read("purchases?limit=100000")["purchases"]
        return {purchase["id"]: (purchase["email"], purchase["total"]) for purchase in found}

    def _due_carts(self, gone: set[str]) -> dict[str, Any]:
        rows = self._rows("SELECT lower(email), items FROM carts JOIN customers ON customers.id = customer_id")
        due: dict[str, Any] = {email: [item["id"] for item in json.loads(items)] for email, items in rows}
        return {**due, "versions": self._cart_versions}

    def _carts(self) -> dict[str, Any]:
        profiles = self._read("state?users=1")["profiles"]
        carts = {profile["email"]: profile["dataFields"].get("shoppingCartItems") for profile in profiles}
        versions = self._read("events?name=updateCart&limit=0")["count"]
        return {**{email: [item["id"] for item in cart] for email, cart in carts.items() if cart}, "versions": versions}

    def _due_members(self, gone: set[str]) -> set[str]:
        loyal = {email for (email,) in self._rows("SELECT lower(email) FROM customers WHERE order_count >= 5")}
        return loyal - gone

    def _members(self) -> set[str]:
        lists = self._read("lists?members=1&limit=1000000")["lists"]
        return {member["email"] for found in lists for member in found["members"]}

    def _due_items(self) -> dict[str, tuple[str, float]]:
        rows = self._rows("SELECT replace(sku, '_', '-'), name, price FROM products WHERE on_sale = 1")
        return {item: (name, price) for item, name, price in rows}

    def _items(self) -> dict[str, tuple[str, float]]:
        catalogs = self._read("catalogs?items=1&limit=1000000")["catalogs"]
        items = [item for catalog in catalogs for item in catalog["values"]]
        return {item["id"]: (item["value"]["name"], item["value"]["price"]) for item in items}

    def _forgotten(self, gone: set[str]) -> set[str]:
        request = build_opener(ProxyHandler({}))
        request.addheaders = [("Api-Key", "any-key-will-do-here")]
        with request.open(f"{self._url}/api/users/forgotten", timeout=60) as answer:
            hashes: list[str] = json.load(answer)["hashedEmails"]
        left = {profile["email"] for profile in self._read("state?users=1")["profiles"]} & gone
        return {*hashes, *left}

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as database:
            return database.execute(query).fetchall()

    def _read(self, what: str) -> Any:
        with build_opener(ProxyHandler({})).open(f"{self._url}/sandbox/{what}", timeout=60) as answer:
            return json.load(answer)


def _size(due: Any) -> int:
    return due.total() if isinstance(due, Counter) else len(due) - ("versions" in due)
