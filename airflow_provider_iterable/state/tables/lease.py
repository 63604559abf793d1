"""The lease of a sync, which one run at a time has, by the database's clock.

A lease is a row that one run writes by compare-and-swap and keeps renewing: with each commit, in its transaction, and
from a thread of its own while nothing is committed. A run that did not renew it in time may find another holder; it
then neither writes nor sends any more. If it finds itself still the holder, it goes on.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_iterable.errors import (
    ConfigurationError,
    IterableSyncError,
    LeaseHeld,
    LeaseLost,
    StateUnavailable,
)
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.scope import Holder
from airflow_provider_iterable.state.tables.connection import Refused, Tables, cause

log = logger(__name__)

SECONDS = 300.0
"""How long a lease lasts unless it is renewed."""
MIN_SECONDS = 1.0
RENEWALS = 3
"""Renewals per lease time while nothing is committed."""
RETRIES = 30
"""Tries per lease time after a renewal failed."""
PATIENCE = 30.0
"""Seconds for which a request waits for the renewal of a lease that has run out."""
RELEASE_PATIENCE = 2.0
"""Seconds for which releasing a lease waits for a renewal under way."""
POLL_SECONDS = 0.1
"""Seconds between two looks at whether it was renewed."""

CREATE = (
    "CREATE TABLE IF NOT EXISTS {lease} (sync_id VARCHAR(250) NOT NULL PRIMARY KEY, holder VARCHAR(32) NOT NULL, "
    "instance VARCHAR(64) NOT NULL, attempt INTEGER NOT NULL, label {text} NOT NULL, expires_at BIGINT NOT NULL)"
)
_HELD = (
    "SELECT label, expires_at - {now} FROM {lease} WHERE sync_id = :sync_id AND holder <> :holder "
    "AND expires_at > {now} AND NOT (instance = :instance AND attempt < :attempt)"
)
_RENEW = "UPDATE {lease} SET expires_at = {now} + :lasts WHERE sync_id = :sync_id AND holder = :holder"
_HOLDER = "SELECT label, holder FROM {lease} WHERE sync_id = :sync_id"
_RELEASE = "DELETE FROM {lease} WHERE sync_id = :sync_id AND holder = :holder"


def elapsing() -> float:
    """Return the time in seconds, by a clock that also runs while the machine sleeps, where it has one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """The lease of a sync, as one run has it.

    :param tables: the run's connection
    :param apart: a second connection, for renewals from the thread; it is closed after each
    :param sync_id: the sync
    :param holder: the run
    :param seconds: how long the lease lasts without being renewed
    :param clock: seconds that never run backwards; default :func:`elapsing`
    :param in_background: whether it is renewed by a thread
    """

    def __init__(
        self,
        tables: Tables,
        apart: Tables,
        sync_id: str,
        holder: Holder,
        seconds: float,
        clock: Callable[[], float] | None = None,
        in_background: bool = True,
    ) -> None:
        self._tables, self._apart = tables, apart
        self._sync_id, self._holder, self._seconds = sync_id, holder, seconds
        self._clock = clock or elapsing
        self._token = uuid.uuid4().hex
        self._db = tables.dialect
        self._lasts = round(seconds * 1000)
        self.failure: IterableSyncError | None = None
        """Why the run may not go on."""
        self._began = self._renewed = 0.0
        """When the last renewal was begun, and the last one that succeeded."""
        self._lock = threading.Lock()
        self._taken = self._over = self._missed = self._held = False
        self._wake = threading.Event()
        self._thread = (
            threading.Thread(target=self._renew_until_released, name="lease", daemon=True) if in_background else None
        )

    def take(self) -> None:
        """Take the lease, unless somebody else has it.

        :raises LeaseHeld: somebody else has it; the message says who
        :raises StateUnavailable: the table could not be written
        :raises ConfigurationError: the connection may not write it
        """
        try:
            held = self._tables.patiently(self._tables.refusing(self._take))
        except Refused as refused:
            raise ConfigurationError(
                f"The lease of sync {self._sync_id!r} could not be taken: the connection may not write it ({refused}). "
                "Nothing was read or sent. `python -m airflow_provider_iterable.state --ddl "
                f"{self._tables.kind}` prints the rights that it takes."
            ) from None
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The lease of sync {self._sync_id!r} could not be taken ({cause(error)}). Nothing was read or "
                "sent. The next try begins anew."
            ) from None
        if held is not None:
            label, left = held
            taken = LeaseHeld(
                f"Sync {self._sync_id!r} is being run by another run: {label}. Nothing was read or sent. Its lease "
                f"runs out in {max(left, 0) / 1000:.0f} s, unless it is renewed, as it is while that run lives. A "
                "retry begins when that run has ended."
            )
            taken.retry_after = max(left, 0) / 1000
            raise taken
        self._taken, self._renewed = True, self._began
        if self._thread is not None:
            self._thread.start()

    def _take(self) -> tuple[str, int] | None:
        """Return who has the lease and for how many milliseconds, or ``None``: this run has it."""
        run: dict[str, Any] = {
            "sync_id": self._sync_id,
            "holder": self._token,
            "instance": self._holder.instance,
            "attempt": self._holder.attempt,
            "label": self._holder.label,
            "lasts": self._lasts,
        }
        # Read first: writing would wait while another run renews the row.
        found = self._tables.find(_HELD, **run)
        if not found:
            for statement in self._db.before_taking:
                self._tables.change(statement)
            self._began = self._clock()
            if any(self._tables.change(statement, **run) == 1 for statement in self._db.takes):
                return None
            found = self._tables.find(_HELD, **run)
        if not found:
            raise TimeoutError("It was let go at this very moment.")  # so that taking it is tried again
        ((label, left),) = found
        return label, left

    @contextmanager
    def written(self) -> Iterator[Callable[[], None]]:
        """Keep the thread from renewing while a commit renews.

        Yields a function that renews the lease. It is to be called first in each transaction, and locks the row
        until that ends.

        :raises LeaseLost: another run has the lease, and nothing is written
        """
        with self._lock:
            try:
                yield lambda: self._renew(self._tables)
            except BaseException:
                self.hold()
                raise
            self._renewed, self._missed, self._held = self._began, False, False

    def hold(self) -> None:
        """Let no request start until a commit succeeds: otherwise what Iterable accepts could not be remembered."""
        self._held = True

    def _renew(self, tables: Tables) -> None:
        began = self._clock()
        whose: dict[str, Any] = {"sync_id": self._sync_id, "holder": self._token}
        renewed = tables.change(_RENEW + self._db.idle, lasts=self._lasts, ms=str(self._lasts), **whose) == 1
        found = [] if renewed else tables.find(_HOLDER, sync_id=self._sync_id)
        # MySQL does not count a row whose values stay the same, as when renewed twice in a millisecond.
        if renewed or any(holder == self._token for _, holder in found):
            self._began = began
            return
        who = f"{found[0][0]} holds it now" if found else "nobody holds it now, another run did and has ended"
        self.failure = LeaseLost(
            f"The lease of sync {self._sync_id!r} is lost: {who}. What was committed before is remembered; nothing "
            "more is written or sent. Rows of requests that were in flight may go again. This run need not be retried."
        )
        raise self.failure

    def permits(self, pause: Callable[[float], object]) -> bool:
        """Return whether a request may start: the lease, counted from the start of the last renewal, has not run out.

        If it has, this waits for a renewal, as it may still be this run's; and for a commit that is tried again.

        :param pause: waits some seconds; a true result ends the waiting
        """
        looks = 0  # counted instead of timed: the machine may sleep in between
        while not self._over and self.failure is None:
            now = self._clock()
            if not self._held:  # a commit that is tried again ends the run itself if it fails
                if now < self._renewed + self._seconds:
                    return True
                if looks * POLL_SECONDS >= PATIENCE:
                    self.failure = StateUnavailable(
                        f"The lease of sync {self._sync_id!r} could not be renewed for {now - self._renewed:.0f} s, "
                        "and another run may have taken it. Nothing more is sent; what was committed is remembered. "
                        "The next try goes on."
                    )
                    break
                looks += 1
            self._wake.set()
            if pause(POLL_SECONDS):
                break
        return False

    def renew_if_due(self) -> float:
        """Renew the lease if that is due; return the seconds until the next renewal."""
        due = self._renewed + self._seconds / RENEWALS - self._clock()
        if due > 0:
            return due
        # Whoever holds the lock is committing, which renews the lease.
        if self.failure is None and self._lock.acquire(blocking=False):
            try:
                self._renew_apart()
            finally:
                self._lock.release()
        if self.failure is not None:
            return 0.0
        due = self._renewed + self._seconds / RENEWALS - self._clock()
        return due if due > 0 else self._seconds / RETRIES

    def _renew_apart(self) -> None:
        def renew() -> None:
            for statement in self._db.before_renewal:
                self._apart.change(statement)
            self._renew(self._apart)

        try:
            self._apart.transact(renew)
            self._renewed, self._missed = self._began, False
        except LeaseLost as error:
            if not self._over:
                log.error("%s", error)
        except Exception as error:
            if not self._missed:
                log.info(
                    "The lease of sync %s could not be renewed (%s); it is tried again.",
                    self._sync_id,
                    cause(error),
                )
            self._missed = True
        finally:
            self._apart.close()

    def _renew_until_released(self) -> None:
        while not self._over and self.failure is None:
            self._wake.wait(self.renew_if_due())
            self._wake.clear()

    def release(self) -> None:
        """Release the lease, so that another run need not wait until it runs out; from now on no request may start."""
        if self._over:
            return
        self._over = True
        self._wake.set()
        if not self._taken or isinstance(self.failure, LeaseLost):
            return
        # Let a renewal under way end first, but do not wait long for one that hangs.
        locked = self._lock.acquire(timeout=RELEASE_PATIENCE)
        try:
            try:
                self._tables.transact(self._release)
            except Exception:  # a connection that has been idle may have been closed meanwhile; the next one is new
                self._tables.transact(self._release)
        except Exception as error:
            log.warning(
                "The lease of sync %s could not be released (%s); another run has to wait up to %.0f s for its end.",
                self._sync_id,
                cause(error),
                self._seconds,
            )
        finally:
            if locked:
                self._lock.release()

    def _release(self) -> None:
        self._tables.change(_RELEASE, sync_id=self._sync_id, holder=self._token)
