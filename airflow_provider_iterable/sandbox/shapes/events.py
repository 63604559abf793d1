"""The JSON that calls about events and purchases take."""

from typing import Any

import msgspec

from .bodies import Int32, Int64
from .users import UserUpdate


class Track(msgspec.Struct, rename="camel"):
    """The body of events/track, and an event in trackBulk."""

    event_name: str
    email: str | None = None
    user_id: str | None = None
    id: str | None = None
    created_at: Int64 | None = None
    data_fields: dict[str, Any] | None = None
    campaign_id: Int64 | None = None
    template_id: Int64 | None = None
    create_new_fields: bool | None = None


class TrackBulk(msgspec.Struct, rename="camel"):
    """The body of trackBulk; each event has its own createNewFields."""

    events: list[Track]


class CommerceItem(msgspec.Struct, rename="camel", omit_defaults=True):
    """A line of a purchase or a cart."""

    id: str
    name: str
    price: float
    quantity: Int64
    sku: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    image_url: str | None = None
    url: str | None = None
    data_fields: dict[str, Any] | None = None


class CartUpdate(msgspec.Struct, rename="camel"):
    """The body of updateCart."""

    user: UserUpdate
    items: list[CommerceItem]


class Purchase(msgspec.Struct, rename="camel"):
    """The body of trackPurchase; its campaign is a smaller number than that of an event."""

    user: UserUpdate
    items: list[CommerceItem]
    total: float
    id: str | None = None
    created_at: Int64 | None = None
    campaign_id: Int32 | None = None
    template_id: Int32 | None = None
    data_fields: dict[str, Any] | None = None
