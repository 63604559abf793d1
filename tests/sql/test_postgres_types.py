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
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import key_text
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.tables.warehouse import Compare
from tests.services import pooler, postgres_uri
from tests.sql.changes import each_is_unchanged_until_it_changes, run
from tests.sql.examples import REFUSED, Example, documented, lines, outcome
from tests.sql.test_model import execute, postgres_hook
from tests.state.contract import fresh

CAST = "cast it to text or JSON in the model's SQL, as in c::text or to_jsonb(c)"
RANGE = f"{REFUSED}a value of type int4range, which has no JSON form; {CAST}"
YEARS = f"{REFUSED}a date beyond the years 1 to 9999"
SPAN = f"{REFUSED}an interval beyond 999999999 days"
JSON = f"{REFUSED}JSON that is nested too deeply, or has a number or text that Python has no room for"
UTF8 = f"{REFUSED}text that is not valid UTF-8"
BYTEA = (
    f"{REFUSED}a value of type bytea, which has no JSON form; encode it in the model's SQL, as in encode(c, 'base64')"
)
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
    Example("interval", "'11767033 years'", SPAN),
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
    Example("json[]", """array['{"b": 1, "a": [2]}'::json, null]""", '[{"a": [2], "b": 1}, null]', "object", "'{}'"),
    Example("mood", "'very happy'", '"very happy"', "string", "'sad'"),
    Example("mood[]", "array['sad', 'very happy']::mood[]", '["sad", "very happy"]', "string", "array['sad']::mood[]"),
    Example("positive", "7", "7", "long", "8"),
    Example("positive[]", "array[7, 8]::positive[]", "[7, 8]", "long", "array[9]::positive[]"),
    Example("numbers[]", """'{"{1,2}", null}'""", "[[1, 2], null]", "by its elements", "'{}'"),
    Example("instant[]", "array['2026-05-31 18:20:00+02'::instant]", '["2026-05-31 16:20:00 +00:00"]', "date", "'{}'"),
    Example("instant[]", "array['infinity'::instant]", YEARS),
    Example("address", "row('Main St', 7, array['sad']::mood[])", '{"moods": ["sad"], "no 1": 7, "street": "Main St"}',
            "object", "row('Side St', 7, null)"),
    Example("address[]", "array[row('Main St', null, null)::address]",
            '[{"moods": null, "no 1": null, "street": "Main St"}]', "object", "'{}'"),
    Example("visit", """row(array[1, 2], array['{"a": 1}'::jsonb], 'b=>2', row('St', 7, null), '2026-05-31 18:20Z')""",
            '{"docs": [{"a": 1}], "home": {"moods": null, "no 1": 7, "street": "St"}, "numbers": [1, 2], '
            '"seen": "2026-05-31 18:20:00 +00:00", "tags": {"b": "2"}}', "object",
            "row(array[1, 3], null, null, null, null)"),
    Example("hstore", "'a=>1, b=>NULL'", '{"a": "1", "b": null}', "object", "'a=>2'"),
    Example("bit(3)", "b'101'", '"101"', "string", "b'111'"),
    Example("inet", "'10.0.0.1'", '"10.0.0.1"', "string", "'10.0.0.2'"),
    Example("int2vector", "'1 2'", '"1 2"', "string", "'1 3'"),
    Example("macaddr", "'08:00:2b:01:02:03'", '"08:00:2b:01:02:03"', "string", "'08:00:2b:01:02:04'"),
    Example("xml", "'<a/>'", '"<a/>"', "string", "'<b/>'"),
    Example("tsvector", "'a b'", "\"'a' 'b'\"", "string", "'c'"),
    Example("bytea", "'\\x00ff'", BYTEA),
    Example("bytea[]", "array[null::bytea]", "[null]", "by its elements"),
    Example("int4range", "'[1,5)'", RANGE),
    Example("int4range[]", "array['[1,5)'::int4range]", RANGE),
    Example("point", "'(1,2)'", f"{REFUSED}a value of type point, which has no JSON form; {CAST}"),
]  # fmt: skip
SENT = [example for example in EXAMPLES if example.other]
TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'very happy')",
    "CREATE DOMAIN positive AS integer CHECK (value > 0)",
    'CREATE TYPE address AS (street text, "no 1" integer, moods mood[])',
    "CREATE DOMAIN numbers AS integer[]",
    "CREATE DOMAIN documents AS jsonb[]",
    "CREATE DOMAIN tags AS hstore",
    "CREATE DOMAIN home AS address",
    "CREATE DOMAIN instant AS timestamptz",
    "CREATE TYPE visit AS (numbers numbers, docs documents, tags tags, home home, seen instant)",
)
MORE_TYPES = (
    "CREATE DOMAIN day AS date",
    "CREATE DOMAIN hour AS time",
    "CREATE DOMAIN span AS interval",
    "CREATE TYPE times AS (day day, hour hour, span span, instant instant)",
    "CREATE TYPE nothing AS ()",
    "CREATE TYPE raw AS (name text, data bytea)",
    "CREATE TYPE {schema}.point AS (x integer, y integer)",
    "CREATE TYPE {schema}.json AS (d text)",
    "CREATE TYPE {schema}.record AS ENUM ('a')",
)
ODD = r"""a "b" \c, (d) {e} 'f' NULL"""
NESTED = {
    "array[row(array[1], null, 'a=>1', row('St', 1, null), null)::visit]":
        '[{"docs": null, "home": {"moods": null, "no 1": 1, "street": "St"}, "numbers": [1], "seen": null, '
        '"tags": {"a": "1"}}]',
    "array[row('St', 7, '{sad}')::home]": '[{"moods": ["sad"], "no 1": 7, "street": "St"}]',
    "array['a=>1'::tags, null]": '[{"a": "1"}, null]',
    """array[array['{"a": [1]}'::jsonb]::documents]""": '[[{"a": [1]}]]',
    """'[5:6]={"{1}","{}"}'::numbers[]""": "[[1], []]",
    "array[[row('a', 1, null), row('', null, null)]]::address[]":
        '[[{"moods": null, "no 1": 1, "street": "a"}, {"moods": null, "no 1": null, "street": ""}]]',
    f"row($${ODD}$$, null, null)::address": json.dumps({"moods": None, "no 1": None, "street": ODD}, sort_keys=True),
    f"array[row($${ODD}$$, null, null)::home]":
        json.dumps([{"moods": None, "no 1": None, "street": ODD}], sort_keys=True),
    f"array[hstore($${ODD}$$, $${ODD}$$)]": json.dumps([{ODD: ODD}]),
    "row('2026-05-31', '18:20', '1 day', '2026-05-31 18:20Z')::times":
        '{"day": "2026-05-31", "hour": "18:20:00", "instant": "2026-05-31 18:20:00 +00:00", "span": "24:00:00"}',
    "array['10000-01-01'::day]": YEARS,
    "array['0044-03-15 BC'::day, null]": YEARS,
    "row('infinity', null, null, null)::times": YEARS,
    "array['24:00'::hour]": f"{REFUSED}a time beyond 23:59:59",
    "row(null, '24:00', null, null)::times": f"{REFUSED}a time beyond 23:59:59",
    "array['3000000 years'::span]": SPAN,
    "array['11767033 years'::interval]": SPAN,
    "row(null, null, '-178000000 years', null)::times": SPAN,
    "interval '-178000000 years'": SPAN,
    "interval '-3 years 26:03:04'": '"-26253:56:56"',
    "row(null, null, null, '-infinity')::times": YEARS,
    "'1 2'::oidvector": '"1 2"',
    "row()::nothing": "{}",
    "array[row()::nothing]": "[{}]",
    "array[[null, null]]::bytea[]": "[[null, null]]",
    "array[]::int4range[]": "[]",
    "row('a', null)::raw": '{"data": null, "name": "a"}',
    r"array[row('a', '\x00')::raw]": BYTEA,
    "row(1, 2)::{schema}.point": '{"x": 1, "y": 2}',
    "array[row('[')::{schema}.json]": '[{"d": "["}]',
    "array['a'::{schema}.record]": '["a"]',
    "point '(1,2)'": f"{REFUSED}a value of type point, which has no JSON form; {CAST}",
}  # fmt: skip
"""Values within others, and types whose names mislead."""
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


@pytest.mark.parametrize("sent_only", [False, True], ids=["with values that cannot be read", "without"])
def test_a_value_within_another_is_sent_as_if_it_stood_alone(place: Place, sent_only: bool) -> None:
    """Domains, arrays, composite types and hstore, in any order; what cannot be read costs nothing unused."""
    execute(place.hook, *(statement.replace("{schema}", place.schema) for statement in MORE_TYPES))
    nested = {value: sent for value, sent in NESTED.items() if not (sent_only and sent.startswith(REFUSED))}
    values = ", ".join(f"{value.replace('{schema}', place.schema)} AS c{n}" for n, value in enumerate(nested))
    model, row = place.row(f"SELECT {values}")
    found = {value: outcome(model.columns, row, f"c{number}") for number, value in enumerate(nested)}
    assert found == nested


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_a_type_that_is_called_as_another_is_compared_as_itself(place: Place, compare: Compare) -> None:
    """As what it is, not as what its name means elsewhere."""
    execute(place.hook, *(statement.replace("{schema}", place.schema) for statement in MORE_TYPES))
    odd = [
        Example(f"{place.schema}.json", "row('[')", "", other="row(']')"),
        Example(f"{place.schema}.json[]", f"array[row('[')::{place.schema}.json]", "", other="'{}'"),
        Example(f"{place.schema}.point", "row(1, 2)", "", other="row(1, 3)"),
    ]
    each_is_unchanged_until_it_changes(place.hook, compare, odd, place.schema)


def test_json_beside_what_json_cannot_tell_apart_is_compared_by_the_worker(place: Place) -> None:
    """Its text depends on the session's time zone."""
    execute(
        place.hook,
        "CREATE TYPE noted AS (doc json, at timestamptz)",
        "CREATE TABLE all_types (id INTEGER, email VARCHAR(99), c0 noted)",
    )
    with pytest.raises(ConfigurationError, match="column c0 of type noted cannot be compared in SQL"):
        run(place.hook, fresh(), "database", schema=place.schema)


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
    assert outcome(model.columns, second, "v") == JSON


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


def test_text_that_is_none_costs_its_row_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a database that checks nothing: in arrays, composite types, JSON and names of columns too."""
    values = {
        "E'{{{0}}}'::text[]": '["é"]',
        "E'{{{0}}}'::citext[]": '["é"]',
        "E'{0}'::citext": '"é"',
        "row(E'{0}', null, null)::address": '{"moods": null, "no 1": null, "street": "é"}',
        "array[row(E'{0}', null, null)::address]": '[{"moods": null, "no 1": null, "street": "é"}]',
        """E'"{0}"'::json""": '"é"',
        """array[E'"{0}"'::json]""": '["é"]',
        """array[E'"{0}"'::jsonb]""": '["é"]',
        "hstore(E'{0}', E'{0}')": '{"é": "é"}',
    }
    texts = {0: r"\xc3\xa9", 1: r"\xe9"}
    columns = {i: ", ".join(v.format(t) for v in values) for i, t in texts.items()}
    sql = f"SELECT 0 AS id, {columns[0]} UNION ALL SELECT 1, {columns[1]}"
    named = ", ".join(f'"é{number}"' for number in range(len(values)))
    with database(monkeypatch, "SQL_ASCII"):
        hook = postgres_hook(monkeypatch, "psycopg")
        execute(hook, "CREATE EXTENSION hstore", "CREATE EXTENSION citext", *TYPES)
        for driver in DRIVERS:
            model = Model(postgres_hook(monkeypatch, driver), f"SELECT * FROM ({sql}) AS m (id, {named})")
            right, wrong = list(model)
            assert [outcome(model.columns, right, name) for name in model.columns[1:]] == list(values.values())
            assert {outcome(model.columns, wrong, name) for name in model.columns[1:]} <= {UTF8, JSON}
            assert (right[0], wrong[0]) == (0, 1)


def test_doubles_have_all_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the role, the database or the connection says of them."""
    for driver in DRIVERS:
        hook = postgres_hook(monkeypatch, driver, "?options=-c%20extra_float_digits%3D0")
        ((row,),) = Model(hook, "SELECT 0.1::float8 + 0.2 AS v, array[0.1::float8 + 0.2] AS a").chunks()
        assert row == (0.1 + 0.2, [0.1 + 0.2])


def test_an_address_of_a_network_is_a_key(place: Place) -> None:
    """Its text, whatever the driver makes of it."""
    _, row = place.row("SELECT inet '10.0.0.1' AS a, inet '10.0.0.1/24' AS b, inet '::ffff:1.2.3.4' AS c")
    assert key_text(row) == '["10.0.0.1","10.0.0.1/24","::ffff:1.2.3.4"]'


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_sessions_are_settled_whatever_the_database_is_in(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Where the encoding is to be changed, too."""
    settings = ("transaction_read_only", "datestyle", "extra_float_digits", "application_name")
    sql = f"SELECT {', '.join(f'current_setting({name!r}) AS {name}' for name in settings)}"
    with database(monkeypatch, encoding):
        for driver in DRIVERS:
            hook = postgres_hook(monkeypatch, driver, "?options=-c%20datestyle%3DGerman")
            ((row,),) = Model(hook, sql).chunks()
            assert row == ("on", "ISO, DMY", "1", "airflow_provider_iterable")


def test_a_model_may_only_read(place: Place) -> None:
    """A query that changes something is an error."""
    execute(place.hook, "CREATE SEQUENCE seen")
    with pytest.raises(Exception, match="25006"):
        place.row("SELECT nextval('seen') AS n")


def test_the_session_says_who_it_is(place: Place) -> None:
    """A DBA finds it in pg_stat_activity."""
    _, row = place.row("SELECT current_setting('application_name') AS name")
    assert row == ("airflow_provider_iterable",)
