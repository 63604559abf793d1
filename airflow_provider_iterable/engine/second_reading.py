"""What has to be read a second time, from the model or the database, once all differences are known."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence

from airflow_provider_iterable.engine.compare import RECALL_AT_ONCE
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import State, Sync
from airflow_provider_iterable.engine.vocabulary import (
    Bearer,
    Invalid,
    News,
    Overwritten,
    Present,
    Record,
    Records,
    Row,
    Unseen,
)

ASKED_AT_ONCE = 50_000
"""References in one question about unseen rows: each question reads all that is remembered."""


def greatest_rows(sync: Sync, chunks: Iterable[Sequence[Row]], keys: Collection[str]) -> dict[str, Row]:
    """Read the model once more; of each key, return the row of the greatest rank, unless that is the first row."""
    best: dict[str, tuple[str, Row]] = {}
    first: dict[str, Row] = {}
    for rows in chunks:
        for key, rank, row in zip(sync.keys(rows), sync.ranks(rows), rows, strict=True):
            if isinstance(key, str) and key in keys:
                first.setdefault(key, row)
                if key not in best or rank > best[key][0]:
                    best[key] = (rank, row)
    return {key: row for key, (_, row) in best.items() if row is not first[key]}


def paired(state: State, rows: dict[str, Row]) -> Iterator[Present]:
    """Put rows beside what is remembered under their keys."""
    keys = list(rows)
    for start in range(0, len(keys), RECALL_AT_ONCE):
        some = keys[start : start + RECALL_AT_ONCE]
        entries = state.recall(some)
        before = [entries[key].fingerprint if key in entries else None for key in some]
        yield Present(some, [rows[key] for key in some], before)


def withdraw(plan: Plan, keys: Collection[str]) -> None:
    """Take back what was planned for the first rows of these keys."""
    unchanged, positions = set(keys), set[int]()
    for position, operation in plan.rows.read():
        if operation.key in unchanged:
            unchanged.discard(operation.key)
            positions.add(position)
            plan.take_back(operation)
    unchanged.difference_update(outcome.key for outcome in plan.invalid)
    plan.invalid = [outcome for outcome in plan.invalid if outcome.key not in keys]
    plan.unchanged -= len(unchanged)
    plan.again = array("q", (position for position in plan.again if position not in positions))
    plan.superseded.update(dict.fromkeys(keys, plan.rows.size))


def unseen_bearers(sync: Sync, plan: Plan, unseen: Unseen, left: Iterable[str]) -> dict[str, int]:
    """Return the keys of unseen rows that bear an identity which the run changes, and its hash.

    :param left: references of identities that rows left
    """
    found: dict[str, str] = {}
    refs = dict.fromkeys(left)
    for _, operation in plan.rows.read():
        if operation.call is not None and operation.remember is not None:
            refs[operation.remember.ref] = None
    refs.pop("", None)
    asked = list(dict.fromkeys(form for ref in refs for form in sync.forms(ref)))
    for start in range(0, len(asked), ASKED_AT_ONCE):
        found.update(unseen.bearers(asked[start : start + ASKED_AT_ONCE]))
    for spool in (plan.rows, plan.removals):
        for _, operation in spool.read():
            found.pop(operation.key, None)
    for outcome in plan.invalid:
        found.pop(outcome.key, None)
    return {key: hash(sync.identity(ref)) for key, ref in found.items()}


def planned_with(plan: Plan, identities: set[int]) -> set[str]:
    """Return the keys of rows that need not go again: they are planned with one of the identities, or erased.

    Duplicates are none of them: each of their rows is still to be asked for the identity that it bears.
    """
    planned = {op.key for _, op in plan.present() if op.handles and hash(op.handles[0]) in identities}
    planned.update(outcome.key for outcome in plan.erased)
    return planned


def resend_unchanged(
    sync: Sync, chunks: Iterable[Sequence[Row]], identities: set[int], planned: set[str], duplicates: set[str]
) -> Iterator[News]:
    """Read the model once more; yield unchanged rows that bear one of the identities, and who the duplicates are."""
    for rows in chunks:
        named = [
            (key, row)
            for key, row in zip(sync.keys(rows), rows, strict=True)
            if not isinstance(key, Invalid) and key not in planned
        ]
        if named:
            yield from _overwritten(sync.records(*zip(*named, strict=True)), identities, duplicates)


def resend_unseen(
    sync: Sync, unseen: Unseen, keys: Collection[str], identities: set[int], duplicates: set[str]
) -> Iterator[News]:
    """Read unseen rows by their keys; yield those that bear one of the identities, and who the duplicates are."""
    for pair in unseen.present(list(keys)):
        records = sync.records(pair.keys, pair.rows, pair.fingerprints)
        yield from _overwritten(records, identities, duplicates)


def _overwritten(records: Records, identities: set[int], duplicates: set[str]) -> Iterator[News]:
    for number, (key, name) in enumerate(zip(records.keys, records.names, strict=True)):
        identity = hash((records.kind, name))
        if key in duplicates:
            yield Bearer(identity)
        elif identity in identities and isinstance(record := records.record(number), Record):
            yield Overwritten(record)
