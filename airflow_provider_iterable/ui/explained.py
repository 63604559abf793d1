"""What the next run does with a row, as far as it can be told without the Dag's code: by the state and the last report.

The API server has no Dag files, and does not run what Dag authors wrote. So it reads what is remembered of the row, and
says for each case that only the model decides what the sync does; the sync itself said so, in the report of its last
run (:mod:`airflow_provider_iterable.runs.policy`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.references import forms
from airflow_provider_iterable.engine.vocabulary import Entry
from airflow_provider_iterable.runs.explain import IN_TURN, WHOLE_RUN
from airflow_provider_iterable.runs.explained import (
    MEMORIES,
    Action,
    Explanation,
    Memory,
    about,
    memory_of,
    named,
    sentence,
)
from airflow_provider_iterable.runs.policy import CASES, Policy, Step, remembered
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.scope import LEFT_OUT_NOTE
from airflow_provider_iterable.state.tables.connection import Tables
from airflow_provider_iterable.state.tables.entries import Entries
from airflow_provider_iterable.state.tables.intents import unsettled

WHEN = {
    "same": "in the model, as Iterable accepted it",
    "other": "in the model, with another payload",
    "gone": "not in the model",
}
"""What only the model decides."""
WHEN_NOT_ACCEPTED = {**WHEN, "same": "in the model, as it was before"}
SKIPPED = (Reason.UNKNOWN_USER, Reason.FORGOTTEN_USER)
"""Reasons that do not pass by themselves."""
OLD_REPORT = "The last run was of a version that did not say what the sync does with a row. The next run will."
UNCHECKED = (
    "A row that is found to be wrong is rejected instead; a changed mapping, or an option that changes requests, makes "
    "another payload of every row."
)


class Told(Struct, kw_only=True):
    """What the next run does with the row in one case."""

    when: str
    action: Action
    operation: str | None
    endpoints: list[str]
    verdict: str


class Explained(Struct, kw_only=True):
    """What is remembered of a row, and what the next run does with it in each case."""

    memory: Memory
    remembered: str
    identity: str | None = None
    since: str | None = None
    """The run that left the row in doubt, as far as it is known."""
    cases: list[Told] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Remembering:
    """What the state tables have of one key, read and never written.

    :param tables: the connection
    :param sync_id: the sync, or the partition of one
    """

    def __init__(self, tables: Tables, sync_id: str) -> None:
        self._entries, self._sync_id = Entries(tables, None, sync_id), sync_id
        self._doubts = {
            key: Entry(bytes.fromhex(fingerprint), ref)
            for key, (_, fingerprint, ref) in unsettled(self._entries, sync_id).items()
        }

    def recall(self, key: str) -> tuple[Entry | None, bool]:
        """Return the entry of a key, and whether its person was erased."""
        names = [key, tombstone(key)]
        rows = self._entries.read(lambda: self._entries.find(self._sync_id, names))
        found = {name: Entry(bytes.fromhex(fingerprint), ref) for name, fingerprint, ref in rows}
        erased = tombstone(key) in found
        return (found.get(key) if erased else self._doubts.get(key) or found.get(key)), erased

    def sharing(self, key: str, entry: Entry) -> int:
        """Return how many other keys are remembered with the identity of an entry."""
        if not entry.ref:
            return 0
        rows = self._entries.read(lambda: self._entries.bearers(self._sync_id, forms(entry.ref)))
        return len({name for name, _ in rows} - {key})

    def left_out(self) -> list[str]:
        """Return the fields that Iterable left out of accepted rows, for which rows go again."""
        header = self._entries.read(lambda: self._entries.header(self._sync_id))
        notes = json.loads(header.notes) if header else {}
        return sorted(json.loads(notes.get(LEFT_OUT_NOTE) or "{}"))


def explained(
    remembering: Remembering, report: Mapping[str, Any], key: str, last: Mapping[str, Any] | None, unwell: str | None
) -> Explained:
    """Say what the next run does with a row.

    :param report: of the sync's last run
    :param key: as the state has it
    :param last: the last outcome that the audit has of the row
    :param unwell: the last run that did not end well
    """
    entry, erased = remembering.recall(key)
    memory = memory_of(entry, erased)
    identity = about(entry.ref) if entry is not None else None
    told = Explained(memory=memory, remembered=MEMORIES[memory], identity=named(identity) if identity else None)
    if memory == "in_doubt":
        unanswered = last is not None and last["status"] == "aborted"
        told.since = str(last["sync_run_id"]) if last is not None and unanswered else unwell
    policy = msgspec.convert(report.get("policy") or {}, Policy)
    name = remembered(memory, entry.ref if entry else "")
    failed = last is not None and (last["status"] == "failed" or last["reason"] in SKIPPED) and memory != "erased"
    when = WHEN_NOT_ACCEPTED if memory != "accepted" else WHEN
    told.cases = [_told(when[case], policy[name][case]) for case in CASES] if policy else []
    if failed and told.cases:
        _not_mended(told, last or {})
    told.notes.extend(_notes(remembering, report, key, entry, policy))
    return told


def _told(when: str, step: Step) -> Told:
    explanation = Explanation(
        sync_id="", action=step.action, operation=step.operation, endpoints=step.endpoints, why=step.why,
        fate=step.fate,
    )  # fmt: skip
    return Told(
        when=when, action=step.action, operation=step.operation, endpoints=step.endpoints, verdict=sentence(explanation)
    )


def _not_mended(told: Explained, last: Mapping[str, Any]) -> None:
    """Say that a row which was not accepted when it was last tried is not accepted again, unless something is mended.

    Of a row that is remembered as accepted that is about another payload than the accepted one: a note is enough.
    """
    fate = "rejected" if last["status"] == "failed" else "skipped"
    again = f"{fate} again unless it, or what Iterable has, is mended: {last['sentence'] or last['reason']}"
    if told.memory == "accepted":
        told.notes.append(f"The row as it was when last tried is {again}.")
        return
    same = told.cases[0]
    told.cases[0] = Told(
        when=same.when, action="refuse", operation=same.operation, endpoints=same.endpoints,
        verdict=f"The next run tries it again, and it is {again}.",
    )  # fmt: skip


def _notes(
    remembering: Remembering, report: Mapping[str, Any], key: str, entry: Entry | None, policy: Policy
) -> list[str]:
    found = [] if policy else [OLD_REPORT]
    others = 0 if entry is None else remembering.sharing(key, entry)
    if others:
        found.append(
            f"{others} other keys are remembered with the same identity. If the row of one of them changes, this one "
            "goes again after it; while one of them has a row, nothing is removed at Iterable."
        )
    if fields := remembering.left_out():
        found.append(
            f"Rows that carry fields which Iterable left out go again without a change once it has them: "
            f"{', '.join(fields)}."
        )
    if report.get("resync") != "changes" or report.get("dry_run"):
        found.append('This is about a run with resync="changes" that is no dry run; the last one was another.')
    if (report.get("destination") or {}).get("type") == "privacy":
        found.append(IN_TURN)
    return [*found, UNCHECKED, WHOLE_RUN]
