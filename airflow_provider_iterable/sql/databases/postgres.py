"""Postgres, by psycopg and by psycopg2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_iterable.columns import ColumnType
from airflow_provider_iterable.sql.databases.driver import Driver, unknown_types

CURSOR = "airflow_provider_iterable"
"""The name of the cursor that stays in the database."""


def _streaming(connection: Any) -> Any:
    """Open a named cursor, which lives in a transaction."""
    from psycopg.rows import tuple_row

    connection.autocommit = False
    return connection.cursor(name=CURSOR, row_factory=tuple_row)


def _plain(connection: Any) -> Any:
    from psycopg import ClientCursor
    from psycopg.rows import tuple_row

    return ClientCursor(connection, row_factory=tuple_row)


def _streaming2(connection: Any) -> Any:
    from psycopg2.extensions import cursor  # type: ignore[import-untyped,unused-ignore]  # stubs are optional

    connection.autocommit = False
    return connection.cursor(name=CURSOR, cursor_factory=cursor)


def _plain2(connection: Any) -> Any:
    from psycopg2.extensions import cursor  # type: ignore[import-untyped,unused-ignore]  # stubs are optional

    return connection.cursor(cursor_factory=cursor)


def _types2(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    if cursor.name is not None:
        cursor.fetchmany(0)  # a named cursor of this driver describes its columns no earlier
    return unknown_types(connection, cursor)


PSYCOPG = Driver(streaming=_streaming, plain=_plain)
PSYCOPG2 = Driver(streaming=_streaming2, plain=_plain2, types=_types2)
