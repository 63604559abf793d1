"""Databases and roles that allow few connections: how many a task needs, and what it says below that."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.tables.connection import Tables
from tests.operators.conftest import World
from tests.services import postgres_uri

SQL = "SELECT i AS id, 'person' || i || '@example.com' AS email FROM generate_series(1, 20) AS i"


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a role with a schema of the same name, to which connection ``few`` leads."""
    name, address = f"few_{uuid.uuid4().hex[:12]}", urlsplit(postgres_uri())
    monkeypatch.setenv("AIRFLOW_CONN_OWNER", postgres_uri())
    monkeypatch.setenv(
        "AIRFLOW_CONN_FEW", address._replace(netloc=f"{name}@{address.netloc.rpartition('@')[2]}").geturl()
    )
    owner = PostgresHook("owner")
    owner.run([f"CREATE ROLE {name} LOGIN", f"CREATE SCHEMA {name} AUTHORIZATION {name}"], autocommit=True)
    yield name
    owner.run([f"DROP SCHEMA {name} CASCADE", f"DROP ROLE {name}"], autocommit=True)


@pytest.mark.parametrize("audit", [False, True])
@pytest.mark.parametrize("compare", ["database", "worker"])
def test_how_many_connections_a_task_needs(
    world: World, role: str, monkeypatch: pytest.MonkeyPatch, compare: str, audit: bool
) -> None:
    """As the documentation says, beside the one that renews the lease."""
    state = TableState(schema=role, compare=compare, audit=audit)  # type: ignore[arg-type]  # parametrized
    needed = 2 + (compare == "worker") + audit
    monkeypatch.setattr(Tables, "patience", property(lambda self: 0.1, lambda self, seconds: None), raising=False)
    PostgresHook("owner").run(f"ALTER ROLE {role} CONNECTION LIMIT {needed - 1}", autocommit=True)
    with pytest.raises(AirflowException, match=f'too many connections for role "{role}"'):
        world.run(sql=SQL, sql_conn_id="few", state=state, fields={})
    PostgresHook("owner").run(f"ALTER ROLE {role} CONNECTION LIMIT {needed}", autocommit=True)
    assert world.run(sql=SQL, sql_conn_id="few", state=state, fields={})["accepted"] == 20
    later = f"{SQL.replace('(1, 20)', '(2, 30)')} UNION ALL SELECT 5, 'person5@example.com'"
    parameters: dict[str, Any] = {"fields": {}, "on_removed": "delete", "max_rejected": 1.0}
    again = world.run(sql=later, sql_conn_id="few", state=state, **parameters)
    assert (again["accepted"], again["reasons"]) == (11, {"duplicate_key": 2})
    assert world.profiles.keys() == {f"person{n}@example.com" for n in range(2, 31)}
