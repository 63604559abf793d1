"""Token buckets by arithmetic alone: callers pass the time, lock and sleep.

A bucket is kept as one number, the moment at which it would be full again. Taking a token moves that moment by one
interval; how far it lies ahead of now says how long to wait. Whoever shares a bucket between threads locks it.
"""

from __future__ import annotations


class Bucket:
    """The rate limit of one endpoint; it starts full.

    :param rate: tokens (requests) per second; 0 means no limit.
    :param burst: tokens the full bucket holds, so requests that may start at once (default: one second's worth, at
        least 1).
    :raises ValueError: for a negative rate, or a burst below 1.
    """

    __slots__ = ("_full_at", "_interval", "_span", "held_until")

    def __init__(self, rate: float, burst: float | None = None) -> None:
        burst = max(1.0, rate) if burst is None else burst
        if rate < 0 or burst < 1:
            raise ValueError(f"A bucket needs a rate of at least 0 and a burst of at least 1, not {rate} and {burst}.")
        self._interval = 1 / rate if rate else 0.0
        self._span = (burst - 1) * self._interval
        self._full_at = float("-inf")
        self.held_until = float("-inf")
        """No token is handed out for a moment before this one; in seconds of the caller's clock."""

    def reserve(self, now: float) -> float:
        """Take the next token, however late it comes, and return the seconds to wait for it (0: go now).

        :param now: seconds of the caller's clock, which never runs backwards.
        """
        free_at = max(now, self._full_at - self._span, self.held_until)
        self._full_at = max(self._full_at, now) + self._interval
        return free_at - now

    def hold(self, until: float) -> None:
        """Hand out no token before ``until``, and from then on one at a time: Iterable answered 429.

        :param until: seconds of the caller's clock; an earlier moment than one already held changes nothing.
        """
        self.held_until = max(self.held_until, until)
        self._full_at = max(self._full_at, until + self._span)
