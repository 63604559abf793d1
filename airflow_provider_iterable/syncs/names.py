"""Names of fields as an answer has them, and the mapped fields that they are about; knows no endpoint."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.api.answers import values_at
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.syncs.sync import BaseSync

_PLAIN = re.compile(r"[A-Za-z_][\w $:/-]*")
"""What the name of a member looks like; where the keys of an object are data, they may name people."""
_MOST_CACHED = 100
_Path = tuple[str, list[str]]
"""A field, and the way to its values."""


class Names:
    """Finds the mapped fields that names are about.

    An answer may name an object where members of it are mapped. A member of a field that is mapped as a whole is a
    field of its own, unless its name looks like data.

    :param mapper: the mapping, bound to the model's columns
    """

    def __init__(self, mapper: Mapper) -> None:
        self._sources = mapper.sources
        self._about: dict[frozenset[str], list[_Path]] = {}

    def carried(self, values: Any, names: frozenset[str]) -> list[str]:
        """Return the mapped fields that the names are about, of which there are values."""
        found = [field for field, path in self._paths(names) if any(map(_holds, values_at(values, path)))]
        return sorted(set(found)) if len(found) > 1 else found

    def knows(self, field: str) -> bool:
        """Return whether a field is mapped, or is a member of one that is."""
        return any(_within(field, mapped) for mapped in self._sources)

    def positions(self, field: str) -> list[int | None]:
        """Return where the columns stand that a field comes from; ``None``: from none, for it is a constant."""
        return [number for mapped, number in self._sources.items() if _within(field, mapped)]

    def _paths(self, names: frozenset[str]) -> Sequence[_Path]:
        found = self._about.get(names)
        if found is None:
            if len(self._about) >= _MOST_CACHED:
                self._about.clear()
            found = self._about[names] = [path for name in names for path in self._meant(name)]
        return found

    def _meant(self, name: str) -> list[_Path]:
        for field in self._sources:
            if _within(name, field):
                plain = all(map(_PLAIN.fullmatch, name[len(field) + 1 :].split("."))) or name == field
                return [(name if plain else field, name.split("."))]
        return [(field, field.split(".")) for field in self._sources if _within(field, name)]


class FieldedSync(BaseSync):
    """A sync whose records have fields that Iterable may leave out of what it accepts."""

    _names: Names

    def carried(self, body: bytes, names: frozenset[str]) -> Collection[str]:
        """Return the mapped fields that the names are about, of which a record has values."""
        return self._names.carried(msgspec.json.decode(body).get("dataFields"), names)

    def mapped(self, fields: Collection[str]) -> Collection[str]:
        """Return those of some fields that are mapped."""
        return {field for field in fields if any(map(self._names.knows, self.readings(field)))}

    def expect(self, fields: Collection[str]) -> None:
        """Have a database that compares return the unchanged rows that carry such a field."""
        readings = {reading for field in fields for reading in self.readings(field)}
        positions = {number for reading in readings for number in self._names.positions(reading)}
        if self.recipe is not None:
            self.recipe = msgspec.structs.replace(self.recipe, again=columns_of(positions, self.recipe.key))

    def readings(self, field: str) -> Sequence[str]:
        """Return the names of fields that the name of one in an answer may stand for."""
        return [field]


def check_depth(names: Collection[str], what: str, remedy: str) -> None:
    """Refuse fields that Iterable cannot merge.

    :param what: what such a name is called
    :param remedy: what to do, as the end of a sentence
    :raises ConfigurationError: a name has more than one dot
    """
    for name in names:
        if name.count(".") > 1:
            raise ConfigurationError(
                f"The {what} {name!r} is nested deeper than Iterable merges, which is one level: what stands beside it "
                f"would be lost. Map its parent as Json{remedy}."
            )


def _within(name: str, field: str) -> bool:
    return name == field or name.startswith(field + ".")


def _holds(value: Any) -> bool:
    """Return whether anything is lost with a value: nulls and empty objects are nothing."""
    if isinstance(value, Mapping):
        return any(map(_holds, value.values()))
    return any(map(_holds, value)) if isinstance(value, list) else value is not None


def columns_of(positions: Collection[int | None], key: tuple[int, ...]) -> tuple[int, ...]:
    """Return the columns of which one has a value in each row that carries such a field: any row carries a constant."""
    return key if None in positions else tuple(sorted({number for number in positions if number is not None}))
