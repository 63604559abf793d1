from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from airflow_provider_iterable.errors import ModelError, ModelUnavailable
from airflow_provider_iterable.sql.databases import trino
from airflow_provider_iterable.sql.model import Model
from tests.sql.test_model import FakeCursor
from tests.sql.typed import Returned, compare, description_of, hook_of, judge


class Row(tuple[Any, ...]):
    """A row as the client has it: a tuple with its names among its annotations."""

    def __new__(cls, values: list[Any], names: list[str | None]) -> Row:
        """Return the row."""
        row = super().__new__(cls, values)
        row.__annotations__ = {"names": names, "types": ["varchar"] * len(names)}
        return row

    def __repr__(self) -> str:
        names = self.__annotations__["names"]
        told = (f"{name}: {value!r}" if name else repr(value) for name, value in zip(names, self, strict=True))
        return f"({', '.join(told)})"

    def __getattr__(self, name: str) -> Any:
        """Return nothing for what is no field, as the client does."""
        return None


class Months:
    """An interval of years and months, as the client has it."""

    def __repr__(self) -> str:
        return "relativedelta(years=+1, months=+2)"


ADDRESS = Row(["Main St", "Springfield"], ["street", "city"])
OBJECT = '{"street":"Main St","city":"Springfield"}'
ROW = "row(street varchar, city varchar)"
NAMES = "CAST(c AS ROW(street varchar, city varchar)), or CAST(c AS JSON)"
SKETCH = "cardinality(c)"
DIGEST = "value_at_quantile(c, 0.5)"
CAST = "CAST(c AS varchar)"
BERLIN = timezone(timedelta(hours=2))

EXAMPLES = [
    Returned("boolean", "boolean", True, "true"),
    Returned("tinyint", "tinyint", 42, "42"),
    Returned("smallint", "smallint", 42, "42"),
    Returned("integer", "integer", 42, "42"),
    Returned("bigint", "bigint", 42, "42"),
    Returned("real", "real", 1.5, "1.5"),
    Returned("double", "double", 1.5, "1.5"),
    Returned("decimal(10,2)", "decimal(10, 2)", Decimal("1.50"), "1.5"),
    Returned("number", "number", Decimal("1.50"), "1.5"),
    Returned("varchar", "varchar", "text", '"text"'),
    Returned("char(4)", "char(4)", "text", '"text"'),
    Returned("date", "date", date(2026, 5, 31), '"2026-05-31"'),
    Returned("time", "time(3)", time(18, 20), '"18:20:00"'),
    Returned("time with time zone", "time(3) with time zone", time(18, 20, tzinfo=UTC), '"18:20:00+00:00"'),
    Returned("timestamp", "timestamp(3)", datetime(2026, 5, 31, 18, 20), '"2026-05-31 18:20:00 +00:00"'),
    Returned(
        "timestamp with time zone",
        "timestamp(3) with time zone",
        datetime(2026, 5, 31, 18, 20, tzinfo=BERLIN),
        '"2026-05-31 16:20:00 +00:00"',
    ),
    Returned("interval day to second", "interval day to second", timedelta(hours=26), '"26:00:00"'),
    Returned("json", "json", '{"a":[1]}', '{"a":[1]}'),
    Returned("uuid", "uuid", UUID("12151fd2-7586-11e9-8f9e-2a86e4085a59"), '"12151fd2-7586-11e9-8f9e-2a86e4085a59"'),
    Returned("ipaddress", "ipaddress", "10.0.0.1", '"10.0.0.1"'),
    Returned(ROW, ROW, ADDRESS, OBJECT),
    Returned(f"array({ROW})", f"array({ROW})", [ADDRESS, None], f"[{OBJECT},null]"),
    Returned("map(varchar, integer)", "map(varchar, integer)", {"a": 1}, '{"a":1}'),
    Returned("array(json)", "array(json)", ["[1]", None], "[[1],null]"),
    Returned("row(varchar, varchar)", "row(varchar, varchar)", Row(["a", "b"], [None, None]), NAMES, refused=True),
    Returned("varbinary", "varbinary", b"x", "to_base64(c)", refused=True),
    Returned("interval year to month", "interval year to month", Months(), CAST, refused=True),
    Returned("HyperLogLog", "HyperLogLog", "AgwB", SKETCH, refused=True),
    Returned("P4HyperLogLog", "P4HyperLogLog", "AgwB", SKETCH, refused=True),
    Returned("SetDigest", "SetDigest", "AgwB", SKETCH, refused=True),
    Returned("qdigest", "qdigest(bigint)", "AgwB", DIGEST, refused=True),
    Returned("tdigest", "tdigest", "AgwB", DIGEST, refused=True),
    Returned(
        "Geometry",
        "Geometry",
        "POINT (1 2)",
        "json_parse(to_geojson_geometry(to_spherical_geography(c)))",
        refused=True,
    ),
    Returned(
        "SphericalGeography", "SphericalGeography", "POINT (1 2)", "json_parse(to_geojson_geometry(c))", refused=True
    ),
]
"""The page lists these in this order."""

PARTS = 'row(at timestamp(3) with time zone, meta json, within row("a b" integer, n decimal(3, 1)))'
DEEP = f"map(integer, array({PARTS}))"
OTHERS = [
    Returned(
        "rows, JSON and maps within one another",
        DEEP,
        {
            1: [
                Row(
                    [datetime(2026, 5, 31, tzinfo=UTC), "[1]", Row([1, Decimal("1.5")], ["a b", "n"])],
                    ["at", "meta", "within"],
                )
            ]
        },
        '{"1":[{"at":"2026-05-31 00:00:00 +00:00","meta":[1],"within":{"a b":1,"n":1.5}}]}',
    ),
    Returned(
        "a row that comes as a list",
        PARTS,
        [None, None, [1, None]],
        '{"at":null,"meta":null,"within":{"a b":1,"n":null}}',
    ),
    Returned("names in quotes", 'row("a ""b"", c" varchar)', ["x"], '{"a \\"b\\", c":"x"}'),
    Returned(
        "a field named as a type",
        "row(date date, time time(3) with time zone)",
        [date(2026, 5, 31), None],
        '{"date":"2026-05-31","time":null}',
    ),
    Returned("a name that is not in quotes", "row(a b varchar)", Row(["x"], ["a b"]), '{"a b":"x"}'),
    Returned("an unnamed interval", "row(interval day to second)", [None], NAMES, refused=True),
    Returned("two fields of one name", "row(a integer, a integer)", Row([1, 2], ["a", "a"]), NAMES, refused=True),
    Returned("one field without a name", "row(a integer, integer)", Row([1, 2], ["a", None]), NAMES, refused=True),
    Returned(
        "unnamed types of several words",
        "row(timestamp(3) with time zone, interval day to second)",
        [None, None],
        NAMES,
        refused=True,
    ),
    Returned("rows without names in an array", "array(row(integer))", [Row([1], [None])], NAMES, refused=True),
    Returned("binaries in a map", "map(varchar, varbinary)", {"a": b"x"}, "to_base64(c)", refused=True),
    Returned("no binary in a map", "map(varchar, varbinary)", {"a": None}, '{"a":null}'),
    Returned("a type that is not known yet", "color", "red", '"red"'),
    Returned("a row of a type that is not told", None, ADDRESS, OBJECT),
    *(Returned(f"null of type {name}", name, None, "null") for name in [*trino.TYPES, ROW, DEEP, "array(json)"]),
]


def model_of(example: Returned) -> Model:
    """Return a model of the one value."""
    hook = hook_of("trino", [[example.value]], description=[description_of("c", example.described)])
    return Model(hook, "SELECT 1")


@pytest.mark.parametrize("example", [*EXAMPLES, *OTHERS], ids=str)
def test_each_type_becomes_the_json_that_it_means(example: Returned) -> None:
    """What the client returns is sent as what the column's type says."""
    judge(example, model_of(example))


def test_the_page_tells_what_each_type_becomes() -> None:
    """The table of types has the examples, and every type is among them."""
    compare("trino.md", EXAMPLES, model_of)
    assert {kind.native for kind in trino.TYPES.values()} <= {
        example.name.partition("(")[0] for example in EXAMPLES if " with " not in example.name
    } | {example.name for example in EXAMPLES}


class TrinoDataError(Exception):
    """What the client raises for a value that Python has none for, which it quotes."""


@pytest.mark.parametrize("first", [True, False], ids=["while the query runs", "later"])
def test_a_date_beyond_the_years_of_python_tells_its_column(first: bool) -> None:
    """The client reads the first rows while it runs the query; the value is not told."""
    error = TrinoDataError("Could not convert '+10000-01-01' into the associated python type")
    hook = hook_of("trino", [(1, "a")], error, description=[("id", "bigint"), ("born", "date")])

    class Cursor(FakeCursor):
        def execute(self, sql: str, *parameters: object) -> None:
            if first:
                raise error

    hook.opened.only = Cursor(list(hook.opened.only.chunks), [], hook.opened.only.description)
    with pytest.raises(ModelError, match=r"its only column of dates: born \(date\)") as caught:
        list(Model(hook, "SELECT 1"))
    assert "CASE WHEN year(born) BETWEEN" in str(caught.value)
    assert "10000-01" not in str(caught.value)


def test_a_response_that_cannot_be_read_is_no_value() -> None:
    """Another try may read it."""
    hook = hook_of("trino", ValueError("Unexpected type"), description=[("born", "date")])
    with pytest.raises(ModelUnavailable):
        list(Model(hook, "SELECT 1"))
