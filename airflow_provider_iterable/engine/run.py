"""One run of a sync, from start to end: read, pair, compare, plan, guard, deliver, report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from airflow_provider_iterable.engine import churn
from airflow_provider_iterable.engine.canary import Canary, Trials, conclude_trials, preview
from airflow_provider_iterable.engine.churn import Sample
from airflow_provider_iterable.engine.compare import GoesAgain, compare, recalled
from airflow_provider_iterable.engine.conclusion import conclude, doom
from airflow_provider_iterable.engine.deliver import Delivery
from airflow_provider_iterable.engine.doubt import doubts_of
from airflow_provider_iterable.engine.forecast import Forecast, Horizon, forecast
from airflow_provider_iterable.engine.garbage import collect_per_chunk, gc_disabled, gc_frozen
from airflow_provider_iterable.engine.guards import Guards, guard, guard_changes, guard_merges
from airflow_provider_iterable.engine.left_out import LeftOut
from airflow_provider_iterable.engine.overwritten import overwritten
from airflow_provider_iterable.engine.pack import waves
from airflow_provider_iterable.engine.plan import Plan, Planner
from airflow_provider_iterable.engine.plan_hash import check_approved, plan_hash, with_resync
from airflow_provider_iterable.engine.predict import predict
from airflow_provider_iterable.engine.progress import Delivered, Progress
from airflow_provider_iterable.engine.protocols import State, Sync
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.refused import Refused
from airflow_provider_iterable.engine.remember import Remembering, prepare_state
from airflow_provider_iterable.engine.report import (
    Report,
    report_churn,
    report_delivery,
    report_fields,
    report_forecast,
    report_plan,
)
from airflow_provider_iterable.engine.resync import Resync, for_resync
from airflow_provider_iterable.engine.second_reading import (
    greatest_rows,
    paired,
    planned_with,
    resend_unchanged,
    resend_unseen,
    unseen_bearers,
    withdraw,
)
from airflow_provider_iterable.engine.settle import Learn
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import Accepted, Call, News, Operation, Outcome, Pair, Row, Send
from airflow_provider_iterable.errors import IterableSyncError, Stopped
from airflow_provider_iterable.masking import logger

log = logger(__name__)

Read = Callable[[], Iterable[Sequence[Row]]]


@dataclass(frozen=True)
class Options:
    """The options of a run.

    :param guards: limits beyond which nothing is sent
    :param patience: how long delivery tries
    :param window: returns how many requests of a call are to be in flight; by default as ``patience`` says
    :param batch_size: most records per request
    :param max_rejected: most rejected rows before the task fails; a float is a share of the rows read
    :param dry_run: plan only, send nothing, commit nothing
    :param approved_plan: apply only the plan that has this hash
    :param about: where the plan leads, by the names in ``PLAN_PARTS``, for its hash
    :param horizon: how long the run takes, as far as it is known beforehand, and how long it may
    :param spool_dir: where the temporary file is made; ``None``: the system's temporary directory
    :param check: called with the plan before the first call; raises when the state could not hold the result
    :param refuse: called with the plan before the first call; returns the rows because of which nothing is to be sent
    :param prepare: called once when there is something to send, before the first operation is screened
    :param foresee: of a dry run with something to send: has the sync know the types of Iterable's fields
    :param review: of a dry run: enters what its operations are, and what they carry
    :param first: called after ``prepare``; returns positions in the plan of a few operations that go before all others,
        by wave: nothing else is sent until a wave is settled
    :param canary: how many rows go first and are judged before the others follow; ``None``: all go at once
    :param learn: told which types fields have at Iterable when it refuses values for them
    :param stop: set from outside to end the run early, within seconds
    :param resync: ``"full"`` sends every row, ``"baseline"`` records every row and sends none
    :param observe: called with the plan before the first call, then with each outcome once it is committed; never
        raises
    :param distrust: of a full resync that begins: voids every entry, before the first call; without it, the resync
        goes on where an earlier try stopped
    :param sample: what earlier runs noted of some rows, to say which fields differ if most rows change
    :param progress: told what the run is at
    :param left_out: of a sync whose records have fields: what is known about those that were left out of some
    """

    guards: Guards = field(default_factory=Guards)
    patience: Patience = field(default_factory=Patience)
    window: Callable[[Call], int] | None = None
    batch_size: int = 1000
    max_rejected: float | int = 0.1
    dry_run: bool = False
    approved_plan: str | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    horizon: Horizon = field(default_factory=Horizon)
    spool_dir: str | None = None
    check: Callable[[Plan], None] | None = None
    refuse: Callable[[Plan], Refused | None] | None = None
    prepare: Callable[[], None] | None = None
    foresee: Callable[[], None] | None = None
    review: Callable[[Plan, Forecast], None] | None = None
    first: Callable[[Plan], Sequence[Sequence[int]]] | None = None
    canary: Canary | None = None
    learn: Learn | None = None
    stop: threading.Event | None = None
    resync: Resync = "changes"
    observe: Callable[[Plan | Accepted | Outcome], None] | None = None
    distrust: Callable[[], None] | None = None
    left_out: LeftOut | None = None
    sample: Sample = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    progress: Progress = field(default_factory=lambda: Progress(""))

    @property
    def stopped(self) -> bool:
        """Whether the run is to end."""
        return self.stop is not None and self.stop.is_set()

    @property
    def goes_again(self) -> GoesAgain | None:
        """Which unchanged rows go again because Iterable has fields by now that it left out of them."""
        return self.left_out.goes_again if self.left_out and self.left_out.again else None


def run(sync: Sync, read: Read, state: State, send: Send, report: Report, options: Options) -> Report:
    """Send Iterable what differs from the model, and fill in the report.

    :param read: opens the model, which comes in chunks of rows; called again only when unchanged rows have to be sent
        again, or several rows have one key
    :param report: filled in as the run goes, so that it is right even when the run fails
    :raises GuardTripped: before the first call
    :raises DeadlineMissed: likewise
    :raises Halted: Iterable refused in a way that ends the run; what was accepted is committed
    :raises CanaryFailed: the rows that went first did not pass; what was accepted is committed
    :raises Unfinished: rows were deferred; what was accepted is committed
    :raises ModelError: there are rows because of which nothing is sent
    :raises Stopped: ``options.stop`` was set before the end; what was accepted is committed
    :raises TooManyRejected: after everything that can be delivered was
    """
    rows, removals = Spool(options.spool_dir), Spool(options.spool_dir)
    try:
        with gc_disabled(), _phase(report, "plan", options.clock):
            planner = Planner(sync, rows, removals, options.goes_again, baseline=options.resync == "baseline")
            options.progress.at(lambda: (logging.INFO, f"reading and comparing rows, {planner.plan.read} so far"))
            plan = make_plan(planner, read, state, options)
            report.resend_reason = report.resend_reason or state.resend_reason
            report_plan(report, plan, state.remembered, options.resync)
            if options.left_out is not None:
                report_fields(report, plan, options.left_out)
            why = report_churn(report, plan, state.remembered, options.sample)
            if not why and report.resend_reason:
                why = f"The reason: {report.resend_reason}."
            about = with_resync(options.about, options.resync)
            if options.dry_run or options.approved_plan is not None:
                report.plan_hash = plan_hash(plan, about, state.remembered)
        if not sync.keeps_leavers:  # otherwise rows that are not there cost nothing
            guard(plan, options.guards, state.remembered)
        refused = None if options.refuse is None else options.refuse(plan)
        if refused is None:
            guard_merges(plan, options.guards)
        if options.resync == "changes":
            guard_changes(plan, options.guards, state.remembered, why)
        if options.approved_plan is not None:
            check_approved(options.approved_plan, report.plan_hash or "", about)
        if options.check is not None:
            options.check(plan)
        expected = forecast(plan, options.batch_size, options.horizon)
        report_forecast(report, expected, options.horizon)
        observe = options.observe or _ignore
        observe(plan)
        for outcome in (*plan.invalid, *plan.erased):
            report.add(outcome)
            observe(outcome)
        if refused is not None:
            refused.end(report, plan.sends, observe)
        if options.dry_run:
            report.status = "planned"
            with gc_disabled(), _phase(report, "plan", options.clock):
                if options.foresee is not None and plan.sends:
                    predict(sync, plan, report, options.foresee)
                if options.review is not None:
                    options.review(plan, expected)
            if options.canary is not None:
                report.notes.append(preview(options.canary, plan))
            return report
        report.sample = churn.note(plan, options.sample)
        with gc_frozen(), _phase(report, "deliver", options.clock):
            halted, verdict = _deliver(sync, plan, state, send, report, options, expected)
        conclude_trials(report, verdict)
        conclude(report, halted, options.stopped, options.max_rejected, options.resync)
        return report
    except BaseException as error:
        if report.status == "running":
            # What comes from outside, as Airflow's timeout does, is no ``Exception``.
            outside = isinstance(error, Stopped) or not isinstance(error, Exception)
            report.status = "stopped" if outside else "failed"
        if isinstance(error, IterableSyncError):
            error.report = report.to_dict()
        raise
    finally:
        rows.close()
        removals.close()


def make_plan(planner: Planner, read: Read, state: State, options: Options | None = None) -> Plan:
    """Read the model, and a second time where that is needed to know what has to be sent, and make a plan."""
    sync, options = planner.sync, options or Options()
    voided = options.distrust is not None

    def news(pairs: Iterable[Pair]) -> Iterator[News]:
        seen = for_resync(pairs, options.resync, voided, sync.keeps_leavers)
        return recalled(state, compare(sync, seen, planner.goes_again))

    plan = planner.plan
    planner.take(news(_unless_stopped(state.pair(sync, collect_per_chunk(read())), options)))
    if planner.collapsing:
        log.info("%d keys are shared by several rows: reading the model once more", len(planner.collapsing))
        others = greatest_rows(sync, read(), planner.collapsing)
        if others:
            withdraw(plan, others.keys())
            planner.take(news(paired(state, others)))
    hidden: dict[str, int] = {}
    if planner.unseen is not None and plan.unchanged:
        hidden = unseen_bearers(sync, plan, planner.unseen, planner.left_refs)
        planner.identities.unchanged.extend(hidden.values())
    identities = planner.identities_to_resend()
    if identities or planner.needs_second_reading:
        log.info("%d identities changed that unchanged rows bear too: reading the model once more", len(identities))
        planned = planned_with(plan, identities)
        if planner.unseen is None:
            planner.take(resend_unchanged(sync, read(), identities, planned, plan.duplicates))
        else:
            keys = [key for key, identity in hidden.items() if identity in identities and key not in planned]
            if planner.identities.left:
                keys.extend(plan.duplicates.difference(keys))
            planner.take(resend_unseen(sync, planner.unseen, keys, identities, plan.duplicates))
    planner.finish()
    if planner.exclusive:
        plan.doubted = overwritten(sync, plan, planner.identities, state, voided)
    return plan


def _unless_stopped(pairs: Iterable[Pair], options: Options) -> Iterator[Pair]:
    for pair in pairs:
        yield pair
        if options.stopped:
            raise Stopped("The task was stopped while rows were compared. Nothing was sent. The next run begins anew.")


def _ignore(observed: Plan | Outcome | Accepted) -> None:
    """Observe nothing."""


def _deliver(
    sync: Sync, plan: Plan, state: State, send: Send, report: Report, options: Options, expected: Forecast
) -> tuple[str, str]:
    """Send what is planned; return why nothing more could be sent, and why nothing more was to be, if that was so."""
    if plan.sends and options.prepare is not None:
        options.progress.at("asking Iterable what has to be known before the first row is sent")
        try:
            _prepare(options.prepare, options)
        except BaseException as error:
            if isinstance(error, Stopped) or not isinstance(error, Exception):
                report.defer(plan.sends)
            raise
    left_out = options.left_out
    prepare_state(plan, state, options.distrust, left_out)
    remembering = Remembering(plan, state, left_out)

    def screen(operation: Operation) -> Operation | Outcome:
        if remembering.holds_back(operation.key):
            return Outcome(operation.key, operation.kind, Fate.SKIPPED, Reason.NOT_MOVED, "", operation)
        return sync.screen(operation)

    delivery = Delivery(
        send,
        remembering.commit,
        screen=screen,
        salvage=sync.salvage,
        learn=options.learn,
        part=None if left_out is None else left_out.part,
        doubts=doubts_of(sync, receipts=not plan.shared and not plan.former),
        patience=options.patience,
        batch_size=options.batch_size,
        window=options.window,
        stop=options.stop,
    )
    deadline = options.horizon.deadline
    allowed = None if deadline is None else (deadline - options.horizon.now()).total_seconds()
    progress = Delivered(plan.sends, options.clock, expected.seconds, allowed)
    trials = None
    if options.canary is not None:
        first_run, end = not report.remembered, partial(delivery.end, Reason.CANARY)
        doomed = doom(report, options.max_rejected)
        trials = Trials(options.canary, first_run, lambda: plan.sends - progress.done, end, doomed)

    options.progress.at(progress.line)
    observe = options.observe or _ignore

    def settle(outcome: Outcome | Accepted) -> None:
        if isinstance(outcome, Accepted):
            report.accept(outcome.operations)
            progress.more(len(outcome.operations))
        else:
            report.add(outcome)
            progress.more(1)
        if trials is not None:
            trials.settle(outcome)
        remembering.settle(outcome)
        observe(outcome)

    first = () if options.first is None or not plan.sends else options.first(plan)
    outcomes = delivery.run(waves(plan, sync.removals_first, first, trials))
    try:
        for outcome in outcomes:
            settle(outcome)
    except BaseException as error:
        with suppress(Exception):  # whatever comes of it, the first error is the one to be raised
            outcomes.close()  # where it was not the delivery that was interrupted, this commits what was answered
            for outcome in delivery.rescued():
                settle(outcome)
        if not isinstance(error, Exception):
            report.defer(plan.sends - progress.done)
        raise
    else:
        if options.stopped:
            report.defer(plan.sends - progress.done)
    finally:
        if delivery.failure is not None:
            report.failure = delivery.failure.sentence(report.host)
        waiting = len(plan.borne - plan.borne_and_accepted)
        report_delivery(report, delivery.in_doubt, waiting, remembering.surplus)
    if left_out is not None:
        left_out.write()
    return delivery.halted, trials.verdict if trials is not None else ""


def _prepare(prepare: Callable[[], None], options: Options) -> None:
    try:
        prepare()
    except IterableSyncError:
        if options.stopped:  # and so were its requests
            raise Stopped("The task was stopped before the first row was sent. The next run begins anew.") from None
        raise


@contextmanager
def _phase(report: Report, name: str, clock: Callable[[], float]) -> Iterator[None]:
    start = clock()
    try:
        yield
    finally:
        report.seconds[name] = report.seconds.get(name, 0.0) + clock() - start
