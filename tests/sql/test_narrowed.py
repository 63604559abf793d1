"""A model of which only some rows are read; how is tried on each driver."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.sql.narrowed import MOST_CONDITIONS, narrowed
from tests.sql.test_model import Database, database

__all__ = ["database"]


def _model(database: Database, where: str = "", parameters: Any = None) -> Model:
    model = Model(database.hook, f"SELECT id, name FROM {database.table}{where}", parameters)
    model.describe(lambda cursor: None)
    return model


def _read(model: Model, keys: list[str], identities: list[str] | None = None) -> list[Any]:
    found = narrowed(model, [0], keys, 1, identities or [])
    assert found is not None
    return sorted(tuple(row) for row in found)


def test_rows_are_found_by_key_and_by_identity(database: Database) -> None:
    """In the database: no other row leaves it, though the query has percent signs and a comment at its end."""
    model = _model(database, " WHERE name LIKE 'n%' -- 100%")
    assert [(3, "n3")] == _read(model, ["[3]"])
    assert [(2, "n2"), (3, "n3"), (5, "n5")] == _read(model, ["[3]", "[5]"], ["N2"])
    assert [] == _read(model, ["[99]"])


def test_values_are_bound_behind_the_models_own(database: Database) -> None:
    """Whose parameters come first in the text."""
    model = _model(database, f" WHERE id < {database.marker} AND name LIKE 'n%%'", [4])
    if database.marker == "?":
        model = _model(database, " WHERE id < ? AND name LIKE 'n%'", [4])
    assert [(3, "n3")] == _read(model, ["[3]", "[5]"])


def test_a_key_cannot_change_the_query(database: Database) -> None:
    """Its values are bound."""
    found = narrowed(_model(database), [1], [json.dumps(["n3' OR 1 = 1 --"])])
    assert found is not None
    assert [] == list(found)


@pytest.mark.parametrize(
    ("keys", "identities"),
    [
        (['["2026-01-31T00:00:00.000000"]'], []),  # a moment, in whichever form the database has it
        (["[1.5]"], []),
        (["[true]"], []),
        (["[1,2]"], []),  # not the parts of this key
        (["left 0123"], []),
        (["[1]"], ["j\u00e9r\u00f4me@example.com"]),  # whose small letters are not every database's
        (["[1]"], ["a\\b"]),
        ([f"[{number}]" for number in range(MOST_CONDITIONS + 1)], []),
        ([], []),
    ],
)
def test_where_no_condition_finds_all_rows_there_is_none(
    database: Database, keys: list[str], identities: list[str]
) -> None:
    """The whole model is read then."""
    assert narrowed(_model(database), [0], keys, 1, identities) is None
