"""Finds the SQL hook of a connection, also for connection types whose default hook is another one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.common.sql.operators.sql import BaseSQLOperator

from airflow_provider_iterable.errors import ConfigurationError

_SQL_HOOKS = {"databricks": ("airflow.providers.databricks.hooks.databricks_sql", "DatabricksSqlHook")}
"""Connection types whose own hook runs jobs rather than SQL: module and class of the one that runs SQL.

It reads the connection's extra by itself.
"""


def sql_hook(conn_id: str, hook_params: Mapping[str, Any] | None = None) -> DbApiHook:
    """Return the SQL hook of a connection.

    :param conn_id: the connection
    :param hook_params: arguments for its hook
    :raises ConfigurationError: it has none
    """
    try:
        hook: object = BaseSQLOperator.get_hook(conn_id, dict(hook_params or {}))
        if not isinstance(hook, DbApiHook):
            hook = _sql_hook(conn_id, hook_params) or hook
    except TypeError:  # the connection's extra is for a hook of SQL, or for none
        try:
            hook = _sql_hook(conn_id, hook_params)
        except TypeError:
            hook = None
        if hook is None:
            raise ConfigurationError(
                f"Connection {conn_id} is no SQL connection, or hook_params or its extra name a parameter that its "
                "hook does not have"
            ) from None
    if not isinstance(hook, DbApiHook):
        raise ConfigurationError(f"Connection {conn_id} is no SQL connection (its hook is {type(hook).__name__})")
    return hook


def _sql_hook(conn_id: str, hook_params: Mapping[str, Any] | None) -> object:
    """Return the hook that is not the default of its connection type; ``None``: there is no such one."""
    found = _SQL_HOOKS.get(str(BaseHook.get_connection(conn_id).conn_type))
    if found is None:
        return None
    module, name = found
    made: object = getattr(import_module(module), name)(conn_id, **(hook_params or {}))
    return made
