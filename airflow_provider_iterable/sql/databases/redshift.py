"""Redshift, by redshift_connector.

The driver fetches whole results when it runs a query: 500,000 rows of 110 bytes take 140 MB. So the query is declared
as a cursor in the database, within a transaction, and its rows are fetched a thousand at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_iterable.columns import UNKNOWN, ColumnType, Kind, json_text, refused
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.sql.databases.driver import Driver

CURSOR = "airflow_provider_iterable"
"""The name of the cursor that stays in the database."""

FETCHED = 1000
"""Rows in one answer: clusters of a single node refuse to give more."""

_PLACE = "have the model's SQL make JSON of it, as in JSON_PARSE(ST_AsGeoJSON(c))"


def _opaque(name: str, remedy: str, kind: Kind = Kind.UNKNOWN) -> ColumnType:
    return ColumnType(kind, name, refused(name, remedy))


TYPES: Mapping[int, ColumnType] = {
    16: ColumnType(Kind.BOOLEAN, "BOOLEAN"),
    18: ColumnType(Kind.TEXT, "char"),
    19: ColumnType(Kind.TEXT, "name"),
    20: ColumnType(Kind.INTEGER, "BIGINT"),
    21: ColumnType(Kind.INTEGER, "SMALLINT"),
    23: ColumnType(Kind.INTEGER, "INTEGER"),
    25: ColumnType(Kind.TEXT, "TEXT"),
    26: ColumnType(Kind.INTEGER, "oid"),
    700: ColumnType(Kind.DOUBLE, "REAL"),
    701: ColumnType(Kind.DOUBLE, "DOUBLE PRECISION"),
    705: ColumnType(Kind.TEXT, "unknown"),
    1042: ColumnType(Kind.TEXT, "CHAR"),
    1043: ColumnType(Kind.TEXT, "VARCHAR"),
    1082: ColumnType(Kind.DATE, "DATE"),
    1083: ColumnType(Kind.TIME, "TIME"),
    1114: ColumnType(Kind.TIMESTAMP, "TIMESTAMP"),
    1184: ColumnType(Kind.INSTANT, "TIMESTAMPTZ"),
    1188: _opaque("INTERVAL YEAR TO MONTH", "cast it in the model's SQL, as in c::varchar", Kind.INTERVAL),
    1190: _opaque("INTERVAL DAY TO SECOND", "cast it in the model's SQL, as in c::varchar", Kind.INTERVAL),
    1266: ColumnType(Kind.TIME, "TIMETZ"),
    1700: ColumnType(Kind.DECIMAL, "NUMERIC"),
    3000: _opaque("GEOMETRY", _PLACE),
    3001: _opaque("GEOGRAPHY", _PLACE),
    3999: _opaque("GEOMETRY", _PLACE),
    4000: ColumnType(Kind.JSON, "SUPER", json_text),
    6551: _opaque("VARBYTE", "encode it in the model's SQL, as in from_varbyte(c, 'hex')", Kind.BYTES),
}
"""Types by number, as in Postgres and with those that only Redshift has; others are looked up by name."""

NAMED: Mapping[str, ColumnType] = {
    "hllsketch": _opaque("HLLSKETCH", "take what is needed of it in the model's SQL, as in HLL_CARDINALITY(c)"),
}
"""Types whose number the driver does not know, by name."""

_LOOK_UP = "SELECT oid::bigint, typname::varchar FROM pg_catalog.pg_type WHERE oid IN ({})"


class Declared:
    """A cursor that stays in the database, of which a thousand rows are fetched at a time.

    :param connection: one of redshift_connector, which begins transactions by itself
    """

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor()
        self._rows: list[Row] = []
        self._ended = False

    @property
    def description(self) -> Sequence[Sequence[Any]] | None:
        """The columns, once the query was run."""
        described: Sequence[Sequence[Any]] | None = self._cursor.description
        return described

    def execute(self, sql: str, *parameters: Any) -> None:
        """Declare the query, and fetch the first rows, with which the columns come.

        :raises ModelError: no cursor can be declared for such a statement
        """
        _check_is_query(sql)
        self._cursor.execute(f"DECLARE {CURSOR} CURSOR FOR\n{sql}", *parameters)
        self._fetch()

    def fetchmany(self, size: int) -> Sequence[Row]:
        """Return so many rows, or those that are left."""
        while len(self._rows) < size and not self._ended:
            self._fetch()
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    def close(self) -> None:
        """Close the driver's cursor; the database's ends with the transaction."""
        self._cursor.close()

    def _fetch(self) -> None:
        self._cursor.execute(f"FETCH FORWARD {FETCHED} FROM {CURSOR}")
        rows = self._cursor.fetchall()
        self._ended = len(rows) < FETCHED
        self._rows.extend(rows)


def _check_is_query(sql: str) -> None:
    # Imported here because DAG files import this module, and lexing happens in a task. common-sql depends on it.
    from sqlparse import lexer, tokens

    lexed = lexer.tokenize(sql)  # type: ignore[no-untyped-call]  # sqlparse has no types
    first = next((text for kind, text in lexed if kind not in tokens.Whitespace and kind not in tokens.Comment), "")
    if first.upper() not in ("SELECT", "WITH", "("):
        raise ModelError(
            f"The model begins with {first.upper()}. On Redshift a model is read through a cursor of the database, "
            "which takes SELECT or WITH ... SELECT and nothing else: put what it returns into a table or a view, and "
            "select from that. Nothing was sent."
        )


def _settle(connection: Any) -> None:
    connection.autocommit = False  # a cursor lives in a transaction


def _types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    numbers = [column[1] for column in cursor.description or ()]
    names: dict[int, str] = {}
    if missing := sorted(set(numbers) - TYPES.keys()):
        plain = connection.cursor()
        plain.execute(_LOOK_UP.format(", ".join(map(str, missing))))
        names = dict(plain.fetchall())
        plain.close()
    return [TYPES.get(number) or NAMED.get(names.get(number, ""), UNKNOWN) for number in numbers]


REDSHIFT = Driver(settle=_settle, streaming=Declared, types=_types)
