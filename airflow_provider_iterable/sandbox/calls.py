"""The log of API calls and their answers; holds no keys and no bodies."""

from collections import Counter
from typing import Any

import msgspec


class Call(msgspec.Struct):
    """One API call: status 0 means that it got no answer."""

    seq: int
    method: str
    path: str
    template: str | None
    status: int
    code: str | None
    records: int
    bytes: int
    applied: bool
    body_sha256: str
    project: int
    started: float
    finished: float
    fault: str | None = None
    identifiers: list[tuple[str, str]] | None = None


class Calls:
    """The calls in the order in which they were answered, numbered from 1; numbers are never used again."""

    def __init__(self) -> None:
        """Start with no call."""
        self._calls: list[Call] = []
        self.last = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> None:
        """Number a call and keep it."""
        self.last += 1
        call.seq = self.last
        self._calls.append(call)

    def clear(self) -> None:
        """Forget the calls, not their number."""
        self._calls.clear()

    def after(self, seq: int = 0) -> list[Call]:
        """Return the calls that came after a number."""
        if not self._calls:
            return []
        return self._calls[max(0, seq + 1 - self._calls[0].seq) :]

    def summary(self) -> dict[str, Any]:
        """Return how many calls there were by method, template and status, and in all."""
        counts = Counter((call.method, call.template or call.path, call.status) for call in self._calls)
        rows = [
            {"method": method, "template": template, "status": status, "count": count}
            for (method, template, status), count in sorted(counts.items())
        ]
        return {"calls": rows, "total": len(self._calls)}
