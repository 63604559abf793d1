"""What a list sync means: members subscribed and unsubscribed; knows neither SQL nor Airflow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Call,
    Changed,
    Entry,
    Handle,
    Invalid,
    Operation,
    Outcome,
    Record,
    Records,
    Removed,
    Row,
)
from airflow_provider_iterable.mapping import Mapper, key_texts, position
from airflow_provider_iterable.masking import masked_key
from airflow_provider_iterable.syncs.chunk import encode, namer
from airflow_provider_iterable.syncs.identity import CHECKS, FIELD_NAMES, Match
from airflow_provider_iterable.syncs.users import UserOptions, Users


@dataclass(frozen=True)
class ListOptions:
    """How members are synced.

    :param match: the identifier that selects the profile
    :param primary_key: columns that name rows in reports, and whose greatest text speaks for a member; may be empty
    :param email_column: column of the email address
    :param user_id_column: column of the user ID
    :param project_type: ``"email"``, ``"user_id"``, ``"hybrid"``, or ``None`` when not told
    :param existing_only: whether users whom Iterable does not know are skipped, instead of created
    :param salvage: whether a record goes without the fields whose values have the wrong type
    """

    match: Match
    primary_key: tuple[str, ...] = ()
    email_column: str | None = None
    user_id_column: str | None = None
    project_type: str | None = None
    existing_only: bool = False
    salvage: bool = False


class Lists:
    """The list sync: an identifier is a member, whichever row says so.

    A member's profile is written as the user sync writes one; the key of its entry is the identifier.

    :param options: see :class:`ListOptions`
    :param mapper: the profile fields that ride along
    :param columns: the model's columns
    :param target: the list; its ID may still be unknown
    :raises ModelError: a column is missing
    :raises ConfigurationError: the options contradict each other or the project type
    """

    removals_first = True
    exclusive = False  # the identity is the key, so no two records share one
    keeps_leavers = False
    collapses = True

    def __init__(
        self, options: ListOptions, mapper: Mapper, columns: Sequence[str], target: endpoints.MailingList
    ) -> None:
        self.target = target
        self._kind = options.match
        identifier = (options.email_column if options.match == "email" else options.user_id_column) or ""
        self._profiles = Users(_as_users(options, identifier), mapper, columns)
        self._identifier = position(columns, identifier)
        self._row_names = namer(columns, options.primary_key) if options.primary_key else None
        self._tells_rows = not {*options.primary_key} & {options.email_column, options.user_id_column}
        self._subscribe, self.way = _subscribing(options, target)
        self._unsubscribe = endpoints.unsubscribe_from_list(target)

    def keys(self, rows: Sequence[Row]) -> Sequence[str | Invalid]:
        """Name the rows by the identifier that goes into the call."""
        column = [row[self._identifier] for row in rows]
        identifiers = CHECKS[self._kind][0](column)
        return key_texts([identifiers]) or [
            self._refused(row, value) if identifier is None else encode([identifier]).decode()
            for row, value, identifier in zip(rows, column, identifiers, strict=True)
        ]

    def _refused(self, row: Row, value: object) -> Invalid:
        blank = value is None or (isinstance(value, str) and not value.strip())
        names = () if blank else (str(value),)
        return Invalid("", Reason.NO_IDENTIFIER if blank else CHECKS[self._kind][1], self._told(row), names=names)

    def _told(self, row: Row) -> str:
        """Name a row by its primary key, where that tells nobody's identifier."""
        if self._row_names is None or not self._tells_rows:
            return ""
        (name,) = self._row_names([row])
        return f"primary key {masked_key(name)}" if isinstance(name, str) else ""

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: one identifier on top, the other one and all fields in ``dataFields``."""
        records = self._profiles.records(keys, rows, fingerprints)
        if self._row_names is not None and set(map(type, records.fingerprints)) != {bytes}:
            told = [
                msgspec.structs.replace(found, detail="; ".join(filter(None, (found.detail, self._told(row)))))
                if isinstance(found, Invalid)
                else found
                for found, row in zip(records.fingerprints, rows, strict=True)
            ]
            records = msgspec.structs.replace(records, fingerprints=told)
        return records

    def ranks(self, rows: Sequence[Row]) -> Sequence[str]:
        """The greatest primary key speaks for a member, then the greatest body: never the order of the rows."""
        names = [""] * len(rows) if self._row_names is None else self._row_names(rows)
        bodies = self._profiles.records([""] * len(rows), rows).bodies
        return [
            f"{name if isinstance(name, str) else ''}\n{body.decode()}"
            for name, body in zip(names, bodies, strict=True)
        ]

    def identity(self, ref: str) -> Handle:
        """Tell whom a remembered entry is about."""
        return self._profiles.identity(ref)

    def added(self, change: Added) -> Operation:
        """A new member is subscribed; fields ride along."""
        return self._member(Kind.ADDED, change.after)

    def changed(self, change: Changed) -> Operation:
        """A member whose fields changed is subscribed again, for they ride along."""
        return self._member(Kind.CHANGED, change.after)

    def _member(self, kind: Kind, record: Record) -> Operation:
        entry = Entry(record.fingerprint, encode(list(record.handles[0])).decode())
        return Operation(record.key, kind, self._subscribe, record.body, record.handles, entry)

    def removed(self, change: Removed) -> Operation:
        """A member who left the model is unsubscribed from the list, never from its channel."""
        (identifier,) = msgspec.json.decode(change.key, type=tuple[str])
        body = encode({FIELD_NAMES[self._kind]: identifier})
        return Operation(change.key, Kind.REMOVED, self._unsubscribe, body, ((self._kind, identifier),), None)

    def moved(self, change: Changed) -> None:
        """Does not happen: another identifier is another key."""

    def carried(self, body: bytes, names: frozenset[str]) -> Collection[str]:
        """Return the mapped fields that the names are about, of which a member's profile has values."""
        return self._profiles.carried(body, names)

    def mapped(self, fields: Collection[str]) -> Collection[str]:
        """Return those of some fields that are mapped."""
        return self._profiles.mapped(fields)

    def expect(self, fields: Collection[str]) -> None:
        """Nothing: the worker compares members, and looks at each."""

    def learn_types(self, types: Mapping[str, str]) -> None:
        """Take Iterable's field types; only those of mapped fields matter."""
        self._profiles.learn_types(types)

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Compare the values with Iterable's field types: one wrong value would fail its whole batch."""
        return self._profiles.screen(operation)

    def salvage(self, operation: Operation, fields: Collection[str], detail: str) -> Operation | None:
        """Return the operation without some fields; ``None`` when the sync is not to send incomplete records."""
        return self._profiles.salvage(operation, fields, detail)


def _as_users(options: ListOptions, identifier: str) -> UserOptions:
    return UserOptions(
        primary_key=options.primary_key or (identifier,),
        match=options.match,
        email_column=options.email_column,
        user_id_column=options.user_id_column,
        mode="update" if options.existing_only else "upsert",
        project_type=options.project_type,
        salvage=options.salvage,
    )


def _subscribing(options: ListOptions, target: endpoints.MailingList) -> tuple[Call, str]:
    """Return the call that puts somebody on the list, and the way in words.

    Iterable does not document how it reports users whom ``updateExistingUsersOnly`` skipped, and takes the flag only
    in projects that are not email-based. A user who would be skipped silently would be remembered as a member, so
    users are looked up.
    """
    if not options.existing_only:
        return endpoints.subscribe_to_list(target), "bulk subscribe, which creates unknown users"
    if options.match == "user_id" and options.project_type == "email":
        return (
            endpoints.subscribe_to_list(target),
            "bulk subscribe with preferUserId off, which never creates a user in an email-based project",
        )
    return (
        endpoints.look_up_user(options.match, endpoints.subscribe_to_list(target, existing_only=True)),
        "each new or changed member is looked up first (100 a second), for unknown users are to be skipped",
    )
