"""The tries of one batch: how often, for how long, and their result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tenacity

from airflow_provider_iterable.engine.failed import RATE_LIMITED, Failure
from airflow_provider_iterable.engine.vocabulary import Again, Batch, Call, Reply, Send, Verdict

REQUEST_TIMEOUT = 408
SERVER_ERROR = 500


@dataclass(frozen=True)
class Patience:
    """How long delivery tries.

    :param tries: most tries of one batch
    :param seconds: longest time spent on one batch
    :param first_wait: first back-off in seconds; it doubles, with jitter
    :param longest_wait: longest back-off in seconds
    :param in_flight: bulk requests in flight, and a quarter of the single ones, where nothing measures how many are
        needed
    :param most_in_flight: most requests in flight, of all calls together
    :param unanswered: batches in a row without a usable answer after which the rest is deferred
    :param splits: requests a run may spend on taking refused batches apart
    :param commit_batches: batches whose outcomes are committed together
    """

    tries: int = 5
    seconds: float = 600.0
    first_wait: float = 1.0
    longest_wait: float = 60.0
    in_flight: int = 4
    most_in_flight: int = 64
    unanswered: int = 3
    splits: int = 500
    commit_batches: int = 1

    def window(self, call: Call) -> int:
        """Return how many requests of a call are in flight where nothing measures how many are needed."""
        return self.in_flight * (4 if call.max_items == 1 else 1)


@dataclass(frozen=True)
class Attempted:
    """How the tries of a batch ended."""

    verdict: Verdict
    unanswered: bool
    """Whether any of them was sent and not answered in a way that settles it."""
    broken: int = 0
    """The status of the last answer if it was an error of the server, else 0."""
    wait: float | None = None
    """Seconds Iterable asks to wait before the next try, if they are more than are left."""
    failure: Failure | None = None
    """What came of the last try, if that was no usable answer."""


@dataclass
class _Course:
    """What happened so far."""

    unanswered: bool = False
    tries: int = 0
    """Those that count: a request that was held back before it was sent was none."""
    errors: int = 0
    reply: Reply = field(default_factory=lambda: Reply(0))


def attempt(
    send: Send,
    batch: Batch,
    patience: Patience,
    stop: threading.Event,
    sleep: Callable[[float], Any],
    errors: int | None = None,
) -> Attempted:
    """Send a batch until its verdict is final or patience ends.

    :param errors: most tries that end with an error of the server; by default as many as any
    """
    course, started = _Course(), time.monotonic()
    most = patience.tries if errors is None else errors

    def once() -> Verdict:
        reply = send(batch)
        verdict = batch.call.judge(batch, reply)
        if isinstance(verdict, Again):
            course.tries += reply.sent or reply.status != RATE_LIMITED
            course.errors += reply.status >= SERVER_ERROR
            if not batch.call.reads:
                course.unanswered = course.unanswered or (reply.sent and not _refused(reply))
        course.reply = reply
        return verdict

    def failure() -> Failure:
        return Failure(batch.call, course.reply, course.tries)

    def open_still(verdict: Verdict) -> bool:
        return isinstance(verdict, Again) and (batch.call.repeatable or not course.unanswered)

    first = once()
    if not open_still(first):  # as most are; what tries again costs as much as a quick request
        return Attempted(first, course.unanswered, failure=failure() if isinstance(first, Again) else None)
    before, seconds = [first], patience.seconds - (time.monotonic() - started)
    backoff = tenacity.wait_random_exponential(patience.first_wait, patience.longest_wait)

    def pause(state: tenacity.RetryCallState) -> float:
        asked = _asked(state)
        return backoff(state) if asked is None else asked

    def last(state: tenacity.RetryCallState) -> Attempted:
        assert state.outcome is not None
        asked = _asked(state)
        left = seconds - (state.seconds_since_start or 0.0)
        return Attempted(
            state.outcome.result(),
            course.unanswered,
            course.reply.status if course.reply.status >= SERVER_ERROR else 0,
            asked if asked is not None and asked >= left else None,
            failure(),
        )

    too_long = tenacity.stop_before_delay(seconds)

    def enough(state: tenacity.RetryCallState) -> bool:
        return course.tries >= patience.tries or course.errors >= most or stop.is_set() or too_long(state)

    retrying = tenacity.Retrying(
        stop=enough,
        wait=pause,
        retry=tenacity.retry_if_result(open_still),
        sleep=sleep,
        retry_error_callback=last,
    )
    ended: Verdict | Attempted = retrying(lambda: before.pop() if before else once())
    if isinstance(ended, Attempted):
        return ended
    return Attempted(ended, course.unanswered, failure=failure() if isinstance(ended, Again) else None)


def _asked(state: tenacity.RetryCallState) -> float | None:
    """Return for how many seconds Iterable asks to wait."""
    verdict = state.outcome.result() if state.outcome else None
    return verdict.after if isinstance(verdict, Again) else None


def _refused(reply: Reply) -> bool:
    """Whether an answer says that nothing was applied; a 408 says that the request was not read to its end in time."""
    return 400 <= reply.status < SERVER_ERROR and reply.status != REQUEST_TIMEOUT
