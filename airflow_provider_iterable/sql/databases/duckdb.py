"""DuckDB, by its own driver, from 1.2 on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.columns import UNKNOWN, ColumnType, Kind, json_text, refused
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.sql.databases.driver import Driver

Load = Callable[[Any], Any]
WhyNot = Callable[[Any], str | None]
"""Returns why Python has no room for a value, ``None`` where it has."""

_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint", "hugeint", "bignum", "varint"), Kind.INTEGER),
    **dict.fromkeys(("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"), Kind.INTEGER),
    **dict.fromkeys(("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"), Kind.TIMESTAMP),
    **dict.fromkeys(("time", "time_ns", "time with time zone"), Kind.TIME),
    **dict.fromkeys(("float", "double"), Kind.DOUBLE),
    **dict.fromkeys(("list", "array"), Kind.ARRAY),
    **dict.fromkeys(("struct", "tuple"), Kind.STRUCT),
    "bit": Kind.BITS,
    "blob": Kind.BYTES,
    "boolean": Kind.BOOLEAN,
    "date": Kind.DATE,
    "decimal": Kind.DECIMAL,
    "enum": Kind.ENUM,
    "interval": Kind.INTERVAL,
    "map": Kind.MAP,
    "timestamp with time zone": Kind.INSTANT,
    "uuid": Kind.UUID,
    "varchar": Kind.TEXT,
}
"""By what the driver calls a type, its parts aside; the others are unknown."""
_JSON = ("JSON", '"JSON"')
_TO_JSON = "cast it to JSON in the model's SQL, as in to_json(c)"
_REMEDIES = {
    "blob": "encode it in the model's SQL, as in base64(c)",
    "geometry": "have the model's SQL make JSON of it, as in ST_AsGeoJSON(c)::JSON",
    "variant": "cast it to JSON in the model's SQL, as in c::JSON",
}
_TEXTS = ("varchar", "enum", "bit", "union")
"""Types whose values are text in Python, or may be."""
_NESTED = ("list", "array", "struct", "tuple", "map")

_YEARS = "a date beyond the years 1 to 9999"
_DAYS = "an interval beyond 999999000 days"
_HOURS = "a time beyond 23:59:59"
_LONGEST = timedelta(days=999_999_999)
_LAST = "'10000-01-01'"
"""A date that Python has no room for: the driver returns its text, and of infinity the last day that there is room for.

What it cannot return at all, such as longer intervals, ends the whole query.
"""
_READ: Mapping[str, str] = {
    **{
        name: f"CASE WHEN isinf({{c}}) THEN CAST({_LAST} AS {name}) ELSE {{c}} END"
        for name in ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS")
    },
    "TIMESTAMP WITH TIME ZONE": (
        f"CASE WHEN isinf({{c}}) THEN CAST({_LAST} AS TIMESTAMP) ELSE make_timestamp(epoch_us({{c}})) END"
    ),
    "INTERVAL": (
        "CASE WHEN {c} BETWEEN INTERVAL '-999999000 days' AND INTERVAL '999999000 days' THEN {c} "
        f"WHEN {{c}} IS NOT NULL THEN INTERVAL '{_LONGEST.days} days' END"
    ),
}
"""By type: how a column ``{c}`` is read, where the driver would not return what it holds."""


def _is_json(kind: Any) -> bool:
    return str(kind) in _JSON


def _column_type(native: str, kind: Any) -> ColumnType:
    """Return what a column of a type holds.

    :param native: the type's text
    :param kind: the driver's type; ``None``: it does not read its own text
    """
    if kind is None:
        return ColumnType(Kind.UNKNOWN, native)
    return ColumnType(Kind.JSON if _is_json(kind) else _KINDS.get(kind.id, Kind.UNKNOWN), native, _load(kind))


def _load(kind: Any) -> Load | None:
    """Return what makes JSON of a value: JSON comes as text, wherever it is."""
    if _is_json(kind):
        return json_text
    if kind.id in _REMEDIES:
        return refused(str(kind), _REMEDIES[kind.id])
    match kind.id:
        case "bignum" | "varint":
            return int
        case "list" | "array":
            return _of_all(_load(dict(kind.children)["child"]))
        case "struct" | "tuple":
            return _of_each([_load(member) for _, member in kind.children])
        case "map":
            return _of_map(str(kind), **dict(kind.children))
        case "union":
            return _of_union(str(kind), [member for _, member in kind.children[1:]])  # the first one is the tag
    return None


def _of_all(load: Load | None) -> Load | None:
    if load is None:
        return None
    return lambda values: [None if value is None else load(value) for value in values]


def _of_each(loads: Sequence[Load | None]) -> Load | None:
    """Return what loads a struct's members, which are a dict or, without names, a tuple."""
    if not any(loads):
        return None

    def load(values: Any) -> Any:
        members = values.values() if isinstance(values, dict) else values
        loaded = [
            value if one is None or value is None else one(value) for one, value in zip(loads, members, strict=True)
        ]
        return dict(zip(values, loaded, strict=True)) if isinstance(values, dict) else loaded

    return load


def _of_map(native: str, key: Any, value: Any) -> Load | None:
    """Return what makes an object with the keys' texts of a map; one with lists or structs for keys is refused."""
    if key.id in _NESTED:
        return refused(native, _TO_JSON)
    if key.id in _REMEDIES:
        return _load(key)
    of_key = {True: "true", False: "false"}.__getitem__ if key.id == "boolean" else None
    of_value = _load(value)
    if of_key is None and of_value is None:
        return None
    return lambda members: {
        of_key(name) if of_key else name: member if of_value is None or member is None else of_value(member)
        for name, member in members.items()
    }


def _of_union(native: str, members: Sequence[Any]) -> Load | None:
    """Return what loads a value of which the driver does not say which member it is."""
    if not any(map(_load, members)):
        return None
    others = [member for member in members if not _is_json(member)]
    if len(others) < len(members) and not any(_load(member) or member.id in (*_TEXTS, *_NESTED) for member in others):
        return json_text  # only JSON is text there
    return refused(native, _TO_JSON)


def _beyond(kind: Any) -> WhyNot | None:
    """Return what tells why Python has no room for something within a nested value."""
    match kind.id:
        case "date" | "timestamp" | "timestamp_s" | "timestamp_ms":
            return lambda value: _YEARS if isinstance(value, str) else None
        case "time" | "time with time zone" | "time_ns":
            return lambda value: _HOURS if isinstance(value, str) else None
        case "timestamp with time zone":
            # Infinity is the last of all days, and the only one without a zone.
            return lambda value: _YEARS if isinstance(value, str) or value.tzinfo is None else None
        case "timestamp_ns":
            return lambda value: _YEARS if value in (datetime.max, datetime.min) else None
        case "list" | "array":
            return _of_any(_beyond(dict(kind.children)["child"]))
        case "struct" | "tuple":
            return _of_members([_beyond(member) for _, member in kind.children])
        case "map":
            return _of_entries(**dict(kind.children))
        case "union":
            members = [member for _, member in kind.children[1:]]
            if not any(_is_json(member) or member.id in (*_TEXTS, *_NESTED) for member in members):
                return lambda value: f"{_YEARS}, or {_HOURS}" if isinstance(value, str) else None
    return None


def _of_any(why_not: WhyNot | None) -> Callable[[Iterable[Any]], str | None] | None:
    if why_not is None:
        return None
    return lambda values: next((why for value in values if value is not None and (why := why_not(value))), None)


def _of_members(members: Sequence[WhyNot | None]) -> WhyNot | None:
    if not any(members):
        return None

    def why_not(values: Any) -> str | None:
        given = zip(members, values.values() if isinstance(values, dict) else values, strict=True)
        return next((why for one, value in given if one and value is not None and (why := one(value))), None)

    return why_not


def _of_entries(key: Any, value: Any) -> WhyNot | None:
    if key.id in _NESTED:  # refused as a whole
        return None
    of_keys, of_values = _of_any(_beyond(key)), _of_any(_beyond(value))
    if of_keys is None and of_values is None:
        return None

    def why_not(members: Mapping[Any, Any]) -> str | None:
        return (of_keys and of_keys(members)) or (of_values and of_values(members.values()))

    return why_not


def _mend(native: str, kind: Any) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
    """Return what puts markers into a column for what Python has no room for; ``None``: it has room for all."""
    match native:
        case "DATE" | "TIMESTAMP" | "TIMESTAMP_S" | "TIMESTAMP_MS":
            return lambda values: _without_texts(values, _YEARS)
        case "TIME" | "TIME WITH TIME ZONE" | "TIME_NS":
            return lambda values: _without_texts(values, _HOURS)
        case "TIMESTAMP WITH TIME ZONE":
            return lambda values: [
                value.replace(tzinfo=UTC) if type(value) is datetime else value
                for value in _without_texts(values, _YEARS)
            ]
        case "INTERVAL":
            return lambda values: _without(values, lambda value: _DAYS if value == _LONGEST else None)
    why_not = None if kind is None else _beyond(kind)
    return None if why_not is None else lambda values: _without(values, why_not)


def _without_texts(values: Sequence[Any], why: str) -> Sequence[Any]:
    if str not in set(map(type, values)):
        return values
    return [Unreadable(why) if type(value) is str else value for value in values]


def _without(values: Sequence[Any], why_not: WhyNot) -> Sequence[Any]:
    return [Unreadable(why) if value is not None and (why := why_not(value)) else value for value in values]


class _Cursor:
    """A cursor that knows the types of its columns, and of each value what it is or that Python has no room for it.

    :param cursor: the driver's. Before 1.4 it says of a list no more than that it is one; it returns the last day of
        the year 9999 for infinity, and raises for some values, so that a query is read through another one
    """

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._columns: Sequence[tuple[str, str]] = ()
        self._kinds: Sequence[Any] = ()
        self._mends: Mapping[int, Callable[[Sequence[Any]], Sequence[Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    @property
    def description(self) -> Sequence[Sequence[Any]]:
        """The names and types of the columns, as the driver would have described the query itself."""
        described: Sequence[Sequence[Any]] = self._cursor.description or ()
        if not self._columns or all(isinstance(column[1], str) for column in described):
            return described
        return [(*column, *(None,) * 5) for column in self._columns]

    @property
    def types(self) -> Sequence[ColumnType]:
        """The types of the columns; unknown where the query has no description before it runs."""
        if not self._columns:
            return [UNKNOWN] * len(self._cursor.description or ())
        return [_column_type(native, kind) for (_, native), kind in zip(self._columns, self._kinds, strict=True)]

    def execute(self, sql: str, *arguments: Any) -> Any:
        """Run a query."""
        self._columns = self._described(sql, arguments)
        natives = [native for _, native in self._columns]
        self._kinds = [self._kind(native) for native in natives]
        mends = [_mend(native, kind) for native, kind in zip(natives, self._kinds, strict=True)]
        self._mends = {number: mend for number, mend in enumerate(mends) if mend is not None}
        if any(native in _READ for native in natives):
            sql = self._readable(sql)
        return self._cursor.execute(sql, *arguments)

    def _described(self, sql: str, arguments: Sequence[Any]) -> Sequence[tuple[str, str]]:
        from duckdb import Error

        try:
            found = self._cursor.execute(f"DESCRIBE\n{sql}", *arguments).fetchall()
        except Error:  # it is no query, or wrong: running it tells
            return ()
        return [(name, native) for name, native, *_ in found]

    def _kind(self, native: str) -> Any:
        from duckdb import Error

        try:
            return self._cursor.type(native)
        except Error:
            return None

    def _readable(self, sql: str) -> str:
        names = [f"c{number}" for number in range(len(self._columns))]
        read = [
            f'{_READ.get(native, "{c}").format(c=c)} AS "{name.replace(chr(34), chr(34) * 2)}"'
            for c, (name, native) in zip(names, self._columns, strict=True)
        ]
        return f"SELECT {', '.join(read)} FROM (\n{sql}\n) AS iterable_read({', '.join(names)})"

    def fetchmany(self, size: int) -> Sequence[Row]:
        """Fetch rows, with markers for what Python has no room for."""
        rows: Sequence[Row] = self._cursor.fetchmany(size)
        if not rows or not self._mends:
            return rows
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        mended = {number: mend(columns[number]) for number, mend in self._mends.items()}
        if all(mended[number] is columns[number] for number in mended):
            return rows
        return list(zip(*(mended.get(number, column) for number, column in enumerate(columns)), strict=True))


def _opened(connection: Any) -> _Cursor:
    return _Cursor(connection.cursor())


def _types(connection: Any, cursor: _Cursor) -> Sequence[ColumnType]:
    return cursor.types


DUCKDB = Driver(streaming=_opened, plain=_opened, types=_types)
