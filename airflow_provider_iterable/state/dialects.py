"""How each database names, digests and returns the rows of a model; knows expressions, not statements.

A digest must tell every two rows apart that the worker would tell apart: it covers the values, which of them are null
and, through the caller's digest of the columns, their types. Nothing in it depends on settings of the session, such as
its time zone, for those belong to the model.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from airflow_provider_iterable.mapping import MAX_KEY_TEXT, FieldError, key_text
from airflow_provider_iterable.model import plain_cursor


class NotInSql(Exception):  # a reason, not an error: the worker compares instead
    """The database cannot do it; the message says why, as a clause."""


class Comparing(Protocol):
    """A database that compares."""

    scheme: str
    """What its fingerprints begin with: two hexadecimal digits."""
    joins_fully: bool
    """Whether a full join is quick; otherwise the keys that no row has are looked for apart."""

    def describe(self, cursor: Any) -> None:
        """Take the types of the columns ``c0``, ``c1``, ... from a cursor that ran the model without fetching a row.

        :raises NotInSql: the database's version is too old
        """
        ...

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Begin a transaction whose statements all see the same rows; return a cursor to run them with."""
        ...

    def family(self, number: int, name: str) -> str:
        """Return what kind of values a column has, as far as its digest depends on it.

        :raises NotInSql: such values cannot be digested
        """
        ...

    def key_part(self, number: int, name: str) -> str:
        """Return the expression of a column's canonical JSON value; null where it has none.

        :raises NotInSql: such values cannot be key text in SQL
        """
        ...

    def key(self, parts: Sequence[str], longest: int) -> str:
        """Return the expression of the key text; null where a part is, or where it is longer than that."""
        ...

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Return the expression of a row's fingerprint, hexadecimal and never null."""
        ...

    def quote(self, text: str) -> str:
        """Return a literal."""
        ...


def _refused(name: str, kind: str, what: str) -> NotInSql:
    return NotInSql(f"column {name} of type {kind} cannot be {what} in SQL")


class _Sql:
    """What the databases with types have in common."""

    def key(self, parts: Sequence[str], longest: int) -> str:
        """Join the parts; ``||`` is null when one of them is."""
        text = "'[' || " + " || ',' || ".join(parts) + " || ']'"
        if all(part in self.short for part in parts):
            return text
        return f"CASE WHEN length({text}) <= {longest} THEN {text} END"

    def __init__(self) -> None:
        self.types: list[str] = []
        self.short: set[str] = set()
        """Expressions of parts that are never long."""

    def _short(self, expression: str) -> str:
        self.short.add(expression)
        return expression

    def quote(self, text: str) -> str:
        """Return a literal in which only quotes are special."""
        return "'" + text.replace("'", "''") + "'"


class Postgres(_Sql):
    """Postgres 11 and later: a row is digested in its binary form, which has types, lengths and nulls."""

    scheme = "d1"
    joins_fully = True

    def describe(self, cursor: Any) -> None:
        """Look the types up in the catalog."""
        oids = [int(column[1]) for column in cursor.description]
        cursor.execute(
            "SELECT t.oid::bigint, CASE WHEN t.typtype = 'e' THEN 'enum' ELSE t.typname::text END, "
            "t.typsend::oid <> 0 AND coalesce(e.typsend::oid <> 0, true) "
            "FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem "
            f"WHERE t.oid IN ({', '.join(map(str, oids))})"
        )
        found = {oid: (name, sends) for oid, name, sends in cursor.fetchall()}
        self.types = [found[oid][0] for oid in oids]
        self._sends = [found[oid][1] for oid in oids]

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Let all statements of the transaction see one snapshot."""
        plain = plain_cursor(connection)
        plain.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return plain

    def family(self, number: int, name: str) -> str:
        """Return the type; integers of all sizes are one, and so is text with and without a limit."""
        kind = self.types[number]
        if not self._sends[number]:
            raise _refused(name, kind, "compared")
        return {"int2": "int8", "int4": "int8", "varchar": "text"}.get(kind, kind)

    def key_part(self, number: int, name: str) -> str:
        """Return the part by the type."""
        c, kind = f"c{number}", self.types[number]
        match kind:
            case "int2" | "int4" | "int8":
                return self._short(f"{c}::text")
            case "bool":
                return self._short(f"CASE WHEN {c} THEN 'true' WHEN NOT {c} THEN 'false' END")
            case "uuid":
                return self._short(f"'\"' || {c}::text || '\"'")
            case "text" | "varchar" | "bpchar" | "name" | "enum" | "citext":
                return f"to_json({c})::text"
            case "date":
                return self._short(f"""'"' || to_char({c}, 'YYYY-MM-DD') || '"'""")
            case "timestamp":
                return self._short(self._moment(c, ""))
            case "timestamptz":
                return self._short(self._moment(f"({c} AT TIME ZONE 'UTC')", "Z"))
            case "numeric":
                return self._numeric(c)
        raise _refused(name, kind, "part of a key")

    def _moment(self, c: str, zone: str) -> str:
        return f"""'"' || to_char({c}, 'YYYY-MM-DD"T"HH24:MI:SS.US') || '{zone}"'"""

    def _numeric(self, c: str) -> str:
        """Whole numbers keep their digits, others are the shortest text of the nearest double."""
        size, text = f"abs({c}::float8)", f"{c}::float8::text"
        return (
            f"CASE WHEN {c} = 'NaN' OR abs({c}) >= 1e300 THEN NULL WHEN {c} = trunc({c}) THEN trunc({c})::text "
            f"WHEN {size} < 1e-5 THEN regexp_replace({text}, 'e-0*', 'e-') "
            f"WHEN {size} >= 1e16 THEN replace({text}, 'e+', 'e') "
            f"WHEN {c}::float8 = trunc({c}::float8) THEN ({text})::numeric::text || '.0' "
            f"ELSE ({text})::numeric::text END"
        )

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Digest the record that the columns make."""
        cast = {"int2": "int8", "int4": "int8", "varchar": "text"}
        values = [
            f"c{number}::{cast[self.types[number]]}" if self.types[number] in cast else f"c{number}"
            for number in columns
        ]
        record = f"record_send(ROW('{digest}'::text, {', '.join(values)}))" if values else f"'{digest}'::bytea"
        return f"'{self.scheme}' || substr(encode(sha256({record}), 'hex'), 1, 32)"

    def quote(self, text: str) -> str:
        """Return a literal that means the same whatever ``standard_conforming_strings`` says."""
        plain = super().quote(text)
        return "E" + plain.replace("\\", "\\\\") if "\\" in plain else plain


class DuckDB(_Sql):
    """DuckDB: each value is digested as text with its length before it."""

    scheme = "d2"
    joins_fully = True
    _WHOLE = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER").fullmatch
    _PLAIN = re.compile(
        r"BOOLEAN|UUID|DATE|TIME|TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?|FLOAT|DOUBLE|VARCHAR|JSON|INTERVAL|BLOB"
        r"|(DECIMAL|ENUM)\(.*\)",
        re.DOTALL,
    ).fullmatch
    _NESTED = re.compile(r".*\[\d*\]|(STRUCT|MAP)\(.*\)", re.DOTALL).fullmatch
    _NOT_INSIDE = re.compile(r"TIME ZONE|BLOB|BIT|UNION|VARIANT|GEOMETRY|TIME_NS").search

    def describe(self, cursor: Any) -> None:
        """Take the names of the types."""
        self.types = [str(column[1]) for column in cursor.description]

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Begin a transaction: it sees one snapshot."""
        cursor.execute("BEGIN TRANSACTION")
        return cursor

    def family(self, number: int, name: str) -> str:
        """Return the type; integers of all sizes are one."""
        kind = self.types[number]
        if self._WHOLE(kind):
            return "BIGINT"
        if self._NESTED(kind) and not self._NOT_INSIDE(kind):
            return kind
        if not self._PLAIN(kind) or self._NESTED(kind):
            raise _refused(name, kind, "compared")
        return kind

    def key_part(self, number: int, name: str) -> str:
        """Return the part by the type."""
        c, kind = f"c{number}", self.types[number]
        text = f"CAST({c} AS VARCHAR)"
        if self._WHOLE(kind) or kind == "BOOLEAN":
            return self._short(text)
        if kind in ("UUID", "DATE"):
            return self._short(f"'\"' || {text} || '\"'")
        if kind == "VARCHAR" or kind.startswith("ENUM("):
            return self._escaped(text)
        if kind == "TIMESTAMP":
            return self._short(f"""'"' || strftime({c}, '%Y-%m-%dT%H:%M:%S.%f') || '"'""")
        if kind == "TIMESTAMP WITH TIME ZONE":
            return self._short(f"""'"' || strftime(make_timestamp(epoch_us({c})), '%Y-%m-%dT%H:%M:%S.%f') || 'Z"'""")
        decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
        if decimal is not None:
            width, scale = map(int, decimal.groups())
            if scale == 0:
                return self._short(text)
            if width <= 15 and scale <= 5:
                return self._short(f"rtrim(rtrim({text}, '0'), '.')")
        raise _refused(name, kind, "part of a key")

    def _escaped(self, text: str) -> str:
        escaped = f"replace(replace({text}, '\\', '\\\\'), '\"', '\\\"')"
        for code in range(32):
            written = msgspec.json.encode(chr(code)).decode().strip('"')
            escaped = f"replace({escaped}, chr({code}), '{written}')"
        return (
            f"CASE WHEN regexp_matches({text}, '[\\x00-\\x1f\"\\\\]') THEN '\"' || {escaped} || '\"' "
            f"ELSE '\"' || {text} || '\"' END"
        )

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Digest the values, each with its length before it."""
        texts = map(self._text, columns)
        parts = [f"coalesce(CAST(strlen({text}) AS VARCHAR) || ':' || {text}, '-')" for text in texts]
        return f"'{self.scheme}' || md5({' || '.join([self.quote(digest), *parts])})"

    def _text(self, number: int) -> str:
        c, kind = f"c{number}", self.types[number]
        if kind == "BLOB":
            return f"hex({c})"
        if kind == "TIMESTAMP WITH TIME ZONE":
            return f"CAST(epoch_us({c}) AS VARCHAR)"
        if self._NESTED(kind):
            return f"CAST(to_json({c}) AS VARCHAR)"
        return f"CAST({c} AS VARCHAR)"


_encode = msgspec.json.Encoder().encode
_SQLITE_VALUES: Mapping[type, str] = {int: "i", float: "f", str: "s", bytes: "b", type(None): "n"}


class Sqlite(_Sql):
    """SQLite, which runs in the worker: it calls the worker's own functions, and no row becomes more than a tuple."""

    scheme = "d3"
    joins_fully = False

    def describe(self, cursor: Any) -> None:
        """Columns have no types here; values do."""
        if sqlite3.sqlite_version_info < (3, 39):
            raise NotInSql(f"SQLite {sqlite3.sqlite_version} does not know IS DISTINCT FROM; 3.39 does")
        if any(re.search(r":\d+$", column[0]) for column in cursor.description):
            raise NotInSql("several columns have one name")

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Give the connection the functions; a statement that reads begins a transaction."""
        connection.create_function("iterable_key", -1, _key, deterministic=True)
        connection.create_function("iterable_fingerprint", -1, _fingerprint, deterministic=True)
        cursor.execute("BEGIN")
        return cursor

    def family(self, number: int, name: str) -> str:
        """Each value brings its type along."""
        return ""

    def key_part(self, number: int, name: str) -> str:
        """Return the column itself."""
        return f"c{number}"

    def key(self, parts: Sequence[str], longest: int) -> str:
        """Return a call of the worker's function."""
        return f"iterable_key({', '.join(parts)})"

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Return a call of the worker's function."""
        return f"iterable_fingerprint({', '.join([self.quote(digest), *(f'c{number}' for number in columns)])})"


def _key(*values: Any) -> str | None:
    try:
        text = key_text(values)
    except (FieldError, OverflowError, UnicodeEncodeError):
        return None
    return text if text is not None and len(text) <= MAX_KEY_TEXT else None


def _fingerprint(*values: Any) -> str:
    kinds = "".join(map(_SQLITE_VALUES.__getitem__, map(type, values)))
    if "f" in kinds:  # an infinity has no JSON
        values = tuple(repr(value) if type(value) is float else value for value in values)
    return Sqlite.scheme + blake2b(_encode([kinds, *values]), digest_size=16).hexdigest()


DIALECTS: Mapping[str, Callable[[], Comparing]] = {"postgres": Postgres, "duckdb": DuckDB, "sqlite": Sqlite}
"""The databases whose comparisons were really run, by connection type."""
