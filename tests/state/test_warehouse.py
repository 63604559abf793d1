from __future__ import annotations

import json
import math
import sqlite3
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_iterable.engine.compare import GoesAgain
from airflow_provider_iterable.engine.plan import Plan, Planner
from airflow_provider_iterable.engine.protocols import State
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.report import NOTHING_REMEMBERED, Report
from airflow_provider_iterable.engine.run import Options, make_plan, run
from airflow_provider_iterable.engine.vocabulary import Batch, Present, Reply
from airflow_provider_iterable.errors import ConfigurationError, ModelError
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.memory import MemoryState
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.scope import MAPPING_CHANGED, Scope
from airflow_provider_iterable.state.tables.dialects import DIALECTS, sqlite
from airflow_provider_iterable.state.tables.warehouse import BY_THE_DATABASE, BY_THE_WORKER, Compare, WarehouseSession
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.fakes import a_spool, close_spools
from tests.state.contract import HERE, MAPPING, NASTY, fresh
from tests.state.test_table import (
    MYSQL_DRIVERS,
    duckdb_hook,
    execute,
    mysql_tables,
    needs_duckdb,
    postgres_hook,
    sqlite_hook,
)

Types = Mapping[str, tuple[str, st.SearchStrategy[Any]]]

SQLITE_FINGERPRINTS = [
    ((), "d34416a0816c7a7b9a327bf2cd4bb5dc27"),
    ((1, "x", None), "d3c31a6f51017fb9e400cd464db6974820"),
    (
        (2**63 - 1, -(2**63), 0.1, float("inf"), -0.0, b"\x00\xff", "é\u2028", None, ""),
        "d30d5ec2888beb7e777034aa0f0f8b450c",
    ),
]
"""Values, and what the version that first compared in SQLite made of them."""
TEXTS = st.sampled_from([text for text in NASTY if "\x00" not in text]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8
)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([1.5, -0.25]) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps(value, ensure_ascii=False))
NAIVE = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)) | st.sampled_from(
    [datetime(2024, 2, 29, 13, 37, 19), datetime(987, 1, 2, 3, 4, 5, 6)]
)
AWARE = NAIVE.map(lambda value: value.replace(tzinfo=UTC))
DECIMALS = (
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6)
    | (
        st.builds(
            lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(10**16), 10**16), st.integers(0, 24)
        )
    )
    | (st.sampled_from([Decimal(text) for text in ("7", "7.00", "1E+3", "12345678901234567890", "0.000001")]))
)
FLOATS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 7.25, 1e-7, 1e21, 0.1])

POSTGRES: Types = {
    "id": ("bigint", st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4)),
    "tag": ("text", TEXTS),
    "email": ("text", st.sampled_from(["a@x.io", "b@x.io", "c@x.io", " C@x.io", "nonsense"])),
    "small": ("smallint", st.integers(-3, 3)),
    "truth": ("boolean", st.booleans()),
    "double": ("double precision", FLOATS),
    "single": ("real", st.floats(width=32)),
    "amount": ("numeric", DECIMALS),
    "price": ("numeric(12,2)", st.decimals(-99, 99, places=2)),
    "day": ("date", st.dates(date(1, 1, 2))),
    "naive": ("timestamp", NAIVE),
    "aware": ("timestamptz", AWARE),
    "clock": ("time", st.times()),
    "uid": ("uuid", st.uuids()),
    "doc": ("json", JSONS),
    "docb": ("jsonb", JSONS.filter(lambda text: "\\u0000" not in text)),
    "numbers": ("bigint[]", st.lists(st.integers(-3, 3), max_size=3)),
    "words": ("text[]", st.lists(TEXTS | st.none(), max_size=3)),
    "short": ("varchar(40)", TEXTS),
    "padded": ("char(12)", st.text("ab ", max_size=4)),
}
DUCKDB: Types = {
    "id": ("BIGINT", POSTGRES["id"][1]),
    "tag": ("VARCHAR", TEXTS | st.sampled_from(NASTY)),
    "email": POSTGRES["email"],
    "small": ("SMALLINT", st.integers(-3, 3)),
    "huge": ("HUGEINT", st.integers(-(2**100), 2**100)),
    "truth": ("BOOLEAN", st.booleans()),
    "double": ("DOUBLE", FLOATS),
    "single": ("FLOAT", st.floats(width=32)),
    "price": ("DECIMAL(12,2)", st.decimals(-99, 99, places=2)),
    "amount": ("DECIMAL(30,8)", st.decimals(-99, 99, places=8)),
    "day": ("DATE", st.dates(date(1, 1, 2))),
    "naive": ("TIMESTAMP", NAIVE),
    "aware": ("TIMESTAMPTZ", AWARE),
    "clock": ("TIME", st.times()),
    "uid": ("UUID", st.uuids()),
    "doc": ("JSON", JSONS),
    "numbers": ("BIGINT[]", st.lists(st.integers(-3, 3), max_size=3)),
    "name": ("VARCHAR", TEXTS),
    "words": ("VARCHAR[]", st.lists(TEXTS | st.none(), max_size=3)),
}
if find_spec("pytz") is None:
    # DuckDB's driver returns no aware date-time without it.
    DUCKDB = {name: column for name, column in DUCKDB.items() if name != "aware"}
SQLITE: Types = {
    "id": ("", st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4)),
    "tag": ("", TEXTS | st.sampled_from(NASTY)),
    "email": POSTGRES["email"],
    "value": ("", st.one_of(st.integers(-3, 3), FLOATS, TEXTS, st.binary(max_size=3))),
    "other": ("", st.one_of(st.integers(-3, 3), FLOATS, TEXTS)),
}
MYSQL: Types = {
    "id": ("bigint", POSTGRES["id"][1]),
    "tag": ("text", TEXTS | st.sampled_from(NASTY)),
    "email": ("varchar(50)", POSTGRES["email"][1]),
    "small": ("smallint", st.integers(-3, 3)),
    "tiny": ("tinyint unsigned", st.integers(0, 255)),
    "huge": ("bigint unsigned", st.integers(0, 2**64 - 1)),
    "truth": ("boolean", st.booleans()),
    "bits": ("bit(12)", st.integers(0, 4095)),
    "double": ("double", st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-7, 1e21])),
    "single": ("float", st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "amount": ("decimal(38,10)", st.decimals(-(10**9), 10**9, places=10)),
    "price": ("decimal(12,2)", st.decimals(-99, 99, places=2)),
    "whole": ("decimal(40,0)", st.integers(-(10**39), 10**39).map(Decimal)),
    "day": ("date", st.dates(date(1, 1, 2))),
    "naive": ("datetime(6)", NAIVE),
    "second": (
        "datetime",
        st.datetimes(datetime(2000, 1, 2), datetime(2030, 1, 1)).map(lambda d: d.replace(microsecond=0)),
    ),
    "moment": ("timestamp(6) NULL", st.datetimes(datetime(1970, 1, 3), datetime(2038, 1, 1))),
    "clock": ("time(6)", st.times()),
    "born": ("year", st.integers(1902, 2154)),
    "doc": ("json", JSONS),
    "kind": ("enum('a', 'B', 'o''clock')", st.sampled_from(["a", "B", "o'clock"])),
    "short": ("varchar(40) COLLATE utf8mb4_general_ci", TEXTS),
    "padded": ("char(12)", st.text("ab ", max_size=4)),
    "latin": (
        "varchar(20) CHARACTER SET latin1",
        st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=5),
    ),
}
KEYS: Mapping[str, tuple[Types, Sequence[tuple[str, ...]]]] = {
    "postgres": (
        POSTGRES,
        [
            ("id",), ("id", "tag"), ("tag",), ("uid",), ("amount",), ("price", "truth"), ("aware",), ("naive", "day"),
            ("short",), ("padded",), ("small",),
        ],
    ),
    "duckdb": (
        DUCKDB,
        [
            ("id",), ("id", "tag"), ("tag",), ("uid",), ("huge",), ("price", "truth"), ("naive", "day"), ("small",),
            *([("aware",)] if "aware" in DUCKDB else []),
        ],
    ),
    "sqlite": (SQLITE, [("id",), ("id", "tag"), ("tag",), ("value",), ("other", "id")]),
    "mysql": (
        MYSQL,
        [
            ("id",), ("id", "tag"), ("tag",), ("huge",), ("price", "truth"), ("naive", "day"), ("moment",), ("second",),
            ("short",), ("padded",), ("small",), ("whole",), ("kind",), ("latin",),
        ],
    ),
}  # fmt: skip


@dataclass
class Warehouse:
    """A database with a table of every type, whose rows a test replaces."""

    hook: DbApiHook
    kind: str
    schema: str | None = None

    def __post_init__(self) -> None:
        self.types, self.keys = KEYS[self.kind]
        self.table = f"{self.schema}.every_type" if self.schema else "every_type"
        columns = ", ".join(f"{self.quoted(name)} {kind}" for name, (kind, _) in self.types.items())
        schema = [f"CREATE SCHEMA {self.schema}"] if self.schema else []
        execute(self.hook, *schema, f"CREATE TABLE {self.table} ({columns})")

    def quoted(self, name: str) -> str:
        """Quote a name, as some are words of SQL."""
        return f"`{name}`" if self.kind == "mysql" else f'"{name}"'

    def store(self, compare: Compare = "database") -> TableState:
        """Return state tables beside the model."""
        return TableState("state", self.schema, compare, untested_database=True)

    def fill(self, rows: Sequence[Sequence[Any]]) -> None:
        """Let the table have these rows."""
        connection = self.hook.get_conn()
        try:
            cursor = connection.cursor()
            cursor.execute(f"DELETE FROM {self.table}")
            p = self.hook.placeholder
            casting = self.kind not in ("sqlite", "mysql")
            casts = [f"CAST({p} AS {kind})" if casting else p for kind, _ in self.types.values()]
            for row in rows:
                cursor.execute(f"INSERT INTO {self.table} VALUES ({', '.join(casts)})", tuple(map(bare, row)))
            connection.commit()
        finally:
            connection.close()

    def model(self) -> Model:
        """The table as a model."""
        return Model(self.hook, f"SELECT * FROM {self.table} -- all of it\n;", chunk_size=2)

    @contextmanager
    def opened(
        self, sync_id: str, state: TableState | None = None, model: Model | None = None, **scope: Any
    ) -> Iterator[tuple[WarehouseSession, Model]]:
        """Open the state for a run."""
        model = model or self.model()
        whole = Scope(sync_id, HERE, MAPPING, model=model, hook=lambda conn_id: self.hook, **scope)
        session = (state or self.store()).open(whole)
        assert isinstance(session, WarehouseSession)
        with closing(session):
            yield session, model

    def rows(self) -> st.SearchStrategy[list[tuple[Any, ...]]]:
        """Draw rows."""
        columns = [values | st.none() for _, values in self.types.values()]
        return st.lists(st.tuples(*columns), max_size=5)


def bare(value: Any) -> Any:
    """Return a value as every driver takes it."""
    return str(value) if isinstance(value, uuid.UUID) else value


def users(columns: Sequence[str], key: tuple[str, ...]) -> Users:
    """Return a sync of all columns."""
    return Users(
        UserOptions(key, "email", "email", on_removed="delete", project_type="email"),
        Mapper(None, used=frozenset({"email"})),
        columns,
    )


def planned(sync: Users, model: Model, state: State, again: str | None = None) -> Plan:
    """Return the plan of a run.

    :param again: a field: unchanged rows that carry it go again
    """
    carries: GoesAgain | None = None
    if again is not None:
        sync.expect([again])
        names = frozenset([again])
        carries = lambda body: bool(sync.carried(body, names))  # noqa: E731
    return make_plan(Planner(sync, a_spool(), a_spool(), carries), model.chunks, state)


def said(plan: Plan) -> set[tuple[Any, ...]]:
    """Return what a plan does, without the fingerprints."""
    found = set()
    for operation in plan.operations():
        ref = None if operation.remember is None else operation.remember.ref
        call = None if operation.call is None else operation.call.template
        found.add((operation.key, operation.kind, call, operation.body, operation.handles, ref))
    return found


def told(plan: Plan) -> tuple[Any, ...]:
    """Return what a plan tells of rows that it does nothing about, and its counts."""
    invalid = Counter((outcome.key, outcome.reason, outcome.detail) for outcome in plan.invalid)
    return plan.read, plan.counts[Kind.ADDED], plan.counts[Kind.REMOVED], invalid, plan.duplicates


def remember(plan: Plan, state: Any) -> None:
    """Let everything be accepted."""
    for patch in plan.patch():
        state.commit(patch)


@pytest.fixture(
    params=[
        "postgres",
        "psycopg2",
        "sqlite",
        pytest.param("duckdb", marks=[needs_duckdb, pytest.mark.slow]),
        *MYSQL_DRIVERS,
    ]
)
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    """Give each of the databases."""
    if request.param in ("postgres", "psycopg2"):
        schema = f"iterable_{uuid.uuid4().hex[:12]}"
        hook = postgres_hook(monkeypatch, request.param)
        yield Warehouse(hook, "postgres", schema)
        execute(hook, "SET lock_timeout = '5s'", f"DROP SCHEMA {schema} CASCADE")
    elif request.param in MYSQL_DRIVERS:
        with mysql_tables(monkeypatch, request.param) as tables:
            yield Warehouse(tables.hook, "mysql")
    else:
        give = sqlite_hook if request.param == "sqlite" else duckdb_hook
        yield Warehouse(give(tmp_path, monkeypatch), request.param)
    close_spools()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=10,
    report_multiple_bugs=False,
)
@given(data=st.data())
def test_the_database_finds_what_the_worker_finds(warehouse: Warehouse, data: st.DataObject) -> None:
    """Whatever the types and values, pairs of the database and of memory make the same plan, and then none."""
    agree(warehouse, data)


def agree(warehouse: Warehouse, data: st.DataObject) -> None:
    """Let database and worker find what is new in rows as they are drawn."""
    key = data.draw(st.sampled_from(warehouse.keys))
    sync_id, memory = fresh(), MemoryState()
    before: list[tuple[Any, ...]] = []
    for _ in range(2):
        rows = data.draw(warehouse.rows())
        if before:
            rows += data.draw(st.lists(st.sampled_from(before), max_size=4))
            rows = [
                tuple(new if swap else old for new, old, swap in zip(one, other, mask, strict=True))
                if other is not None
                else one
                for one, other, mask in (
                    (
                        row,
                        data.draw(st.none() | st.sampled_from(before)),
                        data.draw(st.tuples(*[st.booleans()] * len(row))),
                    )
                    for row in rows
                )
            ]
        warehouse.fill(rows)
        with warehouse.opened(sync_id) as (session, model), model:
            here = planned(users(model.columns, key), model, session)
            there = planned(users(model.columns, key), warehouse.model(), memory)
            assert not said(there) - said(here)
            assert told(there) == told(here)
            assert there.borne == here.borne
            # The database compares values, the worker what they become: the same payload may be written once more.
            assert {operation[1] for operation in said(here) - said(there)} <= {Kind.CHANGED}
            assert memory.remembered == session.remembered
            remember(here, session)
            remember(there, memory)
            session.finish(True)
        with warehouse.opened(sync_id) as (session, model), model:
            quiet = planned(users(model.columns, key), model, session)
            assert not said(quiet)
            assert told(planned(users(model.columns, key), warehouse.model(), memory)) == told(quiet)
            assert session.resend_reason is None
        carried = data.draw(st.sampled_from(tuple(warehouse.types)[3:]))
        with warehouse.opened(sync_id) as (session, model), model:
            here = planned(users(model.columns, key), model, session, carried)
            there = planned(users(model.columns, key), warehouse.model(), memory, carried)
            assert said(here) == said(there)
            assert (told(here), here.unchanged, here.resent) == (told(there), there.unchanged, there.resent)
            assert len(list(here.incomplete())) == len(list(there.incomplete()))
            assert session.resend_reason is None
        before = rows
        close_spools()


def table(warehouse: Warehouse, *rows: tuple[int, str, str | None]) -> None:
    """Let the table have rows of which only key, address and tag are set."""
    names = list(warehouse.types)
    blank: list[Any] = [None] * len(names)
    filled = []
    for number, email, tag in rows:
        row = list(blank)
        row[names.index("id")], row[names.index("email")], row[names.index("tag")] = number, email, tag
        filled.append(row)
    warehouse.fill(filled)


def deliver(warehouse: Warehouse, sync_id: str, state: TableState | None = None, **how: Any) -> tuple[Plan, str | None]:
    """Run once, all accepted; return the plan and why rows went again."""
    fields = how.pop("fields", {"tag": "tag"})
    with warehouse.opened(sync_id, state, **how) as (session, model), model:
        options = UserOptions(("id",), "email", "email", on_removed="delete", project_type="email")
        plan = planned(Users(options, Mapper(fields), model.columns), model, session)
        remember(plan, session)
        session.finish(True)
        return plan, session.resend_reason


def test_unchanged_rows_of_a_touched_identity_are_said_again(warehouse: Warehouse) -> None:
    """They are read again by their keys, and remembered as the database digests them."""
    sync_id = fresh() + '\'s 100% \\ "quoted" {p}'
    table(warehouse, (1, "a@x.io", "x"), (2, "A@x.io", "y"), (3, "b@x.io", "z"))
    deliver(warehouse, sync_id)
    table(warehouse, (1, "a@x.io", "new"), (2, "A@x.io", "y"), (3, "b@x.io", "z"))
    plan, _ = deliver(warehouse, sync_id)
    assert (2, 1, 1) == (plan.counts[Kind.CHANGED], plan.resent, plan.unchanged)
    plan, reason = deliver(warehouse, sync_id)
    assert (0, 3, None) == (plan.counts[Kind.CHANGED], plan.unchanged, reason)


def test_unchanged_rows_that_carry_a_field_come_across(warehouse: Warehouse) -> None:
    """Those that do not stay in the database, and so do rows that share a key; all of them are counted."""
    sync_id = fresh()
    rows = [(1, "a@x.io", "x"), (2, "b@x.io", None), (3, "c@x.io", "z"), (4, "d@x.io", "x")]
    table(warehouse, *rows)
    deliver(warehouse, sync_id)
    table(warehouse, *rows, rows[0], rows[1], (4, "d@x.io", "new"), (5, "e@x.io", None))
    with warehouse.opened(sync_id) as (session, model), model:
        options = UserOptions(("id",), "email", "email", on_removed="delete", project_type="email")
        sync = Users(options, Mapper({"tag": "tag"}), model.columns)
        plan = planned(sync, model, session, "tag")
        assert [operation.key for operation in plan.incomplete()] == ["[3]"]
        assert [operation.key for operation in plan.operations()] == ["[3]", "[5]"]
        assert (plan.read, plan.unchanged, plan.counts[Kind.INVALID]) == (8, 0, 6)
    with warehouse.opened(sync_id) as (session, model), model:
        sync = Users(options, Mapper({"tag": "tag"}), model.columns)
        sync.expect(["tag"])
        lines = [pair.keys for pair in session.pair(sync, ()) if isinstance(pair, Present)]
        assert sorted(key for keys in lines for key in keys) == ["[3]", "[4]", "[5]"]


def test_only_mapped_columns_count(warehouse: Warehouse) -> None:
    """Another value in a column that is not mapped is no news; another mapping is, and says so."""
    sync_id = fresh()
    table(warehouse, (1, "a@x.io", "x"))
    deliver(warehouse, sync_id, fields={})
    table(warehouse, (1, "a@x.io", "new"))
    assert (1, None) == quiet(*deliver(warehouse, sync_id, fields={}))
    assert (0, MAPPING_CHANGED) == quiet(*deliver(warehouse, sync_id))
    assert (1, None) == quiet(*deliver(warehouse, sync_id))


def quiet(plan: Plan, reason: str | None) -> tuple[int, str | None]:
    """Return how many rows are unchanged, and why the others went again."""
    return plan.unchanged, reason


def compares_only_if_asked(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """Check that a database that was never really run leaves it to the worker, and that the log says how to ask."""
    sync_id = fresh()
    table(warehouse, (1, "a@x.io", "x"), (2, "b@x.io", "y"))
    with caplog.at_level("INFO"):
        assert (0, None) == quiet(*deliver(warehouse, sync_id, warehouse.store("auto")))
    said = f'comparing in {warehouse.kind} was run on no real server yet; compare="database" asks for it'
    assert said in caplog.text
    assert (2, None) == quiet(*deliver(warehouse, sync_id, warehouse.store("auto")))
    sync_id = fresh()
    assert (0, None) == quiet(*deliver(warehouse, sync_id))
    table(warehouse, (1, "a@x.io", "x"), (3, "b@x.io", "y"))
    plan, _ = deliver(warehouse, sync_id)
    assert (["[2]"], 1) == ([operation.key for operation in plan.removed()], plan.unchanged)


def test_a_change_of_who_compares_is_logged(warehouse: Warehouse) -> None:
    """Rows go again once, with the reason, unless a baseline records them; removals are found all along."""
    sync_id, worker = fresh(), warehouse.store("worker")
    table(warehouse, (1, "a@x.io", "x"), (2, "b@x.io", "x"))
    assert (0, None) == quiet(*deliver(warehouse, sync_id, worker))
    assert (2, None) == quiet(*deliver(warehouse, sync_id, worker))
    assert (0, BY_THE_DATABASE) == quiet(*deliver(warehouse, sync_id))
    assert (2, None) == quiet(*deliver(warehouse, sync_id))
    assert (0, BY_THE_WORKER) == quiet(*deliver(warehouse, sync_id, worker))
    assert (2, None) == quiet(*deliver(warehouse, sync_id, worker))
    table(warehouse, (1, "a@x.io", "x"))
    plan, _ = deliver(warehouse, sync_id)
    assert ["[2]"] == [operation.key for operation in plan.removed()]


@pytest.mark.parametrize("resync", ["full", "baseline"])
def test_a_resync_sees_every_row(warehouse: Warehouse, resync: Any) -> None:
    """A full one sends the unchanged rows again; a baseline from the worker's state sends none, and none go later."""
    sync_id = fresh()
    table(warehouse, (1, "a@x.io", "x"), (2, "b@x.io", "x"))
    deliver(warehouse, sync_id, warehouse.store("worker") if resync == "baseline" else None)
    requests: list[str] = []

    def send(batch: Batch) -> Reply:
        requests.extend(operation.key for operation in batch.operations)
        return Reply(200, b'{"successCount": %d, "failCount": 0}' % len(batch.operations))

    assert (0, None) == quiet(*deliver(warehouse, fresh(), resync=resync))
    with warehouse.opened(sync_id, resync=resync) as (session, model), model:
        options = UserOptions(("id",), "email", "email", project_type="email")
        sync = Users(options, Mapper({"tag": "tag"}), model.columns)
        report = Report(sync_id, "run", HERE, resync=resync)
        distrust = (lambda: session.void("resync", "run")) if resync == "full" else None
        run(sync, model.chunks, session, send, report, Options(resync=resync, distrust=distrust))
        session.finish(True)
    assert session.resend_reason is None, "the resync says why rows go again"
    assert {"full": ["[1]", "[2]"], "baseline": []}[resync] == sorted(requests)
    assert (2, None) == quiet(*deliver(warehouse, sync_id))


def test_bind_parameters_keep_their_style(warehouse: Warehouse) -> None:
    """A model with parameters is compared as one without, percent signs in the names of syncs and keys included."""
    p = warehouse.hook.placeholder
    sync_id = fresh() + " 100%"
    table(warehouse, (1, "a@x.io", "%s"), (2, "a@x.io", "x"), (3, "c@x.io", "x"))
    model = f"SELECT tag, email, 'a%%b' AS c FROM {warehouse.table} WHERE id < {p}" if "%" in p else None
    model = model or f"SELECT tag, email, 'a%b' AS c FROM {warehouse.table} WHERE id < {p}"
    for expected in (0, 2):
        with warehouse.opened(sync_id, model=Model(warehouse.hook, model, (3,))) as (session, opened), opened:
            options = UserOptions(("tag",), "email", "email", project_type="email")
            plan = planned(Users(options, Mapper({"c": "c"}), opened.columns), opened, session)
            remember(plan, session)
            session.finish(True)
        assert expected == plan.unchanged
    execute(warehouse.hook, f"UPDATE {warehouse.table} SET email = 'A@x.io' WHERE id = 1")
    with warehouse.opened(sync_id, model=Model(warehouse.hook, model, (3,))) as (session, opened), opened:
        plan = planned(Users(options, Mapper({"c": "c"}), opened.columns), opened, session)
    assert (2, 1) == (plan.counts[Kind.CHANGED], plan.resent)


def test_what_the_database_cannot_do_the_worker_does(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """A key that SQL writes otherwise is left to the worker, and the log says so, unless the database is required."""
    sync_id = fresh()
    sql = (
        f"SELECT {warehouse.quoted('double')} AS id, email FROM {warehouse.table}"
        if warehouse.kind != "sqlite"
        else "SELECT 1 AS x, 2 AS x"
    )
    with (
        caplog.at_level("INFO"),
        warehouse.opened(sync_id, warehouse.store("auto"), model=Model(warehouse.hook, sql)) as (
            session,
            model,
        ),
    ):
        if warehouse.kind == "sqlite":
            assert "several columns have one name" in session._why_not
            return
        plan = planned(users(model.columns, ("id",)), model, session)
    assert "Rows are compared by the worker: column id of type" in caplog.text
    assert 0 == plan.read
    with (
        warehouse.opened(sync_id, model=Model(warehouse.hook, sql)) as (session, model),
        pytest.raises(ConfigurationError, match=r'cannot be part of a key in SQL\. Set compare="auto"'),
    ):
        planned(users(model.columns, ("id",)), model, session)


def test_a_query_that_cannot_stand_inside_another_is_read_by_the_worker(warehouse: Warehouse) -> None:
    """What is wrong with it, if anything, is told when it is read."""
    with warehouse.opened(fresh(), warehouse.store("auto"), model=Model(warehouse.hook, "SELECT nonsense")) as (
        session,
        model,
    ):
        assert session._why_not.startswith("the query cannot stand inside another one")
        with pytest.raises(Exception, match="nonsense"), model:
            pass


def test_state_elsewhere_is_compared_by_the_worker(warehouse: Warehouse) -> None:
    """Only one connection can be asked."""
    with warehouse.opened(fresh(), TableState("elsewhere", warehouse.schema)) as (session, _):
        assert "the state is in connection elsewhere, the model in state" == session._why_not


def test_compare_is_one_of_three(warehouse: Warehouse) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError, match='compare must be "auto", "database" or "worker"'):
        TableState(compare="warehouse").open(  # type: ignore[arg-type]
            Scope(fresh(), HERE, hook=lambda conn_id: warehouse.hook)
        )


def test_key_text_is_the_same_in_sql(warehouse: Warehouse) -> None:
    """The golden file holds for what SQL computes; doubles apart, which SQL databases write as they like."""
    cases = json.loads((Path(__file__).parent.parent / "golden" / "key_text.json").read_text("utf-8"))
    tried = 0
    for case in cases:
        parts = [literal(warehouse.kind, *part.popitem()) for part in case["key"]]
        if None in parts:
            continue
        columns = ", ".join(f"{part} AS p{number}" for number, part in enumerate(parts))
        model = Model(warehouse.hook, f"SELECT 'a@x.io' AS email, {columns}")
        with warehouse.opened(fresh(), model=model) as (session, _):
            options = UserOptions(tuple(f"p{number}" for number in range(len(parts))), "email", "email")
            plan = planned(Users(options, Mapper({}), model.columns), model, session)
        found = [operation.key for operation in plan.operations()]
        assert ([] if case["text"] is None else [case["text"]]) == found, case["fact"]
        close_spools()
        tried += 1
    assert tried >= {"postgres": 34, "duckdb": 26, "sqlite": 24, "mysql": 26}[warehouse.kind]


def literal(kind: str, what: str, value: Any) -> str | None:
    """Return a golden value in SQL, if the database has such values and compares them."""
    text = "'" + str(value).replace("'", "''") + "'"
    number = str(value)
    if what == "null":
        return "CAST(NULL AS INTEGER)"
    if kind == "sqlite":
        large = what == "int" and abs(value) >= 2**63
        return None if large else {"int": number, "float": number, "str": text}.get(what)
    if kind == "mysql":
        return mysql_literal(what, value)
    if what == "datetime":
        aware = "+" in number[10:] or "-" in number[10:]
        if kind == "duckdb" and aware and "aware" not in DUCKDB:
            return None
        return f"CAST({text} AS {'TIMESTAMPTZ' if aware else 'TIMESTAMP'})"
    if what == "decimal" and kind == "duckdb":
        return f"CAST({text} AS DECIMAL(15, 2))" if abs(Decimal(value)) < 10**12 else None
    types = {"int": "NUMERIC" if kind == "postgres" else "HUGEINT", "decimal": "NUMERIC", "bool": "BOOLEAN"}
    types |= {"str": "VARCHAR", "uuid": "UUID", "date": "DATE"}
    if what == "bool":
        text = "'true'" if value else "'false'"
    return f"CAST({text} AS {types[what]})" if what in types else None


def mysql_literal(what: str, value: Any) -> str | None:
    """Return a golden value in MySQL, if it has such values and compares them."""
    match what:
        case "int":
            return f"CAST({value} AS DECIMAL(65, 0))"
        case "decimal":
            return f"CAST({value} AS DECIMAL(65, 20))"
        case "str":
            return f"CONVERT(X'{value.encode().hex()}' USING utf8mb4)"
        case "date":
            return f"CAST('{value}' AS DATE)"
        case "datetime" if "+" not in value[10:] and "-" not in value[10:]:
            return f"CAST('{value}' AS DATETIME(6))"
    return None


def test_rows_of_erased_people_are_left_out(warehouse: Warehouse) -> None:
    """A row that meets a tombstone is told as such; a tombstone whose row has left goes when the run ends well."""
    sync_id = fresh()
    table(warehouse, (1, "a@x.io", "x"), (2, "b@x.io", "x"))
    deliver(warehouse, sync_id)
    state = entries(warehouse)
    for key in ("[1]", "[9]"):
        execute(
            warehouse.hook,
            f"DELETE FROM {state} WHERE sync_id = '{sync_id}' AND record_key = '{key}'",
            f"INSERT INTO {state} VALUES ('{sync_id}', '{tombstone(key)}', '', '{tombstone('ref')}')",
        )
    plan, _ = deliver(warehouse, sync_id)
    assert (["[1]"], 1, 1, 2) == (
        [outcome.key for outcome in plan.erased], plan.counts[Kind.ADDED], plan.unchanged, plan.read,
    )  # fmt: skip
    assert [] == list(plan.operations())
    left = execute(warehouse.hook, f"SELECT record_key FROM {state} WHERE sync_id = '{sync_id}' AND fingerprint = ''")
    assert [(tombstone("[1]"),)] == left


def entries(warehouse: Warehouse) -> str:
    """Return the name of the table of entries."""
    return f'"{warehouse.schema}".sync_state' if warehouse.schema else "iterable_sync_state"


def test_a_disagreement_about_a_key_ends_the_run(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should database and worker ever name a row differently, nothing is sent."""
    table(warehouse, (1, "a@x.io", "x"))
    monkeypatch.setattr("airflow_provider_iterable.syncs.chunk.key_texts", lambda columns: ["[2]"] * len(columns[0]))
    with pytest.raises(ModelError, match=r"names 1 rows otherwise than the worker does\. Nothing was sent"):
        deliver(warehouse, fresh())


BEYOND = ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC", "0001-12-31 BC"]
WITHIN = ["0001-01-01", "9999-12-31 23:59:59.999999", "2024-02-29 13:37:19"]


@pytest.mark.parametrize("kind", ["DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"])
def test_a_day_that_is_no_key_costs_its_row(warehouse: Warehouse, kind: str) -> None:
    """It is one for neither the database nor the worker, however often it is there, and the others have the same."""
    if warehouse.kind not in ("postgres", "duckdb"):  # others have no such days
        return
    texts = [text if warehouse.kind == "postgres" else text.replace(" BC", " (BC)") for text in [*BEYOND, *WITHIN]]
    zone = "+00" if "ZONE" in kind else ""
    written = [
        text + zone if zone and text[0].isdigit() and " " in text and "BC" not in text else text for text in texts
    ]
    days = " UNION ALL ".join(
        f"SELECT CAST('{text}' AS {kind}) AS day, 'a' || {number} || '@x.io' AS email"
        for number, text in enumerate([*written, *written[:5]])
    )

    def outcome(sync_id: str, compare: Compare) -> tuple[Any, ...]:
        model = Model(warehouse.hook, days)
        with warehouse.opened(sync_id, warehouse.store(compare), model=model) as (session, model), model:
            options = UserOptions(("day",), "email", "email", on_removed="delete", project_type="email")
            plan = planned(Users(options, Mapper({}), model.columns), model, session)
            keys = {operation.key for operation in plan.operations()}
            remember(plan, session)
            session.finish(True)
        return plan.read, plan.counts[Kind.ADDED], plan.unchanged, len(plan.invalid), plan.duplicates, keys

    database, worker = fresh(), fresh()
    first = outcome(database, "database")
    assert first == outcome(worker, "worker")
    assert first[:4] == (13, 3, 0, 10)
    assert outcome(database, "database")[:4] == (13, 0, 3, 10)


PAIRS: list[tuple[tuple[Any, Any], tuple[Any, Any]]] = [
    (("ab", "c"), ("a", "bc")),
    ((None, "x"), ("x", None)),
    ((None, None), ("", "")),
    (("-", None), (None, "-")),
    (("1:a", ""), ("", "1:a")),
    (('a","b', ""), ("a", "b")),
]
MIXED: list[tuple[tuple[Any, Any], tuple[Any, Any]]] = [
    ((1, "x"), (1.0, "x")),
    ((1, "x"), ("1", "x")),
    ((1.0, "x"), ("1.0", "x")),
    ((math.inf, "x"), (None, "x")),
    ((b"x", "x"), ("eA==", "x")),
    ((1, b""), (1, "")),
]


def test_values_are_not_taken_for_one_another(warehouse: Warehouse) -> None:
    """Neither do values of two columns run together, nor are nulls, texts and numbers that look alike the same."""
    names = {
        "postgres": ("tag", "short"),
        "duckdb": ("tag", "name"),
        "sqlite": ("value", "other"),
        "mysql": ("tag", "short"),
    }[warehouse.kind]
    places = [list(warehouse.types).index(name) for name in names]
    for before, after in PAIRS + (MIXED if warehouse.kind == "sqlite" else []):
        sync_id, found = fresh(), []
        for values in (before, after):
            row: list[Any] = [None] * len(warehouse.types)
            row[0], row[list(warehouse.types).index("email")] = 1, "a@x.io"
            for place, value in zip(places, values, strict=True):
                row[place] = value
            warehouse.fill([row])
            with warehouse.opened(sync_id) as (session, model), model:
                options = UserOptions(("id",), "email", "email", project_type="email")
                plan = planned(Users(options, Mapper({"a": names[0], "b": names[1]}), model.columns), model, session)
                found.append(plan.unchanged)
                if not plan.invalid:
                    remember(plan, session)
        assert [0, 0] == found, (before, after)
        close_spools()


def test_the_digests_of_each_database_have_a_scheme_of_their_own() -> None:
    """Entries that were moved from one database to another never equal what the other one computes."""
    schemes = [dialect.comparing().scheme for dialect in DIALECTS.values()]
    assert len(set(schemes)) == len(DIALECTS), schemes
    assert {len(scheme) for scheme in schemes} == {2}


def test_another_field_for_the_same_column_is_another_mapping(warehouse: Warehouse) -> None:
    """What a value is called counts as the value does."""
    sync_id = fresh()
    table(warehouse, (1, "a@x.io", "x"))
    assert (0, None) == quiet(*deliver(warehouse, sync_id))
    assert (0, MAPPING_CHANGED) == quiet(*deliver(warehouse, sync_id, fields={"label": "tag"}))


@pytest.mark.parametrize("columns", [126, 127, 300])
def test_wide_models_are_compared(warehouse: Warehouse, columns: int) -> None:
    """However many columns are mapped: a change in any of them is news, and no change is none."""
    sync_id = fresh()
    fields = {f"f{number}": f"v{number}" for number in range(columns)}

    def unchanged(**changes: Any) -> int:
        values = {name: changes.get(name, number) for number, name in enumerate(fields.values())}
        columns = ", ".join(f"{value} AS {name}" for name, value in values.items())
        sql = f"SELECT CAST(1 AS {'SIGNED' if warehouse.kind == 'mysql' else 'BIGINT'}) AS id, email, {columns}"
        warehouse.fill([[1 if name == "id" else "a@x.io" if name == "email" else None for name in warehouse.types]])
        model = Model(warehouse.hook, f"{sql} FROM {warehouse.table}")
        with warehouse.opened(sync_id, model=model) as (session, model), model:
            options = UserOptions(("id",), "email", "email", project_type="email")
            plan = planned(Users(options, Mapper(fields), model.columns), model, session)
            remember(plan, session)
            session.finish(delivered=True)
        close_spools()
        return plan.unchanged

    assert [unchanged(), unchanged()] == [0, 1]
    for changed in {126 % columns, columns - 1}:
        assert [unchanged(**{f"v{changed}": -1}), unchanged(**{f"v{changed}": -1})] == [0, 1], changed


@pytest.mark.parametrize(("values", "fingerprint"), SQLITE_FINGERPRINTS)
def test_fingerprints_of_sqlite_do_not_depend_on_how_the_columns_are_given(
    values: tuple[Any, ...], fingerprint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier version made stays, and a SQLite that takes more arguments at once makes the same."""
    comparing = sqlite.Sqlite()
    with closing(sqlite3.connect(":memory:")) as connection:
        comparing.begin(connection, connection.cursor())
        for most in (1, 2, 5, 127):
            monkeypatch.setattr(sqlite, "MOST", most)
            names = ", ".join(f"c{number}" for number in range(len(values))) or "c"
            row = ", ".join("?" * len(values)) or "NULL"
            made = comparing.fingerprint("digest", range(len(values)))
            sql = f"WITH m({names}) AS (VALUES ({row})) SELECT {made} FROM m"
            assert connection.execute(sql, values).fetchone() == (fingerprint,)


def test_a_wider_type_is_no_news(warehouse: Warehouse) -> None:
    """Integers are compared as integers, whatever room they have."""
    sync_id = fresh()
    warehouse.fill(
        [[1 if name in ("id", "small") else "a@x.io" if name == "email" else None for name in warehouse.types]]
    )
    fields = {"small": "id" if warehouse.kind == "sqlite" else "small"}
    deliver(warehouse, sync_id, fields=fields)
    if warehouse.kind != "sqlite":
        how = "MODIFY small bigint" if warehouse.kind == "mysql" else "ALTER small TYPE bigint"
        execute(warehouse.hook, f"ALTER TABLE {warehouse.table} {how}")
    assert (1, None) == quiet(*deliver(warehouse, sync_id, fields=fields))


def test_a_parameter_may_be_a_column(warehouse: Warehouse) -> None:
    """Its type is then what the driver says, as it is when the rows are read."""
    sync_id, p = fresh(), warehouse.hook.placeholder
    table(warehouse, (1, "a@x.io", "x"))
    sql = f"SELECT id, email, {p} AS tag FROM {warehouse.table}"
    for value, expected in (("x", 0), ("x", 1), ("y", 0)):
        plan, _ = deliver(warehouse, sync_id, model=Model(warehouse.hook, sql, (value,)))
        assert expected == plan.unchanged


def test_a_first_baseline_that_was_cut_short_needs_no_reason(warehouse: Warehouse) -> None:
    """What was committed before the header was finished is what the database compares."""
    sync_id = fresh()
    table(warehouse, (1, "a@x.io", "x"))
    with warehouse.opened(sync_id, resync="baseline") as (session, model), model:
        options = UserOptions(("id",), "email", "email", project_type="email")
        remember(planned(Users(options, Mapper({"tag": "tag"}), model.columns), model, session), session)
    assert (1, None) == quiet(*deliver(warehouse, sync_id))


def test_the_report_says_why_rows_went_again(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who compares is known only when the rows are read; the report has it all the same."""
    table(warehouse, (1, "a@x.io", "x"), (2, "b@x.io", "x"))
    with Sandbox(rates=False) as iterable:
        connection = {"conn_type": "iterable", "host": iterable.url, "password": "a-key-of-iterable", "extra": {}}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        told = []
        for compare in ("worker", "auto", "auto"):
            operator = IterableUserSyncOperator(
                task_id="sync",
                sync_id="people",
                sql_conn_id="state",
                sql=f"SELECT id, email, tag FROM {warehouse.table}",
                primary_key="id",
                email_column="email",
                state=warehouse.store(compare),
            )
            pushed = SimpleNamespace(xcom_push=lambda **kwargs: None)
            context = {"run_id": "run", "ti": pushed, "outlet_events": defaultdict(SimpleNamespace)}
            told.append(operator.execute(cast("Any", context)))
    found = [(report["accepted"], report["unchanged"], report["resend_reason"]) for report in told]
    assert [(2, 0, NOTHING_REMEMBERED), (2, 0, BY_THE_DATABASE), (0, 2, None)] == found
