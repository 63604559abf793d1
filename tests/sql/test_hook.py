"""Which hook a connection gets, where Airflow's choice is none of SQL."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.common.sql.operators.sql import BaseSQLOperator

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.sql.hook import sql_hook


class JobsHook(BaseHook):
    """What Airflow has for connections of the type: a hook that takes no path and runs no SQL."""

    def __init__(self, conn_id: str) -> None:
        super().__init__()


class SqlHook(DbApiHook):
    """What the provider has beside it; its only arguments are those of SQL."""

    conn_name_attr = "databricks_conn_id"
    conn_type = "databricks"

    def __init__(self, conn_id: str, catalog: str = "") -> None:
        super().__init__(conn_id)
        self.catalog = catalog


@pytest.fixture
def databricks(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As much of Databricks' provider as it takes to choose a hook."""
    module = ModuleType("databricks_sql")
    module.DatabricksSqlHook = SqlHook  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "airflow.providers.databricks.hooks.databricks_sql", module)

    def get_hook(conn_id: str, hook_params: dict[str, Any]) -> BaseHook:
        return JobsHook(conn_id, **BaseHook.get_connection(conn_id).extra_dejson, **hook_params)

    monkeypatch.setattr(BaseSQLOperator, "get_hook", get_hook)
    return monkeypatch


def connect(monkeypatch: pytest.MonkeyPatch, conn_type: str, **extra: str) -> str:
    """Define a connection."""
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": conn_type, "extra": extra}))
    return "lake"


@pytest.mark.parametrize("extra", [{}, {"http_path": "/sql/1.0/warehouses/a"}])
@pytest.mark.parametrize("parameters", [{}, {"catalog": "main"}])
def test_databricks_is_read_through_its_sql_hook(
    databricks: pytest.MonkeyPatch, extra: dict[str, str], parameters: dict[str, str]
) -> None:
    """Airflow's hook for the type runs jobs, and fails where the extra says what SQL needs."""
    hook = sql_hook(connect(databricks, "databricks", **extra), parameters)
    assert isinstance(hook, SqlHook)
    assert (hook.databricks_conn_id, hook.catalog) == ("lake", parameters.get("catalog", ""))


@pytest.mark.parametrize(
    ("conn_type", "extra", "parameters", "message"),
    [
        ("elsewhere", {}, {}, r"Connection lake is no SQL connection \(its hook is JobsHook\)"),
        ("elsewhere", {"http_path": "x"}, {}, "Connection lake is no SQL connection, or hook_params or its extra name"),
        ("databricks", {"http_path": "x"}, {"nope": 1}, "hook_params or its extra name a parameter that its hook does"),
        ("databricks", {}, {"nope": 1}, "hook_params or its extra name a parameter that its hook does"),
    ],
)
def test_a_connection_without_a_sql_hook_is_refused(
    databricks: pytest.MonkeyPatch, conn_type: str, extra: dict[str, str], parameters: dict[str, Any], message: str
) -> None:
    """In words, whatever its hook does with the parameters."""
    with pytest.raises(ConfigurationError, match=message):
        sql_hook(connect(databricks, conn_type, **extra), parameters)
