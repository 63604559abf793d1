from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.errors import ConfigurationError, StateTooLarge
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state import XComState
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.store import Session
from airflow_provider_iterable.state.xcom import EVENTS_LOOKED_AT, XComSession, encode, latest
from tests.airflow_db import AIRFLOW, Dags, run_dag
from tests.state.contract import HERE, MAPPING, StoreContract, entry, fresh, keep, kept, planned


class XComs:
    """What runs of syncs pushed, the last one of each found by the next."""

    def __init__(self, store: XComState | None = None) -> None:
        self.store = store or XComState()
        self.pushed: list[tuple[str, str]] = []

    def open(
        self, sync_id: str, destination: Mapping[str, Any] = HERE, mapping: str = MAPPING, resync: Resync = "changes"
    ) -> Session:
        """Open the state that the last run pushed."""
        texts = [text for name, text in self.pushed if name == sync_id]
        return self.store.open(
            Scope(
                sync_id,
                destination,
                mapping,
                pull=lambda: texts[-1] if texts else None,
                push=lambda text: self.pushed.append((sync_id, text)),
                resync=resync,
            )
        )


class TestXCom(StoreContract):
    writes_ahead = False

    @pytest.fixture
    def place(self) -> XComs:
        """Return XComs."""
        return XComs()


def people(first: int, count: int) -> list[tuple[int, str]]:
    """Return rows of a model."""
    return [(number, f"u{number}@example.com") for number in range(first, first + count)]


def test_a_failed_run_pushes_nothing() -> None:
    """What it delivered is forgotten, and the state of the run before stays."""
    place, sync_id = XComs(), fresh()
    keep(place, sync_id, {"[1]": entry(1)})
    session = place.open(sync_id)
    session.commit({"[1]": None, "[2]": entry(2)})
    session.finish(False)
    session.close()
    assert len(place.pushed) == 1
    assert kept(place, sync_id) == {"[1]": entry(1)}


def test_a_killed_run_pushes_nothing() -> None:
    """Commits stay in memory until the run finishes."""
    place, sync_id = XComs(), fresh()
    session = place.open(sync_id)
    session.commit({"[2]": entry(2)})
    session.close()
    assert place.pushed == []


def test_too_many_rows_are_refused_before_the_first_call() -> None:
    """The limit is checked on what would be remembered; the error says how many, and which store takes them."""
    place, sync_id = XComs(XComState(max_rows=10)), fresh()
    session = place.open(sync_id)
    planned(session, people(0, 10))
    with pytest.raises(StateTooLarge) as caught:
        planned(session, people(0, 11))
    assert all(part in str(caught.value) for part in ("11 rows", "holds 10", "Nothing was sent", "TableState("))
    assert place.pushed == []


def test_rows_that_are_remembered_already_count_once() -> None:
    """Who comes in the place of somebody who leaves makes the state no longer: turnover is not growth."""
    place, sync_id = XComs(XComState(max_rows=10)), fresh()
    keep(place, sync_id, {f"[{number}]": entry(number, f"u{number}@example.com") for number in range(10)})
    planned(place.open(sync_id), people(0, 10))
    planned(place.open(sync_id), people(1, 10))
    planned(place.open(sync_id), people(10, 10))
    with pytest.raises(StateTooLarge, match="remember 11 rows"):
        planned(place.open(sync_id), people(9, 11))


def test_too_many_bytes_are_refused_before_the_first_call() -> None:
    """The size is that of the text that would be pushed."""
    rows = people(0, 500)
    with pytest.raises(StateTooLarge) as caught:
        planned(XComs(XComState(max_bytes=1000)).open(fresh()), rows)
    assert all(part in str(caught.value) for part in ("holds 1000", "Nothing was sent", "TableState("))
    size = int(str(caught.value).split(" bytes")[0].rsplit(" ", 1)[1])
    assert size > 500 * 12, "fingerprints do not compress"
    planned(XComs(XComState(max_bytes=size)).open(fresh()), rows)
    with pytest.raises(StateTooLarge):
        planned(XComs(XComState(max_bytes=size - 1)).open(fresh()), rows)


def test_20_000_rows_fit_by_default() -> None:
    """The two limits agree: rows of usual keys and addresses reach the number of rows first."""
    scope = Scope("dag.sync", HERE, MAPPING)
    noise = [bytes((number * 7919 * (place + 3)) % 251 for place in range(12)) for number in range(20_000)]
    text = encode(
        scope,
        {
            f"[{1000 + number}]": Entry(digest, json.dumps(["email", f"person.{number}@example.com"]))
            for number, digest in enumerate(noise)
        },
    )
    assert len(text) < XComState().max_bytes


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"format":1}', '{"format":1,"entries":"!"}', "7"])
def test_an_xcom_that_is_no_state_is_refused(text: str) -> None:
    """The error names the XCom and shows nothing of it."""
    with pytest.raises(ConfigurationError, match="'iterable_state' is not a sync's state"):
        XComSession(XComState(), Scope("s", HERE, pull=lambda: text, push=lambda pushed: None))


def test_a_later_format_is_refused() -> None:
    """A downgraded provider does not take another version's state for its own."""
    later = json.dumps({"format": 2, "entries": []})
    with pytest.raises(ConfigurationError, match="format 2, and this version of the provider knows format 1"):
        XComSession(XComState(), Scope("s", HERE, pull=lambda: later, push=lambda pushed: None))


def test_without_a_task_there_is_no_xcom() -> None:
    """The store needs somewhere to pull from and push to."""
    with pytest.raises(ConfigurationError, match="running task"):
        XComState().open(Scope("s", HERE))


class Event:
    """An asset event of a run, or one that somebody made by hand."""

    def __init__(self, run_id: str | None, map_index: int | None = -1) -> None:
        self.source_run_id, self.source_map_index = run_id, map_index
        self.source_dag_id = self.source_task_id = None if run_id is None else "sync"


class Events(Sequence[Event]):
    """Asset events as Airflow 2 and 3.0 give them, oldest first."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: Any) -> Any:
        return self._events[index]


class Queried(Events):
    """Asset events as Airflow 3.2 gives them: a query that is sent when somebody iterates."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__(events)
        self._ascending, self._limit = True, len(events)

    def ascending(self, ascending: bool = True) -> Queried:
        """Order by time."""
        self._ascending = ascending
        return self

    def limit(self, limit: int) -> Queried:
        """Give no more than that."""
        self._limit = limit
        return self

    def __iter__(self) -> Iterator[Event]:
        ordered = self._events if self._ascending else self._events[::-1]
        return iter(ordered[: self._limit])


class Pulls:
    """XComs by run; asking is remembered."""

    def __init__(self, xcoms: Mapping[str, Any]) -> None:
        self.xcoms, self.history = xcoms, deque[str]()

    def __call__(self, event: Event) -> Any:
        """Return what a run pushed."""
        assert event.source_run_id is not None
        self.history.append(event.source_run_id)
        return self.xcoms.get(event.source_run_id)


@pytest.fixture(params=[Events, Queried])
def kind(request: pytest.FixtureRequest) -> type[Events]:
    """Each way in which Airflow gives asset events."""
    found: type[Events] = request.param
    return found


def find(events: Events, pulls: Pulls) -> str | None:
    """Look for the state."""
    return latest({"inlet_events": {"asset": events}}, "asset", pulls)


def test_the_newest_event_names_the_state(kind: type[Events]) -> None:
    """No other run is asked."""
    pulls = Pulls({"a": "one", "b": "two", "c": "three"})
    assert find(kind([Event("b"), Event("c"), Event("a")]), pulls) == "one"
    assert list(pulls.history) == ["a"]


def test_a_run_that_lost_its_xcom_is_passed_over(kind: type[Events]) -> None:
    """It is being repeated or was deleted; the one before it counts."""
    pulls = Pulls({"a": "one", "c": None})
    assert find(kind([Event("a"), Event("b"), Event("c")]), pulls) == "one"
    assert list(pulls.history) == ["c", "b", "a"]


def test_events_without_a_run_are_passed_over(kind: type[Events]) -> None:
    """Anybody may create an asset event through Airflow's API; it has no run, and no XCom."""
    pulls = Pulls({"a": "one"})
    assert find(kind([Event("a"), Event(None, None)]), pulls) == "one"


def test_without_events_or_xcoms_there_is_no_state(kind: type[Events]) -> None:
    """The first run, or one after everything was cleaned away, starts afresh."""
    assert find(kind([]), Pulls({})) is None
    assert find(kind([Event("a"), Event("b")]), Pulls({"a": ["a list"]})) is None


def test_only_some_events_are_looked_at(kind: type[Events]) -> None:
    """A sync of years has thousands, and only those of the latest runs can still have their XComs."""
    pulls = Pulls({})
    assert find(kind([Event(f"run {number}") for number in range(1000)]), pulls) is None
    assert list(pulls.history) == [f"run {999 - number}" for number in range(EVENTS_LOOKED_AT)]


DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_iterable.operators import IterableUserSyncOperator

with DAG("{dag_id}", schedule=None) as dag:
    IterableUserSyncOperator(
        task_id="sync_users",
        sql_conn_id="warehouse",
        sql="SELECT id, email, plan FROM people",
        primary_key="id",
        email_column="email",
        on_removed="clear",
        max_removed=None,
        retries=0,
    )
"""


class Warehouse:
    """A SQLite file with people."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.do("CREATE TABLE people (id INT, email TEXT, plan TEXT)")
        for number in range(1, 6):
            self.do("INSERT INTO people VALUES (?, ?, 'free')", number, f"u{number}@example.com")

    def do(self, statement: str, *parameters: Any) -> None:
        """Change something."""
        connection = sqlite3.connect(self.path)
        connection.execute(statement, parameters)
        connection.commit()
        connection.close()


@pytest.fixture
def iterable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve a local Iterable that the connection names."""
    with Sandbox("email", rates=False) as sandbox:
        connection = {"conn_type": "iterable", "host": sandbox.url, "password": "a-key-of-iterable"}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        yield sandbox


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """Fill a warehouse that the connection names."""
    made = Warehouse(tmp_path / "warehouse.db")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(made.path)}))
    return made


def written(iterable: Sandbox) -> dict[str, int]:
    """Return how often each profile was written."""
    return {str(profile.email).split("@")[0]: profile.writes for profile in iterable.project.profiles}


def day(month: int, number: int) -> datetime:
    """Return a logical date."""
    return datetime(2026, month, number, tzinfo=UTC)


@pytest.mark.slow
def test_runs_continue_each_other_in_the_order_of_their_completion(
    iterable: Sandbox,
    warehouse: Warehouse,
    dags: Dags,
) -> None:
    """In Airflow's task runner, whatever their logical dates: earlier than the one before, or none at all."""
    dag = dags.write("xcom_state_in_order", DAG_FILE.format(dag_id="xcom_state_in_order"))
    once = {f"u{number}": 1 for number in range(1, 6)}

    def run(logical_date: datetime | None, run_after: datetime) -> int:
        """Run the DAG and return how many requests it made."""
        before = len(iterable.calls)
        assert run_dag(dag, logical_date, run_after).state == "success"
        return len(iterable.calls) - before

    assert run(day(3, 10), day(3, 10)) > 0, "the first run sends everybody"
    assert written(iterable) == once

    assert run(day(1, 5), day(3, 11)) == 0, "an earlier date: nothing changed since the first run"

    warehouse.do("UPDATE people SET plan = 'paid' WHERE id = 3")
    no_date = None if AIRFLOW >= (3, 0) else day(2, 1)
    assert run(no_date, day(3, 12)) > 0, "no date: the change alone"
    assert written(iterable) == {**once, "u3": 2}

    warehouse.do("UPDATE people SET plan = 'paid' WHERE id = 4")
    assert run(day(1, 1), day(3, 13)) > 0, "the earliest date: the change alone, on top of the run without a date"
    assert written(iterable) == {**once, "u3": 2, "u4": 2}

    assert run(day(4, 1), day(4, 1)) == 0, "the latest date"
    assert run(day(2, 15), day(4, 2)) == 0, "a date in between"

    warehouse.do("DELETE FROM people WHERE id = 1")
    assert run(day(2, 14), day(4, 3)) > 0, "who left is cleared"
    assert run(day(2, 13), day(4, 4)) == 0, "and forgotten"
    plans = {profile.email: profile.fields for profile in iterable.project.profiles}
    assert plans == {
        f"u{number}@example.com": plan
        for number, plan in enumerate(
            [{}, {"plan": "free"}, {"plan": "paid"}, {"plan": "paid"}, {"plan": "free"}], start=1
        )
    }


@pytest.mark.slow
def test_a_failed_run_is_as_if_it_had_not_been(
    iterable: Sandbox,
    warehouse: Warehouse,
    dags: Dags,
) -> None:
    """It leaves neither an event nor a state, so the next run sends again what the failed one delivered."""
    dag = dags.write("xcom_state_failing", DAG_FILE.format(dag_id="xcom_state_failing"))
    assert run_dag(dag, day(3, 1), day(3, 1)).state == "success"
    warehouse.do("UPDATE people SET plan = 'paid' WHERE id IN (1, 2)")
    warehouse.do("UPDATE people SET email = 'no address' WHERE id = 5")
    failed = run_dag(dag, day(3, 2), day(3, 2))
    assert failed.state == "failed", "one of five rows is more than a tenth"
    assert written(iterable) == {"u1": 2, "u2": 2, "u3": 1, "u4": 1, "u5": 1}
    warehouse.do("UPDATE people SET email = 'u5@example.com' WHERE id = 5")
    assert run_dag(dag, day(3, 3), day(3, 3)).state == "success"
    assert written(iterable) == {"u1": 3, "u2": 3, "u3": 1, "u4": 1, "u5": 1}


@pytest.mark.slow
def test_a_repeated_run_starts_from_the_latest_state(
    iterable: Sandbox,
    warehouse: Warehouse,
    dags: Dags,
) -> None:
    """Airflow deletes a run's XComs before it repeats the run; the state of the others is still there."""
    dag = dags.write("xcom_state_repeated", DAG_FILE.format(dag_id="xcom_state_repeated"))
    for number in (1, 2):
        assert run_dag(dag, day(3, number), day(3, number)).state == "success"
    warehouse.do("UPDATE people SET plan = 'paid' WHERE id = 2")
    for number in (1, 2):  # the same dates: the runs are replaced by new ones
        assert run_dag(dag, day(3, number), day(3, number)).state == "success"
    assert written(iterable) == {"u1": 1, "u2": 2, "u3": 1, "u4": 1, "u5": 1}
