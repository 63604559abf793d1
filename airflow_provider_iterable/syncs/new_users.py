"""What a sync means that only creates users: who is at Iterable already is left alone, whatever the row says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import msgspec

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.references import forms, is_made, made
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, Call, Changed, Entry, Operation, Removed
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.syncs.users import UserOptions, Users


class NewUsers(Users):
    """The user sync that creates: a row is written once, if nobody is there.

    Whoever is there counts as accepted, so that they are not looked up by each run. Only of those whom an answer says
    that they were created is it remembered that the sync made them; the others are never cleared or deleted.
    """

    def __init__(self, options: UserOptions, mapper: Mapper, columns: Sequence[str]) -> None:
        super().__init__(options, mapper, columns)
        self.depends = (
            "Users whom Iterable has already are left as they are, which only the run finds out: "
            "their rows count as accepted (already_exists)."
        )
        if options.on_removed != "keep":
            self.spares = "the sync did not create the user, or cannot know whether it did"

    def _unlike(self) -> bytes:
        return b"create"

    def _calls(self) -> tuple[Call, Call, str]:
        bulk = endpoints.bulk_update_users(create_new_fields=self._options.create_new_fields)
        call = endpoints.look_up_new_user(self._options.match, _made, replace(bulk, does="create users"))
        way = f"each new row {endpoints.LOOKED_UP_FIRST}, and created in bulk if nobody is there"
        return call, call, f"{way}; a row that was accepted is not looked up again"

    def forms(self, ref: str) -> Sequence[str]:
        """Return what is remembered of somebody: who was created is remembered otherwise than who was there."""
        return forms(ref)

    def mapped(self, fields: Collection[str]) -> Collection[str]:
        """Whoever was created does not go again for any field."""
        return ()

    def changed(self, change: Changed) -> Operation:
        """A changed row says nothing, unless it is about somebody else, or it is not known whether they are there."""
        before, after = change.before, change.after
        same = not before.ref or self.identity(before.ref) == after.handles[0]
        if same and before.fingerprint not in (NEVER_EQUAL, VOID):
            entry = Entry(after.fingerprint, before.ref or self.reference(after.handles[0]))
            return Operation(after.key, Kind.CHANGED, None, b"", after.handles, entry)
        operation = self.write(Kind.CHANGED, after, self._write)
        if same and before.ref and before.fingerprint == VOID:  # a full resync takes nothing back
            return msgspec.structs.replace(operation, remember=Entry(after.fingerprint, before.ref))
        return operation

    def removed(self, change: Removed) -> Operation:
        """A row that left is treated as in other modes if the sync created the user, and is forgotten otherwise."""
        if is_made(change.before.ref) and change.before.fingerprint != NEVER_EQUAL:
            return super().removed(change)
        identity = self.identity(change.before.ref)
        return Operation(change.key, Kind.REMOVED, None, b"", (identity,), None)


def _made(operation: Operation) -> Operation:
    """Return the operation of somebody who is not there, to be remembered as made by the sync."""
    assert operation.remember is not None
    entry = Entry(operation.remember.fingerprint, made(operation.remember.ref))
    return msgspec.structs.replace(operation, remember=entry)
