"""What an event sync means: custom events and purchases tracked, carts updated; knows neither SQL nor Airflow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from airflow_provider_iterable.api import endpoints, field_types
from airflow_provider_iterable.api.answers import values_at
from airflow_provider_iterable.api.refusals import CART
from airflow_provider_iterable.api.values import BadValue, Renderer
from airflow_provider_iterable.columns import loaded, type_of
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.vocabulary import Call, Changed, Handle, Operation, Outcome, Records, Removed, Row
from airflow_provider_iterable.mapping import Mapper, position
from airflow_provider_iterable.syncs import items, types
from airflow_provider_iterable.syncs.chunk import Chunk, encode, namer
from airflow_provider_iterable.syncs.event_options import EventOptions
from airflow_provider_iterable.syncs.identity import FIELD_NAMES, shares_ids
from airflow_provider_iterable.syncs.names import FieldedSync, Names
from airflow_provider_iterable.syncs.sync import SentField, mapped_fields, recipe_of

DERIVED_ID = 32
"""Hexadecimal digits of an event ID that is derived from the sync and the row's key."""

_EVENT, _USER, _ITEMS = ("dataFields",), ("user", "dataFields"), ("items", "dataFields")
"""Where fields are in a body."""

_Maker = Callable[[Chunk, Sequence[Any], Sequence[Any]], Sequence[Any]]
"""Makes a member of the bodies from the rows, the users that they are about, and the IDs of the events."""


class Events(FieldedSync):
    """The event sync: a row is something that somebody did, and fires when its key first appears.

    :param options: see :class:`~airflow_provider_iterable.syncs.event_options.EventOptions`
    :param mapper: the fields of the event
    :param user_mapper: the profile fields that ride along
    :param columns: the model's columns
    :raises ModelError: a column is missing
    """

    keeps_leavers = True
    told_types = False

    def __init__(self, options: EventOptions, mapper: Mapper, user_mapper: Mapper, columns: Sequence[str]) -> None:
        self._options, self._mapper, self._user_mapper, self._columns = options, mapper, user_mapper, columns
        self.keys = namer(columns, options.primary_key)
        self._identifier = position(columns, options.identifier_column)
        mapper.bind(columns)
        user_mapper.bind(columns)
        self.mappers = (mapper,) if options.event_type == "custom" else (mapper, user_mapper)
        self.profile = None if options.event_type == "custom" else user_mapper
        self._seed = hashlib.sha256(f"{options.sync_id}\0".encode())
        self._fires_again = options.event_id_column is not None
        read = [position(columns, name) for name in options.columns]
        self.recipe = recipe_of(
            columns,
            options.primary_key,
            (self._identifier, *read, *mapper.positions, *user_mapper.positions),
            (
                replace(options, retry_unsafe=False),
                *(options.match, columns[self._identifier], options.project_type, str(options.zone)),
                *(mapper.text, user_mapper.text),
            ),
            (*mapper.json_positions, *user_mapper.json_positions),
        )
        self._names = Names(mapper)
        self._makers, constants = self._parts()
        self._body = _struct(list(self._makers), constants)
        self._write, self.way = self._calls()
        self.typed = {name.partition(".")[0] for name in user_mapper.names}
        self.sent_fields = self._fields_sent()
        self.names: set[str] = {options.event_name or ""} if options.event_name_column is None else set()
        """Names of the events of the run, as far as they were seen; purchases and carts have none."""
        self.known: dict[str, dict[str, str]] = {}
        """Names of events that were sent before, with the types that Iterable told of their fields, by path."""
        self._grows_by_names = False
        self._learned: dict[str, types.Checked] = {}

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

    def _parts(self) -> tuple[dict[str, _Maker], dict[str, Any]]:
        """Return what makes the members of a body, a column at a time, and the members that are always the same."""
        options = self._options
        makers: dict[str, _Maker] = {}
        constants: dict[str, Any] = {}
        if options.event_type == "custom":
            makers[FIELD_NAMES[options.match]] = lambda chunk, users, ids: users
            if options.event_name is not None:
                constants["eventName"] = options.event_name
            if options.create_new_fields is not None:
                constants["createNewFields"] = options.create_new_fields
        else:
            makers["user"] = self._user()
        if options.identified:
            makers["id"] = lambda chunk, users, ids: ids
        zone, render, short = options.zone, Renderer(options.zone), options.event_type == "purchase"
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
        if options.event_name_column is not None:
            makers["eventName"] = self._noting_names(makers["eventName"])
        if options.event_type != "cart":
            makers["dataFields"] = lambda chunk, users, ids: self._mapper.payloads(chunk.columns, chunk.refuse_value)
        return makers, constants

    def _fields_sent(self) -> list[SentField]:
        """Return what the bodies carry: members of the request, then fields of the event and of its user."""
        options = self._options
        name = FIELD_NAMES[options.match]
        person = (name,) if options.event_type == "custom" else ("user", name)
        named = {
            "eventName": options.event_name_column,
            "id": options.event_id_column,
            "createdAt": options.timestamp_column,
            "items": options.items_column,
            "total": options.total_column,
            "campaignId": options.campaign_id_column,
            "templateId": options.template_id_column,
        }
        found = [SentField(name, person, self._columns[self._identifier])]
        found += [
            SentField(member, (member,), column)
            for member, column in named.items()
            if column is not None or (member == "eventName" and options.event_name is not None)
        ]
        if options.event_type != "cart":
            found += mapped_fields(self._mapper, "event", *_EVENT)
        if options.event_type != "custom":
            found += mapped_fields(self._user_mapper, "profile", *_USER)
        return found

    def _noting_names(self, make: _Maker) -> _Maker:
        def made(*chunk: Any) -> Sequence[Any]:
            found = make(*chunk)
            self.names.update(name for name in set(found) if name is not None)
            return found

        return made

    def _converted(self, column: str, convert: Callable[[Any], Any]) -> Callable[..., list[Any]]:
        """Return what converts the values of a column, and refuses the rows whose values cannot be."""
        number = position(self._columns, column)
        load = type_of(self._columns, number).load

        def converted(chunk: Chunk, *_: Any) -> list[Any]:
            try:
                return list(map(convert, loaded(chunk.columns[number], load)))
            except BadValue:
                found: list[Any] = []
                for row, value in enumerate(chunk.columns[number]):
                    try:
                        found.extend(map(convert, loaded([value], load)))
                    except BadValue as error:
                        chunk.refuse(row, Reason.INVALID_EVENT, f"column {column}: {error}")
                        found.append(None)
                return found

        return converted

    def _user(self) -> _Maker:
        """Return what makes the users of purchases and carts, which are written along with them."""
        options, mapper = self._options, self._user_mapper
        flags = {}
        if mapper.nests:
            flags["mergeNestedObjects"] = True
        if shares_ids(options.match, options.project_type):
            flags["preferUserId"] = True
        if options.create_new_fields is not None:
            flags["createNewFields"] = options.create_new_fields
        user = _struct([FIELD_NAMES[options.match], *(["dataFields"] if mapper.names else [])], flags)

        def made(chunk: Chunk, users: Sequence[Any], ids: Sequence[Any]) -> Sequence[Any]:
            fields = [mapper.payloads(chunk.columns, chunk.refuse_value)] if mapper.names else []
            return list(map(user, users, *fields))

        return made

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: one identifier on top or in the user, and nothing of the other one."""
        chunk = Chunk(keys, rows, fingerprints)
        ids: Sequence[Any] = keys
        if self._options.event_type == "cart":
            users: Sequence[Any] = chunk.identify(self._options.match, self._identifier)
        else:
            users = chunk.identify_user_only(self._options.match, self._identifier)
            ids = self._ids(chunk)
            chunk.name("event", ids, Reason.INVALID_EVENT)
        return chunk.records(map(self._body, *(make(chunk, users, ids) for make in self._makers.values())))

    def _ids(self, chunk: Chunk) -> Sequence[str | None]:
        """Return what the events are called: their IDs, or, where none is sent, their keys."""
        options = self._options
        if options.event_id_column is not None:
            check = items.event_id if options.event_type == "custom" else items.purchase_id
            return self._converted(options.event_id_column, check)(chunk)
        return list(map(self._derived, chunk.keys)) if options.derive_ids else chunk.keys

    def _derived(self, key: str) -> str:
        digest = self._seed.copy()
        digest.update(key.encode())
        return digest.hexdigest()[:DERIVED_ID]

    @property
    def identity_column(self) -> str | None:
        """That of the events' IDs; carts are their users'."""
        return super().identity_column if self._options.event_type == "cart" else self._options.event_id_column

    def reference(self, identity: Handle) -> str:
        """Return what is remembered of an event: nothing where a row's identity cannot be another's."""
        return super().reference(identity) if self._fires_again else ""

    def changed(self, change: Changed) -> Operation:
        """A changed row fires again where an ID is mapped, for then it overwrites."""
        return self.write(Kind.CHANGED, change.after, self._write if self._fires_again else None)

    def removed(self, change: Removed) -> Operation:
        """A row that left is remembered, so that it does not fire again; nothing is called."""
        return Operation(change.key, Kind.REMOVED, None, b"", (self.identity(change.before.ref),), change.before)

    def carried(self, body: bytes, names: frozenset[str]) -> Collection[str]:
        """Return the mapped fields that the names are about, of which an event has values.

        Answers about purchases and carts name no fields. Events of each name have fields of their own: where their
        names are in a column, a field is named with the event's name before it, as an answer may do.
        """
        if self._options.event_type != "custom":
            return ()
        event = msgspec.json.decode(body)
        before = f"{event['eventName']}."
        found = self._names.carried(event["dataFields"], frozenset(name.removeprefix(before) for name in names))
        return found if self._options.event_name_column is None else [before + field for field in found]

    def readings(self, field: str) -> Sequence[str]:
        """Return what the name of a field may be; where an event's name stands before it, that may have dots."""
        if self._options.event_name_column is None:
            return [field]
        return [field[end + 1 :] for end, sign in enumerate(field) if sign == "."]

    def fields_of(self, body: Any) -> dict[str, Any]:
        """Return all of it: the event's fields, the items and the user's fields have types."""
        fields: dict[str, Any] = body
        return fields

    def learn_types(self, found: Mapping[str, str]) -> None:
        """Take the types of profile fields: the user's fields are some, and so are the items of a cart.

        :param found: dotted name to type, as Iterable answers
        """
        super().learn_types(found)
        checked = [(name, [*_USER, *path], kind) for name, path, kind in self.checked_fields]
        if self._options.event_type == "cart":
            own = ((name.removeprefix(f"{CART}."), kind) for name, kind in found.items() if name.startswith(f"{CART}."))
            checked += [(f"items.{name}", ["items", *name.split(".")], kind) for name, kind in own]
        self.checked_fields = checked

    def take_up(self, known: Mapping[str, Mapping[str, str]], user: Collection[Sequence[str]]) -> None:
        """Take what earlier runs learned, and what of the user's fields is not known.

        :param known: by the name of an event: the types of its fields, by path
        :param user: fields of the user whose types nothing tells
        """
        self.known = {name: dict(found) for name, found in known.items()}
        self._learned = {name: _checked(found) for name, found in known.items() if found}
        self._grows_by_names = not self.names <= self.known.keys()
        own = {name.partition(".")[0] for name in self._mapper.names}
        fresh = [[*_EVENT, name] for name in sorted(self.fresh_tops) if name in own]
        self.unproven = [*fresh, *([*_USER, *path] for path in user)]

    @property
    def grows(self) -> bool:
        """Whether there are fields, or names of events, that were not sent before."""
        return bool(self.unproven) or self._grows_by_names

    def traits(self, operation: Operation) -> frozenset[types.Trait]:
        """Return what Iterable may refuse: of events whose name was not sent before, that is all."""
        body = msgspec.json.decode(operation.body)
        name = body.get("eventName", "")
        paths = self.unproven if name in self.known else [*self.unproven, _EVENT, _ITEMS]
        return types.traits(body, paths, name)

    def learn(self, operations: Sequence[Operation], found: Mapping[str, str]) -> None:
        """Take the types of fields that Iterable told when it refused values; those of each event name are its own."""
        for operation in operations:
            body = msgspec.json.decode(operation.body)
            name = body.get("eventName", "")
            known = self.known.setdefault(name, {})
            for field, kind in found.items():
                path = _refused(body, field, kind)
                if path is not None and path not in known:
                    known[path] = kind
                    self._learned[name] = _checked(known)

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Look at values where a type is known."""
        return self.inspect(operation) if self.checked_fields or self._learned else operation

    def faults(self, fields: dict[str, Any]) -> tuple[dict[str, str], bool, Reason]:
        """Compare values with the types that are known of profile fields, and of the fields of events of this name."""
        checked = [*self.checked_fields, *self._learned.get(fields.get("eventName", ""), ())]
        return *types.check(fields, checked), Reason.TYPE_MISMATCH

    def salvage(self, operation: Operation, fields: Collection[str], detail: str) -> Operation | None:
        """Return the operation with its values converted, where what was learned since makes that possible."""
        body = msgspec.json.decode(operation.body)
        wrong, converted, _ = self.faults(body)
        return msgspec.structs.replace(operation, body=encode(body)) if converted and not wrong else None


def _checked(found: Mapping[str, str]) -> types.Checked:
    """Return what is to be looked at; fields of the event are called as they are mapped."""
    return [(path.removeprefix("dataFields."), path.split("."), kind) for path, kind in found.items()]


def _refused(body: Any, field: str, kind: str) -> str | None:
    """Return the path to a field that was refused, which may be named behind the event's name."""
    bare = field.removeprefix(f"{body.get('eventName')}.")
    ways = [[*_EVENT, *field.split(".")], [*_EVENT, *bare.split(".")], [*_USER, *field.split(".")]]
    if field.startswith(f"{CART}."):
        ways.append(["items", *field.split(".")[1:]])
    for way in ways:
        if not all(field_types.fits(value, kind) for value in values_at(body, way)):
            return ".".join(way)
    return None


def _struct(names: Sequence[str], constants: Mapping[str, Any]) -> Any:
    return msgspec.defstruct(
        "Body",
        [*((name, Any) for name in names), *((name, Any, value) for name, value in constants.items())],
        gc=False,
    )
