"""Fields that Iterable left out of accepted rows: looks whether it has them by now, and says what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from airflow_provider_iterable.engine.left_out import LeftOut, Standing
from airflow_provider_iterable.engine.protocols import Fielded, Sync
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.scope import LEFT_OUT_NOTE
from airflow_provider_iterable.state.store import Session

log = logger(__name__)

Look = Callable[[Collection[str]], Collection[str]]
SHOWN = 20
"""Fields named in one sentence."""


def left_out_of(sync: Sync, session: Session, afresh: bool) -> LeftOut | None:
    """Return what is known about fields that were left out; ``None``: the sync's records have none.

    :param afresh: whether what was left out before is of no concern any more
    """
    if not isinstance(sync, Fielded):
        return None
    left_out = LeftOut(sync.carried, partial(session.note, LEFT_OUT_NOTE), session.notes.get(LEFT_OUT_NOTE, ""))
    left_out.keep(() if afresh else sync.mapped(left_out.standings))
    return left_out


def look(left_out: LeftOut, sync: Sync, look_for: Look, harm: str | None, *, dry: bool, approved: bool) -> None:
    """Find out which fields are there by now, so that the unchanged rows that carry them go again.

    A dry run does not look. A run that applies an approved plan looks, and leaves what it finds to the next plan.

    :param look_for: returns those of some fields that Iterable has by now
    :param harm: why rows do not go again, as a clause; ``None``: they may
    """
    if harm:
        left_out.keep(left_out.awaited)
        return
    arrived, awaited = left_out.arrived, left_out.awaited
    there = frozenset(look_for(sorted(awaited)) if awaited and not dry else ())
    if approved:
        left_out.mark(there, Standing.ARRIVED)
    else:
        arrived |= there
    left_out.again = arrived
    if arrived and isinstance(sync, Fielded):
        sync.expect(arrived)


def having(types: Mapping[str, str], fields: Collection[str]) -> Collection[str]:
    """Return those of some fields that are among Iterable's, or have members there."""
    known = {name[:end] for name in types for end in (*(n for n, sign in enumerate(name) if sign == "."), len(name))}
    return known.intersection(fields)


def report_missing(left_out: LeftOut | None, report: Report, outlook: str, harm: str | None) -> None:
    """Report which fields are missing, what becomes of them, and what can be done.

    :param outlook: how the sync learns that they are there, as sentences
    :param harm: why rows do not go again, as a clause
    """
    if left_out is None:
        return
    waiting = left_out.arrived - left_out.again
    if harm:
        outlook, waiting = f"Rows do not go again for them: {harm}.", frozenset()
    elif report.dry_run:
        outlook += " A dry run does not look: what would go again is not in its plan."
    missing = left_out.awaited | left_out.refused | waiting
    report.left_out.update(dict.fromkeys(missing, 0))
    _note(report, missing - left_out.refused - waiting, f"Iterable does not have them, and left them out. {outlook}")
    _note(report, waiting, "Iterable left them out before and has them by now. The rows go again with the next run.")
    _note(
        report,
        left_out.refused,
        "Iterable left them out once more when the rows went again. They go again only after an answer has shown that "
        'it takes them, or with resync="full".',
    )


def _note(report: Report, fields: Collection[str], what: str) -> None:
    if fields:
        more = f" and {len(fields) - SHOWN} more" if len(fields) > SHOWN else ""
        report.notes.append(f"Fields {', '.join(sorted(fields)[:SHOWN])}{more}: {what}")
