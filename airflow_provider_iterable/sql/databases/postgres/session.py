"""What a session of Postgres is told before a model is read in it."""

from __future__ import annotations

CURSOR = "airflow_provider_iterable"
"""The name of the cursor that stays in the database."""

FIRST_VERSION = 9_00_00
"""The first version that knows all of it; Redshift, which is reached by the same drivers, says that it is 8.0."""

SQL_ASCII = "SQL_ASCII"
"""The encoding of databases that take any bytes for text."""

UNCHECKED = f"SET LOCAL client_encoding = '{SQL_ASCII}'"
"""Whoever asks such a database for UTF-8 gets an error for the first text that is none, and no rows."""

_SESSION = (
    "SET TRANSACTION READ ONLY; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'; "
    "SET LOCAL extra_float_digits = 1; SET LOCAL client_encoding = 'UTF8'"
)
"""What the reading relies on, for one transaction: behind a pooler the session is somebody else's afterwards."""


def session(name: str | None) -> str:
    """Return what settles a session.

    :param name: the one that the connection gives it; without one it has ours in ``pg_stat_activity``
    """
    return _SESSION if name else f"{_SESSION}; SET LOCAL application_name = '{CURSOR}'"
