"""The sync-runs page in Airflow 3: what ran, what became of it, and why a row is not at Iterable."""
