"""A SQL database as Airflow hands it out: its hook, what its driver does differently, and a query as rows."""
