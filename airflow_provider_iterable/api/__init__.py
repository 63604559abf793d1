"""Iterable's REST API; independent of the model and of Airflow."""
