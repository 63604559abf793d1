"""A merge sync in one run: what its state knows of people who are gone."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.refused import Refused
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.store import Session, Store
from airflow_provider_iterable.state.tables.erasure import MergingSession
from airflow_provider_iterable.syncs.merges import MergeOptions, Merges

log = logger(__name__)

FIRES_ONCE = "each pair is merged once, and nothing undoes that"
"""Why merges must not be repeated."""
IN_DOUBT = (
    "{} pairs were sent by an earlier run and not answered, and this run could not look up whether they were merged: "
    "their rows cannot be sent as they are now, or an older version did not remember their sources. If they were "
    "merged, other syncs may make their sources anew. Put these rows back as they were for one run."
)


class MergeRun(SyncKind):
    """A merge sync in one run."""

    anonymous = True
    harm = FIRES_ONCE

    def __init__(self, options: MergeOptions) -> None:
        self._options = options
        self._merging: MergingSession | None = None

    def open_state(self, store: Store, scope: Scope) -> Session:
        """Open the state."""
        tables = store.tables
        assert tables is not None
        self._merging = MergingSession(scope, tables.connect(scope), tables.schema, tables.lease_seconds)
        return self._merging

    def build(self, run: Run, columns: Sequence[str]) -> Merges:
        """Return the merge sync bound to the model's columns."""
        sync = Merges(self._options, columns)
        log.info(
            "Sources are named by %s, destinations by %s; way: %s.",
            self._options.source,
            self._options.destination,
            sync.way,
        )
        return sync

    def refuse(self, run: Run, sync: Sync, plan: Plan) -> Refused | None:
        """Return the rows because of which nothing is to be sent, if there are any."""
        assert isinstance(sync, Merges)
        assert self._merging is not None
        return sync.refuse(plan, self._merging.gone)

    def note(self, run: Run, sync: Sync) -> None:
        """Say how many pairs the run could not settle."""
        assert self._merging is not None
        if doubtful := self._merging.in_doubt():
            run.report.notes.append(IN_DOUBT.format(doubtful))
            log.warning("Sync %s: %s", run.report.sync_id, run.report.notes[-1])

    def close(self, report: Report) -> None:
        """Say what became of what other syncs remember."""
        if self._merging is not None and self._merging.touched:
            report.notes.append(f"{self._merging.touched} entries of other syncs in the same tables became tombstones.")
