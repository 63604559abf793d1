"""Every known answer is a file in ``answers``: what was sent, what came back, and what it means for each row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.quota import NO_QUOTA
from airflow_provider_iterable.api.values import shape
from airflow_provider_iterable.engine.reasons import Fate
from airflow_provider_iterable.engine.vocabulary import Batch, Reply, Settled, Split, Verdict
from tests.api.conftest import KEY
from tests.api.judging import (
    BULK,
    CATALOGS,
    EVENTS,
    LISTS,
    PRIVACY,
    answer,
    bodies,
    call_of,
    codes,
    operations,
    readable,
    strings,
    told,
)
from tests.fakes import settled
from tests.services import Answer, Answering, answering

ANSWERS = sorted((Path(__file__).parent / "answers").glob("*.json"))


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    """Serve queued answers on the loopback address."""
    with answering() as state:
        yield state


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
            assert case["untold"] == [number for number in range(len(case["users"])) if number not in verdict.outcomes]
        assert all(outcome.operation is batch.operations[number] for number, outcome in verdict.outcomes.items())
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
        rejected = {number for number, outcome in verdict.outcomes.items() if outcome.fate is Fate.REJECTED}
        assert rejected == wrong


def test_what_the_quota_left_no_room_for_waits() -> None:
    """It was not sent, and does not go again in the same run."""
    for call in PRIVACY.values():
        made = operations([{"email": "a@x.io"}], call)
        verdict = call.judge(Batch(call, made), Reply(status=0, error=NO_QUOTA))
        assert readable(verdict, made) == {"settled": ["deferred quota"]}
        verdict = call.judge(Batch(call, made), Reply(status=0, error="ReadTimeout"))
        assert readable(verdict, made) == {"again": "no_answer"}
