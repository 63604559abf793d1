"""Contracts of models: which fields they are to send, and of which types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .plans import plan_of


def assert_fields(
    report: Mapping[str, Any],
    expected: Mapping[str, str],
    *,
    of: str | None = None,
    only: bool = False,
    filled: Iterable[str] = (),
) -> None:
    """Compare the fields that a dry run plans to send with those that a model is to send.

    :param expected: Iterable's type by field: ``string``, ``long``, ``double``, ``boolean``, ``date``, ``object``;
        members of objects have dotted names
    :param of: only what is sent as this, as in the report: ``profile``, ``event``, ``request``; the default is all
    :param only: whether nothing else may be sent
    :param filled: fields that no row may leave out or send as null
    :raises AssertionError: the message has a line for each field that is not as expected
    :raises ValueError: it is not the report of a dry run
    """
    __tracebackhide__ = True
    sent = {one["field"]: one for one in plan_of(report)["fields"] if of in (None, one["of"])}
    wrong = [_complaint(name, kind, sent.get(name)) for name, kind in expected.items()]
    if only:
        wrong += [f"{name}: expected nothing, found {_told(sent[name])}" for name in sent if name not in expected]
    most = max((one["rows"] for one in plan_of(report)["fields"]), default=0)
    for name in filled:
        rows = sent[name]["rows"] if name in sent else 0
        if rows < most or not rows:
            wrong.append(f"{name}: expected a value in each of {most} rows, found one in {rows}")
    lines = [line for line in wrong if line]
    if lines:
        raise AssertionError("\n  ".join(["The fields are not as the contract says:", *lines]))


def _complaint(name: str, kind: str, found: Mapping[str, Any] | None) -> str | None:
    if found is None:
        return f"{name}: expected {kind}, found no row that sends it"
    if found["status"] == "left_out":
        return f"{name}: expected {kind}, found a field that Iterable does not have and may not create"
    return None if found["type"] == kind else f"{name}: expected {kind}, found {_told(found)}"


def _told(found: Mapping[str, Any]) -> str:
    kind = found["type"] or "nulls only"
    shapes = ", ".join(found["shapes"])
    return f"{kind} (from {found['column']}: {shapes})" if found["column"] else f"{kind} ({shapes})"
