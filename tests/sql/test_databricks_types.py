from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_iterable.sql.databases import databricks
from airflow_provider_iterable.sql.model import Model
from tests.sql.typed import Returned, compare, description_of, hook_of, judge


class Numpy:
    """What pandas makes of an array: numpy's, which knows the list that it is."""

    dtype = "object"

    def __init__(self, *values: Any) -> None:
        self.values = values

    def tolist(self) -> list[Any]:
        """Return a list; arrays within it stay arrays."""
        return list(self.values)


PLACE = "parse_json(st_asgeojson(c))"
EXAMPLES = [
    Returned("BOOLEAN", "boolean", True, "true"),
    Returned("TINYINT", "tinyint", 42, "42"),
    Returned("SMALLINT", "smallint", 42, "42"),
    Returned("INT", "int", 42, "42"),
    Returned("BIGINT", "bigint", 42, "42"),
    Returned("FLOAT", "float", 1.5, "1.5"),
    Returned("DOUBLE", "double", 1.5, "1.5"),
    Returned("DECIMAL(10,2)", "decimal", Decimal("1.50"), "1.5"),
    Returned("STRING", "string", "text", '"text"'),
    Returned("VARCHAR(9)", "varchar", "text", '"text"'),
    Returned("CHAR(4)", "char", "text", '"text"'),
    Returned("DATE", "date", date(2026, 5, 31), '"2026-05-31"'),
    Returned("TIMESTAMP", "timestamp", datetime(2026, 5, 31, 18, 20, tzinfo=UTC), '"2026-05-31 18:20:00 +00:00"'),
    Returned("TIMESTAMP_NTZ", "timestamp_ntz", datetime(2026, 5, 31, 18, 20), '"2026-05-31 18:20:00 +00:00"'),
    Returned("INTERVAL YEAR TO MONTH", "interval_year_month", "1-2", '"1-2"'),
    Returned("INTERVAL DAY TO SECOND", "interval_day_time", "1 02:00:00.000000000", '"1 02:00:00.000000000"'),
    Returned("ARRAY<INT>", "array", [1, None], "[1,null]"),
    Returned("STRUCT<a: INT>", "struct", {"a": 1}, '{"a":1}'),
    Returned("MAP<STRING, INT>", "map", [("a", 1), ("b", None)], '{"a":1,"b":null}'),
    Returned("VARIANT", "variant", '{"a":[1]}', '{"a":[1]}'),
    Returned("BINARY", "binary", b"x", "base64(c)", refused=True),
    Returned("GEOGRAPHY", "geography", "SRID=4326;POINT(1 2)", PLACE, refused=True),
    Returned("GEOMETRY", "geometry", "POINT(1 2)", PLACE, refused=True),
]
"""The page lists these in this order."""

NESTED = [{"a": 1, "m": [("k", Numpy(1, 2))], "d": date(2026, 5, 31)}]
OTHERS = [
    Returned("numpy's arrays", "array", Numpy(Numpy(1, 2), Numpy()), "[[1,2],[]]"),
    Returned("structs in an array", "array", Numpy(*NESTED), '[{"a":1,"m":{"k":[1,2]},"d":"2026-05-31"}]'),
    Returned("maps in a struct", "struct", NESTED[0], '{"a":1,"m":{"k":[1,2]},"d":"2026-05-31"}'),
    Returned("keys that are numbers", "map", [(1, {"x": Numpy("y")})], '{"1":{"x":["y"]}}'),
    Returned("an empty map", "map", [], "{}"),
    Returned("an empty array", "array", [], "[]"),
    Returned("an array as text", "array", "[1,2]", "[1,2]"),
    Returned("a struct as text", "struct", '{"a":1}', '{"a":1}'),
    Returned("a map as text", "map", '{"a":1}', '{"a":1}'),
    Returned("an interval as a duration", "interval_day_time", timedelta(hours=26), '"26:00:00"'),
    Returned("interval", "interval", "1-2", '"1-2"'),
    Returned("a type with its parts", "array<struct<a:int>>", Numpy({"a": 1}), '[{"a":1}]'),
    Returned("a type that is not known yet", "void", "text", '"text"'),
    *(Returned(f"null of type {name}", name, None, "null") for name in databricks.TYPES),
]


def model_of(example: Returned) -> Model:
    """Return a model of the one value."""
    hook = hook_of("databricks", [(example.value,)], description=[description_of("c", example.described)])
    return Model(hook, "SELECT 1")


@pytest.mark.parametrize("example", [*EXAMPLES, *OTHERS], ids=str)
def test_each_type_becomes_the_json_that_it_means(example: Returned) -> None:
    """What the connector returns is sent as what the column's type says."""
    judge(example, model_of(example))


@pytest.mark.parametrize(("name", "asked"), [("array", True), ("map", True), ("struct", True), ("int", False)])
def test_integers_beside_nulls_stay_integers(name: str, asked: bool) -> None:
    """Where there are arrays, the connector is asked not to go by way of pandas, which has no nulls among integers."""
    hook = hook_of("databricks", description=[description_of("c", name)])
    hook.opened.disable_pandas = False  # type: ignore[attr-defined]
    with Model(hook, "SELECT 1"):
        assert hook.opened.disable_pandas is asked  # type: ignore[attr-defined]


def test_the_page_tells_what_each_type_becomes() -> None:
    """The table of types has the examples."""
    compare("databricks.md", EXAMPLES, model_of)
    assert {str(example.described) for example in EXAMPLES} == databricks.TYPES.keys() - {"interval"}
