"""The types of Postgres: those that are known by number, and what the catalog says of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_iterable.columns import ColumnType, Kind, loaded, refused
from airflow_provider_iterable.engine.vocabulary import Row

JSON, JSONB = 114, 3802

_KINDS: Mapping[int, tuple[str, Kind]] = {
    16: ("boolean", Kind.BOOLEAN),
    17: ("bytea", Kind.BYTES),
    18: ("char", Kind.TEXT),
    19: ("name", Kind.TEXT),
    20: ("bigint", Kind.INTEGER),
    21: ("smallint", Kind.INTEGER),
    23: ("integer", Kind.INTEGER),
    25: ("text", Kind.TEXT),
    26: ("oid", Kind.INTEGER),
    JSON: ("json", Kind.JSON),
    700: ("real", Kind.DOUBLE),
    701: ("double precision", Kind.DOUBLE),
    1042: ("character", Kind.TEXT),
    1043: ("character varying", Kind.TEXT),
    1082: ("date", Kind.DATE),
    1083: ("time", Kind.TIME),
    1114: ("timestamp", Kind.TIMESTAMP),
    1184: ("timestamptz", Kind.INSTANT),
    1186: ("interval", Kind.INTERVAL),
    1266: ("timetz", Kind.TIME),
    1560: ("bit", Kind.BITS),
    1562: ("bit varying", Kind.BITS),
    1700: ("numeric", Kind.DECIMAL),
    2950: ("uuid", Kind.UUID),
    JSONB: ("jsonb", Kind.JSON),
}
"""Types by number; the others are looked up."""
BEYOND = {
    1082: "a date beyond the years 1 to 9999",
    1083: "a time beyond 23:59:59",
    1114: "a date beyond the years 1 to 9999",
    1184: "a date beyond the years 1 to 9999",
    1186: "an interval beyond 999999999 days",
    1266: "a time beyond 23:59:59, or with an odd zone",
}
"""What a value of a type is if Python has no room for it."""
TEXTS = tuple(oid for oid, (_, kind) in _KINDS.items() if kind is Kind.TEXT)
_GEOMETRIC = frozenset({600, 601, 602, 603, 604, 628, 718})
"""Points, segments, paths, boxes, polygons, lines and circles, whose text is a notation of Postgres' own."""
_SPATIAL = frozenset({"geometry", "geography"})
"""PostGIS' types, whose numbers are other ones in each database."""

_LOOK_UP = (
    "SELECT oid::int8, typname::text, typtype::text, typinput = 'pg_catalog.array_in'::regproc, typelem::int8, "
    "typbasetype::int8, typrelid::int8, typarray::int8 FROM pg_catalog.pg_type WHERE oid IN ({})"
)
_ATTRIBUTES = (
    "SELECT attname::text, atttypid::int8 FROM pg_catalog.pg_attribute "
    "WHERE attrelid = {} AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
_CAST = "cast it to text or JSON in the model's SQL, as in c::text or to_jsonb(c)"
_REMEDIES = {
    "bytea": "encode it in the model's SQL, as in encode(c, 'base64')",
    "geometry": "have the model's SQL make JSON of it, as in ST_AsGeoJSON(c)::json",
    "geography": "have the model's SQL make JSON of it, as in ST_AsGeoJSON(c)::json",
    "record": "have the model's SQL make JSON of it, as in jsonb_build_object('a', a, 'b', b)",
}

Load = Callable[[Any], Any]


@dataclass(frozen=True)
class Type:
    """A type as the catalog has it.

    :param shape: what ``typtype`` says: ``b`` a base type, ``c`` a composite one, ``d`` a domain, ``e`` an enum
    :param is_array: whether its text is that of an array; ``int2vector`` has elements and is none
    :param attributes: name and type of each field of a composite type
    """

    oid: int
    name: str
    shape: str
    is_array: bool
    element: int
    base: int
    relation: int
    array: int
    attributes: Sequence[tuple[str, int]] = ()

    @property
    def parts(self) -> tuple[int, ...]:
        """The types that it is made of."""
        return (self.element, self.base, *(oid for _, oid in self.attributes))

    @property
    def is_hstore(self) -> bool:
        """Whether it is the extension's type, which has another number in each database."""
        return self.shape == "b" and self.name == "hstore"

    @property
    def is_nested(self) -> bool:
        """Whether its values hold others, or are those of another type."""
        return self.is_array or self.shape in ("c", "d") or self.is_hstore


Types = Mapping[int, Type]


def looked_up(find: Callable[[str], list[Row]], oids: Iterable[int]) -> dict[int, Type]:
    """Return types that are not known by number, and those they are made of.

    :param find: returns the rows of a query
    """
    found: dict[int, Type] = {}
    wanted = set(oids) - _KINDS.keys()
    while wanted:
        for row in find(_LOOK_UP.format(", ".join(map(str, sorted(wanted))))):
            kind = Type(*row)
            if kind.shape == "c":
                members = find(_ATTRIBUTES.format(kind.relation))
                kind = replace(kind, attributes=[(str(name), int(oid)) for name, oid in members])
            found[kind.oid] = kind
        parts = {oid for kind in found.values() for oid in kind.parts}
        wanted = parts - {0} - found.keys() - _KINDS.keys()
    return found


def kind_of(oid: int) -> Kind:
    """Return what a value of a type that is not nested is read as: text, where the number is not known."""
    return _KINDS[oid][1] if oid in _KINDS else Kind.TEXT


def leaves(oid: int, types: Types) -> set[int]:
    """Return the types, themselves not nested, of which values of a type consist."""
    kind = types.get(oid)
    if kind is None or not kind.is_nested:
        return {oid}
    return {leaf for part in kind.parts if part for leaf in leaves(part, types)}


def column_type(oid: int, types: Types) -> ColumnType:
    """Return what a column of a type holds, once it is read."""
    if oid in _KINDS:
        name, kind = _KINDS[oid]
        return ColumnType(kind, name, refused(name, _REMEDIES[name]) if kind is Kind.BYTES else None)
    found = types.get(oid)
    if found is None:
        return ColumnType(Kind.UNKNOWN)
    if found.is_array:
        element = column_type(found.element, types)
        return ColumnType(Kind.ARRAY, f"{element.native}[]", element.load and _each(element.load))
    match found.shape:
        case "d":
            return column_type(found.base, types)
        case "c":
            loads = {name: column_type(oid, types).load for name, oid in found.attributes}
            return ColumnType(Kind.STRUCT, found.name, _fields(loads) if any(loads.values()) else None)
        case "e":
            return ColumnType(Kind.ENUM, found.name)
        case "b" if oid not in _GEOMETRIC and found.name not in _SPATIAL:
            return ColumnType(Kind.MAP if found.is_hstore else Kind.TEXT, found.name)
    return ColumnType(Kind.UNKNOWN, found.name, refused(found.name, _REMEDIES.get(found.name, _CAST)))


def _each(load: Load) -> Load:
    """Return what loads the elements of an array of any dimensions."""

    def each(value: Any) -> Any:
        return loaded(value, each) if isinstance(value, list) else load(value)

    return each


def _fields(loads: Mapping[str, Load | None]) -> Load:
    def fields(value: Mapping[str, Any]) -> dict[str, Any]:
        return {name: loaded([field], loads[name])[0] for name, field in value.items()}

    return fields
