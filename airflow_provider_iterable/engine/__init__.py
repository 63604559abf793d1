"""Comparing, planning and delivering rows; independent of Iterable's API, SQL and Airflow."""
