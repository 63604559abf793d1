"""A sync's state in tables of a SQL database."""
