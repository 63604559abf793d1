"""The catalogs of a project, their items and field types."""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..shapes.values import normal_date

FIELD_TYPES = ("boolean", "date", "geo_location", "long", "double", "object", "string")
_GEO_MEMBERS = {"lat", "lon"}
_LONGEST = 2**63
_PLAIN_OFFSET = re.compile(r"([+-]\d\d)(\d\d)$")

Change = Callable[[float], None]


class Item(msgspec.Struct, gc=False):
    """One item: its value, of which the `indexed` fields can be searched, and how often it was written."""

    id: str
    value: dict[str, Any]
    modified: float
    indexed: frozenset[str]
    writes: int = 1

    @property
    def size(self) -> int:
        """Bytes of the value as JSON."""
        return len(msgspec.json.encode(self.value))


class Catalog:
    """One catalog; the type of a field never changes, and a value of another type is kept, but not indexed."""

    def __init__(self, name: str) -> None:
        """Start without items and types."""
        self.name = name
        self.types: dict[str, str] = {}
        self.fields: dict[str, None] = {}
        self.items: dict[str, Item] = {}
        self.writes = 0
        self.deletes = 0
        self._order: list[Item] | None = None

    def define(self, types: Mapping[str, str]) -> None:
        """Give fields their types; items already there stay as they are indexed."""
        self.types.update(types)

    @property
    def undefined(self) -> list[str]:
        """The fields that were uploaded and have no type."""
        return [name for name in self.fields if name not in self.types]

    def grown(self, values: Iterable[dict[str, Any]]) -> set[str]:
        """Return the fields that the values would add."""
        known = self.fields.keys() | self.types.keys()
        return {name for value in values for name in value.keys() - known}

    def write(self, number: str, value: dict[str, Any], now: float, *, merge: bool) -> None:
        """Write an item: whole, or only the given fields of one that exists."""
        old = self.items.get(number)
        held = old.value if old is not None else {}
        indexed = frozenset(name for name in value if _fits(self.types.get(name), value[name]))
        self.fields.update(dict.fromkeys(value))
        if merge and old is not None:
            indexed |= old.indexed - value.keys()
            value = {**held, **value}
        writes = 1 if old is None else old.writes + 1
        self.items[number] = Item(number, value, now, indexed, writes)
        self.writes += 1
        self._order = None

    def remove(self, number: str) -> None:
        """Delete an item if it exists, and count the call in any case."""
        self.deletes += 1
        if self.items.pop(number, None) is not None:
            self._order = None

    def ordered(self, field: str | None, *, ascending: bool) -> list[Item]:
        """Return the items in the order of their creation, or by an indexed field, with items without it last."""
        if self._order is None:
            self._order = list(self.items.values())
        if field is None:
            return self._order
        having = [item for item in self._order if field in item.indexed]
        having.sort(key=lambda item: _sort_key(item.value[field]), reverse=not ascending)
        return having + [item for item in self._order if field not in item.indexed]


class Catalogs:
    """The catalogs by name, which is unique whatever its case; changes of items take effect after a delay, in order."""

    def __init__(self) -> None:
        """Start with no catalog."""
        self.created: Counter[str] = Counter()
        self.deleted: Counter[str] = Counter()
        self._catalogs: dict[str, Catalog] = {}
        self._waiting: deque[tuple[float, Change]] = deque()

    def __len__(self) -> int:
        return len(self._catalogs)

    def __iter__(self) -> Iterator[Catalog]:
        return iter(self._catalogs.values())

    @property
    def waiting(self) -> int:
        """Accepted changes that have not taken effect."""
        return len(self._waiting)

    def get(self, name: str) -> Catalog | None:
        """Return the catalog with the name."""
        return self._catalogs.get(name.lower())

    def create(self, name: str) -> None:
        """Make a catalog."""
        self._catalogs[name.lower()] = Catalog(name)
        self.created[name] += 1

    def restore(self, catalogs: Iterable[Catalog], created: Mapping[str, int], deleted: Mapping[str, int]) -> None:
        """Take in catalogs that were kept, with how often each name was created and deleted."""
        self._catalogs = {catalog.name.lower(): catalog for catalog in catalogs}
        self.created, self.deleted = Counter(created), Counter(deleted)

    def delete(self, catalog: Catalog) -> None:
        """Drop a catalog with its items."""
        del self._catalogs[catalog.name.lower()]
        self.deleted[catalog.name] += 1

    def schedule(self, change: Change, due: float, now: float) -> None:
        """Make a change when it is due, never before those that came earlier."""
        self._waiting.append((due, change))
        self.settle(now)

    def settle(self, now: float) -> None:
        """Make the changes that are due."""
        while self._waiting and self._waiting[0][0] <= now:
            due, change = self._waiting.popleft()
            change(due)


def _fits(word: str | None, value: Any) -> bool:
    """Return whether a value, or each element of an array, is of the type."""
    if word is None or value is None:
        return False
    if isinstance(value, list):
        return all(_fits(word, element) for element in value)
    match word:
        case "boolean":
            return isinstance(value, bool)
        case "long":
            return value.__class__ is int and -_LONGEST <= value < _LONGEST
        case "double":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "date":
            return isinstance(value, str) and _is_date(value)
        case "string":
            return isinstance(value, str)
        case "geo_location":
            return isinstance(value, dict) and value.keys() == _GEO_MEMBERS and _fits("double", list(value.values()))
        case _:
            return isinstance(value, dict)


def _is_date(text: str) -> bool:
    """Return whether a text is a date; catalogs also take an offset without a colon."""
    return normal_date(_PLAIN_OFFSET.sub(r"\1:\2", text)) is not None


def _sort_key(value: Any) -> tuple[bool, Any]:
    """Return what a value is sorted by: numbers before texts, an object or an array by its text."""
    if isinstance(value, int | float):
        return False, value
    return True, value if isinstance(value, str) else msgspec.json.encode(value).decode()


def fields_with_period(value: Any) -> Iterator[str]:
    """Yield the names of fields, at any depth, that hold a period."""
    if isinstance(value, dict):
        for name, member in value.items():
            if "." in name:
                yield name
            if member.__class__ in (dict, list):
                yield from fields_with_period(member)
    elif isinstance(value, list):
        for element in value:
            yield from fields_with_period(element)
