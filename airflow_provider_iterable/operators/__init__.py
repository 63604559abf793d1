"""Knows Airflow; boring on purpose."""

from airflow_provider_iterable.operators.users import IterableUserSyncOperator

__all__ = ["IterableUserSyncOperator"]
