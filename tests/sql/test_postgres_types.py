from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.tables.warehouse import Compare
from tests.services import pooler, postgres_uri
from tests.sql.changes import each_is_unchanged_until_it_changes
from tests.sql.examples import REFUSED, Example, documented, lines, outcome
from tests.sql.test_model import execute, postgres_hook

CAST = "cast it to text or JSON in the model's SQL, as in c::text or to_jsonb(c)"
RANGE = f"{REFUSED}a value of type int4range, which has no JSON form; {CAST}"
YEARS = f"{REFUSED}a date beyond the years 1 to 9999"
EXAMPLES = [
    Example("text", "'Ada'", '"Ada"', "string", "'Bob'"),
    Example("varchar(20)", "'Ada'", '"Ada"', "string", "'Bob'"),
    Example("char(4)", "'Ada'", '"Ada "', "string", "'Bob'"),
    Example("citext", "'Ada'", '"Ada"', "string", "'Bob'"),
    Example("smallint", "7", "7", "long", "8"),
    Example("integer", "7", "7", "long", "8"),
    Example("bigint", "7", "7", "long", "8"),
    Example("numeric(12,2)", "7", "7.0", "double", "8"),
    Example("real", "7.5", "7.5", "double", "8"),
    Example("double precision", "7.5", "7.5", "double", "8"),
    Example("double precision", "'NaN'", f"{REFUSED}number nan"),
    Example("money", "7.5", '"$7.50"', "string", "8"),
    Example("boolean", "true", "true", "boolean", "false"),
    Example("date", "'2026-05-31'", '"2026-05-31"', "date", "'2026-06-01'"),
    Example("date", "'infinity'", YEARS),
    Example("date", "'0044-03-15 BC'", YEARS),
    Example("timestamp", "'2026-05-31 18:20:00.5'", '"2026-05-31 18:20:00 +00:00"', "date", "'2026-06-01'"),
    Example("timestamp", "'12026-05-31'", YEARS),
    Example("timestamptz", "'2026-05-31 18:20:00+02'", '"2026-05-31 16:20:00 +00:00"', "date", "'2026-06-01'"),
    Example("timestamptz", "'infinity'", YEARS),
    Example("time", "'18:20:00'", '"18:20:00"', "string", "'18:21:00'"),
    Example("time", "'24:00:00'", f"{REFUSED}a time beyond 23:59:59"),
    Example("timetz", "'18:20:00+02'", '"18:20:00+02:00"', "string", "'18:21:00+02'"),
    Example("interval", "'1 day 02:03:04'", '"26:03:04"', "string", "'2 days'"),
    Example("uuid", "'00000000-0000-0000-0000-00000000000a'", '"00000000-0000-0000-0000-00000000000a"', "string",
            "'00000000-0000-0000-0000-00000000000b'"),
    Example("json", """'{"b": 1, "a": [2]}'""", '{"a": [2], "b": 1}', "object", """'{"b": 1, "a": [3]}'"""),
    Example("jsonb", """'["a", {"b": null}]'""", '["a", {"b": null}]', "by its elements", "'[]'"),
    Example("jsonb", """'"a text"'""", '"a text"', "string", "'7'"),
    Example("text[]", "array['a', null]", '["a", null]', "string", "array['b']"),
    Example("integer[]", "array[[1, 2], [3, 4]]", "[[1, 2], [3, 4]]", "long", "array[1]"),
    Example("date[]", "array['2026-05-31'::date]", '["2026-05-31"]', "date", "array['2026-06-01'::date]"),
    Example("uuid[]", "array['00000000-0000-0000-0000-00000000000a'::uuid, null]",
            '["00000000-0000-0000-0000-00000000000a", null]', "string", "'{}'"),
    Example("bit(3)[]", "array[b'101', null]", '["101", null]', "string", "array[b'111']"),
    Example("jsonb[]", """array['{"a": 1}'::jsonb]""", '[{"a": 1}]', "object", "'{}'"),
    Example("mood", "'very happy'", '"very happy"', "string", "'sad'"),
    Example("mood[]", "array['sad', 'very happy']::mood[]", '["sad", "very happy"]', "string", "array['sad']::mood[]"),
    Example("positive", "7", "7", "long", "8"),
    Example("positive[]", "array[7, 8]::positive[]", "[7, 8]", "long", "array[9]::positive[]"),
    Example("address", "row('Main St', 7, array['sad']::mood[])", '{"moods": ["sad"], "no 1": 7, "street": "Main St"}',
            "object", "row('Side St', 7, null)"),
    Example("address[]", "array[row('Main St', null, null)::address]",
            '[{"moods": null, "no 1": null, "street": "Main St"}]', "object", "'{}'"),
    Example("hstore", "'a=>1, b=>NULL'", '{"a": "1", "b": null}', "object", "'a=>2'"),
    Example("bit(3)", "b'101'", '"101"', "string", "b'111'"),
    Example("inet", "'10.0.0.1'", '"10.0.0.1"', "string", "'10.0.0.2'"),
    Example("macaddr", "'08:00:2b:01:02:03'", '"08:00:2b:01:02:03"', "string", "'08:00:2b:01:02:04'"),
    Example("xml", "'<a/>'", '"<a/>"', "string", "'<b/>'"),
    Example("tsvector", "'a b'", "\"'a' 'b'\"", "string", "'c'"),
    Example("bytea", "'\\x00ff'", f"{REFUSED}a value of type bytea, which has no JSON form; encode it in the model's "
            "SQL, as in encode(c, 'base64')"),
    Example("int4range", "'[1,5)'", RANGE),
    Example("int4range[]", "array['[1,5)'::int4range]", RANGE),
    Example("point", "'(1,2)'", f"{REFUSED}a value of type point, which has no JSON form; {CAST}"),
]  # fmt: skip
SENT = [example for example in EXAMPLES if example.other]
TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'very happy')",
    "CREATE DOMAIN positive AS integer CHECK (value > 0)",
    'CREATE TYPE address AS (street text, "no 1" integer, moods mood[])',
)
DRIVERS = ["psycopg", *(["psycopg2"] if find_spec("psycopg2") else [])]


@dataclass
class Place:
    """A schema with types of its own, which connections look in first."""

    hook: DbApiHook
    schema: str

    def row(self, sql: str) -> tuple[Model, Any]:
        """Read a row."""
        model = Model(self.hook, sql)
        ((row,),) = model.chunks()
        return model, row


@pytest.fixture(params=DRIVERS)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Give the schema, by each driver."""
    schema = f"iterable_{uuid.uuid4().hex[:12]}"
    path = f"?options=-c%20search_path%3D{schema}%2Cextensions_of_tests%2Cpublic"
    hook = postgres_hook(monkeypatch, request.param, path)
    extensions = [
        "SELECT pg_advisory_xact_lock(4711)",
        "CREATE SCHEMA IF NOT EXISTS extensions_of_tests",
        *(f"CREATE EXTENSION IF NOT EXISTS {name} SCHEMA extensions_of_tests" for name in ("hstore", "citext")),
    ]
    execute(hook, *extensions)
    execute(hook, f"CREATE SCHEMA {schema}", *TYPES)
    yield Place(hook, schema)
    execute(hook, "SET lock_timeout = '5s'", f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize("examples", [EXAMPLES, SENT], ids=["with values that cannot be read", "without"])
def test_each_type_is_sent_as_the_json_that_it_means(place: Place, examples: list[Example]) -> None:
    """A list, an object, a number, a date; never a notation of the database's or of Python's.

    A row in which something cannot be read is read in another way than one in which all can.
    """
    values = ", ".join(f"({example.value})::{example.type} AS c{n}" for n, example in enumerate(examples))
    model, row = place.row(f"SELECT {values}")
    for number, example in enumerate(examples):
        assert outcome(model.columns, row, f"c{number}") == example.sent, example.type


@contextmanager
def database(monkeypatch: pytest.MonkeyPatch, encoding: str) -> Iterator[None]:
    """Give tests a database of this encoding for a while."""
    name = f"iterable_{uuid.uuid4().hex[:12]}"
    connection = postgres_hook(monkeypatch, "psycopg").get_conn()
    connection.autocommit = True
    connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        with monkeypatch.context() as patched:
            patched.setenv("ITERABLE_TEST_POSTGRES", postgres_uri().rpartition("/")[0] + f"/{name}")
            yield
    finally:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["SQL_ASCII", "LATIN1", "pgbouncer"])
def test_each_type_is_the_same_elsewhere(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """In databases of other encodings, and behind a pooler in transaction mode."""
    values = ", ".join(f"({example.value})::{example.type} AS c{n}" for n, example in enumerate(EXAMPLES))
    with database(monkeypatch, "UTF8" if where == "pgbouncer" else where):
        execute(postgres_hook(monkeypatch, "psycopg"), "CREATE EXTENSION hstore", "CREATE EXTENSION citext", *TYPES)
        with pooler() if where == "pgbouncer" else nullcontext(postgres_uri()) as uri:
            for driver in DRIVERS:
                hook = postgres_hook(monkeypatch, driver)
                monkeypatch.setenv("AIRFLOW_CONN_MODEL_POSTGRES", uri)
                model = Model(hook, f"SELECT {values}")
                ((row,),) = model.chunks()
                for number, example in enumerate(EXAMPLES):
                    assert outcome(model.columns, row, f"c{number}") == example.sent, (driver, example.type)


def test_the_page_lists_the_types() -> None:
    """One table is what the tests read and what is documented."""
    assert list(documented("postgres.md")) == lines(EXAMPLES)


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_a_value_of_each_type_is_unchanged_until_it_changes(place: Place, compare: Compare) -> None:
    """Whoever compares; a null is no value of it."""
    each_is_unchanged_until_it_changes(place.hook, compare, SENT, place.schema)


def test_what_cannot_be_read_costs_its_row_alone(place: Place) -> None:
    """Wherever in a chunk it is; what the server says is still an error."""
    sql = (
        "SELECT i AS id, CASE WHEN i % 1000 = 7 THEN 'infinity'::timestamptz ELSE '2026-05-31 18:20Z' END AS until "
        "FROM generate_series(1, 5000) AS i"
    )
    rows = list(Model(place.hook, sql))
    assert [number for number, value in rows if isinstance(value, Unreadable)] == [7, 1007, 2007, 3007, 4007]
    assert len({value for _, value in rows if not isinstance(value, Unreadable)}) == 1
    with pytest.raises(Exception, match="22012"):
        list(Model(place.hook, "SELECT 1 / (4000 - i) FROM generate_series(1, 5000) AS i"))


@pytest.mark.parametrize("deep", ["(repeat('[', 2000) || repeat(']', 2000))", "repeat('9', 5000)"])
@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_json_that_python_cannot_hold_costs_its_row(place: Place, deep: str, kind: str) -> None:
    """Not the run."""
    model = Model(place.hook, f"SELECT 1 AS id, '{{}}'::{kind} AS v UNION ALL SELECT 2, {deep}::{kind}")
    first, second = model
    assert outcome(model.columns, first, "v") == "{}"
    assert outcome(model.columns, second, "v").startswith(f"{REFUSED}JSON that is nested too deeply, or has a number")


@pytest.mark.parametrize("style", ["German, DMY", "SQL, MDY", "Postgres, YMD"])
def test_a_style_of_dates_changes_nothing(monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    """Sessions say which they rely on, whatever the role, the database or the connection says."""
    options = f"?options=-c%20datestyle%3D{style.replace(' ', '').replace(',', '%2C')}%20-c%20intervalstyle%3Diso_8601"
    sql = "SELECT '2026-05-31 18:20Z'::timestamptz AS at, '2026-05-31'::date AS day, interval '1 day 2 hours' AS span"
    for driver in DRIVERS:
        model = Model(postgres_hook(monkeypatch, driver, options), sql)
        ((row,),) = model.chunks()
        sent = [json.loads(outcome(model.columns, row, name)) for name in model.columns]
        assert sent == ["2026-05-31 18:20:00 +00:00", "2026-05-31", "26:00:00"]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_texts_are_utf8_whatever_the_database_is_in(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """A database that checks nothing may hold text that is none, which costs its row."""
    texts = {"LATIN1": ["'stra' || chr(223) || 'e'"], "SQL_ASCII": [r"E'stra\xc3\x9fe'", r"E'\xff'"]}[encoding]
    sql = " UNION ALL ".join(f"SELECT {number} AS id, {text} AS t" for number, text in enumerate(texts))
    with database(monkeypatch, encoding):
        for driver in DRIVERS:
            rows: dict[int, Any] = dict(map(tuple, Model(postgres_hook(monkeypatch, driver), sql)))
            assert rows.pop(0) == "straße"
            assert [value.why for value in rows.values()] == ["text that is not valid UTF-8"] * len(rows)
            assert len(rows) == len(texts) - 1


def test_a_model_may_only_read(place: Place) -> None:
    """A query that changes something is an error."""
    execute(place.hook, "CREATE SEQUENCE seen")
    with pytest.raises(Exception, match="25006"):
        place.row("SELECT nextval('seen') AS n")


def test_the_session_says_who_it_is(place: Place) -> None:
    """A DBA finds it in pg_stat_activity."""
    _, row = place.row("SELECT current_setting('application_name') AS name")
    assert row == ("airflow_provider_iterable",)
