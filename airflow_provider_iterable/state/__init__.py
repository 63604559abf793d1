"""Knows where a sync remembers."""

from airflow_provider_iterable.state.table import TableState
from airflow_provider_iterable.state.xcom import XComState

__all__ = ["TableState", "XComState"]
