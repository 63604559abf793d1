"""Trino, by trino-python-client."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_iterable.api.values import BadValue, names_of
from airflow_provider_iterable.columns import UNKNOWN, ColumnType, Kind, json_text, refused
from airflow_provider_iterable.sql.databases.driver import Driver

Load = Callable[[Any], Any]

_CAST = "cast it in the model's SQL, as in CAST(c AS varchar)"
_ROW = "name its fields in the model's SQL, as in CAST(c AS ROW(street varchar, city varchar)), or CAST(c AS JSON)"
_PLACE = "have the model's SQL make JSON of it, as in json_parse(to_geojson_geometry(to_spherical_geography(c)))"


def _opaque(name: str, remedy: str = _CAST) -> ColumnType:
    return ColumnType(Kind.UNKNOWN, name, refused(name, remedy))


_SKETCH = "take what is needed of it in the model's SQL, as in cardinality(c)"
_DIGEST = "take what is needed of it in the model's SQL, as in value_at_quantile(c, 0.5)"
TYPES: Mapping[str, ColumnType] = {
    "boolean": ColumnType(Kind.BOOLEAN, "boolean"),
    "tinyint": ColumnType(Kind.INTEGER, "tinyint"),
    "smallint": ColumnType(Kind.INTEGER, "smallint"),
    "integer": ColumnType(Kind.INTEGER, "integer"),
    "bigint": ColumnType(Kind.INTEGER, "bigint"),
    "real": ColumnType(Kind.DOUBLE, "real"),
    "double": ColumnType(Kind.DOUBLE, "double"),
    "decimal": ColumnType(Kind.DECIMAL, "decimal"),
    "number": ColumnType(Kind.DECIMAL, "number"),
    "varchar": ColumnType(Kind.TEXT, "varchar"),
    "char": ColumnType(Kind.TEXT, "char"),
    "date": ColumnType(Kind.DATE, "date"),
    "time": ColumnType(Kind.TIME, "time"),
    "time with time zone": ColumnType(Kind.TIME, "time with time zone"),
    "timestamp": ColumnType(Kind.TIMESTAMP, "timestamp"),
    "timestamp with time zone": ColumnType(Kind.INSTANT, "timestamp with time zone"),
    "interval day to second": ColumnType(Kind.INTERVAL, "interval day to second"),
    "json": ColumnType(Kind.JSON, "json", json_text),
    "uuid": ColumnType(Kind.UUID, "uuid"),
    "ipaddress": ColumnType(Kind.TEXT, "ipaddress"),
    "varbinary": ColumnType(
        Kind.BYTES, "varbinary", refused("varbinary", "encode it in the model's SQL, as in to_base64(c)")
    ),
    "interval year to month": _opaque("interval year to month"),
    "hyperloglog": _opaque("HyperLogLog", _SKETCH),
    "p4hyperloglog": _opaque("P4HyperLogLog", _SKETCH),
    "setdigest": _opaque("SetDigest", _SKETCH),
    "qdigest": _opaque("qdigest", _DIGEST),
    "tdigest": _opaque("tdigest", _DIGEST),
    "geometry": _opaque("Geometry", _PLACE),
    "sphericalgeography": _opaque(
        "SphericalGeography", "have the model's SQL make JSON of it, as in json_parse(to_geojson_geometry(c))"
    ),
}
"""Types by name, without lengths and precisions; arrays, maps and rows are made of them."""

_LENGTHS = re.compile(r"\s*\([\d, ]*\)")
_NAMED = re.compile(r'("(?:[^"]|"")*"|[^\s"(),]+)\s+(\S.*)', re.DOTALL)
"""A field of a row: its name and its type."""
_OF_SEVERAL_WORDS = re.compile(r"(time|timestamp) with(out)? time zone|interval (year to month|day to second)")
_WITHIN = {"array": 1, "map": 2}


def _column_type(text: str) -> ColumnType:
    """Return the type that a description names."""
    head, opened, rest = text.strip().partition("(")
    name, inner = head.strip().lower(), rest.rpartition(")")[0]
    if not opened or name not in ("array", "map", "row"):
        return TYPES.get(_LENGTHS.sub("", text).strip().lower(), TYPES.get(name, UNKNOWN))
    parts = _split(inner)
    if name == "row":
        fields = [_field(part) for part in parts]
        return ColumnType(Kind.STRUCT, "row", _row([name for name, _ in fields], [kind for _, kind in fields]))
    kinds = [_column_type(part) for part in parts]
    if len(kinds) != _WITHIN[name]:
        return UNKNOWN
    load = kinds[-1].load
    if name == "array":
        return ColumnType(Kind.ARRAY, f"array({kinds[0].native})", load and _each(load))
    return ColumnType(Kind.MAP, "map", load and _members(load))


def _split(text: str) -> list[str]:
    """Split a list at the commas that are within no parentheses and no quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted:
            depth += (character == "(") - (character == ")")
            if character == "," and depth == 0:
                parts.append(text[start:position])
                start = position + 1
    return [part.strip() for part in (*parts, text[start:])]


def _field(text: str) -> tuple[str | None, ColumnType]:
    """Return name and type of a field of a row; it need not have a name."""
    found = _NAMED.fullmatch(text)
    if found is None or _OF_SEVERAL_WORDS.fullmatch(_LENGTHS.sub("", text).lower()):
        return None, _column_type(text)
    name, kind = found.groups()
    return name[1:-1].replace('""', '"') if name.startswith('"') else name, _column_type(kind)


def _each(load: Load) -> Load:
    return lambda values: [None if value is None else load(value) for value in values]


def _members(load: Load) -> Load:
    return lambda values: {key: None if value is None else load(value) for key, value in values.items()}


def _row(names: Sequence[str | None], kinds: Sequence[ColumnType]) -> Load:
    """Return what makes an object of a row.

    The names are those that the client has with the value; where it has none, as for a client that makes plain lists,
    those of the type.
    """

    def load(values: Any) -> Any:
        told = names_of(values) or names
        if len(told) != len(values) or None in told or max(Counter(told).values()) > 1:
            raise BadValue(f"a row whose fields have no names of their own; {_ROW}")
        return {
            name: value if value is None or kind.load is None else kind.load(value)
            for name, value, kind in zip(told, values, kinds, strict=True)
        }

    return load


def _types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    return [_column_type(str(column[1])) for column in cursor.description or ()]


TRINO = Driver(types=_types)
