"""The Python of the documentation runs: DAGs are made of it, and its tasks are called, against the sandbox."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.operators.empty import EmptyOperator

from airflow_provider_iterable import errors, mapping, operators, state
from airflow_provider_iterable.assets import create_asset
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.retry import SUPPORTED, IterableRetryPolicy
from airflow_provider_iterable.sandbox import Sandbox
from tests.documents import Block, blocks_of, each
from tests.testing import test_guide

MODULE = {name: getattr(module, name) for module in (operators, mapping, state) for name in module.__all__}
ASSUMED: dict[str, Any] = {
    **MODULE,
    "DAG": DAG,
    "IterableHook": IterableHook,
    "IterableRetryPolicy": IterableRetryPolicy,
    "UTC": UTC,
    "create_asset": create_asset,
    "datetime": datetime,
    "errors": errors,
    "json": json,
    "task": task,
    "timedelta": timedelta,
    "SYNC": {"table": "users", "sql_conn_id": "warehouse", "primary_key": "id", "email_column": "email"},
    "tell_channel": str,
    "tell_owner_of_the_model": str,
    "page_on_call": str,
}
"""What a page may use without importing it: what is public here, DAGs and tasks, and what readers are to have."""
ARGUMENTS = {"name": "Newsletter", "workflow": 7, "list_id": 1}
"""What tasks are called with, by the name of the parameter."""


@pytest.fixture
def iterable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project with a list and a workflow, where `iterable_default` leads."""
    with Sandbox("email") as sandbox:
        connection = {"conn_type": "iterable", "host": sandbox.url, "password": "k" * 32}
        monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(connection))
        sandbox.seed(lists=[{"name": "Newsletter", "listType": "Standard", "members": [{"email": "ada@example.com"}]}])
        yield sandbox


def source(text: str) -> str:
    """Return a block as a program: what it leaves out with `...` is nothing, and a DAG may be without tasks."""
    text = re.sub(r"\bDAG\(\.\.\., ", 'DAG("left_out", ', text)
    text = re.sub(r", \.\.\.\)", ")", text)
    return f"{text}    pass\n" if text.rstrip().endswith(":") else text


def made(block: Block) -> tuple[list[Any], dict[str, Any]]:
    """Run a block, and return the DAGs that it makes, and its names.

    Names of Airflow's that a release lacks skip the test.
    """
    program = compile(source(block.text), f"{block.page}:{block.line}", "exec")
    names: dict[str, Any] = dict(ASSUMED)
    if "ApprovalOperator" in block.text:
        hitl = pytest.importorskip("airflow.providers.standard.operators.hitl")
        names["ApprovalOperator"] = hitl.ApprovalOperator
    dag = DAG("around", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))
    with dag:
        exec(program, names)
        fragments = {name: names[name] for name in ("fields", "state") if name in names}
        operators.IterableUserSyncOperator(task_id="fragments", **ASSUMED["SYNC"], **fragments)
        EmptyOperator(task_id="beside")
    inner = [one for name, one in names.items() if isinstance(one, DAG)]
    return [dag, *inner], names


@each("python")
def test_python(block: Block, iterable: Sandbox) -> None:
    """It runs: DAGs without a circle, parameters that operators take, tasks that Iterable answers."""
    if "retry_policy=" in block.text and not SUPPORTED:
        pytest.skip("this Airflow asks no retry policy")
    if "def test_" in block.text:
        assert block.page == "docs/testing.md", "a page with tests needs a test that runs them, as test_guide.py does"
        assert block.text == test_guide.code("python")
        return
    dags, names = made(block)
    for dag in dags:
        dag.check_cycle()
        assert dag.task_dict
    for name, one in names.items():
        if name not in ASSUMED and hasattr(one, "function"):  # a task: what is decorated is called
            wanted = one.function.__annotations__.keys() - {"return"}
            # The sandbox keeps no workflows, and no list of whichever number: it is asked, and refuses.
            with suppress(errors.RequestRefused):
                one.function(**{each: ARGUMENTS[each] for each in wanted})


@pytest.mark.parametrize(
    "text",
    [
        'IterableUserSyncOperator(task_id="a", table="t", sql_conn_id="w", primary_key="id", emailcolumn="e")',
        'IterableListOperator(task_id="a", table="t", sql_conn_id="w", primary_key="id", email_column="e", nulls="x")',
        "state=TableState(audit_days=3)",
        "from airflow_provider_iterable.mapping import Columns",
        "fields={'a': Jsn('a')}",
        "with DAG('x', schedule=[create_asset('user')], ...):",
        "@task\ndef ask(name: str) -> None:\n    IterableHook().size(name)",
        "a = IterableListOperator.partial(task_id='a', sql_con_id='w').expand(list_id=[1])",
    ],
)
def test_wrong_python_is_noticed(text: str, iterable: Sandbox) -> None:
    """Parameters, names and methods that there are not."""
    (block,) = blocks_of("page.md", f"```python\n{text}\n```")
    with pytest.raises(Exception, match=r"."):
        test_python(block, iterable)
