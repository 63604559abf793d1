"""The stores in which a sync remembers what Iterable accepted."""

from airflow_provider_iterable.state.objects.session import ObjectState
from airflow_provider_iterable.state.tables.store import TableState
from airflow_provider_iterable.state.xcom import XComState

__all__ = ["ObjectState", "TableState", "XComState"]
