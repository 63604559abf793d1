from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.errors import ModelError, ModelUnavailable
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.tables.warehouse import Compare
from tests.sql.changes import each_is_unchanged_until_it_changes, run
from tests.sql.examples import REFUSED, Example, documented, lines, outcome
from tests.sql.test_model import execute
from tests.state.contract import fresh
from tests.state.test_table import sqlite_hook

NOT_UTF8 = "text that is not valid UTF-8"
EXAMPLES = [
    Example("TEXT", "'Ada'", '"Ada"', "string", "'Bob'"),
    Example("TEXT", "'2026-05-31 18:20:00'", '"2026-05-31 18:20:00"', "date", "'2026-06-01 00:00:00'"),
    Example("TEXT", "CAST(x'ff' AS TEXT)", f"{REFUSED}{NOT_UTF8}"),
    Example("INTEGER", "7", "7", "long", "8"),
    Example("REAL", "7", "7.0", "double", "8"),
    Example("REAL", "9e999", f"{REFUSED}number inf"),
    Example("NUMERIC", "7", "7", "long", "8"),
    Example("DECIMAL(12,2)", "7.5", "7.5", "double", "8"),
    Example("BOOLEAN", "true", "1", "long", "false"),
    Example("DATE", "'2026-05-31'", '"2026-05-31"', "date", "'2026-06-01'"),
    Example("JSON", """'{"b": 1}'""", '''"{\\"b\\": 1}"''', "string", "'[]'"),
    Example("BLOB", "x'00ff'", f"{REFUSED}a value of type bytes"),
]
"""A column takes values of other types than its own, and an expression has none: each value is what it is."""
SENT = [example for example in EXAMPLES if example.other]


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DbApiHook:
    """Return a hook of a database in a file."""
    return sqlite_hook(tmp_path, monkeypatch)


def test_each_value_is_sent_as_the_json_that_it_means(hook: DbApiHook) -> None:
    """The declared type only decides what a value is stored as."""
    columns = ", ".join(f"c{n} {example.type}" for n, example in enumerate(EXAMPLES))
    execute(hook, f"CREATE TABLE all_types ({columns})")
    execute(hook, f"INSERT INTO all_types VALUES ({', '.join(example.value for example in EXAMPLES)})")
    model = Model(hook, "SELECT * FROM all_types")
    ((row,),) = model.chunks()
    for number, example in enumerate(EXAMPLES):
        assert outcome(model.columns, row, f"c{number}") == example.sent, example


def test_the_page_lists_the_types() -> None:
    """One table is what the tests read and what is documented."""
    assert list(documented("sqlite.md")) == lines(EXAMPLES)


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_a_value_of_each_type_is_unchanged_until_it_changes(hook: DbApiHook, compare: Compare) -> None:
    """Whoever compares; a null is no value of it."""
    each_is_unchanged_until_it_changes(hook, compare, SENT)


@pytest.mark.parametrize("compare", ["worker", "database"])
def test_broken_text_costs_its_row_alone(hook: DbApiHook, compare: Compare) -> None:
    """Wherever it stands, in the key too, and nothing where it is not mapped; once it is mended, its row goes."""
    execute(hook, "CREATE TABLE all_types (id, email TEXT, t TEXT)")
    rows = ", ".join(f"({n}, 'u{n}@example.com', 't{n}')" for n in range(12))
    execute(hook, f"INSERT INTO all_types VALUES {rows}")
    execute(hook, "UPDATE all_types SET t = CAST(x'ff' || t AS TEXT) WHERE id IN (4, 5, 11)")
    execute(hook, "UPDATE all_types SET id = CAST(x'fe' AS TEXT) WHERE id = 7")
    sync_id, other = fresh(), fresh()
    for expected in (8, 0):
        plan = run(hook, sync_id, compare)
        assert plan.sends == expected
        invalid = sorted((outcome.key, outcome.reason, outcome.detail) for outcome in plan.invalid)
        said = [(f"[{n}]", Reason.INVALID_VALUE, f"field t: {NOT_UTF8}") for n in (11, 4, 5)]
        assert invalid == [("", Reason.INVALID_VALUE, f"primary key: {NOT_UTF8}"), *said]
    assert run(hook, other, compare, {}).sends == 11
    execute(hook, "UPDATE all_types SET t = 'mended' WHERE id = 5")
    assert [run(hook, sync_id, compare).sends for _ in range(2)] == [1, 0]


def test_rows_around_broken_text_are_neither_lost_nor_repeated(hook: DbApiHook) -> None:
    """The driver loses the rows of the batch in which it meets such a text."""
    broken = "CASE WHEN i IN (0, 4, 5, 6, 7, 13, 19) THEN CAST(x'ff' AS TEXT) ELSE 't' || i END"
    sql = f"WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r WHERE i < 19) SELECT i, {broken} AS t FROM r"
    for size in (1, 3, 7, 20, 100):
        rows = [row for chunk in Model(hook, sql, chunk_size=size).chunks() for row in chunk]
        assert [number for number, _ in rows] == list(range(20))
        assert [n for n, text in rows if isinstance(text, Unreadable)] == [0, 4, 5, 6, 7, 13, 19]


def test_another_error_in_the_midst_of_a_model_is_one(hook: DbApiHook) -> None:
    """After it the driver has no more rows, which is not to say that they left."""
    numbers = "WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r WHERE i < 19)"
    for first in ("'t'", "CAST(x'ff' AS TEXT)"):
        value = f"CASE WHEN i = 3 THEN {first} WHEN i = 9 THEN abs(i - 9223372036854775807 - 10) END"
        with pytest.raises(ModelError):
            list(Model(hook, f"{numbers} SELECT i, {value} AS t FROM r"))


def test_a_model_may_only_read(hook: DbApiHook) -> None:
    """A query that changes something is an error."""
    execute(hook, "CREATE TABLE seen (id)")
    with pytest.raises((ModelError, ModelUnavailable)):
        list(Model(hook, "INSERT INTO seen VALUES (1) RETURNING id"))
    assert list(Model(hook, "SELECT * FROM seen")) == []


def test_rows_are_plain_whatever_the_connection_makes(hook: DbApiHook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook of one's own may have rows with names."""
    connect = type(hook).get_conn

    def named(self: Any) -> Any:
        connection = connect(self)
        connection.row_factory = sqlite3.Row
        return connection

    monkeypatch.setattr(type(hook), "get_conn", named)
    assert list(Model(hook, "SELECT 1 AS a")) == [(1,)]
