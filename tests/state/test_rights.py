"""What a connection must be allowed to do, what it is told where it is not, and what somebody else runs for it."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
import time as real_time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.postgres.hooks import postgres

from airflow_provider_iterable.errors import ConfigurationError, StateUnavailable
from airflow_provider_iterable.masking import masked
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterablePrivacyOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.__main__ import LAYOUTS, main
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables import layout
from airflow_provider_iterable.state.tables.dialects import DIALECTS
from airflow_provider_iterable.state.tables.erasure import ErasingSession
from airflow_provider_iterable.state.tables.ledger import Ledger
from airflow_provider_iterable.state.tables.notation import TABLES
from airflow_provider_iterable.state.tables.session import TableSession
from tests.services import mysql_uri, postgres_uri
from tests.state.contract import HERE, MAPPING, drain, entry, fresh
from tests.state.test_table import MYSQL_DRIVERS, Unsteady, duckdb_hook, execute, needs_duckdb, sqlite_hook
from tests.written import PEOPLE, hook_of, run

SERVERS = ["postgres", "mysql"]
RUN_THIS = ":\n"
"""What comes before the statements that somebody else is to run."""


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the command prints."""
    main(arguments)
    return capsys.readouterr().out


def statements(script: str) -> list[str]:
    """Return the statements of a script."""
    return script.strip().removesuffix(";").split(";\n")


@dataclass
class Server:
    """A schema for the state and one for the model, and somebody who may read the latter."""

    kind: str
    owner: DbApiHook
    limited: DbApiHook
    role: str
    schema: str
    model: str

    def grant(self, *rights: str) -> None:
        """Let the owner execute statements in which ``{0}`` is the state's schema and ``{1}`` the role."""
        execute(self.owner, *(right.format(self.schema, self.role) for right in rights))

    def open(self, hook: DbApiHook | None = None) -> TableSession:
        """Open the state of a sync."""
        return TableSession(Scope(fresh(), HERE, MAPPING), hook or self.limited, self.schema)

    @property
    def tables(self) -> set[str]:
        """The tables in the state's schema."""
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = '{}'"
        return {name for (name,) in execute(self.owner, query.format(self.schema))}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Each server that knows rights."""
    kind, name = request.param, uuid.uuid4().hex[:10]
    role, schema, model = f"app_{name}", f"state_{name}", f"model_{name}"
    where = postgres_uri() if kind == "postgres" else mysql_uri()
    uri = urlsplit(where)
    theirs = uri._replace(netloc=f"{role}@{uri.hostname}:{uri.port}").geturl()
    connection, owner = hook_of(kind, where)
    monkeypatch.setenv("AIRFLOW_CONN_STATE", connection)
    owner.get_conn().close()
    owner = copy(owner)
    monkeypatch.setenv("AIRFLOW_CONN_OWNER", connection)
    monkeypatch.setenv("AIRFLOW_CONN_STATE", hook_of(kind, theirs)[0])
    owner, limited = type(owner)("owner"), type(owner)("state")
    make = [f"CREATE SCHEMA {model}", *(f"{said}".replace(" people", f" {model}.people") for said in PEOPLE[:-2])]
    make += [f"CREATE TABLE {model}.requests (id INTEGER, email VARCHAR(99))"]
    make += [f"INSERT INTO {model}.requests VALUES (1, 'fay@example.com')"]
    if kind == "postgres":
        make += [f"CREATE ROLE {role} LOGIN", f"GRANT USAGE ON SCHEMA {model} TO {role}"]
        make += [f"GRANT SELECT ON ALL TABLES IN SCHEMA {model} TO {role}"]
        drop = [f"DROP SCHEMA IF EXISTS {schema} CASCADE", f"DROP SCHEMA {model} CASCADE"]
        drop += [f"DROP OWNED BY {role}", f"DROP ROLE {role}"]
    else:
        make += [f"CREATE USER {role}", f"GRANT SELECT ON {model}.* TO {role}"]
        # A connection names a database, in which there has to be some right.
        make += [f"GRANT SELECT ON {uri.path.strip('/')}.* TO {role}"]
        drop = [f"DROP SCHEMA IF EXISTS {schema}", f"DROP SCHEMA {model}", f"DROP USER {role}"]
    execute(owner, *make)
    yield Server(kind, owner, limited, role, schema, model)
    execute(owner, *drop)


def syncs(server: Server) -> list[IterableModelOperator]:
    """Return a sync of each kind, and one in partitions; the last ones are about people who go."""
    schema, everybody = server.schema, f"SELECT * FROM {server.model}.people WHERE id < 5"
    common: dict[str, Any] = {"sql_conn_id": "state", "primary_key": "id"}
    keyed: dict[str, Any] = {**common, "sql": everybody}
    audited, compared = TableState(schema=schema, audit=True, audit_fields=True), TableState(schema=schema)
    worker = TableState(schema=schema, compare="worker")
    by_email: dict[str, Any] = {"email_column": "email", "fields": {"firstName": "name"}}
    gone: dict[str, Any] = {**common, "sql": f"SELECT * FROM {server.model}.requests", "email_column": "email"}
    return [
        IterableUserSyncOperator(task_id="users", on_removed="delete", state=audited, **keyed, **by_email),
        IterableUserSyncOperator(task_id="worker", state=worker, **keyed, **by_email),
        IterableUserSyncOperator(
            task_id="one", partition="one", partitions=["one", "two"], state=compared, **keyed, **by_email
        ),
        IterableEventOperator(
            task_id="events", event_type="custom", event_name="seen", email_column="email", state=compared, **keyed
        ),
        IterableListOperator(task_id="members", list_name="VIP", email_column="email", state=compared, **keyed),
        IterableCatalogOperator(
            task_id="items", catalog_name="Shop", item_id_column="id", fields={"name": "name"}, state=compared, **keyed
        ),
        IterableUserSyncOperator(
            task_id="moves",
            mode="change_email",
            email_column="email",
            new_email_column="next",
            state=worker,
            **common,
            sql=f"SELECT id, email, CONCAT('m', id, '@example.com') AS next FROM {server.model}.people WHERE id = 4",
        ),
        IterablePrivacyOperator(task_id="forgotten", action="forget", state=compared, **gone),
        IterablePrivacyOperator(task_id="deleted", action="delete", state=compared, **gone),
    ]


@pytest.fixture
def iterable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A project, in which waiting takes no time."""
    with Sandbox(rates=False) as sandbox:
        told = {"conn_type": "iterable", "host": sandbox.url, "password": "k" * 32, "extra": {"project_type": "email"}}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(told))
        yield sandbox


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said of the audit."""
    return [record.getMessage() for record in caplog.records if "audit tables" in record.getMessage()]


def test_rights_on_the_tables_are_enough_for_every_kind_of_sync(
    server: Server, iterable: Sandbox, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody runs what the command prints; then every sync runs, and has nothing to say when it runs again."""
    script = printed(capsys, "--ddl", server.kind, "--schema", server.schema, "--role", server.role)
    execute(server.owner, *statements(script))
    assert server.tables == {f"sync_{name}" for name in TABLES}
    for again in (False, True):
        for operator in syncs(server):
            report = run(operator, f"run {again}")
            assert report["status"] == "succeeded"
            assert (report["accepted"] > 0, report["requests"] != {}) == (not again, not again), operator.task_id
            assert report["unchanged"] == (report["read"] if again else 0), operator.task_id
    assert warnings(caplog) == []
    audited = f"SELECT count(*) FROM {server.schema}.sync_runs WHERE status = 'succeeded'"
    assert execute(server.owner, audited) == [(2 * len(syncs(server)),)]
    with pytest.raises(Exception, match=r"denied|permission"):
        execute(server.limited, f"CREATE TABLE {server.schema}.more (id INTEGER)")


def test_the_error_has_the_statements_that_the_command_prints(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the tables that the run needs, for the role that is connected; after them, the run goes."""
    with pytest.raises(ConfigurationError) as refused:
        server.open()
    told = str(refused.value).partition(RUN_THIS)[2]
    whole = printed(capsys, "--ddl", server.kind, "--schema", server.schema, "--role", server.role)
    assert set(statements(told)) < set(statements(whole))
    execute(server.owner, *statements(told))
    server.open().close()
    assert server.tables == {f"sync_{name}" for name in ("version", "state", "header", "intents", "lease")}


@pytest.mark.parametrize(
    ("right", "table"), [("INSERT", "state"), ("UPDATE", "header"), ("DELETE", "intents"), ("UPDATE", "lease")]
)
def test_a_right_that_is_missing_is_named_before_anything_is_sent(
    server: Server, iterable: Sandbox, capsys: pytest.CaptureFixture[str], right: str, table: str
) -> None:
    """With its table, at once, and with what grants it; not once Iterable has what cannot be remembered."""
    script = printed(capsys, "--ddl", server.kind, "--schema", server.schema, "--role", server.role)
    execute(server.owner, *statements(script))
    server.grant(f"REVOKE {right} ON {{0}}.sync_{table} FROM {{1}}")
    began = real_time.monotonic()
    with pytest.raises(AirflowFailException) as failed:
        run(syncs(server)[0])
    assert real_time.monotonic() - began < 10
    message = str(failed.value)
    quoted = f"{DIALECTS[server.kind].quote}{server.schema}{DIALECTS[server.kind].quote}"
    assert f"it lacks {right} on {quoted}.sync_{table} (" in message
    assert "Nothing was read or sent" in message
    assert re.search(f"(permission|{right} command) denied", message)
    assert iterable.calls == []
    told = statements(message.partition(RUN_THIS)[2])
    execute(server.owner, *(statement for statement in told if statement.startswith("GRANT ")))
    assert not [statement for statement in told if statement.startswith("CREATE")]
    assert run(syncs(server)[0])["accepted"] > 0


def test_a_right_on_one_column_is_not_enough(
    server: Server, iterable: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is found at once: with it alone, what was sent could not be remembered."""
    script = printed(capsys, "--ddl", server.kind, "--schema", server.schema, "--role", server.role)
    execute(server.owner, *statements(script))
    server.grant("REVOKE UPDATE ON {0}.sync_state FROM {1}", "GRANT UPDATE (sync_id) ON {0}.sync_state TO {1}")
    with pytest.raises(
        AirflowFailException, match=r"it lacks UPDATE on \S+sync_state \((?s:.*)Nothing was read or sent"
    ):
        run(syncs(server)[0])
    assert iterable.calls == []


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
@pytest.mark.parametrize("table", ["state", "version", "lease"])
def test_rows_that_are_kept_back_are_found_before_anything_is_sent(
    server: Server, iterable: Sandbox, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    """Row-level security makes no error, or one once something was sent; the message has what shows every row."""
    script = printed(capsys, "--ddl", "postgres", "--schema", server.schema, "--role", server.role)
    execute(server.owner, *statements(script))
    name = f'"{server.schema}".sync_{table}'
    server.grant(
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY looks ON {name} TO {{1}} USING (true) WITH CHECK (false)",
    )
    with pytest.raises(AirflowFailException) as failed:
        run(syncs(server)[0])
    assert f"it lacks a policy that shows it every row of {name} (" in str(failed.value)
    assert "Nothing was read or sent" in str(failed.value)
    assert iterable.calls == []
    execute(server.owner, *statements(str(failed.value).partition(RUN_THIS)[2])[-1:])
    assert run(syncs(server)[0])["accepted"] > 0
    server.grant(f"CREATE POLICY lessens ON {name} AS RESTRICTIVE USING (current_user <> 'x')")
    with pytest.raises(ConfigurationError, match="a policy that shows it every row"):
        server.open()


def test_a_right_that_is_taken_away_meanwhile_ends_the_run_at_once(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """No further try mends it, and each of Airflow's would send the same rows again."""
    script = printed(capsys, "--ddl", server.kind, "--schema", server.schema, "--role", server.role)
    execute(server.owner, *statements(script))
    session = server.open()
    server.grant("REVOKE INSERT ON {0}.sync_state FROM {1}")
    began = real_time.monotonic()
    with pytest.raises(ConfigurationError, match=r"not be written: .*denied.*1 rows that Iterable accepted.*--ddl"):
        session.commit({"1": entry(1, "a@x.io")})
    session.close()
    assert real_time.monotonic() - began < 10


def test_tables_that_may_not_be_read_are_not_made_again(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """What is missing is a right, and the message says so."""
    script = printed(capsys, "--ddl", server.kind, "--schema", server.schema, "--role", server.role)
    execute(server.owner, *(said for said in statements(script) if not said.startswith("GRANT ")))
    with pytest.raises(ConfigurationError, match=r"may not make or read the tables.*denied") as refused:
        server.open()
    execute(server.owner, *(said for said in statements(str(refused.value)) if said.startswith("GRANT ")))
    server.open().close()


@pytest.mark.parametrize(("made", "fails"), [(True, 1), (False, 1), (False, 2)])
def test_a_connection_that_fails_for_a_moment_is_no_missing_right(
    server: Server, made: bool, fails: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is waited for, and nothing is made that is there: neither tables nor the schema."""
    script = statements(printed(capsys, "--ddl", server.kind, "--schema", server.schema, "--role", server.role))
    execute(server.owner, *(script if made else script[:1]))
    if not made and server.kind == "postgres":
        server.grant("GRANT USAGE, CREATE ON SCHEMA {0} TO {1}")
    elif not made:
        server.grant("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX ON {0}.* TO {1}")
    hook, opened = copy(server.limited), list[int]()

    def get_conn() -> Any:
        opened.append(1)
        if len(opened) == fails:
            raise sqlite3.OperationalError("away")
        return server.limited.get_conn()

    hook.get_conn = get_conn  # type: ignore[method-assign]
    server.open(hook).close()
    assert len(opened) > fails


WAYS_OUT = "TableState(conn_id=...); or object storage, ObjectState(path)"


def reading(hook: DbApiHook, *statements: str) -> DbApiHook:
    """Return a hook whose sessions begin with statements."""
    other = copy(hook)
    connect: Callable[[], Any] = hook.get_conn

    def get_conn() -> Any:
        connection = connect()
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        connection.commit()
        return connection

    other.get_conn = get_conn  # type: ignore[method-assign]
    return other


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize(
    ("server", "driver"), [("postgres", "psycopg"), ("postgres", "psycopg2"), ("mysql", "")], indirect=["server"]
)
def test_a_session_that_may_only_read_is_called_that(
    server: Server, driver: str, made: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, whether the tables are there or not, with the two ways out; so does the ledger."""
    if driver:
        pytest.importorskip(driver)
        monkeypatch.setattr(postgres, "USE_PSYCOPG3", driver == "psycopg", raising=False)
    if made:
        script = printed(capsys, "--ddl", server.kind, "--schema", server.schema, "--role", server.role)
        execute(server.owner, *statements(script))
    if server.kind == "postgres":
        server.grant("ALTER ROLE {1} SET default_transaction_read_only = on")
        hook = server.limited
    else:
        hook = reading(server.owner, "SET SESSION TRANSACTION READ ONLY")
    began = real_time.monotonic()
    with pytest.raises(ConfigurationError, match=r"may only read \((?s:.*)Nothing was read or sent") as refused:
        server.open(hook)
    assert WAYS_OUT in str(refused.value)
    assert RUN_THIS not in str(refused.value)
    with pytest.raises(ConfigurationError, match=r"ledger.*may only read \(.*Nothing was sent"):
        Ledger(hook, server.schema, "one", "forget", 1, real_time.time)
    assert real_time.monotonic() - began < 10


def test_a_file_that_may_only_be_read_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In SQLite, with tables and without."""
    hook = sqlite_hook(tmp_path, monkeypatch)
    told = {"conn_type": "sqlite", "host": str(tmp_path / "state.db"), "extra": {"mode": "ro"}}
    monkeypatch.setenv("AIRFLOW_CONN_READER", json.dumps(told))
    only = type(hook)("reader")
    execute(hook, "CREATE TABLE other (id INTEGER)")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"may only read \(OperationalError: attempt to write a readonly"):
            TableSession(Scope(fresh(), HERE), only)
        TableSession(Scope(fresh(), HERE), hook).close()


@needs_duckdb
def test_a_duckdb_that_may_only_be_read_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise."""
    import duckdb

    hook = duckdb_hook(tmp_path, monkeypatch)
    only = copy(hook)
    only.get_conn = lambda: duckdb.connect(str(tmp_path / "state.duckdb"), read_only=True)  # type: ignore[method-assign]
    execute(hook, "CREATE TABLE other (id INTEGER)")
    for _ in range(2):
        with pytest.raises(
            ConfigurationError, match=r"may only read \(InvalidInputException: .*read-only mode"
        ) as told:
            TableSession(Scope(fresh(), HERE), only)
        assert WAYS_OUT in str(told.value)
        TableSession(Scope(fresh(), HERE), hook).close()


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_a_server_that_takes_over_later_is_waited_for(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Rows may be accepted by then: what took over may read only for a moment, for commits and for the lease."""
    execute(server.owner, f"CREATE SCHEMA {server.schema} AUTHORIZATION {server.role}")
    with closing(server.open()) as session:
        drain(session, [])
        session.lease._seconds = 3.0  # a renewal is due each second
        server.grant("ALTER ROLE {1} SET default_transaction_read_only = on")
        session.tables.close()
        back = threading.Timer(2.5, server.grant, ["ALTER ROLE {1} RESET default_transaction_read_only"])
        back.start()
        session.lease._wake.set()
        real_time.sleep(1.0)
        session.commit({"[1]": entry(1)})
        back.join()
        assert session.lease.failure is None
        assert session.recall(["[1]"]) == {"[1]": entry(1)}
    assert "could not be renewed (ReadOnlySqlTransaction); it is tried again" in caplog.text


class DriverError(Exception):
    """What a driver raises."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments)
        vars(self).update(attributes)


PREVENTED = "The MySQL server is running with the --{} option so it cannot execute this statement"


@pytest.mark.parametrize(
    ("kind", "error", "denied", "reads"),
    [
        ("postgres", DriverError(sqlstate="42501"), True, False),
        ("postgres", DriverError(pgcode="25006"), False, True),
        ("postgres", DriverError(sqlstate="40001"), False, False),
        ("mysql", DriverError(1142, "INSERT command denied"), True, False),
        ("mysql", DriverError(1290, PREVENTED.format("read-only")), False, True),
        ("mysql", DriverError(PREVENTED.format("super-read-only"), errno=1290), False, True),
        ("mysql", DriverError(1290, PREVENTED.format("skip-grant-tables")), False, False),
        ("mysql", DriverError(1290, PREVENTED.format("secure-file-priv")), False, False),
        ("mysql", DriverError(1836, "Running in read-only mode"), False, True),
        ("mysql", DriverError(1792, "Cannot execute statement in a READ ONLY transaction."), False, True),
        ("mysql", DriverError(1213, "Deadlock found"), False, False),
        ("sqlite", DriverError("attempt to write", sqlite_errorname="SQLITE_READONLY_DIRECTORY"), False, True),
        ("sqlite", DriverError("read-only mode"), False, False),
        (
            "snowflake",
            DriverError("003001 (42501): Insufficient privileges", errno=3001, sqlstate="42501"),
            True,
            False,
        ),
        ("databricks", DriverError("[INSUFFICIENT_PERMISSIONS] User lacks MODIFY on Table"), True, False),
        ("redshift", DriverError({"S": "ERROR", "C": "42501", "M": "permission denied"}), True, False),
    ],
)
def test_errors_that_no_further_try_mends_are_known(kind: str, error: Exception, denied: bool, reads: bool) -> None:
    """As drivers raise them."""
    dialect = DIALECTS[kind]
    assert (dialect.denied(error), dialect.reads_only(error)) == (denied, reads)


@pytest.mark.parametrize("kind", sorted(DIALECTS))
@pytest.mark.parametrize("schema", [None, "iterable_sync"])
def test_every_database_has_its_statements(kind: str, schema: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Each table is made and, where there is anybody to grant it to, granted; every statement is the database's own."""
    if kind == "sqlite" and schema:
        with pytest.raises(SystemExit):
            main(["--ddl", kind, "--schema", schema])
        assert "SQLite has no schemas" in capsys.readouterr().err
        return
    script = printed(capsys, "--ddl", kind, "--role", "app", *(["--schema", schema] if schema else []))
    prefix = "sync_" if schema else "iterable_sync_"
    made = re.findall(r"CREATE TABLE IF NOT EXISTS (\S+) \(", script)
    assert {name.rpartition(".")[2] for name in made} == {prefix + name for name in TABLES}
    granted = re.findall(r"GRANT SELECT, (?:INSERT, UPDATE, DELETE|MODIFY) ON (?:TABLE )?(\S+) TO", script)
    assert sorted(granted) == ([] if kind in ("sqlite", "duckdb") else sorted(made))
    assert ("CREATE SCHEMA" in script) is (schema is not None)
    assert {one.part for one in LAYOUTS} == set(re.findall(r"\(part, version\) VALUES \('(\w+)'", script))
    sqlglot = pytest.importorskip("sqlglot")
    for statement in statements(script):
        if "SET STORAGE" not in statement:
            sqlglot.parse_one(statement, read=kind, error_level=sqlglot.ErrorLevel.RAISE)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("duckdb", marks=needs_duckdb)])
def test_the_statements_make_what_a_run_finds(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where nobody is granted anything."""
    hook = (sqlite_hook if kind == "sqlite" else duckdb_hook)(tmp_path, monkeypatch)
    script = printed(capsys, "--ddl", kind)
    execute(hook, *statements(script), *statements(script))
    unsteady = Unsteady(hook)
    TableSession(Scope(fresh(), HERE), cast("Any", unsteady)).close()
    assert not [said for said in unsteady.statements if said.startswith(("CREATE", "ALTER", "BEGIN IMMEDIATE"))]


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Its help says what it is for, and who asks for another database learns which there are."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in ("Nothing is connected to", "--schema", "--role", "SELECT, INSERT, UPDATE and DELETE", *DIALECTS):
        assert words in told
    with pytest.raises(SystemExit) as ended:
        main(["--ddl", "oracle"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert all(f"'{kind}'" in told or kind in told for kind in ("oracle", *DIALECTS))


def test_the_command_needs_no_airflow_connection() -> None:
    """It runs from a shell, as the page says."""
    page = (Path(__file__).parents[2] / "docs" / "state.md").read_text("utf-8")
    (line,) = re.findall(r"^python -m airflow_provider_iterable\.state (.*)$", page, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "airflow_provider_iterable.state", *line.split()],
        check=True,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith('CREATE SCHEMA IF NOT EXISTS "iterable_sync";\n')
    assert done.stdout.endswith(";\n")


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_what_the_command_makes_is_what_runs_make(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns, indexes and versions are the same."""
    told, made = server.schema, f"{server.schema}_made"
    execute(server.owner, *statements(printed(capsys, "--ddl", "postgres", "--schema", told, "--role", server.role)))
    try:
        ErasingSession(Scope(fresh(), HERE), server.owner, made, unforgets=False).close()
        Ledger(server.owner, made, "one", "forget", 1, real_time.time).close()
        shapes = [
            execute(server.owner, statement.format(name))
            for statement in (
                "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable "
                "FROM information_schema.columns WHERE table_schema = '{0}' ORDER BY table_name, ordinal_position",
                "SELECT tablename, replace(indexdef, '{0}', '') FROM pg_indexes WHERE schemaname = '{0}' ORDER BY 1, 2",
                "SELECT part, version FROM {0}.sync_version ORDER BY part",
            )
            for name in (told, made)
        ]
    finally:
        execute(server.owner, f"DROP SCHEMA IF EXISTS {made} CASCADE")
    assert shapes[::2] == shapes[1::2]
    assert {shape[0] for shape in shapes[0]} == {f"sync_{name}" for name in TABLES}


PASSWORD = "s3cr3t and 'more'"
SECRET = PASSWORD.replace("'", "''")


def turned_away(hook: DbApiHook, schema: str | None = None) -> str:
    """Return what is said of a state that cannot be reached, and of the ledger beside it."""
    with pytest.raises(StateUnavailable, match=r"could not be opened for 0 s \(") as told:
        TableSession(Scope(fresh(), HERE), hook, schema, patience=0.1)
    with pytest.raises(StateUnavailable, match=r"ledger .* could not be read or written \(\w+Error: "):
        Ledger(hook, schema, "one", "forget", 1, real_time.time, patience=0.1)
    return str(told.value)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_what_postgres_says_at_connecting_is_told(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many connections, a database or a role that is not there: no row is in that, and no password."""
    pytest.importorskip(driver)
    monkeypatch.setattr(postgres, "USE_PSYCOPG3", driver == "psycopg", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_OWNER", postgres_uri())
    owner, role, uri = postgres.PostgresHook("owner"), f"few_{uuid.uuid4().hex[:8]}", urlsplit(postgres_uri())
    execute(owner, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 PASSWORD '{SECRET}'")
    try:
        for user, database, words in (
            (role, uri.path.strip("/"), f'too many connections for role "{role}"'),
            ("nobody_such", uri.path.strip("/"), 'role "nobody_such" does not exist'),
            (uri.username, "nowhere_such", 'database "nowhere_such" does not exist'),
        ):
            told = {"conn_type": "postgres", "host": uri.hostname, "port": uri.port, "login": user}
            told |= {"password": PASSWORD, "schema": database}
            monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps(told))
            message = turned_away(postgres.PostgresHook("state"))
            assert words in message
            assert "s3cr3t" not in message
    finally:
        execute(owner, f"DROP ROLE {role}")


@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
def test_what_mysql_says_at_connecting_is_told(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise, and a password that is wrong."""
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    monkeypatch.setenv("AIRFLOW_CONN_OWNER", f"{mysql_uri()}?client=mysql-connector-python")
    owner, user, uri = MySqlHook("owner"), f"few_{uuid.uuid4().hex[:8]}", urlsplit(mysql_uri())
    database = uri.path.strip("/")
    execute(owner, f"CREATE USER {user} IDENTIFIED BY '{SECRET}' WITH MAX_USER_CONNECTIONS 1")
    execute(owner, f"GRANT ALL ON {database}.* TO {user}", f"GRANT SELECT ON nowhere_such.* TO {user}")

    def hook(name: str, password: str = PASSWORD) -> DbApiHook:
        told = {"conn_type": "mysql", "host": uri.hostname, "port": uri.port, "login": user, "password": password}
        monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({**told, "schema": name, "extra": {"client": driver}}))
        return MySqlHook("state")

    try:
        wrong = turned_away(hook(database, f"{PASSWORD} no longer"))
        assert re.search(r"Access denied for user .* \(using password: YES\)", wrong)
        unknown = turned_away(hook("nowhere_such"))
        assert "Unknown database 'nowhere_such'" in unknown
        execute(owner, f"CREATE DATABASE closed_{user}")
        with pytest.raises(ConfigurationError, match=rf"Access denied for user .* to database 'closed_{user}'"):
            TableSession(Scope(fresh(), HERE), hook(f"closed_{user}"))  # for which no waiting helps
        first = hook(database).get_conn()
        many = turned_away(hook(database))
        first.close()
        assert re.search(r"max_user_connections|connections", many)
        assert not [message for message in (wrong, unknown, many) if "s3cr3t" in message]
    finally:
        execute(owner, f"DROP DATABASE IF EXISTS closed_{user}")
        execute(owner, f"REVOKE ALL ON nowhere_such.* FROM {user}", f"DROP USER {user}")


@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
def test_what_a_driver_does_not_take_is_told_at_once(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of an argument that another driver has: no waiting makes it known."""
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    uri = urlsplit(mysql_uri())
    told = {"conn_type": "mysql", "host": uri.hostname, "port": uri.port, "login": uri.username, "password": PASSWORD}
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps(told))
    hook = MySqlHook("state")

    def get_conn() -> Any:
        if driver == "mysqlclient":
            from MySQLdb import connect
        else:
            from mysql.connector import connect
        return connect(host=uri.hostname, password=PASSWORD, ssl_mood="REQUIRED")

    hook.get_conn = get_conn  # type: ignore[method-assign]
    began = real_time.monotonic()
    with pytest.raises(
        ConfigurationError, match=r"does not take \(\w+Error: .*ssl_mood.*\)\. Nothing was read"
    ) as refused:
        TableSession(Scope(fresh(), HERE), hook)
    assert real_time.monotonic() - began < 10
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('invalid dsn: "host=db password=s3cr3t dbname=x"', 'invalid dsn: "host=db password=*** dbname=x"'),
        ("cannot reach postgresql://app:s3cr3t@db:5432/x", "cannot reach postgresql://app:***@db:5432/x"),
        ("cannot open md:x?motherduck_token=s3cr3t", "cannot open md:x?motherduck_token=***"),
        ("first line\n  second line", "first line second line"),
        ("x" * 1000, "x" * 300),
        ("(1045, 'denied (using password: NO)')", "(1045, 'denied (using password: NO)')"),
        ("what is tr0ub4dor doing here", "what is *** doing here"),
    ],
)
def test_no_password_is_told(said: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a driver ever repeat one."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": "/", "login": "x", "password": "tr0ub4dor"})
    )
    from airflow.providers.sqlite.hooks.sqlite import SqliteHook

    hook = SqliteHook("state")

    def refuse() -> Any:
        raise sqlite3.OperationalError(said)

    hook.get_conn = refuse  # type: ignore[method-assign]
    with pytest.raises(StateUnavailable) as refused:
        TableSession(Scope(fresh(), HERE), hook, patience=0.0)
    assert f"(OperationalError: {masked(told)}). Nothing was read or sent" in str(refused.value)


def test_what_is_said_later_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there is a connection, messages may hold rows."""
    hook = Unsteady(sqlite_hook(tmp_path, monkeypatch), deque(["CREATE TABLE"] * 10))
    with pytest.raises(StateUnavailable, match=r"could not be opened for 0 s \(BrokenError\)\. Nothing"):
        TableSession(Scope(fresh(), HERE), cast("Any", hook), patience=0.0)


def test_a_lease_that_may_not_be_written_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rights are not tried before: each statement may take a second there."""
    hook = sqlite_hook(tmp_path, monkeypatch)
    TableSession(Scope(fresh(), HERE), hook).close()
    monkeypatch.setattr(layout, "_try_rights", lambda *given: None)
    only = copy(hook)
    only.get_conn = lambda: sqlite3.connect(f"file:{tmp_path}/state.db?mode=ro", uri=True)  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match=r"lease .* may not write it \(Oper.*read or sent.*--ddl"):
        TableSession(Scope(fresh(), HERE), only)
