"""Everything the provider raises, grouped by what to do about it; knows no Airflow.

No message holds an email address: each is masked when the error is made.

::

    IterableSyncError
    ├── CannotRetry               a retry would end the same way
    │   ├── ConfigurationError    connection, parameters or mapping do not make sense
    │   ├── ModelError            the model's query, rows or columns do not fit the sync
    │   ├── DestinationChanged    the state belongs to another destination
    │   ├── PartitionsChanged     the state belongs to other partitions of the model
    │   ├── GuardTripped          nothing was sent, because too much would have been removed
    │   ├── DeadlineMissed        nothing was sent, because it would not have been done in time
    │   ├── StateTooLarge         the state does not fit its store; nothing was sent
    │   ├── LeaseLost             another run has taken the sync over; this one writes and sends nothing more
    │   ├── Halted                Iterable refused in a way that no further request could mend
    │   ├── RequestRefused        Iterable refused a request of the DAG author's own
    │   ├── CanaryFailed          the few rows that went first did not pass; the others were not sent
    │   └── TooManyRejected       more rows were rejected than the sync tolerates
    └── WorthRetrying             a retry sends what is left
        ├── LeaseHeld             another run of the sync is under way; nothing was read or sent
        ├── ModelUnavailable      the model could not be read; nothing was sent
        ├── Unfinished            rows were deferred
        ├── RequestUnanswered     a request of the DAG author's own got no usable answer
        ├── Stopped               the task was stopped from outside
        └── StateUnavailable      the state could not be read or written; accepted batches in flight go again
"""

from __future__ import annotations

from typing import Any

from airflow_provider_iterable.masking import masked

__all__ = [
    "CannotRetry",
    "ConfigurationError",
    "IterableSyncError",
    "RequestRefused",
    "RequestUnanswered",
    "WorthRetrying",
]


class IterableSyncError(Exception):
    """Base of all errors of this package; ``report`` holds the run's report when there is one."""

    def __init__(self, message: str, report: dict[str, Any] | None = None) -> None:
        super().__init__(masked(message))
        self.report = report


class CannotRetry(IterableSyncError):
    """A retry would end the same way."""


class ConfigurationError(CannotRetry):
    """Connection, parameters or mapping do not make sense."""


class ModelError(CannotRetry):
    """The model's query, rows or columns do not fit the sync."""


class DestinationChanged(CannotRetry):
    """The state belongs to another destination."""


class PartitionsChanged(CannotRetry):
    """The state belongs to other partitions of the model."""


class GuardTripped(CannotRetry):
    """Nothing was sent, because too much would have been removed."""


class DeadlineMissed(CannotRetry):
    """Nothing was sent, because it would not have been done in time."""


class StateTooLarge(CannotRetry):
    """The state does not fit its store; nothing was sent."""


class LeaseLost(CannotRetry):
    """Another run has taken the sync over; this one writes and sends nothing more."""


class Halted(CannotRetry):
    """Iterable refused in a way that no further request could mend."""


class RequestRefused(CannotRetry):
    """Iterable refused a request of the DAG author's own; ``status`` and ``code`` are Iterable's."""

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class CanaryFailed(CannotRetry):
    """The few rows that went first did not pass; the others were not sent."""


class TooManyRejected(CannotRetry):
    """More rows were rejected than the sync tolerates."""


class WorthRetrying(IterableSyncError):
    """A retry sends what is left."""

    retry_after: float | None = None
    """Seconds before which a retry would be in vain, as Iterable or the state says; ``None``: nobody says."""


class LeaseHeld(WorthRetrying):
    """Another run of the sync is under way; nothing was read or sent."""


class ModelUnavailable(WorthRetrying):
    """The model could not be read; nothing was sent."""


class Unfinished(WorthRetrying):
    """Rows were deferred."""


class RequestUnanswered(WorthRetrying):
    """A request of the DAG author's own got no usable answer; ``status`` is 0 where there was none at all."""

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Stopped(WorthRetrying):
    """The task was stopped from outside; what was accepted is remembered."""


class StateUnavailable(WorthRetrying):
    """The state could not be read or written; accepted batches in flight go again."""
