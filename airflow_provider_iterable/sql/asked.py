"""Where in a statement an error is, and what is wrong between it and its parameters; looks at no parameter's value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Parameters = Sequence[Any] | Mapping[str, Any] | None

_BINDING_TELLS = re.compile(
    r"can(?:'t|not) adapt type '\w+'|Python '\w+' cannot be converted to a MySQL type"
    r"|You did not supply a value for binding parameter :\w+|type '\w+' is not supported"
    r"|Incorrect number of bindings supplied\. The current statement uses \d+, and there are \d+ supplied"
    r"|Values were not provided for the following parameters: [\w, ]+"
    r"|Parameter argument/count mismatch, identifiers of the excess parameters: [\w, ]+"
)
"""What drivers say about parameters: their number, their names and the types of their values."""
_FORMAT = re.compile(r"unsupported format character '.' \(0x[\da-f]+\) at index (\d+)")
"""What Python says where a driver leaves the binding to it, which knows no ``%b`` and no ``%t``."""
_UNTYPED = re.compile(r"parameter \$?(\d+)|at or near \"\$(\d+)\"")
_PLACEHOLDER = re.compile(r"%(?:%|s|b|t|\((?P<name>[^)]*)\)[sbt])")
_PERCENT = re.compile(r"%(?:%|s|b|t|\([^)]*\)[a-z])?")
DECLARED = {
    "psycopg": 'DECLARE "airflow_provider_iterable" CURSOR FOR ',
    "psycopg2": 'DECLARE "airflow_provider_iterable" CURSOR WITHOUT HOLD FOR ',
}
"""What the drivers of Postgres put before the statement of a cursor that has this name at the server."""


@dataclass(frozen=True)
class Asked:
    """The statement that was being run when an error came.

    :param sql: as it was given to the cursor
    :param parameters: what was bound
    :param above: the blanks that stood before it where it was written; ``None``: nobody has written it so, and places
        in it say nothing
    """

    sql: str
    parameters: Parameters = None
    above: str | None = ""


def unbound(asked: Asked, error: Exception) -> str:
    """Return what is wrong between a statement and its parameters, whose values nobody looks at; empty: nothing."""
    own = ", ".join(found[0] for found in _BINDING_TELLS.finditer(str(error)))
    if own:
        return own
    if type(error).__module__.partition(".")[0].lstrip("_") in ("sqlite3", "duckdb"):  # to which % says nothing
        return ""
    signs = [(found.start(), found[0]) for found in _PERCENT.finditer(asked.sql) if found[0] != "%%"]
    named = {sign[2:-2]: sign for _, sign in signs if len(sign) > 2}
    if isinstance(asked.parameters, Mapping):
        missing = [name for name in named if name not in asked.parameters]
        if missing:
            return f"the query names parameters that are not given: {', '.join(missing)}"
    elif named:
        return f"the query names parameters, such as {next(iter(named.values()))}, and a list of them is given"
    for start, sign in signs:
        if sign == "%" or (len(sign) == 2 and isinstance(asked.parameters, Mapping)):
            return (
                f"the %{_place_of(asked, start)} is taken for a placeholder; where parameters are given, a percent "
                "sign is written %%"
            )
        if len(sign) > 2 and sign[-1] not in "sbt":
            return f"a placeholder is written {sign[:-1]}s, not {sign}"
    if not named and len(signs) != len(asked.parameters or ()):
        return (
            f"the query has {len(signs)} placeholders, and {len(asked.parameters or ())} parameters are given; a "
            "percent sign that is none is written %%"
        )
    unknown = _FORMAT.fullmatch(str(error))
    if unknown is not None:
        start = asked.sql.rfind("%", 0, int(unknown[1]))
        return (
            f"the placeholder{_place_of(asked, start)} is none that this driver knows: it is written %s or %(name)s, "
            "and a percent sign that is none %%"
        )
    return ""


def _place_of(asked: Asked, index: int) -> str:
    """Return a place in a statement, counted as in the file or text that it was written in, with a blank before it."""
    if asked.above is None:
        return ""
    before = f"{asked.above}{asked.sql[:index]}".split("\n")
    return f" at line {len(before)}, column {len(before[-1]) + 1}"


def place(error: Exception, asked: Asked | None) -> str:
    """Return where Postgres met what it could not take, with a blank before it; empty: that is not known."""
    position = getattr(getattr(error, "diag", None), "statement_position", None)
    if asked is None or position is None:
        return ""
    driver = type(error).__module__.partition(".")[0]
    index = int(position) - 1 - len(DECLARED.get(driver, ""))
    if asked.parameters and driver == "psycopg":
        index -= _growth(asked.sql, index)
    elif asked.parameters and "%" in asked.sql[: index + 1]:  # values stand there, of whatever length
        return ""
    return _place_of(asked, index) if 0 <= index <= len(asked.sql) else ""


def _growth(sql: str, index: int) -> int:
    """Return by how many characters a statement is longer before a place once psycopg has numbered its placeholders."""
    numbers: dict[str | int, int] = {}
    growth = 0
    for found in _PLACEHOLDER.finditer(sql):
        if found.start() + growth >= index:
            break
        if found[0] == "%%":
            growth -= 1
        else:
            number = numbers.setdefault(found["name"] or found.start(), len(numbers) + 1)
            growth += len(f"${number}") - len(found[0])
    return growth


def cast(state: str, words: str, asked: Asked | None) -> str:
    """Return how to give a parameter a type that the server cannot tell; empty: it is not about that."""
    found = _UNTYPED.search(words) if state in ("42P18", "42804", "42601") else None
    if found is None or asked is None or not asked.parameters:
        return ""
    placeholders = [one for one in _PLACEHOLDER.finditer(asked.sql) if one[0] != "%%"]
    used = list(dict.fromkeys(one[0] for one in placeholders)) if placeholders and placeholders[0]["name"] else []
    number = int(found[1] or found[2]) - 1
    name = used[number] if number < len(used) else "%s"
    if state == "42601":
        return (
            f". The server binds {name} itself, and takes it in few places: cast it, as in {name}::date for DATE "
            f"{name}, and write = ANY({name}) for IN {name}"
        )
    return f". The server cannot tell the type of {name}: give it one by a cast wherever it stands, as in {name}::text"
