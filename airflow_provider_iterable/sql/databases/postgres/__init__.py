"""Postgres, by psycopg and by psycopg2: a file for each driver, beside what they have in common."""

from __future__ import annotations

from airflow_provider_iterable.sql.databases.postgres.psycopg import PSYCOPG
from airflow_provider_iterable.sql.databases.postgres.psycopg2 import PSYCOPG2

__all__ = ["PSYCOPG", "PSYCOPG2"]
