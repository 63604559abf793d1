"""Knows a request once it is found whom it is for: names from its address, and its body; judges neither."""

from typing import Generic, TypeVar

import msgspec

Body = TypeVar("Body")


class Request(msgspec.Struct, Generic[Body]):
    """What an endpoint is asked: the identifiers in path and query, and the body in the endpoint's shape."""

    named: dict[str, str]
    body: Body
