"""Words for what runs did, from their reports and from the log of the sandbox."""

from __future__ import annotations

from collections import Counter
from typing import Any

from airflow_provider_iterable.engine.reasons import Reason


def summed(reports: list[dict[str, Any]]) -> Counter[str]:
    """Return the sums of what reports count."""
    return Counter(
        {
            name: sum(report[name] for report in reports)
            for name in ("read", "added", "changed", "removed", "unchanged", "invalid", "rejected")
        }
    )


def news(reports: list[dict[str, Any]], about: str) -> str:
    """Return a line with the number of rows, and how many of them changed."""
    report = summed(reports)
    found = [f"{report[name]:,} {name}" for name in ("added", "changed", "removed", "invalid") if report[name]]
    rows = "1 row" if report["read"] == 1 else f"{report['read']:,} rows"
    return f"{about}: {rows}, {', '.join(found) or 'nothing new'}"


def reasons(reports: list[dict[str, Any]]) -> list[str]:
    """Return one line for each reason why rows were not simply accepted."""
    found: Counter[str] = Counter()
    for report in reports:
        found.update(report["reasons"])
    return [f"{count:>3,} {reason}: {Reason(reason).sentence}" for reason, count in found.items()]


def requests(calls: list[tuple[str, int, int]], noun: str = "user") -> list[str]:
    """Return one line per endpoint, from the log of the sandbox."""
    if not calls:
        return ["  no requests"] if noun == "record" else ["none"]
    counts: Counter[tuple[str, int]] = Counter()
    records: Counter[tuple[str, int]] = Counter()
    for path, status, number in calls:
        counts[path, status] += 1
        records[path, status] += number
    return [
        f"{count:>3} {path} -> {status}" + _counted(path, records[path, status], noun)
        for (path, status), count in counts.items()
    ]


def _counted(path: str, records: int, noun: str) -> str:
    if path.endswith("getFields"):
        return " (field types, to check values before sending)"
    return f" ({records:,} {noun}{'' if records == 1 else 's'})" if records else ""


def refused(logged: list[str]) -> list[str]:
    """Return the part of the operator's summary that names rows; it comes after the times, and is indented."""
    start = next((number for number, line in enumerate(logged) if line.startswith("  time ")), len(logged))
    return [line for line in logged[start + 1 :] if not line.startswith("  note ")]
