"""State tables in each database, and time that passes at once for those who try again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity

from airflow_provider_iterable.state.tables.session import TableSession
from tests.state.pages import PLACES, tables_of_pages
from tests.state.test_table import (
    DATABASES,
    Tables,
    Time,
    duckdb_hook,
    mysql_tables,
    postgres_hook,
    postgres_tables,
    sqlite_hook,
)


@pytest.fixture(params=DATABASES)
def tables(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    """Each database."""
    match request.param:
        case "sqlite":
            yield Tables(sqlite_hook(tmp_path, monkeypatch))
        case "postgres":
            with postgres_tables(postgres_hook(monkeypatch)) as made:
                yield made
        case "mysql":
            with mysql_tables(monkeypatch) as made:
                yield made
        case _:
            yield Tables(duckdb_hook(tmp_path, monkeypatch))


@pytest.fixture(params=PLACES)
def page_tables(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    """Each database, with the tables in no schema, and in that of the examples on the pages."""
    database, schema = request.param
    with tables_of_pages(database, schema, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the sessions that a test left open, because it failed or its run was lost: their threads and connections
    would be in the way of the tests that follow."""
    opened: list[TableSession] = []
    begin = TableSession.__init__

    def recorded(session: TableSession, *args: Any, **options: Any) -> None:
        opened.append(session)
        begin(session, *args, **options)

    monkeypatch.setattr(TableSession, "__init__", recorded)
    yield
    for session in opened:
        if hasattr(session, "lease"):
            session.close()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time as it passes for those who try again."""
    time = Time()
    monkeypatch.setattr(tenacity, "time", time)
    monkeypatch.setattr(tenacity.nap, "time", time)
    return time
