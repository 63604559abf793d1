"""Pairs rows with a dict of fingerprints, and recognises rows about people who were erased."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import repeat

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import Duplicate, Entry, Erased, Gone, Invalid, Pair, Present, Row

_SEEN = b"a row of this run has this key"


def pair_with(
    known: dict[bytes, bytes], sync: Sync, chunks: Iterable[Sequence[Row]], erased: dict[str, int] | None = None
) -> Iterator[Pair]:
    """Pair rows with remembered fingerprints; ``known`` is modified.

    One dict finds remembered fingerprints, duplicate keys and, after the last row, the keys that no row has. It takes
    most of the worker's memory, so its keys are UTF-8, which takes 16 bytes less than text.

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
            found = _rows_of_erased(keys, known, erased)
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


def pair_some(
    recall: Callable[[Sequence[str]], Mapping[str, Entry]],
    sync: Sync,
    chunks: Iterable[Sequence[Row]],
    keys: Collection[str],
) -> Iterator[Pair]:
    """Pair the rows that have some keys with what is remembered under these.

    :param recall: returns whole entries; a tombstone has no fingerprint
    """
    entries = recall([*keys, *map(tombstone, keys)])
    known = {key.encode(): entry.fingerprint for key, entry in entries.items() if entry.fingerprint}
    erased = {key: 0 for key, entry in entries.items() if not entry.fingerprint}
    return pair_with(known, sync, _with_keys(sync, chunks, keys), erased)


def _with_keys(sync: Sync, chunks: Iterable[Sequence[Row]], keys: Collection[str]) -> Iterator[Sequence[Row]]:
    for rows in chunks:
        if found := [row for name, row in zip(sync.keys(rows), rows, strict=True) if name in keys]:
            yield found


def _rows_of_erased(keys: Sequence[str], known: Mapping[bytes, bytes], erased: dict[str, int]) -> set[int]:
    """Return the rows of a chunk that are about erased people, and count them."""
    found = set()
    for number, key in enumerate(keys):
        if key.encode() not in known and (name := tombstone(key)) in erased:
            erased[name] += 1
            found.add(number)
    return found


def tombstone(text: str) -> str:
    """Return the digest that replaces a key or a reference once the person is erased."""
    return sha256(text.encode()).hexdigest()


def _firsts(keys: Sequence[str], before: Sequence[bytes | None], repeats: dict[str, int]) -> list[int]:
    """Return the rows of a chunk whose keys did not occur before, and count the others."""
    met: set[str] = set()
    firsts = []
    for number, key in enumerate(keys):
        if before[number] is _SEEN or key in met:
            repeats[key] = repeats.get(key, 1) + 1
        else:
            met.add(key)
            firsts.append(number)
    return firsts
