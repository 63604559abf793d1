"""Reads a SQL model as a stream of rows, whatever the driver.

Rows are handed on as the driver made them, a chunk at a time, so that a model of any size costs one chunk of memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.columns import Columns, ColumnType
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.errors import ConfigurationError, ModelError
from airflow_provider_iterable.sql.asked import Asked
from airflow_provider_iterable.sql.databases import closing_steps, connect, driver_of
from airflow_provider_iterable.sql.databases.driver import Driver
from airflow_provider_iterable.sql.errors import has_no_value, wrap_error
from airflow_provider_iterable.sql.statement import single_statement

_TWO_PERCENT = re.compile(r"%%(?![s(])")


class Model:
    """A SQL query, read as tuples in column order, chunk by chunk.

    ``for chunk in model.chunks()`` opens a connection of its own, and closes it when the rows end, an error is raised
    or the iteration is given up; ``for row in model`` is the same, row by row. As a context manager it opens at once,
    so that ``columns`` is known before the first row.
    Iterating again runs the query again. One model serves one thread.

    :param hook: any common-sql ``DbApiHook``; its ``log_sql`` is turned off, so that parameters stay out of the log.
    :param sql: one query; closing semicolons and comments are dropped.
    :param parameters: bind parameters in the driver's style (default: none).
    :param chunk_size: rows fetched at a time (default 2000).
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
        self._above: str | None = sql[: len(sql) - len(sql.lstrip())]
        """Blanks before the query, by which places in it are others than in its file; ``None``: it has no file."""
        self.parameters = parameters
        self.chunk_size = chunk_size
        self.columns = Columns()
        """The columns in the order of each row's values; empty until opened."""
        self._described = False
        self._chunks: Iterator[Sequence[Row]] | None = None
        self._closing_steps: tuple[Callable[[], Any], ...] = ()
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
            if (wrapped := self._wrap_error(error)) is not error:
                raise wrapped from None
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
            if isinstance(error, Exception) and (wrapped := self._wrap_error(error)) is not error:
                raise wrapped from None
            raise

    def describe(self, learn: Callable[[Any], None]) -> None:
        """Learn the columns without running the query; entering the model then leaves it closed.

        :param learn: called with a cursor whose description is that of the columns
        :raises ModelError: as :meth:`open`
        """
        connection = connect(self.hook)
        try:
            driver = driver_of(connection, self.hook)
            driver.settle(connection)
            cursor = driver.plain(connection)
            arguments = (self.parameters,) if self.parameters else ()
            sql = f"SELECT * FROM (\n{self.sql}\n) AS iterable_model LIMIT 0"
            cursor.execute(self._bound(driver, sql), *arguments)
            columns = _columns(cursor.description, driver.types(connection, cursor))
            learn(cursor)
            self.columns, self._described = columns, True
        finally:
            connection.close()

    def close(self) -> None:
        """Close cursor and connection, undoing whatever the statement may have changed; may be repeated."""
        steps, self._closing_steps, self._chunks = self._closing_steps, (), None
        for step in steps:
            # An error while closing does not concern rows that arrived, and must not hide
            # the error because of which it is closed.
            with suppress(Exception):
                step()

    def _run(self) -> Iterator[Sequence[Row]]:
        connection = connect(self.hook)
        self._closing_steps = (connection.close,)
        driver = driver_of(connection, self.hook)
        driver.settle(connection)
        cursor = driver.streaming(connection)
        self._closing_steps = closing_steps(driver, connection, cursor)
        self._prepare(connection, cursor)
        # Without parameters, a percent sign is not special.
        arguments = (self._bound(driver, self.sql), self.parameters) if self.parameters else (self.sql,)
        try:
            cursor.execute(*arguments)
        except Exception as error:
            if has_no_value(error):  # Trino's client reads the first rows at once.
                with suppress(Exception):
                    self.columns = _columns(cursor.description, driver.types(connection, cursor))
            raise
        # The names come first: what is said to the session for the values may leave it unable to say them.
        self.columns = _columns(cursor.description, driver.types(connection, cursor))
        fetch = partial(driver.fetch, cursor, self.chunk_size)
        first = fetch()
        if first and isinstance(first[0], Mapping):
            raise ModelError("The connection's cursor returns dictionaries; remove its cursor setting.")
        return _chunks(first, fetch)

    def _bound(self, driver: Driver, sql: str) -> str:
        """Return a statement as the driver is to get it: where parameters are bound, ``%%`` is one percent sign."""
        return sql if driver.halves_percent or not self.parameters else _TWO_PERCENT.sub("%", sql)

    def _prepare(self, connection: Any, cursor: Any) -> None:
        """Do what is to be done on the connection before the query runs: nothing here."""

    def _wrap_error(self, error: Exception) -> Exception:
        """Return what is raised instead of an error that came while the query ran or its rows were read."""
        asked = None if self._chunks is not None else Asked(self.sql, self.parameters, self._above)
        return wrap_error(error, asked, self.columns or None)


def _chunks(first: Sequence[Row], fetch: Callable[[], Sequence[Row]]) -> Iterator[Sequence[Row]]:
    chunk = first
    lists = bool(first) and isinstance(first[0], list)  # so BigQuery's come from Airflow
    while chunk:
        yield list(map(tuple, chunk)) if lists else chunk
        chunk = fetch()


def _columns(description: Sequence[Sequence[Any]] | None, types: Sequence[ColumnType]) -> Columns:
    if not description:
        raise ModelError("The model's SQL returned no columns; a model is a query that returns rows.")
    names = tuple(str(column[0] or "").strip() for column in description)
    if "" in names:
        raise ModelError(f"Column {names.index('') + 1} of the model has no name; give it one with AS.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ModelError(f"The model has several columns named {', '.join(twice)}; rename them with AS.")
    return Columns(names, types)
