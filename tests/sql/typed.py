"""Columns of each type of a database that the tests do not have: what its driver returns, and what is sent for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_iterable.api.values import is_date
from airflow_provider_iterable.sql.model import Model
from tests.sql.examples import REFUSED, documented, outcome
from tests.sql.test_model import FakeHook


@dataclass(frozen=True)
class Returned:
    """A value of a column named ``c``.

    :param name: its type, as the page of the database calls it
    :param described: what its description holds after the name
    :param value: what the driver returns
    :param sent: the JSON; of a refusal, a part of the message
    """

    name: str
    described: Any
    value: Any
    sent: str
    refused: bool = False

    def __str__(self) -> str:
        return self.name

    def line(self, sent: str) -> str:
        """Return the line of a page about it.

        :param sent: the JSON, or the whole message
        """
        if self.refused:
            return f"| `{self.name}` | `{self.value!r}` | {sent} |  |"
        return f"| `{self.name}` | `{self.value!r}` | `{sent}` | {_field_type(json.loads(sent))} |"


def _field_type(value: Any) -> str:
    if isinstance(value, list):
        return _field_type(value[0])
    if isinstance(value, str):
        return "date" if is_date(value) else "string"
    return {bool: "boolean", int: "long", float: "double", dict: "object"}[type(value)]


def hook_of(conn_type: str, *chunks: Any, description: Sequence[Any]) -> FakeHook:
    """Return a hook of a connection of this type, whose model gives these rows."""
    hook = FakeHook(*chunks, description=description)
    hook.conn_type = conn_type
    return hook


def description_of(name: str, described: Any) -> tuple[Any, ...]:
    """Return a column of a description, of which a driver may fill more than the type."""
    filled = described if isinstance(described, tuple) else (described,)
    return (name, *filled, *(None,) * (6 - len(filled)))


def mapped(model: Model) -> dict[str, str]:
    """Return what is sent for each column of the only row of a model, or why it is refused."""
    with model:
        ((row,),) = model.chunks()
    return {name: outcome(model.columns, row, name) for name in model.columns}


def judge(example: Returned, model: Model) -> None:
    """Fail unless the one value of a model, in a column named ``c``, becomes what the example says."""
    found = mapped(model)["c"]
    if example.refused:
        assert found.startswith(REFUSED)
        assert example.sent in found
    else:
        assert not found.startswith(REFUSED)
        assert json.loads(found) == json.loads(example.sent)


def compare(page: str, examples: Sequence[Returned], model_of: Callable[[Returned], Model]) -> None:
    """Fail unless the table of types on a page has the examples, with what is really sent."""
    assert list(documented(page)) == [example.line(mapped(model_of(example))["c"]) for example in examples]
