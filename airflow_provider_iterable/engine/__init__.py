"""Knows syncing; not Iterable, not SQL, not Airflow."""
