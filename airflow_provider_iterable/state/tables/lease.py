"""Whose a sync is: one run's at a time, by the database's clock; knows no rows and no requests.

A lease is a row that one run writes by compare-and-swap and keeps renewing: with each commit, in its transaction, and
from a thread of its own while nothing is committed. A run that was away for too long finds another holder there, and
neither writes nor sends any more. One that was away and finds itself goes on.
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
BEATS = 3
"""Renewals in the time a lease lasts, when nothing is committed."""
RETRIES = 30
"""Tries in the time a lease lasts, when renewing fails."""
PATIENCE = 30.0
"""Seconds for which a request waits for the renewal of a lease that has run out."""
RELEASE_PATIENCE = 2.0
"""Seconds for which letting a lease go waits for a renewal under way."""
LOOKS = 0.1
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
    """Return seconds that also pass while the machine sleeps, where it can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """One run's hold on one sync.

    :param tables: the run's connection
    :param apart: another one, which is opened when it is needed and closed again, in a thread of its own
    :param sync_id: the sync
    :param holder: the run
    :param seconds: how long the lease lasts without being renewed
    :param clock: seconds that never run backwards; default :func:`elapsing`
    :param beating: whether it is renewed by a thread
    """

    def __init__(
        self,
        tables: Tables,
        apart: Tables,
        sync_id: str,
        holder: Holder,
        seconds: float,
        clock: Callable[[], float] | None = None,
        beating: bool = True,
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
        self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True) if beating else None

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
        except Exception as error:
            raise StateUnavailable(
                f"The lease of sync {self._sync_id!r} could not be taken ({cause(error)}). Nothing was read or "
                "sent. The next try begins anew."
            ) from None
        if held is not None:
            label, left = held
            raise LeaseHeld(
                f"Sync {self._sync_id!r} is being run by another run: {label}. Nothing was read or sent. Its lease "
                f"runs out in {max(left, 0) / 1000:.0f} s, unless it is renewed, as it is while that run lives. A "
                "retry begins when that run has ended."
            )
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
        # A look first: for a row that is being renewed, writing would have to wait.
        found = self._tables.find(_HELD, **run)
        if not found:
            for statement in self._db.taking:
                self._tables.change(statement)
            self._began = self._clock()
            if any(self._tables.change(statement, **run) == 1 for statement in self._db.takes):
                return None
            found = self._tables.find(_HELD, **run)
        if not found:
            raise TimeoutError("It was let go at this very moment.")  # and taking it is tried again
        ((label, left),) = found
        return label, left

    @contextmanager
    def written(self) -> Iterator[Callable[[], None]]:
        """Keep the thread from renewing while a commit does.

        Hands out what renews the lease; it belongs to the beginning of each transaction, and locks the row until it
        ends.

        :raises LeaseLost: whatever was to be written is not
        """
        with self._lock:
            try:
                yield lambda: self._renew(self._tables)
            except BaseException:
                self.hold()
                raise
            self._renewed, self._missed, self._held = self._began, False, False

    def hold(self) -> None:
        """Let no request start until a commit succeeds: what was accepted could not be remembered."""
        self._held = True

    def _renew(self, tables: Tables) -> None:
        began = self._clock()
        whose: dict[str, Any] = {"sync_id": self._sync_id, "holder": self._token}
        renewed = tables.change(_RENEW + self._db.idle, lasts=self._lasts, ms=str(self._lasts), **whose) == 1
        found = [] if renewed else tables.find(_HOLDER, sync_id=self._sync_id)
        # MySQL counts no row that is as it was: renewed in the same millisecond.
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
        """Tell whether a request may start: while the lease has not run out since a renewal was last begun.

        One that has is waited for: it may still be this run's. So is a commit that is tried again.

        :param pause: waits some seconds; something true means that there is no need to wait any more
        """
        looks = 0  # and no time at which it began: the machine may sleep in between
        while not self._over and self.failure is None:
            now = self._clock()
            if not self._held:  # how long a commit is tried again is its own affair: it ends the run if it fails
                if now < self._renewed + self._seconds:
                    return True
                if looks * LOOKS >= PATIENCE:
                    self.failure = StateUnavailable(
                        f"The lease of sync {self._sync_id!r} could not be renewed for {now - self._renewed:.0f} s, "
                        "and another run may have taken it. Nothing more is sent; what was committed is remembered. "
                        "The next try goes on."
                    )
                    break
                looks += 1
            self._wake.set()
            if pause(LOOKS):
                break
        return False

    def beat(self) -> float:
        """Renew the lease if it is time; return the seconds until it is again."""
        due = self._renewed + self._seconds / BEATS - self._clock()
        if due > 0:
            return due
        # Who holds the lock is committing, and renews.
        if self.failure is None and self._lock.acquire(blocking=False):
            try:
                self._renew_apart()
            finally:
                self._lock.release()
        if self.failure is not None:
            return 0.0
        due = self._renewed + self._seconds / BEATS - self._clock()
        return due if due > 0 else self._seconds / RETRIES

    def _renew_apart(self) -> None:
        def renew() -> None:
            for statement in self._db.beating:
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

    def _beat_on(self) -> None:
        while not self._over and self.failure is None:
            self._wake.wait(self.beat())
            self._wake.clear()

    def release(self) -> None:
        """Let the lease go, so that another run need not wait for its end; from now on nothing is permitted."""
        if self._over:
            return
        self._over = True
        self._wake.set()
        if not self._taken or isinstance(self.failure, LeaseLost):
            return
        # A renewal under way is to end first, but what keeps it may not keep the run.
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
