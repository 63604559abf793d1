"""The databases that a model is read from: a file or a folder each, with cursors, settings of sessions and types.

Drivers buffer whole results unless asked not to: Postgres and Redshift need a cursor that is named inside a
transaction, MySQL an unbuffered one, most others are lazy or page by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.sql.databases.bigquery import BIGQUERY
from airflow_provider_iterable.sql.databases.databricks import DATABRICKS
from airflow_provider_iterable.sql.databases.driver import Driver
from airflow_provider_iterable.sql.databases.duckdb import DUCKDB
from airflow_provider_iterable.sql.databases.mysql import MYSQL_CONNECTOR, MYSQLCLIENT, PYMYSQL
from airflow_provider_iterable.sql.databases.postgres import PSYCOPG, PSYCOPG2
from airflow_provider_iterable.sql.databases.redshift import REDSHIFT
from airflow_provider_iterable.sql.databases.snowflake import SNOWFLAKE
from airflow_provider_iterable.sql.databases.sqlite import SQLITE
from airflow_provider_iterable.sql.databases.trino import TRINO

_BY_LIBRARY: Mapping[str, Driver] = {
    "psycopg": PSYCOPG,
    "psycopg2": PSYCOPG2,
    "MySQLdb": MYSQLCLIENT,
    "pymysql": PYMYSQL,
    "mysql": MYSQL_CONNECTOR,
    "duckdb": DUCKDB,
    "_duckdb": DUCKDB,
    "sqlite3": SQLITE,
    "snowflake": SNOWFLAKE,
    "trino": TRINO,
    "databricks": DATABRICKS,
    "redshift_connector": REDSHIFT,
}
"""By the package that a connection comes from."""
_BY_CONNECTION: Mapping[str, Driver] = {
    "snowflake": SNOWFLAKE,
    "gcpbigquery": BIGQUERY,
    "trino": TRINO,
    "databricks": DATABRICKS,
    "redshift": REDSHIFT,
}
"""By Airflow's type of connection, where the package has no driver here."""
_OTHER = Driver()


def driver_of(connection: Any, hook: DbApiHook | None = None) -> Driver:
    """Return how a connection is read.

    :param hook: the hook that opened it
    """
    library = type(connection).__module__.partition(".")[0]
    return _BY_LIBRARY.get(library) or _BY_CONNECTION.get(getattr(hook, "conn_type", "")) or _OTHER


def connect(hook: DbApiHook) -> Any:
    """Open a connection; by a copy of the hook, for some hand out the one that they opened first, closed or not."""
    return copy(hook).get_conn()


def plain_cursor(connection: Any) -> Any:
    """Open a cursor that fetches a small result at once, as plain tuples."""
    return driver_of(connection).plain(connection)


def closing_steps(driver: Driver, connection: Any, cursor: Any) -> tuple[Callable[[], Any], ...]:
    """Return the calls that close a cursor and its connection, in the order in which to make them."""
    if driver.connection_first:
        return (connection.close, cursor.close)
    steps = (cursor.close, getattr(connection, "rollback", None), connection.close)
    return tuple(step for step in steps if step is not None)
