"""One run of a sync, from a state that is still to be opened to a report; knows no Airflow."""
