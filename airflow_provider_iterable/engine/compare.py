"""A pair is a change, or no news; knows neither where pairs come from nor what is done about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Changed,
    Entry,
    Gone,
    Invalid,
    News,
    Pair,
    Present,
    Removed,
    State,
    Sync,
    Unchanged,
)

RECALL_AT_ONCE = 1000
"""Entries fetched from the state in one go."""


def compare(sync: Sync, pairs: Iterable[Pair]) -> Iterator[News]:
    """Say what each pair means."""
    record_of = sync.record
    for pair in pairs:
        if isinstance(pair, Present):
            record = record_of(pair.key, pair.row)
            if isinstance(record, Invalid):
                yield record
            elif pair.before is None:
                yield Added(record)
            elif pair.before.fingerprint == record.fingerprint:
                yield Unchanged(record)
            else:
                yield Changed(pair.before, record)
        elif isinstance(pair, Gone):
            yield Removed(pair.key, pair.before)
        else:
            yield pair


def recalled(state: State, news: Iterable[News]) -> Iterator[News]:
    """Complete changes and removals with the reference that the state keeps, many at a time.

    While rows stream, the state holds fingerprints only; what an undo needs is fetched for the few that differ.
    """
    waiting: list[Changed | Removed] = []
    for item in news:
        if isinstance(item, Changed | Removed) and not item.before.ref:
            waiting.append(item)
            if len(waiting) >= RECALL_AT_ONCE:
                yield from _complete(state, waiting)
                waiting = []
        else:
            yield item
    yield from _complete(state, waiting)


def _complete(state: State, waiting: list[Changed | Removed]) -> Iterator[News]:
    if not waiting:
        return
    found = state.recall([_key(item) for item in waiting])
    for item in waiting:
        entry = found.get(_key(item), Entry(item.before.fingerprint, ""))
        yield Changed(entry, item.after) if isinstance(item, Changed) else Removed(item.key, entry)


def _key(item: Changed | Removed) -> str:
    return item.after.key if isinstance(item, Changed) else item.key
