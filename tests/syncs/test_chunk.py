from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.vocabulary import Invalid
from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.syncs.chunk import Chunk, namer
from airflow_provider_iterable.syncs.identity import Match


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("email", " Ada@Example.com ", ("email", "ada@example.com")),
        ("email", "nobody", Reason.INVALID_EMAIL),
        ("email", 5, Reason.INVALID_EMAIL),
        ("email", None, Reason.NO_IDENTIFIER),
        ("email", "", Reason.NO_IDENTIFIER),
        ("email", " \t", Reason.NO_IDENTIFIER),
        ("user_id", "U-1", ("user_id", "U-1")),
        ("user_id", 7, ("user_id", "7")),
        ("user_id", Decimal("7.0"), ("user_id", "7")),
        ("user_id", UUID(int=1), ("user_id", "00000000-0000-0000-0000-000000000001")),
        ("user_id", " u", Reason.INVALID_USER_ID),
        ("user_id", "x" * 53, Reason.INVALID_USER_ID),
        ("user_id", True, Reason.INVALID_USER_ID),
        ("user_id", None, Reason.NO_IDENTIFIER),
        ("user_id", "", Reason.NO_IDENTIFIER),
    ],
)
def test_identifiers_become_handles_or_reasons(kind: Match, value: object, found: object) -> None:
    """A handle is folded as Iterable reports it; absent and malformed are different reasons."""
    good = {"email": "eve@x.io", "user_id": "eve"}[kind]
    for values in ([value], [good, value, good]):
        chunk = Chunk([f"[{number}]" for number in range(len(values))], [(value,) for value in values])
        names = chunk.identify(kind, 0)
        records = chunk.records(names)
        number = values.index(value)
        refused = records.fingerprints[number]
        if isinstance(found, Reason):
            called = () if found is Reason.NO_IDENTIFIER else (str(value),)
            assert refused == Invalid(f"[{number}]", found, names=called)
            assert records.handles(number) == ()
        else:
            assert not isinstance(refused, Invalid)
            assert records.handles(number) == (found,)
        assert sum(isinstance(one, Invalid) for one in records.fingerprints) == isinstance(found, Reason)


def test_a_key_is_read_from_its_columns() -> None:
    """In the order of the parameter, whatever the order of the columns; a missing one is named."""
    columns = ("name", "ID", "tenant")
    assert namer(columns, ["tenant", "id"])([("Ada", 7, "acme")]) == ['["acme",7]']
    assert namer(columns, ["id"])([("Ada", 7, "acme"), ("Eve", 8, "acme")]) == ["[7]", "[8]"]
    with pytest.raises(ModelError, match="no column 'nope'"):
        namer(columns, ["nope"])


def test_what_was_said_first_of_a_row_stands() -> None:
    """A row with several faults is refused once, and its neighbours are not."""
    chunk = Chunk(["[1]", "[2]"], [("a@x.io",), ("b@x.io",)])
    chunk.identify("email", 0)
    chunk.refuse(1, Reason.INVALID_VALUE, "first")
    chunk.refuse(1, Reason.TOO_LARGE, "second")
    records = chunk.records(["x", "y"])
    assert records.record(1) == Invalid("[2]", Reason.INVALID_VALUE, "first", (("email", "b@x.io"),))
    assert not isinstance(records.record(0), Invalid)


def test_salts_tell_bodies_apart() -> None:
    """What is not sent may still be news."""
    chunk = Chunk(["[1]", "[2]"], [("a@x.io",), ("a@x.io",)])
    same = chunk.records(["x", "x"])
    salted = chunk.records(["x", "x"], [b"1", b"2"])
    assert same.fingerprints[0] == same.fingerprints[1]
    assert salted.fingerprints[0] != salted.fingerprints[1]
    assert same.bodies == salted.bodies
