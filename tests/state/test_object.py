from __future__ import annotations

import hashlib
import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tenacity
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_iterable.engine.resync import VOID, Resync
from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.errors import ConfigurationError, DestinationChanged, StateUnavailable
from airflow_provider_iterable.state import ObjectState
from airflow_provider_iterable.state.objects import folder, journal
from airflow_provider_iterable.state.objects.folder import Folder, Head, IncompleteObject, decode, encode, folder_of
from airflow_provider_iterable.state.objects.session import PATIENCE, ObjectSession
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.store import Header, Session
from tests.state.contract import (
    HERE,
    MAPPING,
    Place,
    StoreContract,
    entry,
    fresh,
    keep,
    kept,
    key_of,
    memories,
)


class Objects:
    """Objects in a folder of the machine, as a DAG's author names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(
        self, sync_id: str, destination: Mapping[str, Any] = HERE, mapping: str = MAPPING, resync: Resync = "changes"
    ) -> Session:
        """Open the sync's folder."""
        return ObjectState(f"file://{self.path}/state/").open(Scope(sync_id, destination, mapping, resync=resync))


class TestFiles(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """Return a folder."""
        return Objects(tmp_path)


class TestFilesPutTogether(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        """Return a folder in which each run leaves a snapshot, written in small blocks."""
        monkeypatch.setattr(journal, "MOST_OBJECTS", 1)
        monkeypatch.setattr(journal, "MOST_OBJECTS_MEANWHILE", 2)
        monkeypatch.setattr(journal, "AT_ONCE", 3)
        monkeypatch.setattr(folder, "CHUNK", 100)
        return Objects(tmp_path)


class Killed(BaseException):
    """The worker died here."""


class BrokenError(Exception):
    """What a storage's library raises, parameters and all."""


class Unsteady:
    """A storage on which a worker dies at the n-th change, or as much goes wrong as is left to fail.

    ``half`` says how much of what was being written at the death arrives nevertheless.
    """

    def __init__(self, path: Path) -> None:
        self.fs, self.path = LocalFileSystem(), path
        self.changes = 0
        self.kill_at: int | None = None
        self.half = 0.5
        self.failing = 0
        self.history: list[str] = []

    def _change(self, what: str, path: str, data: bytes = b"") -> None:
        self.history.append(f"{what} {path.rpartition('/')[2]}")
        if self.failing:
            self.failing -= 1
            raise BrokenError(f"{path} {data!r}")
        self.changes += 1
        if self.kill_at is not None and self.changes >= self.kill_at:
            if self.changes == self.kill_at and what == "write" and self.half:
                self.fs.pipe_file(path, data[: int(len(data) * self.half)])
            raise Killed

    def _read(self, path: str) -> None:
        if self.failing:
            self.failing -= 1
            raise BrokenError(path)

    def invalidate_cache(self) -> None:
        """There is none."""

    def ls(self, path: str, detail: bool) -> Any:
        """List a folder."""
        self._read(path)
        return self.fs.ls(path, detail=detail)

    def cat_file(self, path: str) -> Any:
        """Read."""
        self._read(path)
        return self.fs.cat_file(path)

    def open(self, path: str, mode: str) -> Any:
        """Open an object; what is written arrives when it is closed."""
        return self.fs.open(path, mode) if mode == "rb" else Upload(self, path)

    def pipe_file(self, path: str, data: bytes) -> None:
        """Write."""
        if not Path(path).parent.is_dir():
            raise FileNotFoundError(path)
        self._change("write", path, data)
        self.fs.pipe_file(path, data)

    def makedirs(self, path: str, exist_ok: bool) -> None:
        """Make a folder."""
        self.fs.makedirs(path, exist_ok=exist_ok)

    def rm_file(self, path: str) -> None:
        """Delete."""
        self._change("delete", path)
        self.fs.rm_file(path)

    def open_session(self, sync_id: str = "dag.sync", **scope: Any) -> ObjectSession:
        """Open a sync's folder."""
        given = {"destination": HERE, "mapping": MAPPING, **scope}
        return ObjectSession(Scope(sync_id, **given), Folder(self, str(self.path), "file:///state"))

    def folder(self, sync_id: str = "dag.sync") -> Path:
        """Return a sync's folder."""
        return self.path / folder_of(sync_id)

    def names(self, kind: str = "") -> list[str]:
        """Return what is in the folder."""
        return sorted(path.name for path in self.folder().iterdir() if path.name.startswith(kind))


@dataclass
class Upload:
    """An object on its way."""

    storage: Unsteady
    path: str
    data: bytes = b""

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        self.data += data

    def close(self) -> None:
        """Store them."""
        self.storage._change("write", self.path, self.data)
        self.storage.fs.pipe_file(self.path, self.data)


@pytest.fixture
def storage(tmp_path: Path) -> Unsteady:
    """Return an empty storage that works."""
    return Unsteady(tmp_path / "state")


class Time:
    """Stands in for the module; sleeping moves it on."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time as it passes for those who try again."""
    time = Time()
    monkeypatch.setattr(tenacity, "time", time)
    monkeypatch.setattr(tenacity.nap, "time", time)
    return time


def run(storage: Unsteady, *patches: dict[str, Entry | None], **scope: Any) -> None:
    """Let a run that succeeds commit patches."""
    session = storage.open_session(**scope)
    try:
        for patch in patches:
            session.commit(patch)
        session.finish(True)
    finally:
        session.close()


def remembered(storage: Unsteady) -> dict[str, Entry]:
    """Return what the next run would remember."""
    session = storage.open_session()
    try:
        return memories(session)
    finally:
        session.close()


def put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run that ends leave a snapshot."""
    monkeypatch.setattr(journal, "MOST_OBJECTS", 1)


SECRETS = ['["a secret key"]', "secret@example.com"]
STORY: list[list[dict[str, Entry | None]]] = [
    [{"[1]": entry(1), "[2]": entry(2)}, {"[3]": entry(3)}],
    [{"[1]": entry(4), "[2]": None}, {"[5]": entry(5)}, {"[3]": None}],
    [{"[6]": entry(6)}],
    [{"[1]": None}, {"[7]": entry(7)}],
]
"""Runs and what they commit."""


def applied(state: dict[str, Entry], patch: Mapping[str, Entry | None]) -> dict[str, Entry]:
    """Return a state after a patch."""
    after = {**state, **patch}
    return {key: found for key, found in after.items() if found is not None}


@pytest.mark.parametrize("half", [0.0, 0.01, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("snapshots", [False, True])
def test_a_run_may_be_killed_at_any_change(
    storage: Unsteady, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, half: float, snapshots: bool
) -> None:
    """What was committed is there, what was being committed is there or not; the runs that follow go on as if
    nothing had happened, whether the change was made in part, not at all, or altogether."""
    if snapshots:
        put_together(monkeypatch)
    at = 0
    while True:
        at += 1
        storage = Unsteady(tmp_path / f"state-{at}")
        storage.half = half
        storage.kill_at = at
        state: dict[str, Entry] = {}
        killed = False
        for patches in STORY:
            session = storage.open_session()
            assert memories(session) == state
            attempted = state
            try:
                for patch in patches:
                    attempted = applied(state, patch)
                    session.commit(patch)
                    state = attempted
                session.finish(True)
            except Killed:
                killed, storage.kill_at = True, None
                found = remembered(storage)
                assert found in (state, attempted)
                state = found
            finally:
                session.close()
        assert remembered(storage) == state
        storage.kill_at = None
        run(storage, {"[9]": entry(9)}, {"[8]": entry(8)})
        run(storage, {"[9]": None})
        assert remembered(storage) == applied(state, {"[8]": entry(8)})
        if not killed:
            break
    assert at > (12 if snapshots else 8)


def test_a_snapshot_that_was_not_finished_does_not_count(
    storage: Unsteady, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its marker, or with half of it, the state is the snapshot before and the journal after it."""
    put_together(monkeypatch)
    run(storage, {"[1]": entry(1)})
    run(storage, {"[2]": entry(2)})
    (newest,) = storage.names("marker")[1:]
    marker = storage.folder() / newest
    whole = marker.read_bytes()
    marker.write_bytes(whole[:-3])
    assert remembered(storage) == {"[1]": entry(1), "[2]": entry(2)}
    assert "killed while it finished a snapshot" in caplog.text
    marker.unlink()
    assert remembered(storage) == {"[1]": entry(1), "[2]": entry(2)}
    unfinished = newest.replace("marker", "snapshot")
    assert unfinished in storage.names("snapshot")
    for number in (3, 4, 5):
        run(storage, {key_of(number): entry(number)})
    assert remembered(storage) == {key_of(number): entry(number) for number in range(1, 6)}
    assert unfinished not in storage.names("snapshot")


def test_what_was_replaced_is_deleted(storage: Unsteady, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder holds two snapshots and the journal since the older one, however many runs there were."""
    put_together(monkeypatch)
    for number in range(8):
        run(storage, {key_of(number): entry(number)})
    assert len(storage.names("marker")) == len(storage.names("snapshot")) == 2
    assert len(storage.names("journal")) == 1
    assert len(remembered(storage)) == 8


def test_a_marker_says_of_the_latest_runs_what_it_holds(storage: Unsteady, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not grow with every run that there ever was; what it no longer says was deleted long ago."""
    put_together(monkeypatch)
    monkeypatch.setattr(journal, "RUNS_KEPT", 3)
    for number in range(9):
        run(storage, {key_of(number): entry(number)})
    markers = [decode((storage.folder() / name).read_bytes())[0] for name in storage.names("marker")]
    assert [len(head.holds) for head in markers] == [3, 3]
    latest = sorted({run for head in markers for run in head.holds})
    assert [name[:8] for name in latest] == ["00000006", "00000007", "00000008", "00000009"]
    assert len(remembered(storage)) == 9


def test_small_changes_are_kept_in_the_journal(storage: Unsteady) -> None:
    """A snapshot is written after 50 objects, or once the journal holds a quarter of a large state."""
    for number in range(49):
        run(storage, {key_of(number): entry(number)})
    assert storage.names("snapshot") == []
    run(storage, {key_of(49): entry(49)})
    assert len(storage.names("snapshot")) == 1
    run(storage, {key_of(number): entry(number) for number in range(40_000)})
    assert len(storage.names("snapshot")) == 2
    storage.history.clear()
    run(storage, {key_of(number): entry(1) for number in range(9_999)})
    assert [what.partition("-")[0] for what in storage.history] == ["write journal"]
    run(storage, {key_of(number): entry(1) for number in range(10_000, 10_001)})
    assert len(storage.names("snapshot")) == 2
    assert len(remembered(storage)) == 40_000


def test_a_long_run_puts_its_journal_together(storage: Unsteady, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is under way, and so that the work doubles at most: when the journal holds half of the state."""
    monkeypatch.setattr(journal, "MOST_OBJECTS_MEANWHILE", 4)
    session = storage.open_session()
    for number in range(64):
        session.commit({key_of(number): entry(number)})
    written = [name for name in storage.history if name.startswith("write snapshot")]
    assert 3 <= len(written) <= 6
    session.close()
    assert len(remembered(storage)) == 64


def test_an_unchanged_run_writes_nothing(storage: Unsteady) -> None:
    """Neither does one that only looks, nor an empty patch."""
    storage.open_session().close()
    assert not storage.path.exists()
    run(storage, {"[1]": entry(1)})
    storage.history.clear()
    run(storage)
    run(storage, {})
    assert storage.history == []


def test_a_snapshot_that_cannot_be_written_costs_nothing(
    storage: Unsteady, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal holds everything, and the next run tries again."""
    put_together(monkeypatch)
    session = storage.open_session()
    session.commit({"[1]": entry(1)})
    storage.failing = 1
    session.finish(True)
    session.close()
    assert "another run tries again" in caplog.text
    assert storage.names("marker") == []
    run(storage, {"[2]": entry(2)})
    assert len(storage.names("marker")) == 1
    assert remembered(storage) == {"[1]": entry(1), "[2]": entry(2)}


@pytest.mark.parametrize("kind", ["journal", "snapshot", "marker"])
@pytest.mark.parametrize("harm", ["cut", "altered", "emptied", "missing", "foreign", "later", "another sync"])
def test_incomplete_and_foreign_objects_are_refused(
    storage: Unsteady, monkeypatch: pytest.MonkeyPatch, kind: str, harm: str
) -> None:
    """The error names the sync, the object and the way out, and shows nothing of what is in it."""
    monkeypatch.setattr(journal, "MOST_OBJECTS", 3)
    secret = Entry(b"1" * 12, '["email","secret@example.com"]')
    for _ in range(2):
        run(storage, {"[1]": secret}, {"[2]": secret}, {"[3]": secret})
    run(storage, {"[4]": secret}, {"[5]": secret})
    name = storage.names("journal")[-2] if kind == "journal" else storage.names(kind)[-1]
    if kind == "marker":
        assert len(storage.names("marker")) == 2
        for older in storage.names("marker")[:1]:
            (storage.folder() / older).unlink()
    path = storage.folder() / name
    whole = path.read_bytes()
    match harm:
        case "cut":
            path.write_bytes(whole[:-1])
        case "altered":
            path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        case "emptied":
            path.write_bytes(b"")
        case "missing":
            path.unlink()
        case "foreign":
            path.write_bytes(b"id,email\n1,secret@example.com\n")
        case "later":
            path.write_bytes(b"iterable-sync-state 3 " + b"0" * 64 + b"\nwho knows")
        case "another sync":
            path.write_bytes(encode(Head("dag.other", HERE, MAPPING), [("[1]", "00", "secret@example.com")]))
    with pytest.raises(ConfigurationError) as caught:
        storage.open_session()
    message = str(caught.value)
    way_out = ("Install",) if harm == "later" and kind != "snapshot" else ("Restore", 'resync="baseline"')
    told = ("'dag.sync'", "file:///state/dag.sync-", "Nothing was sent", *way_out)
    assert all(part in message for part in told)
    assert name in message or (kind == "marker" and harm == "missing" and "marker-" in message)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    expected = {"later": "format 3", "another sync": "'dag.other'", "foreign": "no object", "missing": "is missing"}
    if kind != "snapshot":
        assert expected.get(harm, "incomplete or altered") in message
    path.write_bytes(whole)
    assert len(remembered(storage)) == 5


def test_another_snapshot_is_not_taken_for_the_right_one(storage: Unsteady, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is whole: its marker knows which one it was written for."""
    put_together(monkeypatch)
    run(storage, {"[1]": entry(1)})
    run(storage, {"[2]": entry(2)})
    older, newer = (storage.folder() / name for name in storage.names("snapshot"))
    newer.write_bytes(older.read_bytes())
    with pytest.raises(ConfigurationError, match="its checksum differs"):
        storage.open_session()


@pytest.mark.parametrize("taken", [("marker",), ("marker", "journal"), ("marker", "snapshot")])
def test_a_state_without_its_beginning_is_refused(
    storage: Unsteady, monkeypatch: pytest.MonkeyPatch, taken: tuple[str, ...]
) -> None:
    """What is left is not taken for everything."""
    monkeypatch.setattr(journal, "MOST_OBJECTS", 2)
    for number in range(5):
        run(storage, {key_of(number): entry(number)})
    for name in [name for kind in taken for name in storage.names(kind)]:
        (storage.folder() / name).unlink()
    assert storage.names()
    with pytest.raises(ConfigurationError, match=r"marker-.* is missing"):
        storage.open_session()


def test_the_last_object_of_a_run_may_be_incomplete(storage: Unsteady, caplog: pytest.LogCaptureFixture) -> None:
    """The run was killed while it wrote it; what it would have held goes again, and it is cleared away."""
    run(storage, {"[1]": entry(1)}, {"[2]": entry(2)})
    run(storage, {"[3]": entry(3)})
    last = storage.folder() / storage.names("journal")[1]
    last.write_bytes(last.read_bytes()[:100])
    assert remembered(storage) == {"[1]": entry(1), "[3]": entry(3)}
    assert f"killed while it wrote {last.name}" in caplog.text
    for number in range(60):
        run(storage, {key_of(number): entry(number)})
    assert last.exists() is False
    assert len(remembered(storage)) == 60


def test_other_files_are_left_alone(storage: Unsteady) -> None:
    """What is not named as the state's objects are does not belong to it."""
    run(storage, {"[1]": entry(1)})
    for name in (".DS_Store", "_SUCCESS", "journal-1", "snapshot.bak", "marker-00000001-zz"):
        (storage.folder() / name).write_bytes(b"other")
    assert remembered(storage) == {"[1]": entry(1)}


def test_a_failing_write_is_tried_again(storage: Unsteady, time: Time) -> None:
    """For 30 s, under its own name; half of it may have arrived."""
    session = storage.open_session()
    session.commit({"[1]": entry(1)})
    storage.failing = 3
    session.commit({"[2]": entry(2)})
    session.note("list_id", "7")
    session.close()
    assert 0 < time.now < PATIENCE
    assert len(storage.names()) == 3
    assert remembered(storage) == {"[1]": entry(1), "[2]": entry(2)}


def test_a_state_that_cannot_be_written_names_nobody(
    storage: Unsteady, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """After 30 s the error says where, how many rows are not remembered, and not whose."""
    caplog.set_level(logging.DEBUG)
    session = storage.open_session()
    storage.failing = 1000
    with pytest.raises(StateUnavailable) as caught:
        session.commit({SECRETS[0]: Entry(b"1" * 12, SECRETS[1]), "[2]": None})
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert not [secret for secret in SECRETS if secret in told]
    words = ("'dag.sync'", "file:///state/dag.sync-", "30 s", "BrokenError", "2 rows", "go again with the next try")
    assert all(word in str(caught.value) for word in words)
    assert time.now >= PATIENCE
    for work in (lambda: session.note("a", "b"), lambda: session.void("a", "b"), lambda: session.finish(True)):
        with pytest.raises(StateUnavailable, match="30 s"):
            work()
    with pytest.raises(StateUnavailable, match="could not be read for 30 s"):
        session.others()
    session.close()
    storage.failing = 0
    assert remembered(storage) == {}


def test_a_state_that_cannot_be_read_is_worth_retrying(storage: Unsteady, time: Time) -> None:
    """It is tried for 30 s, and a storage that is back by then has everything."""
    run(storage, {"[1]": entry(1)}, {"[2]": entry(2)})
    storage.failing = 3
    assert len(remembered(storage)) == 2
    storage.failing = 1000
    with pytest.raises(StateUnavailable, match=r"could not be read for 30 s \(BrokenError\). Nothing was sent"):
        storage.open_session()


def test_two_runs_at_once_lose_nothing(storage: Unsteady, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store does not notice them, but what each commits is there afterwards, whoever writes a snapshot."""
    put_together(monkeypatch)
    run(storage, {"[0]": entry(0)})
    for finishing in ("ab", "ba"):
        sessions = {name: storage.open_session() for name in "ab"}
        number = len(remembered(storage))
        for _ in range(2):
            for session in sessions.values():
                session.commit({key_of(number): entry(number)})
                number += 1
        for name in finishing:
            sessions[name].finish(True)
        sessions["a"].commit({key_of(number): entry(number)})
        for session in sessions.values():
            session.close()
        assert remembered(storage) == {key_of(at): entry(at) for at in range(number + 1)}
        run(storage, {"[0]": entry(0)})
        run(storage, {"[0]": entry(0)})
        assert remembered(storage) == {key_of(at): entry(at) for at in range(number + 1)}


def test_two_snapshots_at_once_lose_nothing(storage: Unsteady, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is on its way is not cleared away by the other."""
    put_together(monkeypatch)
    run(storage, {"[0]": entry(0)})
    one, other = storage.open_session(), storage.open_session()
    one.commit({"[1]": entry(1)})
    other.commit({"[2]": entry(2)})
    make = one._journal._marker

    def marker(digest: str) -> Head:
        other.finish(True)
        return make(digest)

    monkeypatch.setattr(one._journal, "_marker", marker)
    one.finish(True)
    one.close()
    other.close()
    for _ in range(3):
        assert remembered(storage) == {key_of(number): entry(number) for number in range(3)}
        run(storage, {"[0]": entry(0)})


def test_a_run_that_was_overtaken_writes_no_snapshot(
    storage: Unsteady, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not know what others have put together since, and cleared away."""
    put_together(monkeypatch)
    run(storage, {"[0]": entry(0)})
    slow = storage.open_session()
    slow.commit({"[1]": entry(1)})
    for number in (2, 3, 4):
        run(storage, {key_of(number): entry(number)})
    slow.commit({"[5]": entry(5)})
    slow.finish(True)
    slow.close()
    assert "another run wrote a snapshot meanwhile" in caplog.text
    for _ in range(3):
        assert remembered(storage) == {key_of(number): entry(number) for number in range(6)}
        run(storage, {"[0]": entry(0)})


def test_voided_entries_are_void_in_the_next_run_too(storage: Unsteady) -> None:
    """References and later commits stay; the header goes to the new destination with the note."""
    elsewhere = {**HERE, "host": "https://api.eu.iterable.com"}
    run(storage, {"[1]": entry(1, "a@x.io"), "[2]": entry(2, "b@x.io")})
    session = storage.open_session(destination=elsewhere, resync="full")
    session.void("resync", "run-7")
    session.commit({"[2]": entry(3, "b@x.io")})
    session.close()
    with pytest.raises(DestinationChanged):
        storage.open_session()
    session = storage.open_session(destination=elsewhere)
    assert session.notes == {"resync": "run-7"}
    assert memories(session) == {"[1]": Entry(VOID, entry(1, "a@x.io").ref), "[2]": entry(3, "b@x.io")}
    session.close()


def test_other_syncs_are_told_by_their_last_object(storage: Unsteady, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or by the snapshot's marker; one that cannot be read is left out, and so is what is no sync."""
    put_together(monkeypatch)
    run(storage, {"[1]": entry(1)}, sync_id="dag.one", destination={**HERE, "list": 1})
    monkeypatch.undo()
    for sync_id in ("dag.two", "dag.three"):
        session = storage.open_session(sync_id, destination={**HERE, "list": 2})
        session.note("list_id", "7")
        session.note("list_id", "8")
        session.close()
    for path in storage.folder("dag.three").iterdir():
        path.write_bytes(b"")
    (storage.path / "a file-of-somebody-else").write_bytes(b"")
    session = storage.open_session()
    assert session.others() == {
        "dag.one": Header({**HERE, "list": 1}, {}),
        "dag.two": Header({**HERE, "list": 2}, {"list_id": "8"}),
    }
    session.close()


@pytest.mark.parametrize("sync_id", ["../../etc", "a/b", "dag.task", "...", "x" * 250, "Zoë 名前", "a b", "a_b"])
def test_a_folder_is_named_after_its_sync(sync_id: str) -> None:
    """Readably, without leaving the path, and no two alike."""
    name = folder_of(sync_id)
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) <= 97
    assert name.endswith(hashlib.sha256(sync_id.encode()).hexdigest()[:16])


def test_storage_without_folders_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any file system that fsspec knows."""
    put_together(monkeypatch)
    root = Folder(MemoryFileSystem(), f"/bucket/{fresh()}", "memory://bucket")

    def open_session() -> ObjectSession:
        return ObjectSession(Scope("dag.sync", HERE, MAPPING), root)

    for number in range(3):
        session = open_session()
        session.commit({key_of(number): entry(number)})
        session.finish(True)
        session.close()
    session = open_session()
    assert memories(session) == {key_of(number): entry(number) for number in range(3)}
    assert session.others() == {}
    session.close()


@pytest.mark.parametrize(
    ("path", "conn_id"), [("nothing://bucket/state", None), ("s3://bucket/state", "missing_connection")]
)
def test_a_storage_that_cannot_be_used_is_refused(path: str, conn_id: str | None) -> None:
    """The error names path and connection, and what may be missing."""
    with pytest.raises(ConfigurationError) as caught:
        ObjectState(path, conn_id).open(Scope("dag.sync", HERE, MAPPING))
    assert all(part in str(caught.value) for part in (repr(path), repr(conn_id), "install the Airflow provider"))


def test_the_store_is_made_without_looking_at_the_storage() -> None:
    """A DAG is parsed far more often than it runs."""
    assert ObjectState("nothing://bucket/state", conn_id="nobody") == ObjectState("nothing://bucket/state", "nobody")


@pytest.fixture(autouse=True)
def _no_lineage() -> Iterator[None]:
    yield
    with suppress(ImportError):
        from airflow.sdk.lineage import get_hook_lineage_collector

        assert not get_hook_lineage_collector().collected_assets.inputs, "state is nobody's lineage"


def test_what_is_written_is_what_was_read(tmp_path: Path) -> None:
    """Heads and lines come back as they went."""
    head = Head("dag.sync", {"a": [1, None]}, "m", {"n": "ö"}, True, "digest", {"00000001-aa": 3})
    lines: list[tuple[str, str | None, str]] = [("[1]", "00ff", "[]"), ('["ö\\u0000"]', None, "")]
    data = encode(head, lines)
    assert decode(data) == (head, lines)
    for size in range(len(data)):
        with pytest.raises(IncompleteObject):
            decode(data[:size])
    assert json.loads(data.split(b"\n")[1])["sync_id"] == "dag.sync"
    assert msgspec.json.decode(data.split(b"\n")[1])["holds"] == {"00000001-aa": 3}


def test_kept_is_what_the_store_says(tmp_path: Path) -> None:
    """The store finds again what it wrote, by the same path with and without a slash at its end."""
    place = Objects(tmp_path)
    keep(place, "dag.sync", {"[1]": entry(1)})
    assert kept(place, "dag.sync") == {"[1]": entry(1)}
    session = ObjectState(f"file://{tmp_path}/state").open(Scope("dag.sync", HERE, MAPPING))
    assert memories(session) == {"[1]": entry(1)}
    session.close()
