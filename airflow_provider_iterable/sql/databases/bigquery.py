"""BigQuery, by the cursor of Airflow's own hook.

That cursor says nothing of repeated columns and of fields within records, casts what stands at the top of a row and
leaves the rest in the form of the API. So it runs the query, and the rows are read here, as the API gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import islice
from math import nextafter
from typing import Any

from airflow_provider_iterable.api.values import BadValue
from airflow_provider_iterable.columns import UNKNOWN, ColumnType, Kind, json_text, refused
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.sql.databases.driver import Driver

Load = Callable[[Any], Any]

PAGE = 20_000
"""Rows in one answer of the API, which gives at most 10 MB at once."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = nextafter(253_402_300_800, 0)
"""The last second of the year 9999; its last microseconds, as a double, are those of the next year."""


def _instant(value: Any) -> Any:
    """Return the moment of seconds since 1970, as a number or as text."""
    if isinstance(value, datetime):
        return value
    try:
        return _EPOCH + timedelta(seconds=min(float(value), _LAST))
    except OverflowError:
        raise BadValue("a date beyond the years 1 to 9999") from None
    except ValueError:
        return _from_text(datetime.fromisoformat, "date-time")(value)


def _from_text(read: Callable[[str], Any], what: str) -> Load:
    def load(value: Any) -> Any:
        try:
            return read(value) if isinstance(value, str) else value
        except (ValueError, InvalidOperation):
            raise BadValue(f"text that is no {what}") from None

    return load


def _type(kind: Kind, name: str, load: Load | None = None) -> ColumnType:
    return ColumnType(kind, name, load)


_TEXT, _INTEGER = _type(Kind.TEXT, "STRING"), _type(Kind.INTEGER, "INT64")
_DOUBLE, _BOOLEAN = _type(Kind.DOUBLE, "FLOAT64"), _type(Kind.BOOLEAN, "BOOL")
TYPES: Mapping[str, ColumnType] = {
    "STRING": _TEXT,
    "INTEGER": _INTEGER,
    "INT64": _INTEGER,
    "FLOAT": _DOUBLE,
    "FLOAT64": _DOUBLE,
    "BOOLEAN": _BOOLEAN,
    "BOOL": _BOOLEAN,
    "NUMERIC": _type(Kind.DECIMAL, "NUMERIC", _from_text(Decimal, "number")),
    "BIGNUMERIC": _type(Kind.DECIMAL, "BIGNUMERIC", _from_text(Decimal, "number")),
    "TIMESTAMP": _type(Kind.INSTANT, "TIMESTAMP", _instant),
    "DATETIME": _type(Kind.TIMESTAMP, "DATETIME", _from_text(datetime.fromisoformat, "date-time")),
    "DATE": _type(Kind.DATE, "DATE", _from_text(date.fromisoformat, "date")),
    "TIME": _type(Kind.TIME, "TIME"),
    "JSON": _type(Kind.JSON, "JSON", json_text),
    "BYTES": _type(Kind.BYTES, "BYTES", refused("BYTES", "encode it in the model's SQL, as in TO_BASE64(c)")),
    "GEOGRAPHY": _type(
        Kind.UNKNOWN,
        "GEOGRAPHY",
        refused("GEOGRAPHY", "have the model's SQL make JSON of it, as in PARSE_JSON(ST_ASGEOJSON(c))"),
    ),
    "INTERVAL": _type(
        Kind.INTERVAL, "INTERVAL", refused("INTERVAL", "cast it in the model's SQL, as in CAST(c AS STRING)")
    ),
    "RANGE": _type(
        Kind.UNKNOWN,
        "RANGE",
        refused("RANGE", "take its ends in the model's SQL, as in RANGE_START(c) AS start, RANGE_END(c) AS finish"),
    ),
}
"""Types by the names in a schema of the API."""
_CASTS: Mapping[str, Load] = {
    **dict.fromkeys(("INTEGER", "INT64"), int),
    **dict.fromkeys(("FLOAT", "FLOAT64", "TIMESTAMP"), float),
    **dict.fromkeys(("BOOLEAN", "BOOL"), "true".__eq__),
}
"""What makes values of the API's text, as Airflow's cursor does: keys are made of these."""
_RECORDS = ("RECORD", "STRUCT")


def _column_type(field: Mapping[str, Any]) -> ColumnType:
    name = str(field["type"])
    record = name in _RECORDS
    if field.get("mode") == "REPEATED":
        one = _within(field)
        return ColumnType(
            Kind.ARRAY,
            f"ARRAY<{'STRUCT' if record else TYPES.get(name, UNKNOWN).native or name}>",
            lambda cells: [one(cell["v"]) for cell in cells],
        )
    return ColumnType(Kind.STRUCT, "STRUCT", _within(field)) if record else TYPES.get(name, UNKNOWN)


def _within(field: Mapping[str, Any]) -> Load:
    """Return what makes a value of the API's form for one element, or for what a record has under a name."""
    name = str(field["type"])
    if name in _RECORDS:
        members = [
            (str(member["name"]), _column_type(member).load if member.get("mode") == "REPEATED" else _within(member))
            for member in field["fields"]
        ]
        return lambda record: (
            None
            if record is None
            else {
                member: None if load is None else load(cell["v"])
                for (member, load), cell in zip(members, record["f"], strict=True)
            }
        )
    made = TYPES.get(name, UNKNOWN).load or _CASTS.get(name)
    return lambda value: value if value is None or made is None else made(value)


class Results:
    """Runs a query by Airflow's cursor, and reads its rows page by page.

    :param cursor: the cursor, of which nothing is fetched
    """

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._rows: Iterator[Row] = iter(())
        self.fields: Sequence[Mapping[str, Any]] = ()
        """The columns as the API describes them, once the query was run."""

    @property
    def description(self) -> Sequence[Sequence[Any]]:
        """The columns as Airflow's cursor describes them."""
        described: Sequence[Sequence[Any]] = self._cursor.description
        return described

    def execute(self, sql: str, *parameters: Any) -> None:
        """Run the query, and read the first page."""
        self._cursor.execute(sql, *parameters)
        page = self._page(None)
        self.fields = page.get("schema", {}).get("fields", ())
        self._rows = self._read(page)

    def fetchmany(self, size: int) -> Sequence[Row]:
        """Return so many rows, or those that are left."""
        return list(islice(self._rows, size))

    def close(self) -> None:
        """Close Airflow's cursor."""
        self._cursor.close()

    def _page(self, token: str | None) -> Mapping[str, Any]:
        cursor, answer = self._cursor, {"jobComplete": False}
        while not answer.get("jobComplete", True):  # the API waits some seconds before it says so
            request = cursor.service.jobs().getQueryResults(
                projectId=cursor.project_id,
                jobId=cursor.job_id,
                location=cursor.location,
                pageToken=token,
                maxResults=PAGE,
            )
            answer = request.execute(num_retries=cursor.num_retries)
        return answer

    def _read(self, page: Mapping[str, Any]) -> Iterator[Row]:
        casts = [None if field.get("mode") == "REPEATED" else _CASTS.get(field["type"]) for field in self.fields]
        while True:
            for row in page.get("rows", ()):
                cells = (cell["v"] for cell in row["f"])
                yield tuple(
                    value if value is None or cast is None else cast(value)
                    for value, cast in zip(cells, casts, strict=True)
                )
            token = page.get("pageToken")
            if not token:
                return
            page = self._page(token)


def _streaming(connection: Any) -> Any:
    cursor = connection.cursor()
    return Results(cursor) if hasattr(cursor, "service") else cursor


def _types(connection: Any, cursor: Any) -> Sequence[ColumnType]:
    if isinstance(cursor, Results):
        return [_column_type(field) for field in cursor.fields]
    return [_guarded(str(column[1]) if len(column) > 1 else "") for column in cursor.description or ()]


def _guarded(name: str) -> ColumnType:
    """Return the type of a column of which only the name of its type is known: neither whether it repeats, nor fields.

    What comes in the form of the API is refused: Iterable would have fields named v and f for ever.
    """
    found = TYPES.get(name, UNKNOWN)

    def load(value: Any) -> Any:
        one = value[0] if isinstance(value, list) and value else value
        if isinstance(one, Mapping) and list(one) in (["v"], ["f"]):
            raise BadValue(
                "an array or a struct in the form of BigQuery's API; write TO_JSON_STRING(c) AS c in the model's SQL, "
                'and map it with Json("c")'
            )
        return value if found.load is None else found.load(value)

    return ColumnType(found.kind, found.native, load)


BIGQUERY = Driver(streaming=_streaming, types=_types)
