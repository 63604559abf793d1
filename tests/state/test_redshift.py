"""Redshift, of which there is none here: a Postgres that checks no keys, shows snapshots and has its functions.

Every statement goes through a parser for Redshift first. What neither can tell is said in docs/state.md.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pytest
import sqlglot
from airflow.providers.common.sql.hooks.sql import DbApiHook
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from airflow_provider_iterable.engine.vocabulary import Recipe
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import key_text
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables.comparison import Comparison
from airflow_provider_iterable.state.tables.dialects import DIALECTS, NotInSql
from airflow_provider_iterable.state.tables.dialects.redshift import Redshift
from airflow_provider_iterable.state.tables.erasure import ErasingSession
from airflow_provider_iterable.state.tables.ledger import Ledger
from tests.services import postgres_uri
from tests.state import test_warehouse
from tests.state.contract import HERE, MAPPING, NASTY, StoreContract, entry, fresh, keep, kept
from tests.state.test_audit import Book, accepted, call, refused
from tests.state.test_lease import contend
from tests.state.test_table import Tables, execute
from tests.state.test_warehouse import NAIVE, TEXTS, Types, Warehouse, agree, compares_only_if_asked, deliver, table

FUNCTIONS = """
CREATE FUNCTION sha2(text, integer) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex') $$;
CREATE FUNCTION getdate() RETURNS timestamp LANGUAGE sql VOLATILE
    AS $$ SELECT date_trunc('second', clock_timestamp()::timestamp) $$;
CREATE FUNCTION fnv_hash(double precision) RETURNS bigint LANGUAGE sql IMMUTABLE
    AS $$ SELECT hashtextextended(encode(float8send($1), 'hex'), 0) $$;
CREATE FUNCTION fnv_hash(real) RETURNS bigint LANGUAGE sql IMMUTABLE
    AS $$ SELECT hashtextextended(encode(float4send($1), 'hex'), 0) $$;
CREATE FUNCTION fnv_hash(bpchar) RETURNS bigint LANGUAGE sql IMMUTABLE
    AS $$ SELECT hashtextextended(encode(bpcharsend($1), 'hex'), 0) $$;
CREATE FUNCTION db_collation() RETURNS text LANGUAGE sql STABLE AS $$ SELECT '{collation}'::text $$;
"""
LISTS = (
    ("(SELECT JSON_PARSE(CAST(%s AS VARCHAR(65535))) AS listed) AS lists, lists.listed AS part",
     "json_array_elements(CAST(CAST(%s AS VARCHAR(65535)) AS json)) AS lists(part)"),
)  # fmt: skip
WRITTEN = [text for text in NASTY if "\0" not in text]
"""Neither database has texts with a zero in them."""
SENT: list[str] = []
"""What was sent, the statements of the tests themselves included."""


@lru_cache(None)
def parsed(statement: str) -> exp.Expr:
    """Return what a parser for Redshift makes of a statement, of which it has to understand every word."""
    if re.fullmatch(r"FETCH FORWARD \d+ FROM \w+", statement):
        return exp.Select()  # no version of the parser knows what fetches, nor what declares
    statement = re.sub(r"^DECLARE \w+ CURSOR FOR\n", "", statement)
    found = sqlglot.parse_one(statement, read="redshift", error_level=sqlglot.ErrorLevel.RAISE)
    if not re.fullmatch(r"LOCK TABLE (\"\w+\"\.)?\w+", statement):  # which no version of the parser knows
        assert not list(found.find_all(exp.Command)), statement
    return found


def rewritten(statement: str) -> str:
    """Return a statement as Postgres takes it, which has other functions for lists."""
    for theirs, ours in LISTS:
        statement = statement.replace(theirs, ours)
    statement = re.sub(r"part\[(\d+)\]::", r"(part->>\1)::", statement)
    if statement.startswith("CREATE TABLE"):
        statement = re.sub(r",? PRIMARY KEY( \([^)]*\))?", "", statement)
    return statement


class Cursor:
    """A cursor that has every statement parsed."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def execute(self, statement: str, *parameters: Any) -> None:
        """Execute."""
        SENT.append(statement)
        parsed(statement)
        assert all(len(text.encode()) < 65_536 for text in (parameters or ((),))[0] if isinstance(text, str))
        self._cursor.execute(rewritten(statement), *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class Connection:
    """A connection whose transactions see one snapshot each, and fail if they change a row that another one did."""

    def __init__(self, connection: Any) -> None:
        self.__dict__["_connection"] = connection

    def cursor(self) -> Cursor:
        """Open a cursor."""
        from psycopg import ClientCursor

        return Cursor(ClientCursor(self._connection))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._connection, name, value)


class RedshiftHook(DbApiHook):
    """As much of Airflow's hook as the state asks, without its dependencies."""

    conn_name_attr = "redshift_conn_id"
    conn_type = "redshift"
    placeholder = "%s"
    schema = ""

    def get_conn(self) -> Any:
        """Connect to the cluster that is none; its user has a time zone of its own."""
        import psycopg

        connection = psycopg.connect(postgres_uri(), options=f"-c search_path={self.schema} -c timezone=Asia/Kolkata")
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return Connection(connection)


def cluster(collation: str) -> Iterator[RedshiftHook]:
    """Make a schema that looks like a database of Redshift's, and drop it."""
    import psycopg

    name = f"redshift_{uuid.uuid4().hex[:12]}"
    functions = FUNCTIONS.replace("{collation}", collation)
    with psycopg.connect(postgres_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}; SET search_path TO {name}; {functions}")
        yield type("Cluster", (RedshiftHook,), {"schema": name})("state")
        connection.execute(f"SET lock_timeout = '5s'; DROP SCHEMA {name} CASCADE")


@pytest.fixture
def redshift() -> Iterator[RedshiftHook]:
    """A database with nothing in it."""
    SENT.clear()
    yield from cluster("case_sensitive")


class TestRedshift(StoreContract):
    @pytest.fixture
    def place(self, redshift: RedshiftHook) -> Tables:
        """Return tables without a schema of their own."""
        return Tables(redshift)


TYPES: Types = {
    "id": ("bigint", st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4)),
    "tag": ("varchar(2000)", TEXTS | st.sampled_from(WRITTEN)),
    "email": ("varchar(50)", st.sampled_from(["a@x.io", "b@x.io", "c@x.io", " C@x.io", "nonsense"])),
    "small": ("smallint", st.integers(-3, 3)),
    "truth": ("boolean", st.booleans()),
    "double": ("double precision", st.floats(width=64) | st.sampled_from([0.0, -0.0, 0.1])),
    "single": ("real", st.floats(width=32)),
    "price": ("numeric(12,2)", st.decimals(-99, 99, places=2)),
    "whole": ("numeric(38,0)", st.integers(-(10**37), 10**37)),
    "day": ("date", st.dates(date(1, 1, 2))),
    "naive": ("timestamp", NAIVE),
    "aware": ("timestamptz", NAIVE.map(lambda moment: moment.replace(tzinfo=UTC))),
    "clock": ("time", st.times()),
    "padded": ("char(12)", st.text("ab ", max_size=4)),
}
KEYS = [
    ("id",), ("id", "tag"), ("tag",), ("price", "truth"), ("day", "id"), ("small",), ("whole",), ("naive",), ("aware",)
]  # fmt: skip


@pytest.fixture
def warehouse(redshift: RedshiftHook, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A table of the types that both databases have."""
    monkeypatch.setitem(test_warehouse.KEYS, "redshift", (TYPES, KEYS))
    return Warehouse(redshift, "redshift")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=15
)
@given(data=st.data())
def test_the_database_finds_what_the_worker_finds(warehouse: Warehouse, data: st.DataObject) -> None:
    """Whatever the values, pairs of the database and of memory make the same plan, and then none."""
    agree(warehouse, data)


def test_it_compares_only_if_it_is_asked_to(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """No real cluster has run it yet: the log says so, and how to ask."""
    compares_only_if_asked(warehouse, caplog)


@pytest.mark.parametrize(
    ("key", "expected"),
    [("12.50", "[12.5]"), ("-0.50", "[-0.5]"), ("100.00", "[100]"), ("0.00", "[0]"), ("0.12345", "[0.12345]")],
)
def test_a_decimal_is_named_as_the_worker_names_it(redshift: RedshiftHook, key: str, expected: str) -> None:
    """Whole ones without a fraction, others with the digits that a double has."""
    assert key_text([Decimal(key)]) == expected
    query = f"SELECT '[' || {decimal()} || ']' FROM (SELECT CAST('{key}' AS NUMERIC(20,5)) AS c0) AS m"
    assert execute(redshift, query) == [(expected,)]


def decimal() -> str:
    """Return the expression of a decimal's part of a key."""
    comparing = Redshift()
    comparing.types = ["numeric"]
    return comparing.key_part(0, "price")


@pytest.mark.parametrize("key", ["0.000001", "1234567890123456.5"])
def test_a_decimal_that_may_be_written_otherwise_has_no_name(redshift: RedshiftHook, key: str) -> None:
    """The worker notices, and the run ends before anything is sent."""
    query = f"SELECT {decimal()} FROM (SELECT CAST('{key}' AS NUMERIC(30,6)) AS c0) AS m"
    assert execute(redshift, query) == [(None,)]


@pytest.mark.parametrize(("oid", "kind"), [(1266, "timetz"), (6551, "varbyte"), (3000, "number 3000")])
def test_what_cannot_be_digested_is_compared_by_the_worker(oid: int, kind: str) -> None:
    """The log names the column and its type."""
    comparing = described(oid)
    with pytest.raises(NotInSql, match=f"column it of type {kind} cannot be compared in SQL"):
        comparing.family(0, "it")


@pytest.mark.parametrize("oid", [700, 701, 1042, 1083])
def test_what_sql_writes_as_it_likes_is_no_key(oid: int) -> None:
    """Doubles, padded text and times of day."""
    with pytest.raises(NotInSql, match="cannot be part of a key in SQL"):
        described(oid).key_part(0, "it")


class Described:
    """A cursor that has run the model without a row."""

    def __init__(self, oid: int, collation: str) -> None:
        self.description = [("it", oid, None, None, None, None, None)]
        self._collation = collation

    def execute(self, statement: str) -> None:
        """Execute."""
        parsed(statement)

    def fetchall(self) -> Sequence[Sequence[str]]:
        """Return the collation, which is all that is asked."""
        return ([self._collation],)


def described(oid: int, collation: str = "case_sensitive") -> Redshift:
    """Return what compares a model of one column."""
    comparing = Redshift()
    comparing.describe(Described(oid, collation))
    return comparing


def test_super_and_databases_without_case_are_compared_by_the_worker() -> None:
    """A full join cannot have the one; in the other two keys may be equal that are not."""
    with pytest.raises(NotInSql, match="super cannot be in a full join"):
        described(4000)
    with pytest.raises(NotInSql, match="the database is case_insensitive"):
        described(20, "case_insensitive")


@pytest.mark.parametrize("text", [*WRITTEN, "%", "\\%", "a\\'b%c"])
def test_a_literal_holds_nothing_that_the_driver_or_the_database_may_take_for_something_else(
    redshift: RedshiftHook, text: str
) -> None:
    """Whether a backslash escapes is a matter of the version; the driver doubles percent signs here and not there."""
    literal = Redshift().quote(text)
    assert not set("\\%") & set(literal)
    assert execute(redshift, f"SELECT {literal}") == [(text,)]


def test_of_many_who_try_at_once_one_gets_it(redshift: RedshiftHook) -> None:
    """Nothing checks keys, and a transaction sees an old snapshot: who takes a lease locks its table first."""
    keep(Tables(redshift), fresh())
    contend(Tables(redshift))
    leases = "SELECT count(*), count(DISTINCT sync_id) FROM iterable_sync_lease"
    ((every, several),) = execute(redshift, leases)
    assert every == several


def test_a_lease_lasts_a_second_longer_than_it_says(redshift: RedshiftHook) -> None:
    """The clock has no fractions of a second: what seems to have run out may have some left."""
    sync_id, tables = fresh(), Tables(redshift)
    keep(tables, sync_id)
    now = DIALECTS["redshift"].now
    insert = "INSERT INTO iterable_sync_lease (sync_id, holder, instance, attempt, label, expires_at) "
    for ago, taken in ((0, False), (100_000, True)):
        execute(redshift, insert + f"SELECT '{sync_id}', 'x', '', 1, 'somebody', {now} + 500 - {ago}")
        execute(redshift, f"UPDATE iterable_sync_lease SET expires_at = {now} - {ago} WHERE sync_id = '{sync_id}'")
        statement = DIALECTS["redshift"].takes[0]
        bound = statement.replace("{lease}", "iterable_sync_lease").replace("{now}", now)
        for name, value in (("sync_id", f"'{sync_id}'"), ("attempt", "1"), ("lasts", "1000")):
            bound = bound.replace(f":{name}", value)
        bound = re.sub(r":\w+", "'me'", bound)
        execute(redshift, bound)
        found = execute(redshift, f"SELECT holder FROM iterable_sync_lease WHERE sync_id = '{sync_id}'")
        assert [("me" if taken else "x",)] == found
        execute(redshift, f"DELETE FROM iterable_sync_lease WHERE sync_id = '{sync_id}'")


def test_leases_are_by_the_clock_of_utc(redshift: RedshiftHook) -> None:
    """Whatever time zone the user of a connection has: another run's may have another one."""
    sync_id = fresh()
    with closing(Tables(redshift).open(sync_id)):
        query = f"SELECT expires_at FROM iterable_sync_lease WHERE sync_id = '{sync_id}'"
        ((expires,),) = execute(redshift, query)
    assert abs(expires / 1000 - datetime.now(UTC).timestamp()) < 3600


def test_lengths_are_in_bytes(redshift: RedshiftHook) -> None:
    """A key of 500 characters may take 2000 bytes; and text of any length is no TEXT, which has 256 there."""
    keep(Tables(redshift), fresh())
    made = [statement for statement in SENT if statement.startswith("CREATE TABLE")]
    assert any("record_key VARCHAR(2000) NOT NULL" in statement for statement in made)
    assert all("VARCHAR(65535)" in statement for statement in made if "sync_version" not in statement)
    assert not any("TEXT" in statement for statement in made)


def test_a_patch_is_several_statements_none_of_which_is_too_long(redshift: RedshiftHook) -> None:
    """However uneven its entries: a parameter has 65,535 bytes at most, which the cursor checks."""
    patch = {f'["{"名" * (400 * (number > 900))}{number}"]': entry(number) for number in range(1000)}
    tables, sync_id = Tables(redshift), fresh()
    keep(tables, sync_id, dict(patch))
    assert kept(tables, sync_id) == patch
    keep(tables, sync_id, {key: entry(7) for key in patch})
    assert execute(redshift, f"SELECT count(*) FROM iterable_sync_state WHERE sync_id = '{sync_id}'") == [(1000,)]
    keep(tables, sync_id, dict.fromkeys(patch))
    assert kept(tables, sync_id) == {}


def test_a_parser_understands_all_that_a_run_sends(warehouse: Warehouse) -> None:
    """State, lease, header, ledger, audit, erasure and comparison: each statement is of the kind that it looks like."""
    hook = warehouse.hook
    table(warehouse, (1, "a@x.io", "x"), (2, "b@x.io", "y"), (3, "c@x.io", "z"))
    SENT.clear()
    sync_id = fresh()
    deliver(warehouse, sync_id)
    deliver(warehouse, sync_id, resync="full")
    with warehouse.opened(sync_id) as (session, model), model:
        session.note("list_id", "7")
        session.void("resync", "run")
        session.others()
    book = Book(Tables(hook))
    book.run(accepted(1, 2), refused(2), calls=[call(1)])
    with closing(Ledger(hook, None, "project", "forget", 3, lambda: 1e9)) as ledger:
        ledger.admit()
        ledger.attempts()
    for unforgets in (False, True):
        scope = Scope(fresh(), {**HERE, "type": "privacy"}, MAPPING)
        with closing(ErasingSession(scope, hook, unforgets=unforgets)) as erasing:
            erasing.commit({"[1]": entry(1, "a@x.io")})
    kinds = {type(parsed(statement)): statement for statement in SENT}
    assert {exp.Create, exp.Insert, exp.Update, exp.Delete, exp.Select, exp.Commit, exp.Set, exp.Command} == set(kinds)
    looks = {"SELECT": exp.Select, "WITH": exp.Select, "INSERT": exp.Insert, "DELETE": exp.Delete, "UPDATE": exp.Update}
    for statement in SENT:
        word = statement.split()[0]
        assert type(parsed(statement)) is looks.get(word, type(parsed(statement))), statement
    told = " ".join(SENT)
    for name in ("state", "header", "lease", "runs", "changelog", "snapshot", "ledger"):
        assert f"INSERT INTO iterable_sync_{name} " in told, name
        assert f"DELETE FROM iterable_sync_{name} " in told or name == "changelog", name
    for word in ("ON CONFLICT", "IS DISTINCT", "MERGE", "now()", "json_array_elements", "CREATE INDEX"):
        assert word not in told
    for piece in ("FULL JOIN", "HAVING", "r.k IN ("):
        assert piece in " ".join((*SENT, *map(str, others(warehouse)))), piece


def others(warehouse: Warehouse) -> list[str]:
    """Return the statements of a comparison that a run sends only for duplicate keys and for shared identities."""
    with warehouse.model() as model:
        comparing = Redshift()
        model.describe(comparing.describe)
        recipe = Recipe((0,), tuple(range(len(model.columns))), "text")
        comparison = Comparison.of(model, comparing, recipe, "iterable_sync_state", "it's 100% \\")
        every = (comparison.news(), comparison.first(), comparison.duplicates(), comparison.some(["[1]", '["\\\\%"]']))
    for statement in every:
        assert isinstance(parsed(statement.sql), exp.Select)
        execute(warehouse.hook, statement.sql)
    return [statement.sql for statement in every]


class TrinoHook(DbApiHook):
    conn_name_attr = "trino_conn_id"
    conn_type = "trino"
    placeholder = "?"


def test_trino_keeps_no_state() -> None:
    """It is refused before anything is asked, with the reason and what to do."""
    scope = Scope(fresh(), HERE, MAPPING, hook=lambda conn_id: TrinoHook("trino"))
    with pytest.raises(ConfigurationError, match=r"Trino cannot keep the state: .* Name another connection"):
        TableState().open(scope)
