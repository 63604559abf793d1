"""The report of a run: counts, reasons, seconds and notes; never a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_iterable.engine import churn
from airflow_provider_iterable.engine.forecast import Forecast, Horizon
from airflow_provider_iterable.engine.left_out import LeftOut
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.engine.samples import Samples
from airflow_provider_iterable.engine.vocabulary import Operation, Outcome
from airflow_provider_iterable.errors import DeadlineMissed
from airflow_provider_iterable.masking import logger, masked_all, masked_key

log = logger(__name__)

_PARTIAL = attrgetter("partial")
TEXT, NOTES = 2_000, 20
"""The most characters of a text in a report, and the most notes: it is handed from one Airflow process to another."""
REPORT_KEY = "iterable_report"
"""XCom key under which every run leaves its report, where the sync-runs page finds it."""


@dataclass
class Report:
    """The account of one run.

    ``read = added + changed + unchanged + invalid``; every added, changed or removed row that makes a call ends in
    exactly one of ``accepted``, ``rejected``, ``skipped`` and ``deferred``; ``rejected`` includes ``invalid``.
    """

    sync_id: str
    run_id: str
    destination: dict[str, Any]
    status: str = "running"
    resync: Resync = "changes"
    dry_run: bool = False
    resend_reason: str | None = None
    counts: Counter[Kind] = field(default_factory=Counter)
    unchanged: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)
    partial: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Fields that Iterable does not have, and how many rows of this run it accepted without them."""
    collapsed: int = 0
    rejected_removals: int = 0
    """How many of those that were rejected are no rows of the model any more."""
    explained: Counter[tuple[Fate, Reason]] = field(default_factory=Counter)
    """How many rows of each fate have each reason."""
    rejected_before: Counter[Reason] | None = None
    """How many of the rejected rows were rejected when they were last tried, too; ``None``: the state does not know."""
    samples: dict[Reason, Samples] = field(default_factory=dict)
    failure: str = ""
    """A request to which no usable answer came, as a sentence."""
    forgets: bool = False
    """Whether the state remembers nothing of a run that fails."""
    requests: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    plan_hash: str | None = None
    remembered: int = 0
    notes: list[str] = field(default_factory=list)
    """Sentences for the log: what a reader might wonder about."""
    changed_fields: Counter[str] = field(default_factory=Counter)
    """Where most remembered rows changed: in how many of those that were noted each field differs."""
    forecast: list[dict[str, Any]] = field(default_factory=list)
    """For each endpoint: what was expected of it before anything was sent."""
    decisive: frozenset[str] = frozenset()
    """The endpoints that decide how long the run takes."""
    new_fields: dict[str, str] = field(default_factory=dict)
    """Fields that the last run did not send, and the types that Iterable gives those that it does not have."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Of a dry run: what is wrong with rows that would be refused for their values, and with how many."""
    plan: dict[str, Any] | None = None
    """Of a dry run: its operations, and the fields that they carry."""
    plan_text: str | None = None
    """Of a dry run: all of it, for whoever approves it."""
    sample: str = ""
    """What is to be noted of some rows that are sent; never shown."""
    partition: str | None = None
    error: str | None = None
    """Why the run failed."""
    state: dict[str, Any] = field(default_factory=dict)
    """Where the sync remembers, so that whoever looks at the run finds its audit."""
    identifying: Collection[int] = ()
    """Which parts of the key are identifiers of people."""
    policy: dict[str, Any] = field(default_factory=dict)
    """What the sync does with a row, by what is remembered of it."""

    @property
    def name(self) -> str:
        """What the run is about, in short: the sync, or a partition of it."""
        return self.sync_id if self.partition is None else f"{self.sync_id}[{self.partition}]"

    @property
    def host(self) -> str:
        """The host of Iterable, with its port if it has one."""
        host = str(self.destination.get("host") or "")
        return urlsplit(host).netloc or host or "Iterable"

    @property
    def reasons(self) -> Counter[Reason]:
        """How many rows have each reason."""
        found = Counter[Reason]()
        for (_, reason), rows in self.explained.items():
            found[reason] += rows
        return found

    def of_fate(self, fate: Fate) -> list[tuple[Reason, int]]:
        """Return the reasons of the rows of one fate, the most frequent first."""
        return [(reason, rows) for (one, reason), rows in self.explained.most_common() if one is fate]

    @property
    def read(self) -> int:
        """Rows the model gave."""
        counts = self.counts
        return counts[Kind.ADDED] + counts[Kind.CHANGED] + self.unchanged + counts[Kind.INVALID]

    def accept(self, operations: Sequence[Operation]) -> None:
        """Count operations that were accepted and need no outcome of their own."""
        self.fates[Fate.ACCEPTED] += len(operations)
        for operation in filter(_PARTIAL, operations):
            self.partial += 1
            self._explain(
                Outcome(operation.key, operation.kind, Fate.ACCEPTED, Reason.PARTIAL, operation.partial, operation)
            )

    def add(self, outcome: Outcome) -> None:
        """Count one outcome; it may be a sample of its reason, without its body, under its masked key."""
        self.fates[outcome.fate] += 1
        if outcome.reason is Reason.FIELDS_LEFT_OUT:
            self._left_out(outcome)
        if outcome.reason is not None:
            self._explain(outcome)
        if outcome.fate is Fate.REJECTED and outcome.kind is Kind.REMOVED:
            self.rejected_removals += 1

    def _left_out(self, outcome: Outcome) -> None:
        self.partial += 1
        if outcome.operation is not None and outcome.operation.partial:
            detail = outcome.operation.partial
            self._explain(Outcome(outcome.key, outcome.kind, outcome.fate, Reason.PARTIAL, detail, outcome.operation))

    def defer(self, rows: int) -> None:
        """Count rows that were not reached before the run was stopped."""
        if rows > 0:
            self.fates[Fate.DEFERRED] += rows
            self.explained[Fate.DEFERRED, Reason.STOPPED] += rows

    def _explain(self, outcome: Outcome) -> None:
        assert outcome.reason is not None
        self.explained[outcome.fate, outcome.reason] += 1
        samples = self.samples.get(outcome.reason)
        if samples is None:
            samples = self.samples[outcome.reason] = Samples()
        samples.add(outcome, self.shown)

    def shown(self, outcome: Outcome) -> Outcome:
        """Return an outcome without its body, under its masked key."""
        cut = outcome.reason is Reason.KEY_TOO_LONG  # in the midst of a name, perhaps
        key = masked_key(outcome.key, outcome.called, (0,) if cut else self.identifying) if outcome.key else ""
        return Outcome(key, outcome.kind, outcome.fate, outcome.reason, outcome.detail)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as the operator returns it: small, JSON, no row data.

        All of it is masked but what the run is about.
        """
        about = {
            "sync_id": self.sync_id,
            "partition": self.partition,
            "run_id": self.run_id,
            "destination": self.destination,
            "state": self.state,
            "policy": self.policy,
        }
        return {**about, **masked_all(self._account())}

    def _account(self) -> dict[str, Any]:
        total = sum(self.seconds.values())
        return {
            "status": self.status,
            "error": self.error and self.error[:TEXT],
            "resync": self.resync,
            "dry_run": self.dry_run,
            "resend_reason": self.resend_reason,
            "read": self.read,
            "added": self.counts[Kind.ADDED],
            "changed": self.counts[Kind.CHANGED],
            "removed": self.counts[Kind.REMOVED],
            "unchanged": self.unchanged,
            "invalid": self.counts[Kind.INVALID],
            "accepted": self.fates[Fate.ACCEPTED],
            "rejected": self.fates[Fate.REJECTED],
            "rejected_before": None if self.rejected_before is None else self.rejected_before.total(),
            "skipped": self.fates[Fate.SKIPPED],
            "deferred": self.fates[Fate.DEFERRED],
            "partial": self.partial,
            "left_out": dict(sorted(self.left_out.items())),
            "collapsed": self.collapsed,
            "new_fields": self.new_fields,
            "changed_fields": dict(self.changed_fields.most_common()),
            "reasons": {str(reason): n for reason, n in sorted(self.reasons.items())},
            "forecast": self.forecast,
            "requests": self.requests,
            "seconds": {phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
            "rows_per_second": round(self.read / total) if total else 0,
            "plan_hash": self.plan_hash,
            "notes": [note[:TEXT] for note in self.notes[:NOTES]],
            "plan": self.plan,
            "plan_text": self.plan_text,
        }


NOTHING_REMEMBERED = "nothing was remembered for this sync, so every row is new"


def report_plan(report: Report, plan: Plan, remembered: int, resync: Resync) -> None:
    """Enter what a run will do, with notes on what may surprise.

    :param remembered: entries there were before this run
    """
    report.counts = plan.counts
    report.unchanged = plan.unchanged
    report.remembered = remembered
    if resync == "baseline":
        report.notes.append(
            f"Baseline: {plan.counts[Kind.ADDED] + plan.counts[Kind.CHANGED]} rows are recorded as delivered, "
            f"{plan.unchanged} were already, and nothing is sent. What is remembered of rows that have left the model "
            "stays, and is a removal in the next run."
        )
    elif plan.counts[Kind.ADDED] and not remembered:
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
            f"with the greatest {'rank' if plan.plural else 'key'} speaks for it."
        )
    if plan.borne:
        report.notes.append(
            f"{len(plan.borne)} identities left with one row and are still borne by another: nothing was removed."
        )


def report_churn(report: Report, plan: Plan, remembered: int, sample: churn.Sample) -> str:
    """Enter which fields differ, if most remembered rows changed and nothing else says why; return the sentences."""
    if report.resync != "changes" or report.resend_reason or not churn.is_churn(plan, remembered):
        return ""
    compared, report.changed_fields = churn.differing(plan, sample)
    report.notes.append(churn.explanation(plan, remembered, compared, report.changed_fields))
    return report.notes[-1]


def report_fields(report: Report, plan: Plan, left_out: LeftOut) -> None:
    """Enter which fields are left out, and how many rows go again because of fields that were."""
    report.left_out = left_out.rows
    count = sum(1 for _ in plan.incomplete())
    if count:
        report.notes.append(
            f"{count} unchanged rows go again: Iterable has fields by now that it left out of them before "
            f"({', '.join(sorted(left_out.again))})."
        )


def report_forecast(report: Report, expected: Forecast, horizon: Horizon) -> None:
    """Enter and log how long the run takes, and look whether that is in time.

    :raises DeadlineMissed: it is not, and nothing is to be sent then
    """
    report.forecast, report.decisive = expected.to_list(), expected.decisive
    if report.dry_run:
        report.notes.extend(expected.sentences())
    elif expected.lines:
        log.info("%s", "\n  ".join([f"Sync {report.name}:", *expected.sentences()]))
    late = expected.lateness(horizon.deadline)
    if late and horizon.action == "fail":
        raise DeadlineMissed(f'{late} Nothing was sent. {IN_TIME} deadline_action="warn" sends them all the same.')
    if late:
        report.notes.append(f"{late} {IN_TIME}")
        log.warning("Sync %s: %s", report.name, report.notes[-1])


IN_TIME = (
    "What makes it faster: a greater rate_share in the connection, or rates if Iterable grants others; a greater "
    "max_in_flight where answers are slow; partitions where the worker or the state is slower than Iterable."
)


def report_delivery(report: Report, in_doubt: int, waiting: int, surplus: int) -> None:
    """Enter what is left to be done, or to be known, after a delivery.

    :param in_doubt: rows that were sent and not answered
    :param waiting: identities that left with one row and are borne by another that was not accepted
    :param surplus: accepted rows beyond the first of each identity
    """
    report.collapsed += surplus
    if in_doubt:
        report.notes.append(
            f"{in_doubt} rows were sent and not answered, so Iterable may have them or not. They are "
            "remembered as in doubt: the next run sends them again, or removes them if they have left the model."
        )
    if waiting:
        report.notes.append(
            f"{waiting} identities left with one row and are borne by another that was not accepted: what is "
            "remembered of the row that left stays until it is."
        )
    if surplus:
        report.notes.append(
            f"{surplus} rows share their identity with another row, so Iterable holds that many records fewer than "
            "the model has rows; the row with the greatest key was written last."
        )
