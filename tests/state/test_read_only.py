"""A state whose connection may only read: a replica, or a role that may not write."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from psycopg import Error

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.state.tables.connection import Tables as Connected
from tests.services import postgres_uri
from tests.state.contract import fresh
from tests.state.test_table import Tables, postgres_hook, postgres_tables, sqlite_hook

MESSAGE = r"may only read.*Nothing was sent\. .*TableState\(conn_id=\.\.\.\).*ObjectState"
OFF = "?options=-c%20default_transaction_read_only%3Don"


def refused(tables: Tables) -> None:
    """Open the state, which is refused at once."""
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=MESSAGE):
        tables.open(fresh())
    assert time.monotonic() - began < 10, "nothing is waited for that will not come"


@pytest.mark.parametrize("there", [False, True], ids=["no tables", "tables"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_replica_of_postgres(monkeypatch: pytest.MonkeyPatch, driver: str, there: bool) -> None:
    """It says so when tables are to be made, or else when the lease is to be taken."""
    with postgres_tables(postgres_hook(monkeypatch, driver)) as tables:
        if there:
            tables.open(fresh()).close()
        monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_uri() + OFF)
        refused(Tables(type(tables.hook)("state"), tables.schema))
        monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_uri())


@pytest.mark.parametrize("there", [False, True], ids=["no tables", "tables"])
def test_a_file_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """SQLite's hook can open a file so."""
    tables = Tables(sqlite_hook(tmp_path, monkeypatch))
    if there:
        tables.open(fresh()).close()
    else:
        tables.hook.run("CREATE TABLE other (id INT)")
    made = {"conn_type": "sqlite", "host": str(tmp_path / "state.db"), "extra": {"mode": "ro"}}
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps(made))
    refused(Tables(type(tables.hook)("state")))


class Switched(Connected):
    """Tables whose connections may only read from some time on."""

    only_reads = False

    def _execute(self, statement: str, parameters: tuple[Any, ...] = ()) -> None:
        if self.only_reads and self._cursor.connection.info.transaction_status.name == "IDLE":
            self._cursor.execute("SET TRANSACTION READ ONLY")
        super()._execute(statement, parameters)


def test_a_server_that_takes_over_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once something was written, rows may be accepted already: what took over may read only for a moment."""
    with postgres_tables(postgres_hook(monkeypatch)) as tables:
        tables.open(fresh()).close()
        note = "UPDATE {header} SET notes = notes WHERE 1 = 0"
        with closing(Switched(tables.hook, tables.schema)) as connected:
            connected.patiently(lambda: connected.change(note))
            connected.only_reads, waits = True, list[int]()

            def wait() -> None:
                waits.append(1)
                connected.only_reads = len(waits) < 2

            connected.patiently(lambda: connected.change(note), wait)
            assert len(waits) == 2
        with closing(Switched(tables.hook, tables.schema)) as connected:
            connected.only_reads = True
            connected.patiently(lambda: connected.find("SELECT 1 FROM {header}"))
            with pytest.raises(ConfigurationError, match=MESSAGE):
                connected.patiently(lambda: connected.change(note))


def test_the_connection_of_the_lease_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It renews what the first connection has taken, whichever server has taken over by then."""
    with postgres_tables(postgres_hook(monkeypatch)) as tables:
        tables.open(fresh()).close()
        monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_uri() + OFF)
        connected = Connected(type(tables.hook)("state"), tables.schema)
        with closing(connected.apart()) as apart, pytest.raises(Error, match="read-only"):
            apart.transact(lambda: apart.change("UPDATE {header} SET notes = notes"))
        monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_uri())
