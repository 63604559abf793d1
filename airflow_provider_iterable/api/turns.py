"""Whose turn it is: the paces of all endpoints, shared by the threads of a client."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Annotated

from msgspec import Meta, Struct

from airflow_provider_iterable.api.pacing import ASSUMED_SECONDS, FIRST_RATE, HIGHEST_RATE, Pace, duration, steady
from airflow_provider_iterable.engine.forecast import Expected
from airflow_provider_iterable.engine.vocabulary import Reply

UNSAID_HOLD = 1.0
"""Seconds for which an endpoint is not called after a 429 that does not say how long."""

_RATE_IN_WORDS = re.compile(rb"rate limit of (\d+(?:\.\d+)?) per (second|minute|hour|day)\b")
"""What Iterable says in a 429: "Exceeded rate limit of 4.0 per minute for endpoint: ..."."""
_UNITS = {b"second": 1, b"minute": 60, b"hour": 3600, b"day": 86_400}

Endpoint = tuple[str, str, float]
"""Method, template, and requests per second that Iterable documents; 0 where it documents none."""


_Positive = Annotated[float, Meta(gt=0, lt=1e6)]


class Measured(Struct, frozen=True, array_like=True):
    """What was measured of an endpoint."""

    seconds: _Positive
    """What an answer takes."""
    rate: _Positive | None = None
    """Requests per second that were reached; ``None``: as far as it is known, those that it allows."""


class Turns:
    """The turns of a client's requests.

    :param share: the share of each endpoint's rate that is the client's
    :param rates: requests per second by ``"METHOD /template"``, where they are others
    :param clock: seconds that never run backwards
    :param sleep: waits for some seconds
    :param stopped: once it is set, nobody waits
    """

    def __init__(
        self,
        share: float,
        rates: Mapping[str, float],
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        stopped: threading.Event,
    ) -> None:
        self._share, self._rates = share, rates
        self._clock, self._sleep, self._stopped = clock, sleep, stopped
        self._lock = threading.Lock()
        self._paces: dict[Endpoint, Pace] = {}

    def wait(self, endpoint: Endpoint, longest: float) -> float:
        """Wait for the next turn; return for how long the endpoint is held, without waiting, if that is too long."""
        while not self._stopped.is_set():
            with self._lock:
                pace, now = self._pace(endpoint), self._clock()
                held = pace.held_until - now
                if held > longest:
                    return held
                wait, holds = pace.reserve(now), pace.holds
            if wait <= 0:
                break
            self._sleep(wait)
            if pace.holds == holds:
                break
            # A 429 came in meanwhile, and the turns of before are void: queue again.
        return 0.0

    def note(self, endpoint: Endpoint, sent_at: float, reply: Reply) -> None:
        """Have the pace follow an answer."""
        with self._lock:
            pace, now = self._pace(endpoint), self._clock()
            if reply.status == 429:
                until = now + (UNSAID_HOLD if reply.retry_after is None else reply.retry_after)
                pace.refused(now, sent_at, until, self._told(reply.body))
            elif reply.status:
                pace.answered(now, now - sent_at)

    def window(self, endpoint: Endpoint, most: int) -> int:
        """Return how many requests are to be in flight so that the rate is reached, up to ``most``."""
        with self._lock:
            return self._pace(endpoint).window(most)

    def expected(self, endpoint: Endpoint, requests: int, most: int, measured: Measured | None) -> Expected:
        """Return how long some requests take, at the rate of their endpoint and at a pace that was measured.

        :param most: how many are in flight, at most
        """
        rate, first = self._limits(endpoint)
        known = bool(endpoint[2]) or _name(endpoint) in self._rates
        seconds = duration(requests, rate, first, ASSUMED_SECONDS, most)
        if measured is None:
            return Expected(rate, known, seconds, None, ASSUMED_SECONDS)
        reached = min(rate, measured.rate or rate)
        again = duration(requests, reached, first, measured.seconds, most)
        return Expected(rate, known, seconds, again, measured.seconds)

    def measured(self, most: int) -> Mapping[str, tuple[Measured, float]]:
        """Return what was measured of each endpoint, and the requests per second to expect of it.

        :param most: how many are in flight, at most
        """
        with self._lock:
            return {
                _name(endpoint): (Measured(pace.seconds, pace.reached), steady(pace.most, pace.seconds, most))
                for endpoint, pace in self._paces.items()
                if pace.seconds
            }

    def _pace(self, endpoint: Endpoint) -> Pace:
        pace = self._paces.get(endpoint)
        if pace is None:
            pace = self._paces[endpoint] = Pace(*self._limits(endpoint))
        return pace

    def _limits(self, endpoint: Endpoint) -> tuple[float, float]:
        """Return the rate that is never exceeded, and the one to begin with."""
        known = self._rates.get(_name(endpoint)) or endpoint[2]
        return (known or HIGHEST_RATE) * self._share, (known or FIRST_RATE) * self._share

    def _told(self, body: bytes) -> float | None:
        """Return the rate that an answer names, as far as it is this client's."""
        found = _RATE_IN_WORDS.search(body)
        return float(found[1]) / _UNITS[found[2]] * self._share if found else None


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint[0]} {endpoint[1]}"
