"""The databases in which state can be kept, a file each.

Two rows that differ for the worker must have different digests: a digest covers the values, which of them are null
and, through the caller's digest of the columns, their types. Nothing in it depends on settings of the session, such as
its time zone, for those belong to the model.
"""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_iterable.state.tables.dialects.databricks import DATABRICKS
from airflow_provider_iterable.state.tables.dialects.duckdb import DUCKDB
from airflow_provider_iterable.state.tables.dialects.mysql import MYSQL
from airflow_provider_iterable.state.tables.dialects.postgres import POSTGRES
from airflow_provider_iterable.state.tables.dialects.redshift import REDSHIFT
from airflow_provider_iterable.state.tables.dialects.snowflake import SNOWFLAKE
from airflow_provider_iterable.state.tables.dialects.sqlite import SQLITE
from airflow_provider_iterable.state.tables.dialects.unfit import UNFIT
from airflow_provider_iterable.state.tables.dialects.vocabulary import Comparing, Dialect, NotInSql

__all__ = ["DIALECTS", "UNFIT", "Comparing", "Dialect", "NotInSql"]

DIALECTS: Mapping[str, Dialect] = {
    "postgres": POSTGRES,
    "sqlite": SQLITE,
    "duckdb": DUCKDB,
    "mysql": MYSQL,
    "snowflake": SNOWFLAKE,
    "databricks": DATABRICKS,
    "redshift": REDSHIFT,
}
"""By connection type."""
