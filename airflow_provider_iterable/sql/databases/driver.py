"""What a driver has to do differently: how a database is read through it; each database has a file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_iterable.columns import UNKNOWN, ColumnType


def unknown_types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    """Return a type for each column, all of them unknown: values are judged by what they are."""
    return [UNKNOWN for _ in cursor.description or ()]


def default_cursor(connection: Any) -> Any:
    """Open the cursor that the connection opens by default."""
    return connection.cursor()


def nothing(connection: Any) -> None:
    """Leave a connection as it is."""


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
    :param connection_first: whether the connection is closed before the cursor
    """

    settle: Callable[[Any], None] = nothing
    streaming: Callable[[Any], Any] = default_cursor
    plain: Callable[[Any], Any] = default_cursor
    types: Callable[[Any, Any], Sequence[ColumnType]] = unknown_types
    connection_first: bool = False
