"""Reads Postgres by psycopg 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.columns import ColumnType
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.sql.databases.driver import Driver
from airflow_provider_iterable.sql.databases.postgres.catalog import BEYOND, TEXTS, column_type, looked_up
from airflow_provider_iterable.sql.databases.postgres.session import (
    CURSOR,
    FIRST_VERSION,
    SQL_ASCII,
    UNCHECKED,
    session,
)
from airflow_provider_iterable.sql.databases.postgres.values import Read, from_bytes, json, reader, reads

_INTERVAL = 1186
_LONG = len("999999 years")
"""An interval of fewer characters is not long enough to wrap around."""


def _settle(connection: Any) -> None:
    connection.autocommit = False
    connection.prepare_threshold = None  # behind a pooler a prepared statement may be another client's
    if connection.info.server_version >= FIRST_VERSION:
        connection.execute(session(connection.info.parameter_status("application_name")))


def _streaming(connection: Any) -> Any:
    """Open a named cursor, which lives in a transaction."""
    from psycopg.rows import tuple_row

    return connection.cursor(name=CURSOR, row_factory=tuple_row)


def _plain(connection: Any) -> Any:
    from psycopg import ClientCursor
    from psycopg.rows import tuple_row

    return ClientCursor(connection, row_factory=tuple_row)


def _types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    from psycopg.types import TypeInfo
    from psycopg.types.json import set_json_loads
    from psycopg.types.string import TextLoader

    oids = [int(column.type_code) for column in cursor.description or ()]
    types = looked_up(lambda query: _plain(connection).execute(query).fetchall(), oids)
    register, text = cursor.adapters.register_loader, TextLoader
    if connection.info.parameter_status("server_encoding") == SQL_ASCII:
        _plain(connection).execute(UNCHECKED)  # from now on other cursors return texts as bytes
        text = _loader(str)
        for oid in (0, *TEXTS):  # 0 are types that the driver does not know
            register(oid, text)
    set_json_loads(json, cursor)
    register(_INTERVAL, _intervals(cursor))
    for kind in types.values():
        if not kind.is_nested:
            register(kind.oid, text)
            TypeInfo(kind.name, kind.oid, kind.array).register(cursor)
    for oid in oids:
        if reads(oid, types):
            register(oid, _loader(reader(oid, types, lambda leaf: _cast(cursor, leaf))))
    return [column_type(oid, types) for oid in oids]


def _loader(read: Read) -> Any:
    from psycopg.adapt import Loader

    load = from_bytes(read)

    class Reading(Loader):
        def load(self, data: Any) -> Any:
            return load(data)

    return Reading


def _intervals(cursor: Any) -> Any:
    """Return a loader of intervals; the driver's own counts days in 32 bits, and takes 11767033 years for 251 days."""
    from psycopg.pq import Format
    from psycopg.types.datetime import IntervalLoader

    quick = cursor.adapters.get_loader(_INTERVAL, Format.TEXT)

    class Interval(IntervalLoader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._quick = quick(oid, context).load

        def load(self, data: Any) -> Any:
            return super().load(data) if len(data) > _LONG and b"year" in bytes(data) else self._quick(data)

    return Interval


def _forgiving(cursor: Any, oid: int) -> Any:
    """Return a loader of a type that has a marker for what Python has no room for."""
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    strict = cursor.adapters.get_loader(oid, Format.TEXT)

    class Forgiving(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._load = strict(oid, context).load

        def load(self, data: Any) -> Any:
            try:
                return self._load(data)
            except Exception:  # whatever it is that cannot be read
                return Unreadable(BEYOND[oid])

    return Forgiving if oid in BEYOND else strict


def _cast(cursor: Any, oid: int) -> Read:
    load = _forgiving(cursor, oid)(oid, cursor).load
    return lambda text: load(text.encode())


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
    from psycopg.adapt import AdaptersMap, Transformer

    class Context:
        adapters = AdaptersMap(cursor.adapters)
        connection = cursor.connection

    for oid in BEYOND:
        Context.adapters.register_loader(oid, _forgiving(cursor, oid))
    again = Transformer(Context())
    result = cursor.pgresult
    again.set_pgresult(result)
    return again.load_rows(0, result.ntuples, tuple)


PSYCOPG = Driver(settle=_settle, streaming=_streaming, plain=_plain, types=_types, fetch=_fetch)
