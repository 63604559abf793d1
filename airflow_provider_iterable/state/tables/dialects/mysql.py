"""MySQL 8.0.19 and MariaDB 10.6, and later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.sql.databases import plain_cursor
from airflow_provider_iterable.sql.databases.mysql import EVERY_ROW, set_utf8
from airflow_provider_iterable.sql.errors import MYSQL_READ_ONLY, error_number
from airflow_provider_iterable.state.tables.dialects.vocabulary import (
    TAKE_OVER_OR_BEGIN,
    Dialect,
    Typed,
    quoted,
    refused,
)

_TEXT = "text"
_KINDS = {
    **dict.fromkeys((0, 246), "decimal"),
    **dict.fromkeys((1, 2, 3, 8, 9, 13), "integer"),
    **dict.fromkeys((15, *range(249, 255)), _TEXT),
    **{4: "float", 5: "double", 6: "null", 7: "timestamp", 10: "date", 11: "time", 12: "datetime", 16: "bit"},
    **{245: "json", 255: "geometry"},
}
"""Kinds of values by the number that the protocol has for a type; whether text is binary shows in each value."""
_SET = 2048
"""The flag of a column that holds sets: joined with others, it would be text."""

_DENIED = (1044, 1142, 1143, 1227)
"""Errors: no rights on the database, the table, a column or in general."""
_PREVENTED = 1290
"""The server has an option that prevents the statement; ``--read-only`` is one."""

_MEMORY = 256 * 1024 * 1024
"""Most bytes in which the server keeps the keys that it compares; what is beyond goes to disk, and takes its time."""


class MySQL(Typed):
    """Each value is digested as text with its length before it.

    The same expressions do in MySQL and MariaDB, under any ``sql_mode``: nothing is quoted by ``"`` or ``\\``.
    """

    scheme = "d4"
    joins_fully = False

    def describe(self, cursor: Any) -> None:
        """Take the types from the driver."""
        self.types = [_kind(column) for column in cursor.description]

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Let all statements of the transaction see one snapshot."""
        set_utf8(connection, "utf8mb4_bin")
        plain = plain_cursor(connection)
        plain.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        plain.execute(f"SET SESSION tmp_table_size = {_MEMORY}, SESSION max_heap_table_size = {_MEMORY}")
        plain.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        return plain

    def family(self, number: int, name: str) -> str:
        """Return the kind; integers of all sizes are one, and so are texts."""
        kind = self.types[number]
        if kind in ("geometry", "set") or kind.startswith("type"):
            raise refused(name, kind, "compared")
        return kind

    def key_part(self, number: int, name: str) -> str:
        """Return the part by the kind."""
        c, kind = f"c{number}", self.types[number]
        match kind:
            case "integer":
                return self._short(f"CAST({c} AS CHAR)")
            case "null":
                return self._short("NULL")
            case "text":
                return f"CASE WHEN CHARSET({c}) <> 'binary' THEN {self._quoted(_utf8(c))} END"
            case "date":
                return self._short(f"CASE WHEN {_is_whole_date(c)} THEN CONCAT('\"', CAST({c} AS CHAR), '\"') END")
            case "datetime" | "timestamp":
                moment = f"REPLACE(CAST(CAST({c} AS DATETIME(6)) AS CHAR), ' ', 'T')"
                return self._short(f"CASE WHEN {_is_whole_date(c)} THEN CONCAT('\"', {moment}, '\"') END")
            case "decimal":
                return self._short(self._decimal(c))
        raise refused(name, kind, "part of a key")

    def _quoted(self, text: str) -> str:
        """Return JSON of a text: what need not be escaped, which is nearly all, is compared with what is."""
        escaped = f"REPLACE(REPLACE({text}, X'5C', X'5C5C'), '\"', X'5C22')"
        for code in range(32):
            written = msgspec.json.encode(chr(code))[1:-1].hex()
            escaped = f"REPLACE({escaped}, X'{code:02X}', X'{written}')"
        plain = f"CONCAT('\"', {text}, '\"')"
        return f"CASE WHEN JSON_QUOTE({text}) = {plain} THEN {plain} ELSE CONCAT('\"', {_utf8(escaped)}, '\"') END"

    def _decimal(self, c: str) -> str:
        """Whole numbers keep their digits, others are the shortest text of the nearest double."""
        return (
            f"CASE WHEN {c} = TRUNCATE({c}, 0) THEN CAST(TRUNCATE({c}, 0) AS CHAR) "
            f"WHEN ABS({c}) >= 0.00001 AND ABS({c}) < 1000000000000000 THEN CAST(CAST({c} AS DOUBLE) AS CHAR) END"
        )

    def key(self, parts: Sequence[str], longest: int) -> str:
        """Join the parts, in a text that can be looked up; it is null when one of them is."""
        joined = ", ',', ".join(parts)
        text = f"CONCAT('[', {joined}, ']')"
        whole = f"CAST({text} AS CHAR({longest}) CHARACTER SET utf8mb4) COLLATE utf8mb4_bin"
        if all(part in self.short for part in parts):
            return whole
        return f"CASE WHEN CHAR_LENGTH({text}) <= {longest} THEN {whole} END"

    def gone(self, columns: int) -> str:
        """Return the query; with columns of the model's types, for with nulls unsigned integers become decimals."""
        nothing = "".join(f"m.c{number}, " for number in range(columns))
        return (
            f"SELECT {nothing}NULL, s.record_key, s.fingerprint, s.ref, NULL FROM iterable_remembered AS s "
            "LEFT JOIN (SELECT * FROM iterable_model LIMIT 0) AS m ON TRUE WHERE UNHEX(MD5(s.record_key)) NOT IN "
            "(SELECT UNHEX(MD5(k)) FROM iterable_rows WHERE k IS NOT NULL)"
        )

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Digest the values, each with its length before it."""
        parts = [f"COALESCE({self._measured(number)}, '-')" for number in columns]
        whole = f"CONCAT({', '.join([self.quote(digest), *parts])})"
        # A text may be as long as what is sent at once, max_allowed_packet, and is null beyond.
        each = f"CONCAT({', '.join([self.quote(digest), *(f'SHA2({part}, 256)' for part in parts)])})"
        return f"CONCAT('{self.scheme}', LEFT(COALESCE(SHA2({whole}, 256), SHA2({each}, 256)), 32))"

    def _measured(self, number: int) -> str:
        c, kind = f"c{number}", self.types[number]
        text = f"CAST({c} + 0 AS CHAR)" if kind == "bit" else f"CAST({c} AS CHAR)"
        if kind not in (_TEXT, "json"):
            return f"CONCAT(LENGTH({text}), ':', {text})"
        text = _utf8(c)
        measured = f"CONCAT(LENGTH({text}), ':', {text})"
        return f"IF(CHARSET({c}) = 'binary', CONCAT(LENGTH({c}), 'x', SHA2({c}, 256)), {measured})"

    def quote(self, text: str) -> str:
        """Return a literal that means the same whatever the ``sql_mode`` says and the driver does about ``%``."""
        return f"_utf8mb4 X'{text.encode().hex()}'" if "\\" in text or "%" in text else super().quote(text)


def _kind(column: Sequence[Any]) -> str:
    if len(column) > 7 and column[7] & _SET:  # one driver returns sets, the other text
        return "set"
    return _KINDS.get(column[1], f"type {column[1]}")


def _utf8(text: str) -> str:
    return f"CONVERT({text} USING utf8mb4) COLLATE utf8mb4_bin"


def _is_whole_date(c: str) -> str:
    """Return the condition that a date has a year, and a day that its month has; others are no part of a key."""
    return f"YEAR({c}) > 0 AND MONTH({c}) > 0 AND DAYOFMONTH({c}) BETWEEN 1 AND DAYOFMONTH(LAST_DAY({c}))"


def _cursor(connection: Any) -> Any:
    """Open a cursor on a connection of the state's own, whose settings are known then.

    Texts that are too long are errors; all rows are read; of two syncs that write, none waits for the other's gaps
    between keys; a transaction in whose midst its client stopped ends, where the server can end it: in MariaDB,
    ``/*M!`` says.
    """
    set_utf8(connection, "utf8mb4_bin")
    cursor = plain_cursor(connection)
    cursor.execute(
        f"{EVERY_ROW}, SESSION autocommit = 0, SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
        "SESSION innodb_lock_wait_timeout = 5, SESSION lock_wait_timeout = 20 "
        "/*M!, SESSION idle_transaction_timeout = 60 */"
    )
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    return cursor


def _on_duplicate(table: str, values: Mapping[str, str], key: Sequence[str], source: str) -> str:
    """Write the statement that stores rows in place of those with the same key."""
    columns = ", ".join(values)
    given = ", ".join(f"{expression} AS {name}" for name, expression in values.items())
    rows = f"SELECT {given} FROM ({source}) AS given" if source else f"SELECT {given}"
    replaced = [name for name in values if name not in key] or key[:1]
    return (
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM ({rows}) AS new "
        f"ON DUPLICATE KEY UPDATE {', '.join(f'{name} = new.{name}' for name in replaced)}"
    )


def _reads_only(error: Exception) -> bool:
    number = error_number(error)
    return number in MYSQL_READ_ONLY or (number == _PREVENTED and "read-only" in str(error))


def _principal(role: str) -> str:
    """Return a user with the host that is behind the last ``@``; without one, any."""
    name, at, host = role.rpartition("@")
    return f"{quoted(name, '`')}@{quoted(host, '`')}" if at else quoted(role, "`")


def _rows(names: Sequence[str]) -> str:
    kind = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    columns = ", ".join(f"{name} {kind} PATH '$[{number}]'" for number, name in enumerate(names))
    return f"SELECT {', '.join(names)} FROM JSON_TABLE(:json, '$[*]' COLUMNS ({columns})) AS parts"


MYSQL = Dialect(
    rows=_rows,
    upsert=_on_duplicate,
    takes=TAKE_OVER_OR_BEGIN,
    cursor=_cursor,
    quote="`",
    cast="{value}",
    text="MEDIUMTEXT",
    storage=" ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    indexed="SELECT 1 FROM information_schema.statistics "
    "WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table AND index_name = :index LIMIT 1",
    prefixes={"ref": "ref(191)"},
    counts=False,
    # A statement that makes or alters a table ends the transaction: what is locked by it would not be any more.
    before_making=("DO GET_LOCK('iterable_sync', 20)",),
    after_making=("DO RELEASE_LOCK('iterable_sync')",),
    denied=lambda error: error_number(error) in _DENIED,
    reads_only=_reads_only,
    unless_there="",
    grants=("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}",),
    principal=_principal,
    whoami="SELECT IF(SUBSTRING_INDEX(CURRENT_USER(), '@', -1) = '%', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), "
    "CURRENT_USER())",
    now="TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000",
    time="DATETIME(6)",
    moment="CAST({value} AS DATETIME(6))",
    some="{where} LIMIT {limit}",
    digests="SHA2({value}, 256)",
    comparing=MySQL,
)
