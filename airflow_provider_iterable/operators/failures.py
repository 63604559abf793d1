"""Failed runs: what is left of them for whoever looks, and errors that nobody foresaw, on their way to Airflow."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.engine.report import REPORT_KEY, Report
from airflow_provider_iterable.errors import CannotRetry, IterableSyncError
from airflow_provider_iterable.masking import logger, masked
from airflow_provider_iterable.operators.summary import log_summary
from airflow_provider_iterable.sql.errors import is_driver_error

log = logger(__name__)


def leave(task_instance: Any, report: Report, error: BaseException) -> None:
    """Say what became of a run that failed or was interrupted, in the log and in its report."""
    if report.status in ("running", "succeeded", "planned"):  # before the plan, or after the last batch
        report.status = "failed" if isinstance(error, Exception) else "stopped"
    report.error = str(error) if isinstance(error, IterableSyncError) else type(error).__name__
    log_summary(report)
    log_origin(error)
    leave_report(task_instance, report.to_dict())


def leave_report(task_instance: Any, account: dict[str, Any]) -> None:
    """Leave a report in XCom, for whoever looks at the run later."""
    try:
        task_instance.xcom_push(key=REPORT_KEY, value=account)
    except Exception as failed:  # as when Airflow has ended the task already
        log.warning("The report could not be left in XCom: %s", type(failed).__name__)


def for_airflow(error: IterableSyncError) -> IterableSyncError:
    """Return an error as it is raised to Airflow: of its own class and of the one that decides whether Airflow retries.

    Airflow hands it to ``on_failure_callback`` as ``context["exception"]``: whoever is called can tell by its class
    what happened, and has the run's report beside the message.
    """
    kind, ending = type(error), AirflowFailException if isinstance(error, CannotRetry) else AirflowException

    def reduced(raised: IterableSyncError) -> tuple[type[IterableSyncError], tuple[Any, ...], dict[str, Any]]:
        # The class below has no name of its own by which pickle finds it.
        return kind, (str(raised), raised.report), vars(raised)

    members: dict[str, Any] = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduced}
    both: type[IterableSyncError] = type(kind.__name__, (kind, ending), members)
    made = both(str(error), error.report)
    vars(made).update(vars(error))
    return made


def log_origin(error: BaseException) -> None:
    """Log at DEBUG where an error comes from, and what led to it: classes and places, for messages may hold values."""
    for one in _lineage(error):
        log.debug("%s, raised in:\n%s", type(one).__name__, "".join(traceback.format_tb(one.__traceback__)))


def unforeseen(error: Exception) -> Exception:
    """Return what is raised instead of an error that is not ours: the error itself, if it says nothing about people.

    What a driver says holds parameters, and parameters are people: of its errors there is the class. Where the error
    was raised is kept, what led to it is not.
    """
    lineage = list(_lineage(error))
    if not any(map(is_driver_error, lineage)) and all(masked(str(one)) == str(one) for one in lineage):
        return error
    words = "its message may hold values, and is not repeated" if is_driver_error(error) else masked(str(error))
    said: Exception = AirflowException(f"{type(error).__name__}: {words}")
    if isinstance(error, AirflowException):  # whether Airflow tries again depends on the class
        said = type(error)(words)
    return said.with_traceback(error.__traceback__)


def _lineage(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that its traceback shows along with it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
