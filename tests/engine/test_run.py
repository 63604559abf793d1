from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable.engine.doubt import with_receipts
from airflow_provider_iterable.engine.forecast import Horizon
from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.engine.reasons import Fate, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.run import Options, run
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import (
    NEVER_EQUAL,
    NO_INTENTS,
    Again,
    Batch,
    Entry,
    Halt,
    Intents,
    Outcome,
    Patch,
    Reply,
    Row,
    Settled,
    Verdict,
)
from airflow_provider_iterable.errors import (
    GuardTripped,
    Halted,
    IterableSyncError,
    Stopped,
    TooManyRejected,
    Unfinished,
)
from airflow_provider_iterable.state.memory import MemoryState
from tests.fakes import Killed, PlainSync, Sender, a_call, in_chunks, remembering


def judge(batch: Batch, reply: Reply) -> Verdict:
    """Judge by status; a body names the keys that are rejected."""
    if reply.status == 0:
        return Again(Reason.NO_ANSWER)
    if reply.status == 401:
        return Halt("Iterable refused the API key.")
    rejected = reply.body.decode().split()
    return Settled(
        {
            number: Outcome(op.key, op.kind, Fate.REJECTED, Reason.REFUSED, operation=op)
            for number, op in enumerate(batch.operations)
            if op.key in rejected
        }
    )


class ListeningState(MemoryState):
    """A state that keeps its patches, and fails to store them as queued."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        super().__init__(entries)
        self.errors: deque[Exception] = deque()
        self.patches: list[Patch] = []

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents."""
        remembered = with_receipts(patch, intents)
        if self.errors and remembered:
            raise self.errors.popleft()
        if remembered:
            self.patches.append(dict(remembered))
        super().commit(patch, intents)


class Stage:
    """A sync with two calls, a state, and what happened."""

    def __init__(self, *remembered: Row, replies: Iterable[Reply | Exception] = ()) -> None:
        self.write, self.remove = a_call(judge, name="/write", rate=5), a_call(judge, items=1, name="/remove")
        self.sync = PlainSync(self.write, self.remove)
        self.state = ListeningState(remembering(*remembered).entries)
        self.sender = Sender(deque(replies))
        self.report = Report("sync", "run", {})
        self.options = Options(
            patience=Patience(tries=1, in_flight=1), batch_size=2, max_rejected=1.0, clock=count().__next__
        )
        self.reads = 0

    def run(self, *rows: Row, **options: Any) -> dict[str, Any]:
        """Run once and return the report."""
        self.report = Report("sync", "run", {}, dry_run=options.get("dry_run", False))

        def read() -> list[Sequence[Row]]:
            self.reads += 1
            return in_chunks(rows)

        how = replace(self.options, **options)
        return run(self.sync, read, self.state, self.sender, self.report, how).to_dict()


PEOPLE: list[Row] = [(str(n), f"{n}@x.io", 1) for n in range(5)]


def test_a_run_sends_what_differs_and_remembers_it() -> None:
    """Added, changed and removed rows are sent; the rest is left in peace."""
    stage = Stage(("0", "0@x.io", 1), ("1", "1@x.io", 0), ("9", "9@x.io", 1))
    told = stage.run(*PEOPLE)
    assert [["2", "3"], ["4", "1"], ["9"]] == stage.sender.history
    assert remembering(*PEOPLE).entries == stage.state.entries
    assert (3, 1, 1, 1, 0) == tuple(told[name] for name in ("added", "changed", "removed", "unchanged", "invalid"))
    assert (5, 0, 0, 0) == tuple(told[name] for name in ("accepted", "rejected", "skipped", "deferred"))
    assert "succeeded" == told["status"]
    assert {"plan", "deliver"} == told["seconds"].keys()


def test_a_run_without_news_sends_nothing() -> None:
    """The second run of a model finds nothing to do, and reads the model once."""
    stage = Stage(*PEOPLE)
    told = stage.run(*PEOPLE)
    assert ([], [], 1) == (stage.sender.history, stage.state.patches, stage.reads)
    assert ("succeeded", 5) == (told["status"], told["unchanged"])


def test_every_call_is_accounted_for() -> None:
    """What makes a call ends in one fate; invalid rows are rejected rows."""
    stage = Stage(("9", "9@x.io", 1), replies=[Reply(200, b"1"), Reply(0)])
    with pytest.raises(Unfinished):
        stage.run(*PEOPLE, (None, "x@x.io", 1), ("7", None, 1), ("8", "8@x.io", 1), ("8", "8@x.io", 1))
    told = stage.report.to_dict()
    assert 9 == told["read"] == told["added"] + told["changed"] + told["unchanged"] + told["invalid"]
    assert (5, 4, 1) == (told["added"], told["invalid"], told["removed"])
    assert (3, 5, 2) == (told["accepted"], told["rejected"], told["deferred"])
    assert {"refused": 1, "no_answer": 2, "null_key": 1, "no_identifier": 1, "duplicate_key": 2} == told["reasons"]


def test_the_greatest_key_has_the_last_word() -> None:
    """Rows with one identity go one after the other, and the surplus is told as collapsed."""
    for rows in ([("2", "a@x.io", 1), ("10", "a@x.io", 1), ("1", "b@x.io", 1)],):
        for order in (rows, rows[::-1]):
            stage = Stage()
            told = stage.run(*order)
            assert [["1"], ["10"], ["2"]] == stage.sender.history
            assert 1 == told["collapsed"]
            assert any("share their identity" in note for note in stage.report.notes)


def test_unchanged_namesakes_go_again_and_the_model_is_read_twice() -> None:
    """The row that is said again counts as changed, and a note tells why."""
    stage = Stage(("1", "a@x.io", 1), ("2", "a@x.io", 1))
    told = stage.run(("1", "a@x.io", 2), ("2", "a@x.io", 1))
    assert [["1"], ["2"]] == stage.sender.history
    assert (2, 2, 0) == (stage.reads, told["changed"], told["unchanged"])
    assert any("go again because" in note for note in stage.report.notes)
    assert remembering(("1", "a@x.io", 2), ("2", "a@x.io", 1)).entries == stage.state.entries


def test_shared_memories_are_doubted_before_the_first_call() -> None:
    """When the first row was written and the second not, both go again although the second row did not change."""
    rows: list[Row] = [("1", "a@x.io", 2), ("2", "a@x.io", 1)]
    stage = Stage(("1", "a@x.io", 1), ("2", "a@x.io", 1), replies=[Reply(200), Reply(401)])
    with pytest.raises(Halted):
        stage.run(*rows)
    assert {"1": Entry(NEVER_EQUAL, "a@x.io"), "2": Entry(NEVER_EQUAL, "a@x.io")} == stage.state.entries
    stage.sender.history.clear()
    stage.run(*rows)
    assert [["1"], ["2"]] == stage.sender.history
    stage.sender.history.clear()
    stage.run(*rows)
    assert [] == stage.sender.history


def test_somebody_who_still_has_a_row_is_not_removed() -> None:
    """Only the entry of the row that left goes."""
    stage = Stage(("1", "a@x.io", 1))
    told = stage.run(("2", "a@x.io", 1))
    assert [["2"]] == stage.sender.history
    assert ["2"] == list(stage.state.entries)
    assert (1, 1) == (told["removed"], told["accepted"])
    assert any("still borne by another" in note for note in stage.report.notes)


def test_a_moved_identity_is_written_and_reported() -> None:
    """The new address is written under the same key, and the report points to change_email."""
    stage = Stage(("1", "a@x.io", 1))
    stage.run(("1", "b@x.io", 2))
    assert [["1"]] == stage.sender.history
    assert Entry(b"2", "b@x.io") == stage.state.entries["1"]
    assert any("change_email" in note for note in stage.report.notes)


def test_an_empty_model_is_believed_where_keys_are_kept() -> None:
    """Rows that are not there cost nothing: no guard looks at them."""
    stage = Stage(*PEOPLE)
    stage.sync.keeps_leavers = True
    assert stage.run(guards=Guards(max_removed=0))["status"] == "succeeded"
    assert len(stage.state.entries) == len(PEOPLE)


@pytest.mark.parametrize(
    ("remembered", "rows", "guards", "message"),
    [
        (PEOPLE, [], Guards(), "allow_empty=True"),
        ([(str(n), f"{n}@x.io", 1) for n in range(30)], PEOPLE, Guards(), "max_removed"),
        ([*PEOPLE, ("8", "8@x.io", 1), ("9", "9@x.io", 1)], PEOPLE, Guards(max_deletes=1), "max_deletes"),
    ],
)
def test_a_guard_trips_before_the_first_call(
    remembered: list[Row], rows: list[Row], guards: Guards, message: str
) -> None:
    """Nothing is sent or committed, in a dry run neither, and the error carries the report."""
    for dry_run in (False, True):
        stage = Stage(*remembered)
        with pytest.raises(GuardTripped, match=message) as caught:
            stage.run(*rows, guards=guards, dry_run=dry_run)
        assert ([], []) == (stage.sender.history, stage.state.patches)
        assert caught.value.report is not None
        assert "failed" == caught.value.report["status"]


def test_the_states_objection_comes_before_the_first_call() -> None:
    """A plan whose result the state could not hold is not begun."""

    def object_(plan: object) -> None:
        raise IterableSyncError("too large")

    stage = Stage()
    with pytest.raises(IterableSyncError, match="too large"):
        stage.run(*PEOPLE, check=object_)
    assert [] == stage.sender.history


def test_a_dry_run_calls_nothing_and_commits_nothing() -> None:
    """The report tells the counts, the predicted rejections, the requests and the minutes."""
    stage = Stage(("0", "0@x.io", 0), ("9", "9@x.io", 1))
    told = stage.run(
        *PEOPLE,
        (None, "x", 1),
        dry_run=True,
        prepare=lambda: pytest.fail("a dry run asks nobody"),
        horizon=Horizon(now=lambda: datetime(2026, 5, 31, 6, 0, tzinfo=UTC)),
    )
    assert ([], []) == (stage.sender.history, stage.state.patches)
    assert ("planned", 4, 1, 1, 1, 1) == tuple(
        told[name] for name in ("status", "added", "changed", "removed", "invalid", "rejected")
    )
    assert {"null_key": 1} == told["reasons"]
    assert [
        "5 rows through POST /write: about 3 requests, 0.6 s at the rate limit of 5 a second.",
        "1 rows through POST /remove: about 1 requests, at no documented rate.",
        "All is expected to be done in 0.6 s, at 2026-05-31 06:00 UTC.",
    ] == stage.report.notes


def test_a_dry_run_without_news_says_so() -> None:
    """Nothing to send is worth a line."""
    stage = Stage(*PEOPLE)
    stage.run(*PEOPLE, dry_run=True)
    assert ["Nothing to send."] == stage.report.notes


def test_what_happens_once_before_sending_happens_when_there_is_something_to_send() -> None:
    """Types are learned before the first operation is looked at, and not at all in a run without news."""
    happened: list[int] = []

    def prepare(stage: Stage) -> Callable[[], None]:
        return lambda: happened.append(len(stage.sender.history))

    stage = Stage()
    stage.run(*PEOPLE, prepare=prepare(stage))
    stage.run(*PEOPLE, prepare=prepare(stage))
    assert [0] == happened


def test_a_row_that_the_last_look_refuses_is_rejected() -> None:
    """It is not sent and not remembered."""
    stage = Stage()
    stage.sync.refused = {"1": Reason.TYPE_MISMATCH}
    told = stage.run(*PEOPLE)
    assert (4, 1, {"type_mismatch": 1}) == (told["accepted"], told["rejected"], told["reasons"])
    assert "1" not in stage.state.entries


@pytest.mark.parametrize(
    ("limit", "rejected", "fails"),
    [(0, 0, False), (0, 1, True), (0.2, 1, False), (0.2, 2, True), (2, 2, False), (2, 3, True), (1.0, 5, False)],
)
def test_too_many_rejected_rows_fail_the_run_after_everything_was_delivered(
    limit: float | int, rejected: int, fails: bool
) -> None:
    """A float is a share of the rows read, an int a number, 0 strict; the others are delivered all the same."""
    stage = Stage()
    rows: list[Row] = [(key, None if n < rejected else identity, 1) for n, (key, identity, _) in enumerate(PEOPLE)]
    error = None
    try:
        stage.run(*rows, max_rejected=limit)
    except TooManyRejected as caught:
        error = caught
    assert fails is (error is not None)
    assert ("too_many_rejected" if fails else "succeeded") == stage.report.status
    assert {str(n) for n in range(rejected, 5)} == stage.state.entries.keys()


def test_rejected_by_iterable_counts_as_well() -> None:
    """Rows rejected before sending and by Iterable are added up."""
    stage = Stage(replies=[Reply(200, b"0")])
    with pytest.raises(TooManyRejected, match="2 of 6 rows were rejected"):
        stage.run(*PEOPLE, (None, "x", 1), max_rejected=1)


def test_deferred_rows_make_the_run_unfinished() -> None:
    """The accepted are remembered, the others are in doubt, and the next run sends these."""
    stage = Stage(replies=[Reply(200), Reply(0)])
    with pytest.raises(Unfinished, match="2 rows were deferred"):
        stage.run(*PEOPLE)
    assert ["2", "3"] == [key for key, entry in stage.state.entries.items() if entry.fingerprint == NEVER_EQUAL]
    assert any("2 rows were sent and not answered" in note for note in stage.report.notes)
    stage.sender.history.clear()
    assert "succeeded" == stage.run(*PEOPLE)["status"]
    assert [["2", "3"]] == stage.sender.history


def test_a_halt_ends_the_run_with_its_message() -> None:
    """A halt goes before rejected and deferred rows; what was accepted is remembered."""
    stage = Stage(replies=[Reply(200, b"0"), Reply(401)])
    with pytest.raises(Halted, match="Iterable refused the API key") as caught:
        stage.run(*PEOPLE, max_rejected=0)
    assert ["1"] == list(stage.state.entries)
    assert caught.value.report is not None
    assert ("halted", 1, 1, 3) == tuple(
        caught.value.report[name] for name in ("status", "accepted", "rejected", "deferred")
    )


def test_a_run_that_is_stopped_before_it_sends() -> None:
    """It ends while rows are compared, and sends nothing."""
    stop = threading.Event()
    stop.set()
    stage = Stage()
    with pytest.raises(Stopped, match="Nothing was sent"):
        stage.run(*PEOPLE, stop=stop)
    assert ([], "stopped") == (stage.sender.history, stage.report.status)


def test_a_run_that_is_stopped_accounts_for_every_row() -> None:
    """What was not reached counts as put off, without looking at it."""
    stop = threading.Event()
    stage = Stage()
    send = stage.sender

    def stopping(batch: Batch) -> Reply:
        stop.set()
        return send(batch)

    stage.sender = stopping  # type: ignore[assignment]
    people = [(str(number), f"{number}@x.io", 1) for number in range(100)]
    with pytest.raises(Stopped, match=r"The task was stopped: \d+ rows were not sent .*; accepted (\d+),"):
        stage.run(*people, stop=stop)
    told = stage.report.to_dict()
    assert told["status"] == "stopped"
    assert told["accepted"] == len(stage.state.entries) > 0
    assert told["accepted"] + told["deferred"] == 100
    assert told["reasons"] == {"stopped": told["deferred"]}


class TimedOut(BaseException):
    """What Airflow raises in the midst of anything when the time is over."""


def test_a_run_that_is_interrupted_while_it_prepares_accounts_for_every_row() -> None:
    """Nothing was sent yet, and all that would have been counts as put off."""
    stage = Stage()

    def prepare() -> None:
        raise TimedOut

    with pytest.raises(TimedOut):
        stage.run(*PEOPLE, prepare=prepare)
    told = stage.report.to_dict()
    assert (told["deferred"], told["reasons"], stage.sender.history) == (5, {"stopped": 5}, [])


@pytest.mark.parametrize("where", ["send", "commit", "observe"])
def test_a_run_that_is_interrupted_accounts_for_every_row(where: str) -> None:
    """What was answered is committed and told; the interruption comes out as it is."""
    stage, met = Stage(), list[str]()
    state, send = stage.state, stage.sender

    def interrupt(place: str) -> None:
        met.append(place)
        if place == where and met.count(place) == 3:
            raise TimedOut

    commit = state.commit

    def committing(patch: Patch, intents: Intents = NO_INTENTS) -> None:
        interrupt("commit")
        commit(patch, intents)

    def sending(batch: Batch) -> Reply:
        interrupt("send")
        return send(batch)

    def observe(told: object) -> None:
        interrupt("observe")

    state.commit = committing  # type: ignore[method-assign]
    stage.sender = sending  # type: ignore[assignment]
    people = [(str(number), f"{number}@x.io", 1) for number in range(100)]
    with pytest.raises(TimedOut):
        stage.run(*people, observe=observe)
    told = stage.report.to_dict()
    accepted = {key for key, entry in state.entries.items() if entry.fingerprint != NEVER_EQUAL}
    assert told["status"] == "stopped"
    assert 0 < told["accepted"] == len(accepted) < 100
    assert told["accepted"] + told["deferred"] == 100
    sent = {key for keys in send.history for key in keys}
    assert sent <= state.entries.keys(), "what was sent is remembered, accepted or in doubt"


def test_a_failing_commit_ends_the_run() -> None:
    """The error comes through as it is, and nothing more is sent."""
    stage = Stage()
    stage.state.errors.append(Killed())
    with pytest.raises(Killed):
        stage.run(*PEOPLE, ("5", "5@x.io", 1), ("6", "6@x.io", 1), ("7", "7@x.io", 1))
    assert 2 >= len(stage.sender.history)
    assert {} == stage.state.entries


def test_a_killed_run_is_taken_up_by_the_next() -> None:
    """What was committed before the end is not sent again; what was in flight is in doubt."""
    stage = Stage(replies=[Reply(200), Killed()])
    with pytest.raises(Killed):
        stage.run(*PEOPLE)
    assert ["2", "3"] == [key for key, entry in stage.state.entries.items() if entry.fingerprint == NEVER_EQUAL]
    stage.sender.history.clear()
    stage.run(*PEOPLE)
    assert ["2", "3", "4"] == sorted(key for batch in stage.sender.history for key in batch)


def test_waiting_for_another_day_is_no_failure() -> None:
    """Rows that a daily quota keeps waiting are deferred, and the run succeeds; others that wait make it unfinished."""
    stage = Stage()
    stage.sync.fate = Fate.DEFERRED
    stage.sync.refused = {"1": Reason.QUOTA, "2": Reason.QUOTA}
    told = stage.run(*PEOPLE)
    assert ("succeeded", 2, 3) == (told["status"], told["deferred"], told["accepted"])
    stage.sync.refused = {"1": Reason.QUOTA, "2": Reason.NO_ANSWER}
    with pytest.raises(Unfinished, match="1 rows were deferred"):
        stage.run(*PEOPLE)


def test_rows_that_are_one_record_are_reported() -> None:
    """The model is read once more, and the report says how many rows count for nothing."""
    stage = Stage()
    stage.sync = PlainSync(stage.write, stage.remove, exclusive=False, collapses=True)
    told = stage.run(("1", "a@x.io", 1), ("1", "a@x.io", 2), ("2", "b@x.io", 1))
    assert (2, 2, 1) == (told["read"], told["accepted"], told["collapsed"])
    assert 2 == stage.reads
    assert any("1 rows name a record that another row names too" in note for note in stage.report.notes)


def test_a_row_that_was_accepted_for_a_reason_shares_its_identity_too() -> None:
    """What had happened already is accepted as well, and counts among the rows of an identity."""
    stage = Stage()
    stage.sync.fate = Fate.ACCEPTED
    stage.sync.refused = {"1": Reason.ALREADY_CHANGED}
    told = stage.run(("1", "a@x.io", 1), ("2", "a@x.io", 2))
    assert (2, 1) == (told["accepted"], told["collapsed"])


def test_all_that_a_run_spools_is_in_the_directory_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removals have a file of their own."""
    made: list[str | None] = []
    temporary_file = tempfile.TemporaryFile

    def noted(*, dir: str | None, prefix: str) -> Any:
        made.append(dir)
        return temporary_file(dir=dir, prefix=prefix)

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    Stage().run(*PEOPLE, spool_dir=str(tmp_path))
    Stage().run(*PEOPLE)
    assert [str(tmp_path)] * 2 + [None] * 2 == made
