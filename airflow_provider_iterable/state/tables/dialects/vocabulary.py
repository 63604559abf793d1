"""What each database has to say: how to write its tables, read its clock, and compare rows in it.

Each database has a file of its own in this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_provider_iterable.sql.errors import READ_ONLY, sqlstate


class NotInSql(Exception):  # a reason, not an error: the worker compares instead
    """The database cannot do it; the message says why, as a clause."""


DENIED = "42501"
"""The SQLSTATE of an insufficient privilege."""


def quoted(name: str, by: str) -> str:
    """Return a name in quotes."""
    return f"{by}{name.replace(by, by * 2)}{by}"


def on_conflict(table: str, values: Mapping[str, str], key: Sequence[str], source: str) -> str:
    """Write the statement that stores rows in place of those with the same key.

    :param values: the expressions of the columns
    :param key: the columns of the primary key
    :param source: a table expression of which the expressions are; empty: they are one row
    """
    columns, expressions = ", ".join(values), ", ".join(values.values())
    rows = f"SELECT {expressions} FROM ({source}) AS given WHERE TRUE" if source else f"VALUES ({expressions})"
    replaced = ", ".join(f"{name} = excluded.{name}" for name in values if name not in key)
    then = f"UPDATE SET {replaced}" if replaced else "NOTHING"
    return f"INSERT INTO {table} ({columns}) {rows} ON CONFLICT ({', '.join(key)}) DO {then}"


_FREE = "holder = :holder OR expires_at <= {now} OR (instance = :instance AND attempt < :attempt)"
TAKE = (
    "INSERT INTO {lease} AS held (sync_id, holder, instance, attempt, label, expires_at) "
    "VALUES (:sync_id, :holder, :instance, :attempt, :label, {now} + :lasts) "
    "ON CONFLICT (sync_id) DO UPDATE SET holder = excluded.holder, instance = excluded.instance, "
    "attempt = excluded.attempt, label = excluded.label, expires_at = excluded.expires_at "
    "WHERE held.holder = excluded.holder OR held.expires_at <= {now} "
    "OR (held.instance = excluded.instance AND held.attempt < excluded.attempt)",
)
"""Take a lease by compare-and-swap, in one statement."""
TAKE_OVER_OR_BEGIN = (
    "UPDATE {lease} SET holder = :holder, instance = :instance, attempt = :attempt, label = :label, "
    f"expires_at = {{now}} + :lasts WHERE sync_id = :sync_id AND ({_FREE})",
    "INSERT INTO {lease} (sync_id, holder, instance, attempt, label, expires_at) "
    "SELECT :sync_id, :holder, :instance, :attempt, :label, {now} + :lasts FROM (SELECT 1 AS one) AS once "
    "WHERE NOT EXISTS (SELECT 1 FROM {lease} WHERE sync_id = :sync_id)",
)
"""The same in two, of which the second is tried where the first changed no row."""


MERGE_LEASE = (
    "MERGE INTO {lease} AS held USING (SELECT :sync_id AS sync_id, :holder AS holder, :instance AS instance, "
    ":attempt AS attempt, :label AS label) AS new ON held.sync_id = new.sync_id "
    "WHEN MATCHED AND (held.holder = new.holder OR held.expires_at <= {now} "
    "OR (held.instance = new.instance AND held.attempt < new.attempt)) THEN UPDATE SET holder = new.holder, "
    "instance = new.instance, attempt = new.attempt, label = new.label, expires_at = {now} + :lasts "
    "WHEN NOT MATCHED THEN INSERT (sync_id, holder, instance, attempt, label, expires_at) "
    "VALUES (new.sync_id, new.holder, new.instance, new.attempt, new.label, {now} + :lasts)",
)
"""The same by a merge, where merges wait for one another and keys are not checked."""


def merge(table: str, values: Mapping[str, str], key: Sequence[str], source: str) -> str:
    """Write what :func:`on_conflict` writes, where keys are not checked."""
    given = ", ".join(f"{expression} AS {name}" for name, expression in values.items())
    rows = f"SELECT {given} FROM ({source}) AS given" if source else f"SELECT {given}"
    met = " AND ".join(f"old.{name} = new.{name}" for name in key)
    replaced = ", ".join(f"{name} = new.{name}" for name in values if name not in key)
    return (
        f"MERGE INTO {table} AS old USING ({rows}) AS new ON {met} "
        f"{f'WHEN MATCHED THEN UPDATE SET {replaced} ' if replaced else ''}"
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(values)}) VALUES ({', '.join(f'new.{name}' for name in values)})"
    )


class Comparing(Protocol):
    """A database that compares."""

    scheme: str
    """What its fingerprints begin with: two hexadecimal digits."""
    joins_fully: bool
    """Whether a full join is quick; otherwise the keys that no row has are looked for apart."""
    once: str
    """The keyword with which a common table expression is computed once."""
    json: Collection[int]
    """Positions of columns of whose text nothing counts but the JSON that it is, as long as the digest can tell."""

    def describe(self, cursor: Any) -> None:
        """Take the types of the columns ``c0``, ``c1``, ... from a cursor that ran the model without fetching a row.

        :raises NotInSql: the database's version is too old
        """
        ...

    def begin(self, connection: Any, cursor: Any) -> Any:
        """Begin a transaction whose statements all see the same rows; return a cursor to run them with."""
        ...

    def family(self, number: int, name: str) -> str:
        """Return what kind of values a column has, as far as its digest depends on it.

        :raises NotInSql: such values cannot be digested
        """
        ...

    def key_part(self, number: int, name: str) -> str:
        """Return the expression of a column's canonical JSON value; null where it has none.

        :raises NotInSql: such values cannot be key text in SQL
        """
        ...

    def key(self, parts: Sequence[str], longest: int) -> str:
        """Return the expression of the key text; null where a part is, or where it is longer than that."""
        ...

    def fingerprint(self, digest: str, columns: Sequence[int]) -> str:
        """Return the expression of a row's fingerprint, hexadecimal and never null."""
        ...

    def gone(self, columns: int) -> str:
        """Return the query for the keys that no row has, as lines of news; not asked where a full join is quick.

        :param columns: how many the model has
        """
        ...

    def quote(self, text: str) -> str:
        """Return a literal."""
        ...


@dataclass(frozen=True)
class Dialect:
    """How one database says what the state needs; ``:name`` stands for a value.

    :param rows: gives a query that turns ``:json``, an array of arrays, into rows of columns with these names
    :param now: its time, in milliseconds since the epoch
    :param time: the type of a time
    :param moment: makes a time of a text, ``{value}``, which is in UTC
    :param some: a condition that ``{limit}`` rows of ``{table}`` meet, of those that meet ``{where}``
    :param comparing: compares; a new one for each model
    :param keys: a query that turns ``:json``, an array of keys, into rows; empty: each key is a value
    :param upsert: writes the statement that stores rows, see :func:`on_conflict`
    :param clears: writes the statement that takes rows with the same key away first, where no statement does both; its
        values are among those of ``upsert``
    :param make: rewrites the statement that makes a table
    :param takes: takes a lease: the statements are tried in turn, until one changes a row
    :param digests: the SHA-256 of ``{value}`` in hexadecimal; empty: the worker makes it
    :param most: most characters of a JSON array; more entries are several statements
    :param cast: turns a text ``{value}`` into a ``{type}`` that it is stored as
    :param batches: how many batches are committed together: more where a transaction takes long
    :param untested: what stands for runs on a real server where there were none, as the beginning of a sentence; such
        a database keeps a state only if it is asked to, and compares only if it is asked to; empty: it was really run
    :param schemas: whether tables can live in a schema of their own
    :param quote: what the schema's name is quoted by; nothing where the database folds names, and a name in quotes is
        another one
    :param former_quote: what earlier versions quoted it by, where that is something else
    :param placeholder: stands for a parameter; empty: what the hook says
    :param counts: whether a statement that stores rows returns how many; MySQL counts a row that is replaced twice, and
        one that stays as it is not at all
    :param seeds: statements after the tables are there
    :param before_making: statements before tables are made or altered: they let one run at a time do so, in one
        transaction where that is possible, and limit how long it waits for others
    :param after_making: statements after that
    :param denied: returns whether an error means a lack of rights
    :param reads_only: returns whether an error means that nothing may be written: a replica, a session, a file
    :param unless_there: what keeps an index from being made that is there, in the statement that makes it
    :param grants: what somebody is granted who is to use the tables: ``{role}``, once, for the ``{schema}`` or for each
        ``{table}``; none where the database knows nobody
    :param hides: a query for the names of those ``{tables}``, pairs of a name and a text, of which rows may be kept
        from who is connected, without an error; empty: the database has no such thing
    :param opens: what shows every row of a ``{table}`` to a ``{role}``
    :param principal: writes the name of who is granted something
    :param whoami: a query for the name of who is connected
    :param begins: whether transactions are begun and ended by statements rather than by the driver
    :param indexes: whether a column with an index can be overwritten, and needs one to be searched
    :param indexed: a query that returns whether ``:index`` of ``:table``, in ``:schema`` or none, is there; empty:
        ``CREATE INDEX`` checks that itself
    :param prefixes: columns of which an index holds the beginning
    :param text: the type of texts of any length
    :param storage: what follows the columns of a new table
    :param tuned: by table, statements after it is made
    :param cursor: opens a cursor on a new connection, and makes that fit
    :param idle: a condition that is always true; as a side effect, the database ends this transaction if its client is
        idle for ``:ms`` milliseconds, a text. Otherwise that client would lock the lease that another run takes over
    :param before_taking: statements before a lease is taken: they limit waiting for locks or, where keys are not
        checked, keep two runs from taking it at once
    :param before_renewal: statements before it is renewed outside of a commit, which limit waiting for locks
    :param limits: statements before the audit tables are written, which limit waiting for locks
    """

    rows: Callable[[Sequence[str]], str]
    now: str
    time: str
    moment: str
    some: str
    comparing: Callable[[], Comparing]
    keys: str = ""
    upsert: Callable[[str, Mapping[str, str], Sequence[str], str], str] = on_conflict
    clears: Callable[[str, Mapping[str, str], Sequence[str], str], str] | None = None
    make: Callable[[str], str] = str
    takes: tuple[str, ...] = TAKE
    digests: str = ""
    most: int = 4_000_000
    batches: int = 1
    untested: str = ""
    cast: str = "CAST({value} AS {type})"
    schemas: bool = True
    quote: str = '"'
    former_quote: str = ""
    placeholder: str = ""
    counts: bool = True
    seeds: tuple[str, ...] = ()
    before_making: tuple[str, ...] = ()
    after_making: tuple[str, ...] = ()
    denied: Callable[[Exception], bool] = lambda error: sqlstate(error) == DENIED
    reads_only: Callable[[Exception], bool] = lambda error: sqlstate(error) == READ_ONLY
    unless_there: str = "IF NOT EXISTS "
    grants: tuple[str, ...] = (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {table} TO {role}",
    )
    hides: str = ""
    opens: str = ""
    principal: Callable[[str], str] = lambda role: quoted(role, '"')
    whoami: str = "SELECT current_user"
    begins: bool = False
    indexes: bool = True
    indexed: str = ""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    text: str = "TEXT"
    storage: str = ""
    tuned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cursor: Callable[[Any], Any] = lambda connection: connection.cursor()
    idle: str = ""
    before_taking: tuple[str, ...] = ()
    before_renewal: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


def parts(part: Callable[[int], str], source: str) -> Callable[[Sequence[str]], str]:
    """Return what writes a table expression of rows, given how to write their parts, which are numbered from 0 on."""
    return lambda names: f"SELECT {', '.join(f'{part(n)} AS {name}' for n, name in enumerate(names))} FROM {source}"


def refused(name: str, kind: str, what: str) -> NotInSql:
    """Return the reason why a column is not compared."""
    return NotInSql(f"column {name} of type {kind} cannot be {what} in SQL")


def in_years(c: str, kind: str, text: str) -> str:
    """Return the key text of a date, and null of one that the worker has no room for: it has no key there, either.

    :param kind: ``DATE`` or ``TIMESTAMP``; of a time with a zone, what it is in UTC
    """
    last = "9999-12-31" if kind == "DATE" else "9999-12-31 23:59:59.999999"
    return f"CASE WHEN {c} BETWEEN {kind} '0001-01-01' AND {kind} '{last}' THEN {text} END"


class Typed:
    """What the databases with types have in common."""

    once = ""

    def __init__(self) -> None:
        self.types: list[str] = []
        self.json: Collection[int] = ()
        self.short: set[str] = set()
        """Expressions of parts that are never long."""

    def key(self, parts: Sequence[str], longest: int) -> str:
        """Join the parts; ``||`` is null when one of them is."""
        text = "'[' || " + " || ',' || ".join(parts) + " || ']'"
        if all(part in self.short for part in parts):
            return text
        return f"CASE WHEN length({text}) <= {longest} THEN {text} END"

    def _short(self, expression: str) -> str:
        self.short.add(expression)
        return expression

    def gone(self, columns: int) -> str:
        """Return the query for the keys that no row has."""
        return (
            f"SELECT {'NULL, ' * columns}NULL, record_key, fingerprint, ref, NULL FROM iterable_remembered "
            "WHERE record_key NOT IN (SELECT k FROM iterable_rows WHERE k IS NOT NULL)"
        )

    def quote(self, text: str) -> str:
        """Return a literal in which only quotes are special."""
        return "'" + text.replace("'", "''") + "'"
