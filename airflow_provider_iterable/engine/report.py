"""What a run tells afterwards: counts, reasons and seconds; never a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.engine.vocabulary import Fate, Kind, Operation, Outcome, Reason
from airflow_provider_iterable.masking import masked_all, masked_key

_PARTIAL = attrgetter("partial")
EXAMPLES = 20
"""Outcomes kept per reason, to name rows in the log."""


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
    reasons: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, list[Outcome]] = field(default_factory=dict)
    requests: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    plan_hash: str | None = None
    remembered: int = 0
    notes: list[str] = field(default_factory=list)
    """Sentences for the log: what a reader might wonder about."""
    partition: str | None = None
    identifying: Collection[int] = ()
    """Which parts of the key are identifiers of people."""

    @property
    def name(self) -> str:
        """What the run is about, in one word: the sync, or a partition of it."""
        return self.sync_id if self.partition is None else f"{self.sync_id}[{self.partition}]"

    @property
    def read(self) -> int:
        """Rows the model gave."""
        counts = self.counts
        return counts[Kind.ADDED] + counts[Kind.CHANGED] + self.unchanged + counts[Kind.INVALID]

    def accept(self, operations: Sequence[Operation]) -> None:
        """Count operations that were accepted without a word."""
        self.fates[Fate.ACCEPTED] += len(operations)
        for operation in filter(_PARTIAL, operations):
            self.partial += 1
            self._explain(
                Outcome(operation.key, operation.kind, Fate.ACCEPTED, Reason.PARTIAL, operation.partial, operation)
            )

    def tell(self, outcome: Outcome) -> None:
        """Count one outcome and keep it as an example of its reason, without its body, under its masked key."""
        self.fates[outcome.fate] += 1
        if outcome.reason is Reason.FIELDS_LEFT_OUT:
            self._left_out(outcome)
        if outcome.reason is not None:
            self._explain(outcome)

    def _left_out(self, outcome: Outcome) -> None:
        self.partial += 1
        if outcome.operation is not None and outcome.operation.partial:
            detail = outcome.operation.partial
            self._explain(Outcome(outcome.key, outcome.kind, outcome.fate, Reason.PARTIAL, detail, outcome.operation))

    def put_off(self, rows: int) -> None:
        """Count rows that were not reached before the run was stopped."""
        if rows > 0:
            self.fates[Fate.DEFERRED] += rows
            self.reasons[Reason.STOPPED] += rows

    def _explain(self, outcome: Outcome) -> None:
        assert outcome.reason is not None
        self.reasons[outcome.reason] += 1
        examples = self.examples.setdefault(outcome.reason, [])
        if len(examples) < EXAMPLES:
            cut = outcome.reason is Reason.KEY_TOO_LONG  # in the midst of a name, perhaps
            key = masked_key(outcome.key, outcome.called, (0,) if cut else self.identifying) if outcome.key else ""
            examples.append(Outcome(key, outcome.kind, outcome.fate, outcome.reason, outcome.detail))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as the operator returns it: small, JSON, no row data.

        What it is about is told as it is; whatever else is in it, now or later, is masked.
        """
        about = {
            "sync_id": self.sync_id,
            "partition": self.partition,
            "run_id": self.run_id,
            "destination": self.destination,
        }
        return {**about, **masked_all(self._account())}

    def _account(self) -> dict[str, Any]:
        total = sum(self.seconds.values())
        return {
            "status": self.status,
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
            "skipped": self.fates[Fate.SKIPPED],
            "deferred": self.fates[Fate.DEFERRED],
            "partial": self.partial,
            "left_out": dict(sorted(self.left_out.items())),
            "collapsed": self.collapsed,
            "reasons": {str(reason): n for reason, n in sorted(self.reasons.items())},
            "requests": self.requests,
            "seconds": {phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
            "rows_per_second": round(self.read / total) if total else 0,
            "plan_hash": self.plan_hash,
        }
