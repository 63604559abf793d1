"""The table of endpoints: rate, body, and the function that answers."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import msgspec

from ..project.project import Project
from ..shapes.answers import Answer
from ..shapes.catalogs import Documents, ItemIds, Mappings, Patch, Replacement
from ..shapes.events import CartUpdate, Purchase, Track, TrackBulk
from ..shapes.lists import (
    BulkSubscriptionUpdate,
    DoubleOptIn,
    GroupAction,
    NewList,
    Subscribe,
    SubscriptionUpdate,
    Unsubscribe,
)
from ..shapes.request import Request
from ..shapes.users import BulkUpdate, EmailChange, MergeUsers, Named, UserUpdate
from . import catalogs, channels, commerce, events, groups, lists, merging, subscriptions, users

Action = Callable[[Project, Request[Any]], Answer]


class Route(msgspec.Struct, frozen=True):
    """An endpoint: requests per second (None: not stated), the shape of its body, and what it does.

    The rate is stated for `period` seconds, whose requests may come at once, and holds for the project or
    for each key (`per_key`). `bulk` calls are limited in size. `exact` 429s carry their numbers in params.
    `quota` names the daily quota the call counts to. `open` calls may be made with a read-only key.
    `gate` names the option that says whether Iterable has switched it on. A `plain` one is not of the envelope.
    """

    method: str
    template: str
    action: Action
    rate: float | None = None
    body: type[msgspec.Struct] | None = None
    bulk: bool = False
    exact: bool = False
    quota: str | None = None
    open: bool = False
    period: float = 1.0
    per_key: bool = False
    gate: str | None = None
    plain: bool = False

    @property
    def endpoint(self) -> str:
        """The method and the path template, by which rates are counted."""
        return f"{self.method} {self.template}"


_GROUP = "/api/subscriptions/{group}/{id}"
_BY_EMAIL, _BY_USER_ID = f"{_GROUP}/user/{{email}}", f"{_GROUP}/byUserId/{{userId}}"
_GATE = "subscriptions_api"

ROUTES = (
    Route("POST", "/api/users/update", users.update, 500, UserUpdate, exact=True),
    Route("POST", "/api/users/bulkUpdate", users.bulk_update, 5, BulkUpdate, bulk=True, exact=True),
    Route("POST", "/api/users/updateEmail", users.update_email, None, EmailChange),
    Route("POST", "/api/users/forget", users.forget, 3, Named, quota="forget"),
    Route("POST", "/api/users/unforget", users.unforget, 3, Named, quota="unforget"),
    Route("GET", "/api/users/getByEmail", users.get_by_email, 100),
    Route("GET", "/api/users/byUserId", users.get_by_user_id, 100),
    Route("GET", "/api/users/getFields", users.get_fields, 3, open=True),
    Route("GET", "/api/users/getSentMessages", users.get_sent_messages, 3),
    Route("GET", "/api/users/forgotten", users.forgotten_emails, 3),
    Route("GET", "/api/users/forgottenUserIds", users.forgotten_user_ids, 3),
    Route("GET", "/api/users/byUserId/{userId}", users.get_by_user_id, 100),
    Route("GET", "/api/users/{email}", users.get_by_email, 100),
    Route("DELETE", "/api/users/byUserId/{userId}", users.delete_by_user_id, 100),
    Route("DELETE", "/api/users/{email}", users.delete_by_email, 100),
    Route("POST", "/api/users/merge", merging.merge, 50, MergeUsers, per_key=True),
    Route("POST", "/api/users/updateSubscriptions", subscriptions.update_subscriptions, None, SubscriptionUpdate),
    Route(
        "POST",
        "/api/users/bulkUpdateSubscriptions",
        subscriptions.bulk_update_subscriptions,
        None,
        BulkSubscriptionUpdate,
        bulk=True,
    ),
    Route("PUT", _GROUP, groups.change_many, None, GroupAction, bulk=True, gate=_GATE),
    Route("PATCH", _BY_EMAIL, groups.subscribe_one, gate=_GATE),
    Route("PATCH", _BY_USER_ID, groups.subscribe_one, gate=_GATE),
    Route("DELETE", _BY_EMAIL, groups.unsubscribe_one, gate=_GATE),
    Route("DELETE", _BY_USER_ID, groups.unsubscribe_one, gate=_GATE),
    Route(
        "POST",
        "/api/subscriptions/subscribeToDoubleOptIn",
        groups.subscribe_to_double_opt_in,
        None,
        DoubleOptIn,
        gate="double_opt_in_api",
        plain=True,
    ),
    Route("POST", "/api/events/track", events.track_event, 2000, Track),
    Route("POST", "/api/events/trackBulk", events.track_bulk, 10, TrackBulk, bulk=True),
    Route("GET", "/api/events/byUserId/{userId}", events.get_by_user_id, 100),
    Route("GET", "/api/events/{email}", events.get_by_email, 100),
    Route("POST", "/api/commerce/trackPurchase", commerce.track_purchase, None, Purchase),
    Route("POST", "/api/commerce/updateCart", commerce.replace_cart, None, CartUpdate),
    Route("GET", "/api/lists", lists.get_lists, 100, open=True),
    Route("POST", "/api/lists", lists.create, None, NewList),
    Route("POST", "/api/lists/subscribe", lists.subscribe, None, Subscribe, bulk=True),
    Route("POST", "/api/lists/unsubscribe", lists.unsubscribe, None, Unsubscribe, bulk=True),
    Route("GET", "/api/lists/getUsers", lists.get_users, 5 / 60, period=60),
    Route("GET", "/api/lists/previewUsers", lists.preview_users, 5 / 60, period=60),
    Route("GET", "/api/lists/{listId}/size", lists.size, 5 / 60, open=True, period=60),
    Route("DELETE", "/api/lists/{listId}", lists.delete),
    Route("GET", "/api/catalogs", catalogs.get_catalogs, 100, per_key=True),
    Route("POST", "/api/catalogs/{name}", catalogs.create),
    Route("DELETE", "/api/catalogs/{name}", catalogs.delete),
    Route("GET", "/api/catalogs/{name}/fieldMappings", catalogs.get_mappings),
    Route("PUT", "/api/catalogs/{name}/fieldMappings", catalogs.put_mappings, None, Mappings),
    Route("GET", "/api/catalogs/{name}/items", catalogs.get_items, 100, per_key=True),
    Route("POST", "/api/catalogs/{name}/items", catalogs.write_items, 100, Documents, per_key=True),
    Route("DELETE", "/api/catalogs/{name}/items", catalogs.delete_items, None, ItemIds),
    Route("GET", "/api/catalogs/{name}/items/{itemId}", catalogs.get_item),
    Route("PUT", "/api/catalogs/{name}/items/{itemId}", catalogs.put_item, 1000, Replacement, per_key=True),
    Route("PATCH", "/api/catalogs/{name}/items/{itemId}", catalogs.patch_item, None, Patch),
    Route("DELETE", "/api/catalogs/{name}/items/{itemId}", catalogs.delete_item),
    Route("GET", "/api/channels", channels.get_channels, 100, open=True),
    Route("GET", "/api/messageTypes", channels.get_message_types, 100, open=True),
)


class Table:
    """Finds the route of a request; a path without a variable part goes before one with."""

    def __init__(self, routes: Iterable[Route] = ROUTES) -> None:
        """Take in the routes."""
        self._fixed = {(r.method, r.template): r for r in routes if "{" not in r.template}
        self._open = [(r, r.template.split("/")) for r in routes if "{" in r.template]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a raw path and what stands in its variable parts, decoded.

        A slash or a plus sign belongs to an identifier only when it is encoded.
        """
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed, {}
        parts = path.split("/")
        for route, names in self._open:
            if route.method == method and len(parts) == len(names):
                pairs = list(zip(names, parts, strict=True))
                variable = {n[1:-1]: unquote_plus(p) for n, p in pairs if n.startswith("{")}
                if all(n == p or n.startswith("{") for n, p in pairs) and all(variable.values()):
                    return route, variable
        return None


def query_of(query: str) -> dict[str, str]:
    """Return the parameters of a query; of one given twice, the first."""
    return dict(reversed(parse_qsl(query, keep_blank_values=True)))
