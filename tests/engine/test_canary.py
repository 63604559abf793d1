from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from airflow_provider_iterable.engine.canary import Canary, Trials
from airflow_provider_iterable.engine.pack import waves
from airflow_provider_iterable.engine.samples import order
from airflow_provider_iterable.engine.vocabulary import Accepted, Operation, Row
from tests.engine.test_pack import planned
from tests.fakes import PlainSync, a_call, an_operation, keys, remembering

CALL = a_call()


def numbered(names: Iterable[object]) -> list[tuple[int, Operation]]:
    """Return an operation for each key, with its number."""
    return list(enumerate(an_operation(str(name), CALL) for name in names))


def chosen(canary: Canary, names: Iterable[object], *given: int) -> set[str]:
    """Return the keys of those that go first."""
    operations = numbered(names)
    return {operations[number][1].key for number in canary.choose(operations, given)}


def trials(canary: Canary, ends: list[str]) -> Trials:
    """Return the trials of a run in which something is always left."""
    return Trials(canary, False, lambda: 1, lambda: ends.append("ended"))


def test_the_place_of_a_key_never_changes() -> None:
    """Neither by Python's hashes nor by versions: a retry is to take the same rows."""
    assert sorted(range(10), key=lambda number: order(f"[{number}]")) == [3, 8, 2, 6, 7, 9, 5, 0, 4, 1]


@pytest.mark.parametrize(
    ("rows", "of", "size"),
    [(10, 1000, 10), (10, 3, 3), (1, 0, 0), (0.01, 1000, 10), (0.01, 7, 1), (0.5, 3, 2), (1.0, 9, 9), (0.3, 0, 0)],
)
def test_how_many_go_first(rows: int | float, of: int, size: int) -> None:
    """A share of few rows is one at least."""
    assert len(chosen(Canary(rows), range(of))) == Canary(rows).size(of) == size


def test_whatever_the_order_of_rows_the_same_go_first() -> None:
    """And those that were refused once are among them when others are accepted."""
    names = list(range(500))
    first = chosen(Canary(20), names)
    random.Random(1).shuffle(names)
    assert chosen(Canary(20), names) == first
    accepted = set(sorted(first)[:12])
    again = chosen(Canary(20), [name for name in names if str(name) not in accepted])
    assert first - accepted < again


def test_those_that_have_to_are_among_them() -> None:
    """They come first, and the number stays what it is."""
    operations = numbered(range(100))
    assert Canary(5).choose(operations, [77, 3])[:2] == [77, 3]
    assert len(set(Canary(5).choose(operations, [77, 3]))) == 5
    assert Canary(1).choose(operations, [77, 3]) == [77]
    assert set(Canary(100).choose(operations, [77, 3])) == set(range(100))


def test_what_calls_nothing_or_waits_does_not_go_first() -> None:
    """It would say nothing."""
    silent = [(number, an_operation(str(number), None)) for number in range(5)]
    assert Canary(3).choose(silent) == []
    waiting = Canary(3, waits=lambda operation: operation.key != "4")
    assert waiting.choose(numbered(range(9))) == [4]


@pytest.mark.parametrize(("limit", "allowed"), [(0, 0), (3, 3), (0.1, 1), (0.05, 0), (1.0, 19)])
def test_how_many_may_be_refused(limit: int | float, allowed: int) -> None:
    """Parts of a row are none."""
    assert Canary(19, limit).allowed(19) == allowed


def test_each_wave_is_in_two() -> None:
    """Rows alone, those that share an identity by turns, and removals; each row once."""
    sync = PlainSync(CALL, CALL)
    rows: list[Row] = [
        *((str(n), f"{n}@x.io", n) for n in range(6)),
        *((str(n), f"{n % 2}@y.io", n) for n in range(6, 10)),
    ]
    plan = planned(sync, rows, remembering(*((f"r{n}", f"r{n}@x.io", 1) for n in range(4))))
    ends: list[str] = []
    found = [set(keys(wave)) for wave in waves(plan, False, [[3, 2], [5]], trials(Canary(3), ends))]
    sizes = [len(names) for names in found if names]
    assert sizes == [2, 1, 1, 2, 2, 2, 3, 1]
    assert found[0] == {"3", "2"}
    assert sum(map(len, found)) == len(set().union(*found)) == 14
    assert not ends


def test_a_verdict_is_about_the_rows_that_went_first() -> None:
    """What is settled between trials does not count."""
    ends: list[str] = []
    judge = trials(Canary(1, unapproved=lambda: ["age"]), ends)
    (operation,) = (operation for _, operation in numbered([1]))
    judge.settle(Accepted([operation]))
    for _ in judge.judged(1, [operation]):
        judge.settle(Accepted([operation]))
    assert ends == ["ended"]
    assert "age" in judge.verdict
