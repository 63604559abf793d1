"""The servers that tests talk to: databases that may be there, and one that answers HTTP as it is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest


def postgres_uri() -> str:
    """Return the URI of the Postgres to test with; skip, or fail where services are required, without one."""
    return _reachable("ITERABLE_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")


def mysql_uri() -> str:
    """Return the URI of the MySQL or MariaDB to test with; skip, or fail where services are required, without one."""
    return _reachable("ITERABLE_TEST_MYSQL", "mysql://root@127.0.0.1:3306/test")


def _reachable(variable: str, default: str) -> str:
    uri = os.environ.get(variable, default)
    if not uri:
        lacking(f"{variable} is empty: no test is to use it")
    address = urlsplit(uri)
    try:
        socket.create_connection((address.hostname or "", address.port or 0), timeout=2).close()
    except OSError as error:
        lacking(f"{variable}: nothing answers at {address.hostname}:{address.port} ({error})")
    return uri


def lacking(reason: str) -> None:
    """Skip, or fail where services are required."""
    if os.environ.get("ITERABLE_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


POOLER = """
[databases]
{database} = host={host} port={port} user={user}{secret}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def pooler(size: int = 2) -> Iterator[str]:
    """Run pgbouncer in transaction mode before Postgres, and give the URI; skip, or fail, where there is none.

    :param size: how many connections to Postgres all clients share
    """
    address, program = urlsplit(postgres_uri()), shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        lacking("pgbouncer is not installed")
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pooler-") as folder:
        os.chmod(folder, 0o755)
        told = {"host": address.hostname, "port": address.port, "user": address.username, "listen": listen}
        told |= {
            "database": address.path.strip("/"),
            "secret": f" password={address.password}" * bool(address.password),
        }
        path = Path(folder) / "pgbouncer.ini"
        path.write_text(POOLER.format(**told, size=size))
        # It refuses to be run by root.
        other = {"user": "nobody"} if os.geteuid() == 0 else {}
        with (
            (Path(folder) / "log").open("w+") as log,
            subprocess.Popen(
                [program, str(path)],
                stdout=log,
                stderr=log,
                cwd="/",
                **other,  # type: ignore[call-overload]
            ) as process,
        ):
            try:
                _await(listen, process, Path(folder) / "log")
                yield address._replace(netloc=f"{address.username}@127.0.0.1:{listen}").geturl()
            finally:
                process.terminate()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens at a port."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)


class Line:
    """A line to a server, on a free port of the loopback address, that can be cut and mended."""

    def __init__(self, uri: str) -> None:
        address = urlsplit(uri)
        self._server = (address.hostname or "", address.port or 0)
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = False
        self._door = socket.create_server(("127.0.0.1", 0))
        self.uri = address._replace(netloc=f"{address.username}@127.0.0.1:{self._door.getsockname()[1]}").geturl()
        """Where the server is to be found."""
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Hang up on everybody, and let nobody in."""
        with self._lock:
            self._cut = True
            for end in self._ends:
                _hang_up(end)

    def mend(self) -> None:
        """Let people in again."""
        self._cut = False

    def close(self) -> None:
        """Remove the line."""
        self.cut()
        self._door.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            with self._lock:
                if self._cut:
                    near.close()
                    continue
                far = socket.create_connection(self._server)
                self._ends |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        _hang_up(target)
        with self._lock:
            self._ends.discard(source)
        source.close()


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Heard:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """A response to give; without a length the connection is dropped in its midst.

    What drips comes byte by byte, and never ends: before the status line, among the headers, or in a body with or
    without a length.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    truncated: bool = False
    dropped: bool = False
    drips: Literal["", "at once", "headers", "body", "endless body"] = ""
    late: float = 0.0


class Answering:
    """An HTTP server on this machine that gives the queued answers, then empty objects, and keeps what it heard."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.history: list[Heard] = []
        self.connections = 0
        self.url = ""
        self.closing, self.hung_up = threading.Event(), threading.Event()
        """Set at the end; and when a client has gone while it was dripped at."""


@contextmanager
def answering(give: Callable[[Heard], Answer] | None = None) -> Iterator[Answering]:
    """Serve on a free port of the loopback address while the context lasts.

    :param give: makes the answer to a request; default: the next of the queue, or an empty object
    """
    state = Answering()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            state.connections += 1

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            heard = Heard(self.command, self.path, headers, body)
            state.history.append(heard)
            if give is not None:
                self.give(give(heard))
            else:
                self.give(state.answers.popleft() if state.answers else Answer())

        def give(self, answer: Answer) -> None:
            state.closing.wait(answer.late)
            if answer.dropped:
                self.close_connection = True
                return
            if answer.drips:
                self.drip(answer)
                return
            if give is not None or "Server" in answer.headers:
                self.send_response_only(answer.status)
            else:
                self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status not in (204, 304):
                self.send_header("Content-Length", str(len(answer.body) + 100 * answer.truncated))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = self.close_connection or answer.truncated

        def drip(self, answer: Answer) -> None:
            self.close_connection = True
            begun = {
                "at once": b"",
                "headers": b"HTTP/1.1 200 OK\r\nX-Long: ",
                "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
                "endless body": b"HTTP/1.0 200 OK\r\n\r\n",
            }[answer.drips]
            with suppress(OSError):
                self.wfile.write(begun)
                while not state.closing.wait(0.02):
                    self.wfile.write(b"x")
            state.hung_up.set()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output to itself."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
