"""Maps columns to Iterable fields, and primary keys to key text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

from airflow_provider_iterable.api.field_types import Seen, look
from airflow_provider_iterable.api.objects import builder
from airflow_provider_iterable.api.values import BadValue, Renderer, Unreadable
from airflow_provider_iterable.columns import ColumnType, Kind, json_text, loaded, type_of
from airflow_provider_iterable.errors import ConfigurationError, ModelError

__all__ = ["Column", "Constant", "Json"]

Nulls = Literal["send", "skip"]
MAX_KEY_TEXT = 500
"""Longest key text in characters; state tables index it."""

Load = Callable[[Any], Any]
Refuse = Callable[[int, str], None]
"""Called with a value that cannot be sent: the number of its row in the chunk, and a sentence."""


@dataclass(frozen=True)
class Column:
    """A field that comes from a column.

    :param name: the model's column
    :param nulls: ``"send"`` a null (Iterable removes the field) or ``"skip"`` it; ``None``: as the sync does
    :param only_if_empty: send a value only where the profile has none at Iterable, and a null never; in syncs of users
    """

    name: str
    nulls: Nulls | None = None
    only_if_empty: bool = False


@dataclass(frozen=True)
class Constant:
    """A field with the same value in every row."""

    value: Any


@dataclass(frozen=True)
class Json:
    """A field whose column holds JSON: text is parsed, native objects and arrays are taken as they are.

    :param name: the model's column
    :param nulls: as in :class:`Column`
    """

    name: str
    nulls: Nulls | None = None


Source = str | Column | Constant | Json
Fields = Mapping[str, Source]


_UNNAMED = re.compile(
    r"\?column\?|_col\d+|f\d+_|EXPR\$\d+|[\d.]+|'.*|\w+\(.*|CASE\s.*|.*(?:\|\||::|[*/+<>=]).*",
    re.IGNORECASE | re.DOTALL,
).fullmatch
"""What databases call expressions without AS: ``?column?``, ``_col0``, ``f0_``, or the expression itself."""


FIELD_TYPES = {
    **{Kind.BOOLEAN: "boolean", Kind.INTEGER: "long", Kind.DECIMAL: "double", Kind.DOUBLE: "double"},
    **dict.fromkeys((Kind.DATE, Kind.TIMESTAMP, Kind.INSTANT), "date"),
    **dict.fromkeys((Kind.TIME, Kind.INTERVAL, Kind.UUID), "string"),
}
"""Iterable's types of columns whose values have one type, whatever they are."""


class FieldError(BadValue):
    """A value cannot be sent; the message names the field and the value's type and shape."""


class Mapper:
    """The ``fields`` of an operator, bound to the columns of a model.

    :param fields: Iterable field (dots nest) to its source; ``None``: every column that is not in ``used``
    :param nulls: what becomes of nulls
    :param zone: the zone in which naive date-times are read
    :param used: columns that other parameters use
    :param offset: how UTC is written in date-times
    :raises ConfigurationError: a field name is empty, a field is inside another that is mapped too, a source is none
    """

    def __init__(
        self,
        fields: Fields | None,
        nulls: Nulls = "send",
        zone: tzinfo = UTC,
        used: frozenset[str] = frozenset(),
        offset: str = "+00:00",
    ) -> None:
        if nulls not in ("send", "skip"):
            raise ConfigurationError(f'nulls must be "send" or "skip", not {nulls!r}')
        self._fields, self._nulls, self._used = fields, nulls, used
        self._render = Renderer(zone, offset)
        self._zone, self._offset = str(zone), offset
        self._described: list[tuple[Any, ...]] = []
        self.names: tuple[str, ...] = ()
        if fields is not None:
            self.names = tuple(check_fields("fields", fields))
        self._columns: list[tuple[str, int, Load | None, bool]] = []
        """Of each mapped column: the field, the column's position, what loads values, whether nulls are skipped."""
        self._constants: tuple[Any, ...] = ()
        self._constant_fields: tuple[str, ...] = ()
        self.seen: Seen = {}
        """The types of the values of fields that are looked at, see :meth:`watch`."""
        self._watched: frozenset[str] = frozenset()
        self._kinds: dict[str, Kind] = {}
        self._build: Callable[[list[Sequence[Any]], int], list[Any]] = lambda columns, rows: []

    @property
    def follows_columns(self) -> bool:
        """Whether the fields are the model's columns, whatever these are called."""
        return self._fields is None

    @property
    def nests(self) -> bool:
        """Whether a dotted name is mapped."""
        return any("." in name for name in self.names)

    @property
    def only_if_empty(self) -> tuple[str, ...]:
        """The fields that only profiles without them are to get."""
        return spared_fields(self._fields)

    @property
    def positions(self) -> tuple[int, ...]:
        """Where the mapped columns stand; empty until bound."""
        return tuple(number for _, number, _, _ in self._columns)

    @property
    def json_positions(self) -> tuple[int, ...]:
        """Where the columns stand that are mapped by :class:`Json`; empty until bound."""
        described = zip(self._columns, self._described, strict=False)
        return tuple(number for (_, number, _, _), (_, _, json, *_) in described if json)

    @property
    def sources(self) -> Mapping[str, int | None]:
        """Where the column of each field stands, ``None`` where it is a constant; empty until bound."""
        found: dict[str, int | None] = {field: number for field, number, _, _ in self._columns}
        return {field: found.get(field) for field in self.names if self._described}

    @property
    def origins(self) -> Mapping[str, str | None]:
        """The name of each field's column, ``None`` where it is a constant; empty until bound."""
        return {field: name or None for field, name, *_ in self._described}

    @property
    def text(self) -> str:
        """What decides how the values of the mapped columns look, apart from the values; empty until bound."""
        return repr((self._described, self._constants, self._zone, self._offset))

    def bind(self, columns: Sequence[str], extra: Sequence[str] = ()) -> None:
        """Look the columns up by name.

        :param extra: names of further fields whose values come with each row
        :raises ModelError: a column is missing; the message lists those there are
        :raises ConfigurationError: a constant has no JSON form, or a further field is among the mapped ones
        """
        fields = self._fields
        if fields is None:
            used = {position(columns, name) for name in self._used}
            fields = {column: column for number, column in enumerate(columns) if number not in used}
            _check_columns(columns, tuple(fields))
            _check_names(tuple(fields))
        for name in extra:
            if name in fields:
                raise ConfigurationError(
                    f"The field {name!r} is mapped twice: in fields, and by its own parameter. Leave it out of fields."
                )
        self.names = tuple(fields)
        found = {
            field: Column(source) if isinstance(source, str) else source
            for field, source in fields.items()
            if not isinstance(source, Constant)
        }
        self._columns, self._described, self._kinds = [], [], {}
        for field, source in found.items():
            number, json = position(columns, source.name), isinstance(source, Json)
            spares = isinstance(source, Column) and source.only_if_empty
            skips, kind = spares or (source.nulls or self._nulls) == "skip", type_of(columns, number)
            self._columns.append((field, number, _load(kind, json), skips))
            self._kinds[field] = kind.kind
            # What a type does to values belongs to what decides how they look. Most types do nothing, and instants
            # without a zone are in UTC, as they were before they were known to be instants.
            changes = kind.load is not None and (kind.kind is not Kind.INSTANT or self._zone != "UTC")
            self._described.append((field, columns[number], json, skips, *([str(kind.kind)] if changes else [])))
        constants = {
            field: self._constant(field, source.value)
            for field, source in fields.items()
            if isinstance(source, Constant)
        }
        self._constants, self._constant_fields = tuple(constants.values()), tuple(constants)
        self._described += [(field, "", False, False) for field in constants]
        self._build = builder([*found, *constants, *extra])

    def watch(self, fields: Collection[str]) -> None:
        """Note the types of the values of some fields from now on; constants have theirs at once."""
        self._watched = frozenset(fields)
        for field, value in zip(self._constant_fields, self._constants, strict=True):
            if field in self._watched:
                look(self.seen, field, [value])

    def payloads(
        self, columns: Sequence[Sequence[Any]], refuse: Refuse, extra: Sequence[Sequence[Any]] = ()
    ) -> list[Any]:
        """Return the fields of every row of a chunk as something ``msgspec`` encodes as one JSON object.

        :param columns: the chunk, column by column
        :param refuse: called with every value without a JSON form: the row's number, and field, type and shape
        :param extra: the values of the further fields, ``UNSET`` to leave one out
        """
        rows = len(columns[0])
        values = [self._column(*column, columns, refuse) for column in self._columns]
        return self._build([*values, *([value] * rows for value in self._constants), *extra], rows)

    def _column(
        self, field: str, number: int, load: Load | None, skips: bool, columns: Sequence[Sequence[Any]], refuse: Refuse
    ) -> Sequence[Any]:
        values: Sequence[Any] = columns[number]
        try:
            rendered = self._render.column(loaded(values, load))
        except (BadValue, RecursionError):
            rendered = [self._value_of(field, row, value, load, refuse) for row, value in enumerate(values)]
        if field in self._watched:
            self._look(field, rendered)
        if skips and type(None) in set(map(type, rendered)):
            return [UNSET if value is None else value for value in rendered]
        return rendered

    def _look(self, field: str, rendered: Sequence[Any]) -> None:
        known = FIELD_TYPES.get(self._kinds[field])
        if known is None:
            look(self.seen, field, rendered)
        elif count := len(rendered) - rendered.count(None):
            self.seen.setdefault(field, Counter())[known] += count

    def _value_of(self, field: str, row: int, value: Any, load: Load | None, refuse: Refuse) -> Any:
        try:
            (found,) = loaded([value], load)
            return self._render(found)
        except BadValue as error:
            refuse(row, f"field {field}: {error}")
        except RecursionError:
            refuse(row, f"field {field}: nested too deeply")
        return None

    def _constant(self, field: str, value: Any) -> Any:
        try:
            return self._value(field, value)
        except FieldError as error:
            raise ConfigurationError(f"A Constant cannot be sent: {error}") from None

    def _value(self, field: str, value: Any) -> Any:
        try:
            return self._render(value)
        except BadValue as error:
            raise FieldError(f"field {field}: {error}") from None


def _load(kind: ColumnType, json: bool) -> Load | None:
    """Return what makes a value of what the driver returns: a column of JSON needs no ``Json()``, a text does."""
    load = kind.load
    if not json or kind.kind is Kind.JSON:
        return load
    return json_text if load is None else lambda value: json_text(load(value))


def position(columns: Sequence[str], name: str) -> int:
    """Return where a column stands.

    :raises ModelError: there is no such column; upper and lower case may differ where that is unambiguous
    """
    if name in columns:
        return columns.index(name)
    alike = [number for number, column in enumerate(columns) if column.lower() == name.lower()]
    if len(alike) == 1:
        return alike[0]
    raise ModelError(f"The model has no column {name!r}. Its columns are: {', '.join(columns)}. Nothing was sent.")


def check_fields(name: str, fields: Any, pending: Callable[[Any], bool] = lambda value: False) -> Fields:
    """Return a mapping of fields, once it is known to be one.

    :param name: the parameter it came by
    :param pending: returns whether a value is still to be rendered, such as a template
    :raises ConfigurationError: a field name is empty, a field is inside another that is mapped too, a source is none
    """
    if not isinstance(fields, Mapping):
        raise ConfigurationError(
            f"{name} must be a dict of Iterable's field to a column's name, Column, Json or Constant, not "
            f"{type(fields).__name__}"
        )
    for field in fields:
        if not isinstance(field, str) or pending(field):
            raise ConfigurationError(f"{name} names the field {field!r}: names are texts as they stand, not templates")
    _check_names(tuple(fields))
    for field, source in fields.items():
        if not pending(source):
            _check_source(field, source, pending)
    return fields


def spared_fields(fields: Fields | None) -> tuple[str, ...]:
    """Return the fields of a mapping that only profiles without them are to get."""
    return tuple(
        field for field, source in (fields or {}).items() if isinstance(source, Column) and source.only_if_empty
    )


def _check_source(field: str, source: Any, pending: Callable[[Any], bool]) -> None:
    if not isinstance(source, str | Column | Json | Constant):
        raise ConfigurationError(
            f"The field {field!r} comes from a {type(source).__name__}: give a column's name, Column, Json or Constant."
        )
    column = source.name if isinstance(source, Column | Json) else source
    if not isinstance(column, str | Constant) and not pending(column):
        raise ConfigurationError(f"The field {field!r} comes from {column!r}, which is not the name of a column")
    if isinstance(source, Column | Json) and source.nulls not in (None, "send", "skip"):
        raise ConfigurationError(f'The field {field!r}: nulls must be "send" or "skip", not {source.nulls!r}')
    if isinstance(source, Column) and not isinstance(source.only_if_empty, bool):
        raise ConfigurationError(f"The field {field!r}: only_if_empty must be True or False")
    if isinstance(source, Column) and source.only_if_empty and source.nulls == "send":
        raise ConfigurationError(
            f"The field {field!r}: only_if_empty never sends a null, which would empty the field. Leave out "
            'nulls="send".'
        )


def _check_columns(columns: Sequence[str], names: tuple[str, ...]) -> None:
    """Refuse columns without a name of their own: what a database calls them would be fields for ever.

    :raises ModelError: an expression has no name
    """
    for name in names:
        if _UNNAMED(name):
            raise ModelError(
                f"Column {columns.index(name) + 1} of the model has no name, or one that looks like an expression: "
                f"{name!r}. Iterable would have a field of that name for ever. Give it another one with AS, or map it "
                "in fields. Nothing was sent."
            )


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if not name or not all(name.split(".")):
            raise ConfigurationError(f"{name!r} is not a field name: a dot stands between two names")
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts)):
            if ".".join(parts[:length]) in names:
                raise ConfigurationError(
                    f"The fields {'.'.join(parts[:length])!r} and {name!r} are both mapped, and one is inside the "
                    "other. Map the leaves, or the parent as Json."
                )


_encode = msgspec.json.Encoder().encode


def key_texts(columns: Sequence[Sequence[Any]]) -> list[str] | None:
    """Return the key texts of a chunk, given its key column by column.

    ``None`` when there is anything but strings and integers, or a key that is none: :func:`key_text` handles these.
    """
    if any(set(map(type, column)) - {int, str} for column in columns):
        return None
    try:
        texts = [text.decode() for text in map(_encode, zip(*columns, strict=True))]
    except (OverflowError, UnicodeEncodeError):
        return None
    return texts if max(map(len, texts)) <= MAX_KEY_TEXT else None


def key_text(values: Sequence[Any]) -> str | None:
    """Return the canonical text of a primary key, ``None`` when a part of it is null.

    Key text is a JSON array of canonical values: integral numbers without a fraction, UTC timestamps, lower-case
    UUIDs; the same whatever driver or database computed it.

    :raises FieldError: a part is binary, an array, an object, NaN or infinite
    """
    canonical = []
    for value in values:
        if value is None:
            return None
        canonical.append(value if type(value) is str or type(value) is int else _canonical(value))
    return _encode(canonical).decode()


def _canonical(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int():
            return int(value)
        case str():
            return str.__str__(value)
        case float() | Decimal():
            if not math.isfinite(value):
                raise FieldError("primary key: a number that is infinite, too large or none")
            return int(value) if value == int(value) else float(value)
        case datetime():
            text = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return text.isoformat("T", "microseconds") + ("Z" if value.tzinfo else "")
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
        case Unreadable():
            raise FieldError(f"primary key: {value.why}")
    raise FieldError(f"primary key: a value of type {type(value).__name__}")
