"""What a list sync means: members subscribed and unsubscribed; knows neither SQL nor Airflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import Call, Invalid, Operation, Records, Removed, Row
from airflow_provider_iterable.mapping import Mapper, key_texts
from airflow_provider_iterable.syncs.chunk import encode
from airflow_provider_iterable.syncs.identity import CHECKS, FIELD_NAMES, Match
from airflow_provider_iterable.syncs.row_names import RowNames
from airflow_provider_iterable.syncs.users import UserOptions, Users


@dataclass(frozen=True)
class ListOptions:
    """How members are synced: parameters of ``IterableListOperator``, and what the connection says.

    :param match: the identifier that selects the profile
    :param project_type: ``"email"``, ``"user_id"``, ``"hybrid"``, or ``None`` where the connection does not say it
    """

    match: Match
    primary_key: tuple[str, ...] = ()
    email_column: str | None = None
    user_id_column: str | None = None
    project_type: str | None = None
    update_existing_users_only: bool = False
    salvage: bool = False


class Lists(Users):
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
    collapses = True

    def __init__(
        self, options: ListOptions, mapper: Mapper, columns: Sequence[str], target: endpoints.MailingList
    ) -> None:
        self.target = target
        identifier = (options.email_column if options.match == "email" else options.user_id_column) or ""
        super().__init__(_as_users(options, identifier), mapper, columns)
        self.recipe = None  # the worker compares members, and looks at each
        self.keys = self._identifiers
        self._row_names = RowNames(columns, options.primary_key, (options.email_column, options.user_id_column))
        subscribe, self.way = _subscribing(options, target)
        self._write = self._write_known = subscribe
        self._unsubscribe = endpoints.unsubscribe_from_list(target)

    def _identifiers(self, rows: Sequence[Row]) -> Sequence[str | Invalid]:
        """Name the rows by the identifier that goes into the call."""
        column = [row[self._identifier] for row in rows]
        identifiers = CHECKS[self._kind][0](column)
        return key_texts([identifiers]) or [
            self._row_names.refused(row, self._kind, value) if identifier is None else encode([identifier]).decode()
            for row, value, identifier in zip(rows, column, identifiers, strict=True)
        ]

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: one identifier on top, the other one and all fields in ``dataFields``."""
        return self._row_names.named(super().records(keys, rows, fingerprints), rows)

    def ranks(self, rows: Sequence[Row]) -> Sequence[str]:
        """The greatest primary key speaks for a member, then the greatest body: never the order of the rows."""
        bodies = super().records([""] * len(rows), rows).bodies
        return [f"{name}\n{body.decode()}" for name, body in zip(self._row_names.texts(rows), bodies, strict=True)]

    def removed(self, change: Removed) -> Operation:
        """A member who left the model is unsubscribed from the list, never from its channel."""
        (identifier,) = msgspec.json.decode(change.key, type=tuple[str])
        body = encode({FIELD_NAMES[self._kind]: identifier})
        return Operation(change.key, Kind.REMOVED, self._unsubscribe, body, ((self._kind, identifier),), None)


def _as_users(options: ListOptions, identifier: str) -> UserOptions:
    return UserOptions(
        primary_key=options.primary_key or (identifier,),
        match=options.match,
        email_column=options.email_column,
        user_id_column=options.user_id_column,
        mode="update" if options.update_existing_users_only else "upsert",
        project_type=options.project_type,
        salvage=options.salvage,
    )


def _subscribing(options: ListOptions, target: endpoints.MailingList) -> tuple[Call, str]:
    """Return the call that puts somebody on the list, and the way in words.

    Iterable does not document how it reports users whom ``updateExistingUsersOnly`` skipped, and takes the flag only
    in projects that are not email-based. A user who would be skipped silently would be remembered as a member, so
    users are looked up.
    """
    if not options.update_existing_users_only:
        return endpoints.subscribe_to_list(target), "bulk subscribe, which creates unknown users"
    if options.match == "user_id" and options.project_type == "email":
        return (
            endpoints.subscribe_to_list(target),
            "bulk subscribe with preferUserId off, which never creates a user in an email-based project",
        )
    return (
        endpoints.look_up_user(options.match, endpoints.subscribe_to_list(target, existing_only=True)),
        f"each new or changed member {endpoints.LOOKED_UP_FIRST}, for unknown users are to be skipped",
    )
