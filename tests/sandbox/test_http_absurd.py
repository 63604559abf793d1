"""Requests that no client should make, over real connections: each is answered, and the server goes on in silence."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.sandbox.receiving import LARGEST_BODY

pytestmark = pytest.mark.slow

ONE = json.dumps({"email": "a@x.io", "dataFields": {"f": 1}}).encode()
UPDATE = b"POST /api/users/update HTTP/1.1\r\nApi-Key: key\r\n"
CHUNKED = UPDATE + b"Transfer-Encoding: chunked\r\n\r\n"
DEEP = 100_000


@pytest.fixture
def sandbox(capfd: pytest.CaptureFixture[str]) -> Iterator[Sandbox]:
    """A sandbox that waits a third of a second for a body, serves to the end, and writes nothing to stderr."""
    with Sandbox("email", rates=False, body_seconds=0.3) as running:
        yield running
        assert answer(running, UPDATE + b"Content-Length: %d\r\n\r\n" % len(ONE) + ONE)[0] == 200
        assert running.project.profiles.with_email("a@x.io") is not None
    assert capfd.readouterr().err == ""


def answer(sandbox: Sandbox, *pieces: bytes, done: bool = False) -> tuple[int, bytes]:
    """Send the pieces, some time apart, and return the status and all that comes until the other side is silent."""
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as raw:
        for number, piece in enumerate(pieces):
            time.sleep(0.05 if number else 0)
            raw.sendall(piece)
        if done:
            raw.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(raw)
        response.begin()
        return response.status, response.read()


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"many", 400),
        (b"-1", 400),
        (b"+5", 400),
        (b"1_0", 400),
        (b"5, 5", 400),
        (b"", 400),
        (b"\xd9\xa3", 400),
        (b"9" * 5000, 413),
        (b"1" + b"0" * 15, 413),
        (b"18446744073709551617", 413),
        (b"%d" % (LARGEST_BODY + 1), 413),
    ],
)
def test_absurd_lengths(sandbox: Sandbox, length: bytes, status: int) -> None:
    """A length that is none, or is beyond all measure, is refused before anything is read."""
    assert answer(sandbox, UPDATE + b"Content-Length: " + length + b"\r\n\r\n", ONE)[0] == status
    assert sandbox.calls == []


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        (b"-5\r\nhello\r\n0\r\n\r\n", 400),
        (b"0x5\r\nhello\r\n0\r\n\r\n", 400),
        (b"many\r\n", 400),
        (b"\r\n", 400),
        (b"5\r\nhello, world\r\n0\r\n\r\n", 400),
        (b"FFFFFFFFFFFFFFFF\r\n", 413),
        (b"F" * 16 + b"F\r\n", 400),
        (b"5f5e100\r\n" + b"x" * 1000, 408),
        (b"5f5e101\r\n", 413),
        (b"1\r\n{\r\n5f5e100\r\n", 413),
        (b"5" * 70000, 431),
        (b"5;" + b"x" * 70000 + b"\r\n", 431),
        (b"0\r\n" + b"a: b\r\n" * 1000, 431),
        (b"1\r\n{\r\n0\r\n\r\n", 400),
    ],
)
def test_absurd_chunks(sandbox: Sandbox, chunks: bytes, status: int) -> None:
    """A chunk that is none, too large a one, and trailers without end are refused."""
    assert answer(sandbox, CHUNKED, chunks)[0] == status


def test_chunks_may_have_extensions_and_trailers(sandbox: Sandbox) -> None:
    """What the protocol allows is read."""
    chunks = b"%x;name=value\r\n%s\r\n%X \r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (5, ONE[:5], len(ONE) - 5, ONE[5:])
    assert answer(sandbox, CHUNKED, *(chunks[at : at + 30] for at in range(0, len(chunks), 30)))[0] == 200
    assert [call.bytes for call in sandbox.calls] == [len(ONE)]


def test_an_unknown_coding_is_refused(sandbox: Sandbox) -> None:
    """Where the body ends cannot be told."""
    assert answer(sandbox, UPDATE + b"Transfer-Encoding: gzip\r\n\r\n", ONE)[0] == 501


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        (UPDATE + b"Content-Length: %d\r\n\r\n" % (len(ONE) + 1), ONE),
        (UPDATE + b"Content-Length: 100000000\r\n\r\n", b"x" * 5_000_000),
        (UPDATE + b"Content-Length: 10\r\n\r\n", b""),
        (CHUNKED, b"%x\r\n%s\r\n" % (len(ONE), ONE)),
        (CHUNKED, b"%x\r\n%s\r\n0\r\n" % (len(ONE), ONE)),
        (CHUNKED, b"5"),
    ],
)
@pytest.mark.parametrize("done", [False, True])
def test_a_stalled_body(sandbox: Sandbox, head: bytes, sent: bytes, done: bool) -> None:
    """A body that stops is waited for, one that ends too early is refused at once; neither is applied."""
    began = time.monotonic()
    status, _ = answer(sandbox, head, sent, done=done)
    assert status == (400 if done else 408)
    assert time.monotonic() - began < 3
    assert (sandbox.calls, sandbox.users) == ([], [])


def test_a_dripping_body_is_stalled(sandbox: Sandbox) -> None:
    """The time is that of the whole body, not of the silence between two bytes."""
    began = time.monotonic()
    head = UPDATE + b"Content-Length: %d\r\n\r\n" % len(ONE)
    assert answer(sandbox, head, *(bytes((byte,)) for byte in ONE[:12]))[0] == 408
    assert time.monotonic() - began < 3
    assert sandbox.users == []


def test_a_slow_connection_between_requests_is_none_of_it(sandbox: Sandbox) -> None:
    """Only bodies are waited for with a clock: a connection may be idle for longer."""
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=5)
    for _ in range(2):
        connection.request("POST", "/api/users/update", ONE, {"Api-Key": "key"})
        response = connection.getresponse()
        response.read()
        assert (response.status, response.will_close) == (200, False)
        time.sleep(0.5)
    connection.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"x" * 7_000_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /api/channels HTTP/1.1\r\nX: " + b"x" * 70000 + b"\r\n\r\n", 431),
        (b"GET /api/channels HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n", 431),
        (b"GET /api/channels HTTP/9.9\r\n\r\n", 505),
        (b"GET /api/channels FTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00 \x01\r\n", 400),
        (b"GET / / / HTTP/1.1\r\n\r\n", 400),
        (b"NONSENSE /api/channels HTTP/1.1\r\n\r\n", 501),
    ],
)
def test_absurd_heads(sandbox: Sandbox, request_: bytes, status: int) -> None:
    """What is no request is answered once, in the form of all answers, and ends the connection."""
    assert answer(sandbox, request_)[0] == status
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as raw:
        raw.sendall(request_)
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"%d" % status]
    assert b"Server: iterable-sandbox" in received
    assert b"Connection: close" in received


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b"[", b""), (b'{"a":[', b"")])
@pytest.mark.parametrize(
    ("method", "path", "around"),
    [
        ("POST", "/api/users/update", b"%s"),
        ("POST", "/api/users/update", b'{"email":"a@x.io","dataFields":{"f":%s}}'),
        ("POST", "/api/users/bulkUpdate", b'{"users":[{"email":"a@x.io","dataFields":{"f":%s}}]}'),
        ("POST", "/api/events/trackBulk", b'{"events":[{"eventName":"e","email":"a@x.io","dataFields":{"f":%s}}]}'),
        ("PUT", "/api/catalogs/c/items/i", b'{"value":{"f":%s}}'),
        ("POST", "/sandbox/faults", b"%s"),
        ("POST", "/sandbox/options", b'{"rate_overrides":%s}'),
    ],
)
def test_deep_json(sandbox: Sandbox, method: str, path: str, around: bytes, opening: bytes, closing: bytes) -> None:
    """JSON so deep that nobody can read it is refused, and the connection stays."""
    inner = b"1" if opening.endswith(b":") else b""
    body = around.replace(b"%s", opening * DEEP + inner + closing * DEEP)
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=30)
    for _ in range(2):
        connection.request(method, path, body, {"Api-Key": "key"})
        response = connection.getresponse()
        response.read()
        assert (response.status, response.will_close) == (400, False)
    connection.close()
    assert sandbox.users == []


@pytest.mark.parametrize("path", ["/api/channels", "/api/users/update", "/api/users/a@x.io", "/nothing", "/", "*"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_unknown_routes(sandbox: Sandbox, method: str, path: str) -> None:
    """They are answered as any route that does not exist, HEAD without the page, and the connection stays in step."""
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as raw:
        heads = []
        for name in ("PUT", method, "PUT"):
            raw.sendall(f"{name} {path} HTTP/1.1\r\nApi-Key: key\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            response = http.client.HTTPResponse(raw, method=name)
            response.begin()
            body = response.read()
            assert response.status == 404
            assert ("Action not found" in body.decode()) == (name != "HEAD")
            heads.append((response.getheader("Content-Type"), response.getheader("Content-Length")))
        assert len(set(heads)) == 1


TOO_MANY_DIGITS, NEGATIVE, OTHER_DIGITS = "9" * 5000, "-1", "%D9%A3%D9%A3"


@pytest.mark.parametrize("number", [TOO_MANY_DIGITS, NEGATIVE, OTHER_DIGITS])
@pytest.mark.parametrize(
    "target",
    [
        "/api/events/byUserId/1?limit={}",
        "/api/catalogs?page={}",
        "/api/catalogs?pageSize={}",
        "/api/lists/previewUsers?listId=3001&size={}",
        "/api/users/getSentMessages?userId=1&limit={}",
        "/api/lists/getUsers?listId={}",
        "/api/lists/{}/size",
        "/sandbox/state?project={}",
    ],
)
def test_absurd_numbers(sandbox: Sandbox, target: str, number: str) -> None:
    """A number of 5000 digits, a negative one, or one in other digits than ours is refused as a wrong one."""
    sandbox.project.lists.create("l", None, "Standard", 0)
    assert answer(sandbox, f"GET {target.format(number)} HTTP/1.1\r\nApi-Key: key\r\n\r\n".encode())[0] == 400


@pytest.mark.parametrize("target", ["calls?after={}", "calls?newest={}", "state?users=1&limit={}", "events?limit={}"])
def test_absurd_inspections(sandbox: Sandbox, target: str) -> None:
    """Inspections, too, say that a number is wrong."""
    assert answer(sandbox, f"GET /sandbox/{target.format(TOO_MANY_DIGITS)} HTTP/1.1\r\n\r\n".encode())[0] == 400


def test_absurd_lists_of_a_user(sandbox: Sandbox) -> None:
    """What is no list ID is no list, and the lists can still be seen."""
    for value in ("[[]]", "[1,[2,[3]]]", "{}", "[null]"):
        body = f'{{"email":"b@x.io","dataFields":{{"emailListIds":{value}}}}}'.encode()
        answer(sandbox, UPDATE + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert answer(sandbox, b"GET /sandbox/lists?members=1 HTTP/1.1\r\n\r\n")[0] == 200
