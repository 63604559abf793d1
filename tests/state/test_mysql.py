"""What MySQL and MariaDB need beyond what holds everywhere: settings of sessions, and many who write at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from airflow_provider_iterable.errors import LeaseHeld, StateUnavailable
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.scope import Holder, Scope
from airflow_provider_iterable.state.tables.erasure import ErasingSession
from airflow_provider_iterable.state.tables.session import TableSession
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.fakes import close_spools
from tests.state.contract import HERE, MAPPING, NASTY, entry, fresh, keep, kept, key_of
from tests.state.test_table import MYSQL_DRIVERS, Tables, execute, mysql_tables
from tests.state.test_warehouse import MYSQL, Warehouse, deliver, planned, quiet, remember, table

MODES = ["", "ANSI_QUOTES,PIPES_AS_CONCAT", "NO_BACKSLASH_ESCAPES", "STRICT_ALL_TABLES,NO_ZERO_DATE,ANSI"]


@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
@pytest.mark.parametrize("mode", MODES)
def test_no_mode_of_sql_matters(monkeypatch: pytest.MonkeyPatch, mode: str, driver: str) -> None:
    """Any text comes back as it went, and the database compares, whatever mode the connection asks for."""
    with mysql_tables(monkeypatch, driver, init_command=f"SET SESSION sql_mode = '{mode}'") as tables:
        sync_id = fresh()
        patch = {key_of(value, number): entry(number, f"{value}@x.io") for number, value in enumerate(NASTY)}
        keep(tables, sync_id, dict(patch))
        assert kept(tables, sync_id) == patch
        warehouse, sync_id = Warehouse(tables.hook, "mysql"), f"{fresh()} \\ 'x'"
        table(warehouse, *((number, "a@x.io", text) for number, text in enumerate(NASTY)))
        named = Model(warehouse.hook, f"SELECT tag, email FROM {warehouse.table}")
        for expected in (0, len(NASTY)):
            with warehouse.opened(sync_id, model=named) as (session, model), model:
                options = UserOptions(("tag",), "email", "email", project_type="email")
                plan = planned(Users(options, Mapper({}), model.columns), model, session)
                remember(plan, session)
                session.finish(True)
            assert expected == plan.unchanged
        close_spools()


@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
def test_no_limit_of_the_connection_matters(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """All that is remembered is read and compared, also where queries that name no limit have one."""
    with mysql_tables(monkeypatch, driver) as tables:
        warehouse, sync_id = Warehouse(tables.hook, "mysql"), fresh()
        table(warehouse, *((number, f"{number}@x.io", "x") for number in range(9)))
        tables.hook.init_command = "SET SESSION sql_select_limit = 2"
        for expected in (0, 9):
            assert (expected, None) == quiet(*deliver(warehouse, sync_id))
        patch = {key_of(number): entry(number, f"{number}@x.io") for number in range(9)}
        keep(tables, sync_id, dict(patch))
        assert kept(tables, sync_id).keys() >= patch.keys()


@pytest.mark.parametrize("driver", MYSQL_DRIVERS)
def test_no_character_set_of_the_connection_matters(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """Keys are compared and come back as they are, also where a connection cannot say them."""
    with mysql_tables(monkeypatch, driver, init_command="SET NAMES latin1") as tables:
        sync_id = fresh()
        patch = {key_of(value, number): entry(number, f"{value}@x.io") for number, value in enumerate(NASTY)}
        keep(tables, sync_id, dict(patch))
        assert kept(tables, sync_id) == patch


def test_no_zone_of_the_session_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TIMESTAMP is an instant, for the worker as for the digest."""
    sync_id = fresh()
    with mysql_tables(monkeypatch) as tables:
        warehouse = Warehouse(tables.hook, "mysql")
        warehouse.fill([[{"id": 1, "email": "a@x.io"}.get(name) for name in MYSQL]])
        execute(warehouse.hook, f"UPDATE {warehouse.table} SET moment = NOW(), naive = NOW(), day = NOW()")
        for zone, expected in (("+00:00", 0), ("+00:00", 1), ("+05:00", 1)):
            tables.hook.init_command = f"SET time_zone = '{zone}'"
            fields = {"moment": "moment", "naive": "naive", "day": "day"}
            assert (expected, None) == quiet(*deliver(warehouse, sync_id, fields=fields))


def test_bytes_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that becomes text with the same letters is news: the worker had bytes before."""
    with mysql_tables(monkeypatch) as tables:
        warehouse, sync_id = Warehouse(tables.hook, "mysql"), fresh()
        execute(warehouse.hook, f"ALTER TABLE {warehouse.table} MODIFY short VARBINARY(10)")
        table(warehouse, (1, "a@x.io", "x"))
        execute(warehouse.hook, f"UPDATE {warehouse.table} SET short = 'ab'")
        with warehouse.opened(sync_id) as (session, model), model:
            before = fingerprints(session, model)
        execute(warehouse.hook, f"ALTER TABLE {warehouse.table} MODIFY short VARCHAR(10)")
        with warehouse.opened(sync_id) as (session, model), model:
            assert before != fingerprints(session, model)


def fingerprints(session: Any, model: Model) -> list[bytes]:
    """Return what the database makes of the rows."""
    options = UserOptions(("id",), "email", "email", project_type="email")
    pairs = list(session.pair(Users(options, Mapper({"short": "short"}), model.columns), model.chunks()))
    return [fingerprint for pair in pairs for fingerprint in getattr(pair, "fingerprints", None) or ()]


def test_many_syncs_may_write_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are next to each other in the index keep nobody from writing for long, nor does erasing."""
    with mysql_tables(monkeypatch) as tables:
        tables.open(fresh()).close()
        ids = [fresh() for _ in range(6)]

        def run(sync_id: str) -> None:
            hook = type(tables.hook)("state")
            for number in range(10):
                patch = {key_of(n): entry(number, f"{n}@x.io") if (n + number) % 3 else None for n in range(200)}
                keep(Tables(hook), sync_id, dict(patch))

        def erase() -> None:
            scope = Scope(fresh(), {**HERE, "type": "privacy"}, MAPPING)
            session = ErasingSession(scope, type(tables.hook)("state"), unforgets=False)
            session.commit({"hash": entry(1, "199@x.io")})
            session.close()

        with ThreadPoolExecutor(7) as pool:
            done = [pool.submit(run, sync_id) for sync_id in ids]
            done.append(pool.submit(erase))
            for one in done:
                one.result()
        for sync_id in ids:
            found = kept(tables, sync_id)
            assert [key_of(n) for n in range(199) if (n + 9) % 3] == sorted(set(found) - {key_of(199)}, key=by_number)
            assert all(found[key_of(n)] == entry(9, f"{n}@x.io") for n in range(199) if (n + 9) % 3)


def by_number(key: str) -> int:
    """Order keys of one number."""
    return int(key[1:-1])


def test_of_many_who_try_at_once_one_gets_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is free or has run out."""
    with mysql_tables(monkeypatch) as tables:
        tables.open(fresh()).close()
        for number in range(6):
            sync_id, barrier = fresh(), threading.Barrier(5)
            if number % 2:
                lost = session_of(tables, sync_id, Holder("lost", 0))
                lost.tables.close()
                execute(tables.hook, "UPDATE iterable_sync_lease SET expires_at = 1")
            with ThreadPoolExecutor(5) as pool:
                trying = [pool.submit(taken, tables, sync_id, who, barrier) for who in range(5)]
                won = [one.result() for one in trying]
            assert sorted(won) == [False] * 4 + [True]


def taken(tables: Tables, sync_id: str, who: int, barrier: threading.Barrier) -> bool:
    """Try to take a lease, and keep it."""
    barrier.wait()
    try:
        session = session_of(tables, sync_id, Holder(f"instance {who}", 1, f"run {who}"))
    except LeaseHeld:
        return False
    session.tables.close()
    return True


def session_of(tables: Tables, sync_id: str, holder: Holder) -> TableSession:
    """Open the state for a run that has a lease of which no thread takes care."""
    scope = Scope(sync_id, HERE, MAPPING, holder=holder)
    session = TableSession(scope, type(tables.hook)("state"))
    session.lease._over = True
    session.lease._wake.set()
    return session


def test_a_second_run_does_not_wait_for_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whose midst the lease's row is locked."""
    with mysql_tables(monkeypatch) as tables:
        sync_id = fresh()
        session = tables.open(sync_id)
        with closing(session), closing(tables.hook.get_conn()) as committing:
            cursor = committing.cursor()
            cursor.execute("SELECT * FROM iterable_sync_lease FOR UPDATE")
            cursor.fetchall()
            with pytest.raises(LeaseHeld):
                tables.open(sync_id)
            committing.rollback()


def test_the_server_ends_transactions_of_those_who_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it can: MariaDB does; what they hold would lock the new holder of a lease out."""
    with mysql_tables(monkeypatch) as tables:
        session = tables.open(fresh())
        assert isinstance(session, TableSession)
        ((version, waits),) = session.tables.transact(
            lambda: session.tables.find("SELECT VERSION(), @@innodb_lock_wait_timeout")
        )
        assert waits == 5
        if "MariaDB" in version:
            assert session.tables.transact(lambda: session.tables.find("SELECT @@idle_transaction_timeout")) == [(60,)]
        session.close()


def test_who_loses_the_lease_sees_who_won(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the transaction in which it looked before: each statement sees what others have committed."""
    with mysql_tables(monkeypatch) as tables, closing(tables.open(fresh())) as session:
        assert isinstance(session, TableSession)

        def look() -> list[int]:
            query = "SELECT count(*) FROM {lease} WHERE sync_id = :sync_id"
            return [count for (count,) in session.tables.find(query, sync_id="other")]

        def work() -> list[int]:
            before = look()
            values = "('other', 'h', 'i', 1, 'l', 1)"
            execute(tables.hook, f"INSERT INTO iterable_sync_lease VALUES {values}")
            return [*before, *look()]

        assert session.tables.transact(work) == [0, 1]


def test_what_is_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the server would cut it off: another key could begin alike."""
    with mysql_tables(monkeypatch, init_command="SET SESSION sql_mode = ''") as tables:
        session = tables.open(fresh(), hook=tables.hook, patience=0.0)
        with pytest.raises(StateUnavailable):
            session.commit({"k" * 501: entry(1)})
        session.close()


def test_a_renewal_in_the_same_millisecond_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """MySQL counts no row that is as it was."""
    with mysql_tables(monkeypatch) as tables, closing(tables.open(fresh())) as session:
        assert isinstance(session, TableSession)
        with session.lease.written() as renew:

            def work() -> None:
                session.tables.change("SET timestamp = 1700000000")  # and time stands still
                renew()
                renew()

            session.tables.transact(work)
        assert session.lease.failure is None
