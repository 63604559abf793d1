"""Knows what SQL drivers do differently: opening connections and cursors, and closing them.

Drivers buffer whole results unless asked not to: Postgres needs a named cursor inside a transaction, MySQL an
unbuffered one, the others are lazy or page by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from importlib import import_module
from typing import Any

from airflow.providers.common.sql.hooks.sql import DbApiHook

_CURSOR_NAME = "airflow_provider_iterable"
_MYSQL_DRIVERS = frozenset({"MySQLdb", "pymysql", "mysql"})


def connect(hook: DbApiHook) -> Any:
    """Open a connection; by a copy of the hook, for some hand out the one that they opened first, closed or not."""
    return copy(hook).get_conn()


def _driver(connection: Any) -> str:
    return type(connection).__module__.partition(".")[0]


def streaming_cursor(connection: Any) -> Any:
    """Open a cursor that leaves the result in the database and returns plain tuples."""
    match _driver(connection):
        case "psycopg":
            from psycopg.rows import tuple_row

            connection.autocommit = False
            return connection.cursor(name=_CURSOR_NAME, row_factory=tuple_row)
        case "psycopg2":
            from psycopg2.extensions import cursor  # type: ignore[import-untyped,unused-ignore]  # stubs are optional

            connection.autocommit = False
            return connection.cursor(name=_CURSOR_NAME, cursor_factory=cursor)
        case "MySQLdb" | "pymysql" as driver:
            return connection.cursor(import_module(f"{driver}.cursors").SSCursor)
        case "mysql":  # mysql-connector-python
            return connection.cursor(buffered=False, dictionary=False)
    return connection.cursor()


def plain_cursor(connection: Any) -> Any:
    """Open a cursor that fetches a small result at once, as plain tuples, binding parameters as streaming ones do."""
    match _driver(connection):
        case "psycopg":
            from psycopg import ClientCursor
            from psycopg.rows import tuple_row

            return ClientCursor(connection, row_factory=tuple_row)
        case "psycopg2":
            from psycopg2.extensions import cursor  # type: ignore[import-untyped,unused-ignore]  # stubs are optional

            return connection.cursor(cursor_factory=cursor)
        case "MySQLdb" | "pymysql" as driver:
            return connection.cursor(import_module(f"{driver}.cursors").Cursor)
    return connection.cursor()


def closing_steps(connection: Any, cursor: Any) -> tuple[Callable[[], Any], ...]:
    """Return the calls that close a cursor and its connection, in the order in which to make them."""
    if _driver(connection) in _MYSQL_DRIVERS:
        # Closing an unbuffered MySQL cursor first would read the rest of the result: minutes, for rows nobody wants.
        return (connection.close, cursor.close)
    steps = (cursor.close, getattr(connection, "rollback", None), connection.close)
    return tuple(step for step in steps if step is not None)


def returns_rows(cursor: Any) -> bool:
    """Whether fetching makes sense: a named psycopg2 cursor has no description yet, others without one have no rows."""
    return cursor.description is not None or getattr(cursor, "name", None) == _CURSOR_NAME
