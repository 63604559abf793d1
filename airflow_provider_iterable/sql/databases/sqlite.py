"""SQLite, by Python's own driver. Columns have no types there, but values do."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import islice
from typing import Any

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.sql.databases.driver import Driver


def _settle(connection: Any) -> None:
    """Let the connection only read, and return plain tuples, whatever the Airflow connection says."""
    connection.row_factory = None
    connection.execute("PRAGMA query_only = ON")


def _text(data: bytes) -> str | Unreadable:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Unreadable("text that is not valid UTF-8")


def _fetch(cursor: Any, size: int) -> Sequence[Row]:
    """Fetch rows; from the first text on that is not valid UTF-8, with markers for such.

    A function that makes texts costs a third of the time of fetching them, so that most models do without.
    """
    rows: list[Row] = []
    try:
        rows.extend(islice(cursor, size))
    except sqlite3.OperationalError as error:
        if not str(error).startswith("Could not decode to UTF-8"):
            raise  # after any other error there are no more rows, whatever was still to come
        cursor.connection.text_factory = _text
        rows.extend(islice(cursor, size - len(rows)))  # beginning with the row that was refused
    return rows


SQLITE = Driver(settle=_settle, fetch=_fetch)
