from __future__ import annotations

import pytest

from airflow_provider_iterable.api.answers import values_at


@pytest.mark.parametrize(
    ("payload", "path", "found"),
    [
        ({"a": 1}, "a", [1]),
        ({"a": None}, "a", [None]),
        ({"a": {"b": 1}}, "a.b", [1]),
        ({"a": {"b": 1}}, "a", [{"b": 1}]),
        ({"a": [{"b": 1}, {"c": 2}, {"b": [3, 4]}]}, "a.b", [1, [3, 4]]),
        ({"a": [[{"b": 1}]]}, "a.b", [1]),
        ({"a.b": 1}, "a.b", [1]),
        ({"x": {"a.b": 1}}, "x.a.b", [1]),
        ({"a": 1}, "a.b", []),
        ({}, "a", []),
        (None, "a", []),
    ],
)
def test_paths_lead_into_objects_and_arrays(payload: object, path: str, found: list[object]) -> None:
    """A field's name with dots finds every value it stands for."""
    assert values_at(payload, path.split(".")) == found
