"""State of small syncs in XCom: one XCom holds all of it, and is found through the sync's asset events.

XComs of earlier runs are not looked up by date: Airflow orders those by logical date, with null dates first or
last depending on its database. Asset events are ordered by completion, and name the run that holds the state.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from airflow_provider_iterable.engine.doubt import with_receipts
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.vocabulary import NO_INTENTS, Entry, Intents, Pair, Patch, Row
from airflow_provider_iterable.errors import ConfigurationError, StateTooLarge
from airflow_provider_iterable.sql.model import Model
from airflow_provider_iterable.state.memory import apply, void
from airflow_provider_iterable.state.pairing import pair_some, pair_with
from airflow_provider_iterable.state.scope import MAPPING_CHANGED, Scope, same_destination
from airflow_provider_iterable.state.store import Header, Store, Undivided

XCOM_KEY = "iterable_state"
EVENTS_LOOKED_AT = 50
_FORMAT = 1


@dataclass(frozen=True)
class XComState(Store):
    """State in XCom: no set-up, for small models; committed once, when the task succeeds.

    A failed or killed try forgets what it delivered, and the next one sends it again.

    :param max_rows: most remembered rows
    :param max_bytes: most bytes of the encoded state
    """

    max_rows: int = 20_000
    max_bytes: int = 1_000_000

    @property
    def batchwise(self) -> bool:
        """It is written once, when the task has succeeded."""
        return False

    @property
    def found_by_events(self) -> bool:
        """The events name the runs whose XComs hold it."""
        return True

    def open(self, scope: Scope) -> XComSession:
        """Find the state of the last completed run.

        :raises DestinationChanged: it belongs to another destination
        """
        return XComSession(self, scope)


class XComSession(Undivided):
    """The state of one run, kept in memory until it has succeeded."""

    lease: ClassVar[None] = None

    def __init__(self, store: XComState, scope: Scope) -> None:
        self._store, self._scope = store, scope
        if scope.pull is None or scope.push is None:
            raise ConfigurationError("XComState needs a running task")
        self._entries: dict[str, Entry] = {}
        self.notes: dict[str, str] = {}
        self.resend_reason: str | None = None
        text = scope.pull()
        if text is not None:
            header, self._entries = decode(text)
            if same_destination(scope, header["destination"]):
                self.notes = dict(header.get("notes") or {})
            if header.get("mapping") != scope.mapping:
                self.resend_reason = MAPPING_CHANGED
        self.remembered = len(self._entries)

    def pair(self, sync: Sync, chunks: Iterable[Sequence[Row]]) -> Iterator[Pair]:
        """Pair rows with entries."""
        return pair_with({key.encode(): entry.fingerprint for key, entry in self._entries.items()}, sync, chunks)

    def recall(self, keys: Sequence[str]) -> Mapping[str, Entry]:
        """Return the whole entries of some keys."""
        return {key: self._entries[key] for key in keys if key in self._entries}

    def bearing(self, refs: Sequence[str]) -> Collection[str]:
        """Return the keys that are remembered with one of some references."""
        return [key for key, entry in self._entries.items() if entry.ref in refs]

    def pair_some(self, sync: Sync, model: Model, keys: Collection[str]) -> Iterator[Pair]:
        """Pair the rows of some keys with entries."""
        return pair_some(self.recall, sync, model.chunks(), keys)

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Apply a patch in memory; it is stored when the run finishes. Intents of a run that does not are lost."""
        apply(self._entries, with_receipts(patch, intents))

    def note(self, name: str, value: str) -> None:
        """Set a note in memory; it is stored when the run finishes."""
        self.notes[name] = value

    def note_along(self, name: str, value: str) -> None:
        """Set a note in memory; it is stored when the run finishes."""
        self.notes[name] = value

    def move(self) -> None:
        """Drop the notes; that is stored when the run finishes."""
        self.notes.clear()

    def void(self, name: str, value: str) -> None:
        """Void every entry; it is stored when the run finishes."""
        self.notes[name] = value
        void(self._entries)

    def others(self) -> Mapping[str, Header]:
        """There are none: an XCom holds one sync's state."""
        return {}

    def check(self, plan: Plan) -> None:
        """Refuse a plan whose result would not fit: what is remembered once rows that came are there, and others gone.

        :raises StateTooLarge: too many rows or bytes; the message names TableState
        """
        after = dict(self._entries)
        for patch in plan.patch():
            apply(after, patch)
        if len(after) > self._store.max_rows:
            raise StateTooLarge(
                f"The sync would remember {len(after)} rows and XComState holds {self._store.max_rows}. Nothing was "
                'sent. Use state=TableState(conn_id="...").'
            )
        size = len(encode(self._scope, after))
        if size > self._store.max_bytes:
            raise StateTooLarge(
                f"The state would take {size} bytes and XComState holds {self._store.max_bytes}. Nothing was sent. "
                'Use state=TableState(conn_id="...").'
            )

    def finish(self, delivered: bool) -> None:
        """Push the state, unless the run failed."""
        if delivered and self._scope.push is not None:
            self._scope.push(encode(self._scope, self._entries, self.notes))

    def close(self) -> None:
        """Do nothing."""


def encode(scope: Scope, entries: Mapping[str, Entry], notes: Mapping[str, str] | None = None) -> str:
    """Return the state as one text."""
    lines = {key: [entry.fingerprint.hex(), entry.ref] for key, entry in sorted(entries.items())}
    packed = zlib.compress(json.dumps(lines, separators=(",", ":")).encode(), 9)
    return json.dumps(
        {
            "format": _FORMAT,
            "destination": dict(scope.destination),
            "mapping": scope.mapping,
            "notes": dict(notes or {}),
            "entries": base64.b85encode(packed).decode(),
        }
    )


def decode(text: str) -> tuple[dict[str, Any], dict[str, Entry]]:
    """Read what :func:`encode` wrote.

    :raises ConfigurationError: the text is something else
    """
    try:
        header = json.loads(text)
        if header["format"] > _FORMAT:
            raise ConfigurationError(
                f"The XCom {XCOM_KEY!r} has format {header['format']}, and this version of the provider knows format "
                f"{_FORMAT}: a later version wrote it. Nothing was read or sent. Install that version, or a later one."
            )
        lines = json.loads(zlib.decompress(base64.b85decode(header["entries"])))
        entries = {key: Entry(bytes.fromhex(digest), ref) for key, (digest, ref) in lines.items()}
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise ConfigurationError(f"The XCom {XCOM_KEY!r} is not a sync's state ({type(error).__name__}).") from None
    if not isinstance(header.get("destination"), dict):
        raise ConfigurationError(f"The XCom {XCOM_KEY!r} is not a sync's state (it has no destination).")
    return header, entries


def latest(context: Mapping[str, Any], asset: Any, pull: Callable[[Any], Any] | None = None) -> str | None:
    """Return what the last completed run of the sync pushed.

    Walks the sync's asset events from the newest on, and takes the first whose XCom is there: a run that is being
    repeated has lost its own, and the one before it counts.

    :param pull: gives what the run of an event pushed
    """
    pull = pull or pull_from
    events = context["inlet_events"][asset]
    if hasattr(events, "ascending"):
        newest_first: Iterable[Any] = events.ascending(False).limit(EVENTS_LOOKED_AT)
    else:
        newest_first = reversed(list(events)[-EVENTS_LOOKED_AT:])
    for event in newest_first:
        # An event that somebody made by hand names no run.
        text = pull(event) if event.source_run_id else None
        if isinstance(text, str):
            return text
    return None


def pull_from(event: Any) -> Any:
    """Return the state that the run of an asset event pushed; a task instance of Airflow 2 asks only its own run."""
    from airflow.providers.common.compat.sdk import XCom

    return XCom.get_one(
        run_id=event.source_run_id,
        dag_id=event.source_dag_id,
        task_id=event.source_task_id,
        map_index=event.source_map_index,
        key=XCOM_KEY,
    )
