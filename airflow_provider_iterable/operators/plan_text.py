"""A dry run's report as a text by which a person decides: Markdown that reads well in a log, too; no row, no value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.report import NOTHING_REMEMBERED, Report
from airflow_provider_iterable.masking import masked

_SIGNS = re.compile(r"([\\`*\[\]<>|~]|(?<!\w)_|_(?!\w))")
"""What Markdown takes for more than a sign; within a word, an underscore is one."""
_TICKS = re.compile("`+")
_STATUS = {
    "new": "**new: {}**",
    "left_out": "**not there, left out**",
    "unknown": "{} (as sent)",
}
"""How the type of a field is told, by what is known of it."""


def plan_text(report: Report) -> str:
    """Return the plan of a dry run as Markdown: what would be sent, what it looks like, and what is to be known."""
    plan = report.plan or {"summary": "", "operations": [], "fields": [], "more_fields": 0, "refusals": {}}
    target = ", ".join(f"{name} {code(str(value))}" for name, value in report.destination.items() if value is not None)
    resync = "" if report.resync == "changes" else f" as a {report.resync} resync"
    blocks = [
        [f"### Plan of {code(report.name)}{resync}: nothing has been sent"],
        [f"**{plan['summary'].capitalize()}**"] if plan["summary"] else [],
        [f"Goes to {target}."],
        [*_table(("rows read", "added", "changed", "removed", "unchanged", "invalid"), [_counts(report)])],
    ]
    if plan["operations"]:
        blocks.append([*_operations(plan["operations"])])
    if plan["fields"]:
        blocks.append([*_fields(plan["fields"], plan["more_fields"])])
    blocks.append([*_refusals(report, plan["refusals"])])
    blocks.append([*_notes(report)])
    if report.plan_hash:
        blocks.append([f"Hash of the plan: {code(report.plan_hash)}"])
    return masked("\n\n".join("\n".join(block) for block in blocks if block))


def code(text: str) -> str:
    """Return a text that may come from data as code, which is shown as it stands."""
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in masked(text))
    fence = "`" * (1 + max(map(len, _TICKS.findall(text)), default=0))
    space = " " if len(fence) > 1 or not text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}"


def prose(text: str) -> str:
    """Return a sentence, in which names may come from data, so that Markdown shows its signs as they stand."""
    text = "".join(sign if sign.isprintable() else " " for sign in masked(text))
    return _SIGNS.sub(r"\\\1", text)


def _counts(report: Report) -> list[str]:
    counts = report.counts
    numbers = [report.read, counts[Kind.ADDED], counts[Kind.CHANGED], counts[Kind.REMOVED], report.unchanged]
    return [f"{number:,}" for number in (*numbers, counts[Kind.INVALID])]


def _operations(operations: Sequence[dict[str, Any]]) -> Iterator[str]:
    kinds = [str(kind) for kind in (Kind.ADDED, Kind.CHANGED, Kind.REMOVED)]
    rows = [
        [
            line["operation"],
            code(line["endpoint"]),
            *(f"{line[kind]:,}" if line[kind] else "" for kind in kinds),
            f"{line['requests']:,}",
        ]
        for line in operations
    ]
    yield from _table(("operation", "endpoint", *kinds, "requests"), rows)


def _fields(fields: Sequence[dict[str, Any]], more: int) -> Iterator[str]:
    nulls = any(told["nulls"] for told in fields)
    rows = [
        [
            code(told["field"]) + (f" of the {told['of']}" if told["of"] not in ("request", fields[-1]["of"]) else ""),
            code(told["column"]) if told["column"] is not None else "none",
            _STATUS.get(told["status"], "{}").format(prose(told["type"] or "no type yet")),
            f"{told['rows']:,}",
            *([f"{told['nulls']:,}" if told["nulls"] else ""] if nulls else []),
            ", ".join(_looks(told)),
        ]
        for told in fields
    ]
    yield from _table(("field", "column", "type", "rows", *(["nulls"] if nulls else []), "values look like"), rows)
    if more:
        yield f"\nand {more} more fields."


def _looks(told: dict[str, Any]) -> Iterator[str]:
    """Yield the shapes of a field's values; of texts what they are like."""
    for found in told["shapes"]:
        yield code(found.removeprefix("string like "))
    if told["more_shapes"]:
        yield f"{told['more_shapes']} more"


def _refusals(report: Report, details: dict[str, int]) -> Iterator[str]:
    if not report.explained:
        return
    yield "Rows that would not be sent, or be refused:\n"
    for (fate, reason), count in report.explained.most_common():
        yield f"- {_rows(count)} {fate}, {code(reason)}: {prose(reason.sentence)}"
    for detail, count in details.items():
        if detail:
            yield f"    - {_rows(count)}: {prose(detail)}"


def _notes(report: Report) -> Iterator[str]:
    why = report.resend_reason
    again = [f"Why rows go again: {why}."] if why and why != NOTHING_REMEMBERED else []
    notes = [*again, *report.notes]
    if notes:
        yield "Notes:\n"
        yield from (f"- {prose(note)}" for note in notes)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table whose columns are aligned, numbers to the right."""
    rows = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    right = [all(cell.replace(",", "").isdigit() for cell in column if cell) for column in zip(*rows, strict=True)]
    lines = [heads, *rows]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = zip(line, widths, right, strict=True)
        yield "| " + " | ".join(cell.rjust(width) if to else cell.ljust(width) for cell, width, to in cells) + " |"
        if not number:
            ends = zip(widths, right, strict=True)
            yield "| " + " | ".join("-" * (width - to) + ":" * to for width, to in ends) + " |"
