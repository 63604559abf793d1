"""The channels and message types of a project: those that each has, and those that were added."""

from collections.abc import Callable, Collection, Iterable
from itertools import count
from typing import Annotated, Literal

import msgspec

ChannelType = Literal["Marketing", "Transactional"]
Policy = Literal["OptIn", "OptOut", "DoubleOptIn"]
Medium = Annotated[str, msgspec.Meta(min_length=1)]
"""Email, Push and SMS are documented; others may come."""
CREATED = 1_700_000_000.0


class Channel(msgspec.Struct, frozen=True):
    """A medium that is for marketing or for transactions."""

    id: int
    name: str
    type: ChannelType
    medium: Medium


class MessageType(msgspec.Struct, frozen=True):
    """What a channel is used for; everybody is subscribed to it from the start if its policy is OptOut."""

    id: int
    name: str
    channel_id: int
    policy: Policy
    created: float = CREATED


_CHANNELS: tuple[tuple[str, ChannelType, Medium], ...] = (
    ("Marketing", "Marketing", "Email"),
    ("Transactional", "Transactional", "Email"),
    ("Push Marketing", "Marketing", "Push"),
    ("SMS Marketing", "Marketing", "SMS"),
)
_MESSAGE_TYPES: tuple[tuple[str, int, Policy], ...] = (
    ("Newsletter", 0, "OptOut"),
    ("Receipts", 1, "OptOut"),
    ("Offers by push", 2, "OptOut"),
    ("Product tips", 0, "OptIn"),
    ("Offers by SMS", 3, "DoubleOptIn"),
)
"""Name, position of the channel, policy."""


class Channels:
    """The channels and message types; their IDs come from the project's number, so no other project has one of them."""

    def __init__(self, project_id: Callable[[], int]) -> None:
        """Start with those that each project has."""
        self._project_id = project_id
        self.added: list[Channel] = []
        self.added_types: list[MessageType] = []

    @property
    def all(self) -> list[Channel]:
        """All channels."""
        first = 10 * self._project_id() + 1
        return [*(Channel(number, *row) for number, row in enumerate(_CHANNELS, first)), *self.added]

    @property
    def types(self) -> list[MessageType]:
        """All message types."""
        first = 10 * self._project_id() + 1
        rows = enumerate(_MESSAGE_TYPES, first + len(_CHANNELS))
        return [
            *(MessageType(number, name, first + place, policy) for number, (name, place, policy) in rows),
            *self.added_types,
        ]

    def get(self, number: int) -> Channel | None:
        """Return the channel with the ID."""
        return next((channel for channel in self.all if channel.id == number), None)

    def get_type(self, number: int) -> MessageType | None:
        """Return the message type with the ID."""
        return next((kind for kind in self.types if kind.id == number), None)

    def add(self, name: str, kind: ChannelType, medium: Medium, number: int | None = None) -> Channel:
        """Add a channel; an ID that a channel has already is a ValueError."""
        made = Channel(self._free(number, {channel.id for channel in self.all}), name, kind, medium)
        self.added.append(made)
        return made

    def add_type(
        self, name: str, channel_id: int, policy: Policy, *, now: float, number: int | None = None
    ) -> MessageType:
        """Add a message type to a channel; only one of SMS can have a double opt-in."""
        channel = self.get(channel_id)
        if channel is None:
            raise ValueError(f"no channel {channel_id}")
        if policy == "DoubleOptIn" and channel.medium != "SMS":
            raise ValueError(f"DoubleOptIn: channel {channel_id} is not of SMS")
        made = MessageType(self._free(number, {kind.id for kind in self.types}), name, channel_id, policy, now)
        self.added_types.append(made)
        return made

    def restore(self, channels: Iterable[Channel], types: Iterable[MessageType]) -> None:
        """Take in what was added before."""
        self.added, self.added_types = list(channels), list(types)

    def _free(self, number: int | None, taken: Collection[int]) -> int:
        """Return the ID that is wanted, unless it is taken; if none is wanted, one that nothing here has."""
        if number is None:
            used = {each.id for each in self.all} | {each.id for each in self.types}
            return next(each for each in count(1000 * self._project_id() + 1) if each not in used)
        if number in taken:
            raise ValueError(f"ID {number} is taken")
        return number
