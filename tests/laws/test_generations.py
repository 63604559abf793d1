from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.laws.world import (
    OnRemoved,
    Person,
    World,
    budget,
    commit_faults,
    emails,
    faults,
    models,
    people,
    refusals,
    sound_people,
    ways,
)

A, B = "a@x.io", "b@x.io"


class Generations(RuleBasedStateMachine):
    """A model that changes as models do, runs that go wrong, and now and then one that does not."""

    world: World

    @initialize(
        on_removed=ways, batch_size=st.integers(1, 4), in_flight=st.sampled_from([1, 2, 64]), commits=st.integers(1, 3)
    )
    def begin(self, on_removed: OnRemoved, batch_size: int, in_flight: int, commits: int) -> None:
        """An empty model."""
        self.world = World(on_removed, batch_size, in_flight, commits)

    @rule(model=models)
    def replaced(self, model: list[Person]) -> None:
        """All rows are others."""
        self.world.model = model

    @rule(person=people)
    def added(self, person: Person) -> None:
        """A row comes, perhaps a duplicate or one that cannot be sent."""
        self.world.model = [*self.world.model, person]

    @rule(person=sound_people, where=st.integers(0, 9))
    def changed(self, person: Person, where: int) -> None:
        """A row is another under its key."""
        if self.world.model:
            number = where % len(self.world.model)
            self.world.model = [
                person._replace(id=old.id) if n == number else old for n, old in enumerate(self.world.model)
            ]

    @rule(email=emails, where=st.integers(0, 9))
    def moved(self, email: str, where: int) -> None:
        """A row gets another address, perhaps that of another row."""
        if self.world.model:
            number = where % len(self.world.model)
            self.world.model = [
                old._replace(email=email) if n == number else old for n, old in enumerate(self.world.model)
            ]

    @rule(one=st.integers(0, 9), other=st.integers(0, 9))
    def swapped(self, one: int, other: int) -> None:
        """Two rows swap their keys."""
        model = list(self.world.model)
        if model:
            one, other = one % len(model), other % len(model)
            first, second = model[one], model[other]
            model[one] = first._replace(id=second.id)
            model[other] = second._replace(id=first.id)
            self.world.model = model

    @rule(where=st.integers(0, 9))
    def removed(self, where: int) -> None:
        """A row leaves."""
        if self.world.model:
            model = list(self.world.model)
            del model[where % len(model)]
            self.world.model = model

    @rule(requests=faults, commits=commit_faults, refused=refusals, typed=st.booleans(), clues=st.booleans())
    def troubled(
        self, requests: list[str], commits: list[str], refused: dict[str, str], typed: bool, clues: bool
    ) -> None:
        """A run meets faults, refusals and death."""
        world = self.world
        world.iterable.faults.extend(requests)
        world.iterable.refused.update(refused)
        world.iterable.typed, world.iterable.clues = typed, clues
        world.state.faults.extend(commits)
        world.run()
        world.heal()

    @rule()
    def settled(self) -> None:
        """A run meets nothing, and leaves nothing to do."""
        self.world.settle()

    def teardown(self) -> None:
        """However it went, one run puts everything right."""
        if hasattr(self, "world"):
            self.world.settle()

    @invariant()
    def memories_were_accepted(self) -> None:
        """State holds only what Iterable accepted; the commits are watched as well."""
        if hasattr(self, "world"):
            for key, entry in self.world.state.entries.items():
                self.world.check(key, entry)


TestGenerations = Generations.TestCase
TestGenerations.settings = settings(budget(150), stateful_step_count=20)


CUT_SHORT: dict[str, tuple[list[Person], list[Person], list[str]]] = {
    "between two waves": ([Person(1, A, 1), Person(2, A, 2)], [Person(1, A, 0), Person(2, A, 2)], ["", "401"]),
    "after a removal": (
        [Person(1, A, 0), Person(2, A, 1), Person(3, A, 2)],
        [Person(1, A, 0), Person(2, A, 1)],
        ["401"],
    ),
    "after a move": ([Person(1, A, 0), Person(3, A, 2)], [Person(1, A, 0), Person(3, B, 1)], ["", "kill_before"]),
}


@pytest.mark.parametrize("case", CUT_SHORT)
def test_a_shared_identity_is_put_right_after_a_run_that_was_cut_short(case: str) -> None:
    """Once one row of an identity was written, the others go again until the greatest key had the last word."""
    before, after, troubles = CUT_SHORT[case]
    world = World(batch_size=1)
    world.model = before
    world.settle()
    world.model = after
    world.iterable.faults.extend(troubles)
    assert world.run() is not None
    world.settle()


@pytest.mark.parametrize("fault", ["lost_after", "500_after", "kill_after"])
def test_the_last_word_of_a_row_that_is_gone_does_not_stay(fault: str) -> None:
    """It may have arrived although nobody knows: what it overwrote goes again, whether or not the row comes back."""
    world = World(batch_size=1)
    world.model = [Person(1, A, 1), Person(2, A, 2)]
    world.iterable.faults.extend(["", fault, fault])
    assert world.run() is not None
    assert world.iterable.users == {A: {"n": 2}}
    world.model = [Person(1, A, 1)]
    world.settle()
    assert world.iterable.users == {A: {"n": 1}}


MENDED: dict[str, tuple[OnRemoved, Sequence[Person], Sequence[Person], Sequence[Person]]] = {
    "a value": (
        "keep",
        [Person(1, A, 0), Person(2, A, 2)],
        [Person(1, A, 1), Person(2, A, math.nan)],
        [Person(1, A, 1), Person(2, A, 2)],
    ),
    "an address": ("delete", [Person(1, A, 0), Person(2, A, 2)], [Person(1, None, 1)], [Person(1, A, 0)]),
    "a key": (
        "keep",
        [Person(1, A, 0), Person(2, A, 2)],
        [Person(1, A, 1), Person(2, A, 2), Person(2, A, 2)],
        [Person(1, A, 1), Person(2, A, 2)],
    ),
}


@pytest.mark.parametrize("case", MENDED)
def test_a_row_that_was_invalid_while_others_wrote_its_profile_goes_again(case: str) -> None:
    """A mended row is sent although it is the one that was accepted: meanwhile others had their say."""
    on_removed, before, broken, mended = MENDED[case]
    world = World(on_removed)
    for model in (before, broken, mended):
        world.model = model
        world.settle()


def test_a_duplicate_key_does_not_make_its_namesakes_go_again() -> None:
    """Rows that share an identity with a duplicate key are not sent again with every run."""
    world = World()
    world.model = [Person(1, A, 0)]
    world.settle()
    world.model = [Person(1, A, 0), Person(2, A, 1), Person(2, A, 2)]
    world.check_silence()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_every_row_of_a_duplicate_key_bears_its_identity(order: list[int]) -> None:
    """Somebody whose row left is not deleted while any row of a duplicate key is about them."""
    world = World("delete")
    world.model = [Person(1, A)]
    world.settle()
    duplicates = [Person(2, A), Person(2, B)]
    world.model = [duplicates[number] for number in order]
    assert world.run() is None
    assert {A: {}} == world.iterable.users


@pytest.mark.parametrize("broken", [Person(2, A, math.nan), Person(1, None)], ids=["a value", "an address"])
def test_a_row_that_cannot_be_sent_keeps_its_person(broken: Person) -> None:
    """Somebody is not deleted while a row is about them, be it invalid, but they are once it has left, too."""
    world = World("delete")
    world.model = [Person(1, A, 1)]
    world.settle()
    world.model = [broken]
    for _ in range(2):
        assert world.run() is None
        assert {A: {"n": 1}} == world.iterable.users
        assert {"[1]"} == world.state.entries.keys()
    world.model = []
    world.settle()
    assert (world.iterable.users, world.state.entries) == ({}, {})


@pytest.mark.parametrize("fault", ["401", "500_before", "lost_before"])
@pytest.mark.parametrize("way", ["delete", "clear"])
def test_a_row_that_left_is_remembered_until_another_with_its_identity_is_accepted(way: OnRemoved, fault: str) -> None:
    """Another row bears its identity, is not accepted, and leaves as well: the record is removed all the same."""
    world = World(way)
    world.model = [Person(1, A, 1)]
    world.settle()
    world.model = [Person(2, A, 2)]
    world.iterable.faults.extend([fault] * 20)
    assert world.run() is not None
    world.model = []
    world.settle()
    assert world.iterable.users == ({} if way == "delete" else {A: {}})


def test_a_row_that_left_is_forgotten_once_another_with_its_identity_is_accepted() -> None:
    """It is remembered for no longer than it takes."""
    world = World("delete")
    world.model = [Person(1, A, 1)]
    world.settle()
    world.model = [Person(2, A, 2)]
    world.settle()
    assert world.state.entries.keys() == {"[2]"}


@pytest.mark.parametrize("back", [1, 5])
@pytest.mark.parametrize(("way", "accepted"), [("delete", 1), ("clear", 3)])
def test_a_row_whose_record_was_removed_for_another_one_goes_again(way: OnRemoved, accepted: int, back: int) -> None:
    """Two rows of one identity left, only one removal was accepted, and either row comes back as it was."""
    world = World(way)
    world.model = [Person(1, A, 1), Person(5, A, 1)]
    world.settle()
    world.model = []
    world.iterable.faults.extend([""] * accepted + ["401"] * 5)
    assert world.run() is not None
    assert len(world.state.entries) == 1
    world.model = [Person(back, A, 1)]
    world.settle()
    assert world.iterable.users == {A: {"n": 1}}


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("way", ["delete", "clear"])
def test_a_row_whose_removal_was_lost_goes_again_when_it_comes_back(way: OnRemoved, killed: bool) -> None:
    """Iterable removed the record and could not say so; the row is as it was accepted, and is not unchanged."""
    world = World(way)
    world.model = [Person(1, A, 1)]
    world.settle()
    world.model = []
    looks_up = [""] if way == "clear" else []
    world.iterable.faults.extend([*looks_up, "die_after"] if killed else [*looks_up, "lost_after", "lost_after"])
    assert world.run() is not None
    assert not any(world.iterable.users.values())
    world.model = [Person(1, A, 1)]
    world.settle()
    assert world.iterable.users == {A: {"n": 1}}
