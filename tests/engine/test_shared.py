"""What may be remembered of rows that overwrite one another, and when."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Fate, Kind
from airflow_provider_iterable.engine.shared import Shared
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Call, Entry, Operation, Outcome, Patch
from tests.fakes import a_call, a_spool, an_operation

CALL = a_call()
ONCE = replace(CALL, repeatable=False)


def planned(*operations: Operation) -> Shared:
    """Return what a plan shares of which ``1``, ``10`` and ``2`` are about one person."""
    plan = Plan(a_spool(), a_spool())
    plan.rows.extend(operations)
    plan.shared = {hash(operations[0].handles[0])}
    return Shared(plan)


def about(key: str, call: Call | None = CALL, identity: str = "a@x.io") -> Operation:
    """Return an operation about one person."""
    return an_operation(key, call, identity=identity)


def receipt(*keys: str) -> Patch:
    """Return what accepted rows are remembered as."""
    return {key: about(key).remember for key in keys}


def doubt(key: str) -> Patch:
    """Return what a row is remembered as that may be overwritten."""
    return {key: Entry(NEVER_EQUAL, "a@x.io")}


def refused(key: str, fate: Fate = Fate.REJECTED) -> Outcome:
    """Return the outcome of a row that was not accepted."""
    return Outcome(key, Kind.ADDED, fate)


THREE = (about("2"), about("10"), about("1"), about("5", identity="b@x.io"))


def test_memories_wait_for_the_last_word() -> None:
    """Until then they are in doubt; the others of the patch do not wait."""
    shared = planned(*THREE)
    assert shared.committable({**receipt("1"), "5": None}) == {**doubt("1"), "5": None}
    assert shared.committable(receipt("10")) == doubt("10")
    assert shared.committable(receipt("2")) == receipt("1", "10", "2")
    assert shared.committable(receipt("2")) == receipt("2")


def test_a_last_word_that_was_refused_overwrote_nothing() -> None:
    """What was accepted before it is remembered, once."""
    shared = planned(*THREE)
    shared.committable(receipt("1"))
    assert shared.settle_refused(refused("10")) == {}
    assert shared.settle_refused(refused("2", Fate.SKIPPED)) == receipt("1")
    assert shared.settle_refused(refused("2")) == {}


def test_who_may_have_arrived_leaves_no_memory() -> None:
    """Neither do the others, whatever becomes of the last one, unless that is accepted."""
    shared = planned(*THREE)
    shared.committable(receipt("1"))
    assert shared.settle_refused(refused("2", Fate.DEFERRED)) == {}
    shared = planned(*THREE)
    shared.committable(receipt("1"))
    shared.settle_refused(refused("10", Fate.DEFERRED))
    assert shared.settle_refused(refused("2")) == {}
    assert shared.committable(receipt("2")) == receipt("1", "2")


def test_a_last_word_in_doubt_settles_nothing() -> None:
    """Nobody knows whether it overwrote the others, even if it is refused in the end."""
    shared = planned(*THREE)
    shared.committable(receipt("1"))
    assert shared.committable(doubt("2")) == doubt("2")
    assert shared.settle_refused(refused("2")) == {}


def test_others_are_none_of_its_business() -> None:
    """Rows that share nothing pass, and so do calls that must not go twice and rows without a call."""
    shared = planned(*THREE)
    assert shared.committable(receipt("5")) == receipt("5")
    assert shared.settle_refused(refused("5")) == {}
    shared = planned(about("1", ONCE), about("2", ONCE), about("3", None))
    assert shared.committable(receipt("1", "3")) == receipt("1", "3")


def test_rows_beyond_the_first_are_counted() -> None:
    """One record for each identity."""
    shared = planned(*THREE)
    shared.accept(THREE)
    shared.accept([replace_kind(about("4"))])
    assert shared.surplus == 2


def replace_kind(operation: Operation) -> Operation:
    """Return the operation as a removal."""
    return an_operation(operation.key, CALL, kind=Kind.REMOVED, identity="a@x.io")
