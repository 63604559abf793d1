"""People are erased from the state tables: what other syncs remember of them becomes tombstones.

A tombstone is an entry without a fingerprint, whose key and reference are SHA-256. It keeps the row, which may be in
the model for long, from going to Iterable again, and tells nobody whom it stands for.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from airflow_provider_iterable.engine.vocabulary import Entry, Patch
from airflow_provider_iterable.state.audit_tables import person_tables
from airflow_provider_iterable.state.memory import tombstone
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.table import COMMIT_PATIENCE, TableSession, TableState, encode

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

_SET = (
    "INSERT INTO {state} (sync_id, record_key, fingerprint, ref) "
    "SELECT {p}, k, f, r FROM ({rows}) AS tombstones WHERE TRUE "
    "ON CONFLICT (sync_id, record_key) DO UPDATE SET fingerprint = excluded.fingerprint, ref = excluded.ref"
)


class ErasingSession(TableSession):
    """The state of a privacy sync: what it commits about a person is done to all entries about that person.

    The references in a patch say whom; they are not stored.

    :param lifts: whether tombstones are lifted rather than set
    """

    def __init__(
        self, store: TableState, scope: Scope, hook: DbApiHook, lifts: bool, patience: float = COMMIT_PATIENCE
    ) -> None:
        self.lifts = lifts
        self.touched = 0
        """Entries of other syncs that became tombstones, or tombstones that were lifted."""
        self._refs: list[str] = []
        self._touched = 0
        self._audited = False
        super().__init__(store, scope, hook, patience)

    def commit(self, patch: Patch) -> None:
        """Store a patch, and erase the people it is about, all or nothing."""
        self._refs = sorted({entry.ref for entry in patch.values() if entry is not None and entry.ref})
        if self._scope.resync == "baseline":
            self._refs = []  # who was erased long ago may be back
        try:
            super().commit({key: entry and Entry(entry.fingerprint) for key, entry in patch.items()})
        finally:
            self._refs = []
        self.touched, self._touched = self.touched + self._touched, 0

    def _create(self) -> None:
        super()._create()
        audited = person_tables(str(self._hook.conn_type), self._dialect.indexes)
        self._audited = bool(audited)
        for statement in audited:
            self._execute(self._sql(statement))
        if self._dialect.indexes:
            self._execute(self._sql("CREATE INDEX IF NOT EXISTS {index} ON {state} (ref)"))

    def _write_along(self) -> None:
        self._touched = 0
        if self._refs and self.lifts:
            self._lift(list(map(tombstone, self._refs)))
        elif self._refs:
            self._bury()

    def _lift(self, refs: list[str]) -> None:
        where = " FROM {state} WHERE fingerprint = '' AND ref IN ({keys})"
        ((self._touched,),) = self._fetch(self._sql("SELECT count(*)" + where), (encode(refs),))
        if self._touched:
            self._execute(self._sql("DELETE" + where), (encode(refs),))

    def _strike(self, where: str, *parameters: Any) -> None:
        """Delete what the audit tables have of a person."""
        for table in ("{changelog}", "{snapshot}") if self._audited else ():
            self._execute(self._sql(f"DELETE FROM {table} WHERE {where}"), parameters)

    def _bury(self) -> None:
        self._strike("person IN ({keys})", encode(list(map(tombstone, self._refs))))
        query = self._sql("SELECT sync_id, record_key, ref FROM {state} WHERE ref IN ({keys}) AND fingerprint <> ''")
        entries: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for sync_id, key, ref in self._fetch(query, (encode(self._refs),)):
            entries[sync_id].append((key, ref))
            self._touched += 1
        for sync_id, found in entries.items():
            self._strike("sync_id = {p} AND row_id IN ({keys})", sync_id, encode([key for key, _ in found]))
            self._execute(
                self._sql("DELETE FROM {state} WHERE sync_id = {p} AND record_key IN ({keys})"),
                (sync_id, encode([key for key, _ in found])),
            )
            stones = [(tombstone(key), "", tombstone(ref)) for key, ref in found]
            self._execute(self._sql(_SET), (sync_id, encode(stones)))
