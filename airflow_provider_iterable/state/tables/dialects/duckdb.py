"""DuckDB 1.2 and later."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.state.tables.dialects.vocabulary import Dialect, Typed, parts, refused


class DuckDB(Typed):
    """Each value is digested as text with its length before it."""

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
            raise refused(name, kind, "compared")
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
        raise refused(name, kind, "part of a key")

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


DUCKDB = Dialect(
    rows=parts(lambda number: f"e[{number + 1}]", "(SELECT unnest(from_json(:json::JSON, '[[\"VARCHAR\"]]')) AS e)"),
    keys="SELECT unnest(from_json(:json::JSON, '[\"VARCHAR\"]')) AS k",
    begins=True,
    indexes=False,
    now="epoch_ms(now())",
    time="TIMESTAMP",
    moment="CAST({value} AS TIMESTAMP)",
    some="rowid IN (SELECT rowid FROM {table} WHERE {where} LIMIT {limit})",
    digests="sha256({value})",
    reads_only=lambda error: "read-only mode" in str(error),
    grants=(),
    comparing=DuckDB,
)
