"""What editors, type checkers and ``help()`` see of the operators' parameters."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from importlib.util import find_spec

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_iterable import operators
from airflow_provider_iterable.operators import (
    IterableListOperator,
    IterableSubscriptionOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from tests import keywords

OPERATORS = [
    operator
    for operator in map(vars(operators).__getitem__, operators.__all__)
    if issubclass(operator, IterableModelOperator)
]


@pytest.mark.skipif(
    airflow_version.startswith("2"), reason="the keywords of Airflow's operators are those of Airflow 3"
)
@pytest.mark.skipif(not find_spec("ruff"), reason="ruff, which formats the file, is not installed")
def test_the_keywords_are_those_of_the_constructors() -> None:
    """A parameter that is new, or has another type, is to be written: ``python -m tests.keywords``."""
    formatting = [sys.executable, "-m", "ruff", "format", "-"]
    formatted = subprocess.run(formatting, input=keywords.written(), capture_output=True, text=True, check=True)
    assert keywords.FILE.read_text() == formatted.stdout


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_signature_has_every_parameter(operator: type[IterableModelOperator]) -> None:
    """Its own, those of all syncs, and Airflow's, with types and defaults."""
    parameters = inspect.signature(operator).parameters
    assert operator.forms.keys() <= parameters.keys()
    assert {"task_id", "retries", "pool"} <= parameters.keys()
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    common = ("sql", "table", "fields", "state", "max_removed", "sync_id", "iterable_conn_id")
    assert all(parameters[name].annotation != inspect.Parameter.empty for name in common)
    assert parameters["max_removed"].default == 0.3
    assert (parameters["primary_key"].default == ()) is (
        operator in (IterableListOperator, IterableSubscriptionOperator)
    )


def test_help_shows_the_parameters() -> None:
    """Of all syncs and of this one, with types and defaults."""
    shown = pydoc.plain(pydoc.render_doc(IterableUserSyncOperator))
    for words in ("email_column: 'str | None' = None", "max_removed: 'float | int | str | None' = 0.3", "sql_conn_id:"):
        assert words in shown
