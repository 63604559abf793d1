"""How a run ends, and in which words: the first reason that applies decides."""

from __future__ import annotations

import math

from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.errors import Halted, Stopped, TooManyRejected, Unfinished


def conclude(report: Report, halted: str, stopped: bool, max_rejected: float | int, resync: Resync) -> None:
    """Enter how the run ended, and raise unless it succeeded; the first reason that applies decides.

    :param halted: why nothing more could be sent; empty when it could
    :param stopped: whether the run was to end early
    :param max_rejected: most rejected rows before the task fails; a float is a share of the rows read
    :raises Halted: Iterable refused in a way that ends the run
    :raises TooManyRejected: more rows were rejected than ``max_rejected`` allows
    :raises Stopped: rows were deferred because the run was stopped
    :raises Unfinished: rows were deferred
    """
    deferred, rejected = report.fates[Fate.DEFERRED], report.fates[Fate.REJECTED]
    deferred -= report.reasons[Reason.QUOTA] + report.reasons[Reason.MAX_ACTIONS]  # waiting is not a failure
    rest = Fate.ACCEPTED, Fate.REJECTED, Fate.SKIPPED
    if halted:
        report.status = "halted"
        raise Halted(
            f"{report.host}: {halted} {deferred} rows were not sent; {_fates(report, *rest)}. {_kept(report)}. Clear "
            "the task when this is mended."
        )
    most = _allowed(report, max_rejected)
    if rejected > most:
        report.status = "too_many_rejected"
        others = f"{_fates(report, Fate.ACCEPTED, Fate.SKIPPED, Fate.DEFERRED)}. {_kept(report)}"
        said = f"{report.failure} Of the others: {others}".lstrip() if deferred else f"All else was delivered: {others}"
        if resync == "baseline":
            said = "Everything else is recorded as delivered, unless the state is XCom"
        raise TooManyRejected(
            f"{_rejections(report)} ({_reasons(report, Fate.REJECTED)}{_again(report)}); "
            f"{max_rejected=!r} allows {math.floor(most)}. {said}. Mend the rows or raise max_rejected; the rejected "
            "rows go again with the next run."
        )
    if deferred and stopped:
        report.status = "stopped"
        raise Stopped(
            f"The task was stopped: {deferred} rows were not sent or not answered in time; {_fates(report, *rest)}. "
            f"{_kept(report)}. A retry or the next run sends them."
        )
    if deferred:
        report.status = "unfinished"
        raise Unfinished(
            f"{report.failure} ".lstrip() + f"{deferred} rows were deferred ({_reasons(report, Fate.DEFERRED)}); "
            f"{_fates(report, *rest)}. {_kept(report)}. A retry or the next run sends what is left.{_later(report)}"
        )
    report.status = "succeeded"


def _allowed(report: Report, max_rejected: float | int) -> float | int:
    return max_rejected * report.read if isinstance(max_rejected, float) else max_rejected


def doom(report: Report, max_rejected: float | int) -> str:
    """Say that a run will fail for the rows that are known beforehand to be rejected; empty: it will not."""
    rejected, most = report.fates[Fate.REJECTED], _allowed(report, max_rejected)
    if rejected <= most:
        return ""
    return (
        f"{_rejections(report)} before anything was sent ({_reasons(report, Fate.REJECTED)}), so the run would fail in "
        f"the end: {max_rejected=!r} allows {math.floor(most)}."
    )


def _rejections(report: Report) -> str:
    """Say how many were rejected, of how many; those that have left the model are none of the rows that were read."""
    gone = report.rejected_removals
    of_rows = f"{report.fates[Fate.REJECTED] - gone} of {report.read} rows"
    of_removals = f" and {gone} of {report.counts[Kind.REMOVED]} removals" if gone else ""
    return f"{of_rows}{of_removals} were rejected"


def _later(report: Report) -> str:
    """Return when Iterable asks to come back, as a sentence."""
    samples = report.samples.get(Reason.RATE_LIMITED, ())
    return next((f" {sample.outcome.detail}." for sample in samples if sample.outcome.detail), "")


def _kept(report: Report) -> str:
    """Return what becomes of the rows that were accepted by a run that fails."""
    if report.forgets:
        return "XComState remembers nothing of a try that fails, so what was accepted goes again"
    return "What was accepted is remembered"


def _again(report: Report) -> str:
    """Return how many of the rejected rows are not new among these, as a clause."""
    if report.rejected_before is None:
        return ""
    before = report.rejected_before.total()
    return f"; {before} rejected before, {report.fates[Fate.REJECTED] - before} new"


def _fates(report: Report, *fates: Fate) -> str:
    """Return how many rows met each of some fates, and why."""
    parts = []
    for fate in fates:
        reasons = _reasons(report, fate)
        parts.append(f"{fate} {report.fates[fate]}" + (f" ({reasons})" if reasons else ""))
    return ", ".join(parts)


def _reasons(report: Report, fate: Fate) -> str:
    return ", ".join(f"{reason} {rows}" for reason, rows in report.of_fate(fate))
