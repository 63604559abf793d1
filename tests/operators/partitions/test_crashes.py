"""A change of partitions that is killed at any moment, and what people may do next."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.state import TableState
from tests.operators.conftest import BULK
from tests.operators.partitions.conftest import (
    DELETE,
    FOUR,
    SIX,
    Shop,
    Transactions,
    addresses,
    held,
    total,
)

THREE = range(3)


STORIES: dict[str, tuple[list[tuple[Iterable[int], bool]], Iterable[int] | None]] = {
    "the next runs": ([(SIX, False), (SIX, False)], SIX),
    "back again": ([(FOUR, False)], FOUR),
    "yet others": ([(THREE, False)], THREE),
    "none": ([], None),
    "others that do not end either": ([(SIX, False), (THREE, True), (SIX, False)], THREE),
}
"""What follows: with which partitions, and whether only one of them is run; and those that it ends with."""


@pytest.mark.slow
@pytest.mark.parametrize("which", STORIES)
def test_whatever_follows_a_change_that_was_killed(small: Shop, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """Before or after a transaction: who is in the model stays, who left is deleted once, no lease is left.

    Each story is told of its own twentieth of the transactions, and all of them together of every fourth one.
    """
    (tries, last), first = STORIES[which], 1 + 4 * list(STORIES).index(which)
    transactions = Transactions(monkeypatch)

    def story(number: int, after: bool) -> int:
        """Return how many transactions the change takes."""
        sync: Any = {"sync_id": f"story-{number}-{after}", "state": TableState(audit=False)}
        small.people(range(1, 31))
        small.run(FOUR, **sync)
        small.people(range(1, 25))
        small.sql("UPDATE users SET name = 'Changed' WHERE id = 7")
        small.world.forget_calls()
        with transactions.killing(number, after):
            small.run(SIX, repartition=True, **sync)
        took = transactions.count
        small.sql("UPDATE iterable_sync_lease SET expires_at = 1")  # what a killed run held runs out
        for names, one in tries:
            small.runs += 1
            some = random.Random(number).sample(list(names), 1 if one else len(list(names)))
            for partition in some:
                with suppress(AirflowException):
                    small.task(partition, names, repartition=one, **sync)
        small.run(last, repartition=True, **sync)
        small.run(last, **sync)
        settled(small, sync["sync_id"], last)
        assert total(small.run(last, **sync), "unchanged") == 24
        return took

    took = story(0, False)
    assert took > 100
    for turn, number in enumerate(range(first, took + 1, 4 * len(STORIES))):
        story(number, turn % 2 == 0)


def settled(shop: Shop, sync_id: str, names: Iterable[int] | None) -> None:
    """Check that nothing was lost, done twice or left behind."""
    assert shop.world.calls[DELETE] == 6
    assert sum(call.records for call in shop.world.sandbox.calls if f"{call.method} {call.template}" == BULK) <= 2
    assert set(shop.world.profiles) == addresses(range(1, 25))
    remembered = Counter({entry: times for entry, times in shop.remembered.items() if entry[0].startswith(sync_id)})
    if names is None:
        assert remembered == Counter((sync_id, f"[{number}]") for number in range(1, 25))
    else:
        assert remembered == held(names, range(1, 25), sync_id)
    whose = {sync_id} | {f"{sync_id}[{name}]" for name in names or ()}
    assert {name for name in shop.headers() if name.startswith(sync_id)} == whose
    assert not [name for (name,) in shop.leases if name.startswith(sync_id)]
