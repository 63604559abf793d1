"""A run from a state that is still to be opened to its end: opens and closes what it needs, whatever happens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.engine import churn
from airflow_provider_iterable.engine import run as engine
from airflow_provider_iterable.engine.progress import Progress
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.errors import IterableSyncError, WorthRetrying
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs import fields, pace
from airflow_provider_iterable.runs import left_out as fields_left_out
from airflow_provider_iterable.runs.audit import Audit, Observed
from airflow_provider_iterable.runs.canary import Made
from airflow_provider_iterable.runs.first import first as go_first
from airflow_provider_iterable.runs.policy import policy_of, written
from airflow_provider_iterable.runs.project import note_channels, recognise
from airflow_provider_iterable.runs.review import review
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project
from airflow_provider_iterable.state.scope import RESYNC_NOTE, Scope
from airflow_provider_iterable.state.store import Hold, Session, Store
from airflow_provider_iterable.syncs.sync import BaseSync

log = logger(__name__)

GOES_ON = 'resync="full" goes on: the rows go again that an earlier try of this run did not send'
UNFINISHED = 'a run with resync="full" did not end, and the rows go again that it did not send'
BEGINS = 'resync="full" sends every row again'
"""Why rows go again, by the kind of resync."""


@dataclass(frozen=True)
class Job:
    """What a run is to do, in plain values.

    :param kind: what its kind of sync does its own way
    :param store: where the sync remembers
    :param scope: what the store gets to know of the run
    :param model: the model, not opened yet
    :param options: how the run goes about it; what only the opened state and the connection know is added here
    :param commit_batches: batches that are committed together; ``None``: as the store has it
    :param observe: called with the plan and with outcomes, as the audit is; never raises
    """

    kind: SyncKind
    store: Store
    scope: Scope
    model: Model
    options: engine.Options
    commit_batches: int | None = None
    observe: Callable[[Observed], None] | None = None


def carry_out(
    job: Job, hook: IterableHook, client: Client, report: Report, audit: Audit, stop: threading.Event
) -> None:
    """Run a sync; what became of it is in the report, also when this raises."""
    progress = Progress(report.name)
    try:
        with progress.telling():
            _carry_out(job, hook, client, report, audit, stop, progress)
    finally:
        job.kind.close(report)


def _carry_out(
    job: Job,
    hook: IterableHook,
    client: Client,
    report: Report,
    audit: Audit,
    stop: threading.Event,
    progress: Progress,
) -> None:
    started, kind, options = time.monotonic(), job.kind, job.options
    progress.at("opening the state")
    # The state before the model: under the read lock of an open query, SQLite creates no tables.
    session = kind.open_state(job.store, job.scope)
    run, lease, left_out, resync = Run(hook, client, session, report, stop), session.lease, None, None
    client.require(permitting(lease, stop))
    try:
        audit.begin(session.recall, anonymous=kind.anonymous)
        project = recognise(hook, client, session, report)
        resync = about_resync(report, session)
        report.resend_reason = _why(report, session, resync)
        if report.resend_reason:
            log.info("Sync %s: %s.", report.sync_id, report.resend_reason)
        progress.at("running the model's query")
        with job.model as model:
            sync = kind.build(run, model.columns)
            if isinstance(sync, BaseSync):
                fields.look(sync, session, report)
                report.policy = written(policy_of(sync))
            distrust = distrusting(session, report)
            left_out = fields_left_out.left_out_of(sync, session, report.resync == "baseline" or bool(distrust))
            if left_out is not None and report.resync == "changes":
                existing, approved = partial(kind.existing_fields, run), options.approved_plan is not None
                fields_left_out.look(left_out, sync, existing, kind.harm, dry=options.dry_run, approved=approved)
            made = None
            if options.canary is not None and isinstance(sync, BaseSync):
                made = Made(run, sync, approved=options.approved_plan is not None)
                canary = replace(options.canary, unapproved=made.unapproved, waits=sync.waits)
                options = replace(options, canary=canary)
            report.seconds["open"] = time.monotonic() - started

            def prepare() -> None:
                note_channels(hook, client, session, report.name)
                kind.prepare(run, sync)
                if made is not None:
                    made.begin()

            if isinstance(sync, BaseSync) and kind.checks_types:
                first, learn = partial(go_first, sync=sync, batch_size=options.batch_size, name=report.name), sync.learn
                options = replace(options, first=first, learn=learn)
            options = replace(
                options,
                patience=Patience(commit_batches=_batches(job, session), most_in_flight=client.max_in_flight),
                window=client.window,
                horizon=replace(
                    options.horizon,
                    outlook=partial(client.expected, pace.noted(session.notes.get(pace.NOTE)), kind.most_in_flight),
                    waiting=partial(kind.waiting, run),
                ),
                about={**options.about, **_about(job.scope, session, project)},
                check=session.check,
                refuse=partial(kind.refuse, run, sync),
                observe=_both(audit.observe, job.observe),
                prepare=prepare,
                review=partial(review, sync, report, options.batch_size) if isinstance(sync, BaseSync) else None,
                foresee=partial(kind.learn, run, sync) if kind.checks_types else None,
                stop=stop,
                resync=report.resync,
                distrust=distrust,
                sample=churn.noted(session.notes.get(churn.NOTE)),
                left_out=left_out,
                progress=progress,
            )
            engine.run(sync, model.chunks, session, kind.sender(run), report, options)
            if isinstance(sync, BaseSync) and not options.dry_run:
                fields.forecast(sync, report)
        progress.at("noting the end of the run in the state")
        if not options.dry_run:
            if isinstance(sync, BaseSync):
                fields.note(sync, session)
            kind.note(run, sync)
            if session.notes.get(RESYNC_NOTE):
                session.note(RESYNC_NOTE, "")
            pace.note(session, client, report)
            if not kind.anonymous:
                session.notes[churn.NOTE] = report.sample
            session.finish(delivered=True)
        elif lease is not None and lease.failure is not None:
            raise lease.failure  # the plan would be beside another run
    except IterableSyncError as error:
        failure = None if lease is None else lease.failure
        if failure is not None and not isinstance(error, type(failure)):
            report.status = "failed"
            raise failure from None  # whatever it led to, it comes first
        if isinstance(error, WorthRetrying) and error.retry_after is None:
            error.retry_after = client.held() or None
        raise
    finally:
        fields_left_out.report_missing(left_out, report, kind.outlook, kind.harm)
        # Who compares is known by now, and whether anything was remembered.
        report.resend_reason = _why(report, session, resync, ended=True)
        session.close()


def about_resync(report: Report, session: Session) -> str | None:
    """Return what rows go again for because of a full resync: this one, or one before that did not end."""
    resync = session.notes.get(RESYNC_NOTE)
    if report.resync == "full":
        return GOES_ON if resync == report.run_id else BEGINS
    return UNFINISHED if resync and report.resync == "changes" else None


def _why(report: Report, session: Session, resync: str | None, ended: bool = False) -> str | None:
    """Return why rows go again that were accepted before.

    :param resync: see :func:`_about_resync`
    :param ended: whether it is known by now what the run had to send, and who compared
    """
    if report.resync != "changes":
        return resync
    if resync is None:
        return session.resend_reason or report.resend_reason
    if ended and not report.counts[Kind.ADDED] + report.counts[Kind.CHANGED]:
        return session.resend_reason
    return "; ".join(filter(None, (session.resend_reason, resync)))


def permitting(lease: Hold | None, stop: threading.Event) -> Callable[[], bool]:
    """Return what says whether a request may start, and ends the delivery when none may."""

    def permitted() -> bool:
        if not stop.is_set() and (lease is None or lease.permits(stop.wait)):
            return True
        stop.set()
        return False

    return permitted


def distrusting(session: Session, report: Report) -> Callable[[], None] | None:
    """Return what voids the state, unless an earlier try of this run did so: it goes on where that one stopped."""
    if report.resync != "full":
        return None
    if session.notes.get(RESYNC_NOTE) == report.run_id:
        log.info("Sync %s: the full resync of an earlier try goes on.", report.sync_id)
        return None
    return lambda: session.void(RESYNC_NOTE, report.run_id)


def _both(
    first: Callable[[Observed], None] | None, second: Callable[[Observed], None] | None
) -> Callable[[Observed], None] | None:
    """Return what calls both, as far as they are there."""
    if first is None or second is None:
        return first or second

    def observe(observed: Observed) -> None:
        first(observed)
        second(observed)

    return observe


def _batches(job: Job, session: Session) -> int:
    """Return how many batches are committed together, and say so where the store decides."""
    if job.commit_batches is not None:
        return job.commit_batches
    batches = session.commit_batches
    if batches > 1:
        log.info("The state is committed every %d batches: a transaction takes long there.", batches)
    return batches


def _about(scope: Scope, session: Session, project: Project) -> dict[str, str]:
    """Return what the hash of a plan covers of the project and of the state."""
    notes = {
        name: note
        for name, note in session.notes.items()
        if note and name not in (PROJECT_NOTE, churn.NOTE, fields.NOTE, fields.EVENTS_NOTE, pace.NOTE)
    }
    return {"project": project.identity, "state": json.dumps([scope.sync_id, sorted(notes.items())])}
