"""A few rows of each reason to be shown: spread over all keys, and the same in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from airflow_provider_iterable.engine.vocabulary import Outcome

MOST = 5
"""Rows that are shown of a reason."""


def order(key: str) -> int:
    """Return where a key stands among all others: any place, and the same in every run."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")


@dataclass
class Sample:
    """What became of some rows with one key.

    :param outcome: as it may be shown
    :param rows: how many rows it is true of
    """

    outcome: Outcome
    rows: int


class Samples:
    """The rows of one reason whose keys have the smallest hashes.

    So neither one batch nor one stretch of keys is all that is seen, and who looks again sees the same rows until they
    are mended.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Sample] = {}
        self._places: dict[tuple[int, str], tuple[str, str]] = {}

    def add(self, outcome: Outcome, shown: Callable[[Outcome], Outcome]) -> None:
        """Take notice of a row.

        :param shown: returns it as it may be shown
        """
        name = outcome.key, outcome.detail
        kept = self._kept.get(name)
        if kept is not None:
            kept.rows += 1
            return
        place = order(outcome.key or outcome.detail), outcome.detail
        if len(self._kept) == MOST:
            last = max(self._places)
            if place >= last:
                return
            del self._kept[self._places.pop(last)]
        self._places[place], self._kept[name] = name, Sample(shown(outcome), 1)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the rows, in an order that is the same in every run."""
        for _, name in sorted(self._places.items()):
            yield self._kept[name]
