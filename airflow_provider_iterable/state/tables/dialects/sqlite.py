"""SQLite, which runs in the worker."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from airflow_provider_iterable.mapping import MAX_KEY_TEXT, FieldError, key_text
from airflow_provider_iterable.state.tables.dialects.vocabulary import Dialect, NotInSql, Typed, parts

_encode = msgspec.json.Encoder().encode
_sorted = msgspec.json.Encoder(order="deterministic").encode
_pack, _unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
MOST = 127
"""Arguments that a function takes, unless SQLite was built to take more (SQLITE_MAX_FUNCTION_ARG)."""
_SQLITE_VALUES: Mapping[type, str] = {int: "i", float: "f", str: "s", bytes: "b", type(None): "n", tuple: "x"}

_GIVEN: Mapping[type, Callable[[Any], Any]] = {bytes: bytes.decode, str: bytes.fromhex}
"""What makes values of what functions are given, see :func:`_given`."""


class Sqlite(Typed):
    """Keys and fingerprints are made by Python functions of the worker, called from SQL."""

    scheme = "d3"
    joins_fully = False
    once = "MATERIALIZED "

    def describe(self, cursor: Any) -> None:
        """Columns have no types here; values do."""
        if sqlite3.sqlite_version_info < (3, 35):
            raise NotInSql(f"SQLite {sqlite3.sqlite_version} does not know AS MATERIALIZED; 3.35 does")
        if any(re.search(r":\d+$", column[0]) for column in cursor.description):
            raise NotInSql("several columns have one name")

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Give the connection the functions; a statement that reads begins a transaction."""
        connection.create_function("iterable_key", -1, _key, deterministic=True)
        connection.create_function("iterable_fingerprint", -1, _fingerprint, deterministic=True)
        connection.create_function("iterable_json", 1, _json, deterministic=True)
        connection.create_function("iterable_packed", -1, _packed, deterministic=True)
        connection.create_function("iterable_fingerprint_of", -1, _fingerprint_of, deterministic=True)
        cursor.execute("BEGIN")
        return cursor

    def family(self, number: int, name: str) -> str:
        """Return no kind, but for what is JSON: in SQLite each value has its own type."""
        return "JSON" if number in self.json else ""

    def key_part(self, number: int, name: str) -> str:
        """Return the column, in a form that every value of it has."""
        return _given(number)

    def key(self, parts: Sequence[str], longest: int) -> str:
        """Return a call of the worker's function."""
        return f"iterable_key({', '.join(parts)})"

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Return a call of the worker's function; of columns that are more than it takes, parts are packed before."""
        names = [f"iterable_json({_given(n)})" if n in self.json else _given(n) for n in columns]
        if len(names) < MOST:
            return f"iterable_fingerprint({', '.join([self.quote(digest), *names])})"
        packed = [f"iterable_packed({', '.join(names[at : at + MOST])})" for at in range(0, len(names), MOST)]
        return f"iterable_fingerprint_of({', '.join([self.quote(digest), *packed])})"


def _given(number: int) -> str:
    """Return the expression by which functions get a value.

    Text goes as bytes, for what is not valid UTF-8 reaches no function of Python's, and bytes go as text, in
    hexadecimal digits.
    """
    c = f"c{number}"
    return f"CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) WHEN 'blob' THEN hex({c}) ELSE {c} END"


def _values(given: Iterable[Any]) -> list[Any]:
    """Return the values that were given; text that is not valid UTF-8 as what equals no other."""
    try:
        return [value if type(value) not in _GIVEN else _GIVEN[type(value)](value) for value in given]
    except UnicodeDecodeError:
        return [value if type(value) not in _GIVEN else _decoded(value) for value in given]


def _decoded(value: Any) -> Any:
    try:
        return _GIVEN[type(value)](value)
    except UnicodeDecodeError:
        return (value,)


def _json(given: Any) -> Any:
    """Return JSON text as it is written with sorted members and no blanks; what is none stays as it is."""
    if type(given) is not bytes:
        return given
    try:
        return _sorted(msgspec.json.decode(given))
    except (msgspec.DecodeError, UnicodeError, OverflowError, RecursionError):
        return given


def _key(*given: Any) -> str | None:
    try:
        text = key_text(_values(given))
    except (FieldError, OverflowError, UnicodeEncodeError):
        return None
    return text if text is not None and len(text) <= MAX_KEY_TEXT else None


def _fingerprint(digest: str, *given: Any) -> str:
    values = [digest, *_values(given)]
    kinds = "".join(map(_SQLITE_VALUES.__getitem__, map(type, values)))
    if "f" in kinds:  # an infinity has no JSON
        values = [repr(value) if type(value) is float else value for value in values]
    return Sqlite.scheme + blake2b(_encode([kinds, *values]), digest_size=16).hexdigest()


def _packed(*values: Any) -> bytes:
    return _pack(values)


def _fingerprint_of(digest: str, *packed: bytes) -> str:
    return _fingerprint(digest, *(value for part in packed for value in _unpack(part)))


SQLITE = Dialect(
    rows=parts(lambda number: f"json_extract(value, '$[{number}]')", "json_each(:json)"),
    keys="SELECT value AS k FROM json_each(:json)",
    schemas=False,
    now="CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    before_making=("BEGIN IMMEDIATE",),  # the driver begins no transaction for a statement that makes a table
    reads_only=lambda error: str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_READONLY"),
    grants=(),
    # A connection that waits to write keeps others from starting to read.
    before_renewal=("PRAGMA busy_timeout = 0",),
    time="TIMESTAMP",
    moment="{value}",
    some="rowid IN (SELECT rowid FROM {table} WHERE {where} LIMIT {limit})",
    comparing=Sqlite,
)
