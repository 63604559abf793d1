"""Knows what a database or its driver says when a model cannot be read: whether a retry helps, and what may be told.

What the server says decides, by its code; the class of the exception counts only where there is no code, for drivers
differ in what they call which error. What is about the statement or the connection is told; what may be about rows or
parameters is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os.path import basename
from traceback import extract_tb

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_iterable.columns import Columns, Kind
from airflow_provider_iterable.errors import IterableSyncError, ModelError, ModelUnavailable
from airflow_provider_iterable.sql.asked import DECLARED, Asked, cast, place, unbound

_ERROR_BASES = frozenset(
    {"Error", "DatabaseError", "InterfaceError", "ConnectionError", "TimeoutError", "GoogleAPIError"}
)
"""What errors of drivers descend from, by name."""
_WRONG_BASES = frozenset({"DataError", "ProgrammingError", "NotSupportedError"})
"""Those about the query, where nothing but the class says so."""
_BINDING_BASES = _WRONG_BASES | {"InterfaceError", "TypeError", "ValueError", "KeyError", "IndexError"}
"""Those with which drivers refuse to bind parameters; some let Python's own errors pass."""

# By SQLSTATE.
_AWAY = frozenset({"08", "28", "3D", "40", "53", "55", "57", "58", "P0", "XX"})
"""Classes that another try may not meet: no connection, conflict, no room, lock, stopped, system, a function's own,
internal."""
_TOLD = _AWAY - {"P0", "XX"}
"""Those whose messages are about the server and hold nothing of a row."""
_WRONG = frozenset({"0A", "21", "22", "42", "54"})
"""Classes of what is not supported, of values, of the statement, and of what is too large for the server."""
_REMEDIES: Mapping[str, str] = {
    "0A000": "a model may only read: no part of it may be INSERT, UPDATE or DELETE, WITH ... RETURNING included",
    "25001": "a model is one query that reads, inside a transaction, where this statement cannot run",
    "54011": "the query has more columns than the server takes; where the database compares, some are added: "
    'TableState(compare="worker") adds none',
}
"""By SQLSTATE, what may be told of an error whose own words are not; of ``0A000``, where these are about writing."""
_CONNECTION = frozenset({"08", "28", "3D"})
_TOO_MANY, READ_ONLY = "53300", "25006"
_NO_TABLE_STATES = frozenset({"42P01", "42S02"})

# By the server's own number.
_SNOWFLAKE_AWAY = frozenset(
    {
        *(603, 604, 606, 625, 630),  # internal, cancelled, no warehouse, cancelled with the warehouse, timeout
        *(390108, 390110, 390111, 390112, 390114, 390115, 390195),  # session or token expired or gone
        *range(250001, 250007),  # the driver did not get through
        *(251011, 251012, 252010, 252013, 255005, 290000),  # timeout, HTTP, parts of the result did not arrive
    }
)
_SNOWFLAKE_NO_TABLE = frozenset({2003, 2043})
_SNOWFLAKE_NO_VALUE = 252005
"""The connector could not make a row of Python's values."""
_MYSQL_CONNECTION = frozenset(
    {
        *(1040, 1044, 1045, 1049, 1129, 1130, 1203, 1226, 1251, 1698),  # refused: too many, user, database, host
        *(2002, 2003, 2005, 2006, 2013, 2026, 2055),  # not reached, or lost
    }
)
_MYSQL_AWAY = _MYSQL_CONNECTION | {
    *(1021, 1037, 1038, 1041, 1114),  # no room
    *(1053, 1077, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 3169, 4031),  # stopped, cut off
    *(1205, 1213, 1969, 3024),  # lock, deadlock, time of the statement, in MariaDB and in MySQL
}
MYSQL_READ_ONLY = frozenset({1792, 1836})
"""A transaction that is to read, a server that was told to be read."""
_MYSQL_VALUES = frozenset({1242, 1365, 1525, 1690})
"""MySQL's errors about values that mysqlclient calls operational: several rows for one, division by 0, no date, out
of range."""
_MYSQL_NAMES = frozenset({1052, 1054, 1055, 1109, 1142, 1143, 1146, 1305, 1356, 1630})
"""MySQL's errors whose messages hold nothing but names: columns, tables, functions, users."""
_MYSQL_NO_TABLE, _MYSQL_SYNTAX = 1146, 1064
_SQLITE_READ_ONLY = "SQLITE_READONLY"
_WRITES = "this connection may only read, and the query writes"
_DUCKDB_SQL = frozenset({"ParserException", "BinderException", "CatalogException", "SyntaxException"})
"""DuckDB's errors about the query: their messages name tables and columns."""
_SQLITE_SQL = ("SQLITE_ERROR", "SQLITE_SCHEMA")
"""SQLite's errors about the statement, the latter if another connection has made a table since."""
_SQLITE_NAMES = ("no such ", "near ", "ambiguous ", "wrong number of arguments", "incomplete input")
"""How SQLite's messages begin that name tables and columns."""
_SQLITE_FILE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_IOERR", "SQLITE_FULL")
"""SQLite's errors about the file."""
_HTTP: Mapping[str, int] = {"BadRequest": 400, "Unauthorized": 401, "Forbidden": 403, "NotFound": 404}
_GOOGLE_AWAY = frozenset(
    {
        *("backendError", "internalError", "jobBackendError", "jobInternalError", "badGateway", "stopped", "timeout"),
        *("rateLimitExceeded", "jobRateLimitExceeded", "quotaExceeded", "resourcesExceeded"),
        *("resourceInUse", "tableUnavailable"),
    }
)
"""Reasons of BigQuery that another try may not meet."""
_TRINO_USER = "USER_ERROR"
_TRINO_AWAY = frozenset({"USER_CANCELED", "ABANDONED_QUERY", "TRANSACTION_CONFLICT", "ADMINISTRATIVELY_KILLED"})
"""Errors that Trino puts down to the user, and that another try may not meet."""

# By the words.
_NO_TABLE = re.compile(r"no such table|Catalog Error: Table|Not found: Table").match
"""How SQLite, DuckDB and BigQuery say that a table is not there."""
_VALUE = re.compile(r"'[^']*'?|[^\s\"']*@[^\s\"']*")
"""A part of a message that may be a value: quoted text, or an address."""
_NEAR = re.compile(r"(?<=at or near )\"(?![^\W\d]\w*\"|[^\w'\"$]{1,3}\"|\$\d+\").*")
"""What Postgres met, unless it is a word or an operator: a number or a text may be a parameter."""
_SNOWFLAKE_TELLS = re.compile(
    r"(?:syntax )?error line \d+ at position \d+"
    r"|invalid identifier '[^'\n]*'|ambiguous column name '[^'\n]*'"
    r"|(?:Object|Table|View|Schema|Database|Stage|Sequence) '[^'\n]*' does not exist(?: or not authorized)?"
    r"|Unknown (?:user-defined )?(?:table )?function \"?[\w.$]+"
)
_GOOGLE_TELLS = re.compile(
    r"(?:Unrecognized name|(?:Table-valued f|F)unction not found): [\w.$`-]+"
    r"|(?:Not found|Access Denied): (?:BigQuery )?(?:Table|View|Dataset|Project|Routine) [\w.:$-]+"
    r"|Syntax error(?=:)|at \[\d+:\d+\]"
)
_TRINO_TELLS = re.compile(
    r"line \d+:\d+|Column '[^'\n]*' cannot be resolved|(?:Table|Schema|Catalog) '[^'\n]*' does not exist"
    r"|Function '[^'\n]*' not registered"
)
_OF_DATES = frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.INSTANT})
_STATE_IN_WORDS = re.compile(r"SQLSTATE: (\w{5})\b")
"""So Databricks says it."""
_USER = re.compile(r"'([^'\n]*)'@'([^'\n]*)'")
_SECRET = re.compile(
    r"((?:password|passwd|pwd|token|secret|key)\w*\s*[=:]\s*|://[^\s/@]*:)(?!YES\b|NO\b)[^\s@]+", re.IGNORECASE
)
"""A password or token, as it stands in addresses and settings of connections."""
_LINE = re.compile(r"\bat line (\d+)")


@dataclass(frozen=True)
class _Said:
    """What is known of an error.

    :param kind: the name of its class
    :param away: whether another try may not meet it; ``None``: no code says so
    :param told: what may be told of it
    :param code: SQLSTATE, or what else the server calls it
    :param no_table: whether a table is not there
    """

    kind: str
    away: bool | None = None
    told: str = ""
    code: str = ""
    no_table: bool = False

    @property
    def what(self) -> str:
        return f"{self.kind}, {self.code}" if self.code else self.kind


def is_driver_error(error: BaseException) -> bool:
    """Whether an error is what a driver says, which may hold values."""
    return not isinstance(error, IterableSyncError) and not _lineage(error).isdisjoint(_ERROR_BASES)


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error; empty: it has none."""
    found = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if found is None and error.args and isinstance(error.args[0], Mapping):  # redshift_connector
        found = error.args[0].get("C")
    if found is None and type(error).__module__.startswith("databricks"):
        in_words = _STATE_IN_WORDS.search(str(error))
        found = in_words and in_words[1]
    return found if isinstance(found, str) and len(found) == 5 else ""


def error_number(error: BaseException) -> int | None:
    """Return the number that a server or a driver gives an error; ``None``: none."""
    if isinstance(error, OSError):
        return None
    for found in (getattr(error, "errno", None), next(iter(error.args), None)):
        if isinstance(found, int) and found > 0:
            return int(found)
    return None


def _connection_failure(error: BaseException) -> str:
    """Return what the database or its driver says of the connection, which holds nothing of rows; empty: nothing."""
    state = sqlstate(error)
    if error_number(error) in _MYSQL_CONNECTION:
        return without_secrets(_mysql_words(error))
    refused = state[:2] in _CONNECTION or state == _TOO_MANY or (not state and _of_libpq(error))
    return without_secrets(_words(error)) if refused else ""


def without_secrets(words: str, password: str | None = None) -> str:
    """Return what a driver says about a connection, without what gives access to it.

    :param password: the connection's; others are known by what stands before them
    """
    words = words.replace(password, "***") if password else words
    return _SECRET.sub(r"\1***", _USER.sub(r"\1 from \2", words))  # 'user'@'host' would be taken for an address


def _of_libpq(error: BaseException) -> bool:
    """Whether the library of Postgres failed: that has no SQLSTATE, also where the server let nobody in."""
    return "OperationalError" in _lineage(error) and type(error).__module__.partition(".")[0] in DECLARED


def _mysql_words(error: BaseException) -> str:
    return _USER.sub(r"\1 from \2", str(getattr(error, "msg", None) or error.args[-1])).rstrip(". ")


def has_no_value(error: Exception) -> bool:
    """Whether a driver met a value that Python has none for, such as a date beyond the year 9999.

    Python's own errors say so of dates only: so a response that could not be read is not taken for one.
    """
    return (
        error_number(error) == _SNOWFLAKE_NO_VALUE
        or type(error).__name__ == "TrinoDataError"
        or (isinstance(error, (ValueError, OverflowError)) and "out of range" in str(error))
    )


def _no_value(error: Exception, columns: Columns) -> ModelError:
    dates = [
        (name, column.native)
        for name, column in zip(columns, columns.types, strict=True)
        if column.kind in _OF_DATES and column.native
    ]
    name = dates[0][0] if dates else "c"
    which = "one of its columns of dates" if len(dates) > 1 else "its only column of dates" if dates else "a column"
    return ModelError(
        f"The model could not be read: the driver has no value for a cell ({type(error).__name__}), most likely a date "
        f"beyond the years 1 to 9999, in {which}{': ' if dates else ''}"
        f"{', '.join(f'{column} ({native})' for column, native in dates)}. Whether the column is mapped does not "
        f"matter. Nothing was sent. Select CASE WHEN year({name}) BETWEEN 1 AND 9999 THEN {name} END, by which such a "
        f"cell is null, or CAST({name} AS varchar)."
    )


def wrap_error(error: Exception, asked: Asked | None = None, columns: Columns | None = None) -> Exception:
    """Return what is raised for an error while a model is read; it holds no value of a row and of no parameter.

    :param asked: the statement, if it had not returned rows yet
    :param columns: the columns, if they were known
    :return: ``ModelUnavailable`` where another try may not meet it, otherwise ``ModelError``; errors of this package
        and of Airflow as they are
    """
    if isinstance(error, (IterableSyncError, AirflowException)):
        return error
    if columns is not None and has_no_value(error):
        return _no_value(error, columns)
    inner = error
    if type(error).__module__.startswith("google.") and error.args and isinstance(error.args[0], Exception):
        inner = error.args[0]  # BigQuery's DB-API has it in an error of its own
    said = _said(inner, asked)
    if said.no_table:
        return ModelUnavailable(
            f"A table of the model is not there ({said.what}): {said.told}. Nothing was sent. The next try begins "
            "anew: whatever makes the table may be at it."
        )
    if said.away is None:
        said = _unsaid(inner, said, asked)
    told = f": {said.told}" if said.told else ""
    if said.away:
        return ModelUnavailable(
            f"The model could not be read ({said.what}){told}. Nothing was sent. The next try begins anew."
        )
    if told:
        return ModelError(f"The model's query is wrong ({said.what}){told}. Nothing was sent.")
    return ModelError(
        f"The model's query failed ({said.what}). Nothing was sent. What the database said may hold values, and is not "
        "repeated here: run the query there."
    )


def _lineage(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _words(error: BaseException) -> str:
    """Return the first line of what an error says."""
    text = str(error)
    if error.args and isinstance(error.args[0], Mapping):  # redshift_connector
        text = str(error.args[0].get("M", ""))
    return text.strip().partition("\n")[0].rstrip(". ")


def _told(pattern: re.Pattern[str], error: BaseException) -> str:
    """Return the parts of a message that are known to be names and places."""
    return ", ".join(found[0] for found in pattern.finditer(str(error)))


def _said(error: Exception, asked: Asked | None) -> _Said:
    """Return what the code of an error says, in the words of its family."""
    families: tuple[Callable[[Exception, Asked | None], _Said | None], ...] = (
        *(_snowflake, _google, _trino, _mysql, _sqlite, _duckdb),
        _by_state,
    )
    found = (family(error, asked) for family in families)
    return next(filter(None, found), _Said(type(error).__name__))


def _snowflake(error: Exception, asked: Asked | None) -> _Said | None:
    if not hasattr(error, "sfqid"):
        return None
    state, number = sqlstate(error), error_number(error)
    kind, code = type(error).__name__, f"SQLSTATE {state}" if state else f"error {number}" if number else ""
    if number in _SNOWFLAKE_NO_TABLE or state in _NO_TABLE_STATES:
        told = _told(_SNOWFLAKE_TELLS, error) or "an object that the query names does not exist, or may not be read"
        return _Said(kind, True, told, code, no_table=True)
    if number in _SNOWFLAKE_AWAY or state[:2] in _AWAY or str(number).startswith("290"):
        return _Said(kind, True, _VALUE.sub("...", _words(error)) if state[:2] in _TOLD else "", code)
    if state[:2] in _WRONG:
        told = _told(_SNOWFLAKE_TELLS, error) if state[:2] == "42" else ""
        return _Said(kind, False, told, code)
    return _Said(kind, None, "", code)


def _google(error: Exception, asked: Asked | None) -> _Said | None:
    lineage = _lineage(error)
    if "GoogleAPICallError" not in lineage and lineage.isdisjoint(_HTTP):
        return None
    given = getattr(error, "code", None)
    status = given if isinstance(given, int) else next((_HTTP[name] for name in lineage if name in _HTTP), 500)
    first = next(iter(getattr(error, "errors", None) or ()), None)
    reason = first.get("reason") if isinstance(first, Mapping) else None
    kind, told = type(error).__name__, _told(_GOOGLE_TELLS, error)
    code = f"HTTP {int(status)}"
    if _NO_TABLE(told):
        return _Said(kind, True, told, code, no_table=True)
    away = reason in _GOOGLE_AWAY or status in (401, 408, 409, 429) or (status != 501 and not 400 <= status < 500)
    return _Said(kind, away, "" if away else told, code)


def _trino(error: Exception, asked: Asked | None) -> _Said | None:
    family, name = getattr(error, "error_type", None), getattr(error, "error_name", None)
    if not isinstance(family, str) or not isinstance(name, str):
        return None
    told, kind = _told(_TRINO_TELLS, error), type(error).__name__
    if name == "TABLE_NOT_FOUND":
        return _Said(kind, True, told or "a table that the query names", name, no_table=True)
    if family != _TRINO_USER or name in _TRINO_AWAY:
        return _Said(kind, True, "", name)
    return _Said(kind, False, told, name)


def _mysql(error: Exception, asked: Asked | None) -> _Said | None:
    number = error_number(error)
    if number is None or _lineage(error).isdisjoint(_ERROR_BASES):
        return None
    state = sqlstate(error)
    kind, code = type(error).__name__, f"SQLSTATE {state}" if state else f"error {number}"
    words = _mysql_words(error)
    if number == _MYSQL_NO_TABLE:
        return _Said(kind, True, words, code, no_table=True)
    if number in MYSQL_READ_ONLY:
        return _Said(kind, False, _WRITES, code)
    if number in _MYSQL_AWAY:
        return _Said(kind, True, words, code)
    if number in _MYSQL_NAMES:
        return _Said(kind, False, words, code)
    if number == _MYSQL_SYNTAX:
        line, above = _LINE.search(words), None if asked is None else asked.above
        place = "" if line is None or above is None else f" at line {int(line[1]) + above.count(chr(10))}"
        return _Said(kind, False, f"a syntax error{place}", code)
    if number in _MYSQL_VALUES or state[:2] in _WRONG:
        return _Said(kind, False, "", code)
    return _Said(kind, state[:2] in _AWAY or None, "", code)


def _sqlite(error: Exception, asked: Asked | None) -> _Said | None:
    name = getattr(error, "sqlite_errorname", None)
    if not isinstance(name, str):
        return None
    kind, words = type(error).__name__, _words(error)
    if name.startswith(_SQLITE_READ_ONLY):
        return _Said(kind, False, _WRITES)
    if name in _SQLITE_SQL:
        told = _VALUE.sub("...", words) if words.startswith(_SQLITE_NAMES) else ""
        return _Said(kind, False, told, no_table=bool(_NO_TABLE(told)))
    return _Said(kind, True, words) if name.startswith(_SQLITE_FILE) else None


def _duckdb(error: Exception, asked: Asked | None) -> _Said | None:
    kind = type(error).__name__
    if kind not in _DUCKDB_SQL:
        return None
    told = _VALUE.sub("...", _words(error))
    return _Said(kind, False, told, no_table=bool(_NO_TABLE(told)))


def _by_state(error: Exception, asked: Asked | None) -> _Said | None:
    state, kind = sqlstate(error), type(error).__name__
    words, code = _words(error), f"SQLSTATE {state}"
    if not state:
        return _Said(kind, True, words) if _of_libpq(error) else None
    if type(error).__module__.startswith("databricks"):  # which quotes names with backticks, and expressions like this
        words = re.sub(r'"[^"]*"?', "...", words)
    if state in _NO_TABLE_STATES:
        return _Said(kind, True, _VALUE.sub("...", words), code, no_table=True)
    if state == READ_ONLY:
        return _Said(kind, False, _WRITES, code)
    if state in _REMEDIES and (state != "0A000" or "data-modifying statements" in words):
        return _Said(kind, False, _REMEDIES[state], code)
    if state[:2] in _AWAY:
        told = _VALUE.sub("...", words) if state[:2] in _TOLD else ""
        return _Said(kind, True, _connection_failure(error) or told, code)
    if state[:2] not in _WRONG:
        return _Said(kind, None, "", code)
    if state[:2] != "42":
        return _Said(kind, False, "", code)
    told = _VALUE.sub("...", _NEAR.sub("...", words))
    return _Said(kind, False, f"{told}{place(error, asked)}{cast(state, words, asked)}", code)


def _unsaid(error: Exception, said: _Said, asked: Asked | None) -> _Said:
    """Return what is to be made of an error without a code that says whether another try may meet it again."""
    lineage = _lineage(error)
    if asked is not None and asked.parameters is not None and not lineage.isdisjoint(_BINDING_BASES):
        told = unbound(asked, error)
        if told:
            return _Said(said.kind, False, told, said.code)
    if not lineage.isdisjoint(_WRONG_BASES):
        return _Said(said.kind, False, "", said.code)
    if isinstance(error, ImportError):
        return _Said(said.kind, True, _words(error))
    frames = [] if is_driver_error(error) else extract_tb(error.__traceback__)
    where = f"it was raised in line {frames[-1].lineno} of {basename(frames[-1].filename)}" if frames else ""
    return _Said(said.kind, True, where, said.code)
