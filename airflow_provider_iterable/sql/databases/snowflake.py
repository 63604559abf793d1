"""Snowflake, by snowflake-connector-python.

Its sessions are left as they are, but for a limit of rows: the connector makes Python values of numbers, dates and
times, in whatever form and zone the session writes them, so that settings such as ``TIMESTAMP_OUTPUT_FORMAT`` do not
show.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_iterable.api.values import BadValue
from airflow_provider_iterable.columns import UNKNOWN, ColumnType, Kind, json_text, refused
from airflow_provider_iterable.sql.databases.driver import Driver

_EVERY_ROW = "ALTER SESSION SET ROWS_PER_RESULTSET = 0"
"""Account, user or session may have every query end after so many rows, without a word; 0 is no limit."""
_UNDEFINED = re.compile(r'"(?:[^"\\]|\\.)*"|\bundefined\b')
"""A text within JSON, or the word that Snowflake has for an element without a value."""


def _json(value: Any) -> Any:
    """Return what a semi-structured value means; an element without a value is null.

    :raises BadValue: it is no JSON, which holds neither NaN nor infinity
    """
    try:
        return json_text(value)
    except BadValue:
        return json_text(_UNDEFINED.sub(lambda found: found[0] if found[0].startswith('"') else "null", value))


def _place(name: str) -> Any:
    refuse = refused(name, "have the model's SQL make JSON of it, as in ST_ASGEOJSON(c)")

    def load(value: Any) -> Any:
        try:
            place = json_text(value)
        except BadValue:
            place = None
        # The session's GEOGRAPHY_OUTPUT_FORMAT may be another one, text or bytes.
        return place if isinstance(place, Mapping) else refuse(value)

    return load


def _pairs(value: Any) -> Any:
    parsed = _json(value)
    return dict(parsed) if isinstance(parsed, list) else parsed


_BINARY = refused("BINARY", "encode it in the model's SQL, as in BASE64_ENCODE(c)")
_FILE = refused("FILE", "take what is needed of it in the model's SQL, as in FL_GET_RELATIVE_PATH(c)")

TYPES: Mapping[int, ColumnType] = {
    0: ColumnType(Kind.INTEGER, "NUMBER"),  # with decimal places: see below
    1: ColumnType(Kind.DOUBLE, "FLOAT"),
    2: ColumnType(Kind.TEXT, "VARCHAR"),
    3: ColumnType(Kind.DATE, "DATE"),
    4: ColumnType(Kind.TIMESTAMP, "TIMESTAMP"),
    5: ColumnType(Kind.JSON, "VARIANT", _json),
    6: ColumnType(Kind.INSTANT, "TIMESTAMP_LTZ"),
    7: ColumnType(Kind.INSTANT, "TIMESTAMP_TZ"),
    8: ColumnType(Kind.TIMESTAMP, "TIMESTAMP_NTZ"),
    9: ColumnType(Kind.JSON, "OBJECT", _json),
    10: ColumnType(Kind.JSON, "ARRAY", _json),
    11: ColumnType(Kind.BYTES, "BINARY", _BINARY),
    12: ColumnType(Kind.TIME, "TIME"),
    13: ColumnType(Kind.BOOLEAN, "BOOLEAN"),
    14: ColumnType(Kind.JSON, "GEOGRAPHY", _place("GEOGRAPHY")),
    15: ColumnType(Kind.JSON, "GEOMETRY", _place("GEOMETRY")),
    16: ColumnType(Kind.ARRAY, "VECTOR", json_text),
    17: ColumnType(Kind.MAP, "MAP", _pairs),
    18: ColumnType(Kind.UNKNOWN, "FILE", _FILE),
    19: ColumnType(Kind.INTERVAL, "INTERVAL YEAR TO MONTH"),
    20: ColumnType(Kind.INTERVAL, "INTERVAL DAY TO SECOND"),
}
"""Types by the connector's codes (``snowflake.connector.constants.FIELD_ID_TO_NAME``)."""

_DECIMAL = ColumnType(Kind.DECIMAL, "NUMBER")


def _types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    return [
        # The connector has the code of numbers also for types that it does not know; they have no decimal places.
        _DECIMAL if column[1] == 0 and column[5] != 0 else TYPES.get(column[1], UNKNOWN)
        for column in cursor.description or ()
    ]


def _settle(connection: Any) -> None:
    cursor = connection.cursor()
    with suppress(Exception):  # it was not tried on a real server, where most have no limit
        cursor.execute(_EVERY_ROW)
    cursor.close()


SNOWFLAKE = Driver(settle=_settle, types=_types)
