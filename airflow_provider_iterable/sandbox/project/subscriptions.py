"""What a user is subscribed to, and what subscribing to one thing, or leaving it, does to a profile."""

from typing import Literal

import msgspec

from .channels import Channel, MessageType
from .lists import CHANNELS_LEFT, TYPES_JOINED, TYPES_LEFT, MailingList
from .profiles import Profile, numbers_in
from .project import Project

Group = MailingList | Channel | MessageType
GroupKind = Literal["emailList", "messageType", "messageChannel"]


class Standing(msgspec.Struct, frozen=True):
    """Whether a user is subscribed to a message type and to its channel."""

    channel: Channel
    kind: MessageType
    in_channel: bool
    subscribed: bool


def group(project: Project, kind: GroupKind, number: int) -> Group | None:
    """Return the list, channel or message type with the ID."""
    match kind:
        case "emailList":
            return project.lists.get(number)
        case "messageChannel":
            return project.channels.get(number)
        case "messageType":
            return project.channels.get_type(number)


def subscribe(profile: Profile, chosen: Group, project: Project) -> None:
    """Subscribe a profile to one thing, and leave its other subscriptions alone."""
    match chosen:
        case MailingList():
            project.lists.put_on(profile, chosen)
        case Channel():
            _hold(profile, CHANNELS_LEFT, chosen.id, there=False)
        case MessageType():
            _hold(profile, TYPES_LEFT, chosen.id, there=False)
            if chosen.policy != "OptOut":
                _hold(profile, TYPES_JOINED, chosen.id, there=True)


def unsubscribe(profile: Profile, chosen: Group, project: Project) -> None:
    """Unsubscribe a profile from one thing, also from one that it is not subscribed to."""
    match chosen:
        case MailingList():
            project.lists.take_off(profile, chosen)
        case Channel():
            _hold(profile, CHANNELS_LEFT, chosen.id, there=True)
        case MessageType(policy="OptOut"):
            _hold(profile, TYPES_LEFT, chosen.id, there=True)
        case MessageType():
            _hold(profile, TYPES_JOINED, chosen.id, there=False)


def standings(profile: Profile, project: Project) -> list[Standing]:
    """Return what a user is subscribed to, by message type."""
    channels = {channel.id: channel for channel in project.channels.all}
    left = numbers_in(profile, CHANNELS_LEFT)
    return [
        Standing(
            channels[kind.channel_id],
            kind,
            kind.channel_id not in left,
            is_subscribed(profile, kind),
        )
        for kind in project.channels.types
        if kind.channel_id in channels
    ]


def is_subscribed(profile: Profile, kind: MessageType) -> bool:
    """Return whether a user is subscribed to a message type, whatever its channel."""
    if kind.id in numbers_in(profile, TYPES_LEFT):
        return False
    return kind.policy == "OptOut" or kind.id in numbers_in(profile, TYPES_JOINED)


def _hold(profile: Profile, field: str, number: int, *, there: bool) -> None:
    """Let a number be in a field of numbers, or not; a field that needs no change stays as it is."""
    held = numbers_in(profile, field)
    if there and number not in held:
        profile.fields[field] = [*held, number]
    elif not there and number in held:
        profile.fields[field] = [each for each in held if each != number]
