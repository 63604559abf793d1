from __future__ import annotations

from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Entry, Row
from tests.engine.test_plan import planned
from tests.fakes import remembering


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
