"""A gateway before the sandbox: it passes requests on, or answers them itself, as one before Iterable may do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.services import Answer

Passes = Callable[[str, str], bool]


@dataclass
class Gateway:
    """What the gateway answers by itself, and what it passes on.

    :param passes: whether a request of this method and path is passed on; called for one request at a time
    """

    answer: Answer = field(default_factory=Answer)
    passes: Passes = lambda method, path: True
    url: str = ""
    answered: int = 0
    """Requests that it answered itself."""


def only(path: str) -> Passes:
    """Pass on requests of this path and no others."""
    return lambda method, asked: asked == path


def first(number: int, part: str) -> Passes:
    """Pass on all requests but those whose path has this part, of which only the first ones pass."""
    seen = 0

    def passes(method: str, path: str) -> bool:
        nonlocal seen
        seen += part in path
        return part not in path or seen <= number

    return passes


@contextmanager
def gateway_before(url: str) -> Iterator[Gateway]:
    """Serve a gateway before a server, on a free port of the loopback address, while the context lasts."""
    state, lock, target = Gateway(), threading.Lock(), urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                passed = state.passes(self.command, self.path)
                state.answered += not passed
            self.give(self.ask(body) if passed else state.answer)

        def ask(self, body: bytes) -> Answer:
            connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
            try:
                connection.request(self.command, self.path, body or None, dict(self.headers))
                found = connection.getresponse()
                return Answer(found.status, found.read(), {"Content-Type": found.headers.get("Content-Type", "")})
            finally:
                connection.close()

        def give(self, answer: Answer) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status not in (204, 304):
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

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
        server.shutdown()
        server.server_close()
        thread.join()
