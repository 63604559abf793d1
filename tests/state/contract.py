"""What a run may rely on, whichever store remembers: each store's test class subclasses one of these."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import State, Sync
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.resync import VOID, Resync
from airflow_provider_iterable.engine.run import Options, run
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Batch,
    Duplicate,
    Entry,
    Gone,
    Intents,
    Invalid,
    Pair,
    Patch,
    Present,
    Reply,
    Row,
)
from airflow_provider_iterable.errors import DestinationChanged
from airflow_provider_iterable.mapping import Mapper, key_text
from airflow_provider_iterable.state.memory import MemoryState
from airflow_provider_iterable.state.store import Session
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.fakes import in_chunks

HERE = {"host": "https://api.iterable.com", "type": "users", "match": "email"}
"""A destination."""
MAPPING = "0123456789abcdef" * 2
"""A mapping's digest."""
NASTY = [
    "o'brien",
    '"quoted"',
    "back\\slash",
    "\\",
    "two\nlines\r\n\tand a tab",
    "100%",
    "%s %(name)s %%",
    "{p} {} {state} {{",
    ":sync_id :keys ::json",
    "$1 :name ? ?1 @p",
    "'; DROP TABLE sync_state; --",
    "Zoë Ωμέγα 名前 \u202eright to left",
    "👩‍👩‍👧‍👦 \U0010ffff",
    "e\u0301 is not é",
    "",
    " ",
    "\x00\x07",
    "null",
    "0",
]
"""Values that break what is quoted by hand."""
_numbers = count(1)


class Place(Protocol):
    """A store somewhere, with nothing in it at first."""

    def open(
        self,
        sync_id: str,
        destination: Mapping[str, Any] = HERE,
        mapping: str = MAPPING,
        resync: Resync = "changes",
    ) -> Session:
        """Open it for a run."""
        ...


class Keyed:
    """The part of a sync that pairing asks: the first column is the key, and an empty one is none."""

    keeps_leavers = False
    recipe = None

    def keys(self, rows: Sequence[Row]) -> list[str | Invalid]:
        """Name the rows."""
        return [row[0] or Invalid("", Reason.NULL_KEY) for row in rows]


KEYED = cast("Sync", Keyed())


def key_of(*values: Any) -> str:
    """Return the key text of values that are not null."""
    text = key_text(values)
    assert text is not None
    return text


def entry(number: int = 0, who: str = "ann@example.com") -> Entry:
    """Return an entry about somebody."""
    return Entry(number.to_bytes(12, "big"), json.dumps(["email", who], ensure_ascii=False))


def fresh() -> str:
    """Return the name of a sync that no test has used yet."""
    return f"dag.sync_{next(_numbers)}"


def keep(place: Place, sync_id: str, *patches: Patch, **scope: Any) -> None:
    """Let a run that succeeds commit patches."""
    session = place.open(sync_id, **scope)
    drain(session, [])
    for patch in patches:
        session.commit(patch)
    session.finish(True)
    session.close()


def drain(state: State, rows: Sequence[Row], size: int = 3) -> list[Pair]:
    """Return all pairs, those of present rows one by one."""
    pairs: list[Pair] = []
    for pair in state.pair(KEYED, in_chunks(rows, size)):
        if isinstance(pair, Present):
            assert pair.keys, "a chunk has rows"
            pairs.extend(map(one, pair.keys, pair.rows, pair.before))
        else:
            pairs.append(pair)
    return pairs


def one(key: str, row: Row, before: bytes | None) -> Present:
    """Return the pair of one row."""
    return Present([key], [row], [before])


def memories(state: State) -> dict[str, Entry]:
    """Return all that is remembered: what an empty model leaves behind, recalled."""
    gone = [pair for pair in drain(state, []) if isinstance(pair, Gone)]
    whole = state.recall([pair.key for pair in gone])
    assert {pair.key: pair.before.fingerprint for pair in gone} == {
        key: found.fingerprint for key, found in whole.items()
    }
    assert state.remembered == len(gone)
    return dict(whole)


def kept(place: Place, sync_id: str) -> dict[str, Entry]:
    """Return what the next run of a sync would remember."""
    session = place.open(sync_id)
    try:
        return memories(session)
    finally:
        session.close()


def sorted_out(pairs: Sequence[Pair]) -> tuple[list[Pair], dict[str, bytes], dict[str, int]]:
    """Return pairs of rows in their order, then memories without a row, then duplicate keys."""
    rows: list[Pair] = [pair for pair in pairs if isinstance(pair, Present | Invalid)]
    gone = {pair.key: pair.before.fingerprint for pair in pairs if isinstance(pair, Gone)}
    twice = {pair.key: pair.rows for pair in pairs if isinstance(pair, Duplicate)}
    assert len(rows) + len(gone) + len(twice) == len(pairs), "a key is told once"
    assert pairs[: len(rows)] == rows, "nothing is known to be gone or duplicate before the last row"
    return rows, gone, twice


def text() -> st.SearchStrategy[str]:
    """Draw text as databases hold it, and what breaks it."""
    return st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def keys() -> st.SearchStrategy[str]:
    """Draw key texts of one or two columns; few small numbers, so that rows and memories meet."""
    part = st.integers(0, 6) | text()
    return st.lists(part, min_size=1, max_size=2).map(lambda values: key_of(*values))


def entries() -> st.SearchStrategy[Entry]:
    """Draw entries."""
    return st.builds(Entry, st.binary(min_size=12, max_size=12), text().map(lambda who: json.dumps(["email", who])))


slowly = settings(
    max_examples=20,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # each example is a sync of its own
        HealthCheck.differing_executors,  # each store's class runs the inherited test, and none keeps anything
        HealthCheck.too_slow,
    ],
)
"""For stores that write to disk."""


class StateContract:
    """Pairing and remembering."""

    @pytest.fixture
    def place(self) -> Place:
        """Return the store."""
        raise NotImplementedError

    @slowly
    @given(
        remembered=st.dictionaries(keys(), entries(), max_size=8),
        rows=st.lists(st.tuples(keys() | st.just(""), st.integers()), max_size=12),
    )
    def test_pairs_as_memory_does(
        self, place: Place, remembered: dict[str, Entry], rows: list[tuple[str, int]]
    ) -> None:
        """Rows with their memories in row order, then memories without a row and keys of several rows."""
        sync_id = fresh()
        keep(place, sync_id, dict(remembered))
        reference = MemoryState(dict(remembered))
        session = place.open(sync_id)
        assert sorted_out(drain(session, rows)) == sorted_out(drain(reference, rows))
        assert session.remembered == len(remembered)
        session.close()

    @slowly
    @given(patches=st.lists(st.dictionaries(keys(), st.none() | entries(), max_size=6), max_size=4))
    def test_remembers_what_patches_say(self, place: Place, patches: list[Patch]) -> None:
        """A patch stores, replaces and forgets; forgetting what is not there is no news."""
        sync_id, expected = fresh(), dict[str, Entry]()
        for patch in patches:
            expected.update({key: kept for key, kept in patch.items() if kept is not None})
            for key in [key for key, kept in patch.items() if kept is None]:
                expected.pop(key, None)
        keep(place, sync_id, *patches)
        assert kept(place, sync_id) == expected

    def test_a_commit_may_be_repeated(self, place: Place) -> None:
        """What is committed twice, in one run or in two, is there once."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1), "[2]": entry(2), "[3]": entry(3)})
        patch: Patch = {"[1]": entry(4), "[2]": None, "[4]": entry(5)}
        keep(place, sync_id, patch, patch)
        keep(place, sync_id, patch)
        assert kept(place, sync_id) == {"[1]": entry(4), "[3]": entry(3), "[4]": entry(5)}

    def test_an_empty_patch_changes_nothing(self, place: Place) -> None:
        """There is nothing to store, and it is stored."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1)}, {})
        assert kept(place, sync_id) == {"[1]": entry(1)}

    def test_recalls_whole_entries_of_some_keys(self, place: Place) -> None:
        """Pairs carry fingerprints, recalled entries also whom they are about; unknown keys are left out."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1, "a@x.io"), "[2]": entry(2, "b@x.io"), "[3]": entry(3, "c@x.io")})
        session = place.open(sync_id)
        assert session.recall(["[3]", "[9]", "[1]"]) == {"[1]": entry(1, "a@x.io"), "[3]": entry(3, "c@x.io")}
        assert session.recall([]) == {}
        session.close()

    def test_recalls_while_pairs_are_drawn(self, place: Place) -> None:
        """The engine completes changes before it has seen the last row."""
        sync_id = fresh()
        keep(place, sync_id, {key_of(number): entry(number) for number in range(3)})
        session = place.open(sync_id)
        pairs = session.pair(KEYED, [[(key_of(number), "row")] for number in range(3)])
        first = next(pairs)
        assert isinstance(first, Present)
        assert session.recall(first.keys) == {key_of(0): entry(0)}
        assert len(list(pairs)) == 2
        session.close()

    def test_any_text_may_be_in_a_key_or_a_reference(self, place: Place) -> None:
        """Quotes, backslashes, line ends, placeholders, emoji: all come back as they went."""
        sync_id = fresh()
        patch: Patch = {
            key_of(value, number): entry(number, f"{value}@example.com") for number, value in enumerate(NASTY)
        }
        keep(place, sync_id, patch)
        session = place.open(sync_id)
        assert memories(session) == patch
        assert session.recall(list(patch)) == patch
        session.close()
        keep(place, sync_id, dict.fromkeys(list(patch)[::2]))
        assert set(kept(place, sync_id)) == set(list(patch)[1::2])

    def test_keys_may_have_500_characters(self, place: Place) -> None:
        """Also 500 that take four bytes each and do not repeat, under the longest name of a sync."""
        sync_id = f"{fresh()}_".ljust(250, "x")
        plain, wide = key_of("k" * 496), key_of("".join(chr(0x10000 + 97 * number) for number in range(496)))
        assert len(plain) == len(wide) == 500
        keep(place, sync_id, {plain: entry(1), wide: entry(2)})
        assert kept(place, sync_id) == {plain: entry(1), wide: entry(2)}

    def test_keys_that_look_alike_are_several(self, place: Place) -> None:
        """Case, accents, blanks at the end and types tell keys apart."""
        sync_id = fresh()
        alike = ["a", "A", "á", "a\u0301", "a ", " a", "\uff41", 1, "1", "1.0", True]
        patch: Patch = {key_of(value): entry(number) for number, value in enumerate(alike)}
        assert len(patch) == len(alike)
        keep(place, sync_id, patch)
        assert kept(place, sync_id) == patch

    def test_patches_may_be_large(self, place: Place) -> None:
        """10,000 entries are stored, and then replaced and forgotten, in one go each."""
        sync_id = fresh()
        keep(place, sync_id, {key_of(number): entry(number, f"u{number}@x.io") for number in range(10_000)})
        assert len(kept(place, sync_id)) == 10_000
        keep(place, sync_id, {key_of(number): None if number % 2 else entry(1) for number in range(10_000)})
        assert kept(place, sync_id) == {key_of(number): entry(1) for number in range(0, 10_000, 2)}

    def test_syncs_do_not_see_each_other(self, place: Place) -> None:
        """The same keys under another sync_id are others."""
        one, other = fresh(), fresh()
        keep(place, one, {"[1]": entry(1), "[2]": entry(2)})
        keep(place, other, {"[1]": entry(3), "[2]": None})
        assert kept(place, one) == {"[1]": entry(1), "[2]": entry(2)}
        assert kept(place, other) == {"[1]": entry(3)}


class StoreContract(StateContract):
    """What a store remembers about the sync itself, beside its entries."""

    def test_notes_are_there_in_the_next_run(self, place: Place) -> None:
        """What was noted is there at once, and after a run that succeeded; the last word counts."""
        sync_id = fresh()
        for notes in ([], [("list_id", "7"), ("why", "1")], [("list_id", "8"), ("odd", "'; {p} %s \"\u540d")], []):
            session = place.open(sync_id)
            before = dict(session.notes)
            for name, value in notes:
                session.note(name, value)
            assert session.notes == {**before, **dict(notes)}
            session.finish(True)
            session.close()
        assert before == {"list_id": "8", "why": "1", "odd": "'; {p} %s \"\u540d"}
        assert kept(place, sync_id) == {}

    writes_ahead = True
    """Whether it stores what a request would leave behind before the request is sent."""

    def test_what_was_announced_and_not_settled_is_in_doubt(self, place: Place) -> None:
        """A run was killed: the next one finds its doubts in place of what was remembered, and once only."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1), "[2]": entry(2), "[3]": entry(3)})
        session = place.open(sync_id)
        drain(session, [])
        doubts = {number: (f"[{number}]", NEVER_EQUAL.hex(), entry(0, f"{number}").ref, "") for number in range(1, 6)}
        session.commit({}, Intents({0: [doubts[1]], 1: [doubts[2]]}))
        session.commit({"[2]": entry(7)}, Intents({2: [doubts[3], doubts[4]]}, [1]))
        session.commit({"[5]": entry(5)}, Intents({1: [doubts[5]]}))
        session.commit({"[6]": entry(6)}, Intents(ended=[1]))
        session.close()
        settled = {"[2]": entry(7), "[5]": entry(5), "[6]": entry(6)}
        doubtful = {doubts[number][0]: Entry(NEVER_EQUAL, doubts[number][2]) for number in (1, 3, 4)}
        if self.writes_ahead:
            assert kept(place, sync_id) == {**settled, **doubtful}
            keep(place, sync_id, {"[1]": entry(1), "[4]": None})
            assert kept(place, sync_id) == {**settled, "[1]": entry(1), "[3]": doubtful["[3]"]}
        else:
            assert kept(place, sync_id) == {"[1]": entry(1), "[2]": entry(2), "[3]": entry(3)}

    def test_what_is_announced_in_a_first_run_is_in_doubt(self, place: Place) -> None:
        """Nothing else was stored by then; texts of any kind and size survive."""
        sync_id = fresh()
        announced = [(key_of(text), "", json.dumps(["email", text]), "") for text in NASTY]
        announced += [(f"[{number}]", "", entry(0, "x" * 900).ref, "") for number in range(100)]
        session = place.open(sync_id)
        drain(session, [])
        session.commit({}, Intents({0: announced}))
        session.close()
        found = {key: Entry(NEVER_EQUAL, ref) for key, _, ref, _ in announced}
        assert kept(place, sync_id) == (found if self.writes_ahead else {})

    def test_what_was_accepted_as_announced_is_remembered(self, place: Place) -> None:
        """With the receipts of the announcement, of any kind and size, in place of what was there; the rest stays."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1), "[2]": entry(2)})
        receipts = {key_of(text): entry(number, text) for number, text in enumerate(NASTY)}
        receipts |= {"[1]": entry(7, "x" * 900), "[3]": entry(3)}
        announced = [(key, "", kept.ref, kept.fingerprint.hex()) for key, kept in receipts.items()]
        session = place.open(sync_id)
        drain(session, [])
        session.commit({}, Intents({0: announced, 1: [("[2]", "", entry(2).ref, entry(9).fingerprint.hex())]}))
        session.commit({"[4]": entry(4)}, Intents({}, [0], {0: announced}))
        session.commit({}, Intents({0: [("[5]", "", entry(5).ref, entry(5).fingerprint.hex())]}, [1]))
        session.finish(delivered=True)
        session.close()
        in_doubt = {"[5]": Entry(NEVER_EQUAL, entry(5).ref)} if self.writes_ahead else {}
        assert kept(place, sync_id) == {"[2]": entry(2), "[4]": entry(4), **receipts, **in_doubt}

    def test_doubts_belong_to_one_sync(self, place: Place) -> None:
        """Another one finds none of them."""
        one, other = fresh(), fresh()
        session = place.open(one)
        session.commit({}, Intents({0: [("[1]", NEVER_EQUAL.hex(), entry(1).ref, "")]}))
        session.close()
        assert kept(place, other) == {}
        assert len(kept(place, one)) == self.writes_ahead

    def test_notes_belong_to_one_sync(self, place: Place) -> None:
        """Entries and other syncs know nothing of them."""
        one, other = fresh(), fresh()
        keep(place, one, {"[1]": entry(1)})
        session = place.open(one)
        session.note("list_id", "7")
        session.commit({"[2]": entry(2)})
        session.finish(True)
        session.close()
        session = place.open(other)
        assert session.notes == {}
        session.close()
        assert kept(place, one) == {"[1]": entry(1), "[2]": entry(2)}

    def test_a_note_does_not_say_that_the_mapping_was_delivered(self, place: Place) -> None:
        """Rows still go again for the reason they had."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1)})
        session = place.open(sync_id, mapping="another")
        session.note("list_id", "7")
        session.finish(False)
        session.close()
        session = place.open(sync_id, mapping="another")
        assert session.resend_reason is not None
        session.close()

    def test_others_are_other_syncs(self, place: Place) -> None:
        """A sync is not among its others; a store that cannot know of them tells of none."""
        one, other = fresh(), fresh()
        keep(place, one, {"[1]": entry(1)})
        keep(place, other, {"[1]": entry(1)}, destination={**HERE, "list": 7})
        session = place.open(one)
        others = session.others()
        session.close()
        assert one not in others
        assert others == {} or others[other].destination == {**HERE, "list": 7}

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"host": "https://api.eu.iterable.com"}, ["host", "api.iterable.com", "api.eu.iterable.com"]),
            ({"match": "user_id"}, ["match", '"email"', '"user_id"']),
            ({"match": None, "list": 7}, ["list", "null", "7", "match"]),
        ],
    )
    def test_another_destination_is_refused(self, place: Place, change: dict[str, Any], named: list[str]) -> None:
        """The error names what differs, as it was and as it is, and what can be done; the state stays."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1)})
        with pytest.raises(DestinationChanged) as caught:
            place.open(sync_id, {**HERE, **change})
        message = str(caught.value)
        assert all(word in message for word in [sync_id, *named, "Nothing was sent", "another sync_id"])
        assert "type:" not in message, "what is the same is not named"
        assert kept(place, sync_id) == {"[1]": entry(1)}

    def test_a_resync_takes_the_state_to_another_destination(self, place: Place) -> None:
        """A full one once it has voided the entries, a baseline once it has ended; notes are left behind."""
        kinds: list[Resync] = ["full", "baseline"]
        for resync in kinds:
            sync_id, elsewhere = fresh(), {**HERE, "list": 7}
            keep(place, sync_id, {"[1]": entry(1), "[2]": entry(2)})
            session = place.open(sync_id)
            session.note("list_id", "6")
            session.finish(True)
            session.close()
            place.open(sync_id, elsewhere, resync=resync).close()
            place.open(sync_id).close()
            session = place.open(sync_id, elsewhere, resync=resync)
            assert session.notes == {}
            drain(session, [])
            if resync == "full":
                session.void("why", "full")
            session.commit({"[2]": entry(3)})
            session.finish(True)
            session.close()
            with pytest.raises(DestinationChanged):
                place.open(sync_id)
            session = place.open(sync_id, elsewhere)
            assert session.notes == ({"why": "full"} if resync == "full" else {})
            first = Entry(VOID, entry(1).ref) if resync == "full" else entry(1)
            assert memories(session) == {"[1]": first, "[2]": entry(3)}
            session.close()

    def test_a_note_along_waits_for_the_first_entries(self, place: Place) -> None:
        """It is stored at once only where the sync is remembered already: by itself it binds nobody."""
        sync_id = fresh()
        session = place.open(sync_id)
        session.note_along("project", "one")
        assert session.notes == {"project": "one"}
        session.finish(False)
        session.close()
        session = place.open(sync_id, {**HERE, "list": 7})
        assert session.notes == {}
        session.note_along("project", "two")
        session.commit({"[1]": entry(1)})
        session.finish(True)
        session.close()
        session = place.open(sync_id, {**HERE, "list": 7})
        assert session.notes == {"project": "two"}
        session.note_along("project", "three")
        session.finish(True)
        session.close()
        session = place.open(sync_id, {**HERE, "list": 7})
        assert session.notes == {"project": "three"}
        session.close()

    @pytest.mark.parametrize("resync", ["full", "baseline"])
    def test_a_state_moves_to_another_project_with_a_resync(self, place: Place, resync: Resync) -> None:
        """Notes are left behind once a full one has voided the entries, or a baseline has ended; not before."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1)})
        session = place.open(sync_id)
        session.note("list_id", "6")
        session.finish(True)
        session.close()
        session = place.open(sync_id, resync=resync)
        session.move()
        session.note_along("project", "two")
        assert session.notes == {"project": "two"}
        if resync == "baseline":
            session.commit({"[2]": entry(2)})
        session.finish(False)
        session.close()
        session = place.open(sync_id, resync=resync)
        assert session.notes == {"list_id": "6"}
        session.move()
        session.note_along("project", "two")
        if resync == "full":
            session.void("why", "full")
        session.finish(True)
        session.close()
        session = place.open(sync_id)
        assert session.notes == {"project": "two"} | ({"why": "full"} if resync == "full" else {})
        assert memories(session)["[1]"] == (Entry(VOID, entry(1).ref) if resync == "full" else entry(1))
        session.close()

    def test_a_state_may_be_voided_before_anything_is_remembered(self, place: Place) -> None:
        """The note is there, and entries that come later are not void; it is not delivered yet."""
        sync_id = fresh()
        session = place.open(sync_id)
        drain(session, [])
        session.void("why", "full")
        session.commit({"[1]": entry(1)})
        session.finish(True)
        session.close()
        session = place.open(sync_id)
        assert (session.notes, memories(session)) == ({"why": "full"}, {"[1]": entry(1)})
        session.void("why", "again")
        session.finish(True)
        session.close()
        assert kept(place, sync_id) == {"[1]": Entry(VOID, entry(1).ref)}

    def test_voiding_does_not_say_that_the_mapping_was_delivered(self, place: Place) -> None:
        """Nor do entries that are stored after it."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1)})
        session = place.open(sync_id, mapping="another", resync="full")
        session.void("why", "full")
        session.commit({"[2]": entry(2)})
        session.finish(False)
        session.close()
        session = place.open(sync_id, mapping="another")
        assert session.resend_reason is not None
        session.close()

    def test_the_order_of_a_destination_does_not_matter(self, place: Place) -> None:
        """It is compared as an object."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1)})
        place.open(sync_id, dict(reversed(HERE.items()))).close()

    def test_without_memory_any_destination_will_do(self, place: Place) -> None:
        """A run that remembered nothing, because it failed or only planned, binds nobody."""
        sync_id = fresh()
        session = place.open(sync_id)
        assert drain(session, [("[1]", 1)]) == [one("[1]", ("[1]", 1), None)]
        session.finish(False)
        session.close()
        place.open(sync_id, {**HERE, "host": "elsewhere"}).close()

    def test_a_changed_mapping_is_the_reason_why_rows_go_again(self, place: Place) -> None:
        """It is said until a run under the new mapping succeeds."""
        sync_id = fresh()
        session = place.open(sync_id)
        assert session.resend_reason is None, "a first run sends, it does not send again"
        session.close()
        keep(place, sync_id, {"[1]": entry(1)})
        for delivered, reason in ((False, True), (True, True), (True, False)):
            session = place.open(sync_id, mapping="another")
            assert (session.resend_reason is not None) is reason
            assert not session.resend_reason or "mapping changed" in session.resend_reason
            session.finish(delivered)
            session.close()

    def test_a_succeeding_run_without_changes_keeps_the_state(self, place: Place) -> None:
        """Finishing says that everything is as it was."""
        sync_id = fresh()
        keep(place, sync_id, {"[1]": entry(1)})
        keep(place, sync_id)
        assert kept(place, sync_id) == {"[1]": entry(1)}

    def test_a_dry_run_remembers_nothing(self, place: Place) -> None:
        """Neither entries nor the destination are written, whatever the plan holds."""
        sync_id = fresh()
        dry_run(place, sync_id, [(1, "a@example.com"), (2, "b@example.com")])
        place.open(sync_id, {**HERE, "host": "elsewhere"}).close()
        assert kept(place, sync_id) == {}
        keep(place, sync_id, {"[1]": entry(1), "[7]": entry(7, "gone@example.com")})
        report = dry_run(place, sync_id, [(1, "a@example.com"), (2, "b@example.com")])
        assert (report.status, report.to_dict()["changed"], report.to_dict()["removed"]) == ("planned", 1, 1)
        assert kept(place, sync_id) == {"[1]": entry(1), "[7]": entry(7, "gone@example.com")}


@dataclass
class Wire:
    """Iterable, on which nobody may call."""

    calls: int = 0

    def send(self, batch: Batch) -> Reply:
        """Count a call."""
        self.calls += 1
        return Reply(500)


def users() -> Users:
    """Return a sync of rows with an ``id`` and an ``email``."""
    options = UserOptions(primary_key=("id",), match="email", email_column="email", on_removed="clear")
    return Users(options, Mapper({"source": "id"}), ("id", "email"))


def dry_run(place: Place, sync_id: str, rows: Sequence[Row]) -> Report:
    """Plan a sync of users, as the operator does it."""
    wire, report = Wire(), Report(sync_id, "run", HERE, dry_run=True)
    session = place.open(sync_id)
    run(users(), lambda: in_chunks(rows), session, wire.send, report, Options(dry_run=True, check=session.check))
    session.close()
    assert wire.calls == 0
    return report


def planned(session: Session, rows: Sequence[Row]) -> Plan:
    """Return the plan that a session is asked to check."""
    plans: list[Plan] = []

    def check(plan: Plan) -> None:
        plans.append(plan)
        session.check(plan)

    run(
        users(),
        lambda: in_chunks(rows),
        session,
        Wire().send,
        Report("s", "r", HERE),
        Options(dry_run=True, check=check),
    )
    return plans[0]
