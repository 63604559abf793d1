"""Databases in which statements run as the pages of the documentation have them: nothing else is in them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.documents import ROOT
from tests.services import postgres_uri
from tests.state.test_table import Tables, duckdb_hook, execute, mysql_hook, needs_duckdb, postgres_hook, sqlite_hook

SCHEMA = re.findall(r'TableState\(.*schema="(\w+)"', (ROOT / "docs" / "audit.md").read_text("utf-8"))[0]
"""The one in the example of the page."""
SLOW = [needs_duckdb, pytest.mark.slow]
PLACES = [
    pytest.param(("sqlite", None), id="sqlite"),
    pytest.param(("postgres", None), id="postgres"),
    pytest.param(("postgres", SCHEMA), id="postgres-schema"),
    pytest.param(("duckdb", None), id="duckdb", marks=SLOW),
    pytest.param(("duckdb", SCHEMA), id="duckdb-schema", marks=SLOW),
    pytest.param(("mysql", None), id="mysql"),
    pytest.param(("mysql", f"{SCHEMA}_{uuid.uuid4().hex[:12]}"), id="mysql-schema"),
]
"""SQLite has no schemas. In MySQL a schema is a database, whose name all tests of a server share: it gets a tail."""


def as_the_page_says(statements: str, tables: Tables) -> str:
    """Return statements as they stand, or, for tables in a schema, with what the page says is to be written then."""
    if tables.schema is None:
        return statements
    for page in ("audit", "state"):
        told = " ".join((ROOT / "docs" / f"{page}.md").read_text("utf-8").split())
        assert f'`schema="{SCHEMA}"` write `{SCHEMA}.sync_' in told
    return re.sub(r"\biterable_(?=sync_)", f"{tables.schema}.", statements)


@contextmanager
def tables_of_pages(
    database: str, schema: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tables]:
    """Give a new database, and drop it."""
    name = f"pages_{uuid.uuid4().hex[:12]}"
    match database:
        case "sqlite":
            yield Tables(sqlite_hook(folder, monkeypatch))
        case "duckdb":
            yield Tables(duckdb_hook(folder, monkeypatch), schema)
        case "postgres":
            hook, uri = postgres_hook(monkeypatch), postgres_uri()
            hook.run(f"CREATE DATABASE {name}", autocommit=True)
            try:
                monkeypatch.setenv("AIRFLOW_CONN_STATE", urlsplit(uri)._replace(path=f"/{name}").geturl())
                yield Tables(hook.__class__("state"), schema)
            finally:
                monkeypatch.setenv("AIRFLOW_CONN_STATE", uri)
                hook.__class__("state").run(f"DROP DATABASE {name} WITH (FORCE)", autocommit=True)
        case _:
            execute(mysql_hook(monkeypatch), f"CREATE DATABASE {name}")
            try:
                yield Tables(mysql_hook(monkeypatch, database=name), schema)
            finally:
                drops = [f"DROP DATABASE IF EXISTS {each}" for each in (name, schema) if each]
                execute(mysql_hook(monkeypatch), "SET lock_wait_timeout = 5", *drops)
