"""Postgres 11 and later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.sql.databases import plain_cursor
from airflow_provider_iterable.sql.databases.postgres.catalog import JSON, JSONB, leaves, looked_up
from airflow_provider_iterable.sql.errors import sqlstate
from airflow_provider_iterable.state.tables.dialects.vocabulary import DENIED, Dialect, Typed, in_years, parts, refused

_UTF8 = "UTF8"
_ONLY_TEXT = r"\\u(0000|[dD][89a-fA-F])|(^|\[|:|,|\s)(-0|-?[0-9.]+[eE])"
"""In JSON that is compared as text: ``jsonb`` refuses some escapes and exponents, and does not know ``1e2`` from
``100``, which become a double and a long, nor ``-0.0`` from ``0.0``."""
_TOLD_APART = frozenset({16, 20, 21, 23, 25, 1042, 1043, 1082, 1114, 1700, 2950, JSON, JSONB})
"""Types whose values ``to_json`` tells apart whatever the session's settings are; so not times with a zone."""


class Postgres(Typed):
    """A row is digested in its binary form, which has types, lengths and nulls, and JSON as ``jsonb``.

    JSON that is mapped by ``Json()`` from text is compared as that: before Postgres 16 no cast of what may be none
    fails softly, and a digest that depends on the version has every row sent again with an upgrade of the server.
    """

    scheme = "d1"
    joins_fully = True

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []
        self._comparable: set[int] = set()
        self._holding_json: set[int] = set()
        """Positions of columns whose values have ``json`` in them, in an array or a composite type."""

    def describe(self, cursor: Any) -> None:
        """Look the types up in the catalog."""

        def find(query: str) -> list[Row]:
            cursor.execute(query)
            rows: list[Row] = cursor.fetchall()
            return rows

        oids = [int(column[1]) for column in cursor.description]
        described = {
            oid: (name, known, sends)
            for oid, name, known, sends in find(
                "SELECT t.oid::bigint, CASE WHEN t.typtype = 'e' THEN 'enum' ELSE t.typname::text END, "
                "t.typtype IN ('b', 'e'), t.typsend::oid <> 0 AND coalesce(e.typsend::oid <> 0, true) "
                "FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem "
                f"WHERE t.oid IN ({', '.join(map(str, oids))})"
            )
        }
        types = looked_up(find, oids)
        self.types, self._names = [], []
        self._holding_json, self._comparable = set(), set()
        for number, oid in enumerate(oids):
            name, known, sends = described[oid]
            self._names.append(name)
            self.types.append(name if known else "")  # a composite type may be called as any other
            parts = leaves(oid, types)
            if oid != JSON and JSON in parts:
                self._holding_json.add(number)
                sends = sends and parts <= _TOLD_APART
            if sends:
                self._comparable.add(number)

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Let all statements of the transaction see one snapshot."""
        plain = plain_cursor(connection)
        plain.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return plain

    def family(self, number: int, name: str) -> str:
        """Return the type; integers of all sizes are one, and so is text with and without a limit."""
        native = self._names[number]
        if number not in self._comparable:
            raise refused(name, native, "compared")
        if number in self._holding_json:
            return f"{native} by value"
        families = {"json": "json by value", "int2": "int8", "int4": "int8", "varchar": "text"}
        return families.get(self.types[number], native)

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
                return self._short(in_years(c, "DATE", f"""'"' || to_char({c}, 'YYYY-MM-DD') || '"'"""))
            case "timestamp":
                return self._short(self._moment(c, ""))
            case "timestamptz":
                moment = self._moment(f"({c} AT TIME ZONE 'UTC')", "Z")
                return self._short(in_years(f"{c}::timestamp", "TIMESTAMP", moment))  # as the session has it, too
            case "numeric":
                return self._numeric(c)
        raise refused(name, self._names[number], "part of a key")

    def _moment(self, c: str, zone: str) -> str:
        return in_years(c, "TIMESTAMP", f"""'"' || to_char({c}, 'YYYY-MM-DD"T"HH24:MI:SS.US') || '{zone}"'""")

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
        values = [self._value(number) for number in columns]
        record = f"record_send(ROW('{digest}'::text, {', '.join(values)}))" if values else f"'{digest}'::bytea"
        return f"'{self.scheme}' || substr(encode(sha256({record}), 'hex'), 1, 32)"

    def _value(self, number: int) -> str:
        c, kind = f"c{number}", self.types[number]
        if kind == "json":
            return self._by_value(f"{c}::text", f"{c}::jsonb")
        if number in self._holding_json:
            return self._by_value(f"to_json({c})::text", f"to_jsonb({c})")
        cast = {"int2": "int8", "int4": "int8", "varchar": "text"}.get(kind)
        return f"{c}::{cast}" if cast else c

    def _by_value(self, text: str, value: str) -> str:
        return f"CASE WHEN {text} ~ {self.quote(_ONLY_TEXT)} THEN '=' || {text} ELSE {value}::text END"

    def quote(self, text: str) -> str:
        """Return a literal that means the same whatever ``standard_conforming_strings`` says."""
        plain = super().quote(text)
        return "E" + plain.replace("\\", "\\\\") if "\\" in plain else plain


def _cursor(connection: Any) -> Any:
    """Open a cursor on a connection of the state's own.

    It prepares nothing under a name, for behind a pooler the name may mean another client's statement. Whatever the
    Airflow connection says, it returns tuples, and texts in any script.
    """
    if hasattr(connection, "set_client_encoding"):  # psycopg2
        _refuse(connection.get_parameter_status("server_encoding"))
        if connection.encoding != _UTF8:
            connection.set_client_encoding(_UTF8)
    elif hasattr(connection, "pgconn"):  # psycopg
        _refuse(connection.info.parameter_status("server_encoding"))
        if connection.info.parameter_status("client_encoding") != _UTF8:
            connection.execute(f"SET client_encoding TO '{_UTF8}'")
        from psycopg import Cursor
        from psycopg.rows import tuple_row

        connection.prepare_threshold = None
        # Parameters are sent apart from the statement: quoting them costs as much as all the rest.
        return Cursor(connection, row_factory=tuple_row)
    return plain_cursor(connection)


def _refuse(encoding: str | None) -> None:
    """Refuse a database whose encoding cannot hold every text: one such text would fail a whole commit.

    :raises ConfigurationError: the message says what to do
    """
    if encoding not in (None, _UTF8):
        raise ConfigurationError(
            f"The database of the state keeps texts as {encoding}, which has no room for every key and address. "
            "Nothing was read or sent. Keep the state in a database in UTF8 (CREATE DATABASE ... ENCODING 'UTF8' "
            "TEMPLATE template0), and name its connection with TableState(conn_id=...)."
        )


def _denied(error: Exception) -> bool:
    """Whether a right is missing, or the role's search path leads to no schema in which tables could be made."""
    state = sqlstate(error)
    return state == DENIED or (state == "3F000" and "no schema has been selected" in str(error))


_HIDES = (
    "SELECT t.name FROM (VALUES {tables}) AS t (name, written), to_regclass(t.written) AS c (oid) "
    "WHERE row_security_active(c.oid) AND (EXISTS ("
    "SELECT 1 FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid AND NOT p.polpermissive) OR NOT EXISTS ("
    "SELECT 1 FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid AND p.polcmd = '*' "
    "AND pg_get_expr(p.polqual, c.oid) = 'true' AND coalesce(pg_get_expr(p.polwithcheck, c.oid), 'true') = 'true' "
    "AND EXISTS (SELECT 1 FROM unnest(p.polroles) AS r WHERE r = 0 OR pg_has_role(r, 'USAGE'))))"
)
"""Tables with row-level security, unless a policy lets the role see and write all rows, and none restricts that."""

POSTGRES = Dialect(
    denied=_denied,
    hides=_HIDES,
    opens="CREATE POLICY iterable_sync ON {table} TO {role} USING (true)",
    cursor=_cursor,
    indexed="SELECT 1 FROM pg_catalog.pg_indexes "
    "WHERE schemaname = coalesce(:schema, current_schema()) AND tablename = :table AND indexname = :index",
    before_making=(
        "SET LOCAL lock_timeout = '5s'",
        "SET LOCAL idle_in_transaction_session_timeout = '60s'",
        "SELECT pg_advisory_xact_lock(hashtext('iterable_sync'))",
    ),
    rows=parts(lambda number: f"e->>{number}", "jsonb_array_elements(:json::jsonb) AS t(e)"),
    keys="SELECT k FROM json_array_elements_text(:json::json) AS t(k)",
    now="CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    # The rows of this table live for one request: compressing them would cost more than all the rest.
    tuned={"intents": ("ALTER TABLE {intents} ALTER COLUMN doubts SET STORAGE EXTERNAL",)},
    idle=" AND set_config('idle_in_transaction_session_timeout', :ms, true) <> ''",
    before_taking=("SET LOCAL lock_timeout = '5s'",),
    before_renewal=("SET LOCAL lock_timeout = '5s'",),
    limits=("SET LOCAL lock_timeout = '5s'", "SET LOCAL statement_timeout = '60s'"),
    time="TIMESTAMP WITH TIME ZONE",
    moment="CAST(CAST({value} AS TEXT) || '+00:00' AS TIMESTAMP WITH TIME ZONE)",
    some="ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {where} LIMIT {limit}))",
    digests="encode(sha256(convert_to({value}, 'UTF8')), 'hex')",
    comparing=Postgres,
)
