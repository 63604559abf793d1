"""The state of a sync in its folder: a snapshot, and a journal of what was committed since.

No object is ever changed. A commit adds a journal object. Now and then everything is written as a new snapshot, which
counts once its marker is written; what it replaces is deleted when the next snapshot is written. A run that is killed
leaves at most one incomplete object, its last, which no other object needs.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import TypeVar

import msgspec
import tenacity

from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError, StateUnavailable
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.objects.entries import Entries
from airflow_provider_iterable.state.objects.folder import (
    Contents,
    Folder,
    Head,
    IncompleteObject,
    LaterFormat,
    Line,
    blocks,
    decode,
    encode,
    journal_name,
    key_of,
    number_of,
)

log = logger(__name__)

T = TypeVar("T")
MOST_OBJECTS = 50
"""Journal objects after which a run that ends writes a snapshot."""
MOST_OBJECTS_MEANWHILE = 500
"""Journal objects after which a run writes a snapshot before its end, if they also hold much of the state."""
AT_ONCE = 10_000
"""Entries that are encoded, read or written at a time."""
NOT_RETRIED = (IterableSyncError, sqlite3.Error)
"""Errors that another try would not avoid."""
RUNS_KEPT = 100
"""Most runs that a marker lists, each with how many of its objects are in the snapshot."""


class Journal:
    """The content of a sync's folder, and what a run appends to it.

    :param folder: the sync's folder
    :param sync_id: the sync
    :param patience: seconds for which what fails is tried again
    """

    def __init__(self, folder: Folder, sync_id: str, patience: float) -> None:
        self._folder, self._sync_id, self._patience = folder, sync_id, patience
        self.entries = Entries()
        self.head: Head | None = None
        """What was said last about the sync."""
        self.begun: dict[str, list[tuple[str, str, str]]] = {}
        """Requests that are announced and not settled."""
        self.run = ""
        """The name of the run that appends."""
        self._written = 0
        self._base = ""
        """The marker of the snapshot in use."""
        self._base_holds: dict[str, int] = {}
        self._holds: dict[str, int] = {}
        """Journal objects of each run that are known here."""
        self._objects = self._lines = 0
        """Journal objects, and entries in them, since the snapshot."""
        self._incomplete: list[str] = []
        """Journal objects that were being written when their runs were killed."""

    def load(self) -> None:
        """Read the folder.

        :raises ConfigurationError: an object is incomplete, or belongs to another sync
        :raises StateUnavailable: it could not be read
        """
        self.patiently(self._load, "read")

    def close(self) -> None:
        """Close the temporary file of entries."""
        self.entries.close()

    def append(self, head: Head, lines: list[Line], lost: str) -> None:
        """Write the next journal object; after a failure it is written again under the same name.

        :param lost: what it means if it cannot be written, as a sentence
        :raises StateUnavailable: it could not be written
        """
        name, data = journal_name(self.run, self._written + 1), encode(head, lines)
        self.patiently(lambda: self._folder.write(name, data), "written", lost)
        self._written += 1
        self._holds[self.run] = self._written
        self._take(head, lines)

    def tidy(self, meanwhile: bool = False) -> None:
        """Write a snapshot if the journal has grown.

        :param meanwhile: whether the run goes on; the journal must be longer then, and hold half of the state
        """
        if meanwhile:
            due = self._objects >= MOST_OBJECTS_MEANWHILE and self._lines * 2 >= len(self.entries)
        else:
            due = self._objects >= MOST_OBJECTS or (self._lines >= AT_ONCE and self._lines * 4 >= len(self.entries))
        if due:
            self._compact()

    def patiently(self, work: Callable[[], T], what: str, lost: str = "Nothing was sent.") -> T:
        """Do some work, and do it again for 30 s when it fails.

        :raises StateUnavailable: it failed for 30 s
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._patience),
            wait=tenacity.wait_exponential(0.2, max=5.0),
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, Exception) and not isinstance(error, NOT_RETRIED)
            ),
            reraise=True,
        )
        try:
            result: T = retrying(work)
        except NOT_RETRIED:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The state of sync {self._sync_id!r} in {self._folder.name} could not be {what} for "
                f"{self._patience:.0f} s ({type(error).__name__}). {lost}"
            ) from None
        return result

    def _take(self, head: Head, lines: Sequence[Line]) -> None:
        """Apply a journal object."""
        self.head = head
        for name in head.ended:
            self.begun.pop(name, None)
        self.begun |= head.begun
        self._objects, self._lines = self._objects + 1, self._lines + len(lines)
        self.entries.take(lines, head.void)

    def _load(self) -> None:
        """Read the snapshot in use and the journal after it."""
        self.entries.clear()
        self.head, self._objects, self._lines, self._incomplete, self.begun = None, 0, 0, [], {}
        contents = Contents.of(self._folder.names())
        self._base, base = self._find_base(contents)
        self._check_complete(contents)
        self._base_holds = {} if base is None else dict(base.holds)
        self._holds = dict(self._base_holds)
        if base is not None:
            self._load_snapshot(base.snapshot)
            self.head, self.begun = base, dict(base.begun)
        for run in sorted(contents.journals):
            self._load_journal(run, contents.journals[run])
        before = max(map(number_of, (*contents.journals, *self._holds)), default=0)
        self.run, self._written = key_of(before + 1), 0

    def _find_base(self, contents: Contents) -> tuple[str, Head | None]:
        """Return the newest complete marker. What an incomplete one would replace is still there."""
        for place, key in enumerate(reversed(contents.markers)):
            try:
                return key, self._read(f"marker-{key}")[0]
            except IncompleteObject:
                if place or (number_of(key) > 1 and len(contents.markers) == 1):
                    raise self._refused(f"marker-{key}", "is incomplete or altered") from None
                log.warning(
                    "Sync %s: a run was killed while it finished a snapshot; the one before counts.",
                    self._sync_id,
                )
        return "", None

    def _check_complete(self, contents: Contents) -> None:
        """Refuse a folder from which a marker, or the start of the journal, was deleted."""
        newest = max(map(number_of, contents.markers), default=0)
        lost = [key for key in contents.snapshots if number_of(key) > newest + 1]
        if lost:
            raise self._refused(f"marker-{lost[-1]}", "is missing")
        if not self._base and min(map(number_of, contents.journals), default=1) > 1:
            raise self._refused("marker-*", "is missing")

    def _load_snapshot(self, expected: str) -> None:
        name, digest = f"snapshot-{self._base}", hashlib.sha256()
        try:
            with closing(self._folder.open(name, "rb")) as file:
                for lines in blocks(file, digest):
                    self.entries.add(lines)
        except FileNotFoundError:
            raise self._refused(name, "is missing") from None
        except (zlib.error, ValueError, msgspec.MsgspecError, sqlite3.IntegrityError):
            raise self._refused(name, "is incomplete or altered, or is another one") from None
        if digest.hexdigest() != expected:
            raise self._refused(name, "is incomplete or altered, or is another one: its checksum differs")

    def _load_journal(self, run: str, numbers: Sequence[int]) -> None:
        """Read the objects of one run after those that the snapshot holds; the last may be incomplete."""
        held = self._holds.get(run, 0)
        rest = [number for number in numbers if number > held]
        for expected, number in enumerate(rest, held + 1):
            if number != expected:
                raise self._refused(journal_name(run, expected), "is missing")
            try:
                head, lines = self._read(journal_name(run, number))
            except IncompleteObject:
                if number != rest[-1]:
                    raise self._refused(journal_name(run, number), "is incomplete or altered") from None
                self._incomplete.append(journal_name(run, number))
                log.warning(
                    "Sync %s: a run was killed while it wrote %s; what that would have held goes again.",
                    self._sync_id,
                    journal_name(run, number),
                )
                break
            self._take(head, lines)
            self._holds[run] = number

    def _read(self, name: str) -> tuple[Head, list[Line]]:
        """Read an object of this sync.

        :raises IncompleteObject: it was not written to its end, or was altered
        """
        try:
            head, lines = decode(self._folder.read(name))
        except LaterFormat as error:
            raise ConfigurationError(
                f"The state of sync {self._sync_id!r} cannot be read: {self._folder.name}/{name} {error}: a "
                "later version wrote it. Nothing was sent. Install that version, or a later one."
            ) from None
        except ConfigurationError as error:
            raise self._refused(name, str(error)) from None
        if head.sync_id != self._sync_id:
            raise self._refused(name, f"belongs to the sync {head.sync_id!r}")
        return head, lines

    def _refused(self, name: str, what: str) -> ConfigurationError:
        folder = self._folder.name
        return ConfigurationError(
            f"The state of sync {self._sync_id!r} cannot be read: {folder}/{name} {what}. Nothing was sent. "
            f"Restore what was there, such as from a version that the storage keeps; or move {folder} away and run "
            'the sync with resync="baseline" if Iterable holds the rows as they are, or else as usual: every row is '
            "new then."
        )

    def _compact(self) -> None:
        """Write a snapshot of everything, then its marker, then delete what the one before had replaced.

        A failure is only logged: the journal holds everything, and a later run tries again.
        """
        try:
            contents = Contents.of(self._folder.names())
            newest = contents.markers[-1] if contents.markers else ""
            if newest > self._base and self._is_whole(f"marker-{newest}"):
                log.warning("Sync %s: another run wrote a snapshot meanwhile; this one does not.", self._sync_id)
                return
            key = key_of(max(map(number_of, contents.markers), default=0) + 1)
            head = self._marker(self._write_snapshot(f"snapshot-{key}"))
            self._folder.write(f"marker-{key}", encode(head))
            replaced, self._base, self._base_holds = (self._base, self._base_holds), key, dict(head.holds)
            self._objects = self._lines = 0
            self._delete(contents, *replaced)
        except Exception as error:
            log.warning(
                "Sync %s: the journal in %s could not be put together (%s). It holds everything, and another run "
                "tries again.",
                self._sync_id,
                self._folder.name,
                type(error).__name__,
            )

    def _is_whole(self, name: str) -> bool:
        try:
            self._read(name)
        except IncompleteObject:
            return False
        return True

    def _marker(self, digest: str) -> Head:
        assert self.head is not None, "there is no snapshot without a journal"
        holds = dict(sorted(self._holds.items())[-RUNS_KEPT:])
        return msgspec.structs.replace(
            self.head, void=False, snapshot=digest, holds=holds, begun=dict(self.begun), ended=[]
        )

    def _write_snapshot(self, name: str) -> str:
        """Write all entries, and return the digest of the object."""
        pack, digest = zlib.compressobj(1), hashlib.sha256()
        with closing(self._folder.open(name, "wb")) as file:

            def put(data: bytes) -> None:
                digest.update(data)
                file.write(data)

            for lines in self.entries.blocks(AT_ONCE):
                put(pack.compress(msgspec.json.encode(lines) + b"\n"))
            put(pack.flush())
        return digest.hexdigest()

    def _delete(self, contents: Contents, base: str, holds: Mapping[str, int]) -> None:
        """Delete what the snapshot before this one had replaced, and older snapshots and markers."""
        for run, numbers in contents.journals.items():
            for number in numbers:
                if number <= holds.get(run, 0):
                    self._forget(journal_name(run, number))
        for kind, keys in (("marker", contents.markers), ("snapshot", contents.snapshots)):
            for key in keys:
                if base and number_of(key) < number_of(base):
                    self._forget(f"{kind}-{key}")
        for name in self._incomplete:
            if not self._is_whole(name):
                self._forget(name)
        self._incomplete = []

    def _forget(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._folder.delete(name)
