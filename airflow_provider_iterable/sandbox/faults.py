"""Faults: which calls are to go wrong, and how."""

import random
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import unquote_plus

import msgspec

Kind = Literal["429", "5xx_html", "poison", "slow", "drip", "drop_before", "drop_after", "malformed"]
_POISON = {"times": -1, "status": 500}
"""Defaults of a poison fault."""


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """A failure of calls of a path: after `after` of them, `times` times (-1: for ever).

    `path` is a path, its template, or the folder it is in; any call when absent. With `text`, only those calls
    are meant in whose path, query or body the text stands; a poison needs one, and is for ever and a 500 when
    nothing else is said. `status` is that of 5xx_html and poison, `seconds` the delay of slow, the wait before
    each byte of drip and the reset of 429. 429, 5xx_html, poison and drop_before keep a call from the project.
    """

    kind: Kind
    path: str = ""
    text: str = ""
    times: int = 1
    probability: float = 1.0
    seconds: float = 1.0
    status: int = 503
    after: int = 0
    matched: int = 0
    fired: int = 0

    def __post_init__(self) -> None:
        """Refuse a poison without a text: it would match every call."""
        if self.kind == "poison" and not self.text:
            raise ValueError("poison needs a text")

    def matches(self, path: str, template: str, query: str, body: bytes) -> bool:
        """Return whether a call is one of those the fault is meant for."""
        there = self.path in ("", path, template) or path.startswith(self.path.rstrip("/") + "/")
        return there and (not self.text or self._is_said(f"{path}?{query}", body))

    def _is_said(self, target: str, body: bytes) -> bool:
        """Return whether the text stands in the body as it was sent, or in the target, encoded or not."""
        return self.text.encode() in body or self.text in target or self.text in unquote_plus(target)

    def fires(self, chance: float) -> bool:
        """Count a matching call and return whether it goes wrong."""
        self.matched += 1
        spent = 0 <= self.times <= self.fired
        if self.matched <= self.after or spent or chance >= self.probability:
            return False
        self.fired += 1
        return True


class Faults:
    """The faults in force; the first that fires decides a call."""

    def __init__(self, seed: int = 0) -> None:
        """Start without faults; random ones depend on the seed."""
        self._faults: list[Fault] = []
        self._random = random.Random(seed)

    def add(self, faults: Iterable[Any]) -> None:
        """Add faults given as JSON; a wrong one is a ValueError, and then none is added."""
        try:
            self._faults += msgspec.convert([_completed(fault) for fault in faults], list[Fault])
        except msgspec.ValidationError as error:
            raise ValueError(f"faults: {error}") from None

    def clear(self) -> None:
        """End all faults."""
        self._faults.clear()

    def remove(self, position: int) -> None:
        """End the fault at a position in the list, counted from 0; a ValueError when there is none."""
        if not 0 <= position < len(self._faults):
            raise ValueError("no such fault")
        del self._faults[position]

    def listed(self) -> list[dict[str, Any]]:
        """Return the faults, each with how many calls it matched, and how many it made fail."""
        return [{name: getattr(fault, name) for name in fault.__struct_fields__} for fault in self._faults]

    def next_fault(self, path: str, template: str, query: str, body: bytes) -> Fault | None:
        """Return the fault of a call, if one fires."""
        for fault in self._faults:
            if fault.matches(path, template, query, body) and fault.fires(self._random.random()):
                return fault
        return None


def _completed(fault: Any) -> Any:
    return {**_POISON, **fault} if isinstance(fault, dict) and fault.get("kind") == "poison" else fault
