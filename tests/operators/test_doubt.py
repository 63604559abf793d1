"""Requests that were never answered, over HTTP: whatever Iterable made of them, the next run puts it right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
)
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import STORES, SUBSCRIPTIONS, WRITES, Make, People, Scene, World

pytestmark = pytest.mark.slow

REMOVALS = {
    "users": "/api/users/{email}",
    "lists": "/api/lists/unsubscribe",
    "catalogs": "/api/catalogs/{name}/items",
    "subscriptions": SUBSCRIPTIONS,
}


ADDITIONS = {**WRITES, "subscriptions": SUBSCRIPTIONS}


@dataclass(frozen=True)
class Loss:
    """A model that was delivered, one whose requests are lost, and the one after that."""

    before: People
    lost: People
    after: People
    paths: Callable[[str], str]


LOSSES = {
    "a change is taken back": Loss({1: "old", 2: "b"}, {1: "new", 2: "b"}, {1: "old", 2: "b"}, ADDITIONS.__getitem__),
    "a removed row comes back": Loss({1: "a", 2: "b"}, {2: "b"}, {1: "a", 2: "b"}, REMOVALS.__getitem__),
    "an added row leaves": Loss({2: "b"}, {1: "a", 2: "b"}, {2: "b"}, ADDITIONS.__getitem__),
    "an added row leaves and nothing else is there": Loss({}, {1: "a"}, {}, ADDITIONS.__getitem__),
}


AFTER, BEFORE = "drop_after", "drop_before"
WHERE = [*((store, AFTER) for store in STORES), ("sqlite, database", BEFORE)]
"""What was not applied is the same to each store."""
CASES = [
    *((kind, *where) for kind in WRITES for where in WHERE),
    ("subscriptions", "mysql, database", AFTER),
    ("subscriptions", "mysql, worker", AFTER),
]


@pytest.mark.parametrize(("kind", "scene", "fault"), CASES, indirect=["scene"])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_was_lost_leaves_no_trace(scene: Scene, kind: str, loss: str, fault: str) -> None:
    """One run makes Iterable equal to the model, whether the lost requests were applied or not; the next is silent."""
    scene.kind, told = kind, LOSSES[loss]
    scene.sync(told.before)
    assert scene.held == scene.due(told.before)
    scene.lose(told.lost, told.paths(kind), fault)
    scene.sync(told.after)
    assert scene.held == scene.due(told.after)
    scene.forget_calls()
    report = scene.sync(told.after)
    assert not scene.calls
    assert report["unchanged"] == len(told.after)


def test_an_answer_that_refuses_leaves_no_doubt(make_world: Make) -> None:
    """Nothing was applied where the rate was limited, the connection refused, or the request found wrong."""
    world = make_world()
    world.people(1)
    world.sandbox.faults({"kind": "429", "path": WRITES["users"], "times": -1, "seconds": 0.0})
    world.failure(AirflowException)
    assert (world.remembered, world.in_doubt) == ([], [])
    world.sandbox.service.faults.clear()
    world.sandbox.faults({"kind": "drop_after", "path": WRITES["users"], "times": -1})
    world.failure(AirflowException)
    assert (world.remembered, world.in_doubt) == ([], ["[1]"])
    world.sandbox.stop()
    world.failure(AirflowException)
    assert (world.remembered, world.in_doubt) == ([], ["[1]"])


def test_where_nothing_listens_nothing_is_in_doubt(make_world: Make) -> None:
    """The request never left."""
    world = make_world()
    world.people(1)
    world.sandbox.stop()
    _, report = world.failure(AirflowException, check_types=False)
    assert report["deferred"] == 1
    assert (world.remembered, world.in_doubt) == ([], [])


class Dead(BaseException):
    """The worker is gone."""


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_killed_worker_sent_leaves_no_trace(
    scene: Scene, kind: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could say nothing more to its state; what it had announced is in doubt for the next run."""
    from airflow_provider_iterable.api.client import Client
    from airflow_provider_iterable.engine.deliver import Delivery

    scene.kind, told = kind, LOSSES[loss]
    scene.sync(told.before)
    with monkeypatch.context() as patched:
        send = Client.send

        def die(client: Client, batch: Any) -> Any:
            send(client, batch)
            raise Dead

        patched.setattr(Client, "send", die)
        patched.setattr(Delivery, "_rescue", lambda delivery: None)
        with pytest.raises(Dead):
            scene.sync(told.lost)
    scene.sync(told.after)
    assert scene.held == told.after
    scene.forget_calls()
    scene.sync(told.after)
    assert not scene.calls


def test_an_item_whose_row_got_another_id_in_doubt_is_not_left_behind(make_world: Make) -> None:
    """Whether the new item was written or not: both are removed with the row, and one stays with it."""
    for lost_to, after in (("sku-2", []), ("sku-2", ["sku-1"]), ("sku-2", ["sku-2"]), ("sku-2", ["sku-3"])):
        for fault in ("drop_before", "drop_after"):
            world = make_world()

            def sync(skus: Sequence[str], world: World = world) -> None:
                world.rows(*((1, sku) for sku in skus), columns=("id", "sku"))
                operator = IterableCatalogOperator(
                    task_id="sync",
                    sql="SELECT * FROM users",
                    sql_conn_id="warehouse",
                    primary_key="id",
                    catalog_name="Shop",
                    item_id_column="sku",
                    on_removed="delete",
                    allow_empty=True,
                    state=TableState(),
                )
                world.make = lambda **parameters: operator  # type: ignore[method-assign]
                world.run()

            sync(["sku-1"])
            world.sandbox.faults({"kind": fault, "path": WRITES["catalogs"], "times": -1})
            with suppress(AirflowException):
                sync([lost_to])
            world.sandbox.service.faults.clear()
            sync(after)
            assert [item["id"] for item in world.sandbox.catalogs[0]["values"]] == after
            world.forget_calls()
            sync(after)
            assert not world.calls
