"""Knows the channels and message types that every project has; nobody can add to them."""

_CREATED = 1_700_000_000_000
CHANNELS = [
    {"id": 1001, "name": "Marketing", "channelType": "Marketing", "messageMedium": "Email"},
    {"id": 1002, "name": "Transactional", "channelType": "Transactional", "messageMedium": "Email"},
    {"id": 1003, "name": "Push Marketing", "channelType": "Marketing", "messageMedium": "Push"},
]
CHANNEL_OF = {2001: 1001, 2002: 1002, 2003: 1003}
"""The channel of each message type."""
MESSAGE_TYPES = [
    {
        "id": number,
        "name": name,
        "channelId": CHANNEL_OF[number],
        "createdAt": _CREATED,
        "updatedAt": _CREATED,
        "subscriptionPolicy": "OptOut",
    }
    for number, name in ((2001, "Newsletter"), (2002, "Receipts"), (2003, "Offers by push"))
]
