"""What the engine asks of a sync type and of a state; does nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from airflow_provider_iterable.engine.vocabulary import (
    NO_INTENTS,
    Added,
    Changed,
    Entry,
    Handle,
    Intents,
    Invalid,
    Operation,
    Outcome,
    Pair,
    Patch,
    Recipe,
    Records,
    Removed,
    Row,
)


class Sync(Protocol):
    """A sync type bound to one model: how a row is named and mapped, and what each change does at Iterable."""

    @property
    def removals_first(self) -> bool:
        """Whether removals go out before additions."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether an identity is one thing at Iterable, so that rows that share it overwrite one another."""
        ...

    @property
    def keeps_leavers(self) -> bool:
        """Whether keys are remembered for ever: a row that leaves is no removal, and each key is sent once."""
        ...

    @property
    def looks_back(self) -> bool:
        """Whether what is in doubt says with which payload it was sent, and is looked up even if its row has left."""
        ...

    @property
    def plural(self) -> bool:
        """Whether an identity has a record of its own under each key: a row that is there keeps none of the others."""
        ...

    @property
    def in_turn(self) -> bool:
        """Whether rows that share an identity are sent one after the other, though they overwrite nothing; only of a
        sync that is plural."""
        ...

    @property
    def collapses(self) -> bool:
        """Whether rows with one key are one record, and the row of the greatest rank is sent for it; otherwise they
        are duplicates, and all rejected."""
        ...

    @property
    def recipe(self) -> Recipe | None:
        """What a database needs to compare the rows by itself; ``None``: the worker compares them."""
        ...

    def keys(self, rows: Sequence[Row]) -> Sequence[str | Invalid]:
        """Name the rows of a chunk, without looking at the rest of them."""
        ...

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map the rows of a chunk; their fingerprints are computed, unless a database did so."""
        ...

    def ranks(self, rows: Sequence[Row]) -> Sequence[str]:
        """Return ranks, of which the greatest is that of the row to be sent; called only if the sync collapses rows."""
        ...

    def identity(self, ref: str) -> Handle:
        """Return the identity that a remembered entry is about."""
        ...

    def forms(self, ref: str) -> Sequence[str]:
        """Return all references that may be remembered of whom one is about."""
        ...

    def added(self, change: Added) -> Operation:
        """Return what is done about a new record."""
        ...

    def changed(self, change: Changed) -> Operation | Invalid:
        """Return what is done about another record under a known key, or why it is refused."""
        ...

    def removed(self, change: Removed) -> Operation:
        """Return what is done about a key without a row."""
        ...

    def moved(self, change: Changed) -> Operation | None:
        """Return what is done about the identity that a row had before; ``None``: it is left alone."""
        ...

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Check an operation once more before it is packed; called only for what is sent."""
        ...

    def salvage(self, operation: Operation, fields: Collection[str], detail: str) -> Operation | None:
        """Return the operation without some fields, or ``None`` when it is not to go without them."""
        ...


@runtime_checkable
class Fielded(Protocol):
    """A sync whose records have fields that may be left out of what is accepted."""

    def carried(self, body: bytes, names: frozenset[str]) -> Collection[str]:
        """Return the fields that the names are about, of which a body has values."""
        ...

    def mapped(self, fields: Collection[str]) -> Collection[str]:
        """Return those of some fields, as :meth:`carried` returns them, that come from the model."""
        ...

    def expect(self, fields: Collection[str]) -> None:
        """Have a database that compares return the unchanged rows that carry such a field."""
        ...


class State(Protocol):
    """Where a sync remembers, seen by the engine."""

    @property
    def remembered(self) -> int:
        """Entries there were before this run; known once the pairs are drawn."""
        ...

    @property
    def resend_reason(self) -> str | None:
        """Why rows go again that did not change; known once the pairs are drawn."""
        ...

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Put each row of each chunk beside what is remembered under its key."""
        ...

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return whole entries."""
        ...

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents, all or nothing; may be repeated, and raises when it fails."""
        ...
