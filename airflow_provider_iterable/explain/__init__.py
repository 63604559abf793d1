"""Says what the next run of a task would do with one row, and why: ``python -m airflow_provider_iterable.explain``."""
