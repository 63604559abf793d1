"""What is remembered of a sync: a row for each entry, and one, the header, for the sync itself.

Methods that say "in the transaction" must be called from work that :meth:`Entries.store` or :meth:`Entries.read` runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables.connection import Tables, encoded, pieces
from airflow_provider_iterable.state.tables.layout import Layout
from airflow_provider_iterable.state.tables.lease import CREATE as _CREATE_LEASE
from airflow_provider_iterable.state.tables.lease import Lease

T = TypeVar("T")
MAX_SYNC_ID = 250
"""Longest ``sync_id`` in characters; with the longest key it still fits an index."""

STATE = Layout(
    "state",
    {
        "state": "CREATE TABLE IF NOT EXISTS {state} (sync_id VARCHAR(250) NOT NULL, record_key VARCHAR(500) NOT NULL, "
        "fingerprint VARCHAR(64) NOT NULL, ref {text} NOT NULL, PRIMARY KEY (sync_id, record_key))",
        "header": "CREATE TABLE IF NOT EXISTS {header} (sync_id VARCHAR(250) NOT NULL PRIMARY KEY, "
        "destination {text} NOT NULL, mapping VARCHAR(64) NOT NULL, notes {text} NOT NULL)",
        "intents": "CREATE TABLE IF NOT EXISTS {intents} (sync_id VARCHAR(250) NOT NULL, number INTEGER NOT NULL, "
        "part INTEGER NOT NULL, doubts {text} NOT NULL, PRIMARY KEY (sync_id, number, part))",
        "lease": _CREATE_LEASE,
    },
    # Version 2 has intents: with version 1, nothing shows what a killed run left in doubt.
    steps=((),),
)


def check_length(scope: Scope) -> None:
    """Refuse a sync whose name, or that of one of its partitions, the tables cannot hold.

    :raises ConfigurationError: it is too long
    """
    longest = max(map(scope.part.state_id, scope.part.names), key=len) if scope.part else scope.sync_id
    if len(longest) > MAX_SYNC_ID:
        raise ConfigurationError(
            f"The sync_id {longest!r} has {len(longest)} characters; a state table holds {MAX_SYNC_ID}. Set a shorter "
            "sync_id."
        )


def refuse_former_schema(tables: Tables, sync_id: str) -> None:
    """Refuse to begin anew beside a state in a schema whose name earlier versions wrote in quotes.

    :raises ConfigurationError: the message says how to rename the schema
    """
    schema, quote = tables.schema, tables.dialect.former_quote
    if not quote or schema is None or schema.isupper():  # then quotes make no other name of it
        return
    here = _headers_in(tables, "{header}", sync_id)
    former = None if here else _headers_in(tables, f"{quote}{schema}{quote}.sync_header", sync_id)
    if former is None or (not former and here is not None):
        return
    raise ConfigurationError(
        f"There is a state in the schema {quote}{schema}{quote}, as earlier versions of the provider called it. "
        f"Schemas are written without quotes now: {schema} is {schema.upper()} there, which "
        f"{'does not have the tables' if here is None else f'does not know sync {sync_id!r}'}. Nothing was read or "
        f"sent. Run this: ALTER SCHEMA {quote}{schema}{quote} RENAME TO {schema}; a schema {schema.upper()} that is "
        "there already, and holds nothing else, is to be dropped before."
    )


def refuse_other_version(tables: Tables, sync_id: str) -> None:
    """Refuse to take tables of another version for none, where they are only looked at.

    :raises ConfigurationError: there is a table of entries
    """
    if _headers_in(tables, "{header}", sync_id) is not None:
        raise ConfigurationError(
            f"The state tables of sync {sync_id!r} are not of this version of the provider, or not complete. The next "
            "run brings them up to date, or says why it cannot."
        )


def _headers_in(tables: Tables, table: str, sync_id: str) -> int | None:
    """Return how many headers of the sync a table has; ``None``: no such table is there, or to be seen."""
    query = f"SELECT count(*) FROM {table} WHERE sync_id = :sync_id"
    try:
        ((count,),) = tables.transact(partial(tables.find, query, sync_id=sync_id))
    except IterableSyncError:
        raise
    except Exception:  # whatever a driver calls it
        return None
    return int(count)


ENTRY: Mapping[str, str] = {"sync_id": ":sync_id", "record_key": "k", "fingerprint": "f", "ref": "r"}
"""The columns of an entry, and what they are in a list of entries."""
ENTRY_KEY = ("sync_id", "record_key")


class StoredHeader(NamedTuple):
    """A header as it is in the table: texts."""

    destination: str
    mapping: str
    notes: str


class Entries:
    """The entries and headers of a sync, of its partitions, and of all others in the same tables.

    :param tables: the run's connection
    :param lease: the run's lease of the sync; ``None``: nothing is stored
    :param sync_id: the sync
    """

    def __init__(self, tables: Tables, lease: Lease | None, sync_id: str) -> None:
        self.tables, self.sync_id = tables, sync_id
        self._lease = lease

    def store(self, write: Callable[[], Any]) -> None:
        """Write in a transaction that first renews the lease; a failure is tried again for 30 s.

        :raises Refused: a right is missing
        """
        assert self._lease is not None
        with self._lease.written() as renew:

            def work() -> None:
                renew()
                write()

            self.tables.patiently(self.tables.refusing(work, sent=True), self._lease.hold)

    def read(self, work: Callable[[], T]) -> T:
        """Read, again for 30 s when it fails.

        :raises StateUnavailable: it could not be read
        """
        with self.tables.explaining_failure(
            f"The state of sync {self.sync_id!r} could not be read",
            "No row was sent, and every entry is as it was. The next try begins anew.",
        ):
            found = self.tables.patiently(work)
        return found

    def fingerprints(self) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
        """Yield keys and fingerprints of the sync, on a connection of their own."""
        query = "SELECT record_key, fingerprint FROM {state} WHERE sync_id = :sync_id"
        for entries in self.tables.stream(query, sync_id=self.sync_id):
            keys, fingerprints = zip(*entries, strict=True)
            yield keys, fingerprints

    def find(self, sync_id: str, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return keys, fingerprints and references that are remembered of some keys, in the transaction."""
        query = "SELECT record_key, fingerprint, ref FROM {state} WHERE sync_id = :sync_id AND record_key IN (:keys)"
        return self.tables.find(query, sync_id=sync_id, keys=list(keys))

    def bearers(self, sync_id: str, refs: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the keys whose entries have one of some references, with the reference, in the transaction."""
        query = "SELECT record_key, ref FROM {state} WHERE sync_id = :sync_id AND fingerprint <> '' AND ref IN (:refs)"
        return self.tables.find(query, sync_id=sync_id, refs=list(refs))

    def keys(self, sync_id: str, erased: bool = False) -> list[str]:
        """Return all keys, or only those of tombstones, in the transaction."""
        query = "SELECT record_key FROM {state} WHERE sync_id = :sync_id" + (" AND fingerprint = ''" if erased else "")
        return [key for (key,) in self.tables.find(query, sync_id=sync_id)]

    def count(self, sync_id: str) -> int:
        """Return how many entries there are without tombstones, in the transaction."""
        query = "SELECT count(*) FROM {state} WHERE sync_id = :sync_id AND fingerprint <> ''"
        ((count,),) = self.tables.find(query, sync_id=sync_id)
        return int(count)

    def remembers(self, sync_id: str) -> bool:
        """Return whether there are entries, in the transaction."""
        query = "SELECT min(record_key) FROM {state} WHERE sync_id = :sync_id"
        return self.tables.find(query, sync_id=sync_id) != [(None,)]

    def put(self, sync_id: str, entries: list[tuple[str, str, str]]) -> None:
        """Remember entries: keys, fingerprints and references, in the transaction."""
        for text, rows in encoded(entries, self.tables.dialect.most):
            self.tables.replace("state", ENTRY, ENTRY_KEY, {"sync_id": sync_id, "json": text}, "{rows}", rows)

    def drop(self, sync_id: str, keys: list[str]) -> int:
        """Delete the entries of some keys, in the transaction; return how many, if the driver counts, or -1."""
        statement = "DELETE FROM {state} WHERE sync_id = :sync_id AND record_key IN (:keys)"
        most = self.tables.dialect.most
        return sum(self.tables.change(statement, sync_id=sync_id, keys=some) for some in pieces(keys, most))

    def drop_known(self, sync_id: str, keys: list[str]) -> None:
        """Delete entries that were found in this transaction.

        :raises TimeoutError: some are gone meanwhile, so the transaction has to be tried again
        """
        if 0 <= self.drop(sync_id, keys) < len(keys):
            raise TimeoutError("Entries were erased or moved at this very moment.")

    def take_over(self, sync_id: str, keys: list[str]) -> None:
        """Move entries of another ``sync_id`` here, in the transaction; an entry that is here already stays."""
        here = {key for key, _, _ in self.find(self.sync_id, keys)}
        there = [(key, fingerprint, ref) for key, fingerprint, ref in self.find(sync_id, keys)]
        moved = [entry for entry in there if entry[0] not in here]
        if moved:
            self.put(self.sync_id, moved)
        self.drop_known(sync_id, [key for key, _, _ in there])

    def remove_tombstones(self, tombstones: list[str]) -> None:
        """Delete tombstones, in the transaction."""
        gone = "DELETE FROM {state} WHERE sync_id = :sync_id AND fingerprint = '' AND record_key IN (:keys)"
        self.tables.change(gone, sync_id=self.sync_id, keys=tombstones)

    def void(self) -> None:
        """Void every fingerprint, in the transaction."""
        voided = "UPDATE {state} SET fingerprint = :void WHERE sync_id = :sync_id AND fingerprint <> ''"
        self.tables.change(voided, void=VOID.hex(), sync_id=self.sync_id)

    def header(self, sync_id: str) -> StoredHeader | None:
        """Return a header, in the transaction; ``None``: there is none."""
        query = "SELECT destination, mapping, notes FROM {header} WHERE sync_id = :sync_id"
        found = self.tables.find(query, sync_id=sync_id)
        return StoredHeader(*found[0]) if found else None

    def headers(self) -> list[tuple[Any, ...]]:
        """Return ``sync_id``, destination and notes of all other headers, in the transaction."""
        query = "SELECT sync_id, destination, notes FROM {header} WHERE sync_id <> :sync_id"
        return self.tables.find(query, sync_id=self.sync_id)

    def write_header(self, destination: Mapping[str, Any], mapping: str, notes: Mapping[str, str]) -> None:
        """Store the sync's header, in the transaction."""
        values = {
            "sync_id": self.sync_id,
            "destination": written(destination),
            "mapping": mapping,
            "notes": json.dumps(dict(notes)),
        }
        self.tables.replace("header", {name: f":{name}" for name in values}, ("sync_id",), values)

    def add_header(self, sync_id: str, header: StoredHeader) -> None:
        """Store a header where there is none, in the transaction."""
        columns = ("sync_id", *header._fields)
        marks = ", ".join(f":{name}" for name in columns)
        statement = f"INSERT INTO {{header}} ({', '.join(columns)}) VALUES ({marks})"
        self.tables.change(statement, sync_id=sync_id, **header._asdict())

    def drop_header(self, sync_id: str) -> None:
        """Delete a header, in the transaction."""
        self.tables.change("DELETE FROM {header} WHERE sync_id = :sync_id", sync_id=sync_id)

    def write_notes(self, sync_id: str, notes: Mapping[str, str]) -> None:
        """Store the notes of a header alone, in the transaction."""
        statement = "UPDATE {header} SET notes = :notes WHERE sync_id = :sync_id"
        self.tables.change(statement, rows=1, notes=json.dumps(dict(notes)), sync_id=sync_id)

    def set_destination(self, destination: Mapping[str, Any], notes: Mapping[str, str]) -> None:
        """Store the destination and the notes of the sync's header, in the transaction."""
        statement = "UPDATE {header} SET destination = :destination, notes = :notes WHERE sync_id = :sync_id"
        values = {"destination": written(destination), "notes": json.dumps(dict(notes))}
        self.tables.change(statement, rows=1, sync_id=self.sync_id, **values)


def written(destination: Mapping[str, Any]) -> str:
    """Return a destination as a header holds it."""
    return json.dumps(dict(destination), sort_keys=True)
