from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable.errors import StateUnavailable
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.ledger import TRAVEL, Ledger, project_of
from tests.state.test_table import DATABASES, duckdb_hook, mysql_tables, postgres_hook, postgres_tables, sqlite_hook

DAY = 86_400.0
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


@dataclass
class Clock:
    """The time; whoever waits moves it on."""

    now: float = NOW
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Note the seconds and let them pass."""
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Place:
    """A database with room for ledgers."""

    hook: Any
    schema: str | None
    clock: Clock

    @contextmanager
    def ledger(self, project: str = "one", action: str = "forget", limit: int = 3, **options: Any) -> Iterator[Ledger]:
        """Open a ledger."""
        ledger = Ledger(TableState(schema=self.schema), self.hook, project, action, limit, self.clock, **options)
        try:
            yield ledger
        finally:
            ledger.close()


@pytest.fixture(params=DATABASES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Each database a state table runs on."""
    if request.param == "postgres":
        hook = postgres_hook(monkeypatch)
        with postgres_tables(hook) as tables:
            yield Place(hook, tables.schema, Clock())
        return
    if request.param == "mysql":
        with mysql_tables(monkeypatch) as tables:
            yield Place(tables.hook, None, Clock())
        return
    make = {"sqlite": sqlite_hook, "duckdb": duckdb_hook}[request.param]
    yield Place(make(tmp_path, monkeypatch), None, Clock())


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A SQLite database."""
    return Place(sqlite_hook(tmp_path, monkeypatch), None, Clock())


def test_attempts_are_counted_over_a_day(place: Place) -> None:
    """The limit holds for any 24 hours; what is refused is not in the ledger, and outlives the run that made it."""
    clock = place.clock
    with place.ledger() as ledger:
        assert [ledger.admit() for _ in range(3)] == [None] * 3
        assert ledger.admit() == pytest.approx(DAY + TRAVEL)
        assert ledger.attempts() == [NOW] * 3
    clock.now += DAY
    with place.ledger() as ledger:
        assert ledger.admit() == pytest.approx(TRAVEL)
        clock.now += TRAVEL
        assert ledger.admit() is None
        assert ledger.attempts() == [clock.now]


def test_the_first_attempt_makes_room_first(place: Place) -> None:
    """The wait ends when the oldest attempt counts no more."""
    with place.ledger() as ledger:
        for _ in range(3):
            ledger.admit()
            place.clock.now += 100
        assert ledger.admit() == pytest.approx(DAY + TRAVEL - 300)
        assert ledger.attempts(ahead=DAY + TRAVEL - 150) == [NOW + 200]


def test_projects_and_actions_are_apart(place: Place) -> None:
    """Each has a limit of its own; ledgers of one project and action are one."""
    with (
        place.ledger() as one,
        place.ledger() as same,
        place.ledger("other") as other,
        place.ledger(action="unforget") as action,
    ):
        assert [one.admit(), same.admit(), one.admit()] == [None] * 3
        assert same.admit() is not None
        assert [other.admit(), action.admit()] == [None, None]


def test_old_attempts_are_dropped(place: Place) -> None:
    """The ledger does not grow for ever."""
    with place.ledger() as ledger:
        ledger.admit()
    place.clock.now += 4 * DAY
    with place.ledger() as ledger:
        assert ledger.attempts(ahead=-4 * DAY) == []


def test_two_tasks_cannot_take_the_last_place(place: Place) -> None:
    """Whoever writes at the same time as somebody else, never more than the limit get in."""
    admitted = []

    def take(_: int) -> None:
        with place.ledger(limit=5) as ledger:
            for _ in range(4):
                admitted.append(ledger.admit() is None)

    with place.ledger(limit=5):
        pass
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(take, range(3)))
    assert len(admitted) == 12
    assert sum(admitted) <= 5
    with place.ledger(limit=5) as ledger:
        assert len(ledger.attempts()) == sum(admitted)


@pytest.mark.parametrize(
    ("made", "waiting", "first", "last"),
    [
        (0, 1, 0.0, 0.0),
        (0, 3, 0.0, 0.0),
        (0, 4, 0.0, DAY + TRAVEL),
        (2, 2, 0.0, DAY + TRAVEL - 200),
        (3, 1, DAY + TRAVEL - 300, DAY + TRAVEL - 300),
        (3, 3, DAY + TRAVEL - 300, DAY + TRAVEL - 100),
        (3, 4, DAY + TRAVEL - 300, 2 * (DAY + TRAVEL) - 300),
        (3, 8, DAY + TRAVEL - 300, 3 * (DAY + TRAVEL) - 200),
    ],
)
def test_who_waits_is_told_until_when(beside: Place, made: int, waiting: int, first: float, last: float) -> None:
    """As many go as attempts cease to count, day by day; attempts were made 100 seconds apart."""
    with beside.ledger() as ledger:
        for _ in range(made):
            ledger.admit()
            beside.clock.now += 100
        found = [moment.timestamp() - beside.clock.now for moment in ledger.waiting(waiting)]
        assert found == pytest.approx([first, last], abs=0.01)


def test_a_ledger_that_cannot_be_written_stops_everything(beside: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent without it; the error says nothing private."""

    class BrokenHook:
        conn_type, placeholder, log_sql = "sqlite", "?", True

        def get_conn(self) -> Any:
            raise OSError("secret")

    with pytest.raises(StateUnavailable, match=r"could not be read or written \(OSError\)") as failed:
        Ledger(TableState(), BrokenHook(), "one", "forget", 3, beside.clock, patience=0.0)  # type: ignore[arg-type]
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ledger")]


def test_a_project_that_gets_another_name_keeps_its_count(place: Place) -> None:
    """What was counted under the former name counts under the new one, for every action."""
    with place.ledger() as forget, place.ledger(action="unforget") as unforget:
        assert [forget.admit(), unforget.admit()] == [None, None]
        forget.rename("two")
        assert forget.admit() is None
        assert len(forget.attempts()) == 2
    for project, action, counted in (("two", "forget", 2), ("two", "unforget", 1), ("one", "forget", 0)):
        with place.ledger(project, action) as ledger:
            assert len(ledger.attempts()) == counted


def test_a_project_is_a_digest() -> None:
    """Host and key decide, and cannot be told from it."""
    names = {project_of(host, key) for host in ("https://a", "https://b") for key in ("k1", "k2")}
    assert len(names) == 4
    assert all(len(name) == 64 and "k1" not in name for name in names)
    assert project_of("https://a", "k1") == project_of("https://a", "k1")
