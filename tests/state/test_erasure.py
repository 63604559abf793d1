"""Tombstones in each database: how they are set, met, lifted and dropped; the tests of the operator tell what for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Duplicate,
    Entry,
    Erased,
    Gone,
    Intents,
    Invalid,
    Pair,
    Patch,
    Present,
    Row,
)
from airflow_provider_iterable.errors import StateUnavailable
from airflow_provider_iterable.state.pairing import pair_with, tombstone
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables.erasure import ErasingSession, MergingSession
from tests.fakes import in_chunks
from tests.state.contract import HERE, KEYED, MAPPING, drain, fresh, keep, kept, one
from tests.state.test_table import Tables, Unsteady, execute

ANN, BOB = "ann@example.com", "bob@example.com"
PRIVATE = Entry(b"f" * 12, f'["email","{ANN}"]')
"""What a privacy sync remembers of a request about Ann, as it hands it over."""


def digest(text: str) -> str:
    """Return what stands for a text in a tombstone."""
    return sha256(text.encode()).hexdigest()


def about(who: str, number: int = 0) -> Entry:
    """Return an entry about somebody, as syncs write them."""
    return Entry(number.to_bytes(12, "big"), f'["email","{who}"]')


def erasing(tables: Tables, sync_id: str, unforgets: bool = False, **options: Any) -> ErasingSession:
    """Open the state of a privacy sync."""
    scope = Scope(sync_id, {**HERE, "type": "privacy"}, MAPPING)
    return ErasingSession(scope, options.pop("hook", tables.hook), tables.schema, unforgets=unforgets, **options)


def erase(tables: Tables, patch: Patch, unforgets: bool = False) -> int:
    """Let a privacy sync commit a patch; return how many entries of others it touched."""
    session = erasing(tables, fresh(), unforgets)
    session.commit(patch)
    session.close()
    return session.touched


def commit(tables: Tables, sync_id: str, patch: Patch) -> None:
    """Let a run commit a patch and fail."""
    session = tables.open(sync_id)
    session.commit(patch)
    session.close()


def stored(tables: Tables, sync_id: str) -> dict[str, tuple[str, str]]:
    """Return the entries of a sync as they are in the table."""
    name = f'"{tables.schema}".sync_state' if tables.schema else "iterable_sync_state"
    found = execute(tables.hook, f"SELECT record_key, fingerprint, ref FROM {name} WHERE sync_id = '{sync_id}'")
    return {key: (fingerprint, who) for key, fingerprint, who in found}


def test_entries_become_tombstones(tables: Tables) -> None:
    """In all syncs, under whatever key; the privacy sync itself keeps neither whom nor a reference."""
    one, other, private = fresh(), fresh(), fresh()
    keep(tables, one, {"[1]": about(ANN, 1), "[2]": about(BOB, 2), "[3]": about(ANN, 3)})
    keep(tables, other, {'["ann@example.com"]': about(ANN)})
    session = erasing(tables, private)
    session.commit({"hash": PRIVATE, "unchanged": Entry(b"g" * 12)})
    session.close()
    stone = ("", digest(f'["email","{ANN}"]'))
    assert stored(tables, one) == {
        digest("[1]"): stone,
        digest("[3]"): stone,
        "[2]": (about(BOB, 2).fingerprint.hex(), about(BOB).ref),
    }
    assert stored(tables, other) == {digest('["ann@example.com"]'): stone}
    assert stored(tables, private) == {"hash": ((b"f" * 12).hex(), ""), "unchanged": ((b"g" * 12).hex(), "")}
    assert session.touched == 3


def test_what_was_being_sent_becomes_tombstones(tables: Tables) -> None:
    """A run that announced a person and was killed leaves nothing readable of them; others stay in doubt."""
    sync_id = fresh()
    announced = [
        (f"[{number}]", NEVER_EQUAL.hex(), about(who).ref, "") for number, who in enumerate([ANN, BOB, ANN], 1)
    ]
    session = tables.open(sync_id)
    session.commit({"[1]": about(ANN, 1)}, Intents({0: announced[:2], 1: announced[2:]}))
    session.close()
    assert erase(tables, {"hash": PRIVATE}) == 3
    name = f'"{tables.schema}".sync_intents' if tables.schema else "iterable_sync_intents"
    ((left,),) = execute(tables.hook, f"SELECT count(*) FROM {name} WHERE doubts LIKE '%{ANN}%'")
    assert left == 0
    tables.open(sync_id).close()
    stone = ("", digest(f'["email","{ANN}"]'))
    assert stored(tables, sync_id) == {
        digest("[1]"): stone,
        "[2]": (NEVER_EQUAL.hex(), about(BOB).ref),
        digest("[3]"): stone,
    }


def test_lines_without_receipts_become_tombstones_as_well(tables: Tables) -> None:
    """A run that announced no receipts and was killed before an upgrade leaves lines of three parts."""
    sync_id = fresh()
    announced = [("[1]", "", about(ANN).ref, ""), ("[2]", "", about(BOB).ref, "")]
    session = tables.open(sync_id)
    session.commit({}, Intents({0: announced}))
    session.close()
    name = f'"{tables.schema}".sync_intents' if tables.schema else "iterable_sync_intents"
    execute(tables.hook, f"UPDATE {name} SET doubts = REPLACE(doubts, ',\"\"]', ']')")
    assert execute(tables.hook, f"SELECT count(*) FROM {name} WHERE doubts LIKE '%,\"\"]%'") == [(0,)]
    assert erase(tables, {"hash": PRIVATE}) == 1
    tables.open(sync_id).close()
    assert stored(tables, sync_id) == {
        digest("[1]"): ("", digest(f'["email","{ANN}"]')),
        "[2]": (NEVER_EQUAL.hex(), about(BOB).ref),
    }


def test_who_was_erased_is_not_in_doubt(tables: Tables) -> None:
    """A run that announced a person after they were erased, and was killed, does not bring them back."""
    sync_id = fresh()
    keep(tables, sync_id, {"[1]": about(ANN)})
    erase(tables, {"hash": PRIVATE})
    session = tables.open(sync_id)
    session.commit({}, Intents({0: [("[1]", NEVER_EQUAL.hex(), about(ANN).ref, "")]}))
    session.close()
    assert kept(tables, sync_id) == {}
    assert set(stored(tables, sync_id)) == {digest("[1]")}


def test_erasing_twice_changes_nothing(tables: Tables) -> None:
    """Nor does a commit that is repeated."""
    sync_id = fresh()
    keep(tables, sync_id, {"[1]": about(ANN)})
    assert erase(tables, {"hash": PRIVATE}) == 1
    before = stored(tables, sync_id)
    assert erase(tables, {"hash": PRIVATE}) == 0
    assert stored(tables, sync_id) == before
    commit(tables, sync_id, {"[1]": about(ANN)})
    assert erase(tables, {"hash": PRIVATE}) == 1
    assert stored(tables, sync_id) == before


def test_only_the_same_identifier_is_erased(tables: Tables) -> None:
    """Not another kind of it, not one that it is a part of, and nobody without a reference."""
    sync_id = fresh()
    others = [f'["user_id","{ANN}"]', f'["email","x{ANN}"]', f'["email","{ANN}x"]', ANN, "", "null", '["email","a%"]']
    patch: Patch = {f"[{number}]": Entry(b"1" * 12, who) for number, who in enumerate(others)}
    keep(tables, sync_id, patch)
    assert erase(tables, {"hash": PRIVATE, "other": Entry(b"1" * 12), "gone": None}) == 0
    assert kept(tables, sync_id) == patch


def test_lifting_takes_the_tombstones_of_a_person(tables: Tables) -> None:
    """In all syncs; other people's stay, and so do entries."""
    one, other = fresh(), fresh()
    keep(tables, one, {"[1]": about(ANN), "[2]": about(BOB)})
    keep(tables, other, {"[1]": about(ANN)})
    assert erase(tables, {"a": PRIVATE, "b": about(BOB)}) == 3
    commit(tables, one, {"[4]": about(ANN)})
    assert erase(tables, {"a": PRIVATE}, unforgets=True) == 2
    assert set(stored(tables, one)) == {digest("[2]"), "[4]"}
    assert stored(tables, other) == {}
    assert erase(tables, {"a": PRIVATE}, unforgets=True) == 0


def test_rows_meet_their_tombstones(tables: Tables) -> None:
    """They are neither new nor gone, and are not recalled; tombstones do not count as remembered."""
    sync_id = fresh()
    keep(tables, sync_id, {"[1]": about(ANN), "[2]": about(BOB, 2), "[3]": about(ANN)})
    erase(tables, {"hash": PRIVATE})
    session = tables.open(sync_id)
    rows = [("[1]", "a"), ("[2]", "b"), ("[4]", "c"), ("[1]", "d")]
    assert drain(session, rows, size=3) == [
        Erased(["[1]"]),
        *(one("[2]", rows[1], about(BOB, 2).fingerprint), one("[4]", rows[2], None)),
        Erased(["[1]"]),
    ]
    assert session.remembered == 1
    assert session.recall(["[1]", digest("[1]")[:5], "[2]"]) == {"[2]": about(BOB, 2)}
    session.close()


@pytest.mark.parametrize("ends_well", [True, False])
def test_tombstones_without_a_row_go_when_the_run_ends_well(tables: Tables, ends_well: bool) -> None:
    """Those that were met stay."""
    sync_id = fresh()
    keep(tables, sync_id, {f"[{number}]": about(ANN) for number in range(3)})
    erase(tables, {"hash": PRIVATE})
    session = tables.open(sync_id)
    assert drain(session, [("[1]", "a")]) == [Erased(["[1]"])]
    session.commit({"[9]": about(BOB)})
    session.finish(ends_well)
    session.close()
    left = {digest("[1]")} if ends_well else {digest(f"[{number}]") for number in range(3)}
    assert set(stored(tables, sync_id)) == {"[9]", *left}


class Leavers:
    """Names rows as others do, and keeps those that left."""

    keeps_leavers = True
    recipe = None
    keys = KEYED.keys


def test_a_sync_that_fires_once_keeps_its_tombstones(tables: Tables) -> None:
    """Its row would fire again if it came back."""
    sync_id = fresh()
    keep(tables, sync_id, {"[1]": about(ANN)})
    erase(tables, {"hash": PRIVATE})
    for rows in ([], [("[1]", "a")]):
        session = tables.open(sync_id)
        assert list(session.pair(cast("Sync", Leavers()), in_chunks(rows))) == [Erased(["[1]"])] * len(rows)
        session.finish(True)
        session.close()


@pytest.mark.parametrize("broken", ["INSERT INTO", "SELECT sync_id, record_key", "DELETE", "COMMIT"])
def test_all_or_nothing(tables: Tables, broken: str) -> None:
    """When a part of it cannot be written, nobody is erased and nothing is remembered; then it is done once."""
    sync_id, private = fresh(), fresh()
    keep(tables, sync_id, {"[1]": about(ANN)})
    hook = Unsteady(tables.hook)
    session = erasing(tables, private, hook=hook, patience=0.0)
    before = stored(tables, sync_id)
    hook.breaks.append(broken)
    with pytest.raises(StateUnavailable):
        session.commit({"hash": PRIVATE})
    assert stored(tables, sync_id) == before
    assert stored(tables, private) == {}
    session.commit({"hash": PRIVATE})
    session.close()
    assert (session.touched, set(stored(tables, sync_id))) == (1, {digest("[1]")})


class Rows:
    """The part of a sync that pairing asks."""

    keys = KEYED.keys


def pairs(known: Mapping[str, bytes], rows: Sequence[Row], erased: dict[str, int], size: int) -> list[Pair]:
    """Pair rows of which some are erased."""
    return list(
        pair_with(
            {key.encode(): found for key, found in known.items()}, cast("Sync", Rows()), in_chunks(rows, size), erased
        )
    )


names = st.sampled_from([f"[{number}]" for number in range(8)])


@given(
    known=st.dictionaries(names, st.just(b"1" * 12)),
    buried=st.sets(names),
    rows=st.lists(st.tuples(names | st.just(""), st.integers(0, 3)), max_size=12),
    size=st.integers(1, 4),
)
def test_pairing_without_the_erased_is_pairing_without_their_rows(
    known: dict[str, bytes], buried: set[str], rows: list[tuple[str, int]], size: int
) -> None:
    """Take the rows of erased people out, and the rest pairs as ever; each of their rows is told once and counted."""
    buried -= known.keys()
    erased = dict.fromkeys(map(tombstone, buried), 0)
    found = pairs(known, rows, erased, size)
    told = [key for pair in found if isinstance(pair, Erased) for key in pair.keys]
    assert told == [key for key, _ in rows if key in buried]
    assert erased == {tombstone(key): told.count(key) for key in buried}
    rest = [pair for pair in found if not isinstance(pair, Erased)]
    assert all(pair.keys for pair in rest if isinstance(pair, Present))

    def flat(some: Sequence[Pair]) -> list[Any]:
        flattened: list[Any] = []
        for pair in some:
            if isinstance(pair, Present):
                flattened.extend(zip(pair.keys, pair.rows, pair.before, strict=True))
            else:
                assert isinstance(pair, Gone | Duplicate | Invalid)
                flattened.append(pair)
        return sorted(flattened, key=repr)

    without = [row for row in rows if row[0] not in buried]
    assert flat(rest) == flat(pairs(known, without, {}, size))


def test_without_tombstones_no_key_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual run pays nothing for them."""
    monkeypatch.setattr("airflow_provider_iterable.state.pairing.sha256", None)
    assert pairs({}, [("[1]", 1)], {}, 1) == [one("[1]", ("[1]", 1), None)]


def merging(tables: Tables, sync_id: str) -> MergingSession:
    """Open the state of a merge sync."""
    return MergingSession(Scope(sync_id, {**HERE, "type": "merges"}, MAPPING), tables.hook, tables.schema)


def test_who_was_merged_away_is_known_for_ever(tables: Tables) -> None:
    """By a digest, to merge syncs only; others' entries about the source become tombstones, as if it was erased."""
    one, merges = fresh(), fresh()
    keep(tables, one, {"[1]": about(ANN, 1), "[2]": about(BOB, 2)})
    session = merging(tables, merges)
    session.commit({"[7]": about(ANN, 7), "[8]": Entry(NEVER_EQUAL + bytes(12))})
    session.close()
    stone = digest(f'["email","{ANN}"]')
    assert stored(tables, merges) == {"[7]": (about(ANN, 7).fingerprint.hex(), stone), "[8]": ("0" * 48, "")}
    assert stored(tables, one).keys() == {digest("[1]"), "[2]"}
    assert session.touched == 1
    erase(tables, {"b": about(BOB)})
    nobody = '["email","nobody@example.com"]'
    for sync_id in (merges, fresh()):
        session = merging(tables, sync_id)
        assert session.gone([about(ANN).ref, about(BOB).ref, nobody]) == ({about(ANN).ref}, {about(BOB).ref})
        assert session.gone([]) == (set(), set())
        session.close()
    erase(tables, {"hash": PRIVATE}, unforgets=True)
    session = merging(tables, merges)
    assert session.gone([about(ANN).ref]) == ({about(ANN).ref}, set())
    assert session.recall(["[8]"])["[8]"].fingerprint == NEVER_EQUAL + bytes(12)
    session.close()
