"""A line in the log every now and then while rows are sent."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_iterable.masking import logger

log = logger(__name__)

PROGRESS_SECONDS = 10.0
"""Least seconds between two lines."""
LOOKED_AT_EACH = 100
"""Rows between two looks at the clock."""


class Progress:
    """Logs how many rows are settled, how fast, and how long the rest takes.

    :param total: rows to be settled
    """

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._total, self._clock = total, clock
        self._start = self._last = clock()
        self.done = self._next = 0

    def more(self, rows: int) -> None:
        """Count rows that were settled."""
        self.done += rows
        if self.done < self._next:
            return
        self._next = self.done + LOOKED_AT_EACH
        now = self._clock()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            rate = self.done / (now - self._start)
            left = max(self._total - self.done, 0) / rate
            log.info("%d of %d rows settled, %.0f rows/s, about %.0f s left", self.done, self._total, rate, left)
