"""The lists of a project. Membership is a field of each profile, so it moves and is deleted with the profile."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from .profiles import Profile, numbers_in

ListType = Literal["Standard", "Dynamic", "Suppression", "Internal"]
FIRST_ID = 3001
CHANNELS_LEFT = "unsubscribedChannelIds"
TYPES_LEFT = "unsubscribedMessageTypeIds"
TYPES_JOINED = "subscribedMessageTypeIds"
SUBSCRIPTION_FIELDS = (TYPES_JOINED, CHANNELS_LEFT, TYPES_LEFT)


class MailingList(msgspec.Struct):
    """One list, how many members' writes it has accepted, and how often requests said channelUnsubscribe."""

    id: int
    name: str
    description: str | None
    type: ListType
    created: float
    subscribes: int = 0
    unsubscribes: int = 0
    channel_unsubscribes: Counter[bool | None] = msgspec.field(default_factory=Counter)


class Lists:
    """The lists by ID; names need not be unique and IDs are never used again."""

    def __init__(self, field: str, seed: int = 0) -> None:
        """Start with no list; `field` is the profile field that holds the lists of a user."""
        self.field = field
        self.created: Counter[str] = Counter()
        self.deleted: list[int] = []
        self._lists: dict[int, MailingList] = {}
        self._random = random.Random(seed)

    def __len__(self) -> int:
        return len(self._lists)

    def __iter__(self) -> Iterator[MailingList]:
        return iter(self._lists.values())

    def __reversed__(self) -> Iterator[MailingList]:
        return reversed(self._lists.values())

    def get(self, number: int) -> MailingList | None:
        """Return the list with the ID."""
        return self._lists.get(number)

    def create(self, name: str, description: str | None, kind: ListType, now: float) -> MailingList:
        """Make a list, also when there is one of that name."""
        number = FIRST_ID + self.created.total()
        made = self._lists[number] = MailingList(number, name, description, kind, now)
        self.created[name] += 1
        return made

    def restore(self, lists: Iterable[MailingList], created: Mapping[str, int], deleted: Iterable[int]) -> None:
        """Take in lists that were kept, with how often each name was created, and which IDs were deleted."""
        self._lists = {found.id: found for found in lists}
        self.created, self.deleted = Counter(created), list(deleted)

    def delete(self, doomed: MailingList, profiles: Iterable[Profile]) -> None:
        """Drop a list and take everyone off it."""
        del self._lists[doomed.id]
        self.deleted.append(doomed.id)
        for profile in profiles:
            self._drop(profile, doomed)

    def of(self, profile: Profile) -> list[int]:
        """Return the IDs in the profile's field, those of lists that do not exist included."""
        return numbers_in(profile, self.field)

    def members(self, chosen: MailingList, profiles: Iterable[Profile]) -> Iterator[Profile]:
        """Yield the profiles that are on a list."""
        return (profile for profile in profiles if chosen.id in self.of(profile))

    def all_members(self, profiles: Iterable[Profile]) -> dict[int, list[Profile]]:
        """Return the members of all lists by the ID of the list."""
        found: dict[int, list[Profile]] = {number: [] for number in self._lists}
        for profile in profiles:
            for number in set(self.of(profile)) & found.keys():
                found[number].append(profile)
        return found

    def sample(self, members: list[Profile], size: int) -> list[Profile]:
        """Return so many of the members, chosen at random, or all of them."""
        return self._random.sample(members, min(size, len(members)))

    def subscribe(self, profile: Profile, chosen: MailingList) -> None:
        """Put a profile on a list; it then has the fields that hold subscriptions, empty where they were missing."""
        self.put_on(profile, chosen)
        for name in SUBSCRIPTION_FIELDS:
            profile.fields.setdefault(name, [])

    def unsubscribe(self, profile: Profile, chosen: MailingList, now: float) -> None:
        """Take a profile off a list, also one who is not on it, and count that as a write."""
        self.take_off(profile, chosen)
        profile.updated = now
        profile.writes += 1

    def put_on(self, profile: Profile, chosen: MailingList) -> None:
        """Put a profile on a list."""
        held = self.of(profile)
        if chosen.id not in held:
            profile.fields[self.field] = [*held, chosen.id]
        chosen.subscribes += 1

    def take_off(self, profile: Profile, chosen: MailingList) -> None:
        """Take a profile off a list, also one who is not on it."""
        self._drop(profile, chosen)
        chosen.unsubscribes += 1

    def _drop(self, profile: Profile, chosen: MailingList) -> None:
        held = self.of(profile)
        if chosen.id in held:
            profile.fields[self.field] = [number for number in held if number != chosen.id]
