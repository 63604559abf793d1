"""MySQL and MariaDB, by mysqlclient, PyMySQL and mysql-connector-python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Any

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.columns import ColumnType, Kind, json_text, refused
from airflow_provider_iterable.sql.databases.driver import Driver

_ZONE = "SET SESSION time_zone = '+00:00'"
"""A ``TIMESTAMP`` is an instant, which the server writes in the session's zone."""
_READ_ONLY = "SET SESSION TRANSACTION READ ONLY"
EVERY_ROW = "SET SESSION sql_select_limit = 18446744073709551615"
"""A query without ``LIMIT`` ends after so many rows, without a word; ``DEFAULT`` would be the server's setting."""

_TIMESTAMP, _DATE, _TIME, _DATETIME, _BIT, _VECTOR, _JSON, _GEOMETRY = 7, 10, 11, 12, 16, 242, 245, 255
_TEXTS = (15, 249, 250, 251, 252, 253, 254)
"""The protocol's numbers of types that are text, or binary: in their character set."""
_KINDS: Mapping[int, tuple[str, Kind]] = {
    0: ("decimal", Kind.DECIMAL),
    1: ("tinyint", Kind.INTEGER),
    2: ("smallint", Kind.INTEGER),
    3: ("int", Kind.INTEGER),
    4: ("float", Kind.DOUBLE),
    5: ("double", Kind.DOUBLE),
    _TIMESTAMP: ("timestamp", Kind.INSTANT),
    8: ("bigint", Kind.INTEGER),
    9: ("mediumint", Kind.INTEGER),
    _DATE: ("date", Kind.DATE),
    _TIME: ("time", Kind.TIME),
    _DATETIME: ("datetime", Kind.TIMESTAMP),
    13: ("year", Kind.INTEGER),
    _BIT: ("bit", Kind.BITS),
    _VECTOR: ("vector", Kind.UNKNOWN),
    _JSON: ("json", Kind.JSON),
    246: ("decimal", Kind.DECIMAL),
    _GEOMETRY: ("geometry", Kind.UNKNOWN),
}
"""Types by the protocol's number, but for texts."""
_BINARY, _ENUM, _SET = 128, 256, 2048
"""Flags of a column: its text is binary or is compared by its bytes, has one or several of the words of a list."""
_BYTES = 63
"""The character set of what is no text."""
_BINARIES = {253: "varbinary", 254: "binary"}
_ENCODE = "encode it in the model's SQL, as in TO_BASE64(c) or HEX(c)"


def _date(text: str) -> date | Unreadable:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return _no_date(text)


def _datetime(text: str) -> datetime | Unreadable:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _no_date(text)


def _no_date(text: str) -> Unreadable:
    """Return what stands for a date that only MySQL takes for one."""
    if any(int(part) == 0 for part in text[:10].split("-")):
        return Unreadable("a date without a year, month or day")
    return Unreadable("a date that is in no calendar")


def _time(text: str) -> timedelta:
    hours, minutes, seconds = text.lstrip("-").split(":")
    found = timedelta(hours=int(hours), minutes=int(minutes), microseconds=round(float(seconds) * 1_000_000))
    return -found if text.startswith("-") else found


def _bits(data: bytes | bytearray) -> int:
    return int.from_bytes(data, "big")


def _utf8(data: bytes | bytearray) -> str | Unreadable:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Unreadable("text that is not valid UTF-8")


_OF_TEXT: Mapping[int, Callable[[str], Any]] = {
    _TIMESTAMP: _datetime,
    _DATE: _date,
    _TIME: _time,
    _DATETIME: _datetime,
}
"""What makes a value of what the server writes; drivers return nulls where a date has no day, or text."""


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


def _unless_bytes(native: str) -> Callable[[Any], Any]:
    """Return what refuses binary values of a column that may hold text."""
    refuse = refused(native, _ENCODE)
    return lambda value: refuse(value) if isinstance(value, bytes) else value


_LOADS: Mapping[int, Callable[[Any], Any]] = {
    _TIMESTAMP: _in_utc,
    _JSON: json_text,
    _VECTOR: refused(
        "vector", "have the model's SQL make text of it, as in VECTOR_TO_STRING(c), and map that with Json()"
    ),
    _GEOMETRY: refused(
        "geometry", "have the model's SQL make JSON of it, as in ST_AsGeoJSON(c), and map that with Json()"
    ),
}


def _column_type(number: int, flags: int, charset: int | None) -> ColumnType:
    """Return what a column holds.

    :param number: the protocol's number of its type
    :param charset: the number of its character set, ``None`` where the driver does not tell
    """
    if number in _KINDS:
        native, kind = _KINDS[number]
        return ColumnType(kind, native, _LOADS.get(number))
    if number not in _TEXTS:
        return ColumnType(Kind.UNKNOWN)
    if flags & _ENUM:
        return ColumnType(Kind.ENUM, "enum")
    if flags & _SET:
        return ColumnType(Kind.TEXT, "set")
    if charset == _BYTES:
        native = _BINARIES.get(number, "blob")
        return ColumnType(Kind.BYTES, native, refused(native, _ENCODE))
    # A collation by bytes has this flag, too.
    unsure = charset is None and flags & _BINARY
    return ColumnType(Kind.TEXT, "text", _unless_bytes(_BINARIES.get(number, "blob")) if unsure else None)


def set_utf8(connection: Any, collation: str | None = None) -> None:
    """Set the character set, whatever the Airflow connection says, so that text comes and goes unchanged.

    :param collation: by which texts are compared that are in no column
    """
    for name in ("set_charset_collation", "set_character_set"):
        if hasattr(connection, name):
            getattr(connection, name)("utf8mb4", collation)


def _settle(connection: Any) -> None:
    """Set what the reading relies on.

    ``sql_mode`` stays: it decides what the words of a query mean, so the query was written under it.
    """
    set_utf8(connection)
    cursor = connection.cursor()
    cursor.execute(_ZONE)
    for setting in (_READ_ONLY, EVERY_ROW):
        with suppress(Exception):  # what merely speaks the protocol may not know it, and is read all the same
            cursor.execute(setting)
    cursor.close()


def _cursor(name: str) -> Callable[[Any], Any]:
    def opened(connection: Any) -> Any:
        """Open a cursor of this class, whatever the Airflow connection says."""
        return connection.cursor(
            getattr(import_module(f"{type(connection).__module__.partition('.')[0]}.cursors"), name)
        )

    return opened


def _settle_mysqlclient(connection: Any) -> None:
    _settle(connection)
    text = ((_BINARY, bytes), (None, _utf8))  # by character set; this driver says so with the flag
    connection.converter.update({**_OF_TEXT, _BIT: _bits, _JSON: _utf8, **dict.fromkeys(_TEXTS, text)})


def _types_mysqlclient(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    columns = zip(cursor.description or (), cursor.description_flags or (), strict=True)
    return [_column_type(column[1], flags, None) for column, flags in columns]


def _settle_pymysql(connection: Any) -> None:
    _settle(connection)
    connection.decoders.update({**_OF_TEXT, _BIT: _bits})


def _types_pymysql(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    """Return the types; and decode texts here, for the driver gives a whole result up where one is broken."""
    result = cursor._result
    result.converters = [
        (None, _pymysql_text(field)) if field.type_code in (*_TEXTS, _JSON, _VECTOR, _GEOMETRY) else converter
        for field, converter in zip(result.fields, result.converters, strict=True)
    ]
    return [_column_type(field.type_code, field.flags, field.charsetnr) for field in result.fields]


def _pymysql_text(field: Any) -> Callable[[Any], Any] | None:
    return _utf8 if field.type_code == _JSON or field.charsetnr != _BYTES else None


def _settle_connector(connection: Any) -> None:
    _settle(connection)
    if isinstance(getattr(type(connection), "converter_class", None), property):
        connection.converter_class = _converter()
    else:  # before the driver's versions that deprecate this
        connection.set_converter_class(_converter())


@cache
def _converter() -> type:
    from mysql.connector.conversion import MySQLConverter

    class Converter(MySQLConverter):
        def to_python(self, vtype: Any, value: Any) -> Any:
            """Return the value of a cell: the same as by the other drivers."""
            if value is None:
                return None
            number = vtype[1]
            if number in _OF_TEXT:
                return _OF_TEXT[number](value.decode())
            if number == _JSON or (number in _TEXTS and vtype[8] != _BYTES):
                return _utf8(value)
            if number in _TEXTS:
                return bytes(value)
            return super().to_python(vtype, value)

        def row_to_python(self, row: Sequence[Any], fields: Sequence[Any]) -> tuple[Any, ...]:
            """Return the values of a row."""
            return tuple(map(self.to_python, fields, row))

    return Converter


def _types_connector(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    return [_column_type(column[1], column[7], column[8]) for column in cursor.description or ()]


def _connector_streaming(connection: Any) -> Any:
    return connection.cursor(buffered=False, dictionary=False)


# Closing an unbuffered cursor first would read the rest of the result: minutes, for rows nobody wants.
MYSQLCLIENT = Driver(
    settle=_settle_mysqlclient,
    streaming=_cursor("SSCursor"),
    plain=_cursor("Cursor"),
    types=_types_mysqlclient,
    connection_first=True,
)
PYMYSQL = Driver(
    settle=_settle_pymysql,
    streaming=_cursor("SSCursor"),
    plain=_cursor("Cursor"),
    types=_types_pymysql,
    connection_first=True,
)
MYSQL_CONNECTOR = Driver(
    settle=_settle_connector,
    streaming=_connector_streaming,
    types=_types_connector,
    halves_percent=False,
    connection_first=True,
)
