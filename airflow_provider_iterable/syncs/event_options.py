"""What can be said about each type of event, and what makes no sense together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Literal

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Fields
from airflow_provider_iterable.syncs.identity import FIELD_NAMES, Match
from airflow_provider_iterable.syncs.names import check_depth

EventType = Literal["custom", "purchase", "cart"]

_ATTRIBUTION = ("event_id_column", "timestamp_column", "campaign_id_column", "template_id_column")
PARAMETERS: Mapping[str, Collection[str]] = {
    "custom": ("event_name", "event_name_column", *_ATTRIBUTION, "fields"),
    "purchase": ("items_column", "total_column", *_ATTRIBUTION, "fields", "user_fields"),
    "cart": ("items_column", "user_fields"),
}
"""What may be said about each type of event; the user, and what is common to all syncs, apart."""
_OPTIONAL = ("event_name", "event_name_column", *_ATTRIBUTION, "items_column", "total_column")

_RESERVED = (*FIELD_NAMES.values(), "shoppingCartItems")
"""Profile fields that a purchase or a cart writes by itself, or must not."""


@dataclass(frozen=True)
class EventOptions:
    """How events are synced: parameters of ``IterableEventOperator``, and what the connection says.

    :param match: the identifier that selects the user
    :param identifier_column: its column
    :param project_type: ``"email"``, ``"user_id"``, ``"hybrid"``, or ``None`` where the connection does not say it
    :param sync_id: IDs are derived from it
    :param zone: the zone in which times without one are read
    """

    event_type: EventType
    event_name: str | None = None
    event_name_column: str | None = None
    event_id_column: str | None = None
    timestamp_column: str | None = None
    items_column: str | None = None
    total_column: str | None = None
    campaign_id_column: str | None = None
    template_id_column: str | None = None
    derive_ids: bool = True
    retry_unsafe: bool = False
    create_new_fields: bool | None = None
    # The text of the others is part of the recipe, which has its own words for these, or none.
    match: Match = field(default="email", repr=False)
    identifier_column: str = field(default="", repr=False)
    project_type: str | None = field(default=None, repr=False)
    primary_key: tuple[str, ...] = field(default=(), repr=False)
    sync_id: str = field(default="", repr=False)
    zone: tzinfo = field(default=UTC, repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that these options name."""
        named = (
            self.event_name_column,
            self.event_id_column,
            self.timestamp_column,
            self.items_column,
            self.total_column,
            self.campaign_id_column,
            self.template_id_column,
        )
        return tuple(column for column in named if column is not None)

    @property
    def identified(self) -> bool:
        """Whether what is sent bears an ID, so that sending it again changes nothing."""
        return self.event_type != "cart" and (self.derive_ids or self.event_id_column is not None)

    @property
    def harm(self) -> str | None:
        """Why sending a row again would do harm, as a clause; ``None``: it does none."""
        what = "carts" if self.event_type == "cart" else "events without ID"
        return None if self.identified else f"{what} would be tracked a second time"


def check(options: EventOptions, maps_fields: bool, user_fields: Fields | None) -> None:
    """Refuse options that make no sense together.

    :param maps_fields: whether fields of the event are mapped
    :raises ConfigurationError: a parameter is missing, or means nothing for this type of event
    """
    given = [name for name in _OPTIONAL if getattr(options, name) is not None]
    given += ["fields"] * maps_fields + ["user_fields"] * (user_fields is not None)
    for name in given:
        if name not in PARAMETERS[options.event_type]:
            hint = " A cart has no fields of its own; user_fields go to the profile." if name == "fields" else ""
            raise ConfigurationError(f'{name} has no meaning for event_type="{options.event_type}".{hint}')
    if options.event_type == "custom":
        if (options.event_name is None) is (options.event_name_column is None):
            raise ConfigurationError('event_type="custom" needs event_name or event_name_column, one of the two')
    else:
        for name in ("items_column", "total_column"):
            if name in PARAMETERS[options.event_type] and not getattr(options, name):
                raise ConfigurationError(f'event_type="{options.event_type}" needs {name}')
    for name in user_fields or ():
        if name.partition(".")[0] in _RESERVED:
            raise ConfigurationError(f"user_fields must not name {name!r}: the call itself writes it")
    check_depth(user_fields or (), "user field", "")
