"""The types that Iterable gives fields for ever, by the first value that it sees of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_iterable.api.values import is_date

Seen = dict[str, Counter[str]]
"""By the path of a field: how many values of each type were seen, the type of the first one first."""

_NAMES: Mapping[type, str] = {bool: "boolean", int: "long", float: "double"}
_MOST_PATHS = 200
"""Paths that are looked at: where the keys of an object are data, there may be one for each row."""

WITH_FRACTION = "double with a fraction"
"""What :func:`~airflow_provider_iterable.api.values.coerce` calls a double that must not look like a long."""
NO_DATE = "string that is no date"
"""What it calls a string that must not look like a date."""


def look(seen: Seen, path: str, values: Iterable[Any]) -> None:
    """Count the types of JSON values; elements of arrays and members of objects have types of their own."""
    if path not in seen and len(seen) >= _MOST_PATHS:
        return
    found = seen.setdefault(path, Counter())
    values = list(values)
    for kind, count in Counter(map(type, values)).items():
        if kind in _NAMES:
            found[_NAMES[kind]] += count
        elif kind is str:
            found.update(_of_texts([value for value in values if type(value) is str]))
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


def _of_texts(texts: Sequence[str]) -> Counter[str]:
    if not any(text[4:5] == "-" for text in texts):
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
