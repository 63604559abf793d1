"""Paces that all tasks of one machine keep together: a few numbers in a file, which is locked whenever they are used.

Iterable counts requests per project, whichever task sends them. Tasks that know nothing of each other find their parts
by being refused; tasks that take tokens from one bucket are not refused. The clock is the machine's, so that numbers
mean the same to all of its processes. Where no such file can be had, each task keeps a pace of its own.
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from io import FileIO
from pathlib import Path

from airflow_provider_iterable.api.pacing import COMMON, Pace
from airflow_provider_iterable.masking import logger

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows, where Airflow does not run)
    fcntl = None  # type: ignore[assignment]

log = logger(__name__)

FORGOTTEN_SECONDS = 60.0
"""What nobody has used for so long does not count any more, nor is a hold shared for longer: later tasks begin anew."""
LOCK_SECONDS = 1.0
"""For so long a task waits for the lock, which is held for microseconds unless its holder was stopped meanwhile."""

_NUMBERS = struct.Struct(f"<{COMMON + 1}d")
_LAYOUT = 1
"""In the files' names, so that releases with another layout do not read each other's."""


class SharedPaces:
    """The paces of one project that the tasks of this machine keep together.

    :param project: what the project is known by, such as host and API key; files bear a digest of it
    :param folder: where the files are (default: one for this user in the folder for temporary files)
    """

    def __init__(self, project: str, folder: Path | None = None) -> None:
        self._project = project
        self._folder = folder
        self._files: dict[str, FileIO] = {}
        self._given_up = fcntl is None

    @contextmanager
    def kept(self, endpoint: str, pace: Pace, clock: Callable[[], float]) -> Iterator[float]:
        """Have a pace go on from where the last task left it, and leave it to the next one; yields the moment.

        :param endpoint: what tells endpoints with different limits apart
        :param clock: seconds of this machine's clock
        """
        file = self._locked(endpoint)
        now = clock()  # not before: whoever held the lock has written what is later
        if file is None:
            yield now
            return
        try:
            common = _read(file, now)
            if common is not None:
                pace.follow(common)
            yield now
            self._write(file, pace, now)
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files; paces are kept alone from now on."""
        self._given_up = True
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _locked(self, endpoint: str) -> int | None:
        if self._given_up:
            return None
        try:
            file = self._files.get(endpoint)
            if file is None:
                file = self._files[endpoint] = self._open(endpoint)
            until = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.001)
                else:
                    return file.fileno()
        except OSError as error:
            self._give_up(error)
            return None

    def _open(self, endpoint: str) -> FileIO:
        folder = self._folder or _own_folder()
        digest = blake2b(f"{self._project}\n{endpoint}".encode(), digest_size=16).hexdigest()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return FileIO(os.open(folder / f"{_LAYOUT}-{digest}", flags, 0o600), "r+")

    def _write(self, file: int, pace: Pace, now: float) -> None:
        full_at, held_until, *others = pace.common
        beyond = max(held_until - now - FORGOTTEN_SECONDS, 0.0)
        try:
            os.pwrite(file, _NUMBERS.pack(now, full_at - beyond, held_until - beyond, *others), 0)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._given_up = True
        log.info("The pace is not shared with other tasks of this machine: %s.", error.strerror or type(error).__name__)


def _own_folder() -> Path:
    """Return this user's folder for the files.

    :raises OSError: it is somebody else's
    """
    folder = Path(tempfile.gettempdir()) / f"iterable-pace-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError("the folder for it belongs to others")
    return folder


def _read(file: int, now: float) -> tuple[float, ...] | None:
    """Return a pace's numbers; ``None`` where there are none, or none that count any more.

    Those of a time that is still to come are left over from before the machine was started.
    """
    with suppress(OSError, struct.error):
        seen, *common = _NUMBERS.unpack(os.pread(file, _NUMBERS.size, 0))
        usable = not any(map(math.isnan, common)) and common[3] > 0
        if usable and seen <= now <= seen + FORGOTTEN_SECONDS:
            return tuple(common)
    return None
