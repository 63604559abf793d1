"""What the sync-runs page says of a row without the Dag's code is what the next run does, for each kind of sync."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Literal

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.sqlite.hooks.sqlite import SqliteHook

from airflow_provider_iterable.engine import run as engine
from airflow_provider_iterable.engine.report import REPORT_KEY
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
from airflow_provider_iterable.runs.explained import Explanation
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.syncs.privacy import hashed
from airflow_provider_iterable.ui.audit import Found, Last, reader_of
from airflow_provider_iterable.ui.explained import Told
from tests.operators.conftest import Make, World, email, uid
from tests.operators.test_explain_law import Done

COLUMNS = ("id", "email", "uid", "new_email", "sku", "event_id", "items", "total", "name", "wanted")
ITEMS = json.dumps([{"id": "i", "name": "Item", "price": 1.5, "quantity": 1}])
EMAIL, NAME = {"email_column": "email"}, {"fields": {"name": "name"}}
PURCHASE = {**EMAIL, "event_type": "purchase", "items_column": "items", "total_column": "total", **NAME}
CUSTOM = {**EMAIL, "event_type": "custom", "event_name": "seen", **NAME}
SUBSCRIPTION = {
    **EMAIL,
    "subscription_type": "message_type",
    "subscription_id": 102165,
    "subscribed_column": "wanted",
    "consent_waived": "a test",
}
CATALOG = {"catalog_name": "Shop", "item_id_column": "sku", **NAME}

KINDS: dict[str, tuple[type[IterableModelOperator], dict[str, Any], str]] = {
    "users": (IterableUserSyncOperator, {**EMAIL, **NAME}, "/api/users/bulkUpdate"),
    "users, cleared": (IterableUserSyncOperator, {**EMAIL, **NAME, "on_removed": "clear"}, "/api/users/bulkUpdate"),
    "users, deleted": (IterableUserSyncOperator, {**EMAIL, **NAME, "on_removed": "delete"}, "/api/users/bulkUpdate"),
    "users, updated": (IterableUserSyncOperator, {**EMAIL, **NAME, "mode": "update"}, "/api/users/bulkUpdate"),
    "users, updated, known": (
        IterableUserSyncOperator,
        {**EMAIL, **NAME, "mode": "update", "recheck_known_users": "never"},
        "/api/users/bulkUpdate",
    ),
    "users, created": (
        IterableUserSyncOperator,
        {**EMAIL, **NAME, "mode": "create", "on_removed": "delete"},
        "/api/users/bulkUpdate",
    ),
    "addresses by email": (
        IterableUserSyncOperator,
        {**EMAIL, "mode": "change_email", "new_email_column": "new_email"},
        "/api/users/updateEmail",
    ),
    "addresses by user ID": (
        IterableUserSyncOperator,
        {"user_id_column": "uid", "mode": "change_email", "new_email_column": "new_email"},
        "/api/users/updateEmail",
    ),
    "events": (IterableEventOperator, CUSTOM, "/api/events/trackBulk"),
    "events with IDs": (IterableEventOperator, {**CUSTOM, "event_id_column": "event_id"}, "/api/events/trackBulk"),
    "purchases": (IterableEventOperator, PURCHASE, "/api/commerce/trackPurchase"),
    "purchases with IDs": (
        IterableEventOperator,
        {**PURCHASE, "event_id_column": "event_id"},
        "/api/commerce/trackPurchase",
    ),
    "carts": (
        IterableEventOperator,
        {**EMAIL, "event_type": "cart", "items_column": "items", "user_fields": {"name": "name"}},
        "/api/commerce/updateCart",
    ),
    "members": (IterableListOperator, {**EMAIL, **NAME, "list_name": "VIP"}, "/api/lists/subscribe"),
    "subscriptions": (IterableSubscriptionOperator, SUBSCRIPTION, "/api/subscriptions/{group}/{id}"),
    "subscriptions, taken back": (
        IterableSubscriptionOperator,
        {**SUBSCRIPTION, "on_removed": "unsubscribe"},
        "/api/subscriptions/{group}/{id}",
    ),
    "merges": (
        IterableMergeOperator,
        {"source_email_column": "email", "destination_email_column": "new_email", "create_destination": True},
        "/api/users/merge",
    ),
    "items": (IterableCatalogOperator, CATALOG, "/api/catalogs/{name}/items"),
    "items, deleted": (IterableCatalogOperator, {**CATALOG, "on_removed": "delete"}, "/api/catalogs/{name}/items"),
    "deletions": (IterablePrivacyOperator, {**EMAIL, "action": "delete"}, "/api/users/{email}"),
    "forgetting": (IterablePrivacyOperator, {**EMAIL, "action": "forget"}, "/api/users/forget"),
    "unforgetting": (IterablePrivacyOperator, {**EMAIL, "action": "unforget"}, "/api/users/unforget"),
}
"""An operator of each row of the table of sync types, and the path that writes its rows."""

Before = Literal["unknown", "accepted", "doubted when new", "doubted when changed", "erased", "rejected"]
ERASABLE = [name for name in KINDS if name.startswith("users") or name == "members"]
SENDS_CHANGES = [
    *(name for name in ERASABLE if name != "users, created"),
    *("events with IDs", "purchases with IDs", "items", "items, deleted", "addresses by user ID"),
]
FORGETS_LEAVERS = [
    *ERASABLE,
    "subscriptions",
    "subscriptions, taken back",
    "items",
    "items, deleted",
    "addresses by user ID",
]
BEFORE: dict[Before, list[str]] = {
    "unknown": list(KINDS),
    "accepted": list(KINDS),
    "doubted when new": [name for name in KINDS if name not in ("deletions", "merges")],
    "doubted when changed": SENDS_CHANGES,
    "erased": ERASABLE,
    "rejected": [
        name for name in KINDS if name != "members" and not name.startswith("subscriptions")
    ],  # of which a bad address is no key
}
CASES = [(before, kind) for before, kinds in BEFORE.items() for kind in kinds]


class Stage(World):
    """A world of one kind of sync, with one row that somebody asks about and one that nobody does."""

    kind: str

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        operator, own, _ = KINDS[parameters.pop("kind", self.kind)]
        common: dict[str, Any] = {
            "task_id": "sync", "sql": "SELECT * FROM users", "sql_conn_id": "warehouse", "state": TableState(),
            "primary_key": "id", "max_removed": None, "max_rejected": 1.0, **own, **parameters,
        }  # fmt: skip
        return operator(**common)

    def row(self, number: int, version: int = 0, *, bad: bool = False) -> tuple[Any, ...]:
        """Return a row; each version has another payload, and a bad one cannot be sent."""
        by_id = self.kind == "addresses by user ID"
        new = "nobody" if bad and by_id else f"new{version}-{number}@example.com"
        sku = "no good" if bad else f"sku-{number}"
        others = "action" in KINDS[self.kind][1] and version > 0  # a request holds nothing but whom it is about
        address = "nobody" if bad else f"other{version}@example.com" if others else email(number)
        items = ITEMS if version == 0 else ITEMS.replace("Item", f"Item {version}")
        return (
            number,
            address,
            uid(number),
            new,
            sku,
            f"event-{number}",
            items,
            2.5 + version,
            f"name {version}",
            version == 0,
        )

    def model(self, *rows: tuple[Any, ...]) -> None:
        """Let the model be these rows and the one that nobody asks about."""
        self.rows(*rows, self.row(9), columns=COLUMNS)

    def go(self, **parameters: Any) -> None:
        """Run, however that ends."""
        with suppress(AirflowException):
            self.run(**parameters)

    @property
    def key(self) -> str:
        """The key of the row that somebody asks about, as they know it."""
        return email(1) if self.kind == "members" or self.kind.startswith("subscriptions") else "1"

    @property
    def name(self) -> str:
        """The same as the state has it."""
        key = json.dumps([email(1)]) if self.kind == "members" else "[1]"
        if self.kind.startswith("subscriptions"):
            key = json.dumps([email(1), "messageType", 102165], separators=(",", ":"))
        return hashed(key) if "action" in KINDS[self.kind][1] else key

    def prepare(self, before: Before) -> None:
        """Let the row have the past that it is to have."""
        for number in () if self.kind == "users, created" else (1, 9):
            self.create(number)
        if before != "doubted when new":
            self.model(*([] if before == "unknown" else [self.row(1, bad=before == "rejected")]))
            self.go()
        if before.startswith("doubted"):
            self.model(self.row(1, int(before.endswith("changed"))))
            self.sandbox.faults({"kind": "drop_after", "path": KINDS[self.kind][2], "times": -1})
            self.go()
            self.sandbox.service.faults.clear()
        if before == "erased":
            asked = f"SELECT 1 AS id, '{email(1)}' AS email"
            self.run(kind="deletions", task_id="erase", sql=asked)
            assert self.xcoms.pop((f"run-{self.runs}", REPORT_KEY))["accepted"] == 1

    def asked(self) -> Found:
        """Return what the page has of the row."""
        *_, report = (value for (_, key), value in self.xcoms.items() if key == REPORT_KEY)
        reader = reader_of(report, SqliteHook, report["sync_id"])
        assert reader is not None
        try:
            return reader.row(self.key)
        finally:
            reader.close()


def memory(before: Before, kind: str) -> str:
    """Return what is remembered of a row with such a past."""
    if (before == "doubted when new" and kind not in FORGETS_LEAVERS) or before in ("unknown", "rejected"):
        return "nothing"  # a new row of a sync that fires once is sent again, by the ID that it had
    if before.startswith("doubted") and not (before.endswith("changed") and kind not in SENDS_CHANGES):
        return "in_doubt"
    return before if before == "erased" else "accepted"


def expected(told: Told, last: Last | None) -> Explanation:
    """Return what is told as the law about explanations takes it."""
    refused = told.action == "refuse"
    changed = refused and "another pair" in told.verdict
    reason = (
        None if not refused else "pair_changed" if changed else last.reason if last is not None else "erased_person"
    )
    rejected = changed or (last is not None and last.status == "failed")
    fate = None if not refused else "rejected" if rejected else "skipped"
    return Explanation(
        sync_id="", action=told.action, endpoints=told.endpoints, fate=fate, reason=reason, verdict=told.verdict
    )


@pytest.mark.parametrize("case", [0, 1, 2], ids=["same", "other", "gone"])
@pytest.mark.parametrize(("before", "kind"), CASES)
def test_what_the_page_says_is_what_the_next_run_does(
    before: Before, kind: str, case: int, make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each case that only the model decides: the row as it was, with another payload, or not there."""
    done = Done()
    monkeypatch.setattr(engine, "run", done.around(engine.run))
    made = make_world()
    world = Stage(made.sandbox, made.warehouse, made.project_type)
    world.kind = kind
    world.prepare(before)
    found = world.asked()
    told = found.explained
    assert told.memory == memory(before, kind)
    assert len(told.cases) == 3
    doubted_change = before == "doubted when changed"
    tried = world.row(1, int(doubted_change), bad=before == "rejected")
    world.model(*([tried], [world.row(1, 2)], [])[case])
    world.go()
    last = None if before == "erased" else found.last
    done.check(world.name, expected(told.cases[case], last))
    if case < 2 and told.cases[case].action != "refuse":
        said = {"send": True, "remember": False, "nothing": False}[told.cases[case].action]
        assert (world.name in done.sent) is said
