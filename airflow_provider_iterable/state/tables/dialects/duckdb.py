"""DuckDB 1.2 and later."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.state.tables.dialects.vocabulary import Dialect, Typed, in_years, parts, refused

_LEVELS = 4
"""How deep JSON is looked into: objects and arrays within objects and arrays. What is deeper is compared as text."""


class DuckDB(Typed):
    """Each value is digested as text with its length before it, and JSON with sorted members."""

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
            return f"{kind}, JSON sorted" if self._holds_json(number) else kind
        if not self._PLAIN(kind) or self._NESTED(kind):
            raise refused(name, kind, "compared")
        return f"{kind}, JSON sorted" if self._holds_json(number) else kind

    def _holds_json(self, number: int) -> bool:
        kind = self.types[number]
        if kind == "VARCHAR":
            return number in self.json
        return re.search(r"\bJSON\b", re.sub(r"'[^']*'|\"[^\"]*\"", "", kind)) is not None

    def key_part(self, number: int, name: str) -> str:
        """Return the part by the type."""
        c, kind = f"c{number}", self.types[number]
        text = f"CAST({c} AS VARCHAR)"
        if self._WHOLE(kind) or kind == "BOOLEAN":
            return self._short(text)
        if kind == "UUID":
            return self._short(f"'\"' || {text} || '\"'")
        if kind == "DATE":
            return self._short(in_years(c, kind, f"'\"' || {text} || '\"'"))
        if kind == "VARCHAR" or kind.startswith("ENUM("):
            return self._escaped(text)
        if kind == "TIMESTAMP":
            return self._short(in_years(c, kind, f"""'"' || strftime({c}, '%Y-%m-%dT%H:%M:%S.%f') || '"'"""))
        if kind == "TIMESTAMP WITH TIME ZONE":
            moment = f"CASE WHEN isfinite({c}) THEN make_timestamp(epoch_us({c})) END"
            return self._short(
                in_years(moment, "TIMESTAMP", f"""'"' || strftime({moment}, '%Y-%m-%dT%H:%M:%S.%f') || 'Z"'""")
            )
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
        if kind == "VARCHAR" and self._holds_json(number):
            return f"coalesce({_sorted(f'TRY_CAST({c} AS JSON)')}, 't' || {c})"
        if self._holds_json(number):
            return _sorted(c if kind == "JSON" else f"to_json({c})")
        if self._NESTED(kind):
            return f"CAST(to_json({c}) AS VARCHAR)"
        return f"CAST({c} AS VARCHAR)"


def _sorted(json: str, levels: int = _LEVELS) -> str:
    """Return the expression of a text that JSON has whatever the order of members and the blanks in it.

    A map is made of an object, for its entries can be sorted.
    """
    text = f"'s' || CAST(json({json}) AS VARCHAR)"
    if not levels:
        return text
    m, e = f"m{levels}", f"e{levels}"
    members = (
        f"[{{'k': {m}.key, 'v': {_sorted(f'{m}.value', levels - 1)}}} "
        f"FOR {m} IN map_entries(TRY_CAST({json} AS MAP(VARCHAR, JSON)))]"
    )
    elements = f"[{_sorted(e, levels - 1)} FOR {e} IN TRY_CAST({json} AS JSON[])]"
    return (
        f"coalesce('o' || md5(CAST(to_json(list_sort({members})) AS VARCHAR)), "
        f"'a' || md5(CAST(to_json({elements}) AS VARCHAR)), {text})"
    )


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
