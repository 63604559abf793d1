"""State in a dict: the reference with which tests compare the other stores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from airflow_provider_iterable.engine.doubt import patch_of, with_receipts
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.vocabulary import NO_INTENTS, Doubt, Entry, Intents, Pair, Patch, Row
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.pairing import pair_some, pair_with
from airflow_provider_iterable.state.store import Header, Undivided


class MemoryState(Undivided):
    """State in a dict, for tests.

    :param entries: what is remembered; the dict itself is written to
    :param notes: what is noted; likewise
    """

    lease = None
    resend_reason: str | None = None

    def __init__(self, entries: dict[str, Entry] | None = None, notes: dict[str, str] | None = None) -> None:
        self.entries = {} if entries is None else entries
        self.notes = {} if notes is None else notes
        self.intents: dict[int, Sequence[Doubt]] = {}
        """Requests that were announced and not settled."""
        self.remembered = len(self.entries)

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Pair rows with entries."""
        self.settle_intents()
        self.remembered = len(self.entries)
        return pair_with({key.encode(): entry.fingerprint for key, entry in self.entries.items()}, sync, chunks)

    def settle_intents(self) -> None:
        """Turn what an earlier run announced and did not settle into entries in doubt."""
        for doubts in self.intents.values():
            apply(self.entries, patch_of(doubts))
        self.intents = {}

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys."""
        return {key: self.entries[key] for key in keys if key in self.entries}

    def bearing(self, refs: Sequence[str]) -> Collection[str]:
        """Return the keys that are remembered with one of some references."""
        return [key for key, entry in self.entries.items() if entry.ref in refs]

    def pair_some(self, sync: Sync, model: Model, keys: Collection[str]) -> Iterator[Pair]:
        """Pair the rows of some keys with entries."""
        return pair_some(self.recall, sync, model.chunks(), keys)

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents."""
        apply(self.entries, with_receipts(patch, intents))
        for number in intents.ended:
            self.intents.pop(number, None)
        self.intents.update(intents.begun)

    def note(self, name: str, value: str) -> None:
        """Store a note."""
        self.notes[name] = value

    def note_along(self, name: str, value: str) -> None:
        """Store a note."""
        self.notes[name] = value

    def move(self) -> None:
        """Drop the notes: they are about another project."""
        self.notes.clear()

    def void(self, name: str, value: str) -> None:
        """Void every entry."""
        self.notes[name] = value
        void(self.entries)

    def others(self) -> Mapping[str, Header]:
        """There are no other syncs."""
        return {}

    def check(self, plan: Plan) -> None:
        """Accept any plan."""

    def finish(self, delivered: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def void(entries: dict[str, Entry]) -> None:
    """Void the fingerprints of entries in place."""
    entries.update({key: Entry(VOID, entry.ref) for key, entry in entries.items()})


def apply(entries: dict[str, Entry], patch: Patch) -> None:
    """Apply a patch to entries in place."""
    for key, entry in patch.items():
        if entry is None:
            entries.pop(key, None)
        else:
            entries[key] = entry
