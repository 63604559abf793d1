from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

import pytest

from airflow_provider_iterable.columns import Kind
from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.sql.databases import snowflake
from airflow_provider_iterable.sql.model import Model
from tests.sql.test_model import FakeCursor
from tests.sql.typed import Returned, compare, description_of, hook_of, judge, mapped

PLACE = "ST_ASGEOJSON(c)"
POINT = '{"coordinates": [1, 2], "type": "Point"}'


def number(scale: int) -> tuple[Any, ...]:
    """Return what the description of a number says after its name."""
    return (0, None, None, 10, scale)


EXAMPLES = [
    Returned("NUMBER", number(0), 42, "42"),
    Returned("NUMBER(10,2)", number(2), Decimal("1.50"), "1.5"),
    Returned("FLOAT", 1, 1.5, "1.5"),
    Returned("VARCHAR", 2, "text", '"text"'),
    Returned("BOOLEAN", 13, True, "true"),
    Returned("DATE", 3, date(2026, 5, 31), '"2026-05-31"'),
    Returned("TIME", 12, time(18, 20), '"18:20:00"'),
    Returned("TIMESTAMP_NTZ", 8, datetime(2026, 5, 31, 18, 20), '"2026-05-31 18:20:00 +00:00"'),
    Returned("TIMESTAMP_LTZ", 6, datetime(2026, 5, 31, 18, 20, tzinfo=UTC), '"2026-05-31 18:20:00 +00:00"'),
    Returned(
        "TIMESTAMP_TZ",
        7,
        datetime(2026, 5, 31, 18, 20, tzinfo=timezone(timedelta(hours=2))),
        '"2026-05-31 16:20:00 +00:00"',
    ),
    Returned("VARIANT", 5, '{\n  "a": [\n    1\n  ]\n}', '{"a":[1]}'),
    Returned("OBJECT", 9, '{\n  "a": 1\n}', '{"a":1}'),
    Returned("ARRAY", 10, "[\n  1,\n  2\n]", "[1,2]"),
    Returned("ARRAY(NUMBER)", 10, [1, 2], "[1,2]"),
    Returned("OBJECT(a NUMBER)", 9, {"a": 1}, '{"a":1}'),
    Returned("MAP(VARCHAR, NUMBER)", 17, {"a": 1}, '{"a":1}'),
    Returned("VECTOR(FLOAT, 2)", 16, [1.5, 2.5], "[1.5,2.5]"),
    Returned("GEOGRAPHY", 14, POINT, '{"coordinates":[1,2],"type":"Point"}'),
    Returned("GEOMETRY", 15, POINT, '{"coordinates":[1,2],"type":"Point"}'),
    Returned("INTERVAL YEAR TO MONTH", 19, "+1-02", '"+1-02"'),
    Returned("INTERVAL DAY TO SECOND", 20, timedelta(hours=26), '"26:00:00"'),
    Returned("BINARY", 11, b"x", "BASE64_ENCODE(c)", refused=True),
    Returned("FILE", 18, '{"STAGE": "s"}', "FL_GET_RELATIVE_PATH(c)", refused=True),
]
"""The page lists these in this order."""

OTHERS = [
    Returned("TIMESTAMP", 4, datetime(2026, 5, 31, 18, 20), '"2026-05-31 18:20:00 +00:00"'),
    Returned("undefined", 10, '[undefined, "undefined", "\\"undefined", 1]', '[null,"undefined","\\"undefined",1]'),
    Returned("JSON's null", 5, "null", "null"),
    Returned("a text", 5, '"red"', '"red"'),
    Returned("not a number", 5, '{"a": NaN}', "text that is not JSON", refused=True),
    Returned("well-known text", 14, "POINT(1 2)", PLACE, refused=True),
    Returned("well-known binary", 15, b"\x01", PLACE, refused=True),
    Returned("a map as text", 17, '{"a": 1}', '{"a":1}'),
    Returned("a map as pairs", 17, [("a", 1)], '{"a":1}'),
    Returned("a vector as text", 16, "[1.5]", "[1.5]"),
    Returned("a code that is not known yet", 99, "text", '"text"'),
    *(Returned(f"null of type {code}", code, None, "null") for code in range(21)),
]


def model_of(example: Returned) -> Model:
    """Return a model of the one value."""
    hook = hook_of("snowflake", [(example.value,)], description=[description_of("c", example.described)])
    return Model(hook, "SELECT 1")


@pytest.mark.parametrize("example", [*EXAMPLES, *OTHERS], ids=str)
def test_each_type_becomes_the_json_that_it_means(example: Returned) -> None:
    """What the connector returns is sent as what the column's type says."""
    judge(example, model_of(example))


@pytest.mark.parametrize(("scale", "kind"), [(0, Kind.INTEGER), (2, Kind.DECIMAL)])
def test_numbers_are_told_apart_by_their_decimal_places(scale: int, kind: Kind) -> None:
    """The connector has one code for both."""
    with model_of(Returned("NUMBER", number(scale), 1, "1")) as model:
        assert model.columns.types[0].kind is kind


def test_every_row_is_asked_for_before_the_query() -> None:
    """Whatever limit the account, the user or the session has: what is left out would be removed."""
    hook = hook_of("snowflake", description=[description_of("id", 0)])
    list(Model(hook, "SELECT 1 AS id"))
    asked = [said for said in hook.history if said.startswith("execute")]
    assert asked == ["execute ALTER SESSION SET ROWS_PER_RESULTSET = 0", "execute SELECT 1 AS id"]


def test_the_page_tells_what_each_type_becomes() -> None:
    """The table of types has the examples."""
    compare("snowflake.md", EXAMPLES, model_of)


@pytest.mark.skipif(not find_spec("snowflake"), reason="the connector comes with the dev extra")
def test_the_connectors_types_are_all_known() -> None:
    """No code of the connector is left out, and none is taken for another type."""
    from snowflake.connector.constants import FIELD_ID_TO_NAME

    names = {"FIXED": "NUMBER", "REAL": "FLOAT", "TEXT": "VARCHAR", "INTERVAL_YEAR_MONTH": "INTERVAL YEAR TO MONTH"}
    names["INTERVAL_DAY_TIME"] = "INTERVAL DAY TO SECOND"
    assert {code: names.get(name, name) for code, name in FIELD_ID_TO_NAME.items() if name} == {
        code: kind.native for code, kind in snowflake.TYPES.items()
    }


@pytest.mark.skipif(not find_spec("fakesnow"), reason="fakesnow comes with the dev extra")
def test_a_variant_is_no_text() -> None:
    """Through the connector's own cursor, semi-structured columns are objects and lists."""
    import fakesnow

    class Hook(type(hook_of("", description=()))):  # type: ignore[misc]
        def get_conn(self) -> Any:
            import snowflake.connector

            return snowflake.connector.connect(database="d", schema="s")

    hook = Hook()
    hook.conn_type = "snowflake"
    sql = """SELECT 7 AS n, PARSE_JSON('{"a": [1, {"b": null}]}') AS v, OBJECT_CONSTRUCT('k', 1) AS o, 'text' AS t,
             1.50::NUMBER(10,2) AS d"""
    with fakesnow.patch():
        found = mapped(Model(hook, sql))
    assert found == {"N": "7", "V": '{"a": [1, {"b": null}]}', "O": '{"k": 1}', "T": '"text"', "D": "1.5"}


@pytest.mark.skipif(not find_spec("fakesnow"), reason="fakesnow, which has pyarrow, comes with the dev extra")
@pytest.mark.parametrize(
    ("other", "told"),
    [
        (2, "its only column of dates: C (DATE). Whether"),
        (3, "one of its columns of dates: C (DATE), OTHER (DATE). Whether"),
    ],
)
def test_a_date_beyond_the_years_of_python_tells_its_column(other: int, told: str) -> None:
    """The connector's own reader of rows fails on it, and says neither which row nor which column."""
    import io

    import pyarrow as pa
    from snowflake.connector.arrow_context import ArrowConverterContext
    from snowflake.connector.nanoarrow_arrow_iterator import PyArrowRowIterator

    field = pa.field("C", pa.date32(), metadata={"logicalType": "DATE"})
    sent = io.BytesIO()
    with pa.ipc.new_stream(sent, pa.schema([field])) as stream:
        stream.write_batch(
            pa.record_batch([pa.array([0, 2932897], pa.int32()).cast(pa.date32())], schema=pa.schema([field]))
        )
    rows = PyArrowRowIterator(None, sent.getvalue(), ArrowConverterContext({}), False, False, False, True)

    class Cursor(FakeCursor):
        def fetchmany(self, size: int) -> Any:
            return [next(rows)]

    hook = hook_of("snowflake", description=())
    hook.opened.only = Cursor([], [], [description_of("C", 3), description_of("OTHER", other)])
    with pytest.raises(ModelError, match=r"CASE WHEN year\(C\) BETWEEN 1 AND 9999 THEN C END") as caught:
        list(Model(hook, "SELECT 1"))
    assert told in str(caught.value)
