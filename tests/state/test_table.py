from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import traceback
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.errors import ConfigurationError, DestinationChanged, StateUnavailable
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.runs.privacy import PrivacyRun
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.store import Header, Session
from airflow_provider_iterable.state.tables import connection as state_table
from airflow_provider_iterable.state.tables.connection import COMMIT_PATIENCE
from airflow_provider_iterable.state.tables.dialects import DIALECTS, UNFIT
from airflow_provider_iterable.state.tables.entries import MAX_SYNC_ID
from airflow_provider_iterable.state.tables.session import TableSession
from airflow_provider_iterable.syncs.privacy import PrivacyOptions
from tests.services import mysql_uri, postgres_uri
from tests.state.contract import HERE, MAPPING, StoreContract, drain, entry, fresh, keep, kept, memories

needs_duckdb = pytest.mark.skipif(
    find_spec("airflow.providers.duckdb") is None, reason="Airflow has no DuckDB provider here"
)
DATABASES = ["sqlite", "postgres", pytest.param("duckdb", marks=[needs_duckdb, pytest.mark.slow]), "mysql"]
MYSQL_DRIVERS = ["mysql-connector-python", *(["mysqlclient"] if find_spec("MySQLdb") else [])]


def sqlite_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DbApiHook:
    """Return a hook of a database in a file."""
    from airflow.providers.sqlite.hooks.sqlite import SqliteHook

    uri = json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "state.db")})
    monkeypatch.setenv("AIRFLOW_CONN_STATE", uri)
    return SqliteHook("state")


def duckdb_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DbApiHook:
    """Return a hook of a DuckDB in a file."""
    from airflow.providers.duckdb.hooks.duckdb import DuckDBHook

    uri = json.dumps({"conn_type": "duckdb", "host": str(tmp_path / "state.duckdb")})
    monkeypatch.setenv("AIRFLOW_CONN_STATE", uri)
    return DuckDBHook(duckdb_conn_id="state")


def postgres_hook(monkeypatch: pytest.MonkeyPatch, driver: str = "") -> DbApiHook:
    """Return a hook of Postgres with the driver that Airflow prefers, or with psycopg2."""
    from airflow.providers.postgres.hooks import postgres

    if driver == "psycopg2":
        monkeypatch.setattr(postgres, "USE_PSYCOPG3", False, raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_uri())
    return postgres.PostgresHook("state")


@dataclass
class Tables:
    """State tables at a hook, in a schema or without one."""

    hook: DbApiHook
    schema: str | None = None

    def open(
        self,
        sync_id: str,
        destination: Mapping[str, Any] = HERE,
        mapping: str = MAPPING,
        resync: Resync = "changes",
        hook: Any = None,
        patience: float = COMMIT_PATIENCE,
    ) -> Session:
        """Open the tables, through another hook if one is given."""
        scope = Scope(sync_id, destination, mapping, hook=lambda conn_id: self.hook, resync=resync)
        if hook is None and patience == COMMIT_PATIENCE:
            return TableState("state", self.schema, untested_database=True).open(scope)
        return TableSession(scope, hook or self.hook, self.schema, patience=patience)


def execute(hook: DbApiHook, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, commit them, and return what the last one found."""
    connection = hook.get_conn()
    try:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        found = list(cursor.fetchall()) if cursor.description else []
        connection.commit()
    finally:
        connection.close()
    return found


@contextmanager
def postgres_tables(hook: DbApiHook) -> Iterator[Tables]:
    """Give a schema of its own, and drop it."""
    schema = f"Iterable_State_{uuid.uuid4().hex[:12]}"
    try:
        yield Tables(hook, schema)
    finally:
        execute(hook, "SET lock_timeout = '5s'", f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def mysql_hook(
    monkeypatch: pytest.MonkeyPatch, driver: str = MYSQL_DRIVERS[0], database: str | None = None, **options: Any
) -> DbApiHook:
    """Return a hook of MySQL or MariaDB with a driver of this name, of a database or the usual one."""
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    uri = urlsplit(f"{mysql_uri()}?client={driver}")
    monkeypatch.setenv("AIRFLOW_CONN_STATE", uri._replace(path=database or uri.path).geturl())
    return MySqlHook("state", **options)


@contextmanager
def mysql_tables(
    monkeypatch: pytest.MonkeyPatch, driver: str = MYSQL_DRIVERS[0], own: bool = True, **options: Any
) -> Iterator[Tables]:
    """Give a database of its own, the connection's default or a named one, and drop it."""
    hook, name = mysql_hook(monkeypatch, driver), f"Iterable_State_{uuid.uuid4().hex[:12]}"
    try:
        if own:
            execute(hook, f"CREATE DATABASE {name}")
            yield Tables(mysql_hook(monkeypatch, driver, name, **options))
        else:
            yield Tables(mysql_hook(monkeypatch, driver, **options), name)
    finally:
        execute(hook, "SET lock_wait_timeout = 5", f"DROP DATABASE IF EXISTS {name}")


class TestSqlite(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tables:
        """Return tables in a file."""
        return Tables(sqlite_hook(tmp_path, monkeypatch))


class TestPostgres(StoreContract):
    @pytest.fixture
    def place(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
        """Return tables in a schema, through the driver that Airflow prefers."""
        with postgres_tables(postgres_hook(monkeypatch)) as tables:
            yield tables


@pytest.mark.skipif(find_spec("psycopg2") is None, reason="Airflow does not need psycopg2 here")
class TestPsycopg2(StoreContract):
    @pytest.fixture
    def place(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
        """Return tables in a schema, through psycopg2."""
        with postgres_tables(postgres_hook(monkeypatch, "psycopg2")) as tables:
            yield tables


@pytest.mark.slow
@needs_duckdb
class TestDuckDB(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tables:
        """Return tables in a schema of a file."""
        return Tables(duckdb_hook(tmp_path, monkeypatch), "iterable_sync")


class TestMySQL(StoreContract):
    @pytest.fixture(params=MYSQL_DRIVERS)
    def place(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
        """Return tables in a database that the connection does not name, through each driver."""
        with mysql_tables(monkeypatch, request.param, own=False) as tables:
            yield tables


class Time:
    """Stands in for the module; sleeping moves it on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Note the seconds and let them pass."""
        self.slept.append(seconds)
        self.now += seconds


class BrokenError(Exception):
    """What a driver raises, parameters and all."""


@dataclass
class Unsteady:
    """A hook whose connections break at the queued statements: before them, or after them when it says so."""

    hook: DbApiHook
    breaks: deque[str] = field(default_factory=deque)
    statements: list[str] = field(default_factory=list)
    connections: list[Any] = field(default_factory=list)
    log_sql: bool = True
    broken: bool = False

    @property
    def conn_type(self) -> str:
        """Return the database's type."""
        return str(self.hook.conn_type)

    @property
    def placeholder(self) -> str:
        """Return the driver's placeholder."""
        return str(self.hook.placeholder)

    def get_conn(self) -> UnsteadyConnection:
        """Open a connection, unless that is what breaks."""
        self.hear("connect", ())
        self.broken = False
        connection = self.hook.get_conn()
        self.connections.append(connection)
        return UnsteadyConnection(self, connection)

    def hear(self, statement: str, parameters: Any) -> bool:
        """Note a statement, and break if it is its turn; return whether to break after it."""
        if statement.endswith(" WHERE 1 = 0") and not statement.startswith("SELECT"):
            return False  # whether it is allowed is all that a run wants to know
        self.statements.append(statement)
        if not self.breaks or not statement.startswith(self.breaks[0].removeprefix("after ")):
            return False
        if self.breaks.popleft().startswith("after "):
            return True
        self.give_up(statement, parameters)
        return False

    def give_up(self, statement: str, parameters: Any) -> None:
        """Break as badly as drivers do."""
        self.broken = True
        raise BrokenError(f"{statement} failed with {parameters}") from ValueError(str(parameters))


@dataclass
class UnsteadyConnection:
    """A connection whose commit is a statement too."""

    hook: Unsteady
    connection: Any

    def cursor(self) -> UnsteadyCursor:
        """Open a cursor."""
        return UnsteadyCursor(self.hook, self.connection.cursor())

    def commit(self) -> None:
        """Commit."""
        after = self.hook.hear("COMMIT", ())
        self.connection.commit()
        if after:
            self.hook.give_up("COMMIT", ())

    def rollback(self) -> None:
        """Undo."""
        self.connection.rollback()

    def close(self) -> None:
        """Close, and complain about it as some drivers do when the connection has died."""
        self.connection.close()
        if self.hook.broken:
            raise BrokenError("closed already")


@dataclass
class UnsteadyCursor:
    """A cursor that does not execute the statements that break."""

    hook: Unsteady
    cursor: Any

    @property
    def description(self) -> Any:
        """Return the columns."""
        return self.cursor.description

    @property
    def rowcount(self) -> Any:
        """Return how many rows the last statement changed."""
        return self.cursor.rowcount

    def execute(self, statement: str, parameters: Any = ()) -> None:
        """Execute."""
        after = self.hook.hear(statement, parameters)
        self.cursor.execute(*((statement, parameters) if parameters else (statement,)))
        if after:
            self.hook.give_up(statement, parameters)

    def fetchmany(self, size: int) -> Any:
        """Fetch some rows."""
        return self.cursor.fetchmany(size)

    def fetchall(self) -> Any:
        """Fetch all rows."""
        return self.cursor.fetchall()

    def close(self) -> None:
        """Close."""
        self.cursor.close()


SECRETS = ["ann.secret@example.com", "secret key", "bob.secret@example.com"]


def secret_patch() -> dict[str, Entry | None]:
    """Return a patch about people, that stores and forgets."""
    return {
        '["secret key"]': entry(1, SECRETS[0]),
        "[2]": entry(2, SECRETS[2]),
        f'["{SECRETS[2]}"]': None,
    }


@pytest.mark.parametrize("at", ["INSERT INTO", "DELETE", "COMMIT"])
def test_a_commit_that_fails_half_way_leaves_the_old_state(tables: Tables, time: Time, at: str) -> None:
    """Entries stored before the failure are undone, the header of a first commit included."""
    sync_id, other = fresh(), fresh()
    before: dict[str, Entry | None] = {"[2]": entry(9), f'["{SECRETS[2]}"]': entry(8), "[5]": entry(5)}
    keep(tables, sync_id, before)
    for name, expected in ((sync_id, before), (other, {})):
        hook = Unsteady(tables.hook)
        session = tables.open(name, hook=hook, patience=0)
        hook.breaks.append(at)
        with pytest.raises(StateUnavailable):
            session.commit(secret_patch())
        assert not hook.breaks
        session.close()
        assert kept(tables, name) == expected
    tables.open(other, {**HERE, "host": "elsewhere"}).close()


@pytest.mark.parametrize("at", ["INSERT INTO", "DELETE", "COMMIT", "after COMMIT"])
def test_a_commit_is_tried_again_on_a_new_connection(tables: Tables, time: Time, at: str) -> None:
    """Until it succeeds; also when it had succeeded and nobody heard of it, or when connecting fails at first."""
    sync_id = fresh()
    keep(tables, sync_id, {f'["{SECRETS[2]}"]': entry(8)})
    hook = Unsteady(tables.hook)
    session = tables.open(sync_id, hook=hook)
    hook.breaks.extend([at, "connect"])
    session.commit(secret_patch())
    assert (len(time.slept), len(hook.connections)) == (2, 2)
    assert not hook.breaks
    expected = {'["secret key"]': entry(1, SECRETS[0]), "[2]": entry(2, SECRETS[2])}
    assert session.recall(list(secret_patch())) == expected
    session.commit({"[2]": None})
    session.close()
    assert kept(tables, sync_id) == {'["secret key"]': entry(1, SECRETS[0])}


def test_a_connection_that_was_closed_is_opened_again(tables: Tables, time: Time) -> None:
    """The database, or something on the way, may hang up between two batches."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    session = tables.open(sync_id, hook=hook)
    session.commit({"[1]": entry(1)})
    hook.connections[-1].close()
    session.commit({"[2]": entry(2)})
    session.close()
    assert kept(tables, sync_id) == {"[1]": entry(1), "[2]": entry(2)}


def test_a_terminated_backend_is_replaced(monkeypatch: pytest.MonkeyPatch, time: Time) -> None:
    """Postgres restarts or fails over, and the run goes on."""
    with postgres_tables(postgres_hook(monkeypatch)) as tables:
        sync_id, hook = fresh(), Unsteady(tables.hook)
        session = tables.open(sync_id, hook=hook)
        session.commit({"[1]": entry(1)})
        pid = hook.connections[-1].info.backend_pid
        assert execute(tables.hook, f"SELECT pg_terminate_backend({pid})") == [(True,)]
        session.commit({"[2]": entry(2)})
        assert hook.connections[-1].info.backend_pid != pid
        session.close()
        assert kept(tables, sync_id) == {"[1]": entry(1), "[2]": entry(2)}


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Return all that is said at any level: by loggers that keep it from the root, and by those that write it out."""
    said: list[str] = []

    def hear() -> str:
        said.extend(capfd.readouterr())
        return "\n".join([*said, caplog.text, *(str(record.__dict__) for record in caplog.records)])

    names = ["", "airflow", "airflow.task", "airflow.processor"]
    loggers = [logging.getLogger(name) for name in names]
    deaf = [logger for logger in loggers if caplog.handler not in logger.handlers]
    for logger in deaf:
        logger.addHandler(caplog.handler)
    for name in names:
        caplog.set_level(logging.DEBUG, name or None)
    yield hear
    for logger in deaf:
        logger.removeHandler(caplog.handler)


def test_a_state_that_cannot_be_written_names_nobody(tables: Tables, time: Time, heard: Callable[[], str]) -> None:
    """After 30 s the error says how many rows are not remembered, and neither it nor the log says whose."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    session = tables.open(sync_id, hook=hook)
    hook.breaks.extend(["INSERT INTO"] * 100)
    with pytest.raises(StateUnavailable) as caught:
        session.commit(secret_patch())
    session.close()
    assert time.now >= COMMIT_PATIENCE > time.now - time.slept[-1]
    assert all(later >= sooner for sooner, later in zip(time.slept, time.slept[1:], strict=False))
    message = str(caught.value)
    assert all(part in message for part in (sync_id, "30 s", "BrokenError", "3 rows", "go again"))
    told = "\n".join([*traceback.format_exception(caught.value), heard()])
    assert not [secret for secret in SECRETS if secret in told]
    assert kept(tables, sync_id) == {}


def test_a_run_that_cannot_be_finished_is_worth_retrying(tables: Tables, time: Time) -> None:
    """Every entry is stored by then; a retry finds nothing to send."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    session = tables.open(sync_id, hook=hook)
    session.commit({"[1]": entry(1)})
    hook.breaks.extend(["INSERT INTO"] * 100)
    with pytest.raises(StateUnavailable, match=f"{sync_id}.*30 s.*BrokenError.*is remembered"):
        session.finish(True)
    session.close()
    assert kept(tables, sync_id) == {"[1]": entry(1)}


def test_nothing_logs_parameters(tables: Tables, heard: Callable[[], str]) -> None:
    """The hook that would log them is told not to, and the store's own statements do not pass through it."""
    tables.hook.get_first(f"SELECT CAST({tables.hook.placeholder} AS VARCHAR(99))", parameters=("a control",))
    assert "a control" in heard(), "the log is heard"
    sync_id = fresh()
    keep(tables, sync_id, secret_patch(), {'["secret key"]': None})
    session = tables.open(sync_id)
    assert drain(session, [("[2]", SECRETS[0]), ('["secret key"]', SECRETS[1])])
    assert session.recall(["[2]", '["secret key"]']) == {"[2]": entry(2, SECRETS[2])}
    assert memories(session)
    session.close()
    assert tables.hook.log_sql is False
    told = heard()
    assert not [secret for secret in SECRETS if secret in told]


def test_the_header_is_written_with_the_first_entries(tables: Tables) -> None:
    """Opening creates tables without a row; the first commit writes both, and later ones leave the header alone."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    session = tables.open(sync_id, hook=hook)
    header = f'"{tables.schema}".sync_header' if tables.schema else "iterable_sync_header"
    count = f"SELECT count(*) FROM {header} WHERE sync_id = '{sync_id}'"
    assert execute(tables.hook, count) == [(0,)]
    session.commit({"[1]": entry(1)})
    assert execute(tables.hook, count) == [(1,)]
    del hook.statements[:]
    session.commit({"[2]": entry(2)})
    assert not [statement for statement in hook.statements if "sync_header" in statement]
    session.close()


def test_a_note_is_stored_at_once(tables: Tables, time: Time) -> None:
    """Whatever becomes of the run; on its own it binds the sync to its destination. It is tried again for 30 s."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    session = tables.open(sync_id, hook=hook)
    session.note("list_id", "7")
    session.close()
    session = tables.open(sync_id, hook=hook)
    assert session.notes == {"list_id": "7"}
    hook.breaks.extend(["UPDATE", "COMMIT"])
    session.note("list_id", "8")
    session.close()
    session = tables.open(sync_id, hook=hook)
    assert session.notes == {"list_id": "8"}
    session.close()
    with pytest.raises(DestinationChanged):
        tables.open(sync_id, {**HERE, "host": "elsewhere"})
    session = tables.open(sync_id, hook=hook)
    hook.breaks.extend(["UPDATE"] * 100)
    with pytest.raises(StateUnavailable, match=f"list_id.*{sync_id}.*30 s.*BrokenError"):
        session.note("list_id", "9")
    session.close()


def test_the_other_syncs_of_the_tables(tables: Tables) -> None:
    """Each with its destination and notes."""
    one, other, third = fresh(), fresh(), fresh()
    for sync_id, destination in ((one, HERE), (other, {**HERE, "list": "VIP"})):
        session = tables.open(sync_id, destination)
        session.note("list_id", sync_id)
        session.close()
    session = tables.open(third)
    assert session.others() == {
        one: Header(HERE, {"list_id": one}),
        other: Header({**HERE, "list": "VIP"}, {"list_id": other}),
    }
    session.close()
    session = tables.open(one)
    assert session.others().keys() == {other}
    session.close()


@pytest.mark.parametrize(
    "schema",
    ['x"; DROP TABLE people; --', "a.b", "", " ", "x y", "x\n", "1x", "schéma", '"x"', "x;", "{state}", "%s"],
)
def test_a_schema_is_a_plain_name(monkeypatch: pytest.MonkeyPatch, schema: str) -> None:
    """Anything else is refused before a connection is opened."""
    monkeypatch.setenv("AIRFLOW_CONN_STATE", "postgresql://nobody@127.0.0.1:1/nothing")
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    with pytest.raises(ConfigurationError, match="not the name of a schema"):
        Tables(PostgresHook("state"), schema).open(fresh())


def test_sqlite_has_no_schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to leave out."""
    with pytest.raises(ConfigurationError, match="SQLite has no schemas: leave schema out"):
        Tables(sqlite_hook(tmp_path, monkeypatch), "iterable_sync").open(fresh())


def test_other_databases_are_refused_in_words() -> None:
    """The error names those that will do, the one that will not, and the way out."""

    class ElsewhereHook(DbApiHook):
        conn_name_attr = "elsewhere_conn_id"
        conn_type = "elsewhere"

    with pytest.raises(ConfigurationError) as caught:
        Tables(ElsewhereHook("state")).open(fresh())
    words = ("postgres", "sqlite", "duckdb", "'elsewhere'", "TableState(conn_id=...)")
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("kind", sorted(UNFIT))
def test_a_database_that_cannot_promise_a_commit_is_refused(kind: str) -> None:
    """The error says which and why, and nothing was asked of it."""
    opened = list[str]()

    class UnfitHook(DbApiHook):
        conn_name_attr = "unfit_conn_id"
        conn_type = kind

        def get_conn(self) -> Any:
            opened.append(kind)

    with pytest.raises(ConfigurationError) as caught:
        Tables(UnfitHook("state")).open(fresh())
    name, why = UNFIT[kind]
    assert f"{name} cannot keep the state: {why}. Name another connection for the state with" in str(caught.value)
    assert (opened, kind in DIALECTS) == ([], False)


def untested(kind: str) -> DbApiHook:
    """Return a hook of a database that must not be asked anything."""

    class UntestedHook(DbApiHook):
        conn_name_attr = "untested_conn_id"
        conn_type = kind

        def get_conn(self) -> Any:
            raise AssertionError("something was asked")

    return UntestedHook("state")


@pytest.mark.parametrize("kind", ["databricks", "redshift", "snowflake"])
def test_a_database_that_nobody_tried_keeps_a_state_only_if_asked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what was checked and how to ask, in the words of the page, before anything is asked."""
    scope = Scope(fresh(), HERE, hook=lambda conn_id: untested(kind))
    with pytest.raises(ConfigurationError) as refused:
        TableState().open(scope)
    page = " ".join((Path(__file__).parents[2] / "docs" / "state.md").read_text("utf-8").split())
    assert f"- {refused.value} " in page
    assert "TableState(untested_database=True)" in str(refused.value)
    monkeypatch.setenv("AIRFLOW_CONN_IT", json.dumps({"conn_type": "iterable", "password": "k" * 32}))
    privacy = PrivacyRun(PrivacyOptions(("id",), "forget", "email", "email"), IterableHook("it"))
    with pytest.raises(ConfigurationError, match=re.escape(str(refused.value))):
        privacy.open_state(TableState(), scope)
    assert [name for name, dialect in DIALECTS.items() if dialect.untested] == ["snowflake", "databricks", "redshift"]
    assert TableState(untested_database=True).connect(scope).conn_type == kind


def test_a_store_without_connections_is_refused() -> None:
    """A scope that gives no hook cannot hold tables."""
    with pytest.raises(ConfigurationError, match="SQL connection"):
        TableState("state").open(Scope(fresh(), HERE))


def test_a_long_sync_id_is_refused_before_anything_is_sent(tables: Tables) -> None:
    """A database that checks lengths would otherwise refuse the first commit, after Iterable accepted a batch."""
    with pytest.raises(ConfigurationError, match=f"has {MAX_SYNC_ID + 1} characters.*Set a shorter sync_id"):
        tables.open("x" * (MAX_SYNC_ID + 1))


def test_the_connection_is_the_models_own_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store asks for the hook of its connection, or of none."""
    hook, asked = sqlite_hook(tmp_path, monkeypatch), list[str | None]()

    def give(conn_id: str | None) -> DbApiHook:
        asked.append(conn_id)
        return hook

    TableState().open(Scope(fresh(), HERE, hook=give)).close()
    TableState("warehouse").open(Scope(fresh(), HERE, hook=give)).close()
    assert asked == [None, "warehouse"]


def test_a_session_that_cannot_be_opened_leaves_no_connection(tables: Tables) -> None:
    """Also when the database answered, and the answer was that the state belongs elsewhere."""
    sync_id, hook = fresh(), Unsteady(tables.hook)
    keep(tables, sync_id, {"[1]": entry(1)})
    with pytest.raises(Exception, match="another destination"):
        tables.open(sync_id, {**HERE, "host": "elsewhere"}, hook=hook)
    assert len(hook.connections) == 1
    with pytest.raises(Exception, match=r"clos|not available"):
        hook.connections[0].cursor().execute("SELECT 1")


def test_closing_twice_is_no_error(tables: Tables) -> None:
    """There is nothing left to close."""
    session = tables.open(fresh())
    session.close()
    session.close()


def test_model_and_state_may_share_a_database(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default they do: an open model, larger than what is fetched at once, does not lock the state out."""
    execute(
        tables.hook,
        f"DROP TABLE IF EXISTS {(people := 'people_' + uuid.uuid4().hex[:12])}",
        f"CREATE TABLE {people} (id INT, email VARCHAR(50), plan VARCHAR(20))",
        f"INSERT INTO {people} VALUES " + ", ".join(f"({n}, 'u{n}@example.com', 'free')" for n in range(1, 6001)),
    )
    if tables.schema:
        execute(tables.hook, f'CREATE SCHEMA "{tables.schema}"')
    with Sandbox(rates=False) as iterable:
        connection = {"conn_type": "iterable", "host": iterable.url, "password": "a-key-of-iterable", "extra": {}}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        told = []
        for change in ("SELECT 1", f"UPDATE {people} SET plan = 'paid' WHERE id = 7", "SELECT 1"):
            execute(tables.hook, change)
            operator = IterableUserSyncOperator(
                task_id="sync",
                sync_id="people",
                sql_conn_id="state",
                table=people,
                primary_key="id",
                email_column="email",
                state=TableState(schema=tables.schema),
            )
            pushed = SimpleNamespace(xcom_push=lambda **kwargs: None)
            context = {"run_id": "run", "ti": pushed, "outlet_events": defaultdict(SimpleNamespace)}
            told.append(operator.execute(cast("Any", context)))
        assert [(report["accepted"], report["unchanged"]) for report in told] == [(6000, 0), (1, 5999), (0, 6000)]
        assert told[2]["requests"] == {}
    execute(tables.hook, f"DROP TABLE {people}")


PAIR_MANY = """
import sys
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.state.tables.store import TableState
from airflow_provider_iterable.state.scope import Scope

class Keyed:
    recipe = None

    def keys(self, rows):
        return [f"[{n}]" for n, in rows]

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

def open_(sync_id):
    return TableState().open(Scope(sync_id, {}, hook=lambda conn_id: SqliteHook("state")))

def pair(sync_id, rows):
    session = open_(sync_id)
    chunks = ([(n,) for n in range(at, min(at + 2000, rows))] for at in range(0, rows, 2000))
    known = sum(before is not None for pair in session.pair(Keyed(), chunks) for before in pair.before)
    session.close()
    return known

rows = int(sys.argv[2])
if sys.argv[1] == "write":
    session = open_("dag.sync")
    for start in range(0, rows, 10_000):
        session.commit({f"[{n}]": Entry(n.to_bytes(12, "big"), "ref") for n in range(start, start + 10_000)})
    session.close()
else:
    pair("dag.other", 1)  # loads what is loaded on first use
    before = peak()
    print(pair("dag.sync", rows), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Airflow's memory is measured on Linux")
def test_pairing_takes_less_than_200_bytes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that pairs 300,000 rows with their memories grows by that at most."""
    rows = 300_000
    sqlite_hook(tmp_path, monkeypatch)

    def python(what: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", PAIR_MANY, what, str(rows)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    python("write")
    seen, growth = (int(number) for number in python("pair").split()[-2:])
    assert seen == rows
    assert growth / rows < 200, f"{growth / rows:.0f} bytes a row"


@pytest.mark.parametrize("tables", [name for name in DATABASES if name != "mysql"], indirect=True)
def test_a_commit_that_stored_less_than_it_had_to_is_none(
    tables: Tables, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was executed instead: the rows that were stored are counted where the database does that."""
    sync_id, really = fresh(), state_table.encode
    keep(tables, sync_id, {"[1]": entry(1)})
    session = tables.open(sync_id)

    def losing(items: list[Any]) -> str:
        return really(items[:-1] if isinstance(items[0], tuple) else items)

    monkeypatch.setattr(state_table, "encode", losing)
    with pytest.raises(StateUnavailable, match=f"{sync_id}.*30 s.*Miscounted.*3 rows.*go again"):
        session.commit({"[1]": entry(9), "[2]": entry(2), "[3]": None})
    monkeypatch.setattr(state_table, "encode", really)
    session.close()
    assert kept(tables, sync_id) == {"[1]": entry(1)}
