from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_iterable.mapping import Json, Mapper
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.tables.dialects.postgres import Postgres
from airflow_provider_iterable.state.tables.warehouse import Compare
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.fakes import close_spools
from tests.laws.world import budget
from tests.state.contract import fresh
from tests.state.test_table import duckdb_hook, execute, needs_duckdb, postgres_hook, sqlite_hook
from tests.state.test_warehouse import Types, Warehouse, planned, remember

NAMES = st.sampled_from(["a", "b", "A", "", "x y", "a.b", 'q"r', "é", "key", "k", "v", "0"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0, "", "a", 'b"c', "{}", "[1, 2]"])
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
).filter(lambda document: document is not None and depth(document) <= 3)
TEXTS = st.sampled_from(["", "a", "b", "é", "null", "{}", '{"a": 1, "b": 2}', '{"b": 2, "a": 1}'])


def depth(document: Any) -> int:
    """Return how many objects and arrays are around the innermost value."""
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def spelled(document: Any, random: Random) -> str:
    """Write JSON, its members in some order and with some blanks."""

    def blank() -> str:
        return random.choice(["", "", " ", "\n\t"])

    if isinstance(document, dict):
        members = [f"{blank()}{json.dumps(name)}{blank()}:{spelled(one, random)}" for name, one in document.items()]
        random.shuffle(members)
        return f"{blank()}{{{','.join(members)}{blank()}}}"
    if isinstance(document, list):
        return f"{blank()}[{','.join(spelled(one, random) for one in document)}{blank()}]{blank()}"
    return f"{blank()}{json.dumps(document)}{blank()}"


COMMON: Mapping[str, st.SearchStrategy[Any]] = {
    "number": st.integers(-3, 3),
    "double": st.sampled_from([0.0, 0.5, -1.25, 1e21]),
    "name": TEXTS,
}
TYPED: Mapping[str, tuple[str, st.SearchStrategy[Any]]] = {
    "number": ("BIGINT", COMMON["number"]),
    "double": ("DOUBLE PRECISION", COMMON["double"]),
    "name": ("VARCHAR", TEXTS),
    "price": ("DECIMAL(12,2)", st.decimals(-2, 2, places=2)),
    "day": ("DATE", st.dates(date(2024, 1, 1), date(2024, 1, 4))),
    "naive": ("TIMESTAMP", st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 2)).map(lambda d: d.replace(
        microsecond=0, second=0))),
    "truth": ("BOOLEAN", st.booleans()),
    "numbers": ("BIGINT[]", st.lists(st.integers(0, 2), max_size=2)),
    "words": ("VARCHAR[]", st.lists(TEXTS, max_size=2)),
}  # fmt: skip
COLUMNS: Mapping[str, Types] = {
    "sqlite": {name: ("", values) for name, values in COMMON.items()},
    "duckdb": dict(TYPED),
    "postgres": dict(TYPED),
}
DOCUMENT = {"sqlite": "", "duckdb": "JSON", "postgres": "JSON"}
DERIVED = {
    "duckdb": ", [doc, NULL] AS docs, {'of': doc, 'n': number} AS nested",
    "postgres": ", doc::jsonb AS docb, ARRAY[doc, NULL] AS docs, ROW(doc, number, name)::{schema}.nested AS nested",
}
"""JSON within other types."""
BY_VALUE = {"sqlite": ("doc", "text"), "duckdb": ("text",), "postgres": ()}
"""Columns whose text is mapped as JSON; Postgres compares such texts as they are written."""
COMPARE: tuple[Compare, ...] = ("database", "worker")


@dataclass
class Documents(Warehouse):
    """A database with a table of simple values, and of JSON that can be written in several ways."""

    def __post_init__(self) -> None:
        self.types = {
            "id": ("BIGINT", st.nothing()),
            "email": ("VARCHAR", st.nothing()),
            **COLUMNS[self.kind],
            "doc": (DOCUMENT[self.kind], DOCUMENTS),
            "text": ("VARCHAR", DOCUMENTS),
        }
        self.table = f"{self.schema}.documents" if self.schema else "documents"
        columns = ", ".join(f'"{name}" {kind}' for name, (kind, _) in self.types.items())
        schema = [f"CREATE SCHEMA {self.schema}"] if self.schema else []
        if schema:
            schema.append(f"CREATE TYPE {self.schema}.nested AS (of json, n bigint, name text)")
        execute(self.hook, *schema, f"CREATE TABLE {self.table} ({columns})")

    def model(self) -> Model:
        """The table as a model."""
        derived = DERIVED.get(self.kind, "").replace("{schema}", str(self.schema))
        return Model(self.hook, f"SELECT *{derived} FROM {self.table}", chunk_size=2)

    def write(self, rows: Sequence[Mapping[str, Any]], random: Random) -> None:
        """Let the table have these rows, with JSON as it happens to be written."""
        written = ("doc", "text")
        self.fill(
            [
                tuple(
                    spelled(row[name], random) if name in written and row[name] is not None else row[name]
                    for name in self.types
                )
                for row in rows
            ]
        )

    def changed(self, sync_id: str, state: TableState) -> list[str]:
        """Run once, all accepted; return the keys of the rows that went."""
        with self.opened(sync_id, state) as (session, model), model:
            fields = {name: name for name in model.columns if name not in ("id", "email", "text")}
            mapped = {name: Json(name) if name in BY_VALUE[self.kind] else name for name in fields}
            if "text" in BY_VALUE[self.kind]:
                mapped["text"] = Json("text")
            options = UserOptions(("id",), "email", "email", project_type="email")
            plan = planned(Users(options, Mapper(mapped), model.columns), model, session)
            assert not list(plan.invalid)
            keys = sorted(operation.key for operation in plan.operations())
            remember(plan, session)
            session.finish(True)
        close_spools()
        return keys


@pytest.fixture(params=["sqlite", pytest.param("duckdb", marks=needs_duckdb), "postgres"])
def documents(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Documents]:
    """Give each of the databases."""
    if request.param == "postgres":
        schema = f"iterable_{uuid.uuid4().hex[:12]}"
        hook = postgres_hook(monkeypatch)
        yield Documents(hook, "postgres", schema)
        execute(hook, "SET lock_timeout = '5s'", f"DROP SCHEMA {schema} CASCADE")
    else:
        give = sqlite_hook if request.param == "sqlite" else duckdb_hook
        yield Documents(give(tmp_path, monkeypatch), request.param)


@settings(budget(8), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_database_and_worker_say_the_same_of_which_rows_changed(
    documents: Documents, data: st.DataObject, random: Random
) -> None:
    """Another value is a change, another order of members and other blanks in JSON are none, whoever compares."""
    names = list(documents.types)[2:]
    value = {name: documents.types[name][1] | st.none() for name in names}
    rows = [
        {"id": number, "email": f"u{number}@example.com", **{name: data.draw(value[name]) for name in names}}
        for number in range(3)
    ]
    sync_id = fresh()
    stores = {compare: documents.store(compare) for compare in COMPARE}
    documents.write(rows, random)
    for compare, store in stores.items():
        assert documents.changed(sync_id + compare, store) == ["[0]", "[1]", "[2]"]
    for row in rows[:2]:
        row.update({name: data.draw(value[name]) for name in data.draw(st.sets(st.sampled_from(names), max_size=2))})
    documents.write(rows, random)
    found = {compare: documents.changed(sync_id + compare, store) for compare, store in stores.items()}
    assert found["database"] == found["worker"]
    assert "[2]" not in found["worker"]


AS_TEXT = ['{"a": "\\u0000"}', '{"a": "\\ud800"}', "1e2", "-0", "-0.0", "[1e400000]", '"x 1e5"', "[0.0]", "[-0.0]"]
"""JSON that Postgres does not take for ``jsonb``, or takes for a value that is another one to the worker."""


@pytest.mark.parametrize("documents", ["postgres"], indirect=True)
def test_json_that_jsonb_does_not_take_is_compared_all_the_same(documents: Documents) -> None:
    """It ends no run, and equals nothing else."""
    comparing, blank = Postgres(), dict.fromkeys(documents.types)
    comparing.types = ["json"]
    documents.fill([tuple({**blank, "id": n, "doc": text}.values()) for n, text in enumerate([*AS_TEXT, "100", "0"])])
    connection = documents.hook.get_conn()
    try:
        cursor = connection.cursor()
        cursor.execute(f"SELECT {comparing._value(0)} FROM (SELECT doc AS c0 FROM {documents.table}) AS m")
        assert len({row[0] for row in cursor.fetchall()}) == len(AS_TEXT) + 2
    finally:
        connection.close()
