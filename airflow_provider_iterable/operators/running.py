"""Counts of the run under way, in Airflow's task state store (3.3): for people to look at, and read by no run."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Fate
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Accepted, Outcome
from airflow_provider_iterable.masking import logger

log = logger(__name__)

KEY = "iterable_sync"
"""Where the counts are in the task state store."""
EVERY_SECONDS = 10.0
"""Least seconds between two writes while rows are sent."""


class Running:
    """Shows how far a run has come; whatever goes wrong in that is said once, and the run goes on.

    The store keeps what it has when a task is cleared: the first write of a run replaces what an earlier one left.

    :param store: the task's state store; ``None``: Airflow has none
    :param report: the run's report, filled in as the run goes
    :param clock: seconds that never run backwards
    """

    def __init__(self, store: Any, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._report, self._clock = store, report, clock
        self._sends = 0
        self._written = float("-inf")

    def begin(self) -> None:
        """Say that the run runs."""
        self._write("running")

    def observe(self, observed: Plan | Accepted | Outcome) -> None:
        """Write the counts with the plan, and then every now and then as outcomes are committed."""
        if self._store is None:
            return
        if isinstance(observed, Plan):
            self._sends = observed.sends
            self._write("running")
        elif self._clock() - self._written >= EVERY_SECONDS:
            self._write("running")

    def end(self) -> None:
        """Say that the run has ended, and how."""
        self._write("complete")

    def _write(self, phase: str) -> None:
        if self._store is None:
            return
        report, self._written = self._report, self._clock()
        counts = {
            "phase": phase,
            "status": report.status,
            "sync": report.name,
            "run_id": report.run_id,
            "read": report.read,
            "to_send": self._sends,
            **{str(fate): report.fates[fate] for fate in Fate},
            "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            self._store.set(KEY, counts)
        except Exception as error:
            log.warning("The counts of the run are not shown in Airflow's task state: %s", type(error).__name__)
            self._store = None
