"""The partitions of a sync: which there are, and what moves to whom when they change; knows no API and no operator.

A partition remembers under a ``sync_id`` of its own. Which partitions there are is noted in the header of the whole
sync, whose lease is held for moments by whoever reads or changes that. When they change, each partition takes over
what others remember of its rows; until every one of them has, an entry without a row may be one that nobody has
claimed yet, and is no removal.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity

from airflow_provider_iterable.engine.left_out import joined
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import Erased, Gone, Pair, Present
from airflow_provider_iterable.errors import (
    ConfigurationError,
    IterableSyncError,
    LeaseHeld,
    LeaseLost,
    PartitionsChanged,
    StateUnavailable,
)
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.memory import tombstone
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project
from airflow_provider_iterable.state.scope import LEFT_OUT_NOTE, RESYNC_NOTE, Part, Scope

if TYPE_CHECKING:
    from airflow_provider_iterable.state.lease import Lease
    from airflow_provider_iterable.state.table import TableSession

log = logger(__name__)

T = TypeVar("T")
NAMES = "partitions"
"""Note beside the whole sync: the names of its partitions, as JSON; none where it has none."""
PENDING, FORMER, RUN = "partitions_pending", "partitions_former", "partitions_run"
"""Notes: who has yet to claim what is remembered of its rows, partitions that are no more, and in which run."""
OURS = (NAMES, PENDING, FORMER, RUN, RESYNC_NOTE)
"""Notes that do not outlive a change of partitions."""
MUTEX_SECONDS = 30.0
"""How long a partition that was lost in the midst of it keeps the others waiting."""
MUTEX_PATIENCE = 90.0
"""Seconds for which a partition waits for the others."""
KEYS_AT_ONCE = 2_000
GONE_AT_ONCE = 20_000
"""Keys in one question to other partitions that also asks for identities: each reads all that is remembered."""
NAMES_SHOWN = 20


class Partitions:
    """The partitions of one sync, as one of them sees them; a sync without partitions is its only one.

    :param session: the session of the partition, whose tables are used
    :param scope: its run
    :param hold: makes a lease of a ``sync_id`` for so many seconds
    :param store: writes patiently, in a transaction that belongs to the run's lease
    """

    def __init__(
        self,
        session: TableSession,
        scope: Scope,
        hold: Callable[[str, float], Lease],
        store: Callable[[Callable[[], Any]], None],
    ) -> None:
        self._session, self._scope, self._hold, self._store_held = session, scope, hold, store
        self._part = scope.part or Part(scope.sync_id)
        self._claiming = False
        """Whether this partition has yet to claim what is remembered of its rows."""
        self.moving = False
        """Whether entries are on the move, so that one without a row is no removal."""
        self._former: Sequence[str] = ()
        self._held: list[Lease] = []
        """What this partition holds beside its own lease, for moments."""
        self._elsewhere: list[str] = []
        """Keys without a row here that another partition has, or whose identity it has."""

    @property
    def several(self) -> bool:
        """Whether the sync has partitions."""
        return bool(self._part.name)

    def join(self, lease: Lease) -> None:
        """Take the partition's lease, if the partitions are those that the state belongs to.

        :raises LeaseHeld: another run has it, or has a partition that is no more
        :raises PartitionsChanged: they are others, and the run is not to change that
        """
        if not self.several or not self._same(self._do(self._header_of)):
            with self.alone():
                lease.take()
                self._agree()
            return
        try:
            lease.take()  # as ever: nobody has to wait for the others
        except LeaseHeld:  # perhaps by the partition that has just written a change, and is about to let it go
            with self.alone():
                lease.take()
        header = self._do(self._header_of)  # from now on nobody can change it
        if not self._same(header):
            raise self._changed()
        self._learn(_notes(header))

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

    def _same(self, header: tuple[str, str, str] | None) -> bool:
        """Tell whether the partitions are those of this run."""
        return header is not None and set(_known(header)) == set(self._part.names)

    def _agree(self) -> None:
        """See that the partitions are those of this run; only one at a time does so."""
        part = self._part
        header = self._do(self._header_of)
        notes = _notes(header)
        if header is None:
            if self.several and not part.dry:
                about = (json.dumps(dict(self._scope.destination), sort_keys=True), "")
                self._store(lambda: self._insert(part.sync_id, *about, {NAMES: _encode(part.names)}))
        elif not self._same(header):
            notes = self._change(notes, _known(header))
        self._learn(notes)

    def _learn(self, notes: Mapping[str, str]) -> None:
        part, pending = self._part, _decode(notes.get(PENDING))
        self._claiming = part.name in pending
        self.moving = bool(pending) or notes.get(RUN) == part.run != ""
        self._former = _decode(notes.get(FORMER))
        if pending and not self._claiming:
            log.info("Sync %s: nobody is removed before these partitions have run: %s.", part.sync_id, _shown(pending))
        if pending and part.dry:
            raise ConfigurationError(
                f"The partitions of sync {part.sync_id!r} have changed, and what is remembered has to move before a "
                "run can be planned. Run once without dry_run and with repartition=True: nobody is removed by that."
            )

    def _change(self, notes: dict[str, str], known: Collection[str]) -> dict[str, str]:
        """Have the state belong to this run's partitions, and return the notes that say so."""
        part = self._part
        before = {*known, *_decode(notes.get(FORMER))}
        if not self._permit(known, before) and part.dry:
            return {}
        with ExitStack() as held:
            for name in sorted(before.union(part.names) - {part.name, ""}):
                # Nobody else can be one of the new partitions yet, and who has been one of the old ones is to know.
                lease = self._hold(part.state_id(name), MUTEX_SECONDS)
                lease.take()
                held.callback(lease.release)
                self._held.append(lease)
                held.callback(self._held.remove, lease)
            for name in sorted(before):
                self._session.settle_intents(part.state_id(name))
            moves = self._permit(known, before)
            if moves:
                self._agree_about_the_destination(before)
            notes = {name: text for name, text in notes.items() if name not in (*OURS, LEFT_OUT_NOTE)}
            if self.several:
                notes[NAMES] = _encode(part.names)
            if moves:
                notes |= {PENDING: _encode(part.names), FORMER: _encode(before.difference(part.names)), RUN: part.run}
                log.info(
                    "Sync %s: what is remembered moves from %s to %s; nobody is removed in this run.",
                    part.sync_id,
                    _told(known),
                    _told(part.names),
                )
            self._store(lambda: self._write_change(before, notes, moves))
        return notes

    def _agree_about_the_destination(self, before: Iterable[str]) -> None:
        """Refuse to mix what is remembered of several destinations.

        :raises ConfigurationError: a resync that took the former partitions to another one has not ended
        """
        headers = [header for name in before if name and (header := self._do(partial(self._header_of, name)))]
        projects = [known for header in headers if (known := Project.noted(_notes(header).get(PROJECT_NOTE)))]
        if len({header[0] for header in headers}) > 1 or any(projects[0].same(other) is False for other in projects):
            raise ConfigurationError(
                f"Some partitions of sync {self._part.sync_id!r} belong to another destination than the others, or to "
                "another project: a resync did not end. Nothing was read or sent. End it with the former partitions "
                "first."
            )

    def _permit(self, known: Collection[str], before: Collection[str]) -> bool:
        """Tell whether anything is remembered that would have to move.

        :raises PartitionsChanged: it does, and may not
        """
        part = self._part
        if not any(self._remembers(part.state_id(name)) for name in before):
            return False
        if not part.repartition:
            raise PartitionsChanged(
                f"The sync {part.sync_id!r} was run {_told(known)} before, and is run {_told(part.names)} now. Nothing "
                "was read or sent. Run once with repartition=True: what is remembered moves to the partitions that "
                "have the rows, and nobody is removed in that run. Or restore the former partitions."
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
        destination, mapping, text = next(iter(headers.values()), ("{}", "", "{}"))
        own = {name: said for name, said in json.loads(text).items() if name not in OURS}
        if left_out := joined(_notes(header).get(LEFT_OUT_NOTE, "") for header in headers.values()):
            own[LEFT_OUT_NOTE] = left_out
        for name in headers.keys() - {*part.names, ""} if not moves else ():
            self._drop(part.state_id(name))
        if self.several:
            self._write(notes)
            for name in part.names if moves else ():
                header = self._header_of(name)
                if header is None:
                    self._insert(part.state_id(name), destination, mapping, own)
                elif RESYNC_NOTE in _notes(header) or left_out:
                    # Of what it is to claim, others may have sent nothing yet, or not all fields.
                    self._write({**_notes(header), RESYNC_NOTE: "", LEFT_OUT_NOTE: left_out}, name)
            return
        self._drop(part.sync_id)
        if moves:
            self._insert(part.sync_id, destination, mapping, {**own, **notes})

    def pairs(self, sync: Sync, pair: Callable[[], Iterator[Pair]]) -> Iterator[Pair]:
        """Pair rows with what is remembered, and with what other partitions remember, where that matters."""
        if self._claiming:
            self._claim(sync)
        pairs: Iterable[Pair] = pair()
        if self.moving:
            pairs = (found for found in pairs if not isinstance(found, Gone))
        if self.several:
            pairs = self._returning(pairs) if sync.keeps_leavers else self._leaving(pairs)
        return iter(pairs)

    def _returning(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Recognise rows that another partition remembers for ever: one that left it may come back in this one."""
        for found in pairs:
            if isinstance(found, Present) and None in found.before:
                yield from self._recognised(found)
            else:
                yield found

    def _recognised(self, found: Present) -> Iterator[Pair]:
        new = [key for key, before in zip(found.keys, found.before, strict=True) if before is None]
        known: dict[str, tuple[str, str]] = {}
        for source in self._sources(self._part.names):
            entries = self._do(partial(self._session.entries, source, [*new, *map(tombstone, new)]))
            known.update({key: (fingerprint, ref) for key, fingerprint, ref in entries})
        erased = [key for key in new if tombstone(key) in known] if known else []
        if erased:
            yield Erased(erased)
        kept = [number for number, key in enumerate(found.keys) if key not in set(erased)] if known else []
        if not known:
            yield found
        elif kept:
            keys = [found.keys[number] for number in kept]
            there = [known.get(key, ("", "")) for key in keys]
            yield Present(
                keys,
                [found.rows[number] for number in kept],
                [found.before[n] or bytes.fromhex(text) or None for n, (text, _) in zip(kept, there, strict=True)],
                [found.fingerprints[number] for number in kept] if found.fingerprints else (),
                [found.refs[n] or ref or None for n, (_, ref) in zip(kept, there, strict=True)] if found.refs else (),
            )

    def _leaving(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Tell the keys that left the sync from those that left the partition: others remember these."""
        waiting: list[Gone] = []
        for found in pairs:
            if not isinstance(found, Gone):
                yield found
                continue
            waiting.append(found)
            if len(waiting) >= GONE_AT_ONCE:
                yield from self._gone(waiting)
                waiting = []
        yield from self._gone(waiting)

    def _gone(self, waiting: Sequence[Gone]) -> Iterator[Gone]:
        borne = self._borne([found.key for found in waiting])
        self._elsewhere.extend(borne)
        yield from (found for found in waiting if found.key not in borne)

    def _borne(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that another partition has, too, or whose identity it has."""
        found = set[str]()
        sources = self._sources(self._part.names) if keys else []
        about: dict[str, list[str]] = defaultdict(list)
        for key, _, ref in self._do(lambda: self._session.entries(self._scope.sync_id, keys)) if sources else ():
            about[ref].append(key)
        about.pop("", None)
        query = "SELECT ref FROM {state} WHERE sync_id = {p} AND fingerprint <> '' AND ref IN ({keys})"
        for source in sources:
            found.update(self._known(source, keys))
            for (ref,) in self._do(partial(self._session.find, query, (source, list(about)))) if about else ():
                found.update(about[ref])
        return found

    def forget(self) -> None:
        """Forget what left this partition and not the sync.

        One at a time: of two partitions that both lost somebody, and were silent because the other one had them, the
        last one remembers, and removes them in its next run.
        """
        if not self._elsewhere:
            return
        with suppress(LeaseHeld), self.alone():  # the next run does it, if nothing else
            keys = sorted(self._borne(self._elsewhere))
            for start in range(0, len(keys), KEYS_AT_ONCE):
                self._store(partial(self._session.drop, self._scope.sync_id, keys[start : start + KEYS_AT_ONCE]))

    def _claim(self, sync: Sync) -> None:
        """Take over what other partitions remember of the rows of this one."""
        sources = list(filter(self._remembers, self._sources({*self._part.names, *self._former})))
        found = self._search(sync, sources)
        # Only now: in SQLite nobody writes while somebody reads.
        moved = sum(self._move(source, keys) for source, keys in found.items())
        with self.alone():
            notes = _notes(self._do(self._header_of))
            pending = set(_decode(notes.get(PENDING))) - {self._part.name}
            if not pending:
                self._adopt(_decode(notes.get(FORMER)))
                notes.pop(FORMER, None)
                notes.pop(PENDING, None)
            else:
                notes[PENDING] = _encode(pending)
            self._store(lambda: self._write(notes))
            if not self.several:
                self._session.notes = notes
        self._claiming = False
        log.info("Sync %s: %d entries of other partitions are this one's now.", self._scope.sync_id, moved)

    def _search(self, sync: Sync, sources: Sequence[str]) -> Mapping[str, list[str]]:
        """Return what is remembered of the model's rows, and where."""
        found: dict[str, list[str]] = {source: [] for source in sources}
        stones = {source: set(self._keys(source, " AND fingerprint = ''")) for source in sources}
        model = self._scope.model
        for rows in model.chunks() if model is not None and sources else ():
            keys = [name for name in sync.keys(rows) if isinstance(name, str)]
            hidden = [tombstone(key) for key in keys] if any(stones.values()) else []
            for source in sources:
                found[source] += self._known(source, keys)
                found[source] += stones[source].intersection(hidden)
        return found

    def _move(self, source: str, keys: list[str]) -> int:
        """Move entries from one partition to this one, which keeps those it has."""
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            # Somebody may have been erased since the keys were looked for.
            self._store(partial(self._session.take_over, source, [*some, *map(tombstone, some)]))
        return len(keys)

    def _adopt(self, former: Iterable[str]) -> None:
        """Take over what nobody claimed of partitions that are no more: in the next run these are removals."""
        for name in former:
            source = self._part.state_id(name)
            self._move(source, self._keys(source))
            if name:
                self._store(partial(self._drop, source))

    def _sources(self, names: Iterable[str]) -> list[str]:
        return [self._part.state_id(name) for name in sorted(set(names)) if name != self._part.name]

    def _known(self, source: str, keys: Sequence[str]) -> list[str]:
        return self._do(lambda: [key for key, _, _ in self._session.entries(source, keys)])

    def _keys(self, source: str, which: str = "") -> list[str]:
        query = "SELECT record_key FROM {state} WHERE sync_id = {p}" + which
        return [key for (key,) in self._do(lambda: self._session.find(query, (source,)))]

    def _remembers(self, state_id: str) -> bool:
        query = "SELECT min(record_key) FROM {state} WHERE sync_id = {p}"
        return self._do(lambda: self._session.find(query, (state_id,))) != [(None,)]

    def _header_of(self, name: str = "") -> tuple[str, str, str] | None:
        query = "SELECT destination, mapping, notes FROM {header} WHERE sync_id = {p}"
        found: list[Any] = self._session.find(query, (self._part.state_id(name),))
        return found[0] if found else None

    def _drop(self, state_id: str) -> None:
        self._session.change("DELETE FROM {header} WHERE sync_id = {p}", (state_id,))

    def _insert(self, state_id: str, destination: str, mapping: str, notes: Mapping[str, str]) -> None:
        self._session.change(
            "INSERT INTO {header} (sync_id, destination, mapping, notes) VALUES ({p}, {p}, {p}, {p})",
            (state_id, destination, mapping, json.dumps(dict(notes))),
        )

    def _write(self, notes: Mapping[str, str], name: str = "") -> None:
        self._session.change(
            "UPDATE {header} SET notes = {p} WHERE sync_id = {p}", (json.dumps(dict(notes)), self._part.state_id(name))
        )

    def _do(self, work: Callable[[], T]) -> T:
        return self._patiently(lambda: self._session.transact(work, patiently=True))

    def _store(self, work: Callable[[], object]) -> None:
        """Write patiently, in a transaction that renews all leases that are held before anything else."""
        with ExitStack() as writing:
            renewals = [writing.enter_context(lease.written()) for lease in self._held]

            def held() -> None:
                for renew in renewals:
                    try:
                        renew()
                    except LeaseLost:
                        raise self._changed() from None
                work()

            self._patiently(lambda: self._store_held(held))

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
                f"({type(error).__name__}). Nothing was sent, and nothing is forgotten. The next try goes on."
            ) from None


def _notes(header: tuple[str, str, str] | None) -> dict[str, str]:
    return {} if header is None else json.loads(header[2])


def _known(header: tuple[str, str, str]) -> tuple[str, ...]:
    return _decode(_notes(header).get(NAMES)) or ("",)


def _encode(names: Iterable[str]) -> str:
    return json.dumps(sorted(names))


def _decode(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text else ()


def _told(names: Collection[str]) -> str:
    """Return partitions for people to read."""
    ordered = sorted(names)
    if ordered == [""]:
        return "without partitions"
    return f"with {len(ordered)} partitions ({_shown(ordered)})"


def _shown(names: Collection[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:NAMES_SHOWN]) + (", ..." if len(ordered) > NAMES_SHOWN else "")


def grouped(sync_id: str, notes: Mapping[str, str], part: Part | None) -> bool:
    """Tell whether a header is that of a partitioned sync as a whole, or belongs to the same sync as a partition."""
    return NAMES in notes or (part is not None and sync_id.startswith(f"{part.sync_id}["))
