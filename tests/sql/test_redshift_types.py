from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.sql.databases import redshift
from airflow_provider_iterable.sql.model import Model
from tests.sql.test_model import FakeHook
from tests.sql.typed import Returned, compare, description_of, judge


class Interval:
    """An interval, as redshift_connector has it."""

    def __repr__(self) -> str:
        return "<Interval 14 months 0 days 0 microseconds>"


class Session:
    """A Redshift session as redshift_connector has it: a connection, and a cursor that fetches all of each result."""

    def __init__(self, description: list[Any], rows: list[list[Any]]) -> None:
        self.columns, self.rows = description, rows
        self.autocommit = True
        self.statements: list[Any] = []
        self.description: list[Any] | None = None
        self.answer: list[Any] = []
        self.declared = False
        self.closed = False

    def cursor(self) -> Session:
        """Return the cursor, which is this one."""
        return self

    def execute(self, sql: str, *parameters: Any) -> None:
        """Answer a statement."""
        self.statements.append((sql, *parameters))
        if sql.startswith("DECLARE "):
            assert not self.autocommit, "a cursor lives in a transaction"
            self.declared = True
        elif found := re.fullmatch(r"FETCH FORWARD (\d+) FROM \w+", sql):
            assert self.declared
            assert int(found[1]) <= 1000, "a cluster of one node gives no more"
            self.description = self.columns
            self.answer, self.rows = self.rows[: int(found[1])], self.rows[int(found[1]) :]
        elif "pg_type" in sql:
            names = {5555: "hllsketch", 6666: "newtype"}
            self.answer = [[number, name] for number, name in names.items() if str(number) in sql]

    def fetchall(self) -> Any:
        """Return what was answered, as tuples of lists."""
        return tuple(self.answer)

    def rollback(self) -> None:
        """End the transaction."""
        self.declared = False

    def close(self) -> None:
        """Note the closing."""
        self.closed = True


def model_of(session: Session, sql: str = "SELECT 1", parameters: Any = None, chunk_size: int = 2000) -> Model:
    """Return a model that is read in the session."""

    class Hook(FakeHook):
        conn_type = "redshift"

        def get_conn(self) -> Any:
            return session

    return Model(Hook(), sql, parameters, chunk_size)


PLACE = "JSON_PARSE(ST_AsGeoJSON(c))"
TEXT = "c::varchar"
EXAMPLES = [
    Returned("BOOLEAN", 16, True, "true"),
    Returned("SMALLINT", 21, 42, "42"),
    Returned("INTEGER", 23, 42, "42"),
    Returned("BIGINT", 20, 42, "42"),
    Returned("REAL", 700, 1.5, "1.5"),
    Returned("DOUBLE PRECISION", 701, 1.5, "1.5"),
    Returned("NUMERIC", 1700, Decimal("1.50"), "1.5"),
    Returned("VARCHAR", 1043, "text", '"text"'),
    Returned("CHAR", 1042, "text", '"text"'),
    Returned("TEXT", 25, "text", '"text"'),
    Returned("DATE", 1082, date(2026, 5, 31), '"2026-05-31"'),
    Returned("TIME", 1083, time(18, 20), '"18:20:00"'),
    Returned("TIMETZ", 1266, time(18, 20, tzinfo=UTC), '"18:20:00+00:00"'),
    Returned("TIMESTAMP", 1114, datetime(2026, 5, 31, 18, 20), '"2026-05-31 18:20:00 +00:00"'),
    Returned("TIMESTAMPTZ", 1184, datetime(2026, 5, 31, 18, 20, tzinfo=UTC), '"2026-05-31 18:20:00 +00:00"'),
    Returned("SUPER", 4000, '{"a":[1]}', '{"a":[1]}'),
    Returned("INTERVAL YEAR TO MONTH", 1188, Interval(), TEXT, refused=True),
    Returned("INTERVAL DAY TO SECOND", 1190, Interval(), TEXT, refused=True),
    Returned("VARBYTE", 6551, "78", "from_varbyte(c, 'hex')", refused=True),
    Returned("GEOMETRY", 3000, "0101", PLACE, refused=True),
    Returned("GEOGRAPHY", 3001, "0101", PLACE, refused=True),
    Returned("HLLSKETCH", 5555, '{"version":1}', "HLL_CARDINALITY(c)", refused=True),
]
"""The page lists these in this order."""

OTHERS = [
    Returned("GEOMETRY in hexadecimal", 3999, "0101", PLACE, refused=True),
    Returned("a literal", 705, "text", '"text"'),
    Returned("a text in SUPER", 4000, '"red"', '"red"'),
    Returned("an array in SUPER", 4000, "[1,2]", "[1,2]"),
    Returned("a type that is not known yet", 6666, "text", '"text"'),
    Returned("a type that the catalog does not have", 7777, "text", '"text"'),
    *(Returned(f"null of type {number}", number, None, "null") for number in [*redshift.TYPES, 5555]),
]


@pytest.mark.parametrize("example", [*EXAMPLES, *OTHERS], ids=str)
def test_each_type_becomes_the_json_that_it_means(example: Returned) -> None:
    """What the driver returns is sent as what the column's type says."""
    judge(example, model_of(Session([description_of("c", example.described)], [[example.value]])))


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 1001, 2500])
@pytest.mark.parametrize("size", [1, 700, 1000, 2000])
def test_rows_are_fetched_from_a_cursor_in_the_database(rows: int, size: int) -> None:
    """Each row is read once, whatever the chunks, and no answer has more than a thousand."""
    session = Session([description_of("id", 23)], [[number] for number in range(rows)])
    chunks = list(model_of(session, "SELECT id FROM t;", chunk_size=size).chunks())
    assert [row for chunk in chunks for row in chunk] == [(number,) for number in range(rows)]
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert session.statements[0] == ("DECLARE airflow_provider_iterable CURSOR FOR\nSELECT id FROM t",)
    assert len(session.statements) == 2 + rows // 1000
    assert session.closed
    assert not session.declared


def test_a_chunk_is_all_that_is_held() -> None:
    """Rows that were not asked for stay in the database, but for those of the last answer."""
    session = Session([description_of("id", 23)], [[number] for number in range(10_000)])
    chunks = model_of(session, chunk_size=10).chunks()
    for _ in range(100):
        next(chunks)
    assert len(session.rows) == 9000
    next(chunks)
    assert len(session.rows) == 8000
    chunks.close()  # type: ignore[attr-defined]


def test_parameters_are_bound_where_the_cursor_is_declared() -> None:
    """Parameters go with the statement that has their places."""
    session = Session([description_of("id", 23)], [[1]])
    list(model_of(session, "SELECT id FROM t WHERE id > %s", [5]))
    assert [statement for statement in session.statements if len(statement) > 1] == [
        ("DECLARE airflow_provider_iterable CURSOR FOR\nSELECT id FROM t WHERE id > %s", [5])
    ]


@pytest.mark.parametrize("sql", ["SELECT 1", "-- who\nWITH x AS (SELECT 1) SELECT * FROM x", "/* a */ (SELECT 1)"])
def test_queries_are_declared(sql: str) -> None:
    """What selects is read, comments before it or not."""
    assert list(model_of(Session([description_of("id", 23)], [[1]]), sql)) == [(1,)]


@pytest.mark.parametrize("sql", ["SHOW TABLES", "-- a procedure\nCALL people()", "exec_all"])
def test_what_is_no_query_is_told_apart(sql: str) -> None:
    """A cursor takes nothing but queries, and the message says so before the database is asked."""
    session = Session([], [])
    with pytest.raises(ModelError, match=r"begins with [A-Z_]+\. On Redshift a model .* SELECT or WITH"):
        list(model_of(session, sql))
    assert not session.statements
    assert session.closed


def test_the_page_tells_what_each_type_becomes() -> None:
    """The table of types has the examples, and every type is among them."""
    compare(
        "redshift.md",
        EXAMPLES,
        lambda example: model_of(Session([description_of("c", example.described)], [[example.value]])),
    )
    names = {kind.native for kind in (*redshift.TYPES.values(), *redshift.NAMED.values())}
    assert names - {"char", "name", "oid", "unknown"} == {example.name for example in EXAMPLES}
