"""The endpoints of channels and message types: what each answers."""

from typing import Any

from ..project.channels import Channel, MessageType
from ..project.project import Project
from ..shapes.answers import Answer, plain
from ..shapes.request import Request


def get_channels(project: Project, request: Request[None]) -> Answer:
    """List the message channels."""
    return plain({"channels": [shown_channel(channel) for channel in project.channels.all]})


def get_message_types(project: Project, request: Request[None]) -> Answer:
    """List the message types."""
    return plain({"messageTypes": [shown_type(kind) for kind in project.channels.types]})


def shown_channel(channel: Channel) -> dict[str, Any]:
    """Return a channel as GET /api/channels shows it."""
    return {
        "id": channel.id,
        "name": channel.name,
        "channelType": channel.type,
        "messageMedium": channel.medium,
    }


def shown_type(kind: MessageType) -> dict[str, Any]:
    """Return a message type as GET /api/messageTypes shows it, which knows two policies only."""
    created = int(kind.created * 1000)
    return {
        "id": kind.id,
        "name": kind.name,
        "channelId": kind.channel_id,
        "createdAt": created,
        "updatedAt": created,
        "subscriptionPolicy": "OptOut" if kind.policy == "OptOut" else "OptIn",
    }
