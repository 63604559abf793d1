"""A dict that remembers, and the pairing of rows with a dict; the reference the other stores must agree with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import repeat

from airflow_provider_iterable.engine.doubt import patch_of, with_receipts
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.vocabulary import (
    NO_INTENTS,
    Doubt,
    Duplicate,
    Entry,
    Erased,
    Gone,
    Intents,
    Invalid,
    Pair,
    Patch,
    Present,
    Row,
)
from airflow_provider_iterable.state.scope import Header

_SEEN = b"a row of this run has this key"


def pair_with(
    known: dict[bytes, bytes], sync: Sync, chunks: Iterable[Sequence[Row]], erased: dict[str, int] | None = None
) -> Iterator[Pair]:
    """Pair rows with remembered fingerprints; ``known`` is used up.

    One dict serves to find memories, duplicate keys and, after the last row, the keys that no row has. It is what the
    worker's memory goes to, so its keys are UTF-8, which takes 16 bytes less than text.

    :param known: fingerprints by key
    :param erased: hashes of the keys of people whom a privacy sync erased; their rows are counted here and set aside
    """
    repeats: dict[str, int] = {}
    for rows in chunks:
        names = sync.keys(rows)
        if set(map(type, names)) != {str}:
            yield from (name for name in names if isinstance(name, Invalid))
            rows = [row for name, row in zip(names, rows, strict=True) if isinstance(name, str)]
        keys = [name for name in names if isinstance(name, str)]
        if erased:
            found = _buried(keys, known, erased)
            if found:
                yield Erased([keys[n] for n in sorted(found)])
                rows = [row for n, row in enumerate(rows) if n not in found]
                keys = [key for n, key in enumerate(keys) if n not in found]
        packed = list(map(str.encode, keys))
        before = list(map(known.get, packed))
        known.update(zip(packed, repeat(_SEEN)))
        if _SEEN in before or len(set(keys)) < len(keys):
            firsts = _firsts(keys, before, repeats)
            keys, rows = [keys[n] for n in firsts], [rows[n] for n in firsts]
            before = [before[n] for n in firsts]
        if keys:
            yield Present(keys, rows, before)
    for packed_key, fingerprint in known.items():
        if fingerprint is not _SEEN:
            yield Gone(packed_key.decode(), Entry(fingerprint))
    for key, rows_with_it in repeats.items():
        yield Duplicate(key, rows_with_it)


def _buried(keys: Sequence[str], known: Mapping[bytes, bytes], erased: dict[str, int]) -> set[int]:
    """Return the rows of a chunk that are about erased people, and count them."""
    found = set()
    for number, key in enumerate(keys):
        if key.encode() not in known and (name := tombstone(key)) in erased:
            erased[name] += 1
            found.add(number)
    return found


def tombstone(text: str) -> str:
    """Return what a key or a reference is remembered as once the person is erased."""
    return sha256(text.encode()).hexdigest()


def _firsts(keys: Sequence[str], before: Sequence[bytes | None], repeats: dict[str, int]) -> list[int]:
    """Return the rows of a chunk whose keys were not met yet, and count the others."""
    met: set[str] = set()
    firsts = []
    for number, key in enumerate(keys):
        if before[number] is _SEEN or key in met:
            repeats[key] = repeats.get(key, 1) + 1
        else:
            met.add(key)
            firsts.append(number)
    return firsts


class MemoryState:
    """State in a dict, for tests and as the reference.

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
        """Take what an earlier run announced and did not settle for entries in doubt."""
        for doubts in self.intents.values():
            apply(self.entries, patch_of(doubts))
        self.intents = {}

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys."""
        return {key: self.entries[key] for key in keys if key in self.entries}

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
        """Leave the notes behind."""
        self.notes.clear()

    def void(self, name: str, value: str) -> None:
        """Void every entry."""
        self.notes[name] = value
        void(self.entries)

    def others(self) -> Mapping[str, Header]:
        """A dict knows of no other sync."""
        return {}

    def check(self, plan: Plan) -> None:
        """Memory holds any plan."""

    def finish(self, delivered: bool) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is open."""


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
