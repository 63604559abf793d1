"""The field types of events, separately for each event name."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from .schema import Fields, Reading, Ruling


class Draft(msgspec.Struct):
    """Data of an event whose fields are to be judged; `create` says what becomes of unknown ones."""

    name: str
    data: dict[str, Any]
    create: bool


class EventSchema:
    """The fields of all events; names of events count as fields, and equal names in two events are two fields."""

    def __init__(self, about: Literal["event", "purchase"], system: Mapping[str, Mapping[str, str]]) -> None:
        """Start with the system fields of events of certain names."""
        self.about = about
        self._system = system
        self._fields: dict[str, Fields] = {}

    def __len__(self) -> int:
        return len(self._fields) + sum(map(len, self._fields.values()))

    @property
    def custom(self) -> dict[str, dict[str, str]]:
        """The fields that requests have made, by event name."""
        return {name: fields.custom for name, fields in self._fields.items()}

    def rule(self, drafts: Sequence[Draft], *, limit: int, named: bool) -> Ruling:
        """Judge the data of all events of one request together, and add new fields if none is refused."""
        trial = self.read(drafts, limit=limit, named=named)
        if trial.ruling.refused:
            trial.forget()
        else:
            trial.settle()
        return trial.ruling

    def read(self, drafts: Sequence[Draft], *, limit: int, named: bool) -> "UnsettledReading":
        """Read the data of all events of one request; what was read is to be settled or forgotten.

        A ruling names fields as they are or, when `named`, as `eventName.field`.
        """
        groups: dict[str, list[Draft]] = {}
        for draft in drafts:
            groups.setdefault(draft.name, []).append(draft)
        trial = UnsettledReading(self)
        try:
            for name, group in groups.items():
                trial.add(name, group)
        except RecursionError:
            trial.forget()
            raise
        trial.rule(limit, named)
        return trial

    def open(self, name: str) -> bool:
        """Add the name of an event if it is missing; return whether it was."""
        if name in self._fields:
            return False
        self._fields[name] = Fields(self._system.get(name, {}))
        return True

    def fields(self, name: str) -> Fields:
        """Return the fields of the events of a name."""
        return self._fields[name]

    def restore(self, kept: Mapping[str, Mapping[str, str]]) -> None:
        """Take in fields that were kept, as `custom` returned them."""
        for name, types in kept.items():
            self.open(name)
            self._fields[name].restore(types)

    def close(self, name: str) -> None:
        """Remove the name of an event with its fields."""
        del self._fields[name]


class UnsettledReading:
    """A request read against the schema; its new names and fields are added until it is settled or forgotten."""

    def __init__(self, schema: EventSchema) -> None:
        """Start with nothing read."""
        self.ruling = Ruling(about=schema.about)
        self._schema = schema
        self._new: list[str] = []
        self._readings: dict[str, Reading] = {}

    def add(self, name: str, drafts: Sequence[Draft]) -> None:
        """Read the events of one name."""
        if self._schema.open(name):
            self._new.append(name)
        records = [draft.data for draft in drafts]
        create = [draft.create for draft in drafts]
        self._readings[name] = self._schema.fields(name).read(records, create=create)

    def rule(self, limit: int, named: bool) -> None:
        """Make one ruling of all that was read."""
        ruling = self.ruling
        created: dict[str, None] = {}
        added: list[str] = []
        for name, reading in self._readings.items():
            part = reading.ruling(limit, 0)
            prefix = f"{name}." if named else ""
            created.update((prefix + field, None) for field in part.created)
            ruling.filtered.update((prefix + field, None) for field in part.filtered)
            for field, mismatch in part.mismatches.items():
                ruling.mismatches.setdefault(prefix + field, mismatch)
            added += [name] if name in self._new else []
            added += [f"{name}.{field}" for field in part.created]
        ruling.created = list(created)
        if added:
            ruling.total, ruling.limit = len(self._schema), limit
            ruling.over_limit = added if ruling.total > limit else []

    def settle(self) -> None:
        """Keep the new fields, and convert the records into the form in which they are stored."""
        for reading in self._readings.values():
            reading.settle()

    def forget(self) -> None:
        """Remove the new names and fields, and leave the records as they are."""
        for reading in self._readings.values():
            reading.forget()
        for name in self._new:
            self._schema.close(name)
