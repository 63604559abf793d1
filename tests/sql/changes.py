"""Runs over a model with a column of each type: what is sent when values change, whoever compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state import TableState
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.tables.warehouse import Compare
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.sql.examples import Example
from tests.sql.test_model import execute
from tests.state.contract import HERE, MAPPING, fresh
from tests.state.test_warehouse import planned, remember, told


def run(hook: DbApiHook, sync_id: str, compare: Compare, fields: Any = None, schema: str | None = None) -> Plan:
    """Plan a run over the table ``all_types``, let everything be accepted, and return the plan."""
    model = Model(hook, "SELECT * FROM all_types", chunk_size=3)
    whole = Scope(sync_id, HERE, MAPPING, model=model, hook=lambda conn_id: hook)
    with closing(TableState(None, schema, compare).open(whole)) as session, model:
        mapper = Mapper(fields, used=frozenset({"id", "email"}))
        plan = planned(Users(UserOptions(("id",), "email", "email"), mapper, model.columns), model, session)
        remember(plan, session)
        session.finish(True)
        return plan


def each_is_unchanged_until_it_changes(
    hook: DbApiHook, compare: Compare, examples: Sequence[Example], schema: str | None = None
) -> None:
    """Fail unless a row goes again exactly when its value of a type is another one, or null.

    Each type has a row, in which the columns of other types are null.
    """
    columns = ", ".join(f"c{n} {example.type}" for n, example in enumerate(examples))
    execute(hook, f"CREATE TABLE all_types (id INTEGER, email VARCHAR(99), {columns})")
    for n, example in enumerate(examples):
        execute(hook, f"INSERT INTO all_types (id, email, c{n}) VALUES ({n}, 'a{n}@example.com', {example.value})")
    sync_id = fresh()

    def unsent() -> list[str]:
        plan = run(hook, sync_id, compare, schema=schema)
        assert not told(plan)[3], "no value is refused"
        sent = {operation.key for operation in plan.operations()}
        return [example.type for n, example in enumerate(examples) if f"[{n}]" not in sent]

    def change(value: Callable[[Example], str]) -> None:
        for n, example in enumerate(examples):
            execute(hook, f"UPDATE all_types SET c{n} = {value(example)} WHERE id = {n}")

    every = [example.type for example in examples]
    assert [unsent(), unsent()] == [[], every], "all rows are new, and then none"
    change(lambda example: example.other)
    assert [unsent(), unsent()] == [[], every], "every value is another one, and then none"
    change(lambda example: "NULL")
    assert [unsent(), unsent()] == [[], every], "every value is null, and then none is another"
