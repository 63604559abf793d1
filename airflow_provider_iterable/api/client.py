"""The HTTP client: waits for the rate limit, sends a request, returns a Reply; does not interpret answers.

Every request of a task passes here, from whichever thread: tokens are reserved under a lock, waited for outside it,
and a request that Iterable answers with 429 holds its endpoint for all the others. Nothing is retried, redirected or
raised: an answer that never came is a :class:`Reply` too, and so is one that takes too long, or is absurdly large.
Identifiers (in paths) and the key stay inside.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from airflow_provider_iterable import __version__
from airflow_provider_iterable.api.connections import (
    ONCE,
    UNANSWERED,
    Adapter,
    connections,
    name_of,
    never_connected,
    read,
    silence_urllib3,
)
from airflow_provider_iterable.api.deadlines import Deadlines
from airflow_provider_iterable.api.shared_paces import SharedPaces
from airflow_provider_iterable.api.turns import Measured, Turns
from airflow_provider_iterable.engine.forecast import Expected
from airflow_provider_iterable.engine.vocabulary import Batch, Call, Reply, Request
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.masking import logger, masked, word

log = logger(__name__)

LONGEST_HOLD = 86_400.0
"""No documented limit counts over more than a day; a longer wait is not a number of seconds."""
LONGEST_TURN = 10.0
"""Seconds for which a batch waits here while its endpoint is held; whoever sends it decides about longer waits."""
LONGEST_WAIT = 600.0
"""Seconds for which any other request does; it is not sent if they are not enough."""
_PRODUCT = re.compile(r"[A-Za-z][A-Za-z-]{0,29}(?:/v?[0-9][0-9.]{0,15})?(?![^ ])")
MAX_IN_FLIGHT = 64
"""Requests of a task that may be under way at once, unless something else is said."""


class CallLog(Struct, frozen=True):
    """One request as it may be shown and stored: counts and codes, no identifiers and no bodies."""

    method: str
    template: str
    status: int
    """HTTP status; 0 when there was no answer."""
    code: str
    """Iterable's ``code``, or the exception's class name for status 0; empty when there was none."""
    rows: int
    sent: int
    """Bytes of the request's body."""
    milliseconds: float
    request_id: str

    @property
    def line(self) -> str:
        """The request as a line of a log."""
        code = f" {self.code}" if self.code and self.code != "Success" else ""
        request = f", request {self.request_id}" if self.request_id else ""
        return (
            f"{self.method} {self.template}: {self.status or 'no answer'}{code}, {self.rows} rows, {self.sent} bytes, "
            f"{self.milliseconds:.0f} ms{request}"
        )


T = TypeVar("T")
OnCall = Callable[[CallLog], None]


class _Envelope(Struct):
    code: Any = None


class _Bucket429(Struct):
    rateLimitReset: Any = None  # noqa: N815 (Iterable's name)


class _Limited(Struct):
    params: _Bucket429 | None = None


class Client:
    """Sends requests to one Iterable project, at its pace; safe to share between threads.

    :param base_url: scheme, host, and port or path prefix if any, such as ``https://api.iterable.com``.
    :param api_key: a server-side key of the project.
    :param rate_share: the share of each endpoint's rate that this client may use, above 0 and at most 1.
    :param rates: requests per second by ``"METHOD /template"``, where they are others than those that Iterable
        documents, or than the 300 up to which an endpoint is tried that has no documented rate.
    :param timeout: seconds to wait for a connection, and for each read (default 5 and 60).
    :param total: seconds that one request may take, from connecting to the last byte of its answer (default 120).
    :param max_in_flight: most requests under way at once, each on a connection of its own (default 64).
    :param clock: seconds that never run backwards.
    :param sleep: waits for some seconds; by default :meth:`stop` cuts it short.
    :param on_call: called with each request that was sent; an error it raises is logged and swallowed.
    :param stopped: stops the client from outside, when it is set.
    :param shared: the paces that are kept with other tasks of this machine, closed with the client (default: none).
    :raises ConfigurationError: when the URL is not one of a host, the key cannot be an HTTP header, or ``rate_share``
        is out of range.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        rate_share: float = 1.0,
        rates: Mapping[str, float] | None = None,
        timeout: tuple[float, float] = (5, 60),
        total: float = 120,
        max_in_flight: int = MAX_IN_FLIGHT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        on_call: OnCall | None = None,
        stopped: threading.Event | None = None,
        shared: SharedPaces | None = None,
    ) -> None:
        _check(base_url, api_key, rate_share)
        self._base_url = base_url.rstrip("/")
        self._headers = {
            "Api-Key": api_key,
            "Content-Type": "application/json",
            "Accept": "*/*",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"airflow-provider-iterable/{__version__}",
        }
        self.max_in_flight = max_in_flight
        self._timeout = Timeout(connect=timeout[0], read=timeout[1])
        # What requests knows of proxies and certificates, once; then its connections alone, for what it does besides
        # for each request costs twice as much as they do. No more are opened than are kept.
        self._adapter = Adapter(pool_connections=1, pool_maxsize=max_in_flight, pool_block=True)
        self._pool, self._prefix = connections(self._adapter, self._base_url)
        self._clock = clock
        self._stopped = stopped or threading.Event()
        self._deadlines = Deadlines(total, self._stopped)
        self._permitted: Callable[[], bool] = lambda: True
        self._room = threading.BoundedSemaphore(max_in_flight)
        self._sleep = sleep or self._stopped.wait
        self._on_call = on_call
        self._turns = Turns(rate_share, rates or {}, self._clock, self._sleep, self._stopped, shared)
        silence_urllib3(self._base_url)

    def __repr__(self) -> str:
        return f"Client({self.host})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The host, with its port if one was given, for people to read."""
        return urlsplit(self._base_url).netloc

    def send(self, batch: Batch) -> Reply:
        """Send a batch in one request, when its endpoint's turn comes, and return whatever came back.

        What would have to wait long for its endpoint comes back as a 429 that was not sent.
        """
        call = batch.call
        return self._pass(call.wrap(batch.operations), call.rate, len(batch.operations), LONGEST_TURN)

    def request(self, request: Request, rate: float) -> Reply:
        """Send one request, when its endpoint's turn comes, and return whatever came back.

        :param rate: requests per second that Iterable documents for the endpoint; 0 where it documents none.
        """
        return self._pass(request, rate, 1, LONGEST_WAIT)

    def window(self, call: Call) -> int:
        """Return how many requests of a call are to be in flight so that its rate is reached."""
        return self._turns.window((call.method, call.template, call.rate), self.max_in_flight)

    def expected(self, measured: Mapping[str, Measured], most: int | None, call: Call, requests: int) -> Expected:
        """Return how long some requests take.

        :param measured: by endpoint, what was measured in earlier runs
        :param most: how many of them are in flight, if that is less than ``max_in_flight``
        """
        most = min(self.max_in_flight, most or self.max_in_flight)
        endpoint = (call.method, call.template, call.rate)
        return self._turns.expected(endpoint, requests, most, measured.get(f"{call.method} {call.template}"))

    def measured(self) -> Mapping[str, tuple[Measured, float]]:
        """Return what was measured of each endpoint until now, and the requests per second to expect of it."""
        return self._turns.measured(self.max_in_flight)

    def held(self) -> float:
        """Return for how many more seconds Iterable wants no request at some endpoint; 0: it said nothing like it."""
        return self._turns.held()

    def pause(self, seconds: float) -> None:
        """Wait between tries; :meth:`stop` cuts it short."""
        self._sleep(seconds)

    def stop(self) -> None:
        """Let no request start from now on; waiting ends at once, answers under way have a few seconds to arrive."""
        self._stopped.set()

    def require(self, permitted: Callable[[], bool]) -> None:
        """Ask before each request, when there is nothing left to wait for; once it is refused, stop."""
        self._permitted = permitted

    def close(self) -> None:
        """Stop, hang up on whatever is under way, and close the connections."""
        self.stop()
        self._deadlines.close()
        self._adapter.close()
        self._turns.close()

    def _pass(self, request: Request, rate: float, rows: int, longest: float) -> Reply:
        endpoint = (request.method, request.template, rate)
        held = self._turns.wait(endpoint, longest)
        if held:
            return Reply(status=429, retry_after=held, error="Held", sent=False)
        with self._room:  # here, and not where the adapter has no connection left: a permission is soon stale
            if not self._stopped.is_set() and not self._permitted():
                self.stop()
            if self._stopped.is_set():
                return Reply(status=0, error="Stopped", sent=False)
            started = self._clock()
            reply = self._exchange(request, started)
        self._turns.note(endpoint, started, reply)
        if self._on_call is not None:
            self._record_call(self._on_call, request, reply, rows)
        return reply

    def _exchange(self, request: Request, started: float) -> Reply:
        error: Exception | None = None
        exchange = self._deadlines.begin()
        try:
            response = self._pool.urlopen(
                request.method,
                self._prefix + request.path + (f"?{urlencode(request.query, doseq=True)}" if request.query else ""),
                request.body,
                self._headers,
                ONCE,
                redirect=False,
                assert_same_host=False,
                timeout=self._timeout,
                preload_content=False,
            )
            body = read(response)
        except Exception as caught:
            if not exchange.ended and not isinstance(caught, UNANSWERED):
                raise
            error = caught
        finally:
            self._deadlines.end(exchange)
        if error is not None or exchange.ended:  # it may look complete when it was cut off
            # Only the class: messages of these exceptions hold the URL, and URLs hold email addresses.
            return Reply(
                status=0,
                milliseconds=self._since(started),
                error=exchange.ended or name_of(error),
                sent=error is None or not never_connected(error),
            )
        return Reply(
            status=response.status,
            body=body,
            retry_after=_retry_after(response.status, response.headers, body),
            milliseconds=self._since(started),
            request_id=response.headers.get("Iterable-Request-Id", ""),
            server=_product(response.headers.get("Server", "")),
        )

    def _since(self, started: float) -> float:
        return (self._clock() - started) * 1000

    def _record_call(self, on_call: OnCall, request: Request, reply: Reply, rows: int) -> None:
        entry = CallLog(
            method=request.method,
            template=request.template,
            status=reply.status,
            code=reply.error or word(_code(reply.body)),
            rows=rows,
            sent=len(request.body or b""),
            milliseconds=reply.milliseconds,
            request_id=masked(reply.request_id) if _REQUEST_ID.fullmatch(reply.request_id) else "",
        )
        try:
            on_call(entry)
        except Exception as error:  # What Iterable accepted stays accepted, whether or not it could be noted.
            log.warning("A call could not be recorded: %s", type(error).__name__)


_REQUEST_ID = re.compile(r"[\w.:=+/-]{1,200}")
"""What an ID looks like; other texts, which a server between may put there, may hold anything."""


def _check(base_url: str, api_key: str, rate_share: float) -> None:
    url = urlsplit(base_url)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or "@" in url.netloc:
        raise ConfigurationError("The base URL must be http or https, a host, and nothing secret or after a '?'.")
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigurationError("The API key is empty or holds blanks or other characters no key has.")
    if not 0 < rate_share <= 1:
        raise ConfigurationError(f"rate_share must be above 0 and at most 1, not {rate_share}.")


def _retry_after(status: int, headers: Mapping[str, str], body: bytes) -> float | None:
    if status < 400:
        return None
    reset = _decoded(body, _Limited) if status == 429 else None
    header = headers.get("Retry-After")
    said = (_seconds(reset.params.rateLimitReset if reset and reset.params else None), _seconds(header), _until(header))
    return next((seconds for seconds in said if seconds is not None), None)


def _product(server: str) -> str:
    """Return the name and version with which a ``Server`` header begins; empty when it begins with something else."""
    found = _PRODUCT.match(server)
    return found[0] if found else ""


def _seconds(value: Any) -> float | None:
    """Read a number of seconds, however it is typed; dates and nonsense are None."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds <= LONGEST_HOLD else None


def _until(header: str | None) -> float | None:
    """Read a date as the seconds until then; None when it is over, for clocks differ, or is no date."""
    try:
        seconds = _DATES.parse_retry_after(header or "")
    except (HTTPError, ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= LONGEST_HOLD else None


_DATES = Retry()
_DATES.retry_after_max = sys.maxsize  # else urllib3 makes six hours of a whole day, and of any nonsense


def _code(body: bytes) -> str:
    envelope = _decoded(body, _Envelope)
    return envelope.code if envelope and isinstance(envelope.code, str) else ""


def _decoded(body: bytes, kind: type[T]) -> T | None:
    """Decode what ``kind`` names and skip the rest; None when the body is not such JSON."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
