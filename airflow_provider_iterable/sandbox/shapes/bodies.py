"""Decodes a body into the type that its endpoint takes, or finds what is wrong with it."""

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_origin

import msgspec

Shape = TypeVar("Shape", bound=msgspec.Struct)

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_WORDS: dict[type, str] = {
    str: "String",
    bool: "Boolean",
    int: "Number",
    float: "Number",
    dict: "Object",
    list: "Array",
}


class BadBodyError(Exception):
    """A body that is no JSON, or whose JSON has another shape; `violations` says where, by path."""

    def __init__(self, violations: dict[str, str]) -> None:
        """Keep what is wrong at which path; nothing when the body is no JSON at all."""
        super().__init__(violations)
        self.violations = violations


def read(body: bytes, shape: type[Shape]) -> Shape:
    """Return the body as its shape, or raise BadBodyError with all violations."""
    try:
        value: Shape = _decoder(shape).decode(body)
        return value
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:
        judged = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadBodyError({}) from None
    raise BadBodyError(dict(_violations(judged, shape, "obj")))


@cache
def _decoder(shape: type[Shape]) -> msgspec.json.Decoder[Shape]:
    return msgspec.json.Decoder(shape)


def _violations(value: Any, expected: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and complaint for everything in the value that is not as expected."""
    if get_origin(expected) in (Union, UnionType):
        if value is not None:
            yield from _violations(value, expected.__args__[0], path)
        return
    if get_origin(expected) is Annotated:
        if not _in_bounds(value, expected):
            yield path, "Number value expected"
        return
    kind = get_origin(expected) or expected
    if kind is Any:
        return
    if issubclass(kind, msgspec.Struct):
        yield from _member_violations(value, kind, path)
    elif not _is(value, kind):
        yield path, f"{_WORDS[kind]} value expected"
    elif kind is list:
        for index, element in enumerate(value):
            yield from _violations(element, expected.__args__[0], f"{path}[{index}]")
    elif kind is dict:
        for name, member in value.items():
            yield from _violations(member, expected.__args__[1], f"{path}.{name}")


def _is(value: Any, kind: type) -> bool:
    """Return whether JSON is of a kind: true and false are no numbers, and a whole number passes as any."""
    if kind in (int, float):
        return type(value) is int or type(value) is kind
    return isinstance(value, kind)


def _in_bounds(value: Any, expected: Any) -> bool:
    """Return whether JSON is a whole number as large as the type allows."""
    [bounds] = expected.__metadata__
    return _is(value, expected.__origin__) and bool(bounds.ge <= value <= bounds.le)


def _member_violations(value: Any, shape: type[msgspec.Struct], path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield path, "Object value expected"
        return
    for field in msgspec.structs.fields(shape):
        name = f"{path}.{field.encode_name}"
        if value.get(field.encode_name) is not None:
            yield from _violations(value[field.encode_name], field.type, name)
        elif field.required:
            yield name, "error.path.missing"
