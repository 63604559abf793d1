"""How many requests a plan takes, how long they take, and when all of it will be done."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.vocabulary import Call

DeadlineAction = Literal["warn", "fail"]

_UNITS = (("days", 86_400.0), ("h", 3600.0), ("min", 60.0))


@dataclass(frozen=True)
class Expected:
    """What is expected of a number of requests to one endpoint.

    :param rate: requests per second at most
    :param known: whether somebody says so, Iterable or the connection; otherwise it is what is tried
    :param seconds: that the requests take at that rate
    :param measured: those that they take at the pace of an earlier run; ``None``: none is known
    :param answer: seconds that an answer takes
    """

    rate: float
    known: bool
    seconds: float
    measured: float | None = None
    answer: float = 0.0

    @property
    def likely(self) -> float:
        """The seconds that they take, as far as it is known."""
        return self.seconds if self.measured is None else self.measured

    def followed_by(self, later: Expected) -> Expected:
        """Return what is expected of these requests and then of others to the same endpoint."""
        measured = None
        if self.measured is not None and later.measured is not None:
            measured = self.measured + later.measured
        return replace(self, seconds=self.seconds + later.seconds, measured=measured)


@dataclass(frozen=True)
class Waiting:
    """Rows that a run does not send, because something limits how many it may.

    :param rows: how many they are
    :param what: what they wait for
    :param until: when the last of them can go; ``None``: nobody knows
    """

    rows: int
    what: str
    until: datetime | None = None


def at_the_rate(call: Call, requests: int) -> Expected:
    """Expect what Iterable documents, and nothing where it documents nothing."""
    return Expected(call.rate, bool(call.rate), requests / call.rate if call.rate else 0.0)


@dataclass(frozen=True)
class Horizon:
    """What is known beforehand about how long a run takes, and how long it may take.

    :param outlook: returns what is expected of a number of requests
    :param waiting: returns which of a number of rows have to wait for a later run
    :param deadline: when all of it is to be done; ``None``: whenever it is
    :param action: what comes of it if it will not be: ``"warn"``, or ``"fail"`` before anything is sent
    :param now: the time, with its zone
    """

    outlook: Callable[[Call, int], Expected] = at_the_rate
    waiting: Callable[[int], Sequence[Waiting]] = lambda rows: ()
    deadline: datetime | None = None
    action: DeadlineAction = "warn"
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True)
class Line:
    """What a run is expected to do through one endpoint."""

    endpoint: str
    rows: int
    requests: int
    expected: Expected

    def followed_by(self, later: Line) -> Line:
        """Return this and what comes later through the same endpoint."""
        rows, requests = self.rows + later.rows, self.requests + later.requests
        return Line(self.endpoint, rows, requests, self.expected.followed_by(later.expected))

    def to_dict(self) -> dict[str, Any]:
        """Return it as the report has it."""
        expected = self.expected
        return {
            "endpoint": self.endpoint,
            "rows": self.rows,
            "requests": self.requests,
            "rate": round(expected.rate, 3),
            "documented": expected.known,
            "seconds": round(expected.seconds, 1),
            "measured_seconds": None if expected.measured is None else round(expected.measured, 1),
        }

    def __str__(self) -> str:
        expected = self.expected
        pace = f"{lasting(expected.seconds)} at "
        if not expected.rate:
            pace = "at no documented rate"
        elif expected.known:
            pace += f"the rate limit of {expected.rate:g} a second"
        else:
            pace += f"the pace that is tried where no rate is documented, up to {expected.rate:g} a second"
        if expected.measured is not None:
            pace += f"; {lasting(expected.measured)} at the pace measured in an earlier run"
        return f"{self.rows:,} rows through {self.endpoint}: about {self.requests:,} requests, {pace}."


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to do, and how long that takes.

    :param lines: one for each endpoint
    :param rows: that are sent
    :param start: when delivery begins
    :param seconds: that it takes
    :param waiting: rows that wait for a later run
    :param decisive: the endpoints that decide how long it takes
    """

    lines: Sequence[Line]
    rows: int
    start: datetime
    seconds: float
    waiting: Sequence[Waiting]
    decisive: frozenset[str]

    @property
    def done(self) -> datetime:
        """When the run will be done."""
        return self.start + timedelta(seconds=self.seconds)

    @property
    def end(self) -> datetime:
        """When everything will be done, as far as it is known of what waits for later runs."""
        return max([self.done, *(waiting.until for waiting in self.waiting if waiting.until is not None)])

    def to_list(self) -> list[dict[str, Any]]:
        """Return it as the report has it: a member for each endpoint."""
        rows = sum(waiting.rows for waiting in self.waiting)
        return [{**line.to_dict(), "waiting": rows, "end": f"{self.end:%Y-%m-%dT%H:%M:%SZ}"} for line in self.lines]

    def sentences(self) -> list[str]:
        """Say it, for people."""
        if not self.lines:
            return ["Nothing to send."]
        said = [str(line) for line in self.lines]
        for waiting in self.waiting:
            sentence = f"{waiting.rows:,} rows wait for {waiting.what}"
            if waiting.until is not None:
                days = lasting((waiting.until - self.start).total_seconds())
                sentence += f": the last can go in {days}, from {moment(waiting.until)} on"
            said.append(f"{sentence}.")
        rest = " of this run" if self.waiting else ""
        said.append(f"All{rest} is expected to be done in {lasting(self.seconds)}, at {moment(self.done)}.")
        return said

    def lateness(self, deadline: datetime | None) -> str:
        """Say that a deadline will be missed, and why; empty if it will not be, or if there is none."""
        if deadline is None or not self.lines or self.end <= deadline:
            return ""
        rows = self.rows + sum(waiting.rows for waiting in self.waiting)
        late = lasting((self.end - deadline).total_seconds())
        why = " ".join(str(line) for line in self.lines if line.endpoint in self.decisive)
        return (
            f"{rows:,} rows would be done at {moment(self.end)}, {late} after the deadline ({moment(deadline)}). {why}"
        )


def forecast(plan: Plan, batch_size: int, horizon: Horizon) -> Forecast:
    """Return how long a plan takes.

    Endpoints are called side by side, and what removes comes before or after what writes.
    """
    start, waiting = horizon.now(), list(horizon.waiting(plan.sends)) if plan.sends else []
    held = sum(each.rows for each in waiting)
    lines: dict[str, Line] = {}
    seconds, decisive = 0.0, set[str]()
    for removes in (False, True):
        calls = [call for call in plan.calls if plan.calls[call] and (call in plan.removing) is removes]
        wave = _wave(plan, calls, batch_size, held, horizon)
        if not wave:
            continue
        for endpoint, line in wave.items():
            lines[endpoint] = lines[endpoint].followed_by(line) if endpoint in lines else line
        seconds += max(_lasts([wave[name(each)].expected for each in chain(call)]) for call in calls)
        decisive.add(max(wave, key=lambda endpoint: wave[endpoint].expected.likely))
    return Forecast(list(lines.values()), plan.sends - held, start, seconds, waiting, frozenset(decisive))


def _wave(plan: Plan, calls: Iterable[Call], batch_size: int, held: int, horizon: Horizon) -> dict[str, Line]:
    """Return what is expected of each endpoint while some calls are made."""
    rows, requests, by_name = Counter[str](), Counter[str](), dict[str, Call]()
    for first in calls:
        operations = max(plan.calls[first] - held, 0)
        for call in chain(first):
            by_name[name(call)] = call
            rows[name(call)] += operations
            requests[name(call)] += requests_for(call, operations, plan.sizes[first], batch_size)
    return {
        endpoint: Line(endpoint, rows[endpoint], number, horizon.outlook(by_name[endpoint], number))
        for endpoint, number in requests.items()
    }


def requests_for(call: Call, operations: int, size: int, batch_size: int) -> int:
    """Return how many requests a number of operations takes.

    :param size: bytes of all their bodies
    """
    full = math.ceil(operations / min(batch_size, call.max_items))
    large = math.ceil(size / (call.max_bytes - call.envelope)) if call.max_items > 1 else 0
    return max(full, large)


def chain(call: Call) -> Iterator[Call]:
    """Yield the calls that an operation makes where nothing goes wrong: what follows a write settles doubts only."""
    yield call
    while call.reads and call.then is not None:
        call = call.then
        yield call


def _lasts(expected: Sequence[Expected]) -> float:
    """Return the seconds that calls take of which each begins when the one before has its first answers."""
    longest = max(expected, key=lambda each: each.likely)
    return longest.likely + sum(each.answer for each in expected) - longest.answer


def name(call: Call) -> str:
    """Return an endpoint's method and template."""
    return f"{call.method} {call.template}"


def lasting(seconds: float) -> str:
    """Return a length of time for people: ``"40 s"``, ``"2.5 min"``."""
    unit, size = next((unit for unit in _UNITS if seconds >= 1.5 * unit[1]), ("s", 1.0))
    amount = seconds / size
    return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.1f}".removesuffix(".0") + f" {unit}"


def moment(when: datetime) -> str:
    """Return a moment for people, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
