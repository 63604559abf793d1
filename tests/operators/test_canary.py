"""A few rows go alone first: whatever is wrong with all rows reaches Iterable with those few, and no other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.mapping import Json
from airflow_provider_iterable.operators import IterablePrivacyOperator
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import BULK, FIELDS, SUBSCRIPTIONS, Make, email
from tests.operators.test_first_rows import EVENTS, ITEMS, LISTS, Stage, items

MANY = 120
SIZES: list[int | float] = [7, 0.05]
Row = dict[str, Any]
TRACK = "/api/events/trackBulk"
NAMED = re.compile(rb"(?:person|sku-)(\d+)")


class Field(Stage):
    """A stage that knows which rows were in requests that write."""

    def watch(self) -> None:
        """Note who is named in each request from now on."""
        self.requests: list[set[int]] = []
        handle = self.sandbox.service.handle

        def noting(incoming: Any, *rest: Any, **more: Any) -> Any:
            said = incoming.path.encode().replace(b"%40", b"@") + incoming.body
            if incoming.method != "GET" and (named := {int(number) for number in NAMED.findall(said)}):
                self.requests.append(named)
            return handle(incoming, *rest, **more)

        self.sandbox.service.handle = noting  # type: ignore[method-assign]

    @property
    def reached(self) -> set[int]:
        """The rows that reached Iterable."""
        return set().union(*self.requests)

    @property
    def kept(self) -> set[int]:
        """The rows that are remembered as accepted."""
        return {int(number) for key in self.remembered for number in re.findall(r"\d+", key)[:1]}


def typed(stage: Field) -> None:
    """Let the field be a number at Iterable, and those of events and items, too."""
    stage.post("/api/users/update", {"email": "else@example.com", "dataFields": {"score": 1}})
    stage.track("Played", score=1)
    body = {"user": {"email": "else@example.com"}, "items": json.loads(items(size=1))}
    stage.post("/api/commerce/trackPurchase", {**body, "total": 1.0})
    stage.post("/api/commerce/updateCart", body)


def unmade(stage: Field) -> None:
    """Let the project have no new fields made."""
    typed(stage)
    stage.sandbox.set(create_new_fields=False)


def known(stage: Field) -> None:
    """Let Iterable have everybody."""
    stage.post("/api/users/bulkUpdate", {"users": [{"email": email(number)} for number in range(MANY)]})


def forgotten(stage: Field) -> None:
    """Let everybody have asked to be forgotten."""
    for number in range(MANY):
        stage.sandbox.project.forget(email(number), None)


def emptied(stage: Field) -> None:
    """Let another project be where the host and key lead, without users, lists and catalogs."""
    stage.sandbox.reset()


def unwilling(path: str, stage: Field) -> None:
    """Let Iterable refuse whatever goes to a path."""
    stage.sandbox.faults({"kind": "5xx_html", "path": path, "times": -1, "status": 400})


def plain(number: int) -> Row:
    """Return a row that nothing is wrong with."""
    return {"score": number, "items": items(size=number), "total": 1.0, "prefs": json.dumps({"color": "red"})}


def text(number: int) -> Row:
    """Return a row whose values have another type."""
    return {**plain(number), "score": f"n/a {number}", "items": items(size=f"large {number}")}


def more(number: int) -> Row:
    """Return a row with another column."""
    return {**plain(number), "score": number + 1, "level": number}


def keyed(number: int) -> Row:
    """Return a row with an object whose members are data."""
    return {**plain(number), "prefs": json.dumps({f"k{number}": "red"})}


def other(number: int) -> Row:
    """Return a row that changed."""
    return {**plain(number), "score": number + 1}


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with all rows.

    :param kind: of sync
    :param words: in the task's message
    :param row: the rows by then
    :param spoil: makes it wrong, beside the rows
    :param parameters: of the run that goes wrong
    :param always: of the run before it, too
    :param before: what is there before all runs
    :param status: of the report
    """

    name: str
    kind: str
    words: str
    row: Callable[[int], Row] = other
    spoil: Callable[[Field], None] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Field], None] = typed
    status: str = "canary_failed"
    when: tuple[str, ...] = ("first", "later")


BOTH = {"fields": {"score": "score", "level": "level"}}
PREFS = {"fields": {"score": "score", "prefs": Json("prefs")}}
FOLLOWING = {"sql": "SELECT id, email, score FROM users", "fields": None}
BLIND = {"check_types": False}
MERGE = "/api/users/merge"
MISTYPED, LEFT_OUT = "type_mismatch", "Iterable left out what it does not have of rows that went first (field level)"
MADE, LOST = "fields that nobody approved, for ever: ", "is about a user at Iterable"

FAULTS = [
    Fault("values of users that are compared", "users", MISTYPED, text),
    Fault("values of users that are not compared", "users", MISTYPED, text, always=BLIND),
    Fault(
        "values of users that are salvaged", "users", "lost fields (partial", text, always={**BLIND, "salvage": True}
    ),
    Fault(
        "a new column",
        "users",
        f"{MADE}level.",
        more,
        parameters={"sql": "SELECT id, email, score, level FROM users"},
        always=FOLLOWING,
    ),
    Fault(
        "a new column that is to be made",
        "users",
        f"{MADE}level.",
        more,
        parameters={"sql": "SELECT id, email, score, level FROM users"},
        always={**FOLLOWING, "create_new_fields": True},
    ),
    Fault(
        "members that are data",
        "users",
        f"{MADE}prefs.",
        keyed,
        always=PREFS,
        before=lambda stage: stage.post(
            "/api/users/update", {"email": "else@example.com", "dataFields": {"score": 1, "prefs": {"color": "red"}}}
        ),
    ),
    Fault("fields that are not to be made", "users", LEFT_OUT, more, parameters={**BOTH, "create_new_fields": False}),
    Fault(
        "fields that the project does not make",
        "users",
        LEFT_OUT,
        more,
        parameters=BOTH,
        before=unmade,
    ),
    Fault("users of another project", "users", LOST, parameters={"mode": "update"}, when=("first",)),
    Fault("users who are gone", "users", LOST, spoil=emptied, parameters={"mode": "update"}, when=("later",)),
    Fault("users who are forgotten", "users", LOST, spoil=forgotten),
    Fault(
        "users whose data is invalid",
        "users",
        "invalid_data",
        spoil=lambda stage: stage.sandbox.set(invalid_data=[email(n) for n in range(MANY)]),
    ),
    Fault(
        "removals that are refused",
        "users",
        "",
        spoil=partial(unwilling, "/api/users/{email}"),
        always={"on_removed": "delete", "max_removed": None},
        when=("gone",),
    ),
    Fault("values of events", "events", MISTYPED, text, when=("first",)),
    Fault("values of events that are not compared", "events", MISTYPED, text, always=BLIND, when=("first",)),
    Fault(
        "events that are not allowed",
        "events",
        "refused",
        options={"disallowed_events": ["Played"]},
        when=("first",),
    ),
    Fault(
        "fields of events that are not to be made",
        "events",
        LEFT_OUT,
        more,
        parameters={**BOTH, "create_new_fields": False},
        when=("first",),
    ),
    Fault(
        "values of purchases",
        "purchases",
        MISTYPED,
        text,
        always={"fields": None, "sql": "SELECT id, email, items, total FROM users"},
        when=("first",),
    ),
    Fault(
        "values of carts",
        "carts",
        MISTYPED,
        text,
        always={**BLIND, "sql": "SELECT id, email, items FROM users"},
        when=("first",),
    ),
    Fault("values of members", "lists", MISTYPED, text, always=BLIND),
    Fault("members of another project", "lists", LOST, always={"update_existing_users_only": True}, when=("first",)),
    Fault(
        "a list that is gone",
        "lists",
        "",
        spoil=emptied,
        status="halted",
        when=("later", "gone"),
        always={"max_removed": None},
    ),
    Fault("values of items", "catalogs", MISTYPED, text, always={"field_types": {"score": "long"}}),
    Fault("items that are refused", "catalogs", "", spoil=partial(unwilling, "/api/catalogs/{name}/items")),
    Fault("users that are refused", "users", "refused", spoil=partial(unwilling, "/api/users/bulkUpdate")),
    Fault("events that are refused", "events", "refused", spoil=partial(unwilling, TRACK), when=("first",)),
    Fault(
        "purchases that are refused",
        "purchases",
        "refused",
        spoil=partial(unwilling, "/api/commerce/trackPurchase"),
        always={"fields": None, "sql": "SELECT id, email, items, total FROM users"},
        when=("first",),
    ),
    Fault(
        "carts that are refused",
        "carts",
        "refused",
        spoil=partial(unwilling, "/api/commerce/updateCart"),
        always={"sql": "SELECT id, email, items FROM users"},
        when=("first",),
    ),
    Fault(
        "subscriptions that are refused",
        "subscriptions",
        "refused",
        spoil=partial(unwilling, SUBSCRIPTIONS),
        when=("first",),
    ),
    Fault("subscriptions of who is forgotten", "subscriptions", LOST, spoil=forgotten, when=("first",)),
    Fault("merges that are refused", "merges", "refused", spoil=partial(unwilling, MERGE), when=("first",)),
    Fault("merges of who is forgotten", "merges", LOST, spoil=forgotten, when=("first",)),
    Fault("members who are forgotten", "lists", LOST, spoil=forgotten, when=("first",)),
    Fault(
        "members whose data is invalid",
        "lists",
        "invalid_data",
        spoil=lambda stage: stage.sandbox.set(invalid_data=[email(n) for n in range(MANY)]),
        when=("first",),
    ),
]
CASES = [
    pytest.param(fault, when, size, id=f"{fault.name}-{when}-{size}")
    for fault in FAULTS
    for when in fault.when
    for size in SIZES
]


@pytest.fixture
def make_field(make_world: Make) -> Any:
    """Make fields."""

    def make(**options: Any) -> Field:
        world = make_world(options.pop("project_type", "email"), **options)
        return Field(world.sandbox, world.warehouse, world.project_type)

    return make


@pytest.mark.parametrize(("fault", "when", "size"), CASES)
def test_faults(make_field: Any, fault: Fault, when: str, size: int | float) -> None:
    """In a first run and in later ones; what was accepted is remembered, and a retry begins with the same rows."""
    stage: Field = make_field(**fault.options)
    if fault.kind in ("events", "purchases", "carts"):
        known(stage)
    fault.before(stage)
    common = {"kind": fault.kind, **fault.always}
    if when != "first":
        stage.model(*map(plain, range(MANY)))
        stage.run(**common)
    most = size if isinstance(size, int) else math.ceil(size * MANY)
    if when == "gone":
        stage.model(*map(plain, range(1)))
        most = size if isinstance(size, int) else math.ceil(size * (MANY - 1))
    else:
        stage.model(*map(fault.row, range(MANY)))
    if fault.spoil is not None:
        fault.spoil(stage)
    before = stage.kept if when != "first" else set()
    stage.watch()
    common |= fault.parameters
    message, report = stage.failure(AirflowFailException, canary=size, **common)
    assert fault.words in message
    assert report["status"] == fault.status
    assert len(stage.reached) <= most
    if fault.status == "canary_failed":
        left = MANY - 1 if when == "gone" else MANY
        assert report["deferred"] == report["reasons"][Reason.CANARY] == left - most
        assert f"; {left - most} were not sent." in message
        assert report["rejected"] + report["accepted"] + report["skipped"] == most
        assert f" {report['accepted']} rows were accepted and are remembered" in message
    reached, accepted = stage.reached, stage.kept - before
    stage.requests.clear()
    if MADE in fault.words and fault.row is more:
        report = stage.run(canary=size, **common)
        assert (report["accepted"], report["rejected"]) == (MANY - most, 0), "the fields are there by now"
        return
    _, again = stage.failure(AirflowFailException, canary=size, **common)
    assert again["status"] == fault.status
    assert len(stage.reached) <= most
    if report["accepted"] == 0:
        assert len(stage.reached | reached) <= most, "the same rows again"
    if when == "first":
        assert len(accepted) == report["accepted"]
        assert not stage.reached & accepted, "what was accepted is remembered"


@pytest.mark.parametrize("when", ["first", "later"])
@pytest.mark.parametrize(
    ("kind", "endpoint", "looks"),
    [("users", BULK, 1), ("events", EVENTS, 0), ("lists", LISTS, 1), ("catalogs", ITEMS, 0)],
)
def test_without_a_fault_all_rows_go(make_field: Any, kind: str, endpoint: str, looks: int, when: str) -> None:
    """With one request more, and one look at the fields of profiles."""
    counts = []
    for canary in (None, 30):
        stage: Field = make_field()
        known(stage)
        if when == "later":
            stage.model(*map(plain, range(MANY)))
            stage.run(kind=kind)
        new = {"primary_key": ["id", "score"]} if kind == "events" else {}
        stage.model(*map(other, range(MANY)))
        stage.forget_calls()
        report = stage.run(kind=kind, canary=canary, **new)
        assert (report["status"], report["accepted"]) == ("succeeded", MANY)
        counts.append((stage.calls[endpoint], stage.calls[FIELDS]))
    (requests, fields), (more_requests, more_fields) = counts
    assert more_requests - requests in (0, 1)
    assert more_fields - fields == looks


def some(bad: int) -> list[Row]:
    """Return rows of which about a share are bad: one in so many."""
    return [text(number) if number % bad == 0 else plain(number) for number in range(MANY)]


@pytest.mark.parametrize(
    ("limit", "passes"), [(0, False), (0.0, False), (1, False), (0.05, False), (0.5, True), (20, True)]
)
def test_some_may_be_rejected(make_field: Any, limit: int | float, passes: bool) -> None:
    """Up to the limit, and then all that is right arrives; a share is one of those that go first."""
    stage: Field = make_field()
    typed(stage)
    stage.model(*some(5))
    parameters = {"kind": "users", "canary": 40, "canary_max_rejected": limit}
    if passes:
        report = stage.run(**parameters)
        assert (report["accepted"], report["rejected"]) == (MANY - MANY // 5, MANY // 5)
    else:
        message, report = stage.failure(AirflowFailException, **parameters)
        assert (
            f"canary_max_rejected={limit!r} allows {int(limit * 40 if isinstance(limit, float) else limit)}." in message
        )
        assert report["accepted"] + report["rejected"] == 40


def test_a_run_that_would_fail_for_rows_that_cannot_be_sent_is_stopped(make_field: Any) -> None:
    """The wrong column as address: no more rows go than go first, though these are right."""
    stage: Field = make_field()
    typed(stage)
    stage.model(*map(plain, range(MANY)))
    sql = "SELECT id, CASE WHEN id % 5 = 0 THEN email ELSE 'nobody' END AS email, score FROM users"
    message, report = stage.failure(AirflowFailException, kind="users", canary=3, sql=sql, max_rejected=0.1)
    assert f"{report['invalid']} of {MANY} rows were rejected before anything was sent (invalid_email " in message
    assert (report["status"], report["accepted"]) == ("canary_failed", 3)
    allowed = stage.run(kind="users", canary=3, sql=sql, max_rejected=1.0)
    assert allowed["accepted"] + allowed["unchanged"] == MANY - report["invalid"]


def test_the_default_lets_a_tenth_be_rejected(make_field: Any) -> None:
    """As the limit for the whole run does: one of ten rows is dirt, and two are a fault."""
    stage: Field = make_field()
    typed(stage)
    stage.model(*some(1))
    message, _ = stage.failure(AirflowFailException, kind="users", canary=10)
    assert "canary_max_rejected=0.1 allows 1." in message


def test_what_was_mended_is_delivered_by_the_retry(make_field: Any) -> None:
    """Everything arrives once."""
    stage: Field = make_field()
    typed(stage)
    stage.model(*some(2))
    stage.failure(AirflowFailException, kind="users", canary=20)
    kept = len(stage.kept)
    assert 0 < kept < 20
    stage.model(*map(plain, range(MANY)))
    report = stage.run(kind="users", canary=20)
    assert (report["accepted"], report["unchanged"]) == (MANY - kept, kept)


def test_whatever_the_order_of_the_model_the_same_rows_go_first(make_field: Any) -> None:
    """Also where each row has fields of its own, and types are not known."""
    reached = []
    for descending in ("", " DESC"):
        stage: Field = make_field()
        stage.model(*map(keyed, range(MANY)))
        stage.watch()
        sql = f"SELECT * FROM users ORDER BY id{descending}"
        message, _ = stage.failure(AirflowFailException, kind="users", sql=sql, canary=30, **PREFS)
        assert ", and 10 more. If they are wanted" in message
        reached.append(stage.reached)
    assert reached[0] == reached[1]


def test_where_nothing_is_left_nothing_is_stopped(make_field: Any) -> None:
    """The run has its own limit."""
    stage: Field = make_field()
    typed(stage)
    stage.model(*map(text, range(MANY)))
    _, report = stage.failure(AirflowFailException, kind="users", canary=MANY, max_rejected=0.1)
    assert report["status"] == "too_many_rejected"
    assert stage.run(kind="users", canary=1.0)["rejected"] == MANY
    stage.model(*map(plain, range(5)))
    stage.forget_calls()
    stage.run(kind="users", canary=10)
    assert stage.calls[FIELDS] == 1, "nobody asks which fields it made"


def test_each_wave_has_rows_that_go_first(make_field: Any) -> None:
    """Removals, rows that stand alone, and those that share an identity, which go one after the other."""
    stage: Field = make_field()
    rows = [(n, email(n % 60), "", n) for n in range(90)]  # thirty people twice
    stage.rows(*rows, *((n, email(n), "", n) for n in range(100, 140)), columns=("id", "email", "sku", "score"))
    stage.run(kind="users", on_removed="delete")
    stage.rows(*((n, address, "", score + 1) for n, address, _, score in rows), columns=("id", "email", "sku", "score"))
    stage.watch()
    report = stage.run(kind="users", on_removed="delete", max_removed=None, canary=5)
    assert (report["accepted"], report["collapsed"]) == (130, 30)
    sizes = [len(named) for named in stage.requests if len(named) > 1]
    assert sizes == [5, 25, 5, 25, 5, 25]
    last = [*(max(n, n + 60, key=lambda number: f"[{number}]") for n in range(30)), *range(30, 60)]
    assert sorted(profile["score"] for profile in stage.profiles.values()) == sorted(number + 1 for number in last)


def test_a_fault_of_removals_stops_them_and_not_what_went_before(make_field: Any) -> None:
    """The rows that are there were delivered by then; nobody else is removed."""
    stage: Field = make_field()
    stage.model(*map(plain, range(MANY)))
    stage.run(kind="users", on_removed="delete")
    stage.model(*map(other, range(20)))
    unwilling("/api/users/{email}", stage)
    _, report = stage.failure(AirflowFailException, kind="users", on_removed="delete", max_removed=None, canary=5)
    assert (report["accepted"], report["rejected"], report["deferred"]) == (20, 5, MANY - 20 - 5)
    assert len(stage.profiles) == MANY


def test_an_approved_plan_approves_its_fields(make_field: Any) -> None:
    """Those of a new column, and members of objects."""
    stage: Field = make_field()
    stage.model(*map(keyed, range(MANY)))
    parameters = {"kind": "users", "sql": "SELECT id, email, score, prefs FROM users", "fields": None, "canary": 10}
    plan = stage.run(dry_run=True, **parameters)["plan_hash"]
    assert stage.run(approved_plan=plan, **parameters)["accepted"] == MANY


def test_a_dry_run_says_what_would_go_first(make_field: Any, heard: Callable[[], str]) -> None:
    """And sends nothing; the hash of its plan is the same without."""
    stage: Field = make_field()
    stage.model(*map(plain, range(MANY)))
    report = stage.run(kind="users", canary=0.05, dry_run=True)
    assert f"Canary: 6 of {MANY} rows would go alone" in heard()
    assert stage.calls == {FIELDS: 1}
    assert stage.run(kind="users", dry_run=True)["plan_hash"] == report["plan_hash"]


def test_without_a_verdict_the_others_wait(make_field: Any) -> None:
    """What Iterable did not answer says nothing about the others; a retry tries again."""
    stage: Field = make_field()
    stage.model(*map(plain, range(MANY)))
    stage.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "times": -1})
    message, report = stage.failure(AirflowException, kind="users", canary=10)
    assert f"{MANY} rows were deferred" in message
    assert report["status"] == "unfinished"
    assert stage.sent(BULK)
    assert max(records for records, _ in stage.sent(BULK)) <= 10
    stage.sandbox.service.faults.clear()
    assert stage.run(kind="users", canary=10)["accepted"] == MANY


def test_a_canary_that_nobody_answered_is_no_verdict(make_field: Any) -> None:
    """Even if others would be answered by then: they wait for the retry."""
    stage: Field = make_field()
    stage.model(*map(plain, range(MANY)))
    stage.sandbox.faults({"kind": "drop_before", "path": "/api/users/bulkUpdate", "times": Patience().tries})
    message, report = stage.failure(AirflowException, kind="users", canary=10)
    assert f"{MANY} rows were deferred (canary {MANY - 10}, no_answer 10)" in message
    assert (report["status"], len(stage.profiles)) == ("unfinished", 0)
    assert stage.run(kind="users", canary=10)["accepted"] == MANY


def test_unknown_users_who_were_never_known_stop_nobody(make_field: Any) -> None:
    """They come again in every run, and are no news."""
    stage: Field = make_field()
    stage.post("/api/users/bulkUpdate", {"users": [{"email": email(number)} for number in range(0, MANY, 2)]})
    stage.model(*map(plain, range(MANY)))
    report = stage.run(kind="users", mode="update", canary=10)
    assert (report["accepted"], report["skipped"]) == (MANY // 2, MANY // 2)
    report = stage.run(kind="users", mode="update", canary=10)
    assert (report["status"], report["skipped"]) == ("succeeded", MANY // 2)


def test_rare_values_of_another_type_are_no_fault(make_field: Any) -> None:
    """They are looked for to be known early, and say nothing about the others."""
    stage: Field = make_field()
    known(stage)
    stage.track("Played", score=1)
    stage.model(*({"score": "n/a" if n in (50, 70, 90) else n} for n in range(MANY)))
    report = stage.run(kind="events", canary=10, canary_max_rejected=0)
    assert (report["accepted"], report["rejected"]) == (MANY - 3, 3)


def test_requests_about_people_go_first_whose_turn_it_is(make_field: Any) -> None:
    """Those that wait are not among them."""
    stage: Field = make_field(forget_quota=None)
    known(stage)
    stage.model(*map(plain, range(MANY)))
    stage.watch()
    stage.make = partial(privacy, stage)  # type: ignore[method-assign]
    unwilling("/api/users/{email}", stage)
    _, report = stage.failure(AirflowFailException, canary=5, max_actions=20)
    assert report["rejected"] == 5
    assert stage.reached <= set(range(20))
    stage.sandbox.service.faults.clear()
    report = stage.run(canary=5, max_actions=20)
    assert (report["accepted"], report["deferred"]) == (20, MANY - 20)


def privacy(stage: Field, **parameters: Any) -> Any:
    """Make an operator that deletes people."""
    return IterablePrivacyOperator(
        task_id="sync",
        sql="SELECT * FROM users ORDER BY id",
        sql_conn_id="warehouse",
        primary_key="id",
        email_column="email",
        action="delete",
        state=TableState(),
        **parameters,
    )


def test_a_wrong_type_of_project_is_found_out(make_field: Any) -> None:
    """By a project that knows people by user ID only."""
    stage: Field = make_field(project_type="user_id", extra={"project_type": "email"})
    stage.model(*map(plain, range(MANY)))
    stage.watch()
    stage.failure(AirflowFailException, kind="users", canary=5)
    assert len(stage.reached) <= 5


def test_numbers_come_from_templates(make_field: Any) -> None:
    """As texts, from which None is one, too."""
    stage: Field = make_field()
    typed(stage)
    stage.model(*map(text, range(MANY)))
    _, report = stage.failure(AirflowFailException, kind="users", canary="7", canary_max_rejected="0.0")
    assert report["rejected"] == 7
    assert stage.run(kind="users", canary="None")["rejected"] == MANY
