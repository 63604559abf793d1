"""The HTTP/1.1 server of the sandbox."""

import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self, cast

from .calls import Call
from .endpoints.routes import query_of
from .inspection.history import stored_events, stored_purchases
from .inspection.inspections import inspect, page, stored
from .inspection.messaging import stored_channels
from .inspection.seeding import seed
from .inspection.stock import stored_catalogs, stored_lists
from .options import Options, ProjectType
from .project.project import Project
from .receiving import Receiver, UnreadableError
from .service import Incoming, Service
from .shapes import answers
from .shapes.answers import Answer

HOST = "127.0.0.1"
LINGER = 1.0


class Sandbox:
    """A local Iterable on a port of 127.0.0.1, or of another address; it serves from `start` to `stop`.

    Its properties show the first project; those that the option `project_keys` adds are shown by the inspections.
    """

    def __init__(
        self,
        project_type: ProjectType = "email",
        *,
        host: str = HOST,
        port: int = 0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        seed: int = 0,
        **options: Any,
    ) -> None:
        """Take the project type, an address and a port (0: a free one), time as functions, and options by name.

        Anything but a loopback address is open to whoever reaches it: the inspections ask for no key.
        """
        self.service = Service(project_type, options=Options().changed(options), clock=clock, seed=seed)
        self._server = _Server((host, port), self.service, sleep)
        self._thread = threading.Thread(target=self._serve, name="sandbox", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """The address to use instead of Iterable's, without a slash at the end."""
        host = str(self._server.server_address[0])
        return f"http://{HOST if host == '0.0.0.0' else host}:{self.port}"

    @property
    def project(self) -> Project:
        """The project; another one after a reset."""
        return self.service.project

    @property
    def calls(self) -> list[Call]:
        """The API calls so far."""
        with self.service.lock:
            return self.service.calls.after()

    @property
    def users(self) -> list[dict[str, Any]]:
        """All profiles as stored: email, userId, dataFields without system fields, and writes."""
        with self.service.lock:
            return stored(self.project)

    @property
    def lists(self) -> list[dict[str, Any]]:
        """All lists with their members."""
        with self.service.lock:
            return stored_lists(self.project)

    @property
    def channels(self) -> list[dict[str, Any]]:
        """All channels with their message types, and how many users are subscribed to each."""
        with self.service.lock:
            return stored_channels(self.project)

    @property
    def catalogs(self) -> list[dict[str, Any]]:
        """All catalogs with their items."""
        with self.service.lock:
            return stored_catalogs(self.project)

    @property
    def events(self) -> list[dict[str, Any]]:
        """All custom events, each with how often it was written."""
        with self.service.lock:
            return stored_events(self.project.events)

    @property
    def purchases(self) -> list[dict[str, Any]]:
        """All purchases, each with how often it was written."""
        with self.service.lock:
            return stored_purchases(self.project.purchases)

    def faults(self, *faults: dict[str, Any]) -> None:
        """Make future calls go wrong."""
        with self.service.lock:
            self.service.faults.add(faults)

    def set(self, **options: Any) -> None:
        """Change options."""
        with self.service.lock:
            self.project.options = self.project.options.changed(options)

    def seed(self, **content: Any) -> None:
        """Add users, channels, lists, catalogs, events and so on, as POST /sandbox/seed does."""
        with self.service.lock:
            seed(self.service, {}, content)

    def reset(self, project_type: ProjectType | None = None) -> None:
        """Go back to the start: an empty project, no calls, no faults, the first options."""
        self.service.reset(project_type)

    def start(self) -> Self:
        """Serve in a thread."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and close all connections."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    """Remembers open connections, so that all of them can be closed."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: Service, sleep: Callable[[float], None]) -> None:
        self.service = service
        self.sleep = sleep
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_bind(self) -> None:
        # Not HTTPServer's own, which looks up a host name and may wait for it.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client may close its connection at any time; any other error is one of the sandbox.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        self.server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept open between requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        started = time.perf_counter()
        server = cast(_Server, self.server)
        try:
            body = self._body(server.service.project.options.body_seconds)
        except UnreadableError as error:
            self.send_error(error.status)
            return
        path, _, query = self.path.partition("?")
        answer: Answer | None
        if path.startswith("/sandbox/"):
            answer = inspect(server.service, self.command, path, query_of(query), body)
        elif path == "/" and self.command == "GET":
            answer = answers.text(200, page(), answers.HTML)
        elif not path.startswith("/api/"):
            answer = answers.page(404, "Action not found")
        else:
            headers = {name.lower().replace("_", "-"): value for name, value in self.headers.items()}
            incoming = Incoming(self.command, path, query, headers, body, self.client_address[0])
            answer = server.service.handle(incoming, server.sleep)
        if answer is None:
            self.close_connection = True
        else:
            self._send(answer, started)

    # These names are what http.server calls; it refuses other methods itself, with 501.
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815
    do_HEAD = do_OPTIONS = do_TRACE = do_CONNECT = _serve  # noqa: N815

    def _body(self, seconds: float) -> bytes:
        receiver = Receiver(self.connection, self.rfile, seconds)
        return receiver.body(self.headers.get("Transfer-Encoding", ""), self.headers.get("Content-Length", "0"))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that cannot be read, and end the connection: where the next one starts is unknown."""
        self.close_connection = True
        self._send(answers.page(code, f"{int(code)} {self.responses[code][0]}"), time.perf_counter())
        self._read_rest()

    def _read_rest(self) -> None:
        """Read for a moment what the client still sends: closing at once could lose the answer."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER)
            end = time.monotonic() + LINGER
            while time.monotonic() < end and self.connection.recv(1 << 20):
                pass

    def _send(self, answer: Answer, started: float) -> None:
        """Send head and body in one piece, so that neither waits for the acknowledgement of the other."""
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Server": "iterable-sandbox",
            "Request-Time": str(round((time.perf_counter() - started) * 1000)),
            "Iterable-Request-Id": uuid.uuid4().hex,
            **({"Connection": "close"} if self.close_connection else {}),
            **answer.headers,
        }
        if self.command == "HEAD":
            answer.body = b""
        phrase = self.responses.get(answer.status, ("", ""))[0]
        lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        message = "\r\n".join((*lines, "", "")).encode("latin-1") + answer.body
        if not answer.drip:
            self.wfile.write(message)
            return
        for number in message:
            cast(_Server, self.server).sleep(answer.drip)
            self.wfile.write(bytes((number,)))

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: calls are in a log of their own."""
