"""The warehouse of a small shop, in a SQLite file, and the changes in it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

FEWEST = 100
"""Customers below which there would be too few to change, remove and spoil."""

_SCHEMA = """
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, email TEXT, first_name TEXT, last_name TEXT, birth_date TEXT, signed_up_at TEXT NOT NULL,
    last_order_at TEXT, order_count INTEGER NOT NULL, lifetime_value REAL NOT NULL, pets TEXT
);
CREATE TABLE addresses (customer_id INTEGER NOT NULL, street TEXT, city TEXT, postal_code TEXT, country TEXT);
CREATE INDEX addresses_customer ON addresses (customer_id);
"""

_FIRST_NAMES = (
    "Ada Amir Ana Ben Björn Carla Chen Daan Elif Emma Enzo Eva Farid Femi Greta Hana Igor Ines Ivo Jonas Juan Kenji "
    "Lara Leila Liam Lucía Maja Malik Marta Mateo Mina Nadia Noor Olga Omar Otto Pia Priya Rosa Sami Sven Tara Tom Yuki"
)
_LAST_NAMES = (
    "Adeyemi Ahmed Almeida Bauer Berg Bianchi Brown Costa Demir Dubois Eriksen Fischer García Haddad Hansen Horvat "
    "Ivanova Jansen Kaya Kim Kowalski Kumar Larsen Lopez Martin Meyer Moreau Müller Nagy Nguyen Novak Okafor Olsen "
    "Pereira Popescu Rossi Sato Schmidt Silva Singh Smith Tanaka Virtanen Vogel Weber Wilson Yilmaz Zhang"
)
_CITIES = (
    ("Amsterdam", "1012", "NL"), ("Athens", "10557", "GR"), ("Berlin", "10115", "DE"), ("Bergen", "5003", "NO"),
    ("Bologna", "40121", "IT"), ("Boston", "02108", "US"), ("Chicago", "60601", "US"), ("Denver", "80202", "US"),
    ("Geneva", "1201", "CH"), ("Ghent", "9000", "BE"), ("Leeds", "LS1 4AP", "GB"), ("Lyon", "69001", "FR"),
    ("Malmö", "211 18", "SE"), ("Porto", "4000-008", "PT"), ("Seville", "41001", "ES"), ("Toronto", "M5H 2N2", "CA"),
)  # fmt: skip
_STREETS = "Station Road, Mill Lane, High Street, Park Avenue, Church Street, Garden Row, Harbour Walk, Hill Road"
_PETS = {"cat": (2.5, 7.0), "dog": (4.0, 40.0), "rabbit": (1.0, 3.0), "parrot": (0.1, 1.2)}
_PET_NAMES = "Bella Biscuit Coco Ginger Kiwi Luna Max Milo Mochi Nala Oscar Pepper Rex Simba Tofu Ziggy"
_TODAY = datetime(2026, 6, 1, 9, 0)


@dataclass
class Story:
    """What happened in the warehouse, in words, and whose rows cannot be sent because of it."""

    lines: list[str] = field(default_factory=list)
    spoilt: frozenset[int] = frozenset()


class Warehouse:
    """The shop's customers.

    :param path: the SQLite file; it must not exist yet
    :param size: how many customers
    :param seed: of all random choices
    """

    def __init__(self, path: Path, size: int, seed: int = 2026) -> None:
        self.path, self.size = path, size
        self._random = Random(seed)
        self._spoilt: dict[str, int] = {}
        with self._open() as database:
            database.executescript(_SCHEMA)
            for customer in range(1, size + 1):
                self._add(database, customer)

    def rows(self) -> list[dict[str, Any]]:
        """Return every customer with the first address on file, read straight from the tables."""
        query = (
            "SELECT c.*, a.street, a.city, a.postal_code, a.country FROM customers c LEFT JOIN addresses a "
            "ON a.rowid = (SELECT min(rowid) FROM addresses WHERE customer_id = c.id) ORDER BY c.id"
        )
        with self._open() as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query)]

    def change_some(self) -> Story:
        """Let customers come, change and go, and let three kinds of bad data in."""
        changed, gone, zero, twice = self._draw(8, 5, 1, 1)
        new = [self.size + 1, self.size + 2]
        wrong = self.size + 3
        with self._open() as database:
            self._change(database, changed)
            for customer in gone:
                database.execute("DELETE FROM addresses WHERE customer_id = ?", (customer,))
                database.execute("DELETE FROM customers WHERE id = ?", (customer,))
            for customer in (*new, wrong):
                self._add(database, customer)
            database.execute("UPDATE customers SET last_order_at = '0000-00-00 00:00:00' WHERE id = ?", zero)
            database.execute("DELETE FROM addresses WHERE customer_id = ?", twice)
            self._add_address(database, twice[0])
            self._add_address(database, twice[0])
            database.execute("UPDATE customers SET email = 'pia.novak@example' WHERE id = ?", (wrong,))
        self._spoilt = {"zero": zero[0], "twice": twice[0], "wrong": wrong}
        return Story(
            [
                f"{len(new)} customers are new, {len(changed)} changed, {len(gone)} were deleted",
                f"customer {zero[0]} changed too, and last ordered at 0000-00-00 00:00:00",
                f"customer {twice[0]} got a second address, so the model has two rows with that key",
                f"customer {wrong} is new too, with the email address pia.novak@example",
            ],
            frozenset(self._spoilt.values()),
        )

    def mend(self) -> Story:
        """Repair the bad data."""
        zero, twice, wrong = (self._spoilt[name] for name in ("zero", "twice", "wrong"))
        with self._open() as database:
            database.execute("UPDATE customers SET last_order_at = '2026-05-30 18:20:00' WHERE id = ?", (zero,))
            database.execute(
                "DELETE FROM addresses WHERE rowid = (SELECT max(rowid) FROM addresses WHERE customer_id = ?)", (twice,)
            )
            database.execute("UPDATE customers SET email = 'pia.novak@example.com' WHERE id = ?", (wrong,))
        return Story(["the date, the second address and the email address were mended"])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as database, database:
            yield database

    def _draw(self, *sizes: int) -> Iterator[list[int]]:
        drawn = self._random.sample(range(1, self.size + 1), sum(sizes))
        for size in sizes:
            yield sorted(drawn[:size])
            drawn = drawn[size:]

    def _change(self, database: sqlite3.Connection, customers: list[int]) -> None:
        """Some order, one moves, one gets a pet, one has a date of birth no more."""
        mover, owner, forgetful, *buyers = customers
        database.execute("DELETE FROM addresses WHERE customer_id = ?", (mover,))
        self._add_address(database, mover)
        pet = {"name": "Pixel", "species": "cat", "bornOn": "2026-05-02", "weightKg": 0.8}
        database.execute("UPDATE customers SET pets = ? WHERE id = ?", (json.dumps([pet]), owner))
        database.execute("UPDATE customers SET birth_date = NULL, first_name = 'Robin' WHERE id = ?", (forgetful,))
        database.executemany(
            "UPDATE customers SET order_count = order_count + 1, lifetime_value = round(lifetime_value + 24.9, 2), "
            "last_order_at = '2026-05-31 20:15:00' WHERE id = ?",
            [(customer,) for customer in buyers],
        )

    def _add(self, database: sqlite3.Connection, customer: int) -> None:
        draw = self._random
        first, last = draw.choice(_FIRST_NAMES.split()), draw.choice(_LAST_NAMES.split())
        joined = _TODAY - timedelta(minutes=draw.randrange(5 * 365 * 24 * 60))
        orders = draw.choices((0, 1, 2, 3, 5, 8, 13), (20, 30, 20, 12, 10, 6, 2))[0]
        ordered = joined + (_TODAY - joined) * draw.random()
        born = date(1940, 1, 1) + timedelta(days=draw.randrange(66 * 365))
        database.execute(
            "INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                customer,
                f"{_plain(first)}.{_plain(last)}.{customer}@example.{draw.choice(('com', 'org', 'net'))}",
                first,
                last if draw.random() < 0.97 else None,
                born.isoformat() if draw.random() < 0.8 else None,
                joined.isoformat(" ", "seconds"),
                ordered.isoformat(" ", "seconds") if orders else None,
                orders,
                round(sum(draw.uniform(5, 180) for _ in range(orders)), 2),
                json.dumps([self._pet() for _ in range(draw.choices((1, 2, 3), (6, 2, 1))[0])])
                if draw.random() < 0.7
                else None,
            ),
        )
        if draw.random() < 0.9:
            self._add_address(database, customer)

    def _add_address(self, database: sqlite3.Connection, customer: int) -> None:
        street = f"{self._random.choice(_STREETS.split(', '))} {self._random.randrange(1, 200)}"
        database.execute(
            "INSERT INTO addresses VALUES (?, ?, ?, ?, ?)", (customer, street, *self._random.choice(_CITIES))
        )

    def _pet(self) -> dict[str, Any]:
        draw = self._random
        species = draw.choice(tuple(_PETS))
        born = _TODAY.date() - timedelta(days=draw.randrange(90, 12 * 365))
        weight = round(draw.uniform(*_PETS[species]), 1)
        return {
            "name": draw.choice(_PET_NAMES.split()),
            "species": species,
            "bornOn": born.isoformat(),
            "weightKg": weight,
        }


def _plain(name: str) -> str:
    """Return a name as it stands in an email address."""
    return name.lower().translate(str.maketrans("áéíóúöüñ", "aeiououn"))
