"""Snowflake: its statements were parsed, and executed on ``fakesnow``, but on no real account."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.state.tables.dialects.vocabulary import (
    MERGE_LEASE,
    Dialect,
    Typed,
    merge,
    parts,
    quoted,
    refused,
)

_KINDS = (
    *("fixed", "real", "text", "date", "timestamp", "variant", "timestamp_ltz", "timestamp_tz", "timestamp_ntz"),
    *("object", "array", "binary", "time", "boolean"),
)
"""Kinds of values by the number that the driver has for a type."""
_MOMENT = 'YYYY-MM-DD"T"HH24:MI:SS.FF'


class Snowflake(Typed):
    """Each value is digested as text with its length before it."""

    scheme = "d5"
    joins_fully = True

    def describe(self, cursor: Any) -> None:
        """Take the types from the driver; of fixed numbers also digits and decimal places."""
        self.types = [
            _KINDS[column[1]] if column[1] < len(_KINDS) else f"number {column[1]}" for column in cursor.description
        ]
        self._sizes = [(column[4] or 0, column[5] or 0) for column in cursor.description]

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Begin a transaction; each statement sees what is committed when it begins."""
        cursor.execute("BEGIN TRANSACTION")
        return cursor

    def family(self, number: int, name: str) -> str:
        """Return the kind; decimal places are part of how a number is written."""
        kind = self.types[number]
        if kind not in _KINDS:
            raise refused(name, kind, "compared")
        return f"{kind} {self._sizes[number][1]}" if kind == "fixed" else kind

    def key_part(self, number: int, name: str) -> str:
        """Return the part by the kind."""
        c, kind = f"c{number}", self.types[number]
        match kind:
            case "fixed":
                return self._short(self._fixed(number, name))
            case "boolean":
                return self._short(f"CASE WHEN {c} THEN 'true' WHEN NOT {c} THEN 'false' END")
            case "text":
                return self._escaped(c)
            case "date":
                return self._short(f"""'"' || TO_VARCHAR({c}, 'YYYY-MM-DD') || '"'""")
            case "timestamp_ntz":
                return self._short(f"""'"' || TO_VARCHAR({c}, '{_MOMENT}6') || '"'""")
            case "timestamp_tz" | "timestamp_ltz":
                return self._short(f"""'"' || TO_VARCHAR({_utc(c)}, '{_MOMENT}6') || 'Z"'""")
        raise refused(name, kind, "part of a key")

    def _fixed(self, number: int, name: str) -> str:
        text, (digits, places) = f"TO_VARCHAR(c{number})", self._sizes[number]
        if places == 0:
            return text
        if digits <= 15 and places <= 5:
            return f"RTRIM(RTRIM({text}, '0'), '.')"
        raise refused(name, f"number({digits}, {places})", "part of a key")

    def _escaped(self, c: str) -> str:
        """Return JSON of a text: what need not be escaped, which is nearly all, is compared with what is."""
        escaped = f"REPLACE(REPLACE({c}, CHR(92), CHR(92) || CHR(92)), CHR(34), CHR(92) || CHR(34))"
        for code in range(32):
            written = msgspec.json.encode(chr(code)).decode()[2:-1]
            escaped = f"REPLACE({escaped}, CHR({code}), CHR(92) || '{written}')"
        return (
            f"CASE WHEN TO_JSON(TO_VARIANT({c})) = '\"' || {c} || '\"' THEN '\"' || {c} || '\"' "
            f"ELSE '\"' || {escaped} || '\"' END"
        )

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Digest the values, each with its length before it."""
        texts = map(self._text, columns)
        measured = [f"COALESCE(TO_VARCHAR(LENGTH({text})) || ':' || {text}, '-')" for text in texts]
        return f"'{self.scheme}' || LEFT(SHA2({' || '.join([self.quote(digest), *measured])}, 256), 32)"

    def _text(self, number: int) -> str:
        c, kind = f"c{number}", self.types[number]
        match kind:
            case "variant" | "object" | "array":
                return f"TO_JSON(TO_VARIANT({c}))"
            case "binary":
                return f"HEX_ENCODE({c})"
            case "real":
                # The text may have fewer digits than the number: what it lacks is digested, too.
                return f"({c}::VARCHAR || '/' || ({c} - {c}::VARCHAR::FLOAT)::VARCHAR)"
            case "time":
                return f"TO_VARCHAR({c}, 'HH24:MI:SS.FF9')"
            case "timestamp_ntz":
                return f"TO_VARCHAR({c}, '{_MOMENT}9')"
            case "timestamp_tz" | "timestamp_ltz":
                return f"TO_VARCHAR({_utc(c)}, '{_MOMENT}9')"
            case "date":
                return f"TO_VARCHAR({c}, 'YYYY-MM-DD')"
            case "text":
                return c
        return f"TO_VARCHAR({c})"

    def quote(self, text: str) -> str:
        """Return a literal, in which backslashes are special, too."""
        return super().quote(text.replace("\\", "\\\\"))


def _utc(c: str) -> str:
    return f"CONVERT_TIMEZONE('UTC', {c})"


SNOWFLAKE = Dialect(
    rows=parts(lambda number: f"value[{number}]::VARCHAR", "LATERAL FLATTEN(INPUT => PARSE_JSON(:json))"),
    keys="SELECT value::VARCHAR AS k FROM LATERAL FLATTEN(INPUT => PARSE_JSON(:json))",
    upsert=merge,
    takes=MERGE_LEASE,
    most=250_000,  # a statement has at most a megabyte
    batches=10,
    begins=True,
    quote="",  # a name without quotes is in capitals, as everybody writes it
    former_quote='"',
    principal=lambda role: role if re.fullmatch(r"[A-Za-z_]\w*", role) else quoted(role, '"'),
    grants=(
        "GRANT USAGE ON SCHEMA {schema} TO ROLE {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {table} TO ROLE {role}",
    ),
    whoami="SELECT CURRENT_ROLE()",
    indexes=False,
    now="DATE_PART(EPOCH_MILLISECOND, CURRENT_TIMESTAMP())",
    time="TIMESTAMP_NTZ",
    moment="CAST({value} AS TIMESTAMP_NTZ)",
    some="{where}",
    digests="SHA2({value}, 256)",
    comparing=Snowflake,
    counts=False,  # not tried on a real account
    untested="No real Snowflake account has kept a state yet: "
    "the statements were parsed as Snowflake's, and executed on "
    "fakesnow, outside transactions",
)
