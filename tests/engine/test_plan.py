from __future__ import annotations

from collections.abc import Iterable

import pytest

from airflow_provider_iterable.engine.plan import Plan, Planner
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.run import make_plan
from airflow_provider_iterable.engine.vocabulary import Entry, Row
from airflow_provider_iterable.state.memory import MemoryState
from tests.fakes import PlainSync, a_call, a_spool, in_chunks, remembering

WRITE, REMOVE = a_call(name="/write"), a_call(name="/remove")


def planned(rows: list[Row], state: MemoryState | None = None, sync: PlainSync | None = None) -> Plan:
    """Return the plan of rows against a state, read once more where that is needed."""
    state = MemoryState() if state is None else state
    sync = sync or PlainSync(WRITE, REMOVE)
    return make_plan(Planner(sync, a_spool(), a_spool()), lambda: in_chunks(rows), state)


def counts(plan: Plan) -> tuple[int, int, int, int, int]:
    """Return added, changed, removed, unchanged, invalid."""
    return (
        plan.counts[Kind.ADDED],
        plan.counts[Kind.CHANGED],
        plan.counts[Kind.REMOVED],
        plan.unchanged,
        plan.counts[Kind.INVALID],
    )


def sent(plan: Plan) -> list[str]:
    """Return the keys of the operations that make a call, in order."""
    return [operation.key for operation in plan.operations() if operation.call is not None]


def reasons(plan: Plan) -> list[tuple[str, Reason | None]]:
    """Return who is invalid, and why."""
    return sorted((outcome.key, outcome.reason) for outcome in plan.invalid)


def test_each_kind_of_change_is_counted_once() -> None:
    """Read is the sum of added, changed, unchanged and invalid."""
    state = remembering(("1", "a@x.io", 1), ("2", "b@x.io", 1), ("9", "z@x.io", 1))
    rows: list[Row] = [("1", "a@x.io", 1), ("2", "b@x.io", 2), ("3", "c@x.io", 1), ("4", None, 1), (None, "d@x.io", 1)]
    plan = planned(rows, state)
    assert (1, 1, 1, 1, 2) == counts(plan)
    assert 5 == plan.read
    assert ["2", "3", "9"] == sorted(sent(plan))
    assert 3 == plan.sends
    assert {WRITE: 2, REMOVE: 1} == dict(plan.calls)


def test_null_keys_are_invalid_and_are_not_duplicates_of_each_other() -> None:
    """Rows without a key are rejected one by one."""
    plan = planned([(None, "a@x.io", 1), (None, "b@x.io", 1)])
    assert [("", Reason.NULL_KEY)] * 2 == reasons(plan)
    assert (0, 0, 0, 0, 2) == counts(plan)


def test_an_invalid_row_is_not_a_removal() -> None:
    """A key that is present stays remembered, whatever its row says."""
    plan = planned([("1", None, 1)], remembering(("1", "a@x.io", 1)))
    assert (0, 0, 0, 0, 1) == counts(plan)
    assert [] == sent(plan)


@pytest.mark.parametrize(
    ("first", "memory"),
    [("x", None), ("x", "old"), ("x", "x"), ("bad", None), ("bad", "old")],
    ids=["added", "changed", "unchanged", "invalid", "invalid and remembered"],
)
@pytest.mark.parametrize("others", [["x"], ["y", "bad"]])
def test_duplicate_keys_are_all_rejected_and_counted(first: str, memory: str | None, others: list[str]) -> None:
    """Whatever the first row of a key seemed to be, all rows of the key are invalid, and none is removed or sent."""
    state = remembering(*[] if memory is None else [("1", "a@x.io", memory)])
    rows: list[Row] = [("1", "a@x.io", first), ("2", "b@x.io", 1), *[("1", "a@x.io", other) for other in others]]
    plan = planned(rows, state)
    assert (1, 0, 0, 0, 1 + len(others)) == counts(plan)
    assert len(rows) == plan.read
    assert ["2"] == sent(plan)
    assert 1 == plan.sends
    assert [("1", Reason.DUPLICATE_KEY)] * (1 + len(others)) == reasons(plan)
    assert {f"{1 + len(others)} rows"} == {outcome.detail for outcome in plan.invalid}


def test_a_removal_of_a_borne_identity_makes_no_call() -> None:
    """Whoever has another row, sent, unchanged or invalid, is not removed; only the entry goes."""
    models: list[list[Row]] = [
        [("2", "a@x.io", 1)],
        [("2", "a@x.io", 9)],
        [("2", "a@x.io", "bad")],
        [("2", "a@x.io", 1), ("2", "a@x.io", 1)],
        [("2", "b@x.io", 1), ("2", "a@x.io", 1)],
    ]
    for borne in models:
        plan = planned(borne, remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1)))
        removals = [operation for operation in plan.operations() if operation.kind is Kind.REMOVED]
        assert [("1", None, None)] == [(one.key, one.call, one.remember) for one in removals]
        assert 0 == plan.calls[REMOVE]
        assert 1 == plan.counts[Kind.REMOVED]


def test_a_removal_of_nobodys_identity_is_called() -> None:
    """Somebody without a row is removed."""
    plan = planned([("2", "b@x.io", 1)], remembering(("1", "a@x.io", 1), ("2", "b@x.io", 1)))
    assert ["1"] == sent(plan)


def test_a_moved_identity_is_counted_and_its_namesakes_go_again() -> None:
    """The new identity is written, the old one left to those who bear it."""
    state = remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1))
    plan = planned([("1", "b@x.io", 2), ("2", "a@x.io", 1)], state)
    assert 1 == plan.moved
    assert ["1", "2"] == sent(plan)


def test_the_patch_is_what_all_operations_would_leave() -> None:
    """Added and changed rows are remembered, removed ones forgotten."""
    plan = planned([("1", "a@x.io", 1)], remembering(("2", "b@x.io", 1)))
    assert [{"1": Entry(b"1", "a@x.io")}, {"2": None}] == list(plan.patch())


def orders(rows: list[Row]) -> Iterable[list[Row]]:
    """Return some orders of rows."""
    return [rows, rows[::-1], rows[2:] + rows[:2]]


def test_row_order_changes_no_count() -> None:
    """Counts, shared identities and doubts are the same whatever the row order."""
    state = remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1), ("7", "g@x.io", 1))
    rows: list[Row] = [("1", "a@x.io", 2), ("2", "a@x.io", 1), ("3", "g@x.io", 1), ("3", "h@x.io", 1), (None, "x", 1)]
    plans = [planned(order, state) for order in orders(rows)]
    for plan in plans[1:]:
        assert counts(plans[0]) == counts(plan)
        assert sorted(sent(plans[0])) == sorted(sent(plan))
        assert (plans[0].shared, plans[0].borne, plans[0].doubted) == (plan.shared, plan.borne, plan.doubted)


def test_a_key_that_is_kept_for_ever_is_no_removal() -> None:
    """A row that leaves is forgotten by nobody, and does not fire again when it comes back."""
    state = remembering(("1", "a@x.io", 1), ("2", "b@x.io", 1))
    sync = PlainSync(WRITE, REMOVE, keeps_leavers=True)
    assert (0, 0, 0, 1, 0) == counts(planned([("1", "a@x.io", 1)], state, sync))
    assert (0, 0, 0, 2, 0) == counts(planned([("1", "a@x.io", 1), ("2", "b@x.io", 1)], state, sync))


def test_an_identity_that_was_left_can_be_removed() -> None:
    """Where a sync wants it, a row under another identity removes the one it had, unless another row bears it."""
    sync = PlainSync(WRITE, REMOVE)
    sync.left = REMOVE
    state = remembering(("1", "a@x.io", 1))
    plan = planned([("1", "b@x.io", 2)], state, sync)
    assert ["1", "1/left"] == sent(plan)
    assert (1, 1) == (plan.moved, plan.followed)
    assert {WRITE: 1, REMOVE: 1} == dict(plan.calls)
    plan = planned([("1", "b@x.io", 2), ("2", "a@x.io", 1)], state, sync)
    assert ["1", "2"] == sorted(sent(plan))


def test_a_removal_that_is_void_is_uncounted_once() -> None:
    """A row that moved is no such row if its key turns out to be a duplicate, whoever bears its former identity."""
    sync = PlainSync(WRITE, REMOVE)
    sync.left = REMOVE
    state = remembering(("1", "a@x.io", 1))
    for others in ([], [("2", "a@x.io", 1)]):
        plan = planned([("1", "b@x.io", 2), ("1", "c@x.io", 2), *others], state, sync)
        assert (0, 0, 0, 0) == (plan.calls[REMOVE], plan.deletes, plan.counts[Kind.REMOVED], plan.followed)
        assert len(others) == plan.sends
        assert [] == list(plan.removed())
