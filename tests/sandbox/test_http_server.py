"""The sandbox as a server: connections, headers, threads, the command line."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from airflow_provider_iterable.sandbox import Options, Sandbox
from airflow_provider_iterable.sandbox.__main__ import arguments, options_from
from airflow_provider_iterable.sandbox.faults import Fault, Kind
from airflow_provider_iterable.sandbox.inspection.inspections import INSPECTIONS

KEY = {"Api-Key": "key"}
ONE = json.dumps({"email": "a@x.io", "dataFields": {"f": 1}})


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that serves."""
    with Sandbox(project_type="email", rates=False) as running:
        yield running


@pytest.fixture
def connection(sandbox: Sandbox) -> Iterator[http.client.HTTPConnection]:
    """A connection to it."""
    made = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    yield made
    made.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: str = "") -> tuple[int, str]:
    """Make a request and read its answer."""
    connection.request(method, path, body, KEY)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_what_is_no_api_call_is_not_remembered(sandbox: Sandbox, connection: http.client.HTTPConnection) -> None:
    """A browser that asks for an icon finds nothing, and uses up no fault."""
    sandbox.faults({"kind": "drop_before"})
    for path in ("/favicon.ico", "/sandbox/state", "/", "/apia"):
        ask(connection, "GET", path)
    status, body = ask(connection, "GET", "/favicon.ico")
    assert (status, "Action not found" in body) == (404, True)
    assert sandbox.calls == []
    assert sandbox.service.faults.listed()[0]["matched"] == 0


def test_it_serves_on_the_loopback_only(sandbox: Sandbox) -> None:
    """The address is 127.0.0.1 with a free port."""
    assert sandbox.url == f"http://127.0.0.1:{sandbox.port}"
    assert sandbox._server.server_address[0] == "127.0.0.1"


def test_calls_arrive(sandbox: Sandbox, connection: http.client.HTTPConnection) -> None:
    """A call over HTTP writes to the project and is in the log."""
    assert ask(connection, "POST", "/api/users/update", ONE)[0] == 200
    assert len(sandbox.project.profiles) == 1
    assert [(call.path, call.status) for call in sandbox.calls] == [("/api/users/update", 200)]
    status, body = ask(connection, "GET", "/sandbox/state?users=1")
    assert (status, json.loads(body)["profiles"][0]["dataFields"]) == (200, {"f": 1})


@pytest.mark.parametrize("name", ["Api-Key", "api_key", "API-KEY", "Api_Key"])
def test_the_key_header_has_many_spellings(connection: http.client.HTTPConnection, name: str) -> None:
    """Case does not matter, and an underscore is as good as a dash."""
    connection.request("GET", "/api/channels", headers={name: "key"})
    response = connection.getresponse()
    response.read()
    assert response.status == 200


def test_one_connection_serves_many_requests(connection: http.client.HTTPConnection) -> None:
    """It stays open after successes and errors, and no answer waits for the acknowledgement of its head."""
    ask(connection, "GET", "/api/channels")
    before = connection.sock
    began = time.perf_counter()
    for _ in range(100):
        ask(connection, "POST", "/api/users/update", ONE)
        ask(connection, "POST", "/api/users/update", "{")
        ask(connection, "GET", "/nothing")
    assert connection.sock is before
    assert time.perf_counter() - began < 300 * 0.04 / 2


def test_an_answer_has_the_headers_of_one(connection: http.client.HTTPConnection) -> None:
    """Type, length, duration and a request ID are there."""
    connection.request("GET", "/api/channels", headers=KEY)
    response = connection.getresponse()
    body = response.read()
    assert response.getheader("Content-Type") == "application/json"
    assert response.getheader("Content-Length") == str(len(body))
    assert response.getheader("Request-Time", "").isdecimal()
    assert response.getheader("Iterable-Request-Id")


def test_a_body_may_come_in_chunks(sandbox: Sandbox, connection: http.client.HTTPConnection) -> None:
    """A body of unknown length is read to its end, and the connection stays in step."""
    for _ in range(2):
        connection.request("POST", "/api/users/update", iter([ONE[:9].encode(), ONE[9:].encode()]), KEY)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
    assert [(call.bytes, call.applied) for call in sandbox.calls] == [(len(ONE), True)] * 2


def test_a_body_without_a_proper_length_ends_the_connection(
    connection: http.client.HTTPConnection,
) -> None:
    """It is answered with 400, since what follows cannot be told apart."""
    connection.request("POST", "/api/users/update", headers=KEY | {"Content-Length": "many"})
    response = connection.getresponse()
    response.read()
    assert (response.status, response.will_close) == (400, True)


@pytest.mark.parametrize(("kind", "written"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_call_ends_the_connection(
    sandbox: Sandbox, connection: http.client.HTTPConnection, kind: str, written: int
) -> None:
    """The client sees the connection end without a byte."""
    sandbox.faults({"kind": kind})
    with pytest.raises(http.client.RemoteDisconnected):
        ask(connection, "POST", "/api/users/update", ONE)
    assert len(sandbox.project.profiles) == written
    connection.close()
    assert ask(connection, "POST", "/api/users/update", ONE)[0] == 200


def test_slow_uses_the_given_sleep() -> None:
    """A slow answer sleeps by the function the sandbox was given."""
    slept: list[float] = []
    with Sandbox("hybrid", sleep=slept.append) as sandbox:
        sandbox.faults({"kind": "slow", "seconds": 3600})
        connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
        assert ask(connection, "GET", "/api/channels")[0] == 200
    assert slept == [3600]


def test_drip_sends_one_byte_at_a_time() -> None:
    """The whole answer comes byte by byte, by the function the sandbox was given, and the next one at once."""
    slept: list[float] = []
    with Sandbox("hybrid", sleep=slept.append) as sandbox:
        sandbox.faults({"kind": "drip", "seconds": 2})
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as raw:
            raw.sendall(b"GET /api/users/forgotten HTTP/1.1\r\nApi-Key: key\r\n\r\n")
            received = b""
            while not received.endswith(b'{"hashedEmails":[]}'):
                received += raw.recv(65536)
            assert slept == [2] * len(received)
            raw.sendall(b"GET /api/users/forgotten HTTP/1.1\r\nApi-Key: key\r\n\r\n")
            assert raw.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert slept == [2] * len(received)


def test_a_client_need_not_wait_for_the_drip(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    """The server goes on when a client gives up between two bytes, and when it ends itself."""
    sandbox.faults({"kind": "drip", "seconds": 0.05, "times": -1})
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as raw:
            raw.sendall(b"GET /api/channels HTTP/1.1\r\nApi-Key: key\r\n\r\n")
            assert raw.recv(1) == b"H"
    left = socket.create_connection(("127.0.0.1", sandbox.port), timeout=10)
    left.sendall(b"GET /api/channels HTTP/1.1\r\nApi-Key: key\r\n\r\n")
    assert left.recv(1) == b"H"
    sandbox.stop()
    time.sleep(0.2)
    assert len(left.recv(65536)) < 20
    left.close()
    assert capfd.readouterr().err == ""


def test_calls_may_come_at_once(sandbox: Sandbox) -> None:
    """Parallel connections are served, and no write is lost."""

    def write(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
        users = [{"email": f"u{n}@x.io", "dataFields": {"f": n}} for n in range(50)]
        status, _ = ask(connection, "POST", "/api/users/bulkUpdate", json.dumps({"users": users}))
        connection.close()
        return status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(40))) == {200}
    assert [profile.writes for profile in sandbox.project.profiles] == [40] * 50
    assert [call.seq for call in sandbox.calls] == list(range(1, 41))


def test_the_page_stands_alone(connection: http.client.HTTPConnection) -> None:
    """The page at / is HTML and asks nobody else for anything."""
    status, body = ask(connection, "GET", "/")
    assert (status, body.startswith("<!DOCTYPE html>")) == (200, True)
    assert "http://" not in body
    assert "https://" not in body


def test_a_sandbox_is_strict_by_default() -> None:
    """Without options it is an email-based project with rates and quotas, a free port and no key of its own."""
    sandbox = Sandbox()
    sandbox.stop()
    options = sandbox.project.options
    assert sandbox.project.type == "email"
    assert (options.rates, options.forget_quota, options.max_bytes) == (True, 1000, 4_000_000)
    assert (options.api_key, options.max_fields, options.max_records) == (None, 1000, None)
    assert options.visible_after == 0


def test_options_and_reset_in_process(sandbox: Sandbox, connection: http.client.HTTPConnection) -> None:
    """`set` changes options, `reset` begins again, wrong options are a ValueError."""
    sandbox.set(api_key="other")
    assert ask(connection, "GET", "/api/channels")[0] == 401
    sandbox.reset("hybrid")
    assert ask(connection, "GET", "/api/channels")[0] == 200
    assert (sandbox.project.type, len(sandbox.calls)) == ("hybrid", 1)
    assert sandbox.users == []
    assert ask(connection, "POST", "/api/users/update", ONE)[0] == 200
    assert sandbox.users == [{"email": "a@x.io", "userId": None, "dataFields": {"f": 1}, "writes": 1}]
    with pytest.raises(ValueError, match="project_type"):
        sandbox.reset("none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="project_type"):
        Sandbox("none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no_such"):
        Sandbox(no_such=1)


def test_nothing_answers_after_the_end() -> None:
    """Once stopped, open connections end and new ones are refused."""
    with Sandbox() as sandbox:
        port = sandbox.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        assert ask(connection, "GET", "/api/channels")[0] == 200
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(connection, "GET", "/api/channels")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    assert "sandbox" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_told_to_stop(number: signal.Signals) -> None:
    """It prints one line with its address when it is ready, and ends with 0 on a signal."""
    command = [sys.executable, "-m", "airflow_provider_iterable.sandbox", "--port", "0"]
    command += ["--project-type", "hybrid", "--no-rates", "--api-key", "key", "--option", "max_fields=7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        state = json.loads(ask(connection, "GET", "/sandbox/state")[1])
        assert ask(connection, "GET", "/api/channels")[0] == 200
        process.send_signal(number)
        assert (process.wait(10), process.stdout.read()) == (0, "")
    assert state["project_type"] == "hybrid"
    options = state["options"]
    assert (options["rates"], options["api_key"], options["max_fields"]) == (False, "(set)", 7)


def test_options_on_the_command_line() -> None:
    """A value is JSON, or a string where it is none."""
    given = arguments(["--option", "too_large=BatchTooLarge", "--option", 'invalid_data=["a@x.io"]'])
    expected = {"record_identifiers": True, "too_large": "BatchTooLarge", "invalid_data": ["a@x.io"]}
    assert options_from(given) == expected
    assert (given.host, given.port, given.project_type) == ("127.0.0.1", 8090, "email")


def test_a_wrong_option_ends_the_command() -> None:
    """It says what is wrong and ends with 2."""
    command = [sys.executable, "-m", "airflow_provider_iterable.sandbox", "--option", "no_such=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "no_such" in done.stderr


DOCUMENTED = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text("utf-8")


def test_every_option_is_documented() -> None:
    """With its default as JSON, once; and nothing else is."""
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \| .", DOCUMENTED.partition("\n## Options\n")[2], re.MULTILINE))
    defaults = {name: getattr(Options(), name) for name in Options.__struct_fields__}
    assert {name: json.loads(text) for name, text in told.items()} == json.loads(msgspec.json.encode(defaults))


def test_every_inspection_is_documented() -> None:
    """In the table, and with a line of curl that works; nothing else is in the table."""
    told = re.findall(r"^\| `(\w+) (/sandbox/\w+)` \| .", DOCUMENTED, re.MULTILINE)
    assert sorted(told) == sorted(INSPECTIONS)
    lines = re.findall(
        r"^curl (?:-X (\w+) )?'?http://127.0.0.1:8090(/sandbox/[^' ]+)'?(?: -d '(.+)')?$", DOCUMENTED, re.M
    )
    assert {(method or "GET", path.partition("?")[0]) for method, path, _ in lines} == set(INSPECTIONS)
    with Sandbox("email") as sandbox:
        connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
        ask(connection, "POST", "/api/users/update", ONE)
        for method, path, body in lines:
            assert ask(connection, method or "GET", path, body)[0] == 200, path
        connection.close()
        assert sandbox.project.type == "hybrid"


def test_every_argument_is_documented() -> None:
    """Of the command line, in its table, with its default."""
    table = DOCUMENTED.partition("\n## Command line\n")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `--([\w-]+)` \| (.+?) \| .", table, re.MULTILINE))
    given = vars(arguments([]))
    assert {name.replace("-", "_") for name in told} == given.keys()
    for name, default in told.items():
        value = given[name.replace("-", "_")]
        assert default == f"`{value}`" or (not value and default in ("none", "off", "any")), name


def test_the_seed_and_the_fault_of_the_documentation() -> None:
    """The seed is one, and the table of faults has their members with their defaults, and all kinds."""
    seed = json.loads(re.findall(r"```json\n(.*?)```", DOCUMENTED, re.DOTALL)[0])
    with Sandbox("email") as sandbox:
        sandbox.seed(**seed)
        assert (len(sandbox.users), len(sandbox.purchases)) == (1, 1)
    table = DOCUMENTED.partition("\n## Faults\n")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .", table, re.MULTILINE))
    fault = Fault("slow")
    known = {name: getattr(fault, name) for name in fault.__struct_fields__ if name not in ("kind", "matched", "fired")}
    assert told == {"kind": "required", **{name: f"`{json.dumps(value)}`" for name, value in known.items()}}
    assert all(f"`{kind}`" in table for kind in get_args(Kind))
