"""What is wrong with merges beside one another: pairs of people, of whom only hashes are held.

Merges of one run go side by side, and none can be taken back. So no row's outcome may depend on which of two goes
first: whoever is a destination must be no source, and whoever is a source must have one destination.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_iterable.engine.reasons import Reason

Pair = tuple[int, int]
"""The hashes of source and destination."""


class Pairs:
    """The pairs of a run; a million of them take some 200 MB.

    :param pairs: one for each row
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._into: dict[int, int] = {}
        """The first destination of each source."""
        self._destinations: set[int] = set()
        self._twice: set[int] = set()
        """Sources with different destinations."""
        self._repeated: set[int] = set()
        """Sources that are merged into one destination by several rows."""
        self.crowded: set[int] = set()
        """Destinations that several rows name."""
        for source, destination in pairs:
            if destination in self._destinations:
                self.crowded.add(destination)
            self._destinations.add(destination)
            first = self._into.get(source)
            if first is None:
                self._into[source] = destination
            elif first == destination:
                self._repeated.add(source)
            else:
                self._twice.add(source)
        self._cyclic = self._on_cycles()

    def has_source(self, source: int) -> bool:
        """Whether somebody is merged into another."""
        return source in self._into

    def fault(self, source: int, destination: int) -> Reason | None:
        """Return what is wrong with a row; of several faults, the one that is to be mended first."""
        if source == destination:
            return Reason.MERGES_ITSELF
        if source in self._twice:
            return Reason.SOURCE_TWICE
        if source in self._repeated:
            return Reason.SAME_MERGE
        if source in self._cyclic:
            return Reason.MERGE_CYCLE
        if destination in self._into or source in self._destinations:
            return Reason.MERGE_CHAIN
        return None

    def _on_cycles(self) -> set[int]:
        """Return the sources that lead back to themselves; those with several destinations lead nowhere."""
        into, found = self._into, set[int]()
        done: set[int] = set()
        for start in self._destinations & into.keys():
            path: dict[int, int] = {}
            here = start
            while here in into and here not in self._twice and here not in done and here not in path:
                path[here] = len(path)
                here = into[here]
            if here in path:
                found.update(one for one, place in path.items() if place >= path[here])
            done.update(path)
        return found
