from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api.blame import BLAME
from airflow_provider_iterable.api.endpoints import (
    MailingList,
    bulk_update_users,
    delete_user,
    look_up_user,
    subscribe_to_list,
    unsubscribe_from_list,
)
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
)
from tests.fakes import settled
from tests.laws.world import budget

BULK = bulk_update_users()
SUBSCRIBE = subscribe_to_list(MailingList(7))
CALLS = {
    "bulk": BULK,
    "delete": delete_user("email"),
    "look up": look_up_user("email", BULK),
    "subscribe": SUBSCRIBE,
    "unsubscribe": unsubscribe_from_list(MailingList(7)),
}
NAMES = ["a@x.io", "b@x.io", "c@x.io", "u1", "u2", "u3", "somebody@else.io"]
statuses = st.sampled_from([0, 200, 200, 200, 400, 400, 401, 403, 404, 408, 409, 413, 429, 500, 502]) | st.integers(
    0, 999
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(NAMES)
jsons = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
blames = st.dictionaries(
    st.sampled_from([name + suffix for name in BLAME for suffix in ("Emails", "UserIds")]),
    st.lists(st.sampled_from(NAMES), max_size=4) | jsons,
    max_size=3,
)
counts = st.integers(-1, 5) | jsons
answers = st.fixed_dictionaries(
    {},
    optional={
        "successCount": counts,
        "failCount": counts,
        "failedUpdates": blames | jsons,
        "invalidEmails": st.lists(st.sampled_from(NAMES), max_size=2) | jsons,
        "noOpEmails": jsons,
    },
)
codes = st.sampled_from(
    [
        "Success",
        "BadJsonBody",
        "BatchTooLarge",
        "RequestFieldsTypesMismatched",
        "UniqueFieldsLimitExceeded",
        "BadApiKey",
        "UnknownEmailError",
    ]
)
fields = st.sampled_from(["n", "my_project_etl:::n", "deep.er", "obj[1].users[0]", "obj.users[99999999999]"])
errors = st.fixed_dictionaries(
    {},
    optional={"expectedType": st.sampled_from(["long", "string", "date", "nested"]) | jsons, "offendingValue": jsons},
)
refusals = st.fixed_dictionaries(
    {"code": codes | jsons},
    optional={
        "msg": jsons,
        "params": st.dictionaries(
            st.sampled_from(["validationErrors", "limit", "newFields", "obj.users[1]", "obj.users[77]"]),
            st.dictionaries(fields, errors | jsons, max_size=2) | jsons,
            max_size=3,
        )
        | jsons,
    },
)
odd_bodies = st.sampled_from(
    [
        b"",
        b"{}",
        b"null",
        b"<html>",
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b'{"successCount":1e999,"failCount":0}',
        b'"\\ud800"',
    ]
)
bodies = st.binary(max_size=20) | odd_bodies | (answers | refusals | jsons).map(msgspec.json.encode)


def operations(number: int, value: Any) -> list[Operation]:
    """Return operations about different people."""
    return [
        Operation(
            f"[{n}]",
            Kind.ADDED,
            BULK,
            msgspec.json.encode({"email": NAMES[n], "dataFields": {"n": value, "deep": [{"er": n}]}}),
            (("email", NAMES[n]), ("user_id", NAMES[3 + n])),
            Entry(b"f", "r"),
        )
        for n in range(number)
    ]


def check(call: Call, ops: list[Operation], status: int, body: bytes) -> None:
    """Judge, and see that the verdict makes sense."""
    batch = Batch(call, ops)
    verdict = call.judge(batch, Reply(status, body))
    assert isinstance(verdict, Settled | Again | Split | Halt)
    if isinstance(verdict, Split):
        assert set(verdict.rejected) | set(verdict.suspects) <= set(range(len(ops)))
        assert verdict.last is not Fate.ACCEPTED
    if isinstance(verdict, Settled):
        outcomes = settled(verdict, ops)
        assert [(op.key, op) for op in ops] == [(outcome.key, outcome.operation) for outcome in outcomes]
        accepted = sum(outcome.fate is Fate.ACCEPTED for outcome in outcomes)
        if accepted and call in (BULK, SUBSCRIBE):
            answer = msgspec.json.decode(body)
            unchanged = answer.get("noOpEmails")
            allowed = answer["successCount"] + (len(unchanged) if isinstance(unchanged, list) else 0)
            assert 200 == status
            assert accepted <= allowed
            assert len(ops) - accepted == answer["failCount"]
        if accepted and call is CALLS["delete"]:
            answer = msgspec.json.decode(body)
            assert "msg" in answer
            assert answer["code"] in (["Success"] if status < 300 else ["UnknownEmailError"])


@budget(400)
@given(name=st.sampled_from(sorted(CALLS)), number=st.integers(1, 3), value=jsons, status=statuses, body=bodies)
def test_every_answer_has_a_verdict(name: str, number: int, value: Any, status: int, body: bytes) -> None:
    """Any status with any body is judged; a settled batch has one outcome per operation and the counts add up."""
    call = CALLS[name]
    check(call, operations(number if call.max_items > 1 else 1, value), status, body)


@budget(300)
@given(number=st.integers(1, 3), answer=answers)
def test_no_more_is_accepted_than_iterable_counts(number: int, answer: dict[str, Any]) -> None:
    """Of a bulk request at most as many operations are accepted as the answer counts, whatever it names."""
    for call in (BULK, SUBSCRIBE):
        check(call, operations(number, 1), 200, msgspec.json.encode(answer))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"params":{"x[' + b"1" * 5000 + b']":1}}', b'{"code":' * 60_000])
@pytest.mark.parametrize("status", [200, 400])
def test_a_monstrous_body_has_a_verdict(call: Call, body: bytes, status: int) -> None:
    """Endless nesting and endless numbers in a body do no harm."""
    check(call, operations(1, 1), status, body)


def test_successes_that_are_missing_take_the_batch_apart() -> None:
    """No failure and nobody blamed, yet fewer successes than rows: it is not known who was accepted."""
    verdict = BULK.judge(Batch(BULK, operations(3, 1)), Reply(200, b'{"successCount":2,"failCount":0}'))
    assert isinstance(verdict, Split)


@budget(300)
@given(
    wanted=st.lists(st.sampled_from([None, "u1", "u2", "u3", "u9"]), min_size=1, max_size=4),
    owners=st.dictionaries(st.sampled_from(["u1", "u2", "u3", "u9"]), st.sampled_from(NAMES[:3]), max_size=4),
    by_owner=st.booleans(),
)
def test_a_conflict_costs_nobody_elses_row(wanted: list[str | None], owners: dict[str, str], by_owner: bool) -> None:
    """Rows that want a user ID of somebody else fail, and Iterable names that user ID, or the owner's address: who is
    settled as rejected wanted it, and who is settled as accepted did not."""
    people = [f"{name}@x.io" for name in "abcd"]
    ops = [
        Operation(
            f"[{n}]",
            Kind.ADDED,
            BULK,
            b"{}",
            (("email", people[n]), *([] if user_id is None else [("user_id", user_id)])),
            Entry(b"f", "r"),
        )
        for n, user_id in enumerate(wanted)
    ]
    guilty = {n for n, user_id in enumerate(wanted) if owners.get(user_id or "", people[n]) != people[n]}
    named = {wanted[n] for n in guilty}
    failed = (
        {"conflictEmails": sorted({owners[name or ""] for name in named})}
        if by_owner
        else {"conflictUserIds": sorted(map(str, named))}
    )
    answer = {"successCount": len(ops) - len(guilty), "failCount": len(guilty), "failedUpdates": failed}
    verdict = BULK.judge(Batch(BULK, ops), Reply(200, msgspec.json.encode(answer)))
    assert isinstance(verdict, Settled | Split)
    if isinstance(verdict, Settled):
        assert guilty == set(verdict.outcomes)
