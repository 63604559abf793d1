"""The JSON that calls about catalogs take."""

from typing import Any

import msgspec


class Documents(msgspec.Struct, rename="camel"):
    """The body that writes many items, by item ID."""

    documents: dict[str, dict[str, Any]]
    replace_uploaded_fields_only: bool


class ItemIds(msgspec.Struct, rename="camel"):
    """The body that deletes many items."""

    item_ids: list[str]


class Replacement(msgspec.Struct, rename="camel"):
    """The body that replaces one item."""

    value: dict[str, Any]


class Patch(msgspec.Struct, rename="camel"):
    """The body that writes some fields of one item."""

    update: dict[str, Any]


class Mapping(msgspec.Struct, rename="camel"):
    """The type of a field; those of its members may be given too."""

    field_name: str
    field_type: str
    children: list[dict[str, Any]] | None = None


class Mappings(msgspec.Struct, rename="camel"):
    """The body that gives fields their types."""

    mappings_updates: list[Mapping]
