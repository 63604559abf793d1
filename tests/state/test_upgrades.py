"""What earlier versions stored is opened by this one, and by the next one, without a row sent again."""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
from base64 import b85decode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.errors import ConfigurationError, StateUnavailable
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from airflow_provider_iterable.state.objects.folder import FORMAT
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables import audit as audit_tables
from airflow_provider_iterable.state.tables import ledger
from airflow_provider_iterable.state.tables.audit import AUDIT
from airflow_provider_iterable.state.tables.entries import STATE
from airflow_provider_iterable.state.tables.erasure import ERASURE, ErasingSession
from airflow_provider_iterable.state.tables.layout import Addition, Layout, Step
from airflow_provider_iterable.state.tables.ledger import LEDGER, project_of
from airflow_provider_iterable.state.tables.session import TableSession
from tests.services import mysql_uri, postgres_uri
from tests.state.contract import memories
from tests.state.test_table import Unsteady, execute, needs_duckdb
from tests.written import AUDIT as AUDIT_TABLES
from tests.written import FOLDER, HOST, KEY, MAPPING, SEEN, SYNC_ID, TABLES, Database, hook_of, remembered, run, syncs

VERSIONS = sorted(path.name for path in FOLDER.glob("v*"))
DATABASES = ["postgres", "mysql", "sqlite", pytest.param("duckdb", marks=[needs_duckdb, pytest.mark.slow])]
HERE = Scope(SYNC_ID, SEEN, MAPPING)
PARTS = {layout.part: layout.version for layout in (STATE, LEDGER, AUDIT, ERASURE)}


@dataclass
class Old:
    """A database of its own, and a sandbox that its state is about."""

    database: Database
    hook: DbApiHook
    iterable: Sandbox

    def load(self, version: str) -> None:
        """Fill it with what a version stored; no list of the sandbox is the one that is remembered."""
        text = (FOLDER / version / f"{self.database}.sql").read_text("utf-8").replace(HOST, self.iterable.url)
        there = sha256(f"{self.iterable.url}\n{KEY}".encode()).hexdigest()
        text = text.replace(project_of(HOST, KEY), there)
        execute(self.hook, *text.removesuffix(";\n").split(";\n"))

    def rows(self, *names: str) -> dict[str, list[tuple[Any, ...]]]:
        """Return what is in tables."""
        return {name: sorted(execute(self.hook, f"SELECT * FROM {name}"), key=repr) for name in names}

    @property
    def versions(self) -> dict[str, int]:
        """Return what the table of versions says."""
        return dict(cast("Any", execute(self.hook, "SELECT part, version FROM iterable_sync_version")))

    def columns(self, table: str) -> list[str]:
        """Return the columns of a table."""
        connection = self.hook.get_conn()
        cursor = connection.cursor()
        cursor.execute(f"SELECT * FROM iterable_sync_{table} WHERE 1 = 0")
        found = [str(column[0]) for column in cursor.description]
        cursor.fetchall()
        connection.close()
        return found

    def session(self, hook: Any = None, sync_id: str = "dag.users_by_worker", **store: Any) -> TableSession:
        """Open the state of a sync."""
        destination = {"host": self.iterable.url, "match": "email", "type": "users"}
        return TableSession(Scope(sync_id, destination), hook or self.hook, patience=1.0, **store)


@pytest.fixture(params=DATABASES)
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Old]:
    """A database of each kind that really runs."""
    database, name = request.param, f"written_{uuid.uuid4().hex[:12]}"
    where = {"postgres": f"{postgres_uri()}?options=-c%20search_path%3D{name}", "mysql": mysql_uri()}.get(
        database, str(tmp_path / f"state.{database}")
    )
    make, drop = {
        "postgres": ("CREATE SCHEMA {}", "DROP SCHEMA {} CASCADE"),
        "mysql": ("CREATE DATABASE {}", "DROP DATABASE {}"),
    }.get(database, ("SELECT 1", "SELECT 1"))
    connection, hook = hook_of(database, where)
    monkeypatch.setenv("AIRFLOW_CONN_STATE", connection)
    execute(hook, make.format(name))
    if database == "mysql":
        connection, hook = hook_of(database, urlsplit(where)._replace(path=f"/{name}").geturl())
        monkeypatch.setenv("AIRFLOW_CONN_STATE", connection)
    with Sandbox(rates=False) as iterable:
        told = {"conn_type": "iterable", "host": iterable.url, "password": KEY, "extra": {"project_type": "email"}}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(told))
        yield Old(database, hook, iterable)
    execute(hook, drop.format(name))


def next_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this be a version that has a column more in each part, and voids nothing."""

    def with_column(layout: Layout, table: str, column: str, kind: str, *changes: str) -> Layout:
        made = layout.tables[table]
        at = made.index("PRIMARY KEY (") if "PRIMARY KEY (" in made else made.rindex(")")
        made = f"{made[:at]}{column} {kind}, {made[at:]}" if made[at] == "P" else f"{made[:at]}, {column} {kind})"
        step: Step = (Addition(table, column, kind), *changes)
        return replace(layout, tables={**layout.tables, table: made}, steps=(*layout.steps, step))

    state = with_column(STATE, "state", "sent_at", "BIGINT", "UPDATE {state} SET sent_at = 7 WHERE sent_at IS NULL")
    state = with_column(state, "header", "project", "{text}")
    audit = with_column(AUDIT, "runs", "host", "VARCHAR(250)")
    audit = with_column(audit, "changelog", "checked_at", "{time}")
    monkeypatch.setattr(TableSession, "layouts", (state,))
    monkeypatch.setattr(ErasingSession, "layouts", (state, audit, ERASURE))
    monkeypatch.setattr(audit_tables, "AUDIT", audit)
    monkeypatch.setattr(ledger, "LEDGER", with_column(LEDGER, "ledger", "sync_id", "VARCHAR(250)"))


def again(old: Old) -> None:
    """Run every sync, and expect that nobody is sent again and the audit goes on."""
    for operator in syncs():
        run_id = uuid.uuid4().hex
        report = run(operator, run_id)
        assert report["unchanged"] + report["rejected"] + report["skipped"] == report["read"], operator.task_id
        assert report["accepted"] == report["removed"] == 0, operator.task_id
        assert report["requests"] == {}, operator.task_id
        assert report["resend_reason"] is None, operator.task_id
        audits = cast("TableState", operator.state).audit is not False
        told = f"SELECT error, status FROM iterable_sync_runs WHERE sync_run_id LIKE '{run_id}%'"
        assert execute(old.hook, told) == [(None, "succeeded")] * audits, operator.task_id


@pytest.mark.parametrize("version", VERSIONS)
def test_tables_of_each_version_are_opened_by_this_one(
    old: Old, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No row goes again, no entry changes, and afterwards the tables say of which version they are."""
    old.load(version)
    before = old.rows("iterable_sync_state", "iterable_sync_ledger")
    assert len(before["iterable_sync_state"]) == 21
    assert len(before["iterable_sync_ledger"]) == 1
    again(old)
    assert old.rows("iterable_sync_state", "iterable_sync_ledger") == before
    assert old.versions == PARTS
    assert not [record for record in caplog.records if "audit tables" in record.getMessage()]


@pytest.mark.parametrize("version", VERSIONS)
def test_tables_of_each_version_go_through_the_next_one(
    old: Old, version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Columns are added, what a step says is done, no row goes again; the time after that there is nothing to do."""
    old.load(version)
    next_layouts(monkeypatch)
    again(old)
    steps = {"state": 2, "audit": 2, "ledger": 1, "erasure": 0}
    assert old.versions == {part: version + steps[part] for part, version in PARTS.items()}
    assert old.columns("state")[-1] == "sent_at"
    assert old.columns("header")[-1] == "project"
    assert old.columns("runs")[-4:] == ["dag_id", "task_id", "map_index", "host"]
    assert old.columns("changelog")[-1] == "checked_at"
    assert old.columns("ledger")[-1] == "sync_id"
    assert execute(old.hook, "SELECT DISTINCT sent_at FROM iterable_sync_state") == [(7,)]
    assert not [record for record in caplog.records if "audit tables" in record.getMessage()]
    again(old)
    hook = Unsteady(old.hook)
    old.session(hook).close()
    assert not [said for said in hook.statements if said.startswith(("CREATE", "ALTER"))]


def test_new_tables_are_of_the_newest_version_at_once(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the columns that upgraded ones have, and steps find nothing to do."""
    next_layouts(monkeypatch)
    old.session().close()
    assert old.versions == {"state": 4}
    assert set(old.columns("state")) >= {"ref", "sent_at"}


def test_tables_that_say_their_version_are_upgraded(
    old: Old, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, once."""
    caplog.set_level(logging.INFO)
    old.session().close()
    next_layouts(monkeypatch)
    for _ in range(2):
        old.session().close()
    told = [record.getMessage() for record in caplog.records if "version" in record.getMessage()]
    assert told == ["The state tables go from version 2 to 4."]


def test_opening_asks_one_question(old: Old) -> None:
    """Where the tables are as they should be, nothing is made, locked or written but the lease."""
    old.session().close()
    hook = Unsteady(old.hook)
    session = old.session(hook)
    session.close()
    asked = [said for said in hook.statements if "FROM iterable_sync_version" in said]
    assert len(asked) == 1
    made = ("CREATE", "ALTER", "LOCK", "BEGIN IMMEDIATE", "DO ", "SELECT pg_advisory")
    assert not [said for said in hook.statements if said.startswith(made)]


def test_a_table_that_was_dropped_is_made_again(old: Old) -> None:
    """Whatever the table of versions says."""
    old.session().close()
    execute(old.hook, "DROP TABLE iterable_sync_header")
    old.session().close()
    assert old.columns("header") == ["sync_id", "destination", "mapping", "notes"]


def test_newer_tables_are_refused(old: Old, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Before anything is read, written or sent, with the versions and the way out; a newer audit stops no run."""
    old.load(VERSIONS[-1])
    again(old)
    before = old.rows(*TABLES, *AUDIT_TABLES)
    for part, first in (("state", 0), ("ledger", 4), ("audit", 4)):
        execute(old.hook, f"UPDATE iterable_sync_version SET version = 9 WHERE part = '{part}'")
        for operator in syncs()[first:]:
            with pytest.raises(AirflowFailException) as failed:
                run(operator)
            words = (
                "are of version 9",
                repr(part),
                "iterable_sync_version",
                f"knows version {PARTS[part]}",
                "sent",
                "Install",
            )
            assert [word for word in words if word not in str(failed.value)] == []
        assert old.rows(*TABLES) == {name: before[name] for name in TABLES}
        execute(old.hook, f"UPDATE iterable_sync_version SET version = {PARTS[part]} WHERE part = '{part}'")
    execute(old.hook, "UPDATE iterable_sync_version SET version = 9 WHERE part = 'audit'")
    assert run(syncs()[1])["unchanged"] == 4
    (told,) = {record.getMessage() for record in caplog.records if "audit tables" in record.getMessage()}
    assert "are of version 9" in told
    assert "The sync goes on" in told
    assert old.iterable.calls == []


@pytest.mark.parametrize("at", ["ALTER", "UPDATE", "INSERT INTO", "COMMIT"])
def test_an_upgrade_that_is_interrupted_is_gone_on_with(old: Old, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Whatever was done before: where the database can, all of it is undone; the version is written last."""
    old.load(VERSIONS[-1])
    old.session().close()
    next_layouts(monkeypatch)
    hook = Unsteady(old.hook)
    hook.breaks.extend([at] * 50)  # as often as it is tried
    with pytest.raises(StateUnavailable, match="could not be opened"):
        old.session(hook)
    assert old.versions == {"state": 2}
    if old.database != "mysql":
        assert "sent_at" not in old.columns("state")
    old.session().close()
    assert old.versions["state"] == 4
    assert old.columns("state")[-1] == "sent_at"
    again(old)


def test_of_many_who_upgrade_at_once_each_finds_the_tables_upgraded(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """One does it, and the others wait or try again; nobody fails."""
    old.load(VERSIONS[-1])
    next_layouts(monkeypatch)
    barrier, failures = threading.Barrier(4), list[Exception]()

    def open_(number: int) -> None:
        try:
            barrier.wait(20)
            TableSession(Scope(f"dag.sync_{number}", {}), old.hook).close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert old.versions == {"state": 4}
    again(old)


SCRIPT = "Somebody who may is to run this"


def limited_postgres(old: Old, monkeypatch: pytest.MonkeyPatch, *rights: str) -> tuple[DbApiHook, str]:
    """Return a hook of somebody who has only these rights, and who that is."""
    role = f"limited_{uuid.uuid4().hex[:8]}"
    ((schema,),) = execute(old.hook, "SELECT current_schema()")
    execute(old.hook, f"CREATE ROLE {role} LOGIN", *(right.format(schema=schema, role=role) for right in rights))
    uri = urlsplit(f"{postgres_uri()}?options=-c%20search_path%3D{schema}")
    there = uri._replace(netloc=f"{role}@{uri.hostname}:{uri.port}").geturl()
    monkeypatch.setenv("AIRFLOW_CONN_LIMITED", there)
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    return PostgresHook("limited"), role


def drop_role(old: Old, role: str) -> None:
    """Drop somebody and what is theirs."""
    execute(old.hook, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("old", ["postgres"], indirect=True)
@pytest.mark.parametrize("upgrade", [False, True])
def test_who_may_not_make_tables_is_told_what_to_run(old: Old, monkeypatch: pytest.MonkeyPatch, upgrade: bool) -> None:
    """At once and not after 30 s; once somebody has run it, the right to read and write the tables is enough."""
    if upgrade:
        old.load(VERSIONS[-1])
        next_layouts(monkeypatch)
    grants = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
    hook, role = limited_postgres(old, monkeypatch, "GRANT USAGE ON SCHEMA {schema} TO {role}", grants)
    ((schema,),) = execute(old.hook, "SELECT current_schema()")
    try:
        with pytest.raises(ConfigurationError, match=SCRIPT) as failed:
            old.session(hook)
        words = ("InsufficientPrivilege", "Nothing was read or sent", "SELECT, INSERT, UPDATE and DELETE")
        assert all(word in str(failed.value) for word in words)
        script = str(failed.value).partition(":\n")[2]
        assert ("ALTER TABLE iterable_sync_state ADD COLUMN sent_at" in script) is upgrade
        assert ("CREATE TABLE IF NOT EXISTS iterable_sync_state (" in script) is not upgrade
        execute(old.hook, *script.removesuffix(";").split(";\n"), grants.format(schema=schema, role=role))
        old.session(hook).close()
        assert old.versions == {"state": 4 if upgrade else 2}
    finally:
        drop_role(old, role)


@pytest.mark.parametrize("old", ["postgres"], indirect=True)
def test_newer_tables_are_told_to_who_may_not_make_tables(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script would be of no use: it is another version of the provider that is missing, and not a right."""
    old.load(VERSIONS[-1])
    old.session().close()
    execute(old.hook, "UPDATE iterable_sync_version SET version = 9 WHERE part = 'state'")
    grants = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
    hook, role = limited_postgres(old, monkeypatch, "GRANT USAGE ON SCHEMA {schema} TO {role}", grants)
    try:
        with pytest.raises(ConfigurationError, match="are of version 9"):
            old.session(hook)
    finally:
        drop_role(old, role)


@pytest.mark.parametrize("old", ["postgres"], indirect=True)
def test_a_schema_that_somebody_made_is_not_made_again(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one is a right on the whole database, also where it is there."""
    rights = ("CREATE SCHEMA {schema}_own", "GRANT USAGE, CREATE ON SCHEMA {schema}_own TO {role}")
    hook, role = limited_postgres(old, monkeypatch, *rights)
    ((schema,),) = execute(old.hook, "SELECT current_schema()")
    try:
        for _ in range(2):
            old.session(hook, schema=f"{schema}_own").close()
    finally:
        execute(old.hook, f"DROP SCHEMA {schema}_own CASCADE")
        drop_role(old, role)


@pytest.mark.parametrize("old", ["mysql"], indirect=True)
def test_who_may_not_make_tables_in_mysql_is_told_what_to_run(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise."""
    old.load(VERSIONS[-1])
    next_layouts(monkeypatch)
    ((name,),) = execute(old.hook, "SELECT DATABASE()")
    user = f"u{uuid.uuid4().hex[:12]}"
    execute(old.hook, f"CREATE USER {user}", f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {user}")
    uri = urlsplit(mysql_uri())
    there = uri._replace(netloc=f"{user}@{uri.hostname}:{uri.port}", path=f"/{name}").geturl()
    monkeypatch.setenv("AIRFLOW_CONN_LIMITED", hook_of("mysql", there)[0])
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    try:
        with pytest.raises(ConfigurationError, match=SCRIPT) as failed:
            old.session(MySqlHook("limited"))
        script = str(failed.value).partition(":\n")[2]
        assert "ALTER TABLE iterable_sync_state ADD COLUMN sent_at" in script
        execute(old.hook, *script.removesuffix(";").split(";\n"))
        old.session(MySqlHook("limited")).close()
    finally:
        execute(old.hook, f"DROP USER {user}")


def stored(version: str) -> dict[str, Any]:
    """Return what a version kept in objects and XCom."""
    found: dict[str, Any] = json.loads((FOLDER / version / "stored.json").read_text("utf-8"))
    return found


def objects(tmp_path: Path, version: str) -> ObjectState:
    """Return a store whose folder holds what a version wrote."""
    for name, data in stored(version)["objects"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b85decode(data))
    return ObjectState(f"file://{tmp_path}")


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_of_each_version_are_read(tmp_path: Path, version: str) -> None:
    """All that is remembered, and nothing else; runs of this version go on from there."""
    store = objects(tmp_path, version)
    session = store.open(HERE)
    assert (session.notes, session.resend_reason) == ({"list_id": "7"}, None)
    assert memories(session) == remembered()
    session.commit({"[1]": None})
    session.finish(True)
    session.close()
    session = store.open(HERE)
    assert memories(session) == {key: kept for key, kept in remembered().items() if key != "[1]"}
    session.close()


@pytest.mark.parametrize("kind", ["journal", "marker"])
def test_objects_of_a_later_version_are_refused(tmp_path: Path, kind: str) -> None:
    """With the way out, and as they are."""
    store = objects(tmp_path, VERSIONS[-1])
    newest = sorted(tmp_path.glob(f"*/{kind}-*"))[-1]
    data = newest.read_bytes()
    later, here = FORMAT + 1, FORMAT
    newest.write_bytes(re.sub(rb"iterable-sync-state \d+ ", f"iterable-sync-state {later} ".encode(), data, count=1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        ConfigurationError, match=rf"format {later}.*knows format {here}.*Nothing was sent.*Install"
    ) as failed:
        store.open(HERE)
    assert newest.name in str(failed.value)
    assert "baseline" not in str(failed.value), "that would be to forget what is there"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("version", VERSIONS)
def test_xcoms_of_each_version_are_read(version: str) -> None:
    """All that is remembered, and nothing else."""
    pushed: list[str] = []
    scope = replace(HERE, pull=lambda: stored(version)["xcom"], push=pushed.append)
    session = XComState().open(scope)
    assert (session.notes, session.resend_reason) == ({"list_id": "7"}, None)
    assert memories(session) == remembered()
    session.finish(True)
    assert memories(XComState().open(replace(scope, pull=lambda: pushed[0]))) == remembered()


def test_an_xcom_of_a_later_version_is_refused() -> None:
    """With the way out."""
    text = json.dumps({**json.loads(stored(VERSIONS[-1])["xcom"]), "format": 2, "entries": {"are": "otherwise"}})
    with pytest.raises(ConfigurationError, match=r"format 2.*knows format 1.*Nothing was.*sent.*Install"):
        XComState().open(replace(HERE, pull=lambda: text, push=print))


def test_a_column_of_the_audit_names_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field of a row is enough: new tables have the column, and those of earlier versions get it by a step."""
    runs, key = audit_tables._TABLES["runs"]
    latest = AUDIT.version
    more = {
        **runs,
        "num_bytes": audit_tables.Column("BIGINT", since=latest + 2),
        "host": audit_tables.Column("{text}", since=latest + 1),
    }
    monkeypatch.setattr(audit_tables, "_TABLES", {**audit_tables._TABLES, "runs": (more, key)})
    layout = audit_tables._layout()
    steps = ((Addition("runs", "host", "{text}"),), (Addition("runs", "num_bytes", "BIGINT"),))
    assert layout.steps == (*AUDIT.steps, *steps)
    assert "num_bytes BIGINT, host {text}, PRIMARY KEY (sync_id, sync_run_id))" in layout.tables["runs"]
