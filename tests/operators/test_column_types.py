"""Warehouses that the tests do not have, from what their drivers return to what Iterable holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.common.sql.operators.sql import BaseSQLOperator

from airflow_provider_iterable.mapping import Json
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import World
from tests.sql.test_bigquery_types import Api, field, repeated
from tests.sql.test_bigquery_types import model_of as bigquery_model
from tests.sql.test_redshift_types import Session
from tests.sql.test_redshift_types import model_of as redshift_model
from tests.sql.test_trino_types import Row
from tests.sql.typed import description_of, hook_of

Read = Callable[..., Any]
WHO = "a@example.com"


@pytest.fixture
def read(world: World, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Sync a model of another warehouse, beside which the state is kept in SQLite."""
    real = BaseSQLOperator.get_hook

    def read(hook: DbApiHook, **options: Any) -> Any:
        monkeypatch.setattr(
            BaseSQLOperator, "get_hook", lambda name, params: hook if name == "elsewhere" else real(name, params)
        )
        common: dict[str, Any] = {"sql": "SELECT 1", "sql_conn_id": "elsewhere", "fields": None}
        return world.run(**common | {"state": TableState(conn_id="warehouse"), **options})

    return read


def test_rows_of_trino_are_objects(world: World, read: Read) -> None:
    """By the names of their fields, alone and in arrays."""
    home, work = Row(["Main St", "Springfield"], ["street", "city"]), Row(["Side St", None], ["street", "city"])
    kind = "row(street varchar, city varchar)"
    description = [
        description_of("id", "integer"),
        description_of("email", "varchar"),
        description_of("address", kind),
        description_of("others", f"array({kind})"),
    ]
    read(hook_of("trino", [[1, WHO, home, [work]]], description=description))
    address = {"street": "Main St", "city": "Springfield"}
    assert world.profiles[WHO] == {"address": address, "others": [{"street": "Side St", "city": None}]}


def test_a_row_of_trino_without_names_is_not_sent(world: World, read: Read) -> None:
    """It costs its row, and nothing of it arrives at Iterable."""
    description = [description_of(name, kind) for name, kind in [("id", "integer"), ("email", "varchar")]]
    description.append(description_of("address", "row(varchar, varchar)"))
    hook = hook_of("trino", [[1, WHO, Row(["a", "b"], [None, None])]], description=description)
    report = read(hook, max_rejected=1.0)
    assert (report["rejected"], world.profiles) == (1, {})


def test_arrays_and_structs_of_bigquery_are_lists_and_objects(world: World, read: Read) -> None:
    """By the schema of the result; what is unchanged is not sent again."""
    address = field("address", "RECORD", field("street", "STRING"), field("number", "INTEGER"))
    fields = [field("id", "INTEGER"), field("email", "STRING"), repeated("STRING", name="tags"), address]
    rows = [("1", WHO, ["a", "b"], ("Main", "12"))]
    read(bigquery_model(Api(fields, rows)).hook)
    assert world.profiles[WHO] == {"tags": ["a", "b"], "address": {"street": "Main", "number": 12}}
    assert read(bigquery_model(Api(fields, rows)).hook)["unchanged"] == 1


def test_the_form_of_bigquerys_api_is_never_sent(world: World, read: Read) -> None:
    """Where only names and types of columns are known, arrays and structs are refused."""
    kinds = {"id": "INTEGER", "email": "STRING", "tags": "STRING", "address": "RECORD"}
    description = [description_of(name, kind) for name, kind in kinds.items()]
    values = [1, WHO, [{"v": "a"}], {"f": [{"v": "Main"}]}]
    report = read(hook_of("gcpbigquery", [values], description=description), max_rejected=1.0)
    assert (report["rejected"], world.profiles) == (1, {})


@pytest.mark.parametrize("fields", [None, {"PETS": "PETS"}, {"PETS": Json("PETS")}], ids=["all", "named", "Json"])
def test_a_variant_of_snowflake_is_no_text(world: World, read: Read, fields: Any) -> None:
    """JSON text is parsed, once, whether it is said to be JSON or not."""
    description = [description_of("ID", 0), description_of("EMAIL", 2), description_of("PETS", 10)]
    pets = '[\n  {\n    "name": "Rex"\n  },\n  undefined\n]'
    read(hook_of("snowflake", [(1, WHO, pets)], description=description), fields=fields)
    assert world.profiles[WHO]["PETS"] == [{"name": "Rex"}, None]


def test_a_model_of_redshift_is_fetched_in_parts(world: World, read: Read) -> None:
    """More rows than one answer has, and SUPER is an object."""
    description = [description_of("id", 23), description_of("email", 1043), description_of("extra", 4000)]
    rows = [[number, f"person{number}@example.com", f'{{"n":[{number}]}}'] for number in range(2500)]
    session = Session(description, rows)
    report = read(redshift_model(session).hook)
    assert report["accepted"] == len(world.profiles) == 2500
    assert world.profiles["person2499@example.com"] == {"extra": {"n": [2499]}}
    assert sum("FETCH" in statement[0] for statement in session.statements) == 3
