"""Redshift: its statements were parsed, but executed on no real cluster.

Nothing checks keys there: a row is stored by taking away what is there and inserting, in one transaction, and a lease
is taken while its table is locked. Lengths of text are in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.sql.databases import plain_cursor
from airflow_provider_iterable.state.tables.dialects.vocabulary import (
    TAKE_OVER_OR_BEGIN,
    Dialect,
    NotInSql,
    Typed,
    in_years,
    parts,
    refused,
)

_KINDS = {
    **dict.fromkeys((20, 21, 23), "integer"),
    **dict.fromkeys((25, 1043), "varchar"),
    **{16: "boolean", 700: "real", 701: "double precision", 1042: "char", 1082: "date", 1083: "time"},
    **{1114: "timestamp", 1184: "timestamptz", 1266: "timetz", 1700: "numeric", 4000: "super", 6551: "varbyte"},
}
"""Kinds of values by the number that the protocol has for a type."""
_DIGESTED = frozenset(_KINDS.values()) - {"timetz", "varbyte", "super"}
_SENSITIVE = "case_sensitive"
_SPECIAL = re.compile(r"([\\%])")


class Redshift(Typed):
    """Each value is digested by itself, and then the digests: a text may be as long as a text can be."""

    scheme = "d8"
    joins_fully = True

    def describe(self, cursor: Any) -> None:
        """Take the types from the driver.

        :raises NotInSql: a full join cannot have such columns, or the database treats two different keys as equal
        """
        self.types = [_KINDS.get(column[1], f"number {column[1]}") for column in cursor.description]
        if "super" in self.types:
            raise NotInSql("a column of type super cannot be in a full join")
        cursor.execute("SELECT db_collation()")
        ((collation,),) = cursor.fetchall()
        if collation != _SENSITIVE:
            raise NotInSql(f"the database is {collation}")

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Let the driver begin a transaction: in either of its isolation levels it sees one snapshot."""
        connection.autocommit = False
        return plain_cursor(connection)

    def family(self, number: int, name: str) -> str:
        """Return the kind; integers of all sizes are one, and decimal places are part of how a number is written."""
        kind = self.types[number]
        if kind not in _DIGESTED:
            raise refused(name, kind, "compared")
        return kind

    def key_part(self, number: int, name: str) -> str:
        """Return the part by the kind."""
        c, kind = f"c{number}", self.types[number]
        match kind:
            case "integer":
                return self._short(_text(c))
            case "boolean":
                return self._short(f"CASE WHEN {c} THEN 'true' WHEN NOT {c} THEN 'false' END")
            case "varchar":
                return f"'\"' || {_escaped(c)} || '\"'"
            case "date" | "timestamp":
                return self._short(in_years(c, kind.upper(), f"""'"' || {_moment(c, kind)} || '"'"""))
            case "timestamptz":
                moment = f"""'"' || {_moment(c, kind)} || 'Z"'"""
                return self._short(in_years(f"({c} AT TIME ZONE 'UTC')", "TIMESTAMP", moment))
            case "numeric":
                return self._short(_decimal(c))
        raise refused(name, kind, "part of a key")

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Digest the digests, which have one length."""
        digests = [f"COALESCE(SHA2({self._text(number)}, 256), '-')" for number in columns]
        return f"'{self.scheme}' || LEFT(SHA2({' || '.join([self.quote(digest), *digests])}, 256), 32)"

    def _text(self, number: int) -> str:
        c, kind = f"c{number}", self.types[number]
        match kind:
            case "varchar":
                return c
            case "date" | "timestamp" | "timestamptz":
                return _moment(c, kind)
            case "boolean":
                return f"CASE WHEN {c} THEN 'true' WHEN NOT {c} THEN 'false' END"
            case "real" | "double precision":
                # Text has fewer digits than the number, and how many is a setting of the session: this is of its bytes.
                return _text(f"FNV_HASH({c})")
            case "char":
                # Text leaves out blanks at the end, this does not.
                return f"{_text(f'FNV_HASH({c})')} || {_text(c)}"
        return _text(c)

    def quote(self, text: str) -> str:
        """Return a literal without characters that are special to the database or its driver."""
        named = {"\\": "CHR(92)", "%": "CHR(37)"}
        pieces = [named.get(piece) or super(Redshift, self).quote(piece) for piece in _SPECIAL.split(text) if piece]
        return f"({' || '.join(pieces)})" if len(pieces) > 1 else "".join(pieces) or "''"


def _text(expression: str) -> str:
    return f"CAST({expression} AS VARCHAR)"


def _moment(c: str, kind: str) -> str:
    if kind == "date":
        return f"TO_CHAR({c}, 'YYYY-MM-DD')"
    c = f"({c} AT TIME ZONE 'UTC')" if kind == "timestamptz" else c
    return f"TO_CHAR({c}, 'YYYY-MM-DD') || 'T' || TO_CHAR({c}, 'HH24:MI:SS.US')"


def _escaped(c: str) -> str:
    """Return JSON of a text without its quotes; a text here holds no zero byte."""
    escaped = f"REPLACE(REPLACE({c}, CHR(92), CHR(92) || CHR(92)), CHR(34), CHR(92) || CHR(34))"
    for code in range(1, 32):
        written = msgspec.json.encode(chr(code)).decode()[2:-1]
        escaped = f"REPLACE({escaped}, CHR({code}), CHR(92) || '{written}')"
    return escaped


def _decimal(c: str) -> str:
    """Return the digits of a whole number, or a fraction's if a double has them; the driver does not give the scale."""
    text = _text(c)
    short = f"RTRIM(RTRIM({text}, '0'), '.')"
    return (
        f"CASE WHEN STRPOS({text}, '.') = 0 THEN {text} WHEN STRPOS({short}, '.') = 0 THEN {short} "
        f"WHEN LENGTH({short}) <= 16 AND LENGTH({short}) - STRPOS({short}, '.') <= 5 THEN {short} END"
    )


def _clear(table: str, values: Mapping[str, str], key: Sequence[str], source: str) -> str:
    """Write the statement that takes away rows with these keys, of which one column at most is of the source."""
    met = (
        f"{name} = {values[name]}"
        if values[name].startswith(":")
        else f"{name} IN (SELECT {values[name]} FROM ({source}) AS given)"
        for name in key
    )
    return f"DELETE FROM {table} WHERE {' AND '.join(met)}"


def _insert(table: str, values: Mapping[str, str], key: Sequence[str], source: str) -> str:
    expressions = ", ".join(values.values())
    rows = f"SELECT {expressions} FROM ({source}) AS given" if source else f"VALUES ({expressions})"
    return f"INSERT INTO {table} ({', '.join(values)}) {rows}"


def _sized(statement: str) -> str:
    """Make text columns four times as long, for a character takes up to four bytes."""
    return re.sub(r"VARCHAR\((\d+)\)", lambda found: f"VARCHAR({4 * int(found[1])})", statement)


def _cursor(connection: Any) -> Any:
    """Open a cursor on a connection of the state's own: its time zone is UTC, and its waiting for locks is limited."""
    connection.autocommit = False
    cursor = plain_cursor(connection)
    cursor.execute("SET timezone TO 'UTC'")
    cursor.execute("SET statement_timeout TO 600000")
    return cursor


REDSHIFT = Dialect(
    # A text has at most 65,535 bytes.
    rows=parts(
        lambda number: f"part[{number}]::VARCHAR(65535)",
        "(SELECT JSON_PARSE(CAST(:json AS VARCHAR(65535))) AS listed) AS lists, lists.listed AS part",
    ),
    upsert=_insert,
    clears=_clear,
    make=_sized,
    # A transaction sees what was there at its first query: it begins anew, and with the lock. The clock has seconds.
    before_taking=("COMMIT", "LOCK TABLE {lease}"),
    takes=tuple(
        statement.replace("expires_at <= {now}", "expires_at <= {now} - 1000") for statement in TAKE_OVER_OR_BEGIN
    ),
    most=15_000,
    batches=10,
    indexes=False,
    text="VARCHAR(65535)",
    cursor=_cursor,
    now="CAST(EXTRACT(epoch FROM GETDATE()) AS BIGINT) * 1000",
    time="TIMESTAMP",
    moment="CAST({value} AS TIMESTAMP)",
    some="{where}",
    digests="SHA2({value}, 256)",
    limits=("SET statement_timeout TO 60000",),
    comparing=Redshift,
    counts=False,  # not tried on a real cluster
    untested="No real Redshift cluster has kept a state yet: "
    "the statements were parsed as Redshift's, and executed on a "
    "Postgres without keys that has the functions of Redshift",
)
