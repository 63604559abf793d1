"""A line in the log every ten seconds while a run works: what it is at, and how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_provider_iterable.engine.forecast import lasting
from airflow_provider_iterable.masking import logger

log = logger(__name__)

Line = Callable[[], tuple[int, str]]

PROGRESS_SECONDS = 10.0
"""Seconds between two lines."""


class Progress:
    """What a run is at, for whoever looks at its log.

    :param name: names the sync
    :param clock: seconds that never run backwards
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._since = clock()
        self._line: Line = lambda: (logging.INFO, "the run begins")

    def at(self, line: str | Line) -> None:
        """Take notice of what the run is at from now on.

        :param line: the words, or what returns them and how grave they are, whenever it is asked, in another thread
        """
        self._since = self._clock()
        self._line = (lambda: (logging.INFO, line)) if isinstance(line, str) else line

    def tell(self) -> None:
        """Log a line."""
        level, words = self._line()
        log.log(level, "Sync %s, for %s: %s", self._name, lasting(self._clock() - self._since), words)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Log a line every ``PROGRESS_SECONDS``, whatever the run waits for."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(PROGRESS_SECONDS):
                self.tell()

        thread = threading.Thread(target=tell, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class Delivered:
    """How many rows are settled, how fast, and how long the rest takes.

    :param total: rows to be settled
    :param planned: seconds that all of them were expected to take; 0: nothing was expected
    :param allowed: seconds that they may take; ``None``: any number
    """

    def __init__(
        self, total: int, clock: Callable[[], float], planned: float = 0.0, allowed: float | None = None
    ) -> None:
        self._total, self._clock, self._planned, self._allowed = total, clock, planned, allowed
        self._start = clock()
        self.done = 0

    def more(self, rows: int) -> None:
        """Count rows that were settled."""
        self.done += rows

    def line(self) -> tuple[int, str]:
        """Return the rows in words, compared with what was expected and is allowed, and how grave that is."""
        done, seconds = self.done, self._clock() - self._start
        if not done or seconds <= 0:
            return logging.INFO, f"0 of {self._total} rows settled, waiting for Iterable's answers"
        rate = done / seconds
        left = max(self._total - done, 0) / rate
        line = f"{done} of {self._total} rows settled, {rate:.0f} rows/s, about {left:.0f} s left"
        if self._planned:
            line += f"; planned {lasting(self._planned)}, about {lasting(seconds + left)} in all"
        late = 0.0 if self._allowed is None else seconds + left - self._allowed
        if late > 0:
            return logging.WARNING, f"{line}; the deadline will be missed by about {lasting(late)}"
        return logging.INFO, line
