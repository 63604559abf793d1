"""A dict that remembers, and the pairing of rows with a dict; the reference the other stores must agree with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.vocabulary import (
    Duplicate,
    Entry,
    Gone,
    Invalid,
    Pair,
    Patch,
    Present,
    Row,
    Sync,
)

_SEEN = b"a row of this run has this key"


def pair_with(known: dict[str, bytes], sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
    """Pair rows with remembered fingerprints; ``known`` is used up.

    One dict serves to find memories, duplicate keys and, after the last row, the keys that no row has.
    """
    repeats: dict[str, int] = {}
    for rows in chunks:
        names = sync.keys(rows)
        if set(map(type, names)) != {str}:
            yield from (name for name in names if isinstance(name, Invalid))
            rows = [row for name, row in zip(names, rows, strict=True) if isinstance(name, str)]
        keys = [name for name in names if isinstance(name, str)]
        before = list(map(known.get, keys))
        known.update(zip(keys, repeat(_SEEN)))
        if _SEEN in before or len(set(keys)) < len(keys):
            firsts = _firsts(keys, before, repeats)
            keys, rows = [keys[n] for n in firsts], [rows[n] for n in firsts]
            before = [before[n] for n in firsts]
        if keys:
            yield Present(keys, rows, before)
    for key, fingerprint in known.items():
        if fingerprint is not _SEEN:
            yield Gone(key, Entry(fingerprint))
    for key, rows_with_it in repeats.items():
        yield Duplicate(key, rows_with_it)


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
    """

    resend_reason: str | None = None

    def __init__(self, entries: dict[str, Entry] | None = None) -> None:
        self.entries = {} if entries is None else entries
        self.remembered = len(self.entries)

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Pair rows with entries."""
        self.remembered = len(self.entries)
        return pair_with({key: entry.fingerprint for key, entry in self.entries.items()}, sync, chunks)

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys."""
        return {key: self.entries[key] for key in keys if key in self.entries}

    def commit(self, patch: Patch) -> None:
        """Store a patch."""
        apply(self.entries, patch)

    def check(self, plan: Plan) -> None:
        """Memory holds any plan."""

    def finish(self, delivered: bool) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is open."""


def apply(entries: dict[str, Entry], patch: Patch) -> None:
    """Apply a patch to entries in place."""
    for key, entry in patch.items():
        if entry is None:
            entries.pop(key, None)
        else:
            entries[key] = entry
