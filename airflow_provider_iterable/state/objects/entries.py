"""The entries of a sync while a run uses them: in a temporary SQLite file, which vanishes when it is closed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.state.objects.folder import Line

CACHE_KIB = 65_536
"""Memory for the file's pages."""


class Entries:
    """Keys with fingerprints and references."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    def clear(self) -> None:
        """Remove all entries."""
        self._file.execute("DROP TABLE IF EXISTS entries")
        self._file.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, fingerprint BLOB, ref TEXT) WITHOUT ROWID")

    def add(self, lines: Sequence[Line]) -> None:
        """Add entries whose keys are new.

        :raises sqlite3.IntegrityError: a key is there already
        """
        self._file.execute("BEGIN")
        self._file.executemany(
            "INSERT INTO entries VALUES (?, ?, ?)",
            ((key, bytes.fromhex(fingerprint or ""), ref) for key, fingerprint, ref in lines),
        )
        self._file.execute("COMMIT")

    def take(self, lines: Sequence[Line], void: bool) -> None:
        """Apply what a journal object holds.

        :param void: whether every earlier entry is voided first
        """
        file = self._file
        file.execute("BEGIN")
        if void:
            file.execute("UPDATE entries SET fingerprint = ?", (VOID,))
        file.executemany(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
            ((key, bytes.fromhex(digest), ref) for key, digest, ref in lines if digest is not None),
        )
        file.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key, digest, _ in lines if digest is None))
        file.execute("COMMIT")

    def fingerprints(self) -> dict[bytes, bytes]:
        """Return the fingerprints by key."""
        return dict(self._file.execute("SELECT CAST(key AS BLOB), fingerprint FROM entries"))

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys."""
        found = self._file.execute(
            "SELECT key, fingerprint, ref FROM entries WHERE key IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(keys).decode(),),
        )
        return {key: Entry(fingerprint, ref) for key, fingerprint, ref in found}

    def bearing(self, refs: Sequence[str]) -> list[str]:
        """Return the keys of entries that have one of some references."""
        query = "SELECT key FROM entries WHERE ref IN (SELECT value FROM json_each(?))"
        return [key for (key,) in self._file.execute(query, (msgspec.json.encode(refs).decode(),))]

    def __len__(self) -> int:
        ((count,),) = self._file.execute("SELECT count(*) FROM entries")
        return int(count)

    def blocks(self, size: int) -> Iterator[list[Line]]:
        """Yield all entries, so many at a time."""
        entries = self._file.execute("SELECT key, fingerprint, ref FROM entries")
        while block := entries.fetchmany(size):
            yield [(key, fingerprint.hex(), ref) for key, fingerprint, ref in block]

    def close(self) -> None:
        """Close the file, which removes it."""
        self._file.close()
