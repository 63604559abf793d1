from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.engine.resync import VOID, Resync
from airflow_provider_iterable.engine.vocabulary import Changed, Entry, Operation, Reply, Row
from airflow_provider_iterable.errors import GuardTripped, Halted, TooManyRejected
from tests.engine.test_run import PEOPLE, Stage
from tests.fakes import PlainSync, Sender, remembering

GONE: Row = ("9", "9@x.io", 1)


class Full:
    """Runs of a full resync and others after it, on one state."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.begun = False

    def distrust(self) -> None:
        """Void the state."""
        self.begun = True
        self.stage.state.void("resync", "run")

    def run(self, *rows: Row, **options: Any) -> dict[str, Any]:
        """Begin a full resync, or go on with it."""
        distrust: Callable[[], None] | None = None if self.begun else self.distrust
        return self.stage.run(*rows, resync="full", distrust=distrust, **options)


def sent(sender: Sender) -> list[str]:
    """Return the keys that were sent."""
    return sorted(key for batch in sender.history for key in batch)


def test_a_full_resync_sends_every_row_and_removes_as_ever() -> None:
    """Rows that are as they were go as changed ones; who left is removed; the state is as after any other run."""
    stage = Stage(*PEOPLE[:4], GONE)
    told = Full(stage).run(*PEOPLE)
    assert ["0", "1", "2", "3", "4", "9"] == sent(stage.sender)
    assert (1, 4, 1, 0) == tuple(told[name] for name in ("added", "changed", "removed", "unchanged"))
    assert remembering(*PEOPLE).entries == stage.state.entries
    stage.sender.history.clear()
    stage.run(*PEOPLE)
    assert [] == stage.sender.history


@pytest.mark.parametrize("keeps_leavers", [False, True])
@pytest.mark.parametrize("resync", ["full", "changes"])
def test_a_full_resync_that_stopped_goes_on(resync: Resync, keeps_leavers: bool) -> None:
    """A retry, or the next run of the usual kind, sends what was not accepted, and nothing else."""
    stage = Stage(*PEOPLE, GONE, replies=[Reply(200), Reply(401)])
    stage.sync = PlainSync(stage.write, stage.remove, keeps_leavers=keeps_leavers)
    full = Full(stage)
    with pytest.raises(Halted):
        full.run(*PEOPLE)
    before = set(stage.sender.history[0])
    stage.sender.history.clear()
    told = full.run(*PEOPLE) if resync == "full" else stage.run(*PEOPLE)
    left = {key for key, *_ in PEOPLE} - before
    assert sorted(left | (set() if keeps_leavers else {"9"})) == sent(stage.sender)
    assert len(before) == told["unchanged"]
    assert len(left) == told["added" if keeps_leavers else "changed"]
    assert [key for key, entry in stage.state.entries.items() if entry.fingerprint == VOID] == ["9"] * keeps_leavers
    stage.sender.history.clear()
    stage.run(*PEOPLE)
    assert [] == stage.sender.history


def test_what_speaks_once_speaks_again_in_a_full_resync() -> None:
    """A changed row of such a sync says nothing; in a full resync its rows are new ones."""

    class Once(PlainSync):
        def changed(self, change: Changed) -> Operation:
            return msgspec.structs.replace(super().changed(change), call=None)

    stage = Stage(*PEOPLE, replies=[Reply(200), Reply(401)])
    stage.sync = Once(stage.write, keeps_leavers=True)
    full = Full(stage)
    with pytest.raises(Halted):
        full.run(*PEOPLE)
    full.run(*PEOPLE)
    assert sorted(["0", "1", "2", "3", "2", "3", "4"]) == sent(stage.sender)
    changed = [(key, identity, 2) for key, identity, _ in PEOPLE]
    stage.sender.history.clear()
    stage.run(*changed)
    assert [] == stage.sender.history
    assert remembering(*changed).entries == stage.state.entries


def test_a_rejected_row_goes_again_after_a_full_resync() -> None:
    """Iterable did not take it this time, whatever it took before."""
    stage = Stage(*PEOPLE[:1], replies=[Reply(200, b"0")])
    Full(stage).run(*PEOPLE[:1])
    assert Entry(VOID, "0@x.io") == stage.state.entries["0"]
    stage.run(*PEOPLE[:1])
    assert [["0"], ["0"]] == stage.sender.history


def test_a_full_resync_sends_the_row_that_speaks_for_its_key() -> None:
    """Where rows of one key are one record, also when the record is remembered as it is."""
    stage = Stage(("1", "1@x.io", 2))
    stage.sync = PlainSync(stage.write, stage.remove, exclusive=False, collapses=True)
    told = Full(stage).run(("1", "1@x.io", 1), ("1", "1@x.io", 2))
    assert [["1"]] == stage.sender.history
    assert (1, 1, 0) == (told["changed"], told["collapsed"], told["unchanged"])


@pytest.mark.parametrize("how", ["guard", "dry run", "unapproved", "refused by the state"])
def test_a_full_resync_that_does_not_begin_voids_nothing(how: str) -> None:
    """The next run of the usual kind has nothing to send."""
    stage = Stage(*PEOPLE)
    full = Full(stage)
    ways: dict[str, dict[str, Any]] = {
        "guard": {"guards": Guards(max_removed=0)},
        "dry run": {"dry_run": True},
        "unapproved": {"approved_plan": "0" * 32},
        "refused by the state": {"check": lambda plan: (_ for _ in ()).throw(GuardTripped("too large"))},
    }
    options = ways[how]
    if how == "guard":
        stage.state.entries.update(remembering(*((str(n), f"{n}@x.io", 1) for n in range(10, 40))).entries)
    before = dict(stage.state.entries)
    if how == "dry run":
        told = full.run(*PEOPLE, **options)
        assert ("planned", 5) == (told["status"], told["changed"])
    else:
        with pytest.raises(GuardTripped):
            full.run(*PEOPLE, **options)
    assert not full.begun
    assert before == stage.state.entries
    assert [] == stage.sender.history


def test_a_full_resync_begins_once_there_is_something_to_send_to() -> None:
    """What is prepared before the first call is prepared before the state is voided."""
    stage = Stage(*PEOPLE)
    full = Full(stage)
    begun: list[bool] = []
    full.run(*PEOPLE, prepare=lambda: begun.append(full.begun))
    assert ([False], True) == (begun, full.begun)


def baseline(stage: Stage, *rows: Row, **options: Any) -> dict[str, Any]:
    """Record rows as delivered."""
    return stage.run(*rows, resync="baseline", prepare=lambda: pytest.fail("nothing is sent"), **options)


def test_a_baseline_records_and_sends_nothing() -> None:
    """New and changed rows are remembered as they are, and who left stays remembered, to be removed by the next run."""
    stage = Stage(("0", "0@x.io", 0), ("1", "1@x.io", 1), GONE)
    told = baseline(stage, *PEOPLE)
    assert ([], "succeeded") == (stage.sender.history, told["status"])
    assert (3, 1, 0, 1) == tuple(told[name] for name in ("added", "changed", "removed", "unchanged"))
    assert (0, 0, 0, 0) == tuple(told[name] for name in ("accepted", "rejected", "skipped", "deferred"))
    assert remembering(*PEOPLE, GONE).entries == stage.state.entries
    assert any("4 rows are recorded as delivered, 1 were already" in note for note in stage.report.notes)
    stage.run(*PEOPLE)
    assert [["9"]] == stage.sender.history
    assert remembering(*PEOPLE).entries == stage.state.entries


def test_a_baseline_records_valid_rows_only() -> None:
    """Others keep the entry that they had, and are told as ever."""
    stage = Stage(("2", "2@x.io", 7), ("3", "3@x.io", 7))
    told = baseline(
        stage, ("1", "1@x.io", 1), ("2", "2@x.io", "bad"), (None, "n@x.io", 1), ("3", "3@x.io", 1), ("3", "3@x.io", 1)
    )
    assert (4, 4, 0) == (told["invalid"], told["rejected"], told["accepted"])
    assert remembering(("1", "1@x.io", 1), ("2", "2@x.io", 7), ("3", "3@x.io", 7)).entries == stage.state.entries
    with pytest.raises(TooManyRejected, match="recorded as delivered, unless the state is XCom"):
        baseline(stage, ("2", "2@x.io", "bad"), max_rejected=0)


def test_a_baseline_takes_rows_with_one_identity_as_they_are() -> None:
    """Nothing is overwritten at Iterable, so that nothing is said again, doubted, or read twice."""
    quiet: Row = ("5", "c@x.io", 1)
    stage = Stage(("1", "a@x.io", 1), ("2", "a@x.io", 1), ("3", "c@x.io", 0), quiet)
    told = baseline(stage, ("1", "a@x.io", 2), ("2", "a@x.io", 1), ("3", "a@x.io", 1), ("4", "a@x.io", "bad"), quiet)
    assert (1, [], 2, 2) == (stage.reads, stage.sender.history, told["changed"], told["unchanged"])
    expected = remembering(("1", "a@x.io", 2), ("2", "a@x.io", 1), ("3", "a@x.io", 1), quiet).entries
    assert expected == stage.state.entries
    assert not any("change_email" in note or "go again" in note for note in stage.report.notes)
    assert len(stage.state.patches) == 1, "no memory is doubted"


def test_a_baseline_leaves_what_rows_were_before_alone() -> None:
    """Also where a sync would remove it."""
    stage = Stage(("1", "a@x.io", 1))
    stage.sync.left = stage.remove
    baseline(stage, ("1", "b@x.io", 2))
    assert [] == stage.sender.history
    assert {"1": Entry(b"2", "b@x.io")} == stage.state.entries


def test_a_baseline_records_the_row_that_speaks_for_its_key() -> None:
    """Where rows of one key are one record."""
    stage = Stage()
    stage.sync = PlainSync(stage.write, stage.remove, exclusive=False, collapses=True)
    baseline(stage, ("1", "1@x.io", 1), ("1", "1@x.io", 2))
    assert {"1": Entry(b"2", "1@x.io")} == stage.state.entries


def test_a_baseline_ends_an_unfinished_full_resync() -> None:
    """What was void is recorded too."""
    stage = Stage(*PEOPLE, replies=[Reply(401)])
    with pytest.raises(Halted):
        Full(stage).run(*PEOPLE)
    stage.sender.history.clear()
    baseline(stage, *PEOPLE)
    stage.run(*PEOPLE)
    assert [] == stage.sender.history


def test_a_baseline_of_an_empty_model_is_not_believed_unasked() -> None:
    """It would record nothing, and the next run would remove everybody; no other guard has anything to say."""
    stage = Stage(*PEOPLE)
    with pytest.raises(GuardTripped, match="allow_empty=True"):
        baseline(stage)
    baseline(stage, guards=Guards(allow_empty=True, max_removed=0, max_deletes=0))
    assert remembering(*PEOPLE).entries == stage.state.entries


def test_plans_of_different_kinds_have_different_hashes() -> None:
    """What was approved as a baseline is not sent."""
    stage = Stage()
    kinds: list[Resync] = ["changes", "full", "baseline"]
    hashes = [stage.run(*PEOPLE, resync=kind, dry_run=True)["plan_hash"] for kind in kinds]
    assert len(set(hashes)) == 3
    assert "Nothing to send." in stage.report.notes
    with pytest.raises(GuardTripped, match="changed since it was approved"):
        stage.run(*PEOPLE, approved_plan=hashes[2])
    baseline(stage, *PEOPLE, approved_plan=hashes[2])
    assert [] == stage.sender.history


def test_a_first_run_says_what_a_baseline_would_have_done() -> None:
    """A state that was moved looks like a new one, and the log tells what to do about it."""
    stage = Stage()
    stage.run(*PEOPLE)
    assert any("every row is new" in note and 'resync="baseline"' in note for note in stage.report.notes)
    stage.run(*PEOPLE, ("8", "8@x.io", 1))
    assert not any("every row is new" in note for note in stage.report.notes)
