"""Which keys are accepted, and how many requests an endpoint takes."""

from typing import Any

import pytest

from airflow_provider_iterable.sandbox.limits import Bucket

from .conftest import START, Client, Clock, Make, Reply

ONE = {"users": [{"email": "a@x.io"}]}


def statuses(client: Client, calls: int, name: str = "users/getFields") -> list[int]:
    """Return the statuses of so many reads."""
    return [client.get(name).status for _ in range(calls)]


@pytest.mark.parametrize("key", ["", "other"])
def test_a_wrong_key_is_refused(make: Make, key: str) -> None:
    """A missing or unknown key is answered with 401 and the endpoint, and writes nothing."""
    client = make(api_key="right")
    reply = client.post("users/bulkUpdate", ONE, api_key=key)
    assert reply.status == 401
    assert reply.json == {
        "msg": "Invalid API key",
        "code": "BadApiKey",
        "params": {"ip": "127.0.0.1", "endpoint": "/api/users/bulkUpdate"},
    }
    assert client.post("users/bulkUpdate", ONE, api_key="right").status == 200


def test_any_key_will_do_when_none_is_set(make: Make) -> None:
    """Without api_key, every key but an empty one is accepted."""
    client = make()
    assert client.get("channels", api_key="whatever").status == 200
    assert client.get("channels", api_key="").status == 401


def test_a_key_in_the_query_is_none(make: Make) -> None:
    """Only the header counts."""
    assert make().get("channels?api_key=key", api_key="").status == 401


def test_a_read_only_key_may_read_what_it_may(make: Make) -> None:
    """Channels, message types and fields are open to it; users are not."""
    client = make(api_key="right", read_only_keys=["reader"])
    for name in ("channels", "messageTypes", "users/getFields"):
        assert client.get(name, api_key="reader").status == 200
    for reply in (
        client.get("users/a@x.io", api_key="reader"),
        client.get("users/forgotten", api_key="reader"),
        client.post("users/bulkUpdate", ONE, api_key="reader"),
        client.send("DELETE", "/api/users/a@x.io", api_key="reader"),
    ):
        assert reply.status == 401
        assert reply.json["msg"] == "Disabled API key or insufficient privileges"
        params = reply.json["params"]
        assert set(params) == {"ip", "endpoint", "apiKeyIdentifier", "apiKeyType"}
        assert len(params["apiKeyIdentifier"]) == 8


def test_a_disabled_key_may_nothing(make: Make) -> None:
    """It is told apart from an unknown one by the message."""
    reply = make(disabled_keys=["old"]).get("channels", api_key="old")
    assert (reply.status, reply.json["msg"]) == (401, "Disabled API key or insufficient privileges")
    assert reply.json["params"]["apiKeyType"] == "ServerSide"


def test_an_unknown_path_needs_no_key(make: Make) -> None:
    """It is answered with a page of HTML, as is a wrong method."""
    client = make(api_key="right")
    for reply in (
        client.get("nothing", api_key=""),
        client.send("PUT", "/api/users/bulkUpdate"),
        client.send("GET", "/api/users/byUserId/"),
        client.send("GET", "/api/users/a/b"),
        client.send("GET", "/"),
    ):
        assert reply.status == 404
        assert "<title>Action not found</title>" in reply.text


@pytest.mark.parametrize(
    ("name", "body", "rate"),
    [
        ("users/update", {"email": "a@x.io"}, 500),
        ("users/bulkUpdate", ONE, 5),
        ("users/forget", {"email": "a@x.io"}, 3),
        ("users/unforget", {"email": "a@x.io"}, 3),
        ("users/getByEmail?email=a@x.io", None, 100),
        ("users/a@x.io", None, 100),
        ("users/byUserId?userId=1", None, 100),
        ("users/byUserId/1", None, 100),
        ("users/getFields", None, 3),
        ("users/getSentMessages?userId=1", None, 3),
        ("users/forgotten", None, 3),
        ("users/forgottenUserIds", None, 3),
        ("channels", None, 100),
        ("messageTypes", None, 100),
    ],
)
def test_documented_rates(make: Make, clock: Clock, name: str, body: Any, rate: int) -> None:
    """An endpoint takes a second's worth at once, then one request per interval."""
    client = make("hybrid", rates=True)

    def call() -> int:
        return (client.get(name) if body is None else client.post(name, body)).status

    assert 429 not in {call() for _ in range(rate)}
    assert call() == 429
    clock.pass_(1 / rate)
    assert [call() == 429, call() == 429] == [False, True]
    clock.pass_(10)
    assert [call() == 429 for _ in range(rate + 1)] == [False] * rate + [True]


def test_endpoints_count_apart(make: Make) -> None:
    """An exhausted endpoint leaves the others alone; two identifiers share one endpoint."""
    client = make(rates=True)
    assert statuses(client, 4) == [200, 200, 200, 429]
    assert client.get("users/forgotten").status == 200
    reads = [client.get(f"users/u{number}@x.io").status for number in range(101)]
    assert reads == [200] * 100 + [429]


def test_a_refused_request_costs_nothing(make: Make, clock: Clock) -> None:
    """Hammering does not postpone the next token."""
    client = make(rates=True)
    statuses(client, 50)
    clock.pass_(1 / 3)
    assert statuses(client, 2) == [200, 429]


def test_a_wrong_key_counts_to_no_rate(make: Make) -> None:
    """Rates are the project's, and without a key there is none."""
    client = make(rates=True)
    for _ in range(10):
        assert client.get("users/getFields", api_key="").status == 401
    assert statuses(client, 3) == [200] * 3


def test_a_bad_body_counts(make: Make) -> None:
    """The rate is taken before the body is judged, and comes before its size."""
    client = make(rates=True, max_bytes=10)
    for _ in range(5):
        assert client.post("users/bulkUpdate", ONE).status == 413
    assert client.post("users/bulkUpdate", ONE).status == 429


def exhausted(client: Client, name: str, body: Any) -> Reply:
    """Call until the rate is exceeded."""
    while True:
        reply = client.post(name, body) if body is not None else client.get(name)
        if reply.status == 429:
            return reply


def test_bulk_updates_are_refused_with_numbers(make: Make) -> None:
    """users/update and bulkUpdate say in params how large the bucket is, what is left and when to return."""
    reply = exhausted(make(rates=True), "users/bulkUpdate", ONE)
    assert reply.code == "RateLimitExceeded"
    assert reply.json["params"] == {"rateLimitLimit": 5, "rateLimitRemaining": 0, "rateLimitReset": 1}
    assert "Retry-After" not in reply.headers
    reply = exhausted(make(rates=True, exact_reset=True), "users/bulkUpdate", ONE)
    assert reply.json["params"]["rateLimitReset"] == pytest.approx(0.2)


def test_other_calls_are_refused_in_words(make: Make) -> None:
    """The message names rate, endpoint and project, and ends in a space."""
    reply = exhausted(make(rates=True), "users/getFields", None)
    assert reply.json == {
        "msg": "Exceeded rate limit of 3.0 per second for endpoint: /api/users/getFields, project: 10216 ",
        "code": "RateLimitExceeded",
        "params": {},
    }


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (4 / 60, "4.0 per minute"),
        (1 / 60, "1.0 per minute"),
        (0.9 / 60, "1296.0 per day"),
        (1, "1.0 per second"),
        (0.99, "59.4 per minute"),
        (2 / 3, "40.0 per minute"),
        (1 / 3 + 1, "1.333 per second"),
    ],
)
def test_rates_are_worded_by_their_unit(make: Make, rate: float, words: str) -> None:
    """A rate below one per second is told per minute, and one below that per day."""
    client = make(rates=True, rate_overrides={"GET /api/channels": rate})
    assert exhausted(client, "channels", None).json["msg"].startswith(f"Exceeded rate limit of {words} for ")


def test_how_rates_are_refused_may_differ(make: Make) -> None:
    """A Retry-After header may be there, and the body may be no JSON."""
    client = make(rates=True, retry_after_header=True, rate_limit_text=True)
    reply = exhausted(client, "users/bulkUpdate", ONE)
    assert reply.headers["Retry-After"] == "1"
    assert (reply.text, reply.headers["Content-Type"]) == ("Too Many Requests", "text/plain; charset=utf-8")


def test_rates_may_be_set(make: Make, clock: Clock) -> None:
    """rate_overrides replaces a rate or states a missing one; burst_seconds makes buckets larger."""
    client = make(rates=True, burst_seconds=2, rate_overrides={"GET /api/users/getFields": 1, "GET /api/channels": 0.5})
    assert statuses(client, 3) == [200, 200, 429]
    assert statuses(client, 2, "channels") == [200, 429]
    clock.pass_(2)
    assert statuses(client, 2, "channels") == [200, 429]
    unstated = {"POST /api/users/updateEmail": 1}
    client = make(rates=True, rate_overrides=unstated)
    body = {"newEmail": "a@x.io"}
    assert [client.post("users/updateEmail", body).status for _ in range(2)] == [400, 429]
    client = make(rates=True)
    assert {client.post("users/updateEmail", body).status for _ in range(600)} == {400}


def test_without_rates_nothing_is_refused(make: Make) -> None:
    """rates=False lifts all rates, not the daily quota."""
    client = make(forget_quota=2)
    assert set(statuses(client, 50)) == {200}
    reply = exhausted(client, "users/forget", {"email": "a@x.io"})
    assert reply.json["msg"].startswith("Exceeded rate limit of 2.0 per day for endpoint: /api/users/forget,")


@pytest.mark.parametrize("call", ["forget", "unforget"])
def test_the_quota_holds_day_after_day(make: Make, clock: Clock, call: str) -> None:
    """Whoever asks every minute gets 1000 calls in each 24 hours; what is refused costs nothing."""
    client = make(rates=True)
    accepted = []
    for minute in range(4 * 24 * 60):
        clock.now = START + minute * 60
        status = client.post(f"users/{call}", {"email": f"u{minute}@x.io"}).status
        assert status in (200, 429)
        if status == 200:
            accepted.append(minute)
    assert accepted == [day * 24 * 60 + minute for day in range(4) for minute in range(1000)]
    assert len(client.project.forgotten_emails) == (4000 if call == "forget" else 0)


def test_a_request_too_fast_costs_no_quota(make: Make, clock: Clock) -> None:
    """What the rate of three a second refuses is not counted to the day's calls, each endpoint has its own."""
    client = make(rates=True, forget_quota=5)
    assert [client.post("users/forget", {"email": f"u{n}@x.io"}).status for n in range(9)] == [200] * 3 + [429] * 6
    clock.pass_(1)
    assert [client.post("users/forget", {"email": f"v{n}@x.io"}).status for n in range(3)] == [200, 200, 429]
    assert client.post("users/unforget", {"email": "u1@x.io"}).status == 200
    clock.pass_(3600)
    reply = client.post("users/forget", {"email": "w@x.io"})
    assert reply.json["msg"] == "Exceeded rate limit of 5.0 per day for endpoint: /api/users/forget, project: 10216 "
    clock.now = START + 86_400
    assert [client.post("users/forget", {"email": f"w{n}@x.io"}).status for n in range(3)] == [200, 200, 200]
    assert client.post("users/forget", {"email": "w@x.io"}).status == 429


def test_pacing_by_the_interval_is_never_refused() -> None:
    """Requests exactly 1/rate apart always find a token, whatever floats do."""
    bucket = Bucket(3.0, 1.0, 0.0)
    assert all(bucket.take(1.76e9 + number / 3) for number in range(1000))


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    """Time that goes backwards neither adds nor takes."""
    bucket = Bucket(1.0, 1.0, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)
