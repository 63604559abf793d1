"""What is forecast of real calls, beside what they take in simulated time."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, datetime

import pytest

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.pacing import FIRST_RATE, HIGHEST_RATE, Pace
from airflow_provider_iterable.api.turns import Measured, Turns
from airflow_provider_iterable.engine.forecast import Expected, Forecast, Horizon, forecast
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.vocabulary import Call
from tests.api.test_pacing import Traffic
from tests.fakes import an_operation

BATCH, END = 100, 10_000.0
LOOK_UP = endpoints.look_up_user("email", endpoints.bulk_update_users())
SCENARIOS: dict[str, tuple[Call, int, int]] = {
    "users": (endpoints.bulk_update_users(), 15_000, 64),
    "events": (endpoints.track_events(), 30_000, 64),
    "deletes": (endpoints.delete_user("email"), 3000, 64),
    "lookups": (LOOK_UP, 3000, 64),
    "purchases": (endpoints.track_purchase(), 5000, 64),
    "forget": (endpoints.forget_user(), 100, 1),
}
"""A call, the rows that make it, and how many requests are in flight at most."""


def turns(share: float = 1.0, **rates: float) -> Turns:
    """Return the turns of a client that has nothing to do."""
    named = {name.replace("_", " ", 1).replace("_", "/"): rate for name, rate in rates.items()}
    return Turns(share, named, lambda: 0.0, lambda seconds: None, threading.Event())


def foreseen(call: Call, rows: int, most: int, measured: Measured | None) -> Forecast:
    """Return the forecast of some rows that make a call."""
    own = turns()

    def outlook(call: Call, requests: int) -> Expected:
        return own.expected((call.method, call.template, call.rate), requests, most, measured)

    with closing(Spool()) as spool, closing(Spool()) as removals:
        plan = Plan(spool, removals)
        for number in range(rows):
            plan.count(an_operation(str(number), call, kind=Kind.ADDED, body=b"{}"), call)
        return forecast(plan, BATCH, Horizon(outlook, now=lambda: datetime(2026, 5, 31, tzinfo=UTC)))


def simulated(call: Call, rows: int, seconds: float, most: int) -> float:
    """Return how long the requests take, each call of a chain as soon as the one before has a batch for it."""
    due = None
    while True:
        size = min(BATCH, call.max_items)
        pace = Pace(call.rate) if call.rate else Pace(HIGHEST_RATE, FIRST_RATE)
        traffic = Traffic(pace, seconds, {0.0: call.rate} if call.rate else None, due)
        answered = traffic.run(END if due else 1.5 * rows / size * max(1 / pace.most, seconds / most) + 60, most).taken
        assert not traffic.refused
        if call.then is None or not call.reads:
            return answered[rows // size - 1]
        due, call = answered[BATCH - 1 : rows : BATCH], call.then


@pytest.mark.parametrize("seconds", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_forecast_is_right_within_a_seventh(name: str, seconds: float) -> None:
    """Where an answer takes what it took before."""
    call, rows, most = SCENARIOS[name]
    took = simulated(call, rows, seconds, most)
    assert took > 5
    assert foreseen(call, rows, most, Measured(seconds)).seconds == pytest.approx(took, rel=0.15)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_first_forecast_is_right_where_answers_take_what_is_assumed(name: str) -> None:
    """A fifth of a second."""
    call, rows, most = SCENARIOS[name]
    assert foreseen(call, rows, most, None).seconds == pytest.approx(simulated(call, rows, 0.2, most), rel=0.15)


def test_a_forecast_reckons_with_what_was_reached() -> None:
    """Also where nothing else says why it was no more."""
    assert foreseen(endpoints.delete_user("email"), 3000, 64, Measured(0.2, 25.0)).seconds == pytest.approx(
        120, rel=0.05
    )


def test_a_forecast_reckons_with_share_and_rates() -> None:
    """What is expected at the rate is expected at the task's own."""
    users, purchases = ("POST", "/api/users/bulkUpdate", 5.0), ("POST", "/api/commerce/trackPurchase", 0.0)
    half = turns(0.5, **{"POST_/api/commerce/trackPurchase": 40})
    assert (half.expected(users, 100, 64, None).rate, half.expected(users, 100, 64, None).known) == (2.5, True)
    assert half.expected(users, 100, 64, None).seconds == pytest.approx(40, rel=0.05)
    assert (half.expected(purchases, 100, 64, None).rate, half.expected(purchases, 100, 64, None).known) == (20, True)
    tried = turns().expected(purchases, 100, 64, None)
    assert (tried.rate, tried.known, tried.measured) == (HIGHEST_RATE, False, None)
