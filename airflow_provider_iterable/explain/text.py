"""An explanation as plain text, for somebody on call who reads it in half a minute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_iterable.runs.explained import MEMORIES, Explanation

FIELDS_SHOWN = 30


def text_of(told: Explanation) -> str:
    """Return the verdict, and below it what it rests on."""
    return "\n".join((told.verdict, "", *_lines(told)))


def _lines(told: Explanation) -> Iterator[str]:
    where = ", ".join(f"{name} {value}" for name, value in told.destination.items() if value is not None)
    if not told.sync_id:
        return
    part = "" if told.partition is None else f", partition {told.partition}"
    yield f"sync         {told.sync_id}{part}: {where or 'destination not known'}"
    if told.action == "fail":
        yield from _notes(told)
        return
    yield f"key          {told.key}"
    yield f"in the model {_rows(told.rows)}"
    if told.identity:
        yield f"identity     {told.identity}"
    if told.shared_with:
        more = f" and {told.more_shared} more" if told.more_shared else ""
        yield f"shared with  {', '.join(told.shared_with)}{more}, which have this identity, or had it when accepted"
    yield f"remembered   {_memory(told)}"
    if told.other_partition:
        yield f"elsewhere    the partition {told.other_partition} remembers this key"
    yield f"difference   {told.change}"
    if told.reason:
        detail = f" ({told.detail})" if told.detail else ""
        yield f"check        {told.reason}: {told.reason_sentence}{detail}"
    if told.operation:
        yield f"request      {told.operation}: {' then '.join(told.endpoints)}"
    if told.former:
        yield f"former       {told.former}"
    if told.resend_reason:
        yield f"all rows     {told.resend_reason}"
    if tried := told.last_tried:
        because = f", {tried.reason}" if tried.reason else ""
        detail = f" ({tried.detail})" if tried.detail else ""
        yield f"last tried   {tried.at}, run {tried.run_id}: {tried.operation} {tried.status}{because}{detail}"
    for number, field in enumerate(told.fields[:FIELDS_SHOWN]):
        yield f"{'fields' if number == 0 else '':13}{_field(field)}"
    if len(told.fields) > FIELDS_SHOWN:
        yield f"{'':13}and {len(told.fields) - FIELDS_SHOWN} more"
    yield from _notes(told)


def _rows(rows: int) -> str:
    return {0: "no", 1: "yes"}.get(rows, f"{rows} rows have this key")


def _memory(told: Explanation) -> str:
    remembered = told.remembered
    about = f", as {remembered.identity}" if remembered.identity else ""
    same = {True: ", with the payload that the row has now", False: ", with another payload"}
    known = "" if remembered.same_payload is None else same[remembered.same_payload]
    return f"{MEMORIES[remembered.status]}{about}{known if remembered.status == 'accepted' else ''}"


def _field(field: dict[str, Any]) -> str:
    shape = ", ".join(field["shapes"]) or "null"
    column = "" if field["column"] in (None, field["field"]) else f" from {field['column']}"
    kind = {"exists": f"{field['type']} at Iterable", "new": "new at Iterable", "left_out": "missing at Iterable"}
    told = kind.get(field["status"])
    return f"{field['field']}{column}: {shape}" + (f" ({told})" if told else "")


def _notes(told: Explanation) -> Iterator[str]:
    for note in told.notes:
        yield f"note         {note}"
