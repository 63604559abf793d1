from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api.pacing import Bucket

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


def test_no_rate_means_no_wait() -> None:
    """An endpoint without a documented rate is never waited for."""
    assert granted(Bucket(0), [1.0] * 1000) == [1.0] * 1000


@pytest.mark.parametrize("rate", [0.0, 2.0])
def test_a_hold_reaches_every_later_request(rate: float) -> None:
    """Nothing goes before the hold ends, whatever the rate, and other buckets do not notice."""
    bucket = Bucket(rate)
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


@pytest.mark.parametrize(("rate", "burst"), [(-1, None), (5, 0.5)])
def test_an_impossible_bucket_is_refused(rate: float, burst: float | None) -> None:
    """A negative rate, or a bucket that cannot hold one token, is an error."""
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
