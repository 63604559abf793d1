"""What customers chose, and who turned out to be one person: the tables, and what Iterable must hold of them."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from airflow_provider_iterable.demo.check import Check
from airflow_provider_iterable.demo.others import Step

MERGES = "example_iterable_merges"
STEPS = (
    Step("example_iterable_subscriptions", "choices", "choices of message types"),
    Step(MERGES, "merges", "merges"),
)
"""The third scene, in its order."""

_TABLES = """
CREATE TABLE message_preferences (customer_id INTEGER, email TEXT, message_type_id INTEGER, choice TEXT,
                                  consented_at TEXT);
CREATE TABLE merges (merge_id INTEGER, old_email TEXT, kept_email TEXT);
"""
_PEOPLE = """
SELECT id, lower(email) FROM customers WHERE lower(email) NOT IN (SELECT lower(email) FROM forget_requests)
ORDER BY id LIMIT 10 OFFSET 10
"""
"""Ten of the first, who are those with visits."""
_CONSENT = "2026-03-01 08:00:00"
_CHOOSING, _OLD, _KEPT, _CHAIN = slice(0, 3), slice(3, 5), slice(5, 7), slice(7, 10)
"""Of these ten: who chooses; who is merged, into whom; and a chain that is refused."""


class Choices:
    """The tables of choices and merges, in the same warehouse.

    :param path: the SQLite file, in which the tables of the second scene are
    :param url: where the sandbox is
    """

    steps = STEPS

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url
        self.people: list[tuple[int, str]] = self._rows(_PEOPLE)
        """Number and address of each customer in the story."""
        kinds = {kind["name"]: kind for kind in self._read("api/messageTypes")["messageTypes"]}
        names = ("Newsletter", "Offers by push", "Product tips")
        self.newsletter, self.push, self.tips = (kinds[name]["id"] for name in names)
        self.receipts = kinds["Receipts"]["id"]
        self._opt_in = {kind["id"] for kind in kinds.values() if kind["subscriptionPolicy"] == "OptIn"}
        self._due: dict[tuple[str, int], str] = {}
        """What was ever chosen: a row that leaves takes nothing back."""
        self._visits: Counter[str] = Counter()

    def happen(self) -> list[str]:
        """Make the tables, fill them, and have one person choose something at Iterable; say what there is."""
        number, ada = self.people[0]
        self._visits = self._found_visits()
        self._due[ada, self.receipts] = "out"
        self._post("api/users/updateSubscriptions", {"email": ada, "unsubscribedMessageTypeIds": [self.receipts]})
        choices = {self.newsletter: "in", self.push: "out", self.tips: "in"}
        with closing(sqlite3.connect(self._path)) as database, database:
            database.executescript(_TABLES)
        for customer, email in self.people[_CHOOSING]:
            for kind, choice in choices.items():
                self._choose(customer, email, kind, choice)
        self._merge(*zip(self.people[_OLD], self.people[_KEPT], strict=True))
        return [
            "three customers chose, each about Newsletter, Offers by push and Product tips",
            f"at Iterable, customer {number} has left Receipts, of which the warehouse knows nothing",
            *(
                f"customer {old[0]} is the same person as customer {kept[0]}"
                for old, kept in zip(self.people[_OLD], self.people[_KEPT], strict=True)
            ),
        ]

    def go_on(self) -> list[str]:
        """Let somebody change their mind, and a row leave; say what."""
        changing, leaving, _ = self.people[_CHOOSING]
        self._execute("DELETE FROM message_preferences WHERE customer_id = ? AND message_type_id = ?",
                      changing[0], self.newsletter)  # fmt: skip
        self._choose(*changing, self.newsletter, "out")
        self._execute("DELETE FROM message_preferences WHERE customer_id = ? AND message_type_id = ?",
                      leaving[0], self.tips)  # fmt: skip
        return [
            f"customer {changing[0]} wants no Newsletter any more",
            f"the row of customer {leaving[0]} about Product tips was deleted, which takes nothing back",
            "the two merges are there as before: each is made once",
        ]

    def chain(self) -> list[str]:
        """Let two merges come that cannot go beside one another; say which."""
        first, second, third = self.people[_CHAIN]
        self._merge((first, second), (second, third))
        return [
            f"customer {first[0]} is to be merged into {second[0]}, and {second[0]} into {third[0]}",
            "a merge cannot be taken back, so a chain is refused as a whole",
        ]

    def differences(self, check: Check, customers: Iterable[dict[str, Any]]) -> tuple[list[str], list[str]]:
        """Compare the choices and the merges with what the sandbox holds.

        :returns: what differs, and what was compared, in words
        """
        del check, customers  # what a merge leaves of two profiles is no row of theirs
        profiles = {each["email"]: each["dataFields"] for each in self._read("sandbox/state?users=1")["profiles"]}
        joined, left = (
            {(email, kind) for email, fields in profiles.items() for kind in fields.get(name, ())}
            for name in ("subscribedMessageTypeIds", "unsubscribedMessageTypeIds")
        )
        due_joined = {what for what, choice in self._due.items() if choice == "in" and what[1] in self._opt_in}
        due_left = {what for what, choice in self._due.items() if choice == "out" and what[1] not in self._opt_in}
        old, kept = ([email for _, email in self.people[part]] for part in (_OLD, _KEPT))
        here, visits = {email for _, email in self.people if email in profiles}, self._found_visits()
        due_here = {email for _, email in self.people} - {*old}
        due_visits = {into: self._visits[into] + self._visits[source] for source, into in zip(old, kept, strict=True)}
        checks: dict[str, tuple[Any, Any]] = {
            "message types joined": (due_joined, joined),
            "message types left": (due_left, left),
            "who is there": (due_here, here),
            "visits of who was merged": (due_visits, {email: visits[email] for email in kept}),
        }
        differences = [f"{name}: {due} expected, {found} at Iterable" for name, (due, found) in checks.items()
                       if due != found]  # fmt: skip
        return differences, [
            f"{len(due_joined)} message types joined, {len(due_left)} left, all others as they were",
            f"{len(old)} profiles gone, with their {sum(self._visits[email] for email in old)} visits in those kept",
        ]

    def _choose(self, customer: int, email: str, kind: int, choice: str) -> None:
        self._due[email, kind] = choice
        self._execute("INSERT INTO message_preferences VALUES (?, ?, ?, ?, ?)", customer, email, kind, choice, _CONSENT)

    def _merge(self, *pairs: tuple[tuple[int, str], tuple[int, str]]) -> None:
        for old, kept in pairs:
            self._execute("INSERT INTO merges VALUES (?, ?, ?)", old[0], old[1], kept[1])

    def _found_visits(self) -> Counter[str]:
        events = self._read("sandbox/events?name=Visited&limit=100000")["events"]
        return Counter(event["email"] for event in events)

    def _execute(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self._path)) as database, database:
            database.execute(statement, values)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as database:
            return database.execute(query).fetchall()

    def _read(self, what: str) -> Any:
        return self._open(Request(f"{self._url}/{what}", headers=_HEADERS))

    def _post(self, path: str, body: Any) -> None:
        headers = {**_HEADERS, "Content-Type": "application/json"}
        self._open(Request(f"{self._url}/{path}", json.dumps(body).encode(), headers))

    def _open(self, request: Request) -> Any:
        with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)


_HEADERS = {"Api-Key": "any-key-will-do-here"}
