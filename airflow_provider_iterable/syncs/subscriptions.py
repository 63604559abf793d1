"""What a subscription sync means: people subscribed to message types, channels or lists; knows neither SQL nor Airflow.

The key of an entry is who, what and which; its reference is the person alone, by which a privacy sync finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.api.subscriptions import Group, Subscription, WholeArrays, change_subscriptions
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Call,
    Changed,
    Invalid,
    Operation,
    Outcome,
    Record,
    Records,
    Removed,
    Row,
)
from airflow_provider_iterable.mapping import key_texts, position
from airflow_provider_iterable.syncs.chunk import FINGERPRINT_BYTES, Chunk, encode
from airflow_provider_iterable.syncs.consent import folded, lacks, reader, state_of, subscription_id
from airflow_provider_iterable.syncs.identity import CHECKS, FIELD_NAMES, Match
from airflow_provider_iterable.syncs.row_names import RowNames
from airflow_provider_iterable.syncs.sync import BaseSync, SentField

SubscriptionType = Literal["message_type", "channel", "list"]
OnRemoved = Literal["keep", "unsubscribe"]
GROUPS: Mapping[str, Group] = {"message_type": "messageType", "channel": "messageChannel", "list": "emailList"}
_NO_COLUMN = "neither consent_at_column nor consent_waived is set"


def now() -> datetime:
    """Return what time it is."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class SubscriptionOptions:
    """Who is subscribed to what: parameters of ``IterableSubscriptionOperator``, and what the connection says.

    :param match: the identifier that selects the profile
    :param identifier_column: column of that identifier
    :param zone: the zone in which date-times without one are read
    """

    match: Match
    identifier_column: str
    subscription_type: SubscriptionType
    primary_key: tuple[str, ...] = ()
    email_column: str | None = None
    user_id_column: str | None = None
    subscription_id: int | None = None
    subscription_id_column: str | None = None
    subscribed_column: str | None = None
    subscribed_words: Mapping[str, bool] | None = None
    on_removed: OnRemoved = "keep"
    exclusive: bool = False
    consent_at_column: str | None = None
    consent_waived: str | None = None
    zone: tzinfo = UTC


class Subscriptions(BaseSync):
    """The subscription sync: a row is a person's subscription to one message type, channel or list.

    :param options: see :class:`SubscriptionOptions`
    :param columns: the model's columns
    :param clock: returns what time it is, before which consent has to lie
    :raises ModelError: a column is missing
    """

    exclusive = False
    plural = True
    removals_first = True
    collapses = True

    def __init__(
        self,
        options: SubscriptionOptions,
        columns: Sequence[str],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._clock = clock
        self._options, self._kind, self.in_turn = options, options.match, options.exclusive
        self.group = GROUPS[options.subscription_type]
        self.keys = self._subscriptions
        self._row_names = RowNames(columns, options.primary_key, (options.email_column, options.user_id_column))
        self._identifier = position(columns, options.identifier_column)
        self._number, self._numbers = _column(columns, options.subscription_id_column)
        self._subscribed, self._states = _column(columns, options.subscribed_column)
        self._consent, self._consents = _column(columns, options.consent_at_column)
        words = options.subscribed_words
        self._words = None if words is None else {folded(str(word)): meaning for word, meaning in words.items()}
        self._name = FIELD_NAMES[options.match]
        fields = [(self._name, str), (self.group, int), ("subscribed", bool)]
        self._body: Any = msgspec.defstruct("Subscribing", fields, gc=False)
        self.made_up = (encode(["a", self.group, 1]).decode(), encode(self._body("a", 1, True)))
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(self._body).decode
        self._arrays = WholeArrays(options.match, self._opt_in) if options.exclusive else None
        self._calls: dict[tuple[Subscription, bool, bool], Call] = {}
        self._policies: Mapping[int, str] | None = None
        self._known: Collection[int] | None = None
        self.way = _EXCLUSIVELY if options.exclusive else _ADDITIVELY
        self.sent_fields = [
            SentField(self._name, (self._name,), columns[self._identifier]),
            SentField(self.group, (self.group,), options.subscription_id_column),
            SentField("subscribed", ("subscribed",), options.subscribed_column),
        ]

    @property
    def most(self) -> int:
        """Most rows that one request writes."""
        whole = self._options.exclusive
        return (endpoints.USERS_BULK_SUBSCRIPTIONS if whole else endpoints.SUBSCRIPTIONS_CHANGE).max_items

    def _ids(self, rows: Sequence[Row]) -> list[int | None]:
        if self._number is None:
            return [self._options.subscription_id] * len(rows)
        return [subscription_id(value) for value in self._numbers([row[self._number] for row in rows])]

    def _subscriptions(self, rows: Sequence[Row]) -> Sequence[str | Invalid]:
        """Name the rows by who, what and which, as it goes into the call."""
        column = [row[self._identifier] for row in rows]
        people, ids = CHECKS[self._kind][0](column), self._ids(rows)
        texts = key_texts([people, [self.group] * len(rows), ids])
        return texts or [self._named(row, *named) for row, *named in zip(rows, column, people, ids, strict=True)]

    def _named(self, row: Row, value: Any, person: str | None, number: int | None) -> str | Invalid:
        if person is None:
            return self._row_names.refused(row, self._kind, value)
        if number is None:
            detail = "; ".join(filter(None, ("the ID", self._row_names.told(row))))
            return Invalid("", Reason.INVALID_SUBSCRIPTION, detail, ((self._kind, person),))
        return encode([person, self.group, number]).decode()

    def _said(self, rows: Sequence[Row]) -> tuple[list[bool | None], list[str]]:
        """Return whether each row subscribes, and what its consent lacks if so."""
        options = self._options
        states: list[bool | None] = [True] * len(rows)
        if self._subscribed is not None:
            values = self._states([row[self._subscribed] for row in rows])
            states = [state_of(value, self._words) for value in values]
        if self._consent is None:
            lacking = "" if options.consent_waived else _NO_COLUMN
            return states, [lacking if state else "" for state in states]
        moment, consents = self._clock(), self._consents([row[self._consent] for row in rows])
        found = zip(states, consents, strict=True)
        return states, [lacks(consent, options.zone, moment) if state else "" for state, consent in found]

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows; consent decides whether one is sent, and is no part of it."""
        chunk = Chunk(keys, rows, fingerprints)
        people, ids = chunk.identify(self._kind, self._identifier), self._ids(rows)
        states, lacks_of = self._said(rows)
        for number, (state, lacking) in enumerate(zip(states, lacks_of, strict=True)):
            if state is None:
                chunk.refuse(number, Reason.INVALID_SUBSCRIPTION, f"column {self._options.subscribed_column}")
            elif lacking:
                chunk.refuse(number, Reason.NO_CONSENT, lacking)
        return self._row_names.named(chunk.records(map(self._body, people, ids, states)), rows)

    def ranks(self, rows: Sequence[Row]) -> Sequence[str]:
        """One that unsubscribes counts; else one that cannot be read, then one that lacks consent."""
        found = zip(*self._said(rows), strict=True)
        return [str(2 if state is None else 3 if not state else 1 if lacking else 0) for state, lacking in found]

    def added(self, change: Added) -> Operation:
        """A new row subscribes or unsubscribes."""
        return self.write(Kind.ADDED, change.after, self._call_of(change.after))

    def changed(self, change: Changed) -> Operation:
        """A changed row subscribes or unsubscribes."""
        return self.write(Kind.CHANGED, change.after, self._call_of(change.after))

    def removed(self, change: Removed) -> Operation:
        """A row that left is forgotten, or unsubscribes; who is known to be unsubscribed is not unsubscribed again."""
        person, group, number = msgspec.json.decode(change.key, type=tuple[str, Group, int])
        kind, _ = self.identity(change.before.ref)
        about, body = Subscription(group, number), b"{}"
        call = None
        if self._options.on_removed == "unsubscribe" and kind == self._kind:
            body = encode({self._name: person, group: number, "subscribed": False})
            known = encode(self._body(person, number, False)) if group == self.group else b""
            if blake2b(known, digest_size=FINGERPRINT_BYTES).digest() != change.before.fingerprint:
                call = self._call(about, wanted=False, removal=True)
        return Operation(change.key, Kind.REMOVED, call, body, ((kind or self._kind, person),), None)

    def _call_of(self, record: Record) -> Call:
        body = self._decode(record.body)
        return self._call(Subscription(self.group, getattr(body, self.group)), wanted=body.subscribed)

    def _call(self, about: Subscription, *, wanted: bool, removal: bool = False) -> Call:
        """Return the call for one thing, one direction, and rows that are there or have left."""
        known = (about, wanted, removal)
        if known not in self._calls:
            self._calls[known] = (
                change_subscriptions(self._kind, about, wanted=wanted)
                if self._arrays is None
                else self._arrays.change(about, wanted=wanted)
            )
        return self._calls[known]

    def _opt_in(self, number: int) -> bool | None:
        """Return whether a message type takes who joins it, rather than all who do not leave it."""
        policy = (self._policies or {}).get(number, "")
        return folded(policy) != "optout" if policy else None

    def learn_groups(self, found: Mapping[int, str]) -> None:
        """Take which message types or channels there are.

        :param found: by ID, the policy of a message type, empty where it is not told
        """
        self._policies = found if self.group == "messageType" else None
        self._known = found.keys()

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Reject what Iterable does not have, and what nobody but the person can subscribe to."""
        number = msgspec.json.decode(operation.key)[2]
        detail = self._complaint(number, operation)
        if not detail:
            return operation
        reason = Reason.UNKNOWN_SUBSCRIPTION
        return Outcome(operation.key, operation.kind, Fate.REJECTED, reason, detail, operation)

    def _complaint(self, number: int, operation: Operation) -> str:
        if self._known is None:
            return ""
        what = self._options.subscription_type.replace("_", " ")
        if number not in self._known:
            return f"there is no {what} {number}"
        policy = (self._policies or {}).get(number, "")
        if operation.call is not None and operation.call.subscribes and "double" in folded(policy):
            return f"{what} {number} has a double opt-in"
        if self._options.exclusive and self._policies is not None and not policy:
            return f"Iterable does not say whether {what} {number} is opt-in or opt-out"
        return ""


def folded_key(match: str, group: str, number: int | None, parts: Sequence[Any]) -> list[Any] | None:
    """Return the parts of a key as the state has it, of what somebody calls it; ``None``: they are none.

    :param number: the ID that all rows have; ``None``: each has its own
    """
    (person,) = CHECKS[match][0](parts[:1])
    rest = list(parts[1:]) or [group, number]
    return [person, *rest] if person is not None and None not in rest else None


_ADDITIVELY = (
    "each subscription is added or taken away by itself, up to 1000 people a request, and Iterable reports nothing "
    "about single people; exclusive=True would do without the Subscriptions API, which Iterable has to enable, and "
    f"each row {endpoints.LOOKED_UP_FIRST} there"
)
_EXCLUSIVELY = (
    f"each row {endpoints.LOOKED_UP_FIRST}, and the person's arrays are replaced as they were read but for that one "
    "subscription; without exclusive=True no look-up is needed, if Iterable has enabled the Subscriptions API"
)


def _column(columns: Sequence[str], name: str | None) -> tuple[int | None, Callable[[Sequence[Any]], Sequence[Any]]]:
    """Return where a column stands and what reads it; nothing where there is none."""
    if name is None:
        return None, list
    number = position(columns, name)
    return number, reader(columns, number)
