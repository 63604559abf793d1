from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_provider_iterable.engine.compare import RECALL_AT_ONCE, compare, recalled
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Changed,
    Duplicate,
    Entry,
    Fresh,
    Gone,
    Invalid,
    News,
    Pair,
    Present,
    Record,
    Removed,
    Unchanged,
)
from airflow_provider_iterable.state.memory import MemoryState
from tests.fakes import PlainSync, remembering

SYNC = PlainSync(None)
ROW = ("1", "a@x.io", "new")
QUIET = Unchanged("email", ["a@x.io"])
RECORD = Record("1", b"new", b"1=new", (("email", "a@x.io"),))


class CountingState(MemoryState):
    """A state that keeps how many entries were recalled at a time."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        super().__init__(entries)
        self.recalls: list[int] = []

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return whole entries."""
        self.recalls.append(len(keys))
        return super().recall(keys)


def test_a_row_without_memory_is_added() -> None:
    """What was never accepted is an addition, beside rows that were accepted as among others like it."""
    other = ("2", "b@x.io", "x")
    news = list(compare(SYNC, [Present(["1", "2"], [ROW, other], [None, b"old"])]))
    assert [Added(RECORD), Changed(Entry(b"old"), Record("2", b"x", b"2=x", (("email", "b@x.io"),)))] == news
    (fresh,) = compare(SYNC, [Present(["1"], [ROW], [None])])
    assert isinstance(fresh, Fresh)
    assert fresh.records.record(0) == RECORD


def test_a_row_with_another_fingerprint_is_changed() -> None:
    """The memory goes along with the change."""
    assert [Changed(Entry(b"old"), RECORD)] == list(compare(SYNC, [Present(["1"], [ROW], [b"old"])]))


def test_a_row_with_the_same_fingerprint_is_no_news() -> None:
    """The identity goes along, for a removal of the same must not hit it; in a chunk that differs elsewhere too."""
    assert [QUIET] == list(compare(SYNC, [Present(["1"], [ROW], [b"new"])]))
    other = ("2", "b@x.io", "x")
    added = Added(Record("2", b"x", b"2=x", (("email", "b@x.io"),)))
    assert [added, QUIET] == list(compare(SYNC, [Present(["1", "2"], [ROW, other], [b"new", None])]))


def test_a_memory_without_a_row_is_removed() -> None:
    """A key that no row has any more is a removal."""
    assert [Removed("1", Entry(b"old"))] == list(compare(SYNC, [Gone("1", Entry(b"old"))]))


def test_a_row_that_cannot_be_mapped_is_invalid_whatever_is_remembered() -> None:
    """An invalid row is neither added, changed nor removed."""
    pairs = [Present(["1", "2"], [("1", None, "x"), ("2", None, "x")], [None, b"old"])]
    expected = [Invalid("1", Reason.NO_IDENTIFIER), Invalid("2", Reason.NO_IDENTIFIER)]
    assert expected == list(compare(SYNC, pairs))


def test_duplicates_and_null_keys_pass() -> None:
    """What pairing found out by itself is handed on."""
    pairs: list[Pair] = [Invalid("", Reason.NULL_KEY), Duplicate("1", 2)]
    assert pairs == list(compare(SYNC, pairs))


def test_changes_and_removals_are_completed_from_the_state() -> None:
    """The reference, which pairing leaves out, is recalled; other news passes."""
    state = remembering(("1", "a@x.io", "old"), ("2", "b@x.io", "old"))
    news: list[News] = [Changed(Entry(b"old"), RECORD), QUIET, Removed("2", Entry(b"old"))]
    found = list(recalled(state, news))
    assert [
        QUIET,
        Changed(Entry(b"old", "a@x.io"), RECORD),
        Removed("2", Entry(b"old", "b@x.io")),
    ] == found


def test_many_are_recalled_at_a_time() -> None:
    """References are fetched by the thousand, and none is left out."""
    state = CountingState({str(n): Entry(b"old", f"{n}@x.io") for n in range(RECALL_AT_ONCE + 5)})
    news = [Removed(str(n), Entry(b"old")) for n in range(RECALL_AT_ONCE + 5)]
    found = list(recalled(state, news))
    assert [RECALL_AT_ONCE, 5] == state.recalls
    assert [Removed(str(n), Entry(b"old", f"{n}@x.io")) for n in range(RECALL_AT_ONCE + 5)] == found


def test_whole_entries_are_not_recalled_again() -> None:
    """A state whose pairs are complete is not asked."""
    state = CountingState({})
    assert [Removed("1", Entry(b"old", "ref"))] == list(recalled(state, [Removed("1", Entry(b"old", "ref"))]))
    assert [] == state.recalls
