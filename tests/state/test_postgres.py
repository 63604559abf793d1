from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_iterable.api.client import CallLog
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.tables.audit import AuditTables, Line, RequestRow
from airflow_provider_iterable.state.tables.connection import Tables as Connected
from airflow_provider_iterable.state.tables.ledger import Ledger
from airflow_provider_iterable.state.tables.session import TableSession
from airflow_provider_iterable.state.tables.warehouse import Compare
from tests.services import postgres_uri
from tests.state.contract import NASTY, entry, fresh, keep, kept, key_of, memories
from tests.state.test_table import Tables, execute, postgres_hook, postgres_tables
from tests.written import run

DRIVERS = ["psycopg", "psycopg2"]
CURSORS = [("psycopg", "dictcursor"), ("psycopg", "namedtuplecursor")]
CURSORS += [("psycopg2", name) for name in ("dictcursor", "realdictcursor", "namedtuplecursor")]
MANY = 12
"""Statements of a kind: a driver that prepares them does so at the sixth."""


def prepared(tables: Connected) -> list[tuple[str, ...]]:
    """Return what is prepared under a name on a connection."""
    return tables.transact(lambda: tables.find("SELECT name, statement FROM pg_prepared_statements"))


@pytest.mark.parametrize("driver", DRIVERS)
def test_nothing_is_prepared_under_a_name(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """Behind a pooler the name may be that of another client's statement: state, lease, audit and ledger do without."""
    with postgres_tables(postgres_hook(monkeypatch, driver)) as tables:
        session = tables.open(fresh())
        assert isinstance(session, TableSession)
        with closing(session):
            for number in range(MANY):
                session.commit({f"[{number}]": entry(number), f"[{number - 2}]": None})
                session.note("list_id", str(number))
                session.recall([f"[{number}]"])
            assert prepared(session.tables) == []
        audit = AuditTables(tables.hook, tables.schema)
        audit.create()
        with closing(audit):
            for number in range(MANY):
                now = datetime.now(UTC)
                call = CallLog("POST", "/", 200, "", 1, 1, 1.0, "")
                audit.add("s", "r", now, [Line(f"[{number}]", Kind.ADDED, "succeeded")], [RequestRow.of(call, now)])
                audit.keys_with("s", "failed")
            assert prepared(audit) == []
        with closing(Ledger(tables.hook, tables.schema, "one", "forget", MANY, lambda: 1e9)) as ledger:
            assert [ledger.admit() for _ in range(MANY)] == [None] * MANY
            assert ledger._do(lambda: prepared(ledger._tables)) == []


@pytest.mark.parametrize("compare", ["auto", "worker"])
@pytest.mark.parametrize(("driver", "cursor"), CURSORS)
def test_the_cursor_of_the_connection_is_not_the_states(
    monkeypatch: pytest.MonkeyPatch, driver: str, cursor: str, compare: Compare
) -> None:
    """Airflow's connection may say which cursor to use; the state has its own, and a second run knows what was sent."""
    with postgres_tables(postgres_hook(monkeypatch, driver)) as tables, Sandbox(rates=False) as iterable:
        monkeypatch.setenv("AIRFLOW_CONN_WITH_CURSOR", f"{postgres_uri()}?cursor={cursor}")
        connection = {"conn_type": "iterable", "host": iterable.url, "password": "a-key-of-iterable"}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        operator = IterableUserSyncOperator(
            task_id="sync",
            sql_conn_id="with_cursor",
            sql="SELECT 1 AS id, 'a@example.com' AS email",
            primary_key="id",
            email_column="email",
            state=TableState(schema=tables.schema, compare=compare),
        )
        found = [(report["accepted"], report["unchanged"]) for report in (run(operator), run(operator))]
        assert found == [(1, 0), (0, 1)]
        assert execute(tables.hook, f'SELECT status FROM "{tables.schema}".sync_runs') == [("succeeded",)]


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def narrow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a database that cannot hold every text."""
    hook, name = postgres_hook(monkeypatch), f"narrow_{uuid.uuid4().hex[:12]}"

    def alone(statement: str) -> None:
        with closing(hook.get_conn()) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)

    alone(f"CREATE DATABASE {name} ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    yield urlsplit(postgres_uri())._replace(path=f"/{name}").geturl()
    alone(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_database_that_cannot_hold_every_key_is_refused(
    narrow: str, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    """At once, before anything is read or sent, with the way out: one key would keep a whole commit out."""
    postgres_hook(monkeypatch, driver)
    with Sandbox(rates=False) as iterable:
        monkeypatch.setenv("AIRFLOW_CONN_STATE", narrow)
        connection = {"conn_type": "iterable", "host": iterable.url, "password": "a-key-of-iterable"}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        operator = IterableUserSyncOperator(
            task_id="sync",
            sql_conn_id="state",
            sql="SELECT 1 AS id, 'a@example.com' AS email",
            primary_key="id",
            email_column="email",
            state=TableState(),
        )
        with pytest.raises(
            AirflowFailException, match=r"Nothing was read or sent.*in UTF8.*TableState\(conn_id=\.\.\.\)"
        ):
            run(operator)
        with pytest.raises(ConfigurationError, match=r"keeps texts as (LATIN1|SQL_ASCII)"):
            Tables(PostgresHook("state")).open(fresh())
        assert iterable.calls == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_encoding_of_the_connection_matters(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """Airflow's connection may ask for another one, in which many keys cannot be said."""
    patch: dict[str, Entry | None] = {
        key_of(text, "€"): entry(number, f"{text}@example.com") for number, text in enumerate(NASTY)
    }
    with postgres_tables(postgres_hook(monkeypatch, driver)) as tables:
        monkeypatch.setenv("AIRFLOW_CONN_NARROW", f"{postgres_uri()}?client_encoding=LATIN1")
        narrowed, sync_id = Tables(PostgresHook("narrow"), tables.schema), fresh()
        connection = narrowed.hook.get_conn()
        with closing(connection), pytest.raises(UnicodeEncodeError):
            connection.cursor().execute("SELECT %s", ("€",))
        keep(narrowed, sync_id, patch)
        assert kept(tables, sync_id) == patch
        session = narrowed.open(sync_id)
        assert memories(session) == patch
        session.close()
