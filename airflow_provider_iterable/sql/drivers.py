"""Knows the words of drivers' errors."""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_iterable.errors import IterableSyncError, ModelError, ModelUnavailable

_ERROR_BASES = frozenset({"Error", "DatabaseError", "InterfaceError", "ConnectionError", "TimeoutError"})
"""What errors of drivers descend from, by name."""
_DUCKDB_SQL = frozenset({"ParserException", "BinderException", "CatalogException", "SyntaxException"})
"""DuckDB's errors about the query: their messages name tables and columns."""
_SQLITE_SQL = ("SQLITE_ERROR", "SQLITE_SCHEMA")
"""SQLite's errors about the statement, the latter if another connection has made a table since."""
_SQLITE_NAMES = ("no such ", "near ", "ambiguous ", "wrong number of arguments", "incomplete input")
"""How SQLite's messages begin that name tables and columns."""
_MYSQL_QUERY = (1242, 1365, 1690, 1792)
"""MySQL's errors about a query that mysqlclient calls operational: several rows for one, division by 0, out of range,
and what writes in a session that only reads."""
_MYSQL_NAMES = (1054, 1146)
"""MySQL's errors about names: a column or a table that is not there."""
_NO_TABLE = re.compile(r"no such table|Table '?[\w.]+'? doesn't exist|Catalog Error: Table").match
"""How SQLite, MySQL and DuckDB say that a table is not there."""
_VALUE = re.compile(r"'[^']*'?|[^\s\"']*@[^\s\"']*")
"""A part of a message that may be a value: quoted text, or an address."""


def is_driver_error(error: BaseException) -> bool:
    """Whether an error is what a driver says, which may hold values."""
    bases = {kind.__name__ for kind in type(error).__mro__}
    return not isinstance(error, IterableSyncError) and not bases.isdisjoint(_ERROR_BASES)


def wrap_error(error: Exception) -> Exception:
    """Return what is raised for a driver's error, without the values in its message; any other error as it is."""
    lineage = {kind.__name__ for kind in type(error).__mro__}
    if not is_driver_error(error):
        return error
    state = str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
    what = f"{type(error).__name__}, SQLSTATE {state}" if state else type(error).__name__
    message = _message_without_values(error, state)
    if message and (state == "42P01" or _NO_TABLE(message)):
        return ModelUnavailable(
            f"A table of the model is not there ({what}): {message}. Nothing was sent. The next try begins anew: "
            "whatever makes the table may be at it."
        )
    if message:
        return ModelError(f"The model's query is wrong ({what}): {message}. Nothing was sent.")
    general = getattr(error, "sqlite_errorname", None) in _SQLITE_SQL or _mysql_number(error) in _MYSQL_QUERY
    if state[:2] in ("0A", "22", "42") or general or lineage & {"DataError", "ProgrammingError", "NotSupportedError"}:
        return ModelError(
            f"The model's query failed ({what}). Nothing was sent. What the database said may hold values, and is not "
            "repeated here: run the query there."
        )
    return ModelUnavailable(f"The model could not be read ({what}). Nothing was sent. The next try begins anew.")


def _mysql_number(error: Exception) -> Any:
    """Return MySQL's number of an error."""
    return getattr(error, "errno", None) or next(iter(error.args), None)


def _message_without_values(error: Exception, state: str) -> str:
    """Return the first line of a message that names tables and columns; nothing if it may be about values."""
    kind, line = type(error).__name__, str(error).partition("\n")[0].rstrip(". ")
    if _mysql_number(error) in _MYSQL_NAMES:
        return str(getattr(error, "msg", None) or error.args[-1])
    if (
        state[:2] == "42"
        or kind in _DUCKDB_SQL
        or (getattr(error, "sqlite_errorname", None) in _SQLITE_SQL and line.startswith(_SQLITE_NAMES))
    ):
        return _VALUE.sub("...", line)
    return ""
