"""Reads Postgres by psycopg2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.columns import ColumnType, Kind
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.sql.databases.driver import Driver
from airflow_provider_iterable.sql.databases.postgres.catalog import (
    BEYOND,
    JSON,
    JSONB,
    column_type,
    kind_of,
    looked_up,
)
from airflow_provider_iterable.sql.databases.postgres.session import (
    CURSOR,
    FIRST_VERSION,
    SQL_ASCII,
    UNCHECKED,
    session,
)
from airflow_provider_iterable.sql.databases.postgres.values import from_bytes, json, reader, reads


@cache
def _cursor_type() -> Any:
    from psycopg2.extensions import cursor

    class Cursor(cursor):  # type: ignore[misc]
        """A cursor that describes its columns once it has run a query, which a named one does no earlier than it
        fetches.
        """

        readers: Mapping[int, Callable[[bytes], Any]] = {}
        """By position, what reads the values of columns that come as bytes."""

        def execute(self, *arguments: Any) -> None:
            super().execute(*arguments)
            if self.name is not None:
                self.fetchmany(0)

    return Cursor


def _settle(connection: Any) -> None:
    connection.autocommit = False
    if connection.encoding != "UTF8":
        connection.set_client_encoding("UTF8")  # which ends the transaction
    if connection.server_version >= FIRST_VERSION:
        with _plain(connection) as cursor:
            cursor.execute(session(connection.get_parameter_status("application_name")))


def _streaming(connection: Any) -> Any:
    return connection.cursor(name=CURSOR, cursor_factory=_cursor_type())


def _plain(connection: Any) -> Any:
    return connection.cursor(cursor_factory=_cursor_type())


def _types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    from psycopg2 import extensions

    def find(query: str) -> list[Row]:
        with _plain(connection) as plain:
            plain.execute(query)
            rows: list[Row] = plain.fetchall()
            return rows

    oids = [int(column[1]) for column in cursor.description or ()]
    types = looked_up(find, oids)
    unchecked = connection.get_parameter_status("server_encoding") == SQL_ASCII
    if unchecked:
        with _plain(connection) as plain:
            plain.execute(UNCHECKED)

    def comes_as_bytes(oid: int) -> bool:
        # What is made in Python is given text, decoded, and so is what it is made of.
        return reads(oid, types, lambda leaf: unchecked and kind_of(leaf) in (Kind.TEXT, Kind.JSON))

    made = {**{oid: _forgiving(oid) for oid in BEYOND}, **{oid: _json(oid) for oid in (JSON, JSONB)}}
    made.update((kind.oid, extensions.UNICODE) for kind in types.values() if not kind.is_array)
    casters = {**extensions.string_types, **made}
    for kind in types.values():
        if kind.is_array and (kind.element in made or kind.oid not in casters):
            element = casters.get(kind.element, extensions.UNICODE)
            casters[kind.oid] = extensions.new_array_type((kind.oid,), f"OF_{kind.oid}", element)
    casters.update(dict.fromkeys(filter(comes_as_bytes, oids), extensions.BYTES))
    cursor.string_types = casters
    cursor.readers = {
        number: from_bytes(reader(oid, types, lambda leaf: partial(cursor.cast, leaf)))
        for number, oid in enumerate(oids)
        if comes_as_bytes(oid)
    }
    return [column_type(oid, types) for oid in oids]


def _forgiving(oid: int) -> Any:
    """Return what has a marker in place of what Python has no room for.

    This driver makes the last of all days of infinity, and the first hour of the 24th.
    """
    from psycopg2 import extensions

    strict = extensions.string_types[oid]

    def load(text: str | None, cursor: Any) -> Any:
        if text is not None and (text.endswith("infinity") or text.startswith("24:")):
            return Unreadable(BEYOND[oid])
        try:
            return strict(text, cursor)
        except Exception:  # whatever it is that cannot be read
            return Unreadable(BEYOND[oid])

    return extensions.new_type((oid,), f"FORGIVING_{oid}", load)


def _json(oid: int) -> Any:
    from psycopg2 import extensions

    return extensions.new_type((oid,), f"JSON_{oid}", lambda text, cursor: None if text is None else json(text))


def _fetch(cursor: Any, size: int) -> Sequence[Row]:
    rows: Sequence[Row] = cursor.fetchmany(size)
    if not rows or not cursor.readers:
        return rows
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for number, read in cursor.readers.items():
        columns[number] = [None if value is None else read(value) for value in columns[number]]
    return list(zip(*columns, strict=True))


PSYCOPG2 = Driver(settle=_settle, streaming=_streaming, plain=_plain, types=_types, fetch=_fetch)
