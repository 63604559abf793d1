"""How a value must look to Iterable: dates, numbers, identifiers, field types; knows no request and no row.

Iterable types a custom field by the first value it ever sees, for ever, and takes only a few forms of text for a
date; everything here serves to send the form that types correctly the first time.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

MAX_USER_ID = 52
"""Longest user ID Iterable takes, in characters."""

MAX_EMAIL_LOCAL = 64

CATALOG_OFFSET = "+0000"
"""Iterable writes the offsets of dates in catalogs without a colon, those of dates in profiles with one."""

_LOCAL = r"""(?:(?:[^\s\x00-\x1f\x7f()<>@,;:\\".\[\]]|\\.)+|"(?:\\"|[^"])*")"""
_DOTS = r"\u3002\uff0e\uff61"  # what else is a dot in a domain name
_EDGE = rf"[^\x00-/:-`{{-\x7f\s{_DOTS}]"  # a-z, 0-9, and every character of other scripts, vowel signs included
_LABEL = rf"{_EDGE}(?:[^\x00-,./:-^`{{-\x7f\s{_DOTS}]*{_EDGE})?"
_TOP = rf"(?:[a-z]{{2,}}|xn--[a-z0-9-]+|(?=.*[^\x00-\x7f]){_LABEL})"
_EMAIL = re.compile(rf"{_LOCAL}(?:\.{_LOCAL})*@(?:{_LABEL}[.{_DOTS}])+{_TOP}", re.DOTALL)
_HOUR = r"(?:[01]\d|2[0-3])"
_USUAL_EMAIL = re.compile(
    r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}", re.ASCII
).fullmatch
"""Most addresses, at half the price of the whole rule."""
_DATE = re.compile(
    rf"(\d{{4}}-\d\d-\d\d)(?: ({_HOUR}:[0-5]\d:[0-5]\d)(?: ([+-]{_HOUR}:[0-5]\d))?"
    rf"|T({_HOUR}:[0-5]\d:[0-5]\d)\.\d{{3}}(Z|[+-]{_HOUR}:[0-5]\d))?",
    re.ASCII,
)
_ITEM_ID = re.compile(r"[a-zA-Z0-9-]{1,255}", re.ASCII).fullmatch
EXACT = 2**53
"""Doubles below it are the numbers that they were made of; of a whole one beyond, the last digits may be others."""
_LONG = 2**63
"""Iterable's ``long`` has 64 bits; one integer beyond them would fail its whole batch."""
_CHARACTERS = str.maketrans(
    {chr(code): "x" for code in range(97, 123)}
    | {chr(code): "x" for code in range(65, 91)}
    | {chr(code): "0" for code in range(48, 58)}
)
_SHAPE_LENGTH = 40


class BadValue(ValueError):
    """A value has no JSON form that Iterable could store; the message holds its type and shape, never itself."""


class Unreadable:
    """What stands for a value that the driver cannot hold: its row is refused if the column is used.

    :param why: what it is, without the value: ``"a date beyond the years 1 to 9999"``
    """

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


def email(value: object) -> str | None:
    """Return the address trimmed and folded as Iterable stores it, or ``None`` when it is malformed.

    Iterable checks addresses with Apache Commons' validator and a list of top-level domains; this is the syntax
    part, so what passes here may still come back as invalid.
    """
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if _USUAL_EMAIL(text) is not None and len(text) <= MAX_EMAIL_LOCAL:
        return text
    if _EMAIL.fullmatch(text) is None or text.rindex("@") > MAX_EMAIL_LOCAL:
        return None
    return text


def emails(values: Sequence[Any]) -> list[str | None]:
    """Return addresses as :func:`email` does, in a fraction of the time where all are usual ones."""
    try:
        texts: list[str | None] = [text.lower() for text in map(str.strip, values)]
    except TypeError:
        return list(map(email, values))
    if all(map(_USUAL_EMAIL, texts)) and max(map(len, texts)) <= MAX_EMAIL_LOCAL:  # type: ignore[arg-type]
        return texts
    return list(map(email, values))


def user_ids(values: Sequence[Any]) -> list[str | None]:
    """Return user IDs as :func:`user_id` does, in a fraction of the time where all are plain text."""
    if set(map(type, values)) == {str} and all(values) and max(map(len, values)) <= MAX_USER_ID:
        together = "".join(values)
        if together.isascii() and together.isprintable() and " " not in together:
            return list(values)
    return list(map(user_id, values))


def user_id(value: object) -> str | None:
    """Return the user ID as the string Iterable wants, or ``None``: blank, too long, spaces around, not ASCII."""
    if type(value) is not str:
        value = _identifier(value)
    if not 0 < len(value) <= MAX_USER_ID or not value.isascii() or not value.isprintable():
        return None
    return value if value == value.strip() else None


def _identifier(value: object) -> str:
    """Return the text of a number or a UUID, without a fraction; none for what identifies nothing."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, Decimal | float):
        if not math.isfinite(value) or value != int(value):
            return ""
        value = int(value)
    if not isinstance(value, str | int | UUID) or (isinstance(value, int) and abs(value) >= 10**MAX_USER_ID):
        return ""
    return str(value)


def item_id(value: object) -> str | None:
    """Return the ID of a catalog item as a string, or ``None``: it has letters, digits and dashes, at most 255."""
    text = value if type(value) is str else _identifier(value)
    return text if _ITEM_ID(text) else None


def item_ids(values: Sequence[Any]) -> list[str | None]:
    """Return IDs of catalog items as :func:`item_id` does."""
    return list(map(item_id, values))


def moment(value: datetime, zone: tzinfo = UTC, offset: str = "+00:00") -> str:
    """Return a date-time in UTC in the form Iterable types as a date; a naive one is read in ``zone``.

    :param offset: how UTC is written

    :raises BadValue: in UTC it is before the year 1 or after the year 9999; or it is a date-time in name only
    """
    if type(value) is not datetime:  # a driver's own subclass
        try:
            value = datetime.combine(value.date(), value.timetz())
        except (ValueError, TypeError):  # NaT of pandas
            raise BadValue("a date-time that is none") from None
    if value.tzinfo is None and zone is not UTC:
        value = value.replace(tzinfo=zone)
    text: str = msgspec.to_builtins(value)  # RFC 3339, at a tenth of the price of isoformat
    # Offsets are written in minutes: one of seconds looks like none.
    if value.tzinfo is not None and value.tzinfo is not UTC and (text[-1] != "Z" or value.utcoffset()):
        try:
            text = msgspec.to_builtins(value.astimezone(UTC))
        except OverflowError:
            raise BadValue("a date beyond the years 1 to 9999") from None
    return f"{text[:10]} {text[11:19]} {offset}"


def moments(values: Sequence[datetime], zone: tzinfo = UTC, offset: str = "+00:00") -> list[str]:
    """Return date-times as :func:`moment` does, in a fraction of the time where all are in UTC.

    :raises BadValue: as :func:`moment`
    """
    zones = {value.tzinfo for value in values}
    if zone is UTC:
        zones.discard(None)
    if all(found is not None and found.utcoffset(None) == timedelta() for found in zones):
        return [f"{text[:10]} {text[11:19]} {offset}" for text in msgspec.to_builtins(values)]
    return [moment(value, zone, offset) for value in values]


def _decimals(values: Sequence[Decimal]) -> Sequence[float]:
    with suppress(ValueError):  # a signalling NaN
        numbers = list(map(float, values))
        if math.isfinite(sum(numbers)):
            return numbers
    return list(map(_decimal, values))


def _floats(values: Sequence[float]) -> Sequence[float]:
    return values if math.isfinite(sum(values)) else list(map(_float, values))


def _integers(values: Sequence[int]) -> Sequence[int]:
    return values if min(values) >= -_LONG and max(values) < _LONG else list(map(_integer, values))


def _decimal(value: Decimal) -> float:
    """Decimals are doubles, whole ones too: Iterable types a field for ever by whichever value comes first."""
    number = math.nan if value.is_nan() else float(value)
    if not math.isfinite(number):
        raise BadValue(f"number {value}" if not value.is_finite() else "number beyond the range of a double")
    return number


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise BadValue(f"number {value}")
    return value


def _integer(value: int) -> int:
    if not -_LONG <= value < _LONG:
        raise BadValue("an integer beyond 64 bits")
    return int(value)


def _duration(value: timedelta) -> str:
    """MySQL gives ``TIME`` columns as durations."""
    sign = "-" if value < timedelta() else ""
    seconds, fraction = divmod(abs(value), timedelta(seconds=1))
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    parts = f"{sign}{hour:02d}:{minute:02d}:{second:02d}"
    return f"{parts}.{fraction.microseconds:06d}" if fraction else parts


_MISSING = frozenset({"NaTType", "NAType"})
"""What pandas, by which some drivers read, has in place of nulls."""

PLAIN = frozenset({str, bool, type(None)})
"""Types whose values are JSON as they stand."""


class Renderer:
    """Turns what SQL drivers return into JSON values.

    :param zone: the zone in which naive date-times are read
    :param offset: how UTC is written in them
    """

    def __init__(self, zone: tzinfo = UTC, offset: str = "+00:00") -> None:
        self.by_type: dict[type, Callable[[Any], Any]] = {
            int: _integer,
            float: _float,
            Decimal: _decimal,
            datetime: lambda value: moment(value, zone, offset),
            date: date.isoformat,
            time: time.isoformat,
            timedelta: _duration,
            UUID: str,
            list: self._list,
            tuple: self._list,
            dict: self._dict,
            ipaddress.IPv4Address: str,
            ipaddress.IPv6Address: str,
            ipaddress.IPv4Network: str,
            ipaddress.IPv6Network: str,
            ipaddress.IPv4Interface: str,
            ipaddress.IPv6Interface: str,
            Unreadable: _unreadable,
        }

        self._at_once: dict[type, Callable[[Sequence[Any]], Sequence[Any]]] = {
            int: _integers,
            float: _floats,
            Decimal: _decimals,
            datetime: lambda values: moments(values, zone, offset),
        }

    def __call__(self, value: Any) -> Any:
        """Return the JSON value.

        :raises BadValue: bytes, NaN, infinity, or a type that has no JSON form
        """
        kind = type(value)
        if kind in PLAIN:
            return value
        return self.for_type(kind)(value)

    def column(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return the JSON values of a column, in a fraction of the time where all have one type.

        :raises BadValue: one of them has none; calling the renderer with each shows which
        """
        kinds = set(map(type, values))
        if kinds <= PLAIN:
            return values
        if len(kinds - {type(None)}) > 1:
            return list(map(self, values))
        given = values if len(kinds) == 1 else [value for value in values if value is not None]
        (kind,) = kinds - {type(None)}
        at_once = self._at_once.get(kind)
        rendered = list(map(self.for_type(kind), given)) if at_once is None else at_once(given)
        if rendered is given:
            return values
        if given is values:
            return rendered
        following = iter(rendered)
        return [None if value is None else next(following) for value in values]

    def for_type(self, kind: type) -> Callable[[Any], Any]:
        """Return what renders values of a type that is not plain."""
        return self.by_type.get(kind) or self._learn(kind)

    def _learn(self, kind: type) -> Callable[[Any], Any]:
        """Find the renderer of a subclass (a driver's own datetime, a numeric enum) and keep it."""
        render: Callable[[Any], Any] = _refuse
        if kind.__name__ in _MISSING:
            render = lambda value: None  # noqa: E731
        elif issubclass(kind, Enum):
            render = lambda value: self(value.value)  # noqa: E731
        elif kind.__module__ == "numpy":  # its scalars and arrays know the Python values that they are
            render = lambda value: self(value.tolist())  # noqa: E731
        elif issubclass(kind, str | int):
            render = str if issubclass(kind, str) else _integer
        else:
            for base in kind.__mro__[1:]:
                if base in self.by_type:
                    render = self.by_type[base]
                    break
            else:
                if issubclass(kind, Mapping):
                    render = self._dict
        self.by_type[kind] = render
        return render

    def _list(self, values: list[Any] | tuple[Any, ...]) -> list[Any]:
        fields = names_of(values)
        if fields:
            return self._dict(dict(zip(fields, values, strict=True)))  # type: ignore[return-value]
        return [self(value) for value in values]

    def _dict(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        found = {key if type(key) is str else self._name(key): self(value) for key, value in values.items()}
        if len(found) < len(values):
            raise BadValue("an object of which several keys are the same text")
        return found

    def _name(self, key: Any) -> str:
        """Return the text of a value as a key: what it is as JSON, without the quotes."""
        found = self(key)
        if found is None or isinstance(found, list | dict):
            raise BadValue("an object with a key that is no text")
        return found if isinstance(found, str) else msgspec.json.encode(found).decode()


def names_of(values: Sequence[Any]) -> Sequence[str]:
    """Return the names of a row's values, where it is a tuple with names: Python's own, or Trino's."""
    fields: Sequence[Any] = (
        getattr(values, "_fields", None) or getattr(values, "__annotations__", {}).get("names") or ()
    )
    return fields if all(isinstance(name, str) for name in fields) else ()


def _unreadable(value: Unreadable) -> Any:
    raise BadValue(value.why)


def _refuse(value: object) -> Any:
    raise BadValue(f"a value of type {type(value).__name__}")


def is_date(text: str) -> bool:
    """Return whether Iterable would type this text as a date."""
    found = _DATE.fullmatch(text)
    if found is None:
        return False
    day, time, offset, iso_time, iso_offset = found.groups()
    try:
        moment(datetime.fromisoformat(f"{day}T{time or iso_time or '00:00:00'}{offset or iso_offset or ''}"))
    except ValueError:
        return False
    return True


def shape(value: Any) -> str:
    """Describe the shape of a JSON value, without the value: ``string like 0000-00-00``, letters as x, digits as 0."""
    if isinstance(value, str):
        text = "".join(
            c if c.isascii() and c.isprintable() else "x" for c in value[:_SHAPE_LENGTH].translate(_CHARACTERS)
        )
        if not {*text} & {"x", "0"}:  # then the shape would be the value
            return f"string of {len(value)} sign{'s' * (len(value) > 1)}" if value else "empty string"
        return f"string like {text}" + ("..." if len(value) > _SHAPE_LENGTH else "")
    if isinstance(value, list):
        return f"array of {len(value)}" + (f", first {shape(value[0])}" if value else "")
    if isinstance(value, Unreadable):
        return value.why
    if isinstance(value, float) and abs(value) >= EXACT:
        return "decimal number beyond the digits of a double"
    names = {bool: "boolean", int: "integer", float: "decimal number", dict: "object", type(None): "null"}
    return names.get(type(value), type(value).__name__)
