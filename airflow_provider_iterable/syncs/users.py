"""What a user sync means: profiles upserted, updated, cleared or deleted; knows neither SQL nor Airflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.objects import nest
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Call,
    Changed,
    Operation,
    Outcome,
    Records,
    Removed,
    Row,
)
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Mapper, position
from airflow_provider_iterable.syncs import only_if_empty
from airflow_provider_iterable.syncs.chunk import Chunk, encode, namer
from airflow_provider_iterable.syncs.identity import FIELD_NAMES, Match, check_deletes, shares_ids
from airflow_provider_iterable.syncs.names import FieldedSync, Names, check_depth
from airflow_provider_iterable.syncs.sync import SentField, mapped_fields, recipe_of

Mode = Literal["upsert", "update", "create"]
OnRemoved = Literal["keep", "clear", "delete"]
Recheck = Literal["always", "never"]


@dataclass(frozen=True)
class UserOptions:
    """How users are synced: parameters of ``IterableUserSyncOperator``, and what the connection says.

    :param match: the identifier that selects the profile
    :param project_type: ``"email"``, ``"user_id"``, ``"hybrid"``, or ``None`` where the connection does not say it
    :param update_only: whether the account has Iterable's ``updateOnly`` switch
    """

    primary_key: tuple[str, ...]
    match: Match
    email_column: str | None = None
    user_id_column: str | None = None
    mode: Mode = "upsert"
    on_removed: OnRemoved = "keep"
    project_type: str | None = None
    update_only: bool = False
    merge_nested_objects: bool | None = None
    create_new_fields: bool | None = None
    recheck_known_users: Recheck = "always"
    allow_shared_user_id: bool = False
    salvage: bool = False


class Users(FieldedSync):
    """The user sync: a row is a profile.

    :param options: see :class:`UserOptions`
    :param mapper: the profile fields
    :param columns: the model's columns
    :raises ModelError: a column is missing
    :raises ConfigurationError: the options contradict each other or the project type
    """

    def __init__(self, options: UserOptions, mapper: Mapper, columns: Sequence[str]) -> None:
        if options.on_removed == "delete":
            shared = options.allow_shared_user_id
            check_deletes('on_removed="delete"', options.match, options.project_type, shared)
        self._options, self._mapper = options, mapper
        self.profile, self.mappers = mapper, (mapper,)
        self.keys = namer(columns, options.primary_key)
        mapped: dict[Match, str | None] = {"email": options.email_column, "user_id": options.user_id_column}
        self._kind = options.match
        self._identifier = position(columns, mapped[options.match] or "")
        self._name = FIELD_NAMES[options.match]
        other: Match = "user_id" if options.match == "email" else "email"
        other_column = mapped[other]
        mapper.bind(columns, () if other_column is None else (FIELD_NAMES[other],))
        _check_identifiers(mapper, mapped)
        self._spared = mapper.only_if_empty
        only_if_empty.check(self._spared, options.mode, options.merge_nested_objects, options.recheck_known_users)
        if options.merge_nested_objects is not False:
            check_depth(mapper.names, "field", ", or set merge_nested_objects=False to replace whole objects")
        self._other = None if other_column is None else (other, position(columns, other_column))
        self._flags = self._body_flags()
        self._profile: Any = msgspec.defstruct(
            "Profile",
            [self._name, "dataFields", *((name, bool, value) for name, value in self._flags.items())],
            gc=False,
        )
        read = [self._identifier, *mapper.positions, *([] if self._other is None else [self._other[1]])]
        said: tuple[Any, ...] = (self._kind, columns[self._identifier], other_column, self._flags, mapper.text)
        self._salt = self._unlike()
        said = (*said, self._salt) if self._salt else said
        self.recipe = recipe_of(columns, options.primary_key, read, said, mapper.json_positions)
        self._names = Names(mapper)
        self._write, self._write_known, self.way = self._calls()
        self._clear, self._delete = self._removal_calls()
        if self._spared:
            self.depends = (
                f"Only profiles without them get the fields {', '.join(self._spared)}, which only the run finds out."
            )
        self.salvages = options.salvage
        self.typed = {name.partition(".")[0] for name in mapper.names}.difference(FIELD_NAMES.values())
        self.sent_fields = [SentField(self._name, (self._name,), columns[self._identifier])]
        if self._other is not None:
            name, number = FIELD_NAMES[self._other[0]], self._other[1]
            self.sent_fields.append(SentField(name, ("dataFields", name), columns[number]))
        self.sent_fields += mapped_fields(mapper, "profile", "dataFields")

    def _unlike(self) -> bytes:
        """Return what has rows go again without being sent, when it changes; empty: nothing."""
        return encode(self._spared) if self._spared else b""

    def _body_flags(self) -> dict[str, bool]:
        options, flags = self._options, {}
        merge = options.merge_nested_objects
        if self._mapper.nests if merge is None else merge:
            flags["mergeNestedObjects"] = True
        if shares_ids(options.match, options.project_type):
            flags["preferUserId"] = options.mode != "update"
        return flags

    def _calls(self) -> tuple[Call, Call, str]:
        """Return the call for users in general, the one for users that state knows, and the way in words."""
        options = self._options
        bulk = endpoints.bulk_update_users(create_new_fields=options.create_new_fields)
        if self._spared:
            return self._sparing(bulk)
        if options.mode == "upsert":
            return bulk, bulk, "bulk upsert"
        cautious, way = self._existing_only("update users")
        if cautious.then is not None and options.recheck_known_users == "never":
            return (
                cautious,
                replace(bulk, does="update users"),
                way + "; users known to the state are not looked up again",
            )
        return cautious, cautious, way

    def _sparing(self, bulk: Call) -> tuple[Call, Call, str]:
        """Return the call that leaves alone what a profile has, for users in general and known ones, and the way."""
        creates, faster = self._options.mode == "upsert", f"; faster without it, up to {endpoints.BULK_PACE}"
        if not creates:
            found, _ = self._existing_only("update users")
            bulk, faster = (found, faster) if found.then is None else (found.then, "")
        spare = only_if_empty.sparing(self._spared)
        call = endpoints.look_up_profile(self._options.match, spare, bulk, creates=creates)
        fields = ", ".join(self._spared)
        return call, call, f"each user {endpoints.LOOKED_UP_FIRST}, for only_if_empty ({fields}){faster}"

    def _existing_only(self, does: str) -> tuple[Call, str]:
        """Return the quickest call that never creates a user, and the way in words.

        :param does: what the call does, in words
        """
        options = self._options
        bulk = replace(endpoints.bulk_update_users(create_new_fields=options.create_new_fields), does=does)
        if options.match == "user_id" and options.project_type == "email":
            return (
                bulk,
                "bulk update with preferUserId off, which never creates a user in an email-based project",
            )
        if options.update_only:
            only = endpoints.bulk_update_users(create_new_fields=options.create_new_fields, update_only=True)
            return replace(only, does=does), "bulk update with updateOnly"
        return (
            endpoints.look_up_user(options.match, bulk),
            f"each user {endpoints.LOOKED_UP_FIRST}; faster with Iterable's updateOnly switch and update_only "
            'in the connection, or with recheck_known_users="never"',
        )

    def _removal_calls(self) -> tuple[Call | None, Call | None]:
        options = self._options
        if options.on_removed == "clear":
            return self._existing_only("clear fields")[0], None
        if options.on_removed == "delete":
            return None, endpoints.delete_user(options.match)
        return None, None

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: one identifier on top, the other one and all fields in ``dataFields``."""
        chunk = Chunk(keys, rows, fingerprints)
        identifiers = chunk.identify(self._kind, self._identifier)
        others = [] if self._other is None else [chunk.add_identifier(*self._other)]
        fields = self._mapper.payloads(chunk.columns, chunk.refuse_value, others)
        salts = [self._salt] * len(rows) if self._salt else None
        return chunk.records(map(self._profile, identifiers, fields), salts)

    def changed(self, change: Changed) -> Operation:
        """A changed row is written; where the identity changed, the old profile is left alone."""
        after = change.after
        known = change.before.ref == self.reference(after.handles[0])
        return self.write(Kind.CHANGED, after, self._write_known if known else self._write)

    def removed(self, change: Removed) -> Operation:
        """A row that left is kept, cleared of the mapped fields, or deleted."""
        identity = self.identity(change.before.ref)
        if identity[0] != self._kind:  # accepted when the sync matched by the other identifier, before a resync
            return Operation(change.key, Kind.REMOVED, None, b"", (identity,), None)
        body = b"{}"
        if self._clear is not None:
            ours = set(self._mapper.names).difference(FIELD_NAMES.values(), self._spared)
            leaves = {name: None for name in self._mapper.names if name in ours}
            body = encode({self._name: identity[1], "dataFields": nest(leaves), **self._clear_flags()})
        return Operation(change.key, Kind.REMOVED, self._clear or self._delete, body, (identity,), None)

    def _clear_flags(self) -> dict[str, bool]:
        flags = dict(self._flags)
        if self._mapper.nests:
            flags["mergeNestedObjects"] = True
        if "preferUserId" in flags:
            flags["preferUserId"] = False
        return flags

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Reject deletions that no request can name, and values of the wrong type."""
        if operation.kind is Kind.REMOVED and self._delete and operation.handles[0][1] in endpoints.UNADDRESSABLE:
            detail = "the request to delete the user cannot name it; delete the profile at Iterable"
            return Outcome(operation.key, operation.kind, Fate.REJECTED, Reason.INVALID_USER_ID, detail, operation)
        return super().screen(operation)


def _check_identifiers(mapper: Mapper, columns: Mapping[Match, str | None]) -> None:
    for kind, column in columns.items():
        if column is not None and FIELD_NAMES[kind] in mapper.names:
            raise ConfigurationError(
                f"The field {FIELD_NAMES[kind]!r} is mapped twice: in fields, and by {kind}_column. "
                "Leave it out of fields."
            )
