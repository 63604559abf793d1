from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_iterable.engine.doubt import doubted
from airflow_provider_iterable.engine.forecast import chain
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Added, Changed, Entry, Invalid, Operation, Record
from airflow_provider_iterable.errors import ConfigurationError, ModelError
from airflow_provider_iterable.syncs.merges import MergeOptions, Merges
from airflow_provider_iterable.syncs.pairs import Pair, Pairs
from airflow_provider_iterable.syncs.privacy import hashed
from tests.merging import faults

COLUMNS = ("id", "old", "kept")


def merges(**changes: Any) -> Merges:
    """Make a sync of pairs of addresses."""
    defaults: dict[str, Any] = {
        "primary_key": ("id",),
        "source": "email",
        "source_column": "old",
        "destination": "email",
        "destination_column": "kept",
        "project_type": "hybrid",
    }
    return Merges(MergeOptions(**{**defaults, **changes}), COLUMNS)


def record(sync: Merges, row: Sequence[Any] = (1, " A@x.io", "b@X.io")) -> Record:
    """Return the record of a row."""
    (key,) = sync.keys([row])
    assert isinstance(key, str)
    found = sync.records([key], [row]).record(0)
    assert isinstance(found, Record)
    return found


def test_a_pair_is_two_names_and_nothing_else() -> None:
    """Folded, by the members that Iterable has for them; the destination comes first, and the source is remembered."""
    sync = merges()
    found = record(sync)
    assert found.handles == (("email", "b@x.io"), ("email", "a@x.io"))
    assert json.loads(found.body) == {"destinationEmail": "b@x.io", "sourceEmail": "a@x.io"}
    operation = sync.added(Added(found))
    assert (operation.kind, operation.remember) == (Kind.ADDED, Entry(found.fingerprint, '["email","a@x.io"]'))
    assert operation.call is not None
    assert [call.does for call in chain(operation.call)] == ["look up users", "merge users"]


def test_arrays_ride_along_and_make_no_other_pair() -> None:
    """The request has them, and the fingerprint does not."""
    sync = merges(array_merge={"pets": "id", "tags": None}, create_destination=True)
    operation = sync.added(Added(record(sync)))
    assert operation.remember == merges().added(Added(record(merges()))).remember
    assert operation.call is not None
    assert operation.call.does == "merge users"
    body = operation.call.wrap([operation]).body
    assert json.loads(body or b"") == {
        "destinationEmail": "b@x.io",
        "sourceEmail": "a@x.io",
        "arrayMerge": [{"field": "pets", "dedupeBy": "id"}, {"field": "tags"}],
    }


@pytest.mark.parametrize("before", [NEVER_EQUAL, None])
def test_a_pair_in_doubt_begins_with_a_look_up_of_its_source(before: bytes | None) -> None:
    """If it is the pair that the row names."""
    sync = merges()
    found = record(sync)
    operation = sync.changed(Changed(Entry(before or doubted(found.fingerprint)), found))
    assert isinstance(operation, Operation)
    assert operation.call is not None
    request = operation.call.wrap([operation])
    assert (request.template, request.query) == ("/api/users/getByEmail", {"email": "a@x.io"})
    assert [call.does for call in chain(operation.call)] == ["look up users", "look up users", "merge users"]


@pytest.mark.parametrize("before", [b"another pair", doubted(b"another pair")])
def test_another_pair_is_refused(before: bytes) -> None:
    """Whether it was merged or is in doubt."""
    sync = merges()
    refused = sync.changed(Changed(Entry(before), record(sync)))
    assert isinstance(refused, Invalid)
    assert (refused.key, refused.reason) == ("[1]", Reason.PAIR_CHANGED)


def test_keys_are_hashed_where_they_name_people() -> None:
    """And are as they are elsewhere."""
    assert merges().keys([(1, "a", "b")]) == ["[1]"]
    assert merges(hashes_keys=True).keys([(1, "a", "b")]) == [hashed("[1]")]


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ((1, None, "b@x.io"), Reason.NO_IDENTIFIER, "the source"),
        ((1, "a@x.io", None), Reason.NO_IDENTIFIER, ""),
        ((1, "a", "b@x.io"), Reason.INVALID_EMAIL, ""),
        ((1, "a@x.io", "b"), Reason.INVALID_EMAIL, ""),
    ],
)
def test_each_side_is_needed(row: tuple[Any, ...], reason: Reason, detail: str) -> None:
    """A row without one of them, or with a malformed one, is rejected."""
    found = merges().records(["[1]"], [row]).record(0)
    assert isinstance(found, Invalid)
    assert (found.reason, found.detail) == (reason, detail)


def test_what_cannot_be_is_told() -> None:
    """A column that is missing, and identifiers that name nobody for certain."""
    with pytest.raises(ModelError, match="kept"):
        Merges(MergeOptions(("id",), "email", "old", "email", "kept", "email"), ("id", "old"))
    for source, destination, project in (
        ("user_id", "email", "email"),
        ("email", "user_id", "email"),
        ("email", "user_id", "user_id"),
        ("user_id", "email", "user_id"),
        ("email", "email", None),
    ):
        with pytest.raises(ConfigurationError, match="Nothing was sent"):
            merges(source=source, destination=destination, project_type=project)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
@settings(deadline=None)
def test_what_is_wrong_with_pairs_is_what_looking_at_each_finds(pairs: list[Pair]) -> None:
    """The quick way over all pairs finds the same, row by row, and which destinations several rows have."""
    found = Pairs(pairs)
    assert [found.fault(*pair) for pair in pairs] == faults(pairs)
    named = Counter(destination for _, destination in pairs)
    assert found.crowded == {destination for destination, rows in named.items() if rows > 1}


def test_a_long_chain_and_a_large_cycle() -> None:
    """Neither recursion nor a look at everybody for each."""
    size = 50_000
    line = Pairs((number, number + 1) for number in range(size))
    assert {line.fault(number, number + 1) for number in range(size)} == {Reason.MERGE_CHAIN}
    ring = Pairs((number, (number + 1) % size) for number in range(size))
    assert {ring.fault(number, (number + 1) % size) for number in range(size)} == {Reason.MERGE_CYCLE}
