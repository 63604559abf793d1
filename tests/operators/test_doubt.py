"""Requests that were never answered, over HTTP: whatever Iterable made of them, the next run puts it right."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableListOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.state import ObjectState, TableState
from airflow_provider_iterable.state.store import Store
from tests.operators.conftest import Make, World
from tests.services import postgres_uri

People = dict[int, str]
"""The model: a value for each number."""


class Scene(World):
    """A world whose model is written into the query, so that it is the same on each database."""

    connection = "warehouse"
    store: Store
    kind = "users"

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make an operator that removes who has left."""
        common: dict[str, Any] = {"task_id": "sync", "sql_conn_id": self.connection, "state": self.store, **parameters}
        common |= {"primary_key": "id", "allow_empty": True}
        if self.kind == "users":
            return IterableUserSyncOperator(email_column="email", on_removed="delete", **common)
        if self.kind == "lists":
            return IterableListOperator(email_column="email", list_name="VIP", fields={"name": "name"}, **common)
        return IterableCatalogOperator(
            catalog_name="Shop", item_id_column="sku", on_removed="delete", fields={"name": "name"}, **common
        )

    def sync(self, people: People) -> Any:
        """Run with these people as the model."""
        rows = [
            f"SELECT {number} AS id, 'person{number}@example.com' AS email, 'sku-{number}' AS sku, '{name}' AS name"
            for number, name in people.items()
        ]
        nobody = "SELECT 0 AS id, 'x' AS email, 'x' AS sku, 'x' AS name WHERE 1 = 0"
        return self.run(sql=" UNION ALL ".join(rows) or nobody)

    def lose(self, people: People, path: str, kind: str) -> None:
        """Run, and let each answer of a path be lost."""
        self.sandbox.faults({"kind": kind, "path": path, "times": -1})
        with pytest.raises(AirflowException):
            self.sync(people)
        self.sandbox.service.faults.clear()

    @property
    def held(self) -> People:
        """Whom Iterable has, as the model would have them."""
        if self.kind == "users":
            return {_number(name): fields["name"] for name, fields in self.profiles.items()}
        if self.kind == "lists":
            members = [str(one["email"]) for found in self.sandbox.lists for one in found["members"]]
            return {_number(name): self.profiles[name]["name"] for name in members}
        return {
            int(item["id"].partition("-")[2]): item["value"]["name"]
            for catalog in self.sandbox.catalogs
            for item in catalog["values"]
        }


def _number(name: str) -> int:
    return int(name.partition("@")[0].removeprefix("person"))


STORES = ("postgres, database", "postgres, worker", "sqlite, database", "sqlite, worker", "objects")


@pytest.fixture(params=STORES)
def scene(
    request: pytest.FixtureRequest, make_world: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """An empty project, and a state of each kind that commits batch by batch."""
    where, _, compares = request.param.partition(", ")
    schema = None
    if where == "postgres":
        monkeypatch.setenv("AIRFLOW_CONN_PG", postgres_uri())
        schema = f"doubt_{uuid.uuid4().hex[:12]}"
    world = make_world()
    scene = Scene(world.sandbox, world.warehouse, world.project_type)
    if where == "objects":
        scene.store = ObjectState(f"file://{tmp_path / 'objects'}")
    else:
        scene.store = TableState(schema=schema, compare="worker" if compares == "worker" else "auto")
        scene.connection = "pg" if schema else "warehouse"
    yield scene
    if schema:
        PostgresHook("pg").run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


WRITES = {
    "users": "/api/users/bulkUpdate",
    "lists": "/api/lists/subscribe",
    "catalogs": "/api/catalogs/{name}/items",
}
REMOVALS = {
    "users": "/api/users/{email}",
    "lists": "/api/lists/unsubscribe",
    "catalogs": "/api/catalogs/{name}/items",
}


@dataclass(frozen=True)
class Loss:
    """A model that was delivered, one whose requests are lost, and the one after that."""

    before: People
    lost: People
    after: People
    paths: Callable[[str], str]


LOSSES = {
    "a change is taken back": Loss({1: "old", 2: "b"}, {1: "new", 2: "b"}, {1: "old", 2: "b"}, WRITES.__getitem__),
    "a removed row comes back": Loss({1: "a", 2: "b"}, {2: "b"}, {1: "a", 2: "b"}, REMOVALS.__getitem__),
    "an added row leaves": Loss({2: "b"}, {1: "a", 2: "b"}, {2: "b"}, WRITES.__getitem__),
    "an added row leaves and nothing else is there": Loss({}, {1: "a"}, {}, WRITES.__getitem__),
}


AFTER, BEFORE = "drop_after", "drop_before"
WHERE = [*((store, AFTER) for store in STORES), ("sqlite, database", BEFORE)]
"""What was not applied is the same to each store."""


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("scene", "fault"), WHERE, indirect=["scene"])
def test_what_was_lost_leaves_no_trace(scene: Scene, kind: str, loss: str, fault: str) -> None:
    """One run makes Iterable equal to the model, whether the lost requests were applied or not; the next is silent."""
    scene.kind, told = kind, LOSSES[loss]
    scene.sync(told.before)
    assert scene.held == told.before
    scene.lose(told.lost, told.paths(kind), fault)
    scene.sync(told.after)
    assert scene.held == told.after
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
