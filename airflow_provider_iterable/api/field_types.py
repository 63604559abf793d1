"""The types of Iterable's fields: which values fit, which can be converted, and what a new field becomes.

Iterable types a field for ever, by the first value that it sees of it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from airflow_provider_iterable.api.values import CATALOG_OFFSET, EXACT, BadValue, is_date, moment, shape

CATALOG_TYPES: Mapping[str, str] = {"date": "catalog date", "geo_location": "lat and lon"}
"""What :func:`fits` and :func:`coerce` call the types of a catalog whose values look otherwise than in profiles."""

_PLAIN_OFFSET = re.compile(r"([+-]\d\d)(\d\d)$", re.ASCII)
_LONG = 2**63

Seen = dict[str, Counter[str]]
"""By the path of a field: how many values of each type were seen, the type of the first one first."""

_NAMES: Mapping[type, str] = {bool: "boolean", int: "long", float: "double"}
_FIFTH = itemgetter(slice(4, 5))
_MOST_PATHS = 200
"""Paths that are looked at: where the keys of an object are data, there may be one for each row."""

WITH_FRACTION = "double with a fraction"
"""What :func:`coerce` calls a double that must not look like a long."""
NO_DATE = "string that is no date"
"""What it calls a string that must not look like a date."""


def look(seen: Seen, path: str, values: Iterable[Any]) -> None:
    """Count the types of JSON values; elements of arrays and members of objects have types of their own."""
    if path not in seen and len(seen) >= _MOST_PATHS:
        return
    found = seen.setdefault(path, Counter())
    values = values if isinstance(values, list) else list(values)
    for kind, count in Counter(map(type, values)).items():
        if kind in _NAMES:
            found[_NAMES[kind]] += count
        elif kind is str:
            found.update(_of_texts(values if count == len(values) else [v for v in values if type(v) is str]))
        elif kind is dict:
            found["object"] += count
            members = defaultdict[str, list[Any]](list)
            for value in values:
                for name, member in value.items() if type(value) is dict else ():
                    members[name].append(member)
            for name, of_member in members.items():
                look(seen, f"{path}.{name}", of_member)
        elif kind is list:
            look(seen, path, [element for value in values if type(value) is list for element in value])


def kinds(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the path and the type of each scalar and object in a JSON value; nulls have none."""
    kind = type(value)
    if kind is dict:
        yield path, "object"
        for name, member in value.items():
            yield from kinds(f"{path}.{name}", member)
    elif kind is list:
        for element in value:
            yield from kinds(path, element)
    elif kind is str:
        yield path, "date" if is_date(value) else "string"
    elif value is not None:
        yield path, _NAMES[kind]


def _of_texts(texts: Sequence[str]) -> Counter[str]:
    if "-" not in map(_FIFTH, texts):  # none has the year of a date
        return Counter({"string": len(texts)})
    return Counter("date" if is_date(text) else "string" for text in texts)


def chosen(seen: Counter[str]) -> str | None:
    """Return the type that a new field is to get: that of most values; ``None``: there is none yet.

    Numbers with and without a fraction are doubles.
    """
    if not seen:
        return None
    counts = Counter(seen)
    if counts["double"]:
        counts["double"] += counts.pop("long", 0)
    ((kind, _),) = counts.most_common(1)
    return kind


def required(seen: Counter[str]) -> str | None:
    """Return what each value has to be so that a new field gets the type that is chosen, whichever comes first."""
    kind = chosen(seen)
    if kind == "double" and seen["long"]:
        return WITH_FRACTION
    return NO_DATE if kind == "string" and seen["date"] else kind


def differing(seen: Counter[str]) -> int:
    """Return how many values have another type than the chosen one, and cannot be sent as it is."""
    kind = chosen(seen)
    return sum(count for name, count in seen.items() if name != kind and (kind, name) != ("double", "long"))


def fits(value: Any, expected: str) -> bool:
    """Return whether a JSON value can go into a field of this Iterable type; lists are judged by their elements."""
    if value is None:
        return True
    if isinstance(value, list):
        return expected == "nested" or all(fits(element, expected) for element in value)
    match expected:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "long":
            return isinstance(value, int) and not isinstance(value, bool) and -_LONG <= value < _LONG
        case "double":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "date":
            return isinstance(value, str) and is_date(value)
        case "catalog date":
            return isinstance(value, str) and is_date(_PLAIN_OFFSET.sub(r"\1:\2", value))
        case "lat and lon":
            return isinstance(value, dict) and value.keys() == {"lat", "lon"} and fits(list(value.values()), "double")
        case "double with a fraction":
            return isinstance(value, float)
        case "string that is no date":
            return isinstance(value, str) and not is_date(value)
        case "object" | "nested" | "geo_location":
            return isinstance(value, dict)
    return True


def coerce(value: Any, expected: str) -> Any:
    """Return the value in the expected type where nothing is lost by it.

    :raises BadValue: there is no such form; the message holds the value's type and shape
    """
    if fits(value, expected):
        return value
    if isinstance(value, list):
        return [coerce(element, expected) for element in value]
    found = _COERCIONS.get((type(value), expected), _no_form)(value)
    if found is None:
        raise BadValue(shape(value))
    return found


def _no_form(value: Any) -> Any:
    return None


def _digits(value: float) -> str | None:
    """Return the text of a double, unless the model may have had a whole number of more digits."""
    return repr(value) if abs(value) < EXACT else None


def _text_to_long(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?(0|[1-9]\d{0,17})", text) and text != "-0" else None


def _text_to_double(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?(0|[1-9]\d{0,14})(\.\d{1,6})?", text) else None


def _text_to_date(text: str, offset: str = "+00:00") -> str | None:
    try:
        return moment(datetime.fromisoformat(text), offset=offset)
    except ValueError:
        return None


_COERCIONS: dict[tuple[type, str], Callable[[Any], Any]] = {
    (float, "long"): lambda value: int(value) if value.is_integer() and abs(value) < EXACT else None,
    (str, "long"): _text_to_long,
    (str, "double"): _text_to_double,
    (str, "date"): _text_to_date,
    (str, "catalog date"): lambda text: _text_to_date(text, CATALOG_OFFSET),
    (str, "boolean"): {"true": True, "false": False, "t": True, "f": False, "1": True, "0": False}.get,
    (int, "boolean"): {0: False, 1: True}.get,
    (int, WITH_FRACTION): float,
    (int, NO_DATE): str,
    (float, NO_DATE): _digits,
    (bool, NO_DATE): lambda value: "true" if value else "false",
    (int, "string"): str,
    (float, "string"): _digits,
    (bool, "string"): lambda value: "true" if value else "false",
}
