"""Rows on their way to records, a chunk at a time and column by column; knows no endpoint and no sync type.

A column is checked and rendered in one go, for most rows of a model look alike; only where something is wrong with it
is each value looked at, and the rows to blame are set aside with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.vocabulary import Handle, Invalid, Records, Row
from airflow_provider_iterable.mapping import MAX_KEY_TEXT, FieldError, key_text, key_texts, position
from airflow_provider_iterable.syncs.identity import CHECKS, Match

FINGERPRINT_BYTES = 12
Namer = Callable[[Sequence[Row]], Sequence[str | Invalid]]

encode = msgspec.json.Encoder(order="deterministic").encode
"""Members of an object have no order, so that one is as good as another: a JSON column that the database writes in
another order is no change."""


def namer(columns: Sequence[str], primary_key: Sequence[str]) -> Namer:
    """Return the function that names the rows of a chunk by their primary key.

    :raises ModelError: a column of the key is missing
    """
    positions = [position(columns, name) for name in primary_key]

    def names(rows: Sequence[Row]) -> Sequence[str | Invalid]:
        texts = key_texts([[row[number] for row in rows] for number in positions])
        return texts or [_name([row[number] for number in positions]) for row in rows]

    return names


def _name(values: Sequence[Any]) -> str | Invalid:
    try:
        text = key_text(values)
    except (FieldError, OverflowError) as error:
        return Invalid("", Reason.INVALID_VALUE, str(error))
    except UnicodeEncodeError:
        return Invalid("", Reason.INVALID_VALUE, "primary key: text that is not valid Unicode")
    if text is None:
        return Invalid("", Reason.NULL_KEY)
    if len(text) > MAX_KEY_TEXT:
        return Invalid(text[:MAX_KEY_TEXT], Reason.KEY_TOO_LONG)
    return text


class Chunk:
    """Some rows, and what is wrong with some of them.

    :param keys: the rows' names
    :param rows: at least one
    :param fingerprints: theirs, where a database computed them
    """

    def __init__(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> None:
        self.keys, self._fingerprints = keys, fingerprints
        self.columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True))
        self._kind = ""
        self._names: Sequence[str | None] = ()
        self._others: dict[int, tuple[Handle, ...]] = {}
        self._invalid: dict[int, tuple[Reason, str]] = {}
        self._malformed: dict[int, tuple[str, ...]] = {}
        """Identifiers that are none, by row: people are called so all the same."""

    def refuse(self, number: int, reason: Reason, detail: str = "") -> None:
        """Say what is wrong with a row; what was said first stands."""
        self._invalid.setdefault(number, (reason, detail))

    def refuse_value(self, number: int, detail: str) -> None:
        """Say that a value of a row cannot be sent."""
        self.refuse(number, Reason.INVALID_VALUE, detail)

    def identify(self, kind: Match, column: int) -> list[str | None]:
        """Return the identifiers that select the profiles, normalised; they become the first handles.

        A row without one, or with a malformed one, is refused.
        """
        found = self._checked(kind, column)
        self._kind, self._names = kind, found
        if None in found:
            for number, identifier in enumerate(found):
                if identifier is None:
                    self._refuse_identifier(number, kind, column)
        return found

    def add_identifier(self, kind: Match, column: int) -> list[Any]:
        """Return the identifiers that do not select, ``UNSET`` where there is none; they become further handles.

        A row with a malformed one is refused.
        """
        found: list[Any] = list(self._checked(kind, column))
        for number, identifier in enumerate(found):
            if identifier is not None:
                self._others[number] = ((kind, identifier),)
            elif self.columns[column][number] is None:
                found[number] = UNSET
            else:
                self._refuse_identifier(number, kind, column)
        return found

    def identify_user_only(self, kind: Match, column: int) -> list[str | None]:
        """Return the identifiers that select the profiles; what names the records is something else.

        They become further handles. A row without one, or with a malformed one, is refused.
        """
        found = self.identify(kind, column)
        self._others = {number: ((kind, user),) for number, user in enumerate(found) if user is not None}
        return found

    def name(self, kind: str, names: Sequence[str | None], reason: Reason) -> None:
        """Take what names the records at Iterable; a row without a name is refused."""
        self._kind, self._names = kind, names
        for number, name in enumerate(names):
            if name is None:
                self.refuse(number, reason)

    def _checked(self, kind: Match, column: int) -> list[str | None]:
        return CHECKS[kind][0](self.columns[column])

    def _refuse_identifier(self, number: int, kind: Match, column: int) -> None:
        value = self.columns[column][number]
        blank = value is None or (isinstance(value, str) and not value.strip())
        self.refuse(number, Reason.NO_IDENTIFIER if blank else CHECKS[kind][1])
        if not blank:
            self._malformed[number] = (*self._malformed.get(number, ()), str(value))

    def records(self, payloads: Iterable[Any], salts: Sequence[bytes] | None = None) -> Records:
        """Encode the payloads, digest them unless that is done, and put aside the rows that were refused.

        :param salts: what belongs to the fingerprint without being sent
        """
        payloads = list(payloads)
        try:
            bodies = list(map(encode, payloads))
        except (OverflowError, UnicodeEncodeError, RecursionError):
            bodies = [self._encoded(number, payload) for number, payload in enumerate(payloads)]
        fingerprints = list[bytes | Invalid](self._fingerprints) or _digests(bodies, salts)
        records = Records(self.keys, fingerprints, bodies, self._kind, self._names, self._others)
        for number, (reason, detail) in self._invalid.items():
            names = self._malformed.get(number, ())
            fingerprints[number] = Invalid(self.keys[number], reason, detail, records.handles(number), names)
            bodies[number] = b""
        return records

    def _encoded(self, number: int, payload: Any) -> bytes:
        try:
            return encode(payload)
        except OverflowError:
            self.refuse_value(number, "an integer beyond 64 bits")
        except UnicodeEncodeError:
            self.refuse_value(number, "text that is not valid Unicode")
        except RecursionError:
            self.refuse_value(number, "a value nested too deeply")
        return b""


def _digests(bodies: Sequence[bytes], salts: Sequence[bytes] | None) -> list[bytes | Invalid]:
    salted = bodies if salts is None else map(bytes.__add__, bodies, salts)
    return [blake2b(body, digest_size=FINGERPRINT_BYTES).digest() for body in salted]
