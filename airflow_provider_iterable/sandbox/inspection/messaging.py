"""Stored channels and message types, with how many users are subscribed to them; not part of Iterable's API."""

from collections import Counter
from typing import Any

import msgspec

from ..endpoints.channels import shown_channel, shown_type
from ..project.channels import Channel, ChannelType, Medium, MessageType, Policy
from ..project.lists import CHANNELS_LEFT
from ..project.profiles import Profile, numbers_in
from ..project.project import Project
from ..project.subscriptions import Standing, is_subscribed, standings
from ..service import Service, chosen


class NewMessageType(msgspec.Struct, forbid_unknown_fields=True):
    """A message type of a channel; without an ID it is given one."""

    name: str
    subscriptionPolicy: Policy = "OptOut"  # noqa: N815
    id: int | None = None


class NewChannel(msgspec.Struct, forbid_unknown_fields=True):
    """A channel with its message types; without an ID it is given one."""

    name: str
    channelType: ChannelType = "Marketing"  # noqa: N815
    messageMedium: Medium = "Email"  # noqa: N815
    id: int | None = None
    messageTypes: list[NewMessageType] = []  # noqa: N815


class _Addition(NewMessageType, kw_only=True):
    channelId: int  # noqa: N815


def channels(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return the channels with their message types."""
    return {"channels": stored_channels(chosen(service, query))}


def stored_channels(project: Project) -> list[dict[str, Any]]:
    """Return channels with their message types, and how many of all users are subscribed to each."""
    channels, types = project.channels.all, project.channels.types
    left: Counter[int] = Counter()
    subscribed: Counter[int] = Counter()
    for profile in project.profiles:
        left.update(set(numbers_in(profile, CHANNELS_LEFT)))
        subscribed.update(kind.id for kind in types if is_subscribed(profile, kind))
    return [_row(channel, types, len(project.profiles) - left[channel.id], subscribed) for channel in channels]


def _row(channel: Channel, types: list[MessageType], reached: int, subscribed: Counter[int]) -> dict[str, Any]:
    types = [kind for kind in types if kind.channel_id == channel.id]
    return {
        **shown_channel(channel),
        "subscribed": reached,
        "messageTypes": [
            {**shown_type(kind), "subscriptionPolicy": kind.policy, "subscribed": subscribed[kind.id]} for kind in types
        ],
    }


def add_channel(service: Service, query: dict[str, str], body: Any) -> Any:
    """Add a channel with its message types, which the API cannot."""
    return make_channel(chosen(service, query), msgspec.convert(body, NewChannel), service.clock())


def make_channel(project: Project, wanted: NewChannel, now: float) -> dict[str, Any]:
    """Add a channel with its message types, all of it or nothing, and return the IDs."""
    held, held_types = list(project.channels.added), list(project.channels.added_types)
    try:
        channel = project.channels.add(wanted.name, wanted.channelType, wanted.messageMedium, wanted.id)
        types = [
            project.channels.add_type(each.name, channel.id, each.subscriptionPolicy, now=now, number=each.id)
            for each in wanted.messageTypes
        ]
    except ValueError:
        project.channels.restore(held, held_types)
        raise
    return {"channelId": channel.id, "messageTypeIds": [kind.id for kind in types]}


def add_message_type(service: Service, query: dict[str, str], body: Any) -> Any:
    """Add a message type to a channel, which the API cannot."""
    wanted, project = msgspec.convert(body, _Addition), chosen(service, query)
    made = project.channels.add_type(
        wanted.name, wanted.channelId, wanted.subscriptionPolicy, now=service.clock(), number=wanted.id
    )
    return {"messageTypeId": made.id}


def subscriptions_of(profile: Profile, project: Project) -> list[dict[str, Any]]:
    """Return what a user is subscribed to, by message type."""
    return [_standing(each) for each in standings(profile, project)]


def _standing(each: Standing) -> dict[str, Any]:
    return {
        "channelId": each.channel.id,
        "channel": each.channel.name,
        "channelType": each.channel.type,
        "messageMedium": each.channel.medium,
        "inChannel": each.in_channel,
        "messageTypeId": each.kind.id,
        "messageType": each.kind.name,
        "subscriptionPolicy": each.kind.policy,
        "subscribed": each.subscribed,
    }
