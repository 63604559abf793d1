"""What OpenLineage's own provider makes of real DAG runs: events in a file, read back."""

from __future__ import annotations

import builtins
import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.duckdb.hooks.duckdb import DuckDBHook

from airflow_provider_iterable.columns import Columns, ColumnType, Kind
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.sql.hook import sql_hook
from airflow_provider_iterable.sql.lineage import read_from
from airflow_provider_iterable.state import xcom
from tests.airflow_db import AIRFLOW, Dags, run_dag
from tests.operators.conftest import KEY, World
from tests.services import mysql_uri, postgres_uri

pytestmark = pytest.mark.skipif(not find_spec("airflow.providers.openlineage"), reason="Airflow without OpenLineage")

DAG_FILE = """
from datetime import UTC, datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_iterable.mapping import Column, Constant
from airflow_provider_iterable.operators import *
from airflow_provider_iterable.state import TableState, XComState

with DAG(dag_id="{dag_id}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    {body}
"""
PEOPLE = """IterableUserSyncOperator(
        task_id="sync",
        sql="SELECT p.id, p.email, lower(p.name) AS first_name, o.total, 7 AS fixed FROM {people} p "
            "JOIN {orders} o ON o.person = p.id WHERE p.name <> 'Nobody'",
        sql_conn_id="shop",
        primary_key="id",
        email_column="email",
        fields={"firstName": "first_name", "orders.total": Column("total"), "fixed": "fixed", "source": Constant("x")},
        state=XComState(),
        {more}
    )"""
NUMBERS = count(1)
PULL_FROM = xcom.pull_from
"""Airflow's own XComs, where the worlds of other tests have theirs."""


@dataclass
class Database:
    """A database with tables of people and orders, as OpenLineage is to call it."""

    namespace: str
    prefix: str
    """Of its tables' names."""
    types: dict[str, str]
    """Of the columns of the table of people."""
    number: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def people(self) -> str:
        """How OpenLineage calls the table of people."""
        return self.named(f"{self.prefix}{{people}}")

    @property
    def orders(self) -> str:
        """How OpenLineage calls the table of orders."""
        return self.named(f"{self.prefix}{{orders}}")

    def named(self, text: str) -> str:
        """Put the tables' names into a text."""
        return text.replace("{people}", f"people_{self.number}").replace("{orders}", f"orders_{self.number}")


@dataclass
class Lineage:
    """DAG runs of a world, and what is heard of them."""

    world: World
    dags: Dags
    database: Database
    file: Path

    def run(self, body: str) -> tuple[str, dict[str, Any]]:
        """Return how the only run of a DAG ended, and the last event of its task."""
        dag_id = f"lineage_{next(NUMBERS)}"
        source = DAG_FILE.replace("{dag_id}", dag_id).replace("{body}", self.database.named(body))
        dag = self.dags.write(dag_id, source)
        self.dags.files[:] = self.dags.files[-1:]
        state = str(run_dag(dag, datetime(2026, 3, 1, tzinfo=UTC)).state)
        text = self.file.read_text()
        assert KEY not in text
        assert "@example.com" not in text, "nobody is in it"
        assert "Bob" not in text
        ended = [event for event in map(json.loads, text.splitlines()) if event["job"]["name"] == f"{dag_id}.sync"]
        return state, ended[-1]


@pytest.fixture
def lineage(
    world: World, dags: Dags, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lineage]:
    """Have OpenLineage's listener write what it hears into a file."""
    from airflow.providers.openlineage import conf
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    managers = [import_module("airflow.listeners.listener").get_listener_manager()]
    if AIRFLOW >= (3, 2):  # tasks have one of their own
        managers.append(import_module("airflow.sdk.listener").get_listener_manager())

    monkeypatch.setattr(xcom, "pull_from", PULL_FROM)
    file = tmp_path / "lineage.ndjson"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    cached = [one for one in vars(conf).values() if hasattr(one, "cache_clear")]
    for one in cached:
        one.cache_clear()
    listener, manager = get_openlineage_listener(), managers[-1]  # plugins are loaded by now: it is in none yet
    manager.add_listener(listener)
    yield Lineage(world, dags, database, file)
    manager.pm.unregister(listener)
    for one in cached:
        one.cache_clear()


@pytest.fixture(params=["postgres", "mysql", "sqlite", "duckdb"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Give each database tables of people and orders."""
    path = tmp_path / "shop.db"
    if request.param == "postgres":
        url = urlsplit(postgres_uri())
        monkeypatch.setenv("AIRFLOW_CONN_SHOP", postgres_uri())
        found = Database(
            f"postgres://{url.hostname}:{url.port}",
            f"{url.path.strip('/')}.public.",
            {"id": "int4", "email": "text", "name": "text"},
        )
    elif request.param == "mysql":
        url = urlsplit(mysql_uri())
        monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"{mysql_uri()}?client=mysql-connector-python")
        found = Database(
            f"mysql://{url.hostname}:{url.port}",
            f"{url.path.strip('/')}.",
            {"id": "int(11)", "email": "varchar(99)", "name": "varchar(99)"},
        )
    elif request.param == "sqlite":
        monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(path)}))
        types = {"id": "INTEGER", "email": "varchar(99)", "name": "varchar(99)"}
        found = Database(f"sqlite://{path}", "main.", types)
    else:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "duckdb", "host": str(path)}))
        types = {"id": "INTEGER", "email": "VARCHAR", "name": "VARCHAR"}
        found = Database(f"duckdb://{path}", "shop.main.", types)
    text = "text" if request.param == "postgres" else "varchar(99)"
    execute(
        found,
        f"CREATE TABLE {{people}} (id integer, email {text}, name {text})",
        "CREATE TABLE {orders} (person integer, total integer)",
        "INSERT INTO {people} VALUES (1, 'u1@example.com', 'Ann'), (2, 'u2@example.com', 'Bob'), (3, 'bad', 'Eve')",
        "INSERT INTO {orders} VALUES (1, 5), (2, 6), (3, 7)",
    )
    yield found
    execute(found, "DROP TABLE {people}", "DROP TABLE {orders}")


def execute(database: Database, *statements: str) -> None:
    """Execute statements about the tables."""
    with closing(sql_hook("shop").get_conn()) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(database.named(statement))
        connection.commit()


def people(more: str) -> str:
    """Return the sync of people with orders."""
    return PEOPLE.replace("{more}", more)


def schema(dataset: dict[str, Any]) -> dict[str, str | None]:
    """Return the fields of a dataset, and their types."""
    return {one["name"]: one.get("type") for one in dataset["facets"]["schema"]["fields"]}


def sources(dataset: dict[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """Return where each field of a dataset comes from."""
    fields = dataset["facets"]["columnLineage"]["fields"].items()
    return {
        name: [(one["namespace"], one["name"], one["field"]) for one in found["inputFields"]] for name, found in fields
    }


def test_a_run_names_its_tables_its_target_and_the_way_of_each_column(lineage: Lineage, database: Database) -> None:
    """Tables under the names that others give them, Iterable's users, columns to fields, and how many rows went."""
    state, event = lineage.run(people("max_rejected=1"))
    assert (state, event["eventType"]) == ("success", "COMPLETE")
    tables = {one["name"]: one for one in event["inputs"]}
    assert {one["namespace"] for one in tables.values()} == {database.namespace}
    assert set(tables) == {database.people, database.orders}
    assert schema(tables[database.people]) == database.types
    (users,) = event["outputs"]
    host = urlsplit(lineage.world.sandbox.url).netloc
    assert (users["namespace"], users["name"]) == (f"iterable://{host}", "users")
    assert set(schema(users)) == {"email", "firstName", "orders.total", "fixed", "source"}
    assert users["outputFacets"]["outputStatistics"]["rowCount"] == 2
    table = (database.namespace, database.people)
    assert sources(users) == {
        "email": [(*table, "email")],
        "firstName": [(*table, "name")],
        "orders.total": [(database.namespace, database.orders, "total")],
    }
    assert event["job"]["facets"]["sql"]["query"].startswith("SELECT p.id, p.email, lower(p.name)")


def test_a_run_that_fails_says_what_it_has_written(lineage: Lineage, database: Database) -> None:
    """Everything else was delivered when too many rows are rejected."""
    state, event = lineage.run(people("max_rejected=0"))
    assert (state, event["eventType"]) == ("failed", "FAIL")
    assert len(event["inputs"]) == 2
    assert [one["outputFacets"]["outputStatistics"]["rowCount"] for one in event["outputs"]] == [2]
    assert "firstName" in sources(event["outputs"][0])


def test_a_model_that_cannot_be_read_has_its_tables_by_their_text(lineage: Lineage, database: Database) -> None:
    """What is not there has no columns, and nothing was written."""
    state, event = lineage.run(PEOPLE.replace("{orders}", "{orders}_gone").replace("{more}", ""))
    assert (state, event["eventType"]) == ("failed", "FAIL")
    names = {database.people, f"{database.orders}_gone"}
    assert {one["name"] for one in event["inputs"]} == names
    assert [one["outputFacets"]["outputStatistics"]["rowCount"] for one in event["outputs"]] == [0]


@pytest.mark.parametrize("more", ["dry_run=True", 'resync="baseline"'])
def test_what_sends_nothing_writes_nothing(lineage: Lineage, database: Database, more: str) -> None:
    """A dry run, and a run that only remembers, read their tables."""
    state, event = lineage.run(people(f"{more}, max_rejected=1"))
    assert (state, len(event["inputs"]), event["outputs"]) == ("success", 2, [])


TABLE = 'table="{people}", sql_conn_id="shop", task_id="sync", primary_key="id"'


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("body", "name", "fields"),
    [
        (f'IterableUserSyncOperator({TABLE}, email_column="email", max_rejected=1)', "users", {"email", "name"}),
        (
            f'IterableListOperator({TABLE}, email_column="email", list_name="Loyal / VIP", max_rejected=1)',
            "lists/Loyal / VIP",
            {"email"},
        ),
        (f'IterableCatalogOperator({TABLE}, catalog_name="Shops")', "catalogs/shops", {"itemId", "email", "name"}),
        (
            f'IterableEventOperator({TABLE}, email_column="email", event_name="seen", fields={{"who": "name"}}, '
            "max_rejected=1)",
            "events/seen",
            {"email", "who"},
        ),
        (
            f'IterableEventOperator({TABLE}, email_column="email", event_name_column="name", fields={{}}, '
            "max_rejected=1)",
            "events",
            {"email", "eventName"},
        ),
        (
            f'IterableMergeOperator({TABLE}, source_email_column="email", destination_email_column="name", '
            "state=TableState(), max_rejected=1.0)",
            "users",
            {"email"},
        ),
        (
            f'IterablePrivacyOperator({TABLE}, email_column="email", action="forget", state=TableState(), '
            "max_rejected=1)",
            "users",
            {"email"},
        ),
    ],
)
def test_every_kind_of_sync_has_a_target(
    lineage: Lineage, database: Database, body: str, name: str, fields: set[str]
) -> None:
    """A whole table's columns are the model's, each as the field that it becomes."""
    state, event = lineage.run(body)
    assert state == "success"
    (target,) = event["outputs"]
    assert target["name"] == name
    assert set(schema(target)) == fields
    found = sources(target)
    assert set(found) == fields
    assert {source[:2] for one in found.values() for source in one} == {(database.namespace, database.people)}


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
def test_parameters_are_bound_and_are_in_no_event(lineage: Lineage, database: Database) -> None:
    """The parser reads around them; the text is shown with their places, and not their values."""
    body = """IterableUserSyncOperator(
        task_id="sync",
        sql="SELECT id, email FROM {people} WHERE name = %(name)s AND email NOT LIKE '%%.org' AND id %% 9 = 1",
        parameters={"name": "Ann"}, sql_conn_id="shop", primary_key="id", email_column="email",
    )"""
    state, event = lineage.run(body)
    assert (state, [one["name"] for one in event["inputs"]]) == ("success", [database.people])
    assert "%(name)s" in event["job"]["facets"]["sql"]["query"]
    assert "Ann" not in json.dumps([event["inputs"], event["outputs"], event["job"]])
    assert set(sources(event["outputs"][0])) == {"email"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("sql", "known"),
    [
        ("SELECT * FROM {people}", {"id", "email"}),
        ("SELECT p.*, o.total FROM {people} p JOIN {orders} o ON o.person = p.id", {"id", "email", "total"}),
        ("SELECT count(*) AS id, 'a' AS email FROM {people}", set()),
        ("SELECT * FROM (SELECT email AS id, name AS email FROM {people})", set()),
        ("WITH a AS (SELECT id, email AS mail FROM {people}) SELECT id, mail AS email FROM a", {"id", "email"}),
    ],
)
def test_only_what_the_text_tells_has_a_source(database: Database, sql: str, known: set[str]) -> None:
    """A star is the columns of its tables; a count is none of them."""
    columns = Columns(("id", "email", "total"), [ColumnType(Kind.UNKNOWN)] * 3)
    _, found = read_from(sql_hook("shop"), database.named(sql), columns, bound=False)
    assert {name for name, source in found.items() if source} == known


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("WITH a AS (SELECT id FROM people), b AS (SELECT * FROM a JOIN orders USING (id)) SELECT * FROM b", "p o"),
        ("with recursive A (id, up) as (SELECT id, 1 FROM people) SELECT * FROM a JOIN orders o ON o.id = A.id", "p o"),
        (
            "WITH a AS MATERIALIZED (WITH b AS NOT MATERIALIZED (SELECT 1 FROM people) SELECT 1 x) SELECT 1 FROM a",
            "p",
        ),
        ("WITH people AS (SELECT * FROM people), orders AS (SELECT * FROM crm.orders) SELECT 1 FROM people", "p crm"),
        ("WITH a AS (SELECT 1 x), orders AS (SELECT * FROM a, crm.orders, people) SELECT 1 FROM orders, a", "p crm"),
        ("WITH orders AS (SELECT 1 x FROM people), b AS (SELECT 1 y FROM orders, crm.orders) SELECT 1 FROM b", "p crm"),
        ("WITH RECURSIVE a AS (SELECT id FROM people UNION ALL SELECT id FROM a) SELECT id FROM a", "p"),
        ("SELECT id FROM people WHERE id IN (SELECT person FROM orders) -- WITH x AS (SELECT * FROM nothing)", "p o"),
    ],
)
def test_tables_of_a_with_are_found(monkeypatch: pytest.MonkeyPatch, sql: str, tables: str) -> None:
    """Its own names are none, unless they are names of tables too."""
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgresql://nobody@127.0.0.1:1/shop?connect_timeout=1")
    names = {"p": "shop.public.people", "o": "shop.public.orders", "crm": "shop.crm.orders"}
    found, _ = read_from(sql_hook("shop"), sql, (), bound=False)
    assert {one.name for one in found.inputs} == {names[table] for table in tables.split()}


def test_a_database_that_was_not_read_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be why the run failed, and OpenLineage would wait for it."""
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgresql://nobody@127.0.0.1:1/shop?connect_timeout=1")
    found, _ = read_from(sql_hook("shop"), "SELECT id FROM people JOIN crm.orders USING (id)", (), bound=False)
    assert [(one.namespace, one.name) for one in found.inputs] == [
        ("postgres://127.0.0.1:1", "shop.crm.orders"),
        ("postgres://127.0.0.1:1", "shop.public.people"),
    ]


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_a_table_of_the_same_name_elsewhere_is_another_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB's information schema is about all databases that are attached."""
    real = DuckDBHook.get_conn

    def attached(self: Any) -> Any:
        connection = real(self)
        connection.execute(database.named("ATTACH ':memory:' AS other; CREATE TABLE other.main.{people} (x integer)"))
        return connection

    monkeypatch.setattr(DuckDBHook, "get_conn", attached)
    found, _ = read_from(sql_hook("shop"), database.named("SELECT id FROM {people}"), ("id",), bound=False)
    assert [one.name for one in found.inputs] == [database.people]
    (table,) = found.inputs
    assert [one.name for one in table.facets["schema"].fields] == ["id", "email", "name"]


def test_without_the_package_nothing_is_imported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run never asks for it; and whoever asks for lineage gets none."""
    asked, real = list[str](), builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if "openlineage" in name:
            asked.append(name)
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    world.people(1)
    world.run()
    assert asked == []
    operator = world.operator
    assert isinstance(operator, IterableUserSyncOperator)
    assert operator.get_openlineage_facets_on_complete(None) is None
    assert asked == ["airflow.providers.openlineage.extractors"]
