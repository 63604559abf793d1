"""A full resync and a baseline: the usual run, with other pairs or with operations that call nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from airflow_provider_iterable.engine.vocabulary import (
    NO_INTENTS,
    Added,
    Changed,
    Entry,
    Gone,
    Handle,
    Intents,
    Invalid,
    Operation,
    Outcome,
    Pair,
    Patch,
    Present,
    Recipe,
    Records,
    Removed,
    Row,
    State,
    Sync,
)

Resync = Literal["changes", "full", "baseline"]

VOID = b"\xff" * 12
"""The fingerprint of an entry that a full resync has yet to send again: a generation of one bit.

A full resync that begins gives it to every entry; an accepted row gets its own back. So a retry goes on where the
last try stopped, and a later run of the usual kind sends what is left.
"""


def bend(sync: Sync, state: State, resync: Resync, begins: bool) -> tuple[Sync, State]:
    """Return sync and state as a run of this kind sees them.

    :param begins: whether a full resync begins with this run, rather than goes on
    """
    if resync == "baseline":
        return Recorded(sync), Staying(state)
    if begins:
        state = Distrusted(state)
    return sync, Renewed(state) if sync.keeps_leavers else state


class _Seen:
    """A state that shows itself otherwise than it is."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def remembered(self) -> int:
        """Entries there were before this run."""
        return self._state.remembered

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Put rows beside what is remembered."""
        return self._state.pair(sync, chunks)

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return whole entries."""
        return self._state.recall(keys)

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents."""
        self._state.commit(patch, intents)


class Staying(_Seen):
    """A state in which nobody has left."""

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Keep quiet about memories that meet no row."""
        return (pair for pair in self._state.pair(sync, chunks) if not isinstance(pair, Gone))


class Distrusted(_Seen):
    """A state whose entries no row equals."""

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Put rows beside void fingerprints, where there are any."""
        for pair in self._state.pair(sync, chunks):
            if isinstance(pair, Present):
                before = [None if fingerprint is None else VOID for fingerprint in pair.before]
                yield replace(pair, before=before)
            else:
                yield pair

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return entries with void fingerprints."""
        return {key: Entry(VOID, entry.ref) for key, entry in self._state.recall(keys).items()}


class Renewed(_Seen):
    """A state that does not know the rows that a full resync has yet to send.

    To a sync whose keys are remembered for ever, a changed row may say nothing; a new row speaks.
    """

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Put rows beside nothing, where fingerprints are void."""
        for pair in self._state.pair(sync, chunks):
            if isinstance(pair, Present) and VOID in pair.before:
                before = [None if fingerprint == VOID else fingerprint for fingerprint in pair.before]
                yield replace(pair, before=before)
            else:
                yield pair


class Recorded:
    """A sync that says nothing to Iterable, and has its rows remembered as if it had."""

    removals_first = False
    exclusive = False  # nothing is overwritten where nothing is said

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self.keeps_leavers, self.collapses = sync.keeps_leavers, sync.collapses
        self.recipe: Recipe | None = getattr(sync, "recipe", None)

    def keys(self, rows: Sequence[Row]) -> Sequence[str | Invalid]:
        """Name the rows."""
        return self._sync.keys(rows)

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map the rows."""
        return self._sync.records(keys, rows, fingerprints)

    def ranks(self, rows: Sequence[Row]) -> Sequence[str]:
        """Say which of several rows with one key comes last."""
        return self._sync.ranks(rows)

    def identity(self, ref: str) -> Handle:
        """Tell whom an entry is about."""
        return self._sync.identity(ref)

    def added(self, change: Added) -> Operation:
        """A new row is remembered."""
        return replace(self._sync.added(change), call=None, body=b"")

    def changed(self, change: Changed) -> Operation:
        """A changed row is remembered as it is now."""
        return replace(self._sync.changed(change), call=None, body=b"")

    def removed(self, change: Removed) -> Operation:
        """Nobody leaves in such a run."""
        raise AssertionError("a baseline has no removals")

    def moved(self, change: Changed) -> Operation | None:
        """The identity that a row had before is left alone."""
        return None

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Nothing is sent that could be looked at."""
        return operation

    def salvage(self, operation: Operation, fields: Collection[str], detail: str) -> Operation | None:
        """Nothing is refused that could be saved."""
        return None
