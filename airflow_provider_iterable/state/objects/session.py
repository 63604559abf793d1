"""State in object storage: a folder for each sync, on any storage that Airflow can reach."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from airflow_provider_iterable.engine.doubt import lines_of
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import NO_INTENTS, Entry, Intents, Pair, Patch, Row
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.objects.folder import Folder, Head, Line, folder_of, last_head
from airflow_provider_iterable.state.objects.journal import Journal
from airflow_provider_iterable.state.pairing import pair_some, pair_with
from airflow_provider_iterable.state.scope import MAPPING_CHANGED, Scope, same_destination
from airflow_provider_iterable.state.store import Header, Store, Undivided

log = logger(__name__)

PATIENCE = 30.0
"""Seconds for which a failed read or write is tried again."""


@dataclass(frozen=True)
class ObjectState(Store):
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
        :raises ConfigurationError: the storage cannot be used, or an object is incomplete or belongs to another sync
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


class ObjectSession(Undivided):
    """A sync's folder, opened for one run."""

    lease: ClassVar[None] = None

    def __init__(self, scope: Scope, root: Folder, patience: float = PATIENCE) -> None:
        self._scope, self._root = scope, root
        self._folder = root.inside(folder_of(scope.sync_id))
        self._journal = Journal(self._folder, scope.sync_id, patience)
        self.remembered = 0
        self.resend_reason: str | None = None
        self.notes: dict[str, str] = {}
        self._moved = False
        """Whether the stored head is about another destination or project; false once this run's is stored."""
        try:
            self._journal.load()
            head = self._journal.head
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
        known = self._journal.entries.fingerprints()
        self.remembered = len(known)
        return pair_with(known, sync, chunks)

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys."""
        return self._journal.entries.recall(keys)

    def bearing(self, refs: Sequence[str]) -> Collection[str]:
        """Return the keys that are remembered with one of some references."""
        return self._journal.entries.bearing(refs)

    def pair_some(self, sync: Sync, model: Model, keys: Collection[str]) -> Iterator[Pair]:
        """Pair the rows of some keys with entries."""
        return pair_some(self.recall, sync, model.chunks(), keys)

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
            self._head(),
            begun={self._intent(number): [line[:3] for line in doubts] for number, doubts in intents.begun.items()},
            ended=list(map(self._intent, intents.ended)),
        )
        self._journal.append(
            head,
            lines,
            f"{len(lines)} rows that Iterable accepted are not remembered; they and the batches in flight go again "
            "with the next try.",
        )
        self._journal.tidy(meanwhile=True)

    def _intent(self, number: int) -> str:
        """Return a name for a request of this run."""
        return f"{self._journal.run}/{number}"

    def _settle_intents(self) -> None:
        """Turn what earlier runs announced and did not settle into entries in doubt: those runs were killed."""
        begun = self._journal.begun
        if not begun:
            return
        lines: list[Line] = [line for doubts in begun.values() for line in lines_of(doubts)]
        if self._scope.reading:
            self._journal.entries.take(lines, void=False)
            return
        head = msgspec.structs.replace(self._head(), ended=list(begun))
        self._journal.append(head, lines, "Nothing was read or sent.")
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
        if self._moved:  # the note is about the new destination, and the entries are about the former one
            self.void(name, value)
            return
        self.notes[name] = value
        self._journal.append(self._head(), [], f"The note {name!r} is lost, and every entry is as it was.")

    def note_along(self, name: str, value: str) -> None:
        """Store a note at once if the state is about the run's destination already, otherwise with the first entries.

        :raises StateUnavailable: it could not be stored
        """
        self.notes[name] = value
        if self._journal.head is not None and not self._moved:
            self.note(name, value)

    def move(self) -> None:
        """Drop the notes: the state is about another project, which is stored with the next write."""
        self.notes, self._moved = {}, True

    def void(self, name: str, value: str) -> None:
        """Void every entry's fingerprint, and store a note and the run's destination.

        :raises StateUnavailable: it could not be stored
        """
        self.notes[name] = value
        head = msgspec.structs.replace(
            self._head(), destination=dict(self._scope.destination), notes=dict(self.notes), void=True
        )
        self._journal.append(head, [], "Nothing was sent, and every entry is as it was.")
        self._moved = False

    def others(self) -> Mapping[str, Header]:
        """Return the headers of the other syncs below the same path; those that cannot be read are left out."""
        return self._journal.patiently(self._others, "read")

    def check(self, plan: Plan) -> None:
        """Accept any plan."""

    def finish(self, delivered: bool) -> None:
        """Remember the mapping that was delivered, and write a snapshot if the journal has grown.

        :raises StateUnavailable: it could not be stored; every entry is
        """
        if not delivered:
            return
        scope = self._scope
        head = Head(scope.sync_id, dict(scope.destination), scope.mapping, dict(self.notes))
        said = self._journal.head
        if said is not None:
            said = msgspec.structs.replace(said, void=False, snapshot="", holds={}, begun={}, ended=[])
        if head != said:
            self._journal.append(head, [], "Everything was delivered and is remembered.")
        self._journal.tidy()

    def close(self) -> None:
        """Close the temporary file."""
        self._journal.close()

    def _head(self) -> Head:
        """Return the head of objects written during the run: the new mapping is not delivered yet, so not in it."""
        scope, head = self._scope, self._journal.head
        if head is None:
            return Head(scope.sync_id, dict(scope.destination), scope.mapping, dict(self.notes))
        notes = head.notes if self._moved else dict(self.notes)
        return Head(scope.sync_id, head.destination, head.mapping, notes)

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
