"""What is said of a model that cannot be read: by servers that are there, and by stand-ins of those that are not."""

from __future__ import annotations

import json
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.errors import ConfigurationError, ModelError, ModelUnavailable
from airflow_provider_iterable.sql.errors import wrap_error
from airflow_provider_iterable.sql.model import Model
from tests.services import mysql_uri, postgres_uri

ADDRESS, NAME, PASSWORD = "ann@example.com", "Ann Lee", "hunter2"
PG = ["psycopg", *(["psycopg2"] if find_spec("psycopg2") else [])]
MYSQL = ["mysql-connector-python", *(["mysqlclient"] if find_spec("MySQLdb") else [])]
Hooks = Callable[..., DbApiHook]


SLOW = f"SELECT count(*) AS id FROM {', '.join(f'information_schema.columns {name}' for name in 'abc')}"


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    """Make a hook of a driver, of a connection that is as the tests have it but for what is replaced in its URI."""

    def make(driver: str, uri: str = "", extra: str = "") -> DbApiHook:
        if driver in PG:
            from airflow.providers.postgres.hooks import postgres

            monkeypatch.setattr(postgres, "USE_PSYCOPG3", driver == "psycopg", raising=False)
            monkeypatch.setenv("AIRFLOW_CONN_MODEL", (uri or postgres_uri()) + extra)
            return postgres.PostgresHook("model")
        from airflow.providers.mysql.hooks.mysql import MySqlHook

        monkeypatch.setenv("AIRFLOW_CONN_MODEL", f"{uri or mysql_uri()}?client={driver}")
        return MySqlHook("model")

    return make


def failure(hook: DbApiHook, sql: str, parameters: Any = None) -> tuple[type[Exception], str]:
    """Read a model into its failure; return the kind of error and its message, in which nobody is named."""
    with pytest.raises((ModelError, ModelUnavailable)) as caught:
        list(Model(hook, sql, parameters))
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args)
    for secret in (ADDRESS, NAME, "Lee", PASSWORD):
        assert secret not in str(caught.value)
        # The source lines of this file are in the traceback, and what the driver raised is not.
        assert secret not in shown.rpartition("Error: ")[2]
    assert caught.value.__suppress_context__
    return type(caught.value), str(caught.value)


# Servers that are there.


@pytest.mark.parametrize("driver", [*PG, *MYSQL])
@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("SELECT 1 AS id\nWHERE 'a' LIKE 'A%' AND 'eu' = %(r)s", {"r": ADDRESS}, "the % at line 2, column 18 .* %%"),
        ("SELECT 1 AS id\nWHERE 7 % 5 = 2 AND 'eu' = %(r)s", {"r": ADDRESS}, "the % at line 2, column 9 .* %%"),
        ("SELECT '%s' AS id WHERE 'eu' = %(r)s", {"r": ADDRESS}, "the % at line 1, column 9 .* %%"),
        ("SELECT %(nope)s AS id, %(other)s AS b, %(r)s AS c", {"r": ADDRESS}, "parameters .* not given: nope, other"),
        ("SELECT %s AS id, %s AS b", (ADDRESS,), "2 placeholders, and 1 parameters are given.*%%"),
        ("SELECT %(r)s AS id", [ADDRESS], r"names parameters, such as %\(r\)s, and a list of them is given"),
        ("SELECT %(r)d AS id", {"r": 1}, r"a placeholder is written %\(r\)s, not %\(r\)d"),
        ("SELECT %(r)s AS id", {"r": object()}, "type 'object'|'object' cannot be converted"),
    ],
)
def test_what_a_driver_cannot_bind_is_told(hooks: Hooks, driver: str, sql: str, parameters: Any, expected: str) -> None:
    """No server was asked: the drivers say it in ways of their own, some with Python's errors, and name values."""
    if driver == "mysql-connector-python" and "%%" in expected and "given" not in expected:
        assert list(Model(hooks(driver), sql, parameters)) == [], "it replaces what it knows"
        return
    if driver == "mysqlclient" and "object" in expected:
        assert len(list(Model(hooks(driver), sql, parameters))) == 1, "it binds the text of anything"
        return
    kind, message = failure(hooks(driver), sql, parameters)
    assert kind is ModelError
    assert pytest.raises(ModelError, match=expected).matches(ModelError(message)), message


@pytest.mark.parametrize("driver", PG)
@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("WITH x AS (DELETE FROM pg_class RETURNING 1 AS id) SELECT * FROM x", None, "a model may only read"),
        (f"SELECT {', '.join(f'1 AS c{n}' for n in range(1665))}", None, 'TableState.compare="worker".'),
    ],
)
def test_what_ends_the_same_each_time_is_not_tried_again(
    hooks: Hooks, driver: str, sql: str, parameters: Any, expected: str
) -> None:
    """And its remedy is told."""
    kind, message = failure(hooks(driver), sql, parameters)
    assert kind is ModelError
    assert pytest.raises(ModelError, match=expected).matches(ModelError(message)), message


@pytest.mark.parametrize("driver", PG[1:])
@pytest.mark.parametrize(
    ("sql", "parameters"), [("SELECT 1 AS a,\n  %(r)b AS id", {"r": 1}), ("SELECT 1 AS a,\n  %t AS id", [1])]
)
def test_a_placeholder_of_another_driver_is_told(hooks: Hooks, driver: str, sql: str, parameters: Any) -> None:
    """With its place, and how it is written."""
    kind, message = failure(hooks(driver), sql, parameters)
    assert kind is ModelError
    assert "the placeholder at line 2, column 3 is none that this driver knows: it is written %s or %(name)s" in message


@pytest.mark.parametrize("driver", PG)
def test_a_doubled_percent_sign_is_one(hooks: Hooks, driver: str) -> None:
    """What the message says works."""
    sql = "SELECT %(r)s::text AS id WHERE 'Ann' LIKE 'A%%'"
    assert list(Model(hooks(driver), sql, {"r": "x"})) == [("x",)]


@pytest.mark.parametrize("given", [None, ADDRESS])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS id WHERE 'x' = %(other)s OR (%(r)s IS NULL OR 'a' = %(r)s)",  # 42804
        "SELECT concat('x', %(other)s::text, %(r)s) AS id",  # 42P18
    ],
)
def test_a_parameter_without_a_type_gets_told_the_cast(hooks: Hooks, sql: str, given: Any) -> None:
    """An optional filter, which psycopg 3 leaves to a server that cannot tell the type; the cast helps."""
    parameters = {"other": "y", "r": given}
    kind, message = failure(hooks("psycopg"), sql, parameters)
    assert kind is ModelError
    assert "The server cannot tell the type of %(r)s: give it one by a cast" in message
    assert "%(r)s::text" in message
    for driver in PG:
        assert list(Model(hooks(driver), sql.replace("%(r)s", "%(r)s::text"), parameters)) is not None
    if len(PG) > 1:
        assert list(Model(hooks("psycopg2"), sql, parameters)) is not None


def test_a_positional_parameter_without_a_type_gets_told_the_cast(hooks: Hooks) -> None:
    """It has no name to be called by."""
    _, message = failure(hooks("psycopg"), "SELECT 1 AS id WHERE %s IS NULL", [ADDRESS])
    assert "cast wherever it stands, as in %s::text" in message


@pytest.mark.parametrize("sql", ["SELECT DATE %(r)s AS id", "SELECT 1 AS id WHERE 'a' IN %(r)s"])
def test_a_parameter_where_none_may_stand(hooks: Hooks, sql: str) -> None:
    """The message says what to write instead."""
    _, message = failure(hooks("psycopg"), sql, {"r": [ADDRESS]})
    assert 'near "$1" at line 1' in message
    assert "%(r)s::date for DATE %(r)s, and write = ANY(%(r)s) for IN %(r)s" in message


@pytest.mark.parametrize("driver", PG)
@pytest.mark.parametrize(
    ("sql", "parameters", "place"),
    [
        ("SELECT 1 AS id\nFROM x\n  WHER a = 'Ann Lee'", None, "at line 3, column 8"),
        ("\n\n   SELECT nope", None, "at line 3, column 11"),
        ("SELECT 'ann@example.com'\n AS größe, nope\n", None, "at line 2, column 12"),
        ("SELECT nope, %(a)s::text", {"a": NAME}, "at line 1, column 8"),
        ("SELECT %(a)s::text AS id, nope, 'and a tail'", {"a": NAME}, "at line 1, column 27"),
        ("SELECT '%%' || %(a)s::text,\n%(b)s::text, %(a)s::text, nope", {"a": NAME, "b": "b"}, "at line 2, column 27"),
    ],
)
def test_the_place_of_a_mistake_is_told(hooks: Hooks, driver: str, sql: str, parameters: Any, place: str) -> None:
    """Line and column are those of the model's file; psycopg2 has put values before some of them."""
    kind, message = failure(hooks(driver), sql, parameters)
    assert kind is ModelError
    if driver == "psycopg2" and parameters and not sql.startswith("SELECT nope"):
        assert "at line" not in message
    else:
        assert f"{place}. Nothing was sent." in message


@pytest.mark.parametrize("driver", MYSQL)
def test_mysql_tells_the_line(hooks: Hooks, driver: str) -> None:
    """But not what it met there: that may be a value."""
    kind, message = failure(hooks(driver), "\n SELECT 1\n FROM x WHER a = 'Ann Lee'", None)
    assert kind is ModelError
    assert "a syntax error at line 3. Nothing" in message
    _, message = failure(hooks(driver), "SELECT 1 AS a LIMIT %(r)s", {"r": NAME})
    assert "a syntax error at line 1. Nothing" in message


@pytest.mark.parametrize("driver", PG)
@pytest.mark.parametrize("token", ["'Ann Lee'", "$$Ann Lee$$", "5551234", "E'Ann Lee'"])
def test_a_value_that_postgres_met_is_not_told(hooks: Hooks, driver: str, token: str) -> None:
    """Beside words and operators it may meet texts and numbers."""
    _, message = failure(hooks(driver), f"SELECT 1 AS id WHERE 1 = 1 {token}", None)
    assert token.strip("'$E") not in message
    assert "near ... at line 1, column 28" in message.replace('"...', "...").replace('..."', "...")


@pytest.fixture(params=PG)
def raising(request: pytest.FixtureRequest, hooks: Hooks) -> Iterator[Callable[..., tuple[type[Exception], str]]]:
    """Postgres with a function that fails with any SQLSTATE, in words about somebody."""
    name, hook = f"iterable_raise_{uuid.uuid4().hex[:8]}", hooks(request.param)
    hook.run(
        f"CREATE FUNCTION {name}(code text, words text) RETURNS int LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = words; END'",
        autocommit=True,
    )

    def raising(code: str, words: str = f"Key (a)=({NAME}, {ADDRESS})") -> tuple[type[Exception], str]:
        return failure(hook, f"SELECT {name}('{code}', '{words}') AS id")

    yield raising
    hook.run(f"DROP FUNCTION {name}", autocommit=True)


@pytest.mark.parametrize("code", ["XX000", "P0001"])
def test_postgres_has_an_error_that_may_pass(raising: Callable[..., Any], code: str) -> None:
    """Of what nobody knows the words of nothing but the code is told."""
    kind, message = raising(code)
    assert kind is ModelUnavailable
    assert f"SQLSTATE {code}). Nothing was sent" in message


@pytest.mark.parametrize(
    "code", ["08006", "40001", "40P01", "53100", "53200", "53400", "55P03", "55006", "57014", "57P01", "57P03", "58030"]
)
def test_postgres_is_away_or_busy(raising: Callable[..., Any], code: str) -> None:
    """Whatever the class of the error is, the code decides; the words are the server's own."""
    kind, message = raising(code, "the server is in no mood")
    assert kind is ModelUnavailable
    assert f"SQLSTATE {code}): the server is in no mood. Nothing was sent" in message


@pytest.mark.parametrize("code", ["0A000", "21000", "22012", "22P02", "22003", "54000"])
def test_postgres_has_an_error_that_stays(raising: Callable[..., Any], code: str) -> None:
    """Values do not mend themselves, and are not told."""
    kind, message = raising(code)
    assert kind is ModelError
    assert f"SQLSTATE {code}). Nothing was sent" in message


def test_what_cannot_run_in_a_transaction_is_told(raising: Callable[..., Any]) -> None:
    """The next try has one, too."""
    kind, message = raising("25001")
    assert kind is ModelError
    assert "SQLSTATE 25001): a model is one query that reads, inside a transaction" in message


@pytest.mark.parametrize("driver", PG)
def test_a_statement_that_takes_too_long(hooks: Hooks, driver: str) -> None:
    """The next try may be quicker."""
    hook = hooks(driver, extra="?options=-c%20statement_timeout%3D100")
    kind, message = failure(hook, "SELECT pg_sleep(10) AS id")
    assert kind is ModelUnavailable
    assert "SQLSTATE 57014): canceling statement due to statement timeout." in message


@pytest.mark.parametrize("driver", PG)
def test_a_query_that_writes_where_nothing_may_be_written(hooks: Hooks, driver: str) -> None:
    """A replica stays one."""
    hook = hooks(driver, extra="?options=-c%20default_transaction_read_only%3Don")
    kind, message = failure(hook, "SELECT oid FROM pg_catalog.pg_class FOR UPDATE")
    assert kind is ModelError
    assert "may only read" in message


@pytest.fixture(params=PG)
def few(request: pytest.FixtureRequest, hooks: Hooks) -> Iterator[tuple[Any, DbApiHook]]:
    """Make a role of Postgres that may have one connection, which it has."""
    role, own = f"few_{uuid.uuid4().hex[:8]}", hooks(request.param)
    address = urlsplit(postgres_uri())
    uri = address._replace(netloc=f"{role}:{PASSWORD}@{address.netloc.rpartition('@')[2]}").geturl()
    own.run(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1", autocommit=True)
    hook = hooks(request.param, uri)
    with closing(hook.get_conn()):
        yield role, hook
    hooks(request.param).run(f"DROP ROLE {role}", autocommit=True)


def test_too_many_connections_are_told(few: tuple[str, DbApiHook]) -> None:
    """A limit holds nothing of rows, and who has set it has to know."""
    role, hook = few
    kind, message = failure(hook, "SELECT 1 AS id")
    assert kind is ModelUnavailable
    assert f'too many connections for role "{role}". Nothing was sent' in message


@pytest.mark.parametrize(
    ("driver", "uri", "expected"),
    [
        *((driver, "postgresql://u:hunter2@127.0.0.1:1/x", "port 1 failed: Connection refused") for driver in PG),
        *((driver, "postgresql://u:hunter2@nope.invalid:5432/x", "nope.invalid.* not known") for driver in PG),
        *((driver, "postgresql://nobody_x:hunter2@{postgres}/x", "nobody_x") for driver in PG),
        *((driver, "postgresql://{user}@{postgres}/nope_x", 'database "nope_x" does not exist') for driver in PG),
        *((driver, "mysql://nobody_x:hunter2@{mysql}/x", "denied for user nobody_x from") for driver in MYSQL),
        *((driver, "mysql://root@{mysql}/nope_x", "Unknown database 'nope_x'") for driver in MYSQL),
        *((driver, "mysql://u:hunter2@127.0.0.1:1/x", "connect to .*127.0.0.1") for driver in MYSQL),
        *((driver, "mysql://u:hunter2@nope.invalid/x", "nope.invalid") for driver in MYSQL),
    ],
)
def test_why_nobody_was_let_in_is_told(hooks: Hooks, driver: str, uri: str, expected: str) -> None:
    """Who, where and why hold nothing of rows; the password is not among it."""
    places = {
        "postgres": postgres_uri().partition("@")[2].partition("/")[0],
        "mysql": mysql_uri().partition("@")[2].partition("/")[0],
        "user": postgres_uri().partition("//")[2].partition("@")[0],
    }
    kind, message = failure(hooks(driver, uri.format(**places)), "SELECT 1 AS id")
    assert kind is ModelUnavailable
    assert pytest.raises(ModelUnavailable, match=f"could not be read .*{expected}.* Nothing was sent").matches(
        ModelUnavailable(message)
    ), message


@pytest.fixture(params=MYSQL)
def signal(request: pytest.FixtureRequest, hooks: Hooks) -> Iterator[Callable[[int, str], tuple[type[Exception], str]]]:
    """Return what lets MySQL fail with a number, in words about somebody."""
    name, hook = f"iterable_signal_{uuid.uuid4().hex[:8]}", hooks(request.param)

    def signal(number: int, words: str) -> tuple[type[Exception], str]:
        with closing(hook.get_conn()) as connection:
            connection.cursor().execute(
                f"CREATE OR REPLACE FUNCTION {name}() RETURNS INT NO SQL BEGIN SIGNAL SQLSTATE 'HY000' SET "
                f"MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{words}'; RETURN 1; END"
            )
        return failure(hook, f"SELECT {name}() AS id")

    yield signal
    hook.run(f"DROP FUNCTION IF EXISTS {name}", autocommit=True)


@pytest.mark.parametrize("number", [1040, 1053, 1205, 1213, 1226, 1317, 1969, 3024, 2006, 2013])
def test_mysql_is_away_or_busy(signal: Callable[..., Any], number: int) -> None:
    """Its numbers decide: mysqlclient and MySQL's own driver call the same number different classes."""
    kind, message = signal(number, "the server is in no mood")
    assert kind is ModelUnavailable
    # mysqlclient does not believe that a server sends the numbers of clients.
    assert "the server is in no mood. Nothing was sent" in message or (number >= 2000 and "error 2027" in message)


@pytest.mark.parametrize("number", [1242, 1365, 1525, 1690])
def test_mysql_met_a_value(signal: Callable[..., Any], number: int) -> None:
    """It will be there the next time, and is not told."""
    kind, message = signal(number, f"BIGINT out of range in {NAME} {ADDRESS}")
    assert kind is ModelError
    assert "The model's query failed" in message


@pytest.mark.parametrize("driver", MYSQL)
def test_a_statement_that_takes_mariadb_too_long(hooks: Hooks, driver: str) -> None:
    """The next try may be quicker."""
    kind, message = failure(hooks(driver), f"SET STATEMENT max_statement_time = 0.1 FOR {SLOW}")
    assert kind is ModelUnavailable
    assert "max_statement_time exceeded" in message


def test_sqlite_and_duckdb_tell_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, and parameters by number or name; a percent sign is no placeholder there."""
    from airflow.providers.sqlite.hooks.sqlite import SqliteHook

    made = {"conn_type": "sqlite", "host": str(tmp_path / "model.db")}
    monkeypatch.setenv("AIRFLOW_CONN_LITE", json.dumps(made))
    lite = SqliteHook("lite")
    kind, message = failure(lite, "SELECT '5 % 3' AS id, ? AS b, ? AS c", (NAME,))
    assert kind is ModelError
    assert "uses 2, and there are 1 supplied" in message
    assert "value for binding parameter :b" in failure(lite, "SELECT :a AS id, :b AS c", {"a": NAME})[1]
    monkeypatch.setenv("AIRFLOW_CONN_LITE", json.dumps({**made, "host": str(tmp_path)}))
    kind, message = failure(SqliteHook("lite"), "SELECT 1 AS id")
    assert kind is ModelUnavailable
    assert "unable to open database file" in message
    if find_spec("airflow.providers.duckdb"):
        from airflow.providers.duckdb.hooks.duckdb import DuckDBHook

        monkeypatch.setenv("AIRFLOW_CONN_DUCK", json.dumps({"conn_type": "duckdb", "host": str(tmp_path / "duck.db")}))
        kind, message = failure(DuckDBHook(duckdb_conn_id="duck"), "SELECT ? AS id, ? AS b, '5 % 3' AS c", (NAME,))
        assert kind is ModelError
        assert "not provided for the following parameters: 2" in message


# Servers that are not there.


class StubHook(DbApiHook):
    """A hook whose cursor gives chunks, or raises what stands in their place; the first is what ``execute`` does."""

    conn_name_attr = "stub_conn_id"

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = iter(answers)

    def get_conn(self) -> Any:
        """Return a connection with one cursor."""

        def answer(*arguments: Any) -> Any:
            found: Any = next(self.answers, [])
            if isinstance(found, BaseException):
                raise found
            return found

        cursor = SimpleNamespace(description=[("id",)], execute=answer, fetchmany=answer, close=lambda: None)
        return SimpleNamespace(cursor=lambda: cursor, rollback=lambda: None, close=lambda: None)


def snowflake(errno: int, sqlstate: str | None, words: str, kind: str = "ProgrammingError") -> Exception:
    """Return what Snowflake's driver raises: one class for whatever the server says."""
    errors = pytest.importorskip("snowflake.connector.errors")
    made: Exception = getattr(errors, kind)(msg=words, errno=errno, sqlstate=sqlstate, send_telemetry=False)
    return made


COMPILATION = "SQL compilation error: error line 1 at position 7\n"


@pytest.mark.parametrize(
    ("errno", "sqlstate", "words", "kind"),
    [
        (630, "57014", "Statement reached its statement or warehouse timeout of 2 second(s).", "ProgrammingError"),
        (604, "57014", "SQL execution canceled", "ProgrammingError"),
        (606, "57P03", "No active warehouse selected in the current session.", "ProgrammingError"),
        (606, None, "No active warehouse selected in the current session.", "ProgrammingError"),
        (390112, None, "Your session has expired. Please login again.", "ProgrammingError"),
        (390114, "08001", "Authentication token has expired.", "ProgrammingError"),
        (390195, None, "The session is gone.", "ProgrammingError"),
        (250001, "08001", "Failed to connect to DB: Incorrect username or password.", "DatabaseError"),
        (252010, None, f"chunk of {ADDRESS}", "OperationalError"),
        (290503, None, f"503 for {NAME}", "InterfaceError"),
        (
            2003,
            "42S02",
            "SQL compilation error:\nObject 'DB.S.PEOPLE' does not exist or not authorized.",
            "ProgrammingError",
        ),
        (2003, "02000", "SQL compilation error:\nSchema 'DB.S' does not exist or not authorized.", "ProgrammingError"),
    ],
)
def test_snowflake_says_what_may_pass(errno: int, sqlstate: str | None, words: str, kind: str) -> None:
    """Numbers and SQLSTATEs decide: its driver calls nearly everything a ProgrammingError."""
    found, message = failure(StubHook(snowflake(errno, sqlstate, words, kind)), "SELECT 1 AS id")
    assert found is ModelUnavailable
    if sqlstate in ("57014", "57P03", "08001"):
        assert words.rstrip(".") in message
    if "not authorized" in words:
        assert words.partition("\n")[2].rstrip(".") in message


@pytest.mark.parametrize(
    ("errno", "sqlstate", "words", "told"),
    [
        (904, "42000", COMPILATION + "invalid identifier 'EMAIL_ADDR'", "position 7, invalid identifier 'EMAIL_ADDR'"),
        (2028, "42601", "SQL compilation error:\nambiguous column name 'ID'", "ambiguous column name 'ID'"),
        (1003, "42000", f"SQL compilation error:\nsyntax error line 3 at position 9 unexpected '{NAME}'.", "line 3 at"),
        (2140, "42601", "SQL compilation error:\nUnknown function NOPE", "Unknown function NOPE"),
        (1007, "42000", f"SQL compilation error:\ninvalid type [CAST('{NAME}' AS DATE)] for parameter 'X'", ""),
        (100038, "22018", f"Numeric value '{NAME}' is not recognized for {ADDRESS}", ""),
        (252004, None, f"Failed processing pyformat-parameters: {NAME} {ADDRESS}", ""),
    ],
)
def test_snowflake_says_what_is_wrong(errno: int, sqlstate: str | None, words: str, told: str) -> None:
    """On its second line; of what it quotes there, names are told, and values are not."""
    found, message = failure(StubHook(snowflake(errno, sqlstate, words)), "SELECT 1 AS id")
    assert found is ModelError
    assert told in message
    assert told or "The model's query failed" in message


def test_a_percent_sign_in_snowflake() -> None:
    """Its driver formats the statement, and lets Python's errors pass."""
    error = ValueError("unsupported format character ''' (0x27) at index 30")
    sql = "SELECT 1 AS id WHERE a LIKE 'A%' AND b = %(r)s"
    assert "the % at line 1, column 31 is taken" in failure(StubHook(error), sql, {"r": ADDRESS})[1]


class GoogleAPICallError(Exception):
    """As google.api_core has it: a message, details, and a code of HTTP."""

    code: int | None = None

    def __init__(self, message: str, errors: Any = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)

    def __str__(self) -> str:
        return f"{self.code} {self.args[0]}"


class BadRequest(GoogleAPICallError):
    code = 400


class Forbidden(GoogleAPICallError):
    code = 403


class NotFound(GoogleAPICallError):
    code = 404


class TooManyRequests(GoogleAPICallError):
    code = 429


class ServiceUnavailable(GoogleAPICallError):
    code = 503


def google(kind: type[GoogleAPICallError], words: str, reason: str = "") -> Exception:
    """Return what BigQuery raises, about somebody."""
    return kind(f"{words} for {NAME} {ADDRESS}", [{"reason": reason, "message": NAME}] if reason else [])


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (google(BadRequest, "Unrecognized name: emial at [1:8]", "invalidQuery"), ModelError, "name: emial, at [1:8]"),
        (google(BadRequest, 'Syntax error: Unexpected string "x" at [2:3]'), ModelError, "Syntax error, at [2:3]"),
        (google(BadRequest, "Bad int64 value: Lee", "invalidQuery"), ModelError, "query failed (BadRequest"),
        (google(NotFound, "Not found: Dataset p:crm was not found"), ModelError, "Not found: Dataset p:crm"),
        (google(NotFound, "Not found: Table p:crm.t was not found"), ModelUnavailable, "not there (NotFound"),
        (google(Forbidden, "Access Denied: Table p:crm.t: no", "accessDenied"), ModelError, "Denied: Table p:crm.t"),
        (google(Forbidden, "Quota exceeded", "quotaExceeded"), ModelUnavailable, "(Forbidden, HTTP 403)"),
        (google(BadRequest, "Resources exceeded", "resourcesExceeded"), ModelUnavailable, "(BadRequest, HTTP 400)"),
        (google(TooManyRequests, "Slow down"), ModelUnavailable, "HTTP 429"),
        (google(ServiceUnavailable, "Later"), ModelUnavailable, "HTTP 503"),
    ],
)
def test_bigquery_raises_what_is_no_error_of_a_database(error: Exception, kind: type, told: str) -> None:
    """The code of HTTP decides, and the reason beside it; names and places are told."""
    found, message = failure(StubHook(error), "SELECT 1 AS id")
    assert (found, told in message) == (kind, True), message


class Error(Exception):
    """What errors of drivers descend from."""


class ProgrammingError(Error):
    pass


class TrinoQueryError(Error):
    """As Trino's driver has it."""

    def __init__(self, error_type: str, error_name: str, message: str) -> None:
        super().__init__({"message": message}, "20261130_1")
        self.error_type, self.error_name, self.message = error_type, error_name, message

    def __str__(self) -> str:
        return f'TrinoUserError(type={self.error_type}, name={self.error_name}, message="{self.message}")'


class ServerOperationError(Error):
    """As Databricks' driver has it: what Spark says, and nothing else."""

    __module__ = "databricks.sql.exc"


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (
            TrinoQueryError("USER_ERROR", "COLUMN_NOT_FOUND", f"line 1:8: Column 'emial' cannot be resolved {NAME}"),
            ModelError,
            "line 1:8, Column 'emial' cannot be resolved",
        ),
        (
            TrinoQueryError("USER_ERROR", "TABLE_NOT_FOUND", "line 1:8: Table 'a.b.c' does not exist"),
            ModelUnavailable,
            "a.b.c",
        ),
        (TrinoQueryError("USER_ERROR", "INVALID_CAST_ARGUMENT", f"Cannot cast '{NAME}'"), ModelError, "query failed"),
        (TrinoQueryError("USER_ERROR", "USER_CANCELED", NAME), ModelUnavailable, "USER_CANCELED"),
        (TrinoQueryError("INSUFFICIENT_RESOURCES", "EXCEEDED_TIME_LIMIT", NAME), ModelUnavailable, "EXCEEDED_TIME"),
        (TrinoQueryError("INTERNAL_ERROR", "SERVER_SHUTTING_DOWN", NAME), ModelUnavailable, "SHUTTING_DOWN"),
        (TrinoQueryError("EXTERNAL", "HIVE_METASTORE_ERROR", NAME), ModelUnavailable, "METASTORE"),
        (
            ServerOperationError(
                "[UNRESOLVED_COLUMN] A column with name `emial` is not. SQLSTATE: 42703; line 1 pos 7"
            ),
            ModelError,
            "`emial`",
        ),
        (
            ServerOperationError(
                f'[DATATYPE_MISMATCH] Cannot resolve "(a + {NAME})" of `b`. SQLSTATE: 42K09; line 1 pos 7'
            ),
            ModelError,
            "of `b`",
        ),
        (ServerOperationError("[TABLE_OR_VIEW_NOT_FOUND] `a`.`b` SQLSTATE: 42P01"), ModelUnavailable, "`a`.`b`"),
        (ServerOperationError(f"[CAST_INVALID_INPUT] '{NAME}' SQLSTATE: 22018"), ModelError, "query failed"),
        (ServerOperationError("[X] cluster stopped. SQLSTATE: 57P01"), ModelUnavailable, "cluster stopped"),
        (ServerOperationError(f"lost {NAME}"), ModelUnavailable, "(ServerOperationError). Nothing"),
        (ProgrammingError({"S": "ERROR", "C": "42703", "M": 'column "emial" does not exist'}), ModelError, "emial"),
        (ProgrammingError({"C": "42P01", "M": 'relation "t" does not exist'}), ModelUnavailable, "not there"),
        (ProgrammingError({"C": "57014", "M": "Query cancelled on user's request"}), ModelUnavailable, "cancelled"),
        (ProgrammingError({"C": "XX000", "M": f"Spectrum Scan Error {NAME}"}), ModelUnavailable, "XX000). Nothing"),
        (ProgrammingError({"C": "22P02", "M": f'invalid input "{NAME}"'}), ModelError, "query failed"),
    ],
)
def test_others_say_it_in_other_places(error: Exception, kind: type, told: str) -> None:
    """Trino in a name and a type, Databricks within its words, Redshift in a dict."""
    found, message = failure(StubHook(error), "SELECT 1 AS id")
    assert (found, told in message) == (kind, True), message


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"chunk download failed for {ADDRESS}"),
        NotImplementedError(f"no conversion of {NAME}"),
        ValueError(f"NaT of {NAME}"),
        TypeError(f"{NAME} is not iterable"),
        KeyError(ADDRESS),
        OSError(2, f"{NAME}"),
        TimeoutError(NAME),
    ],
)
@pytest.mark.parametrize("rows", [0, 4000])
def test_whatever_else_is_raised_tells_its_class(error: Exception, rows: int) -> None:
    """And where: who mends the driver has to find it. The query may be right, so that a retry is worth it."""
    before = [None, *([(number,)] * 2000 for number in range(rows // 2000))]
    answers = [*before, error] if rows else [error]
    kind, message = failure(StubHook(*answers), "SELECT 'A%' AS id", {"r": NAME} if rows else None)
    assert kind is ModelUnavailable
    assert f"could not be read ({type(error).__name__})" in message
    if not isinstance(error, TimeoutError):
        assert "of test_errors.py" in message


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), AirflowException("no"), ConfigurationError("no"), ModelError("no")]
)
@pytest.mark.parametrize("before", [[], [None, [(1,)]]])
def test_what_is_no_error_of_the_database_passes(error: BaseException, before: list[Any]) -> None:
    """Signals, what Airflow ends tasks with, and what has its words already."""
    with pytest.raises(type(error)) as caught:
        list(Model(StubHook(*before, error), "SELECT 1 AS id"))
    assert caught.value is error


def test_a_driver_that_is_not_installed_is_named() -> None:
    """Another worker may have it."""
    found = wrap_error(ModuleNotFoundError("No module named 'psycopg2'"))
    assert isinstance(found, ModelUnavailable)
    assert "No module named 'psycopg2'" in str(found)
