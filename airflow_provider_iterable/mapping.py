"""Columns to Iterable fields, and primary keys to key text; knows neither SQL nor requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from operator import itemgetter
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

from airflow_provider_iterable.api.values import PLAIN, BadValue, Renderer
from airflow_provider_iterable.errors import ConfigurationError, ModelError

Nulls = Literal["send", "skip"]
MAX_KEY_TEXT = 500
"""Longest key text in characters; state tables index it."""

MOST_RECIPES = 1000
"""Combinations of value types whose treatment is kept."""


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
    :raises ConfigurationError: a field name is empty, a field is inside another that is mapped too, a source is none
    """

    def __init__(
        self,
        fields: Fields | None,
        nulls: Nulls = "send",
        zone: tzinfo = UTC,
        used: frozenset[str] = frozenset(),
    ) -> None:
        if nulls not in ("send", "skip"):
            raise ConfigurationError(f'nulls must be "send" or "skip", not {nulls!r}')
        self._fields, self._nulls, self._used = fields, nulls, used
        self._render = Renderer(zone)
        self.names: tuple[str, ...] = ()
        if fields is not None:
            self.names = tuple(fields)
            _check_names(self.names)
            _check_sources(fields)
        self._get: Callable[[Sequence[Any]], tuple[Any, ...]] = tuple
        self._columns: tuple[str, ...] = ()
        self._json: tuple[int, ...] = ()
        self._skipping: frozenset[int] = frozenset()
        self._build: Callable[..., Any] = tuple
        self._constants: tuple[Any, ...] = ()
        self._more = False
        self.payload: Callable[..., Any] = tuple
        """Returns a row's fields as something ``msgspec`` encodes as one JSON object; takes the row and the values of
        the further fields (``UNSET`` to leave one out); raises :class:`FieldError` where a value has no JSON form."""
        self._recipes: dict[tuple[type, ...], tuple[tuple[int, Callable[[Any], Any]], ...]] = {}

    @property
    def nests(self) -> bool:
        """Whether a dotted name is mapped."""
        return any("." in name for name in self.names)

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
        self._columns = tuple(found)
        self._get = _getter([position(columns, source.name) for source in found.values()])
        self._json = tuple(number for number, source in enumerate(found.values()) if isinstance(source, Json))
        self._skipping = frozenset(
            number for number, source in enumerate(found.values()) if (source.nulls or self._nulls) == "skip"
        )
        constants = {
            field: self._constant(field, source.value)
            for field, source in fields.items()
            if isinstance(source, Constant)
        }
        self._constants = tuple(constants.values())
        self._more = bool(constants or extra)
        self._build = _builder([*found, *constants, *extra])
        self._recipes.clear()
        self.payload = self._payload()

    def _payload(self) -> Callable[..., Any]:
        """Return the function that maps a row; its names are local to it, for it runs a million times."""
        get, build, columns, constants, more = self._get, self._build, self._columns, self._constants, self._more
        known, find = self._recipes.get, self._recipe

        def payload(row: Sequence[Any], *extra: Any) -> Any:
            values: Sequence[Any] = get(row)
            kinds = tuple(map(type, values))
            recipe = known(kinds)
            if recipe is None:
                recipe = find(kinds)
            if recipe:
                values = list(values)
                try:
                    for number, render in recipe:
                        values[number] = render(values[number])
                except BadValue as error:
                    raise FieldError(f"field {columns[number]}: {error}") from None
                except RecursionError:
                    raise FieldError(f"field {columns[number]}: nested too deeply") from None
            if more:
                return build(*values, *constants, *extra)
            return build(*values)

        return payload

    def _recipe(self, kinds: tuple[type, ...]) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
        """Find what has to be done to values of these types, and keep it: most rows of a model look alike."""
        if len(self._recipes) >= MOST_RECIPES:
            self._recipes.clear()
        recipe: list[tuple[int, Callable[[Any], Any]]] = []
        for number, kind in enumerate(kinds):
            if kind is type(None):
                if number in self._skipping:
                    recipe.append((number, lambda value: UNSET))
            elif number in self._json and issubclass(kind, str | bytes):
                recipe.append((number, _parse))
            elif kind not in PLAIN:
                recipe.append((number, self._render.for_type(kind)))
        return self._recipes.setdefault(kinds, tuple(recipe))

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


def _parse(text: str | bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadValue("text that is not JSON") from None


def _builder(names: Sequence[str]) -> Callable[..., Any]:
    """Return a function from values, in the order of dotted names, to one object.

    The object is a struct made for these names: it is built and encoded in about half the time of a dict.
    """
    if not any("." in name for name in names):
        flat: Callable[..., Any] = _struct(names)
        return flat
    tree: dict[str, Any] = {}
    for number, name in enumerate(names):
        *parents, leaf = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = number
    root = _node(tree)
    empty = _struct(())()
    return lambda *values: empty if (made := root(values)) is UNSET else made


def _struct(names: Sequence[str]) -> Any:
    slots = {f"f{number}": name for number, name in enumerate(names)}
    struct: Any = msgspec.defstruct("Fields", [(slot, Any) for slot in slots], rename=slots, gc=False)
    return struct


def _node(tree: Mapping[str, Any]) -> Callable[[Sequence[Any]], Any]:
    struct = _struct(list(tree))
    children = [child if isinstance(child, int) else _node(child) for child in tree.values()]

    def build(values: Sequence[Any]) -> Any:
        made = [values[child] if isinstance(child, int) else child(values) for child in children]
        return struct(*made) if any(value is not UNSET for value in made) else UNSET

    return build


def position(columns: Sequence[str], name: str) -> int:
    """Return where a column stands.

    :raises ModelError: there is no such column; case is forgiven when that is unambiguous
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


def _getter(positions: list[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    if not positions:
        return lambda row: ()
    if len(positions) == 1:
        only = positions[0]
        return lambda row: (row[only],)
    return itemgetter(*positions)


def _check_sources(fields: Fields) -> None:
    for field, source in fields.items():
        if not isinstance(source, str | Column | Json | Constant):
            raise ConfigurationError(
                f"The field {field!r} comes from a {type(source).__name__}: "
                "give a column's name, Column, Json or Constant."
            )
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


def key_getter(columns: Sequence[str], primary_key: Sequence[str]) -> Callable[[Sequence[Any]], str | None]:
    """Return a function from a row to its key text, ``None`` when a part of the key is null.

    Key text is a JSON array of canonical values: integral numbers without a fraction, UTC timestamps, lower-case
    UUIDs; the same whatever driver or database computed it.

    :raises ModelError: a column of the key is missing
    """
    positions = [position(columns, name) for name in primary_key]
    if len(positions) > 1:
        get = itemgetter(*positions)
        return lambda row: key_text(get(row))
    only = positions[0]

    def single(row: Sequence[Any]) -> str | None:
        value = row[only]
        return f"[{value}]" if type(value) is int else key_text((value,))

    return single


_encode = msgspec.json.Encoder().encode


def key_text(values: Sequence[Any]) -> str | None:
    """Return the canonical text of a primary key, ``None`` when a part of it is null.

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
