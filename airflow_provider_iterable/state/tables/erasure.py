"""Erases people from the state tables: entries of other syncs about them become tombstones.

A tombstone is an entry without a fingerprint, whose key and reference are SHA-256. It keeps the row, which may be in
the model for long, from going to Iterable again, and does not show whose row it was.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_iterable.engine.doubt import in_doubt, with_receipts
from airflow_provider_iterable.engine.references import forms
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, NO_INTENTS, Entry, Intents, Patch
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables.audit import AUDIT, PERSON_INDEXES
from airflow_provider_iterable.state.tables.connection import COMMIT_PATIENCE, encode
from airflow_provider_iterable.state.tables.entries import STATE
from airflow_provider_iterable.state.tables.layout import Layout
from airflow_provider_iterable.state.tables.lease import SECONDS
from airflow_provider_iterable.state.tables.session import TableSession

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

ERASURE = Layout("erasure", {}, (*PERSON_INDEXES, ("{index}", "state", "ref")))
"""Adds the indexes by which rows about a person are found."""


class ErasingSession(TableSession):
    """The state of a privacy sync: what it commits about a person is done to all entries about them.

    The person is the reference of an entry in a patch, which is not stored.

    :param unforgets: whether tombstones are removed rather than set
    """

    layouts: ClassVar[tuple[Layout, ...]] = (STATE, AUDIT, ERASURE)
    audited: ClassVar[tuple[str, ...]] = ("{changelog}", "{snapshot}")
    """The audit tables that rows about the people leave."""

    def __init__(
        self,
        scope: Scope,
        hook: DbApiHook,
        schema: str | None = None,
        lease_seconds: float = SECONDS,
        patience: float = COMMIT_PATIENCE,
        *,
        unforgets: bool,
    ) -> None:
        self.unforgets = unforgets
        self.touched = 0
        """Entries of other syncs that became tombstones, or tombstones that were removed."""
        self._spared = ""
        """The sync whose own entries are left as they are."""
        self._refs: list[str] = []
        self._touched = 0
        super().__init__(scope, hook, schema, lease_seconds, patience)

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch, and erase the people it is about, all or nothing."""
        patch = with_receipts(patch, intents)
        named = {entry.ref for entry in patch.values() if entry is not None and entry.ref and self._erases(entry)}
        self._refs = sorted(form for ref in named for form in forms(ref))
        if self._scope.resync == "baseline":
            self._refs = []  # a baseline sends nothing, and somebody erased long ago may be a customer again
        nameless = {key: entry and self._nameless(entry) for key, entry in patch.items()}
        try:
            super().commit(nameless, Intents(intents.begun, intents.ended))
        finally:
            self._refs = []
        self.touched, self._touched = self.touched + self._touched, 0

    def _erases(self, entry: Entry) -> bool:
        """Return whether the person of a stored entry is to be erased."""
        return True

    def _nameless(self, entry: Entry) -> Entry:
        """Return what is stored of an entry."""
        return Entry(entry.fingerprint)

    def _write_with_commit(self) -> None:
        self._touched = 0
        if self._refs and self.unforgets:
            self._remove_tombstones(list(map(tombstone, self._refs)))
        elif self._refs:
            self._erase()

    def _remove_tombstones(self, refs: list[str]) -> None:
        where = " FROM {state} WHERE fingerprint = '' AND ref IN (:refs)"
        self._touched = sum(count for (count,) in self.tables.find("SELECT count(*)" + where, refs=refs))
        if self._touched:
            self.tables.change("DELETE" + where, refs=refs)

    def _delete_audited(self, where: str, **values: Any) -> None:
        """Delete rows of the audit tables."""
        for table in self.audited:
            self.tables.change(f"DELETE FROM {table} WHERE {where}", **values)

    def _erase(self) -> None:
        self._delete_audited("person IN (:people)", people=list(map(tombstone, self._refs)))
        about = "ref IN (:refs) AND fingerprint <> '' AND sync_id <> :spared"
        query = f"SELECT sync_id, record_key, ref FROM {{state}} WHERE {about}"
        entries: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for sync_id, key, ref in self.tables.find(query, refs=self._refs, spared=self._spared):
            entries[sync_id].append((key, ref))
            self._touched += 1
        for sync_id, found in entries.items():
            keys = [key for key, _ in found]
            self._delete_audited("sync_id = :sync_id AND row_id IN (:keys)", sync_id=sync_id, keys=keys)
            self._entries.drop_known(sync_id, keys)
            self._entries.put(sync_id, [(tombstone(key), "", tombstone(ref)) for key, ref in found])
        self._erase_from_intents()

    def _erase_from_intents(self) -> None:
        """Replace people in requests that killed or running syncs announced by tombstones."""
        refs = set(self._refs)
        for sync_id, number, part, text in self.tables.find("SELECT sync_id, number, part, doubts FROM {intents}"):
            doubts = json.loads(text)
            found = [(key, ref) for key, _, ref, *_ in doubts if ref in refs]
            if not found or sync_id == self._spared:
                continue
            self._touched += len(found)
            self._entries.put(sync_id, [(tombstone(key), "", tombstone(ref)) for key, ref in found])
            self.tables.change(
                "UPDATE {intents} SET doubts = :doubts WHERE sync_id = :sync_id AND number = :number AND part = :part",
                doubts=encode([doubt for doubt in doubts if doubt[2] not in refs]),
                sync_id=sync_id,
                number=number,
                part=part,
            )


class MergingSession(ErasingSession):
    """The state of a merge sync: entries of other syncs about a source become tombstones once it is merged.

    A source is no person who is to be forgotten, so the history in the audit stays, and a privacy sync finds it by the
    source's identifier. The digest of the source is kept with its entry: that somebody was merged away is known for
    ever.
    """

    audited: ClassVar[tuple[str, ...]] = ("{snapshot}",)

    def __init__(
        self,
        scope: Scope,
        hook: DbApiHook,
        schema: str | None = None,
        lease_seconds: float = SECONDS,
        patience: float = COMMIT_PATIENCE,
    ) -> None:
        super().__init__(scope, hook, schema, lease_seconds, patience, unforgets=False)
        self._spared = scope.sync_id

    def _erases(self, entry: Entry) -> bool:
        return not in_doubt(entry)

    def _nameless(self, entry: Entry) -> Entry:
        """Keep whom a pair in doubt is about: the source is to be looked up."""
        if in_doubt(entry):
            return entry
        return Entry(entry.fingerprint, tombstone(entry.ref) if entry.ref else "")

    def in_doubt(self) -> int:
        """Return how many pairs are remembered of which it is not known whether they were merged.

        :raises StateUnavailable: they could not be read
        """
        query = "SELECT count(*) FROM {state} WHERE sync_id = :sync_id AND fingerprint LIKE :doubt"
        values = {"sync_id": self._entries.sync_id, "doubt": f"{NEVER_EQUAL.hex()}%"}
        return 0 if self._none_yet else int(self._entries.read(lambda: self.tables.find(query, **values))[0][0])

    def gone(self, refs: Sequence[str]) -> tuple[set[str], set[str]]:
        """Return which of some people these tables know to be merged into others, and which to be erased.

        :raises StateUnavailable: they could not be read
        """
        if self._none_yet or not refs:
            return set(), set()
        named = {tombstone(ref): ref for ref in refs}
        query = "SELECT DISTINCT ref, CASE WHEN fingerprint = '' THEN 1 ELSE 0 END FROM {state} WHERE ref IN (:refs)"
        found = self._entries.read(lambda: self.tables.find(query, refs=list(named)))
        merged = {named[digest] for digest, erased in found if not erased}
        return merged, {named[digest] for digest, erased in found if erased} - merged
