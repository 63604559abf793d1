from __future__ import annotations

from collections.abc import Iterable

import pytest

from airflow_provider_iterable.engine.compare import compare, recalled
from airflow_provider_iterable.engine.pack import Packer, waves
from airflow_provider_iterable.engine.plan import Plan, Planner
from airflow_provider_iterable.engine.vocabulary import Batch, Call, Operation, Row
from airflow_provider_iterable.state.memory import MemoryState
from tests.fakes import PlainSync, a_call, a_spool, an_operation, in_chunks, keys, remembering


def packed(operations: Iterable[Operation], call: Call, batch_size: int = 1000) -> list[Batch]:
    """Return the batches."""
    packer = Packer(batch_size)
    closed = [packer.add(operation, call) for operation in operations]
    return [batch for batch in closed if batch is not None] + list(packer.flush())


def planned(sync: PlainSync, rows: list[Row], state: MemoryState) -> Plan:
    """Return the plan of one pass."""
    planner = Planner(sync, a_spool(), a_spool())
    planner.take(recalled(state, compare(sync, state.pair(sync, in_chunks(rows)))))
    return planner.finish()


def test_a_batch_closes_at_the_calls_count() -> None:
    """The endpoint's own limit holds where it is the smaller one."""
    call = a_call(items=2)
    batches = packed([an_operation(str(n), call) for n in range(5)], call)
    assert [["0", "1"], ["2", "3"], ["4"]] == [keys(batch.operations) for batch in batches]


def test_a_batch_closes_at_the_batch_size() -> None:
    """The run's own limit holds where it is the smaller one."""
    call = a_call()
    batches = packed([an_operation(str(n), call) for n in range(4)], call, batch_size=3)
    assert [["0", "1", "2"], ["3"]] == [keys(batch.operations) for batch in batches]


def test_a_batch_closes_before_it_is_too_large() -> None:
    """Bodies, the commas between them and the envelope stay within the bytes of a request."""
    call = a_call(size=100, envelope=20)
    batches = packed([an_operation(str(n), call, body=b"x" * 39) for n in range(3)], call)
    assert [["0", "1"], ["2"]] == [keys(batch.operations) for batch in batches]
    batches = packed([an_operation(str(n), call, body=b"x" * 40) for n in range(3)], call)
    assert [["0"], ["1"], ["2"]] == [keys(batch.operations) for batch in batches]


def test_an_identity_is_not_twice_in_a_batch() -> None:
    """Blame could not be told apart, so the second one opens another batch."""
    call = a_call()
    operations = [an_operation("1", call), an_operation("2", call), an_operation("3", call, identity="1@x.io")]
    assert [["1", "2"], ["3"]] == [keys(batch.operations) for batch in packed(operations, call)]


def test_calls_are_packed_side_by_side() -> None:
    """An operation of another call does not close a batch."""
    one, other = a_call(), a_call()
    packer = Packer(2)
    assert packer.add(an_operation("1", one), one) is None
    assert packer.add(an_operation("2", other), other) is None
    assert packer.add(an_operation("3", one), one) is None
    closed = packer.add(an_operation("4", one), one)
    assert closed is not None
    assert ["1", "3"] == keys(closed.operations)
    assert [["4"], ["2"]] == [keys(batch.operations) for batch in packer.flush()]
    assert [] == list(packer.flush())


def test_rows_that_share_an_identity_go_in_waves_in_key_order() -> None:
    """The greatest key is in the last wave, whatever the row order; who stands alone is in the first."""
    sync = PlainSync(a_call())
    rows: list[Row] = [
        ("9", "a@x.io", 1),
        ("10", "a@x.io", 2),
        ("5", "b@x.io", 3),
        ("7", "c@x.io", 4),
        ("1", "c@x.io", 5),
    ]
    for order in (rows, rows[::-1]):
        found = [sorted(keys(wave)) for wave in waves(planned(sync, order, MemoryState()), False)]
        assert [["5"], ["1", "10"], ["7", "9"]] == found


def test_identities_of_syncs_that_do_not_overwrite_need_no_waves() -> None:
    """Two events of one user are two events."""
    sync = PlainSync(a_call(), exclusive=False)
    plan = planned(sync, [("2", "a@x.io", 1), ("1", "a@x.io", 2)], MemoryState())
    assert [["2", "1"]] == [keys(wave) for wave in waves(plan, False)]


def test_removals_are_a_wave_after_the_others() -> None:
    """Nobody is removed before the others are written."""
    sync = PlainSync(a_call(), a_call())
    plan = planned(sync, [("2", "b@x.io", 1)], remembering(("1", "a@x.io", 1)))
    assert [["2"], ["1"]] == [keys(wave) for wave in waves(plan, False)]


def test_removals_are_the_first_wave_where_the_sync_says_so() -> None:
    """Members leave a list before others join."""
    sync = PlainSync(a_call(), a_call())
    plan = planned(sync, [("2", "b@x.io", 1)], remembering(("1", "a@x.io", 1)))
    assert [["1"], ["2"]] == [keys(wave) for wave in waves(plan, True)]


@pytest.mark.parametrize("removals_first", [True, False])
def test_some_go_before_all_others(removals_first: bool) -> None:
    """In waves of their own, each of which is settled before the next; and once only."""
    sync = PlainSync(a_call(), a_call())
    alone = ((str(n), f"{n}@x.io", n) for n in range(5))
    rows: list[Row] = [*alone, ("8", "a@x.io", 1), ("9", "a@x.io", 2)]
    plan = planned(sync, rows, remembering(("7", "g@x.io", 1)))
    found = [list(keys(wave)) for wave in waves(plan, removals_first, [[3], [1, 0]])]
    others = [["3"], ["1", "0"], ["2", "4"], ["8"], ["9"]]
    assert found == ([["7"], *others] if removals_first else [*others, ["7"]])


def test_an_empty_plan_has_no_waves() -> None:
    """Nothing to do is nothing to wait for."""
    assert [] == list(waves(planned(PlainSync(a_call()), [], MemoryState()), False))


@pytest.mark.parametrize("removals_first", [False, True])
def test_rows_that_take_turns_go_in_waves_and_keep_what_left_apart(removals_first: bool) -> None:
    """Of rows and removals alike, each identity is once in a wave; what calls nothing waits for nobody."""
    call, removal = a_call(), a_call()
    sync = PlainSync(call, removal, exclusive=False, removals_first=removals_first)
    sync.plural = sync.in_turn = True
    left: list[Row] = [(str(n), "a@x.io", 1) for n in (1, 2, 3)]
    rows: list[Row] = [("6", "a@x.io", 1), ("4", "a@x.io", 1), ("5", "b@x.io", 1), ("7", None, 1)]
    plan = planned(sync, rows, remembering(*left))
    assert (plan.borne, plan.shared, plan.deletes) == (set(), set(), 3)
    gone, here = [["1"], ["2"], ["3"]], [["4", "5"], ["6"]]
    expected = gone + here if removals_first else here + gone
    assert expected == [sorted(keys(list(wave))) for wave in waves(plan, removals_first)]
    sync.in_turn = False
    plan = planned(sync, rows, remembering(*left))
    assert [3, 3] == [len(list(wave)) for wave in waves(plan, removals_first)]


def test_operations_without_a_call_take_no_turn() -> None:
    """They are only remembered, so the first wave has them all."""
    sync = PlainSync(None, exclusive=False)
    sync.plural = sync.in_turn = True
    plan = planned(sync, [(str(n), "a@x.io", 1) for n in range(3)], MemoryState())
    assert [["0", "1", "2"]] == [sorted(keys(list(wave))) for wave in waves(plan, False)]
