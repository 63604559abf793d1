"""Expected plans: what a dry run is to do, in a file beside the test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any

_COUNTS = ("read", "added", "changed", "removed", "unchanged", "invalid", "rejected", "collapsed")
_OF_OPERATIONS = ("operation", "endpoint", "added", "changed", "removed")
_OF_FIELDS = ("field", "of", "column", "type", "status", "rows", "nulls")


def plan_of(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the plan in a report.

    :raises ValueError: it is not the report of a dry run
    """
    plan: Mapping[str, Any] | None = report.get("plan")
    if not plan:
        raise ValueError("The report has no plan, which only dry runs have: iterable_run(operator, dry_run=True).")
    return plan


def stable_parts(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a dry run's report what is the same for the same rows: counts, operations, fields, reasons.

    Times, names of runs, numbers of requests and hashes are left out. It has no values: fields have types and shapes.

    :raises ValueError: it is not the report of a dry run
    """
    plan = plan_of(report)
    operations = [{name: line[name] for name in _OF_OPERATIONS} for line in plan["operations"]]
    fields = [{**{name: one[name] for name in _OF_FIELDS}, "shapes": sorted(one["shapes"])} for one in plan["fields"]]
    return {
        "rows": {name: report[name] for name in _COUNTS},
        "operations": sorted(operations, key=lambda line: (line["endpoint"], line["operation"])),
        "fields": sorted(fields, key=lambda one: (one["of"], one["field"])),
        "reasons": dict(sorted(report["reasons"].items())),
        "left_out": dict(sorted(report["left_out"].items())),
    }


def assert_plan(report: Mapping[str, Any], path: Path, *, update: bool = False) -> None:
    """Compare the plan of a dry run with a file of JSON.

    :param update: write the file instead
    :raises AssertionError: they differ, or there is no file; the message has the lines that differ
    :raises ValueError: it is not the report of a dry run
    """
    __tracebackhide__ = True
    found = json.dumps(stable_parts(report), indent=2, ensure_ascii=False) + "\n"
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, "utf-8")
        return
    how = "To expect the plan as it is now: pytest --iterable-update-plans"
    if not path.exists():
        raise AssertionError(f"There is no expected plan {path.name}. {how}")
    expected = path.read_text("utf-8")
    if json.loads(expected) != json.loads(found):
        lines = unified_diff(expected.splitlines(), found.splitlines(), "expected", "planned", lineterm="")
        raise AssertionError("\n".join([f"The plan is another than {path.name} expects. {how}", *lines]))
