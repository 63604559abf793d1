"""Which fields differ where most remembered rows changed; a state has one fingerprint for a row, not one for a field.

A few rows of those that a run sends are noted field by field, beside the state. What is noted says that a value is
another one, and not which: keys are digests, and values are digests of eight bits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any

import msgspec

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.vocabulary import Operation

NOTE = "sample"
"""The note beside the state that holds the sample."""
SAMPLED = 20
"""Rows that are noted."""
LEAST, SHARE = 20, 0.5
"""Changed rows, and their share of the remembered ones, from which on it is asked what changed."""
SEARCHED = 100_000
"""Changed rows among which noted ones are looked for."""
_FIELDS = ("dataFields", "user", "value")
"""Members of a body that hold fields; of others only the whole is compared."""

Sample = Mapping[str, Mapping[str, str]]
"""By the digest of a row's key: the digests of its fields."""


def noted(text: str | None) -> Sample:
    """Return the sample of a note; none of a note that is no sample."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, dict[str, str]])
    except msgspec.MsgspecError:
        return {}


def note(plan: Plan, before: Sample) -> str:
    """Return the note of a plan: the first rows that it sends, and earlier ones as long as there is room."""
    rows = (operation for _, operation in plan.present() if operation.body)
    sample = {_digest(row.key.encode(), 8): _fields(row) for row in islice(rows, SAMPLED)}
    if len(sample) < SAMPLED:
        for key, fields in before.items():
            if len(sample) < SAMPLED:
                sample.setdefault(key, dict(fields))
    return json.dumps(sample, sort_keys=True)


def is_churn(plan: Plan, remembered: int) -> bool:
    """Return whether so many rows changed that it is worth asking why."""
    changed = plan.counts[Kind.CHANGED]
    return changed >= LEAST and changed >= SHARE * remembered


def differing(plan: Plan, sample: Sample) -> tuple[int, Counter[str]]:
    """Return how many noted rows changed, and in how many of them each field differs."""
    compared, fields = 0, Counter[str]()
    for operation in islice(_changed(plan.present()), SEARCHED):
        before = sample.get(_digest(operation.key.encode(), 8))
        if before is not None:
            now = _fields(operation)
            compared += 1
            fields.update(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            if compared == len(sample):
                break
    return compared, fields


def explanation(plan: Plan, remembered: int, compared: int, fields: Counter[str]) -> str:
    """Say how many rows changed, and what differs in those that were noted."""
    text = (
        f"{plan.counts[Kind.CHANGED]} of {remembered} remembered rows changed, and neither the mapping nor the way of "
        "comparing did. "
    )
    if not compared:
        return f"{text}Which fields differ is known from the next run on: this one notes some rows."
    if not fields:
        return (
            f"{text}In the {compared} of them that an earlier run noted no field differs: the columns differ in what "
            "is not sent, such as fractions of a second."
        )
    listed = ", ".join(f"{name} ({count})" for name, count in fields.most_common())
    text += f"In the {compared} of them that an earlier run noted, these fields differ: {listed}."
    always = [name for name, count in fields.items() if count == compared]
    if always and compared > 1:
        text += (
            " A column with another value in each run, such as now() or the time of a load, makes every row new: leave "
            "it out of fields, or of the query."
        )
    return text


def _changed(present: Iterable[tuple[int, Operation]]) -> Iterator[Operation]:
    return (operation for _, operation in present if operation.kind is Kind.CHANGED and operation.body)


def _fields(operation: Operation) -> dict[str, str]:
    return {name: _digest(msgspec.json.encode(value, order="sorted"), 1) for name, value in _members(operation)}


def _members(operation: Operation) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a body; what stands under the record's own name, as items of catalogs do, are fields too."""
    around = {*_FIELDS, *(name for _, name in operation.handles[:1])}
    try:
        values = [("", msgspec.json.decode(operation.body, type=dict[str, Any]))]
    except msgspec.MsgspecError:  # a body that is no object has no fields
        return
    while values:
        prefix, value = values.pop()
        for name, member in value.items():
            if name in around and isinstance(member, dict):
                values.append((f"{name}." if name == "user" else "", member))
            else:
                yield prefix + name, member


def _digest(data: bytes, size: int) -> str:
    return blake2b(data, digest_size=size).hexdigest()
