"""Warehouses whose users are synced in partitions, and how such a sync is killed."""

from __future__ import annotations

import inspect
import json
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableListOperator,
    IterablePrivacyOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.tables.connection import Tables
from tests.kill import connect
from tests.operators.conftest import Make, World, email
from tests.services import postgres_uri

DELETE, SUBSCRIBE = "DELETE /api/users/{email}", "POST /api/lists/subscribe"
SYNC = "adhoc_airflow.sync_users"
FOUR, SIX = range(4), range(6)
EVERY = 5
"""Of the transactions of a repartition, one in so many is the last of a run; 1 tries each, for minutes."""


@dataclass
class Task:
    """A mapped task instance."""

    run_id: str
    map_index: int
    try_number: int = 1
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.xcoms[key] = json.loads(json.dumps(value))


@dataclass
class Shop:
    """A warehouse whose users are synced in partitions, by the remainder of their ID."""

    world: World
    kind: str
    schema: str | None
    compare: str
    runs: int = 0
    tries: int = 1
    lenient: bool = False
    """Whether the worker may compare what the database cannot."""

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in the warehouse."""
        with closing(self._connect()) as connection:
            cursor = connection.cursor()
            if self.schema:
                cursor.execute(f"SET search_path TO {self.schema}")
            cursor.execute(statement)
            found = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
        return found

    def _connect(self) -> Any:
        if self.kind == "postgres":
            return connect(postgres_uri())
        return sqlite3.connect(self.world.warehouse) if self.kind == "sqlite" else duckdb.connect(self.world.warehouse)

    def people(self, numbers: Iterable[int], name: str = "Name") -> None:
        """Let the model be numbered people."""
        rows = ", ".join(f"({number}, '{email(number)}', '{name}')" for number in numbers)
        self.sql("DROP TABLE IF EXISTS users")
        self.sql("CREATE TABLE users (id INTEGER, email VARCHAR(100), name VARCHAR(100))")
        if rows:
            self.sql(f"INSERT INTO users VALUES {rows}")

    @property
    def table(self) -> str:
        """The model's table."""
        return f"{self.schema}.users" if self.schema else "users"

    @property
    def state(self) -> TableState:
        """The store."""
        compare = "auto" if self.lenient and self.compare == "database" else self.compare
        return TableState(schema=self.schema, compare=compare)  # type: ignore[arg-type]

    def make(
        self, partition: Any, names: Any, operator: type[IterableModelOperator], **parameters: Any
    ) -> IterableModelOperator:
        """Make what Airflow makes of one partition."""
        where = "" if partition is None else f" WHERE id % {len(names)} = {partition}"
        defaults: dict[str, Any] = {
            "task_id": "sync_users",
            "sql": f"SELECT * FROM {self.table}{where}",
            "sql_conn_id": "warehouse",
            "primary_key": "id",
            "email_column": "email",
            "fields": {"firstName": "name"},
            "state": self.state,
            "allow_empty": True,
            "max_removed": None,
            "partition": partition,
            "partitions": None if partition is None else list(names),
        }
        if operator is IterableUserSyncOperator:
            defaults["on_removed"] = "delete"
        if operator is IterableListOperator:
            defaults["list_name"] = "Everyone"
        if operator is IterableCatalogOperator:
            del defaults["email_column"]
        if operator is IterablePrivacyOperator:
            defaults.update(fields=None, action="delete")
        return operator(**{**defaults, **parameters})

    def task(
        self, partition: Any, names: Any, operator: type[IterableModelOperator] = IterableUserSyncOperator, **more: Any
    ) -> Any:
        """Run one partition."""
        made = self.make(partition, names, operator, **more)
        index = -1 if partition is None else list(names).index(partition)
        task = Task(f"run-{self.runs}", index, self.tries)
        outlets = {made.asset: SimpleNamespace(extra=None)} if partition is None else {}
        context: Any = {"run_id": task.run_id, "ti": task, "outlet_events": outlets}
        # What Airflow 2 wraps around it knows the main thread only.
        return inspect.unwrap(type(made).execute)(made, context)

    def run(self, partitions: Iterable[Any] | None, **parameters: Any) -> list[Any]:
        """Run all partitions, one after the other, as a new DAG run; ``None``: the sync without partitions."""
        self.runs += 1
        return self.again(partitions, **parameters)

    def again(self, partitions: Iterable[Any] | None, **parameters: Any) -> list[Any]:
        """Run all partitions in the same DAG run."""
        if partitions is None:
            return [self.task(None, (), **parameters)]
        return [self.task(partition, partitions, **parameters) for partition in partitions]

    @property
    def remembered(self) -> Counter[tuple[str, str]]:
        """What is remembered, and by whom."""
        table = f"{self.schema}.sync_state" if self.schema else "iterable_sync_state"
        return Counter(self.sql(f"SELECT sync_id, record_key FROM {table}"))

    @property
    def leases(self) -> list[tuple[Any, ...]]:
        """Who holds what."""
        table = f"{self.schema}.sync_lease" if self.schema else "iterable_sync_lease"
        return self.sql(f"SELECT sync_id FROM {table}")

    def headers(self) -> dict[str, dict[str, str]]:
        """The notes of all headers."""
        table = f"{self.schema}.sync_header" if self.schema else "iterable_sync_header"
        return {sync_id: json.loads(notes) for sync_id, notes in self.sql(f"SELECT sync_id, notes FROM {table}")}


def held(names: Iterable[Any], numbers: Iterable[int], sync_id: str = SYNC) -> Counter[tuple[str, str]]:
    """Return what should be remembered of people in partitions."""
    of = len(list(names))
    return Counter((f"{sync_id}[{number % of}]", f"[{number}]") for number in numbers)


def total(reports: Iterable[Any], name: str) -> int:
    """Add up a count."""
    return sum(report[name] for report in reports)


def addresses(numbers: Iterable[int]) -> set[str]:
    """Return people's addresses."""
    return {email(number) for number in numbers}


class Killed(BaseException):
    """What a killed process would not notice."""


def killed(*_: Any) -> None:
    """End the process, as far as it can tell."""
    raise Killed


class Transactions:
    """Counts the transactions of all tables, and ends the process before or after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._at, self._after = 0, 0, False
        transact = Tables.transact

        def interrupted(tables: Tables, work: Callable[[], Any]) -> Any:
            self.count += 1
            due = self.count == self._at
            if due and not self._after:
                raise Killed
            result = transact(tables, work)
            if due:
                raise Killed
            return result

        monkeypatch.setattr(Tables, "transact", interrupted)

    @contextmanager
    def killing(self, number: int, after: bool) -> Iterator[None]:
        """Count anew, and kill at this one; 0 kills at none."""
        self.count, self._at, self._after = 0, number, after
        try:
            with suppress(Killed):
                yield
        finally:
            self._at = 0


@pytest.fixture(params=["sqlite-database", "sqlite-worker", "postgres-database", "postgres-worker"])
def shop(request: pytest.FixtureRequest, make_world: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A warehouse of each kind, compared by each."""
    kind, compare = request.param.split("-")
    yield from open_shop(kind, compare, make_world, monkeypatch)


@pytest.fixture
def small(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A warehouse in SQLite."""
    yield from open_shop("sqlite", "auto", make_world, monkeypatch)


@pytest.fixture
def large(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A warehouse in Postgres."""
    yield from open_shop("postgres", "auto", make_world, monkeypatch)


def open_shop(kind: str, compare: str, make_world: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Make a warehouse, and leave nothing behind."""
    world = make_world()
    if kind == "duckdb":
        connection = {"conn_type": "duckdb", "host": str(world.warehouse)}
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    if kind != "postgres":
        yield Shop(world, kind, None, compare)
        return
    schema = f"partitions_{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres_uri())
    made = Shop(world, kind, None, compare)
    made.sql(f"CREATE SCHEMA {schema}")
    made.schema = schema
    yield made
    made.sql(f"DROP SCHEMA {schema} CASCADE")
