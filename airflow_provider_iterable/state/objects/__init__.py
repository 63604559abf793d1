"""A sync's state in objects of any storage that Airflow can reach."""
