"""What an event sync means: custom events and purchases tracked, carts updated; knows neither SQL nor Airflow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from functools import partial
from typing import Any, Literal

import msgspec

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.values import BadValue, Renderer
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Call,
    Changed,
    Handle,
    Operation,
    Recipe,
    Records,
    Removed,
    Row,
)
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Fields, Mapper, position
from airflow_provider_iterable.syncs import items
from airflow_provider_iterable.syncs.chunk import Chunk, namer
from airflow_provider_iterable.syncs.identity import FIELD_NAMES, Match
from airflow_provider_iterable.syncs.names import Names, columns_of
from airflow_provider_iterable.syncs.sync import BaseSync

EventType = Literal["custom", "purchase", "cart"]

DERIVED_ID = 32
"""Hexadecimal digits of an event ID that is derived from the sync and the row's key."""

_ATTRIBUTION = ("event_id_column", "timestamp_column", "campaign_id_column", "template_id_column")
PARAMETERS: Mapping[str, Collection[str]] = {
    "custom": ("event_name", "event_name_column", *_ATTRIBUTION, "fields"),
    "purchase": ("items_column", "total_column", *_ATTRIBUTION, "fields", "user_fields"),
    "cart": ("items_column", "user_fields"),
}
"""What may be said about each type of event; the user, and what is common to all syncs, apart."""
_OPTIONAL = ("event_name", "event_name_column", *_ATTRIBUTION, "items_column", "total_column")

_RESERVED = (*FIELD_NAMES.values(), "shoppingCartItems")
"""Profile fields that a purchase or a cart writes by itself, or must not."""


@dataclass(frozen=True)
class EventOptions:
    """How events are synced.

    :param event_type: ``"custom"``, ``"purchase"`` or ``"cart"``
    :param event_name: the name of all events
    :param event_name_column: instead of it, the column of their names
    :param event_id_column: column of the ID by which Iterable knows an event or a purchase again
    :param timestamp_column: column of the time at which it happened
    :param items_column: column of the items, as JSON text or arrays
    :param total_column: column of a purchase's amount
    :param campaign_id_column: column of the campaign that it is attributed to
    :param template_id_column: column of the template that it is attributed to
    :param derive_ids: whether events get an ID from the sync and their key, where none is mapped
    :param retry_unsafe: whether events without ID go again after a lost answer
    :param create_new_fields: ``None``: as the project's setting says
    """

    event_type: EventType
    event_name: str | None = None
    event_name_column: str | None = None
    event_id_column: str | None = None
    timestamp_column: str | None = None
    items_column: str | None = None
    total_column: str | None = None
    campaign_id_column: str | None = None
    template_id_column: str | None = None
    derive_ids: bool = True
    retry_unsafe: bool = False
    create_new_fields: bool | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that these options name."""
        named = (
            self.event_name_column,
            self.event_id_column,
            self.timestamp_column,
            self.items_column,
            self.total_column,
            self.campaign_id_column,
            self.template_id_column,
        )
        return tuple(column for column in named if column is not None)

    @property
    def identified(self) -> bool:
        """Whether what is sent bears an ID, so that sending it again changes nothing."""
        return self.event_type != "cart" and (self.derive_ids or self.event_id_column is not None)


def check(options: EventOptions, maps_fields: bool, user_fields: Fields | None) -> None:
    """Refuse options that make no sense together.

    :param maps_fields: whether fields of the event are mapped
    :raises ConfigurationError: a parameter is missing, or means nothing for this type of event
    """
    given = [name for name in _OPTIONAL if getattr(options, name) is not None]
    given += ["fields"] * maps_fields + ["user_fields"] * (user_fields is not None)
    for name in given:
        if name not in PARAMETERS[options.event_type]:
            hint = " A cart has no fields of its own; user_fields go to the profile." if name == "fields" else ""
            raise ConfigurationError(f'{name} has no meaning for event_type="{options.event_type}".{hint}')
    if options.event_type == "custom":
        if (options.event_name is None) is (options.event_name_column is None):
            raise ConfigurationError('event_type="custom" needs event_name or event_name_column, one of the two')
    else:
        for name in ("items_column", "total_column"):
            if name in PARAMETERS[options.event_type] and not getattr(options, name):
                raise ConfigurationError(f'event_type="{options.event_type}" needs {name}')
    for name in user_fields or ():
        if name.partition(".")[0] in _RESERVED:
            raise ConfigurationError(f"user_fields must not name {name!r}: the call itself writes it")
        if name.count(".") > 1:
            raise ConfigurationError(
                f"The user field {name!r} is nested deeper than Iterable merges, which is one level: what stands "
                "beside it would be lost. Map its parent as Json."
            )


class Events(BaseSync):
    """The event sync: a row is something that somebody did, and fires when its key first appears.

    :param options: see :class:`EventOptions`
    :param sync_id: the sync's lasting name; IDs are derived from it
    :param primary_key: columns whose values name a row
    :param match: the identifier that selects the user
    :param identifier_column: its column
    :param project_type: ``"email"``, ``"user_id"``, ``"hybrid"``, or ``None`` when not told
    :param mapper: the fields of the event
    :param user_mapper: the profile fields that ride along
    :param columns: the model's columns
    :param zone: the zone in which times without one are read
    :raises ModelError: a column is missing
    """

    keeps_leavers = True

    def __init__(
        self,
        options: EventOptions,
        *,
        sync_id: str,
        primary_key: Sequence[str],
        match: Match,
        identifier_column: str,
        project_type: str | None,
        mapper: Mapper,
        user_mapper: Mapper,
        columns: Sequence[str],
        zone: tzinfo = UTC,
    ) -> None:
        self._options, self.match, self._mapper, self._user_mapper = options, match, mapper, user_mapper
        self.keys = namer(columns, primary_key)
        self._columns, self._zone, self._render = columns, zone, Renderer(zone)
        self._identifier = position(columns, identifier_column)
        mapper.bind(columns)
        user_mapper.bind(columns)
        own_id = options.event_id_column
        self._own_id = None if own_id is None else position(columns, own_id)
        self._seed = hashlib.sha256(f"{sync_id}\0".encode())
        self._project_type = project_type
        self.recipe: Recipe | None = self._recipe(primary_key)
        self._names = Names(mapper)
        self._makers, constants = self._parts()
        self._body = _struct(list(self._makers), constants)
        self._call, self.way = self._calls()
        self.typed = {name.partition(".")[0] for name in user_mapper.names}

    def _recipe(self, primary_key: Sequence[str]) -> Recipe:
        columns, mappers = self._columns, (self._mapper, self._user_mapper)
        read = [position(columns, name) for name in self._options.columns]
        who = (self.match, columns[self._identifier], self._project_type)
        said = (replace(self._options, retry_unsafe=False), *who, str(self._zone), *(mapper.text for mapper in mappers))
        return Recipe(
            key=tuple(position(columns, name) for name in primary_key),
            columns=(self._identifier, *read, *(number for mapper in mappers for number in mapper.positions)),
            text=repr(said),
        )

    @property
    def _fires_again(self) -> bool:
        return self._options.event_id_column is not None

    def _calls(self) -> tuple[Call, str]:
        """Return the call, and the way in words."""
        options = self._options
        if options.event_type == "cart":
            return endpoints.update_cart(), "a request for each cart; a cart fires once, when its key first appears"
        make = endpoints.track_events if options.event_type == "custom" else endpoints.track_purchase
        way = "bulk requests" if options.event_type == "custom" else "a request for each purchase"
        if options.event_id_column:
            return make(), f"{way}, with the model's IDs; a changed row overwrites what was sent"
        if options.derive_ids:
            return make(), f"{way}, with derived IDs; a row fires once, when its key first appears"
        again = "sent again, at the risk of a second one" if options.retry_unsafe else "not sent again"
        return make(repeatable=options.retry_unsafe), f"{way}, without IDs; after a lost answer an event is {again}"

    def _parts(self) -> tuple[dict[str, Callable[[_Rows], Sequence[Any]]], dict[str, Any]]:
        """Return what makes the members of a body, a column at a time, and the members that are always the same."""
        options = self._options
        makers: dict[str, Callable[[_Rows], Sequence[Any]]] = {}
        constants: dict[str, Any] = {}
        if options.event_type == "custom":
            makers[FIELD_NAMES[self.match]] = lambda rows: rows.users
            if options.event_name is not None:
                constants["eventName"] = options.event_name
            if options.create_new_fields is not None:
                constants["createNewFields"] = options.create_new_fields
        else:
            makers["user"] = self._user()
        if options.identified:
            makers["id"] = lambda rows: rows.ids
        short = options.event_type == "purchase"
        zone, render = self._zone, self._render
        for member, column, convert in (
            ("eventName", options.event_name_column, items.event_name),
            ("createdAt", options.timestamp_column, partial(items.seconds, zone=zone)),
            ("items", options.items_column, partial(items.items_of, render=render)),
            ("total", options.total_column, partial(items.number, render=render)),
            ("campaignId", options.campaign_id_column, partial(items.attribution, render=render, short=short)),
            ("templateId", options.template_id_column, partial(items.attribution, render=render, short=short)),
        ):
            if column is not None:
                makers[member] = self._converted(column, convert)
        if options.event_type != "cart":
            makers["dataFields"] = lambda rows: self._mapper.payloads(rows.chunk.columns, rows.chunk.refuse_value)
        return makers, constants

    def _converted(self, column: str, convert: Callable[[Any], Any]) -> Callable[[_Rows], Sequence[Any]]:
        number = position(self._columns, column)
        return lambda rows: _converted(rows.chunk, number, column, convert)

    def _user(self) -> Callable[[_Rows], Sequence[Any]]:
        """Return what makes the users of purchases and carts, which are written along with them."""
        options, mapper = self._options, self._user_mapper
        flags = {}
        if mapper.nests:
            flags["mergeNestedObjects"] = True
        if self.match == "user_id" and self._project_type in ("email", None):
            flags["preferUserId"] = True
        if options.create_new_fields is not None:
            flags["createNewFields"] = options.create_new_fields
        user = _struct([FIELD_NAMES[self.match], *(["dataFields"] if mapper.names else [])], flags)

        def users(rows: _Rows) -> Sequence[Any]:
            parts = [rows.users]
            if mapper.names:
                parts.append(mapper.payloads(rows.chunk.columns, rows.chunk.refuse_value))
            return list(map(user, *parts))

        return users

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: one identifier on top or in the user, and nothing of the other one."""
        chunk = Chunk(keys, rows, fingerprints)
        ids: Sequence[Any] = keys
        if self._options.event_type == "cart":
            users: Sequence[Any] = chunk.identify(self.match, self._identifier)
        else:
            users = chunk.identify_user_only(self.match, self._identifier)
            ids = self._ids(chunk)
            chunk.name("event", ids, Reason.INVALID_EVENT)
        all_of_it = _Rows(chunk, users, ids)
        return chunk.records(map(self._body, *(make(all_of_it) for make in self._makers.values())))

    def _ids(self, chunk: Chunk) -> Sequence[str | None]:
        """Return what the events are called: their IDs, or, where none is sent, their keys."""
        options = self._options
        if self._own_id is not None:
            check = items.event_id if options.event_type == "custom" else items.purchase_id
            return _converted(chunk, self._own_id, self._columns[self._own_id], check)
        return list(map(self._derived, chunk.keys)) if options.derive_ids else chunk.keys

    def _derived(self, key: str) -> str:
        digest = self._seed.copy()
        digest.update(key.encode())
        return digest.hexdigest()[:DERIVED_ID]

    def reference(self, identity: Handle) -> str:
        """Return what is remembered of an event: nothing where a row's identity cannot be another's."""
        return super().reference(identity) if self._fires_again else ""

    def added(self, change: Added) -> Operation:
        """A new row fires."""
        return self.write(Kind.ADDED, change.after, self._call)

    def changed(self, change: Changed) -> Operation:
        """A changed row fires again where an ID is mapped, for then it overwrites."""
        return self.write(Kind.CHANGED, change.after, self._call if self._fires_again else None)

    def removed(self, change: Removed) -> Operation:
        """A row that left is remembered, so that it does not fire again; nothing is called."""
        return Operation(change.key, Kind.REMOVED, None, b"", (self.identity(change.before.ref),), change.before)

    def carried(self, body: bytes, names: frozenset[str]) -> Collection[str]:
        """Return the mapped fields that the names are about, of which an event has values.

        Answers about purchases and carts tell no fields. Events of each name have fields of their own: where their
        names are in a column, a field is told with the event's name before it, as an answer may do.
        """
        if self._options.event_type != "custom":
            return ()
        event = msgspec.json.decode(body)
        before = f"{event['eventName']}."
        found = self._names.carried(event["dataFields"], frozenset(name.removeprefix(before) for name in names))
        return found if self._options.event_name_column is None else [before + field for field in found]

    def mapped(self, fields: Collection[str]) -> Collection[str]:
        """Return those of some fields that are mapped."""
        return {field for field in fields if any(map(self._names.knows, self._endings(field)))}

    def expect(self, fields: Collection[str]) -> None:
        """Have a database that compares return the unchanged rows that carry such a field."""
        endings = {ending for field in fields for ending in self._endings(field)}
        positions = {number for ending in endings for number in self._names.positions(ending)}
        if self.recipe is not None:
            self.recipe = msgspec.structs.replace(self.recipe, again=columns_of(positions, self.recipe.key))

    def _endings(self, field: str) -> Sequence[str]:
        """Return what the name of a field may be; where it is told with an event's name, that may have dots."""
        if self._options.event_name_column is None:
            return [field]
        return [field[end + 1 :] for end, sign in enumerate(field) if sign == "."]

    def fields_of(self, body: Any) -> dict[str, Any]:
        """Return the user's fields: of those of events Iterable tells no types."""
        fields: dict[str, Any] = body["user"]["dataFields"]
        return fields


@dataclass(frozen=True)
class _Rows:
    """Rows of a chunk, whom they are about, and the IDs of their events."""

    chunk: Chunk
    users: Sequence[Any]
    ids: Sequence[Any]


def _struct(names: Sequence[str], constants: Mapping[str, Any]) -> Any:
    return msgspec.defstruct(
        "Body",
        [*((name, Any) for name in names), *((name, Any, value) for name, value in constants.items())],
        gc=False,
    )


def _converted(chunk: Chunk, number: int, column: str, convert: Callable[[Any], Any]) -> list[Any]:
    """Return the values of a column, converted; a row whose value cannot be is refused."""
    values = chunk.columns[number]
    try:
        return list(map(convert, values))
    except BadValue:
        found = []
        for row, value in enumerate(values):
            try:
                found.append(convert(value))
            except BadValue as error:
                chunk.refuse(row, Reason.INVALID_EVENT, f"column {column}: {error}")
                found.append(None)
        return found
