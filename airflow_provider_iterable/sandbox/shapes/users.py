"""The JSON that calls about users take."""

from typing import Any

import msgspec


class OptionalUser(msgspec.Struct, rename="camel"):
    """A user in a bulk call."""

    email: str | None = None
    user_id: str | None = None
    data_fields: dict[str, Any] | None = None
    merge_nested_objects: bool | None = None
    prefer_user_id: bool | None = None


class UserUpdate(OptionalUser, rename="camel"):
    """A user in a single call."""

    create_new_fields: bool | None = None


class BulkUpdate(msgspec.Struct, rename="camel"):
    """The body of bulkUpdate; `updateOnly` is undocumented, so any value may stand there."""

    users: list[OptionalUser]
    create_new_fields: bool | None = None
    update_only: Any = None


class EmailChange(msgspec.Struct, rename="camel"):
    """The body of updateEmail."""

    new_email: str
    current_email: str | None = None
    current_user_id: str | None = None


class Named(msgspec.Struct, rename="camel"):
    """The body of forget and unforget."""

    email: str | None = None
    user_id: str | None = None


class ArrayMerge(msgspec.Struct, rename="camel"):
    """A profile field whose contents are joined when users are merged, rather than kept or replaced."""

    field: str
    dedupe_by: str | None = None


class MergeUsers(msgspec.Struct, rename="camel"):
    """The body of merge."""

    source_email: str | None = None
    source_user_id: str | None = None
    destination_email: str | None = None
    destination_user_id: str | None = None
    array_merge: list[ArrayMerge] | None = None
