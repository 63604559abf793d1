"""The partitions of a sync: which there are, and which entries move when that changes.

The entries of a partition have a ``sync_id`` of their own. The header of the whole sync lists the partitions; a run
that reads or changes the list holds the lease of the whole sync for that moment. When the list changes, each partition
claims its rows: it takes over their entries from other partitions. Until all of them have, an entry without a row may
still be claimed, so it is no removal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

import tenacity

from airflow_provider_iterable.engine.left_out import joined
from airflow_provider_iterable.errors import (
    ConfigurationError,
    IterableSyncError,
    LeaseHeld,
    LeaseLost,
    PartitionsChanged,
    StateUnavailable,
)
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project
from airflow_provider_iterable.state.scope import LEFT_OUT_NOTE, RESYNC_NOTE, Part, Scope
from airflow_provider_iterable.state.tables.connection import cause
from airflow_provider_iterable.state.tables.entries import Entries, StoredHeader, written
from airflow_provider_iterable.state.tables.intents import settle
from airflow_provider_iterable.state.tables.lease import Lease

log = logger(__name__)

T = TypeVar("T")
NAMES = "partitions"
"""Note of the whole sync: the names of its partitions, as JSON; missing if it has none."""
PENDING, FORMER, RUN = "partitions_pending", "partitions_former", "partitions_run"
"""Notes: partitions that have not claimed their rows yet, dropped partitions, and the run that changed them."""
NOTES_OF_A_CHANGE = (NAMES, PENDING, FORMER, RUN, RESYNC_NOTE)
"""Notes that are dropped when the partitions change."""
MUTEX_SECONDS = 30.0
"""Seconds for which a partition whose run was killed meanwhile keeps the others waiting."""
MUTEX_PATIENCE = 90.0
"""Seconds for which a partition waits for the others."""
NAMES_SHOWN = 20


class Partitions:
    """The partitions of one sync, for the run of one of them; a sync without partitions counts as one.

    :param entries: the entries of the partition
    :param scope: its run
    :param hold: makes a lease of a ``sync_id`` for so many seconds
    """

    def __init__(self, entries: Entries, scope: Scope, hold: Callable[[str, float], Lease]) -> None:
        self._entries, self._scope, self._hold = entries, scope, hold
        self._part = scope.part or Part(scope.sync_id)
        self.claiming = False
        """Whether this partition has not claimed its rows yet."""
        self.moving = False
        """Whether entries may still move between partitions, so that one without a row is no removal."""
        self.former: Sequence[str] = ()
        """Dropped partitions that may still have entries."""
        self._held: list[Lease] = []
        """Leases that this run has for a moment, beside that of its partition."""

    @property
    def several(self) -> bool:
        """Whether the sync has partitions."""
        return bool(self._part.name)

    def join(self, lease: Lease) -> None:
        """Take the partition's lease, if the state is of these partitions, or may be changed to them.

        :raises LeaseHeld: another run has it, or the lease of a dropped partition
        :raises PartitionsChanged: the state is of other partitions, and the run may not change that
        """
        if not self.several or not self._same(self.read(self._header_of)):
            with self.alone():
                lease.take()
                self._check_partitions()
            return
        try:
            lease.take()  # the usual case, without waiting for other partitions
        except LeaseHeld:  # maybe by a run that has just changed the partitions, and is about to release it
            with self.alone():
                lease.take()
        header = self.read(self._header_of)  # while this run has a lease, no other can change the partitions
        if not self._same(header):
            raise self._changed()
        self._take_notes(_notes(header))

    def look(self) -> None:
        """See that the state is of these partitions, without a lease; of a part that is ``dry``, nothing is written.

        :raises PartitionsChanged: the state is of other partitions, and the run may not change that
        :raises ConfigurationError: what is remembered has to move before anything can be said
        """
        self._check_partitions()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the other partitions of the sync from doing this at the same time; they wait for their turn.

        :raises LeaseHeld: waiting took too long
        """
        if not self.several:  # the lease of the run is that of the whole sync
            yield
            return
        mutex = self._hold(self._part.sync_id, MUTEX_SECONDS)
        tenacity.Retrying(
            stop=tenacity.stop_after_delay(MUTEX_PATIENCE),
            wait=tenacity.wait_random(0.05, 0.5),
            retry=tenacity.retry_if_exception_type(LeaseHeld),
            reraise=True,
        )(mutex.take)
        self._held.append(mutex)
        try:
            yield
        finally:
            self._held.remove(mutex)
            mutex.release()

    def _same(self, header: StoredHeader | None) -> bool:
        """Return whether the partitions are those of this run."""
        return header is not None and set(_known(header)) == set(self._part.names)

    def _check_partitions(self) -> None:
        """Make the partitions of the state those of this run; called by one run at a time."""
        part = self._part
        header = self.read(self._header_of)
        notes = _notes(header)
        if header is None:
            if self.several and not part.dry:
                made = StoredHeader(written(self._scope.destination), "", json.dumps({NAMES: _encode(part.names)}))
                self.store(lambda: self._entries.add_header(part.sync_id, made))
        elif not self._same(header):
            notes = self._change(notes, _known(header))
        self._take_notes(notes)

    def _take_notes(self, notes: Mapping[str, str]) -> None:
        part, pending = self._part, _decode(notes.get(PENDING))
        self.claiming = part.name in pending
        self.moving = bool(pending) or notes.get(RUN) == part.run != ""
        self.former = _decode(notes.get(FORMER))
        if pending and not self.claiming:
            log.info("Sync %s: nobody is removed before these partitions have run: %s.", part.sync_id, _shown(pending))
        if pending and part.dry:
            raise ConfigurationError(
                f"The partitions of sync {part.sync_id!r} have changed, and what is remembered has to move before a "
                "run can be planned. Run once without dry_run and with repartition=True: nobody is removed by that."
            )

    def _change(self, notes: dict[str, str], known: Collection[str]) -> dict[str, str]:
        """Change the partitions of the state to this run's, and return the new notes."""
        part = self._part
        before = {*known, *_decode(notes.get(FORMER))}
        if not self._anything_to_move(known, before) and part.dry:
            return {}
        with ExitStack() as held:
            for name in sorted(before.union(part.names) - {part.name, ""}):
                # Fails while another run has an old partition; a run whose lease of one ran out loses it here.
                lease = self._hold(part.state_id(name), MUTEX_SECONDS)
                lease.take()
                held.callback(lease.release)
                self._held.append(lease)
                held.callback(self._held.remove, lease)
            for name in sorted(before):
                settle(self._entries, part.state_id(name))
            moves = self._anything_to_move(known, before)
            if moves:
                self._check_one_destination(before)
            notes = {name: text for name, text in notes.items() if name not in (*NOTES_OF_A_CHANGE, LEFT_OUT_NOTE)}
            if self.several:
                notes[NAMES] = _encode(part.names)
            if moves:
                notes |= {PENDING: _encode(part.names), FORMER: _encode(before.difference(part.names)), RUN: part.run}
                log.info(
                    "Sync %s: what is remembered moves from %s to %s; nobody is removed in this run.",
                    part.sync_id,
                    _listed(known),
                    _listed(part.names),
                )
            self.store(lambda: self._write_change(before, notes, moves))
        return notes

    def _check_one_destination(self, before: Iterable[str]) -> None:
        """Refuse to mix entries of several destinations.

        :raises ConfigurationError: a resync to another destination ran in some of the former partitions only
        """
        headers = [header for name in before if name and (header := self.read(partial(self._header_of, name)))]
        projects = [known for header in headers if (known := Project.noted(_notes(header).get(PROJECT_NOTE)))]
        destinations = {header.destination for header in headers}
        if len(destinations) > 1 or any(projects[0].same(other) is False for other in projects):
            raise ConfigurationError(
                f"Some partitions of sync {self._part.sync_id!r} belong to another destination than the others, or to "
                "another project: a resync did not end. Nothing was read or sent. End it with the former partitions "
                "first."
            )

    def _anything_to_move(self, known: Collection[str], before: Collection[str]) -> bool:
        """Return whether there are entries that have to move.

        :raises PartitionsChanged: there are, and the run may not move them
        """
        part = self._part
        if not any(self.read(partial(self._entries.remembers, part.state_id(name))) for name in before):
            return False
        if not part.repartition:
            raise PartitionsChanged(
                f"The sync {part.sync_id!r} was run {_listed(known)} before, and is run {_listed(part.names)} now. "
                "Nothing was read or sent. Run once with repartition=True: what is remembered moves to the "
                "partitions that have the rows, and nobody is removed in that run. Or restore the former partitions."
            )
        if part.dry:
            raise ConfigurationError(
                "repartition=True moves what is remembered, and dry_run=True must not. Nothing was read or sent. Run "
                "once with repartition=True and without dry_run: nobody is removed by that."
            )
        return True

    def _write_change(self, before: Iterable[str], notes: Mapping[str, str], moves: bool) -> None:
        """Write the notes; if anything is to move, each new partition gets the header of a former one."""
        part = self._part
        headers = {name: header for name in sorted(before, reverse=True) if (header := self._header_of(name))}
        first = next(iter(headers.values()), StoredHeader("{}", "", "{}"))
        own = {name: said for name, said in _notes(first).items() if name not in NOTES_OF_A_CHANGE}
        if left_out := joined(_notes(header).get(LEFT_OUT_NOTE, "") for header in headers.values()):
            own[LEFT_OUT_NOTE] = left_out
        for name in headers.keys() - {*part.names, ""} if not moves else ():
            self._entries.drop_header(part.state_id(name))
        if self.several:
            self._write(notes)
            for name in part.names if moves else ():
                header = self._header_of(name)
                if header is None:
                    self._entries.add_header(part.state_id(name), first._replace(notes=json.dumps(own)))
                elif RESYNC_NOTE in _notes(header) or left_out:
                    # Rows that it claims may not have been sent yet by a resync elsewhere, or lack fields.
                    self._write({**_notes(header), RESYNC_NOTE: "", LEFT_OUT_NOTE: left_out}, name)
            return
        self._entries.drop_header(part.sync_id)
        if moves:
            self._entries.add_header(part.sync_id, first._replace(notes=json.dumps({**own, **notes})))

    def claimed(self, adopt: Callable[[Iterable[str]], None]) -> Mapping[str, str] | None:
        """Note that this partition has claimed its rows; return the notes of a sync without partitions.

        :param adopt: takes over the remaining entries of dropped partitions; called for the last partition that claims
        """
        with self.alone():
            notes = _notes(self.read(self._header_of))
            pending = set(_decode(notes.get(PENDING))) - {self._part.name}
            if not pending:
                adopt(_decode(notes.get(FORMER)))
                notes.pop(FORMER, None)
                notes.pop(PENDING, None)
            else:
                notes[PENDING] = _encode(pending)
            self.store(lambda: self._write(notes))
        self.claiming = False
        return None if self.several else notes

    def _header_of(self, name: str = "") -> StoredHeader | None:
        return self._entries.header(self._part.state_id(name))

    def _write(self, notes: Mapping[str, str], name: str = "") -> None:
        self._entries.write_notes(self._part.state_id(name), notes)

    def read(self, work: Callable[[], T]) -> T:
        """Read, again for 30 s when it fails.

        :raises StateUnavailable: it could not be read
        """
        return self._patiently(lambda: self._entries.tables.patiently(work))

    def store(self, work: Callable[[], object]) -> None:
        """Write in a transaction that first renews all leases that are held; a failure is tried again for 30 s.

        :raises LeaseHeld: one of them is another run's by now
        :raises StateUnavailable: it could not be written
        """
        with ExitStack() as writing:
            renewals = [writing.enter_context(lease.written()) for lease in self._held]

            def held() -> None:
                for renew in renewals:
                    try:
                        renew()
                    except LeaseLost:
                        raise self._changed() from None
                work()

            self._patiently(lambda: self._entries.store(held))

    def _changed(self) -> LeaseHeld:
        return LeaseHeld(
            f"The partitions of sync {self._part.sync_id!r} were just changed by another run. Nothing was read or "
            "sent. The next try begins anew."
        )

    def _patiently(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(
                f"The partitions of sync {self._part.sync_id!r} could not be read or written for long "
                f"({cause(error)}). Nothing was sent, and nothing is forgotten. The next try goes on."
            ) from None


def _notes(header: StoredHeader | None) -> dict[str, str]:
    return {} if header is None else json.loads(header.notes)


def _known(header: StoredHeader) -> tuple[str, ...]:
    return _decode(_notes(header).get(NAMES)) or ("",)


def _encode(names: Iterable[str]) -> str:
    return json.dumps(sorted(names))


def _decode(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text else ()


def _listed(names: Collection[str]) -> str:
    """Return the names of partitions for messages."""
    ordered = sorted(names)
    if ordered == [""]:
        return "without partitions"
    return f"with {len(ordered)} partitions ({_shown(ordered)})"


def _shown(names: Collection[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:NAMES_SHOWN]) + (", ..." if len(ordered) > NAMES_SHOWN else "")


def grouped(sync_id: str, notes: Mapping[str, str], part: Part | None) -> bool:
    """Return whether a header is that of a partitioned sync as a whole, or belongs to the same sync as a partition."""
    return NAMES in notes or (part is not None and sync_id.startswith(f"{part.sync_id}["))
