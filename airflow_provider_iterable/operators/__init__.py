"""The operators that a DAG author writes."""

from airflow_provider_iterable.operators.catalogs import IterableCatalogOperator
from airflow_provider_iterable.operators.events import IterableEventOperator
from airflow_provider_iterable.operators.lists import IterableListOperator
from airflow_provider_iterable.operators.merges import IterableMergeOperator
from airflow_provider_iterable.operators.partitions import IterableSyncSummaryOperator
from airflow_provider_iterable.operators.privacy import IterablePrivacyOperator
from airflow_provider_iterable.operators.subscriptions import IterableSubscriptionOperator
from airflow_provider_iterable.operators.users import IterableUserSyncOperator

__all__ = [
    "IterableCatalogOperator",
    "IterableEventOperator",
    "IterableListOperator",
    "IterableMergeOperator",
    "IterablePrivacyOperator",
    "IterableSubscriptionOperator",
    "IterableSyncSummaryOperator",
    "IterableUserSyncOperator",
]
