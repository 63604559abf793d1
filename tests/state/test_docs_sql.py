"""The SQL of the documentation runs as it stands, in each database; that of the audit is in test_audit.py, too."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.runs.audit import Audit
from airflow_provider_iterable.state import TableState
from tests.documents import Block, blocks
from tests.state.contract import entry, keep
from tests.state.pages import as_the_page_says
from tests.state.test_table import Tables, execute

USERS = "crm.sync_users"
MODELS = {"docs/merges.md": "CREATE TABLE merges (merge_id INTEGER, old_email TEXT, kept_email TEXT)"}
"""What the models of a page are read from."""
OF_TABLES = {"docs/audit.md", "docs/state.md"}
"""Pages whose statements are about our tables; what others have runs in SQLite."""


def statements(text: str) -> list[str]:
    """Return the statements of a block, without comments."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [each.strip() for each in "\n".join(lines).split(";") if each.strip()]


@pytest.mark.parametrize("block", [pytest.param(one, id=f"{one.page}:{one.line}") for one in blocks("sql")])
def test_sql(block: Block, page_tables: Tables) -> None:
    """Each statement runs; one that says that it is for Postgres runs there."""
    if block.page not in OF_TABLES:
        for statement in statements(block.text):
            with closing(sqlite3.connect(":memory:")) as database:
                database.execute(MODELS.get(block.page, "SELECT 1"))
                database.execute(statement)
        return
    keep(page_tables, USERS, {"[41]": entry(1), "[42]": entry(2)})
    report = Report(USERS, "run", {"host": "h", "type": "users"})
    store = TableState("state", page_tables.schema, audit=True)
    with Audit(store, lambda: page_tables.hook, report, "run", ("id",), "people") as account:
        account.begin(lambda keys: {}, anonymous=False)
    postgres = page_tables.hook.conn_type == "postgres"
    for statement in statements(as_the_page_says(block.text, page_tables)):
        if postgres or "to_timestamp" not in statement:
            execute(page_tables.hook, statement)


def test_a_row_is_sent_again_or_forgotten(page_tables: Tables) -> None:
    """As the comments on the page say."""
    (block,) = (one for one in blocks("sql") if one.page == "docs/state.md" and "fingerprint" in one.text)
    counts, looks, again, forgets, *whole = statements(as_the_page_says(block.text, page_tables))
    keep(page_tables, USERS, {"[41]": entry(1), "[42]": entry(2)})
    assert [tuple(row) for row in execute(page_tables.hook, counts)] == [(USERS, 2)]
    before = execute(page_tables.hook, looks)
    execute(page_tables.hook, again)
    after = execute(page_tables.hook, looks)
    assert len(before) == len(after) == 1
    assert before != after
    execute(page_tables.hook, forgets)
    assert execute(page_tables.hook, looks) == []
    assert [tuple(row) for row in execute(page_tables.hook, counts)] == [(USERS, 1)]
    execute(page_tables.hook, *whole)
    assert execute(page_tables.hook, counts) == []
