from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api.pacing import FIRST_RATE, HIGHEST_RATE, Bucket, Pace, duration, steady
from airflow_provider_iterable.sandbox.limits import Bucket as Limit

SLACK = 1e-6


def granted(bucket: Bucket, arrivals: list[float]) -> list[float]:
    """Return the moments at which requests that arrive at ``arrivals`` may go."""
    return [now + bucket.reserve(now) for now in arrivals]


def test_a_full_bucket_lets_a_burst_go_and_then_one_request_per_interval() -> None:
    """At 4 requests a second, four go at once and the others follow a quarter of a second apart."""
    assert granted(Bucket(4), [10.0] * 7) == [10, 10, 10, 10, 10.25, 10.5, 10.75]


def test_a_slow_endpoint_has_a_burst_of_one() -> None:
    """A rate below one a second still lets one request go at once."""
    assert granted(Bucket(0.5), [0.0, 0.0, 0.0]) == [0, 2, 4]


def test_an_idle_bucket_fills_up_and_no_further() -> None:
    """After a long silence the burst is what it was at first, not what the silence would have allowed."""
    bucket = Bucket(2)
    granted(bucket, [0.0] * 5)
    assert granted(bucket, [1000.0] * 3) == [1000, 1000, 1000.5]


def test_a_hold_reaches_every_later_request() -> None:
    """Nothing goes before the hold ends."""
    bucket = Bucket(2)
    bucket.hold(5.0)
    assert min(granted(bucket, [1.0, 2.0, 3.0])) == 5
    assert bucket.held_until == 5


def test_after_a_hold_the_bucket_is_empty() -> None:
    """Requests that waited for the end of a hold go one at a time, not as a burst."""
    bucket = Bucket(2)
    bucket.hold(5.0)
    assert granted(bucket, [1.0, 1.0, 1.0]) == [5, 5.5, 6]


def test_the_longer_hold_wins() -> None:
    """A hold that ends earlier than the one in force changes nothing."""
    bucket = Bucket(1)
    bucket.hold(9.0)
    bucket.hold(3.0)
    assert granted(bucket, [0.0]) == [9]


@pytest.mark.parametrize(("rate", "burst"), [(-1, None), (0, None), (5, 0.5)])
def test_an_impossible_bucket_is_refused(rate: float, burst: float | None) -> None:
    """A rate of nothing, or a bucket that cannot hold one token, is an error."""
    with pytest.raises(ValueError, match="at least"):
        Bucket(rate, burst)


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(1, 1000),
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_no_window_holds_more_than_the_burst_and_its_share(rate: float, burst: float, gaps: list[float]) -> None:
    """Whatever the arrivals, a window of t seconds holds at most burst + rate * t requests, in order of arrival."""
    now, arrivals = 0.0, []
    for gap in gaps:
        now += gap
        arrivals.append(now)
    times = granted(Bucket(rate, burst), arrivals)
    assert times == sorted(times)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + rate * (times[last] - times[first]) + SLACK * rate + SLACK


def test_a_hold_voids_turns_that_were_reserved() -> None:
    """Who waits takes another turn then: the tokens of before do not count any more."""
    bucket = Bucket(2)
    assert granted(bucket, [0.0] * 5)[-1] == 1.5
    assert bucket.holds == 0
    bucket.hold(1.0)
    assert bucket.holds == 1
    assert granted(bucket, [0.5, 0.5]) == [1, 1.5]


@pytest.mark.parametrize(("before", "burst"), [(4, 2), (1, 4), (3, 3)])
def test_at_another_rate_as_many_tokens_are_left(before: int, burst: float) -> None:
    """Those who have a turn keep it, those who come later wait as the rate of now says, and nothing is given away."""
    bucket = Bucket(2, 2)
    granted(bucket, [0.0] * before)
    bucket.change(4, burst, 0.0)
    left = 2 - before
    expected = [0.25 * max(0, number - left + 1) for number in range(3)]
    assert granted(bucket, [0.0] * 3) == pytest.approx(expected)


class Endpoint:
    """An endpoint that has a limit, in a time of its own.

    :param limits: requests per second that it takes, from which moment on; ``None``: any number
    """

    def __init__(self, limits: dict[float, float] | None) -> None:
        self._limits, self._bucket = dict(limits or {}), Limit(1e9, 1e9, 0.0)
        self._events: list[tuple[float, int, Callable[..., None], tuple[float, ...]]] = []
        self._number = count()

    def later(self, when: float, what: Callable[..., None], *arguments: float) -> None:
        """Have something happen at a moment."""
        heapq.heappush(self._events, (when, next(self._number), what, arguments))

    def wait(self, now: float) -> float:
        """Take a request, or return how long it wants none."""
        return 0 if self._bucket.take(now) else math.ceil(self._bucket.reset)

    def run(self, end: float) -> None:
        """Let time pass until a moment."""
        while self._events and self._events[0][0] <= end:
            now, _, what, arguments = heapq.heappop(self._events)
            for since in [since for since in self._limits if since <= now]:
                self._bucket = Limit(self._limits[since], max(1.0, self._limits.pop(since)), now)
            what(now, *arguments)


@dataclass
class Traffic:
    """A client that always has something to send.

    :param seconds: what an answer takes
    :param limit: the limits of an endpoint, as :class:`Endpoint` takes them
    :param due: when each request can be sent; ``None``: there is always one
    :param common: the numbers that clients keep together; ``None``: the pace is the client's own
    """

    pace: Pace
    seconds: float = 0.2
    limit: dict[float, float] | None = None
    due: Sequence[float] | None = None
    common: list[tuple[float, ...]] | None = None
    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    flying: int = 0

    def run(self, end: float, most: int = 64) -> Traffic:
        """Send requests until a moment."""
        endpoint = Endpoint(self.limit)
        self.start(endpoint, most)
        endpoint.run(end)
        return self

    @contextmanager
    def shared(self) -> Iterator[Pace]:
        """Give the pace as clients keep it together."""
        if self.common:
            self.pace.follow(self.common[-1])
        yield self.pace
        if self.common is not None:
            self.common.append(self.pace.common)

    def start(self, endpoint: Endpoint, most: int = 64) -> None:
        """Begin to send requests to an endpoint."""
        waiting = 0

        def feed(now: float, more: int = 0) -> None:
            nonlocal waiting
            waiting += more
            while self.flying < self.pace.window(most) and (waiting or self.due is None):
                self.flying += 1
                waiting -= 1
                turn(now)

        def turn(now: float) -> None:
            with self.shared() as pace:
                endpoint.later(now + pace.reserve(now), go, pace.holds)

        def go(now: float, holds: float) -> None:
            with self.shared() as pace:
                valid = pace.holds == holds
            if valid:
                endpoint.later(now + self.seconds / 2, arrive, now)
            else:
                turn(now)

        def arrive(now: float, sent: float) -> None:
            endpoint.later(now + self.seconds / 2, answer, sent, endpoint.wait(now))

        def answer(now: float, sent: float, wait: float) -> None:
            with self.shared() as pace:
                if wait:
                    self.refused.append(now)
                    pace.refused(now, sent, now + wait)
                else:
                    self.taken.append(now)
                    pace.answered(now, now - sent)
            if wait:
                turn(now)
            else:
                self.flying -= 1
                feed(now)

        for moment in self.due or ():
            endpoint.later(moment, feed, 1)
        endpoint.later(0.0, feed)

    def rate(self, start: float, end: float) -> float:
        """Return the requests per second that were taken between two moments."""
        return sum(start < moment <= end for moment in self.taken) / (end - start)


def four(rate: float, first: float | None, limits: dict[float, float], together: bool) -> tuple[list[Traffic], float]:
    """Send from four clients at once, and return them with the share of answers that were refusals."""
    common: list[tuple[float, ...]] | None = [] if together else None
    endpoint = Endpoint(limits)
    clients = [Traffic(Pace(rate, first), common=common) for _ in range(4)]
    for client in clients:
        client.start(endpoint)
    endpoint.run(140)
    refused, taken = (sum(len(getattr(client, what)) for client in clients) for what in ("refused", "taken"))
    return clients, refused / (refused + taken)


@pytest.mark.parametrize(("rate", "first"), [(3, None), (5, None), (10, None), (100, None), (300, FIRST_RATE)])
def test_four_that_keep_a_pace_together_are_not_refused(rate: float, first: float | None) -> None:
    """They reach all that the endpoint takes, each a fair part of it; four that do not are refused."""
    clients, refused = four(rate, first, {0.0: rate}, together=True)
    assert refused == 0
    assert sum(client.rate(10, 140) for client in clients) > 0.98 * rate
    assert min(client.rate(10, 140) for client in clients) > 0.9 * rate / 4
    assert four(rate, first, {0.0: rate}, together=False)[1] > 0.003


@pytest.mark.parametrize(("rate", "first", "least"), [(5, None, 0.9), (10, None, 0.8), (100, None, 0.95)])
def test_four_that_keep_a_pace_together_learn_from_one_refusal(rate: float, first: float | None, least: float) -> None:
    """A limit that is halved is found as one client finds it."""
    clients, refused = four(rate, first, {0.0: rate, 20.0: rate / 2}, together=True)
    assert refused < 0.02
    assert least * rate / 2 < sum(client.rate(30, 140) for client in clients) <= rate / 2 + 0.1


@pytest.mark.parametrize(("rate", "seconds"), [(3, 0.2), (5, 0.2), (10, 1), (100, 0.2), (100, 0.05), (5, 2)])
def test_a_documented_rate_is_reached_whatever_an_answer_takes(rate: float, seconds: float) -> None:
    """As many requests are in flight as that needs, and none is refused."""
    traffic = Traffic(Pace(rate), seconds, {0.0: rate}).run(60)
    assert traffic.rate(10, 60) > 0.98 * rate
    assert not traffic.refused


def test_slow_answers_need_no_more_than_may_be_in_flight() -> None:
    """At two seconds an answer, 64 in flight are 32 a second."""
    traffic = Traffic(Pace(100), 2.0, {0.0: 100}).run(60)
    assert traffic.flying == 64
    assert 30 < traffic.rate(10, 60) <= 32


def test_few_are_in_flight_where_few_are_needed() -> None:
    """What a kill would have sent again is no more than the rate needs."""
    assert Traffic(Pace(5), 0.2, {0.0: 5}).run(20).flying <= 4
    assert Traffic(Pace(100), 0.02, {0.0: 100}).run(20).flying <= 6


@pytest.mark.parametrize(("seconds", "least"), [(0.05, 295), (0.2, 280), (1.0, 58)])
def test_a_rate_that_is_not_documented_is_found_out(seconds: float, least: float) -> None:
    """It is raised while answers stay quick, up to what is tried at most."""
    traffic = Traffic(Pace(HIGHEST_RATE, FIRST_RATE), seconds).run(60)
    assert traffic.rate(0, 2) < HIGHEST_RATE
    assert traffic.rate(0, 60) > least
    assert traffic.rate(10, 60) < 1.01 * HIGHEST_RATE
    assert not traffic.refused


def test_a_rate_is_not_raised_while_answers_become_slower() -> None:
    """An endpoint that takes longer for more requests has enough of them; when it is quick again, it gets more."""
    pace, now, rates = Pace(HIGHEST_RATE, FIRST_RATE), 0.0, []
    for seconds in (*[0.1] * 2, *[1.0] * 30, *[0.1] * 60):
        for _ in range(1000):
            pace.reserve(now)
        pace.answered(now, seconds)
        rates.append(pace.rate)
        now += 3.0
    assert FIRST_RATE < rates[1] < rates[10] < HIGHEST_RATE, "the mean of a few slow answers is quick enough"
    assert rates[10] == rates[31], "that of many is not"
    assert rates[-1] == HIGHEST_RATE


def test_a_rate_that_nobody_waits_for_is_not_raised() -> None:
    """A slow model says nothing about what Iterable takes."""
    pace = Pace(HIGHEST_RATE, FIRST_RATE)
    for second in range(60):
        assert pace.reserve(float(second)) == 0
        pace.answered(float(second), 0.1)
    assert pace.rate == FIRST_RATE


@pytest.mark.parametrize(("rate", "least"), [(5, 0.9), (10, 0.92), (100, 0.95), (300, 0.95)])
def test_a_limit_that_is_halved_is_found_within_ten_seconds(rate: float, least: float) -> None:
    """Hardly anything goes twice for it, and hardly anything of the limit is lost."""
    traffic = Traffic(Pace(rate), 0.2, {0.0: rate, 20.0: rate / 2}).run(120)
    assert least * rate / 2 < traffic.rate(30, 120) <= rate / 2 + 0.1
    assert traffic.rate(20, 30) > 0.7 * rate / 2
    assert len(traffic.taken) + len(traffic.refused) < 1.05 * len(traffic.taken)


@pytest.mark.parametrize("rate", [100, 300])
def test_a_limit_far_below_is_not_tried_again_and_again(rate: float) -> None:
    """What was taken between two refusals is where the next try begins, and not the rate that was refused."""
    traffic = Traffic(Pace(rate), 0.2, {0.0: rate, 20.0: rate / 8}).run(180)
    assert traffic.rate(40, 180) > 0.95 * rate / 8
    assert len(traffic.refused) < 0.015 * len(traffic.taken)


def test_a_limit_that_is_lifted_again_is_found() -> None:
    """The longer nothing is refused, the faster it is tried."""
    traffic = Traffic(Pace(100), 0.2, {0.0: 100, 10.0: 25, 40.0: 100}).run(180)
    assert traffic.rate(25, 40) < 25.5
    assert traffic.rate(140, 180) > 95


def test_a_limit_that_iterable_names_is_believed() -> None:
    """It need not be found out."""
    pace = Pace(100)
    pace.refused(10.0, 9.8, 11.0, 30.0)
    assert pace.rate == 30
    pace.refused(12.0, 11.8, 13.0, 30.0)
    assert pace.rate == 15


def test_refusals_of_requests_that_were_sent_before_the_last_one_lower_nothing() -> None:
    """They say what is known: that the rate of before was too high."""
    pace = Pace(100)
    for moment in (10.0, 10.1, 10.2):
        pace.refused(moment, 9.95, moment + 1)
    assert (pace.rate, pace.held_until) == (50, 11.2)
    pace.refused(11.5, 11.3, 12.5)
    assert pace.rate == 25


def test_refusals_without_end_leave_a_rate() -> None:
    """The endpoint is asked again now and then."""
    pace = Pace(100)
    for moment in range(1, 50):
        pace.refused(float(moment), float(moment), moment + 1.0)
    assert pace.rate > 1


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.2, 1.0, 2.0])
@pytest.mark.parametrize(("rate", "first"), [(3, None), (5, None), (10, None), (100, None), (300, FIRST_RATE)])
def test_how_long_requests_take_is_known_beforehand(rate: float, first: float | None, seconds: float) -> None:
    """Within an answer's time, or a tenth: with the burst, the way up, and what may be in flight."""
    taken = Traffic(Pace(rate, first), seconds).run(2000 / steady(rate, seconds, 64) + 20).taken
    for requests in (1, 3, 10, 50, 200, 1000, 2000):
        expected = duration(requests, rate, first, seconds)
        assert abs(expected - taken[requests - 1]) < max(seconds, 0.1 * taken[requests - 1]), requests


def test_requests_that_go_one_at_a_time_take_an_answer_each() -> None:
    """The rate does not matter then."""
    assert duration(40, 3, seconds=1.0, most=1) == pytest.approx(Traffic(Pace(3), 1.0).run(50, 1).taken[39])
    assert duration(40, 3, seconds=0.1, most=1) == pytest.approx((40 - 2.25) / 3 + 0.1)


def test_no_requests_take_no_time() -> None:
    """And an answer that takes none does not divide by it."""
    assert duration(0, 5) == 0
    assert duration(100, 10, seconds=0.0) == pytest.approx(9.25, abs=0.01)


@pytest.mark.parametrize(("seconds", "most", "rate"), [(0.2, 64, 100), (1.0, 64, 64), (1.0, 200, 100), (0.2, 1, 5)])
def test_a_rate_is_kept_as_far_as_answers_let_it(seconds: float, most: int, rate: float) -> None:
    """As many are in flight as may be."""
    assert steady(100, seconds, most) == pytest.approx(rate)
    assert Traffic(Pace(100), seconds).run(60, most).rate(20, 60) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize(
    ("rate", "first", "seconds", "reached"),
    [(5, None, 0.2, 5), (100, None, 0.2, 100), (100, None, 1.0, 64), (300, FIRST_RATE, 0.2, 300)],
)
def test_what_is_reached_is_measured(rate: float, first: float | None, seconds: float, reached: float) -> None:
    """Neither the burst nor the way up counts."""
    traffic = Traffic(Pace(rate, first), seconds).run(60)
    assert traffic.pace.reached == pytest.approx(reached, rel=0.03)
    assert traffic.pace.seconds == pytest.approx(seconds)


def test_what_is_reached_below_a_limit_is_measured() -> None:
    """A limit that is lower than documented is what the next run has to expect."""
    assert Traffic(Pace(100), 0.2, {0.0: 30}).run(60).pace.reached == pytest.approx(30, rel=0.1)


def test_a_few_answers_say_nothing_about_what_is_reached() -> None:
    """A burst is faster than the rate, and a way up slower than what comes of it."""
    assert Pace(5).reached is None
    assert Traffic(Pace(100), 0.2).run(2).pace.reached is None
    assert Traffic(Pace(300, FIRST_RATE), 0.2).run(2).pace.reached is None
