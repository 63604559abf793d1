"""Knows which calls shall go wrong and how; knows nothing of what the calls mean."""

import random
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Kind = Literal["429", "5xx_html", "slow", "drop_before", "drop_after", "malformed"]


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """Something that goes wrong on calls of a path, after `after` of them, `times` times (-1: for ever).

    `path` is a path, its template, or the folder it is in; any call when absent. `status` is that of
    5xx_html, `seconds` the delay of slow and the reset of 429.
    """

    kind: Kind
    path: str = ""
    times: int = 1
    probability: float = 1.0
    seconds: float = 1.0
    status: int = 503
    after: int = 0
    matched: int = 0
    fired: int = 0

    def matches(self, path: str, template: str) -> bool:
        """Tell whether a call is one of those the fault is meant for."""
        return self.path in ("", path, template) or path.startswith(self.path.rstrip("/") + "/")

    def fires(self, chance: float) -> bool:
        """Count a matching call and tell whether it goes wrong."""
        self.matched += 1
        spent = 0 <= self.times <= self.fired
        if self.matched <= self.after or spent or chance >= self.probability:
            return False
        self.fired += 1
        return True


class Faults:
    """The faults in force; the first that fires decides a call."""

    def __init__(self, seed: int = 0) -> None:
        """Start without faults; chance follows the seed."""
        self._faults: list[Fault] = []
        self._random = random.Random(seed)

    def add(self, faults: Iterable[Any]) -> None:
        """Take in faults given as JSON; a wrong one is a ValueError, and then none is taken in."""
        try:
            self._faults += msgspec.convert(list(faults), list[Fault])
        except msgspec.ValidationError as error:
            raise ValueError(f"faults: {error}") from None

    def clear(self) -> None:
        """End all faults."""
        self._faults.clear()

    def listed(self) -> list[dict[str, Any]]:
        """Return the faults with how many calls each has matched, and spoilt."""
        return [{name: getattr(fault, name) for name in fault.__struct_fields__} for fault in self._faults]

    def draw(self, path: str, template: str) -> Fault | None:
        """Return the fault that befalls a call."""
        for fault in self._faults:
            if fault.matches(path, template) and fault.fires(self._random.random()):
                return fault
        return None
