"""Reverse ETL to Iterable inside Airflow; this file knows the version, nothing else."""

__version__ = "0.1.0"
