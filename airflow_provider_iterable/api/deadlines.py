"""A time limit for whole requests: shuts down the sockets of those that take too long.

The timeouts of a socket count from byte to byte, so that an answer of which a byte comes now and then would be read
for ever, its headers included. And a thread that waits for an answer cannot react to a stop. So a
thread of its own watches the requests under way, and shuts their sockets down when their time is over.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

POLL_SECONDS = 0.25
"""Seconds between two checks of the requests under way."""
STOP_SECONDS = 2.5
"""How long requests under way may still take when the client is stopped."""

_current = threading.local()


class Exchange:
    """One request under way, in one thread."""

    __slots__ = ("connection", "ended", "ends_at", "sock")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.ended = ""
        """Why its socket was shut down; empty if it was not."""
        self.connection: Any = None
        self.sock: Any = None

    def hang_up(self, why: str) -> None:
        """Shut down the socket, so that reading and writing fail at once."""
        self.ended = self.ended or why
        sock: Any = self.sock or getattr(self.connection, "sock", None)
        with suppress(Exception):  # it may be closed already, or not be open yet
            socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)


class Deadlines:
    """Watches the requests of one client.

    :param seconds: longest time of one request, from connecting to the last byte of its answer
    :param stopped: once it is set, requests under way have a few seconds left
    """

    def __init__(self, seconds: float, stopped: threading.Event) -> None:
        self._seconds, self._stopped = seconds, stopped
        self._lock = threading.Lock()
        self._under_way: dict[Exchange, None] = {}
        self._ends_at: float | None = None
        """When all requests end, of a client that is stopped."""
        self._thread: threading.Thread | None = None

    def begin(self) -> Exchange:
        """Watch the request that this thread makes, until it has ended."""
        exchange = _current.exchange = Exchange(time.monotonic() + self._seconds)
        with self._lock:
            self._under_way[exchange] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
        return exchange

    def end(self, exchange: Exchange) -> None:
        """Stop watching the request of this thread."""
        with self._lock:
            self._under_way.pop(exchange, None)

    def close(self) -> None:
        """Shut down the sockets of all requests."""
        with self._lock:
            self._ends_at = 0.0
            for exchange in self._under_way:
                exchange.hang_up("Stopped")

    def _watch(self) -> None:
        """Check the requests until there are none."""
        while True:
            if self._stopped.wait(POLL_SECONDS):
                time.sleep(POLL_SECONDS / 5)
            now = time.monotonic()
            with self._lock:
                if self._ends_at is None and self._stopped.is_set():
                    self._ends_at = now + STOP_SECONDS
                for exchange in self._under_way:
                    if now >= exchange.ends_at:
                        exchange.hang_up("ReadTimeout")
                    elif self._ends_at is not None and now >= self._ends_at:
                        exchange.hang_up("Stopped")
                if not self._under_way:
                    self._thread = None
                    return


class _Watched:
    """A connection that hands its socket to the exchange of its thread, so that it can be shut down."""

    sock: Any

    def connect(self) -> None:
        _current.exchange.connection = self
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = _current.exchange
        exchange.connection = self
        super().request(*args, **kwargs)  # type: ignore[misc]
        exchange.sock = self.sock  # which the connection forgets when the answer is the last one on it


class _Connection(_Watched, HTTPConnection):
    """A connection in clear."""


class _SecureConnection(_Watched, HTTPSConnection):
    """A connection by TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


POOLS = {"http": _Pool, "https": _SecurePool}
"""Pools by scheme, for a pool manager whose requests are looked after."""
