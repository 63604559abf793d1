"""A privacy sync in one run: the quota's ledger and the state that erases people."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from airflow_provider_iterable.api.quota import Quota
from airflow_provider_iterable.engine.forecast import Waiting
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Send
from airflow_provider_iterable.errors import StateUnavailable
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.store import Session, Store
from airflow_provider_iterable.state.tables.erasure import ErasingSession
from airflow_provider_iterable.state.tables.ledger import Ledger, project_of
from airflow_provider_iterable.syncs.privacy import Privacy, PrivacyOptions

DAILY = 1000
"""Requests to forget, and as many to unforget, that Iterable takes from a project in 24 hours."""
clock = time.time


class PrivacyRun(SyncKind):
    """A privacy sync in one run.

    :param hook: the connection, whose key says which project's quota counts
    """

    anonymous = True
    harm = "each request is acted on once, and the daily quota counts them"

    def __init__(self, options: PrivacyOptions, hook: IterableHook) -> None:
        self._options, self._hook = options, hook
        self._erasing: ErasingSession | None = None
        self._ledger: Ledger | None = None
        self._quota: Quota | None = None

    def open_state(self, store: Store, scope: Scope) -> Session:
        """Open the state and the ledger of the quota."""
        tables = store.tables
        assert tables is not None
        action = self._options.action
        hook, unforgets = tables.connect(scope), action == "unforget"
        self._erasing = ErasingSession(scope, hook, tables.schema, tables.lease_seconds, unforgets=unforgets)
        if action != "delete":
            self.most_in_flight = 1  # by the quota, see there
            try:
                project = project_of(self._hook.host, self._hook.api_key)
                hook, reading = tables.connect(scope), scope.reading
                self._ledger = Ledger(hook, tables.schema, project, action, DAILY, clock, reading=reading)
            except BaseException:
                self._erasing.close()
                raise
        return self._erasing

    def build(self, run: Run, columns: Sequence[str]) -> Privacy:
        """Return the privacy sync bound to the model's columns."""
        return Privacy(self._options, columns)

    def sender(self, run: Run) -> Send:
        """Return what performs requests while the quota has room."""
        if self._ledger is None:
            return run.client.send
        self._quota = Quota(self._ledger, run.client.send, run.stop)
        return self._quota.send

    def waiting(self, run: Run, rows: int) -> Sequence[Waiting]:
        """Return how many requests wait for the quota, and until when, and how many for ``max_actions``."""
        found, most = [], self._options.max_actions
        if most is not None and rows > most:
            found.append(Waiting(rows - most, f"later runs: max_actions={most}"))
            rows = most
        if self._ledger is not None and self._quota is not None:
            if name := _project_name(run):
                self._ledger.count_also(name)
            allowed = self._quota.allowance()
            if rows > allowed:
                until = self._ledger.waiting(rows)[1]
                found.append(Waiting(rows - allowed, f"Iterable's quota of {DAILY} in 24 hours", until))
        return found

    def prepare(self, run: Run, sync: Sync) -> None:
        """Find out what the quota leaves room for."""
        assert isinstance(sync, Privacy)
        if self._ledger is not None and (name := _project_name(run)):
            self._ledger.rename(name)
        sync.begin(None if self._quota is None else self._quota.allowance())

    def close(self, report: Report) -> None:
        """Say how many wait and until when, and what became of what other syncs remember; close the ledger."""
        self._account(report)
        if self._ledger is not None:
            self._ledger.close()

    def _account(self, report: Report) -> None:
        waiting = report.reasons[Reason.QUOTA]
        if waiting and self._ledger is not None:
            report.notes.append(f"{waiting} requests wait for Iterable's quota of {DAILY} in 24 hours.")
            with suppress(StateUnavailable):  # what was done is done, whether or not the ledger can be read again
                first, last = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in self._ledger.waiting(waiting))
                report.notes[-1] += f" The first can go from {first} on, the last from {last} on."
        if later := report.reasons[Reason.MAX_ACTIONS]:
            report.notes.append(f"{later} requests wait for the next run: max_actions={self._options.max_actions}.")
        if self._erasing is not None and self._erasing.touched:
            done = "may go to Iterable again" if self._options.action == "unforget" else "became tombstones"
            report.notes.append(f"{self._erasing.touched} entries of other syncs in the same tables {done}.")


def _project_name(run: Run) -> str | None:
    """Return what the ledger calls the project, if it is known by more than a key."""
    project = Project.noted(run.session.notes.get(PROJECT_NOTE))
    return None if project is None else project.counted_as(run.hook.host)
