"""The JSON that calls about lists and subscriptions take."""

import msgspec

from .bodies import Int64
from .users import Named, OptionalUser


class NewList(msgspec.Struct, rename="camel"):
    """The body that creates a list."""

    name: str
    description: str | None = None


class Subscribe(msgspec.Struct, rename="camel"):
    """The body of lists/subscribe."""

    list_id: Int64
    subscribers: list[OptionalUser]
    update_existing_users_only: bool | None = None


class Unsubscribe(msgspec.Struct, rename="camel"):
    """The body of lists/unsubscribe."""

    list_id: Int64
    subscribers: list[Named]
    campaign_id: Int64 | None = None
    channel_unsubscribe: bool | None = None


class SubscriptionUpdate(msgspec.Struct, rename="camel"):
    """The body of updateSubscriptions: an array that is there replaces what is stored."""

    email: str | None = None
    user_id: str | None = None
    email_list_ids: list[Int64] | None = None
    user_list_ids: list[Int64] | None = None
    unsubscribed_channel_ids: list[Int64] | None = None
    unsubscribed_message_type_ids: list[Int64] | None = None
    subscribed_message_type_ids: list[Int64] | None = None
    campaign_id: Int64 | None = None
    template_id: Int64 | None = None
    validate_channel_alignment: bool | None = None


class GroupAction(msgspec.Struct, rename="camel"):
    """The body that subscribes many users to one thing, or unsubscribes them; either member may be left out."""

    users: list[str] | None = None
    users_by_user_id: list[str] | None = None


class DoubleOptIn(msgspec.Struct, rename="camel"):
    """The body of subscribeToDoubleOptIn."""

    message_type_ids: list[Int64]
    email: str | None = None
    user_id: str | None = None
    phone_number: str | None = None
    brand_name: str | None = None


class BulkSubscriptionUpdate(msgspec.Struct, rename="camel"):
    """The body of bulkUpdateSubscriptions."""

    update_subscriptions_requests: list[SubscriptionUpdate]
