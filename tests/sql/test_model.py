from __future__ import annotations

import json
import sqlite3
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.errors import ConfigurationError, ModelError, ModelUnavailable
from airflow_provider_iterable.sql.databases.driver import nothing, unknown_types
from airflow_provider_iterable.sql.databases.mysql import MYSQL_CONNECTOR
from airflow_provider_iterable.sql.model import Model
from tests.services import mysql_uri, postgres_uri


@dataclass(frozen=True)
class Database:
    """A database with a table of seven rows: ``id`` from 1, ``name`` as ``n`` and the id."""

    hook: DbApiHook
    table: str
    marker: str
    """The driver's placeholder for a bind parameter."""
    late_error: str
    """A query of many rows whose last ones cannot be computed."""


# The drivers that are installed: PostgresHook uses psycopg 3 with SQLAlchemy 2, psycopg2 otherwise; mysqlclient needs
# a compiler and is not everywhere.
DRIVERS = [
    "sqlite",
    *(["duckdb"] if find_spec("airflow.providers.duckdb") else []),
    "postgres",
    *(["psycopg2"] if find_spec("psycopg2") else []),
    "mysql-connector-python",
    *(["mysqlclient"] if find_spec("MySQLdb") else []),
]


def sqlite_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DbApiHook:
    """Return a hook of a database in a file."""
    from airflow.providers.sqlite.hooks.sqlite import SqliteHook

    uri = json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "model.db")})
    monkeypatch.setenv("AIRFLOW_CONN_MODEL_SQLITE", uri)
    return SqliteHook("model_sqlite")


def duckdb_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DbApiHook:
    """Return a hook of a DuckDB in a file."""
    from airflow.providers.duckdb.hooks.duckdb import DuckDBHook

    uri = json.dumps({"conn_type": "duckdb", "host": str(tmp_path / "model.duckdb")})
    monkeypatch.setenv("AIRFLOW_CONN_MODEL_DUCKDB", uri)
    return DuckDBHook(duckdb_conn_id="model_duckdb")


def postgres_hook(monkeypatch: pytest.MonkeyPatch, driver: str, extra: str = "") -> DbApiHook:
    """Return a hook that uses the driver Airflow prefers, or psycopg2 if that is asked for."""
    from airflow.providers.postgres.hooks import postgres

    if driver == "psycopg2":
        monkeypatch.setattr(postgres, "USE_PSYCOPG3", False, raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MODEL_POSTGRES", postgres_uri() + extra)
    return postgres.PostgresHook("model_postgres")


def mysql_hook(monkeypatch: pytest.MonkeyPatch, driver: str) -> DbApiHook:
    """Return a hook that uses the client library of this name."""
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    monkeypatch.setenv("AIRFLOW_CONN_MODEL_MYSQL", f"{mysql_uri()}?client={driver}")
    return MySqlHook("model_mysql")


def execute(hook: DbApiHook, *statements: str) -> None:
    """Run statements and commit them."""
    connection = hook.get_conn()
    try:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        connection.commit()
    finally:
        connection.close()


@pytest.fixture(params=DRIVERS)
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Each driver, with a table of its own that is dropped afterwards (which waits for nobody: all is closed)."""
    table = f"iterable_model_{uuid.uuid4().hex[:12]}"
    many = f"FROM {table} a, {table} b, {table} c, {table} d, {table} e, {table} f"  # 117,649 rows
    limit = ""
    match request.param:
        case "sqlite":
            hook, marker = sqlite_hook(tmp_path, monkeypatch), "?"
            late = f"SELECT abs(CASE WHEN a.id + b.id + c.id + d.id = 28 THEN -9223372036854775808 ELSE 1 END) v {many}"
        case "duckdb":
            hook, marker = duckdb_hook(tmp_path, monkeypatch), "?"
            late = ""  # it computes whole vectors ahead of who reads
        case "postgres" | "psycopg2" as driver:
            hook, marker = postgres_hook(monkeypatch, driver), "%s"
            late = "SELECT 1 / (100000 - g) AS v FROM generate_series(1, 200000) AS g"
            limit = "SET lock_timeout = '5s'"
        case driver:
            hook, marker = mysql_hook(monkeypatch, driver), "%s"
            late = f"SELECT exp(17 * (a.id + b.id + c.id + d.id + e.id + f.id)) v {many}"
            limit = "SET lock_wait_timeout = 5"
    rows = ", ".join(f"({n}, 'n{n}')" for n in range(1, 8))
    execute(hook, f"CREATE TABLE {table} (id INT, name VARCHAR(20))", f"INSERT INTO {table} VALUES {rows}")
    yield Database(hook, table, marker, late)
    execute(hook, *([limit] if limit else []), f"DROP TABLE {table}")


class FakeCursor:
    """Gives queued chunks, and tells what happened to a common history."""

    def __init__(self, chunks: list[Any], history: list[str], description: Any = (("id",),)) -> None:
        self.chunks = deque(chunks)
        self.history = history
        self.description = description

    def execute(self, sql: str, *parameters: object) -> None:
        """Note the statement."""
        self.history.append(f"execute {sql}")

    def fetchmany(self, size: int) -> Any:
        """Return the next chunk, or raise the error that stands in its place."""
        self.history.append(f"fetch {size}")
        chunk = self.chunks.popleft() if self.chunks else []
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def close(self) -> None:
        """Note the closing."""
        self.history.append("cursor.close")


class FakeConnection:
    """Has one cursor, and breaks whenever it is closed."""

    def __init__(self, cursor: FakeCursor) -> None:
        self.only = cursor
        self.options: dict[str, object] = {}

    def cursor(self, **options: object) -> FakeCursor:
        """Return the cursor."""
        self.options = options
        return self.only

    def rollback(self) -> None:
        """Note the rollback."""
        self.only.history.append("rollback")

    def close(self) -> None:
        """Note the closing, and fail."""
        self.only.history.append("connection.close")
        raise OSError("connection reset")


class FakeHook(DbApiHook):
    """A hook of an unknown database."""

    conn_name_attr = "fake_conn_id"

    def __init__(self, *chunks: Any, description: Any = (("id",),)) -> None:
        super().__init__()
        self.history: list[str] = []
        self.opened = FakeConnection(FakeCursor(list(chunks), self.history, description))

    def get_conn(self) -> Any:
        """Return the only connection."""
        return self.opened


CLOSED = ["cursor.close", "rollback", "connection.close"]


def test_rows_are_tuples_in_column_order(database: Database) -> None:
    """Every row arrives once, as a tuple, and the columns are known before the first."""
    sql = f"SELECT name, id FROM {database.table} ORDER BY id"
    with Model(database.hook, sql, chunk_size=3) as model:
        assert tuple(column.lower() for column in model.columns) == ("name", "id")
        rows = list(model)
    assert rows == [(f"n{n}", n) for n in range(1, 8)]
    assert {type(row) for row in rows} == {tuple}


@pytest.mark.parametrize("size", [1, 7, 8])
def test_chunks_do_not_show(database: Database, size: int) -> None:
    """The rows are the same whatever the chunk size, also when it divides them evenly."""
    sql = f"SELECT id FROM {database.table} ORDER BY id"
    assert list(Model(database.hook, sql, chunk_size=size)) == [(n,) for n in range(1, 8)]


def test_an_empty_result_has_columns(database: Database) -> None:
    """A model without rows still says what its columns are."""
    with Model(database.hook, f"SELECT id, name AS n FROM {database.table} WHERE id > 99") as model:
        assert (model.columns, list(model)) == (("id", "n"), [])


def test_parameters_are_bound(database: Database) -> None:
    """Parameters go to the driver in its own style."""
    sql = f"SELECT id FROM {database.table} WHERE name = {database.marker}"
    assert list(Model(database.hook, sql, ("n4",))) == [(4,)]


def test_a_percent_sign_means_itself_without_parameters(database: Database) -> None:
    """Nobody has to double percent signs in a model that binds nothing."""
    sql = f"SELECT id FROM {database.table} WHERE name LIKE '%4%'"
    assert list(Model(database.hook, sql, {})) == [(4,)]


def test_what_follows_the_statement_is_dropped(database: Database) -> None:
    """A closing semicolon and the comments after it disturb no driver."""
    sql = f"-- who\nSELECT id FROM {database.table} WHERE id = 1;\n-- all of them; really\n ; /* the end */\n"
    assert list(Model(database.hook, sql)) == [(1,)]


def test_a_column_named_twice_is_refused(database: Database) -> None:
    """Two columns of one name would overwrite each other in a mapping."""
    with pytest.raises(ModelError, match="several columns named id"):
        list(Model(database.hook, f"SELECT id, name AS id FROM {database.table}"))


def test_a_model_may_be_read_again(database: Database) -> None:
    """Iterating again runs the query again."""
    model = Model(database.hook, f"SELECT id FROM {database.table} WHERE id = 2")
    assert [list(model), list(model)] == [[(2,)], [(2,)]]


def test_a_model_given_up_holds_nothing(database: Database) -> None:
    """After a few rows nobody is left on the connection: the fixture drops the table without waiting."""
    chunks = Model(database.hook, f"SELECT a.id FROM {database.table} a, {database.table} b", chunk_size=1).chunks()
    assert [1, 1] == [len(next(chunks)), len(next(chunks))]
    chunks.close()  # type: ignore[attr-defined]  # a generator, as chunks() is written


def test_rows_come_before_the_last_one_is_computed(database: Database) -> None:
    """The driver buffers no result: an error in late rows is met only after early ones arrived."""
    if database.late_error:
        rows = iter(Model(database.hook, database.late_error, chunk_size=50))
        assert [len(next(rows)) for _ in range(50)] == [1] * 50
        with pytest.raises(ModelError, match="query failed"):
            list(rows)


SECRET = "ann.secret@example.com"


@pytest.mark.parametrize("of", ["SELECT nope FROM {table}", "SELECT name, nope FROM {table}"])
def test_a_wrong_query_is_told_by_the_names_in_it(database: Database, of: str) -> None:
    """A column that is not there is named, and a retry would not help."""
    with pytest.raises(ModelError, match=r"The model's query is wrong \(.*\): .*\bnope\b.*\. Nothing was sent"):
        list(Model(database.hook, of.format(table=database.table)))


def test_a_table_that_is_not_there_is_worth_a_retry(database: Database) -> None:
    """It is named; an upstream job may be about to make it again."""
    with pytest.raises(ModelUnavailable, match=r"is not there \(.*\): .*\bnope\b.*\. Nothing was sent"):
        list(Model(database.hook, "SELECT id FROM nope"))


@pytest.mark.parametrize(
    "of",
    [
        "SELEC '{secret}'",
        "SELECT '{secret}",
        "SELECT nope('{secret}')",
        "SELECT CAST('{secret}' AS DATE) + 1 FROM {table} WHERE 1 / (id - 1) > 0 OR CAST(name AS INT) = 0",
        'SELECT "{secret}".id FROM {table}',
        "SELECT id AS a FROM {table} WHERE '{secret}' = ANY (nope)",
    ],
)
def test_an_error_holds_no_values(database: Database, of: str) -> None:
    """What the database says about a query is left out where it may be about somebody."""
    told = suppressed(lambda: list(Model(database.hook, of.format(secret=SECRET, table=database.table))))
    assert SECRET not in told
    assert "n1" not in told
    assert "Nothing was sent" in told or database.hook.conn_type in ("sqlite", "mysql"), "they make something of it"


def suppressed(work: Callable[[], object]) -> str:
    """Return what an error says, wherever it is from."""
    try:
        work()
    except (ModelError, ModelUnavailable) as error:
        return "".join(traceback.format_exception(error))
    return ""


def test_a_database_that_is_not_there_is_worth_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent."""
    hook = postgres_hook(monkeypatch, "")
    monkeypatch.setenv("AIRFLOW_CONN_MODEL_POSTGRES", "postgresql://somebody:secret@127.0.0.1:1/test")
    with pytest.raises(
        ModelUnavailable, match=r"could not be read \(OperationalError\): connection.* Nothing"
    ) as caught:
        list(Model(hook, "SELECT 1"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("driver", [driver for driver in DRIVERS if driver in ("postgres", "psycopg2")])
def test_a_dictionary_cursor_of_the_connection_is_overruled(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """Rows are tuples although the Airflow connection asks for dictionaries, and although it commits by itself."""
    hook = postgres_hook(monkeypatch, driver, "?cursor=dictcursor")
    assert list(Model(hook, "SELECT 1 AS a, 'x' AS b")) == [(1, "x")]


def test_a_statement_that_writes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is read only."""
    hook = sqlite_hook(tmp_path, monkeypatch)
    execute(hook, "CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1)")
    with pytest.raises(ModelError, match="may only read, and the query writes"):
        list(Model(hook, "DELETE FROM t"))
    with sqlite3.connect(tmp_path / "model.db") as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
    connection.close()


def test_everything_is_closed_at_the_end() -> None:
    """Cursor, transaction and connection end with the rows, and a connection that breaks then is no error."""
    hook = FakeHook([(1,), (2,)], [(3,)])
    assert list(Model(hook, "SELECT id", chunk_size=2)) == [(1,), (2,), (3,)]
    assert hook.history == ["execute SELECT id", "fetch 2", "fetch 2", "fetch 2", *CLOSED]


def test_everything_is_closed_when_the_reader_gives_up() -> None:
    """An error of whoever reads the rows closes what is open."""
    hook = FakeHook([(1,)], [(2,)])

    def read() -> None:
        with Model(hook, "SELECT id") as model:
            for _ in model:
                raise KeyError

    with pytest.raises(KeyError):
        read()
    assert hook.history[-3:] == CLOSED


@pytest.mark.parametrize("chunks", [[ValueError("late")], [[(1,)], ValueError("late")]])
def test_everything_is_closed_when_the_database_fails(chunks: list[Any]) -> None:
    """Whatever is raised in between becomes an error of ours, after closing."""
    hook = FakeHook(*chunks)
    with pytest.raises(ModelUnavailable, match=r"could not be read \(ValueError\)"):
        list(Model(hook, "SELECT id"))
    assert hook.history[-3:] == CLOSED


def test_mysql_closes_the_connection_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing an unbuffered MySQL cursor would read all the rows that nobody wants."""
    hook = FakeHook([(1,)])
    monkeypatch.setattr(FakeConnection, "__module__", "mysql.connector.connection")
    bare = replace(MYSQL_CONNECTOR, settle=nothing, types=unknown_types)
    monkeypatch.setattr("airflow_provider_iterable.sql.databases._BY_LIBRARY", {"mysql": bare})
    assert list(Model(hook, "SELECT id")) == [(1,)]
    assert hook.history[-2:] == ["connection.close", "cursor.close"]
    assert hook.opened.options == {"buffered": False, "dictionary": False}


def test_parameters_stay_out_of_the_log() -> None:
    """The hook is told not to log statements, which Airflow logs with their parameters."""
    hook = FakeHook()
    Model(hook, "SELECT id", ("ada@example.com",))
    assert hook.log_sql is False


def test_a_cursor_of_dictionaries_is_refused() -> None:
    """Rows without an order cannot be read by position."""
    with pytest.raises(ModelError, match="dictionaries"):
        list(Model(FakeHook([{"id": 1}]), "SELECT id"))


@pytest.mark.parametrize("name", ["", None, " "])
def test_a_column_without_a_name_is_refused(name: str | None) -> None:
    """The error says which column it is."""
    with pytest.raises(ModelError, match="Column 2 of the model has no name"):
        list(Model(FakeHook(description=(("id",), (name,))), "SELECT id, 1"))


def test_lists_become_tuples() -> None:
    """Airflow's cursor of BigQuery returns lists, in every chunk."""
    chunks = list(Model(FakeHook([[1], [2]], [[3]]), "SELECT id FROM t").chunks())
    assert chunks == [[(1,), (2,)], [(3,)]]


def test_a_hook_that_keeps_its_connection_is_asked_for_another(tmp_path: Path) -> None:
    """Databricks' hook hands out the connection that it opened first, although that was closed since."""

    class KeepingHook(DbApiHook):
        conn_name_attr = "keeping_conn_id"
        kept: Any = None

        def get_conn(self) -> Any:
            self.kept = self.kept or sqlite3.connect(tmp_path / "kept.db")
            return self.kept

    model = Model(KeepingHook("kept"), "SELECT 1 AS id")
    model.describe(lambda cursor: None)
    assert [list(model), list(model)] == [[(1,)], [(1,)]]


def test_a_chunk_has_rows() -> None:
    """A chunk size below one is an error."""
    with pytest.raises(ConfigurationError, match="chunk_size"):
        Model(FakeHook(), "SELECT 1", chunk_size=0)
