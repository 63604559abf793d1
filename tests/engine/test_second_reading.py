from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.engine.vocabulary import Row
from tests.engine.test_plan import REMOVE, WRITE, counts, planned, reasons, sent
from tests.fakes import PlainSync, remembering


def test_unchanged_rows_of_a_shared_identity_go_again() -> None:
    """When one of its rows changed, all rows of an identity go, so that the greatest key has the last word."""
    state = remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1), ("3", "b@x.io", 1))
    plan = planned([("1", "a@x.io", 2), ("2", "a@x.io", 1), ("3", "b@x.io", 1)], state)
    assert ["1", "2"] == sent(plan)
    assert (0, 2, 0, 1, 0) == counts(plan)
    assert 1 == plan.resent
    assert {hash(("email", "a@x.io"))} == plan.shared


def test_an_added_row_makes_its_namesakes_go_again() -> None:
    """The new row may have the smaller key."""
    plan = planned([("1", "a@x.io", 2), ("2", "a@x.io", 1)], remembering(("2", "a@x.io", 1)))
    assert ["1", "2"] == sent(plan)
    assert (1, 1, 0, 0, 0) == counts(plan)


def test_a_row_that_left_makes_its_namesakes_go_again() -> None:
    """Its word may have been the last one."""
    plan = planned([("1", "a@x.io", 1)], remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1)))
    assert ["1"] == sent(plan)
    assert (0, 1, 1, 0, 0) == counts(plan)


def test_rows_go_again_before_the_removals() -> None:
    """What is found on the second reading is planned with the other rows, apart from the removals."""
    state = remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1), ("8", "y@x.io", 1), ("9", "z@x.io", 1))
    plan = planned([("1", "a@x.io", 1), ("2", "a@x.io", 2)], state)
    assert ["2", "1", "8", "9"] == sent(plan)
    assert ["8", "9"] == [operation.key for operation in plan.removed()]


def test_rows_that_do_not_overwrite_each_other_do_not_go_again() -> None:
    """Where an identity is not one thing at Iterable, unchanged rows stay quiet."""
    state = remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1))
    plan = planned([("1", "a@x.io", 2), ("2", "a@x.io", 1)], state, PlainSync(WRITE, exclusive=False))
    assert ["1"] == sent(plan)
    assert set() == plan.shared


def members() -> PlainSync:
    """Return a sync in which rows with one key are one record."""
    return PlainSync(WRITE, REMOVE, exclusive=False, collapses=True)


@pytest.mark.parametrize("memory", [None, "a", "b", "c"])
@pytest.mark.parametrize("values", [["a", "c", "b"], ["c", "b", "a"], ["a", "b", "c"], ["bad", "c"], ["c", "bad"]])
def test_of_rows_that_are_one_record_the_greatest_speaks(memory: str | None, values: list[str]) -> None:
    """The record counts once, as the greatest row's alone would, and the surplus is counted."""
    state = remembering(*[] if memory is None else [("1", "a@x.io", memory)])
    rows: list[Row] = [("2", "b@x.io", 1), *(("1", "a@x.io", value) for value in values), ("3", "c@x.io", 1)]
    plan = planned(rows, state, members())
    alone = planned([rows[0], ("1", "a@x.io", max(values)), rows[-1]], state, members())
    assert counts(alone) == counts(plan)
    assert sorted(sent(alone)) == sorted(sent(plan))
    assert alone.calls == +plan.calls
    assert sorted(op.body for op in alone.operations()) == sorted(op.body for op in plan.operations())
    assert len(values) - 1 == plan.collapsed


@given(
    rows=st.lists(st.tuples(st.sampled_from("123"), st.sampled_from(["a", "b", "bad", "c"])), max_size=8),
    memories=st.dictionaries(st.sampled_from("1234"), st.sampled_from("abc")),
)
def test_collapsing_is_like_a_model_of_the_greatest_rows(rows: list[tuple[str, str]], memories: dict[str, str]) -> None:
    """Whatever is remembered, a model with several rows for a record plans what the greatest of each would."""
    model: list[Row] = [(key, f"{key}@x.io", value) for key, value in rows]
    greatest: dict[str, str] = {}
    for key, value in rows:
        greatest[key] = max(value, greatest.get(key, ""))
    state = remembering(*((key, f"{key}@x.io", value) for key, value in memories.items()))
    plan = planned(model, state, members())
    alone = planned([(key, f"{key}@x.io", value) for key, value in greatest.items()], state, members())
    assert counts(alone) == counts(plan)
    assert sorted(op.body for op in alone.operations()) == sorted(op.body for op in plan.operations())
    assert sorted(reasons(alone)) == sorted(reasons(plan))
    assert len(rows) - len(greatest) == plan.collapsed
