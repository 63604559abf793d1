from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_provider_iterable.api import shared_paces
from airflow_provider_iterable.api.pacing import COMMON, Pace
from airflow_provider_iterable.api.shared_paces import FORGOTTEN_SECONDS, SharedPaces

ENDPOINT = "POST /api/users/bulkUpdate 5.0"
Task = Callable[..., "Keeper"]


class Keeper:
    """A task that keeps a pace together with others."""

    def __init__(self, folder: Path | None, project: str = "project") -> None:
        self.shared, self.pace = SharedPaces(project, folder), Pace(5)

    def reserve(self, now: float) -> float:
        """Take the next turn."""
        with self.shared.kept(ENDPOINT, self.pace, lambda: now) as moment:
            return self.pace.reserve(moment)

    def refused(self, now: float, seconds: float) -> None:
        """Take notice of a 429."""
        with self.shared.kept(ENDPOINT, self.pace, lambda: now) as moment:
            self.pace.refused(moment, moment, moment + seconds)


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    """Start tasks whose files are in one folder."""
    started: list[Keeper] = []

    def start(project: str = "project") -> Keeper:
        started.append(Keeper(tmp_path, project))
        return started[-1]

    yield start
    for each in started:
        each.shared.close()


def test_tasks_take_tokens_from_one_bucket(task: Task) -> None:
    """Whichever of them asks, a burst goes at once, and then one request each fifth of a second."""
    tasks = [task(), task(), task()]
    waits = [tasks[number % 3].reserve(100.0) for number in range(6)]
    assert waits == pytest.approx([0, 0, 0, 0.05, 0.25, 0.45])


def test_another_project_has_a_bucket_of_its_own(task: Task) -> None:
    """What Iterable counts apart is paced apart."""
    one, other = task(), task("another")
    assert [one.reserve(100.0) for _ in range(5)][-1] > 0
    assert other.reserve(100.0) == 0


def test_what_one_learns_from_a_refusal_all_know(task: Task) -> None:
    """The rate, and until when the endpoint is not to be called; turns of before are void for all."""
    one, other = task(), task()
    other.reserve(100.0)
    holds = other.pace.holds
    one.refused(100.0, 3.0)
    assert other.reserve(100.5) == pytest.approx(2.5)
    assert (other.pace.rate, other.pace.holds) == (2.5, holds + 1)


def test_what_is_measured_stays_with_each(task: Task) -> None:
    """Answers take as long as they take there."""
    one, other = task(), task()
    with one.shared.kept(ENDPOINT, one.pace, lambda: 100.0) as now:
        one.pace.answered(now, 2.0)
    other.reserve(100.0)
    assert (one.pace.seconds, other.pace.seconds) == (2.0, None)


@pytest.mark.parametrize("later", [FORGOTTEN_SECONDS + 1, -10.0])
def test_what_is_old_or_of_another_time_does_not_count(task: Task, later: float) -> None:
    """The clock starts anew with the machine, and a limit that was met an hour ago may be lifted."""
    one = task()
    one.refused(100.0, 3.0)
    other = task()
    assert other.reserve(100.0 + later) == 0
    assert other.pace.rate == 5


def test_a_long_hold_is_shared_for_a_minute_and_kept_by_who_met_it(task: Task) -> None:
    """A later task may try: whoever had the quota raised does not wait a day for a file."""
    one, other = task(), task()
    one.refused(100.0, 7200.0)
    assert other.reserve(101.0) == pytest.approx(FORGOTTEN_SECONDS - 1)
    assert one.reserve(150.0) == pytest.approx(7150.0, abs=1)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\xff" * 8 * (COMMON + 1), b"\0" * 8 * (COMMON + 1), os.urandom(200)]
)
def test_a_broken_file_is_written_anew(tmp_path: Path, task: Task, content: bytes) -> None:
    """Nobody waits for what it says."""
    task().reserve(100.0)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    other = task()
    assert 0 <= other.reserve(100.0) < 1
    assert math.isfinite(other.pace.rate)
    assert file.stat().st_size >= 8 * (COMMON + 1)


def test_the_file_shows_neither_key_nor_people(tmp_path: Path, task: Task) -> None:
    """Its name is a digest, its content numbers, and nobody else may read it."""
    task("https://api.iterable.com 0123456789abcdef").reserve(100.0)
    (file,) = tmp_path.iterdir()
    assert "0123456789" not in file.name
    assert "0123456789" not in file.read_bytes().decode("latin-1")
    assert file.stat().st_mode & 0o077 == 0


def test_who_is_stopped_with_the_lock_does_not_stop_others(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go on alone after a second, here after less."""
    monkeypatch.setattr(shared_paces, "LOCK_SECONDS", 0.05)
    stopped, other = task(), task()
    with stopped.shared.kept(ENDPOINT, stopped.pace, lambda: 100.0):
        assert other.reserve(100.0) == 0
    assert [other.reserve(100.0) for _ in range(3)][-1] > 0, "and keep their own pace"
    assert stopped.reserve(100.0) == 0


def test_without_a_folder_each_keeps_its_own_pace(tmp_path: Path) -> None:
    """A task does not fail for a file that it can do without."""
    one, other = Keeper(tmp_path / "missing"), Keeper(tmp_path / "missing")
    assert [one.reserve(100.0) for _ in range(5)][-1] > 0
    assert other.reserve(100.0) == 0


def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a link that leads elsewhere: the place for temporary files is everybody's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"iterable-pace-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    Keeper(None).reserve(100.0)
    assert not list(folder.iterdir())
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    Keeper(None).reserve(100.0)
    assert not list((tmp_path / "elsewhere").iterdir())
    folder.unlink()
    keeper = Keeper(None)
    keeper.reserve(100.0)
    keeper.shared.close()
    assert len(list(folder.iterdir())) == 1


def test_threads_and_processes_take_each_token_once(tmp_path: Path) -> None:
    """Four processes of four threads take 4,000 turns, and no two of them the same."""
    work = (
        "import sys, threading; from pathlib import Path\n"
        "from tests.api.test_shared_paces import turns\n"
        "turns(Path(sys.argv[1]), int(sys.argv[2]))\n"
    )
    tasks = [
        subprocess.Popen([sys.executable, "-c", work, str(tmp_path), "1000"], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    lines = [line for each in tasks for line in each.communicate()[0].split()]
    assert [each.returncode for each in tasks] == [0] * 4
    later = sorted(float(line) for line in lines if float(line) > 0)
    assert len(lines) == 4000
    assert len(later) >= 4000 - 4
    assert min(after - before for before, after in pairwise(later)) > 0.19


def turns(folder: Path, number: int) -> None:
    """Take turns at one moment, from threads, and print how long each has to wait."""
    keeper, lock, waits = Keeper(folder), threading.Lock(), []

    def take() -> None:
        for _ in range(number // 4):
            with lock:
                waits.append(keeper.reserve(100.0))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with suppress(BrokenPipeError):
        sys.stdout.write("\n".join(map(repr, waits)))
