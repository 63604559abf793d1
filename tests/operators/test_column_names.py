"""Columns of the model may have any name that its database lets them have."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_iterable.state import TableState
from tests.operators.conftest import World
from tests.services import mysql_uri, postgres_uri

NAMES = [
    'we"ird',
    "back\\slash",
    "per%cent",
    "per%scent",
    "bra{ce}s",
    "new\nline",
    "q'uote",
    "bell\x07",
    "back`tick",
    "a:b?c",
    "semi;colon --dash",
    "ünï",
]


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The connection of a model on each kind of database."""
    if request.param == "sqlite":
        return "warehouse"
    uri = {
        "duckdb": lambda: json.dumps({"conn_type": "duckdb", "host": str(tmp_path / "model.duckdb")}),
        "postgres": postgres_uri,
        "mysql": lambda: f"{mysql_uri()}?client=mysql-connector-python",
    }[request.param]
    monkeypatch.setenv("AIRFLOW_CONN_PLACE", uri())
    return "place"


@pytest.mark.parametrize(
    "place", ["sqlite", pytest.param("duckdb", marks=pytest.mark.slow), "postgres", "mysql"], indirect=True
)
@pytest.mark.parametrize("compare", ["auto", "worker"])
def test_a_column_may_have_any_name(world: World, place: str, compare: str, request: pytest.FixtureRequest) -> None:
    """As a field, and as the primary key: it works, and the next run finds nothing to do."""
    quote = "`" if "mysql" in request.node.name else '"'

    def quoted(name: str) -> str:
        return quote + name.replace(quote, quote * 2) + quote

    columns = [f"'{number}' AS {quoted(name)}" for number, name in enumerate(NAMES)]
    sql = f"SELECT 'person1@example.com' AS email, {', '.join(columns)}"
    for key in NAMES:
        parameters = {
            "sql": sql,
            "sql_conn_id": place,
            "primary_key": key,
            "fields": None,
            "sync_id": uuid.uuid4().hex,
            "state": TableState(compare=compare),  # type: ignore[arg-type]
        }
        assert world.run(**parameters)["accepted"] == 1
        assert world.run(**parameters)["unchanged"] == 1
    stored = world.profiles["person1@example.com"]
    assert {name: stored[name] for name in NAMES} == {name: str(number) for number, name in enumerate(NAMES)}


def test_a_key_that_no_column_has_is_told(world: World) -> None:
    """In words that name it, and Airflow does not try again."""
    world.people(1)
    message, _ = world.failure(AirflowFailException, primary_key='no "such\ncolumn')
    assert """no column 'no "such\\ncolumn'""" in message
