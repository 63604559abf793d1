from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_iterable.engine import progress as progress_lines
from airflow_provider_iterable.engine.forecast import Horizon
from airflow_provider_iterable.engine.progress import Delivered, Progress
from airflow_provider_iterable.engine.vocabulary import Row
from tests.engine.test_run import Stage

INFO, WARNING = logging.INFO, logging.WARNING


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


def test_a_line_tells_how_many_rows_are_settled_and_how_long_the_rest_takes() -> None:
    """The rate is the mean since the beginning."""
    clock = Clock()
    delivered = Delivered(4000, clock)
    clock.now += 20.0
    delivered.more(1000)
    assert (INFO, "1000 of 4000 rows settled, 50 rows/s, about 60 s left") == delivered.line()
    assert 1000 == delivered.done


def test_a_line_tells_that_nothing_is_settled_yet() -> None:
    """There is no rate then, however long it takes."""
    clock = Clock()
    delivered = Delivered(40, clock, planned=1.0, allowed=1.0)
    assert (INFO, "0 of 40 rows settled, waiting for Iterable's answers") == delivered.line()
    clock.now += 60.0
    assert (INFO, "0 of 40 rows settled, waiting for Iterable's answers") == delivered.line()


def test_more_rows_than_were_planned_leave_no_time() -> None:
    """Operations without a call are settled as well, and are not in the total."""
    clock = Clock()
    delivered = Delivered(10, clock)
    clock.now += 10.0
    delivered.more(30)
    assert (INFO, "30 of 10 rows settled, 3 rows/s, about 0 s left") == delivered.line()


def test_a_line_compares_with_the_forecast() -> None:
    """How long all of it was expected to take, and how long it takes as things are."""
    clock = Clock()
    delivered = Delivered(1000, clock, planned=180.0, allowed=240.0)
    clock.now += 60.0
    delivered.more(250)
    expected = "250 of 1000 rows settled, 4 rows/s, about 180 s left; planned 3 min, about 4 min in all"
    assert (INFO, expected) == delivered.line()


def test_a_line_warns_of_a_deadline_that_will_be_missed() -> None:
    """As soon as it is seen, and by how much."""
    clock = Clock()
    delivered = Delivered(1000, clock, allowed=239.0)
    clock.now += 60.0
    delivered.more(250)
    late = "250 of 1000 rows settled, 4 rows/s, about 180 s left; the deadline will be missed by about 1 s"
    assert (WARNING, late) == delivered.line()
    clock.now += 60.0
    delivered.more(500)
    assert (INFO, "750 of 1000 rows settled, 6 rows/s, about 40 s left") == delivered.line()


def test_what_a_run_is_at_is_told_with_how_long_it_has_been(caplog: pytest.LogCaptureFixture) -> None:
    """From the last time that it began something else."""
    clock = Clock()
    progress = Progress("crm.users", clock)
    clock.now += 30.0
    progress.at("opening the state")
    clock.now += 20.0
    progress.tell()
    progress.at(lambda: (WARNING, "is late"))
    progress.tell()
    assert [
        ("INFO", "Sync crm.users, for 20 s: opening the state"),
        ("WARNING", "Sync crm.users, for 0 s: is late"),
    ] == [(record.levelname, record.message) for record in caplog.records]


def test_lines_come_while_the_run_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For whatever it is, until it ends: then none comes any more."""
    assert progress_lines.PROGRESS_SECONDS <= 10.0
    monkeypatch.setattr(progress_lines, "PROGRESS_SECONDS", 0.001)
    progress, lines, enough = Progress("crm.users"), list[str](), threading.Event()

    def line() -> tuple[int, str]:
        lines.append("a line")
        if len(lines) >= 3:
            enough.set()
        return INFO, "waiting"

    progress.at(line)
    with progress.telling():
        assert enough.wait(60.0)
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_run_says_what_it_is_at() -> None:
    """Reading, asking and delivering, one after the other; what is told of a delivery is how far it is."""
    seconds, six = [0.0], datetime(2026, 5, 31, 6, 0, tzinfo=UTC)
    told: list[tuple[int, str]] = []

    class Noted(Progress):
        def at(self, line: Any) -> None:
            super().at(line)
            told.append(self._line())

    progress = Noted("crm.users", lambda: seconds[0])

    def observe(outcome: Any) -> None:
        seconds[0] += 4.0
        told.append(progress._line())

    rows: list[Row] = [(str(n), f"{n}@x.io", 1) for n in range(500)]
    Stage().run(
        *rows,
        batch_size=50,
        clock=lambda: seconds[0],
        observe=observe,
        progress=progress,
        prepare=lambda: None,
        horizon=Horizon(deadline=six + timedelta(seconds=20), action="fail", now=lambda: six),
    )
    assert told[:4] == [
        (INFO, "reading and comparing rows, 0 so far"),
        (INFO, "reading and comparing rows, 500 so far"),
        (INFO, "asking Iterable what has to be known before the first row is sent"),
        (INFO, "0 of 500 rows settled, waiting for Iterable's answers"),
    ]
    late = "250 of 500 rows settled, 12 rows/s, about 20 s left; planned 2 s, about 40 s in all; the deadline"
    assert [level for level, words in told if words.startswith(late)] == [WARNING]
    assert told[-1][1].startswith("500 of 500 rows settled, ")
