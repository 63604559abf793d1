"""Databricks, by databricks-sql-connector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_iterable.columns import UNKNOWN, ColumnType, Kind, json_text, refused
from airflow_provider_iterable.sql.databases.driver import Driver


def _nested(value: Any) -> Any:
    """Return lists and objects of what Arrow makes of arrays, maps and structs, or of JSON text for them.

    The elements of a map arrive as pairs, which is what nothing else does.
    """
    if isinstance(value, str | bytes):
        return json_text(value)
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    if hasattr(value, "dtype"):  # an array of numpy, or a number of it
        value = value.tolist()
    if isinstance(value, list):
        if value and all(isinstance(element, tuple) and len(element) == 2 for element in value):
            return {key: _plain(member) for key, member in value}
        return [_plain(element) for element in value]
    return value


def _map(value: Any) -> Any:
    found = _nested(value)
    return found or {}  # an empty one looks like an empty array


def _place(name: str) -> ColumnType:
    return ColumnType(
        Kind.UNKNOWN, name, refused(name, "have the model's SQL make JSON of it, as in parse_json(st_asgeojson(c))")
    )


TYPES: Mapping[str, ColumnType] = {
    "boolean": ColumnType(Kind.BOOLEAN, "BOOLEAN"),
    "tinyint": ColumnType(Kind.INTEGER, "TINYINT"),
    "smallint": ColumnType(Kind.INTEGER, "SMALLINT"),
    "int": ColumnType(Kind.INTEGER, "INT"),
    "bigint": ColumnType(Kind.INTEGER, "BIGINT"),
    "float": ColumnType(Kind.DOUBLE, "FLOAT"),
    "double": ColumnType(Kind.DOUBLE, "DOUBLE"),
    "decimal": ColumnType(Kind.DECIMAL, "DECIMAL"),
    "string": ColumnType(Kind.TEXT, "STRING"),
    "varchar": ColumnType(Kind.TEXT, "VARCHAR"),
    "char": ColumnType(Kind.TEXT, "CHAR"),
    "date": ColumnType(Kind.DATE, "DATE"),
    "timestamp": ColumnType(Kind.INSTANT, "TIMESTAMP"),
    "timestamp_ntz": ColumnType(Kind.TIMESTAMP, "TIMESTAMP_NTZ"),
    "interval_year_month": ColumnType(Kind.INTERVAL, "INTERVAL YEAR TO MONTH"),
    "interval_day_time": ColumnType(Kind.INTERVAL, "INTERVAL DAY TO SECOND"),
    "interval": ColumnType(Kind.INTERVAL, "INTERVAL"),
    "array": ColumnType(Kind.ARRAY, "ARRAY", _nested),
    "struct": ColumnType(Kind.STRUCT, "STRUCT", _nested),
    "map": ColumnType(Kind.MAP, "MAP", _map),
    "variant": ColumnType(Kind.JSON, "VARIANT", json_text),
    "binary": ColumnType(Kind.BYTES, "BINARY", refused("BINARY", "encode it in the model's SQL, as in base64(c)")),
    "geography": _place("GEOGRAPHY"),
    "geometry": _place("GEOMETRY"),
}
"""Types by the names in the connector's descriptions."""


def _types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    names = [str(column[1]).lower().partition("<")[0].partition("(")[0].strip() for column in cursor.description or ()]
    types = [TYPES.get(name, UNKNOWN) for name in names]
    if any(found.kind in (Kind.ARRAY, Kind.STRUCT, Kind.MAP) for found in types):
        # By way of pandas, integers beside a null would be doubles, and the null not a number.
        connection.disable_pandas = True
    return types


DATABRICKS = Driver(types=_types)
