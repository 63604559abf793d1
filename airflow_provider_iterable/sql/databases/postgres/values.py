"""Reads the text of values that have others in them, which drivers know in part: each in its own way, and not all."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.columns import Kind
from airflow_provider_iterable.sql.databases.postgres.catalog import Types, kind_of

Read = Callable[[str], Any]

_QUOTED = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_ELEMENT = re.compile(rf'{_QUOTED}|([^{{}},"]+)|({{)|}}', re.DOTALL)
_FIELD = re.compile(r'(?:^|,)(?:"([^"]*(?:""[^"]*)*)"|([^,]+))?')
_PAIR = re.compile(rf"{_QUOTED}=>(?:NULL|{_QUOTED})", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_DOUBLED = re.compile(r'(["\\])\1')


def reads(oid: int, types: Types, leaf: Callable[[int], bool] = lambda oid: False) -> bool:
    """Whether values of a type are read here; a driver has arrays of what it knows in a fraction of the time.

    :param leaf: returns whether values of a type that is not nested are
    """
    kind = types.get(oid)
    if kind is None or not kind.is_nested:
        return leaf(oid)
    return not kind.is_array or reads(kind.element, types, leaf)


def reader(oid: int, types: Types, cast: Callable[[int], Read]) -> Read:
    """Return what reads the text of a value that is not null.

    :param cast: returns how a driver reads values of a type that is known by number
    """
    kind = types.get(oid)
    if kind is not None and kind.is_nested:
        if kind.is_array:
            return partial(_array, reader(kind.element, types, cast))
        if kind.shape == "d":
            return reader(kind.base, types, cast)
        if kind.shape == "c":
            return partial(_struct, [(name, reader(part, types, cast)) for name, part in kind.attributes])
        return _hstore
    match kind_of(oid):
        case Kind.TEXT | Kind.BITS:
            return str
        case Kind.JSON:
            return json
    return cast(oid)


def from_bytes(read: Read) -> Callable[[bytes], Any]:
    """Return what reads the bytes of a value, which are no text where the database does not check that."""

    def load(data: bytes) -> Any:
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError:
            return Unreadable("text that is not valid UTF-8")
        return read(text)

    return load


def json(data: str | bytes) -> Any:
    """Return what JSON means; the drivers' own way of reading it fails for a document that is very deep or long."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return Unreadable("JSON that is nested too deeply, or has a number or text that Python has no room for")


def _array(read: Read, text: str) -> list[Any]:
    lists: list[list[Any]] = [[]]
    for found in _ELEMENT.finditer(text, text.index("{")):  # before it are bounds, where they do not begin at 1
        quoted, plain, opens = found.groups()
        if quoted is not None:
            lists[-1].append(read(_ESCAPED.sub(r"\1", quoted)))
        elif plain is not None:
            lists[-1].append(None if plain == "NULL" else read(plain))
        elif opens:
            lists[-1].append([])
            lists.append(lists[-1][-1])
        else:
            lists.pop()
    whole: list[Any] = lists[0][0]
    return whole


def _struct(members: Sequence[tuple[str, Read]], text: str) -> dict[str, Any]:
    fields = {}
    # The text of a type without fields is that of one with a single null.
    for (name, read), found in zip(members, _FIELD.finditer(text[1:-1]), strict=False):
        quoted, plain = found.groups()
        if quoted is not None:
            fields[name] = read(_DOUBLED.sub(r"\1", quoted))
        else:
            fields[name] = None if plain is None else read(plain)
    return fields


def _hstore(text: str) -> dict[str, str | None]:
    return {
        _ESCAPED.sub(r"\1", name): None if value is None else _ESCAPED.sub(r"\1", value)
        for name, value in (found.groups() for found in _PAIR.finditer(text))
    }
