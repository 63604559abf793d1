"""Which few rows go before all others, because it is not known whether Iterable takes their values."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from airflow_provider_iterable.api import field_types
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.samples import order
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.syncs.sync import BaseSync
from airflow_provider_iterable.syncs.types import Trait

log = logger(__name__)

FEW = 10
"""Most rows of a wave that goes first: what Iterable refuses of it costs little to take apart."""
LOOKED_AT = 250_000
"""Values that are looked at to find them: a second's work, or less."""
MOST_PATTERNS = 1000
"""Combinations of traits that are told apart: where the keys of an object are data, each row may be one."""

Patterns = Mapping[frozenset[Trait], "_Alike"]


@dataclass
class _Alike:
    """Rows with the same traits: how many there are, and where some of them are, which a retry finds again."""

    rows: int = 0
    some: list[tuple[int, int]] = field(default_factory=list)
    """Positions, each after its order."""

    def add(self, place: int, position: int) -> None:
        self.rows += 1
        if len(self.some) < 2 * FEW or place < self.some[-1][0]:
            insort(self.some, (place, position))
            del self.some[2 * FEW :]


def first(plan: Plan, sync: BaseSync, batch_size: int, name: str) -> list[list[int]]:
    """Return the positions of the rows that go first, in waves of one small batch each.

    In the first wave each field has values of one type, that of most rows, so that the first value that Iterable sees
    of a new field decides well; the second has the values of other types. Between them they have each field with each
    type that its values have, so that what Iterable refuses, it refuses there. Where all fits into one request, and no
    values disagree, that request is the first, and nothing goes before it.

    :param name: the sync's, for the log
    """
    if not sync.grows:
        return []
    few = FEW if sync.most == 1 else min(FEW, batch_size)
    patterns = _patterns(plan, sync)
    usual = _usual(patterns)
    plain = [pattern for pattern in patterns if pattern <= usual]
    # Where types are told, such values are converted or rejected before they are sent.
    odd = [] if sync.told_types else [pattern for pattern in patterns if not pattern <= usual]
    if not any(patterns) or (not odd and plan.sends <= max(few, min(batch_size, sync.most))):
        return []
    shown = set[Trait]()
    waves = [[patterns[pattern].some.pop(0)[1] for pattern in _showing(some, shown, few)] for some in (plain, odd)]
    # Some more beside them: if the server fails at a row that is alone, nobody knows whether the row is to blame.
    more = (position for pattern in plain for _, position in patterns[pattern].some)
    waves = [[*wave, *islice(more, few - len(wave))] for wave in waves if wave]
    log.info(
        "Sync %s sends fields whose types are not known: %d rows that have them go first, and the others once Iterable "
        "has answered.",
        name,
        sum(map(len, waves)),
    )
    return waves


def _patterns(plan: Plan, sync: BaseSync) -> Patterns:
    """Return the rows by their traits, those with most of them first."""
    patterns: dict[frozenset[Trait], _Alike] = {}
    left = LOOKED_AT
    for position, operation in plan.alone():  # those that share an identity go one after the other, later
        if left <= 0:
            break
        if operation.call is None:
            continue
        pattern = sync.traits(operation)
        left -= 1 + len(pattern)
        alike = patterns.get(pattern)
        if alike is None:
            if len(patterns) >= MOST_PATTERNS:
                continue
            alike = patterns[pattern] = _Alike()
        alike.add(order(operation.key), position)
    return dict(sorted(patterns.items(), key=lambda item: (-len(item[0]), item[1].some[0])))


def _usual(patterns: Patterns) -> frozenset[Trait]:
    """Return the traits in which each field has the type of most of its values."""
    seen: dict[tuple[str, str], Counter[str]] = {}
    for pattern, alike in patterns.items():
        for about, path, kind in pattern:
            seen.setdefault((about, path), Counter())[kind] += alike.rows
    chosen = {path: field_types.chosen(counts) for path, counts in seen.items()}
    return frozenset((*path, kind) for path, kind in chosen.items() if kind is not None)


def _showing(patterns: Collection[frozenset[Trait]], shown: set[Trait], most: int) -> Iterable[frozenset[Trait]]:
    """Yield patterns that have what no earlier one has, and note what they have."""
    number = 0
    for pattern in patterns:
        if number < most and not pattern <= shown:
            shown |= pattern
            number += 1
            yield pattern
