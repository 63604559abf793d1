"""The columns of a model: their names, and what kind of values each holds; knows no driver and no field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import msgspec

from airflow_provider_iterable.api.values import BadValue, Unreadable


class Kind(StrEnum):
    """What a column's type means, whatever its database calls it."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp without zone"
    INSTANT = "timestamp with zone"
    INTERVAL = "interval"
    JSON = "JSON"
    ARRAY = "array"
    STRUCT = "struct"
    MAP = "map"
    ENUM = "enum"
    UUID = "UUID"
    BITS = "bits"
    BYTES = "bytes"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ColumnType:
    """The type of a column.

    :param kind: what it means
    :param native: what the database calls it, for messages
    :param load: makes a value of what the driver returns for one that is not null; ``None``: it is one already.
        Raises :class:`~airflow_provider_iterable.api.values.BadValue` where there is none
    """

    kind: Kind
    native: str = ""
    load: Callable[[Any], Any] | None = None


UNKNOWN = ColumnType(Kind.UNKNOWN)


class Columns(tuple[str, ...]):
    """The names of a model's columns, in the order of each row's values, and their types."""

    types: Sequence[ColumnType]

    def __new__(cls, names: Iterable[str] = (), types: Sequence[ColumnType] = ()) -> Self:
        """Return the columns; those without a type are of an unknown one."""
        columns = super().__new__(cls, names)
        columns.types = tuple(types) or (UNKNOWN,) * len(columns)
        if len(columns.types) != len(columns):
            raise ValueError(f"{len(columns)} columns have {len(columns.types)} types")
        return columns


def type_of(columns: Sequence[str], number: int) -> ColumnType:
    """Return the type of a column, which is unknown where only names are known."""
    return columns.types[number] if isinstance(columns, Columns) else UNKNOWN


def loaded(values: Sequence[Any], load: Callable[[Any], Any] | None) -> Sequence[Any]:
    """Return a column's values as its type promises them; nulls, and what could not be read, stay as they are.

    :raises BadValue: one of them has no such form
    """
    if load is None:
        return values
    return [value if value is None or type(value) is Unreadable else load(value) for value in values]


def json_text(value: Any) -> Any:
    """Return what JSON text means; what the driver has parsed already stays as it is.

    :raises BadValue: it is no JSON
    """
    if not isinstance(value, str | bytes):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadValue("text that is not JSON") from None


def refused(native: str, remedy: str) -> Callable[[Any], Any]:
    """Return what refuses each value of a type that has no JSON form.

    :param native: what the database calls the type
    :param remedy: what to write in the model's SQL instead, as a clause
    """

    def refuse(value: Any) -> Any:
        raise BadValue(f"a value of type {native}, which has no JSON form; {remedy}")

    return refuse
