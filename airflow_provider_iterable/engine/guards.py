"""Limits that stop a run before it sends: an empty model, too many removals, deletions or subscriptions."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.errors import GuardTripped

FIRST_GUARDED = 20
"""``max_removed`` and ``max_changed`` look at 20 rows and more: below that a share means little."""


@dataclass(frozen=True)
class Guards:
    """The limits of a run; a plan beyond them is refused.

    :param allow_empty: whether a model may have no rows
    :param max_removed: most removals; a float is a share of the remembered rows, an int a number of rows
    :param max_changed: most remembered rows that may have changed, likewise; ``None``: any number
    :param max_deletes: most profiles deleted in one run; ``None`` when the sync deletes no profiles
    :param max_subscribed: most rows that subscribe somebody in one run; ``None``: any number
    :param max_merges: most profiles merged into others in one run; ``None``: any number, or the sync merges none
    """

    allow_empty: bool = False
    max_removed: float | int | None = 0.3
    max_changed: float | int | None = None
    max_deletes: int | None = None
    max_subscribed: int | None = None
    max_merges: int | None = None


def guard_merges(plan: Plan, guards: Guards) -> None:
    """Refuse a plan that merges more than was allowed.

    :raises GuardTripped: nothing was sent
    """
    merges = plan.sends - plan.deletes  # of a pair whose row has left, the source is only looked up
    if guards.max_merges is not None and merges > guards.max_merges:
        raise GuardTripped(
            f"The run would merge {merges} profiles into others, which nothing undoes; max_merges allows "
            f"{guards.max_merges}. Nothing was sent. If they should be merged, raise max_merges for this run."
        )


def guard(plan: Plan, guards: Guards, remembered: int) -> None:
    """Refuse a plan that removes more than was allowed.

    :raises GuardTripped: nothing was sent; the message says how to allow it
    """
    if plan.read == 0 and not guards.allow_empty:
        raise GuardTripped(
            f"The model returned no rows ({remembered} are remembered). Nothing was sent and nothing is forgotten. "
            "If an empty model is right, set allow_empty=True."
        )
    removed = plan.counts[Kind.REMOVED]
    if (most := _exceeded(removed, guards.max_removed, remembered)) is not None:
        raise GuardTripped(
            f"{removed} of {remembered} remembered rows have left the model; max_removed={guards.max_removed!r} allows "
            f"{most}. Nothing was sent and nothing is forgotten. If the rows really left, raise max_removed (a float "
            "is a share of the remembered rows, an int a number of rows) for this run."
        )
    if guards.max_deletes is not None and plan.deletes > guards.max_deletes:
        raise GuardTripped(
            f"The run would delete {plan.deletes} users or items; max_deletes allows {guards.max_deletes}. Nothing was "
            "sent. If they should go, raise max_deletes for this run."
        )
    if guards.max_subscribed is not None and plan.subscribed > guards.max_subscribed:
        raise GuardTripped(
            f"The run would subscribe {plan.subscribed} people to messages, some perhaps to several; max_subscribed "
            f"allows {guards.max_subscribed}. Nothing was sent. If they asked for it, raise max_subscribed for this "
            "run; None allows any number."
        )


def guard_changes(plan: Plan, guards: Guards, remembered: int, why: str) -> None:
    """Refuse a plan in which more rows changed than was allowed.

    :param why: what is known about it, as sentences
    :raises GuardTripped: nothing was sent
    """
    changed = plan.counts[Kind.CHANGED]
    if (most := _exceeded(changed, guards.max_changed, remembered)) is not None:
        raise GuardTripped(
            f"{changed} of {remembered} remembered rows changed; max_changed={guards.max_changed!r} allows {most}. "
            f"Nothing was sent. {why} If the rows really changed, raise max_changed (a float is a share of the "
            "remembered rows, an int a number of rows) for this run."
        )


def _exceeded(rows: int, limit: float | int | None, remembered: int) -> int | None:
    """Return what a limit allows, if there are more rows."""
    if limit is None or rows < FIRST_GUARDED:
        return None
    most = int(limit * remembered if isinstance(limit, float) else limit)
    return most if rows > most else None
