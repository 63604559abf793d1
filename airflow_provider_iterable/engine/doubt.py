"""Entries in doubt: what is remembered of operations whose request got no answer, so Iterable may have applied them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from operator import attrgetter

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Call,
    Doubt,
    Entry,
    Intents,
    Operation,
    Patch,
)

_NEVER_EQUAL = ""
"""Empty to save space: it is stored for each operation before its request is sent."""
_BEFORE, _REMEMBER, _RECEIPT = attrgetter("before"), attrgetter("remember"), attrgetter("key", "remember")

Doubts = Callable[[Call, Sequence[Operation]], Sequence[Doubt]]
"""Returns what operations leave behind if their request is never answered."""


def doubts_of(sync: Sync, receipts: bool = True) -> Doubts:
    """Return the function that makes the doubts of a sync's operations.

    An entry in doubt equals no row and has what a removal needs: with its row it is a change, without it a removal.
    A row whose identity changed leaves two, for either identity may be at Iterable. A new row of a sync that
    remembers its keys for ever leaves nothing: without an entry it is sent again; unless it makes a difference that it
    was sent before. What must not be sent twice is remembered as if it had been accepted.

    :param receipts: whether doubts also hold what is remembered once all is accepted, so that it need not be listed
        and encoded once more; not where more than the answer decides about that
    """
    forgets_new = sync.keeps_leavers

    def doubts(call: Call, operations: Sequence[Operation]) -> Sequence[Doubt]:
        if call.looks_back:
            entries = [(key, entry) for key, entry in map(_RECEIPT, operations) if entry]
            return [(key, doubted(entry.fingerprint).hex(), entry.ref, "") for key, entry in entries]
        if not call.repeatable:
            return [
                (operation.key, operation.remember.fingerprint.hex(), operation.remember.ref, "")
                for operation in operations
                if operation.remember is not None
            ]
        if not forgets_new and not any(map(_BEFORE, operations)):  # as in all of a first sync
            if receipts and all(map(_REMEMBER, operations)):
                return [
                    (key, _NEVER_EQUAL, entry.ref, entry.fingerprint.hex()) for key, entry in map(_RECEIPT, operations)
                ]
            return [(one.key, _NEVER_EQUAL, one.remember.ref if one.remember else "", "") for one in operations]
        left: list[Doubt] = []
        for operation in operations:
            remember, before = operation.remember, operation.before
            if operation.kind is Kind.ADDED and forgets_new:
                continue
            if remember is None:
                left.append((operation.key, _NEVER_EQUAL, before, ""))
            elif before and sync.exclusive:
                left.append((operation.key, _NEVER_EQUAL, before, ""))
                left.append((_other_key(operation.key, remember.ref), _NEVER_EQUAL, remember.ref, ""))
            else:
                left.append((operation.key, _NEVER_EQUAL, remember.ref, ""))
        return left

    return doubts


def patch_of(doubts: Iterable[Doubt]) -> Patch:
    """Return doubts as entries."""
    return {key: Entry(bytes.fromhex(fingerprint) or NEVER_EQUAL, ref) for key, fingerprint, ref, _ in doubts}


def has_receipts(doubts: Sequence[Doubt]) -> bool:
    """Whether doubts hold what is remembered once all is accepted."""
    return bool(doubts and doubts[0][3])


def with_receipts(patch: Patch, intents: Intents) -> Patch:
    """Return a patch with what is remembered of requests that were accepted as they were announced."""
    if not intents.accepted:
        return patch
    lines = chain.from_iterable(intents.accepted.values())
    return {**patch, **{key: Entry(bytes.fromhex(fingerprint), ref) for key, _, ref, fingerprint in lines}}


def lines_of(doubts: Iterable[Sequence[str]]) -> Iterator[tuple[str, str, str]]:
    """Yield doubts as stores write entries: key, fingerprint in hexadecimal digits, reference."""
    for key, fingerprint, ref, *_ in doubts:
        yield key, fingerprint or NEVER_EQUAL.hex(), ref


def in_doubt(entry: Entry) -> bool:
    """Whether an entry is about something that Iterable may or may not have."""
    return entry.fingerprint.startswith(NEVER_EQUAL)


def doubted(fingerprint: bytes) -> bytes:
    """Return the fingerprint of an entry in doubt that says what it is about; it is longer than any record's."""
    return NEVER_EQUAL + fingerprint


def undoubted(fingerprint: bytes) -> bytes:
    """Return the fingerprint that an entry in doubt is about; empty where it does not say it."""
    return fingerprint.removeprefix(NEVER_EQUAL)


def _other_key(key: str, ref: str) -> str:
    """Return a key that no row has, for a second identity of a row."""
    return f"doubt {blake2b(f'{key} {ref}'.encode(), digest_size=16).hexdigest()}"
