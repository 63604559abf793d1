"""Entries that become wrong if a run stops after another row with the same identity was sent."""

from __future__ import annotations

from airflow_provider_iterable.engine.compare import RECALL_AT_ONCE
from airflow_provider_iterable.engine.identities import Identities
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import State, Sync
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Entry, Patch


def overwritten(sync: Sync, plan: Plan, identities: Identities, state: State, voided: bool) -> Patch:
    """Return the entries that others overwrite before their own row is sent, or without its being sent, as in doubt.

    Of several rows that bear one identity, the one with the greatest key is sent last. Were the run cut short after
    another row was sent, or were the last one refused, that row's old entry would be wrong, and it might equal that.

    :param voided: whether all entries are void when the run begins to send, so that none of them is in doubt yet
    """
    moved_from = set(identities.moved_from)
    contested = plan.shared | plan.borne
    if moved_from:
        contested.update(identity for identity in identities.sent if identity in moved_from)
    keys = sorted(_candidates(plan, identities, contested))
    found: dict[str, Entry] = {}
    for start in range(0, len(keys), RECALL_AT_ONCE):
        found.update(state.recall(keys[start : start + RECALL_AT_ONCE]))
    about = {key: hash(sync.identity(entry.ref)) for key, entry in found.items()}
    asked = set(about.values())
    touched = contested | identities.left
    touched.update(identity for identity in identities.sent if identity in asked)
    return {
        key: Entry(NEVER_EQUAL, entry.ref)
        for key, entry in found.items()
        if about[key] in touched and (voided or entry.fingerprint != NEVER_EQUAL)
    }


def _candidates(plan: Plan, identities: Identities, contested: set[int]) -> set[str]:
    """Return the keys of rows whose entry others may overwrite.

    They are refused, or sent with a contested identity, or left one that another row bears or left, too.
    """
    keys = {outcome.key for outcome in plan.invalid if outcome.key}
    if others := plan.borne | identities.removed_twice:
        keys.update(op.key for _, op in plan.removals.read() if op.handles and hash(op.handles[0]) in others)
    if contested:
        moved_from = dict(zip(identities.moved_at, identities.moved_from, strict=True))
        for position, operation in plan.rows.read():
            if operation.kind is Kind.CHANGED and (
                hash(operation.handles[0]) in contested or moved_from.get(position) in contested
            ):
                keys.add(operation.key)
    return keys
