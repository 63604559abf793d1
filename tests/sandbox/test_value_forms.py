"""How an email, a user ID and a date must look."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.sandbox.shapes.values import is_email, is_user_id, normal_date


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2024-11-25", "2024-11-25 00:00:00 +00:00"),
        ("2024-11-25 13:37:19", "2024-11-25 13:37:19 +00:00"),
        ("2024-11-25 13:37:19 -04:00", "2024-11-25 17:37:19 +00:00"),
        ("2024-12-31 23:30:00 -01:00", "2025-01-01 00:30:00 +00:00"),
        ("2020-08-19T20:50:04.000Z", "2020-08-19 20:50:04 +00:00"),
        ("2020-08-19T20:50:04.999Z", "2020-08-19 20:50:04 +00:00"),
        ("2020-08-19T20:50:04.123+02:00", "2020-08-19 18:50:04 +00:00"),
        ("2020-08-19 20:50:04 +00:00", "2020-08-19 20:50:04 +00:00"),
        ("0987-01-02", "0987-01-02 00:00:00 +00:00"),
    ],
)
def test_a_date_is_kept_in_one_form(text: str, normal: str) -> None:
    """The five accepted forms are read back as UTC with a space before the offset, without milliseconds."""
    assert normal_date(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "2024-11-25T13:37:19Z",
        "2020-04-13 13:37:19.039",
        "2020-04-13T13:37:19.039",
        "2020-04-13 13:37:19 00:00",
        "2020-04-13 13:37:19 +0000",
        "2020-04-13T13:37:19.039+0000",
        "2020-04-13 13:37:19 Z",
        "2024/11/25",
        "2024-11-25 13:37:19.039Z",
        "2024-11-25T13:37:19.039123+00:00",
        "2024-11-25T13:37:19+00:00",
        "2024-11-25 13:37:19+00:00",
        "0000-00-00 00:00:00",
        "2023-02-29",
        "2023-01-01 24:00:00",
        "2023-01-01 10:60:00",
        "2023-01-01 10:00:00 +24:00",
        "9999-12-31 23:59:59 -01:00",
        " 2024-11-25",
        "2024-11-25 ",
        "2024-11-25\n",
        "٢٠٢٤-11-25",
        "",
    ],
)
def test_anything_else_is_a_string(text: str) -> None:
    """Other notations, impossible days and times, and stray characters are no dates."""
    assert normal_date(text) is None


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)), st.integers(-1439, 1439))
def test_a_normal_date_is_the_same_moment(moment: datetime, minutes: int) -> None:
    """Bringing a date into the normal form keeps the second, and doing it twice changes nothing."""
    there = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    shown = there.isoformat(" ")
    normal = normal_date(f"{shown[:19]} {shown[19:]}")
    assert normal is not None
    assert datetime.fromisoformat(normal.replace(" +", "+")) == there.astimezone(UTC)
    assert normal_date(normal) == normal


@pytest.mark.parametrize(
    "email",
    [
        "a@x.io",
        "user@example.com",
        "first.last+tag@sub.example.co.uk",
        "o'brien@example.com",
        "user123+147178873@placeholder.email",
        "a.b.c.d.e@example.com",
        "üser@example.com",
        '"a b"@example.com',
        "user@bücher.de",
        "user@xn--bcher-kva.de",
        f"{'a' * 64}@example.com",
    ],
)
def test_addresses(email: str) -> None:
    """An address has a local part of at most 64 characters and a domain under a known top-level domain."""
    assert is_email(email)


@pytest.mark.parametrize(
    "email",
    [
        "",
        "foo@",
        "000",
        "@example.com",
        "user @example.com",
        " user@example.com",
        "user@example.com ",
        "user@example",
        "user@localhost",
        "user@example.notatld",
        "user@example.test",
        "user@-example.com",
        "user@exa_mple.com",
        "user@example..com",
        "user@example.com.",
        ".user@example.com",
        "user.@example.com",
        "us..er@example.com",
        "a@b@example.com",
        "us,er@example.com",
        "user@192.168.0.1",
        "user@example.com\n",
        f"{'a' * 65}@example.com",
        f"user@{'a' * 64}.com",
        f"user@{'a.' * 126}com",
        f"{'a' * 31}.{'b' * 34}@example.com",
    ],
)
def test_no_addresses(email: str) -> None:
    """Spaces, empty parts, unknown top-level domains and overlong parts make no address."""
    assert not is_email(email)


@pytest.mark.parametrize("user_id", ["1", "a" * 52, "A-b_c/d+e f", " a", "~!@#$%^&*()"])
def test_user_ids(user_id: str) -> None:
    """A user ID is 1 to 52 printable ASCII characters."""
    assert is_user_id(user_id)


@pytest.mark.parametrize("user_id", ["", " ", "a ", "a" * 53, "ü", "a\tb", "a\x00", "a\x7f", "id\n", "é1"])
def test_no_user_ids(user_id: str) -> None:
    """Blank, overlong, non-ASCII, non-printable, or with a trailing space is no user ID."""
    assert not is_user_id(user_id)
