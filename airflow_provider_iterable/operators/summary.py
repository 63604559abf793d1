"""A report as lines a person can read, in which people are masked already; computes nothing new."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from airflow_provider_iterable.api.client import CallLog, OnCall
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.operators.pages import page_of

log = logger(__name__)


class CallCounts:
    """Logs each request and counts it by method, path template and status; safe to share between threads.

    Requests are logged at DEBUG, but for the first that an endpoint answers with a status other than 2xx, or not at
    all: whoever waits for a run that tries again and again sees why.

    :param also: who else is called for each request
    """

    def __init__(self, also: OnCall | None = None) -> None:
        self._also = also
        self.counts: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()

    def note(self, call: CallLog) -> None:
        """Log and count one request."""
        status = str(call.status)
        with self._lock:
            by_status = self.counts.setdefault(f"{call.method} {call.template}", {})
            first = status not in by_status
            by_status[status] = by_status.get(status, 0) + 1
        log.log(logging.INFO if first and not 200 <= call.status < 300 else logging.DEBUG, "%s", call.line)
        if self._also is not None:
            self._also(call)


def log_summary(report: Report) -> None:
    """Log the report: as an error where the run failed, and as a warning where something is to be looked at."""
    if report.status not in ("succeeded", "planned"):
        level = logging.ERROR
    else:
        notable = {reason for _, reason in report.explained} - {Reason.ALREADY_EXISTS}  # what a sync that creates finds
        level = logging.WARNING if notable or report.left_out else logging.INFO
    log.log(level, "%s", "\n".join(summary(report)))


def summary(report: Report) -> list[str]:
    """Return the report as lines: what was read, what became of it, why, and how long it took.

    Of a dry run it is the plan's text, and which rows would not be sent.
    """
    if report.plan_text is not None:
        return [f"Sync {report.name} {report.status}{_kind(report)}:\n\n{report.plan_text}\n", *_reasons(report)]
    counts, fates = report.counts, report.fates
    target = ", ".join(f"{name} {value}" for name, value in report.destination.items())
    lines = [
        f"Sync {report.name} {report.status}" + _kind(report) + f": {target}",
        f"  rows read {report.read:>9,}   added {counts[Kind.ADDED]:,}, changed {counts[Kind.CHANGED]:,}, "
        f"unchanged {report.unchanged:,}, invalid {counts[Kind.INVALID]:,}; removed {counts[Kind.REMOVED]:,}",
        f"  accepted  {fates[Fate.ACCEPTED]:>9,}   rejected {fates[Fate.REJECTED]:,}, "
        f"skipped {fates[Fate.SKIPPED]:,}, deferred {fates[Fate.DEFERRED]:,}",
    ]
    lines += _requests(report)
    if report.failure:
        lines.append(f"  failed    {report.failure}")
    seconds = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.seconds.items())
    lines.append(f"  time      {seconds}")
    if report.plan_hash:
        lines.append(f"  plan      {report.plan_hash}")
    lines += [f"  note      {note}" for note in report.notes]
    lines += _reasons(report)
    return lines


def _kind(report: Report) -> str:
    kinds = ["dry run"] if report.dry_run else []
    if report.resync != "changes":
        kinds.append(f"resync {report.resync}")
    return f" ({', '.join(kinds)})" if kinds else ""


def _requests(report: Report) -> Iterator[str]:
    if not report.requests:
        yield "  requests  none"
    for name, statuses in sorted(report.requests.items()):
        shown = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        yield f"  requests  {name} ({shown})"


def _reasons(report: Report) -> Iterator[str]:
    """Yield the reasons of each fate, those of rejected rows first."""
    for fate in (Fate.REJECTED, Fate.SKIPPED, Fate.DEFERRED, Fate.ACCEPTED):
        reasons = report.of_fate(fate)
        if reasons:
            yield f"  {fate}: {_rows(sum(rows for _, rows in reasons))}" + _before(report, fate)
        for reason, count in reasons:
            yield f"    {reason}, {_rows(count)}{_before(report, fate, reason)}: {reason.sentence}"
            yield f"      see {page_of(reason)}"
            if fate is not Fate.DEFERRED or reason is Reason.SERVER_ERROR:  # others are no matter of the row
                yield from _samples(report, reason, count)


def _samples(report: Report, reason: Reason, count: int) -> Iterator[str]:
    """Yield a few of the rows of a reason."""
    for sample in report.samples.get(reason, ()):
        count -= sample.rows
        several = f": {_rows(sample.rows)}" if sample.rows > 1 and not sample.outcome.detail else ""
        detail = f": {sample.outcome.detail}" if sample.outcome.detail else several
        yield f"      key {sample.outcome.key or '(null)'}{detail}"
    if count:
        yield f"      and {count:,} more"


def _before(report: Report, fate: Fate, reason: Reason | None = None) -> str:
    """Return how many rejected rows were rejected when they were last tried, too."""
    before = report.rejected_before
    if fate is not Fate.REJECTED or before is None:
        return ""
    rows = report.fates[fate] if reason is None else report.explained[fate, reason]
    known = before.total() if reason is None else before[reason]
    return f" ({known:,} rejected before, {rows - known:,} new)"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
