"""A full resync and a baseline: the usual run, with other pairs or with operations that call nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from msgspec.structs import replace

from airflow_provider_iterable.engine.vocabulary import Gone, Invalid, Operation, Pair, Present

C = TypeVar("C")
R = TypeVar("R", bound=Operation | Invalid)

Resync = Literal["changes", "full", "baseline"]

VOID = b"\xff" * 12
"""The fingerprint of an entry that a full resync has not sent again yet.

A full resync that begins gives it to every entry; an accepted row gets its own back. So a retry goes on where the
last try stopped, and a later run of the usual kind sends what is left.
"""


def for_resync(pairs: Iterable[Pair], resync: Resync, begins: bool, keeps_leavers: bool) -> Iterable[Pair]:
    """Return pairs as a run of this kind compares them.

    :param begins: whether a full resync begins with this run, rather than goes on
    :param keeps_leavers: whether the sync remembers its keys for ever
    """
    if resync == "baseline":
        return without_removals(pairs)
    if begins:
        pairs = voided(pairs)
    return void_as_new(pairs) if keeps_leavers else pairs


def without_removals(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Pass over entries without a row."""
    return (pair for pair in pairs if not isinstance(pair, Gone))


def voided(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Put rows beside void fingerprints where anything is remembered, so that all of them are changes."""
    for pair in pairs:
        if isinstance(pair, Present):
            before = [None if fingerprint is None else VOID for fingerprint in pair.before]
            yield replace(pair, before=before)
        else:
            yield pair


def void_as_new(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Put rows beside nothing where fingerprints are void.

    A sync whose keys are remembered for ever may send nothing for a changed row, but it sends a new one.
    """
    for pair in pairs:
        if isinstance(pair, Present) and VOID in pair.before:
            before = [None if fingerprint == VOID else fingerprint for fingerprint in pair.before]
            yield replace(pair, before=before)
        else:
            yield pair


def recorded(operation_of: Callable[[C], R]) -> Callable[[C], R]:
    """Have the operations of changes remembered as if they were accepted, and none of them sent."""

    def record(change: C) -> R:
        operation = operation_of(change)
        return replace(operation, call=None, body=b"") if isinstance(operation, Operation) else operation

    return record
