from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from airflow_provider_iterable.api.values import BadValue
from airflow_provider_iterable.columns import Columns, ColumnType
from airflow_provider_iterable.columns import Kind as ColumnKind
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Batch,
    Changed,
    Entry,
    Halt,
    Invalid,
    Operation,
    Outcome,
    Record,
    Removed,
    Reply,
    Settled,
)
from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.syncs.consent import lacks, state_of, subscription_id
from airflow_provider_iterable.syncs.subscriptions import SubscriptionOptions, Subscriptions

COLUMNS = ("id", "mail", "uid", "about", "state", "since")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PAST = datetime(2026, 1, 1, tzinfo=UTC)
PERSON = '["email","ada@example.com"]'


def sync(columns: Any = COLUMNS, **options: Any) -> Subscriptions:
    """Make a subscription sync, by default matched by email."""
    match = options.get("match", "email")
    whole: dict[str, Any] = {
        "match": match,
        "identifier_column": "mail" if match == "email" else "uid",
        "email_column": "mail",
        "user_id_column": "uid",
        "subscription_type": "message_type",
        "subscription_id_column": "about",
        "subscribed_column": "state",
        "consent_at_column": "since",
    }
    return Subscriptions(SubscriptionOptions(**{**whole, **options}), columns, lambda: NOW)


def row(**values: Any) -> tuple[Any, ...]:
    """Return a row of the model."""
    whole = {"id": 1, "mail": "Ada@Example.com", "uid": "u-1", "about": 7, "state": True, "since": PAST}
    return tuple({**whole, **values}[column] for column in COLUMNS)


def mapped(kind: Subscriptions, **values: Any) -> Record | Invalid:
    """Map a row, alone and between others."""
    (key,) = kind.keys([row(**values)])
    if isinstance(key, Invalid):
        return key
    found = kind.records([key], [row(**values)]).record(0)
    assert found == kind.records(["[0]", key], [row(mail="x@x.io", uid="x"), row(**values)]).record(1)
    return found


def added(kind: Subscriptions, **values: Any) -> Operation:
    """Return what is done about a new row."""
    record = mapped(kind, **values)
    assert isinstance(record, Record)
    return kind.added(Added(record))


def request(operation: Operation) -> tuple[str, str, Any, Any]:
    """Return method, path, query and body of the request that an operation makes."""
    assert operation.call is not None
    made = operation.call.wrap([operation])
    return made.method, made.path, made.query, msgspec.json.decode(made.body or b"null")


@pytest.mark.parametrize(
    ("options", "group", "member", "who"),
    [
        ({}, "messageType", "users", "ada@example.com"),
        ({"subscription_type": "channel"}, "messageChannel", "users", "ada@example.com"),
        ({"subscription_type": "list", "match": "user_id"}, "emailList", "usersByUserId", "u-1"),
    ],
)
def test_a_row_is_one_thing_added_or_taken_away(options: dict[str, Any], group: str, member: str, who: str) -> None:
    """The key is who, what and which; the reference is the person alone."""
    kind = sync(**options)
    operation = added(kind)
    assert request(operation) == ("PUT", f"/api/subscriptions/{group}/7", {"action": "subscribe"}, {member: [who]})
    assert operation.key == f'["{who}","{group}",7]'
    assert operation.handles == ((options.get("match", "email"), who),)
    assert operation.remember is not None
    assert operation.remember.ref == f'["{options.get("match", "email")}","{who}"]'
    assert request(added(kind, state=False))[2] == {"action": "unsubscribe"}
    assert operation.call is added(kind, mail="b@x.io", uid="b").call
    calls = {added(kind, about=about, state=state).call for about in (7, 8) for state in (True, False)}
    assert len(calls) == 4
    assert [call.subscribes for call in calls if call is not None].count(True) == 2


def test_the_fingerprint_says_who_is_subscribed_and_nothing_else() -> None:
    """Neither consent nor other columns are news."""
    kind = sync()
    first = mapped(kind)
    assert isinstance(first, Record)
    for same in (
        {"since": NOW},
        {"id": 9},
        {"uid": "other"},
        {"mail": " ADA@example.com"},
        {"about": "7"},
        {"state": 1},
    ):
        found = mapped(kind, **same)
        assert isinstance(found, Record)
        assert (found.fingerprint, found.key) == (first.fingerprint, first.key)
    other = mapped(kind, state=False)
    assert isinstance(other, Record)
    assert (other.key, other.fingerprint == first.fingerprint) == (first.key, False)
    change = kind.changed(Changed(Entry(first.fingerprint, PERSON), other))
    assert (change.kind, request(change)[2]) == (Kind.CHANGED, {"action": "unsubscribe"})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mail": None}, Reason.NO_IDENTIFIER),
        ({"mail": "ada"}, Reason.INVALID_EMAIL),
        ({"about": None}, Reason.INVALID_SUBSCRIPTION),
        ({"about": "x"}, Reason.INVALID_SUBSCRIPTION),
        ({"state": None}, Reason.INVALID_SUBSCRIPTION),
        ({"state": "yes"}, Reason.INVALID_SUBSCRIPTION),
        ({"state": 2}, Reason.INVALID_SUBSCRIPTION),
        ({"since": None}, Reason.NO_CONSENT),
        ({"since": NOW + timedelta(seconds=1)}, Reason.NO_CONSENT),
    ],
)
def test_a_row_that_cannot_be_sent_says_why(values: dict[str, Any], reason: Reason) -> None:
    """And what it is called, where a primary key names it and nobody."""
    found = mapped(sync(primary_key=("id",)), **values)
    assert isinstance(found, Invalid)
    assert found.reason is reason
    assert "primary key [1]" in found.detail
    assert "primary key" not in getattr(mapped(sync(primary_key=("mail",)), **values), "detail", "")


@pytest.mark.parametrize("value", [7, "7", " 7 ", 7.0, Decimal(7), Decimal("7.00")], ids=repr)
def test_what_is_an_id(value: Any) -> None:
    """A positive integer, however the driver hands it out."""
    assert subscription_id(value) == 7


@pytest.mark.parametrize(
    "value", [None, 0, -7, True, "", "7.5", "+7", "\u0667", 7.5, float("nan"), float("inf"), 1 << 63, [7]], ids=repr
)
def test_what_is_no_id(value: Any) -> None:
    """Everything else."""
    assert subscription_id(value) is None


def test_what_says_whether_somebody_is_subscribed() -> None:
    """Truth values and their numbers; or words, folded, and nothing but these."""
    assert [state_of(value, None) for value in (True, False, 1, 0, Decimal(1))] == [True, False, True, False, True]
    neither: list[Any] = [None, 2, "true", "", 1.0, []]
    assert {state_of(value, None) for value in neither} == {None}
    words = {"yes": True, "0": False, "true": True}
    assert [state_of(value, words) for value in (" YES", 0, "0", True)] == [True, False, False, True]
    unknown: list[Any] = [None, "no", 1, "", []]
    assert {state_of(value, words) for value in unknown} == {None}


@pytest.mark.parametrize(
    ("value", "lacking"),
    [
        (PAST, ""),
        (NOW, ""),
        (NOW + timedelta(microseconds=1), "future"),
        (datetime(2026, 6, 1, 13, tzinfo=timezone(timedelta(hours=1))), ""),
        (datetime(2026, 6, 1, 14), ""),
        (datetime(2026, 6, 1, 14, 1), "future"),
        (date(2026, 6, 1), ""),
        (date(2026, 6, 2), "future"),
        ("2026-06-01T12:00:00Z", ""),
        ("2026-06-01 14:00:01", "future"),
        (None, "none"),
        ("  ", "none"),
        ("yes", "no date-time"),
        (1, "no date-time"),
        (True, "no date-time"),
    ],
)
def test_when_somebody_consented(value: Any, lacking: str) -> None:
    """In the past; a date-time without a zone is in the zone of the sync."""
    found = lacks(value, ZoneInfo("Europe/Berlin"), NOW)
    assert lacking in found
    assert bool(found) is bool(lacking)


def test_who_unsubscribes_needs_no_consent() -> None:
    """Nor does anybody where it is waived; where nothing is said, nobody is subscribed."""
    assert isinstance(mapped(sync(), state=False, since=None), Record)
    nothing = {"consent_at_column": None}
    assert isinstance(mapped(sync(**nothing, consent_waived="why"), since=None), Record)
    found = mapped(sync(**nothing))
    assert isinstance(found, Invalid)
    assert found.reason is Reason.NO_CONSENT
    assert isinstance(mapped(sync(**nothing), state=False), Record)


def test_a_column_is_read_as_its_type_promises() -> None:
    """A value that has no such form costs its row."""

    def load(value: Any) -> Any:
        if value == "2":
            raise BadValue("no bit")
        return value in ("1", True)

    kinds = [ColumnType(ColumnKind.UNKNOWN)] * 4 + [ColumnType(ColumnKind.BITS, "bit", load)]
    typed = Columns(COLUMNS, [*kinds, ColumnType(ColumnKind.UNKNOWN)])
    assert isinstance(mapped(sync(typed), state="1"), Record)
    assert isinstance(mapped(sync(typed), state="2"), Invalid)


def test_the_most_careful_row_counts() -> None:
    """One that unsubscribes, one that says nothing, one without consent, one that subscribes."""
    rows = [row(), row(since=None), row(state=None), row(state=False)]
    ranks = sync().ranks(rows)
    assert list(ranks) == sorted(ranks)
    assert len(set(ranks)) == 4


def test_a_row_that_left() -> None:
    """Is forgotten; or unsubscribes, unless it is known to be; never subscribes; never under another identifier."""
    record, left = mapped(sync()), mapped(sync(), state=False)
    assert isinstance(record, Record)
    assert isinstance(left, Record)
    gone = Removed(record.key, Entry(record.fingerprint, PERSON))
    kept = sync().removed(gone)
    assert (kept.call, kept.remember, kept.handles) == (None, None, (("email", "ada@example.com"),))
    kind = sync(on_removed="unsubscribe")
    operation = kind.removed(gone)
    path = "/api/subscriptions/messageType/7"
    assert request(operation) == ("PUT", path, {"action": "unsubscribe"}, {"users": ["ada@example.com"]})
    assert operation.call is not added(kind, state=False).call
    assert kind.removed(Removed(record.key, Entry(left.fingerprint, PERSON))).call is None
    assert kind.removed(Removed(record.key, Entry(bytes(12), PERSON))).call is not None
    assert kind.removed(Removed('["u-1","messageType",7]', Entry(b"x", '["user_id","u-1"]'))).call is None
    assert request(kind.removed(Removed('["a@x.io","emailList",9]', Entry(b"x", PERSON))))[1].endswith("emailList/9")


def test_missing_columns_are_named() -> None:
    """Before the first row is read."""
    for name in ("subscription_id_column", "subscribed_column", "consent_at_column"):
        with pytest.raises(ModelError, match="nowhere"):
            sync(**{name: "nowhere"})


def test_what_iterable_does_not_have_is_rejected() -> None:
    """And who would have to confirm; where nothing is known, all is sent."""
    kind, whole = sync(), sync(exclusive=True)
    operation = added(kind)
    assert kind.screen(operation) is operation
    policies = {7: "OptIn", 8: "DoubleOptIn", 9: ""}
    kind.learn_groups(policies)
    whole.learn_groups(policies)
    for one, about, state, passes in (
        (kind, 7, True, True),
        (kind, 6, True, False),
        (kind, 6, False, False),
        (kind, 8, True, False),
        (kind, 8, False, True),
        (kind, 9, True, True),
        (whole, 7, True, True),
        (whole, 9, True, False),
        (whole, 9, False, False),
    ):
        found = one.screen(added(one, about=about, state=state))
        assert isinstance(found, Operation) is passes
        if isinstance(found, Outcome):
            assert (found.fate, found.reason) == (Fate.REJECTED, Reason.UNKNOWN_SUBSCRIPTION)


def answer(status: int, body: bytes) -> Reply:
    """Return an answer."""
    return Reply(status, body)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (202, b'{"msg":"","code":"Success","params":null}', "accepted"),
        (200, b'{"msg":"","code":"Accepted"}', "accepted"),
        (202, b"", "accepted"),
        (200, b"", "Again"),
        (200, b"<html>", "Again"),
        (404, b'{"msg":"Endpoint not found for project: 1","code":"NotFound"}', "Halt"),
        (404, b"<html>not found</html>", "Halt"),
        (404, b'{"msg":"No such group","code":"NotFound"}', "unknown_subscription"),
        (400, b'{"msg":"Invalid subscription group","code":"BadParams"}', "unknown_subscription"),
        (400, b"Invalid subscription group", "Split"),
        (409, b'{"msg":"forgotten","code":"ForgottenUserError"}', "Split"),
        (401, b'{"msg":"x","code":"BadApiKey"}', "Halt"),
        (503, b"", "Again"),
    ],
)
def test_answers_of_the_additive_call(status: int, body: bytes, verdict: str) -> None:
    """Success, a group that is not there, a project without the API, and what is judged as everywhere."""
    kind = sync()
    operations = [added(kind), added(kind, mail="b@x.io")]
    call = operations[0].call
    assert call is not None
    found = call.judge(Batch(call, operations), answer(status, body))
    if isinstance(found, Settled):
        reasons = {outcome.reason for outcome in found.outcomes.values()}
        assert (len(found.outcomes), reasons) == ((0, set()) if verdict == "accepted" else (2, {Reason(verdict)}))
    else:
        assert type(found).__name__ == verdict
    if isinstance(found, Halt) and b"Endpoint" in body:
        assert "exclusive=True" in found.message


def test_a_leaver_whom_nobody_knows_is_done() -> None:
    """Forgotten or unknown: only where the row has left."""
    kind = sync(on_removed="unsubscribe")
    record = mapped(kind)
    assert isinstance(record, Record)
    gone = kind.removed(Removed(record.key, Entry(record.fingerprint, PERSON)))
    here = added(kind, state=False)
    for code, fate in (("ForgottenUserError", Fate.SKIPPED), ("UnknownUserIdError", Fate.SKIPPED)):
        reply = answer(409, b'{"msg":"x","code":"%s"}' % code.encode())
        for operation, expected in ((gone, (Reason.ALREADY_GONE, Fate.ACCEPTED)), (here, (None, fate))):
            assert operation.call is not None
            found = operation.call.judge(Batch(operation.call, [operation]), reply)
            assert isinstance(found, Settled)
            outcome = found.outcomes[0]
            assert outcome.fate is expected[1]
            assert expected[0] in (None, outcome.reason)


def test_answers_of_the_call_that_replaces_arrays() -> None:
    """Malformed identifiers are rejected, valid ones that failed are deferred, the others accepted."""
    kind = sync(exclusive=True)
    kind.learn_groups({7: "OptIn"})
    operations = [added(kind, mail=f"{name}@x.io") for name in "abc"]
    call = operations[0].call
    assert call is not None
    assert call.then is not None
    assert call.then.max_items == 100
    body = {
        "successCount": 1,
        "failCount": 2,
        "invalidEmails": ["A@x.io"],
        "invalidUserIds": [],
        "validEmailFailures": ["b@x.io"],
        "validUserIdFailures": [],
    }
    found = call.then.judge(Batch(call.then, operations), answer(200, msgspec.json.encode(body)))
    assert isinstance(found, Settled)
    assert {n: (outcome.reason, outcome.fate) for n, outcome in found.outcomes.items()} == {
        0: (Reason.INVALID_EMAIL, Fate.REJECTED),
        1: (Reason.SERVER_ERROR, Fate.DEFERRED),
    }
