"""The syntax of email addresses, user IDs and dates."""

import re
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

MAX_USER_ID = 52

_LOCAL = r"""(?:[^\s\x00-\x1f\x7f()<>@,;:'\\".\[\]]|\\.|')+"""
_QUOTED = r'"(?:\\"|[^"])*"'
_EMAIL = re.compile(rf"((?:{_LOCAL}|{_QUOTED})(?:\.(?:{_LOCAL}|{_QUOTED}))*)@(\S+)")
_PLAIN_EMAIL = re.compile(r"[a-z0-9_+-]{1,30}(?:\.[a-z0-9_+-]{1,30})?@(?:[a-z0-9]{1,63}\.){1,3}([a-z]{2,63})")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+([a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?)")

_DIGITS = re.compile(r"[0-9]{1,18}")

_DAY = r"\d{4}-\d\d-\d\d"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_OFFSET = r"[+-](?:[01]\d|2[0-3]):[0-5]\d"
_DATE = re.compile(
    rf"({_DAY})(?: ({_TIME})(?: ({_OFFSET}))?|T({_TIME})\.\d{{3}}(Z|{_OFFSET}))?",
    re.ASCII,
)


@cache
def top_level_domains() -> frozenset[str]:
    """Return the top-level domains that exist, in lower case and punycode."""
    _, _, names = files(__package__).joinpath("tlds.txt").read_text("ascii").partition("\n")  # after their source
    return frozenset(names.split())


def is_email(folded: str) -> bool:
    """Return whether a lower-case address has the syntax of an address and ends in a known top-level domain."""
    plain = _PLAIN_EMAIL.fullmatch(folded)
    if plain is not None:
        return plain[1] in top_level_domains()
    match = _EMAIL.fullmatch(folded)
    return match is not None and len(match[1]) <= 64 and _is_domain(match[2])


def _is_domain(text: str) -> bool:
    try:
        domain = text if text.isascii() else text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return False
    match = _DOMAIN.fullmatch(domain)
    return match is not None and len(domain) <= 253 and match[1] in top_level_domains()


def is_user_id(text: str) -> bool:
    """Return whether a user ID is 1 to 52 printable ASCII characters without a trailing space."""
    return 0 < len(text) <= MAX_USER_ID and text.isascii() and text.isprintable() and text[-1] != " "


def number_in(text: str) -> int:
    """Return the number that a query writes in digits, or -1."""
    return int(text) if _DIGITS.fullmatch(text) else -1


def normal_date(text: str) -> str | None:
    """Return a date in the one form in which Iterable keeps dates, or None when the text is a plain string.

    Accepted are `yyyy-MM-dd`, `yyyy-MM-dd HH:mm:ss`, the same with ` +hh:mm`, and
    `yyyy-MM-ddTHH:mm:ss.SSS` with `Z` or an offset. Without an offset the date is in UTC.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    day, time, offset, iso_time, iso_offset = match.groups()
    time = time or iso_time or "00:00:00"
    offset = offset or iso_offset or "+00:00"
    try:
        moment = datetime.fromisoformat(f"{day}T{time}")
        if offset in ("+00:00", "Z"):
            return text if len(text) == 26 else f"{day} {time} +00:00"
        moment = moment.replace(tzinfo=datetime.strptime(offset, "%z").tzinfo).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return f"{moment.isoformat(' ')[:19]} +00:00"


def date_of(seconds: float) -> str:
    """Return seconds since the epoch in the form in which Iterable keeps dates."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S +00:00")
