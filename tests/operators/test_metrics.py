"""What a dashboard gets to know of runs, by Airflow's own metrics."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.operators import metrics
from tests.operators.conftest import BULK, World, email

OURS = {"dag_id": "adhoc_airflow", "task_id": "sync_users", "sync_type": "users"}
ALLOWED = re.compile(r"[A-Za-z0-9_./-]*")
"""What StatsD takes, in InfluxDB's notation too."""


class Heard:
    """Takes the place of Airflow's metrics."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.timings: dict[str, timedelta] = {}
        self.broken = False

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str]) -> None:
        """Count."""
        if self.broken:
            raise OSError("ada@example.com")
        self.counts[(stat, *self._own(tags))] += count

    def timing(self, stat: str, dt: timedelta, *, tags: dict[str, str]) -> None:
        """Time."""
        assert stat == "iterable.sync.seconds"
        self.timings[self._own(tags)[0]] = dt

    def _own(self, tags: dict[str, str]) -> list[str]:
        assert all(ALLOWED.fullmatch(text) for text in (*tags, *tags.values())), tags
        assert OURS.items() <= tags.items()
        return [f"{name}={value}" for name, value in sorted(tags.items()) if name not in OURS]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Hear what is counted."""
    told = Heard()
    monkeypatch.setattr(metrics, "Stats", told)
    return told


def test_a_run_is_counted(world: World, heard: Heard) -> None:
    """Its rows by what became of them, its requests by their answers, and where the time went."""
    world.people(1, 2, 3)
    world.run()
    rows = [(number, email(number), f"user-{number}", "name", number, "London") for number in (1, 2)]
    world.rows(*rows, (4, "no address", "x", "y", 1, "z"), (5, email(5), "x", "y", 1, "z"))
    heard.counts.clear()
    report = world.run(max_rejected=1.0)
    assert (report["unchanged"], report["changed"]) == (0, 2)
    assert heard.counts == {
        ("iterable.sync.runs", "status=succeeded"): 1,
        ("iterable.sync.rows", "fate=accepted"): 3,
        ("iterable.sync.rows", "fate=rejected"): 1,
        ("iterable.sync.requests", "method=POST", "path=/api/users/bulkUpdate", "status=200"): report["requests"][BULK][
            "200"
        ],
        ("iterable.sync.requests", "method=GET", "path=/api/users/getFields", "status=200"): 1,
    }
    assert {"phase=plan", "phase=deliver"} <= set(heard.timings)


def test_rows_that_need_nothing_are_counted_too(world: World, heard: Heard) -> None:
    """They are what a sync saves."""
    world.people(1, 2, 3)
    world.run()
    heard.counts.clear()
    world.run()
    assert heard.counts["iterable.sync.rows", "fate=unchanged"] == 3
    assert not [name for name in heard.counts if name[0] == "iterable.sync.requests"]


def test_a_failure_is_counted_by_its_class(world: World, heard: Heard) -> None:
    """A dashboard tells what a person has to do from what goes away by itself."""
    world.people(1, 2)
    world.sandbox.faults({"kind": "5xx_html", "path": "/api/users/bulkUpdate", "times": -1})
    world.failure(AirflowException)
    assert heard.counts["iterable.sync.failures", "error=Unfinished"] == 1
    assert heard.counts["iterable.sync.rows", "fate=deferred"] == 2
    world.rows()
    world.failure(AirflowFailException)
    assert heard.counts["iterable.sync.failures", "error=GuardTripped"] == 1
    assert heard.counts["iterable.sync.runs", "status=failed"] == 1


def test_a_dry_run_counts_no_rows(world: World, heard: Heard) -> None:
    """Nothing became of them; those that need nothing count in the run that is to come."""
    world.people(1)
    world.run()
    world.people(1, 2)
    heard.counts.clear()
    world.run(dry_run=True)
    assert ("iterable.sync.runs", "status=planned") in heard.counts
    assert not [name for name in heard.counts if name[0] == "iterable.sync.rows"]


def test_metrics_that_fail_cost_nothing(world: World, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    """The run is what it was, and the log has the class of the error alone."""
    heard.broken = True
    world.people(1)
    assert world.run()["accepted"] == 1
    said = [line for line in caplog.messages if "metrics" in line]
    assert said == ["The run could not be counted in Airflow's metrics: OSError"]


def test_airflow_takes_them(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its own ``Stats`` is called as it wants to be."""
    world.people(1)
    world.run()
    assert not [line for line in caplog.messages if "could not be counted" in line]


def test_paths_are_told_without_braces() -> None:
    """Which StatsD does not take."""
    assert metrics._tag("/api/catalogs/{name}/items") == "/api/catalogs/name/items"


def test_names_are_static() -> None:
    """A dashboard is made once."""
    names: list[Any] = [metrics.ROWS, metrics.REQUESTS, metrics.SECONDS, metrics.RUNS, metrics.FAILURES]
    assert all(re.fullmatch(r"iterable\.sync\.[a-z]+", name) for name in names)
