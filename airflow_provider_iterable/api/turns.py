"""Whose turn it is: the paces of all endpoints, shared by the threads of a client and the tasks of a machine."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from msgspec import Meta, Struct

from airflow_provider_iterable.api.pacing import (
    ASSUMED_SECONDS,
    BURST_SECONDS,
    FIRST_RATE,
    HIGHEST_RATE,
    Bucket,
    Pace,
    duration,
    steady,
)
from airflow_provider_iterable.api.shared_paces import SharedPaces
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

    A request needs a token of its endpoint, which all clients share as far as they know of each other, and before that
    one of the client's own, if no more than a part of the rate is to be its.

    :param share: the share of each endpoint's rate that is the client's
    :param rates: requests per second by ``"METHOD /template"``, where they are others
    :param clock: seconds that never run backwards
    :param sleep: waits for some seconds
    :param stopped: once it is set, nobody waits
    :param shared: the paces that are kept with other tasks of the machine; ``None``: each is kept alone
    """

    def __init__(
        self,
        share: float,
        rates: Mapping[str, float],
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        stopped: threading.Event,
        shared: SharedPaces | None = None,
    ) -> None:
        self._share, self._rates = share, rates
        self._clock, self._sleep, self._stopped = clock, sleep, stopped
        self._shared = shared
        self._lock = threading.Lock()
        self._paces: dict[Endpoint, Pace] = {}
        self._own: dict[Endpoint, Bucket] = {}

    def wait(self, endpoint: Endpoint, longest: float) -> float:
        """Wait for the next turn; return for how long the endpoint is held, without waiting, if that is too long."""
        if self._share < 1:
            with self._lock:
                wait = self._bucket(endpoint).reserve(self._clock())
            if wait > 0 and not self._stopped.is_set():
                self._sleep(wait)
        while not self._stopped.is_set():
            with self._pace(endpoint) as (pace, now):
                held = pace.held_until - now
                if held > longest:
                    return held
                wait, holds = pace.reserve(now), pace.holds
            if wait <= 0:
                break
            self._sleep(wait)
            with self._pace(endpoint) as (pace, _):
                valid = pace.holds == holds
            if valid:
                break
            # A 429 came in meanwhile, and the turns of before are void: queue again.
        return 0.0

    def note(self, endpoint: Endpoint, sent_at: float, reply: Reply) -> None:
        """Have the pace follow an answer."""
        if not reply.status:
            return
        with self._pace(endpoint) as (pace, now):
            if reply.status == 429:
                until = now + (UNSAID_HOLD if reply.retry_after is None else reply.retry_after)
                pace.refused(now, sent_at, until, _told(reply.body))
            else:
                pace.answered(now, now - sent_at)

    def held(self) -> float:
        """Return for how many more seconds some endpoint is held; 0: none is."""
        with self._lock:
            now = self._clock()
            return max([0.0, *(pace.held_until - now for pace in self._paces.values())])

    def window(self, endpoint: Endpoint, most: int) -> int:
        """Return how many requests are to be in flight so that the rate is reached, up to ``most``."""
        with self._lock:
            pace = self._alone(endpoint)
            return pace.window(most, pace.most * self._share)

    def close(self) -> None:
        """Keep all paces alone from now on."""
        with self._lock:
            if self._shared is not None:
                self._shared.close()

    def expected(self, endpoint: Endpoint, requests: int, most: int, measured: Measured | None) -> Expected:
        """Return how long some requests take, at the rate of their endpoint and at a pace that was measured.

        :param most: how many are in flight, at most
        """
        rate, first = self._limits(endpoint)
        rate, first = rate * self._share, min(first, rate * self._share)
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
                _name(endpoint): (
                    Measured(pace.seconds, pace.reached),
                    steady(pace.most * self._share, pace.seconds, most),
                )
                for endpoint, pace in self._paces.items()
                if pace.seconds
            }

    @contextmanager
    def _pace(self, endpoint: Endpoint) -> Iterator[tuple[Pace, float]]:
        """Give an endpoint's pace, and the moment, to one thread of one task at a time."""
        with self._lock:
            pace = self._alone(endpoint)
            if self._shared is None:
                yield pace, self._clock()
            else:
                with self._shared.kept(f"{_name(endpoint)} {pace.most}", pace, self._clock) as now:
                    yield pace, now

    def _alone(self, endpoint: Endpoint) -> Pace:
        pace = self._paces.get(endpoint)
        if pace is None:
            pace = self._paces[endpoint] = Pace(*self._limits(endpoint))
        return pace

    def _bucket(self, endpoint: Endpoint) -> Bucket:
        bucket = self._own.get(endpoint)
        if bucket is None:
            rate = self._limits(endpoint)[0] * self._share
            bucket = self._own[endpoint] = Bucket(rate, max(1.0, rate * BURST_SECONDS))
        return bucket

    def _limits(self, endpoint: Endpoint) -> tuple[float, float]:
        """Return the rate that is never exceeded, and the one to begin with."""
        known = self._rates.get(_name(endpoint)) or endpoint[2]
        return known or HIGHEST_RATE, known or FIRST_RATE


def _told(body: bytes) -> float | None:
    """Return the rate that an answer names."""
    found = _RATE_IN_WORDS.search(body)
    return float(found[1]) / _UNITS[found[2]] if found else None


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint[0]} {endpoint[1]}"
