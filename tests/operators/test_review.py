"""What a dry run shows to whoever approves it: operations, fields and shapes, as data and as text."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from typing import Any

import pytest

from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.mapping import Constant, Json
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterableMergeOperator,
    IterablePrivacyOperator,
    IterableSubscriptionOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.plan_text import code, plan_text, prose
from airflow_provider_iterable.runs import review
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import BULK, FIELDS, OPT_IN, Make, email, person

FIELD_NAMES = ("field", "column", "type", "status", "rows", "nulls", "shapes")


def fields(report: Any) -> list[tuple[Any, ...]]:
    """Return what a report tells of fields, but for what they belong to."""
    return [tuple(told[name] for name in FIELD_NAMES) for told in report["plan"]["fields"]]


def operations(report: Any) -> list[tuple[Any, ...]]:
    """Return what a report tells of operations."""
    return [tuple(line.values()) for line in report["plan"]["operations"]]


def test_a_plan_shows_each_field(make_world: Make) -> None:
    """Where it comes from, which type it has or gets, how many rows carry it, and what values look like."""
    world = make_world("email")
    world.create(99, age=1, address={"city": "Rome"})
    world.rows(person(1, name="Ada"), person(2, name="Li"), person(3, name=None, age=None, city="Paris-2"))
    mapping = {"firstName": "name", "age": "age", "address.city": "city", "source": Constant("shop")}
    report = world.run(dry_run=True, fields=mapping)
    assert fields(report) == [
        ("email", "email", "string", "request", 3, 0, ["string like xx***@xx***"]),
        ("firstName", "name", "string", "new", 2, 1, ["string like xxx", "string like xx"]),
        ("age", "age", "long", "exists", 2, 1, ["integer"]),
        ("address.city", "city", "string", "exists", 3, 0, [*shapes_of(person(1)[-1], "Paris-2")]),
        ("source", None, "string", "new", 3, 0, ["string like xxxx"]),
    ]  # fmt: skip
    assert operations(report) == [("upsert users", BULK, 3, 0, 0, 1)]
    assert report["plan"]["summary"] == "upsert users 3, in 0.2 s"
    assert world.calls == Counter({FIELDS: 1})


def shapes_of(*texts: str) -> list[str]:
    """Return the shapes of texts, in their order."""
    return [f"string like {re.sub('[0-9]', '0', re.sub('[A-Za-z]', 'x', text))}" for text in texts]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"create_new_fields": False}, {"age": ("exists", "long"), "city": ("left_out", "string")}),
        ({"check_types": False}, {"age": ("unknown", "long"), "city": ("unknown", "string")}),
        ({"fields": {"age": "city"}}, {"age": ("exists", "long")}),
    ],
)
def test_a_plan_says_what_it_knows_of_a_field(
    make_world: Make, options: dict[str, Any], told: dict[str, tuple[str, str]]
) -> None:
    """The type that the field has at Iterable wins; one that Iterable may not create is left out."""
    world = make_world("email")
    world.create(99, age=1)
    world.people(1, 2)
    report = world.run(**{"dry_run": True, "max_rejected": 10, "fields": {"age": "age", "city": "city"}, **options})
    found = {one["field"]: (one["status"], one["type"]) for one in report["plan"]["fields"] if one["of"] == "profile"}
    assert found == told


def test_a_plan_without_an_answer_does_not_know_types(make_world: Make) -> None:
    """They are those of the values."""
    world = make_world("email")
    world.people(1)
    world.sandbox.set(disabled_keys=("0123456789abcdef0123456789abcdef",))
    report = world.run(dry_run=True, fields={"age": "age"})
    assert [one["status"] for one in report["plan"]["fields"]] == ["request", "unknown"]


def test_a_plan_shows_each_operation(make_world: Make) -> None:
    """New, changed and removed rows by endpoint, in as many requests as they take, look-ups before the writes."""
    world = make_world("email")
    world.people(1, 2, 3, 4)
    options = {"mode": "update", "recheck_known_users": "always", "on_removed": "clear", "max_removed": None}
    for number in range(1, 7):
        world.create(number)
    world.run(**options)
    world.rows(person(1), person(2, name="New"), person(3, name="New"), person(5), person(6))
    report = world.run(dry_run=True, batch_size=2, **options)
    looks = "GET /api/users/getByEmail"
    assert operations(report) == [
        ("look up users", looks, 2, 2, 1, 5),
        ("update users", BULK, 2, 2, 0, 2),
        ("clear fields", BULK, 0, 0, 1, 1),
    ]
    assert {line["endpoint"]: line["requests"] for line in report["forecast"]} == {looks: 5, BULK: 3}
    report = world.run(dry_run=True, **{**options, "on_removed": "delete"})
    assert operations(report)[-1] == ("delete users", "DELETE /api/users/{email}", 0, 0, 1, 1)


def test_rows_are_counted_in_all_of_a_plan(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is looked at at a time; shapes are those of a few."""
    monkeypatch.setattr(review, "_CHUNK", 10)
    monkeypatch.setattr(review, "SAMPLED", 7)
    world = make_world("email")
    world.rows(
        *(person(number, name="x" * (number % 9 + 1), age=number if number % 3 else None) for number in range(60))
    )
    report = world.run(dry_run=True, fields={"name": "name", "age": "age"})
    assert [(one["rows"], one["nulls"]) for one in report["plan"]["fields"]] == [(60, 0), (60, 0), (40, 20)]
    (name,) = [one for one in report["plan"]["fields"] if one["field"] == "name"]
    assert (len(name["shapes"]), 0 < name["more_shapes"] < 6) == (3, True)


def test_a_plan_stays_small(make_world: Make) -> None:
    """Of very many fields those are shown that Iterable does not have; their texts are cut."""
    world = make_world("email")
    names = [f"column_{number}" for number in range(80)]
    world.create(99, **dict.fromkeys(names[:60], "known"))
    world.rows(
        *((number, email(number), *[f"value {'x' * number} " * 20] * 80) for number in range(1, 31)),
        columns=("id", "email", *names),
    )
    report = world.run(dry_run=True, fields=None)
    shown = [told["field"] for told in report["plan"]["fields"]]
    assert (len(shown), report["plan"]["more_fields"]) == (50, 31)
    assert shown == ["email", *names[:29], *names[60:]]
    assert "and 31 more fields" in report["plan_text"]
    assert len(json.dumps(report)) < 40_000


def test_a_plan_tells_no_value(make_world: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Of nobody: not in the report, not in the log; what consists of signs alone is not shown either."""
    world = make_world("email")
    secrets = (
        "Ada Lovelace",
        "ada@secret.example",
        '{"ada@x.example": {"Iban": "DE02"}}',
        "+-+/+",
        "4711",
        "Ünï-Söcret",
    )
    columns = ("id", "email", *(f"c{number}" for number in range(len(secrets))))
    world.rows((1, "somebody@people.example", *secrets), columns=columns)
    report = world.run(dry_run=True, fields={**{name: name for name in columns[2:]}, "c2": Json("c2")})
    told = json.dumps(report) + json.dumps(report, ensure_ascii=False) + caplog.text
    for secret in (*secrets, "somebody", "people.example", "ada@", "Iban", "DE02", "4711", "Söcret"):
        assert secret not in told, secret
    assert [one["shapes"] for one in report["plan"]["fields"]][3:5] == [["object"], ["string of 5 signs"]]


COMMON: dict[str, Any] = {"task_id": "sync_users", "sql_conn_id": "warehouse", "primary_key": "id"}
ITEMS = '[{"id": "1", "name": "Tea", "price": 2.5, "quantity": 1}]'
MODEL = f"SELECT *, '{ITEMS}' AS items, 5 AS total, 'A' || id AS number, '2026-05-31' AS moment FROM users"
EVENT: dict[str, Any] = {"sql": MODEL, "email_column": "email", "state": TableState(), **COMMON}
KINDS: dict[str, tuple[Any, str, list[tuple[Any, ...]]]] = {
    "custom": (
        lambda **given: IterableEventOperator(
            event_type="custom", event_name="Visited", timestamp_column="moment", fields={"city": "city"}, **EVENT,
            **given
        ),
        "track events 2, in 0.2 s",
        [
            ("email", "request", "email", "string", "request"),
            ("eventName", "request", None, "string", "request"),
            ("createdAt", "request", "moment", "long", "request"),
            ("city", "event", "city", "string", "unknown"),
        ],
    ),
    "purchase": (
        lambda **given: IterableEventOperator(
            event_type="purchase", items_column="items", total_column="total", event_id_column="number",
            fields={"city": "city"}, user_fields={"age": "age", "lastCity": "city"}, **EVENT, **given
        ),
        "track purchases 2, in 0.2 s",
        [
            ("email", "request", "email", "string", "request"),
            ("id", "request", "number", "string", "request"),
            ("items", "request", "items", "object", "request"),
            ("total", "request", "total", "double", "request"),
            ("city", "event", "city", "string", "unknown"),
            ("age", "profile", "age", "long", "exists"),
            ("lastCity", "profile", "city", "string", "new"),
        ],
    ),
    "cart": (
        lambda **given: IterableEventOperator(
            event_type="cart", items_column="items", user_fields={"age": "age"}, **EVENT, **given
        ),
        "update carts 2, in 0.2 s",
        [
            ("email", "request", "email", "string", "request"),
            ("items", "request", "items", "object", "request"),
            ("age", "profile", "age", "long", "exists"),
        ],
    ),
    "lists": (
        lambda **given: IterableListOperator(list_name="VIP", fields={"age": "age"}, **EVENT, **given),
        "subscribe members 2, in 0.2 s",
        [
            ("email", "request", "email", "string", "request"),
            ("age", "profile", "age", "long", "exists"),
        ],
    ),
    "catalogs": (
        lambda **given: IterableCatalogOperator(
            table="users", catalog_name="Shop", item_id_column="uid", fields={"name": "name", "age": "age"},
            field_types={"age": "double"}, state=TableState(), **COMMON, **given
        ),
        "write items 2, in 0.2 s",
        [
            ("item ID", "request", "uid", "string", "request"),
            ("name", "item", "name", "string", "new"),
            ("age", "item", "age", "double", "new"),
        ],
    ),
    "privacy": (
        lambda **given: IterablePrivacyOperator(action="forget", **EVENT, **given),
        "forget users 2, in 0.5 s",
        [("email", "request", "email", "string", "request")],
    ),
    "merges": (
        lambda **given: IterableMergeOperator(
            source_email_column="email", destination_email_column="kept",
            sql="SELECT *, 'n' || email AS kept FROM users", state=TableState(), **COMMON, **given
        ),
        "look up users 2, merge users 2, in 0.4 s",
        [
            ("destinationEmail", "request", "kept", "string", "request"),
            ("sourceEmail", "request", "email", "string", "request"),
        ],
    ),
    "subscriptions": (
        lambda **given: IterableSubscriptionOperator(
            subscription_type="message_type", subscription_id_column="about", subscribed_column="wanted",
            consent_waived="a test", **{**EVENT, "sql": f"SELECT *, {OPT_IN} AS about, id = 1 AS wanted FROM users"},
            **given
        ),
        "subscribe people 1, unsubscribe people 1, in 0.2 s",
        [
            ("email", "request", "email", "string", "request"),
            ("messageType", "request", "about", "long", "request"),
            ("subscribed", "request", "wanted", "boolean", "request"),
        ],
    ),
    "change of address": (
        lambda **given: IterableUserSyncOperator(
            mode="change_email", new_email_column="new", **{**EVENT, "sql": "SELECT *, 'n' || email AS new FROM users"},
            **given
        ),
        "change addresses 2, in 0.2 s",
        [
            ("currentEmail", "request", "email", "string", "request"),
            ("newEmail", "request", "new", "string", "request"),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_sync_shows_what_it_sends(make_world: Make, kind: str) -> None:
    """All that its records carry, and nothing else, by the names that Iterable has for it."""
    world = make_world("email")
    world.create(99, age=1)
    world.people(1, 2)
    make, summary, told = KINDS[kind]
    world.make = make  # type: ignore[method-assign]
    report = world.run(dry_run=True)
    plan = report["plan"]
    assert plan["summary"] == summary
    assert [tuple(one[name] for name in ("field", "of", "column", "type", "status")) for one in plan["fields"]] == told
    assert all(one["rows"] == 2 for one in plan["fields"])
    assert sum(line["requests"] for line in plan["operations"]) == sum(line["requests"] for line in report["forecast"])


def test_a_run_does_not_review(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a dry run does that work."""
    monkeypatch.setattr("airflow_provider_iterable.runs.runner.review", lambda *_: pytest.fail("not in a run"))
    world = make_world("email")
    world.people(1)
    report = world.run()
    assert (report["plan"], report["plan_text"], report["accepted"]) == (None, None, 1)


def test_a_plan_with_nothing_to_do_says_so(make_world: Make) -> None:
    """In data and in words."""
    world = make_world("email")
    world.people(1)
    world.run()
    report = world.run(dry_run=True)
    assert (operations(report), report["plan"]["fields"]) == ([], [])
    assert "**Nothing to send**" in report["plan_text"]


def test_the_text_is_what_the_log_says(make_world: Make, caplog: pytest.LogCaptureFixture) -> None:
    """It says where the plan leads, what would be refused and why, and the hash; the log also names rows."""
    world = make_world("email")
    world.create(99, age=1)
    world.people(1, 2, age="old")
    with caplog.at_level(logging.INFO):
        report = world.run(dry_run=True, max_rejected=10)
    assert "types them for ever" not in caplog.text, "the plan says that"
    text = report["plan_text"]
    assert text in caplog.text
    host = world.sandbox.url
    assert f"Goes to host `{host}`, type `users`, match `email`." in text
    assert "| `age`          | `age`   | long            |" in text
    assert "| upsert users | `POST /api/users/bulkUpdate` |     2 |         |         |        1 |" in text
    assert "\n- 2 rows rejected, `type_mismatch`: a value does not have the type that the field has" in text
    assert "\n    - 2 rows: field age: long expected, string like xxx\n" in text
    assert f"Hash of the plan: `{report['plan_hash']}`" in text
    assert "key [1]" in caplog.text
    assert "key [1]" not in text


def test_names_in_the_text_are_shown_as_they_stand() -> None:
    """Whatever they are in Markdown: they may come from a model."""
    report = Report("sync", "run", {"list": "a|b", "type": "lists"}, dry_run=True)
    report.notes.append("the fields are others (new: <b>x</b>, *y*, [z](http://z), sync_id)")
    told = {"of": "profile", "column": "`a|b`\n", "type": "string", "status": "new", "rows": 1, "nulls": 0}
    shown = {**told, "field": "<img>|x", "shapes": ["string like |x`"], "more_shapes": 0}
    report.plan = {"summary": "", "operations": [], "fields": [shown], "more_fields": 0, "refusals": {}}
    text = plan_text(report)
    assert r"\<b\>x\</b\>, \*y\*, \[z\](http://z), sync_id" in text
    (line,) = [line for line in text.splitlines() if "img" in line]
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    assert cells == [r"`<img>\|x`", "`` `a\\|b`\N{REPLACEMENT CHARACTER} ``", "**new: string**", "1", "`` \\|x` ``"]
    assert [code("a"), code("``"), code("")] == ["`a`", "``` `` ```", "`  `"]
    assert prose("_a_ b_c") == r"\_a\_ b_c"
