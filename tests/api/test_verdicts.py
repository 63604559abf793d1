"""Every known answer is a file in ``answers``: what was sent, what came back, and what it means for each row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.values import shape
from airflow_provider_iterable.api.verdicts import NO_QUOTA, values_at
from airflow_provider_iterable.engine.reasons import Fate, Kind
from airflow_provider_iterable.engine.vocabulary import (
    Again,
    Batch,
    Call,
    Entry,
    Halt,
    Operation,
    Reply,
    Settled,
    Split,
    Verdict,
)
from tests.fakes import settled
from tests.services import Answer, Answering, answering

ANSWERS = sorted((Path(__file__).parent / "answers").glob("*.json"))
KEY = "0123456789abcdef0123456789abcdef"
BULK = endpoints.bulk_update_users()
LISTS = {
    f"{name}{suffix}": make(endpoints.MailingList(7, lambda fresh=fresh: fresh))  # type: ignore[misc]
    for name, make in (("subscribe", endpoints.subscribe_to_list), ("unsubscribe", endpoints.unsubscribe_from_list))
    for suffix, fresh in (("", False), (", fresh list", True))
}
EVENTS = {
    "events/trackBulk": endpoints.track_events(),
    "events/trackBulk without IDs": endpoints.track_events(repeatable=False),
    "commerce/trackPurchase": endpoints.track_purchase(),
    "commerce/updateCart": endpoints.update_cart(),
}
CATALOGS = {"catalog write": endpoints.write_items("shop"), "catalog delete": endpoints.delete_items("shop")}

PRIVACY = {"forget": endpoints.forget_user(), "unforget": endpoints.unforget_user()}


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    """Serve queued answers on the loopback address."""
    with answering() as state:
        yield state


def chain(call: Call | None) -> list[Call]:
    """Return a call and those that an operation may go on to."""
    return [] if call is None else [call, *chain(call.then)]


def call_of(name: str, user: Mapping[str, Any]) -> Call:
    """Return the call that an answer belongs to."""
    match = "email" if "email" in user else "user_id"
    changing, changing_in_bulk = chain(endpoints.update_email(match)), chain(endpoints.bulk_change_email(match))
    named = {
        "users/updateEmail": changing[0],
        "new address": changing[1],
        "old address": changing[-1],
        "address of": changing[-1],
        "before change": changing_in_bulk[0],
        "bulk change": changing_in_bulk[1],
        "before change, last": changing_in_bulk[-1],
        "update only": endpoints.bulk_update_users(update_only=True),
        **LISTS,
    }
    if name in named:
        return named[name]
    if name in CATALOGS:
        return CATALOGS[name]
    if name in EVENTS:
        return EVENTS[name]
    if name in PRIVACY:
        return PRIVACY[name]
    if name == "delete":
        return endpoints.delete_user(match)
    return endpoints.look_up_user(match, BULK) if name == "look up" else BULK


def operations(users: list[dict[str, Any]], call: Call) -> list[Operation]:
    """Return operations whose bodies are these users, with the handles a user sync gives them."""
    made = []
    for number, user in enumerate(users):
        fields = user.get("dataFields", {})
        handles = [
            (kind, named[name])
            for named in (user, fields)
            for kind, name in (("email", "email"), ("user_id", "userId"))
            if name in named
        ]
        if "id" in user:
            handles.insert(0, ("event", user["id"]))
        body = msgspec.json.encode(user)
        made.append(Operation(f"[{number}]", Kind.ADDED, call, body, tuple(handles), Entry(b"fingerprint.")))
    return made


def readable(verdict: Verdict, operations: Sequence[Operation]) -> dict[str, Any]:
    """Return a verdict as the files write it."""
    match verdict:
        case Settled():
            rows = [
                f"{outcome.fate} {outcome.reason or ''}".strip() + (f": {outcome.detail}" if outcome.detail else "")
                for outcome in settled(verdict, operations)
            ]
            return {"settled": rows} | ({"left_out": sorted(verdict.left_out)} if verdict.left_out else {})
        case Again(reason, after):
            return {"again": str(reason)} | ({} if after is None else {"after": after})
        case Split():
            found: dict[str, Any] = {"split": str(verdict.reason), "detail": verdict.detail, "last": str(verdict.last)}
            if verdict.rejected:
                found["rejected"] = {str(number): told for number, told in sorted(verdict.rejected.items())}
            if verdict.suspects:
                found["suspects"] = sorted(verdict.suspects)
            return found
        case Halt(message):
            return {"halt": message}


def told(verdict: Verdict) -> str:
    """Return all that a verdict would tell a reader."""
    match verdict:
        case Settled(outcomes):
            return " ".join(outcome.detail for outcome in outcomes.values())
        case Split():
            return " ".join([verdict.detail, *verdict.rejected.values()])
        case Halt(message):
            return message
    return ""


def strings(value: object) -> Iterator[str]:
    """Yield the strings in a JSON value, names of fields left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


@pytest.mark.parametrize("path", ANSWERS, ids=[path.stem for path in ANSWERS])
def test_known_answers(path: Path, server: Answering) -> None:
    """Each known answer, as it comes over HTTP, has its verdict, which repeats nothing of what was sent."""
    case = json.loads(path.read_text("utf-8"))
    call = call_of(case["call"], case["users"][0])
    batch = Batch(call, operations(case["users"], call))
    server.answers.append(Answer(case["status"], case["body"].encode(), case.get("headers", {})))
    with Client(server.url, KEY, clock=lambda: 0.0, sleep=lambda seconds: None) as client:
        verdict = call.judge(batch, client.send(batch))
    found, expected = readable(verdict, batch.operations), case["verdict"]
    if "halt" in expected:
        assert found.keys() == {"halt"}
        for words in expected["halt"]:
            assert words in found["halt"]
    else:
        assert found == {name: said for name, said in expected.items() if said is not None}
    if isinstance(verdict, Settled):
        if expected.get("left_out", "") is None:
            assert verdict.left_out is None
        if "untold" in case:  # they were accepted in silence, or go on to another call
            assert case["untold"] == [number for number in range(len(case["users"])) if number not in verdict.told]
        assert all(outcome.operation is batch.operations[number] for number, outcome in verdict.told.items())
    if isinstance(verdict, Split):
        assert verdict.fields.keys() == verdict.rejected.keys()
        for number, detail in verdict.rejected.items():
            assert any(detail.startswith(f"field {name}: ") for name in verdict.fields[number])
    names = {user.get("eventName") for user in case["users"]}  # these tell nothing about anybody
    for sent in strings(case["users"]):
        if sent not in names and len(sent) > 2 and shape(sent) != f"string like {sent}":
            assert sent not in told(verdict)


def test_a_verdict_on_no_answer_is_to_try_again() -> None:
    """Whatever the call, a request without an answer goes again."""
    for user, name in (({"email": "a@x.io"}, "bulk"), ({"email": "a@x.io"}, "delete"), ({"userId": "u"}, "look up")):
        call = call_of(name, user)
        verdict = call.judge(Batch(call, operations([user], call)), Reply(status=0, error="ReadTimeout"))
        assert readable(verdict, ()) == {"again": "no_answer"}


def test_an_answer_that_names_no_field_says_that_all_were_kept() -> None:
    """One without the array, as in 2021, says nothing about it, and so do those of look-ups and single calls."""
    (operation,) = made = operations([{"email": "a@x.io", "dataFields": {"tier": 1}}], BULK)
    counts = {"successCount": 1, "failCount": 0}
    for call in (BULK, endpoints.track_events(), LISTS["subscribe"]):
        assert call.judge(Batch(call, made), answer({**counts, "filteredOutFields": []})) == Settled({}, frozenset())
        assert call.judge(Batch(call, made), answer(counts)) == Settled({}, None)
    look_up = call_of("look up", {"email": "a@x.io"})
    assert look_up.judge(Batch(look_up, [operation]), answer({"user": {"email": "a@x.io"}})) == Settled({}, None)


def answer(body: Any) -> Reply:
    """Return a 200 with a body."""
    return Reply(200, msgspec.json.encode(body))


SECRETS = {
    "name": "Lovelace",
    "born": "1815-12-10T00:00",
    "phone": "+44 7911 123456",
    "address": {"city": "Ockham", "lines": ["Horsley Towers"]},
}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
@pytest.mark.parametrize("code", ["BadParams", "RequestFieldsTypesMismatched", "ForgottenUserError", "Success", ""])
@pytest.mark.parametrize("name", ["bulk", "delete", "look up", *LISTS, *CATALOGS, *EVENTS, *PRIVACY])
def test_what_a_refusal_echoes_is_not_told(status: int, code: str, name: str) -> None:
    """Iterable echoes identifiers, values and headers in its texts; verdicts tell code, field, type and shape only."""
    users = [
        {"email": f"user{number}@example.com", "dataFields": SECRETS} for number in range(3 if name == "bulk" else 1)
    ]
    call = call_of(name, users[0])
    echo = json.dumps(users) + " Api-Key: " + KEY
    errors = {
        field: {"expectedType": "long", "offendingValue": SECRETS.get(field), "incomingTypes": ["string"]}
        for field in ("name", "born", "phone", "address.city", "address.lines")
    }
    body = {"msg": echo, "code": code, "params": {"validationErrors": errors, "echo": echo}, "message": echo}
    verdict = call.judge(Batch(call, operations(users, call)), Reply(status, msgspec.json.encode(body)))
    said = told(verdict)
    for secret in ["user0", "user1", "example.com", KEY, *strings(SECRETS)]:
        assert secret not in said


bodies = st.one_of(
    st.binary(max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "code",
                        "msg",
                        "error",
                        "params",
                        "user",
                        "successCount",
                        "failCount",
                        "failedUpdates",
                        "disallowedEventNames",
                        "filteredOutFields",
                        "invalidEmails",
                        "conflictUserIds",
                        "validationErrors",
                        "offendingValue",
                        "expectedType",
                        "newFields",
                        "age",
                        "obj.users[1].x",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ).map(msgspec.json.encode),
)
codes = st.sampled_from(
    [
        {"code": "RequestFieldsTypesMismatched", "params": {"validationErrors": {"age": {"expectedType": "long"}}}},
        {"code": "UniqueFieldsLimitExceeded", "params": {"newFields": 5}},
        {"successCount": 1, "failCount": None, "failedUpdates": {"invalidEmails": [None, 5, {}]}},
        {"user": []},
        *({"successCount": n, "failCount": 1, "disallowedEventNames": ["a", None, {}]} for n in range(4)),
    ]
).map(msgspec.json.encode)


@given(
    body=bodies | codes,
    status=st.sampled_from([0, 100, 200, 202, 204, 302, 400, 401, 403, 404, 408, 409, 413, 418, 429, 500, 503, 599]),
    name=st.sampled_from(["bulk", "delete", "look up", *LISTS, *CATALOGS, *EVENTS, *PRIVACY]),
    size=st.integers(1, 4),
)
def test_every_answer_has_a_verdict(body: bytes, status: int, name: str, size: int) -> None:
    """Judging is total: no answer is a crash, and a settled batch has one outcome per row."""
    users = [{"email": f"u{number}@x.io", "dataFields": {"age": number}} for number in range(size)]
    if name in EVENTS:
        users = [{**user, "eventName": "ab"[number % 2]} for number, user in enumerate(users)]
    call = call_of(name, users[0])
    made = operations(users if name == "bulk" or name.startswith("events/") else users[:1], call)
    verdict = call.judge(Batch(call, made), Reply(status, body))
    if isinstance(verdict, Settled):
        outcomes = settled(verdict, made)
        assert [outcome.key for outcome in outcomes] == [operation.key for operation in made]
        if any(outcome.fate is Fate.ACCEPTED for outcome in outcomes):
            assert 200 <= status < 300 or name in ("delete", *PRIVACY)
    if isinstance(verdict, Split):
        assert all(0 <= number < len(made) for number in [*verdict.rejected, *verdict.suspects])


@given(
    body=bodies | codes,
    status=st.sampled_from([0, 200, 202, 302, 400, 401, 403, 404, 408, 409, 413, 429, 500, 503]),
    name=st.sampled_from(
        ["users/updateEmail", "old address", "address of", "before change", "bulk change", "before change, last"]
    ),
    by=st.sampled_from(["email", "userId"]),
)
def test_every_answer_about_addresses_has_a_verdict(body: bytes, status: int, name: str, by: str) -> None:
    """Judging is total, and only an answer that says so lets a change pass for made."""
    user = {by: "u@x.io", "dataFields": {"email": "new@x.io"}}
    call = call_of(name, user)
    made = operations([user], call)
    verdict = call.judge(Batch(call, made), Reply(status, body))
    if isinstance(verdict, Settled):
        accepted = [outcome for outcome in verdict.told.values() if outcome.fate is Fate.ACCEPTED]
        if accepted and name in ("users/updateEmail", "bulk change"):
            assert 200 <= status < 300
        assert verdict.told or call.then is not None or 200 <= status < 300


def blamed(sent: list[str], wrong: set[int], failures: int) -> Verdict:
    """Judge an answer that names these rows and counts this many failures."""
    made = operations([{"email": email} for email in sent], BULK)
    named = [sent[number].upper() for number in sorted(wrong)]
    body = {
        "successCount": max(len(sent) - failures, 0),
        "failCount": failures,
        "failedUpdates": {"invalidEmails": named},
    }
    return BULK.judge(Batch(BULK, made), Reply(200, msgspec.json.encode(body)))


@given(size=st.integers(1, 8), wrong=st.sets(st.integers(0, 7)), more=st.integers(-2, 2))
def test_blame_is_believed_only_when_it_adds_up(size: int, wrong: set[int], more: int) -> None:
    """As many rows blamed as failures counted settle the batch; anything else takes it apart."""
    wrong = {number for number in wrong if number < size}
    verdict = blamed([f"u{number}@x.io" for number in range(size)], wrong, len(wrong) + more)
    if more:
        assert isinstance(verdict, Split)
    else:
        assert isinstance(verdict, Settled)
        rejected = {number for number, outcome in verdict.told.items() if outcome.fate is Fate.REJECTED}
        assert rejected == wrong


@pytest.mark.parametrize(
    ("payload", "path", "found"),
    [
        ({"a": 1}, "a", [1]),
        ({"a": None}, "a", [None]),
        ({"a": {"b": 1}}, "a.b", [1]),
        ({"a": {"b": 1}}, "a", [{"b": 1}]),
        ({"a": [{"b": 1}, {"c": 2}, {"b": [3, 4]}]}, "a.b", [1, [3, 4]]),
        ({"a": [[{"b": 1}]]}, "a.b", [1]),
        ({"a.b": 1}, "a.b", [1]),
        ({"x": {"a.b": 1}}, "x.a.b", [1]),
        ({"a": 1}, "a.b", []),
        ({}, "a", []),
        (None, "a", []),
    ],
)
def test_paths_lead_into_objects_and_arrays(payload: object, path: str, found: list[object]) -> None:
    """A field's name with dots finds every value it stands for."""
    assert values_at(payload, path.split(".")) == found


def test_what_the_quota_left_no_room_for_waits() -> None:
    """It was not sent, and does not go again in the same run."""
    for call in PRIVACY.values():
        made = operations([{"email": "a@x.io"}], call)
        verdict = call.judge(Batch(call, made), Reply(status=0, error=NO_QUOTA))
        assert readable(verdict, made) == {"settled": ["deferred quota"]}
        verdict = call.judge(Batch(call, made), Reply(status=0, error="ReadTimeout"))
        assert readable(verdict, made) == {"again": "no_answer"}
