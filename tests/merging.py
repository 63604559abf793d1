"""What is wrong with merges beside one another, found by looking at all others for each: an oracle for tests."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

from airflow_provider_iterable.engine.reasons import Reason

Who = TypeVar("Who", bound=Hashable)


def faults(pairs: Sequence[tuple[Who, Who]]) -> list[Reason | None]:
    """Return what is wrong with each pair of source and destination."""
    destinations: dict[Who, set[Who]] = defaultdict(set)
    for source, destination in pairs:
        destinations[source].add(destination)
    counts = Counter(pairs)

    def returns(start: Who) -> bool:
        here = start
        for _ in pairs:
            if len(destinations.get(here, ())) != 1:
                return False
            (here,) = destinations[here]
            if here == start:
                return True
        return False

    def fault(source: Who, destination: Who) -> Reason | None:
        if source == destination:
            return Reason.MERGES_ITSELF
        if len(destinations[source]) > 1:
            return Reason.SOURCE_TWICE
        if counts[source, destination] > 1:
            return Reason.SAME_MERGE
        if returns(source):
            return Reason.MERGE_CYCLE
        linked = any(destination == one or source == other for one, other in pairs)
        return Reason.MERGE_CHAIN if linked else None

    return [fault(*pair) for pair in pairs]
