"""Random histories of syncs that do not keep users equal: those that only create, and fields that are filled once."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any, get_args

import pytest

from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.mapping import Column, Mapper
from airflow_provider_iterable.syncs.new_users import NewUsers
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.histories import COMMIT_FAULTS, FAULTS
from tests.laws.test_unseen import UnseenState
from tests.laws.world import COLUMNS, PEOPLE, OnRemoved, Person, WatchedState, World

HISTORIES, SEED = 150, 20_261_201
states = pytest.mark.parametrize("state", [WatchedState, UnseenState])
State = Callable[[World], WatchedState]


class Unlike(World):
    """A world whose sync leaves things alone: what it remembers was not always sent, so nothing is said about that."""

    def check(self, key: str, entry: Entry | None) -> None:
        """Demand nothing."""


class Creating(Unlike):
    """A world whose sync only creates."""

    def sync(self) -> Users:
        """Return the sync, as each run makes it anew."""
        options = UserOptions(
            ("id",), "email", "email", mode="create", on_removed=self.on_removed, project_type="email"
        )
        return NewUsers(options, Mapper({"n": "n", "s": "s"}), COLUMNS)


class Filling(Unlike):
    """A world whose sync sends the field ``s`` only to profiles without it."""

    def sync(self) -> Users:
        """Return the sync, as each run makes it anew."""
        options = UserOptions(("id",), "email", "email", on_removed=self.on_removed, project_type="email")
        return Users(options, Mapper({"n": "n", "s": Column("s", only_if_empty=True)}), COLUMNS)


def change(world: World, rows: dict[int, Person], present: set[int], chance: random.Random) -> None:
    """Change rows, let some leave or return, and let things go wrong."""
    for number in rows:
        if chance.random() < 0.5:
            rows[number] = rows[number]._replace(n=chance.randint(0, 1), s=chance.choice([None, "x", "y"]))
        if chance.random() < 0.3:
            present ^= {number}
    world.model = [rows[number] for number in sorted(present)]
    world.iterable.faults.extend(chance.choice(FAULTS) if chance.random() < 0.4 else "" for _ in range(10))
    world.state.faults.extend(chance.choice(COMMIT_FAULTS) if chance.random() < 0.1 else "" for _ in range(6))


def begin(kind: type[World], state: State, chance: random.Random) -> tuple[World, dict[int, Person]]:
    """Return a world in which somebody is there before, and rows of which some are about one person."""
    world = kind(chance.choice(get_args(OnRemoved)), chance.randint(1, 4), chance.randint(1, 2), chance.randint(1, 3))
    world.state = state(world)
    for name in chance.sample(PEOPLE, 2):
        world.iterable.users[name] = {"n": 9, **({"s": "own"} if chance.random() < 0.5 else {})}
    return world, {number: Person(number, name, 0) for number, name in enumerate((*PEOPLE, *PEOPLE[:2]), 1)}


def silent(world: World) -> None:
    """A run without news makes no request."""
    requests = len(world.iterable.history)
    assert world.run() is None
    assert requests == len(world.iterable.history)


@states
def test_who_was_there_keeps_everything_and_everybody_else_comes_to_be(state: State) -> None:
    """Whatever is lost and whoever dies: who was there is never written, cleared or deleted."""
    for seed in range(HISTORIES):
        chance = random.Random(SEED + seed)
        world, rows = begin(Creating, state, chance)
        before = deepcopy(world.iterable.users)
        present = set(rows)
        for _ in range(chance.randint(1, 4)):
            change(world, rows, present, chance)
            world.run()
            found = {name: world.iterable.users.get(name) for name in before}
            assert found == before, seed
            world.heal()
        assert world.run() is None
        assert {person.identity for person in world.model} <= world.iterable.users.keys(), seed
        assert before == {name: world.iterable.users.get(name) for name in before}, seed
        silent(world)


@states
def test_without_trouble_who_was_created_is_removed(state: State) -> None:
    """Nobody whom the sync made stays behind."""
    for seed in range(HISTORIES):
        chance = random.Random(SEED + seed)
        world, rows = begin(Creating, state, chance)
        rows = {number: rows[number] for number in (1, 2, 3, 4)}  # of two about one person, either may have made them
        before = deepcopy(world.iterable.users)
        present = set(rows)
        for _ in range(3):
            change(world, rows, present, chance)
            world.heal()
            assert world.run() is None
            borne = {person.identity for person in world.model}
            left = {name: fields for name, fields in world.iterable.users.items() if name not in {*before, *borne}}
            if world.on_removed != "keep":
                assert not any(left.values()), seed
            if world.on_removed == "delete":
                assert not left, seed


@states
def test_a_field_that_a_profile_has_is_never_written(state: State) -> None:
    """Whatever is lost and whoever dies: it is filled once, and the other fields are kept equal."""
    for seed in range(HISTORIES):
        chance = random.Random(SEED + seed)
        world, rows = begin(Filling, state, chance)
        present = set(rows)
        for _ in range(chance.randint(1, 4)):
            change(world, rows, present, chance)
            filled: dict[str, Any] = {name: had["s"] for name, had in world.iterable.users.items() if "s" in had}
            world.run()
            for name, value in filled.items():
                deleted = world.on_removed == "delete"  # and perhaps made anew
                assert deleted or world.iterable.users[name]["s"] == value, seed
            world.heal()
        assert world.run() is None
        last = {person.identity: person for person in world.model}
        for identity, person in last.items():
            assert world.iterable.users[str(identity)].get("n") == person.n, seed
            assert person.s is None or world.iterable.users[str(identity)].get("s"), seed
        silent(world)
