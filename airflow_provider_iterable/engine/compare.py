"""Compares rows with what is remembered; knows neither where pairs come from nor what is done about changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_provider_iterable.engine.doubt import in_doubt
from airflow_provider_iterable.engine.protocols import State, Sync
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Changed,
    Entry,
    Fresh,
    Gone,
    Incomplete,
    Invalid,
    News,
    Pair,
    Present,
    Record,
    Records,
    Removed,
    Unchanged,
)

RECALL_AT_ONCE = 1000
"""Entries fetched from the state in one go."""

GoesAgain = Callable[[bytes], bool]
"""Returns whether an unchanged row with this body goes again."""


def compare(sync: Sync, pairs: Iterable[Pair], goes_again: GoesAgain | None = None) -> Iterator[News]:
    """Yield the changes between rows and what is remembered, and what else a plan has to know.

    :param goes_again: ``None``: no unchanged row does
    """
    for pair in pairs:
        if isinstance(pair, Present):
            yield from _present(pair, sync.records(pair.keys, pair.rows, pair.fingerprints), goes_again)
        elif isinstance(pair, Gone):
            if not sync.keeps_leavers or (sync.looks_back and in_doubt(pair.before)):
                yield Removed(pair.key, pair.before)
        else:
            yield pair


def _present(pair: Present, records: Records, goes_again: GoesAgain | None) -> Iterator[News]:
    """Compare a whole chunk at once, and only where it differs row by row."""
    if goes_again is None and pair.before == records.fingerprints:
        yield Unchanged(records.kind, records.names)
        return
    if not any(pair.before):
        yield Fresh(records)
        return
    unchanged: list[str | None] = []
    columns = zip(pair.before, records.fingerprints, records.keys, records.bodies, records.names, strict=True)
    for number, (before, after, key, body, name) in enumerate(columns):
        if before == after:
            if goes_again is not None and goes_again(body):
                yield Incomplete(Record(key, after, body, records.handles(number)))
            else:
                unchanged.append(name)
        elif isinstance(after, Invalid):
            yield after
        elif before is None:
            yield Added(Record(key, after, body, records.handles(number)))
        else:
            entry = Entry(before, pair.refs[number] or "") if pair.refs else Entry(before)
            yield Changed(entry, Record(key, after, body, records.handles(number)))
    if unchanged:
        yield Unchanged(records.kind, unchanged)


def recalled(state: State, news: Iterable[News]) -> Iterator[News]:
    """Complete changes and removals with the reference that the state keeps, many at a time.

    While rows stream, the state holds fingerprints only; what an undo needs is fetched for the few that differ.
    """
    waiting: list[Changed | Removed] = []
    for item in news:
        if isinstance(item, (Changed, Removed)) and not item.before.ref:
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
        if isinstance(item, Changed):
            yield Changed(Entry(item.before.fingerprint, entry.ref), item.after)  # a full resync voids it first
        else:
            yield Removed(item.key, entry)


def _key(item: Changed | Removed) -> str:
    return item.after.key if isinstance(item, Changed) else item.key
