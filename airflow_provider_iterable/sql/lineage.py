"""Which tables a model reads, and which of their columns its own come from, as OpenLineage names them.

Parsing is that of OpenLineage's provider, as for Airflow's own SQL operators. What it needs to know of a database comes
from its hook, or from here where the hook does not say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import PurePath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.sql.hooks.sql import DbApiHook

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.providers.openlineage.sqlparser import DatabaseInfo

Source = tuple[str, str, str]
"""Namespace and name of a dataset, and one of its fields."""

_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?s")
"""What a driver replaces by a parameter, and the parser does not know."""
_SELECT = re.compile(r"\bselect\b", re.IGNORECASE)
_WILDCARD = re.compile(r"(?:\b(?:select|distinct|all)|[,.])\s*\*", re.IGNORECASE)


def read_from(
    hook: DbApiHook, sql: str, columns: Sequence[str], bound: bool
) -> tuple[OperatorLineage[Any, Any], dict[str, list[Source]]]:
    """Return the tables that a query reads, and for each of its columns, in lower case, where it comes from.

    :param columns: the query's columns; none: it was not run, and its database is not asked either
    :param bound: whether parameters are bound to it
    """
    from airflow.providers.common.compat.openlineage.facet import SQLJobFacet
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.providers.openlineage.sqlparser import SQLParser

    job = {"sql": SQLJobFacet(query=SQLParser.normalize_sql(sql))}
    hook.log_sql = False
    connection: Any = hook.get_connection(hook.get_conn_id())
    info, schema = _database(hook, connection, bool(columns))
    if info is None:
        return OperatorLineage(job_facets=job), {}
    kind = str(connection.conn_type)
    dialect = kind if kind in ("sqlite", "duckdb") else hook.get_openlineage_database_dialect(connection)
    text = _PLACEHOLDER.sub("NULL", sql).replace("%%", "%") if bound else sql

    class Parser(SQLParser):
        """The parser leaves out the tables of a WITH; and a model writes nothing."""

        def parse(self, sql: list[str] | str) -> Any:
            """Return what is in the query, with the tables of its WITH."""
            parsed, tables = super().parse(text), dict[str, Any]()
            if parsed is None:
                return None
            for query, names in queries(text):
                # Without a schema by default it is known which tables have one in the text.
                bare, full = (one.parse(query) for one in (SQLParser(dialect), SQLParser(dialect, schema)))
                own = [one for one in bare.in_tables if one.schema or one.name.lower() not in names] if bare else []
                kept = {(one.schema or schema, one.name) for one in own}
                read = full.in_tables if full else ()
                tables |= {one.qualified_name: one for one in read if (one.schema, one.name) in kept}
            lineage, errors, read = parsed.column_lineage, parsed.errors, [tables[name] for name in sorted(tables)]
            return SimpleNamespace(in_tables=read, out_tables=[], column_lineage=lineage, errors=errors)

    parser = Parser(dialect=dialect, default_schema=schema)
    asked = bool(columns) and kind != "sqlite"  # which has no information schema
    found = parser.generate_openlineage_metadata_from_sql(sql=text, hook=hook, database_info=info, use_connection=asked)
    if columns and kind == "sqlite":
        _describe(hook, found.inputs)
    found = OperatorLineage(inputs=found.inputs, run_facets=found.run_facets, job_facets=job)
    return found, _sources(parser.parse(text), found.inputs, columns, text)


def queries(sql: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the query of each common table expression, and at last all of it, with the names that are no tables there.

    These are in lower case. Without RECURSIVE, what has the name of its own expression, or of a later one, is a table.
    """
    from sqlparse import lexer, tokens

    found: Iterable[tuple[Any, str]] = lexer.tokenize(sql)  # type: ignore[no-untyped-call]
    pieces = [one for one in found if one[0] not in tokens.Comment and one[0] not in tokens.Whitespace]
    recursive = any(text.lower() == "recursive" for _, text in pieces)
    opened, names = list[tuple[int, set[str] | None]](), set[str]()
    for number, (_, text) in enumerate(pieces):
        if text == "(":
            name = _named(pieces[max(0, number - 500) : number])
            own = set() if name is None else {name}
            opened.append((number, None if name is None else names | own if recursive else set(names)))
            names |= own
        elif text == ")" and opened:
            start, known = opened.pop()
            if known is not None:
                yield " ".join(piece for _, piece in pieces[start + 1 : number]), known
    yield sql, names


def _named(pieces: Sequence[tuple[Any, str]]) -> str | None:
    """Return the name of the common table expression whose query is to follow; ``None``: something else follows."""
    words = [text.lower() for _, text in pieces]
    while words and words[-1] in ("materialized", "not"):
        words.pop()
    if not words or words.pop() != "as":
        return None
    if words and words[-1] == ")":  # the names of its columns
        while words and words.pop() != "(":
            pass
    return words[-1].strip('"`[]') if words else None


def _database(hook: DbApiHook, connection: Any, asked: bool) -> tuple[DatabaseInfo | None, str | None]:
    """Return what a database is called, and the schema of tables that are named without one.

    :param asked: whether the database may be asked
    """
    from airflow.providers.openlineage.sqlparser import DatabaseInfo

    kind, path = str(connection.conn_type), connection.host or ""
    if hasattr(hook, "get_database"):
        path = hook.get_database()  # of DuckDB's hook, with a token behind the question mark
    path = path.partition("?")[0]
    if kind == "sqlite":
        return DatabaseInfo(scheme="sqlite", authority=path), "main"
    if kind == "duckdb":
        columns = ["table_schema", "table_name", "column_name", "ordinal_position", "data_type", "table_catalog"]
        name = hook.get_first("SELECT current_database()")[0] if asked else PurePath(path).stem
        return DatabaseInfo(
            scheme="duckdb",
            authority=path,
            database=name,
            information_schema_columns=columns,
            is_information_schema_cross_db=True,
            use_flat_cross_db_query=True,
            normalize_name_method=str,
        ), "main"
    info = hook.get_openlineage_database_info(connection)
    if info is not None and kind == "mysql":
        # Its schemas are databases, whose names are told apart by case on most servers.
        info.normalize_name_method = str
        return info, getattr(hook, "schema", None) or connection.schema
    return info, hook.get_openlineage_default_schema() if asked else DbApiHook.get_openlineage_default_schema(hook)


def _describe(hook: DbApiHook, tables: Iterable[Any]) -> None:
    """Give tables of SQLite their columns."""
    from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacet, SchemaDatasetFacetFields

    with closing(hook.get_conn()) as connection:
        for table in tables:
            schema, _, name = table.name.rpartition(".")
            query = "SELECT name, type FROM pragma_table_info(?, ?)"
            fields = [SchemaDatasetFacetFields(*row) for row in connection.execute(query, (name, schema))]
            if fields:
                table.facets = {**(table.facets or {}), "schema": SchemaDatasetFacet(fields=fields)}


def _sources(parsed: Any, tables: Sequence[Any], columns: Sequence[str], sql: str) -> dict[str, list[Source]]:
    """Return where each column comes from, as far as the query's text and its tables' columns tell."""
    found = defaultdict[str, list[Source]](list)
    for one in parsed.column_lineage if parsed else ():
        for origin in one.lineage:
            table = _table(origin.origin, tables)
            if table is not None:
                found[one.descendant.name.lower()].append(_source(table, origin.name))
    if _WILDCARD.search(sql) and len(_SELECT.findall(sql)) == 1:  # of a query within, it has other names
        for column in columns:
            having = [table for table in tables if column.lower() in _names(table)]
            if column.lower() not in found and len(having or tables) == 1:
                (table,) = having or tables
                if having or not _names(table):
                    found[column.lower()].append(_source(table, column))
    return dict(found)


def _table(origin: Any, tables: Sequence[Any]) -> Any:
    """Return the table that a column's origin names; ``None``: it is not certain."""
    if origin is None:
        return tables[0] if len(tables) == 1 else None
    for name in (origin.qualified_name, origin.name):
        tail = f".{name}".lower()
        named = [table for table in tables if f".{table.name}".lower().endswith(tail)]
        if len(named) == 1:
            return named[0]
    return None


def _source(table: Any, column: str) -> Source:
    return table.namespace, table.name, _names(table).get(column.lower(), column)


def _names(table: Any) -> dict[str, str]:
    """Return the names of a table's columns by what they are in lower case; none where they are not known."""
    schema = (table.facets or {}).get("schema")
    return {one.name.lower(): one.name for one in schema.fields or ()} if schema else {}
