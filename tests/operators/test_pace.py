"""How fast operators send, to a sandbox that has limits, in real time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.shared_paces import SharedPaces
from airflow_provider_iterable.engine.vocabulary import Request
from airflow_provider_iterable.hooks import iterable as hooks
from airflow_provider_iterable.hooks.iterable import IterableHook
from tests.operators.conftest import Make, World

DELETE = "DELETE /api/users/{email}"


@pytest.fixture
def fast(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> World:
    """Give a world in which time passes, whose connection and sandbox allow 300 deletes a second."""
    limits = {DELETE: 300.0}
    world = make_world(extra={"rates": limits}, rates=True, rate_overrides=limits, sleep=time.sleep)
    monkeypatch.setattr(hooks, "Client", Client)
    return world


def deletes(world: World) -> list[Any]:
    """Return the calls that delete somebody."""
    return [call for call in world.sandbox.calls if call.method == "DELETE"]


def leave(world: World, people: int, **parameters: Any) -> Any:
    """Have many people leave the model, who are deleted at Iterable one by one, and return the report."""
    world.people(*range(1, people + 1))
    world.run(resync="baseline")
    world.people()
    return world.run(on_removed="delete", allow_empty=True, max_removed=None, max_deletes=None, **parameters)


def test_a_limit_that_is_halved_in_mid_run_costs_hardly_anything(fast: World) -> None:
    """Nothing is lost, and hardly a request is made twice."""

    def halve() -> None:
        until = time.monotonic() + 60
        while not deletes(fast) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1.0)
        fast.sandbox.set(rate_overrides={DELETE: 150.0})

    halving = threading.Thread(target=halve)
    halving.start()
    report = leave(fast, 1500)
    halving.join()
    calls = deletes(fast)
    refused = sum(call.status == 429 for call in calls)
    assert report["accepted"] == 1500
    assert refused > 0, "the limit was met"
    assert len(calls) <= 1.1 * 1500


@pytest.mark.parametrize("most", [1, 7])
def test_no_more_are_under_way_than_may_be(fast: World, most: int) -> None:
    """However slowly answers come."""
    fast.sandbox.faults({"kind": "slow", "path": "/api/users", "times": -1, "seconds": 0.1})
    assert leave(fast, 40, max_in_flight=most)["accepted"] == 40
    assert at_once(deletes(fast)) == most


def test_as_many_are_under_way_as_the_rate_needs(fast: World) -> None:
    """At 0.2 s an answer, 300 deletes a second take more than 60 at once, which 64 are."""
    fast.sandbox.faults({"kind": "slow", "path": "/api/users", "times": -1, "seconds": 0.2})
    assert leave(fast, 400)["accepted"] == 400
    assert 55 <= at_once(deletes(fast)) <= 64


@pytest.mark.parametrize("shared", [True, False])
def test_tasks_of_one_machine_keep_the_rate_together(
    make_world: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared: bool
) -> None:
    """Four that do not are refused, for each begins with a full bucket."""
    limits = {DELETE: 40.0}
    world = make_world(extra={"rates": limits, "shared_pace": shared}, rates=True, rate_overrides=limits)
    monkeypatch.setattr(hooks, "Client", Client)
    monkeypatch.setattr(hooks, "SharedPaces", partial(SharedPaces, folder=tmp_path))

    def task(number: int) -> int:
        with IterableHook().get_conn() as client:
            who = Request("DELETE", f"/api/users/{number}@example.com", "/api/users/{email}")
            return sum(client.request(who, 100).status == 429 for _ in range(30))

    with ThreadPoolExecutor(4) as tasks:
        refused = sum(tasks.map(task, range(4)))
    assert len(deletes(world)) == 120
    assert (refused == 0) == shared


def at_once(calls: list[Any]) -> int:
    """Return how many calls were under way at the same time at most."""
    moments = sorted([(call.started, 1) for call in calls] + [(call.finished, -1) for call in calls])
    under_way = most = 0
    for _, change in moments:
        under_way += change
        most = max(most, under_way)
    return most
