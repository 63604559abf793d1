"""Limits requests to a daily quota, by a ledger of all attempts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from airflow_provider_iterable.api.answers import is_foreign
from airflow_provider_iterable.engine.vocabulary import Batch, Reply, Send

NO_QUOTA = "NoQuota"
"""The error of a request that was not sent because Iterable's daily quota is used up."""
QUOTA_PATIENCE = 600.0
"""Seconds a run waits for the daily quota; what would have to wait longer waits for a later run."""


class Ledger(Protocol):
    """The attempts at one action in one project, of all runs."""

    limit: int
    """Attempts in 24 hours."""

    def attempts(self, ahead: float = 0.0) -> list[float]:
        """Return when each attempt was made that counts so many seconds from now."""

    def admit(self) -> float | None:
        """Write an attempt down, if there is room for it; otherwise return when there will be, in seconds from now."""

    def take_back(self) -> None:
        """Remove the attempt that was written down last."""


class Quota:
    """Lets requests pass one at a time, each after it was written down; the rest waits for another run.

    One at a time, because Iterable takes three a second anyway, and so that the first refusal is heeded by all.

    :param ledger: where attempts are written down, with those of other runs
    :param send: performs one request
    :param stop: set from outside to end the run
    :param sleep: waits some seconds; by default on ``stop``
    """

    def __init__(
        self, ledger: Ledger, send: Send, stop: threading.Event, sleep: Callable[[float], Any] | None = None
    ) -> None:
        self._ledger, self._send, self._stop = ledger, send, stop
        self._sleep = sleep or stop.wait
        self._lock = threading.Lock()
        self._exhausted = False

    def allowance(self) -> int:
        """Return how many requests this run may make, those included for which it will wait a few minutes."""
        return max(self._ledger.limit - len(self._ledger.attempts(ahead=QUOTA_PATIENCE)), 0)

    def send(self, batch: Batch) -> Reply:
        """Perform one request, or say that there is no room for it."""
        with self._lock:
            admitted = not self._exhausted and not self._stop.is_set() and self._admitted()
            if self._stop.is_set():
                return Reply(0, error="Stopped", sent=False)
            if not admitted:
                self._exhausted = True
                return Reply(0, error=NO_QUOTA)
            reply = self._send(batch)
            if is_foreign(reply):  # Iterable did not get it, so it does not count it
                self._ledger.take_back()
            # Somebody else uses the quota too.
            self._exhausted = reply.status == 429 and (reply.retry_after or 0.0) > QUOTA_PATIENCE
            return reply

    def _admitted(self) -> bool:
        waited = 0.0
        while (wait := self._ledger.admit()) is not None:
            waited += wait
            if waited > QUOTA_PATIENCE:
                return False
            self._sleep(wait)
            if self._stop.is_set():
                return False
        return True
