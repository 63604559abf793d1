"""The canary: a few rows of each wave go alone and are judged before the others follow; sends nothing."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.samples import order
from airflow_provider_iterable.engine.vocabulary import Accepted, Operation, Outcome
from airflow_provider_iterable.errors import CanaryFailed

WAITING = (Reason.QUOTA, Reason.MAX_ACTIONS)
NOBODY = (Reason.UNKNOWN_USER, Reason.FORGOTTEN_USER)
"""Why rows are skipped that found nobody to write to."""


SHOWN = 20
"""Fields named in one sentence."""


def _none() -> Collection[str]:
    return ()


@dataclass(frozen=True)
class Canary:
    """How many rows of each wave go first, and what becomes of them at most if the others are to follow.

    :param rows: a number from 1, or a float: a share of the rows that the wave sends
    :param max_rejected: most of them that may be rejected, or accepted without fields whose values have the wrong type;
        a float is a share of them
    :param unapproved: returns the fields that Iterable has made since the run began and that nobody approved
    :param waits: whether an operation is not sent in this run
    """

    rows: int | float
    max_rejected: int | float = 0.1
    unapproved: Callable[[], Collection[str]] = _none
    waits: Callable[[Operation], bool] = lambda operation: False

    def size(self, rows: int) -> int:
        """Return how many of a wave's rows go first."""
        return math.ceil(self.rows * rows) if isinstance(self.rows, float) else min(self.rows, rows)

    def allowed(self, rows: int) -> int:
        """Return how many of the rows that go first may be rejected."""
        return int(self.max_rejected * rows if isinstance(self.max_rejected, float) else self.max_rejected)

    def choose(self, operations: Iterable[tuple[int, Operation]], given: Sequence[int] = ()) -> list[int]:
        """Return the numbers of the operations that go first, those given foremost, then those of the smallest hashes.

        So a retry takes the same rows again, but for those that were accepted.
        """
        numbers, places = array("q"), array("Q")
        for number, operation in operations:
            if operation.call is not None and not self.waits(operation):
                numbers.append(number)
                places.append(order(operation.key))
        size = self.size(len(numbers))
        foremost = list(given[:size])
        others = nsmallest(size, zip(places, numbers, strict=True))
        fill = (number for _, number in others if number not in foremost)
        return foremost + sorted(number for number, _ in zip(fill, range(size - len(foremost)), strict=False))


@dataclass
class _Tally:
    """What became of the rows that went first in a wave."""

    size: int
    accepted: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    """Rejected, or accepted without fields whose values have the wrong type."""
    left_out: set[str] = field(default_factory=set)
    nobody: Counter[Reason] = field(default_factory=Counter)
    deferred: int = 0
    kinds: set[Kind] = field(default_factory=set)

    def add(self, settled: Outcome | Accepted) -> None:
        if isinstance(settled, Accepted):
            self.accepted += len(settled.operations)
            self.kinds.update(operation.kind for operation in settled.operations)
            self.refused[Reason.PARTIAL] += sum(1 for operation in settled.operations if operation.partial)
            return
        self.kinds.add(settled.kind)
        reason = settled.reason or Reason.REFUSED
        if settled.fate is Fate.REJECTED:
            self.refused[reason] += 1
        elif settled.fate is Fate.ACCEPTED:
            self.accepted += 1
            if reason is Reason.FIELDS_LEFT_OUT:
                self.left_out.add(settled.detail)
            if settled.operation is not None and settled.operation.partial:
                self.refused[Reason.PARTIAL] += 1
        elif reason in NOBODY:
            self.nobody[reason] += 1
        elif settled.fate is Fate.DEFERRED and reason not in WAITING:
            self.deferred += 1


class Trials:
    """The trials of one run: lets a few rows of each wave go, and ends the delivery if they do not pass.

    :param first_run: whether nothing is remembered of the sync
    :param left: returns how many operations are still to be settled
    :param end: ends the delivery: what is still to come is put off
    :param doomed: why the run would fail in the end whatever becomes of its rows, as a sentence
    """

    def __init__(
        self, canary: Canary, first_run: bool, left: Callable[[], int], end: Callable[[], None], doomed: str = ""
    ) -> None:
        self._canary, self._first_run, self._left, self._end = canary, first_run, left, end
        self._doomed = doomed
        self._tally: _Tally | None = None
        self._asked = False
        self.verdict = ""
        """Why the others do not follow, as sentences; empty as long as nothing speaks against it."""
        self.choose = canary.choose

    def settle(self, settled: Outcome | Accepted) -> None:
        """Take notice of what became of rows; only those of a trial matter."""
        if self._tally is not None:
            self._tally.add(settled)

    def judged(self, size: int, *parts: Iterable[Operation]) -> Iterator[Iterable[Operation]]:
        """Yield the rows that go first, each part as a wave of its own; judge them once they are settled."""
        tally = self._tally = _Tally(size)
        for number, part in enumerate(parts, 1):
            yield part
            if size and not self.verdict and self._left() > 0:
                self._judge(tally, last=number == len(parts))
        self._tally = None

    def _judge(self, tally: _Tally, *, last: bool) -> None:
        faults = [*filter(None, [self._doomed]), *self._refusals(tally), *(self._at_last(tally) if last else ())]
        if faults:
            self.verdict = " ".join(faults)
            self._end()
        elif last and tally.deferred == tally.size:  # so nothing is known of the others
            self._end()

    def _refusals(self, tally: _Tally) -> Iterator[str]:
        refused, most = tally.refused.total(), self._canary.allowed(tally.size)
        if refused > most:
            reasons = ", ".join(f"{reason} {rows}" for reason, rows in tally.refused.most_common() if rows)
            yield (
                f"Of the {tally.size} rows that went first, {refused} were rejected or lost fields ({reasons}); "
                f"canary_max_rejected={self._canary.max_rejected!r} allows {most}."
            )
        if tally.left_out:
            yield (
                "Iterable left out what it does not have of rows that went first "
                f"({_few(sorted(tally.left_out), '; ')}). Have it made there, or take it out of fields."
            )

    def _at_last(self, tally: _Tally) -> Iterator[str]:
        # Rows about people whom Iterable never had come again in every run; those it had should be there.
        if tally.nobody.total() == tally.size and (self._first_run or Kind.ADDED not in tally.kinds):
            reasons = ", ".join(f"{reason} {rows}" for reason, rows in tally.nobody.most_common())
            yield (
                f"Not one of the {tally.size} rows that went first is about a user at Iterable ({reasons}). Is it the "
                "right project, and the right identifier?"
            )
        if not self._asked and tally.accepted and Kind.REMOVED not in tally.kinds:
            self._asked = True
            if made := self._canary.unapproved():
                yield (
                    f"By the rows that went first Iterable has fields that nobody approved, for ever: "
                    f"{_few(made)}. If they are wanted, clear the task, for fields that are there stop nothing."
                )


def _few(names: Collection[str], between: str = ", ") -> str:
    more = f"{between}and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return between.join(list(names)[:SHOWN]) + more


def preview(canary: Canary, plan: Plan) -> str:
    """Say what the canary of a plan would be."""
    rows, removals = plan.sends - plan.deletes, plan.deletes
    parts = [f"{canary.size(rows)} of {rows} rows"] * bool(rows)
    parts += [f"{canary.size(removals)} of {removals} removals"] * bool(removals)
    if not parts:
        return "Canary: nothing would go."
    return (
        f"Canary: {' and '.join(parts)} would go alone, and the others of each once no more of them are rejected than "
        f"canary_max_rejected={canary.max_rejected!r} allows, and Iterable has made no fields that nobody approved."
    )


def conclude_trials(report: Report, verdict: str) -> None:
    """Enter that the canary ended the run, and raise, if it did.

    :raises CanaryFailed: the rows that went first did not pass
    """
    unsent = report.reasons[Reason.CANARY]
    if verdict and unsent:
        report.status = "canary_failed"
        raise CanaryFailed(
            f"The canary stopped the run. {verdict} {report.fates[Fate.ACCEPTED]} rows were accepted and are "
            f"remembered, unless the state is XCom; {unsent} were not sent. Look at the rows that the log names, mend "
            "the model, the mapping or the connection, and clear the task: what was not accepted of the rows that went "
            "first goes first again. If the others are to go all the same, raise canary_max_rejected, or set "
            "canary=None for one run."
        )
