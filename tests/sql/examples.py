"""Columns of each type that a database has, and what is sent for a value of each, as ``docs/databases`` has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from airflow_provider_iterable.columns import Columns
from airflow_provider_iterable.engine.vocabulary import Row
from airflow_provider_iterable.mapping import Mapper

DOCS = Path(__file__).parents[2] / "docs" / "databases"
REFUSED = "refused: "


@dataclass(frozen=True)
class Example:
    """A column of a type.

    :param type: as the database calls it
    :param value: a value of it, in SQL
    :param sent: the JSON that is sent, or :data:`REFUSED` and the end of the message
    :param iterable: the type that a new field gets; empty where nothing is sent
    :param other: another value of it, in SQL
    """

    type: str
    value: str
    sent: str
    iterable: str = ""
    other: str = ""

    @property
    def line(self) -> str:
        """The line of a page about it."""
        sent = self.sent if self.sent.startswith(REFUSED) else f"`{self.sent}`"
        return f"| `{self.type}` | `{self.value}` | {sent} | {self.iterable} |"


def outcome(columns: Columns, row: Row, name: str) -> str:
    """Return the JSON that is sent for a row's value of a column, or why it is refused."""
    why: list[str] = []
    mapper = Mapper({name: name})
    mapper.bind(columns)
    (fields,) = mapper.payloads([[value] for value in row], lambda number, detail: why.append(detail))
    if why:
        return REFUSED + why[0].removeprefix(f"field {name}: ")
    return json.dumps(msgspec.json.decode(msgspec.json.encode(fields))[name], ensure_ascii=False, sort_keys=True)


def documented(page: str) -> Iterator[str]:
    """Return the lines of a page's table of types."""
    for line in (DOCS / page).read_text("utf-8").splitlines():
        if line.startswith("| `"):
            yield line


def lines(examples: Sequence[Example]) -> list[str]:
    """Return what a page has to say of them."""
    return [example.line for example in examples]
