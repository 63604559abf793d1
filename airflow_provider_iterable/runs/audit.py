"""What a run did, in tables beside the state: runs, rows and requests; knows no endpoint, and never fails a run.

Whatever goes wrong here is said once, as a warning, and ends the writing of the run's tables; the run goes on. All
tables are written by the task's thread, on a connection of its own; calls, which other threads make, wait for it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from airflow_provider_iterable.api.client import CallLog
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Accepted, Entry, Operation, Outcome
from airflow_provider_iterable.errors import IterableSyncError, LeaseLost, Stopped
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.store import InTables
from airflow_provider_iterable.state.tables.audit import (
    DELETED_AT_ONCE,
    STATUSES,
    UNNAMED,
    AuditTables,
    Line,
    RequestRow,
    RunRow,
    Task,
)
from airflow_provider_iterable.state.tables.connection import cause

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

log = logger(__name__)

Observed = Plan | Accepted | Outcome
Recall = Callable[[Sequence[str]], Mapping[str, Entry]]

_KIND, _PARTIAL = attrgetter("kind"), attrgetter("partial")
AT_ONCE = 5_000
"""Rows in one statement, and the bytes and seconds after which fewer are written."""
BYTES_AT_ONCE = 8_000_000
SECONDS_AT_ONCE = 10.0
MOST_FAILURES = 100_000
"""Rows that one run writes where only failures are written."""
RECALL_AT_ONCE = 20_000
MOST_DELETED = 1_000_000
"""Old rows that one run deletes from a table, unless it wrote more itself."""
LOST = "the run ended without a word: its worker was lost"


class Audit:
    """One run's account in the audit tables; entered before the run, left after it.

    :param tables: the state's tables; ``None``: it has none, and so there is no audit
    :param hook: opens the SQL hook of the store
    :param report: the run's report, filled in as the run goes
    :param run_id: names the run, and the try
    :param primary_key: names of the model's key columns
    :param model_name: names the model
    :param clock: the time
    :param task: what runs the sync
    """

    def __init__(
        self,
        tables: InTables | None,
        hook: Callable[[], DbApiHook],
        report: Report,
        run_id: str,
        primary_key: Sequence[str] = (),
        model_name: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        task: Task = UNNAMED,
    ) -> None:
        self._store_tables = tables if tables is not None and tables.audit and not report.dry_run else None
        self._hook, self._report, self._clock = hook, report, clock
        self._sync_id, self._run_id = report.name, run_id
        self._primary_key, self._model_name, self._task = primary_key, model_name, task
        self._started = clock()
        self._off = self._store_tables is None
        self._begun = False
        self._tables: AuditTables | None = None
        self._lines: list[Line] = []
        self._bytes = self._written = self._failures = 0
        self._flushed = self._started
        self._requests: list[RequestRow] = []
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[Kind]] = {name: Counter() for name in ("planned", "succeeded", "failed")}
        self._known: Collection[str] = ()
        self._recall: Recall | None = None
        self._anonymous = False
        self._failing: set[str] = set()
        self._rejected: set[str] | None = None
        """Keys of rows that were rejected when they were last tried; ``None``: they are still to be read."""

    @property
    def observe(self) -> Callable[[Observed], None] | None:
        """Takes the plan, and each outcome once it is committed; ``None``: there is no audit."""
        return None if self._off else self._observe

    def __enter__(self) -> Self:
        return self

    def begin(self, recall: Recall, *, anonymous: bool) -> None:
        """Write that the run runs; the sync is this run's alone by now.

        :param recall: finds what is remembered under some keys
        :param anonymous: whether nothing is kept about whom rows are about, for they are requests to erase somebody
        """
        self._recall, self._anonymous, self._begun = recall, anonymous, True
        self._attempt(lambda: self._twice(self._begin))

    def note(self, call: CallLog) -> None:
        """Keep one request, from whichever thread, until the task's thread writes it."""
        if self._off:
            return
        row = RequestRow.of(call, self._clock())
        with self._lock:
            self._requests.append(row)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store_tables is None:
            return
        if self._begun and not isinstance(error, LeaseLost):  # the rows are another run's by now
            self._attempt(self._flush)
        if self._off or not self._begun:
            # It may be written all the same, and somebody looks at it; that something is wrong was said, or will be.
            with suppress(Exception):
                self._end(error)
        else:
            self._attempt(lambda: self._twice(lambda: self._end(error)))
            if error is None or isinstance(error, IterableSyncError):
                self._attempt(lambda: self._twice(self._forget))
        self._close()

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do something that may fail, but not twice."""
        if self._off:
            return
        try:
            work()
        except Exception as error:
            self._off = True
            self._report.rejected_before = None
            self._lines, self._requests = [], []
            # Of other errors only the class, unless it is about connecting: drivers tell parameters, which are people.
            why = str(error) if isinstance(error, IterableSyncError) else cause(error)
            log.warning(
                "The audit tables of sync %s could not be written (%s), and are not in the rest of this run. The sync "
                "goes on.",
                self._sync_id,
                why,
            )
            self._close()

    def _twice(self, work: Callable[[], None]) -> None:
        """Do work that may be repeated, once more in another session where it fails in this one.

        Servers and poolers end sessions that were idle between two commits.
        """
        try:
            work()
        except IterableSyncError:
            raise
        except Exception as error:
            log.info("Sync %s: the audit tables are tried once more (%s).", self._sync_id, cause(error))
            work()

    def _open(self) -> AuditTables:
        if self._tables is None:
            assert self._store_tables is not None
            tables = AuditTables(self._hook(), self._store_tables.schema)
            try:
                tables.create()
            except BaseException:
                tables.close()
                raise
            self._tables = tables
        return self._tables

    def _close(self) -> None:
        tables, self._tables = self._tables, None
        if tables is not None:
            with suppress(Exception):
                tables.close()

    @property
    def _all(self) -> bool:
        return self._store_tables is not None and self._store_tables.audit is True

    @property
    def _fields(self) -> bool:
        return self._store_tables is not None and self._store_tables.audit_fields

    def _begin(self) -> None:
        tables = self._open()
        tables.mark_aborted(self._sync_id, self._run_id, LOST)
        self._write_run("running", None, None)
        if not self._all:
            self._read_rejected()
            self._failing = (self._rejected or set()) | tables.keys_with(self._sync_id, STATUSES[Fate.SKIPPED])
        self._report.rejected_before = Counter()
        tables.close()  # until there is something to write: databases have few connections, and a model may take long

    def _observe(self, observed: Observed) -> None:
        self._attempt(lambda: self._take(observed))

    def _take(self, observed: Observed) -> None:
        if isinstance(observed, Accepted):
            self._accept(observed.operations)
        elif isinstance(observed, Outcome):
            self._add(observed)
        else:
            self._plan(observed)
            return
        full = len(self._lines) >= AT_ONCE or self._bytes >= BYTES_AT_ONCE
        if full or (self._clock() - self._flushed).total_seconds() >= SECONDS_AT_ONCE:
            self._flush()

    def _plan(self, plan: Plan) -> None:
        """Count what is planned: what makes a call, and what cannot make one."""
        keys = sorted({outcome.key for outcome in plan.invalid if outcome.key})
        known = set[str]()
        for start in range(0, len(keys), RECALL_AT_ONCE):
            assert self._recall is not None
            known.update(self._recall(keys[start : start + RECALL_AT_ONCE]))
        self._known = known
        planned = _calling(plan)
        planned.update(map(self._kind, (*plan.invalid, *plan.erased)))
        self._counts["planned"] = planned

    def _kind(self, outcome: Outcome) -> Kind:
        """Return the kind of change; a row that could not be looked at is changed if it is remembered."""
        if outcome.kind is not Kind.INVALID:
            return outcome.kind
        return Kind.CHANGED if outcome.key in self._known else Kind.ADDED

    def _accept(self, operations: Sequence[Operation]) -> None:
        self._counts["succeeded"].update(map(_KIND, operations))
        if not self._all:
            failing = self._failing
            if failing:
                operations = [operation for operation in operations if operation.partial or operation.key in failing]
            else:
                operations = list(filter(_PARTIAL, operations))
        if not self._anonymous and not self._fields:  # what most rows of most runs are
            self._lines.extend(Line.accepted(operation) for operation in operations if not operation.partial)
            operations = [operation for operation in operations if operation.partial]
        for op in operations:
            reason = Reason.PARTIAL if op.partial else None
            self._keep(Outcome(op.key, op.kind, Fate.ACCEPTED, reason, op.partial, op), op.kind)

    def _add(self, outcome: Outcome) -> None:
        kind, status = self._kind(outcome), STATUSES[outcome.fate]
        if status in self._counts:
            self._counts[status][kind] += 1
        if outcome.fate is Fate.REJECTED:
            self._compare(outcome)
        if not self._all:
            if outcome.fate is Fate.DEFERRED:
                return
            if outcome.fate is Fate.ACCEPTED:
                if outcome.key not in self._failing:
                    return
            elif self._too_many():
                return
        self._keep(outcome, kind)

    def _compare(self, outcome: Outcome) -> None:
        """Count a rejected row that was rejected when it was last tried, too."""
        if self._rejected is None:  # in a snapshot of all rows looking for them takes as long as there are rows
            self._twice(self._read_rejected)
        assert self._rejected is not None
        if outcome.key in self._rejected and self._report.rejected_before is not None:
            assert outcome.reason is not None
            self._report.rejected_before[outcome.reason] += 1

    def _read_rejected(self) -> None:
        self._rejected = self._open().keys_with(self._sync_id, STATUSES[Fate.REJECTED])

    def _too_many(self) -> bool:
        self._failures += 1
        if self._failures == MOST_FAILURES + 1:
            log.info(
                "Sync %s: %d rows that were not accepted are in the audit tables, and the rest of them is not. "
                "TableState(audit=True) writes all rows.",
                self._sync_id,
                MOST_FAILURES,
            )
        return self._failures > MOST_FAILURES

    def _keep(self, outcome: Outcome, kind: Kind) -> None:
        line = Line.of(outcome, kind, anonymous=self._anonymous, fields=self._fields)
        self._bytes += len(line.fields or "")
        self._lines.append(line)

    def _flush(self) -> None:
        self._twice(self._write_rows)

    def _write_rows(self) -> None:
        """Write the rows and requests in hand; those that may be stored already are not written again."""
        with self._lock:
            requests, self._requests = self._requests, []
        lines, self._lines, self._bytes = self._lines, [], 0
        self._flushed = self._clock()
        if not lines and not requests:
            return
        try:
            self._open().add(self._sync_id, self._run_id, self._flushed, lines, requests)
        except BaseException as error:
            # Interrupted, there is still the end of the run; with a session lost before its commit, another one.
            if not isinstance(error, Exception) or self._tables is None or not self._tables.committing:
                self._lines[:0] = lines
                with self._lock:
                    self._requests[:0] = requests
            raise
        self._written += len(lines)

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            status, words = "succeeded", None
        elif isinstance(error, IterableSyncError):
            status = "aborted" if isinstance(error, Stopped) else "failed"
            words = str(error)
        else:
            status, words = ("failed" if isinstance(error, Exception) else "aborted"), type(error).__name__
        self._write_run(status, words, self._clock())

    def _write_run(self, status: str, error: str | None, finished: datetime | None) -> None:
        counts = {**self._counts, "attempted": self._counts["succeeded"] + self._counts["failed"]}
        row = RunRow.of(
            self._report,
            counts,
            run_id=self._run_id,
            primary_key=self._primary_key,
            model_name=self._model_name,
            started=self._started,
            finished=finished,
            status=status,
            error=error,
            task=self._task,
        )
        self._open().run(row)

    def _forget(self) -> None:
        """Delete what is older than it is to be kept; the rest of very many old rows stays for the next run."""
        assert self._store_tables is not None
        if self._store_tables.audit_retention_days is not None:
            before = self._clock() - timedelta(days=self._store_tables.audit_retention_days)
            batches = max(MOST_DELETED, 2 * self._written) // DELETED_AT_ONCE
            self._open().forget(self._sync_id, before, self._all, batches)


def _calling(plan: Plan) -> Counter[Kind]:
    """Count the operations that make a call, without reading more of the plan than it takes."""
    counts = plan.counts
    removed = sum(1 for operation in plan.removed() if operation.call is not None) if counts[Kind.REMOVED] else 0
    present = plan.sends - removed
    found = Counter({Kind.REMOVED: removed})
    added, changed = counts[Kind.ADDED] - len(plan.erased), counts[Kind.CHANGED]
    if present == added + changed:
        found.update({Kind.ADDED: added, Kind.CHANGED: changed})
    elif present:
        found.update(operation.kind for _, operation in plan.present() if operation.call is not None)
    return found
