"""Calls, operations and answers for tests of verdicts, and verdicts as words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import (
    Again,
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
        "update only, another address": endpoints.bulk_change_email("user_id", update_only=True),
        "before create": endpoints.look_up_new_user(match, _onward, BULK),
        "profile": endpoints.look_up_profile(match, lambda one, found: _onward(one), BULK, creates=True),
        "profile, update": endpoints.look_up_profile(match, lambda one, found: _onward(one), BULK, creates=False),
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


def _onward(operation: Operation) -> Operation:
    return msgspec.structs.replace(operation, partial="goes on")


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
            for number, operation in verdict.onward.items():
                assert rows[number] == "accepted"
                rows[number] = operation.partial
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


def answer(body: Any) -> Reply:
    """Return a 200 with a body."""
    return Reply(200, msgspec.json.encode(body))


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
