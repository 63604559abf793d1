"""Rows because of which nothing of a plan is sent: names each of them, and ends the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Outcome
from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.masking import logger

log = logger(__name__)

LOGGED, NAMED = 1000, 20
"""Rows that the log names, and those that the error does."""


@dataclass(frozen=True)
class Refused:
    """Rows of a plan that are wrong beside one another, or for all that is remembered.

    :param outcomes: reads them, each rejected with a reason
    :param what: what the rows ask for, in the plural
    :param remedy: what to do, as sentences
    """

    outcomes: Callable[[], Iterator[Outcome]]
    what: str
    remedy: str

    def end(self, report: Report, planned: int, observe: Callable[[Outcome], None]) -> NoReturn:
        """Name the rows in report, log and audit, and end the run.

        :param planned: operations that would have been sent
        :raises ModelError: always; nothing was sent
        """
        counts, named, total = Counter[Reason](), list[str](), 0
        for outcome in self.outcomes():
            total += 1
            report.add(outcome)
            observe(outcome)
            assert outcome.reason is not None
            counts[outcome.reason] += 1
            shown = report.shown(outcome)
            if total <= NAMED:
                named.append(f"{shown.key} {outcome.reason}")
            if total <= LOGGED:
                detail = f": {shown.detail}" if shown.detail else ""
                log.error("Sync %s: key %s: %s%s", report.name, shown.key, outcome.reason, detail)
        if total > LOGGED:
            log.error("Sync %s: %d more rows; the audit tables have all of them.", report.name, total - LOGGED)
        kinds = ", ".join(f"{reason} {rows}" for reason, rows in counts.most_common())
        more = f" and {total - NAMED} more" if total > NAMED else ""
        raise ModelError(
            f"{total} of {planned} {self.what} cannot be made beside one another ({kinds}). Nothing was sent. "
            f"Keys: {', '.join(named)}{more}. {self.remedy}"
        )
