from __future__ import annotations

import pytest

from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.errors import GuardTripped
from tests.engine.test_run import PEOPLE, Stage


def plan_hash(rows: list[Row], *remembered: Row) -> str:
    """Return the hash of a plan."""
    return str(Stage(*remembered).run(*rows, dry_run=True)["plan_hash"])


def test_a_plan_hash_is_the_same_in_any_row_order() -> None:
    """The hash is of what would be done, not of how the model was read."""
    assert plan_hash(PEOPLE) == plan_hash(PEOPLE[::-1])


@pytest.mark.parametrize(
    "rows",
    [
        PEOPLE[1:],
        [("0", "0@x.io", 2), *PEOPLE[1:]],
        [*PEOPLE, (None, "x", 1)],
        [*PEOPLE, ("0", "0@x.io", 1)],
    ],
)
def test_another_plan_has_another_hash(rows: list[Row]) -> None:
    """A row more or less, another value and another rejection are another plan."""
    assert plan_hash(PEOPLE) != plan_hash(rows)


def test_what_is_remembered_decides_the_hash_too() -> None:
    """A change is another plan than an addition, and a removal is part of the plan."""
    assert plan_hash(PEOPLE) != plan_hash(PEOPLE, ("0", "0@x.io", 9))
    assert plan_hash(PEOPLE) != plan_hash(PEOPLE, ("9", "9@x.io", 9))


def test_an_approved_plan_is_applied() -> None:
    """The plan that a dry run showed goes out as it is."""
    stage = Stage()
    approved = stage.run(*PEOPLE, dry_run=True)["plan_hash"]
    told = stage.run(*PEOPLE[::-1], approved_plan=approved)
    assert (5, approved) == (told["accepted"], told["plan_hash"])


@pytest.mark.parametrize("approved", ["0" * 32, "", "-".join(["0" * 32, *["0" * 8] * 6])])
def test_a_plan_that_was_not_approved_is_not_begun(approved: str) -> None:
    """Another hash, or an empty one, means that nothing is sent."""
    stage = Stage()
    said = {0: "is not the hash of a plan", 32: "hash of an earlier version"}.get(len(approved), "differs: the rows")
    with pytest.raises(GuardTripped, match=said):
        stage.run(*PEOPLE, approved_plan=approved)
    assert ([], []) == (stage.sender.history, stage.state.patches)
