"""The log of API calls and their answers; holds no keys, and bodies only where they are asked for."""

from collections import Counter, deque
from collections.abc import Collection
from typing import Any

import msgspec


class Call(msgspec.Struct):
    """One API call: status 0 means that it got no answer.

    Of its records, `accepted` were written and `failed` were not, whatever became of the answer; those that Iterable
    counts as neither are in neither. `request` and `answer` are the bodies, where they are recorded.
    """

    seq: int
    method: str
    path: str
    template: str | None
    status: int
    code: str | None
    records: int
    bytes: int
    applied: bool
    accepted: int
    failed: int
    body_sha256: str
    project: int
    started: float
    finished: float
    fault: str | None = None
    identifiers: list[tuple[str, str]] | None = None
    request: str | None = None
    answer: str | None = None


class Calls:
    """The calls in the order in which they were answered, numbered from 1; numbers are never used again."""

    def __init__(self) -> None:
        """Start with no call."""
        self._calls: list[Call] = []
        self._with_bodies: deque[Call] = deque()
        self.last = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call, bodies: int = 0) -> None:
        """Number a call and keep it; of all calls with bodies, the last `bodies` keep them."""
        self.last += 1
        call.seq = self.last
        self._calls.append(call)
        if call.request is not None:
            self._with_bodies.append(call)
        while len(self._with_bodies) > bodies:
            old = self._with_bodies.popleft()
            old.request = old.answer = None

    def clear(self) -> None:
        """Forget the calls, not their number."""
        self._calls.clear()
        self._with_bodies.clear()

    def after(self, seq: int = 0) -> list[Call]:
        """Return the calls that came after a number."""
        if not self._calls:
            return []
        return self._calls[max(0, seq + 1 - self._calls[0].seq) :]

    def numbered(self, seq: int) -> Call | None:
        """Return the call with the number, unless it is forgotten."""
        return next((call for call in self.after(seq - 1)[:1] if call.seq == seq), None)

    def about(self, names: Collection[tuple[str, str]]) -> list[Call]:
        """Return the calls whose recorded identifiers are among these: pairs of kind and value."""
        wanted = set(names)
        return [call for call in self._calls if call.identifiers and not wanted.isdisjoint(call.identifiers)]

    def summary(self) -> dict[str, Any]:
        """Return how many calls there were by method, template and status, and in all."""
        counts = Counter((call.method, call.template or call.path, call.status) for call in self._calls)
        rows = [
            {"method": method, "template": template, "status": status, "count": count}
            for (method, template, status), count in sorted(counts.items())
        ]
        return {"calls": rows, "total": len(self._calls)}
