"""What would be refused of a plan, as far as the types of Iterable's fields tell; sends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Outcome
from airflow_provider_iterable.errors import IterableSyncError

MOST_DETAILS, SHOWN_DETAILS, LONGEST_DETAIL = 1000, 5, 300
"""Different faults that are counted, the most frequent of them that are told, and the characters of each."""


def predict(sync: Sync, plan: Plan, report: Report, learn: Callable[[], None]) -> None:
    """Enter which rows would be rejected or skipped for their values.

    :param learn: has the sync know the types of Iterable's fields
    """
    try:
        learn()
    except IterableSyncError as error:
        report.notes.append(f"Which rows Iterable would refuse for their values is not known. {error}")
        return
    refused, details = 0, Counter[str]()
    for operation in plan.operations():
        if operation.call is not None and isinstance(outcome := sync.screen(operation), Outcome):
            report.add(outcome)
            refused += 1
            detail = outcome.detail[:LONGEST_DETAIL]
            if detail in details or len(details) < MOST_DETAILS:
                details[detail] += 1
    report.refusals = Counter(dict(details.most_common(SHOWN_DETAILS)))
    if refused:
        report.notes.append(
            f"Of the rows to be sent, {refused} would be rejected or skipped, for their values do not fit the types of "
            "Iterable's fields: see the reasons."
        )
