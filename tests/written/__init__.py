"""What versions of this provider stored, as text, and the syncs that stored it.

A version's folder is written by ``python -m tests.written`` at a commit of that version, and never again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.engine.vocabulary import Entry, Patch
from airflow_provider_iterable.operators import (
    IterableEventOperator,
    IterableListOperator,
    IterablePrivacyOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.state import TableState

FOLDER = Path(__file__).parent
Database = Literal["postgres", "mysql", "sqlite", "duckdb"]
HOST = "https://iterable.test"
"""Stands for the sandbox's address."""
KEY = "0123456789abcdef0123456789abcdef"
TABLES = (
    "people",
    "requests",
    *(f"iterable_sync_{name}" for name in ("state", "header", "intents", "lease", "ledger")),
)
AUDIT = tuple(f"iterable_sync_{name}" for name in ("runs", "changelog", "snapshot", "requests"))
SEEN = {"host": "https://api.iterable.com", "type": "users", "match": "email"}
MAPPING = "0123456789abcdef" * 2
SYNC_ID = "dag.sync_ünïcode"

PEOPLE = (
    "CREATE TABLE people (id INTEGER, email VARCHAR(99), name VARCHAR(99), score DECIMAL(9, 2), seen_at TIMESTAMP)",
    "INSERT INTO people VALUES (1, 'ann@example.com', 'Zoë \"O''Neill\"', 1.50, '2026-03-01 12:00:00')",
    "INSERT INTO people VALUES (2, 'BOB@example.com', '名前 100%', 20, '2026-03-01 12:00:01')",
    "INSERT INTO people VALUES (3, 'cy@example.com', NULL, NULL, NULL)",
    "INSERT INTO people VALUES (4, 'dee@example.com', '', 0, '1999-12-31 23:59:59')",
    "INSERT INTO people VALUES (5, 'not an address', 'Eve', 7, '2026-03-01 12:00:00')",
    "INSERT INTO people VALUES (6, 'fay@example.com', 'Fay', 8, '2026-03-01 12:00:00')",
    "CREATE TABLE requests (id INTEGER, email VARCHAR(99))",
    "INSERT INTO requests VALUES (1, 'fay@example.com')",
)


def syncs() -> list[IterableModelOperator]:
    """Return one sync of each kind that the tables remember in a way of its own; the last one erases a person."""
    rows: dict[str, Any] = {"sql_conn_id": "state", "table": "people", "email_column": "email", "max_rejected": 1}
    keyed: dict[str, Any] = {**rows, "primary_key": "id"}
    return [
        IterableUserSyncOperator(
            task_id="users_by_database",
            sync_id="dag.users_by_database",
            state=TableState(audit=True, audit_fields=True),
            **keyed,
        ),
        IterableUserSyncOperator(
            task_id="users_by_worker", sync_id="dag.users_by_worker", state=TableState(compare="worker"), **keyed
        ),
        IterableEventOperator(
            task_id="events",
            sync_id="dag.events",
            event_type="custom",
            event_name="seen",
            state=TableState(audit=False),
            **keyed,
        ),
        IterableListOperator(
            task_id="members", sync_id="dag.members", list_name="everybody", state=TableState(), **rows
        ),
        IterablePrivacyOperator(
            task_id="forgotten",
            sync_id="dag.forgotten",
            action="forget",
            sql_conn_id="state",
            table="requests",
            primary_key="id",
            email_column="email",
            state=TableState(),
        ),
    ]


def run(operator: IterableModelOperator, run_id: str = "run") -> dict[str, Any]:
    """Run an operator as a task would, and return its report."""
    pushed = SimpleNamespace(xcom_push=lambda **kwargs: None, try_number=1)
    context = {"run_id": run_id, "ti": pushed, "outlet_events": defaultdict(SimpleNamespace)}
    report: dict[str, Any] = operator.execute(cast("Any", context))
    return report


def hook_of(database: Database, where: str) -> tuple[str, DbApiHook]:
    """Return the connection of a database of its own, as Airflow reads it, and its hook.

    :param where: the file's name; or the database's URI, in Postgres with a schema as its search path
    """
    if database == "postgres":
        connection = where
    elif database == "mysql":
        connection = f"{where}?charset=utf8mb4&client=mysql-connector-python"
    else:
        connection = json.dumps({"conn_type": database, "host": where})
    match database:
        case "postgres":
            from airflow.providers.postgres.hooks.postgres import PostgresHook

            return connection, PostgresHook("state")
        case "mysql":
            from airflow.providers.mysql.hooks.mysql import MySqlHook

            return connection, MySqlHook("state")
        case "sqlite":
            from airflow.providers.sqlite.hooks.sqlite import SqliteHook

            return connection, SqliteHook("state")
        case "duckdb":
            from airflow.providers.duckdb.hooks.duckdb import DuckDBHook

            return connection, DuckDBHook(duckdb_conn_id="state")


def patches() -> list[Patch]:
    """Return what a sync commits to objects: enough to be put together, and something after it."""
    some: list[Patch] = [{f"[{n}]": entry(n)} for n in range(60)]
    return [*some, {'["straße 😀 \\"quoted\\""]': entry(60), "[7]": None}]


def entry(number: int) -> Entry:
    """Return an entry about somebody."""
    return Entry(number.to_bytes(16, "big"), json.dumps(["email", f"{number}-ö@example.com"], ensure_ascii=False))


def remembered() -> Mapping[str, Entry]:
    """Return what the patches add up to."""
    found: dict[str, Entry] = {}
    for patch in patches():
        for key, kept in patch.items():
            if kept is None:
                del found[key]
            else:
                found[key] = kept
    return found
