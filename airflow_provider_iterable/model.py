"""Knows a SQL model as a stream of rows, whatever the driver; refuses to know what the rows mean.

Drivers buffer whole results unless asked not to: Postgres needs a named cursor inside a transaction, MySQL an
unbuffered one, the others are lazy or page by themselves. Rows are handed on as the driver made them, a chunk at a
time, so that a model of any size costs one chunk of memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError, ModelError, ModelUnavailable

_DRIVERS = frozenset({"Error", "DatabaseError", "InterfaceError", "ConnectionError", "TimeoutError"})
"""What errors of drivers descend from, by name."""
_OF_THE_QUERY = frozenset({"ParserException", "BinderException", "CatalogException", "SyntaxException"})
"""DuckDB's, whose messages name tables and columns."""
_SQLITE_SQL = ("SQLITE_ERROR", "SQLITE_SCHEMA")
"""SQLite's: about the statement, the latter if another connection has made a table since."""
_SQLITE_NAMES = ("no such ", "near ", "ambiguous ", "wrong number of arguments", "incomplete input")
"""How SQLite's messages begin that name tables and columns."""
_MYSQL_VALUES = (1242, 1365, 1690)
"""MySQL's that mysqlclient takes for operational ones: several rows for one value, division by zero, out of range."""
_MYSQL_NAMES = (1054, 1146)
"""MySQL's: a column or a table that is not there."""
_NO_TABLE = re.compile(r"no such table|Table '?[\w.]+'? doesn't exist|Catalog Error: Table").match
"""How SQLite, MySQL and DuckDB say that a table is not there."""
_VALUE = re.compile(r"'[^']*'?|[^\s\"']*@[^\s\"']*")
_TABLE = re.compile(r"[^\W\d][\w$]*(\.[^\W\d][\w$]*)*")
_CURSOR_NAME = "airflow_provider_iterable"
_MYSQL_DRIVERS = frozenset({"MySQLdb", "pymysql", "mysql"})


def select_all(table: str) -> str:
    """Return the query that reads a whole table; nothing is quoted.

    :param table: a name such as ``users`` or ``analytics.users``.
    :raises ConfigurationError: for anything but identifiers joined by dots.
    """
    if not _TABLE.fullmatch(table):
        raise ConfigurationError(
            f"{table!r} is not a plain table name such as analytics.users. Names that need quotes go into sql=, "
            "quoted as the database wants them."
        )
    return f"SELECT * FROM {table}"


def single_statement(sql: str) -> str:
    """Return the one statement in ``sql`` without its closing semicolons and the comments after them.

    A comment without a semicolon before it stays: what looks like one can be an operator of the database's own. So a
    query that embeds the statement puts it on lines of its own.

    :param sql: SQL text; comments and blanks may surround the statement.
    :raises ConfigurationError: when there is no statement, or more than one.
    """
    # Imported here because DAG files import this module, and lexing happens in a task. common-sql depends on it.
    from sqlparse import lexer, tokens

    position, begun, end = 0, False, len(sql)
    for kind, text in lexer.tokenize(sql):  # type: ignore[no-untyped-call]  # sqlparse has no types
        if kind is tokens.Punctuation and text == ";":
            end = min(end, position)
        elif kind not in tokens.Whitespace and kind not in tokens.Comment:
            if position > end:
                raise ConfigurationError("The model's SQL holds several statements; a model is one query.")
            begun = True
        position += len(text)
    if not begun:
        raise ConfigurationError("The model's SQL holds no statement.")
    return sql[:end].strip()


class Model:
    """A SQL query, read as tuples in column order, chunk by chunk.

    ``for chunk in model.chunks()`` opens a connection of its own, and closes it when the rows end, an error is raised
    or the iteration is given up; ``for row in model`` is the same, row by row. As a context manager it opens at once,
    so that ``columns`` is known before the first row.
    Iterating again runs the query again. One model serves one thread.

    :param hook: any common-sql ``DbApiHook``; its ``log_sql`` is turned off, so that parameters stay out of the log.
    :param sql: one query; closing semicolons and comments are dropped.
    :param parameters: bind parameters in the driver's style (default: none).
    :param chunk_size: rows fetched at a time (default 5000).
    :raises ConfigurationError: when ``sql`` is not one statement or ``chunk_size`` is below 1.
    """

    def __init__(
        self,
        hook: DbApiHook,
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        chunk_size: int = 2000,
    ) -> None:
        if chunk_size < 1:
            raise ConfigurationError(f"chunk_size must be at least 1, not {chunk_size}.")
        self.hook = hook
        self.sql = single_statement(sql)
        self.parameters = parameters
        self.chunk_size = chunk_size
        self.columns: tuple[str, ...] = ()
        """Column names in the order of each row's values; empty until opened."""
        self._described = False
        self._chunks: Iterator[Sequence[Row]] | None = None
        self._closers: tuple[Callable[[], Any], ...] = ()
        hook.log_sql = False

    def __enter__(self) -> Self:
        if not self._described:
            self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Row]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self) -> Iterator[Sequence[Row]]:
        """Yield the rows a chunk at a time, and close connection and cursor whatever happens."""
        try:
            self.open()
            assert self._chunks is not None
            yield from self._chunks
        except Exception as error:
            if (said := self._told(error)) is not error:
                raise said from None
            raise
        finally:
            self.close()

    def open(self) -> None:
        """Run the query, fetch the first chunk and learn the columns; nothing happens when it is open already.

        :raises ModelError: when the statement is wrong, returns no rows' columns, or names a column twice or not at
            all.
        :raises ModelUnavailable: when the database refuses or is not there.
        """
        if self._chunks is not None:
            return
        try:
            self._chunks = self._run()
        except BaseException as error:
            self.close()
            if isinstance(error, Exception) and (said := self._told(error)) is not error:
                raise said from None
            raise

    def describe(self, learn: Callable[[Any], None]) -> None:
        """Learn the columns without running the query; entering the model then leaves it closed.

        :param learn: called with a cursor whose description is that of the columns
        :raises ModelError: as :meth:`open`
        """
        connection = _connect(self.hook)
        try:
            cursor = plain_cursor(connection)
            arguments = (self.parameters,) if self.parameters else ()
            cursor.execute(f"SELECT * FROM (\n{self.sql}\n) AS iterable_model LIMIT 0", *arguments)
            columns = _column_names(cursor.description)
            learn(cursor)
            self.columns, self._described = columns, True
        finally:
            connection.close()

    def close(self) -> None:
        """Close cursor and connection, undoing whatever the statement may have changed; may be repeated."""
        closers, self._closers, self._chunks = self._closers, (), None
        for closer in closers:
            # A connection that breaks while it is closed has no news about rows that arrived, and must not hide
            # the error that closed it.
            with suppress(Exception):
                closer()

    def _run(self) -> Iterator[Sequence[Row]]:
        connection = _connect(self.hook)
        self._closers = (connection.close,)
        cursor = _streaming_cursor(connection)
        self._closers = _closers(connection, cursor)
        self._prepare(connection, cursor)
        if self.parameters:
            cursor.execute(self.sql, self.parameters)
        else:  # Without parameters a percent sign is a percent sign.
            cursor.execute(self.sql)
        # psycopg2 tells the columns of a named cursor only after the first fetch.
        first = cursor.fetchmany(self.chunk_size) if _returns_rows(cursor) else ()
        self.columns = _column_names(cursor.description)
        if first and isinstance(first[0], Mapping):
            raise ModelError("The connection's cursor returns dictionaries; remove its cursor setting.")
        return _chunks(first, cursor, self.chunk_size)

    def _prepare(self, connection: Any, cursor: Any) -> None:
        """Do what is to be done on the connection before the query runs: nothing here."""

    def _told(self, error: Exception) -> Exception:
        """Return what is raised instead of a driver's error."""
        return told(error)


def _connect(hook: DbApiHook) -> Any:
    """Open a connection; by a copy of the hook, for some hand out the one that they opened first, closed or not."""
    return copy(hook).get_conn()


def _chunks(first: Sequence[Row], cursor: Any, size: int) -> Iterator[Sequence[Row]]:
    chunk = first
    lists = bool(first) and isinstance(first[0], list)  # so BigQuery's come from Airflow
    while chunk:
        yield list(map(tuple, chunk)) if lists else chunk
        chunk = cursor.fetchmany(size)


def _driver(connection: Any) -> str:
    return type(connection).__module__.partition(".")[0]


def _streaming_cursor(connection: Any) -> Any:
    """Open a cursor that leaves the result in the database and returns plain tuples."""
    match _driver(connection):
        case "psycopg":
            from psycopg.rows import tuple_row

            connection.autocommit = False
            return connection.cursor(name=_CURSOR_NAME, row_factory=tuple_row)
        case "psycopg2":
            from psycopg2.extensions import cursor  # type: ignore[import-untyped,unused-ignore]  # stubs are optional

            connection.autocommit = False
            return connection.cursor(name=_CURSOR_NAME, cursor_factory=cursor)
        case "MySQLdb" | "pymysql" as driver:
            return connection.cursor(import_module(f"{driver}.cursors").SSCursor)
        case "mysql":  # mysql-connector-python
            return connection.cursor(buffered=False, dictionary=False)
    return connection.cursor()


def plain_cursor(connection: Any) -> Any:
    """Open a cursor that fetches a small result at once, as plain tuples, binding parameters as streaming ones do."""
    match _driver(connection):
        case "psycopg":
            from psycopg import ClientCursor
            from psycopg.rows import tuple_row

            return ClientCursor(connection, row_factory=tuple_row)
        case "psycopg2":
            from psycopg2.extensions import cursor  # type: ignore[import-untyped,unused-ignore]  # stubs are optional

            return connection.cursor(cursor_factory=cursor)
        case "MySQLdb" | "pymysql" as driver:
            return connection.cursor(import_module(f"{driver}.cursors").Cursor)
    return connection.cursor()


def _closers(connection: Any, cursor: Any) -> tuple[Callable[[], Any], ...]:
    if _driver(connection) in _MYSQL_DRIVERS:
        # Closing an unbuffered MySQL cursor first would read the rest of the result: minutes, for rows nobody wants.
        return (connection.close, cursor.close)
    return tuple(
        closer
        for closer in (cursor.close, getattr(connection, "rollback", None), connection.close)
        if closer is not None
    )


def _returns_rows(cursor: Any) -> bool:
    """Whether fetching makes sense: a named psycopg2 cursor has no description yet, others without one have no rows."""
    return cursor.description is not None or getattr(cursor, "name", None) == _CURSOR_NAME


def _column_names(description: Sequence[Sequence[Any]] | None) -> tuple[str, ...]:
    if not description:
        raise ModelError("The model's SQL returned no columns; a model is a query that returns rows.")
    names = tuple(str(column[0] or "").strip() for column in description)
    if "" in names:
        raise ModelError(f"Column {names.index('') + 1} of the model has no name; give it one with AS.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ModelError(f"The model has several columns named {', '.join(twice)}; tell them apart with AS.")
    return names


def of_a_driver(error: BaseException) -> bool:
    """Whether an error is what a driver says, which may hold values."""
    return not isinstance(error, IterableSyncError) and any(kind.__name__ in _DRIVERS for kind in type(error).__mro__)


def told(error: Exception) -> Exception:
    """Say what a driver's error means, without the values that its message may hold; any other error is as it is."""
    lineage = {kind.__name__ for kind in type(error).__mro__}
    if not of_a_driver(error):
        return error
    state = str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
    what = f"{type(error).__name__}, SQLSTATE {state}" if state else type(error).__name__
    message = _names(error, state)
    if message and (state == "42P01" or _NO_TABLE(message)):
        return ModelUnavailable(
            f"A table of the model is not there ({what}): {message}. Nothing was sent. The next try begins anew: "
            "whatever makes the table may be at it."
        )
    if message:
        return ModelError(f"The model's query is wrong ({what}): {message}. Nothing was sent.")
    general = getattr(error, "sqlite_errorname", None) in _SQLITE_SQL or _errno(error) in _MYSQL_VALUES
    if state[:2] in ("0A", "22", "42") or general or lineage & {"DataError", "ProgrammingError", "NotSupportedError"}:
        return ModelError(
            f"The model's query failed ({what}). Nothing was sent. What the database said may hold values, and is not "
            "repeated here: run the query there."
        )
    return ModelUnavailable(f"The model could not be read ({what}). Nothing was sent. The next try begins anew.")


def _errno(error: Exception) -> Any:
    """Return MySQL's number of an error."""
    return getattr(error, "errno", None) or next(iter(error.args), None)


def _names(error: Exception, state: str) -> str:
    """Return the first line of a message that names tables and columns; nothing if it may be about values."""
    kind, line = type(error).__name__, str(error).partition("\n")[0].rstrip(". ")
    if _errno(error) in _MYSQL_NAMES:
        return str(getattr(error, "msg", None) or error.args[-1])
    if (
        state[:2] == "42"
        or kind in _OF_THE_QUERY
        or (getattr(error, "sqlite_errorname", None) in _SQLITE_SQL and line.startswith(_SQLITE_NAMES))
    ):
        return _VALUE.sub("...", line)
    return ""
