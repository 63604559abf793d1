"""Makes and upgrades tables: their columns and indexes, version by version.

The versions are in a table of their own, with a row for each part: the state, the ledger, the audit. Tables
without such a row are of version 1. Where the tables are up to date, that takes one query. Otherwise they are
made or upgraded, by one run at a time and, where the database can, in one transaction; where it cannot, a run that is
killed halfway is continued by the next one, for every change may be repeated, and the version is
written last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from airflow_provider_iterable.errors import ConfigurationError, IterableSyncError
from airflow_provider_iterable.masking import logger, masked
from airflow_provider_iterable.state.tables.connection import Refused, Tables, Unreached
from airflow_provider_iterable.state.tables.notation import Notation

log = logger(__name__)

VERSIONS = "CREATE TABLE IF NOT EXISTS {version} (part VARCHAR(20) NOT NULL PRIMARY KEY, version INTEGER NOT NULL)"
ROLE = "airflow"
"""Who is granted something, where nobody says who."""
_LOOK = "SELECT part, version FROM {version}"
_COLUMNS = re.compile(r"[(\s]([a-z_]+) [A-Z{]").findall
"""The names of the columns in a statement that makes a table."""


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
    """Make or upgrade tables, unless they are as these layouts say, and see that they may be used.

    Where they are, the rights to read and write them are enough. That these are there is found out here, and not once
    something was sent that cannot be remembered.

    :param whose: what the tables hold, for messages
    :param outcome: what a failure means for the run, as a sentence
    :raises ConfigurationError: they are of a later version; something is to be made that the connection may not make;
        it may not use them; or it may write nothing at all
    """
    try:
        _establish(tables, layouts, whose, outcome)
    except _LaterVersion as later:
        raise ConfigurationError(
            f"The tables of {whose} are of version {later.found} (part {later.layout.part!r} in "
            f"{tables.written('{version}')}), and this version of the provider knows version {later.layout.version}: "
            f"a later version of the provider was here. {outcome} Install that version, or a later one: tables do not "
            "go back."
        ) from None


def _establish(tables: Tables, layouts: Collection[Layout], whose: str, outcome: str) -> None:
    try:
        if not are_there(tables, layouts):
            _make_patiently(tables, layouts)
        _try_rights(tables, layouts)
    except Refused as refused:
        raise _told(refused, tables, layouts, whose, outcome) from None


def _whoami(tables: Tables) -> str:
    """Return who is connected; a name for anybody, if that is not told or would be masked."""
    with suppress(Exception):  # whatever keeps it from telling
        ((name,),) = tables.transact(lambda: tables.find(tables.dialect.whoami))
        if name and masked(name) == name:
            return str(name)
    return ROLE


def script(tables: Tables | Nowhere, layouts: Collection[Layout], role: str, there: Collection[str] = ()) -> str:
    """Return what somebody is to execute who may, so that somebody else can use the tables.

    :param role: who is to use them, as the database names them
    :param there: tables that are there
    """
    schema = bool(tables.schema) and not there
    return "\n".join(
        f"{tables.written(statement)};"
        for statement in chain(_statements(tables, layouts, schema, there), _grants(tables, layouts, role))
    )


class Nowhere(Notation):
    """A database without any of the tables, which is asked nothing."""

    def find(self, statement: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """Return no rows."""
        return []

    def columns(self, table: str) -> set[str]:
        """Return no columns."""
        return set()


def _told(
    refused: Refused, tables: Tables, layouts: Collection[Layout], whose: str, outcome: str
) -> ConfigurationError:
    """Say what is missing and what somebody else is to run, or that there is no use in that."""
    if refused.reads:
        return ConfigurationError(
            f"The connection of {whose} may only read ({refused}): it leads to a replica, or to a role, session or "
            f"file that may write nothing. {outcome} There are two ways out: the connection of a database that may be "
            "written, TableState(conn_id=...); or object storage, ObjectState(path)."
        )
    look = "SELECT 1 FROM {{{0}}} WHERE 1 = 0"
    there = [name for name in _tables(layouts) if _goes(tables, partial(tables.find, look.format(name)))]
    hiding: list[str] = []
    with suppress(Exception):  # what is lacking already may keep it from telling
        hiding = tables.transact(partial(_hiding, tables, there))
    shows = [tables.written(f"a policy that shows it every row of {{{name}}}") for name in hiding]
    lacking = ", ".join([*_lacking(tables, layouts, there), *shows])
    role = _whoami(tables)
    what = (
        f"may not use the tables of {whose}: it lacks {lacking}"
        if lacking
        else f"may not make or read the tables of {whose}, which are not there, or not as this version of the "
        "provider needs them"
    )
    return ConfigurationError(
        f"The connection {what} ({refused}). {outcome} SELECT, INSERT, UPDATE and DELETE on the tables are all it "
        f"takes once they are there. Somebody who may is to run this; `python -m airflow_provider_iterable.state --ddl "
        f"{tables.kind}` prints what all kinds of syncs take:\n"
        + "\n".join([script(tables, layouts, role, there), *_policies(tables, hiding, role)])
    )


class _LaterVersion(IterableSyncError):
    """The tables are of a later version."""

    def __init__(self, layout: Layout, found: int) -> None:
        super().__init__(layout.part)
        self.layout, self.found = layout, found


def are_there(tables: Tables, layouts: Collection[Layout]) -> bool:
    """Return, by one query, whether everything is there and of these versions.

    :raises Refused: it is there, and may not be read
    """
    there = (f"EXISTS (SELECT 1 FROM {{{name}}} WHERE 1 = 0)" for layout in layouts for name in layout.tables)
    query = " AND NOT ".join([f"{_LOOK} WHERE 1 = 1", *there])
    try:
        found = dict(tables.transact(tables.refusing(lambda: tables.find(query))))
    except IterableSyncError:
        raise
    except Unreached as unreached:
        if unreached.denied:
            raise Refused(str(unreached), False) from None
        tables.patiently(lambda: None)
        return are_there(tables, layouts)  # on this connection; to make what is there takes rights of its own
    except Exception:  # drivers differ in the error of a missing table
        return False
    return all(found.get(layout.part) == layout.version for layout in layouts)


def _make_patiently(tables: Tables, layouts: Collection[Layout]) -> None:
    """Make what is missing; if that fails, also the schema, which needs a right of its own.

    :raises Refused: that is not allowed
    """
    for schema in (False, True) if tables.schema else (False,):
        tables.patiently(lambda: None)  # connects first: what fails then is no reason to make the schema, too
        try:
            tables.transact(tables.refusing(partial(_make, tables, layouts, schema)))
            return
        except IterableSyncError:
            raise
        except Exception:  # a schema that is not there; somebody else who makes them
            continue
    tables.patiently(tables.refusing(partial(_make, tables, layouts, bool(tables.schema))))


def _try_rights(tables: Tables, layouts: Collection[Layout]) -> None:
    """Do to each table what a run does, in a way that changes nothing.

    :raises Refused: a right is missing, or nothing may be written
    """
    if tables.dialect.untested:  # where each of these statements may take a second
        return

    def work() -> None:
        for statement in chain(tables.dialect.before_renewal, _uses(layouts).values()):
            tables.execute(statement)
        if _hiding(tables, _tables(layouts)):
            raise Refused("row-level security is on", False)

    try:
        tables.transact(tables.refusing(work))
    except IterableSyncError:
        raise
    except Exception:  # somebody is in the way, or the table has a column more: what matters will fail for itself
        return


def _uses(layouts: Collection[Layout]) -> dict[tuple[str, str], str]:
    """Return statements that change nothing, by the right that each takes and its table."""
    found = {}
    for name, made in ((name, made) for layout in layouts for name, made in layout.tables.items()):
        same = ", ".join(f"{column} = {column}" for column in _COLUMNS(made))  # each may take a right of its own
        found["INSERT", name] = f"INSERT INTO {{{name}}} SELECT * FROM {{{name}}} WHERE 1 = 0"
        found["UPDATE", name] = f"UPDATE {{{name}}} SET {same} WHERE 1 = 0"
        found["DELETE", name] = f"DELETE FROM {{{name}}} WHERE 1 = 0"
    return found


def _hiding(tables: Tables, there: Collection[str]) -> list[str]:
    """Return the tables that are there of which the database may keep rows from the connection, without an error."""
    if not tables.dialect.hides or not there:
        return []
    each = ", ".join(f"('{name}', '{{{name}}}')" for name in there)
    return [name for (name,) in tables.find(tables.dialect.hides.format(tables=each))]


def _lacking(tables: Tables, layouts: Collection[Layout], there: Collection[str]) -> Iterator[str]:
    """Name the rights on tables that are there which are missing, each on its own."""
    for (right, name), statement in _uses(layouts).items():
        if name in there and not _goes(tables, partial(tables.execute, statement)):
            yield tables.written(f"{right} on {{{name}}}")


def _goes(tables: Tables, work: Callable[[], Any]) -> bool:
    """Tell whether the database does something."""
    try:
        tables.transact(work)
    except Exception:  # drivers differ in this error
        return False
    return True


def _make(tables: Tables, layouts: Collection[Layout], schema: bool) -> None:
    dialect = tables.dialect
    for statement in chain(dialect.before_making, _statements(tables, layouts, schema), dialect.after_making):
        tables.execute(statement)


def _statements(
    tables: Tables | Nowhere, layouts: Collection[Layout], schema: bool, there: Collection[str] | None = None
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


def _changes(tables: Tables | Nowhere, step: Step, is_there: Callable[[str], bool]) -> Iterator[str]:
    for change in step:
        if isinstance(change, str):
            yield change
        elif is_there(change.table) and change.column not in tables.columns(change.table):
            alter = f"ALTER TABLE {{{change.table}}} ADD COLUMN {change.column} {change.kind}"
            yield tables.dialect.make(alter)


def _index(tables: Tables | Nowhere, name: str, table: str, *columns: str) -> Iterator[str]:
    """Return the statement that makes an index, if it is missing and the database uses indexes.

    It is looked for first where that is possible: Postgres locks the table even if the index exists.
    """
    dialect = tables.dialect
    if not dialect.indexes:
        return
    whole = {"table": tables.written(f"{{{table}}}").rpartition(".")[2], "index": tables.written(name)}
    if dialect.indexed and tables.find(dialect.indexed, schema=tables.schema, **whole):
        return
    indexed = ", ".join(dialect.prefixes.get(column, column) for column in columns)
    yield f"CREATE INDEX {dialect.unless_there}{name} ON {{{table}}} ({indexed})"


def _grants(tables: Tables | Nowhere, layouts: Collection[Layout], role: str) -> Iterator[str]:
    """Write what somebody is granted who is to use the tables."""
    dialect = tables.dialect
    names = {"role": dialect.principal(role), "schema": "{schema}"}
    for grant in dialect.grants:
        if "{table}" in grant:
            yield from (grant.format(table=f"{{{name}}}", **names) for name in _tables(layouts))
        elif tables.schema:
            yield grant.format(**names)


def _policies(tables: Tables, names: Collection[str], role: str) -> Iterator[str]:
    """Write what shows somebody every row of tables."""
    for name in names:
        opens = tables.dialect.opens.format(table=f"{{{name}}}", role=tables.dialect.principal(role))
        yield f"{tables.written(opens)};"
