"""Objects that remember: a snapshot and a journal for each sync, on any storage that Airflow can reach.

No object is ever changed. A commit adds a journal object; now and then all of it becomes a new snapshot, which counts
once its marker is there, and what it replaces is deleted by the next one. Whoever is killed at any instant leaves at
most one object torn: the last one, of which nothing depends.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import msgspec
import tenacity

from airflow_provider_iterable.engine.doubt import lines_of
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.vocabulary import NO_INTENTS, Entry, Intents, Pair, Patch, Row
from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError, StateUnavailable
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.folder import (
    Contents,
    Folder,
    Head,
    Line,
    Newer,
    Torn,
    blocks,
    decode,
    encode,
    folder_of,
    journal_name,
    key_of,
    last_head,
    number_of,
)
from airflow_provider_iterable.state.memory import pair_with
from airflow_provider_iterable.state.scope import MAPPING_CHANGED, Header, Scope, same_destination

log = logger(__name__)

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds for which a failed read or write is tried again."""
MOST_OBJECTS = 50
"""Journal objects after which a run that ends writes a snapshot."""
MOST_OBJECTS_MEANWHILE = 500
"""Journal objects after which a run writes a snapshot before its end, if they also hold much of the state."""
AT_ONCE = 10_000
"""Entries that are encoded, read or written in one go."""
CACHE_KIB = 65_536
"""Memory for the temporary file's pages."""
OURS = (IterableSyncError, sqlite3.Error)
"""Errors that another try would not mend."""
RUNS_KEPT = 100
"""Runs of which a marker says how many of their objects it holds."""


@dataclass(frozen=True)
class ObjectState:
    """State in object storage, committed batch by batch; for those who may only read their databases.

    Each sync has a folder of its own below the path. Unlike ``TableState`` it does not notice a second run of the
    same sync: leave ``max_active_tis_per_dag`` at 1.

    :param path: the folder, such as ``"s3://bucket/iterable"`` or ``"file:///var/lib/iterable"``
    :param conn_id: the Airflow connection of the storage; ``None``: as the storage's library finds its credentials
    """

    path: str
    conn_id: str | None = None

    def open(self, scope: Scope) -> ObjectSession:
        """Read the sync's folder.

        :raises DestinationChanged: the state belongs to another destination
        :raises ConfigurationError: the storage cannot be used, or an object is torn or is none of the sync's
        :raises StateUnavailable: the storage could not be read
        """
        return ObjectSession(scope, self._folder())

    def _folder(self) -> Folder:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        try:
            path = ObjectStoragePath(self.path, conn_id=self.conn_id)
            return Folder(path.fs, path.path.rstrip("/"), self.path.rstrip("/"))
        except Exception as error:
            raise ConfigurationError(
                f"ObjectState cannot use {self.path!r} ({type(error).__name__}). Check the path and the connection "
                f"{self.conn_id!r}, and install the Airflow provider for that kind of storage."
            ) from None


class ObjectSession:
    """A sync's folder, opened for one run; entries are at hand in a temporary file that has no name."""

    lease: ClassVar[None] = None

    def __init__(self, scope: Scope, root: Folder, patience: float = PATIENCE) -> None:
        self._scope, self._patience = scope, patience
        self._root, self._folder = root, root.inside(folder_of(scope.sync_id))
        self._entries = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._entries.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self.remembered = 0
        self.resend_reason: str | None = None
        self.notes: dict[str, str] = {}
        self._moved = False
        """Whether what was said last is about another destination or project, until the state is taken to the run's."""
        self._head: Head | None = None
        """What was said last about the sync."""
        self._base = ""
        """The marker of the snapshot in use."""
        self._base_holds: dict[str, int] = {}
        self._holds: dict[str, int] = {}
        """Journal objects of each run that are known here."""
        self._objects = self._lines = 0
        """Journal objects, and entries in them, since the snapshot."""
        self._begun: dict[str, list[tuple[str, str, str]]] = {}
        """Requests that are announced and not settled."""
        self._torn: list[str] = []
        """Journal objects that were being written when their runs were killed."""
        self._run = ""
        self._written = 0
        try:
            self._patiently(self._load, "read")
            head = self._head
            if head is not None:
                self._moved = not same_destination(scope, head.destination)
                if not self._moved:
                    self.notes = dict(head.notes)
                if head.mapping != scope.mapping:
                    self.resend_reason = MAPPING_CHANGED
            self._settle_intents()
        except BaseException:
            self.close()
            raise

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Pair rows with fingerprints held in memory; whole entries are recalled for the few that differ."""
        known: dict[bytes, bytes] = dict(self._entries.execute("SELECT CAST(key AS BLOB), fingerprint FROM entries"))
        self.remembered = len(known)
        return pair_with(known, sync, chunks)

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys."""
        found = self._entries.execute(
            "SELECT key, fingerprint, ref FROM entries WHERE key IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(keys).decode(),),
        )
        return {key: Entry(fingerprint, ref) for key, fingerprint, ref in found}

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents as one object; a failure is tried again for 30 s.

        :raises StateUnavailable: it could not be stored; what it held was accepted by Iterable and goes again
        """
        if not patch and not intents.begun and not intents.ended:
            return
        lines: list[Line] = [
            (key, None, "") if entry is None else (key, entry.fingerprint.hex(), entry.ref)
            for key, entry in patch.items()
        ]
        for doubts in intents.accepted.values():
            lines.extend((key, fingerprint, ref) for key, _, ref, fingerprint in doubts)
        head = msgspec.structs.replace(
            self._said(),
            begun={self._intent(number): [line[:3] for line in doubts] for number, doubts in intents.begun.items()},
            ended=list(map(self._intent, intents.ended)),
        )
        self._write(
            head,
            lines,
            f"{len(lines)} rows that Iterable accepted are not remembered; they and the batches in flight go again "
            "with the next try.",
        )
        if self._objects >= MOST_OBJECTS_MEANWHILE and self._lines * 2 >= self._count():
            self._compact()

    def _intent(self, number: int) -> str:
        """Return a name for a request of this run."""
        return f"{self._run}/{number}"

    def _settle_intents(self) -> None:
        """Take what earlier runs announced and did not settle for entries in doubt: they were killed."""
        if not self._begun:
            return
        lines: list[Line] = [line for doubts in self._begun.values() for line in lines_of(doubts)]
        head = msgspec.structs.replace(self._said(), ended=list(self._begun))
        self._write(head, lines, "Nothing was read or sent.")
        log.info(
            "Sync %s: %d rows were being sent when an earlier run was killed. Iterable may have them or not: they are "
            "in doubt, and go again or are removed; those that must not be sent twice count as sent.",
            self._scope.sync_id,
            len(lines),
        )

    def note(self, name: str, value: str) -> None:
        """Store a note at once; a failure is tried again for 30 s.

        :raises StateUnavailable: it could not be stored
        """
        if self._moved:  # what is noted is about the new destination, and what is remembered about the former one
            self.void(name, value)
            return
        self.notes[name] = value
        self._write(self._said(), [], f"The note {name!r} is lost, and every entry is as it was.")

    def note_along(self, name: str, value: str) -> None:
        """Store a note at once where the state is the run's already, otherwise with the first entries.

        :raises StateUnavailable: it could not be stored
        """
        self.notes[name] = value
        if self._head is not None and not self._moved:
            self.note(name, value)

    def move(self) -> None:
        """Have the state be about another project, once that is said: its notes are left behind."""
        self.notes, self._moved = {}, True

    def void(self, name: str, value: str) -> None:
        """Void every entry's fingerprint, take the state to the run's destination and store a note.

        :raises StateUnavailable: it could not be stored
        """
        self.notes[name] = value
        head = msgspec.structs.replace(
            self._said(), destination=dict(self._scope.destination), notes=dict(self.notes), void=True
        )
        self._write(head, [], "Nothing was sent, and every entry is as it was.")
        self._moved = False

    def others(self) -> Mapping[str, Header]:
        """Return the headers of the other syncs below the same path; those that cannot be read are left out."""
        return self._patiently(self._others, "read")

    def check(self, plan: Plan) -> None:
        """Objects hold any plan."""

    def finish(self, delivered: bool) -> None:
        """Remember the mapping that was delivered, and write a snapshot if the journal has grown.

        :raises StateUnavailable: it could not be stored; every entry is
        """
        if not delivered:
            return
        scope = self._scope
        head = Head(scope.sync_id, dict(scope.destination), scope.mapping, dict(self.notes))
        said = self._head and msgspec.structs.replace(self._head, void=False, snapshot="", holds={}, begun={}, ended=[])
        if head != said:
            self._write(head, [], "Everything was delivered and is remembered.")
        if self._objects >= MOST_OBJECTS or (self._lines >= AT_ONCE and self._lines * 4 >= self._count()):
            self._compact()

    def close(self) -> None:
        """Drop the temporary file."""
        self._entries.close()

    def _said(self) -> Head:
        """Return what is to be said about the sync while it is under way: the mapping is not delivered yet."""
        scope, head = self._scope, self._head
        if head is None:
            return Head(scope.sync_id, dict(scope.destination), scope.mapping, dict(self.notes))
        notes = head.notes if self._moved else dict(self.notes)
        return Head(scope.sync_id, head.destination, head.mapping, notes)

    def _count(self) -> int:
        ((count,),) = self._entries.execute("SELECT count(*) FROM entries")
        return int(count)

    def _patiently(self, work: Callable[[], T], what: str, lost: str = "Nothing was sent.") -> T:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._patience),
            wait=tenacity.wait_exponential(0.2, max=5.0),
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, Exception) and not isinstance(error, OURS)
            ),
            reraise=True,
        )
        try:
            result: T = retrying(work)
        except OURS:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The state of sync {self._scope.sync_id!r} in {self._folder.told} could not be {what} for "
                f"{self._patience:.0f} s ({type(error).__name__}). {lost}"
            ) from None
        return result

    def _write(self, head: Head, lines: list[Line], lost: str) -> None:
        """Write the next journal object; one that failed is written again under its own name."""
        name, data = journal_name(self._run, self._written + 1), encode(head, lines)
        self._patiently(lambda: self._folder.write(name, data), "written", lost)
        self._written += 1
        self._holds[self._run] = self._written
        self._take(head, lines)

    def _take(self, head: Head, lines: Sequence[Line]) -> None:
        """Take what a journal object says."""
        self._head = head
        for name in head.ended:
            self._begun.pop(name, None)
        self._begun |= head.begun
        self._objects, self._lines = self._objects + 1, self._lines + len(lines)
        entries = self._entries
        entries.execute("BEGIN")
        if head.void:
            entries.execute("UPDATE entries SET fingerprint = ?", (VOID,))
        entries.executemany(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
            ((key, bytes.fromhex(digest), ref) for key, digest, ref in lines if digest is not None),
        )
        entries.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key, digest, _ in lines if digest is None))
        entries.execute("COMMIT")

    def _load(self) -> None:
        """Read the snapshot in use and the journal after it."""
        self._entries.execute("DROP TABLE IF EXISTS entries")
        self._entries.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, fingerprint BLOB, ref TEXT) WITHOUT ROWID")
        self._head, self._objects, self._lines, self._torn, self._begun = None, 0, 0, [], {}
        contents = Contents.of(self._folder.names())
        self._base, base = self._find_base(contents)
        self._check_complete(contents)
        self._base_holds = {} if base is None else dict(base.holds)
        self._holds = dict(self._base_holds)
        if base is not None:
            self._load_snapshot(base.snapshot)
            self._head, self._begun = base, dict(base.begun)
        for run in sorted(contents.journals):
            self._load_journal(run, contents.journals[run])
        before = max(map(number_of, (*contents.journals, *self._holds)), default=0)
        self._run, self._written = key_of(before + 1), 0

    def _find_base(self, contents: Contents) -> tuple[str, Head | None]:
        """Return the newest marker that is whole: what it replaces is there until the next one is."""
        for place, key in enumerate(reversed(contents.markers)):
            try:
                return key, self._read(f"marker-{key}")[0]
            except Torn:
                if place or (number_of(key) > 1 and len(contents.markers) == 1):
                    raise self._refused(f"marker-{key}", "is torn") from None
                log.warning(
                    "Sync %s: a run was killed while it finished a snapshot; the one before counts.",
                    self._scope.sync_id,
                )
        return "", None

    def _check_complete(self, contents: Contents) -> None:
        """Refuse a folder from which what everything else builds upon was taken away."""
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
                    self._entries.execute("BEGIN")
                    self._entries.executemany(
                        "INSERT INTO entries VALUES (?, ?, ?)",
                        ((key, bytes.fromhex(fingerprint or ""), ref) for key, fingerprint, ref in lines),
                    )
                    self._entries.execute("COMMIT")
        except FileNotFoundError:
            raise self._refused(name, "is missing") from None
        except (zlib.error, ValueError, msgspec.MsgspecError, sqlite3.IntegrityError):
            raise self._refused(name, "is torn, or is another one") from None
        if digest.hexdigest() != expected:
            raise self._refused(name, "is torn, or is another one: its checksum differs")

    def _load_journal(self, run: str, numbers: Sequence[int]) -> None:
        """Read the objects of one run after those that the snapshot holds; the last may be torn."""
        held = self._holds.get(run, 0)
        rest = [number for number in numbers if number > held]
        for expected, number in enumerate(rest, held + 1):
            if number != expected:
                raise self._refused(journal_name(run, expected), "is missing")
            try:
                head, lines = self._read(journal_name(run, number))
            except Torn:
                if number != rest[-1]:
                    raise self._refused(journal_name(run, number), "is torn") from None
                self._torn.append(journal_name(run, number))
                log.warning(
                    "Sync %s: a run was killed while it wrote %s; what that would have held goes again.",
                    self._scope.sync_id,
                    journal_name(run, number),
                )
                break
            self._take(head, lines)
            self._holds[run] = number

    def _read(self, name: str) -> tuple[Head, list[Line]]:
        """Read an object of this sync.

        :raises Torn: it is not all there
        """
        try:
            head, lines = decode(self._folder.read(name))
        except Newer as error:
            raise ConfigurationError(
                f"The state of sync {self._scope.sync_id!r} cannot be read: {self._folder.told}/{name} {error}: a "
                "later version wrote it. Nothing was sent. Install that version, or a later one."
            ) from None
        except ConfigurationError as error:
            raise self._refused(name, str(error)) from None
        if head.sync_id != self._scope.sync_id:
            raise self._refused(name, f"belongs to the sync {head.sync_id!r}")
        return head, lines

    def _refused(self, name: str, what: str) -> ConfigurationError:
        folder = self._folder.told
        return ConfigurationError(
            f"The state of sync {self._scope.sync_id!r} cannot be read: {folder}/{name} {what}. Nothing was sent. "
            f"Restore what was there, such as from a version that the storage keeps; or move {folder} away and run "
            'the sync with resync="baseline" if Iterable holds the rows as they are, or else as usual: every row is '
            "new then."
        )

    def _others(self) -> dict[str, Header]:
        headers = {}
        for name in self._root.names():
            folder = self._root.inside(name)
            if folder == self._folder or name[-17:-16] != "-":
                continue
            head = last_head(folder)
            if head is not None and head.sync_id != self._scope.sync_id:
                headers[head.sync_id] = Header(head.destination, head.notes)
        return headers

    def _compact(self) -> None:
        """Write a snapshot of everything, then its marker, then delete what the one before had replaced.

        The journal holds it all: a snapshot that fails is for another run to write.
        """
        try:
            contents = Contents.of(self._folder.names())
            newest = contents.markers[-1] if contents.markers else ""
            if newest > self._base and self._is_whole(f"marker-{newest}"):
                log.warning("Sync %s: another run wrote a snapshot meanwhile; this one does not.", self._scope.sync_id)
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
                self._scope.sync_id,
                self._folder.told,
                type(error).__name__,
            )

    def _is_whole(self, name: str) -> bool:
        try:
            self._read(name)
        except Torn:
            return False
        return True

    def _marker(self, digest: str) -> Head:
        assert self._head is not None, "there is no snapshot without a journal"
        holds = dict(sorted(self._holds.items())[-RUNS_KEPT:])
        return msgspec.structs.replace(
            self._head, void=False, snapshot=digest, holds=holds, begun=dict(self._begun), ended=[]
        )

    def _write_snapshot(self, name: str) -> str:
        """Write all entries, and return the digest of the object."""
        pack, digest = zlib.compressobj(1), hashlib.sha256()
        with closing(self._folder.open(name, "wb")) as file:

            def put(data: bytes) -> None:
                digest.update(data)
                file.write(data)

            entries = self._entries.execute("SELECT key, fingerprint, ref FROM entries")
            while block := entries.fetchmany(AT_ONCE):
                lines = [(key, fingerprint.hex(), ref) for key, fingerprint, ref in block]
                put(pack.compress(msgspec.json.encode(lines) + b"\n"))
            put(pack.flush())
        return digest.hexdigest()

    def _delete(self, contents: Contents, base: str, holds: Mapping[str, int]) -> None:
        """Delete what a snapshot had replaced that is now replaced itself, and stays until the next one is."""
        for run, numbers in contents.journals.items():
            for number in numbers:
                if number <= holds.get(run, 0):
                    self._forget(journal_name(run, number))
        for kind, keys in (("marker", contents.markers), ("snapshot", contents.snapshots)):
            for key in keys:
                if base and number_of(key) < number_of(base):
                    self._forget(f"{kind}-{key}")
        for name in self._torn:
            if not self._is_whole(name):
                self._forget(name)
        self._torn = []

    def _forget(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._folder.delete(name)
