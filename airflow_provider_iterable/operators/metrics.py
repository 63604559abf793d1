"""What Airflow's metrics say of a run: static names, tags without people; never fails a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from airflow.providers.common.compat.sdk import Stats

from airflow_provider_iterable.engine.reasons import Fate
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.masking import logger

log = logger(__name__)

ROWS = "iterable.sync.rows"
REQUESTS = "iterable.sync.requests"
SECONDS = "iterable.sync.seconds"
RUNS = "iterable.sync.runs"
FAILURES = "iterable.sync.failures"

_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_./-]+")
"""What StatsD in InfluxDB's notation does not take."""


def count(report: Report, error: BaseException | None, tags: Mapping[str, str]) -> None:
    """Count a run that has ended, its rows, requests, seconds, and the class of its error.

    :param error: why it failed; ``None``: it did not
    :param tags: what the run is told from others by
    """
    try:
        _count(report, error, {name: _tag(value) for name, value in tags.items()})
    except Exception as failed:
        log.warning("The run could not be counted in Airflow's metrics: %s", type(failed).__name__)


def _count(report: Report, error: BaseException | None, tags: Mapping[str, str]) -> None:
    Stats.incr(RUNS, tags={**tags, "status": report.status})
    if error is not None:
        Stats.incr(FAILURES, tags={**tags, "error": type(error).__name__})
    if not report.dry_run:
        rows = {str(fate): report.fates[fate] for fate in Fate} | {"unchanged": report.unchanged}
        for fate, number in rows.items():
            if number:
                Stats.incr(ROWS, number, tags={**tags, "fate": fate})
    for endpoint, answers in report.requests.items():
        method, _, path = endpoint.partition(" ")
        for status, number in answers.items():
            Stats.incr(REQUESTS, number, tags={**tags, "method": method, "path": _tag(path), "status": status})
    for phase, seconds in report.seconds.items():
        Stats.timing(SECONDS, timedelta(seconds=seconds), tags={**tags, "phase": phase})


def _tag(value: str) -> str:
    return _NOT_IN_TAGS.sub("_", value.replace("{", "").replace("}", ""))
