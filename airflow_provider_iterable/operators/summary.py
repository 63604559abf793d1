"""A report as lines a person can read, in which people are masked already; computes nothing new."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from airflow_provider_iterable.api.client import CallLog, OnCall
from airflow_provider_iterable.engine.reasons import Fate, Kind
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.masking import logger

log = logger(__name__)

EXAMPLES_SHOWN = 5


class CallCounts:
    """Logs each request and counts it by method, path template and status; safe to share between threads.

    :param also: who else is called for each request
    """

    def __init__(self, also: OnCall | None = None) -> None:
        self._also = also
        self.counts: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()

    def note(self, call: CallLog) -> None:
        """Log and count one request."""
        log.info("%s", call.line)
        with self._lock:
            by_status = self.counts.setdefault(f"{call.method} {call.template}", {})
            status = str(call.status)
            by_status[status] = by_status.get(status, 0) + 1
        if self._also is not None:
            self._also(call)


def log_summary(report: Report) -> None:
    """Log the report, as a warning where something is to be looked at."""
    level = logging.WARNING if report.reasons or report.left_out else logging.INFO
    log.log(level, "%s", "\n".join(summary(report)))


def summary(report: Report) -> list[str]:
    """Return the report as lines: what was read, what became of it, why, and how long it took."""
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
    for reason, count in report.reasons.most_common():
        examples = report.examples.get(reason, [])
        rows = "1 row" if count == 1 else f"{count:,} rows"
        yield f"  {reason} ({examples[0].fate if examples else ''}), {rows}: {reason.sentence}"
        shown = Counter((outcome.key, outcome.detail) for outcome in examples)  # rows of one key share a line
        for key, detail in islice(shown, EXAMPLES_SHOWN):
            count -= shown[key, detail]
            yield f"      key {key or '(null)'}" + (f": {detail}" if detail else "")
        if count:
            yield f"      and {count:,} more"
