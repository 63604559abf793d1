"""What a plan does, operation by operation, and what it carries, field by field, for whoever approves it; no values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from types import NoneType
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from airflow_provider_iterable.api import field_types
from airflow_provider_iterable.api.values import shape
from airflow_provider_iterable.engine.forecast import Forecast, chain, lasting, name, requests_for
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.reasons import Kind
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Call, Operation
from airflow_provider_iterable.masking import masked
from airflow_provider_iterable.runs import fields
from airflow_provider_iterable.syncs.sync import BaseSync, SentField

MOST_FIELDS, MOST_SHAPES = 50, 3
"""Fields that a plan shows, and shapes of each."""
SAMPLED = 500
"""Rows, spread over the plan, whose values are looked at for types and shapes; of very large plans, one in 1000."""
COUNTED_SHAPES = 100
"""Shapes of a field that are told apart."""
_CALL, _KIND = attrgetter("call"), attrgetter("kind")
_CHUNK, _CHUNK_BYTES = 1000, 4_000_000
_SENT = tuple(map(str, (Kind.ADDED, Kind.CHANGED, Kind.REMOVED)))
_decode = msgspec.json.Decoder(list[Any]).decode


@dataclass
class _Seen:
    """What was seen of a field.

    :param rows: how many carry a value
    :param nulls: how many carry a null, which removes the field
    """

    rows: int = 0
    nulls: int = 0
    types: field_types.Seen = field(default_factory=dict)
    shapes: Counter[str] = field(default_factory=Counter)

    def look(self, values: Sequence[Any], step: int) -> None:
        """Count values, and look at each of so many."""
        kinds = {*map(type, values)}
        missing = values.count(UNSET) if UnsetType in kinds else 0
        nulls = values.count(None) if NoneType in kinds else 0
        self.nulls += nulls
        self.rows += len(values) - missing - nulls
        sample = [value for value in values[::step] if value is not None and value is not UNSET]
        field_types.look(self.types, "", sample)
        for found in map(masked, map(shape, sample)):
            if found in self.shapes or len(self.shapes) < COUNTED_SHAPES:
                self.shapes[found] += 1


def review(sync: BaseSync, report: Report, batch_size: int, plan: Plan, expected: Forecast) -> None:
    """Enter the operations of a plan, and the fields that its rows carry."""
    fields.forecast(sync, report)
    if sync.depends and plan.sends:
        report.notes.append(sync.depends)
    kinds: dict[Call, Counter[Kind]] = defaultdict(Counter)
    seen = [_Seen() for _ in sync.sent_fields]
    step = max(1, plan.sends // SAMPLED)
    for operations in _chunks(plan):
        for (call, kind), rows in Counter(zip(map(_CALL, operations), map(_KIND, operations), strict=True)).items():
            if call is not None:
                kinds[call][kind] += rows
        written = [operation.body for operation in operations if operation.kind is not Kind.REMOVED]
        bodies = list(map(sync.opened, _decode(b"[" + b",".join(written) + b"]")))
        holders: dict[tuple[str, ...], list[dict[str, Any]]] = {(): bodies}
        for what, found in zip(sync.sent_fields, seen, strict=True):
            held = _held(holders, what.path[:-1])
            found.look([holder.get(what.path[-1], UNSET) for holder in held], step)
    told_fields = [_field(sync, report, *pair) for pair in zip(sync.sent_fields, seen, strict=True)]
    carried = [told for told in told_fields if told["rows"] or told["nulls"]]
    carried.sort(key=lambda told: told["status"] not in ("new", "left_out"))  # of too many, these are to be seen
    order = {id(told): number for number, told in enumerate(told_fields)}
    lines = _operations(plan, kinds, batch_size, plan.sends - expected.rows)
    report.plan = {
        "summary": _summary(lines, expected),
        "operations": lines,
        "fields": sorted(carried[:MOST_FIELDS], key=lambda told: order[id(told)]),
        "more_fields": max(0, len(carried) - MOST_FIELDS),
        "refusals": dict(report.refusals),
    }


def carried(sync: BaseSync, report: Report, body: bytes) -> list[dict[str, Any]]:
    """Return what is told of the fields that one body carries."""
    holders: dict[tuple[str, ...], list[dict[str, Any]]] = {(): [sync.opened(msgspec.json.decode(body))]}
    told = []
    for what in sync.sent_fields:
        seen = _Seen()
        seen.look([holder.get(what.path[-1], UNSET) for holder in _held(holders, what.path[:-1])], 1)
        if seen.rows or seen.nulls:
            told.append(_field(sync, report, what, seen))
    return told


def _summary(operations: Sequence[Mapping[str, Any]], expected: Forecast) -> str:
    """Say in a line what is done, and how long it takes."""
    if not operations:
        return "nothing to send"
    done = [f"{line['operation']} {sum(line[kind] for kind in _SENT):,}" for line in operations]
    return f"{', '.join(done)}, in {lasting(expected.seconds)}"


def _chunks(plan: Plan) -> Iterator[list[Operation]]:
    chunk, size = list[Operation](), 0
    for operation in plan.operations():
        if operation.call is not None:
            chunk.append(operation)
            size += len(operation.body)
            if len(chunk) == _CHUNK or size > _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


def _held(holders: dict[tuple[str, ...], list[dict[str, Any]]], path: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the object in each body to which a path leads, an empty one where there is none.

    :param holders: those that are known already, by path
    """
    if path not in holders:
        found = [holder.get(path[-1]) for holder in _held(holders, path[:-1])]
        holders[path] = [value if type(value) is dict else {} for value in found]
    return holders[path]


def _operations(plan: Plan, kinds: Mapping[Call, Counter[Kind]], batch_size: int, waiting: int) -> list[dict[str, Any]]:
    """Return what is done through which endpoint, for how many rows of each kind, in how many requests.

    :param waiting: operations that wait for a later run, and take no request in this one
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for first, rows in kinds.items():
        for call in chain(first):
            line = found.setdefault((call.does, name(call)), {"operation": call.does, "endpoint": name(call)})
            for kind in _SENT:
                line[kind] = line.get(kind, 0) + rows[Kind(kind)]
            needed = requests_for(call, max(rows.total() - waiting, 0), plan.sizes[first], batch_size)
            line["requests"] = line.get("requests", 0) + needed
    return list(found.values())


def _field(sync: BaseSync, report: Report, what: SentField, seen: _Seen) -> dict[str, Any]:
    """Return what is told of a field."""
    status, kind = _type(sync, report, what, seen)
    shapes = seen.shapes.most_common(MOST_SHAPES)
    return {
        "field": fields.shown(what.name),
        "of": what.of,
        "column": what.column,
        "type": kind,
        "status": status,
        "rows": seen.rows,
        "nulls": seen.nulls,
        "shapes": [found for found, _ in shapes],
        "more_shapes": len(seen.shapes) - len(shapes),
    }


def _type(sync: BaseSync, report: Report, what: SentField, seen: _Seen) -> tuple[str, str | None]:
    """Return what is known of a field at Iterable, and the type that it has or gets."""
    own = report.new_fields.get(what.name) or field_types.chosen(seen.types.get("", Counter()))
    if what.of == "request":
        return "request", own
    if what.of == "event" or sync.existing is None:
        return "unknown", own
    if what.name in sync.existing:
        return "exists", sync.existing[what.name]
    if any(known.startswith(f"{what.name}.") for known in sync.existing):
        return "exists", "object"
    return ("new" if sync.creates else "left_out"), sync.declared.get(what.name, own)
