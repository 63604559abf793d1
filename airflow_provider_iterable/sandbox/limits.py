"""Rate limits: a token bucket for each endpoint."""

import math

import msgspec


class Bucket:
    """A token bucket with a rate and a size; a refused request takes no token."""

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
        # Requests that are exactly 1/rate apart must pass in spite of rounding: a float of a time is not exact.
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
        """Count a request to an endpoint with the rate; return by what it exceeds the rate, or None."""
        size = max(1.0, rate * burst)
        bucket = self._buckets.get(endpoint)
        if bucket is None or (bucket.rate, bucket.size) != (rate, size):
            bucket = self._buckets[endpoint] = Bucket(rate, size, now)
        return None if bucket.take(now) else Excess(rate, size, bucket.left, bucket.reset)
