"""Knows where a sync remembers."""

from airflow_provider_iterable.state.object import ObjectState
from airflow_provider_iterable.state.table import TableState
from airflow_provider_iterable.state.xcom import XComState

__all__ = ["ObjectState", "TableState", "XComState"]
