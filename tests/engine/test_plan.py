from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.engine.guards import Guards, guard
from airflow_provider_iterable.engine.plan import Plan, Planner
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.run import make_plan
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Entry, Row
from airflow_provider_iterable.errors import GuardTripped
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


def test_memories_that_others_overwrite_are_doubted() -> None:
    """Until its own row had its say, a memory of a shared identity is not to be trusted; its reference stays."""
    state = remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1), ("3", "b@x.io", 1))
    rows: list[Row] = [("1", "a@x.io", 2), ("2", "a@x.io", 1), ("3", "b@x.io", 2)]
    plan = planned(rows, state)
    assert {"1": Entry(NEVER_EQUAL, "a@x.io"), "2": Entry(NEVER_EQUAL, "a@x.io")} == plan.doubted
    assert Entry(b"1", "a@x.io") == state.entries["1"]


def test_a_memory_of_an_invalid_row_is_doubted_when_another_row_speaks() -> None:
    """The row cannot be sent while its profile becomes another."""
    state = remembering(("1", "a@x.io", 1), ("2", "a@x.io", 1), ("3", "b@x.io", 1))
    plan = planned([("1", "a@x.io", 2), ("2", "a@x.io", "bad"), ("3", "b@x.io", "bad")], state)
    assert {"2": Entry(NEVER_EQUAL, "a@x.io")} == plan.doubted


def test_nothing_is_doubted_where_no_identity_is_shared() -> None:
    """A changed, a removed and an invalid row by themselves leave all memories as they are."""
    state = remembering(("1", "a@x.io", 1), ("2", "b@x.io", 1), ("3", "c@x.io", 1))
    assert {} == planned([("1", "a@x.io", 2), ("2", "b@x.io", "bad")], state).doubted


def test_the_patch_is_what_all_operations_would_leave() -> None:
    """Added and changed rows are remembered, removed ones forgotten."""
    plan = planned([("1", "a@x.io", 1)], remembering(("2", "b@x.io", 1)))
    assert [{"1": Entry(b"1", "a@x.io")}, {"2": None}] == list(plan.patch())


def plan_of(removed: int, kept: int) -> tuple[Plan, int]:
    """Return a plan that removes some rows and keeps some, and how many are remembered."""
    everybody: list[Row] = [(str(n), f"{n}@x.io", 1) for n in range(removed + kept)]
    return planned(everybody[removed:], remembering(*everybody)), removed + kept


def tripped(plan: Plan, guards: Guards, remembered: int) -> str:
    """Return why a guard trips; empty when none does."""
    try:
        guard(plan, guards, remembered)
    except GuardTripped as error:
        return str(error)
    return ""


def test_an_empty_model_is_not_believed() -> None:
    """No rows at all are taken for a mistake unless allowed."""
    plan, remembered = plan_of(3, 0)
    assert "allow_empty=True" in tripped(plan, Guards(), remembered)
    assert "" == tripped(plan, Guards(allow_empty=True), remembered)


def test_a_model_of_invalid_rows_is_not_empty() -> None:
    """Rows that cannot be sent are rows."""
    assert "" == tripped(planned([("1", None, 1)]), Guards(), 0)


@pytest.mark.parametrize(
    ("limit", "removed", "kept", "trips"),
    [
        (0.3, 19, 0, False),
        (0.3, 20, 20, True),
        (0.5, 20, 20, False),
        (0.5, 21, 20, True),
        (20, 20, 5, False),
        (20, 21, 500, True),
        (0, 19, 5, False),
        (0, 20, 5, True),
        (1.0, 25, 5, False),
        (None, 25, 5, False),
    ],
)
def test_max_removed_holds_from_twenty_removals(
    limit: float | int | None, removed: int, kept: int, trips: bool
) -> None:
    """A float is a share of what is remembered, an int a number of rows, None no limit."""
    plan, remembered = plan_of(removed, kept)
    message = tripped(plan, Guards(allow_empty=True, max_removed=limit), remembered)
    assert trips is ("max_removed" in message)


def test_max_deletes_counts_calls() -> None:
    """Deletions count from the first on; removals that make no call do not."""
    plan, remembered = plan_of(3, 5)
    assert "max_deletes allows 2" in tripped(plan, Guards(max_deletes=2), remembered)
    assert "" == tripped(plan, Guards(max_deletes=3), remembered)
    borne = planned([("2", "a@x.io", 1)], remembering(("1", "a@x.io", 1)))
    assert "" == tripped(borne, Guards(max_deletes=0), 1)


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
