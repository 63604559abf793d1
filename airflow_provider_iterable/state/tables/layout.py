"""Makes and upgrades tables: their columns and indexes, version by version.

The versions are in a table of their own, with a row for each part: the state, the ledger, the audit. Tables
without such a row are of version 1. Where the tables are up to date, that takes one query. Otherwise they are
made or upgraded, by one run at a time and, where the database can, in one transaction; where it cannot, a run that is
killed halfway is continued by the next one, for every change may be repeated, and the version is
written last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain

from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.tables.connection import Tables

log = logger(__name__)

VERSIONS = "CREATE TABLE IF NOT EXISTS {version} (part VARCHAR(20) NOT NULL PRIMARY KEY, version INTEGER NOT NULL)"
_LOOK = "SELECT part, version FROM {version}"


@dataclass(frozen=True)
class Addition:
    """A column that a version adds; rows of earlier versions, and of runs that know only these, have none in it.

    :param kind: its type, without a constraint or default: not every database adds columns that have one
    """

    table: str
    column: str
    kind: str


Step = tuple[Addition | str, ...]
"""What makes one version of the one before: columns, and statements that may be repeated."""


@dataclass(frozen=True)
class Layout:
    """Tables that belong together, as this version of the provider knows them.

    :param part: their name in the table of versions
    :param tables: what makes each of them, as it is now
    :param indexes: name, table and columns of each index
    :param steps: what makes version 2 of version 1, version 3 of version 2, and so on
    """

    part: str
    tables: Mapping[str, str]
    indexes: tuple[tuple[str, ...], ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def version(self) -> int:
        """Return the version that the tables have after all steps."""
        return 1 + len(self.steps)


def establish(tables: Tables, layouts: Collection[Layout], whose: str, outcome: str) -> None:
    """Make or upgrade tables, unless they are as these layouts say.

    :param whose: what the tables hold, for messages
    :param outcome: what a failure means for the run, as a sentence
    :raises ConfigurationError: they are of a later version; or something is to be made that the connection may not make
    """
    try:
        if tables.transact(lambda: _is_up_to_date(tables, layouts)):
            return
    except Exception:  # drivers differ in the error of a missing table
        if not tables.reached:
            tables.patiently(lambda: None)
    try:
        _make_as_far_as_allowed(tables, layouts, whose, outcome)
    except _LaterVersion as later:
        raise ConfigurationError(
            f"The tables of {whose} are of version {later.found} (part {later.layout.part!r} in "
            f"{tables.written('{version}')}), and this version of the provider knows version {later.layout.version}: "
            f"a later version of the provider was here. {outcome} Install that version, or a later one: tables do not "
            "go back."
        ) from None


def _make_as_far_as_allowed(tables: Tables, layouts: Collection[Layout], whose: str, outcome: str) -> None:
    """Make what is missing, or show the SQL for somebody who may.

    :raises ConfigurationError: the connection may not make it
    """
    try:
        _make_patiently(tables, layouts)
    except _Denied as denied:
        raise ConfigurationError(
            f"The tables of {whose} are not there, or not as this version of the provider needs them, and the "
            f"connection may not make them ({denied.why}). {outcome} Somebody who may is to run this, and to grant "
            f"SELECT, INSERT, UPDATE and DELETE on the tables:\n{_script(tables, layouts)}"
        ) from None


class _LaterVersion(IterableSyncError):
    """The tables are of a later version."""

    def __init__(self, layout: Layout, found: int) -> None:
        super().__init__(layout.part)
        self.layout, self.found = layout, found


class _Denied(IterableSyncError):
    """The connection may not do it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def _is_up_to_date(tables: Tables, layouts: Collection[Layout]) -> bool:
    """Return, by one query, whether everything is there and of these versions; it fails where a table is missing."""
    there = (f"EXISTS (SELECT 1 FROM {{{name}}} WHERE 1 = 0)" for layout in layouts for name in layout.tables)
    found = dict(tables.find(" AND NOT ".join([f"{_LOOK} WHERE 1 = 1", *there])))
    return all(found.get(layout.part) == layout.version for layout in layouts)


def _make_patiently(tables: Tables, layouts: Collection[Layout]) -> None:
    """Make what is missing; if that fails, also the schema, which needs a right of its own."""
    for schema in (False, True) if tables.schema else (False,):
        try:
            tables.transact(partial(_make, tables, layouts, schema))
            return
        except IterableSyncError:
            raise
        except Exception as error:
            if tables.dialect.denied(error):
                raise _Denied(type(error).__name__) from None
    tables.patiently(partial(_make, tables, layouts, bool(tables.schema)))


def _make(tables: Tables, layouts: Collection[Layout], schema: bool) -> None:
    dialect = tables.dialect
    for statement in chain(dialect.before_making, _statements(tables, layouts, schema), dialect.after_making):
        tables.execute(statement)


def _statements(
    tables: Tables, layouts: Collection[Layout], schema: bool, there: Collection[str] | None = None
) -> Iterator[str]:
    """Return the statements to execute.

    :param schema: whether the schema is made, too
    :param there: tables that are there; ``None``: each statement is executed before the next one is asked for
    """
    dialect = tables.dialect
    if schema:
        yield "CREATE SCHEMA IF NOT EXISTS {schema}"
    for name, statement in _tables(layouts).items():
        if there is None or name not in there:
            yield dialect.make(statement) + dialect.storage
            yield from dialect.tuned.get(name, ())
    known = dict(tables.find(_LOOK)) if there is None or "version" in there else {}
    for layout in layouts:
        before = known.get(layout.part, 1)
        if before > layout.version:
            raise _LaterVersion(layout, before)
        if layout.part in known and before < layout.version and there is None:
            log.info("The %s tables go from version %d to %d.", layout.part, before, layout.version)
        for step in layout.steps[before - 1 :]:
            yield from _changes(tables, step, lambda table: there is None or table in there)
        for index in layout.indexes:
            yield from _index(tables, *index)
        if known.get(layout.part) != layout.version:
            yield f"DELETE FROM {{version}} WHERE part = '{layout.part}'"
            yield f"INSERT INTO {{version}} (part, version) VALUES ('{layout.part}', {layout.version})"


def _tables(layouts: Collection[Layout]) -> dict[str, str]:
    made = {name: statement for layout in layouts for name, statement in layout.tables.items()}
    return {"version": VERSIONS, **made}


def _changes(tables: Tables, step: Step, is_there: Callable[[str], bool]) -> Iterator[str]:
    for change in step:
        if isinstance(change, str):
            yield change
        elif is_there(change.table) and change.column not in tables.columns(change.table):
            alter = f"ALTER TABLE {{{change.table}}} ADD COLUMN {change.column} {change.kind}"
            yield tables.dialect.make(alter)


def _index(tables: Tables, name: str, table: str, *columns: str) -> Iterator[str]:
    """Return the statement that makes an index, if it is missing and the database uses indexes.

    It is looked for first where that is possible: Postgres locks the table even if the index exists.
    """
    dialect = tables.dialect
    if not dialect.indexes:
        return
    whole = {"table": tables.written(f"{{{table}}}").rpartition(".")[2], "index": tables.written(name)}
    if dialect.indexed and tables.find(dialect.indexed, schema=tables.schema, **whole):
        return
    there = "" if dialect.indexed else "IF NOT EXISTS "
    indexed = ", ".join(dialect.prefixes.get(column, column) for column in columns)
    yield f"CREATE INDEX {there}{name} ON {{{table}}} ({indexed})"


def _script(tables: Tables, layouts: Collection[Layout]) -> str:
    """Return the statements for somebody with the rights to execute."""

    def is_there(name: str) -> bool:
        try:
            tables.transact(lambda: tables.find(f"SELECT 1 FROM {{{name}}} WHERE 1 = 0"))
        except Exception:  # drivers differ in this error
            return False
        return True

    there = list(filter(is_there, _tables(layouts)))
    schema = bool(tables.schema) and not there
    wanted = tables.transact(lambda: list(_statements(tables, layouts, schema, there)))
    return "\n".join(f"{tables.written(statement)};" for statement in wanted)
