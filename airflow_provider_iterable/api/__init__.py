"""Knows Iterable's REST API; not rows, not Airflow."""
