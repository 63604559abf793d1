"""Real operators between a SQLite warehouse and the sandbox, in an Airflow that is just large enough."""

from __future__ import annotations

import json
import logging
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.mysql.hooks.mysql import MySqlHook
from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.report import REPORT_KEY
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL
from airflow_provider_iterable.errors import CannotRetry, WorthRetrying
from airflow_provider_iterable.hooks import iterable as hooks
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableListOperator,
    IterableSubscriptionOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.runs import runner
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import ObjectState, TableState, xcom
from airflow_provider_iterable.state.store import Store
from airflow_provider_iterable.state.xcom import XCOM_KEY
from tests.services import mysql_uri, postgres_uri

KEY = "0123456789abcdef0123456789abcdef"
BULK = "POST /api/users/bulkUpdate"
FIELDS = "GET /api/users/getFields"
CHANNELS = "GET /api/channels"
"""Asked once in the life of a sync, which test_project.py is about; other tests do not count it."""
COLUMNS = ("id", "email", "uid", "name", "age", "city")
MATCH = {"email": "email", "user_id": "uid", "hybrid": "uid"}
STORES = ("postgres, database", "postgres, worker", "sqlite, database", "sqlite, worker", "objects")
"""States that commit batch by batch; what compares them follows where they are. MariaDB may be named as well."""
WRITES = {
    "users": "/api/users/bulkUpdate",
    "lists": "/api/lists/subscribe",
    "catalogs": "/api/catalogs/{name}/items",
}
"""Where each kind of sync writes its rows."""
SUBSCRIPTIONS = "/api/subscriptions/{group}/{id}"
"""Where subscriptions are written, and taken back."""
OPT_IN = 102168
"""A message type that people are subscribed to only by choice."""
OUT = "new"
"""In a model of subscriptions, the name of whom it unsubscribes."""
People = dict[int, str]
"""The model: a value for each number."""


@dataclass
class TaskInstance:
    """A task instance that keeps XComs as Airflow does: by run and key."""

    run_id: str
    xcoms: dict[tuple[str, str], Any]
    try_number: int = 1

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.xcoms[self.run_id, key] = json.loads(json.dumps(value))


@dataclass
class Told:
    """What a sync says of its target to Airflow: assets, and what it says about each."""

    events: list[tuple[Any, Any]] = field(default_factory=list)

    def add(self, asset: Any, extra: Any) -> None:
        """Keep it."""
        self.events.append((asset, extra))


@dataclass
class World:
    """A warehouse, a project and what happened between them."""

    sandbox: Sandbox
    warehouse: Path
    project_type: ProjectType
    xcoms: dict[tuple[str, str], Any] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    runs: int = 0
    tries: int = 1
    """Of the run that comes next: which try it is."""
    operator: IterableModelOperator | None = None
    context: dict[str, Any] = field(default_factory=dict)
    """What Airflow hands to tasks besides."""
    told: Told = field(default_factory=Told)
    """Of the last run."""

    def rows(self, *rows: Sequence[Any], columns: Sequence[str] = COLUMNS) -> None:
        """Let the model be these rows."""
        with closing(sqlite3.connect(self.warehouse)) as connection:
            connection.execute("DROP TABLE IF EXISTS users")
            connection.execute(f"CREATE TABLE users ({', '.join(columns)})")
            connection.executemany(f"INSERT INTO users VALUES ({', '.join('?' * len(columns))})", rows)
            connection.commit()

    def people(self, *numbers: int, **changes: Any) -> None:
        """Let the model be numbered people, all with these values."""
        self.rows(*(person(number, **changes) for number in numbers))

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator, matched by what the project uses."""
        defaults: dict[str, Any] = {
            "task_id": "sync_users",
            "sql": "SELECT * FROM users ORDER BY id",
            "sql_conn_id": "warehouse",
            "primary_key": "id",
            "fields": {"firstName": "name", "age": "age", "address.city": "city"},
            "state": TableState(),
        }
        if "email_column" not in parameters and "user_id_column" not in parameters:
            column = MATCH[self.project_type]
            defaults["email_column" if column == "email" else "user_id_column"] = column
        return IterableUserSyncOperator(**{**defaults, **parameters})

    def retry(self, **parameters: Any) -> Any:
        """Run the operator as the next try of the last DAG run, and return its report."""
        self.runs -= 1
        self.tries += 1
        try:
            return self.run(**parameters)
        finally:
            self.tries = 1

    def run(self, **parameters: Any) -> Any:
        """Run the operator as a new DAG run, and return its report."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        self.operator = operator = self.make(**parameters)
        context: dict[str, Any] = {
            "run_id": run_id,
            "ti": TaskInstance(run_id, self.xcoms, self.tries),
            "inlet_events": {operator.asset: list(self.events)},
            "outlet_events": {operator.asset: SimpleNamespace(extra=None), operator.target: Told()},
            **self.context,
        }
        report = operator.execute(context)  # type: ignore[arg-type]  # a context of dicts is enough
        told, self.told = (context["outlet_events"][key] for key in (operator.asset, operator.target))
        if report["dry_run"]:
            assert (told.extra, self.told.events, operator.outlets) == (None, [], [])
            return report
        assert told.extra == report
        self.events.append(
            SimpleNamespace(
                source_dag_id="dag",
                source_run_id=run_id,
                source_task_id="sync_users",
                source_map_index=-1,
                pushed=self.xcoms.get((run_id, XCOM_KEY)),
            )
        )
        return report

    def failure(self, kind: type[AirflowException], /, **parameters: Any) -> tuple[str, Any]:
        """Run the operator into an error that Airflow takes so; return its message and the report it left."""
        with pytest.raises(kind) as failed:
            self.run(**parameters)
        assert taken_as(failed.value) is kind
        assert failed.value.__suppress_context__
        assert failed.value.__cause__ is None
        return str(failed.value), self.xcoms[f"run-{self.runs}", REPORT_KEY]

    def patiently(self, tries: int = 8, **parameters: Any) -> Any:
        """Run and, as Airflow does, run again what failed in a way that is worth it."""
        for _ in range(tries):
            with suppress(AirflowException):
                return self.run(**parameters)
        raise AssertionError("all tries failed")

    @property
    def calls(self) -> Counter[str]:
        """How often each endpoint was called, answered or not, but for what identifies the project."""
        calls = Counter(f"{call.method} {call.template}" for call in self.sandbox.calls)
        del calls[CHANNELS]
        return calls

    def forget_calls(self) -> None:
        """Count calls from now on."""
        self.sandbox.service.calls.clear()

    @property
    def profiles(self) -> dict[str, dict[str, Any]]:
        """The profiles by the identifier that matches."""
        found = {}
        for profile in self.sandbox.project.profiles:
            name = profile.email if MATCH[self.project_type] == "email" else profile.user_id
            found[name or ""] = profile.fields
        return found

    def create(self, number: int, **fields: Any) -> None:
        """Have Iterable know a person already, by all that the project type knows people by."""
        import requests

        top = {"email": email(number)} if self.project_type == "email" else {"userId": uid(number)}
        other = {"userId": uid(number)} if self.project_type == "email" else {"email": email(number)}
        body = {**top, "dataFields": {**other, **fields}}
        answer = requests.post(f"{self.sandbox.url}/api/users/update", json=body, headers={"Api-Key": KEY}, timeout=10)
        assert answer.status_code == 200
        self.forget_calls()

    @property
    def remembered(self) -> list[str]:
        """The keys in the state table of what was accepted."""
        return self._keys("<>")

    @property
    def in_doubt(self) -> list[str]:
        """The keys in the state table of what may have been accepted."""
        return self._keys("=")

    def _keys(self, comparison: str) -> list[str]:
        query = f"SELECT record_key FROM iterable_sync_state WHERE fingerprint {comparison} ? ORDER BY 1"
        with closing(sqlite3.connect(self.warehouse)) as connection:
            return [key for (key,) in connection.execute(query, (NEVER_EQUAL.hex(),))]


class Scene(World):
    """A world whose model is written into the query, so that it is the same on each database."""

    connection = "warehouse"
    store: Store
    kind = "users"

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make an operator that removes who has left."""
        common: dict[str, Any] = {"task_id": "sync", "sql_conn_id": self.connection, "state": self.store, **parameters}
        common |= {"primary_key": "id", "allow_empty": True}
        if self.kind == "subscriptions":
            return IterableSubscriptionOperator(
                email_column="email",
                subscription_type="message_type",
                subscription_id=OPT_IN,
                subscribed_column="name",
                subscribed_words={"a": True, "b": True, "old": True, OUT: False},
                consent_waived="a test",
                on_removed="unsubscribe",
                **common,
            )
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

    def due(self, people: People) -> People:
        """Whom Iterable is to have: of subscriptions those who are subscribed, whatever the word for it."""
        if self.kind == "subscriptions":
            return {number: "subscribed" for number, name in people.items() if name != OUT}
        return people

    @property
    def held(self) -> People:
        """Whom Iterable has, as the model would have them."""
        if self.kind == "subscriptions":
            joined = "subscribedMessageTypeIds"
            return {_number(name): "subscribed" for name, has in self.profiles.items() if OPT_IN in has.get(joined, ())}
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


def taken_as(error: BaseException) -> type[AirflowException]:
    """Return as what Airflow takes an error of ours, which also has the class that says what happened."""
    assert isinstance(error, AirflowException)
    fails = isinstance(error, AirflowFailException)
    assert isinstance(error, CannotRetry if fails else WorthRetrying)
    return AirflowFailException if fails else AirflowException


def _number(name: str) -> int:
    return int(name.partition("@")[0].removeprefix("person"))


def email(number: int) -> str:
    """Return a person's address."""
    return f"person{number}@example.com"


def uid(number: int) -> str:
    """Return a person's user ID."""
    return f"user-{number}"


def person(number: int, **changes: Any) -> tuple[Any, ...]:
    """Return a person's row."""
    whole = {"id": number, "email": email(number), "uid": uid(number), "name": f"Name {number}", "age": number}
    return tuple({**whole, "city": "London", **changes}[column] for column in COLUMNS)


def identifier(project_type: str, number: int) -> str:
    """Return what a project of this type knows a person by."""
    return email(number) if MATCH[project_type] == "email" else uid(number)


Make = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make worlds in which waiting takes no time."""
    opened: list[Sandbox] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(hooks, "Client", partial(Client, clock=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(hooks, "SharedPaces", lambda project: None)  # whose clock is the machine's
    monkeypatch.setattr(xcom, "pull_from", lambda event: event.pushed)
    monkeypatch.setattr(runner, "Patience", partial(Patience, first_wait=0.0, longest_wait=0.0))

    def make(project_type: ProjectType = "email", extra: dict[str, Any] | None = None, **options: Any) -> World:
        options = {"rates": False, **options}
        sandbox = Sandbox(project_type, sleep=options.pop("sleep", lambda seconds: None), **options).start()
        opened.append(sandbox)
        warehouse = tmp_path / f"warehouse-{len(opened)}.db"
        connections = {
            "ITERABLE_DEFAULT": {
                "conn_type": "iterable",
                "password": KEY,
                "host": sandbox.url,
                "extra": {"project_type": project_type, **(extra or {})},
            },
            "WAREHOUSE": {"conn_type": "sqlite", "host": str(warehouse)},
        }
        for name, connection in connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
        return World(sandbox, warehouse, project_type)

    yield make
    for sandbox in opened:
        sandbox.stop()


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was said: loggers of every kind at DEBUG, and what Airflow 3 prints instead of logging."""
    caplog.set_level(logging.DEBUG)
    printed: list[str] = []

    def heard() -> str:
        printed.extend(capfd.readouterr())
        return caplog.text + "".join(printed)

    return heard


@pytest.fixture
def world(make_world: Make) -> World:
    """An email-based project without users."""
    return make_world()


@pytest.fixture(params=STORES)
def scene(
    request: pytest.FixtureRequest, make_world: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """An empty project, and a state of each kind that commits batch by batch."""
    where, _, compares = request.param.partition(", ")
    uris = {"postgres": postgres_uri, "mysql": lambda: f"{mysql_uri()}?client=mysql-connector-python"}
    schema = None
    if where in uris:
        monkeypatch.setenv("AIRFLOW_CONN_DB", uris[where]())
        schema = f"doubt_{uuid.uuid4().hex[:12]}"
    world = make_world()
    scene = Scene(world.sandbox, world.warehouse, world.project_type)
    if where == "objects":
        scene.store = ObjectState(f"file://{tmp_path / 'objects'}")
    else:
        scene.store = TableState(schema=schema, compare="worker" if compares == "worker" else "auto")
        scene.connection = "db" if schema else "warehouse"
    yield scene
    if where == "postgres":
        PostgresHook("db").run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    elif schema:
        MySqlHook("db").run(f"DROP DATABASE IF EXISTS {schema}")
