from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airflow_provider_iterable.mapping import Constant, Json, Mapper, Source
from airflow_provider_iterable.syncs.names import Names, columns_of

COLUMNS = ["id", "tier", "city", "street", "pets"]
FIELDS: dict[str, Source] = {
    "tier": "tier",
    "address.city": "city",
    "address.street": "street",
    "pets": Json("pets"),
    "source": Constant("crm"),
}


@pytest.fixture
def names() -> Names:
    """The names of a mapping."""
    mapper = Mapper(FIELDS)
    mapper.bind(COLUMNS)
    return Names(mapper)


WHOLE: dict[str, Any] = {
    "tier": "gold",
    "address": {"city": "Rome", "street": None},
    "pets": [{"name": "Rex", "a@x.io": 1}, {"kind": {}}],
    "source": "crm",
}


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["tier"], ["tier"]),
        (["shoe", "tie", "tier2", "address.cit"], []),
        (["address"], ["address.city"]),
        (["address.street"], []),
        (["pets"], ["pets"]),
        (["pets.name", "pets.kind", "pets.age"], ["pets.name"]),
        (["pets.a@x.io"], ["pets"]),
        (["pets", "pets.a@x.io"], ["pets"]),
        (["source", "tier"], ["source", "tier"]),
        (["", "."], []),
    ],
)
def test_names_mean_mapped_fields_that_have_values(names: Names, named: list[str], found: list[str]) -> None:
    """An object means its mapped members; a member whose name looks like data is told by the field that is mapped."""
    values = msgspec.json.decode(msgspec.json.encode(WHOLE))
    assert found == names.carried(values, frozenset(named))
    assert [] == names.carried({}, frozenset(named))


@pytest.mark.parametrize("value", [None, {}, [], {"name": None}, [{}, [None]]])
def test_nothing_is_lost_with_nothing(names: Names, value: Any) -> None:
    """Nulls, and objects and arrays of nothing else, carry no field."""
    assert [] == names.carried({"pets": value, "tier": None}, frozenset({"pets", "tier"}))
    assert ["pets"] == names.carried({"pets": [False]}, frozenset({"pets"}))


def test_a_field_is_found_in_the_model(names: Names) -> None:
    """In its column; a constant is in every row, so whatever has a value in every row stands for it."""
    assert [4] == names.positions("pets.name")
    assert (1, 4) == columns_of({*names.positions("pets.name"), *names.positions("tier")}, (0,))
    assert (0,) == columns_of({*names.positions("source"), *names.positions("tier")}, (0,))
    assert [True, True, True, False, False] == [
        names.knows(name) for name in ("tier", "address.city", "pets.name", "address", "shoe")
    ]
