"""A ledger of calls to endpoints that have a daily quota.

Iterable counts attempts by project, and reports the count nowhere. So each attempt is written here before it is made,
in the state tables, where every sync that keeps its state there finds it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_iterable.errors import IterableSyncError, StateUnavailable
from airflow_provider_iterable.state.tables.connection import COMMIT_PATIENCE, Tables, cause
from airflow_provider_iterable.state.tables.layout import Layout, are_there, establish

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

T = TypeVar("T")
DAY = 86_400.0
TRAVEL = 60.0
"""Seconds for which an attempt counts beyond a day: Iterable counts it when it arrives, which is later."""
KEPT_DAYS = 3

LEDGER = Layout(
    "ledger",
    {
        "ledger": "CREATE TABLE IF NOT EXISTS {ledger} (project VARCHAR(64) NOT NULL, action VARCHAR(20) NOT NULL, "
        "attempt VARCHAR(32) NOT NULL, attempted_at BIGINT NOT NULL, PRIMARY KEY (project, action, attempt))"
    },
)


def project_of(host: str, api_key: str) -> str:
    """Return the name of a project in the ledger while only its API key is known: a digest of host and key."""
    return sha256(f"{host}\n{api_key}".encode()).hexdigest()


class Ledger:
    """The attempts at one action in one project.

    It has a connection and a thread of its own: attempts are made in the pool, and a connection stays in one thread.

    :param hook: the SQL hook of the state's tables
    :param schema: their schema
    :param project: the project's name here, such as from :func:`project_of`
    :param action: what is attempted
    :param limit: attempts in 24 hours
    :param clock: seconds since the epoch
    :param patience: seconds for which a failed write is tried again
    :param reading: whether it is only looked at: no table is made and nothing is written
    """

    def __init__(
        self,
        hook: DbApiHook,
        schema: str | None,
        project: str,
        action: str,
        limit: int,
        clock: Callable[[], float],
        patience: float = COMMIT_PATIENCE,
        *,
        reading: bool = False,
    ) -> None:
        self.limit, self.clock = limit, clock
        self._project_and_action = (project, action)
        self._also: str | None = None
        self._last = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._tables = _LedgerTables(hook, schema, patience)
        self._none_yet = False
        """Whether the table is not there: nothing was attempted."""
        try:
            if reading:
                self._none_yet = not self._do(lambda: are_there(self._tables, (LEDGER,)))
                return
            self._do(self._tables.prepare)
            self._do(lambda: self._tables.forget(self._milliseconds(-KEPT_DAYS * DAY)))
            self._do(self._tables.close)  # until the model is read, which may take long
        except BaseException:
            self.close()
            raise

    def attempts(self, ahead: float = 0.0) -> list[float]:
        """Return the times, oldest first, of the attempts that count against the quota.

        :param ahead: seconds from now; only attempts that still count then are returned
        """
        if self._none_yet:
            return []
        since, (project, action) = self._milliseconds(ahead - DAY - TRAVEL), self._project_and_action
        made = self._do(lambda: self._tables.attempts(project, action, since))
        if self._also is not None:
            made += self._do(lambda: self._tables.attempts(str(self._also), action, since))
        return sorted(moment / 1000 for moment in made)

    def admit(self) -> float | None:
        """Write an attempt down, if there is room for it; otherwise return when there will be, in seconds from now.

        It is written first and then counted: two tasks that want the last place at once both withdraw.
        """
        attempt = uuid.uuid4().hex
        self._do(lambda: self._tables.add(*self._project_and_action, attempt, self._milliseconds()))
        made = self.attempts()
        if len(made) <= self.limit:
            self._last = attempt
            return None
        self._do(lambda: self._tables.withdraw(*self._project_and_action, attempt))
        return max(made[len(made) - self.limit - 1] + DAY + TRAVEL - self.clock(), 0.001)

    def take_back(self) -> None:
        """Remove the attempt that was written down last: Iterable did not get it."""
        self._do(lambda: self._tables.withdraw(*self._project_and_action, self._last))

    def count_also(self, project: str) -> None:
        """Count the attempts under another name of the project as well, until it is renamed."""
        self._also = project

    def rename(self, project: str) -> None:
        """Rename the project, along with the attempts under its former name."""
        self._also = None
        former, self._project_and_action = self._project_and_action[0], (project, self._project_and_action[1])
        self._do(lambda: self._tables.rename(former, project))

    def waiting(self, number: int) -> tuple[datetime, datetime]:
        """Return when the first and the last of so many further attempts can be made, if nobody makes others."""
        now, made = self.clock(), self.attempts()
        turns = [max(moment + DAY + TRAVEL, now) for moment in made[-self.limit :]]
        turns = [now] * (self.limit - len(turns)) + turns
        days, last = divmod(number - 1, self.limit)
        return _moment(turns[0]), _moment(turns[last] + days * (DAY + TRAVEL))

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._thread.submit(self._tables.close).result()
        self._thread.shutdown()

    def _milliseconds(self, ahead: float = 0.0) -> int:
        return round((self.clock() + ahead) * 1000)

    def _do(self, work: Callable[[], T]) -> T:
        """Do the work in the ledger's thread.

        :raises StateUnavailable: it failed for too long
        :raises ConfigurationError: see :func:`establish`
        """
        try:
            return self._thread.submit(work).result()
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The ledger of Iterable's daily quota could not be read or written ({cause(error)}). Nothing "
                "is sent without it; what was accepted is remembered, and the next try goes on."
            ) from None


class _LedgerTables(Tables):
    """The ledger's statements."""

    def prepare(self) -> None:
        establish(self, (LEDGER,), "the ledger of Iterable's daily quota", "Nothing was sent.")

    def attempts(self, project: str, action: str, since: int) -> list[int]:
        query = (
            "SELECT attempted_at FROM {ledger} "
            "WHERE project = :project AND action = :action AND attempted_at > :since ORDER BY attempted_at"
        )
        found = self.patiently(lambda: self.find(query, project=project, action=action, since=since))
        return [moment for (moment,) in found]

    def add(self, project: str, action: str, attempt: str, moment: int) -> None:
        values = {"project": project, "action": action, "attempt": attempt, "attempted_at": moment}
        columns = {name: f":{name}" for name in values}
        self.patiently(lambda: self.replace("ledger", columns, ("project", "action", "attempt"), values))

    def withdraw(self, project: str, action: str, attempt: str) -> None:
        statement = "DELETE FROM {ledger} WHERE project = :project AND action = :action AND attempt = :attempt"
        self.patiently(lambda: self.change(statement, project=project, action=action, attempt=attempt))

    def rename(self, former: str, name: str) -> None:
        statement = "UPDATE {ledger} SET project = :name WHERE project = :former"
        self.patiently(lambda: self.change(statement, name=name, former=former))

    def forget(self, before: int) -> None:
        """Delete attempts that no longer count, of all projects."""
        statement = "DELETE FROM {ledger} WHERE attempted_at < :before"
        self.patiently(lambda: self.change(statement, before=before))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
