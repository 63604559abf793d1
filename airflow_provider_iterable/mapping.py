"""Maps columns to Iterable fields, and primary keys to key text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

from airflow_provider_iterable.api.values import BadValue, Renderer
from airflow_provider_iterable.errors import ConfigurationError, ModelError

Nulls = Literal["send", "skip"]
MAX_KEY_TEXT = 500
"""Longest key text in characters; state tables index it."""

Refuse = Callable[[int, str], None]
"""Called with a value that cannot be sent: the number of its row in the chunk, and a sentence."""


@dataclass(frozen=True)
class Column:
    """A field that comes from a column.

    :param name: the model's column
    :param nulls: ``"send"`` a null (Iterable removes the field) or ``"skip"`` it; ``None``: as the sync does
    """

    name: str
    nulls: Nulls | None = None


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
        self._described: list[tuple[str, str, bool, bool]] = []
        self.names: tuple[str, ...] = ()
        if fields is not None:
            self.names = tuple(check_fields("fields", fields))
        self._columns: list[tuple[str, int, bool, bool]] = []
        """Of each mapped column: the field, the column's position, whether it is JSON, whether nulls are skipped."""
        self._constants: tuple[Any, ...] = ()
        self._build: Callable[[list[Sequence[Any]], int], list[Any]] = lambda columns, rows: []

    @property
    def nests(self) -> bool:
        """Whether a dotted name is mapped."""
        return any("." in name for name in self.names)

    @property
    def positions(self) -> tuple[int, ...]:
        """Where the mapped columns stand; empty until bound."""
        return tuple(number for _, number, _, _ in self._columns)

    @property
    def sources(self) -> Mapping[str, int | None]:
        """Where the column of each field stands, ``None`` where it is a constant; empty until bound."""
        found: dict[str, int | None] = {field: number for field, number, _, _ in self._columns}
        return {field: found.get(field) for field in self.names if self._described}

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
        self._columns = [
            (
                field,
                position(columns, source.name),
                isinstance(source, Json),
                (source.nulls or self._nulls) == "skip",
            )
            for field, source in found.items()
        ]
        self._described = [(field, columns[number], json, skips) for field, number, json, skips in self._columns]
        constants = {
            field: self._constant(field, source.value)
            for field, source in fields.items()
            if isinstance(source, Constant)
        }
        self._constants = tuple(constants.values())
        self._described += [(field, "", False, False) for field in constants]
        self._build = _builder([*found, *constants, *extra])

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
        self, field: str, number: int, is_json: bool, skips: bool, columns: Sequence[Sequence[Any]], refuse: Refuse
    ) -> Sequence[Any]:
        values: Sequence[Any] = columns[number]
        try:
            rendered = self._render.column(_parsed(values) if is_json else values)
        except (BadValue, RecursionError):
            rendered = [self._value_of(field, row, value, is_json, refuse) for row, value in enumerate(values)]
        if skips and type(None) in set(map(type, rendered)):
            return [UNSET if value is None else value for value in rendered]
        return rendered

    def _value_of(self, field: str, row: int, value: Any, is_json: bool, refuse: Refuse) -> Any:
        try:
            return self._render(_parse(value) if is_json else value)
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


def _parsed(values: Sequence[Any]) -> list[Any]:
    return [_parse(value) for value in values]


def _parse(value: Any) -> Any:
    """Parse JSON text; what a driver has parsed already stays as it is."""
    if not isinstance(value, str | bytes):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadValue("text that is not JSON") from None


def _builder(names: Sequence[str]) -> Callable[[list[Sequence[Any]], int], list[Any]]:
    """Return a function from columns, in the order of dotted names, to one object per row.

    The objects are structs made for these names: they are built and encoded in about half the time of dicts.
    """
    tree: dict[str, Any] = {}
    for number, name in enumerate(names):
        *parents, leaf = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = number
    if not tree:
        empty = _struct(())()
        return lambda columns, rows: [empty] * rows
    root = _node(tree)
    return lambda columns, rows: root(columns)


def _struct(names: Sequence[str]) -> Any:
    """Return what makes an object of values in the order of these names."""
    slots = {f"f{number}": name for number, name in enumerate(names)}
    try:
        struct: Any = msgspec.defstruct("Fields", [(slot, Any) for slot in slots], rename=slots, gc=False)
    except ValueError:  # a name with quotes, backslashes or control characters, which structs do not have
        return lambda *values: {name: value for name, value in zip(names, values, strict=True) if value is not UNSET}
    return struct


def _node(tree: Mapping[str, Any]) -> Callable[[list[Sequence[Any]]], list[Any]]:
    struct = _struct(list(tree))
    children = [child if isinstance(child, int) else _inner(child) for child in tree.values()]

    def build(columns: list[Sequence[Any]]) -> list[Any]:
        return list(map(struct, *(columns[child] if isinstance(child, int) else child(columns) for child in children)))

    return build


def _inner(tree: Mapping[str, Any]) -> Callable[[list[Sequence[Any]]], list[Any]]:
    """Return a builder of inner objects: one that would be empty is left out."""
    struct = _struct(list(tree))
    children = [child if isinstance(child, int) else _inner(child) for child in tree.values()]

    def build(columns: list[Sequence[Any]]) -> list[Any]:
        parts = [columns[child] if isinstance(child, int) else child(columns) for child in children]
        made = list(map(struct, *parts))
        if all(type(UNSET) in set(map(type, part)) for part in parts):
            for number, values in enumerate(zip(*parts, strict=True)):
                if all(value is UNSET for value in values):
                    made[number] = UNSET
        return made

    return build


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


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into objects."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return nested


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
    raise FieldError(f"primary key: a value of type {type(value).__name__}")
