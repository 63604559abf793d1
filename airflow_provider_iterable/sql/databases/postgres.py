"""Postgres, by psycopg and by psycopg2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.columns import ColumnType, Kind, refused
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.sql.databases.driver import Driver

CURSOR = "airflow_provider_iterable"
"""The name of the cursor that stays in the database."""

_SESSION = (
    "SET TRANSACTION READ ONLY; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'; "
    "SET LOCAL client_encoding = 'UTF8'"
)
"""What the reading relies on, for one transaction: behind a pooler the session is somebody else's afterwards."""

_FIRST_VERSION = 9_00_00
"""The first version that knows all of it; Redshift, which is reached by the same drivers, says that it is 8.0."""

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
    114: ("json", Kind.JSON),
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
    3802: ("jsonb", Kind.JSON),
}
"""Types by number; the others are looked up."""
_BEYOND = {
    1082: "a date beyond the years 1 to 9999",
    1083: "a time beyond 23:59:59",
    1114: "a date beyond the years 1 to 9999",
    1184: "a date beyond the years 1 to 9999",
    1186: "an interval beyond 999999999 days",
    1266: "a time beyond 23:59:59, or with an odd zone",
}
"""What a value of a type is if Python has no room for it."""
_ARRAYS = {1082: 1182, 1083: 1183, 1114: 1115, 1184: 1185, 1186: 1187, 1266: 1270}
"""The arrays of these types."""
_NOT_UTF8 = "text that is not valid UTF-8"
_TEXTS = (18, 19, 25, 1042, 1043)
_SQL_ASCII = "SQL_ASCII"
"""The encoding of databases that take any bytes for text."""

_UNCHECKED = f"SET LOCAL client_encoding = '{_SQL_ASCII}'"
"""Whoever asks such a database for UTF-8 gets an error for the first text that is none, and no rows."""

_LOOK_UP = (
    "SELECT oid::int8, typname::text, typtype::text, typcategory::text, typelem::int8, typbasetype::int8, "
    "typrelid::int8, typarray::int8 FROM pg_catalog.pg_type WHERE oid IN ({})"
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
_OWN_FORM = frozenset({"point", "lseg", "path", "box", "polygon", "line", "circle", "record", "geometry", "geography"})
"""Types whose text is a notation of Postgres' own."""


@dataclass(frozen=True)
class _Type:
    """A type as the catalog has it."""

    oid: int
    name: str
    shape: str
    category: str
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
    def is_array(self) -> bool:
        return self.category == "A" and self.element != 0


def _looked_up(find: Callable[[str], list[Row]], oids: Iterable[int]) -> dict[int, _Type]:
    """Return types that are not known by number, and those they are made of."""
    found: dict[int, _Type] = {}
    wanted = set(oids) - _KINDS.keys()
    while wanted:
        for row in find(_LOOK_UP.format(", ".join(map(str, sorted(wanted))))):
            kind = _Type(*row)
            if kind.shape == "c":
                members = find(_ATTRIBUTES.format(kind.relation))
                kind = replace(kind, attributes=[(str(name), int(oid)) for name, oid in members])
            found[kind.oid] = kind
        parts = {oid for kind in found.values() for oid in kind.parts}
        wanted = parts - {0} - found.keys() - _KINDS.keys()
    return found


def _column_type(oid: int, types: Mapping[int, _Type]) -> ColumnType:
    """Return what a column of a type holds, once the driver knows the types that were looked up."""
    if oid in _KINDS:
        name, kind = _KINDS[oid]
        return ColumnType(kind, name, refused(name, _REMEDIES[name]) if kind is Kind.BYTES else None)
    found = types.get(oid)
    if found is None:
        return ColumnType(Kind.UNKNOWN)
    if found.is_array:
        element = _column_type(found.element, types)
        # What refuses an element refuses the array; elements of JSON are parsed by the driver.
        return ColumnType(Kind.ARRAY, f"{element.native}[]", element.load)
    if found.shape == "d":
        return _column_type(found.base, types)
    if found.shape in ("r", "m") or found.name in _OWN_FORM or found.shape == "p":
        return ColumnType(Kind.UNKNOWN, found.name, refused(found.name, _REMEDIES.get(found.name, _CAST)))
    if found.shape == "c":
        parts = [_column_type(oid, types) for _, oid in found.attributes]
        return ColumnType(Kind.STRUCT, found.name, next((part.load for part in parts if part.load), None))
    if found.shape == "e":
        return ColumnType(Kind.ENUM, found.name)
    return ColumnType(Kind.MAP if found.name == "hstore" else Kind.TEXT, found.name)


def _json(data: Any) -> Any:
    """Return what JSON means; the drivers' own way of reading it fails for a document that is very deep or long."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Unreadable("JSON that is nested too deeply, or has a number or text that Python has no room for")


def _struct(names: Sequence[str]) -> Callable[..., dict[str, Any]]:
    return lambda *values: dict(zip(names, values, strict=True))


def _session(name: str | None) -> str:
    """Return what settles a session; one that the connection gives no name has ours in ``pg_stat_activity``."""
    return _SESSION if name else f"{_SESSION}; SET LOCAL application_name = '{CURSOR}'"


def _settle(connection: Any) -> None:
    connection.autocommit = False
    connection.prepare_threshold = None  # behind a pooler a prepared statement may be another client's
    if connection.info.server_version >= _FIRST_VERSION:
        connection.execute(_session(connection.info.parameter_status("application_name")))


def _streaming(connection: Any) -> Any:
    """Open a named cursor, which lives in a transaction."""
    from psycopg.rows import tuple_row

    return connection.cursor(name=CURSOR, row_factory=tuple_row)


def _plain(connection: Any) -> Any:
    from psycopg import ClientCursor
    from psycopg.rows import tuple_row

    return ClientCursor(connection, row_factory=tuple_row)


def _types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    from psycopg.types.json import set_json_loads

    oids = [int(column.type_code) for column in cursor.description or ()]
    types = _looked_up(lambda query: _plain(connection).execute(query).fetchall(), oids)
    set_json_loads(_json, cursor)
    if connection.info.parameter_status("server_encoding") == _SQL_ASCII:
        _plain(connection).execute(_UNCHECKED)  # from now on other cursors return texts as bytes
        _decode(cursor)
    for kind in types.values():
        _register(kind, types, cursor)
    return [_column_type(oid, types) for oid in oids]


def _decode(cursor: Any) -> None:
    """Have a cursor decode texts that nobody has checked."""
    from psycopg.adapt import Loader

    class Utf8(Loader):
        def load(self, data: Any) -> Any:
            return _utf8(data)

    for oid in (0, *_TEXTS):  # 0 are all types that nobody knows
        cursor.adapters.register_loader(oid, Utf8)


def _utf8(data: Any) -> str | Unreadable:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        return Unreadable(_NOT_UTF8)


def _register(kind: _Type, types: Mapping[int, _Type], cursor: Any) -> None:
    """Have a cursor return lists, objects and values of base types instead of Postgres' text for them."""
    from psycopg.pq import Format
    from psycopg.types import TypeInfo
    from psycopg.types.composite import CompositeInfo, register_composite
    from psycopg.types.hstore import register_hstore

    if kind.is_array or kind.shape not in ("b", "c", "d", "e"):
        return
    if kind.shape == "c":
        names, oids = [name for name, _ in kind.attributes], [oid for _, oid in kind.attributes]
        info = CompositeInfo(kind.name, kind.oid, kind.array, field_names=names, field_types=oids)
        register_composite(info, cursor, factory=_struct(names))
        return
    plain = TypeInfo(kind.name, kind.oid, kind.array)
    if kind.name == "hstore":
        register_hstore(plain, cursor)
        return
    plain.register(cursor)
    base = kind.base
    while base in types:
        base = types[base].base
    if base:
        loader = cursor.adapters.get_loader(base, Format.TEXT)
        if loader is not None:
            cursor.adapters.register_loader(kind.oid, loader)


def _fetch(cursor: Any, size: int) -> Sequence[Row]:
    """Fetch rows; where a value has no Python form, read them once more, with a marker in its place."""
    from psycopg import Error

    before = cursor.pgresult
    try:
        rows: Sequence[Row] = cursor.fetchmany(size)
    except Exception as error:
        if (isinstance(error, Error) and error.sqlstate) or cursor.pgresult in (None, before):
            raise  # what the server says
        return _read_again(cursor)
    return rows


def _read_again(cursor: Any) -> Sequence[Row]:
    from psycopg.adapt import AdaptersMap, Loader, Transformer
    from psycopg.pq import Format

    def forgiving(oid: int, why: str) -> type[Loader]:
        strict = cursor.adapters.get_loader(oid, Format.TEXT)

        class Forgiving(Loader):
            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._load = strict(oid, context).load

            def load(self, data: Any) -> Any:
                try:
                    return self._load(data)
                except Exception:  # whatever it is that cannot be read
                    return Unreadable(why)

        return Forgiving

    class Context:
        adapters = AdaptersMap(cursor.adapters)
        connection = cursor.connection

    for oid, why in _BEYOND.items():
        Context.adapters.register_loader(oid, forgiving(oid, why))
    reader = Transformer(Context())
    result = cursor.pgresult
    reader.set_pgresult(result)
    return reader.load_rows(0, result.ntuples, tuple)


def _settle2(connection: Any) -> None:
    connection.autocommit = False
    if connection.server_version >= _FIRST_VERSION:
        with _plain2(connection) as cursor:
            cursor.execute(_session(connection.get_parameter_status("application_name")))
    if connection.encoding != "UTF8":
        connection.set_client_encoding("UTF8")


def _streaming2(connection: Any) -> Any:
    from psycopg2.extensions import cursor

    return connection.cursor(name=CURSOR, cursor_factory=cursor)


def _plain2(connection: Any) -> Any:
    from psycopg2.extensions import cursor

    return connection.cursor(cursor_factory=cursor)


def _types2(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    from psycopg2.extras import register_json

    if cursor.name is not None:
        cursor.fetchmany(0)  # a named cursor of this driver describes its columns no earlier

    def find(query: str) -> list[Row]:
        with _plain2(connection) as plain:
            plain.execute(query)
            rows: list[Row] = plain.fetchall()
            return rows

    oids = [int(column[1]) for column in cursor.description or ()]
    types = _looked_up(find, oids)
    _forgive2(connection, cursor)
    set_json = partial(register_json, cursor, loads=_json)
    set_json(oid=114, array_oid=199)
    set_json(oid=3802, array_oid=3807, name="JSONB")
    for kind in sorted(types.values(), key=lambda kind: kind.is_array):  # arrays need what loads their elements
        _register2(kind, types, cursor)
    return [_column_type(oid, types) for oid in oids]


def _forgive2(connection: Any, cursor: Any) -> None:
    """Have a marker in place of what Python has no room for.

    This driver makes the last of all days of infinity, and the first hour of the 24th.
    """
    from psycopg2 import extensions

    def forgiving(oid: int, why: str) -> Any:
        strict = extensions.string_types[oid]

        def load(text: str | None, cursor: Any) -> Any:
            if text is not None and (text.endswith("infinity") or text.startswith("24:")):
                return Unreadable(why)
            try:
                return strict(text, cursor)
            except Exception:  # whatever it is that cannot be read
                return Unreadable(why)

        return extensions.new_type((oid,), f"FORGIVING_{oid}", load)

    for oid, array in _ARRAYS.items():
        made = forgiving(oid, _BEYOND[oid])
        extensions.register_type(made, cursor)
        extensions.register_type(extensions.new_array_type((array,), f"FORGIVING_{array}", made), cursor)
    if _unchecked2(cursor):
        with _plain2(connection) as plain:
            plain.execute(_UNCHECKED)
        # A type that is made anew would be given text, decoded.
        cursor.string_types = {**(cursor.string_types or {}), **dict.fromkeys(_TEXTS, extensions.BYTES)}


def _unchecked2(cursor: Any) -> bool:
    return bool(cursor.connection.get_parameter_status("server_encoding") == _SQL_ASCII)


def _text2(value: Any) -> Any:
    """Return the text of bytes; values of binary columns are none in this driver."""
    return _utf8(value) if type(value) is bytes else value


def _fetch2(cursor: Any, size: int) -> Sequence[Row]:
    rows: Sequence[Row] = cursor.fetchmany(size)
    if _unchecked2(cursor):
        return [tuple(map(_text2, row)) for row in rows]
    return rows


def _register2(kind: _Type, types: Mapping[int, _Type], cursor: Any) -> None:
    """Have a cursor return lists, objects and values of base types instead of Postgres' text for them."""
    from psycopg2 import extensions
    from psycopg2.extras import CompositeCaster, HstoreAdapter

    class Struct(CompositeCaster):  # type: ignore[misc]
        def _create_type(self, name: str, attnames: Sequence[str]) -> None:
            """Make no named tuple, for which not every name would do."""

        def make(self, values: Sequence[Any]) -> Any:
            return dict(zip(self.attnames, map(_text2, values), strict=True))

    registered = {**extensions.string_types, **(cursor.string_types or {})}
    if kind.is_array and kind.oid not in registered:  # one of the database's own that the driver does not know
        load = registered.get(kind.element, extensions.UNICODE)
        extensions.register_type(extensions.new_array_type((kind.oid,), f"OF_{kind.oid}", load), cursor)
    if kind.is_array or kind.shape not in ("b", "c", "d", "e"):
        return
    if kind.shape == "c":
        made = Struct(kind.name, kind.oid, kind.attributes, array_oid=kind.array)
        extensions.register_type(made.typecaster, cursor)
        if made.array_typecaster is not None:
            extensions.register_type(made.array_typecaster, cursor)
        return
    base = kind.base
    while base in types:
        base = types[base].base
    one = extensions.string_types.get(base, extensions.UNICODE)
    load = HstoreAdapter.parse if kind.name == "hstore" else one
    made = extensions.new_type((kind.oid,), f"OF_{kind.oid}", load)
    extensions.register_type(made, cursor)
    if kind.array:
        extensions.register_type(extensions.new_array_type((kind.array,), f"OF_{kind.array}", made), cursor)


PSYCOPG = Driver(settle=_settle, streaming=_streaming, plain=_plain, types=_types, fetch=_fetch)
PSYCOPG2 = Driver(settle=_settle2, streaming=_streaming2, plain=_plain2, types=_types2, fetch=_fetch2)
