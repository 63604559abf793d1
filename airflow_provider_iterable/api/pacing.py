"""How fast endpoints are called, by arithmetic alone: callers pass the time, lock and sleep.

A bucket is kept as one number, the moment at which it would be full again. Taking a token moves that moment by one
interval; how far it lies ahead of now says how long to wait. A pace is a bucket whose rate follows the answers.
Whoever shares one of them between threads, or its numbers between processes, locks it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BURST_SECONDS = 0.75
"""Seconds' worth of requests that may start at once: not a whole second's, for Iterable counts arrivals, and requests
that travel faster than the first one did would come too early for a bucket that is used to the last token."""
FIRST_RATE = 50.0
"""Requests per second at which an endpoint without a documented rate is called first."""
HIGHEST_RATE = 300.0
"""Requests per second up to which such an endpoint is tried."""
GROWTH = 1.5
"""By what the rate is multiplied in each step, up to where it was refused before."""
NEAR = 0.9
"""The share of a rate that was refused up to which it grows back by steps, at most; beyond, it is raised slowly."""
SLOW_GROWTH = 0.001
"""The share of the highest rate that is added each second there, and more the longer nothing is refused: several tasks
that share a limit are refused rarely, and take what others leave within one to two minutes."""
PATIENCE_SECONDS = 15.0
"""After so many seconds without a refusal the slow growth is twice as fast, after twice as many five times."""
SHORTEST_STEP = 0.1
"""Seconds; a step takes two answers' time, for what it leads to has to be seen."""
LOWEST_SHARE = 1 / 32
"""The share of the highest rate below which refusals do not lower it."""
ASSUMED_SECONDS = 0.2
"""The time of an answer before the first has come."""
MARGIN, SPARE = 1.5, 2
"""Requests in flight are so many times what the rate needs, and some on top, so that the rate is what decides."""
MEASURED_SECONDS, MEASURED_STEPS = 2.0, 5
"""Least seconds, and steps, in which answers have to come before their number says what was reached: a full bucket's
burst is over by then, and a rate that is found out is found."""
COMMON = 9
"""How many numbers a pace has in common with others that keep the same one."""


class Bucket:
    """A token bucket; it starts full.

    :param rate: tokens (requests) per second, above 0.
    :param burst: tokens the full bucket holds, so requests that may start at once (default: one second's worth, at
        least 1).
    :raises ValueError: for a rate that is not above 0, or a burst below 1.
    """

    __slots__ = ("_full_at", "_interval", "_span", "held_until", "holds")

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self._full_at = float("-inf")
        self.holds = 0
        """How often it was held. A turn that was reserved before is void: its token has to be taken anew."""
        self.held_until = float("-inf")
        """No token is handed out for a moment before this one; in seconds of the caller's clock."""
        self._set(rate, burst)

    def _set(self, rate: float, burst: float | None) -> None:
        burst = max(1.0, rate) if burst is None else burst
        if rate <= 0 or burst < 1:
            raise ValueError(f"A bucket needs a rate above 0 and a burst of at least 1, not {rate} and {burst}.")
        self._interval = 1 / rate
        self._span = (burst - 1) * self._interval

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
        if until > self.held_until:
            self.held_until, self._full_at = until, until + self._span
            self.holds += 1

    def change(self, rate: float, burst: float, now: float) -> None:
        """Go on at another rate, with as many tokens left, or owed, as there are."""
        left = self._span / self._interval - max(self._full_at - now, 0.0) / self._interval
        self._set(rate, burst)
        self._full_at = now + self._span - min(left * self._interval, self._span)

    @property
    def common(self) -> tuple[float, float, float]:
        """What others have to know to take tokens of the same bucket."""
        return self._full_at, self.held_until, self.holds

    def follow(self, rate: float, burst: float, full_at: float, held_until: float, holds: float) -> None:
        """Go on with the :attr:`common` numbers of another bucket, and its rate; of two holds the longer one counts."""
        self._set(rate, burst)
        self._full_at, self.holds = full_at, int(holds)
        self.held_until = max(self.held_until, held_until)


class Pace:
    """How fast one endpoint is called.

    It is called at its documented rate. One without a documented rate is called faster step by step, as long as
    answers stay quick, up to :data:`HIGHEST_RATE`. A refusal (429) halves the rate; it grows back quickly to what
    was taken between the last two, and slowly beyond.

    :param most: requests per second that are never exceeded.
    :param first: those it begins with (default: ``most``).
    """

    __slots__ = (
        "_answers",
        "_bucket",
        "_last",
        "_look_at",
        "_lowered_at",
        "_marks",
        "_quickest",
        "_taken",
        "_wanted",
        "count",
        "most",
        "rate",
        "seconds",
    )

    def __init__(self, most: float, first: float | None = None) -> None:
        self.most = most
        self.rate = min(most, most if first is None else first)
        """Requests per second, as of now."""
        self.seconds: float | None = None
        """What an answer takes, as a moving mean; ``None``: none has come."""
        self._bucket = Bucket(self.rate, self._burst)
        self._quickest = math.inf
        self._answers = 0
        """Those since the last refusal."""
        self._taken = 0.0
        """Requests per second that Iterable took before it refused one; 0: it has refused none."""
        self._lowered_at = self._look_at = float("-inf")
        self._wanted = False
        """Whether somebody had to wait for the rate since it was looked at."""
        self.count = 0
        """All answers that were no refusals."""
        self._last = 0.0
        self._marks: list[tuple[int, float]] = []
        """When the first answer came, the second, the fourth, and so on."""

    @property
    def _burst(self) -> float:
        return max(1.0, self.rate * BURST_SECONDS)

    @property
    def held_until(self) -> float:
        """The moment before which no request starts."""
        return self._bucket.held_until

    @property
    def holds(self) -> int:
        """How often it was held; a turn that was reserved before is void."""
        return self._bucket.holds

    @property
    def common(self) -> tuple[float, ...]:
        """What others have to know to keep the same pace with this one: :data:`COMMON` numbers, no measurements."""
        own = (self.rate, self._taken, self._answers, self._lowered_at, self._look_at, self._wanted)
        return *self._bucket.common, *map(float, own)

    def follow(self, common: Sequence[float]) -> None:
        """Go on with the :attr:`common` numbers of another pace that has the same limits."""
        *bucket, rate, self._taken, answers, self._lowered_at, self._look_at, wanted = common
        self.rate, self._answers, self._wanted = min(rate, self.most), int(answers), bool(wanted)
        self._bucket.follow(self.rate, self._burst, *bucket)

    def reserve(self, now: float) -> float:
        """Take the next turn, however late it comes, and return the seconds to wait for it (0: go now)."""
        wait = self._bucket.reserve(now)
        self._wanted = self._wanted or wait > 0
        return wait

    def answered(self, now: float, seconds: float) -> None:
        """Take notice of an answer that is no refusal, and of how long it took."""
        mean = seconds if self.seconds is None else self.seconds + (seconds - self.seconds) / 10
        self.seconds, self._quickest = mean, min(self._quickest, mean)
        self._answers += 1
        self.count, self._last = self.count + 1, now
        if not self.count & (self.count - 1):
            self._marks.append((self.count, now))
        if self.rate < self.most and now >= self._look_at:
            if self._wanted and mean <= 2 * self._quickest + SHORTEST_STEP:
                self._change(self._higher(now), now)
            self._wanted, self._look_at = False, now + self._step

    def refused(self, now: float, sent_at: float, until: float, told: float | None = None) -> None:
        """Take notice of a 429.

        :param sent_at: when its request was sent: those of before the last refusal say nothing about the rate of now
        :param until: the moment before which Iterable wants no request
        :param told: the rate that it names
        """
        if sent_at >= self._lowered_at:
            most = self.rate if told is None else min(self.rate, told)
            # Between two refusals Iterable took as much as its limit is, or as others left of that.
            taken = self._answers / max(now - self._lowered_at, SHORTEST_STEP) if self._taken else most
            self._taken = max(min(taken, most, self.rate * NEAR), self.rate / 4)
            self._change(min(most, max(self.rate / 2, self.most * LOWEST_SHARE)), now)
            self._answers, self._lowered_at, self._wanted, self._look_at = 0, now, False, until
        self._bucket.hold(until)

    def window(self, most: int, highest: float = math.inf) -> int:
        """Return how many requests are to be in flight, so that the rate is reached: by Little's law, and some more.

        :param most: the most that may be
        :param highest: requests per second that are enough
        """
        return window(min(self.rate, highest), ASSUMED_SECONDS if self.seconds is None else self.seconds, most)

    @property
    def reached(self) -> float | None:
        """Requests per second that were answered, in about the second half of them; ``None``: too soon to say."""
        earlier = [mark for mark in self._marks if 2 * mark[0] <= self.count]
        if not earlier:
            return None
        count, since = earlier[-1]
        enough = max(MEASURED_SECONDS, MEASURED_STEPS * self._step)
        return (self.count - count) / (self._last - since) if self._last - since >= enough else None

    @property
    def _step(self) -> float:
        return max(SHORTEST_STEP, 2 * (self.seconds or ASSUMED_SECONDS))

    def _higher(self, now: float) -> float:
        if not self._taken:
            return min(self.rate * GROWTH, self.most)
        if self.rate < self._taken:
            return min(self.rate * GROWTH, self._taken)
        speed = 1 + ((now - self._lowered_at) / PATIENCE_SECONDS) ** 2
        return min(self.rate + self.most * SLOW_GROWTH * speed * self._step, self.most)

    def _change(self, rate: float, now: float) -> None:
        self.rate = rate
        self._bucket.change(rate, self._burst, now)


def window(rate: float, seconds: float, most: int) -> int:
    """Return how many requests are in flight when a rate is reached, by Little's law, and some more; ``most`` at most.

    :param seconds: what an answer takes
    """
    return max(1, min(most, math.ceil(rate * seconds * MARGIN) + SPARE))


def steady(rate: float, seconds: float, most: int) -> float:
    """Return the requests per second that a rate leads to, when no more than ``most`` are in flight.

    :param seconds: what an answer takes
    """
    return min(rate, window(rate, seconds, most) / seconds)


def duration(
    requests: float, rate: float, first: float | None = None, seconds: float = ASSUMED_SECONDS, most: int = 64
) -> float:
    """Return the seconds from the first of some requests to the last answer, if a :class:`Pace` is never refused.

    A fluid model of it: a full bucket's burst, as fast as answers make room for it; then the rate, which grows by steps
    where it begins lower; and one answer's time.

    :param rate: requests per second that are never exceeded
    :param first: those it begins with (default: ``rate``)
    :param seconds: what an answer takes
    :param most: most requests in flight
    """
    if requests <= 0:
        return 0.0
    seconds = max(seconds, 0.001)
    pace = min(rate, rate if first is None else first)
    # Until the first answer nobody knows how long one takes.
    tokens, room, step = max(1.0, pace * BURST_SECONDS), float(window(pace, ASSUMED_SECONDS, most)), seconds
    if requests <= min(room, tokens + pace * seconds):
        return max(requests - tokens, 0.0) / pace + seconds
    left, now = requests, 0.0
    while True:
        due = tokens + pace * step
        sent, waited = min(room, due), due < room
        lasting = now > seconds and ((pace >= rate and not tokens) if waited else room <= pace * step)
        if sent >= left or lasting:
            return now + step * left / sent + seconds
        left, now, tokens = left - sent, now + step, min(due - sent, max(1.0, pace * BURST_SECONDS))
        if waited:  # for the rate, and not for answers
            pace = min(pace * GROWTH, rate)
        step = max(SHORTEST_STEP, 2 * seconds)
        room = window(pace, seconds, most) * (step / seconds + (now <= seconds))
