"""A connection to the state tables: transactions, and statements that are written in one notation.

In a statement ``{name}`` stands for a table, a type or words of the database's own, and ``:name`` for a value.

A hook's ``insert_rows`` and ``run`` are not used: they log their parameters, which hold identifiers of people.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import tenacity

from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError, StateUnavailable
from airflow_provider_iterable.sql.errors import is_driver_error, without_secrets
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.tables.dialects import DIALECTS
from airflow_provider_iterable.state.tables.notation import Notation

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

T = TypeVar("T")
COMMIT_PATIENCE = 30.0
"""Seconds for which a failed commit is tried again."""
LONGEST_LINE = 300
"""Most characters that are repeated of what a database said."""

_NOT_TAKEN = (AttributeError, TypeError)
"""How drivers refuse an argument whose name they do not know."""
_VALUE = re.compile(r"(?<![:\w]):([a-z]\w*)")
"""A placeholder of a value in a statement; it does not match ``::text``, or ``:MI`` in ``HH24:MI``."""


class Refused(IterableSyncError):
    """The database will not do it, whoever tries again: a right is missing, or it may only be read.

    :param why: what the database said, which names rights and tables and holds no values
    :param reads: whether nothing at all may be written
    """

    def __init__(self, why: str, reads: bool) -> None:
        super().__init__(why)
        self.reads = reads


class Unreached(Exception):
    """No connection could be opened; what was said about that holds no values of rows, for none were sent yet.

    :param denied: whether it is a right that is missing, so that waiting is of no use
    """

    def __init__(self, what: str, denied: bool = False) -> None:
        super().__init__(what)
        self.denied = denied


class Miscounted(Exception):
    """The number of rows that the database changed is not the number that were written."""


class Tables(Notation):
    """A connection to the state tables: transactions, one at a time; used from one thread."""

    def __init__(self, hook: DbApiHook, schema: str | None = None, patience: float = COMMIT_PATIENCE) -> None:
        super().__init__(str(hook.conn_type), schema)
        self._hook, self.patience = hook, patience
        hook.log_sql = False
        self.committing = False
        """Whether the last transaction that failed did so in its commit, and so may have been stored."""
        self._placeholder = self.dialect.placeholder or hook.placeholder
        self._connection: Any = None
        self._cursor: Any = None

    def apart(self) -> Tables:
        """Return the same tables, on a connection of its own."""
        # With a hook of its own: some keep the connection that they opened last.
        return Tables(copy(self._hook), self.schema)

    def close(self) -> None:
        """Close the connection, also a broken one; what is not committed is rolled back."""
        connection, self._connection, self._cursor = self._connection, None, None
        _close_quietly(connection)

    def patiently(self, work: Callable[[], T], waiting: Callable[[], None] = lambda: None) -> T:
        """Do the work in one transaction, and again for 30 s when it fails; ``waiting`` is called before each wait."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.patience),
            wait=tenacity.wait_exponential(0.2, max=5.0),
            retry=tenacity.retry_if_not_exception_type(IterableSyncError),
            before_sleep=lambda state: waiting(),
            reraise=True,
        )
        result: T = retrying(self.transact, work)
        return result

    def transact(self, work: Callable[[], T]) -> T:
        """Do the work in one transaction; a connection that failed is not used again."""
        self.committing = False
        try:
            if self._connection is None:
                self._connection = self._connected()
                self._cursor = self.dialect.cursor(self._connection)
            if self.dialect.begins:
                self._cursor.execute("BEGIN TRANSACTION")
            result = work()
            self.committing = True
            if self.dialect.begins:
                self._cursor.execute("COMMIT")
            else:
                self._connection.commit()
        except BaseException:
            connection, self._connection, self._cursor = self._connection, None, None
            _close_quietly(connection)
            raise
        return result

    def _connected(self) -> Any:
        """Open a connection.

        :raises Unreached: the driver could not
        :raises ConfigurationError: the driver does not know what the connection asks for
        """
        try:
            # A hook of its own: some hand out the connection that they opened first, closed or not.
            return copy(self._hook).get_conn()
        except Exception as error:
            unreached = _unreached(self._hook, error)
            if isinstance(error, _NOT_TAKEN):
                raise ConfigurationError(
                    "The connection of the state cannot be opened as it is set up: its extra has something that the "
                    f"driver does not take ({unreached}). Nothing was read or sent."
                ) from None
            raise unreached from None

    def refusing(self, work: Callable[[], T], sent: bool = False) -> Callable[[], T]:
        """Return the work, which then tells what no further try would mend.

        :param sent: whether something was sent. From then on a database that may only be read is waited for: it may be
            just moving to another server
        :raises Refused: a right is missing, or the database may only be read
        """

        def refused() -> T:
            try:
                return work()
            except IterableSyncError:
                raise
            except Exception as error:
                reads = not sent and self.dialect.reads_only(error)
                if reads or self.dialect.denied(error):
                    raise Refused(said(error), reads) from None
                raise

        return refused

    @contextmanager
    def explaining_failure(self, failure: str, outcome: str) -> Iterator[None]:
        """Raise what fails inside as one error that says what failed and what that means.

        :raises StateUnavailable: what is done inside failed
        :raises ConfigurationError: a right is missing for it
        """
        try:
            yield
        except Refused as refused:
            raise ConfigurationError(
                f"{failure}: the connection lacks a right ({refused}). {outcome} "
                f"`python -m airflow_provider_iterable.state --ddl {self.kind}` prints the rights that it takes."
            ) from None
        except IterableSyncError:
            raise
        except Exception as error:
            raise StateUnavailable(f"{failure} for {self.patience:.0f} s ({cause(error)}). {outcome}") from None

    def find(self, statement: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query in the transaction; one value may be a list of keys, of any length."""
        several = [name for name, value in values.items() if isinstance(value, list)]
        if not several:
            return self._fetch(statement, values)
        (name,) = several
        return [
            row
            for some in pieces(values[name], self.dialect.most)
            for row in self._fetch(statement, {**values, name: some})
        ]

    def stream(self, statement: str, /, **values: Any) -> Iterator[Sequence[Row]]:
        """Run a query on a connection of its own, and yield its rows in chunks."""
        return _Stored(self._hook, *self._bound(statement, values)).chunks()

    def change(self, statement: str, /, rows: int | None = None, **values: Any) -> int:
        """Run a statement in the transaction, and return how many rows it changed; -1 for what changes none.

        :param rows: how many it has to change
        :param values: what is bound, by name; a list of keys has to be a short one
        :raises Miscounted: it changed another number, where the database can be trusted to count
        """
        self._execute(*self._bound(statement, values))
        count = int(self._cursor.rowcount)
        if count < 0 and self._cursor.description:  # some versions of DuckDB return it as a row
            ((count,),) = self._cursor.fetchall()
        if rows is not None and self.dialect.counts and count != rows:
            raise Miscounted
        return int(count)

    def replace(
        self,
        table: str,
        columns: Mapping[str, str],
        key: Sequence[str],
        values: Mapping[str, Any],
        source: str = "",
        rows: int = 1,
    ) -> None:
        """Store rows in place of those with the same key.

        :param columns: the expression of each
        :param key: the columns of the table's key
        :param values: what is bound
        :param source: a table expression of which the expressions are; empty: they are one row
        :param rows: how many the source has
        :raises Miscounted: the database stored another number, where it can be trusted to count
        """
        name = f"{{{table}}}"
        if self.dialect.clears is not None:
            self.change(self.dialect.clears(name, columns, key, source), **values)
        self.change(self.dialect.upsert(name, columns, key, source), rows, **values)

    def execute(self, statement: str) -> None:
        """Run a statement in the transaction, and ignore its result."""
        self._execute(self.written(statement))

    def columns(self, table: str) -> set[str]:
        """Return the names of a table's columns, in the transaction."""
        self.find(f"SELECT * FROM {{{table}}} WHERE 1 = 0")
        return {str(column[0]).lower() for column in self._cursor.description}

    def _fetch(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        self._execute(*self._bound(statement, values))
        return list(self._cursor.fetchall())

    def _execute(self, statement: str, parameters: tuple[Any, ...] = ()) -> None:
        if parameters:
            self._cursor.execute(statement, parameters)
        else:
            self._cursor.execute(statement)

    def _bound(self, statement: str, values: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        """Return a statement as the database gets it, and the parameters in their order.

        A list stands for its members, as one parameter where the database can unfold it.
        """
        parameters: list[Any] = []

        def mark(found: re.Match[str]) -> str:
            value = values[found[1]]
            if not isinstance(value, list):
                parameters.append(value)
                return self._placeholder
            if self.dialect.keys:
                parameters.append(encode(value))
                return _VALUE.sub(self._placeholder, self.dialect.keys)
            parameters.extend(value)
            return ", ".join([self._placeholder] * len(value)) or "NULL"

        return _VALUE.sub(mark, self.written(statement)), tuple(parameters)


class _Stored(Model):
    """A query on the state's own tables, whose errors are the driver's."""

    _reached = False

    def _prepare(self, connection: Any, cursor: Any) -> None:
        self._reached = True
        DIALECTS[str(self.hook.conn_type)].cursor(connection).close()

    def _wrap_error(self, error: Exception) -> Exception:
        return error if self._reached or isinstance(error, Unreached) else _unreached(self.hook, error)


def cause(error: Exception) -> str:
    """Return what may be told of an error: its name, and of those at connecting what the server said."""
    return str(error) if isinstance(error, Unreached) else type(error).__name__


def _unreached(hook: DbApiHook, error: Exception) -> Unreached:
    """Return what is told of an error at connecting: without the password, should a driver ever repeat it."""
    if not is_driver_error(error) and not isinstance(error, _NOT_TAKEN):
        return Unreached(type(error).__name__)
    password = None
    with suppress(Exception):  # hooks that are no ordinary ones
        password = hook.get_connection(getattr(hook, hook.conn_name_attr)).password
    line = without_secrets(" ".join(str(error).split()), password)
    denied = DIALECTS[str(hook.conn_type)].denied(error)
    return Unreached(f"{type(error).__name__}: {line[:LONGEST_LINE]}".rstrip(": ."), denied)


def said(error: Exception) -> str:
    """Return the name of a driver's error and the first line of what it says: only where that holds no values."""
    line = without_secrets(next(iter(str(error).strip().splitlines()), ""))
    return f"{type(error).__name__}: {line[:LONGEST_LINE]}".rstrip(": .")


def encode(parameter: Sequence[Any]) -> str:
    """Return a list as JSON, to be sent as one parameter."""
    return msgspec.json.encode(parameter).decode()


def encoded(items: Sequence[Any], most: int) -> Iterator[tuple[str, int]]:
    """Return a list as JSON, in texts of so many characters at most, and how many items are in each."""
    text = encode(items)
    if len(text) <= most:
        if items:
            yield text, len(items)
        return
    for some in pieces(list(items), most):
        yield encode(some), len(some)


def pieces(items: list[T], most: int) -> Iterator[list[T]]:
    """Cut a list into pieces that take so many characters at most; one item is never cut."""
    if len(encode(items)) <= most:
        yield from [items] if items else []
        return
    start = size = 0
    for end, item in enumerate(items):
        size += len(encode([item]))
        if size > most and end > start:
            yield items[start:end]
            start, size = end, len(encode([item]))
    yield items[start:]


def _close_quietly(connection: Any) -> None:
    """Close a connection that has failed already, and ignore further errors."""
    if connection is not None:
        with suppress(Exception):
            connection.close()
