"""The channels and message types of a project, which are fixed."""

from typing import Any

_CREATED = 1_700_000_000_000
_MESSAGE_TYPES = ("Newsletter", "Receipts", "Offers by push")
"""One for each channel, in their order."""


def channels(project_id: int) -> list[dict[str, Any]]:
    """Return the channels of a project; no other project has one of their IDs."""
    rows = [
        {"name": "Marketing", "channelType": "Marketing", "messageMedium": "Email"},
        {"name": "Transactional", "channelType": "Transactional", "messageMedium": "Email"},
        {"name": "Push Marketing", "channelType": "Marketing", "messageMedium": "Push"},
    ]
    return [{"id": number, **row} for number, row in enumerate(rows, 10 * project_id + 1)]


def message_types(project_id: int) -> list[dict[str, Any]]:
    """Return the message types of a project, each of a channel of its own."""
    return [
        {
            "id": number,
            "name": name,
            "channelId": channel["id"],
            "createdAt": _CREATED,
            "updatedAt": _CREATED,
            "subscriptionPolicy": "OptOut",
        }
        for number, (name, channel) in enumerate(
            zip(_MESSAGE_TYPES, channels(project_id), strict=True), 10 * project_id + 5
        )
    ]


def channel_of(project_id: int, message_type: int) -> int | None:
    """Return the channel of a message type; None when the project has no such type."""
    return {row["id"]: row["channelId"] for row in message_types(project_id)}.get(message_type)
