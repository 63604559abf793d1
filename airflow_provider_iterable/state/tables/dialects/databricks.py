"""Databricks: its statements were parsed, but executed on no real warehouse.

Transactions of several statements, a public preview, need a SQL warehouse and managed tables of Unity Catalog whose
commits the catalog manages; anywhere else the tables cannot be made, or no transaction begins. They see one snapshot
and lock nothing: of two that change the same row, the second fails when it commits, and is tried again. Rows that are
only added never conflict, so a run that takes a lease also changes a row that is always there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.sql.errors import sqlstate
from airflow_provider_iterable.state.tables.dialects.vocabulary import (
    DENIED,
    MERGE_LEASE,
    Dialect,
    Typed,
    merge,
    parts,
    quoted,
    refused,
)

_WHOLE = frozenset({"tinyint", "smallint", "int", "bigint"})
_TEXT = frozenset({"string", "varchar", "char"})
_DIGESTED = _WHOLE | _TEXT | {"boolean", "float", "double", "decimal", "date", "timestamp", "binary"}
_NO_RIGHT = re.compile(r"\bINSUFFICIENT_PERMISSIONS\b|\bPERMISSION_DENIED\b")
"""How an error begins that means a missing right, where the driver does not tell the SQLSTATE."""
_SPECIAL = "r'[\\x00-\\x1f\"\\\\]'"
"""A pattern of the characters that JSON escapes."""


class Databricks(Typed):
    """Each value is digested as text with its length before it."""

    scheme = "da"
    joins_fully = True

    def describe(self, cursor: Any) -> None:
        """Take the types from the driver; of decimal numbers also digits and decimal places."""
        self.types = [str(column[1]) for column in cursor.description]
        self._sizes = [(column[4] or 0, column[5] or 0) for column in cursor.description]

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Begin no transaction: it could not read every kind of table that a model may use."""
        return cursor

    def family(self, number: int, name: str) -> str:
        """Return the kind; integers of all sizes are one, and decimal places are part of how a number is written."""
        kind = self.types[number]
        if kind not in _DIGESTED:
            raise refused(name, kind, "compared")
        if kind in _WHOLE:
            return "bigint"
        if kind in _TEXT:
            return "string"
        return f"{kind} {self._sizes[number][1]}" if kind == "decimal" else kind

    def key_part(self, number: int, name: str) -> str:
        """Return the part by the kind; of a date-time the driver does not say whether it has a zone."""
        c, kind = f"c{number}", self.types[number]
        if kind in _WHOLE or kind == "boolean":
            return self._short(_text(c))
        if kind in _TEXT:
            return self._escaped(_text(c))
        if kind == "date":
            return self._short(f"'\"' || {_text(c)} || '\"'")
        digits, places = self._sizes[number]
        if kind == "decimal" and places == 0:
            return self._short(_text(c))
        if kind == "decimal" and digits <= 15 and places <= 5:
            return self._short(f"TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {_text(c)}))")
        raise refused(name, kind, "part of a key")

    def _escaped(self, text: str) -> str:
        """Return JSON of a text: nearly all texts hold nothing that is to be escaped."""
        escaped = f"REPLACE(REPLACE({text}, CHR(92), CHR(92) || CHR(92)), CHR(34), CHR(92) || CHR(34))"
        for code in range(32):
            written = msgspec.json.encode(chr(code)).decode()[2:-1]
            escaped = f"REPLACE({escaped}, CHR({code}), CHR(92) || '{written}')"
        return f"CASE WHEN {text} RLIKE {_SPECIAL} THEN '\"' || {escaped} || '\"' ELSE '\"' || {text} || '\"' END"

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Digest the values, each with its length before it."""
        texts = map(self._digested, columns)
        measured = [f"COALESCE(CAST(LENGTH({text}) AS STRING) || ':' || {text}, '-')" for text in texts]
        return f"'{self.scheme}' || LEFT(SHA2({' || '.join([self.quote(digest), *measured])}, 256), 32)"

    def _digested(self, number: int) -> str:
        c, kind = f"c{number}", self.types[number]
        if kind == "binary":
            return f"HEX({c})"
        if kind == "timestamp":  # only one without a zone is the same text in every session
            moment = _text(f"UNIX_MICROS(CAST({c} AS TIMESTAMP))")
            return f"CASE TYPEOF({c}) WHEN 'timestamp_ntz' THEN {_text(c)} ELSE {moment} END"
        return _text(c)

    def quote(self, text: str) -> str:
        """Return a literal, in which backslashes are special; without ``%``, to which parameters may give a sense."""
        for special, written in (("\\", "\\\\"), ("'", "\\'"), ("%", "\\u0025")):
            text = text.replace(special, written)
        return f"'{text}'"


def _text(expression: str) -> str:
    return f"CAST({expression} AS STRING)"


class _Cursor:
    """A cursor whose transactions begin with the first statement that may be in one: what makes tables may not."""

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor()
        self._begins = self._begun = False

    def execute(self, statement: str, *parameters: Any) -> None:
        """Execute a statement; one that makes or alters a table commits those before it."""
        if statement == "BEGIN TRANSACTION":
            self._begins = True
            return
        makes = statement.startswith(("CREATE ", "ALTER "))
        if self._begun and (makes or statement == "COMMIT"):
            self._cursor.execute("COMMIT")
            self._begun = False
        if statement == "COMMIT":
            self._begins = False
            return
        if self._begins and not (self._begun or makes):
            self._cursor.execute("BEGIN TRANSACTION")
            self._begun = True
        self._cursor.execute(statement.replace("DOUBLE PRECISION", "DOUBLE"), *parameters)

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed; earlier versions of the driver return it as a row."""
        count = int(self._cursor.rowcount)
        if count < 0 and self._cursor.description:
            ((count, *_),) = self._cursor.fetchall()
        return int(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


DATABRICKS = Dialect(
    rows=parts(
        lambda number: f"e[{number}]",
        "(SELECT EXPLODE(FROM_JSON(:json, 'ARRAY<ARRAY<STRING>>')) AS e) AS parts",
    ),
    keys="SELECT EXPLODE(FROM_JSON(:json, 'ARRAY<STRING>')) AS k",
    upsert=merge,
    takes=MERGE_LEASE,
    seeds=(
        "MERGE INTO {lease} AS old USING (SELECT '' AS sync_id) AS new ON old.sync_id = new.sync_id "
        "WHEN NOT MATCHED THEN INSERT (sync_id, holder, instance, attempt, label, expires_at) "
        "VALUES ('', '', '', 0, '', 0)",
    ),
    before_taking=("UPDATE {lease} SET expires_at = expires_at + 1 WHERE sync_id = ''",),
    cursor=_Cursor,
    placeholder="?",
    quote="`",
    text="STRING",
    storage=" USING DELTA TBLPROPERTIES ('delta.feature.catalogManaged' = 'supported')",
    most=250_000,
    batches=10,
    begins=True,
    grants=(
        "GRANT USE SCHEMA ON SCHEMA {schema} TO {role}",
        "GRANT SELECT, MODIFY ON TABLE {table} TO {role}",
    ),
    make=lambda statement: statement.replace("DOUBLE PRECISION", "DOUBLE"),
    principal=lambda role: quoted(role, "`"),
    denied=lambda error: sqlstate(error) == DENIED or _NO_RIGHT.search(str(error)) is not None,
    indexes=False,
    now="UNIX_MILLIS(CURRENT_TIMESTAMP())",
    time="TIMESTAMP_NTZ",
    moment="CAST({value} AS TIMESTAMP_NTZ)",
    some="{where}",
    digests="SHA2({value}, 256)",
    comparing=Databricks,
    counts=False,  # not tried on a real warehouse
    untested="No real Databricks warehouse has kept a state yet: "
    "the statements were parsed as Databricks', and executed "
    "on DuckDB, whose transactions are alike",
)
