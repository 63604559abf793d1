"""What Iterable's endpoints accept, as a table: path, limits, rate, envelope, judge; makes no request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from airflow_provider_iterable.api.email_verdicts import (
    judge_address_of,
    judge_before_change,
    judge_bulk_change_email,
    judge_old_address,
    judge_update_email,
    judge_update_only_email,
)
from airflow_provider_iterable.api.merge_verdicts import (
    DESTINATION,
    FORMER,
    SOURCE,
    IsSource,
    judge_destination,
    judge_former,
    judge_left,
    judge_merge,
    judge_merge_in_doubt,
    judge_source,
)
from airflow_provider_iterable.api.profile_verdicts import Spare, judge_before_create, judge_profile
from airflow_provider_iterable.api.subscription_verdicts import judge_bulk_subscriptions, judge_group
from airflow_provider_iterable.api.verdicts import (
    judge_bulk_events,
    judge_bulk_users,
    judge_carts,
    judge_catalog,
    judge_commerce,
    judge_delete,
    judge_forget,
    judge_lookup,
    judge_subscribe,
    judge_unforget,
    judge_unsubscribe,
    judge_update_only,
)
from airflow_provider_iterable.engine.vocabulary import Batch, Call, Operation, Reply, Request, Verdict

HOSTS: Mapping[str, str] = {"us": "https://api.iterable.com", "eu": "https://api.eu.iterable.com"}
"""Base URL of each data centre; a key belongs to exactly one."""

BULK_BYTES = 4_000_000
"""Largest body of a bulk request: Iterable documents 4 MB for users; other bulk calls are treated alike."""

BULK_ITEMS = 1000
"""Iterable states no record cap for bulk calls; its engineers and clients use 1000."""

CHANGE_TRIES = 2
"""How often a change of email that must not go twice is sent in one run, each time after a look-up."""

MERGE_TRIES = 2
"""How often a merge that may have been made is sent again in one run, each time after a look-up."""

UNADDRESSABLE = frozenset({".", ".."})
"""User IDs that cannot stand in a path, however they are encoded: the HTTP client takes them for steps and walks."""

Judge = Callable[[Batch, Reply], Verdict]


@dataclass(frozen=True)
class Endpoint:
    """One row of the table; ``rate`` is in requests per second and project, 0 where none is documented."""

    method: str
    template: str
    rate: float

    @property
    def name(self) -> str:
        """Method and template, as settings name the endpoint."""
        return f"{self.method} {self.template}"


@dataclass(frozen=True)
class BatchEndpoint(Endpoint):
    """An endpoint that batches of rows are sent to, and how its answers are judged."""

    judge: Judge
    does: str
    """What a call does, for people."""
    max_items: int = 1
    max_bytes: int = BULK_BYTES

    def call(self, wrap: Callable[[Sequence[Operation]], Request], **options: Any) -> Call:
        """Return a call of the endpoint.

        :param wrap: makes the request of a batch
        :param options: what else there is to say of a :class:`Call`, and what is otherwise than with the endpoint
        """
        own: dict[str, Any] = {"judge": self.judge, "max_items": self.max_items, "does": self.does}
        return Call(
            method=self.method,
            template=self.template,
            max_bytes=self.max_bytes,
            wrap=wrap,
            rate=self.rate,
            **{**own, **options},
        )


USERS_BULK_UPDATE = BatchEndpoint("POST", "/api/users/bulkUpdate", 5, judge_bulk_users, "upsert users", BULK_ITEMS)
USERS_BULK_UPDATE_ONLY = replace(USERS_BULK_UPDATE, judge=judge_update_only, does="update users")
USERS_BULK_CHANGE_EMAIL = replace(USERS_BULK_UPDATE, judge=judge_bulk_change_email, does="change addresses")
USERS_BULK_UPDATE_ONLY_EMAIL = replace(USERS_BULK_CHANGE_EMAIL, judge=judge_update_only_email)
USERS_UPDATE_EMAIL = BatchEndpoint("POST", "/api/users/updateEmail", 0, judge_update_email, "change addresses")
USERS_DELETE_BY_EMAIL = BatchEndpoint("DELETE", "/api/users/{email}", 100, judge_delete, "delete users")
USERS_DELETE_BY_USER_ID = BatchEndpoint("DELETE", "/api/users/byUserId/{userId}", 100, judge_delete, "delete users")
USERS_FORGET = BatchEndpoint("POST", "/api/users/forget", 3, judge_forget, "forget users")
USERS_UNFORGET = BatchEndpoint("POST", "/api/users/unforget", 3, judge_unforget, "unforget users")
USERS_MERGE = BatchEndpoint("POST", "/api/users/merge", 50, judge_merge, "merge users")
USERS_GET_BY_EMAIL = BatchEndpoint("GET", "/api/users/getByEmail", 100, judge_lookup, "look up users")
USERS_GET_BY_USER_ID = BatchEndpoint("GET", "/api/users/byUserId", 100, judge_lookup, "look up users")
EVENTS_TRACK_BULK = BatchEndpoint("POST", "/api/events/trackBulk", 10, judge_bulk_events, "track events", BULK_ITEMS)
COMMERCE_TRACK_PURCHASE = BatchEndpoint("POST", "/api/commerce/trackPurchase", 0, judge_commerce, "track purchases")
COMMERCE_UPDATE_CART = BatchEndpoint("POST", "/api/commerce/updateCart", 0, judge_commerce, "update carts")
LISTS_SUBSCRIBE = BatchEndpoint("POST", "/api/lists/subscribe", 0, judge_subscribe, "subscribe members", BULK_ITEMS)
LISTS_UNSUBSCRIBE = BatchEndpoint(
    "POST", "/api/lists/unsubscribe", 0, judge_unsubscribe, "unsubscribe members", BULK_ITEMS
)
CATALOG_WRITE_ITEMS = BatchEndpoint("POST", "/api/catalogs/{name}/items", 100, judge_catalog, "write items", BULK_ITEMS)
CATALOG_DELETE_ITEMS = BatchEndpoint(
    "DELETE", "/api/catalogs/{name}/items", 0, judge_catalog, "delete items", BULK_ITEMS
)

SUBSCRIPTIONS_CHANGE = BatchEndpoint(
    "PUT", "/api/subscriptions/{group}/{id}", 0, judge_group, "change subscriptions", BULK_ITEMS
)
USERS_BULK_SUBSCRIPTIONS = BatchEndpoint(
    "POST", "/api/users/bulkUpdateSubscriptions", 0, judge_bulk_subscriptions, "replace subscriptions", 100
)
"""Arrays are replaced as they were read, so that few are read before they are sent."""

LOOKED_UP_FIRST = f"is looked up first ({min(USERS_GET_BY_EMAIL.rate, USERS_GET_BY_USER_ID.rate):g} a second)"
"""What syncs say that do not know whether a user exists."""
BULK_PACE = f"{USERS_BULK_UPDATE.rate * BULK_ITEMS:,.0f} rows a second"
"""How fast users are written without a look-up."""

# What is asked, or made, before rows go: api/project.py reads the answers.
MESSAGE_TYPES_GET = Endpoint("GET", "/api/messageTypes", 100)
CHANNELS_GET = Endpoint("GET", "/api/channels", 100)
USERS_GET_FIELDS = Endpoint("GET", "/api/users/getFields", 3)
LISTS_GET = Endpoint("GET", "/api/lists", 100)
LISTS_CREATE = Endpoint("POST", "/api/lists", 0)
CATALOG_CREATE = Endpoint("POST", "/api/catalogs/{name}", 0)
CATALOG_GET_FIELDS = Endpoint("GET", "/api/catalogs/{name}/fieldMappings", 0)
CATALOG_SET_FIELDS = Endpoint("PUT", "/api/catalogs/{name}/fieldMappings", 0)

NAMES = tuple(sorted({row.name for row in list(vars().values()) if isinstance(row, Endpoint)}))
"""All endpoints, each as its method and template."""


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
    return _bulk(USERS_BULK_UPDATE_ONLY if update_only else USERS_BULK_UPDATE, b'{"users":[', tail + b"}")


def update_email(match: str) -> Call:
    """Move a profile of an email-based project to another address; a body names both.

    Where the answer leaves open whether the address was changed before, look-ups find out.
    """
    if match == "email":
        then = _look_up("email", judge_lookup, _look_up("email", judge_old_address), which=-1)
    else:
        then = _look_up("user_id", judge_address_of)
    return _alone(USERS_UPDATE_EMAIL, then)


def bulk_change_email(match: str, *, update_only: bool = False) -> Call:
    """Give known profiles of a project that is not email-based another address; a body is a user with a new email.

    Each user is looked up first, for an unknown one would be created. By user ID, a change may then go twice. By
    email it may not: after a lost answer the look-up comes again, and a second change only if the first was not made.

    :param update_only: by user ID: use Iterable's undocumented switch that skips unknown users, instead of look-ups
    """
    head, tail = b'{"users":[', b"]}"
    if match == "user_id" and update_only:
        return _bulk(USERS_BULK_UPDATE_ONLY_EMAIL, head, b'],"updateOnly":true}')
    if match == "user_id":
        return look_up_user("user_id", _bulk(USERS_BULK_CHANGE_EMAIL, head, tail))
    call = _look_up("email", judge_before_change)
    for _ in range(CHANGE_TRIES):
        call = _look_up("email", judge_before_change, _bulk(USERS_BULK_CHANGE_EMAIL, head, tail, call))
    return call


def delete_user(match: str) -> Call:
    """Delete the profile with an email address, or every profile with a user ID."""
    endpoint = USERS_DELETE_BY_EMAIL if match == "email" else USERS_DELETE_BY_USER_ID
    prefix = endpoint.template[: endpoint.template.index("{")]

    def wrap(operations: Sequence[Operation]) -> Request:
        identifier = operations[0].handles[0][1]
        return Request(endpoint.method, prefix + quote(identifier, safe=""), endpoint.template)

    return _single(endpoint, wrap)


def forget_user() -> Call:
    """Delete somebody's data and refuse further data about them; a body is an object with the identifier."""
    return _alone(USERS_FORGET)


def unforget_user() -> Call:
    """Accept data about a forgotten user again; a body is an object with the identifier."""
    return _alone(USERS_UNFORGET)


@dataclass(frozen=True)
class Merging:
    """How users are merged.

    :param source: the identifier of who is merged: ``"email"`` or ``"user_id"``
    :param destination: the identifier of whom they are merged into
    :param tail: what is sent beside the two, as members of an object
    :param create_destination: whether a source takes the identifier of a destination that does not exist
    :param is_source: returns whether somebody is merged into another by the same run
    """

    source: str
    destination: str
    tail: bytes = b""
    create_destination: bool = False
    is_source: IsSource = lambda handle: False

    def calls(self) -> tuple[Call, Call]:
        """Return what merges a new pair, and what merges one of which it is not known whether it was merged.

        A body names both. Where an answer is lost, the source is looked up before the pair goes again.
        """
        doubtful = _look_up(self.source, judge_source, which=SOURCE)
        for _ in range(MERGE_TRIES):
            again = self._checked(self._merge(judge_merge_in_doubt, doubtful))
            doubtful = _look_up(self.source, judge_source, again, which=SOURCE)
        return self._checked(self._merge(judge_merge, doubtful)), doubtful

    def look_up_left(self) -> Call:
        """Return what settles a pair in doubt whose row has left."""
        return _look_up(self.source, judge_left, which=SOURCE)

    def look_up_former(self, merged: Callable[[Operation], Operation], then: Call) -> Call:
        """Return what settles a pair in doubt in whose place another one goes on to another call."""
        return _look_up(self.source, partial(judge_former, merged=merged), then, which=FORMER)

    def _merge(self, judge: Judge, then: Call) -> Call:
        def wrap(operations: Sequence[Operation]) -> Request:
            body = operations[0].body[:-1] + self.tail + b"}"
            return Request(USERS_MERGE.method, USERS_MERGE.template, USERS_MERGE.template, body=body)

        return replace(_single(replace(USERS_MERGE, judge=judge), wrap, then), looks_back=True)

    def _checked(self, call: Call) -> Call:
        """Look the destination up first, unless it may be missing."""
        if self.create_destination:
            return call
        judge = partial(judge_destination, is_source=self.is_source)
        return _look_up(self.destination, judge, call, which=DESTINATION)


def _alone(endpoint: BatchEndpoint, then: Call | None = None) -> Call:
    def wrap(operations: Sequence[Operation]) -> Request:
        return Request(endpoint.method, endpoint.template, endpoint.template, body=operations[0].body)

    return _single(endpoint, wrap, then)


def look_up_user(match: str, then: Call) -> Call:
    """Ask whether a user exists, and go on to another call if so."""
    return _look_up(match, judge_lookup, then)


def look_up_new_user(match: str, sure: Callable[[Operation], Operation], then: Call) -> Call:
    """Ask whether a user exists, and go on to another call if not.

    :param sure: returns an operation as it goes on
    """
    return _look_up(match, judge_before_create(sure), then)


def look_up_profile(match: str, spare: Spare, then: Call, *, creates: bool) -> Call:
    """Ask what the profile of a user has, and go on to another call with what it is to get.

    :param spare: returns an operation as it goes on, given the fields of the profile
    :param creates: whether who is not there goes on as well
    """
    return _look_up(match, judge_profile(spare, creates=creates), then)


def _look_up(match: str, judge: Judge, then: Call | None = None, which: int = 0) -> Call:
    """Ask for the user whom the handle of this number names."""
    endpoint, name = (USERS_GET_BY_EMAIL, "email") if match == "email" else (USERS_GET_BY_USER_ID, "userId")

    def wrap(operations: Sequence[Operation]) -> Request:
        return Request(endpoint.method, endpoint.template, endpoint.template, {name: operations[0].handles[which][1]})

    return _single(replace(endpoint, judge=judge), wrap, then)


def write_items(catalog: str, *, replace_uploaded_fields_only: bool = False) -> Call:
    """Create or replace many items of a catalog; a body is an object with one member, the item under its ID.

    :param replace_uploaded_fields_only: leave fields of an existing item that are not given as they are
    """
    flag = b"true" if replace_uploaded_fields_only else b"false"
    tail = b'},"replaceUploadedFieldsOnly":' + flag + b"}"
    return _items(CATALOG_WRITE_ITEMS, catalog, b'{"documents":{', tail, lambda body: body[1:-1])


def delete_items(catalog: str) -> Call:
    """Delete many items of a catalog; a body is an item's ID."""
    return _items(CATALOG_DELETE_ITEMS, catalog, b'{"itemIds":[', b"]}", bytes)


def _items(endpoint: BatchEndpoint, catalog: str, head: bytes, tail: bytes, part: Callable[[bytes], bytes]) -> Call:
    path = endpoint.template.replace("{name}", quote(catalog, safe=""))

    def wrap(operations: Sequence[Operation]) -> Request:
        body = head + b",".join([part(operation.body) for operation in operations]) + tail
        return Request(endpoint.method, path, endpoint.template, body=body)

    return endpoint.call(wrap, envelope=len(head) + len(tail))


@dataclass
class MailingList:
    """The list that calls are about; it may be found or created only when there is something to send.

    :param number: its ID, ``None`` while it is unknown
    :param fresh: whether it was made a moment ago, so that Iterable may not take members for it yet
    """

    number: int | None = None
    fresh: Callable[[], bool] = bool


def subscribe_to_list(target: MailingList, *, existing_only: bool = False) -> Call:
    """Put many users on a list; their fields ride along.

    :param existing_only: whether unknown users are skipped; counts in user-ID-based and hybrid projects alone
    """
    options = b',"updateExistingUsersOnly":true' if existing_only else b""
    return _members(LISTS_SUBSCRIBE, judge_subscribe, target, options)


def unsubscribe_from_list(target: MailingList) -> Call:
    """Take many users off a list, and leave its channel alone."""
    return _members(LISTS_UNSUBSCRIBE, judge_unsubscribe, target, b',"channelUnsubscribe":false')


def _members(
    endpoint: BatchEndpoint,
    judge: Callable[[Batch, Reply, int | None, bool], Verdict],
    target: MailingList,
    options: bytes,
) -> Call:
    def wrap(operations: Sequence[Operation]) -> Request:
        members = b",".join([operation.body for operation in operations])
        body = b'{"listId":%d,"subscribers":[%s]%s}' % (target.number or 0, members, options)
        return Request(endpoint.method, endpoint.template, endpoint.template, body=body)

    return endpoint.call(
        wrap,
        judge=lambda batch, reply: judge(batch, reply, target.number, target.fresh()),
        envelope=len(b'{"listId":,"subscribers":[]}') + 20 + len(options),
    )


def track_events(*, repeatable: bool = True) -> Call:
    """Track many custom events.

    :param repeatable: whether an event may be sent twice, because it has an ID by which Iterable knows it again
    """
    return replace(_bulk(EVENTS_TRACK_BULK, b'{"events":[', b"]}"), repeatable=repeatable)


def track_purchase(*, repeatable: bool = True) -> Call:
    """Track one purchase, write its user and empty the user's cart; there is no bulk form.

    :param repeatable: whether a purchase may be sent twice, because it has an ID by which Iterable knows it again
    """
    return replace(_alone(COMMERCE_TRACK_PURCHASE), repeatable=repeatable)


def update_cart() -> Call:
    """Replace one user's cart, and track that; after a lost answer it goes again, and says so."""
    return replace(_alone(COMMERCE_UPDATE_CART), judge=judge_carts())


def _bulk(endpoint: BatchEndpoint, head: bytes, tail: bytes, then: Call | None = None) -> Call:
    def wrap(operations: Sequence[Operation]) -> Request:
        body = head + b",".join([operation.body for operation in operations]) + tail
        return Request(endpoint.method, endpoint.template, endpoint.template, body=body)

    return endpoint.call(wrap, envelope=len(head) + len(tail), then=then)


def _single(endpoint: BatchEndpoint, wrap: Callable[[Sequence[Operation]], Request], then: Call | None = None) -> Call:
    return endpoint.call(wrap, max_items=1, reads=endpoint.method == "GET", then=then)
