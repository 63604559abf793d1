"""A line in the log every now and then while rows are sent."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_iterable.engine.forecast import lasting
from airflow_provider_iterable.masking import logger

log = logger(__name__)

PROGRESS_SECONDS = 10.0
"""Least seconds between two lines."""
LOOKED_AT_EACH = 100
"""Rows between two looks at the clock."""


class Progress:
    """Logs how many rows are settled, how fast, and how long the rest takes.

    :param total: rows to be settled
    :param planned: seconds that all of them were expected to take; 0: nothing was expected
    :param allowed: seconds that they may take; ``None``: any number
    """

    def __init__(
        self, total: int, clock: Callable[[], float], planned: float = 0.0, allowed: float | None = None
    ) -> None:
        self._total, self._clock, self._planned, self._allowed = total, clock, planned, allowed
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
            line = f"{self.done} of {self._total} rows settled, {rate:.0f} rows/s, about {left:.0f} s left"
            self._log(line, now - self._start + left)

    def _log(self, line: str, seconds: float) -> None:
        """Log a line, and compare the seconds that all of it takes with what was expected, and is allowed."""
        if self._planned:
            line += f"; planned {lasting(self._planned)}, about {lasting(seconds)} in all"
        late = 0.0 if self._allowed is None else seconds - self._allowed
        if late > 0:
            log.warning("%s; the deadline will be missed by about %s", line, lasting(late))
        else:
            log.info("%s", line)
