from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_iterable.api.asking import ask
from airflow_provider_iterable.api.client import CallLog, Client
from airflow_provider_iterable.errors import (
    CannotRetry,
    ConfigurationError,
    RequestRefused,
    RequestUnanswered,
    WorthRetrying,
)
from tests.api.conftest import KEY, Time
from tests.services import Answer, Answering

ADA = "ada@example.com"
ECHO = json.dumps({"msg": f"Invalid email: {ADA}", "code": "InvalidEmailAddressError", "params": {"key": KEY}}).encode()


def test_the_json_of_an_answer_is_returned(server: Answering, client: Client) -> None:
    """Whatever it is; of an empty one there is none."""
    server.answers += [Answer(200, b'{"lists":[]}'), Answer(200, b"17"), Answer(202, b""), Answer(200, b"[1]")]
    assert [ask(client, "GET", "/api/lists") for _ in range(4)] == [{"lists": []}, 17, None, [1]]


def test_a_request_is_sent_as_it_is_given(server: Answering, client: Client) -> None:
    """Method, quoted path, query and body."""
    server.answers.append(Answer(200, b"{}"))
    ask(client, "patch", f"/api/catalogs/a b/items/1?x={ADA}".replace(" ", "%20"), {"é": [1, None]}, {"y": [1, 2]})
    (sent,) = server.history
    assert (sent.method, sent.path) == ("PATCH", f"/api/catalogs/a%20b/items/1?x={ADA.replace('@', '%40')}&y=1&y=2")
    assert json.loads(sent.body) == {"é": [1, None]}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("answer", [Answer(429), Answer(503), Answer(408), Answer(dropped=True)])
def test_what_may_go_twice_is_tried_again(server: Answering, client: Client, method: str, answer: Answer) -> None:
    """Until there is an answer."""
    server.answers += [answer, answer, Answer(200, b'{"ok":true}')]
    assert ask(client, method, "/api/lists/7") == {"ok": True}
    assert len(server.history) == 3


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("answer", [Answer(429), Answer(503), Answer(dropped=True)])
def test_what_may_not_go_twice_is_not(server: Answering, client: Client, method: str, answer: Answer) -> None:
    """Unless whoever asks says that it may."""
    server.answers += [answer]
    with pytest.raises(RequestUnanswered):
        ask(client, method, "/api/lists", {})
    assert len(server.history) == 1
    server.answers += [answer, Answer(200, b"{}")]
    assert ask(client, method, "/api/lists", {}, repeatable=True) == {}


def test_a_get_may_be_said_not_to_be_repeatable(server: Answering, client: Client) -> None:
    """The caller has the last word."""
    server.answers += [Answer(503)]
    with pytest.raises(RequestUnanswered):
        ask(client, "GET", "/api/lists", repeatable=False)
    assert len(server.history) == 1


def test_a_host_that_is_not_there_is_tried_again_whatever_goes_there(time: Time) -> None:
    """Nothing has left, so nothing can go twice."""
    heard: list[CallLog] = []
    with (
        Client("http://127.0.0.1:9", KEY, clock=time.clock, sleep=time.sleep, on_call=heard.append) as client,
        pytest.raises(RequestUnanswered, match=r"no answer \(ConnectionError\)\.$") as failed,
    ):
        ask(client, "POST", "/api/lists", {})
    assert len(heard) == 5
    assert failed.value.status == 0


def test_it_ends(server: Answering, client: Client, time: Time) -> None:
    """After five tries; the error says what Iterable asked for, and that a retry may help."""
    server.answers += [Answer(429, headers={"Retry-After": "30"}, body=b'{"code":"RateLimitExceeded"}')] * 5
    with pytest.raises(RequestUnanswered, match="HTTP 429 RateLimitExceeded") as failed:
        ask(client, "GET", "/api/lists")
    assert (failed.value.status, failed.value.code, failed.value.retry_after) == (429, "RateLimitExceeded", 30)
    assert isinstance(failed.value, WorthRetrying)
    assert len(server.history) == 5
    assert sum(time.sleeps) >= 4 * 30, "no request comes before Iterable wants it"


def test_nobody_waits_for_an_hour(server: Answering, client: Client, time: Time) -> None:
    """What Iterable refuses for so long is for a retry of the task, at its time."""
    server.answers += [Answer(429, headers={"Retry-After": "3600"})]
    with pytest.raises(RequestUnanswered) as failed:
        ask(client, "GET", "/api/lists")
    assert failed.value.retry_after == pytest.approx(3600, abs=2)
    assert len(server.history) == 1
    assert sum(time.sleeps) == pytest.approx(1)


def test_an_unanswered_post_says_that_it_may_have_been_applied(server: Answering, client: Client) -> None:
    """A 429 was not."""
    server.answers += [Answer(dropped=True), Answer(429)]
    with pytest.raises(RequestUnanswered, match="It may have been applied"):
        ask(client, "POST", "/api/lists", {})
    with pytest.raises(RequestUnanswered, match=r"HTTP 429\.$"):
        ask(client, "POST", "/api/lists", {})


@pytest.mark.parametrize(
    ("answer", "words", "code"),
    [
        (Answer(400, ECHO), "refused GET /api/users/{email} at .*: HTTP 400 InvalidEmailAddressError", None),
        (Answer(401, b'{"code":"BadApiKey","msg":"Invalid API key"}'), "refused the API key", "BadApiKey"),
        (Answer(404, b"<html>"), "is not there .*: check the connection's host", ""),
        (Answer(404, b'{"code":"NotFound","msg":"x"}'), "HTTP 404 NotFound", "NotFound"),
        (Answer(302), "is not there", ""),
        (Answer(409, f'{{"code":"{ADA}"}}'.encode()), "HTTP 409", ""),
    ],
)
def test_what_is_refused_is_not_tried_again(
    server: Answering, client: Client, answer: Answer, words: str, code: str | None
) -> None:
    """The error has Iterable's status and code, and neither its words nor who was asked for."""
    server.answers.append(answer)
    with pytest.raises(RequestRefused, match=words) as failed:
        ask(client, "GET", f"/api/users/{ADA}")
    assert isinstance(failed.value, CannotRetry)
    assert (failed.value.status, failed.value.code) == (
        answer.status,
        "InvalidEmailAddressError" if code is None else code,
    )
    assert len(server.history) == 1
    for secret in (ADA, "ada", KEY, "%40"):
        assert secret not in repr(failed.value), secret
    assert failed.value.__cause__ is None


def test_an_answer_that_is_no_json_is_said(server: Answering, client: Client) -> None:
    """It is not taken for an empty one, and not repeated."""
    server.answers.append(Answer(200, f"<html>{ADA}</html>".encode()))
    with pytest.raises(RequestRefused, match="something that is not JSON") as failed:
        ask(client, "GET", "/api/lists")
    assert (failed.value.status, ADA in str(failed.value)) == (200, False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"a": Decimal(1)}, "type Decimal is not JSON serializable"),
        ({"a": float("nan")}, "a number that JSON does not have"),
        ({"a": {ADA}}, "type set is not JSON serializable"),
    ],
)
def test_a_body_that_is_no_json_is_not_sent(server: Answering, client: Client, body: Any, words: str) -> None:
    """It is told by its type."""
    with pytest.raises(ConfigurationError, match=words) as failed:
        ask(client, "POST", "/api/lists", body)
    assert ADA not in str(failed.value)
    assert server.history == []


def test_a_method_is_one_that_iterable_has(server: Answering, client: Client) -> None:
    """A slip is found before anything is sent."""
    with pytest.raises(ConfigurationError, match="GET, POST, PUT, PATCH, DELETE"):
        ask(client, "FETCH", "/api/lists")
    assert server.history == []


def test_it_waits_for_its_turn(server: Answering, client: Client, time: Time) -> None:
    """Three a second, as whoever else asks for fields."""
    server.answers += [Answer(200, b"{}")] * 7
    for _ in range(7):
        ask(client, "GET", "/api/users/getFields")
    assert sum(time.sleeps) == pytest.approx((7 - 2.25) / 3, abs=0.5)
    server.answers += [Answer(200, b"{}")] * 30
    time.sleeps.clear()
    for number in range(30):
        ask(client, "GET", f"/api/campaigns/{number}/metrics")
    assert sum(time.sleeps) == pytest.approx((30 - 7.5) / 10, abs=0.3)


def test_a_task_that_is_stopped_does_not_go_on(server: Answering, time: Time) -> None:
    """Neither waiting nor trying."""
    with Client(server.url, KEY, clock=time.clock, sleep=time.sleep) as client:
        client.stop()
        with pytest.raises(RequestUnanswered, match="Stopped"):
            ask(client, "GET", "/api/lists")
    assert (server.history, time.sleeps) == ([], [])
