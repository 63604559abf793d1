"""What a privacy sync means: a row is a request to delete, forget or unforget somebody; knows no store and no quota.

A request fires once, when its key first appears. Keys are hashed here, so that nothing that outlives the run says whom
a request was about; the identifier itself is handed to the state once, with the entry, to be erased there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal, Self

import msgspec

from airflow_provider_iterable.api import endpoints
from airflow_provider_iterable.columns import UNKNOWN, loaded, type_of
from airflow_provider_iterable.columns import Kind as ColumnKind
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Added,
    Call,
    Changed,
    Entry,
    Invalid,
    Operation,
    Outcome,
    Records,
    Removed,
    Row,
)
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import position
from airflow_provider_iterable.syncs.chunk import Chunk, namer
from airflow_provider_iterable.syncs.identity import FIELD_NAMES, Match, check_deletes
from airflow_provider_iterable.syncs.sync import BaseSync, SentField

Action = Literal["delete", "forget", "unforget"]
Rank = tuple[int, float, str]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Rank = (2, 0.0, "")


@dataclass(frozen=True)
class PrivacyOptions:
    """What is done about whom: parameters of ``IterablePrivacyOperator``, and what the connection says.

    :param match: the identifier that selects the person
    :param identifier_column: column of that identifier
    :param zone: the zone in which date-times without one are read
    :param project_type: ``"email"``, ``"user_id"``, ``"hybrid"``, or ``None`` where the connection does not say it
    :raises ConfigurationError: the project cannot do it; the message says what to do instead
    """

    primary_key: tuple[str, ...]
    action: Action
    match: Match
    identifier_column: str
    requested_at_column: str | None = None
    max_actions: int | None = None
    zone: tzinfo = UTC
    project_type: str | None = None
    allow_shared_user_id: bool = False

    def __post_init__(self) -> None:
        if self.action == "delete":
            check_deletes('action="delete"', self.match, self.project_type, self.allow_shared_user_id)
        elif self.match == "user_id" and self.project_type == "email":
            raise ConfigurationError(
                f'action="{self.action}" takes email addresses in an email-based project. Map email_column.'
            )


class Privacy(BaseSync):
    """The privacy sync: a row is a request.

    :param options: see :class:`PrivacyOptions`
    :param columns: the model's columns
    :raises ModelError: a column is missing
    """

    exclusive = False
    keeps_leavers = True
    hashes_keys = True

    def __init__(self, options: PrivacyOptions, columns: Sequence[str]) -> None:
        self._options = options
        self._name, self.keys = namer(columns, options.primary_key), self._hashed_keys
        self._identifier = position(columns, options.identifier_column)
        requested_at = options.requested_at_column
        self._requested_at = None if requested_at is None else position(columns, requested_at)
        kind = UNKNOWN if self._requested_at is None else type_of(columns, self._requested_at)
        self._load = kind.load if kind.kind is ColumnKind.INSTANT else None
        self._call = _call(options)
        name = FIELD_NAMES[options.match]
        self.sent_fields = [SentField(name, (name,), columns[self._identifier])]
        self._body: Any = msgspec.defstruct("Person", [FIELD_NAMES[options.match]], gc=False)
        self._asked: dict[str, Rank] = {}
        """When the requests of the chunk at hand were made."""
        self._waiting: dict[str, Rank] = {}
        """When the new requests were made."""
        self._repeated: set[str] = set()
        """Keys of new requests that several rows have: none of those is sent."""
        self._turns: dict[str, int] = {}
        self._allowance: int | None = None

    def apart(self) -> Self:
        """Return the sync to be asked what it would do: none of these requests has a turn."""
        made = super().apart()
        made._waiting = {}
        return made

    def _hashed_keys(self, rows: Sequence[Row]) -> list[str | Invalid]:
        """Name the rows by the hash of their primary key."""
        names = [hashed_name(name) for name in self._name(rows)]
        found = [name for name in names if isinstance(name, str)]
        if len(set(found)) < len(found):
            met: set[str] = set()
            for name in found:
                (self._repeated if name in met else met).add(name)
        self._repeated.update(self._waiting.keys() & set(found))
        return names

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: the identifier is all there is to say."""
        chunk = Chunk(keys, rows, fingerprints)
        people = chunk.identify(self._options.match, self._identifier)
        if self._requested_at is not None:
            asked = loaded(chunk.columns[self._requested_at], self._load)
            self._asked = {key: rank(value, self._options.zone) for key, value in zip(keys, asked, strict=True)}
        return chunk.records(map(self._body, people))

    def added(self, change: Added) -> Operation:
        """A new request is acted on."""
        record = change.after
        self._waiting[record.key] = self._asked.get(record.key, _LAST)
        return self.write(Kind.ADDED, record, self._call)

    def changed(self, change: Changed) -> Operation:
        """A request that was acted on is not acted on again, whatever it says now."""
        record = change.after
        return Operation(record.key, Kind.CHANGED, None, b"", record.handles, Entry(record.fingerprint))

    def removed(self, change: Removed) -> Operation:
        """Nothing happens; a request that left is remembered for ever, and this is not asked."""
        return Operation(change.key, Kind.REMOVED, None, b"", (), change.before)

    def begin(self, allowance: int | None) -> None:
        """Give each new request its turn, the earliest first.

        :param allowance: requests that Iterable's quota leaves room for; ``None``: there is none
        """
        self._allowance = allowance
        waiting = [key for key in self._waiting if key not in self._repeated]
        waiting.sort(key=self._waiting.__getitem__)  # those of one moment stay in the model's order
        self._turns = {key: turn for turn, key in enumerate(waiting)}

    def waits(self, operation: Operation) -> bool:
        """Whether the turn of a request comes in a later run."""
        return isinstance(self.screen(operation), Outcome)

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Let those wait whose turn has not come."""
        turn, most = self._turns.get(operation.key, 0), self._options.max_actions
        if most is not None and turn >= most:
            reason = Reason.MAX_ACTIONS
        elif self._allowance is not None and turn >= self._allowance:
            reason = Reason.QUOTA
        else:
            return operation
        return Outcome(operation.key, operation.kind, Fate.DEFERRED, reason, "", operation)


def hashed(text: str) -> str:
    """Return the SHA-256 of a text in hexadecimal digits."""
    return sha256(text.encode()).hexdigest()


def hashed_name(name: str | Invalid) -> str | Invalid:
    """Return the name of a row, hashed."""
    if isinstance(name, str):
        return hashed(name)
    return msgspec.structs.replace(name, key=hashed(name.key)) if name.key else name


def rank(value: Any, zone: tzinfo) -> Rank:
    """Return what sorts moments in time, whatever the driver made of them; nulls come last, text by itself before."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return (1, 0.0, value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=zone)
        return (0, (moment - _EPOCH).total_seconds(), "")
    if isinstance(value, int | float | Decimal) and math.isfinite(value):
        return (0, float(value), "")
    return _LAST


def _call(options: PrivacyOptions) -> Call:
    if options.action == "delete":
        return endpoints.delete_user(options.match)
    return endpoints.forget_user() if options.action == "forget" else endpoints.unforget_user()
