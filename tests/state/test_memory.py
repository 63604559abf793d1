from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.resync import Resync
from airflow_provider_iterable.engine.vocabulary import Duplicate, Entry, Gone, Invalid
from airflow_provider_iterable.state.memory import MemoryState
from airflow_provider_iterable.state.store import Session
from tests.state.contract import HERE, MAPPING, Place, StateContract, drain, entries, keys, one, sorted_out


class Dicts:
    """A dict for each sync."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Entry]] = defaultdict(dict)

    def open(
        self, sync_id: str, destination: Mapping[str, Any] = HERE, mapping: str = MAPPING, resync: Resync = "changes"
    ) -> Session:
        """Open the dict of a sync."""
        return MemoryState(self._entries[sync_id])


class TestMemory(StateContract):
    @pytest.fixture
    def place(self) -> Place:
        """Return dicts."""
        return Dicts()


@given(
    remembered=st.dictionaries(keys(), entries(), max_size=8),
    rows=st.lists(st.tuples(keys() | st.just(""), st.integers()), max_size=12),
    size=st.integers(1, 5),
)
def test_the_reference_says_what_pairs_are(
    remembered: dict[str, Entry], rows: list[tuple[str, int]], size: int
) -> None:
    """Each key's first row meets its memory, memories without a row are gone, and rows of one key are counted."""
    times = Counter(key for key, _ in rows if key)
    firsts = [row for number, row in enumerate(rows) if row[0] not in {key for key, _ in rows[:number]} or not row[0]]
    expected = [
        one(row[0], row, remembered[row[0]].fingerprint if row[0] in remembered else None)
        if row[0]
        else Invalid("", Reason.NULL_KEY)
        for row in firsts
    ]
    present, gone, twice = sorted_out(drain(MemoryState(dict(remembered)), rows, size))
    assert (sorted(present, key=repr), gone, twice) == (
        sorted(expected, key=repr),
        {key: found.fingerprint for key, found in remembered.items() if key not in times},
        {key: n for key, n in times.items() if n > 1},
    )


def test_pairing_leaves_the_entries_alone() -> None:
    """What is used up while pairing is a copy."""
    state = MemoryState({"[1]": Entry(b"1" * 12, '["email","a@x.io"]')})
    assert drain(state, [("[1]", 0), ("[1]", 1)]) == [
        one("[1]", ("[1]", 0), b"1" * 12),
        Duplicate("[1]", 2),
    ]
    assert drain(state, []) == [Gone("[1]", Entry(b"1" * 12))]
