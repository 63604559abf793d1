"""State tables in each database, and time that passes at once for those who try again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tenacity

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


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time as it passes for those who try again."""
    time = Time()
    monkeypatch.setattr(tenacity, "time", time)
    monkeypatch.setattr(tenacity.nap, "time", time)
    return time
