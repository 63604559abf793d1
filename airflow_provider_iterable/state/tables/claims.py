"""Entries of one partition's rows that other partitions hold: moves them, and keeps them from being removals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import Erased, Gone, Pair, Present
from airflow_provider_iterable.errors import LeaseHeld
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.scope import Part, Scope
from airflow_provider_iterable.state.tables.entries import Entries
from airflow_provider_iterable.state.tables.partitions import Partitions

log = logger(__name__)

KEYS_AT_ONCE = 2_000
GONE_AT_ONCE = 20_000
"""Keys in one query for keys and identities in other partitions: each query reads all entries of a partition."""


class Claims:
    """Finds entries of this partition's rows in other partitions.

    :param entries: the entries of the partition
    :param scope: its run
    :param partitions: the partitions of the sync
    """

    def __init__(self, entries: Entries, scope: Scope, partitions: Partitions) -> None:
        self._entries, self._scope, self._partitions = entries, scope, partitions
        self._part = scope.part or Part(scope.sync_id)
        self._elsewhere: list[str] = []
        """Keys without a row here that another partition holds, or whose identity it holds."""

    def claim(self, sync: Sync) -> Mapping[str, str] | None:
        """Move entries of this partition's rows from other partitions here, if that was not done yet.

        Returns the notes of the sync if it has no partitions any more, and entries were moved.
        """
        if not self._partitions.claiming:
            return None
        sources = list(filter(self._remembers, self._sources({*self._part.names, *self._partitions.former})))
        found = self._search(sync, sources)
        # Only after reading: SQLite lets no other connection write meanwhile.
        moved = sum(self._move(source, keys) for source, keys in found.items())
        notes = self._partitions.claimed(self._adopt)
        log.info("Sync %s: %d entries of other partitions are this one's now.", self._scope.sync_id, moved)
        return notes

    def pairs(self, sync: Sync, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Correct pairs by the entries of other partitions, where these matter."""
        if self._partitions.moving:
            pairs = (found for found in pairs if not isinstance(found, Gone))
        if self._partitions.several:
            pairs = self._recognise_returning(pairs) if sync.keeps_leavers else self._without_moved(pairs)
        return iter(pairs)

    def _recognise_returning(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Look up new rows in other partitions that remember their keys for ever: a row may move from one to this."""
        for found in pairs:
            if isinstance(found, Present) and None in found.before:
                yield from self._with_memories(found)
            else:
                yield found

    def _with_memories(self, found: Present) -> Iterator[Pair]:
        new = [key for key, before in zip(found.keys, found.before, strict=True) if before is None]
        known: dict[str, tuple[str, str]] = {}
        for source in self._sources(self._part.names):
            entries = self._partitions.read(partial(self._entries.find, source, [*new, *map(tombstone, new)]))
            known.update({key: (fingerprint, ref) for key, fingerprint, ref in entries})
        erased = [key for key in new if tombstone(key) in known] if known else []
        if erased:
            yield Erased(erased)
        kept = [number for number, key in enumerate(found.keys) if key not in set(erased)] if known else []
        if not known:
            yield found
        elif kept:
            keys = [found.keys[number] for number in kept]
            there = [known.get(key, ("", "")) for key in keys]
            yield Present(
                keys,
                [found.rows[number] for number in kept],
                [found.before[n] or bytes.fromhex(text) or None for n, (text, _) in zip(kept, there, strict=True)],
                [found.fingerprints[number] for number in kept] if found.fingerprints else (),
                [found.refs[n] or ref or None for n, (_, ref) in zip(kept, there, strict=True)] if found.refs else (),
            )

    def _without_moved(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Drop removals of keys that another partition remembers: they left the partition, not the sync."""
        waiting: list[Gone] = []
        for found in pairs:
            if not isinstance(found, Gone):
                yield found
                continue
            waiting.append(found)
            if len(waiting) >= GONE_AT_ONCE:
                yield from self._gone_everywhere(waiting)
                waiting = []
        yield from self._gone_everywhere(waiting)

    def _gone_everywhere(self, waiting: Sequence[Gone]) -> Iterator[Gone]:
        elsewhere = self._held_elsewhere([found.key for found in waiting])
        self._elsewhere.extend(elsewhere)
        yield from (found for found in waiting if found.key not in elsewhere)

    def _held_elsewhere(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that another partition also holds, or whose identity it holds."""
        found = set[str]()
        sources = self._sources(self._part.names) if keys else []
        about: dict[str, list[str]] = defaultdict(list)
        own = partial(self._entries.find, self._scope.sync_id, keys)
        for key, _, ref in self._partitions.read(own) if sources else ():
            about[ref].append(key)
        about.pop("", None)
        for source in sources:
            found.update(self._known(source, keys))
            refs = list(about)
            for _, ref in self._partitions.read(partial(self._entries.bearers, source, refs)) if refs else ():
                found.update(about[ref])
        return found

    def forget(self) -> None:
        """Delete entries of rows that left this partition but not the sync.

        One partition at a time. Where a row left two partitions, each made no removal because the other one still held
        the identity: the second keeps its entry, and removes the row in its next run.
        """
        if not self._elsewhere:
            return
        with suppress(LeaseHeld), self._partitions.alone():  # if this one cannot, the next run does it
            keys = sorted(self._held_elsewhere(self._elsewhere))
            for start in range(0, len(keys), KEYS_AT_ONCE):
                some = keys[start : start + KEYS_AT_ONCE]
                self._partitions.store(partial(self._entries.drop, self._scope.sync_id, some))

    def _search(self, sync: Sync, sources: Sequence[str]) -> Mapping[str, list[str]]:
        """Return the keys of the model's rows that other partitions hold, by partition."""
        found: dict[str, list[str]] = {source: [] for source in sources}
        tombstones = {source: set(self._keys(source, erased=True)) for source in sources}
        model = self._scope.model
        for rows in model.chunks() if model is not None and sources else ():
            keys = [name for name in sync.keys(rows) if isinstance(name, str)]
            hidden = [tombstone(key) for key in keys] if any(tombstones.values()) else []
            for source in sources:
                found[source] += self._known(source, keys)
                found[source] += tombstones[source].intersection(hidden)
        return found

    def _move(self, source: str, keys: list[str]) -> int:
        """Move entries from one partition to this one, which keeps those it has."""
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            # Somebody may have been erased since the keys were looked for.
            self._partitions.store(partial(self._entries.take_over, source, [*some, *map(tombstone, some)]))
        return len(keys)

    def _adopt(self, former: Iterable[str]) -> None:
        """Move the remaining entries of dropped partitions here: they are removals in the next run."""
        for name in former:
            source = self._part.state_id(name)
            self._move(source, self._keys(source))
            if name:
                self._partitions.store(partial(self._entries.drop_header, source))

    def _sources(self, names: Iterable[str]) -> list[str]:
        return [self._part.state_id(name) for name in sorted(set(names)) if name != self._part.name]

    def _known(self, source: str, keys: Sequence[str]) -> list[str]:
        return [key for key, _, _ in self._partitions.read(lambda: self._entries.find(source, keys))]

    def _keys(self, source: str, erased: bool = False) -> list[str]:
        return self._partitions.read(partial(self._entries.keys, source, erased))

    def _remembers(self, source: str) -> bool:
        return self._partitions.read(partial(self._entries.remembers, source))
