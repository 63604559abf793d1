"""A run's model and state as far as they matter for one row: it, what shares its key, what shares its identity."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import Entry, Handle, Pair, Present, Row
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.sql.narrowed import narrowed
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.store import Session
from airflow_provider_iterable.syncs.sync import BaseSync

log = logger(__name__)


@dataclass
class Finder:
    """Finds rows of a model by key or identity, in the database where it can be asked for them.

    :param model: the model, whose columns are known
    :param sync: names the rows; used for nothing else
    :param key_columns: positions of the columns of the key; empty: the key is not made of columns as they are
    :param identity_column: position of the column with the identity; ``None``: no two rows share one
    """

    model: Model
    sync: BaseSync
    key_columns: Sequence[int]
    identity_column: int | None
    whole: bool = False
    """Whether the whole model had to be read."""

    def find(self, keys: Collection[str], identities: Collection[Handle] = ()) -> dict[str, list[tuple[Row, Handle]]]:
        """Return rows that have one of some keys or identities, by key, each with its identity."""
        found: dict[str, list[tuple[Row, Handle]]] = {}
        some, model = self.narrowed(keys, identities)
        try:
            self._take(some or model, keys, identities, found)
        except Exception as error:
            if some is None:
                raise
            self.refuse(error)
            found = {}
            self._take(model, keys, identities, found)
        return found

    def narrowed(self, keys: Collection[str], identities: Collection[Handle] = ()) -> tuple[Model | None, Model]:
        """Return the model as far as it has some keys or identities, if the database is to be asked, and the model."""
        some = None
        if not self.whole:
            named = [value for _, value in identities]
            if self.key_columns:
                some = narrowed(self.model, self.key_columns, keys, self.identity_column, named)
            elif (own := _members(keys)) is not None:  # of lists and subscriptions: the key begins with it
                some = narrowed(self.model, (), (), self.identity_column, sorted({*own, *named}))
            self.whole = some is None
        return some, self.model

    def refuse(self, error: Exception) -> None:
        """From now on, read the whole model."""
        log.info("The database cannot look for single rows of this model (%s): all is read.", type(error).__name__)
        self.whole = True

    def _take(
        self,
        model: Model,
        keys: Collection[str],
        identities: Collection[Handle],
        found: dict[str, list[tuple[Row, Handle]]],
    ) -> None:
        for chunk in model.chunks():
            names = self.sync.keys(chunk)
            valid = [(name, row) for name, row in zip(names, chunk, strict=True) if isinstance(name, str)]
            if not identities:
                valid = [(name, row) for name, row in valid if name in keys]
            if not valid:
                continue
            records = self.sync.records([name for name, _ in valid], [row for _, row in valid])
            for number, (name, row) in enumerate(valid):
                handles = records.handles(number)
                identity = handles[0] if handles else ("", "")
                if name in keys or identity in identities:
                    found.setdefault(name, []).append((row, identity))


def _members(keys: Collection[str]) -> list[str] | None:
    """Return the identities that the keys of a list sync are."""
    first = [key[2:-1].partition('"') for key in keys if key.startswith('["') and key.endswith("]")]
    parts = [part for part, _, rest in first if not rest or rest.startswith(",")]
    return parts if len(parts) == len(keys) and not any("\\" in part for part in parts) else None


@dataclass
class Neighbours:
    """What matters for a row: the keys of rows that share its key or its identity, now or as is remembered."""

    key: str
    rows: Sequence[Row] = ()
    """The rows that have the key."""
    keys: set[str] = field(default_factory=set)
    """The row's, and those of its neighbours."""
    sharing: Sequence[str] = ()
    """Keys of other rows that have the row's identity, or had it when they were accepted."""


def neighbours(finder: Finder, session: Session, candidates: Sequence[str]) -> Neighbours:
    """Find out which key is meant, and what else matters for its row.

    :param candidates: key texts that may be meant; the first one counts of which there is a row or a memory
    """
    sync = finder.sync
    found = finder.find(candidates)
    known = session.recall([*candidates, *map(tombstone, candidates)])
    key = next((key for key in candidates if key in found), None) or next(
        (key for key in candidates if key in known or tombstone(key) in known), candidates[0]
    )
    rows = [row for row, _ in found.get(key, ())]
    near = Neighbours(key, rows, {key})
    identities = {identity for _, identity in found.get(key, ()) if identity[1]}
    entry = known.get(key)
    if entry is not None and entry.ref:
        identities.add(sync.identity(entry.ref))
    if not identities or finder.identity_column is None or (sync.keeps_leavers and not sync.exclusive):
        return near
    refs = [ref for identity in sorted(identities) for ref in sync.forms(sync.reference(identity))]
    near.keys.update(session.bearing(refs))
    near.keys.update(finder.find(sorted(near.keys), identities))
    near.sharing = sorted(near.keys - {key})
    return near


class Excerpt:
    """A state of which a plan sees only what is remembered under some keys.

    :param session: the state, opened for reading
    :param finder: reads the rows
    :param keys: the keys
    """

    def __init__(self, session: Session, finder: Finder, keys: Collection[str]) -> None:
        self._session, self._finder, self._keys = session, finder, sorted(keys)
        self.remembered = 0
        self.before: dict[str, bytes | None] = {}
        """The fingerprints that are remembered under the keys of rows."""
        self.after: dict[str, bytes] = {}
        """The fingerprints of rows, where a database made them."""

    @property
    def resend_reason(self) -> str | None:
        """Why rows go again that did not change."""
        return self._session.resend_reason

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Pair the rows of the keys; the model is read as its finder does, not through ``chunks``."""
        some, model = self._finder.narrowed(self._keys)
        try:
            pairs = list(self._session.pair_some(sync, some or model, self._keys))
        except Exception as error:
            if some is None:
                raise
            self._finder.refuse(error)
            pairs = list(self._session.pair_some(sync, model, self._keys))
        for pair in pairs:
            if isinstance(pair, Present):
                self.before.update(zip(pair.keys, pair.before, strict=True))
                if pair.fingerprints:
                    self.after.update(zip(pair.keys, pair.fingerprints, strict=True))
        return iter(pairs)

    def read(self) -> Iterator[Sequence[Row]]:
        """Read the rows that have one of the keys."""
        rows = [row for found in self._finder.find(self._keys).values() for row, _ in found]
        if rows:
            yield rows

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return whole entries."""
        return self._session.recall(keys)

    def commit(self, *committed: object) -> None:
        """Refuse to write.

        :raises AssertionError: always
        """
        raise AssertionError("a state that is only looked at is not written")
