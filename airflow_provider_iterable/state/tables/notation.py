"""One notation for the statements of all databases; asks no database anything.

In a statement ``{name}`` stands for a table, a type or words of the database's own.
"""

from __future__ import annotations

import re

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.state.tables.dialects import DIALECTS, UNFIT, Dialect

TABLES = (
    *("state", "header", "intents", "lease", "version", "ledger"),
    *("runs", "changelog", "snapshot", "requests"),
)
"""Names of all tables; the layout of each is in the file that writes it."""


class Notation:
    """What the names in a statement stand for.

    :param kind: the type of the connection
    :param schema: the schema of the tables; ``None``: the connection's default
    :raises ConfigurationError: the database keeps no state, or the schema's name is none
    """

    def __init__(self, kind: str, schema: str | None) -> None:
        if kind not in DIALECTS:
            name, why = UNFIT.get(kind, ("", ""))
            raise ConfigurationError(
                f"TableState runs on {', '.join(sorted(DIALECTS))}; the connection is of type {kind!r}"
                f"{f', and {name} cannot keep the state: {why}' if name else ''}. Name another connection for the "
                "state with TableState(conn_id=...)."
            )
        self.kind, self.dialect, self.schema = kind, DIALECTS[kind], schema
        self.names = _names(schema, self.dialect)

    def written(self, statement: str) -> str:
        """Return a statement with table names, types and the database's own words filled in."""
        dialect = self.dialect
        rows, doubts = dialect.rows(("k", "f", "r")), dialect.rows(("k", "d", "r", "f"))
        types = {"text": dialect.text, "time": dialect.time}
        return statement.format(now=dialect.now, rows=rows, doubts=doubts, **types, **self.names)


def _names(schema: str | None, dialect: Dialect) -> dict[str, str]:
    """Return the replacements for ``{name}`` in a statement."""
    if schema is None:
        tables = {name: f"iterable_sync_{name}" for name in TABLES}
        return {**tables, "index": "iterable_sync_state_ref", "prefix": "iterable_sync_"}
    if not dialect.schemas:
        raise ConfigurationError("SQLite has no schemas: leave schema out of TableState")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", schema):
        raise ConfigurationError(f"{schema!r} is not the name of a schema: letters, digits and underscores")
    quoted = f"{dialect.quote}{schema}{dialect.quote}"
    tables = {name: f"{quoted}.sync_{name}" for name in TABLES}
    return {**tables, "schema": quoted, "index": "sync_state_ref", "prefix": "sync_"}
