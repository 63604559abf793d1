"""MySQL and MariaDB, by mysqlclient, PyMySQL and mysql-connector-python."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from airflow_provider_iterable.sql.databases.driver import Driver


def _cursor(name: str) -> Any:
    def opened(connection: Any) -> Any:
        return connection.cursor(
            getattr(import_module(f"{type(connection).__module__.partition('.')[0]}.cursors"), name)
        )

    return opened


def _connector_streaming(connection: Any) -> Any:
    return connection.cursor(buffered=False, dictionary=False)


# Closing an unbuffered cursor first would read the rest of the result: minutes, for rows nobody wants.
MYSQL = Driver(streaming=_cursor("SSCursor"), plain=_cursor("Cursor"), connection_first=True)
MYSQL_CONNECTOR = Driver(streaming=_connector_streaming, connection_first=True)
