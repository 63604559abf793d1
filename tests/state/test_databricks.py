"""Databricks, of which there is none here: every statement goes through a parser for it, and DuckDB runs what it read.

DuckDB's transactions are like those there: they see one snapshot, lock nothing, and fail where two change one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from airflow.providers.common.sql.hooks.sql import DbApiHook
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from airflow_provider_iterable.engine.vocabulary import Recipe
from airflow_provider_iterable.errors import StateUnavailable
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables.comparison import Comparison
from airflow_provider_iterable.state.tables.dialects import NotInSql
from airflow_provider_iterable.state.tables.dialects.databricks import DATABRICKS, Databricks
from airflow_provider_iterable.state.tables.erasure import ErasingSession
from airflow_provider_iterable.state.tables.ledger import Ledger
from airflow_provider_iterable.state.tables.session import TableSession
from tests.state import test_warehouse
from tests.state.contract import HERE, MAPPING, NASTY, StoreContract, entry, fresh, keep, kept, key_of
from tests.state.test_audit import Book, accepted, call, refused
from tests.state.test_lease import contend
from tests.state.test_table import Tables, execute
from tests.state.test_warehouse import (
    NAIVE,
    TEXTS,
    Types,
    Warehouse,
    agree,
    bare,
    compares_only_if_asked,
    deliver,
    table,
)

SHAPES = {"'ARRAY<ARRAY<STRING>>'": "'[[\"VARCHAR\"]]'", "'ARRAY<STRING>'": "'[\"VARCHAR\"]'"}
NAMES = {"INTEGER": "int", "VARCHAR": "string", "TIMESTAMP WITH TIME ZONE": "timestamp", "BLOB": "binary"}
SENT: list[str] = []
"""What was sent, the statements of the tests themselves included."""

pytestmark = pytest.mark.slow


@lru_cache(None)
def parsed(statement: str) -> Any:
    """Return what a parser for Databricks makes of a statement, of which it has to understand every word."""
    found = sqlglot.parse_one(statement, read="databricks", error_level=sqlglot.ErrorLevel.RAISE)
    assert not list(found.find_all(exp.Command)), statement
    return found


@lru_cache(None)
def rewritten(statement: str) -> str:
    """Return a statement as DuckDB takes it: without keys that are checked, for there they are not."""
    found = parsed(statement).copy()
    if isinstance(found, exp.Create):
        found.set("properties", None)
        for key in (*found.find_all(exp.PrimaryKey), *found.find_all(exp.PrimaryKeyColumnConstraint)):
            (key.parent if isinstance(key.parent, exp.ColumnConstraint) else key).pop()
    text: str = found.sql("duckdb").replace("TYPEOF(", "databricks_typeof(")
    for theirs, ours in SHAPES.items():
        text = text.replace(theirs, ours)
    return text


class Cursor:
    """A cursor that refuses what is refused there: inline parameters, and tables made in a transaction."""

    def __init__(self, connection: Connection, counts: bool) -> None:
        self._connection, self._counts = connection, counts
        self.rowcount, self._rows, self._of = -1, list[Any](), ""

    def execute(self, statement: str, *parameters: Any) -> None:
        """Execute."""
        assert "%s" not in statement
        SENT.append(statement)
        found, duck = parsed(statement), self._connection.duck
        if isinstance(found, exp.Create) and self._connection.transacting:
            raise RuntimeError("TRANSACTION_NOT_SUPPORTED.COMMAND")
        if isinstance(found, exp.Transaction | exp.Commit):
            self._connection.transacting = isinstance(found, exp.Transaction)
        if self._connection.plain and isinstance(found, exp.Transaction):
            raise RuntimeError("a cluster that has no transactions")
        self._of, self.rowcount = type(found).__name__, -1
        duck.execute(rewritten(statement), *map(list, parameters))
        if isinstance(found, exp.DML | exp.Merge) and not isinstance(found, exp.Select):
            ((count,),) = duck.fetchall()
            self._rows = [(count, 0)] if self._of in ("Insert", "Merge") else [(count,)]
            if self._counts:
                self.rowcount = count
        else:
            self._rows = []

    @property
    def description(self) -> Any:
        """Return the columns as the driver describes them."""
        return [described(column[0], str(column[1])) for column in self._connection.duck.description or ()]

    def fetchmany(self, size: int) -> Any:
        """Return some rows."""
        return self._connection.duck.fetchmany(size)

    def fetchall(self) -> Any:
        """Return the rest of the rows, or what a change says of itself."""
        return self._rows or self._connection.duck.fetchall()

    def close(self) -> None:
        """Close nothing."""


class Connection:
    """A session; a transaction in it ends with it."""

    def __init__(self, path: Path, counts: bool, plain: bool) -> None:
        import duckdb

        self.duck = duckdb.connect(path)
        self.duck.execute("SET TimeZone = 'Asia/Kolkata'")
        self.duck.execute(
            "CREATE TEMP MACRO databricks_typeof(x) AS "
            "CASE typeof(x) WHEN 'TIMESTAMP' THEN 'timestamp_ntz' ELSE lower(typeof(x)) END"
        )
        self.transacting, self._counts, self.plain = False, counts, plain

    def cursor(self) -> Cursor:
        """Open a cursor."""
        return Cursor(self, self._counts)

    def commit(self) -> None:
        """Do nothing, as the driver does unless it is told otherwise."""

    def rollback(self) -> None:
        """Fail, as the driver does then."""
        raise NotImplementedError

    def close(self) -> None:
        """End the session."""
        self.duck.close()


class DatabricksHook(DbApiHook):
    """As much of Airflow's hook as the state asks; it keeps its connection, open or not."""

    conn_name_attr = "databricks_conn_id"
    conn_type = "databricks"
    placeholder = "%s"
    path = Path()
    counts = True
    plain = False
    keeps = True
    kept: Any = None

    def get_conn(self) -> Any:
        """Connect to the warehouse that is none."""
        opened = self.kept or Connection(self.path, self.counts, self.plain)
        self.kept = opened if self.keeps else None
        return opened


def described(name: str, kind: str) -> tuple[Any, ...]:
    """Return a column as the driver describes it."""
    sizes = kind.removeprefix("DECIMAL(").rstrip(")").split(",") if kind.startswith("DECIMAL") else ()
    plain = "decimal" if sizes else NAMES.get(kind, "array" if kind.endswith("]") else kind.lower())
    return (name, plain, None, None, *(map(int, sizes) if sizes else (None, None)), None)


def lake(path: Path, **options: Any) -> DatabricksHook:
    """Return a hook of a warehouse in a file."""
    made = type("Lake", (DatabricksHook,), {"path": path / "lake.duckdb", **options})
    hook: DatabricksHook = made("state")
    return hook


@pytest.fixture(params=[True, False], ids=["counting", "earlier"])
def databricks(tmp_path: Path, request: pytest.FixtureRequest) -> DatabricksHook:
    """A warehouse with nothing in it, by a driver that counts changed rows and by an earlier one."""
    SENT.clear()
    return lake(tmp_path, counts=request.param)


class TestDatabricks(StoreContract):
    # The law below draws what is remembered, too, and writes of every length are tested there.
    test_pairs_as_memory_does = None  # type: ignore[assignment]

    @pytest.fixture
    def place(self, tmp_path: Path) -> Tables:
        """Return tables in a schema."""
        return Tables(lake(tmp_path), "iterable_sync")


TYPES: Types = {
    "id": ("BIGINT", st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4)),
    "tag": ("STRING", TEXTS | st.sampled_from([text for text in NASTY if "\0" not in text])),
    "email": ("STRING", st.sampled_from(["a@x.io", "b@x.io", "c@x.io", " C@x.io", "nonsense"])),
    "small": ("SMALLINT", st.integers(-3, 3)),
    "truth": ("BOOLEAN", st.booleans()),
    "double": ("DOUBLE", st.floats(width=64) | st.sampled_from([0.0, -0.0, 0.1])),
    "single": ("FLOAT", st.floats(width=32)),
    "price": ("DECIMAL(12,2)", st.decimals(-99, 99, places=2)),
    "whole": ("DECIMAL(38,0)", st.integers(-(10**37), 10**37)),
    "day": ("DATE", st.dates(date(1, 1, 2))),
    "naive": ("TIMESTAMP_NTZ", NAIVE),
    "aware": ("TIMESTAMP", NAIVE.map(lambda moment: moment.replace(tzinfo=UTC))),
    "bytes": ("BINARY", st.binary(max_size=4)),
}
KEYS = [("id",), ("id", "tag"), ("tag",), ("price", "truth"), ("day", "id"), ("small",), ("whole",)]


class Lake(Warehouse):
    """A table of every type."""

    def quoted(self, name: str) -> str:
        """Quote a name."""
        return f"`{name}`"

    def fill(self, rows: Sequence[Sequence[Any]]) -> None:
        """Let the table have these rows."""
        marks = ", ".join(f"CAST(? AS {kind})" for kind, _ in self.types.values())
        with closing(Connection(self.hook.path, True, False)) as connection:
            cursor = connection.cursor()
            cursor.execute(f"DELETE FROM {self.table}")
            for row in rows:
                cursor.execute(f"INSERT INTO {self.table} VALUES ({marks})", tuple(map(bare, row)))


@pytest.fixture
def warehouse(databricks: DatabricksHook, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A table of the types that both databases have."""
    monkeypatch.setitem(test_warehouse.KEYS, "databricks", (TYPES, KEYS))
    made = Lake(databricks, "databricks")
    databricks.kept = None  # as if nobody had asked yet
    return made


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=10
)
@given(data=st.data())
def test_the_database_finds_what_the_worker_finds(warehouse: Warehouse, data: st.DataObject) -> None:
    """Whatever the values, pairs of the database and of memory make the same plan, and then none."""
    agree(warehouse, data)


def test_it_compares_only_if_it_is_asked_to(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """No real warehouse has run it yet: the log says so, and how to ask."""
    compares_only_if_asked(warehouse, caplog)


@pytest.mark.parametrize("kind", ["array", "map", "struct", "variant", "interval_day_time"])
def test_what_cannot_be_digested_is_compared_by_the_worker(kind: str) -> None:
    """The log names the column and its type."""
    with pytest.raises(NotInSql, match=f"column it of type {kind} cannot be compared in SQL"):
        comparing(kind).family(0, "it")


@pytest.mark.parametrize("kind", ["float", "double", "timestamp", "binary"])
def test_what_sql_writes_as_it_likes_is_no_key(kind: str) -> None:
    """Nor is a date-time, for the driver does not tell whether it has a zone."""
    with pytest.raises(NotInSql, match="cannot be part of a key in SQL"):
        comparing(kind).key_part(0, "it")


def comparing(kind: str) -> Databricks:
    """Return what compares a model of one column."""
    found = Databricks()
    found.types, found._sizes = [kind], [(0, 0)]
    return found


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP_NTZ"])
def test_a_microsecond_is_news(databricks: DatabricksHook, kind: str) -> None:
    """In a date-time with a zone, and in one without."""
    found = comparing("timestamp").fingerprint("digest", [0])
    moments = " UNION ALL ".join(f"SELECT CAST('2024-01-01 00:00:00.00000{n}' AS {kind}) AS c0" for n in (1, 2, 2))
    assert execute(databricks, f"SELECT COUNT(DISTINCT {found}) FROM ({moments}) AS m") == [(2,)]


@pytest.mark.parametrize("text", ["it's", 'a"b', "a\\b", "\\'", "100%", "\\u0025", "%% ?", "名"])
def test_a_literal_means_its_text(databricks: DatabricksHook, text: str) -> None:
    """Backslashes are special there; a percent sign stays out of it, as the driver doubles it here and not there."""
    literal = Databricks().quote(text)
    assert "%" not in literal
    unicode = literal.replace("\\\\u0025", "\\\\\0").replace("\\u0025", "%").replace("\\\\\0", "\\\\u0025")
    assert execute(databricks, f"SELECT {unicode}") == [(text,)], "all but the escape, which the parser leaves alone"


def test_of_many_who_try_at_once_one_gets_it(tmp_path: Path) -> None:
    """Nothing checks keys, and rows that are added never meet: who takes a lease changes a row that is always there."""
    hook = lake(tmp_path, keeps=False)
    contend(Tables(hook))
    # The row that is always there may be there several times, if several runs were the first ones: they change all of
    # those that they see, and who comes later sees those of who came before.
    leases = "SELECT count(*), count(DISTINCT sync_id) FROM iterable_sync_lease WHERE sync_id <> ''"
    assert execute(hook, leases) == [(12, 12)]


def test_tables_are_made_outside_of_transactions_and_all_else_within(databricks: DatabricksHook) -> None:
    """Nothing is written but between BEGIN TRANSACTION and COMMIT, however many tables it is in."""
    tables, sync_id = Tables(databricks), fresh()
    keep(tables, sync_id, {"[1]": entry(1)}, {"[1]": None})
    within, seen = False, set[str]()
    begun, looked, *rest = SENT
    assert (begun, looked[:20]) == ("BEGIN TRANSACTION", "SELECT part, version"), "which finds no table, and ends there"
    for statement in rest:
        word = statement.split()[0]
        if word in ("BEGIN", "COMMIT"):
            assert within is (word == "COMMIT"), "each of them in turn"
            within = word == "BEGIN"
        elif word == "CREATE":
            assert not within
            assert "TBLPROPERTIES ('delta.feature.catalogManaged' = 'supported')" in statement
        elif word != "SELECT":
            assert within, statement
        seen.add(word)
    assert {"BEGIN", "COMMIT", "CREATE", "SELECT", "INSERT", "UPDATE", "MERGE", "DELETE"} == seen


def test_where_there_are_no_transactions_no_state_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, rather than one table and not the other."""
    scope = Scope(fresh(), HERE, MAPPING)
    SENT.clear()
    with pytest.raises(StateUnavailable, match=r"could not be opened for 0 s \(RuntimeError\)"):
        TableSession(scope, lake(tmp_path, plain=True), patience=0.0)
    assert {statement.split()[0] for statement in SENT} == {"CREATE", "BEGIN"}


def test_a_patch_is_several_statements_none_of_which_is_long(databricks: DatabricksHook) -> None:
    """A large patch is one transaction all the same."""
    patch = {key_of("k" * 400, number): entry(number) for number in range(1500)}
    tables, sync_id = Tables(databricks), fresh()
    keep(tables, sync_id, dict(patch))
    assert kept(tables, sync_id) == patch
    SENT.clear()
    keep(tables, sync_id, dict.fromkeys(patch))
    assert kept(tables, sync_id) == {}
    assert [statement[:6] for statement in SENT].count("DELETE") >= 3
    assert DATABRICKS.most == 250_000


def test_batches_are_committed_together(databricks: DatabricksHook) -> None:
    """A transaction takes long there."""
    session = Tables(databricks).open(fresh())
    assert isinstance(session, TableSession)
    assert session.commit_batches == 10
    session.close()


LOOKS = {
    "SELECT": exp.Select,
    "WITH": exp.Select,
    "CREATE": exp.Create,
    "MERGE": exp.Merge,
    "INSERT": exp.Insert,
    "UPDATE": exp.Update,
    "DELETE": exp.Delete,
    "BEGIN": exp.Transaction,
    "COMMIT": exp.Commit,
}


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
    Book(Tables(hook)).run(accepted(1, 2), refused(2), calls=[call(1)])
    with closing(Ledger(hook, None, "project", "forget", 3, lambda: 1e9)) as ledger:
        ledger.admit()
        ledger.attempts()
    for unforgets in (False, True):
        scope = Scope(fresh(), {**HERE, "type": "privacy"}, MAPPING)
        with closing(ErasingSession(scope, hook, unforgets=unforgets)) as erasing:
            erasing.commit({"[1]": entry(1, "a@x.io")})
    SENT.extend(others(warehouse))
    for statement in SENT:
        assert type(parsed(statement)) is LOOKS[statement.split()[0]], statement
    assert set(LOOKS.values()) == {type(parsed(statement)) for statement in SENT}
    told = " ".join(SENT)
    for name in ("state", "header", "lease", "runs", "snapshot", "ledger"):
        assert f"MERGE INTO iterable_sync_{name} " in told, name
    for word in ("ON CONFLICT", "IS DISTINCT", "DOUBLE PRECISION", "CREATE INDEX", " TEXT", '"'):
        assert word not in told.replace("'\"'", "").replace('[\\x00-\\x1f"', ""), word


def others(warehouse: Warehouse) -> Iterator[str]:
    """Return the statements of a comparison that a run sends only for duplicate keys and for shared identities."""
    with warehouse.model() as model:
        comparing = Databricks()
        model.describe(comparing.describe)
        recipe = Recipe((0,), tuple(range(len(model.columns))), "text")
        comparison = Comparison.of(model, comparing, recipe, "iterable_sync_state", "it's 100% \\")
        for statement in (comparison.news(), comparison.first(), comparison.duplicates(), comparison.some(["[1]"])):
            yield statement.sql
