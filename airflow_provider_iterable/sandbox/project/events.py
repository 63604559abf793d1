"""The stored events of a project, by ID and by user."""

import random
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .profiles import Profile

MAX_ID_BYTES = 512
FIRST_MILLISECONDS = 100_000_000_000
"""The smallest size of a createdAt in milliseconds; one below is in seconds."""
_EVENT_ID = re.compile(rf"[A-Za-z0-9-]{{1,{MAX_ID_BYTES}}}")
_EARLIEST, _LATEST = -30_610_224_000.0, 253_402_300_799.0


class Event(msgspec.Struct, gc=False, eq=False):
    """Something a user did: a custom event, or a purchase, which has no name."""

    id: str
    name: str | None
    profile: Profile
    created: float
    received: float
    fields: dict[str, Any]
    campaign_id: int | None = None
    template_id: int | None = None
    given: bool = False
    writes: int = 1


class Events:
    """All events of a kind; one that comes with the ID of another takes its place."""

    def __init__(self, seed: int = 0) -> None:
        """Start empty; made-up IDs follow the seed."""
        self._by_id: dict[str, Event] = {}
        self._by_profile: dict[Profile, dict[str, Event]] = {}
        self._random = random.Random(seed)
        self.accepted = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[Event]:
        return reversed(self._by_id.values())

    def with_id(self, event_id: str) -> Event | None:
        """Return the event with the ID."""
        return self._by_id.get(event_id)

    def of(self, profile: Profile) -> list[Event]:
        """Return the events of a user, in the order in which they were first written."""
        return list(self._by_profile.get(profile, {}).values())

    def new_id(self) -> str:
        """Make up an ID: 30 hexadecimal digits."""
        while True:
            made = f"{self._random.getrandbits(120):030x}"
            if made not in self._by_id:
                return made

    def write(self, event: Event, *, merge: bool) -> None:
        """Store an event; when merging, fields that it lacks are kept from the event it replaces."""
        self.accepted += 1
        before = self._by_id.get(event.id)
        if before is not None:
            event.writes = before.writes + 1
            event.received = before.received
            del self._by_profile[before.profile][event.id]
            if merge:
                _keep(before, event)
        self._by_id[event.id] = event
        self._by_profile.setdefault(event.profile, {})[event.id] = event

    def restore(self, events: Iterable[Event], accepted: int) -> None:
        """Take in events that were kept, with how many writes were accepted."""
        for event in events:
            self._by_id[event.id] = event
            self._by_profile.setdefault(event.profile, {})[event.id] = event
        self.accepted = accepted

    def move(self, source: Profile, destination: Profile) -> None:
        """Let all events of one user be those of another."""
        moved = self._by_profile.pop(source, {})
        for event in moved.values():
            event.profile = destination
        if moved:
            self._by_profile.setdefault(destination, {}).update(moved)

    def drop(self, profile: Profile) -> None:
        """Forget all events of a user."""
        for event_id in self._by_profile.pop(profile, ()):
            del self._by_id[event_id]


def _keep(before: Event, event: Event) -> None:
    event.fields = {**before.fields, **event.fields}
    if event.campaign_id is None:
        event.campaign_id = before.campaign_id
    if event.template_id is None:
        event.template_id = before.template_id


def is_event_id(text: str) -> bool:
    """Return whether an event ID is 1 to 512 letters, digits and hyphens."""
    return _EVENT_ID.fullmatch(text) is not None


def is_purchase_id(text: str) -> bool:
    """Return whether a purchase ID is 1 to 512 bytes long."""
    return 0 < len(text.encode()) <= MAX_ID_BYTES


def moment(created_at: int | None, now: float) -> float:
    """Return createdAt, which may be in seconds or milliseconds, as seconds within the years 1000 to 9999."""
    if created_at is None:
        return now
    seconds = created_at / 1000 if abs(created_at) >= FIRST_MILLISECONDS else float(created_at)
    return min(max(seconds, _EARLIEST), _LATEST)
