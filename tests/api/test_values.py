from __future__ import annotations

import ipaddress
import json
import math
from collections import OrderedDict, namedtuple
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.api import field_types, values
from airflow_provider_iterable.api.field_types import coerce, fits
from airflow_provider_iterable.api.values import BadValue, Renderer, is_date, moment, shape
from airflow_provider_iterable.sandbox.project.schema import Schema
from airflow_provider_iterable.sandbox.shapes import values as iterable

SECRET = "Ada.Lovelace@example.com"
PARIS = ZoneInfo("Europe/Paris")


class Text(str):
    """A driver's own string."""


class Number(int):
    """A driver's own integer."""


class Moment(datetime):
    """A driver's own date-time."""


class Plan(StrEnum):
    FREE = "free"


class Size(IntEnum):
    BIG = 3


class Shade(Enum):
    DARK = Decimal("0.5")


class Pet(NamedTuple):
    name: str
    born: date


Unnamed = namedtuple("Unnamed", [])


class Silent(tzinfo):
    """A zone with an offset in odd seconds, as local mean times have."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        """Return the offset of Amsterdam before 1937."""
        return timedelta(minutes=19, seconds=32)

    def dst(self, dt: datetime | None) -> timedelta:
        """Return no daylight saving."""
        return timedelta()

    def tzname(self, dt: datetime | None) -> str:
        """Return its name."""
        return "AMT"


RENDERED = [
    (None, "null"),
    ("Ada", '"Ada"'),
    ("", '""'),
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (2**63 - 1, "9223372036854775807"),
    (-(2**63), "-9223372036854775808"),
    (5.0, "5.0"),
    (-0.5, "-0.5"),
    (1e300, "1e300"),
    (Decimal("5"), "5.0"),
    (Decimal("9007199254740993"), "9007199254740992.0"),
    (Decimal("12345678901234567890"), "1.2345678901234567e19"),
    (Decimal("1E+20"), "1e20"),
    (Decimal("19.90"), "19.9"),
    (Decimal("-0.1"), "-0.1"),
    (date(2024, 2, 29), '"2024-02-29"'),
    (date(987, 1, 2), '"0987-01-02"'),
    (datetime(2024, 2, 29, 13, 37, 19), '"2024-02-29 13:37:19 +00:00"'),
    (datetime(2024, 2, 29, 13, 37, 19, 999_999, UTC), '"2024-02-29 13:37:19 +00:00"'),
    (datetime(2024, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))), '"2023-12-31 18:45:00 +00:00"'),
    (datetime(1900, 1, 1, tzinfo=Silent()), '"1899-12-31 23:40:28 +00:00"'),
    (datetime(987, 1, 2), '"0987-01-02 00:00:00 +00:00"'),
    (datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=20))), '"2023-12-31 23:59:40 +00:00"'),
    (time(23, 59, 1), '"23:59:01"'),
    (time(23, 59, 1, 500_000), '"23:59:01.500000"'),
    (timedelta(hours=26, seconds=1), '"26:00:01"'),
    (timedelta(hours=-3), '"-03:00:00"'),
    (timedelta(seconds=1.5), '"00:00:01.500000"'),
    (timedelta(seconds=-1.5), '"-00:00:01.500000"'),
    (UUID("6BA7B810-9DAD-11D1-80B4-00C04FD430C8"), '"6ba7b810-9dad-11d1-80b4-00c04fd430c8"'),
    ([1, [2.0, None]], "[1,[2.0,null]]"),
    ((1, "a"), '[1,"a"]'),
    ([], "[]"),
    ({"a": {"b": Decimal("1")}, 2: date(2024, 1, 1)}, '{"a":{"b":1.0},"2":"2024-01-01"}'),
    ({1.5: 1, True: 2, timedelta(days=1): 3, Size.BIG: 4}, '{"1.5":1,"true":2,"24:00:00":3,"3":4}'),
    ({datetime(2024, 1, 1): 1, Decimal("1.50"): 2}, '{"2024-01-01 00:00:00 +00:00":1,"1.5":2}'),
    (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (Pet("Rex", date(2020, 5, 1)), '{"name":"Rex","born":"2020-05-01"}'),
    (Unnamed(), "[]"),
    (Text("Ada"), '"Ada"'),
    (Number(7), "7"),
    (Moment(2024, 1, 1, 12, tzinfo=PARIS), '"2024-01-01 11:00:00 +00:00"'),
    (Plan.FREE, '"free"'),
    (Size.BIG, "3"),
    (Shade.DARK, "0.5"),
    (ipaddress.ip_address("192.0.2.1"), '"192.0.2.1"'),
    (ipaddress.ip_address("2001:DB8::1"), '"2001:db8::1"'),
    (ipaddress.ip_network("192.0.2.0/24"), '"192.0.2.0/24"'),
    (ipaddress.ip_interface("192.0.2.1/24"), '"192.0.2.1/24"'),
]


def named(table: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return test IDs: values of one type are numbered, for their texts may be equal."""
    return [f"{type(row[0]).__name__}-{number}" for number, row in enumerate(table)]


@pytest.mark.parametrize(("value", "text"), RENDERED, ids=named(RENDERED))
def test_what_drivers_return_becomes_json(value: object, text: str) -> None:
    """Each Python value has one JSON text, twice in a row the same, so that a learned type changes nothing."""
    render = Renderer()
    assert msgspec.json.encode(render(value)).decode() == text
    assert msgspec.json.encode(render(value)).decode() == text


REFUSED = [
    (b"Ada", "a value of type bytes"),
    (bytearray(b"Ada"), "a value of type bytearray"),
    (memoryview(b"Ada"), "a value of type memoryview"),
    ({"Ada"}, "a value of type set"),
    (object(), "a value of type object"),
    (math.nan, "number nan"),
    (math.inf, "number inf"),
    (-math.inf, "number -inf"),
    (Decimal("NaN"), "number NaN"),
    (Decimal("Infinity"), "number Infinity"),
    (Decimal("1E+400"), "number beyond the range of a double"),
    (2**63, "an integer beyond 64 bits"),
    (-(2**63) - 1, "an integer beyond 64 bits"),
    (Number(2**64), "an integer beyond 64 bits"),
    ([1, {"a": 2**70}], "an integer beyond 64 bits"),
    ({"a": b"Ada"}, "a value of type bytes"),
    ({b"Ada": 1}, "a value of type bytes"),
    ({math.nan: 1}, "number nan"),
    ({None: 1}, "an object with a key that is no text"),
    ({(1, 2): 1}, "an object with a key that is no text"),
    ({1: 1, "1": 2}, "an object of which several keys are the same text"),
    (datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), "a date beyond the years 1 to 9999"),
    (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "a date beyond the years 1 to 9999"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=named(REFUSED))
def test_what_has_no_json_form_is_refused(value: object, message: str) -> None:
    """Binary data, numbers Iterable has no type for and unknown types are refused, and the message tells no value."""
    with pytest.raises(BadValue) as refused:
        Renderer()(value)
    assert str(refused.value) == message


def test_whole_doubles_stay_doubles() -> None:
    """A column of doubles types its field as double, even when its first value is whole."""
    sent = msgspec.json.encode({"price": Renderer()(5.0)})
    assert sent == b'{"price":5.0}'
    assert type(msgspec.json.decode(sent)["price"]) is float


@pytest.mark.parametrize(
    ("naive", "text"),
    [
        (datetime(2024, 1, 15, 12), "2024-01-15 11:00:00 +00:00"),
        (datetime(2024, 7, 15, 12), "2024-07-15 10:00:00 +00:00"),
        (datetime(2024, 10, 27, 2, 30), "2024-10-27 00:30:00 +00:00"),
        (datetime(2024, 10, 27, 2, 30, fold=1), "2024-10-27 01:30:00 +00:00"),
        (datetime(2024, 3, 31, 2, 30), "2024-03-31 01:30:00 +00:00"),
    ],
)
def test_naive_times_are_read_in_the_zone_of_the_sync(naive: datetime, text: str) -> None:
    """Daylight saving counts, also in the hour that exists twice and in the one that does not."""
    assert moment(naive, PARIS) == text
    assert Renderer(PARIS)([naive]) == [text]


def test_a_naive_time_that_leaves_the_calendar_is_refused() -> None:
    """The first hour of the year 1 in Paris lies before it in UTC; that is a bad value, not a crash."""
    with pytest.raises(BadValue):
        moment(datetime(1, 1, 1), PARIS)


offsets = st.integers(-82800, 82800).map(lambda seconds: timedelta(seconds=seconds))
calendar = (datetime(1, 1, 3), datetime(9999, 12, 29))
moments = (
    st.datetimes(*calendar)
    | st.datetimes(*calendar, timezones=st.timezones())
    | st.builds(lambda value, offset: value.replace(tzinfo=timezone(offset)), st.datetimes(*calendar), offsets)
)


@given(value=moments, zone=st.just(UTC) | st.timezones())
def test_every_date_time_is_a_date_to_iterable(value: datetime, zone: tzinfo) -> None:
    """Whatever year, zone and fraction, the text is one that Iterable types as a date and keeps as it is."""
    text = Renderer(zone)(value)
    assert iterable.normal_date(text) == text
    aware = value if value.tzinfo else value.replace(tzinfo=zone)
    assert datetime.fromisoformat(text.replace(" +", "+")) == aware.astimezone(UTC).replace(microsecond=0)


@given(st.dates())
def test_every_date_is_a_date_to_iterable(value: date) -> None:
    """Dates without a time are typed as dates too."""
    text = Renderer()(value)
    assert iterable.normal_date(text) == f"{text} 00:00:00 +00:00"


ADDRESSES = [
    ("ada@example.com", "ada@example.com"),
    ("  Ada.Lovelace+News@Example.COM\n", "ada.lovelace+news@example.com"),
    ("o'brien@x.io", "o'brien@x.io"),
    ("a!#$%&*+-/=?^_`{|}~@x.io", "a!#$%&*+-/=?^_`{|}~@x.io"),
    ("x" * 64 + "@x.io", "x" * 64 + "@x.io"),
    ('"a b"@x.io', '"a b"@x.io'),
    ('"' + "a@" * 20 + '"@x.io', '"' + "a@" * 20 + '"@x.io'),
    (r"a\@b@x.io", r"a\@b@x.io"),
    ("ä@x.io", "ä@x.io"),
    ("a@bücher.de", "a@bücher.de"),
    ("a@xn--bcher-kva.de", "a@xn--bcher-kva.de"),
    ("a@пример.рф", "a@пример.рф"),
    ("a@x.xn--p1ai", "a@x.xn--p1ai"),
    ("a@उदाहरण.भारत", "a@उदाहरण.भारत"),
    ("a@☃.net", "a@☃.net"),
    ("a@x。io", "a@x。io"),
    ("user123+147178873@placeholder.email", "user123+147178873@placeholder.email"),
    ("foo@", None),
    ("000", None),
    ("", None),
    (" ", None),
    ("@x.io", None),
    ("user @example.com", None),
    ("a.@x.io", None),
    (".a@x.io", None),
    ("a..b@x.io", None),
    ("a@x", None),
    ("a@b@c.io", None),
    ("a@x..io", None),
    ("a@x.io.", None),
    ("a@-x.io", None),
    ("a@x-.io", None),
    ("a@1.2.3.4", None),
    ("a@[1.2.3.4]", None),
    ("a:b@x.io", None),
    ("a@x.c0m", None),
    ("x" * 65 + "@x.io", None),
    ("ada@example.com, bob@example.com", None),
    ("Ada <ada@example.com>", None),
    (None, None),
    (5, None),
    (True, None),
    (b"ada@example.com", None),
]


@pytest.mark.parametrize(("value", "folded"), ADDRESSES, ids=named(ADDRESSES))
def test_addresses_are_trimmed_folded_and_checked(value: object, folded: str | None) -> None:
    """What is no address is none before it is sent; what is one has the form in which Iterable reports it."""
    assert values.email(value) == folded


@pytest.mark.parametrize("value", [address for address, _ in ADDRESSES if isinstance(address, str)])
def test_no_address_is_refused_that_iterable_takes(value: str) -> None:
    """The check is never the stricter one: a row must not be rejected for an address that works."""
    folded = value.strip().lower()
    assert values.email(value) == folded or not iterable.is_email(folded)


@pytest.mark.parametrize(
    "value",
    ["a@x.notatld", "a@x_y.io", "a@" + "x" * 64 + ".io", "a@" + "x." * 130 + "io"],
)
def test_some_addresses_pass_that_iterable_refuses(value: str) -> None:
    """The list of top-level domains, underscores and lengths of names are left to Iterable, which answers per row."""
    assert values.email(value) == value
    assert not iterable.is_email(value)


pieces = st.sampled_from(
    [
        "a",
        "z9",
        "-",
        "_",
        ".",
        "@",
        '"',
        "\\",
        "'",
        " ",
        "ß",
        "भारत",
        "☃",
        "。",
        "xn--p1ai",
        "io",
        "com",
        "é",
        "\t",
        "+",
    ]
)


@given(st.lists(pieces, max_size=12).map("".join) | st.emails())
def test_no_text_is_refused_as_an_address_that_iterable_takes(text: str) -> None:
    """The same for any text, quoted names, escapes and other scripts included."""
    folded = text.strip().lower()
    if iterable.is_email(folded):
        assert values.email(text) == folded


@pytest.mark.parametrize(
    "text", ["a@" + "ä" * 5000, "a@" + "ä。" * 3000 + "!", '"\\' * 3000, "a." * 5000, "a@" + "a-" * 5000]
)
def test_hopeless_texts_are_refused_at_once(text: str) -> None:
    """The check takes no exponential time, whatever a column holds."""
    assert values.email(text) is None


USER_IDS = [
    ("u-1", "u-1"),
    ("A b", "A b"),
    ("a" * 52, "a" * 52),
    ("a/b+c", "a/b+c"),
    (7, "7"),
    (-7, "-7"),
    (Number(7), "7"),
    (7.0, "7"),
    (Decimal("7"), "7"),
    (Decimal("7.00"), "7"),
    (Decimal("1E+3"), "1000"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Text("u-1"), "u-1"),
    ("", None),
    (" ", None),
    (" a", None),
    ("a ", None),
    ("a" * 53, None),
    ("ä", None),
    ("a\tb", None),
    ("a\n", None),
    ("a\x00", None),
    (7.5, None),
    (math.nan, None),
    (math.inf, None),
    (Decimal("NaN"), None),
    (Decimal("Infinity"), None),
    (10**52, None),
    (10**5000, None),
    (Decimal("1E+5000"), None),
    (True, None),
    (None, None),
    (b"u-1", None),
    (date(2024, 1, 1), None),
]


@pytest.mark.parametrize(("value", "text"), USER_IDS, ids=named(USER_IDS))
def test_user_ids_are_strings_and_checked(value: object, text: str | None) -> None:
    """Numbers and UUIDs that drivers return become the strings Iterable wants; the rest is refused before sending."""
    assert values.user_id(value) == text


@given(st.text(max_size=60) | st.text(st.characters(max_codepoint=127), max_size=60))
def test_user_ids_are_refused_as_iterable_refuses_them(text: str) -> None:
    """The check agrees with Iterable's, but for leading spaces, which this provider's own rule refuses too."""
    found = values.user_id(text)
    assert found in (None, text)
    if text == text.lstrip():
        assert (found is not None) is iterable.is_user_id(text)
    else:
        assert found is None


DATES = [
    "2024-11-25",
    "2024-11-25 13:37:19",
    "2024-11-25 13:37:19 -04:00",
    "2020-08-19T20:50:04.000Z",
    "2020-08-19T20:50:04.123+02:00",
    "0987-01-02",
]
NO_DATES = [
    "2024-11-25T13:37:19Z",
    "2020-04-13 13:37:19.039",
    "2020-04-13T13:37:19.039",
    "2020-04-13T13:37:19.039+0000",
    "2020-04-13 13:37:19 00:00",
    "2020-04-13 13:37:19+00:00",
    "2024/11/25",
    "0000-00-00",
    "0000-00-00 00:00:00",
    "2023-02-29",
    "2023-01-01 24:00:00",
    "2023-01-01 10:60:00",
    "2023-01-01 10:00:00 +24:00",
    "2023-01-01 10:00:00 +99:99",
    "9999-12-31 23:59:59 -01:00",
    "٢٠٢٤-11-25",
    "2020-08-19T20:50:04.\u0660\u0660\u0660Z",
    "2024-11-25\n",
    " 2024-11-25",
    "",
]


@pytest.mark.parametrize("text", DATES + NO_DATES)
def test_a_date_is_what_iterable_types_as_one(text: str) -> None:
    """Five forms are dates; what merely looks like one is a string, and would fail a batch."""
    assert is_date(text) is (text in DATES)
    assert is_date(text) is (iterable.normal_date(text) is not None)


@given(
    st.from_regex(
        r"\d{4}-[01]\d-[0-3]\d([ T][0-2]\d:[0-6]\d:[0-6]\d(\.\d{3})?( ?([+-]\d\d:?\d\d|Z))?)?", fullmatch=True
    )
)
def test_dates_are_judged_as_iterable_judges_them(text: str) -> None:
    """The same for anything that resembles a date."""
    assert is_date(text) is (iterable.normal_date(text) is not None)


GEO = {"lat": 1.5, "lon": 2}
FITTING: list[tuple[Any, str, bool]] = [
    (None, "string", True),
    (None, "long", True),
    ("a", "string", True),
    ("2024-01-01", "string", True),
    (1, "string", False),
    (True, "string", False),
    ({}, "string", False),
    (True, "boolean", True),
    ("true", "boolean", False),
    (1, "boolean", False),
    (5, "long", True),
    (2**63 - 1, "long", True),
    (2**63, "long", False),
    (-(2**63) - 1, "long", False),
    (5.0, "long", False),
    (True, "long", False),
    ("5", "long", False),
    (5, "double", True),
    (5.5, "double", True),
    (True, "double", False),
    ("5.5", "double", False),
    ("2024-01-01", "date", True),
    ("0000-00-00 00:00:00", "date", False),
    ("Ada", "date", False),
    (20240101, "date", False),
    ({"a": 1}, "object", True),
    ("a", "object", False),
    ({"a": 1}, "nested", True),
    ([{"a": 1}], "nested", True),
    (GEO, "geo_location", True),
    ("1,2", "geo_location", False),
    ([], "long", True),
    ([1, 2], "long", True),
    ([1, None], "long", True),
    ([1, "2"], "long", False),
    ([[1], [2]], "long", True),
    (["a", 1], "string", False),
    ([{"a": 1}], "object", True),
    ("anything", "a_type_of_the_future", True),
]


@pytest.mark.parametrize(("value", "expected", "does"), FITTING, ids=named(FITTING))
def test_fitting_values(value: Any, expected: str, does: bool) -> None:
    """A value fits when Iterable takes it into a field of that type; arrays are judged by their elements."""
    assert fits(value, expected) is does


@pytest.mark.parametrize(
    ("value", "expected", "coerced"),
    [
        (5.0, "long", 5),
        (-0.0, "long", 0),
        ("5", "long", 5),
        ("-12", "long", -12),
        ("0", "long", 0),
        ("999999999999999999", "long", 999_999_999_999_999_999),
        ("5", "double", 5.0),
        ("19.90", "double", 19.9),
        ("-0.5", "double", -0.5),
        ("2024-11-25T13:37:19Z", "date", "2024-11-25 13:37:19 +00:00"),
        ("2024-11-25T13:37:19.039+02:00", "date", "2024-11-25T13:37:19.039+02:00"),
        ("2024-11-25T13:37:19.039+0200", "date", "2024-11-25 11:37:19 +00:00"),
        ("2024-11-25 13:37:19.039", "date", "2024-11-25 13:37:19 +00:00"),
        ("20241125", "date", "2024-11-25 00:00:00 +00:00"),
        ("true", "boolean", True),
        ("false", "boolean", False),
        ("t", "boolean", True),
        ("f", "boolean", False),
        (1, "boolean", True),
        (0, "boolean", False),
        (5, "string", "5"),
        (0.1, "string", "0.1"),
        (2.0**53 - 1, "string", "9007199254740991.0"),
        (2.0**53 - 1, "long", 2**53 - 1),
        (True, "string", "true"),
        (False, "string", "false"),
        (["1", 2, None, [3.0]], "long", [1, 2, None, [3]]),
    ],
)
def test_coercions_that_lose_nothing(value: Any, expected: str, coerced: Any) -> None:
    """A value of another type goes in the expected one where both say the same."""
    found = coerce(value, expected)
    assert (found, json.dumps(found)) == (coerced, json.dumps(coerced))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5.5, "long"),
        (1e300, "long"),
        (2.0**53, "long"),
        (2.0**53, "string"),
        (-(2.0**53), "string that is no date"),
        (2**63, "long"),
        (True, "long"),
        ("007", "long"),
        ("+5", "long"),
        ("5.0", "long"),
        ("-0", "long"),
        ("5\n", "long"),
        (" 5", "long"),
        ("1_000", "long"),
        ("99999999999999999999", "long"),
        ("\u0665", "long"),
        ("1e5", "double"),
        ("1,5", "double"),
        ("nan", "double"),
        ("0.12345678901234567", "double"),
        (True, "double"),
        ("TRUE", "boolean"),
        ("yes", "boolean"),
        (2, "boolean"),
        (-1, "boolean"),
        (1.0, "boolean"),
        ("0000-00-00 00:00:00", "date"),
        ("tomorrow", "date"),
        ("25.11.2024", "date"),
        (20241125, "date"),
        ("0001-01-01T00:00:00+05:00", "date"),
        ("9999-12-31T23:59:59-05:00", "date"),
        ({"a": 1}, "string"),
        ("a", "object"),
        ([1], "object"),
        (["1", "x"], "long"),
    ],
)
def test_coercions_that_would_lose_are_refused(value: Any, expected: str) -> None:
    """What is ambiguous, inexact or out of range is no value of the type; the message is its shape."""
    with pytest.raises(BadValue) as refused:
        coerce(value, expected)
    culprit = value if not isinstance(value, list) else next(v for v in value if not fits(v, expected) and v != "1")
    assert str(refused.value) == shape(culprit)


TYPES = ["string", "boolean", "long", "double", "date", "object", "nested", "geo_location"]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.integers().map(str)
    | st.floats(allow_nan=False).map(str)
    | moments.map(datetime.isoformat)
    | st.dates().map(date.isoformat)
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@given(value=json_values, expected=st.sampled_from(TYPES))
def test_coercing_fits_or_raises(value: Any, expected: str) -> None:
    """There is no third way, and what fits already is left as it is."""
    try:
        found = coerce(value, expected)
    except BadValue:
        assert not fits(value, expected)
        return
    assert fits(found, expected)
    if fits(value, expected):
        assert found is value


@given(value=scalars, expected=st.sampled_from(TYPES))
def test_coercing_never_loses(value: Any, expected: str) -> None:
    """The coerced value says what the value said: read back as its own type, it is the same."""
    try:
        found = coerce(value, expected)
    except BadValue:
        return
    if type(found) is type(value):
        if found != value:
            stated = datetime.fromisoformat(value)
            stated = stated if stated.tzinfo else stated.replace(tzinfo=UTC)
            assert datetime.fromisoformat(found.replace(" +", "+")) == stated.astimezone(UTC).replace(microsecond=0)
    elif isinstance(value, bool):
        assert {"true": True, "false": False}[found] is value
    elif isinstance(found, bool):
        assert str(found).lower() == value
    elif isinstance(found, float):
        assert Decimal(repr(found)) == Decimal(value)
    elif isinstance(found, int) and isinstance(value, str):
        assert str(found) == value
    else:
        assert type(value)(found) == value


@given(value=json_values, expected=st.sampled_from(TYPES))
def test_what_does_not_fit_fails_at_iterable(value: Any, expected: str) -> None:
    """Values are never held back that Iterable would take: nothing fits less here than there."""
    schema = Schema("emailListIds")
    schema.types["field"] = expected
    ruling = schema.rule([{"field": value}], create=True, limit=1000)
    if not ruling.mismatches:
        assert fits(value, expected)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0000-00-00 00:00:00", "string like 0000-00-00 00:00:00"),
        ("2024-11-25", "string like 0000-00-00"),
        (SECRET, "string like xxx.xxxxxxxx@xxxxxxx.xxx"),
        ("Ünïcödé ☃ 9٣", "string like xxxxxxx x 0x"),
        ("a\nb\x00", "string like xxxx"),
        ("a" * 41, "string like " + "x" * 40 + "..."),
        ("", "empty string"),
        ("*", "string of 1 sign"),
        ("+-+ /", "string of 5 signs"),
        (42, "integer"),
        (42.5, "decimal number"),
        (True, "boolean"),
        (None, "null"),
        ({"secret": SECRET}, "object"),
        ([], "array of 0"),
        ([SECRET, 1], "array of 2, first string like xxx.xxxxxxxx@xxxxxxx.xxx"),
    ],
)
def test_shapes(value: Any, said: str) -> None:
    """A value is described by its type and form, so that a person finds it without being told it."""
    assert shape(value) == said


@given(json_values)
def test_a_shape_tells_no_value(value: Any) -> None:
    """No letter but x, no digit but 0, nothing that breaks a line; other characters only where they stood."""
    said = shape(value).replace("string like ", "")
    for word in (
        "array of ",
        ", first ",
        "empty string",
        "string of ",
        " signs",
        " sign",
        "integer",
        "decimal number beyond the digits of a double",
        "decimal number",
        "object",
        "boolean",
        "null",
        *map(str, range(1, 10)),
    ):
        said = said.replace(word, "")
    assert said.isascii()
    assert not said or said.isprintable()
    assert {c for c in said if c.isalnum()} <= {"x", "0"}


identifiers = (
    st.none() | st.integers() | st.booleans() | st.text(max_size=4) | st.sampled_from(["a@x.io", " A@x.io ", "u-1"])
)


@given(st.lists(identifiers, min_size=1, max_size=4))
def test_a_column_of_identifiers_is_judged_as_each_of_them(column: list[Any]) -> None:
    """Together or one by one makes no difference but of time."""
    assert values.emails(column) == [values.email(value) for value in column]
    assert values.user_ids(column) == [values.user_id(value) for value in column]


numbers = st.integers(-(2**65), 2**65) | st.floats() | st.decimals(allow_nan=True, allow_infinity=True)
moments = st.datetimes() | st.datetimes(timezones=st.timezones()) | st.datetimes(timezones=st.just(UTC))
columns = st.one_of(
    *(
        st.lists(st.none() | one, min_size=1, max_size=4)
        for one in (st.integers(-(2**65), 2**65), st.floats(), st.decimals(), st.text(), st.booleans(), moments)
    ),
    st.lists(st.none() | numbers | moments | st.text(max_size=2), min_size=1, max_size=4),
)


@given(column=columns, zone=st.sampled_from([UTC, ZoneInfo("Europe/Paris")]))
def test_a_column_is_rendered_as_each_of_its_values(column: list[Any], zone: tzinfo) -> None:
    """Together or one by one makes no difference but of time; who asks for both gets the same refusal."""
    renderer = values.Renderer(zone)
    try:
        one_by_one = [renderer(value) for value in column]
    except BadValue:
        with pytest.raises(BadValue):
            renderer.column(column)
        return
    together = list(renderer.column(column))
    assert together == one_by_one
    assert [type(value) for value in together] == [type(value) for value in one_by_one]


@pytest.mark.parametrize(
    ("value", "kind", "fitting"),
    [
        ("2026-05-31 18:20:00 -0400", "catalog date", True),
        ("2026-05-31 18:20:00 -0400", "date", False),
        ("2026-05-31 18:20:00 -04:00", "catalog date", True),
        ("2026-05-31", "catalog date", True),
        ("2026-0531", "catalog date", False),
        ("2026-05-31 18:20:00 -2500", "catalog date", False),
        ({"lat": 1, "lon": 2.5}, "lat and lon", True),
        ({"lat": None, "lon": 2.5}, "lat and lon", True),
        ({"lat": "1", "lon": 2.5}, "lat and lon", False),
        ({"lat": 1}, "lat and lon", False),
    ],
)
def test_types_of_catalogs(value: Any, kind: str, fitting: bool) -> None:
    """Dates of catalogs may have an offset without a colon; a place is two numbers."""
    assert fits(value, kind) is fitting
    assert fits([value], kind) is fitting


@given(column=st.lists(moments, min_size=1), zone=st.sampled_from([UTC, PARIS]))
def test_offsets_of_catalogs_have_no_colon(column: list[datetime], zone: tzinfo) -> None:
    """They are the dates of profiles but for that, and catalogs know them as dates."""
    try:
        usual = Renderer(zone).column(column)
    except BadValue:
        return
    plain = Renderer(zone, values.CATALOG_OFFSET).column(column)
    assert list(plain) == [text.replace("+00:00", "+0000") for text in usual]
    assert [Renderer(zone, values.CATALOG_OFFSET)(value) for value in column] == list(plain)
    assert all(fits(text, field_types.CATALOG_TYPES["date"]) for text in plain)


def test_iso_text_becomes_a_date_of_a_catalog() -> None:
    """In the same form."""
    assert coerce("2026-05-31T18:20:00-04:00", "catalog date") == "2026-05-31 22:20:00 +0000"
    with pytest.raises(BadValue, match="string like x"):
        coerce("x", "catalog date")


@given(st.lists(st.none() | st.text(max_size=4) | st.integers() | st.uuids(), max_size=5))
def test_item_ids(column: list[Any]) -> None:
    """What is taken has letters, digits and dashes only, and is the value's own text."""
    for value, found in zip(column, values.item_ids(column), strict=True):
        assert found == values.item_id(value)
        assert found is None or (found == str(value) and found.isascii() and found.replace("-", "x").isalnum())
