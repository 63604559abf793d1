"""The whole of a sync on one page: read, pair, compare, plan, guard, deliver, account."""

from __future__ import annotations

import gc
import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from airflow_provider_iterable.engine.compare import GoesAgain, compare, recalled
from airflow_provider_iterable.engine.deliver import Delivery
from airflow_provider_iterable.engine.doubt import doubts_of, in_doubt
from airflow_provider_iterable.engine.left_out import LeftOut, Standing
from airflow_provider_iterable.engine.pack import waves
from airflow_provider_iterable.engine.plan import Guards, Plan, Planner, guard
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.resync import VOID, Resync, bend
from airflow_provider_iterable.engine.shared import Shared
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import (
    NO_INTENTS,
    Accepted,
    Entry,
    Fate,
    Intents,
    Kind,
    Operation,
    Outcome,
    Pair,
    Patch,
    Reason,
    Row,
    Send,
    State,
    Sync,
)
from airflow_provider_iterable.errors import (
    GuardTripped,
    Halted,
    IterableSyncError,
    Stopped,
    TooManyRejected,
    Unfinished,
)
from airflow_provider_iterable.masking import logger

log = logger(__name__)

Read = Callable[[], Iterable[Sequence[Row]]]
PROGRESS_SECONDS = 10.0
VOID_AT_ONCE = 10_000
"""Entries of incomplete rows that are voided in one commit."""
PLAN_PARTS = {
    "rows": "the rows and what is sent of them",
    "host": "the host",
    "project": "the project or its API key",
    "target": "the target",
    "match": "the matching identifier",
    "options": "options that change requests",
    "state": "what is remembered of the sync",
}
"""What the hash of a plan covers, part by part, and how that is told."""
SHOWN_PARTS = ("host", "target", "match", "options")
NOTHING_REMEMBERED = "nothing was remembered for this sync, so every row is new"


@dataclass(frozen=True)
class Options:
    """How a run goes about it.

    :param guards: what must not happen unasked
    :param patience: how long delivery tries
    :param batch_size: most records per request
    :param max_rejected: most rejected rows before the task fails; a float is a share of the rows read
    :param dry_run: plan only, call nothing, commit nothing
    :param approved_plan: apply only the plan that has this hash
    :param about: where the plan leads, by the names in ``PLAN_PARTS``, for its hash
    :param spool_dir: where the temporary file is made; ``None``: the system's temporary directory
    :param check: called with the plan before the first call; raises when the state could not hold the result
    :param prepare: called once when there is something to send, before the first operation is screened
    :param stop: set from outside to end the run early, within seconds
    :param resync: ``"full"`` sends every row, ``"baseline"`` records every row and sends none
    :param observe: told the plan before the first call, then each outcome once it is committed; never raises
    :param distrust: of a full resync that begins: voids every entry, before the first call; without it, the resync
        goes on where an earlier try stopped
    :param left_out: of a sync whose records have fields: what is known about those that were left out of some
    """

    guards: Guards = field(default_factory=Guards)
    patience: Patience = field(default_factory=Patience)
    batch_size: int = 1000
    max_rejected: float | int = 0.1
    dry_run: bool = False
    approved_plan: str | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    spool_dir: str | None = None
    check: Callable[[Plan], None] | None = None
    prepare: Callable[[], None] | None = None
    stop: threading.Event | None = None
    resync: Resync = "changes"
    observe: Callable[[Plan | Accepted | Outcome], None] | None = None
    distrust: Callable[[], None] | None = None
    left_out: LeftOut | None = None
    clock: Callable[[], float] = time.monotonic

    @property
    def stopped(self) -> bool:
        """Whether the run is to end."""
        return self.stop is not None and self.stop.is_set()


def run(sync: Sync, read: Read, state: State, send: Send, report: Report, options: Options) -> Report:
    """Bring Iterable up to the model, and account for it.

    :param read: opens the model, which comes in chunks of rows; called a second time only when unchanged rows have
        to be said again
    :param report: filled in as the run goes, so that it tells the truth even when the run fails
    :raises GuardTripped: before the first call
    :raises Halted: Iterable refused in a way that ends the run; what was accepted is committed
    :raises Unfinished: rows were deferred; what was accepted is committed
    :raises Stopped: ``options.stop`` was set before the end; what was accepted is committed
    :raises TooManyRejected: after everything that can be delivered was
    """
    sync, state = bend(sync, state, options.resync, options.distrust is not None)
    rows, removals = Spool(options.spool_dir), Spool(options.spool_dir)
    try:
        with _collector_at_rest(), _phase(report, "plan", options.clock):
            again = options.left_out.goes_again if options.left_out and options.left_out.again else None
            plan = _plan(Planner(sync, rows, removals, again), sync, read, state, options, again)
            _account(report, plan, state, options.resync)
            _account_for_fields(report, plan, options.left_out)
            if options.dry_run or options.approved_plan is not None:
                report.plan_hash = plan_hash(plan, options, state.remembered)
        guard(plan, options.guards, state.remembered)
        _approve(report, options)
        if options.check is not None:
            options.check(plan)
        observe = options.observe or _look_away
        observe(plan)
        for outcome in (*plan.invalid, *plan.erased):
            report.tell(outcome)
            observe(outcome)
        if options.dry_run:
            report.status = "planned"
            report.notes.extend(forecast(plan, options.batch_size))
            return report
        with _past_frozen(), _phase(report, "deliver", options.clock):
            halted = _deliver(sync, plan, state, send, report, options)
        _conclude(report, options, halted)
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


def _look_away(told: Plan | Accepted | Outcome) -> None:
    """Nobody wants to know."""


def _plan(
    planner: Planner,
    sync: Sync,
    read: Read,
    state: State,
    options: Options | None = None,
    again: GoesAgain | None = None,
) -> Plan:
    pairs = _unless_stopped(state.pair(sync, _tidily(read())), options or Options())
    planner.take(recalled(state, compare(sync, pairs, again)))
    if planner.collapsing:
        log.info("%d keys are shared by several rows: reading the model once more", len(planner.collapsing))
        planner.collapse(read(), state)
    unsaid = planner.unsaid()
    if unsaid or planner.unheard:
        log.info("%d identities changed that unchanged rows bear too: reading the model once more", len(unsaid))
        planner.say_again(read(), unsaid)
    plan = planner.finish()
    planner.doubt(state)
    return plan


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Leave looking for garbage to us, once per chunk: looking as often as usual takes an eighth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _past_frozen() -> Iterator[None]:
    """Keep the collector from what was there before, which is most of the heap and stays.

    It must not rest while requests are in flight: what is alive when another batch is committed is looked at again
    only by a full collection, and answers are part of cycles.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _tidily(chunks: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
    for chunk in chunks:
        yield chunk
        gc.collect(0)


def _unless_stopped(pairs: Iterable[Pair], options: Options) -> Iterator[Pair]:
    for pair in pairs:
        yield pair
        if options.stopped:
            raise Stopped("The task was stopped while rows were compared. Nothing was sent. The next run begins anew.")


def _account(report: Report, plan: Plan, state: State, resync: Resync) -> None:
    report.counts = plan.counts
    report.unchanged = plan.unchanged
    report.remembered = state.remembered
    if resync == "baseline":
        report.notes.append(
            f"Baseline: {plan.counts[Kind.ADDED] + plan.counts[Kind.CHANGED]} rows are recorded as delivered, "
            f"{plan.unchanged} were already, and nothing is sent. What is remembered of rows that have left the model "
            "stays, and is a removal in the next run."
        )
    elif plan.counts[Kind.ADDED] and not state.remembered:
        report.resend_reason = report.resend_reason or NOTHING_REMEMBERED
        report.notes.append(
            "Nothing was remembered for this sync, so every row is new. If another state, or another sync_id, "
            'remembered it until now, resync="baseline" would have recorded the rows as delivered instead.'
        )
    if plan.resent:
        report.notes.append(
            f"{plan.resent} unchanged rows go again because a row with the same identity changed; "
            "the row with the greatest key has the last word."
        )
    if plan.moved > plan.followed and resync != "baseline":
        report.notes.append(
            f"{plan.moved - plan.followed} rows have another identity than before: the new one was written, the old "
            'one was left alone at Iterable. A profile moves to a new address with mode="change_email".'
        )
    if plan.collapsed:
        report.collapsed = plan.collapsed
        report.notes.append(
            f"{plan.collapsed} rows name a record that another row names too; each record counts once, and the row "
            "with the greatest key speaks for it."
        )
    if plan.borne:
        report.notes.append(
            f"{len(plan.borne)} identities left with one row and are still borne by another: nothing was removed."
        )


def _account_for_fields(report: Report, plan: Plan, left_out: LeftOut | None) -> None:
    if left_out is None:
        return
    report.left_out = left_out.rows
    count = sum(1 for _ in plan.incomplete())
    if count:
        report.notes.append(
            f"{count} unchanged rows go again: Iterable has fields by now that it left out of them before "
            f"({', '.join(sorted(left_out.again))})."
        )


def _approve(report: Report, options: Options) -> None:
    approved, now = options.approved_plan, report.plan_hash or ""
    if approved is None or approved == now:
        return
    parts, parts_now = approved.split("-"), now.split("-")
    if len(parts) == len(parts_now):
        differing = [name for name, one, other in zip(PLAN_PARTS, parts, parts_now, strict=True) if one != other]
        about = _about(options)
        what = "The plan changed since it was approved; what differs: " + "; ".join(
            PLAN_PARTS[name] + (f" (now {about.get(name) or 'none'})" if name in SHOWN_PARTS else "")
            for name in differing
        )
    elif len(approved) == 32 and len(parts) == 1:
        what = "The approved plan has the hash of an earlier version, which says nothing of where it leads"
    else:
        what = "What was approved is not the hash of a plan"
    raise GuardTripped(
        f"{what}. Nothing was sent. Make a new plan with dry_run=True and have it approved (approved {approved!r}, now "
        f"{now})."
    )


def _deliver(sync: Sync, plan: Plan, state: State, send: Send, report: Report, options: Options) -> str:
    if plan.sends and options.prepare is not None:
        try:
            _prepare(options.prepare, options)
        except BaseException as error:
            if isinstance(error, Stopped) or not isinstance(error, Exception):
                report.put_off(plan.sends)
            raise
    if options.distrust is not None:
        options.distrust()
    if plan.doubted:
        state.commit(plan.doubted)
    left_out = options.left_out
    if left_out is not None and left_out.again:
        _void(plan, state)
        left_out.mark(left_out.again, Standing.RESENT)
        left_out.write()

    shared = Shared(plan)
    held = {left for left, _ in plan.trails.values()}

    def accepted(due: Patch) -> Set[str]:
        return {key for key, entry in due.items() if entry is None or not in_doubt(entry)}

    def remember(due: Patch, intents: Intents = NO_INTENTS) -> None:
        left = [plan.trails[key] for key in plan.trails.keys() & accepted(due)] if plan.trails else []
        if due or intents.begun or intents.ended:
            state.commit({**due, **dict(left)} if left else due, intents)
        held.difference_update(key for key, _ in left)

    def commit(patch: Patch, intents: Intents = NO_INTENTS) -> None:
        if left_out is not None:
            left_out.write()
        remember(shared.due(patch), intents)

    def screen(operation: Operation) -> Operation | Outcome:
        if operation.key in held:
            return Outcome(operation.key, operation.kind, Fate.SKIPPED, Reason.NOT_MOVED, "", operation)
        return sync.screen(operation)

    delivery = Delivery(
        send,
        commit,
        screen=screen,
        salvage=sync.salvage,
        part=None if left_out is None else left_out.part,
        doubts=doubts_of(sync, receipts=not plan.shared and not plan.trails),
        patience=options.patience,
        batch_size=options.batch_size,
        stop=options.stop,
    )
    progress = _Progress(plan.sends, options.clock)
    observe = options.observe or _look_away

    def account(told: Accepted | Outcome) -> None:
        if isinstance(told, Accepted):
            report.accept(told.operations)
            shared.accept(told.operations)
            plan.accept(told.operations)
            progress.more(len(told.operations))
        else:
            report.tell(told)
            progress.more(1)
            if told.fate is not Fate.ACCEPTED:
                remember(shared.refuse(told))
            elif told.operation is not None:
                shared.accept([told.operation])
                plan.accept([told.operation])
        observe(told)

    outcomes = delivery.run(waves(plan, sync.removals_first))
    try:
        for told in outcomes:
            account(told)
    except BaseException as error:
        with suppress(Exception):  # whatever comes of it, the first error is the one to tell
            outcomes.close()  # where it was not the delivery that was interrupted, this commits what was answered
            for told in delivery.rescued():
                account(told)
        if not isinstance(error, Exception):
            report.put_off(plan.sends - progress.done)
        raise
    else:
        if options.stopped:
            report.put_off(plan.sends - progress.done)
    finally:
        _note(report, delivery, shared, len(plan.borne - plan.borne_and_accepted))
    if left_out is not None:
        left_out.write()
    return delivery.halted


def _prepare(prepare: Callable[[], None], options: Options) -> None:
    try:
        prepare()
    except IterableSyncError:
        if options.stopped:  # and so were its requests
            raise Stopped("The task was stopped before the first row was sent. The next run begins anew.") from None
        raise


def _note(report: Report, delivery: Delivery, shared: Shared, waiting: int) -> None:
    if delivery.in_doubt:
        report.notes.append(
            f"{delivery.in_doubt} rows were sent and not answered, so Iterable may have them or not. They are "
            "remembered as in doubt: the next run sends them again, or removes them if they have left the model."
        )
    if waiting:
        report.notes.append(
            f"{waiting} identities left with one row and are borne by another that was not accepted: what is "
            "remembered of the row that left stays until it is."
        )
    report.collapsed += (surplus := shared.surplus)
    if surplus:
        report.notes.append(
            f"{surplus} rows share their identity with another row, so Iterable holds that many records fewer than "
            "the model has rows; the row with the greatest key was written last."
        )


def _void(plan: Plan, state: State) -> None:
    """Void the entries of rows that go again, so that those which a run cut short does not reach go with the next."""
    patch: Patch = {}
    for operation in plan.incomplete():
        if operation.remember is not None:
            patch[operation.key] = Entry(VOID, operation.remember.ref)
        if len(patch) >= VOID_AT_ONCE:
            state.commit(patch)
            patch = {}
    if patch:
        state.commit(patch)


def _conclude(report: Report, options: Options, halted: str) -> None:
    """Say how the run ended; the first that applies decides."""
    deferred, rejected = report.fates[Fate.DEFERRED], report.fates[Fate.REJECTED]
    deferred -= report.reasons[Reason.QUOTA] + report.reasons[Reason.MAX_ACTIONS]  # waiting is not a failure
    if halted:
        report.status = "halted"
        raise Halted(
            f"{halted} {report.fates[Fate.ACCEPTED]} rows were accepted and are remembered, {deferred} were not sent."
        )
    limit = options.max_rejected
    most = limit * report.read if isinstance(limit, float) else limit
    if rejected > most:
        report.status = "too_many_rejected"
        rest = f"Everything else was delivered: {report.fates[Fate.ACCEPTED]} rows accepted and remembered"
        if options.resync == "baseline":
            rest = "Everything else is recorded as delivered, unless the state is XCom"
        raise TooManyRejected(
            f"{rejected} of {report.read} rows were rejected ({_reasons(report)}); max_rejected={limit!r} allows "
            f"{math.floor(most)}. {rest}. Mend the rows or raise max_rejected; the rejected rows go again with the "
            "next run."
        )
    if deferred and options.stopped:
        report.status = "stopped"
        raise Stopped(
            f"The task was stopped: {report.fates[Fate.ACCEPTED]} rows were accepted and are remembered, {deferred} "
            "were not sent or not answered in time. A retry or the next run sends them."
        )
    if deferred:
        report.status = "unfinished"
        raise Unfinished(
            f"{deferred} rows were deferred ({_reasons(report)}); {report.fates[Fate.ACCEPTED]} were accepted and are "
            f"remembered. A retry or the next run sends what is left.{_later(report)}"
        )
    report.status = "succeeded"


def _later(report: Report) -> str:
    """Return what Iterable said about when to come back, as a sentence."""
    details = [outcome.detail for outcome in report.examples.get(Reason.RATE_LIMITED, ()) if outcome.detail]
    return f" {details[0]}." if details else ""


def _reasons(report: Report) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in report.reasons.most_common())


def plan_hash(plan: Plan, options: Options, remembered: int) -> str:
    """Digest what the plan would do, whatever the order of its rows, and where it leads: a digest for each part."""
    total = 0
    for operation in plan.operations():
        total += int.from_bytes(_operation_digest(operation), "big")
    for outcome in plan.invalid:
        total += int.from_bytes(hashlib.blake2b(f"{outcome.key}\0{outcome.reason}".encode()).digest()[:16], "big")
    about = _about(options)
    about["state"] = f"{about.get('state', '')} {remembered}"
    others = [about.get(name, "") for name in PLAN_PARTS if name != "rows"]
    digests = [hashlib.blake2b(text.encode(), digest_size=4).hexdigest() for text in others]
    return "-".join([f"{total % (1 << 128):032x}", *digests])


def _about(options: Options) -> dict[str, str]:
    """Return where the plan leads, and how; the kind of resync is one of the options."""
    more = options.about.get("options")
    return {**options.about, "options": f"resync={options.resync}" + (f", {more}" if more else "")}


def _operation_digest(operation: Operation) -> bytes:
    call = "" if operation.call is None else f"{operation.call.method} {operation.call.template}"
    digest = hashlib.blake2b(f"{operation.kind}\0{operation.key}\0{call}\0".encode(), digest_size=16)
    digest.update(operation.body)
    return digest.digest()


def forecast(plan: Plan, batch_size: int) -> list[str]:
    """Say how many requests the plan takes, and how long at Iterable's documented rates."""
    lines = []
    for call, operations in plan.calls.items():
        if operations:
            requests = math.ceil(operations / min(batch_size, call.max_items))
            minutes = requests / call.rate / 60 if call.rate else 0.0
            lines.append(
                f"{operations} rows through {call.method} {call.template}: about {requests} requests, "
                f"{minutes:.1f} minutes at Iterable's rate limit."
            )
    return lines or ["Nothing to send."]


@contextmanager
def _phase(report: Report, name: str, clock: Callable[[], float]) -> Iterator[None]:
    start = clock()
    try:
        yield
    finally:
        report.seconds[name] = report.seconds.get(name, 0.0) + clock() - start


class _Progress:
    """One log line every now and then: rows, rate, time left."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._total, self._clock = total, clock
        self._start = self._last = clock()
        self.done = self._next = 0

    def more(self, rows: int) -> None:
        self.done += rows
        if self.done < self._next:
            return
        self._next = self.done + 100
        now = self._clock()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            rate = self.done / (now - self._start)
            left = max(self._total - self.done, 0) / rate
            log.info("%d of %d rows settled, %.0f rows/s, about %.0f s left", self.done, self._total, rate, left)
