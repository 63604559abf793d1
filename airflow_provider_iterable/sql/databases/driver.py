"""What a driver has to do differently: how a database is read through it; each database has a file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_iterable.columns import UNKNOWN, ColumnType
from airflow_provider_iterable.engine.vocabulary import Row


def unknown_types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    """Return a type for each column, all of them unknown: values are judged by what they are."""
    return [UNKNOWN for _ in cursor.description or ()]


def default_cursor(connection: Any) -> Any:
    """Open the cursor that the connection opens by default."""
    return connection.cursor()


def nothing(connection: Any) -> None:
    """Leave a connection as it is."""


def fetch_many(cursor: Any, size: int) -> Sequence[Row]:
    """Fetch so many rows, or those that are left."""
    rows: Sequence[Row] = cursor.fetchmany(size)
    return rows


@dataclass(frozen=True)
class Driver:
    """How a driver reads a model.

    :param settle: makes a new connection what the reading relies on, whatever the Airflow connection says: encoding,
        zone, styles of dates, read-only
    :param streaming: opens a cursor that leaves the result in the database and returns plain tuples
    :param plain: opens a cursor that fetches a small result at once, as plain tuples, binding parameters as the
        streaming one does
    :param types: returns the types of the columns of a cursor that has run its query and fetched nothing yet, and
        makes it return the values that these types promise
    :param fetch: fetches rows from a streaming cursor, with
        :class:`~airflow_provider_iterable.api.values.Unreadable` in place of what Python has no room for
    :param halves_percent: whether it makes one percent sign of two where parameters are bound, as drivers do that take
        ``%`` for the beginning of a placeholder
    :param connection_first: whether the connection is closed before the cursor
    """

    settle: Callable[[Any], None] = nothing
    streaming: Callable[[Any], Any] = default_cursor
    plain: Callable[[Any], Any] = default_cursor
    types: Callable[[Any, Any], Sequence[ColumnType]] = unknown_types
    fetch: Callable[[Any, int], Sequence[Row]] = fetch_many
    halves_percent: bool = True
    connection_first: bool = False
