"""When Airflow is to try a failed task again: what no retry mends, and what has a time of its own.

Needs Airflow 3.3 (``airflow.sdk.RetryPolicy``), and 3.4 to wait without spending a retry. Before 3.3 the class can be
imported and made, and nobody asks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_iterable.errors import CannotRetry, IterableSyncError, WorthRetrying

if TYPE_CHECKING:
    from airflow.sdk import RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk import RetryDecision, RetryPolicy
    except ImportError:
        RetryDecision, RetryPolicy = None, object

__all__ = ["IterableRetryPolicy"]

SUPPORTED = RetryDecision is not None
"""Whether this Airflow asks retry policies."""
RESCHEDULES = hasattr(RetryDecision, "reschedule")
"""Whether it can run a task again later without using a retry (Airflow 3.4)."""
PATIENCE = timedelta(days=1)
"""How long a try waits in that way, counted from the first time; after that waiting uses retries."""


class IterableRetryPolicy(RetryPolicy):
    """Decides by what Iterable, or the state, said whether and when a failed task is tried again.

    - What a retry cannot mend fails at once: a wrong API key, a wrong project, a connection or parameters that make no
      sense (:class:`~airflow_provider_iterable.errors.CannotRetry`).
    - A retry does not begin before the time that Iterable names (``Retry-After``, ``rateLimitReset``), nor before the
      lease ends that another run of the sync has. Airflow 3.4 reschedules the task for that, which uses no retry, for a
      day at most; Airflow 3.3 retries it.
    - Everything else, and on 3.3 that too where the task's own delay is longer, goes by ``retries`` and
      ``retry_delay``.

    It never adds retries to those that ``retries`` allows, and without any nothing is tried again. Operators of this
    package have one unless they are given another; for ``@task`` functions that use
    :class:`~airflow_provider_iterable.hooks.iterable.IterableHook`::

        @task(retries=3, retry_policy=IterableRetryPolicy())

    Before Airflow 3.3 tasks do not take ``retry_policy``; ``default_args={"retry_policy": IterableRetryPolicy()}`` of a
    DAG works on every version.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Mapping[str, Any] | None = None,
    ) -> RetryDecision:
        """Return what Airflow is to do after a failure.

        :param exception: why the task failed
        :param try_number: the try that failed, from 1
        :param max_tries: not used; Airflow itself ends retries
        :param context: the task's context, which knows its own delay
        """
        error = _ours(exception)
        if isinstance(error, CannotRetry):
            return RetryDecision.fail(reason=f"{type(error).__name__}: {error}")
        wait = error.retry_after if isinstance(error, WorthRetrying) else None
        own = _own_delay(context, try_number)
        reschedules = RESCHEDULES and context is not None and getattr(context.get("task"), "retries", 0) > 0
        if wait is None or (wait <= own and not reschedules):
            return RetryDecision.default()
        seconds = math.ceil(max(wait, own))
        delay, reason = timedelta(seconds=seconds), f"{type(error).__name__}: no sooner than in {seconds} s"
        if reschedules:
            later: RetryDecision = cast("Any", RetryDecision).reschedule(
                delay, reschedule_timeout=PATIENCE, reason=reason
            )
            return later
        return RetryDecision.retry(delay=delay, reason=reason)

    def serialize(self) -> dict[str, Any]:
        """Return nothing: there is nothing to be set."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> IterableRetryPolicy:
        """Make one."""
        return cls()


def _ours(error: BaseException | None) -> IterableSyncError | None:
    """Return the error of this package that an exception is, or was made of.

    Operators translate theirs with ``from None``. What an exception has for another context happened before it, and
    may have nothing to do with it.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, IterableSyncError):
            return error
        seen.add(id(error))
        error = error.__cause__ or (error.__context__ if error.__suppress_context__ else None)
    return None


def _own_delay(context: Mapping[str, Any] | None, try_number: int) -> float:
    """Return the seconds after which the task's own settings have it tried again, without their jitter."""
    task = context.get("task") if context is not None else None
    delay = getattr(task, "retry_delay", None)
    if not isinstance(delay, timedelta):
        return 0.0
    factor, most = getattr(task, "retry_exponential_backoff", 0), getattr(task, "max_retry_delay", None)
    seconds = delay.total_seconds()
    if factor:
        try:
            seconds *= (2.0 if factor is True else float(factor)) ** (try_number - 1)
        except OverflowError:
            seconds = math.inf
    return min(seconds, most.total_seconds()) if isinstance(most, timedelta) else seconds
