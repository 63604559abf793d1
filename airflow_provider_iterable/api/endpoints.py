"""What Iterable's endpoints accept, as a table: path, limits, rate, envelope, judge; makes no request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from airflow_provider_iterable.api.verdicts import judge_bulk_users, judge_delete, judge_lookup
from airflow_provider_iterable.engine.vocabulary import Batch, Call, Operation, Reply, Request, Verdict

BULK_BYTES = 4_000_000
"""Largest body of a bulk request: Iterable documents 4 MB for users; other bulk calls are treated alike."""

BULK_ITEMS = 1000
"""Iterable states no record cap for bulk calls; its engineers and clients use 1000."""

Judge = Callable[[Batch, Reply], Verdict]


@dataclass(frozen=True)
class Endpoint:
    """One row of the table; ``rate`` is in requests per second and project, 0 where none is documented."""

    method: str
    template: str
    rate: float
    judge: Judge
    max_items: int = 1
    max_bytes: int = BULK_BYTES


USERS_BULK_UPDATE = Endpoint("POST", "/api/users/bulkUpdate", 5, judge_bulk_users, BULK_ITEMS)
USERS_DELETE_BY_EMAIL = Endpoint("DELETE", "/api/users/{email}", 100, judge_delete)
USERS_DELETE_BY_USER_ID = Endpoint("DELETE", "/api/users/byUserId/{userId}", 100, judge_delete)
USERS_GET_BY_EMAIL = Endpoint("GET", "/api/users/getByEmail", 100, judge_lookup)
USERS_GET_BY_USER_ID = Endpoint("GET", "/api/users/byUserId", 100, judge_lookup)


def bulk_update_users(*, create_new_fields: bool | None = None, update_only: bool = False) -> Call:
    """Create or update many users.

    :param create_new_fields: whether unknown fields are created; ``None``: as the project's setting says
    :param update_only: Iterable's undocumented switch that skips unknown users; it must be enabled for the account
    """
    tail = b"]"
    if create_new_fields is not None:
        tail += b',"createNewFields":' + (b"true" if create_new_fields else b"false")
    if update_only:
        tail += b',"updateOnly":true'
    return _bulk(USERS_BULK_UPDATE, b'{"users":[', tail + b"}")


def delete_user(match: str) -> Call:
    """Delete the profile with an email address, or every profile with a user ID."""
    endpoint = USERS_DELETE_BY_EMAIL if match == "email" else USERS_DELETE_BY_USER_ID
    prefix = endpoint.template[: endpoint.template.index("{")]

    def wrap(operations: Sequence[Operation]) -> Request:
        identifier = operations[0].handles[0][1]
        return Request(endpoint.method, prefix + quote(identifier, safe=""), endpoint.template)

    return _single(endpoint, wrap)


def look_up_user(match: str, then: Call) -> Call:
    """Ask whether a user exists, and go on to another call if so."""
    endpoint, name = (USERS_GET_BY_EMAIL, "email") if match == "email" else (USERS_GET_BY_USER_ID, "userId")

    def wrap(operations: Sequence[Operation]) -> Request:
        return Request(endpoint.method, endpoint.template, endpoint.template, {name: operations[0].handles[0][1]})

    return _single(endpoint, wrap, then)


def _bulk(endpoint: Endpoint, head: bytes, tail: bytes) -> Call:
    def wrap(operations: Sequence[Operation]) -> Request:
        body = head + b",".join([operation.body for operation in operations]) + tail
        return Request(endpoint.method, endpoint.template, endpoint.template, body=body)

    return Call(
        endpoint.method,
        endpoint.template,
        endpoint.max_items,
        endpoint.max_bytes,
        wrap,
        endpoint.judge,
        endpoint.rate,
        envelope=len(head) + len(tail),
    )


def _single(endpoint: Endpoint, wrap: Callable[[Sequence[Operation]], Request], then: Call | None = None) -> Call:
    return Call(
        endpoint.method,
        endpoint.template,
        1,
        endpoint.max_bytes,
        wrap,
        endpoint.judge,
        endpoint.rate,
        then=then,
    )
