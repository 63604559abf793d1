"""Random histories of a sync whose answers are lost and whose worker dies: ``python -m tests.histories``.

In a history rows change, change back, leave and return, some of them about one person; answers are lost before or after
Iterable applied the request, and the worker dies at any request or commit. Then nothing goes wrong any more: one run
makes Iterable equal to the model, which is compared without asking the state, and the next run sends nothing.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_args

from airflow_provider_iterable.engine.doubt import with_receipts
from airflow_provider_iterable.engine.vocabulary import NO_INTENTS, Intents, Patch
from tests.laws.test_unseen import UnseenState
from tests.laws.world import PEOPLE, OnRemoved, Person, WatchedState, World

FAULTS = (
    "lost_before",
    "lost_after",
    "500_before",
    "500_after",
    "garbled_after",
    "429",
    "401",
    "die_before",
    "die_after",
)
COMMIT_FAULTS = ("kill", "kill_after")


class ForgetfulState(WatchedState):
    """A state without write-ahead: what it shows is that the histories would notice."""

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch alone."""
        super().commit(with_receipts(patch, intents))


class Unequal(AssertionError):
    """Iterable differs from the model although nothing went wrong any more."""


def history(seed: int, make: Callable[[World], WatchedState] = WatchedState) -> None:
    """Live through one history.

    :raises Unequal: it did not end well
    """
    chance = random.Random(seed)
    on_removed: OnRemoved = chance.choice(get_args(OnRemoved))
    world = World(on_removed, chance.randint(1, 4), chance.randint(1, 2), chance.randint(1, 3))
    world.state = make(world)
    rows = {number: Person(number, name, 0) for number, name in enumerate((*PEOPLE, *PEOPLE[:2]), 1)}
    present = set(rows)
    for _ in range(chance.randint(1, 3)):
        for _ in range(chance.randint(1, 3)):
            for number in rows:
                if chance.random() < 0.5:
                    rows[number] = rows[number]._replace(n=chance.randint(0, 1))
                if chance.random() < 0.3:
                    present ^= {number}
            world.model = [rows[number] for number in sorted(present)]
            _trouble(world, chance)
            world.run()
            world.heal()
        # A change that was taken back, or a row that came back, is what an old entry would take for unchanged.
        _check(world, on_removed, seed)


def _trouble(world: World, chance: random.Random) -> None:
    faults: list[str] = [chance.choice(FAULTS) if chance.random() < 0.4 else "" for _ in range(8)]
    world.iterable.faults.extend(faults)
    world.state.faults.extend(chance.choice(COMMIT_FAULTS) if chance.random() < 0.1 else "" for _ in range(6))


def _check(world: World, on_removed: OnRemoved, seed: int) -> None:
    world.heal()
    if (error := world.run()) is not None:
        raise Unequal(f"seed {seed}: the run failed: {error!r}")
    users = world.iterable.users
    wanted = {str(person.identity): person.fields for person in world.model}  # the last row of an identity counts
    found = {name: fields for name, fields in users.items() if name in wanted}
    left = {name: fields for name, fields in users.items() if name not in wanted}
    if found != wanted:
        raise Unequal(f"seed {seed}: Iterable has {found} and not {wanted}")
    if (on_removed == "delete" and left) or (on_removed == "clear" and any(left.values())):
        raise Unequal(f"seed {seed}: Iterable still has {left}")
    requests = len(world.iterable.history)
    world.run()
    if len(world.iterable.history) > requests:
        raise Unequal(f"seed {seed}: a run without news made requests")


def failures(rounds: int, seed: int, make: Callable[[World], WatchedState]) -> list[str]:
    """Live through many histories, and return what went wrong."""
    found: list[str] = []
    for number in range(rounds):
        try:
            history(seed + number, make)
        except AssertionError as error:
            found.append(str(error) or f"seed {seed + number}: a law was broken")
    return found


STATES: dict[str, Callable[[World], WatchedState]] = {"worker": WatchedState, "database": UnseenState}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; 0 if every history ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help="histories, half of each way to compare")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="of the first history")
    options: Any = parser.parse_args(arguments)
    print(f"{options.rounds} histories from seed {options.seed}")
    wrong = [error for make in STATES.values() for error in failures(options.rounds // len(STATES), options.seed, make)]
    forgetful = failures(options.rounds, options.seed, ForgetfulState)
    print("\n".join([*wrong, f"{len(wrong)} went wrong; without write-ahead {len(forgetful)}"]))
    return 1 if wrong or not forgetful else 0


if __name__ == "__main__":
    sys.exit(main())
