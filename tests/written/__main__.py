"""Writes down what this version stores: ``python -m tests.written v2``, once the syncs of the commit before do."""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state import ObjectState, XComState
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables.connection import Tables
from tests.services import mysql_uri, postgres_uri
from tests.state.test_table import execute
from tests.written import (
    AUDIT,
    FOLDER,
    HOST,
    KEY,
    MAPPING,
    PEOPLE,
    SEEN,
    SYNC_ID,
    TABLES,
    Database,
    hook_of,
    patches,
    remembered,
    run,
    syncs,
)


def dump(database: Database, hook: DbApiHook) -> list[str]:
    """Run the syncs in a database, and return the statements that make what they leave."""
    made = list(PEOPLE)
    really = Tables._execute

    def hear(tables: Tables, statement: str, parameters: tuple[Any, ...] = ()) -> None:
        if statement.startswith("CREATE ") and statement not in made:
            made.append(statement)
        really(tables, statement, parameters)

    with Sandbox(rates=False) as iterable, patch.object(Tables, "_execute", hear):
        told = {"conn_type": "iterable", "host": iterable.url, "password": KEY, "extra": {"project_type": "email"}}
        os.environ["AIRFLOW_CONN_ITERABLE_DEFAULT"] = json.dumps(told)
        execute(hook, *PEOPLE)
        for operator in syncs():
            report = run(operator)
            print(database, operator.task_id, {name: report[name] for name in ("read", "accepted", "reasons")})
        for table in (*TABLES[2:], *AUDIT):
            for row in execute(hook, f"SELECT * FROM {table}"):
                made.append(f"INSERT INTO {table} VALUES ({', '.join(literal(database, cell) for cell in row)})")
        return [statement.replace(iterable.url, HOST) for statement in made]


def literal(database: Database, value: Any) -> str:
    """Return a literal of a cell."""
    if value is None:
        return "NULL"
    if isinstance(value, str | date):
        text = str(value).replace("'", "''")
        return f"'{text}'".replace("\\", "\\\\") if database == "mysql" else f"'{text}'"
    return str(value)


def objects(folder: Path) -> dict[str, str]:
    """Return the objects that runs leave."""
    scope = Scope(SYNC_ID, SEEN, MAPPING)
    *first, last = patches()
    for some in (first, [last]):
        session = ObjectState(f"file://{folder}").open(scope)
        session.note("list_id", "7")
        for committed in some:
            session.commit(committed)
        session.finish(True)
        session.close()
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): base64.b85encode(path.read_bytes()).decode() for path in found}


def xcom() -> str:
    """Return the XCom that a run pushes."""
    pushed: list[str] = []
    session = XComState().open(Scope(SYNC_ID, SEEN, MAPPING, pull=lambda: None, push=pushed.append))
    session.note("list_id", "7")
    session.commit(dict(remembered()))
    session.finish(True)
    return pushed[0]


def main(argv: Sequence[str] | None = None) -> None:
    """Write a version's folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.written", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("version")
    target = FOLDER / parser.parse_args(argv).version
    target.mkdir()
    name = f"written_{uuid.uuid4().hex[:12]}"
    folder = Path(tempfile.mkdtemp())
    places: list[tuple[Database, str, str, str]] = [
        (
            "postgres",
            f"{postgres_uri()}?options=-c%20search_path%3D{name}",
            "CREATE SCHEMA {}",
            "DROP SCHEMA {} CASCADE",
        ),
        ("mysql", mysql_uri(), "CREATE DATABASE {}", "DROP DATABASE {}"),
        ("sqlite", str(folder / "state.db"), "SELECT 1", "SELECT 1"),
        ("duckdb", str(folder / "state.duckdb"), "SELECT 1", "SELECT 1"),
    ]
    for database, where, make, drop in places:
        connection, hook = hook_of(database, where)
        os.environ["AIRFLOW_CONN_STATE"] = connection
        execute(hook, make.format(name))
        if database == "mysql":
            connection, hook = hook_of(database, urlsplit(where)._replace(path=f"/{name}").geturl())
            os.environ["AIRFLOW_CONN_STATE"] = connection
        try:
            lines = dump(database, hook)
        finally:
            execute(hook, drop.format(name))
        assert not [line for line in lines if "\n" in line], "a statement is a line"
        (target / f"{database}.sql").write_text("".join(f"{line};\n" for line in lines), "utf-8")
    (folder / "objects").mkdir()
    stored = {"objects": objects(folder / "objects"), "xcom": xcom()}
    (target / "stored.json").write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
