from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from airflow_provider_iterable.engine import left_out as module
from airflow_provider_iterable.engine.left_out import LeftOut, Standing, decode, joined
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    Added,
    Batch,
    Changed,
    Entry,
    Operation,
    Reply,
    Row,
    Settled,
    Verdict,
)
from airflow_provider_iterable.errors import GuardTripped, Halted, StateUnavailable, Unfinished
from tests.engine.test_run import Stage, judge
from tests.fakes import Killed, PlainSync, a_call, an_operation

TIER = frozenset({"tier"})


def carried(body: bytes, names: frozenset[str]) -> Collection[str]:
    """Let a body list the fields that it has values of."""
    return sorted(names.intersection(body.decode().split("=")[-1].split("+")))


class Noted:
    """A place for a note."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.history: list[str] = []

    def __call__(self, text: str) -> None:
        """Store it."""
        self.text = text
        self.history.append(text)

    def open(self) -> LeftOut:
        """Begin a run."""
        return LeftOut(carried, self, self.text)


def operations(*bodies: str) -> list[Operation]:
    """Return operations with these bodies."""
    return [an_operation(str(number), a_call(), body=body.encode()) for number, body in enumerate(bodies)]


def test_rows_are_told_what_they_lack() -> None:
    """Names are about the whole answer: a row lacks those that it carries."""
    left_out = Noted().open()
    whole, told = left_out.part(operations("tier+plan", "plan", "tier+city", ""), frozenset({"tier", "city"}))
    assert ["1", "3"] == [operation.key for operation in whole]
    assert ["field tier", "fields city, tier"] == [outcome.detail for outcome in told]
    assert {Reason.FIELDS_LEFT_OUT} == {outcome.reason for outcome in told}
    assert {"tier": 2, "city": 1} == left_out.rows
    assert {"tier", "city"} == left_out.awaited


def test_the_note_is_written_when_there_is_something_to_know() -> None:
    """It is read by the next run as it was; what is not new is not written again."""
    noted = Noted()
    left_out = noted.open()
    left_out.write()
    left_out.part(operations("tier"), TIER)
    left_out.write()
    left_out.part(operations("tier"), TIER)
    left_out.write()
    assert ['{"tier": "awaited"}'] == noted.history
    left_out = noted.open()
    left_out.write()
    assert (TIER, 1) == (left_out.awaited, len(noted.history))
    left_out.keep(())
    left_out.write()
    assert "" == noted.text


def test_an_answer_shows_that_a_field_is_there() -> None:
    """If a row carries it and the answer does not name it; a batch in which nobody carries it shows nothing."""
    noted = Noted('{"tier": "awaited", "plan": "awaited"}')
    left_out = noted.open()
    left_out.part(operations("city", ""), frozenset())
    assert frozenset() == left_out.arrived
    whole, told = left_out.part(operations("city", "tier+plan"), frozenset({"plan"}))
    assert (["0"], 1) == ([operation.key for operation in whole], len(told))
    assert (TIER, frozenset({"plan"})) == (left_out.arrived, left_out.awaited)
    left_out.part(operations("tier"), TIER)
    assert TIER == left_out.arrived, "answers to requests side by side come in any order"


def test_rows_do_not_go_again_for_ever() -> None:
    """A field that is left out once more after its rows went again waits for an answer that shows it."""
    noted = Noted('{"tier": "awaited"}')
    left_out = noted.open()
    left_out.mark(TIER, Standing.RESENT)
    left_out.part(operations("tier"), TIER)
    assert (frozenset(), TIER) == (left_out.awaited, left_out.refused)
    left_out.part(operations("tier"), TIER)
    assert TIER == left_out.refused
    left_out.part(operations("tier"), frozenset())
    assert TIER == left_out.arrived
    left_out.mark(TIER, Standing.RESENT)
    left_out.part(operations("tier"), frozenset())
    assert {"tier": Standing.RESENT} == left_out.standings, "what is there is no news"


def test_no_more_is_remembered_than_a_note_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond is told, and not remembered."""
    monkeypatch.setattr(module, "MOST", 2)
    left_out = Noted().open()
    left_out.part(operations("a+b+c"), frozenset("abc"))
    assert (2, 3) == (len(left_out.awaited), len(left_out.rows))


def test_several_notes_become_one() -> None:
    """What is still to be done counts."""
    texts = ["", '{"a": "resent", "b": "arrived", "c": "refused"}', '{"a": "refused", "b": "awaited", "c": "resent"}']
    assert {"a": "refused", "b": "awaited", "c": "refused"} == decode(joined(texts))
    assert "" == joined(["", ""])


class Field:
    """A place that has the field ``tier`` or not, and runs of a sync against it.

    The value of a row is what it carries.
    """

    def __init__(self, *, keeps_leavers: bool = False, replies: Iterable[Reply | Exception] = ()) -> None:
        self.there = False
        self.stage = Stage(replies=replies)
        call = replace(a_call(self._judge), rate=5)
        kind = Once if keeps_leavers else PlainSync
        self.stage.sync = kind(call, self.stage.remove, keeps_leavers=keeps_leavers)
        self.noted = Noted()

    def _judge(self, batch: Batch, reply: Reply) -> Verdict:
        verdict = judge(batch, reply)
        if not isinstance(verdict, Settled):
            return verdict
        return msgspec.structs.replace(verdict, left_out=frozenset() if self.there else TIER)

    def run(self, *rows: Row, again: bool = False, **options: Any) -> dict[str, Any]:
        """Run once.

        :param again: whether it is known that the field is there
        """
        left_out = self.noted.open()
        left_out.again = TIER if again else frozenset()
        self.stage.sender.history.clear()
        return self.stage.run(*rows, left_out=left_out, **options)

    @property
    def sent(self) -> list[str]:
        """Return the keys that were sent."""
        return sorted(key for batch in self.stage.sender.history for key in batch)


class Once(PlainSync):
    """A sync to which a changed row says nothing."""

    def changed(self, change: Changed) -> Operation:
        """Say nothing."""
        return msgspec.structs.replace(super().changed(change), call=None)

    def added(self, change: Added) -> Operation:
        """Fire."""
        return super().added(change)


ROWS: list[Row] = [(str(n), f"{n}@x.io", "plan" if n == 2 else "tier") for n in range(6)]


@pytest.mark.parametrize("keeps_leavers", [False, True])
def test_unchanged_rows_go_again(keeps_leavers: bool) -> None:
    """Those that carry the field, as changed ones or, where these say nothing, as new ones; the next run is quiet."""
    field = Field(keeps_leavers=keeps_leavers)
    told = field.run(*ROWS)
    assert (6, 5, {"tier": 5}) == (told["accepted"], told["partial"], told["left_out"])
    before = dict(field.stage.state.entries)
    assert 6 == field.run(*ROWS)["unchanged"]
    field.there = True
    told = field.run(*ROWS, again=True)
    counts = (0, 5, 1, 5) if keeps_leavers else (5, 0, 1, 5)
    assert counts == tuple(told[name] for name in ("changed", "added", "unchanged", "accepted"))
    assert ["0", "1", "3", "4", "5"] == field.sent
    assert before == field.stage.state.entries
    assert {"tier": "resent"} == decode(field.noted.text)
    assert 6 == field.run(*ROWS)["unchanged"]


@pytest.mark.parametrize("keeps_leavers", [False, True])
@pytest.mark.parametrize("how", [Reply(401), Reply(0), Killed()])
def test_a_run_that_was_cut_short_is_ended_by_the_next(how: Reply | Exception, keeps_leavers: bool) -> None:
    """It sends what was not accepted, and nothing twice; who left meanwhile is removed as ever."""
    field = Field(keeps_leavers=keeps_leavers)
    field.run(*ROWS)
    field.there = True
    field.stage.sender.replies.extend([Reply(200), how])
    with pytest.raises((Halted, Unfinished, Killed)):
        field.run(*ROWS, again=True, patience=Patience(tries=1, in_flight=1, unanswered=1))
    unknown = (VOID, NEVER_EQUAL)
    accepted = {key for key, entry in field.stage.state.entries.items() if entry.fingerprint not in unknown} - {"2"}
    assert 2 == len(accepted)
    field.run(*ROWS)
    assert sorted({"0", "1", "3", "4", "5"} - accepted) == field.sent
    assert 6 == field.run(*ROWS)["unchanged"]


def test_a_rejected_row_goes_again_alone() -> None:
    """Not all those that carry the field."""
    field = Field()
    field.run(*ROWS)
    field.there = True
    field.stage.sender.replies.append(Reply(200, b"0"))
    field.run(*ROWS, again=True)
    assert Entry(VOID, "0@x.io") == field.stage.state.entries["0"]
    field.run(*ROWS)
    assert ["0"] == field.sent


@pytest.mark.parametrize("how", ["dry run", "unapproved", "refused by the state"])
def test_a_run_that_does_not_begin_voids_nothing(how: str) -> None:
    """Neither entries nor note have changed; a plan that was made tells which rows go again."""
    field = Field()
    field.run(*ROWS)
    before, text = dict(field.stage.state.entries), field.noted.text
    if how == "dry run":
        told = field.run(*ROWS, again=True, dry_run=True)
        assert ("planned", 5) == (told["status"], told["changed"])
    else:
        ways: dict[str, dict[str, Any]] = {
            "unapproved": {"approved_plan": "0" * 32},
            "refused by the state": {"check": lambda plan: (_ for _ in ()).throw(GuardTripped("too large"))},
        }
        with pytest.raises(GuardTripped):
            field.run(*ROWS, again=True, **ways[how])
    assert (before, text) == (field.stage.state.entries, field.noted.text)


def test_the_note_comes_before_what_was_accepted() -> None:
    """A row that is remembered as accepted without the field is never one of which the note does not know."""
    field = Field()
    field.stage.state.errors.append(StateUnavailable("away"))
    with pytest.raises(StateUnavailable):
        field.run(*ROWS)
    assert ({}, {"tier": "awaited"}) == (field.stage.state.entries, decode(field.noted.text))


def test_what_is_awaited_does_not_go_with_each_run() -> None:
    """A row that changed goes, and lacks the field as before."""
    field = Field()
    field.run(*ROWS)
    told = field.run(("0", "0@x.io", "plan+tier"), *ROWS[1:])
    assert (["0"], {"tier": 1}) == (field.sent, told["left_out"])


def test_rows_are_parted_where_there_is_nothing_to_say_of_them() -> None:
    """An answer that names no field, to a sync that awaits none, costs no look at the rows."""

    def looked(body: bytes, names: frozenset[str]) -> Collection[str]:
        raise AssertionError("nobody needs to look")

    batch = operations("tier")
    whole, told = LeftOut(looked, Noted()).part(batch, frozenset())
    assert whole is batch
    assert () == told


def test_a_row_that_shares_its_key_does_not_go_again() -> None:
    """It is a duplicate, and its entry stays as it is."""
    field = Field()
    field.run(*ROWS)
    field.there = True
    told = field.run(*ROWS, ROWS[0], again=True)
    assert (["1", "3", "4", "5"], 2) == (field.sent, told["invalid"])
    assert b"tier" == field.stage.state.entries["0"].fingerprint


def test_many_entries_are_voided_in_several_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch does not hold all of a large model."""
    from airflow_provider_iterable.engine import remember

    monkeypatch.setattr(remember, "VOID_AT_ONCE", 2)
    field = Field()
    field.run(*ROWS)
    field.stage.state.patches.clear()
    field.run(*ROWS, again=True)
    voided = [list(patch) for patch in field.stage.state.patches[:3]]
    assert [["0", "1"], ["3", "4"], ["5"]] == voided
    assert {Kind.CHANGED: 5} == +field.stage.report.counts
