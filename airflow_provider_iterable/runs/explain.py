"""What the next run would do with one row, and why: the run's own plan, made of that row and of what matters for it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine.forecast import chain, name
from airflow_provider_iterable.engine.plan import Plan, Planner
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.run import Options, make_plan
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.vocabulary import Operation, Outcome, Record
from airflow_provider_iterable.errors import IterableSyncError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import position
from airflow_provider_iterable.masking import logger, masked, masked_key
from airflow_provider_iterable.runs import fields
from airflow_provider_iterable.runs import left_out as fields_left_out
from airflow_provider_iterable.runs.asked import candidates
from airflow_provider_iterable.runs.explained import (
    ALL_AGAIN,
    ANOTHER_PAYLOAD,
    AS_ACCEPTED,
    FIRES_ONCE,
    LEFT,
    LEFT_ALONE,
    LEFT_ERASED,
    LEFT_FOR_EVER,
    LEFT_IN_DOUBT,
    NEVER_ACCEPTED,
    NOT_ANSWERED,
    Explanation,
    Failed,
    Remembered,
    memory_of,
    named,
    sentence,
)
from airflow_provider_iterable.runs.few import Excerpt, Finder, Neighbours, neighbours
from airflow_provider_iterable.runs.privacy import PrivacyRun
from airflow_provider_iterable.runs.project import recognise
from airflow_provider_iterable.runs.review import carried
from airflow_provider_iterable.runs.run import Run
from airflow_provider_iterable.runs.runner import Job, about_resync, distrusting
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.tables.audit import AuditTables
from airflow_provider_iterable.syncs.lists import Lists
from airflow_provider_iterable.syncs.subscriptions import Subscriptions
from airflow_provider_iterable.syncs.sync import BaseSync

log = logger(__name__)

MOST_SHARING = 20
"""Other rows with the same identity that are named."""
WHOLE_RUN = (
    "What only the whole model decides is not looked at: allow_empty, max_removed, max_changed, max_deletes, "
    "max_subscribed, max_rejected, deadline, canary; of merges max_merges, and whether they go together with others."
)
IN_TURN = (
    "Requests go in their order, and what is over Iterable's quota or max_actions waits: how many come before this one "
    "is not looked at."
)
NEW_FIELDS = (
    "Iterable does not have {} yet: the type is decided by the values of all rows that are sent, and a row whose value "
    "does not fit it is rejected."
)
NO_TYPES = "The types of Iterable's fields were not asked: whether the values fit them is not known."


@dataclass(frozen=True)
class Question:
    """Which row is to be explained.

    :param given: the key as the state has it, such as ``[42]``, or the value of a key of one column
    :param primary_key: the names of the key's columns
    :param identifying: which parts of the key are identifiers of people, to be masked
    :param types: whether the types of Iterable's fields may be asked
    """

    given: str
    primary_key: Sequence[str]
    identifying: Collection[int] = ()
    types: bool = True


def explain(job: Job, hook: IterableHook, client: Client, report: Report, question: Question) -> Explanation:
    """Say what the next run would do with a row, and why.

    Nothing is sent and nothing is written. Of Iterable only the types of fields are asked, if that is allowed.

    :param job: the run, whose scope is for reading
    :param report: the account of a dry run
    """
    told = Explanation(sync_id=report.sync_id, partition=report.partition)
    told.destination, told.resync = report.destination, report.resync
    try:
        session = job.kind.open_state(job.store, job.scope)
        try:
            _Explaining(job, Run(hook, client, session, report, threading.Event()), told, question).all()
        finally:
            session.close()
    except IterableSyncError as error:
        told.action, told.error = "fail", masked(str(error))
    finally:
        job.kind.close(Report(report.sync_id, report.run_id, {}))
    told.notes = [masked(note) for note in (*report.notes, *told.notes)]
    told.verdict = sentence(told)
    return told


class _Explaining:
    """One row on its way to its explanation."""

    def __init__(self, job: Job, run: Run, told: Explanation, question: Question) -> None:
        self.job, self.run, self.told, self.question = job, run, told, question
        self.names: set[str] = set()
        """What the person is called."""

    def all(self) -> None:
        """Find the row, plan it and tell what the plan says."""
        run, job, told, report = self.run, self.job, self.told, self.run.report
        recognise(run.hook, run.client, run.session, report)
        again = about_resync(report, run.session)
        with suppress(Exception):  # a query that cannot stand inside another one is run as it is
            job.model.describe(lambda cursor: None)
        with job.model as model:
            scout = job.kind.build(run, model.columns)
            assert isinstance(scout, BaseSync)
            finder = self._finder(scout)
            near = neighbours(finder, run.session, candidates(told.destination, self.question.given))
            sync = job.kind.build(run, model.columns)
            assert isinstance(sync, BaseSync)
            fields.look(sync, run.session, report)
            self._plan(sync, finder, near)
        why = (report.resend_reason or run.session.resend_reason, again)
        told.resend_reason = "; ".join(filter(None, why)) or None
        told.reads_whole_model = finder.whole
        told.notes.append(WHOLE_RUN)

    def _finder(self, scout: BaseSync) -> Finder:
        columns = self.job.model.columns
        unlike = isinstance(scout, Lists | Subscriptions) or scout.hashes_keys
        by_columns = () if unlike else self.question.primary_key
        column = scout.identity_column
        keyed = tuple(position(columns, part) for part in by_columns)
        return Finder(self.job.model, scout, keyed, None if column is None else position(columns, column))

    def _plan(self, sync: BaseSync, finder: Finder, near: Neighbours) -> None:
        """Make the plan of the row and its neighbours, and tell what it is for the row."""
        run, job = self.run, self.job
        session, report, kind = run.session, run.report, job.kind
        distrust = distrusting(session, report)
        left_out = fields_left_out.left_out_of(sync, session, report.resync == "baseline" or bool(distrust))
        if left_out is not None and report.resync == "changes":
            existing = partial(kind.existing_fields, run)
            fields_left_out.look(left_out, sync, existing, kind.harm, dry=not self.question.types, approved=False)
        excerpt = Excerpt(session, finder, near.keys)
        options = Options(resync=report.resync, distrust=distrust, left_out=left_out)
        with closing(Spool(job.options.spool_dir)) as rows, closing(Spool(job.options.spool_dir)) as removals:
            planner = Planner(sync, rows, removals, options.goes_again, baseline=report.resync == "baseline")
            plan = make_plan(planner, excerpt.read, excerpt, options)
            if kind.checks_types and self.question.types and plan.sends:
                try:
                    kind.learn(run, sync)
                except IterableSyncError as error:
                    self.told.types_known = False
                    self.told.notes.append(
                        f"Whether the values fit the types of Iterable's fields is not known. {error}"
                    )
            elif kind.checks_types and plan.sends:
                self.told.types_known = False
                self.told.notes.append(NO_TYPES)
            self._tell_row(finder.sync, sync, near, excerpt)
            self._tell_plan(sync, near, plan)
            if (refused := kind.refuse(run, sync, plan)) is not None:
                self._keeps_all_back(next(refused.outcomes()))
        self._tell_last_try(near.key)

    def _tell_row(self, scout: BaseSync, sync: BaseSync, near: Neighbours, excerpt: Excerpt) -> None:
        """Tell what the model and the state have of the row."""
        told, session, key = self.told, self.run.session, near.key
        found = session.recall([key, tombstone(key)])
        entry = found.get(key)
        record = scout.records([key], near.rows[:1]).record(0) if near.rows else None
        identity = record.handles[0] if record is not None and record.handles else None
        before = sync.identity(entry.ref) if entry is not None and entry.ref else None
        names = [handle[1] for handle in (identity, before) if handle is not None]
        names += [] if record is None else [value for _, value in record.handles]
        self.names = {*filter(None, names)}
        told.key, told.rows = self._key(key), len(near.rows)
        told.identity = ", ".join(map(named, record.handles)) or None if record is not None else None
        told.shared_with = [self._key(other) for other in near.sharing[:MOST_SHARING]]
        told.more_shared = max(0, len(near.sharing) - MOST_SHARING)
        if isinstance(record, Record):
            told.fields = carried(sync, self.run.report, record.body)
            if new := [found["field"] for found in told.fields if found["status"] == "new"]:
                told.notes.append(NEW_FIELDS.format(", ".join(new)))
        told.remembered = Remembered(
            status=memory_of(entry, tombstone(key) in found), identity=named(before) if before else None
        )
        after = excerpt.after.get(key) or (record.fingerprint if isinstance(record, Record) else None)
        if entry is not None and after is not None:
            told.remembered.same_payload = entry.fingerprint == after
        if not near.rows and entry is None:
            told.other_partition = session.partition_of(key)

    def _tell_plan(self, sync: BaseSync, near: Neighbours, plan: Plan) -> None:
        """Tell what the plan is for the row."""
        told, key = self.told, near.key
        outcome = next((found for found in (*plan.invalid, *plan.erased) if found.key == key), None)
        operation = next((found for _, found in plan.present() if found.key == key), None)
        removal = next((found for found in plan.removed() if found.key == key), None)
        if outcome is not None:
            told.change = "erased" if outcome.reason is Reason.ERASED_PERSON else "invalid"
            self._refused(outcome)
        elif operation is not None:
            told.change = "added" if operation.kind is Kind.ADDED else "changed"
            self._written(sync, near, plan, operation)
        elif removal is not None:
            told.change = "removed"
            self._removed(sync, plan, removal)
        elif near.rows:
            told.change = "unchanged"
            told.why = AS_ACCEPTED
            if near.sharing:
                told.why += ", and no other row with its identity changes"
        else:
            self._without_row(sync)

    def _refused(self, outcome: Outcome) -> None:
        told, reason = self.told, outcome.reason
        told.action = "wait" if outcome.fate is Fate.DEFERRED else "refuse"
        told.fate = str(outcome.fate)
        told.detail = masked(outcome.detail, self.names) or None
        told.why = ""
        if reason is not None:
            told.reason, told.reason_sentence = str(reason), reason.sentence
            told.why = reason.sentence
        if told.detail:
            told.why += f" ({told.detail})"

    def _keeps_all_back(self, outcome: Outcome) -> None:
        """Tell of a row that is wrong whatever others there are."""
        told = self.told
        told.change, told.operation, told.endpoints = "invalid", None, []
        self._refused(outcome)
        told.notes.append("While it is in the model like this, the run sends none of the others either.")

    def _written(self, sync: BaseSync, near: Neighbours, plan: Plan, operation: Operation) -> None:
        """Tell of a row that is there, and is new or goes again."""
        told = self.told
        if operation.call is None:
            told.action = "remember"
            told.why = 'resync="baseline" records every row as delivered' if told.resync == "baseline" else FIRES_ONCE
            return
        screened = sync.screen(operation)
        if isinstance(screened, Outcome):
            self._refused(screened)
            return
        if waiting := self._waiting():
            told.action, told.fate, told.why = "wait", str(Fate.DEFERRED), waiting
            return
        told.action, told.why = "send", self._why(plan, operation)
        told.notes += [sync.depends] if sync.depends else []
        self._called(operation)
        if screened.partial:
            told.notes.append(f"It goes without some fields: {masked(screened.partial, self.names)}.")
        if plan.is_shared(operation):
            last = max(found.key for _, found in plan.present() if found.handles[:1] == operation.handles[:1])
            mine = last == operation.key
            told.notes.append(
                "Several rows with this identity are sent in the order of their keys, and Iterable keeps the last: "
                f"{'this one' if mine else self._key(last)}."
            )
        if former := plan.former.get(operation.key):
            gone = next((found for found in plan.removed() if found.key == former[0]), None)
            bound = gone is not None and gone.call is not None
            told.former = f"its former {told.remembered.identity} is {'removed' if bound else 'left alone'}"
        elif operation.before:
            told.former = f"its former {told.remembered.identity} is left alone"

    def _waiting(self) -> str:
        """Say what the request has to wait for, if it does so whatever comes before it."""
        kind, run = self.job.kind, self.run
        kind.sender(run)
        waiting = kind.waiting(run, 1)
        if isinstance(kind, PrivacyRun):
            self.told.notes.append(IN_TURN)
        return f"it waits for {waiting[0].what}" if waiting else ""

    def _why(self, plan: Plan, operation: Operation) -> str:
        """Say why a row is sent."""
        remembered, report = self.told.remembered, self.run.report
        if remembered.status == "nothing":
            return NEVER_ACCEPTED
        if remembered.status == "in_doubt":
            return NOT_ANSWERED
        if report.resync == "full" or remembered.status == "to_be_sent_again":
            return ALL_AGAIN
        if operation.before:
            return f"its identity is {self.told.identity} now, and was {remembered.identity}"
        again = {plan.rows.at(position).key for position in plan.again}
        if operation.key in again:
            return "it carries fields that Iterable left out before, and has by now"
        if remembered.same_payload:
            return "another row with its identity changes, and would overwrite it"
        if self.run.session.resend_reason:
            return f"{ANOTHER_PAYLOAD} ({self.run.session.resend_reason})"
        return ANOTHER_PAYLOAD

    def _called(self, operation: Operation) -> None:
        assert operation.call is not None
        calls = list(chain(operation.call))
        self.told.operation, self.told.endpoints = calls[-1].does, [name(call) for call in calls]

    def _removed(self, sync: BaseSync, plan: Plan, removal: Operation) -> None:
        """Tell of a row that has left the model."""
        told = self.told
        if removal.call is not None:
            screened = sync.screen(removal)
            if isinstance(screened, Outcome):
                self._refused(screened)
                return
            *_, last = chain(removal.call)
            told.action, told.why = ("look_up", LEFT_IN_DOUBT) if last.reads else ("remove", LEFT)
            self._called(removal)
            return
        told.action = "forget"
        borne = any(found.key == removal.key for found in plan.uncalled())
        told.why = f"{LEFT}, and another row has its identity" if borne else LEFT_ALONE
        if sync.spares and not borne:
            told.why = f"{LEFT}, and {sync.spares}"
        if borne and not any(found.key == removal.key for found in plan.forgettable()):
            told.notes.append("It is forgotten only once the other row is accepted.")

    def _without_row(self, sync: BaseSync) -> None:
        """Tell of a key without a row for which nothing is planned."""
        told = self.told
        if told.remembered.status == "nothing":
            told.why = "no row of the model has this key, and nothing is remembered of it"
            if told.other_partition:
                told.why += f" here; the partition {told.other_partition!r} remembers it"
            return
        told.change = "removed"
        if told.remembered.status == "erased":
            told.change, told.why = "erased", LEFT_ERASED
        elif sync.keeps_leavers:
            told.why = LEFT_FOR_EVER
        elif told.resync == "baseline":
            told.why = 'its row has left the model, and resync="baseline" removes nobody'
        else:
            told.why = "its row has left this partition, and another one holds it"

    def _tell_last_try(self, key: str) -> None:
        """Tell what the audit has of the row's last try, if there is one and it can be read."""
        tables = self.job.store.tables
        if tables is None or not tables.audit:
            return
        with suppress(Exception), closing(AuditTables(tables.connect(self.job.scope), tables.schema)) as audit:
            found = audit.newest(self.run.report.name, key)
            if found is not None:
                run_id, operation, status, reason, detail, moment = found
                self.told.last_tried = Failed(
                    run_id=run_id,
                    operation=operation,
                    status=status,
                    reason=reason,
                    detail=masked(detail or "", self.names) or None,
                    at=str(moment),
                )

    def _key(self, key: str) -> str:
        return masked_key(key, self.names, self.question.identifying)
