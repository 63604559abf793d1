"""What is explained of a row is what the next run does with it, over random histories of each kind of sync."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.engine import run as engine
from airflow_provider_iterable.engine.forecast import name
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Accepted, Batch, Outcome
from airflow_provider_iterable.mapping import Column
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterableMergeOperator,
    IterablePrivacyOperator,
    IterableSubscriptionOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.explain import explain_row
from airflow_provider_iterable.runs.explained import Explanation
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.store import Store
from airflow_provider_iterable.syncs.privacy import hashed
from tests.operators.conftest import OPT_IN, Make, World, email

ROWS_PER_CASE = 28
KEYS = range(1, 9)
EMAILS = [email(number) for number in range(1, 6)]
COLUMNS = ("id", "email", "sku", "name", "age")
OPT_OUT, DOUBLE, NO_TYPE = 102165, 102169, 99
ABOUT = (OPT_IN, OPT_OUT, DOUBLE, NO_TYPE)
"""Message types: one that people choose, one that all have, one that needs a click of theirs, and none at all."""
SUBSCRIBED: dict[str, Any] = {
    "subscription_type": "message_type",
    "subscription_id_column": "sku",
    "subscribed_column": "name",
    "subscribed_words": {"x": True, "y": False},
    "consent_at_column": "age",
    "max_subscribed": None,
}
DESTINATIONS = [email(number) for number in range(101, 106)]
Row = tuple[Any, ...]

KINDS: dict[str, tuple[type[IterableModelOperator], dict[str, Any]]] = {
    "users, kept": (IterableUserSyncOperator, {"on_removed": "keep"}),
    "users, cleared": (IterableUserSyncOperator, {"on_removed": "clear"}),
    "users, deleted": (IterableUserSyncOperator, {"on_removed": "delete", "max_deletes": None}),
    "users, updated": (IterableUserSyncOperator, {"mode": "update"}),
    "users, created": (IterableUserSyncOperator, {"mode": "create", "on_removed": "delete", "max_deletes": None}),
    "users, filled": (
        IterableUserSyncOperator,
        {"fields": {"name": Column("name", only_if_empty=True), "age": "age"}},
    ),
    "events": (IterableEventOperator, {"event_type": "custom", "event_name": "seen"}),
    "events with IDs": (
        IterableEventOperator,
        {"event_type": "custom", "event_name": "seen", "event_id_column": "sku"},
    ),
    "members": (IterableListOperator, {"list_name": "VIP"}),
    "items, kept": (IterableCatalogOperator, {"catalog_name": "Shop", "item_id_column": "sku"}),
    "items, deleted": (
        IterableCatalogOperator,
        {"catalog_name": "Shop", "item_id_column": "sku", "on_removed": "delete", "max_deletes": None},
    ),
    "erasures": (IterablePrivacyOperator, {"action": "delete"}),
    "subscriptions, kept": (IterableSubscriptionOperator, SUBSCRIBED),
    "subscriptions, taken back": (IterableSubscriptionOperator, {**SUBSCRIBED, "on_removed": "unsubscribe"}),
    "subscriptions, replaced": (
        IterableSubscriptionOperator,
        {**SUBSCRIBED, "on_removed": "unsubscribe", "exclusive": True},
    ),
    "merges": (
        IterableMergeOperator,
        {"source_email_column": "email", "destination_email_column": "sku", "max_merges": None},
    ),
}
STORES: dict[str, Callable[[Path], Store]] = {
    "compared by the database": lambda folder: TableState(),
    "compared by the worker": lambda folder: TableState(compare="worker", audit=False),
    "objects": lambda folder: ObjectState(f"file://{folder / 'objects'}"),
    "XCom": lambda folder: XComState(),
}
CASES = [
    (kind, store)
    for kind in KINDS
    for store in STORES
    if not (kind in ("erasures", "merges") and store in ("objects", "XCom"))
    and not (kind in ("events",) and store == "XCom")
]


WHOLE = (Reason.MERGES_ITSELF, Reason.MERGE_CHAIN, Reason.MERGE_OF_ERASED)
"""Faults of merges that keep all others from being sent, too."""


class Done:
    """What a run really did, row by row, as seen where it plans, where it settles and where it sends."""

    def __init__(self) -> None:
        self.planned: dict[str, bool] = {}
        """By key: whether a request is to be made."""
        self.settled: dict[str, tuple[str, str | None]] = {}
        self.sent: dict[str, str] = {}
        """By key: the first call."""
        self.refused = False
        """Whether a row kept all others from being sent, which is no matter of a single one."""

    def around(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return a run that is watched."""

        def watched(sync: Any, read: Any, state: Any, send: Any, report: Any, options: engine.Options) -> Any:
            self.__init__()  # type: ignore[misc]

            def sending(batch: Batch) -> Any:
                for operation in batch.operations:
                    self.sent.setdefault(operation.key, name(batch.call))
                return send(batch)

            def observe(what: Plan | Accepted | Outcome) -> None:
                if isinstance(what, Plan):
                    for operation in what.operations():
                        self.planned[operation.key] = self.planned.get(operation.key, False) or bool(operation.call)
                elif isinstance(what, Accepted):
                    self.settled.update((operation.key, ("accepted", None)) for operation in what.operations)
                else:
                    self.settled[what.key] = str(what.fate), None if what.reason is None else str(what.reason)
                    self.refused |= what.reason in WHOLE
                if options.observe is not None:
                    options.observe(what)

            return run(sync, read, state, sending, report, replace(options, observe=observe))

        return watched

    def check(self, key: str, told: Explanation) -> None:
        """Compare with what was explained.

        :raises AssertionError: it is something else
        """
        happened = (self.planned.get(key), self.settled.get(key), self.sent.get(key))
        about = f"{key}: {told.verdict} {told} But: {happened}"
        if self.refused and told.action == "send":
            assert happened[1:] == (None, None), about
            return
        if told.action in ("send", "remove"):
            assert self.sent.get(key) == told.endpoints[0], about
            return
        assert key not in self.sent, about
        if told.action in ("refuse", "wait"):
            assert self.settled.get(key) == (told.fate, told.reason), about
        elif told.action in ("remember", "forget"):
            assert self.planned.get(key) is False, about
        else:
            assert (told.action, happened) == ("nothing", (None, None, None)), about


class Stage(World):
    """A world of one kind of sync and one store, whose model changes at random."""

    kind: str
    store: Store
    resync = "changes"
    people: list[Row]  # type: ignore[assignment]

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        operator, own = KINDS[parameters.pop("kind", self.kind)]
        common: dict[str, Any] = {
            "task_id": parameters.pop("task_id", "sync"),
            "sql": parameters.pop("sql", "SELECT * FROM users"),
            "sql_conn_id": "warehouse",
            "primary_key": "id",
            "state": self.store,
            "allow_empty": True,
            "max_removed": None,
            "max_rejected": 1.0,
            "resync": self.resync,
        }
        if operator not in (IterableCatalogOperator, IterableMergeOperator):
            common["email_column"] = "email"
        if operator not in (IterablePrivacyOperator, IterableSubscriptionOperator, IterableMergeOperator):
            common["fields"] = {"name": "name", "age": "age"}
        return operator(**{**common, **own, **parameters})

    def explained(self, given: str) -> Explanation:
        """Explain a row."""
        operator = self.make()
        context = {
            "run_id": "next",
            "ti": SimpleNamespace(try_number=1, map_index=-1),
            "inlet_events": {operator.asset: list(self.events)},
        }
        return explain_row(operator, context, given)  # type: ignore[arg-type]


def _row(kind: str, chance: random.Random, number: int) -> Row:
    if kind == "merges":  # no two keys have a source in common: whether rows go together is no matter of a single one
        source = email(number + 10 * chance.randint(0, 1)) if chance.random() < 0.9 else chance.choice(["nobody", None])
        return (number, source, chance.choice(DESTINATIONS) if chance.random() < 0.9 else source, "x", 1)
    if kind.startswith("subscriptions"):
        person = chance.choice(EMAILS[:3] if chance.random() < 0.85 else ["nobody", None, " Person1@Example.com"])
        about = chance.choice([OPT_IN, OPT_IN, OPT_OUT, OPT_OUT, DOUBLE, NO_TYPE, None])
        return (number, person, about, chance.choice("xxyyz"), chance.choice(["2020-01-01", "2021-01-01", None]))
    person = chance.choice(EMAILS if chance.random() < 0.85 else ["nobody", None, " Person1@Example.com"])
    sku = f"sku-{chance.randint(1, 5)}" if chance.random() < 0.9 else chance.choice(["no good", None])
    # The types of an event's fields are told by refusals, also while the run goes on: they depend on other rows.
    age: Any = chance.randint(1, 3) if chance.random() < 0.85 or kind.startswith("events") else "old"
    return (number, person, sku, chance.choice("xyz"), age)


def _change(world: Stage, chance: random.Random) -> None:
    """Let rows be added, changed, removed, repeated or spoilt."""
    rows = {row[0]: row for row in world.people if row[0] is not None}
    for number in KEYS:
        if chance.random() < 0.2:
            rows.pop(number, None)
        elif chance.random() < 0.4:
            rows[number] = _row(world.kind, chance, number)
    extra = [_row(world.kind, chance, chance.choice(KEYS)) for _ in range(chance.choice((0, 0, 0, 1, 2)))]
    extra += [(None, *_row(world.kind, chance, 0)[1:])] * (chance.random() < 0.1)
    world.people = [*rows.values(), *extra]
    chance.shuffle(world.people)
    world.rows(*world.people, columns=COLUMNS)


def _trouble(world: Stage, chance: random.Random) -> None:
    """Let answers be lost, a killed run leave announced requests, or somebody be erased."""
    tables = isinstance(world.store, TableState)
    what = chance.choice(("none", "none", "lost", "killed", "erased"))
    if what == "lost":
        world.sandbox.faults({"kind": "drop_after", "path": "/api", "times": chance.randint(1, 20)})
        with suppress(AirflowException):
            world.run()
        world.sandbox.service.faults.clear()
    elif what == "killed" and tables and world.kind != "merges":
        _kill(world, chance)
    elif what == "erased" and tables and world.kind != "erasures":
        person = chance.choice([EMAILS[0], DESTINATIONS[0]] if world.kind == "merges" else EMAILS)
        asked = f"SELECT {world.runs} AS id, '{person}' AS email"
        with suppress(AirflowException):
            world.run(kind="erasures", task_id="erase", sql=asked)


def _kill(world: Stage, chance: random.Random) -> None:
    """Leave behind what a killed run does: a request that is announced and not settled."""
    with closing(sqlite3.connect(world.warehouse)) as connection:
        query = "SELECT sync_id, record_key, ref FROM iterable_sync_state WHERE fingerprint <> '' AND sync_id LIKE ?"
        known = connection.execute(query, ("%sync",)).fetchall()
        if known:
            sync_id, key, ref = chance.choice(known)
            doubts = json.dumps([[key, NEVER_EQUAL.hex(), ref, NEVER_EQUAL.hex()]])
            connection.execute("INSERT OR REPLACE INTO iterable_sync_intents VALUES (?, 0, 0, ?)", (sync_id, doubts))
            connection.commit()


def _given(world: Stage, chance: random.Random, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield keys as somebody gives them, and as the state has them."""
    for key in keys:
        value, *rest = json.loads(key)
        yield chance.choice((key, key.replace("person", "Person") if rest else str(value))), key


def _keys(world: Stage) -> list[str]:
    if world.kind == "members":
        return [json.dumps([email]) for email in EMAILS]
    if world.kind.startswith("subscriptions"):
        return [f'["{person}","messageType",{about}]' for person in EMAILS[:3] for about in ABOUT]
    return [json.dumps([number]) for number in KEYS]


@pytest.mark.parametrize(("kind", "store"), CASES)
def test_what_is_explained_is_what_the_next_run_does(
    kind: str, store: str, make_world: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key is explained first; then the run is made, and did with each row what was said."""
    done, chance = Done(), random.Random(f"{kind} {store}")
    monkeypatch.setattr(engine, "run", done.around(engine.run))
    made = make_world()
    world = Stage(made.sandbox, made.warehouse, made.project_type)
    world.kind, world.store, world.people = kind, STORES[store](tmp_path), []
    for number in (1, 2, 3, *((4, 5, 101, 102, 103) if kind == "merges" else ())):
        world.create(number)
    explained = 0
    # What the types of fields are is decided by all rows of a run, and so is no matter of a single one.
    world.people = [(number, EMAILS[number], f"sku-{number}", "x", 1) for number in range(len(EMAILS))]
    if kind == "merges" or kind.startswith("subscriptions"):
        world.people = []
    world.rows(*world.people, columns=COLUMNS)
    world.run()
    while explained < ROWS_PER_CASE:
        _change(world, chance)
        _trouble(world, chance)
        if chance.random() < 0.5:
            _change(world, chance)
        again = ("full", "baseline") if kind.startswith(("users", "subscriptions")) else ()
        world.resync = chance.choice(("changes",) * 8 + again)
        told = {key: world.explained(given) for given, key in _given(world, chance, _keys(world))}
        with suppress(AirflowException):
            world.run()
        for key, explanation in told.items():
            done.check(hashed(key) if kind == "erasures" else key, explanation)
        explained += len(told)


def test_the_law_is_about_a_thousand_rows() -> None:
    """That is what it promises."""
    assert ROWS_PER_CASE * len(CASES) >= 1000
