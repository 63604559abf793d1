from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_iterable.engine.forecast import Horizon
from airflow_provider_iterable.engine.progress import LOOKED_AT_EACH, PROGRESS_SECONDS, Progress
from airflow_provider_iterable.engine.vocabulary import Row
from tests.engine.test_run import Stage


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    """Have progress logged."""
    caplog.set_level(logging.INFO)


def settled(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines that tell of progress."""
    return [message for message in caplog.messages if " rows settled, " in message]


def test_a_line_tells_how_many_rows_are_settled_and_how_long_the_rest_takes(caplog: pytest.LogCaptureFixture) -> None:
    """The rate is the mean since the beginning."""
    clock = Clock()
    progress = Progress(4000, clock)
    progress.more(1)
    clock.now += 20.0
    progress.more(999)
    assert ["1000 of 4000 rows settled, 50 rows/s, about 60 s left"] == settled(caplog)
    assert 1000 == progress.done


def test_lines_are_some_seconds_apart(caplog: pytest.LogCaptureFixture) -> None:
    """Not sooner, however many rows are settled; the time of the last line counts."""
    clock = Clock()
    progress = Progress(10_000, clock)
    progress.more(LOOKED_AT_EACH)
    for seconds, expected in ((PROGRESS_SECONDS - 0.5, 0), (0.5, 1), (PROGRESS_SECONDS - 0.5, 1), (0.5, 2)):
        clock.now += seconds
        progress.more(LOOKED_AT_EACH)
        assert expected == len(settled(caplog))


def test_the_clock_is_looked_at_once_in_a_hundred_rows(caplog: pytest.LogCaptureFixture) -> None:
    """A run that settles rows one by one spends no time on it; the first look is at the first row."""
    clock = Clock()
    progress = Progress(1000, clock)
    progress.more(1)
    clock.now += PROGRESS_SECONDS
    for _ in range(LOOKED_AT_EACH - 1):
        progress.more(1)
    assert [] == settled(caplog)
    progress.more(1)
    assert ["101 of 1000 rows settled, 10 rows/s, about 89 s left"] == settled(caplog)


def test_more_rows_than_were_planned_leave_no_time(caplog: pytest.LogCaptureFixture) -> None:
    """Operations without a call are settled as well, and are not in the total."""
    clock = Clock()
    progress = Progress(10, clock)
    clock.now += PROGRESS_SECONDS
    progress.more(30)
    assert ["30 of 10 rows settled, 3 rows/s, about 0 s left"] == settled(caplog)


def test_a_line_compares_with_the_forecast(caplog: pytest.LogCaptureFixture) -> None:
    """How long all of it was expected to take, and how long it takes as things are."""
    clock = Clock()
    progress = Progress(1000, clock, planned=180.0, allowed=240.0)
    clock.now += 60.0
    progress.more(250)
    assert [("INFO", "250 of 1000 rows settled, 4 rows/s, about 180 s left; planned 3 min, about 4 min in all")] == [
        (record.levelname, record.message) for record in caplog.records
    ]


def test_a_line_warns_of_a_deadline_that_will_be_missed(caplog: pytest.LogCaptureFixture) -> None:
    """As soon as it is seen, and by how much."""
    clock = Clock()
    progress = Progress(1000, clock, allowed=239.0)
    clock.now += 60.0
    progress.more(250)
    clock.now += 60.0
    progress.more(500)
    assert [
        ("WARNING", "250 of 1000 rows settled, 4 rows/s, about 180 s left; the deadline will be missed by about 1 s"),
        ("INFO", "750 of 1000 rows settled, 6 rows/s, about 40 s left"),
    ] == [(record.levelname, record.message) for record in caplog.records]


def test_a_long_run_tells_that_it_will_be_late(caplog: pytest.LogCaptureFixture) -> None:
    """The forecast was in time, and the run is not."""
    seconds, six = [0.0], datetime(2026, 5, 31, 6, 0, tzinfo=UTC)

    def observe(told: Any) -> None:
        seconds[0] += 4.0

    rows: list[Row] = [(str(n), f"{n}@x.io", 1) for n in range(500)]
    horizon = Horizon(deadline=six + timedelta(seconds=20), action="fail", now=lambda: six)
    Stage().run(*rows, batch_size=50, clock=lambda: seconds[0], observe=observe, horizon=horizon)
    assert [line.partition("; the")[2] for line in settled(caplog)] == [
        " deadline will be missed by about 12 s",
        " deadline will be missed by about 16 s",
    ]


def test_a_long_run_tells_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Every ten seconds at most: rows, rate and the time that is left, of a batch that takes four seconds."""
    seconds = [0.0]

    def observe(told: Any) -> None:
        seconds[0] += 4.0

    stage = Stage()
    rows: list[Row] = [(str(n), f"{n}@x.io", 1) for n in range(500)]
    stage.run(*rows, batch_size=50, clock=lambda: seconds[0], observe=observe)
    assert settled(caplog) == [
        "250 of 500 rows settled, 16 rows/s, about 16 s left; planned 2 s, about 32 s in all",
        "450 of 500 rows settled, 14 rows/s, about 4 s left; planned 2 s, about 36 s in all",
    ]
