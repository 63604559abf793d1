"""What DAG authors import: these names stay where they are."""

from __future__ import annotations

from importlib import import_module

import pytest

NAMES = {
    "airflow_provider_iterable.operators": {
        "IterableCatalogOperator",
        "IterableEventOperator",
        "IterableListOperator",
        "IterableMergeOperator",
        "IterablePrivacyOperator",
        "IterableSubscriptionOperator",
        "IterableSyncSummaryOperator",
        "IterableUserSyncOperator",
    },
    "airflow_provider_iterable.operators.users": {"IterableUserSyncOperator"},
    "airflow_provider_iterable.operators.events": {"IterableEventOperator"},
    "airflow_provider_iterable.operators.lists": {"IterableListOperator"},
    "airflow_provider_iterable.operators.catalogs": {"IterableCatalogOperator"},
    "airflow_provider_iterable.operators.privacy": {"IterablePrivacyOperator"},
    "airflow_provider_iterable.operators.subscriptions": {"IterableSubscriptionOperator"},
    "airflow_provider_iterable.operators.merges": {"IterableMergeOperator"},
    "airflow_provider_iterable.operators.partitions": {"IterableSyncSummaryOperator"},
    "airflow_provider_iterable.state": {"ObjectState", "TableState", "XComState"},
    "airflow_provider_iterable.mapping": {"Column", "Constant", "Json"},
    "airflow_provider_iterable.hooks.iterable": {"IterableHook"},
    "airflow_provider_iterable.retry": {"IterableRetryPolicy"},
    "airflow_provider_iterable.errors": {
        "CannotRetry",
        "ConfigurationError",
        "IterableSyncError",
        "RequestRefused",
        "RequestUnanswered",
        "WorthRetrying",
    },
    "airflow_provider_iterable.get_provider_info": {"get_provider_info"},
}


@pytest.mark.parametrize("module", NAMES)
def test_what_dag_authors_import_is_where_it_was(module: str) -> None:
    """A DAG that imports it must not break."""
    assert NAMES[module] <= vars(import_module(module)).keys()
