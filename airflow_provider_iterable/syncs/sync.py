"""What all sync types have in common: defaults, references, values beside field types; knows no endpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, Self

import msgspec

from airflow_provider_iterable.api.field_types import NO_DATE
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.references import plain
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Call,
    Changed,
    Entry,
    Handle,
    Invalid,
    Operation,
    Outcome,
    Recipe,
    Record,
    Records,
    Removed,
    Row,
)
from airflow_provider_iterable.mapping import Mapper, position
from airflow_provider_iterable.syncs import types
from airflow_provider_iterable.syncs.chunk import encode


def recipe_of(
    columns: Sequence[str],
    primary_key: Sequence[str],
    read: Sequence[int],
    said: Sequence[Any],
    json: Sequence[int] = (),
) -> Recipe:
    """Return what a database needs to compare the rows of a model by itself.

    :param columns: the model's columns
    :param read: positions of the columns that make the record, each as often as it is read
    :param said: what else makes it; another text of it has every row sent again
    :param json: positions of columns that are read as the JSON that their text is, as often as they are
    :raises ModelError: a column of the key is missing
    """
    key = tuple(position(columns, name) for name in primary_key)
    only_json = sorted(number for number in {*json} if read.count(number) == json.count(number))
    return Recipe(key=key, columns=tuple(read), text=repr(said), json=tuple(only_json))


@dataclass(frozen=True)
class SentField:
    """Something that the records of a sync carry, as a plan shows it.

    :param name: what Iterable calls it
    :param path: where its values stand in a decoded body, as :meth:`BaseSync.opened` returns it
    :param column: the model's column; ``None``: it is a constant, or made from the key
    :param of: what it belongs to; parts of the ``"request"`` have the types that Iterable's API gives them
    """

    name: str
    path: tuple[str, ...]
    column: str | None
    of: Literal["request", "profile", "event", "item"] = "request"


def mapped_fields(mapper: Mapper, of: Literal["profile", "event", "item"], *path: str) -> list[SentField]:
    """Return the fields of a mapping that is bound.

    :param path: where they stand in a body
    """
    return [SentField(name, (*path, *name.split(".")), column, of) for name, column in mapper.origins.items()]


class BaseSync:
    """A sync type, as far as it is like most others.

    A sync type has ``keys``, ``records`` and ``removed`` of its own, and overrides what is otherwise with it.
    """

    removals_first = False
    exclusive = True
    keeps_leavers = False
    collapses = False
    plural = False
    in_turn = False
    looks_back = False
    """Whether what is in doubt says with which payload it was sent."""
    hashes_keys = False
    """Whether a key is the hash of what the primary key says."""
    recipe: Recipe | None = None
    keys: Callable[[Sequence[Row]], Sequence[str | Invalid]]
    records: Callable[..., Records]
    removed: Callable[[Removed], Operation]
    _write: Call
    """Writes new rows, and changed ones."""
    way = ""
    """How it gets to Iterable, in words."""
    depends = ""
    """What only a run finds out about what it writes, as sentences; empty: nothing."""
    made_up = ('["a"]', b"{}")
    """The key and the body of a row that is made up, to be asked what the sync does with one."""
    spares = ""
    """Why it leaves some alone whose row has left, and not all, as a clause; empty: it is the same with all."""
    salvages = False
    """Whether a record goes without the fields whose values have the wrong type."""
    mappers: Sequence[Mapper] = ()
    """The mappings of fields, of which Iterable may not have all yet."""
    profile: Mapper | None = None
    """That of them whose fields are a profile's."""
    typed: Collection[str] = ()
    """Top-level fields whose values are compared with Iterable's field types."""
    awaited: frozenset[str] = frozenset()
    """New fields for texts of which some look like dates: were one of these the first that Iterable sees, no text would
    ever fit."""
    told_types = True
    """Whether Iterable tells the types of its fields, or takes values of any, so that none is refused for its type."""
    fresh: Collection[str] = ()
    """Mapped fields that the last run did not send; all of them in the first one."""
    unproven: Collection[Sequence[str]] = ()
    """Paths of values whose types at Iterable nothing tells; known before the first operation is screened."""
    sent_fields: Sequence[SentField] = ()
    """What its records carry, in the order in which a plan shows it."""
    existing: Mapping[str, str] | None = None
    """The types of the fields of profiles, or of items, that Iterable has; ``None``: that is not known."""
    creates: bool = True
    """Whether Iterable may create such fields where it does not have them."""
    declared: Mapping[str, str] = {}
    """The types that are declared for such fields."""
    checked_fields: types.Checked = ()
    """Mapped fields with their path and Iterable's type; learned before the first operation is screened."""

    def apart(self) -> Self:
        """Return the sync to be asked what it would do; what is asked of it changes nothing here."""
        return copy(self)

    def ranks(self, rows: Sequence[Row]) -> Sequence[str]:
        """Rows with one key are duplicates, none of which speaks for the others."""
        return [""] * len(rows)

    def reference(self, identity: Handle) -> str:
        """Return what is remembered of whom a record is about, so that its removal can name it."""
        return encode([identity[0], identity[1]]).decode()

    def identity(self, ref: str) -> Handle:
        """Return whom a remembered entry is about; two empty texts where that is not remembered."""
        kind, value = msgspec.json.decode(plain(ref), type=tuple[str, str]) if ref else ("", "")
        return kind, value

    def forms(self, ref: str) -> Sequence[str]:
        """Return all references that may be remembered of whom one is about."""
        return (ref,)

    def write(self, kind: Kind, record: Record, call: Call | None) -> Operation:
        """Return the operation that writes a record and remembers it; without a call, it is only remembered."""
        entry = Entry(record.fingerprint, self.reference(record.handles[0]))
        return Operation(record.key, kind, call, b"" if call is None else record.body, record.handles, entry)

    def added(self, change: Added) -> Operation:
        """A new row is written."""
        return self.write(Kind.ADDED, change.after, self._write)

    def changed(self, change: Changed) -> Operation | Invalid:
        """A changed row is written."""
        return self.write(Kind.CHANGED, change.after, self._write)

    def moved(self, change: Changed) -> Operation | None:
        """What a row was about before is left alone at Iterable."""
        return None

    def fields_of(self, body: Any) -> dict[str, Any]:
        """Return the fields in a decoded body that have types at Iterable."""
        fields: dict[str, Any] = body["dataFields"]
        return fields

    def opened(self, body: Any) -> Any:
        """Return a decoded body as the paths of ``sent_fields`` lead through it."""
        return body

    def learn_types(self, found: Mapping[str, str]) -> None:
        """Take Iterable's field types; only those of mapped fields matter.

        :param found: dotted name to type, as Iterable answers
        """
        self.awaited = frozenset(name for name, kind in found.items() if kind == NO_DATE)
        self.checked_fields = [
            (name, name.split("."), kind) for name, kind in found.items() if name.partition(".")[0] in self.typed
        ]

    def learn(self, operations: Sequence[Operation], found: Mapping[str, str]) -> None:
        """Take the types of fields that Iterable told when it refused values.

        :param operations: some of those whose values it refuses
        :param found: dotted name to type
        """
        self.learn_types({**{name: kind for name, _, kind in self.checked_fields}, **found})

    @property
    def identity_column(self) -> str | None:
        """The model's column of which the identities of rows are; ``None``: no two rows have the same."""
        return self.sent_fields[0].column

    @property
    def most(self) -> int:
        """Most rows that one request writes, whatever is looked up before."""
        call = self._write
        while call.then is not None:
            call = call.then
        return call.max_items

    @property
    def fresh_tops(self) -> set[str]:
        """The top-level fields of those that the last run did not send."""
        return {name.partition(".")[0] for name in self.fresh}

    @property
    def grows(self) -> bool:
        """Whether anything is sent whose type at Iterable is not known."""
        return bool(self.unproven)

    def traits(self, operation: Operation) -> frozenset[types.Trait]:
        """Return what Iterable may refuse of an operation, for all that is known: fields with the types of values."""
        return types.traits(self.fields_of(msgspec.json.decode(operation.body)), self.unproven)

    def faults(self, fields: dict[str, Any]) -> tuple[dict[str, str], bool, Reason]:
        """Compare values with Iterable's field types: one wrong value would fail its whole batch.

        :return: what is wrong, by field; whether a value was converted in place; the reason of a rejection
        """
        return *types.check(fields, self.checked_fields), Reason.TYPE_MISMATCH

    def waits(self, operation: Operation) -> bool:
        """Whether an operation is left to a later run; known once the first one may be screened."""
        return False

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Look at the values once more: what is wrong is left out or rejected."""
        if not self.checked_fields or operation.kind is Kind.REMOVED:
            return operation
        return self.inspect(operation)

    def inspect(self, operation: Operation) -> Operation | Outcome:
        """Look for faults in what an operation writes."""
        body = msgspec.json.decode(operation.body)
        wrong, converted, reason = self.faults(self.fields_of(body))
        if converted:
            operation = msgspec.structs.replace(operation, body=encode(body))
        if not wrong:
            return operation
        detail = "; ".join(wrong.values())
        if self.awaited and self.awaited.issuperset(wrong):
            said = f"{detail}: the row goes with the next run, when the field has its type"
            return Outcome(operation.key, operation.kind, Fate.SKIPPED, reason, said, operation)
        return self.salvage(operation, wrong, detail) or Outcome(
            operation.key, operation.kind, Fate.REJECTED, reason, detail, operation
        )

    def salvage(self, operation: Operation, fields: Collection[str], detail: str) -> Operation | None:
        """Return the operation without some fields; ``None`` when the sync is not to send incomplete records."""
        if not self.salvages:
            return None
        body = msgspec.json.decode(operation.body)
        types.drop(self.fields_of(body), fields)
        partial = "; ".join(part for part in (operation.partial, detail) if part)
        return msgspec.structs.replace(operation, body=encode(body), partial=partial)
