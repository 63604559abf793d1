"""A request after its endpoint was found: the parameters of its URL, and its body."""

from typing import Generic, TypeVar

import msgspec

Body = TypeVar("Body")


class Request(msgspec.Struct, Generic[Body]):
    """The arguments of an endpoint: the identifiers in path and query, and the decoded body."""

    named: dict[str, str]
    body: Body
