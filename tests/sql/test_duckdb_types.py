from __future__ import annotations

import datetime
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.columns import Kind
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.tables.warehouse import Compare
from tests.sql.changes import each_is_unchanged_until_it_changes
from tests.sql.examples import REFUSED, Example, documented, lines, outcome
from tests.sql.test_model import execute
from tests.state.test_table import duckdb_hook, needs_duckdb

pytestmark = needs_duckdb

HOURS = "a time beyond 23:59:59"
YEARS = f"{REFUSED}a date beyond the years 1 to 9999"
TO_JSON = "which has no JSON form; cast it to JSON in the model's SQL, as in to_json(c)"
EXAMPLES = [
    Example("VARCHAR", "'Ada'", '"Ada"', "string", "'Bob'"),
    Example("TINYINT", "7", "7", "long", "8"),
    Example("BIGINT", "7", "7", "long", "8"),
    Example("UBIGINT", "18446744073709551615", f"{REFUSED}an integer beyond 64 bits"),
    Example("HUGEINT", "7", "7", "long", "8"),
    Example("HUGEINT", "9223372036854775808", f"{REFUSED}an integer beyond 64 bits"),
    Example("BIGNUM", "7", "7", "long"),
    Example("DECIMAL(12,2)", "7", "7.0", "double", "8"),
    Example("FLOAT", "7.5", "7.5", "double", "8"),
    Example("DOUBLE", "7.5", "7.5", "double", "8"),
    Example("DOUBLE", "'nan'", f"{REFUSED}number nan"),
    Example("BOOLEAN", "true", "true", "boolean", "false"),
    Example("DATE", "'2026-05-31'", '"2026-05-31"', "date", "'2026-06-01'"),
    Example("DATE", "'9999-12-31'", '"9999-12-31"', "date", "'2026-06-01'"),
    Example("DATE", "'infinity'", YEARS),
    Example("DATE", "'0044-03-15 (BC)'", YEARS),
    Example("TIMESTAMP", "'2026-05-31 18:20:00.5'", '"2026-05-31 18:20:00 +00:00"', "date", "'2026-06-01'"),
    Example("TIMESTAMP", "'9999-12-31 23:59:59.999999'", '"9999-12-31 23:59:59 +00:00"', "date", "'2026-06-01'"),
    Example("TIMESTAMP", "'infinity'", YEARS),
    Example("TIMESTAMP", "'10000-01-01'", YEARS),
    Example("TIMESTAMP_S", "'2026-05-31 18:20:00'", '"2026-05-31 18:20:00 +00:00"', "date", "'2026-06-01'"),
    Example("TIMESTAMP_S", "'-infinity'", YEARS),
    Example("TIMESTAMP_MS", "'2026-05-31 18:20:00.5'", '"2026-05-31 18:20:00 +00:00"', "date", "'2026-06-01'"),
    Example("TIMESTAMP_MS", "'infinity'", YEARS),
    Example("TIMESTAMP_NS", "'2026-05-31 18:20:00.5'", '"2026-05-31 18:20:00 +00:00"', "date", "'2026-06-01'"),
    Example("TIMESTAMP_NS", "'infinity'", YEARS),
    Example("TIMESTAMPTZ", "'2026-05-31 18:20:00+02:00'", '"2026-05-31 16:20:00 +00:00"', "date", "'2026-06-01'"),
    Example("TIMESTAMPTZ", "'infinity'", YEARS),
    Example("TIMESTAMPTZ", "'0044-03-15 (BC) 01:02:03+00:00'", YEARS),
    Example("TIME", "'18:20:00'", '"18:20:00"', "string", "'18:21:00'"),
    Example("TIME", "'24:00:00'", f"{REFUSED}{HOURS}"),
    Example("TIMETZ", "'18:20:00+02'", '"18:20:00+02:00"', "string"),
    Example("TIMETZ", "'24:00:00+02'", f"{REFUSED}{HOURS}"),
    Example("INTERVAL", "'1 day 02:03:04'", '"26:03:04"', "string", "'2 days'"),
    Example("INTERVAL", "'99999999 months'", f"{REFUSED}an interval beyond 999999000 days"),
    Example("UUID", "'00000000-0000-0000-0000-00000000000a'", '"00000000-0000-0000-0000-00000000000a"', "string",
            "'00000000-0000-0000-0000-00000000000b'"),
    Example("JSON", """'{"b": 1, "a": [2]}'""", '{"a": [2], "b": 1}', "object", """'{"b": 1, "a": [3]}'"""),
    Example("JSON", """'"a text"'""", '"a text"', "string", "'7'"),
    Example("mood", "'very happy'", '"very happy"', "string", "'sad'"),
    Example("BIT", "'0101'", '"0101"', "string"),
    Example("VARCHAR[]", "['a', NULL]", '["a", null]', "string", "['b']"),
    Example("INTEGER[2]", "[1, 2]", "[1, 2]", "long", "[1, 3]"),
    Example("DATE[]", "['2026-05-31']", '["2026-05-31"]', "date", "['2026-06-01']"),
    Example("DATE[]", "['10000-01-01']", YEARS),
    Example("TIME[]", "['24:00:00']", f"{REFUSED}{HOURS}"),
    Example("TIMESTAMPTZ[]", "['2026-05-31 18:20:00+02:00']", '["2026-05-31 16:20:00 +00:00"]', "date"),
    Example("TIMESTAMPTZ[]", "['infinity']", YEARS),
    Example("JSON[]", """['{"a": 1}', NULL]""", '[{"a": 1}, null]', "object", "['{}']"),
    Example("STRUCT(j JSON, d DATE)", """{'j': '{"a": 1}', 'd': '2026-05-31'}""",
            '{"d": "2026-05-31", "j": {"a": 1}}', "object", """{'j': '{"a": 2}', 'd': '2026-05-31'}"""),
    Example("STRUCT(t TIMESTAMP)", "{'t': '10000-01-01'}", YEARS),
    Example("MAP(VARCHAR, INTEGER)", "MAP {'a': 1, 'b': NULL}", '{"a": 1, "b": null}', "object", "MAP {'a': 2}"),
    Example("MAP(INTEGER, JSON)", "MAP {1: '[2]'}", '{"1": [2]}', "object", "MAP {1: '[3]'}"),
    Example("MAP(BOOLEAN, INTEGER)", "MAP {true: 1}", '{"true": 1}', "object", "MAP {false: 1}"),
    Example("MAP(INTEGER[], INTEGER)", "MAP {[1]: 2}",
            f"{REFUSED}a value of type MAP(INTEGER[], INTEGER), {TO_JSON}"),
    Example("MAP(TIMESTAMPTZ, INTEGER)", "MAP {'2026-05-31 18:20:00+02:00': 1}", '{"2026-05-31 16:20:00 +00:00": 1}',
            "object"),
    Example("MAP(INTERVAL, INTEGER)", "MAP {'1 day 02:03:04': 1}", '{"26:03:04": 1}', "object"),
    Example("MAP(DOUBLE, INTEGER)", "MAP {'nan': 1}", f"{REFUSED}number nan"),
    Example("MAP(DATE, INTEGER)", "MAP {'10000-01-01': 1}", YEARS),
    Example("MAP(TIMESTAMP, INTEGER)", "MAP {'2026-05-31 18:20:00.1': 1, '2026-05-31 18:20:00.2': 2}",
            f"{REFUSED}an object of which several keys are the same text"),
    Example("UNION(d DATE, t TIME)", "'24:00:00'::TIME", f"{YEARS}, or {HOURS}"),
    Example("UNION(n INTEGER, s VARCHAR)", "'a'", '"a"', "string"),
    Example("UNION(n INTEGER, j JSON)", """union_value(j := '{"a": 1}'::JSON)""", '{"a": 1}', "object"),
    Example("UNION(s VARCHAR, j JSON)", "union_value(s := 'a')",
            f"{REFUSED}a value of type UNION(s VARCHAR, j JSON), {TO_JSON}"),
    Example("BLOB", "'\\xAA'", f"{REFUSED}a value of type BLOB, which has no JSON form; encode it in the model's SQL, "
            "as in base64(c)"),
    Example("VARIANT", "7", f"{REFUSED}a value of type VARIANT, which has no JSON form; cast it to JSON in the "
            "model's SQL, as in c::JSON"),
    Example("GEOMETRY", "'POINT(1 2)'", f"{REFUSED}a value of type GEOMETRY, which has no JSON form; have the model's "
            "SQL make JSON of it, as in ST_AsGeoJSON(c)::JSON"),
]  # fmt: skip
SENT = [example for example in EXAMPLES if example.other]
MOOD = "CREATE TYPE mood AS ENUM ('sad', 'very happy')"


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DbApiHook:
    """Return a hook of a database in a file."""
    return duckdb_hook(tmp_path, monkeypatch)


def has(hook: DbApiHook, example: Example) -> bool:
    """Return whether this version has the type: some are of 1.5 or later."""
    import duckdb

    try:
        with closing(hook.get_conn()) as connection:
            connection.execute(f"SELECT ({example.value})::{example.type} AS c").fetchall()
    except (duckdb.CatalogException, duckdb.NotImplementedException):
        return False
    except OverflowError:  # the plain driver's
        pass
    return True


def read(hook: DbApiHook, sql: str) -> tuple[Model, list[Any]]:
    """Read a model."""
    model = Model(hook, sql)
    return model, [row for chunk in model.chunks() for row in chunk]


def test_each_type_is_sent_as_the_json_that_it_means(hook: DbApiHook) -> None:
    """A list, an object, a number, a date; never a notation of the database's or of Python's."""
    execute(hook, MOOD)
    known = [example for example in EXAMPLES if has(hook, example)]
    assert {example.type for example in EXAMPLES} - {example.type for example in known} <= {
        "BIGNUM", "VARIANT", "GEOMETRY",
    }  # fmt: skip
    values = ", ".join(f"({example.value})::{example.type} AS c{n}" for n, example in enumerate(known))
    model, (row,) = read(hook, f"SELECT {values}")
    for number, example in enumerate(known):
        assert outcome(model.columns, row, f"c{number}") == example.sent, example


def test_the_page_lists_the_types() -> None:
    """One table is what the tests read and what is documented."""
    assert list(documented("duckdb.md")) == lines(EXAMPLES)


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_a_value_of_each_type_is_unchanged_until_it_changes(hook: DbApiHook, compare: Compare) -> None:
    """Whoever compares; a null is no value of it."""
    execute(hook, MOOD)
    each_is_unchanged_until_it_changes(hook, compare, SENT)


@pytest.mark.parametrize("value", ["'infinity'", "'-infinity'", "'10000-01-01'", "'0044-03-15 (BC)'"])
@pytest.mark.parametrize("native", ["DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS"])
def test_what_cannot_be_read_costs_its_row_alone(hook: DbApiHook, native: str, value: str) -> None:
    """Wherever in a chunk it is; an infinite date is not the last one, or the first, which others have."""
    sql = (
        f"SELECT i AS id, CAST(CASE WHEN i % 1000 = 7 THEN {value} WHEN i % 2 = 0 THEN '9999-12-31' "
        f"ELSE '0001-01-01' END AS {native}) AS until FROM range(5000) AS r(i)"
    )
    _, rows = read(hook, sql)
    assert [number for number, found in rows if isinstance(found, Unreadable)] == [7, 1007, 2007, 3007, 4007]
    assert {found.year for _, found in rows if not isinstance(found, Unreadable)} == {1, 9999}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Lima"])
def test_the_zone_of_the_session_is_no_matter(hook: DbApiHook, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instant is read in UTC, for in another zone it may lie beyond the years that Python has."""
    sql = "SELECT '9999-12-31 23:59:59+00:00'::TIMESTAMPTZ AS last, '0001-01-01 00:00:00+00:00'::TIMESTAMPTZ AS first"
    connect = type(hook).get_conn

    def in_zone(self: Any) -> Any:
        connection = connect(self)
        connection.execute(f"SET GLOBAL TimeZone = '{zone}'")
        return connection

    monkeypatch.setattr(type(hook), "get_conn", in_zone)
    _, (row,) = read(hook, sql)
    last = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    assert row == (last, datetime.datetime(1, 1, 1, tzinfo=datetime.UTC))


def test_what_is_no_query_by_itself_is_read_as_it_is(hook: DbApiHook) -> None:
    """A call cannot be described, so that its columns have no types."""
    model, rows = read(hook, "CALL range(3)")
    assert rows == [(0,), (1,), (2,)]
    assert [column.kind for column in model.columns.types] == [Kind.UNKNOWN]


def test_names_and_parameters_stay_as_they_are(hook: DbApiHook) -> None:
    """Also where the query is read through another one."""
    model = Model(hook, 'SELECT ?::DATE AS "a ""day""", 1 AS "DATE" -- done', ["infinity"])
    ((day, one),) = [row for chunk in model.chunks() for row in chunk]
    assert (isinstance(day, Unreadable), one, tuple(model.columns)) == (True, 1, ('a "day"', "DATE"))
    with pytest.raises(Exception, match="several columns named a"):
        read(hook, "SELECT DATE '2026-05-31' AS a, 2 AS a")
