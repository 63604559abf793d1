"""Keeps what the sandbox holds in a file, from one start to the next."""

import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from .service import Service

SECONDS = 5.0


class Keeper:
    """Writes the projects into a file every few seconds, if a request may have changed them, and at the end.

    The file is replaced as a whole, so it is complete at any time, and only its owner may read it.
    """

    def __init__(self, service: Service, path: Path, seconds: float = SECONDS) -> None:
        """Take the service, the file, and the seconds between two looks at whether anything changed."""
        self._service, self._path, self._seconds = service, path, seconds
        self._written: tuple[int, int] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-keeper", daemon=True)

    def load(self) -> bool:
        """Take in what the file holds; False when there is no file, a ValueError when it is another one."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return False
        self._service.restore(data)
        return True

    def save(self) -> None:
        """Write the file, unless nothing has happened since the last time; an OSError when that cannot be."""
        with self._service.lock:
            now = self._service.calls.last, self._service.changes
            if now == self._written:
                return
            data = self._service.kept()
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            with open(beside, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        finally:
            beside.unlink(missing_ok=True)
        self._written = now

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.save()
            except OSError as error:
                print(f"sandbox: cannot keep {self._path}: {error}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        self.save()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self.save()
