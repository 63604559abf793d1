"""Requests that a run announces before it sends them: if it is killed, their rows are in doubt."""

from __future__ import annotations

import json
from collections.abc import Mapping

from airflow_provider_iterable.engine.doubt import lines_of
from airflow_provider_iterable.engine.vocabulary import Intents
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.pairing import tombstone
from airflow_provider_iterable.state.tables.connection import encoded
from airflow_provider_iterable.state.tables.entries import ENTRY, ENTRY_KEY, Entries

log = logger(__name__)

Texts = Mapping[int, list[tuple[str, int]]]
"""Announced requests by number: the texts that are in the database, and how many rows are in each."""


class Announced:
    """What one run announced and did not settle yet.

    :param entries: what is remembered of its sync
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._texts: dict[int, list[tuple[str, int]]] = {}

    def encoded(self, intents: Intents) -> Texts:
        """Return requests to be announced, as JSON."""
        most = self._entries.tables.dialect.most
        return {number: list(encoded(doubts, most)) for number, doubts in intents.begun.items()}

    def write(self, begun: Texts, intents: Intents) -> None:
        """Remember what was accepted as announced, and announce more, in the transaction."""
        tables, sync_id = self._entries.tables, self._entries.sync_id
        for number in intents.accepted:
            # From the JSON that is in the database already: it holds what to remember.
            for text, rows in self._texts[number]:
                tables.replace("state", ENTRY, ENTRY_KEY, {"sync_id": sync_id, "json": text}, "{doubts}", rows)
        numbers = [*intents.ended, *begun]  # a commit that is tried again may have stored what it announces
        if numbers:
            named = {f"number_{place}": number for place, number in enumerate(numbers)}
            marks = ", ".join(f":{name}" for name in named)
            tables.change(
                f"DELETE FROM {{intents}} WHERE sync_id = :sync_id AND number IN ({marks})", sync_id=sync_id, **named
            )
        statement = "INSERT INTO {intents} (sync_id, number, part, doubts) VALUES (:sync_id, :number, :part, :doubts)"
        for number, texts in begun.items():
            for part, (text, _) in enumerate(texts):
                tables.change(statement, rows=1, sync_id=sync_id, number=number, part=part, doubts=text)

    def written(self, begun: Texts, intents: Intents) -> None:
        """Note that the transaction was committed."""
        for number in intents.ended:
            self._texts.pop(number, None)
        self._texts.update(begun)


def unsettled(entries: Entries, sync_id: str) -> dict[str, tuple[str, str, str]]:
    """Return the entries that what an earlier run announced and did not settle leaves behind, by key.

    :raises StateUnavailable: they could not be read
    """
    query = "SELECT doubts FROM {intents} WHERE sync_id = :sync_id ORDER BY number, part"
    found = entries.read(lambda: entries.tables.find(query, sync_id=sync_id))
    return {line[0]: line for (text,) in found for line in lines_of(json.loads(text))}


def not_erased(
    entries: Entries, sync_id: str, doubts: Mapping[str, tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    """Return those of some entries in doubt whose people were not erased meanwhile, in the transaction."""
    erased = {key for key, _, _ in entries.find(sync_id, list(map(tombstone, doubts)))}
    return [line for key, line in doubts.items() if tombstone(key) not in erased]


def settle(entries: Entries, sync_id: str) -> None:
    """Turn what an earlier run announced and did not settle into entries in doubt: that run was killed.

    :raises StateUnavailable: it could not be read or stored
    """
    tables, doubts = entries.tables, unsettled(entries, sync_id)
    if not doubts:
        return

    def write() -> None:
        entries.put(sync_id, not_erased(entries, sync_id, doubts))
        tables.change("DELETE FROM {intents} WHERE sync_id = :sync_id", sync_id=sync_id)

    with tables.explaining_failure(
        f"What was being sent when a run of sync {sync_id!r} was killed could not be written",
        "Nothing was read or sent. The next try begins anew.",
    ):
        entries.store(write)
    log.info(
        "Sync %s: %d rows were being sent when an earlier run was killed. Iterable may have them or not: they are "
        "in doubt, and go again or are removed; those that must not be sent twice count as sent.",
        sync_id,
        len(doubts),
    )
