"""Knows Airflow connections to Iterable; not rows, not syncs."""
