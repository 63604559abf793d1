"""What becomes of each type of MySQL and MariaDB, by each driver, as JSON and where the database compares."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.columns import Columns, ColumnType, Kind
from airflow_provider_iterable.engine.reasons import Kind as Change
from airflow_provider_iterable.mapping import Fields, Json, Mapper
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.sql.databases import connect, driver_of
from airflow_provider_iterable.sql.databases.mysql import _column_type
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.fakes import close_spools
from tests.services import mysql_uri
from tests.state.contract import HERE, MAPPING, fresh
from tests.state.test_table import MYSQL_DRIVERS, execute, mysql_tables
from tests.state.test_warehouse import planned, remember

DRIVERS = [*MYSQL_DRIVERS, *(["pymysql"] if find_spec("pymysql") else [])]
PAGE = Path(__file__).parents[2] / "docs" / "databases" / "mysql.md"


class Type(NamedTuple):
    """A type, a value of it, and what becomes of it."""

    sql: str
    """The type as the page has it."""
    value: str
    """A literal."""
    sent: str
    """The JSON; or why the value is refused, after ``rejected: ``."""
    iterable: str
    """The type that a new field gets; empty where the value is refused."""
    other: str = "NULL"
    """Another value."""
    only: str = ""
    """Which of the two databases has it."""


REFUSED = "rejected: "
NO_FORM = "which has no JSON form; "
ENCODE = f"{NO_FORM}encode it in the model's SQL, as in TO_BASE64(c) or HEX(c)"
TYPES = [
    Type("TINYINT(1), BOOLEAN", "TRUE", "1", "long; `true` where the field is a boolean", "0"),
    Type("SMALLINT", "-7", "-7", "long", "8"),
    Type("MEDIUMINT", "7", "7", "long", "8"),
    Type("INT", "7", "7", "long", "8"),
    Type("BIGINT", "9223372036854775807", "9223372036854775807", "long", "8"),
    Type("BIGINT UNSIGNED", "18446744073709551615", f"{REFUSED}an integer beyond 64 bits", "", "8"),
    Type("INT(5) ZEROFILL", "7", "7", "long", "8"),
    Type("YEAR", "2024", "2024", "long", "2025"),
    Type("BIT(12)", "b'101'", "5", "long; `true` where the field is a boolean and the value 1", "b'1'"),
    Type("DECIMAL(12,2)", "7.50", "7.5", "double", "7.51"),
    Type("FLOAT", "0.25", "0.25", "double", "0.5"),
    Type("DOUBLE", "1e-7", "1e-7", "double", "2e-7"),
    Type("DATE", "'2024-02-29'", '"2024-02-29"', "date", "'2024-03-01'"),
    Type(
        "DATETIME(6)", "'2024-07-01 12:00:00.5'", '"2024-07-01 12:00:00 +00:00"', "date, read in `timezone`",
        "'2024-07-01 12:00:01'",
    ),
    Type(
        "TIMESTAMP NULL", "'2024-07-01 12:00:00'", '"2024-07-01 12:00:00 +00:00"', "date, the instant that it is",
        "'2024-07-01 12:00:01'",
    ),
    Type("TIME(6)", "'-30:00:00.5'", '"-30:00:00.500000"', "string", "'18:20:00'"),
    Type("CHAR(10)", "'naïve 😀'", '"naïve 😀"', "string", "'b'"),
    Type("VARCHAR(10)", "'naïve 😀'", '"naïve 😀"', "string", "'b'"),
    Type("VARCHAR(10) COLLATE utf8mb4_bin", "'naïve 😀'", '"naïve 😀"', "string", "'b'"),
    Type("VARCHAR(10) CHARACTER SET latin1", "'naïve'", '"naïve"', "string", "'b'"),
    Type("TEXT", "'naïve 😀'", '"naïve 😀"', "string", "'b'"),
    Type("ENUM('a', 'b')", "'a'", '"a"', "string", "'b'"),
    Type("SET('a', 'b')", "'a,b'", '"a,b"', "string", "'b'"),
    Type("JSON", "'{\"b\": [1, null], \"a\": 0.5}'", '{"a":0.5,"b":[1,null]}', "by its elements", "'[]'", "MySQL"),
    Type("JSON", "'{\"b\": 1}'", '"{\\"b\\": 1}"', "string; with `Json(\"c\")` by its elements", "'[]'", "MariaDB"),
    Type(
        "UUID", "'6CCD780C-BABA-1026-9564-5B8C656024DB'", '"6ccd780c-baba-1026-9564-5b8c656024db"', "string",
        "'00000000-0000-0000-0000-000000000001'", "MariaDB",
    ),
    Type("INET6", "'::1'", '"::1"', "string", "'::2'", "MariaDB"),
    Type("VARBINARY(10)", "'b'", f"{REFUSED}a value of type varbinary, {ENCODE}", ""),
    Type("BINARY(2)", "'bb'", f"{REFUSED}a value of type binary, {ENCODE}", ""),
    Type("BLOB", "'b'", f"{REFUSED}a value of type blob, {ENCODE}", ""),
    Type(
        "POINT", "POINT(1, 2)", f"{REFUSED}a value of type geometry, {NO_FORM}have the model's SQL make JSON of it, as "
        "in ST_AsGeoJSON(c), and map that with Json()", "",
    ),
    Type(
        "VECTOR(2)", "TO_VECTOR('[1, 2]')", f"{REFUSED}a value of type vector, {NO_FORM}have the model's SQL make text "
        "of it, as in VECTOR_TO_STRING(c), and map that with Json()", "", "NULL", "MySQL 9",
    ),
]  # fmt: skip
"""Each type; the page of the database shows them."""


class PyMySQLHook(DbApiHook):
    """Airflow has none that uses this driver."""

    conn_name_attr = "pymysql_conn_id"
    conn_type = "mysql"

    def __init__(self, conn_id: str, init_command: str | None = None, **options: Any) -> None:
        super().__init__(conn_id)
        self.options = {"init_command": init_command, **options}

    def get_conn(self) -> Any:
        """Open a connection."""
        uri = urlsplit(mysql_uri())
        made: Any = import_module("pymysql").connect(
            host=uri.hostname, port=uri.port or 3306, user=uri.username, password=uri.password or "",
            database=self.get_connection(self.pymysql_conn_id).schema, **self.options,
        )  # fmt: skip
        return made


class Place(NamedTuple):
    """A database of its own, by one driver."""

    hook: DbApiHook
    driver: str
    server: str

    def having(self, **options: Any) -> DbApiHook:
        """Return a hook whose connections have these options."""
        return type(self.hook)("state", **options)

    def table(self, types: Sequence[Type], column: str = "value") -> list[str]:
        """Make a table with a column of each type, and a row; return the names of the columns."""
        names = [f"c{number}" for number in range(len(types))]
        columns = ", ".join(f"{name} {kind.sql.split(', B')[0]}" for name, kind in zip(names, types, strict=True))
        values = ", ".join(getattr(kind, column) for kind in types)
        execute(
            self.hook,
            "SET NAMES utf8mb4",
            "DROP TABLE IF EXISTS every_type",
            f"CREATE TABLE every_type (id INT, email VARCHAR(50), {columns})",
            f"INSERT INTO every_type VALUES (1, 'a@example.com', {values})",
        )
        return names

    def types(self) -> list[Type]:
        """The types that the server has."""
        return [kind for kind in TYPES if kind.only in ("", self.server)]


@pytest.fixture(params=DRIVERS)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Give a database to each driver."""
    with mysql_tables(monkeypatch, MYSQL_DRIVERS[0] if request.param == "pymysql" else request.param) as tables:
        ((version,),) = Model(tables.hook, "SELECT VERSION() AS v")
        server = "MariaDB" if "MariaDB" in version else "MySQL"
        hook = PyMySQLHook("state") if request.param == "pymysql" else tables.hook
        yield Place(hook, request.param, server)
    close_spools()


def sent(model: Model, fields: Fields | None = None, **how: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of the model's first row as they are sent, and why others are refused."""
    refused: list[str] = []
    with model:
        mapper = Mapper(fields, used=frozenset(), **how)
        mapper.bind(model.columns)
        assert model._chunks is not None
        rows = next(model._chunks)
        payload = mapper.payloads(list(zip(*rows, strict=True)), lambda row, why: refused.append(why))[0]
    found = [why.removeprefix("field ").partition(": ") for why in refused]
    return json.loads(msgspec.json.encode(payload)), {field: why for field, _, why in found}


def test_every_type_is_sent_as_the_page_says(place: Place) -> None:
    """By each driver the same."""
    types = place.types()
    names = place.table(types)
    payload, refused = sent(Model(place.hook, "SELECT * FROM every_type"))
    for name, kind in zip(names, types, strict=True):
        if kind.sent.startswith(REFUSED):
            assert (kind.sql, refused.pop(name)) == (kind.sql, kind.sent.removeprefix(REFUSED))
        else:
            assert (kind.sql, msgspec.json.encode(payload[name]).decode()) == (kind.sql, kind.sent)
    assert not refused
    nulls = ", ".join(f"NULLIF({name}, {name}) AS {name}" for name in names)
    payload, refused = sent(Model(place.hook, f"SELECT {nulls} FROM every_type"))
    assert (set(payload.values()), refused) == ({None}, {})


def test_the_page_shows_these_types() -> None:
    """One table for both."""
    shown = []
    for kind in TYPES:
        form = kind.sent if kind.sent.startswith(REFUSED) else f"`{kind.sent}`"
        name = "`TINYINT(1)`, `BOOLEAN`" if kind.sql.endswith("BOOLEAN") else f"`{kind.sql}`"
        where = f" in {kind.only}" if kind.only else ""
        shown.append(f"| {name}{where} | `{kind.value}` | {form} |{f' {kind.iterable} '.replace('  ', ' ')}|")
    section = PAGE.read_text("utf-8").partition("\n## Types\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == shown, "\n".join(shown)


@pytest.mark.parametrize("place", [name for name in DRIVERS if name != "pymysql"], indirect=True)
def test_the_database_compares_each_type(place: Place) -> None:
    """A row is unchanged at the second look, and changed by another value; sets are left to the worker."""
    types = [kind for kind in place.types() if not kind.sent.startswith(REFUSED)]
    names = place.table(types)
    for name, kind in zip(names, types, strict=True):
        sync_id = fresh()
        assert (0, 0) == news(place, sync_id, name)[:2], "nothing is remembered"
        assert (kind.sql, 1, 0) == (kind.sql, *news(place, sync_id, name)[:2])
        execute(place.hook, f"UPDATE every_type SET {name} = {kind.other}")
        unchanged, changed, by_the_database = news(place, sync_id, name)
        assert (kind.sql, 0, 1) == (kind.sql, unchanged, changed)
        assert by_the_database or kind.sql.startswith("SET"), kind.sql


def news(
    place: Place, sync_id: str, column: str, key: str = "id", hook: DbApiHook | None = None
) -> tuple[int, int, bool]:
    """Run once, all accepted; return how many rows are unchanged, how many changed, and whether the database knew."""
    hook = hook or place.hook
    model = Model(hook, "SELECT * FROM every_type")
    scope = Scope(sync_id, HERE, MAPPING, model=model, hook=lambda conn_id: hook)
    with closing(TableState("state").open(scope)) as session, model:
        options = UserOptions((key,), "email", "email", project_type="email")
        plan = planned(Users(options, Mapper({"field": column}), model.columns), model, session)
        remember(plan, session)
        session.finish(True)
        return plan.unchanged, plan.counts[Change.CHANGED], getattr(session, "_comparison", None) is not None


@pytest.mark.parametrize("init", ["SET time_zone = '-05:00'", "SET GLOBAL time_zone = '+09:00', time_zone = '+09:00'"])
def test_a_timestamp_is_an_instant(place: Place, init: str) -> None:
    """Whatever zone the connection or the server asks for, and however date-times without one are read."""
    ((before,),) = Model(place.hook, "SELECT @@global.time_zone AS z")
    try:
        place.table([Type("TIMESTAMP NULL, d DATETIME", "FROM_UNIXTIME(1719835200), '2024-07-01 12:00:00'", "", "")])
        model = Model(place.having(init_command=init), "SELECT c0, d FROM every_type")
        payload, _ = sent(model, zone=ZoneInfo("America/New_York"))
    finally:
        execute(place.hook, f"SET GLOBAL time_zone = '{before}'")
    assert payload == {"c0": "2024-07-01 12:00:00 +00:00", "d": "2024-07-01 16:00:00 +00:00"}


def test_a_key_does_not_depend_on_the_zone_of_the_session(place: Place) -> None:
    """Keys of a state that was made in UTC stay what they are, for the worker and for the database."""
    place.table([Type("TIMESTAMP NULL", "FROM_UNIXTIME(1719835200)", "", "")])
    sync_id, elsewhere = fresh(), place.having(init_command="SET time_zone = '-05:00'")
    ((key,),) = Model(elsewhere, "SELECT c0 FROM every_type")
    assert key == datetime(2024, 7, 1, 12)
    if place.driver != "pymysql":
        assert news(place, sync_id, "c0", "c0") == (0, 0, True)
        assert news(place, sync_id, "c0", "c0", elsewhere) == (1, 0, True)


DATES = {
    "0000-00-00": "a date without a year, month or day",
    "2024-00-10": "a date without a year, month or day",
    "2024-01-00": "a date without a year, month or day",
    "2024-02-30": "a date that is in no calendar",
}


@pytest.mark.parametrize(
    ("kind", "written"),
    [*((kind, written) for kind in ("DATE", "DATETIME(3)") for written in DATES), ("TIMESTAMP NULL", "0000-00-00")],
)
def test_a_date_without_a_day_costs_its_row(place: Place, kind: str, written: str) -> None:
    """It is no null, which would remove what Iterable has."""
    odd = place.having(init_command="SET sql_mode = 'ALLOW_INVALID_DATES'")
    execute(
        odd,
        f"CREATE TABLE every_type (id INT, email VARCHAR(50), c0 {kind})",
        f"INSERT INTO every_type VALUES (1, 'a@example.com', '{written}'), (2, 'b@example.com', '2024-01-01')",
    )
    payload, refused = sent(Model(place.hook, "SELECT id, c0 FROM every_type ORDER BY id"))
    assert (payload["id"], refused) == (1, {"c0": DATES[written]})
    if place.driver != "pymysql":
        assert news(place, fresh(), "id", "c0")[1:] == (0, True), "as a key it is refused, by both in agreement"


def test_text_that_is_no_utf8_costs_its_row(place: Place) -> None:
    """The server hands out what is stored as UTF-8 without a look at it."""
    with closing(connect(place.hook)) as connection:
        driver = driver_of(connection)
        driver.settle(connection)
        cursor = driver.streaming(connection)
        cursor.execute("SELECT 'x' AS c, 1 AS n, _binary 'x' AS b")
        types = driver.types(connection, cursor)
        assert [kind.kind for kind in types[:2]] == [Kind.TEXT, Kind.INTEGER]
        assert list(driver.fetch(cursor, 10)) == [("x", 1, b"x")]
        broken = b"\xff\xfe"
        if place.driver == "mysqlclient":
            ((_, convert),) = connection.converter[253][1:]
            found = convert(broken)
        elif place.driver == "pymysql":
            cursor.execute("SELECT 'x' AS c")
            driver.types(connection, cursor)
            found = cursor._result.converters[0][1](broken)
        else:
            found = connection.converter.to_python(cursor.description[0], broken)
        cursor.fetchall()
    assert found.why == "text that is not valid UTF-8"


def test_the_session_is_in_utf8_and_may_only_read(place: Place) -> None:
    """Whatever the connection says; the mode of SQL is the connection's, for the query was written in it."""
    hook = place.having(init_command="SET NAMES latin1, sql_mode = 'ANSI_QUOTES'")
    sql = "SELECT 'é😀' AS \"é\", @@sql_mode AS m"
    with Model(hook, sql) as model:
        assert list(model) == [("é😀", "ANSI_QUOTES")]
        assert model.columns == ("é", "m")
    with closing(connect(hook)) as connection:
        driver = driver_of(connection)
        driver.settle(connection)
        cursor = driver.plain(connection)
        with pytest.raises(Exception, match="1792"):
            cursor.execute("CREATE TABLE t (a INT)")


def test_every_row_is_read(place: Place) -> None:
    """Whatever limit the connection or the server has for queries that name none: what is left out would be removed."""
    ((before,),) = Model(place.hook, "SELECT @@global.sql_select_limit AS most")
    hook = place.having(init_command="SET GLOBAL sql_select_limit = 2, sql_select_limit = 2")
    try:
        assert len(list(Model(hook, "SELECT 1 AS a UNION SELECT 2 UNION SELECT 3"))) == 3
    finally:
        execute(place.hook, f"SET GLOBAL sql_select_limit = {before}")


@pytest.mark.parametrize("place", [name for name in DRIVERS if name != "mysql-connector-python"], indirect=True)
def test_cursors_of_dictionaries_are_overruled(place: Place) -> None:
    """What the Airflow connection asks for is for others; of one driver it asks for no other ones."""
    library = "MySQLdb" if place.driver == "mysqlclient" else "pymysql"
    hook = place.having()
    opened = hook.get_conn

    def get_conn() -> Any:
        connection = opened()
        connection.cursorclass = import_module(f"{library}.cursors").DictCursor
        return connection

    hook.get_conn = get_conn  # type: ignore[method-assign]
    assert list(Model(hook, "SELECT 1 AS a")) == [(1,)]


def test_types_that_only_mysql_has() -> None:
    """Their numbers are in the protocol, which knows no more of MariaDB's JSON than that it is text."""
    json_type = _column_type(245, 144, 63)
    assert json_type.kind is Kind.JSON
    mapper = Mapper(None, used=frozenset())
    mapper.bind(Columns(["c", "d"], [json_type, ColumnType(Kind.TEXT)]))
    refused: list[str] = []
    payloads = mapper.payloads([['{"a": [1]}', None], ["[1]", "x"]], lambda row, why: refused.append(why))
    assert msgspec.json.encode(payloads) == b'[{"c":{"a":[1]},"d":"[1]"},{"c":null,"d":"x"}]'
    assert not refused
    assert _column_type(242, 128, 63).native == "vector"
    assert _column_type(200, 0, 63).kind is Kind.UNKNOWN


@pytest.mark.parametrize("place", [name for name in DRIVERS if name != "pymysql"], indirect=True)
def test_what_iterable_makes_of_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the operator: new fields get the types that the page says, and a boolean one takes 0 and 1."""
    types = [kind for kind in place.types() if not kind.sent.startswith(REFUSED)]
    names = place.table(types)
    with Sandbox(rates=False) as iterable:
        connection = {"conn_type": "iterable", "host": iterable.url, "password": "a-key-of-iterable", "extra": {}}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        key = {"Api-Key": "a-key-of-iterable"}
        made = {"email": "z@example.com", "dataFields": {"truth": True, "bit": False}}
        httpx.post(f"{iterable.url}/api/users/update", json=made, headers=key).raise_for_status()
        operator = IterableUserSyncOperator(
            task_id="sync",
            sync_id="people",
            sql_conn_id="state",
            hook_params={"init_command": "SET time_zone = '-05:00'"},
            sql=f"SELECT id, email, c0 AS truth, 0 AS bit, {', '.join(names)} FROM every_type",
            primary_key="id",
            email_column="email",
            state=TableState(),
        )
        context = {
            "run_id": "run",
            "ti": SimpleNamespace(xcom_push=lambda **kwargs: None),
            "outlet_events": defaultdict(SimpleNamespace),
        }
        report = operator.execute(cast("Any", context))
        assert report["accepted"] == 1
        profile = httpx.get(f"{iterable.url}/api/users/a@example.com", headers=key).json()["user"]["dataFields"]
        fields = httpx.get(f"{iterable.url}/api/users/getFields", headers=key).json()["fields"]
    assert (profile["truth"], profile["bit"]) == (True, False)
    for name, kind in zip(names, types, strict=True):
        expected = kind.iterable.partition(",")[0].partition(";")[0]
        assert (kind.sql, fields[name]) == (kind.sql, expected)
        if expected != "date":  # a profile has all dates in one form
            assert (kind.sql, msgspec.json.encode(profile[name]).decode()) == (kind.sql, kind.sent)


def test_json_of_mariadb_is_text_that_json_reads(place: Place) -> None:
    """Its protocol does not tell it from other text."""
    if place.server != "MariaDB":
        pytest.skip("MySQL tells")
    place.table([Type("JSON", "'{\"a\": [1, 2]}'", "", "")])
    payload, _ = sent(Model(place.hook, "SELECT c0 FROM every_type"), {"text": "c0", "json": Json("c0")})
    assert payload == {"text": '{"a": [1, 2]}', "json": {"a": [1, 2]}}


def test_two_percent_signs_beside_parameters_are_one(place: Place) -> None:
    """By every driver; without parameters a sign is a sign."""
    hook = place.having()
    sql = "SELECT %(a)s AS a, '50%%' AS b, date_format('2020-01-02', '%%Y') AS c"
    assert list(Model(hook, sql, {"a": "x"})) == [("x", "50%", "2020")]
    model = Model(hook, sql, {"a": "x"})
    model.describe(lambda cursor: None)
    assert model.columns == ("a", "b", "c")
    assert list(Model(hook, "SELECT '50%' AS b, '50%%' AS c")) == [("50%", "50%%")]
