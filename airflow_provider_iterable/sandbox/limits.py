"""Knows how many requests an endpoint takes: a token bucket by arithmetic on a clock it is given."""

import math

import msgspec


class Bucket:
    """Tokens that come back at a rate, up to a size; a refused request costs none."""

    def __init__(self, rate: float, size: float, now: float) -> None:
        """Start full."""
        self.rate = rate
        self.size = size
        self._tokens = size
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._tokens = min(self.size, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        # An interval of 1/rate must not fail by the last bit of a float, which in a time is a good part of 1/rate.
        if self._tokens < 1 - max(1e-6, self.rate * math.ulp(now)):
            return False
        self._tokens -= 1
        return True

    @property
    def left(self) -> int:
        """Whole tokens left."""
        return max(0, math.floor(self._tokens + 1e-6))

    @property
    def reset(self) -> float:
        """Seconds until there is a token again."""
        return max(0.0, (1 - self._tokens) / self.rate)


class Excess(msgspec.Struct, frozen=True):
    """A request too many: the rate, the size of the bucket, what is left, and when to come back."""

    per_second: float
    size: float
    left: int
    reset: float


class Limits:
    """The buckets of a project, one per endpoint."""

    def __init__(self) -> None:
        """Start with no request made."""
        self._buckets: dict[str, Bucket] = {}

    def refuse(self, endpoint: str, rate: float, burst: float, now: float) -> Excess | None:
        """Count a request to an endpoint of the rate; say how it exceeds it, or None."""
        size = max(1.0, rate * burst)
        bucket = self._buckets.get(endpoint)
        if bucket is None or (bucket.rate, bucket.size) != (rate, size):
            bucket = self._buckets[endpoint] = Bucket(rate, size, now)
        return None if bucket.take(now) else Excess(rate, size, bucket.left, bucket.reset)
