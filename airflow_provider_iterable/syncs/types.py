"""Values beside the field types that Iterable has; knows no endpoint and no sync type."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from airflow_provider_iterable.api import field_types
from airflow_provider_iterable.api.answers import values_at
from airflow_provider_iterable.api.values import BadValue
from airflow_provider_iterable.masking import masked_name

Checked = Sequence[tuple[str, Sequence[str], str]]
"""Fields to look at: the name, the path to its values, and Iterable's type."""

Trait = tuple[str, str, str]
"""That there is a value of a type: what the field belongs to, its path, and the type of the value."""

_NATIVE: Mapping[str, Callable[..., Any]] = {"string": str, "long": int, "double": float, "boolean": bool}
"""JSON types that fit a field type without a further look."""


def check(fields: dict[str, Any], checked: Checked) -> tuple[dict[str, str], bool]:
    """Convert what loses nothing by it, in place; return what is wrong by field, and whether a value was converted."""
    wrong: dict[str, str] = {}
    coerced = False
    for name, path, expected in checked:
        if len(path) == 1:
            found = fields.get(name)
            if found is None or type(found) is _NATIVE.get(expected):
                continue
        if all(field_types.fits(value, expected) for value in values_at(fields, path)):
            continue
        try:
            _coerce_at(fields, path, expected)
            coerced = True
        except BadValue as error:
            wrong[name] = f"field {masked_name(name, mapped=[name.partition('.')[0]])}: {expected} expected, {error}"
    return wrong, coerced


def traits(fields: Any, paths: Collection[Sequence[str]], about: str = "") -> frozenset[Trait]:
    """Return the types of the values that some paths lead to.

    :param about: what the fields belong to, if those of others have types of their own
    """
    found = ((path, value) for path in paths for value in values_at(fields, path))
    return frozenset((about, *trait) for path, value in found for trait in field_types.kinds(".".join(path), value))


def drop(fields: Any, names: Collection[str]) -> None:
    """Take fields out, wherever their dotted names lead."""
    for name in names:
        _drop_at(fields, name.split("."))


def _coerce_at(payload: Any, path: Sequence[str], expected: str) -> None:
    if isinstance(payload, list):
        for element in payload:
            _coerce_at(element, path, expected)
    elif isinstance(payload, dict) and path[0] in payload:
        if len(path) == 1:
            payload[path[0]] = field_types.coerce(payload[path[0]], expected)
        else:
            _coerce_at(payload[path[0]], path[1:], expected)


def _drop_at(payload: Any, path: Sequence[str]) -> None:
    if isinstance(payload, list):
        for element in payload:
            _drop_at(element, path)
    elif isinstance(payload, dict):
        if len(path) == 1:
            payload.pop(path[0], None)
        elif path[0] in payload:
            _drop_at(payload[path[0]], path[1:])
