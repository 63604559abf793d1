"""Snowflake on ``fakesnow``, which parses statements as Snowflake does and runs them on DuckDB; no account is asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, ClassVar

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.state.tables.session import TableSession
from tests.state import test_warehouse
from tests.state.contract import StoreContract, entry, fresh, keep, kept, key_of
from tests.state.test_table import Tables
from tests.state.test_warehouse import NAIVE, TEXTS, Types, Warehouse, agree, compares_only_if_asked

pytestmark = pytest.mark.slow


class SnowflakeHook(DbApiHook):
    """As much of Airflow's hook as the state asks, without its dependencies."""

    conn_name_attr = "snowflake_conn_id"
    conn_type = "snowflake"
    placeholder = "%s"

    def get_conn(self) -> Any:
        """Connect to the account that is none."""
        from snowflake.connector import connect

        connection = connect(database="ITERABLE", schema="PUBLIC", autocommit=True)
        cursor = connection.cursor
        connection.cursor = lambda *arguments: Cursor(cursor(*arguments))  # type: ignore[method-assign, assignment]
        return connection


class Cursor:
    """A cursor without transactions: in one, ``fakesnow`` can neither create tables nor merge."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def execute(self, statement: str, *parameters: Any) -> None:
        """Execute."""
        if statement not in ("BEGIN TRANSACTION", "COMMIT"):
            self._cursor.execute(statement, *parameters)

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *error: object) -> None:
        self._cursor.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@pytest.fixture
def snowflake() -> Iterator[SnowflakeHook]:
    """An account with nothing in it."""
    import fakesnow

    with fakesnow.patch():
        yield SnowflakeHook("state")


class TestSnowflake(StoreContract):
    # Every statement takes ten times as long as elsewhere; the law below draws what is remembered, too.
    test_pairs_as_memory_does = None  # type: ignore[assignment]
    test_remembers_what_patches_say = None  # type: ignore[assignment]
    test_patches_may_be_large = None  # type: ignore[assignment]

    @pytest.fixture
    def place(self, snowflake: SnowflakeHook) -> Tables:
        """Return tables in a schema."""
        return Tables(snowflake, "iterable_sync")


TYPES: Types = {
    "id": ("NUMBER(38, 0)", st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4)),
    "tag": ("VARCHAR", TEXTS),
    "email": ("VARCHAR(50)", st.sampled_from(["a@x.io", "b@x.io", "c@x.io", " C@x.io", "nonsense"])),
    "small": ("NUMBER(5, 0)", st.integers(-3, 3)),
    "truth": ("BOOLEAN", st.booleans()),
    "double": ("FLOAT", st.floats(allow_nan=False, allow_infinity=False, width=64)),
    "price": ("NUMBER(12, 2)", st.decimals(-99, 99, places=2)),
    "day": ("DATE", st.dates(date(1, 1, 2))),
    "naive": ("TIMESTAMP_NTZ", NAIVE),
}
KEYS = [("id",), ("id", "tag"), ("tag",), ("price", "truth"), ("day", "id"), ("small",)]
"""Not date-times: ``fakesnow`` leaves out how they are to be written."""


@pytest.fixture
def warehouse(snowflake: SnowflakeHook, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A table of the types that ``fakesnow`` has."""
    monkeypatch.setitem(test_warehouse.KEYS, "snowflake", (TYPES, KEYS))
    return Warehouse(snowflake, "snowflake")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=6
)
@given(data=st.data())
def test_the_database_finds_what_the_worker_finds(warehouse: Warehouse, data: st.DataObject) -> None:
    """Whatever the values, pairs of the database and of memory make the same plan, and then none."""
    agree(warehouse, data)


def test_it_compares_only_if_it_is_asked_to(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """No real account has run it yet: the log says so, and how to ask."""
    compares_only_if_asked(warehouse, caplog)


def test_a_statement_is_no_longer_than_snowflake_takes(snowflake: SnowflakeHook) -> None:
    """A large patch is several statements, each of less than a megabyte."""
    said = list[int]()

    class Listening(SnowflakeHook):
        def get_conn(self) -> Any:
            connection = super().get_conn()
            cursor = connection.cursor

            class Heard(Cursor):
                def execute(self, statement: str, *parameters: Any) -> None:
                    said.append(len(statement) + sum(len(str(value)) for value in (parameters or ((),))[0]))
                    super().execute(statement, *parameters)

            connection.cursor = lambda *arguments: Heard(cursor(*arguments))
            return connection

    tables, sync_id = Tables(Listening("state"), "iterable_sync"), fresh()
    patch = {key_of("k" * 400, number): entry(number, f"u{number}@x.io") for number in range(3000)}
    keep(tables, sync_id, dict(patch))
    assert kept(tables, sync_id) == patch
    keep(tables, sync_id, dict.fromkeys(patch))
    assert kept(tables, sync_id) == {}
    assert max(said) < 500_000


def test_batches_are_committed_together(snowflake: SnowflakeHook) -> None:
    """A transaction takes long there."""
    session = Tables(snowflake).open(fresh())
    assert isinstance(session, TableSession)
    assert session.commit_batches == 10
    session.close()


class FormerHook(SnowflakeHook):
    """An account that tells names in quotes from others, as ``fakesnow`` does not: here one of them is renamed."""

    said: ClassVar[list[str]] = []

    def get_conn(self) -> Any:
        """Connect."""
        connection = super().get_conn()
        cursor = connection.cursor

        class Telling(Cursor):
            def execute(self, statement: str, *parameters: Any) -> None:
                FormerHook.said.append(statement)
                super().execute(statement.replace('"iterable_sync".', "in_small_letters."), *parameters)

        connection.cursor = lambda *arguments: Telling(cursor(*arguments))
        return connection


def test_a_schema_is_not_quoted(snowflake: SnowflakeHook) -> None:
    """It is the one that whoever writes CREATE SCHEMA iterable_sync makes: all tables are there, and it is made so."""
    FormerHook.said.clear()
    for _ in range(2):
        keep(Tables(FormerHook("state"), "iterable_sync"), "dag.sync", {"[1]": entry(1)})
    looks = [said for said in FormerHook.said if '"' in said]
    assert looks == ['SELECT count(*) FROM "iterable_sync".sync_header WHERE sync_id = %s'], (
        "only by a sync that is new"
    )
    assert "CREATE SCHEMA IF NOT EXISTS iterable_sync" in FormerHook.said
    assert kept(Tables(snowflake, "ITERABLE_SYNC"), "dag.sync") == {"[1]": entry(1)}


@pytest.mark.parametrize("made", [False, True])
def test_a_state_in_the_former_schema_is_not_begun_anew(snowflake: SnowflakeHook, made: bool) -> None:
    """Neither where the schema that is meant is not there, nor where somebody has made the tables in it."""
    keep(Tables(snowflake, "in_small_letters"), "dag.sync", {"[1]": entry(1)})
    hook = FormerHook("state")
    if made:
        keep(Tables(snowflake, "iterable_sync"), "dag.other", {"[1]": entry(1)})
        Tables(hook, "iterable_sync").open("dag.other").close()
        Tables(hook, "iterable_sync").open("dag.third").close()
    rename = r'Nothing was read or sent\. Run this: ALTER SCHEMA "iterable_sync" RENAME TO iterable_sync;'
    FormerHook.said.clear()
    with pytest.raises(ConfigurationError, match=rename) as refused:
        Tables(hook, "iterable_sync").open("dag.sync")
    told = "does not know sync 'dag.sync'" if made else "does not have the tables"
    assert f"iterable_sync is ITERABLE_SYNC there, which {told}" in str(refused.value)
    assert {said.split()[0] for said in FormerHook.said} == {"BEGIN", "SELECT", "COMMIT"}
    if not made:
        with pytest.raises(ConfigurationError, match=rename):
            Tables(hook, "iterable_sync").open("dag.new")
    assert kept(Tables(hook, "IN_SMALL_LETTERS"), "dag.sync") == {"[1]": entry(1)}
