"""What a change of email address means: a profile moves to another address; knows neither SQL nor Airflow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_provider_iterable.api import endpoints, values
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Call,
    Changed,
    Handle,
    Operation,
    Records,
    Removed,
    Row,
)
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import position
from airflow_provider_iterable.syncs.chunk import Chunk, namer
from airflow_provider_iterable.syncs.identity import FIELD_NAMES, Match
from airflow_provider_iterable.syncs.sync import BaseSync, SentField, recipe_of

FIRES_ONCE = 'mode="change_email" matched by email fires once for each key'
"""Why changes that are matched by email must not be repeated."""


@dataclass(frozen=True)
class EmailChangeOptions:
    """How addresses are changed: parameters of ``IterableUserSyncOperator``, and what the connection says.

    :param match: the identifier that selects the profile: the current address, or the user ID
    :param identifier_column: column of that identifier
    :param project_type: ``"email"``, ``"user_id"``, ``"hybrid"``, or ``None`` where the connection does not say it
    :param update_only: whether the account has Iterable's ``updateOnly`` switch
    """

    primary_key: tuple[str, ...]
    match: Match
    identifier_column: str
    new_email_column: str
    project_type: str | None
    update_only: bool = False


class ChangeEmail(BaseSync):
    """The sync of email changes: a row is a profile's move to another address.

    Matched by the current address, a row fires once: the address it is about is gone afterwards, so nothing that
    the row says later could be about the same profile. Matched by user ID, a changed row is another move.

    :param options: see :class:`EmailChangeOptions`
    :param columns: the model's columns
    :raises ModelError: a column is missing
    :raises ConfigurationError: the connection does not say the project type
    """

    def __init__(self, options: EmailChangeOptions, columns: Sequence[str]) -> None:
        if options.project_type is None:
            raise ConfigurationError(
                'mode="change_email" needs the project type, and the connection does not say it. An email-based '
                "project has a call of its own for it, and might take the call of the other types without an error and "
                "without a change. Nothing was sent. Set project_type in the connection."
            )
        self.keeps_leavers = options.match == "email"
        self.keys = namer(columns, options.primary_key)
        self._match = options.match
        self._identifier = position(columns, options.identifier_column)
        self._new_email = position(columns, options.new_email_column)
        read = (self._identifier, self._new_email)
        said = (options.match, *(columns[number] for number in read), options.project_type)
        self.recipe = recipe_of(columns, options.primary_key, read, said)
        self._payload: Any
        self._call: Call
        if options.project_type == "email":
            current = "currentEmail" if options.match == "email" else "currentUserId"
            self._payload = msgspec.defstruct("Move", [current, "newEmail"], gc=False)
            former, new = SentField(current, (current,), said[1]), SentField("newEmail", ("newEmail",), said[2])
            self._call, self.way = endpoints.update_email(options.match), "one request for each change"
        else:
            fields: Any = msgspec.defstruct("Fields", ["email"], gc=False)
            profile: Any = msgspec.defstruct("Profile", [FIELD_NAMES[options.match], "dataFields"], gc=False)
            self._payload = lambda identifier, email: profile(identifier, fields(email))
            name = FIELD_NAMES[options.match]
            former, new = SentField(name, (name,), said[1]), SentField("email", ("dataFields", "email"), said[2])
            self._call, self.way = _in_bulk(options)
        self.sent_fields = [former, new]

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: the identifier that selects the profile, and the new address; nothing else is sent."""
        chunk = Chunk(keys, rows, fingerprints)
        identifiers = chunk.identify(self._match, self._identifier)
        for number, email in enumerate(values.emails(chunk.columns[self._new_email])):
            if email is None:
                chunk.refuse(number, Reason.INVALID_EMAIL, "the new address")
        emails = chunk.add_identifier("email", self._new_email)
        return chunk.records(map(self._payload, identifiers, emails))

    def reference(self, identity: Handle) -> str:
        """Return what is remembered of the person: nothing where the address is one of the past."""
        return "" if self.keeps_leavers else super().reference(identity)

    def added(self, change: Added) -> Operation:
        """A new row moves the profile; one whose addresses are the same says nothing until they differ."""
        current, new = change.after.handles[0], change.after.handles[-1]
        if current == new:
            return Operation(change.after.key, Kind.ADDED, None, b"", change.after.handles, None)
        return self.write(Kind.ADDED, change.after, self._call)

    def changed(self, change: Changed) -> Operation:
        """A changed row moves the profile again where the user ID says which it is."""
        return self.write(Kind.CHANGED, change.after, None if self.keeps_leavers else self._call)

    def removed(self, change: Removed) -> Operation:
        """A row that left says nothing about the profile."""
        remember = change.before if self.keeps_leavers else None
        return Operation(change.key, Kind.REMOVED, None, b"", (self.identity(change.before.ref),), remember)

    def salvage(self, operation: Operation, fields: Collection[str], detail: str) -> Operation | None:
        """Return the operation without the address nobody has: what is left is whether somebody has the new one."""
        return msgspec.structs.replace(operation, handles=operation.handles[1:])


def _in_bulk(options: EmailChangeOptions) -> tuple[Call, str]:
    """Return the quickest bulk call that creates nobody, and the way in words.

    By user ID, a change may go twice, and whom Iterable skips never had the ID. By email, somebody who is skipped may
    have moved already, which only look-ups tell.
    """
    looked_up = f"each user {endpoints.LOOKED_UP_FIRST}, then changed in bulk"
    if options.match == "email":
        return endpoints.bulk_change_email("email"), looked_up
    if options.update_only:
        return endpoints.bulk_change_email("user_id", update_only=True), "bulk update with updateOnly"
    faster = f"; faster ({endpoints.BULK_PACE}) with Iterable's updateOnly switch and update_only in the connection"
    return endpoints.bulk_change_email("user_id"), looked_up + faster
