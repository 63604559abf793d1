from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api.objects import nest
from airflow_provider_iterable.api.values import Unreadable
from airflow_provider_iterable.columns import Columns, ColumnType, Kind, json_text, refused
from airflow_provider_iterable.errors import ConfigurationError, ModelError
from airflow_provider_iterable.mapping import (
    Column,
    Constant,
    FieldError,
    Fields,
    Json,
    Mapper,
    Nulls,
    key_text,
    key_texts,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "key_text.json").read_text("utf-8"))


class Grade(IntEnum):
    FIRST = 1


class Plan(StrEnum):
    FREE = "free"


class Text(str):
    """A driver's own string."""


class Number(int):
    """A driver's own integer."""


def sent(mapper: Mapper, row: tuple[Any, ...]) -> Any:
    """Return what a row's fields are as JSON."""
    refused: dict[int, str] = {}
    (payload,) = mapper.payloads([[value] for value in row], refused.__setitem__)
    if refused:
        raise FieldError(refused[0])
    return msgspec.json.decode(msgspec.json.encode(payload))


def mapped(fields: Fields | None, columns: tuple[str, ...], *row: Any, nulls: Nulls = "send", **options: Any) -> Any:
    """Map one row."""
    mapper = Mapper(fields, nulls, **options)
    mapper.bind(columns)
    return sent(mapper, row)


def test_a_field_takes_its_columns_value() -> None:
    """Fields are named by Iterable's names, in any order of columns; columns that are not mapped are left out."""
    assert mapped({"first": "a", "third": Column("c")}, ("c", "b", "a"), 3, 2, 1) == {"first": 1, "third": 3}


def test_one_column_may_fill_several_fields() -> None:
    """A column is no scarce good."""
    assert mapped({"x": "a", "y": "a"}, ("a",), 1) == {"x": 1, "y": 1}


def test_by_default_every_free_column_is_a_field() -> None:
    """Columns that other parameters use are no fields."""
    assert mapped(None, ("id", "name", "age"), 1, "Ada", 36, used=frozenset({"id"})) == {"name": "Ada", "age": 36}


def test_used_columns_are_found_whatever_their_case() -> None:
    """A database that folds names to upper case does not turn the key or an identifier into a field."""
    used = frozenset({"id", "email"})
    assert mapped(None, ("ID", "EMAIL", "NAME"), 1, "ada@example.com", "Ada", used=used) == {"NAME": "Ada"}


def test_by_default_dotted_columns_nest() -> None:
    """An alias with a dot is a nested field."""
    assert mapped(None, ("address.city", "age"), "London", 36) == {"address": {"city": "London"}, "age": 36}


def test_dotted_names_nest() -> None:
    """Siblings share their object, and the order of fields does not matter."""
    fields = {"a.x": "c1", "b": "c2", "a.y": "c3", "d.e.f": "c4"}
    expected = {"a": {"x": 1, "y": 3}, "b": 2, "d": {"e": {"f": 4}}}
    assert mapped(fields, ("c1", "c2", "c3", "c4"), 1, 2, 3, 4) == expected
    mapper = Mapper(fields)
    assert mapper.nests
    assert not Mapper({"a": "b"}).nests


def test_constants_stand_in_every_row() -> None:
    """A constant takes no column, may nest, and is rendered like any value."""
    fields: Fields = {
        "source": Constant("warehouse"),
        "meta.day": Constant(date(2024, 1, 1)),
        "n": "n",
        "none": Constant(None),
    }
    expected = {"source": "warehouse", "meta": {"day": "2024-01-01"}, "n": 1, "none": None}
    assert mapped(fields, ("n",), 1) == expected
    assert mapped({"a": Constant(1)}, ("n",), 5) == {"a": 1}


def test_a_constant_without_json_form_is_a_mistake_of_the_dag() -> None:
    """It is said when the model is opened, not row by row."""
    with pytest.raises(ConfigurationError, match="field photo: a value of type bytes"):
        Mapper({"photo": Constant(b"x")}).bind(("id",))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('[{"name":"Rex","age":3}]', [{"name": "Rex", "age": 3}]),
        (b'{"a":1.5}', {"a": 1.5}),
        ("null", None),
        ("5", 5),
        ('"text"', "text"),
        ([{"born": date(2020, 5, 1)}], [{"born": "2020-05-01"}]),
        ({"price": Decimal("5")}, {"price": 5.0}),
        (None, None),
        (7, 7),
    ],
)
def test_json_columns(value: object, expected: object) -> None:
    """JSON text is parsed; what the driver parsed already is rendered like any value."""
    assert mapped({"pets": Json("pets")}, ("pets",), value) == {"pets": expected}


def test_text_that_is_not_declared_stays_text() -> None:
    """Only ``Json`` parses: a string of braces is a string."""
    assert mapped({"note": "note"}, ("note",), "{}") == {"note": "{}"}


@pytest.mark.parametrize("value", ["", "{", "[1,]", "{'a':1}", "nan", b"\xff", "[" * 100_000, "[" * 2000 + "]" * 2000])
def test_broken_json_is_a_bad_value(value: object) -> None:
    """The row is refused with the field's name, and without the text."""
    with pytest.raises(FieldError) as refused:
        mapped({"pets": Json("pets"), "age": "age"}, ("pets", "age"), value, 1)
    assert str(refused.value) == "field pets: text that is not JSON"


@pytest.mark.parametrize(
    ("nulls", "own", "is_sent"),
    [("send", None, True), ("send", "skip", False), ("skip", None, False), ("skip", "send", True)],
)
@pytest.mark.parametrize("kind", [Column, Json])
def test_nulls_are_sent_or_skipped(kind: Any, nulls: Nulls, own: Nulls | None, is_sent: bool) -> None:
    """The field's own choice wins over the sync's; a null that is sent removes the field at Iterable."""
    fields = {"x": kind("x", nulls=own), "y": "y"}
    expected = {"y": 1} | ({"x": None} if is_sent else {})
    assert mapped(fields, ("x", "y"), None, 1, nulls=nulls) == expected


def test_nested_nulls_are_skipped_one_by_one() -> None:
    """Skipping a nested null leaves its siblings; without any, no empty object takes their place at Iterable."""
    fields = {"a.x": "x", "a.y": "y", "b": "b"}
    assert mapped(fields, ("x", "y", "b"), None, 1, 2, nulls="skip") == {"a": {"y": 1}, "b": 2}
    assert mapped(fields, ("x", "y", "b"), None, None, 2, nulls="skip") == {"b": 2}


def test_an_unknown_choice_about_nulls_is_refused() -> None:
    """There are two."""
    with pytest.raises(ConfigurationError, match='"send" or "skip", not \'drop\''):
        Mapper(None, "drop")  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"x": "nope"}, {"x": Json("nope")}, {"a": "id", "x": Column("nope")}])
def test_a_missing_column_lists_those_there_are(fields: Fields) -> None:
    """The message lets a person see the typo, and says that nothing was sent."""
    with pytest.raises(ModelError) as missing:
        Mapper(fields).bind(("id", "name"))
    assert str(missing.value) == "The model has no column 'nope'. Its columns are: id, name. Nothing was sent."


def test_case_is_forgiven_when_only_one_column_can_be_meant() -> None:
    """An exact name wins; a name that two columns could bear is not guessed."""
    assert mapped({"x": "Name"}, ("ID", "NAME"), 1, "Ada") == {"x": "Ada"}
    assert mapped({"x": "name"}, ("NAME", "name"), 1, 2) == {"x": 2}
    with pytest.raises(ModelError, match="no column 'Name'"):
        Mapper({"x": "Name"}).bind(("NAME", "name"))


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b"])
def test_names_that_are_none(name: str) -> None:
    """A dot stands between two names."""
    with pytest.raises(ConfigurationError, match="is not a field name"):
        Mapper({name: "a"})


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b.c", "a"), ("a.b", "x", "a.b.c")])
def test_a_field_inside_a_mapped_field_is_a_contradiction(names: tuple[str, ...]) -> None:
    """One of the two would win by accident; the message names both and the remedy."""
    with pytest.raises(ConfigurationError, match="Map the leaves, or the parent as Json"):
        Mapper(dict.fromkeys(names, "c"))
    with pytest.raises(ConfigurationError, match="Map the leaves"):
        Mapper(None).bind(names)


def test_names_that_only_resemble_are_no_contradiction() -> None:
    """Nesting goes by whole names."""
    assert mapped({"a": "x", "ab.c": "y"}, ("x", "y"), 1, 2) == {"a": 1, "ab": {"c": 2}}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"secret", "a value of type bytes"),
        (float("nan"), "number nan"),
        (Decimal("sNaN"), "number sNaN"),
        (2**63, "an integer beyond 64 bits"),
        ([2**64], "an integer beyond 64 bits"),
    ],
)
def test_a_bad_value_names_its_field(value: object, said: str) -> None:
    """Every row with it is refused, the first as the thousandth, and good rows in between are not."""
    mapper = Mapper({"a.b": "x", "c": "y"})
    mapper.bind(("x", "y"))
    for _ in range(3):
        with pytest.raises(FieldError) as refused:
            sent(mapper, (value, 1))
        assert str(refused.value) == f"field a.b: {said}"
        assert sent(mapper, (1, 2)) == {"a": {"b": 1}, "c": 2}


def test_a_value_nested_without_end_is_a_bad_value() -> None:
    """It costs its row, not the run."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(FieldError, match="field a"):
        mapped({"a": "a"}, ("a",), endless)


def test_naive_times_are_read_in_the_zone() -> None:
    """The mapper renders in the zone of the sync."""
    found = mapped({"at": "at"}, ("at",), datetime(2024, 7, 1, 12), zone=ZoneInfo("Europe/Paris"))
    assert found == {"at": "2024-07-01 10:00:00 +00:00"}


values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.decimals(allow_nan=False)
names = st.lists(st.sampled_from(["a", "b.c", "b.d", "e", "f.g.h"]), min_size=1, unique=True)


@given(
    names=names,
    rows=st.lists(st.tuples(*[values] * 5), min_size=1, max_size=5),
    nulls=st.sampled_from(["send", "skip"]),
)
def test_rows_are_mapped_independently(names: list[str], rows: list[tuple[Any, ...]], nulls: Nulls) -> None:
    """The other rows of its chunk change nothing for a row, whatever their types, and a bad one is named alone."""
    columns = ("c0", "c1", "c2", "c3", "c4")
    fields: Fields = {name: columns[number] for number, name in enumerate(names)}
    mapper = Mapper(fields, nulls)
    mapper.bind(columns)
    refused: dict[int, str] = {}
    payloads = mapper.payloads(list(zip(*rows, strict=True)), refused.__setitem__)
    for number, (row, payload) in enumerate(zip(rows, payloads, strict=True)):
        given_values = {name: row[number] for number, name in enumerate(names)}
        flat = {
            name: float(value) if isinstance(value, Decimal) else value
            for name, value in given_values.items()
            if value is not None or nulls == "send"
        }
        if any(isinstance(value, float) and abs(value) == float("inf") for value in flat.values()):
            assert number in refused
        else:
            assert number not in refused
            assert msgspec.json.decode(msgspec.json.encode(payload)) == nest(flat)


def test_json_null_is_a_null() -> None:
    """The text ``null`` is sent or skipped as a null of the database is."""
    fields: Fields = {"a": Json("a"), "b": "b"}
    assert mapped(fields, ("a", "b"), "null", 1) == {"a": None, "b": 1}
    assert mapped(fields, ("a", "b"), "null", 1, nulls="skip") == {"b": 1}


BUILD: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "decimal": Decimal,
    "uuid": UUID,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "null": lambda _: None,
}


def built(parts: list[dict[str, Any]]) -> tuple[Any, ...]:
    """Return the key that a case of the golden file describes."""
    return tuple(BUILD[kind](value) for part in parts for kind, value in part.items())


@pytest.mark.parametrize("case", GOLDEN, ids=[f"{number}: {case['fact']}" for number, case in enumerate(GOLDEN)])
def test_key_texts_are_what_they_always_were(case: dict[str, Any]) -> None:
    """A key text that changed would make every remembered row a new one: the golden file may grow, never change."""
    key = built(case["key"])
    assert key_text(key) == case["text"]
    assert key_texts([[part] for part in key]) in (None, [case["text"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [(Grade.FIRST, "[1]"), (Number(7), "[7]"), (Text("a"), '["a"]'), (Plan.FREE, '["free"]')],
)
def test_keys_of_a_drivers_own_types(value: object, text: str) -> None:
    """Subclasses of strings and integers are what they are made of."""
    assert key_text((value,)) == text


@pytest.mark.parametrize(
    "value",
    [b"secret", memoryview(b"secret"), [1], {"a": 1}, float("nan"), float("inf"), Decimal("NaN"), Decimal("7E+5000")],
    ids=["bytes", "memoryview", "array", "object", "nan", "infinity", "decimal nan", "decimal too large"],
)
def test_keys_that_are_none(value: object) -> None:
    """Binary, nested and infinite values name no row, and the message does not tell them."""
    with pytest.raises(FieldError, match="primary key") as refused:
        key_text((1, value))
    assert "secret" not in str(refused.value)
    assert "7E" not in str(refused.value)


@given(st.lists(st.tuples(st.integers() | st.text(max_size=3), st.integers(0, 3)), min_size=1, max_size=5))
def test_the_keys_of_a_chunk_are_those_of_its_rows(keys: list[tuple[Any, ...]]) -> None:
    """Whether named one by one or together, unless it takes a look at each."""
    together = key_texts(list(zip(*keys, strict=True)))
    if together is None:
        assert any(isinstance(part, int) and abs(part) >= 2**63 for key in keys for part in key)
    else:
        assert together == [key_text(key) for key in keys]


@pytest.mark.parametrize("value", [None, True, 1.0, Decimal(1), "\ud800", "x" * 498])
def test_a_chunk_with_an_unusual_key_is_named_row_by_row(value: object) -> None:
    """Nulls, other types and long texts take a closer look."""
    assert key_texts([[1, value]]) is None


parts = (
    st.integers()
    | st.booleans()
    | st.text()
    | st.uuids()
    | st.dates()
    | st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29))
    | st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones())
    | st.floats(-(2**53), 2**53)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=3)
)


@given(st.lists(parts, min_size=1, max_size=3))
def test_a_key_text_is_json_and_depends_on_the_value_alone(key: list[Any]) -> None:
    """The same key has the same text from whichever driver: as Decimal, in another zone, as a string's subclass."""
    text = key_text(key)
    assert text is not None
    assert len(json.loads(text)) == len(key)
    assert key_text([other(part) for part in key]) == text


def other(part: Any) -> Any:
    """Return the same value as another driver would."""
    if isinstance(part, bool):
        return part
    if isinstance(part, int):
        return Decimal(part)
    if isinstance(part, float):
        return Decimal(repr(part))
    if isinstance(part, datetime) and part.tzinfo:
        return part.astimezone(timezone(timedelta(hours=3))).astimezone(UTC)
    return Text(part) if isinstance(part, str) else part


simple = st.lists(st.text(max_size=3) | st.integers(-2, 20), min_size=1, max_size=3)


@given(left=simple, right=simple)
def test_different_keys_have_different_texts(left: list[Any], right: list[Any]) -> None:
    """Neither quotes nor commas in a part make one key look like another."""
    assert (key_text(left) == key_text(right)) is (left == right)


@pytest.mark.parametrize(
    ("source", "words"),
    [(Column("a", nulls="typo"), 'nulls must be "send" or "skip"'), (42, "give a column's name")],  # type: ignore[arg-type]
)
def test_a_source_that_is_none_is_refused_when_the_dag_is_read(source: Any, words: str) -> None:
    """A misspelt nulls policy or a source of another type is a mistake of the DAG's author, told at once."""
    with pytest.raises(ConfigurationError, match=words):
        Mapper({"field": source})


@dataclass(frozen=True)
class Bound:
    """A mapper of one column of a type, and what it refuses."""

    kind: ColumnType
    source: Any = "c"
    refused: list[str] = field(default_factory=list)

    def sent(self, *values: Any) -> list[Any]:
        """Return what is sent for the values."""
        mapper = Mapper({"f": self.source})
        mapper.bind(Columns(["c"], [self.kind]))
        found = mapper.payloads([values], lambda row, detail: self.refused.append(f"{row}: {detail}"))
        return [one["f"] for one in msgspec.json.decode(msgspec.json.encode(found))]


JSON = ColumnType(Kind.JSON, "json", json_text)


@pytest.mark.parametrize("source", ["c", Column("c"), Json("c")])
def test_a_column_of_json_is_what_its_text_means(source: Any) -> None:
    """With and without ``Json()``; a text within it is a text, and is not parsed again."""
    bound = Bound(JSON, source)
    assert bound.sent('{"a": [1, 2]}', None, '"[1]"', "7") == [{"a": [1, 2]}, None, "[1]", 7]
    assert bound.refused == []
    assert bound.sent("{}", "{oops") == [{}, None]
    assert bound.refused == ["1: field f: text that is not JSON"]


def test_text_that_looks_like_json_stays_text() -> None:
    """Unless ``Json()`` says that it is some."""
    assert Bound(ColumnType(Kind.TEXT)).sent('{"a": 1}') == ['{"a": 1}']
    assert Bound(ColumnType(Kind.TEXT), Json("c")).sent('{"a": 1}') == [{"a": 1}]


def test_json_that_the_driver_has_parsed_is_not_parsed_again() -> None:
    """A text in it would not be JSON."""
    assert Bound(ColumnType(Kind.JSON), Json("c")).sent({"a": 1}, "a", None) == [{"a": 1}, "a", None]


def test_what_a_type_does_to_values_is_part_of_the_mapping() -> None:
    """A database that compares sees the column alone: what becomes of it must not change unnoticed."""

    def text(kind: ColumnType) -> str:
        mapper = Mapper({"f": "c"})
        mapper.bind(Columns(["c"], [kind]))
        return mapper.text

    assert text(JSON) != text(ColumnType(Kind.JSON)) == text(ColumnType(Kind.TEXT))


def test_a_cell_that_cannot_be_read_costs_its_row() -> None:
    """Whatever its type makes of values that can."""
    for kind in (ColumnType(Kind.DATE), JSON):
        bound = Bound(kind)
        assert bound.sent(None, Unreadable("a date beyond the years 1 to 9999")) == [None, None]
        assert bound.refused == ["1: field f: a date beyond the years 1 to 9999"]
    with pytest.raises(FieldError, match="primary key: a date beyond the years 1 to 9999"):
        key_text(["a", Unreadable("a date beyond the years 1 to 9999")])


def test_a_type_without_json_form_says_what_helps() -> None:
    """Its rows are refused, and nulls are nulls."""
    bound = Bound(ColumnType(Kind.UNKNOWN, "int4range", refused("int4range", "cast it, as in c::text")))
    assert bound.sent(None, "[1,5)") == [None, None]
    assert bound.refused == ["1: field f: a value of type int4range, which has no JSON form; cast it, as in c::text"]


@pytest.mark.parametrize(
    "name",
    [
        "?column?",
        "f0_",
        "_col3",
        "count(*)",
        "upper(name)",
        "a || b",
        "1",
        "'x'",
        "a::text",
        "EXPR$0",
        "CASE WHEN a",
        "a+1",
    ],
)
def test_an_expression_without_a_name_is_no_field(name: str) -> None:
    """What a database calls it would be a field for ever; in a mapping it may be used."""
    mapper = Mapper(None)
    with pytest.raises(ModelError, match=r"^Column 2 of the model has no name, or one that looks like an expression"):
        mapper.bind(["id", name])
    mapper = Mapper({"total": name})
    mapper.bind(["id", name])
    assert mapper.names == ("total",)
    mapper = Mapper(None, used=frozenset({name}))
    mapper.bind(["id", name])
    assert mapper.names == ("id",)


@pytest.mark.parametrize("name", ["First name", "größe", "a-b", "$spent", "_id", "f0", "Revenue (USD)", "column1", "№"])
def test_names_that_somebody_chose_are_fields(name: str) -> None:
    """However odd they are."""
    mapper = Mapper(None)
    mapper.bind([name])
    assert mapper.names == (name,)
