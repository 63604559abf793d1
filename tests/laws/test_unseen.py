from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import (
    Duplicate,
    Entry,
    Gone,
    Invalid,
    Pair,
    Present,
    Row,
    UnchangedInDatabase,
)
from tests.fakes import in_chunks
from tests.laws.test_generations import A, B, Generations
from tests.laws.world import OnRemoved, Person, WatchedState, World, budget, ways


class UnseenState(WatchedState):
    """A state that compares by itself, as a database does: rows without news are a number, and can be asked for."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world = world
        self.seen = 0
        """Rows that came across."""

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Let only rows with news come across, all of them; the model is not read through ``chunks``."""
        self.settle_intents()
        self.sync, self.remembered = sync, len(self.entries)
        yield UnchangedInDatabase(0, self)
        times: Counter[str] = Counter()
        quiet: Counter[str] = Counter()
        for keys, rows, fingerprints, invalid in self._named():
            yield from invalid
            times.update(keys)
            known = [self.entries.get(key) for key in keys]
            before = [None if entry is None else entry.fingerprint for entry in known]
            news = [number for number, one in enumerate(before) if one != fingerprints[number]]
            quiet.update(key for number, key in enumerate(keys) if number not in news)
            if news:
                self.seen += len(news)
                yield Present(*(take(column, news) for column in (keys, rows, before, fingerprints)))
        for key, entry in self.entries.items():
            if key not in times:
                yield Gone(key, Entry(entry.fingerprint))
        repeats = {key: many for key, many in times.items() if many > 1}
        surplus = sum(quiet[key] - (quiet[key] == many) for key, many in repeats.items())
        yield UnchangedInDatabase(quiet.total() - surplus, self)
        for key, many in repeats.items():
            yield Duplicate(key, many)

    def _named(self) -> Iterator[tuple[list[str], list[Row], list[bytes], list[Invalid]]]:
        for chunk in in_chunks(self.world.model):
            names = self.sync.keys(chunk)
            keys = [name for name in names if isinstance(name, str)]
            rows = [row for name, row in zip(names, chunk, strict=True) if isinstance(name, str)]
            fingerprints: list[bytes] = []
            if rows:
                for number, found in enumerate(self.sync.records(keys, rows).fingerprints):
                    fingerprints.append(found if isinstance(found, bytes) else repr(rows[number]).encode())
            yield keys, rows, fingerprints, [name for name in names if isinstance(name, Invalid)]

    def bearers(self, refs: Sequence[str]) -> Mapping[str, str]:
        """Return the keys that remember one of these references."""
        return {key: entry.ref for key, entry in self.entries.items() if entry.ref in refs}

    def present(self, keys: Sequence[str]) -> Iterator[Present]:
        """Read some rows again."""
        for names, rows, fingerprints, _ in self._named():
            kept = [number for number, key in enumerate(names) if key in keys]
            if kept:
                yield Present(take(names, kept), take(rows, kept), [None] * len(kept), take(fingerprints, kept))


def take(column: Sequence[Any], numbers: Sequence[int]) -> list[Any]:
    """Return some values of a column."""
    return [column[number] for number in numbers]


def unseen(world: World) -> World:
    """Let a world remember in a state that compares by itself."""
    world.state = UnseenState(world)
    return world


class Unseen(Generations):
    """The same generations, before a state that compares by itself."""

    @initialize(
        on_removed=ways, batch_size=st.integers(1, 4), in_flight=st.sampled_from([1, 2, 64]), commits=st.integers(1, 3)
    )
    def begin(self, on_removed: OnRemoved, batch_size: int, in_flight: int, commits: int) -> None:
        """An empty model."""
        self.world = unseen(World(on_removed, batch_size, in_flight, commits))


TestUnseen = Unseen.TestCase
TestUnseen.settings = settings(budget(150), stateful_step_count=20)


@pytest.mark.parametrize("way", ["keep", "clear", "delete"])
def test_only_the_rows_of_a_touched_identity_come_across(way: OnRemoved) -> None:
    """Of unchanged rows none is looked at, but those that bear an identity which another row changes."""
    world = unseen(World(way))
    state = world.state
    assert isinstance(state, UnseenState)
    world.model = [Person(1, A, 1), Person(2, A, 2), *(Person(n, B, n) for n in range(10, 30))]
    world.settle()
    world.model = [Person(1, A, 3), *world.model[1:]]
    state.seen = 0
    assert world.run() is None
    assert 1 == state.seen
    told = world.report.to_dict()
    assert (2, 20) == (told["changed"], told["unchanged"])
    world.check_silence()


CHANGES: dict[str, tuple[OnRemoved, Sequence[Person], Sequence[Person], dict[str, dict[str, int]]]] = {
    "a row leaves": ("delete", [Person(1, A, 1), Person(2, B, 2)], [Person(2, B, 2)], {B: {"n": 2}}),
    "a row leaves and another bears its identity": (
        "delete",
        [Person(1, A, 2), Person(2, A, 2)],
        [Person(2, A, 2)],
        {A: {"n": 2}},
    ),
    "the last word leaves": (
        "delete",
        [Person(1, A, 1), Person(2, A, 2), Person(3, B, 0)],
        [Person(1, A, 1), Person(3, B, 0)],
        {A: {"n": 1}, B: {"n": 0}},
    ),
    "the last word moves": (
        "keep",
        [Person(1, A, 1), Person(2, A, 2), Person(3, B, 0)],
        [Person(1, A, 1), Person(2, B, 2), Person(3, B, 0)],
        {A: {"n": 1}, B: {"n": 0}},
    ),
    "a row leaves and the other loses its identity": (
        "delete",
        [Person(1, A, 1), Person(2, A, 2), Person(3, B, 0)],
        [Person(2, None, 2), Person(3, B, 0)],
        {B: {"n": 0}},
    ),
    "a row leaves and an unchanged duplicate bears its identity": (
        "delete",
        [Person(1, A, 1), Person(2, A, 1), Person(3, B, 0)],
        [Person(2, A, 1), Person(2, A, 1), Person(3, B, 0)],
        {A: {"n": 1}, B: {"n": 0}},
    ),
    "a row leaves and one of two duplicates bears its identity": (
        "delete",
        [Person(1, A, 1), Person(2, B, 1), Person(3, B, 0)],
        [Person(2, B, 1), Person(2, A, 1), Person(3, B, 0)],
        {A: {"n": 1}, B: {"n": 0}},
    ),
    "a row leaves and the unchanged one of two duplicates bears its identity": (
        "delete",
        [Person(1, A, 1), Person(2, A, 1), Person(3, B, 0)],
        [Person(2, A, 1), Person(2, B, 1), Person(3, B, 0)],
        {A: {"n": 1}, B: {"n": 0}},
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_identities_of_unseen_rows_count(case: str) -> None:
    """Nobody is deleted whom an unseen row is about, everybody else is, and the greatest key has the last word."""
    way, before, after, expected = CHANGES[case]
    world = unseen(World(way))
    world.model = before
    world.settle()
    world.model = after
    assert world.run() is None
    assert expected == world.iterable.users
    world.check_silence()
