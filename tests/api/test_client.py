from __future__ import annotations

import gc
import gzip
import json
import logging
import shutil
import socket
import threading
import time as real
from email.utils import formatdate
from pathlib import Path
from typing import Any

import certifi
import pytest
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import ConnectTimeoutError, ProtocolError, ReadTimeoutError, SSLError

from airflow_provider_iterable import __version__
from airflow_provider_iterable.api import connections as clients
from airflow_provider_iterable.api import deadlines
from airflow_provider_iterable.api.client import CallLog, Client
from airflow_provider_iterable.api.connections import is_loopback
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import Batch, Call, Operation, Reply, Request, Settled
from airflow_provider_iterable.errors import ConfigurationError
from tests.api.conftest import KEY, Time
from tests.services import Answer, Answering

POOL = HTTPConnectionPool("api.iterable.com")
EMAIL = "ada.lovelace@example.com"
UPDATE = Request("POST", "/api/users/bulkUpdate", "/api/users/bulkUpdate", body=b'{"users":[]}')
DELETE = Request("DELETE", f"/api/users/{EMAIL}", "/api/users/{email}")


def test_a_request_arrives_with_key_type_and_version(server: Answering, client: Client) -> None:
    """Method, path, query and body arrive as given, with the key as a header."""
    client.request(Request("POST", "/api/lists/subscribe", "/api/lists/subscribe", {"a": "x y"}, b'{"listId":1}'), 0)
    (heard,) = server.history
    assert (heard.method, heard.path, heard.body) == ("POST", "/api/lists/subscribe?a=x+y", b'{"listId":1}')
    assert heard.headers["api-key"] == KEY
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["user-agent"] == f"airflow-provider-iterable/{__version__}"


def test_an_encoded_path_stays_encoded(server: Answering, client: Client) -> None:
    """What an endpoint encoded, slashes and pluses included, is not decoded on the way."""
    client.request(Request("DELETE", "/api/users/a%2Bb%2Fc%40x.io", "/api/users/{email}"), 0)
    assert server.history[0].path == "/api/users/a%2Bb%2Fc%40x.io"


def test_an_answer_is_handed_on_as_plain_values(server: Answering, client: Client) -> None:
    """Status, body and Iterable's request ID arrive, whatever the status."""
    server.answers.append(Answer(409, b'{"code":"Conflict"}', {"Iterable-Request-Id": "r-1"}))
    reply = client.request(UPDATE, 0)
    assert (reply.status, reply.body, reply.request_id, reply.error) == (409, b'{"code":"Conflict"}', "r-1", "")


def test_a_request_waits_as_long_as_is_configured(server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a connection, and for each read: by default 5 and 60 seconds."""
    waits: list[Any] = []
    send = HTTPConnectionPool.urlopen

    def noting(self: HTTPConnectionPool, *arguments: Any, **options: Any) -> Any:
        waits.append(str(options["timeout"]))
        return send(self, *arguments, **options)

    monkeypatch.setattr(HTTPConnectionPool, "urlopen", noting)
    for client in (Client(server.url, KEY), Client(server.url, KEY, timeout=(2.5, 7.0))):
        with client:
            assert client.request(UPDATE, 0).status == 200
    assert waits == ["Timeout(connect=5, read=60, total=None)", "Timeout(connect=2.5, read=7.0, total=None)"]


def test_requests_share_a_connection(server: Answering, client: Client) -> None:
    """Connections are kept alive, after errors of every kind of status too."""
    server.answers.extend(Answer(status, b"x" * 5000) for status in (200, 400, 429, 500))
    for _ in range(6):
        client.request(DELETE, 0)
    assert (len(server.history), server.connections) == (6, 1)


def test_redirects_are_answers(server: Answering, client: Client) -> None:
    """The key is never carried to where a redirect points."""
    server.answers.append(Answer(302, headers={"Location": f"{server.url}/elsewhere"}))
    assert client.request(UPDATE, 0).status == 302
    assert len(server.history) == 1


def test_a_batch_is_wrapped_sent_and_counted(server: Answering) -> None:
    """Sending a batch is one request of its call, logged with the number of its operations."""
    heard: list[CallLog] = []

    def wrap(operations: object) -> Request:
        return UPDATE

    call = Call("POST", UPDATE.template, 1000, 4_000_000, wrap, lambda batch, reply: Settled(), 5)
    operation = Operation("[1]", Kind.ADDED, call, b"{}", (), None)
    server.answers.append(Answer(400, b'{"msg":"m","code":"BadParams","params":null}', {"Iterable-Request-Id": "r"}))
    with Client(server.url, KEY, on_call=heard.append) as client:
        assert client.send(Batch(call, [operation, operation])).status == 400
    (entry,) = heard
    assert (entry.method, entry.template, entry.status) == ("POST", "/api/users/bulkUpdate", 400)
    assert (entry.code, entry.rows, entry.sent, entry.request_id) == ("BadParams", 2, len(UPDATE.body or b""), "r")
    assert entry.milliseconds > 0


@pytest.mark.parametrize(
    ("given", "noted"),
    [
        ("0a1b-2c3d:4e=", "0a1b-2c3d:4e="),
        ("request of Zoe Quartermaine", ""),
        ("zoe@example.com", ""),
        ("x" * 201, ""),
    ],
)
def test_a_request_id_is_noted_if_it_is_one(server: Answering, given: str, noted: str) -> None:
    """A server between may put any text there."""
    heard: list[CallLog] = []
    server.answers.append(Answer(200, b"{}", {"Iterable-Request-Id": given}))
    with Client(server.url, KEY, on_call=heard.append) as client:
        client.request(UPDATE, 0)
    assert [entry.request_id for entry in heard] == [noted]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"code":7}', b"\xff\xfe"])
def test_a_body_without_a_code_is_logged_without_one(server: Answering, body: bytes) -> None:
    """Bodies that are no JSON object with a textual code have no code, and disturb nobody."""
    heard: list[CallLog] = []
    server.answers.append(Answer(500, body))
    with Client(server.url, KEY, on_call=heard.append) as client:
        client.request(UPDATE, 0)
    assert [(entry.status, entry.code, entry.rows) for entry in heard] == [(500, "", 1)]


def test_a_failing_log_fails_nothing(server: Answering) -> None:
    """An error of the callback is swallowed: what Iterable accepted stays accepted."""

    def fail(entry: CallLog) -> None:
        raise RuntimeError(EMAIL)

    with Client(server.url, KEY, on_call=fail) as client:
        assert client.request(UPDATE, 0).status == 200


def test_a_port_where_nothing_listens_is_a_reply() -> None:
    """An unreachable host is status 0 with the class of the error."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", KEY) as client:
        reply = client.request(DELETE, 0)
    assert (reply.status, reply.body, reply.error) == (0, b"", "ConnectionError")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(dropped=True), "ConnectionError"),
        (Answer(truncated=True), "ConnectionError"),
        (Answer(headers={"Content-Encoding": "gzip"}, body=b"no gzip"), "ContentDecodingError"),
    ],
)
def test_a_broken_answer_is_a_reply_and_frees_its_connection(server: Answering, answer: Answer, error: str) -> None:
    """A connection that drops or an answer that cannot be read is status 0, and the only connection is free again."""
    server.answers.append(answer)
    with Client(server.url, KEY, max_in_flight=1) as client:
        assert [client.request(DELETE, 0).error, client.request(DELETE, 0).status] == [error, 200]


@pytest.mark.parametrize(
    ("error", "name", "sent"),
    [
        (ReadTimeoutError(POOL, "", f"Read timed out: /api/users/{EMAIL}"), "ReadTimeout", True),
        (ConnectTimeoutError(POOL, f"/api/users/{EMAIL} timed out"), "ConnectTimeout", False),
        (SSLError(f"/api/users/{EMAIL}"), "SSLError", True),
        (ProtocolError(f"/api/users/{EMAIL}"), "ConnectionError", True),
        (OSError(f"/api/users/{EMAIL}"), "OSError", True),
    ],
)
def test_only_the_kind_of_an_exception_gets_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception, name: str, sent: bool
) -> None:
    """Messages of exceptions hold URLs, and URLs hold email addresses: neither leaves the door."""

    def fail(self: HTTPConnectionPool, *arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(HTTPConnectionPool, "urlopen", fail)
    heard: list[CallLog] = []
    client = Client("https://api.iterable.com", KEY, on_call=heard.append)
    reply = client.request(DELETE, 0)
    assert (reply.status, reply.error, reply.sent, heard[0].code) == (0, name, sent, name)
    assert EMAIL not in repr((reply, heard))


@pytest.mark.parametrize("drips", ["at once", "headers", "body", "endless body"])
def test_a_request_has_an_end(server: Answering, drips: Any) -> None:
    """However slowly an answer comes, byte by byte, it is given up after a while; the next one has a new connection."""
    server.answers.append(Answer(drips=drips))
    with Client(server.url, KEY, total=0.5, max_in_flight=1) as client:
        started = real.monotonic()
        reply = client.request(UPDATE, 0)
        assert real.monotonic() - started < 20
        assert (reply.status, reply.error, reply.sent) == (0, "ReadTimeout", True)
        assert server.hung_up.wait(20), "nobody goes on reading"
        assert client.request(UPDATE, 0).status == 200


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_request_through_a_proxy_has_an_end(server: Answering, monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    """Also while the proxy still says whether it lets it through."""
    monkeypatch.setenv("HTTPS_PROXY" if secure else "HTTP_PROXY", server.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.answers.append(Answer(drips="headers"))
    with Client("https://iterable.test" if secure else "http://iterable.test", KEY, total=0.5) as client:
        assert client.request(UPDATE, 0).error == "ReadTimeout"
    assert server.hung_up.wait(20)
    gc.collect()  # Python itself closes no socket that breaks before its TLS begins


def test_an_answer_has_a_largest_size(server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed or not, it is not read to its end; a large one that is below is."""
    monkeypatch.setattr(clients, "LARGEST_ANSWER", 1_000_000)
    large = b" " * 1_000_000
    zipped = Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(large + b" "))
    server.answers.extend([Answer(body=large), Answer(body=large + b" "), zipped, Answer()])
    with Client(server.url, KEY, max_in_flight=1) as client:
        replies = [client.request(UPDATE, 0) for _ in range(4)]
    assert [(reply.status, reply.error) for reply in replies] == [
        (200, ""),
        (0, "AnswerTooLarge"),
        (0, "AnswerTooLarge"),
        (200, ""),
    ]
    assert replies[0].body == large


@pytest.mark.parametrize("closed", [False, True])
def test_a_stop_leaves_requests_under_way_a_few_seconds(
    server: Answering, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    """What hangs is hung up on; when the client is closed, at once."""
    monkeypatch.setattr(deadlines, "STOP_SECONDS", 60.0 if closed else 0.3)
    server.answers.append(Answer(drips="body"))
    stopped = threading.Event()
    replies: list[Reply] = []
    client = Client(server.url, KEY, stopped=stopped)
    waiting = threading.Thread(target=lambda: replies.append(client.request(UPDATE, 0)))
    waiting.start()
    while not server.history:
        real.sleep(0.01)
    if closed:
        client.close()
    else:
        stopped.set()
    waiting.join(20)
    assert [(reply.error, reply.sent) for reply in replies] == [("Stopped", True)]
    assert client.request(UPDATE, 0) == Reply(status=0, error="Stopped", sent=False)
    client.close()


def test_requests_under_way_are_answered_after_a_stop(server: Answering) -> None:
    """A stop cuts nothing off that comes in time."""
    server.answers.append(Answer(body=b'{"a":1}', late=0.6))
    stopped = threading.Event()
    with Client(server.url, KEY, stopped=stopped) as client:
        threading.Timer(0.2, stopped.set).start()
        assert client.request(UPDATE, 0).body == b'{"a":1}'
    assert stopped.is_set()


def test_nobody_looks_after_a_client_at_rest(server: Answering) -> None:
    """The thread ends when nothing is under way, and begins anew."""
    with Client(server.url, KEY) as client:
        for _ in range(2):
            client.request(UPDATE, 0)
            threads = [thread for thread in threading.enumerate() if thread.name == "deadlines"]
            assert threads
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive()


def test_gzip_is_undone(server: Answering, client: Client) -> None:
    """A compressed answer is read as what it says."""
    server.answers.append(Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b'{"a":1}')))
    assert client.request(UPDATE, 0).body == b'{"a":1}'


def test_requests_wait_their_turn(client: Client, time: Time) -> None:
    """At 4 a second, three go at once and the others wait a quarter of a second each."""
    for _ in range(6):
        client.request(UPDATE, 4)
    assert time.sleeps == [0.25, 0.25, 0.25]


def test_a_share_of_the_rate_is_kept(server: Answering, time: Time) -> None:
    """A client with half of the rate sends half as many requests."""
    with Client(server.url, KEY, rate_share=0.5, clock=time.clock, sleep=time.sleep) as client:
        for _ in range(4):
            client.request(UPDATE, 4)
    assert time.sleeps == [0.25, 0.5, 0.5]


def test_rates_may_be_others_than_documented(server: Answering, time: Time) -> None:
    """The share counts for them, too; other endpoints are paced as before."""
    rates = {f"{UPDATE.method} {UPDATE.template}": 1.0, f"{DELETE.method} {DELETE.template}": 200.0}
    with Client(server.url, KEY, rate_share=0.5, rates=rates, clock=time.clock, sleep=time.sleep) as client:
        for _ in range(3):
            client.request(UPDATE, 4)
        assert time.sleeps == [2, 2]
        for _ in range(80):  # a rate that is set is known, and need not be found out
            client.request(DELETE, 0)
    assert time.sleeps[-5:] == pytest.approx([0.01] * 5)


def test_an_endpoint_without_a_documented_rate_is_paced(client: Client, time: Time) -> None:
    """It begins slowly."""
    for _ in range(60):
        client.request(UPDATE, 0)
    assert len(time.sleeps) > 15


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        ("Exceeded rate limit of 4.0 per minute for endpoint: /api/x, project: 1 ", 4 / 60),
        ("Exceeded rate limit of 2 per second for endpoint: /api/x, project: 1 ", 2),
        ("Too Many Requests", 5),
    ],
)
def test_a_429_may_name_the_rate(server: Answering, client: Client, time: Time, words: str, rate: float) -> None:
    """Which is as good as one that is documented; otherwise it is half of what it was."""
    server.answers.extend([Answer(), Answer(429, json.dumps({"msg": words, "params": {}}).encode())])
    for _ in range(4):
        client.request(UPDATE, 10)
    assert time.sleeps[-1] == pytest.approx(1 / rate, rel=0.6)


def test_a_window_follows_the_time_of_an_answer(server: Answering) -> None:
    """The client measures, and says how many requests of a call are to be in flight."""
    call = Call("POST", UPDATE.template, 1, 1000, lambda operations: UPDATE, lambda batch, reply: Settled({}), 100)
    with Client(server.url, KEY, max_in_flight=50) as client:
        assert client.window(call) == 32
        for _ in range(30):
            client.send(Batch(call, []))
        assert client.window(call) < 32


def test_endpoints_are_paced_apart(client: Client, time: Time) -> None:
    """One endpoint's turn is not another's, nor another method's on the same path."""
    for template in ("/a", "/b"):
        for method in ("GET", "DELETE"):
            client.request(Request(method, "/x", template), 1)
    assert time.sleeps == []


@pytest.mark.parametrize(
    ("answer", "asked", "held"),
    [
        (Answer(429, b'{"code":"RateLimitExceeded","params":{"rateLimitReset":7}}'), 7, 7),
        (Answer(429, b'{"params":{"rateLimitReset":"2.5"}}', {"Retry-After": "9"}), 2.5, 2.5),
        (Answer(429, b"Too many requests", {"Retry-After": "3"}), 3, 3),
        (Answer(429, b'{"code":"RateLimitExceeded","params":{}}'), None, 1),
        (Answer(429, b'{"params":null}', {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), None, 1),
        (Answer(429, b'{"params":null}', {"Retry-After": "Wed, 21 Oct 2915 07:28:00 GMT"}), None, 1),
        (Answer(429, b'{"params":null}', {"Retry-After": "Wed, 99 Oct 99999 07:28:00 GMT"}), None, 1),
        (Answer(429, b'{"params":null}', {"Retry-After": "1.5"}), 1.5, 1.5),
        (Answer(429, b'{"params":null}', {"Retry-After": "-3"}), None, 1),
        (Answer(429, b'{"params":null}', {"Retry-After": "99999999999"}), None, 1),
        (Answer(429, b'{"params":null}', {"Retry-After": "nan"}), None, 1),
        (Answer(429, b'{"params":null}', {"Retry-After": "tomorrow"}), None, 1),
        (Answer(429, b'{"params":{"rateLimitReset":1790000000000}}'), None, 1),
        (Answer(429, b'{"params":{"rateLimitReset":-1}}'), None, 1),
    ],
)
def test_a_429_holds_its_endpoint(
    server: Answering, client: Client, time: Time, answer: Answer, asked: float | None, held: float
) -> None:
    """The endpoint rests for as long as Iterable says, else a second; others go on."""
    server.answers.append(answer)
    assert client.request(UPDATE, 0).retry_after == asked
    client.request(DELETE, 0)
    assert time.sleeps == []
    client.request(UPDATE, 0)
    assert time.sleeps == [held]


@pytest.mark.parametrize("wait", [90, 80_000])
def test_a_wait_may_be_told_as_a_date(server: Answering, client: Client, time: Time, wait: int) -> None:
    """Of a day at most, and in whole seconds; the endpoint rests until then."""
    server.answers.append(Answer(429, headers={"Retry-After": formatdate(real.time() + wait, usegmt=True)}))
    asked = client.request(UPDATE, 0).retry_after
    assert asked is not None
    assert wait - 30 < asked <= wait
    call = Call("POST", UPDATE.template, 1, 100, lambda operations: UPDATE, lambda batch, reply: Settled(), 0)
    held = client.send(Batch(call, []))
    assert (held.status, held.sent) == (429, False)
    assert held.retry_after == pytest.approx(asked)


def test_a_503_may_say_how_long_to_wait(server: Answering, client: Client, time: Time) -> None:
    """Other errors carry Retry-After to whoever decides on a retry, and hold nobody."""
    server.answers.append(Answer(503, headers={"Retry-After": "4"}))
    assert client.request(UPDATE, 0).retry_after == 4
    client.request(UPDATE, 0)
    assert time.sleeps == []


def test_a_hold_reaches_those_who_wait_already(server: Answering, time: Time) -> None:
    """A request that had its turn reserved queues again when a 429 arrives while it waits."""
    server.answers.extend([Answer(), Answer(429, b'{"params":{"rateLimitReset":10}}')])

    def sleep(seconds: float) -> None:
        nested = not time.sleeps
        time.sleep(seconds)
        if nested:  # another thread's request, whose turn comes a second later
            assert held.request(UPDATE, 1).status == 429

    with Client(server.url, KEY, clock=time.clock, sleep=sleep) as held:
        held.request(UPDATE, 1)
        assert held.request(UPDATE, 1).status == 200
    assert time.sleeps[:2] == [1, 1]
    assert time.now >= 112


def test_a_batch_does_not_wait_long_for_a_held_endpoint(server: Answering, time: Time) -> None:
    """Whoever sends it learns how long it would be, and decides; nothing is sent. Other requests wait, for minutes."""
    call = Call("POST", UPDATE.template, 1, 1000, lambda operations: UPDATE, lambda batch, reply: Settled(), 0)
    server.answers.extend([Answer(429, headers={"Retry-After": "900"}), Answer(429, headers={"Retry-After": "300"})])
    with Client(server.url, KEY, clock=time.clock, sleep=time.sleep) as client:
        assert client.send(Batch(call, [])).retry_after == 900
        held = Reply(429, retry_after=900, error="Held", sent=False)
        assert [client.send(Batch(call, [])), client.request(UPDATE, 0)] == [held, held]
        assert (time.sleeps, len(server.history)) == ([], 1)
        time.now += 895
        assert client.send(Batch(call, [])).retry_after == 300
        assert client.request(UPDATE, 0).status == 200
    assert time.sleeps == [5, 300]


def test_nothing_starts_after_a_stop(server: Answering, client: Client) -> None:
    """A stopped client answers for itself."""
    client.stop()
    assert client.request(UPDATE, 0) == Reply(status=0, error="Stopped", sent=False)
    assert server.history == []


def test_a_stop_while_waiting_prevents_the_request(server: Answering, time: Time) -> None:
    """Whoever waits for its turn when the client stops sends nothing."""
    with Client(server.url, KEY, clock=time.clock, sleep=lambda seconds: stopping.stop()) as stopping:
        stopping.request(UPDATE, 1)
        assert stopping.request(UPDATE, 1).error == "Stopped"
    assert len(server.history) == 1


def test_a_stop_ends_the_wait_at_once(server: Answering) -> None:
    """A request that would wait for hours returns when another thread stops the client."""
    replies: list[Reply] = []
    with Client(server.url, KEY) as client:
        client.request(UPDATE, 0.0001)
        waiting = threading.Thread(target=lambda: replies.append(client.request(UPDATE, 0.0001)))
        waiting.start()
        client.stop()
        waiting.join(timeout=10)
    assert [reply.error for reply in replies] == ["Stopped"]


def test_each_request_is_permitted_when_its_turn_has_come(server: Answering, client: Client, time: Time) -> None:
    """Not before: what was permitted then may not be now. Once it is refused nothing starts any more."""
    asked: list[float] = []

    def permitted() -> bool:
        asked.append(time.clock())
        return len(asked) < 3

    client.require(permitted)
    replies = [client.request(UPDATE, 1) for _ in range(4)]
    assert asked == [100.0, 101.0, 102.0]
    assert [reply.error for reply in replies] == ["", "", "Stopped", "Stopped"]
    assert len(server.history) == 2


def test_a_request_is_permitted_when_there_is_a_connection_for_it(
    server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the permission it waits for nothing."""
    events: list[str] = []
    threads: list[threading.Thread] = []
    send = HTTPConnectionPool.urlopen

    def permitted() -> bool:
        events.append("may")
        return True

    def slowly(*arguments: Any, **options: Any) -> Any:
        events.append("sends")
        if not threads:
            threads.append(threading.Thread(target=opened.request, args=(DELETE, 0)))
            threads[0].start()
            threads[0].join(0.2)  # it has its chance
        answer = send(*arguments, **options)
        events.append("sent")
        return answer

    monkeypatch.setattr(HTTPConnectionPool, "urlopen", slowly)
    with Client(server.url, KEY, max_in_flight=1) as opened:
        opened.require(permitted)
        opened.request(DELETE, 0)
        threads[0].join()
    assert events == ["may", "sends", "sent", "may", "sends", "sent"]


def test_a_stop_ends_a_pause(server: Answering, time: Time) -> None:
    """Between tries a client waits as it does for its turn, and not at all once it is stopped."""
    with Client(server.url, KEY, clock=time.clock, sleep=time.sleep) as client:
        before = time.clock()
        client.pause(7.0)
        assert time.clock() == before + 7.0
    with Client(server.url, KEY) as stopped:
        stopped.stop()
        stopped.pause(1e6)


def test_many_threads_share_one_client(server: Answering, time: Time) -> None:
    """Threads keep the common pace and the number of connections."""
    with Client(server.url, KEY, max_in_flight=2, clock=time.clock) as client:
        threads = [threading.Thread(target=client.request, args=(DELETE, 0)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.history) == 12
    assert server.connections <= 2


def test_its_name_is_its_host() -> None:
    """The printed form of a client tells the host, and neither path nor key."""
    assert repr(Client("https://proxy.example.com:8443/iterable", KEY)) == "Client(proxy.example.com:8443)"


@pytest.mark.parametrize("key", ["", "abc\ndef", "abc def", "schlüssel"])
def test_a_key_that_is_no_header_is_refused_without_being_shown(key: str) -> None:
    """Such a key would end up in an exception of the HTTP library; ours does not repeat it."""
    with pytest.raises(ConfigurationError) as caught:
        Client("https://api.iterable.com", key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["api.iterable.com", "ftp://api.iterable.com", "https://", "https://u:p@x.io", "https://x.io?a"]
)
def test_a_base_url_is_scheme_and_host(url: str) -> None:
    """Anything that is no http(s) URL of a host is refused, and so is one with a password."""
    with pytest.raises(ConfigurationError):
        Client(url, KEY)


@pytest.mark.parametrize("share", [0, -1, 1.1])
def test_a_share_is_above_zero_and_at_most_one(share: float) -> None:
    """A client without any share could never send."""
    with pytest.raises(ConfigurationError, match="rate_share"):
        Client("https://api.iterable.com", KEY, rate_share=share)


def test_the_http_library_logs_no_addresses(
    server: Answering, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Even at DEBUG, no line holds the path of a request or the key."""
    with caplog.at_level(logging.DEBUG):
        client.request(DELETE, 0)
        logging.getLogger("urllib3.connectionpool").debug("Starting new HTTPS connection to elsewhere.example")
    assert [record.getMessage() for record in caplog.records if "elsewhere" in record.getMessage()]
    assert EMAIL not in caplog.text
    assert KEY not in caplog.text


def test_this_machine_is_reached_without_a_proxy(server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not asked for the way to the loopback address."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Client(server.url, KEY) as client:
        assert client.request(UPDATE, 0).status == 200


def test_other_hosts_are_reached_through_the_proxy_known_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment is read when the client is made, not for each request."""
    used: list[object] = []

    def note(self: Any, *arguments: object, **options: object) -> None:
        used.append((self.proxy.url, self.ca_certs))
        raise ProtocolError

    for name in ("https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    own = tmp_path / "own.pem"
    shutil.copy(certifi.where(), own)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(own))
    monkeypatch.setattr(HTTPConnectionPool, "urlopen", note)
    client = Client("https://api.iterable.com", KEY)
    monkeypatch.delenv("HTTPS_PROXY")
    client.request(UPDATE, 0)
    assert used == [("http://proxy.example.com:3128", str(own))]


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTPS_PROXY", "http://"), ("HTTPS_PROXY", "gopher://127.0.0.1:1"), ("REQUESTS_CA_BUNDLE", "/nowhere/own.pem")],
)
def test_an_environment_that_leads_nowhere_is_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """When the client is made, before anything is read or sent."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"api.iterable.com cannot be reached .*HTTPS_PROXY"):
        Client("https://api.iterable.com", KEY)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:80", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:8080/x", True),
        ("http://LOCALHOST", True),
        ("http://iterable.localhost", True),
        ("https://api.iterable.com", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
    ],
)
def test_loopback_is_told_by_name_and_address(url: str, loopback: bool) -> None:
    """This machine is known by its names and addresses, without a look-up."""
    assert is_loopback(url) is loopback
