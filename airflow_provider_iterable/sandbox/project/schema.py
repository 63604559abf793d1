"""Fields and their types, which are fixed by the first value sent."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from ..shapes.values import normal_date

CART_FIELDS = {
    "shoppingCartItems": "object",
    "shoppingCartItems.id": "string",
    "shoppingCartItems.name": "string",
    "shoppingCartItems.price": "double",
    "shoppingCartItems.quantity": "long",
    "shoppingCartItems.sku": "string",
    "shoppingCartItems.description": "string",
    "shoppingCartItems.categories": "string",
    "shoppingCartItems.imageUrl": "string",
    "shoppingCartItems.url": "string",
    "shoppingCartItems.dataFields": "object",
}
SYSTEM_FIELDS = {
    "email": "string",
    "userId": "string",
    "itblInternal": "object",
    "itblInternal.documentCreatedAt": "date",
    "itblInternal.documentUpdatedAt": "date",
    "itblInternal.emailDomain": "string",
    "itblInternal.regionCode": "string",
    "devices": "object",
    "signupDate": "date",
    "signupSource": "string",
    "profileUpdatedAt": "date",
    "phoneNumber": "string",
    "subscribedMessageTypeIds": "long",
    "unsubscribedMessageTypeIds": "long",
    "unsubscribedChannelIds": "long",
    **CART_FIELDS,
}
LONGEST = 2**63
_CLASSES: dict[str, type] = {"string": str, "boolean": bool, "double": float}
_GEO_MEMBERS = {"lat", "lon"}


class Mismatch(msgspec.Struct, frozen=True):
    """A value whose type is not the field's, and the value the batch's first record has there."""

    expected: str
    incoming: tuple[str, ...]
    culprit: Any
    first: tuple[Any, ...]


class Ruling(msgspec.Struct):
    """The result of checking one request against a schema: `mismatches` or `over_limit` refuse all of it."""

    created: list[str] = []
    filtered: dict[str, None] = {}
    mismatches: dict[str, Mismatch] = {}
    over_limit: list[str] = []
    total: int = 0
    limit: int = 0
    about: Literal["user", "event", "purchase"] = "user"

    @property
    def refused(self) -> bool:
        """Whether nothing of the request may be applied."""
        return bool(self.mismatches or self.over_limit)


class Fields:
    """The types of fields by dotted name; a type never changes and a field never goes."""

    def __init__(self, system: Mapping[str, str]) -> None:
        """Start with the system fields alone."""
        self.system = system
        self.types = dict(system)
        self._classes = {name: _CLASSES[word] for name, word in self.types.items() if word in _CLASSES}

    def __len__(self) -> int:
        return len(self.types) - len(self.system)

    @property
    def custom(self) -> dict[str, str]:
        """The fields that requests have made."""
        return {name: word for name, word in self.types.items() if name not in self.system}

    def restore(self, kept: Mapping[str, str]) -> None:
        """Take in fields that were kept, as `custom` returned them."""
        self.types.update(kept)
        self._classes.update({name: _CLASSES[word] for name, word in kept.items() if word in _CLASSES})

    def shown(self) -> dict[str, str]:
        """Return the fields as getFields lists them: flattened, an object beside its members."""
        return dict(self.types)

    def rule(self, records: Sequence[dict[str, Any] | None], *, create: bool, limit: int) -> Ruling:
        """Judge the data of all records of one request together, and add new fields if none is refused.

        On approval, dates in the records are brought into their normal form and, unless `create`,
        unknown fields are taken out. On refusal, records and schema stay as they were.
        """
        reading = self.read(records, create=create)
        ruling = reading.ruling(limit, len(self))
        if ruling.refused:
            reading.forget()
        else:
            reading.settle()
        return ruling

    def read(self, records: Sequence[dict[str, Any] | None], *, create: bool | Sequence[bool]) -> "Reading":
        """Read the data of records, each of which may have its own `create`; it is to be settled or forgotten."""
        reading = Reading(self.types, self._classes, records)
        known, word = self._classes.get, self.types.get
        try:
            for position, data in enumerate(records):
                for name, value in data.items() if data else ():
                    # The common case, found by one look-up: a plain value of a known field.
                    kind = value.__class__
                    if known(name) is kind or (kind is int and word(name) == "long" and _in_range(value)):
                        continue
                    reading.position = position
                    reading.create = create if isinstance(create, bool) else create[position]
                    reading.value(name, value, data, name)
        except RecursionError:
            reading.forget()
            raise
        return reading


class Schema(Fields):
    """The types of all profile fields."""

    def __init__(self, list_field: str) -> None:
        """Start with the system fields; `list_field` is the one that holds the lists of a user."""
        super().__init__({**SYSTEM_FIELDS, list_field: "long"})


class Reading:
    """One pass over the records of a request, collecting what to do with them; new fields are added at once."""

    def __init__(
        self, types: dict[str, str], classes: dict[str, type], records: Sequence[dict[str, Any] | None]
    ) -> None:
        """Start with nothing read."""
        self.types = types
        self.create = True
        self.position = 0
        self._classes = classes
        self._records = records
        self.created: list[str] = []
        self.filtered: dict[str, None] = {}
        self.culprits: dict[str, tuple[str, tuple[str, ...], Any, int]] = {}
        self.dates: list[tuple[Any, Any, str]] = []
        self.dropped: list[tuple[dict[str, Any], str]] = []

    def value(self, path: str, value: Any, holder: Any, key: Any) -> None:
        """Read one value, found in `holder` under `key`, as a value of the field `path`."""
        if value is None:
            return
        if isinstance(value, list):
            if not self.create and path not in self.types:
                self._drop(path, holder, key)
                return
            for index, element in enumerate(value):
                self.value(path, element, value, index)
            return
        word = self.types.get(path)
        if word is None:
            if not self.create:
                self._drop(path, holder, key)
                return
            word = _first_type(path, value)
            self.types[path] = word
            self.created.append(path)
        if word == "object" and isinstance(value, dict):
            for name, member in value.items():
                self.value(f"{path}.{name}", member, value, name)
        elif word == "date" and isinstance(value, str) and (normal := normal_date(value)) is not None:
            if normal is not value:
                self.dates.append((holder, key, normal))
        elif not _fits(word, value) and path not in self.culprits:
            self.culprits[path] = (word, _incoming(path, value), value, self.position)

    def _drop(self, path: str, holder: Any, key: Any) -> None:
        """Note an unknown field; it goes with all it holds."""
        self.filtered[path] = None
        self.dropped.append((holder, key))

    def ruling(self, limit: int, total: int) -> Ruling:
        """Return what the pass found; a value of the wrong type is reported rather than too many fields."""
        return Ruling(
            created=self.created,
            filtered=self.filtered,
            mismatches={
                path: Mismatch(expected, incoming, culprit, _first_value(self._records, path, position))
                for path, (expected, incoming, culprit, position) in self.culprits.items()
            },
            over_limit=self.created if self.created and total > limit else [],
            total=total,
            limit=limit,
        )

    def settle(self) -> None:
        """Write the normal forms of dates into the records and take the unknown fields out."""
        types = self.types
        self._classes.update((name, _CLASSES[types[name]]) for name in self.created if types[name] in _CLASSES)
        for holder, key, normal in self.dates:
            holder[key] = normal
        for data, name in self.dropped:
            del data[name]

    def forget(self) -> None:
        """Remove the new fields, and leave the records as they are."""
        for name in self.created:
            del self.types[name]


def _first_type(path: str, value: Any) -> str:
    if isinstance(value, dict):
        return "geo_location" if _is_geo(path, value) else "object"
    if isinstance(value, str):
        return "string" if normal_date(value) is None else "date"
    return _word(value)


def _word(value: Any) -> str:
    """Return the type word of a value that is no string."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "long"
    return "double" if isinstance(value, float) else "object"


def _fits(word: str, value: Any) -> bool:
    """Return whether a scalar or a location is a value of the type; an integer literal passes as a double."""
    match word:
        case "long":
            return value.__class__ is int and _in_range(value)
        case "double":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "geo_location":
            return isinstance(value, dict) and _is_location(value)
        case _:
            return word in _CLASSES and isinstance(value, _CLASSES[word])


def _in_range(value: int) -> bool:
    return -LONGEST <= value < LONGEST


def _is_geo(path: str, value: dict[str, Any]) -> bool:
    return path.endswith("_geo_location") and _is_location(value)


def _is_location(value: dict[str, Any]) -> bool:
    return value.keys() == _GEO_MEMBERS and all(_fits("double", part) for part in value.values())


def _incoming(path: str, value: Any) -> tuple[str, ...]:
    """Return the types Iterable says the value may have."""
    if isinstance(value, str):
        return ("string", "keyword") if normal_date(value) is None else ("date", "string", "keyword")
    return (_first_type(path, value),)


def _first_value(records: Sequence[dict[str, Any] | None], path: str, before: int) -> tuple[Any, ...]:
    """Return the value at `path` of the first record that has one and comes before the culprit."""
    for data in records[:before]:
        found: Any = data
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            return (found,)
    return ()
