"""Fills a project from JSON: channels, users, lists with members, subscriptions, catalogs, events and purchases."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec

from ..project.lists import ListType
from ..project.project import Project
from ..service import Service, chosen
from .messaging import NewChannel, make_channel

Post = Callable[[str, Any], Any]
_BATCH = 1000


class _List(msgspec.Struct, forbid_unknown_fields=True):
    """A list; `members` are as in lists/subscribe, and are made where they are not known."""

    name: str
    description: str | None = None
    listType: ListType = "Standard"  # noqa: N815
    members: list[dict[str, Any]] = []


class _Catalog(msgspec.Struct, forbid_unknown_fields=True):
    """A catalog: its values by item ID, and the types of fields by name."""

    name: str
    types: dict[str, str] = {}
    items: dict[str, dict[str, Any]] = {}


class Seed(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be there: users, subscriptions, events and purchases are as their API calls take them."""

    channels: list[NewChannel] = []
    users: list[dict[str, Any]] = []
    lists: list[_List] = []
    subscriptions: list[dict[str, Any]] = []
    catalogs: list[_Catalog] = []
    events: list[dict[str, Any]] = []
    purchases: list[dict[str, Any]] = []


def seed(service: Service, query: dict[str, str], body: Any) -> Any:
    """Add what the body says to what is there, all of it or nothing; return how much it was.

    Each part is judged as an API call with it would be. It counts to no rate, meets no fault and is in no log.
    """
    try:
        wanted = msgspec.convert(body, Seed)
    except msgspec.ValidationError as error:
        raise ValueError(f"seed: {error}") from None
    before = service.kept()
    service.changes += 1
    try:
        _fill(service, chosen(service, query), wanted)
    except ValueError as error:
        service.restore(before)
        raise ValueError(f"seed: {error}") from None
    return {name: len(getattr(wanted, name)) for name in wanted.__struct_fields__}


def _fill(service: Service, project: Project, wanted: Seed) -> None:
    def post(path: str, body: Any) -> Any:
        return service.direct(project, "POST", f"/api/{path}", body)

    for channel in wanted.channels:
        make_channel(project, channel, service.clock())
    for start in range(0, len(wanted.users), _BATCH):
        post("users/bulkUpdate", {"users": wanted.users[start : start + _BATCH]})
    for found in wanted.lists:
        number = project.lists.create(found.name, found.description, found.listType, service.clock()).id
        if found.members:
            post("lists/subscribe", {"listId": number, "subscribers": found.members})
    for start in range(0, len(wanted.subscriptions), _BATCH):
        batch = wanted.subscriptions[start : start + _BATCH]
        post("users/bulkUpdateSubscriptions", {"updateSubscriptionsRequests": batch})
    for catalog in wanted.catalogs:
        _catalog(service, project, catalog, post)
    for start in range(0, len(wanted.events), _BATCH):
        post("events/trackBulk", {"events": wanted.events[start : start + _BATCH]})
    for purchase in wanted.purchases:
        post("commerce/trackPurchase", purchase)


def _catalog(service: Service, project: Project, catalog: _Catalog, post: Post) -> None:
    path = f"/api/catalogs/{quote(catalog.name, safe='')}"
    if project.catalogs.get(catalog.name) is None:
        service.direct(project, "POST", path, None)
    if catalog.types:
        types = [{"fieldName": name, "fieldType": word} for name, word in catalog.types.items()]
        service.direct(project, "PUT", f"{path}/fieldMappings", {"mappingsUpdates": types})
    items = list(catalog.items.items())
    for start in range(0, len(items), _BATCH):
        documents = dict(items[start : start + _BATCH])
        service.direct(project, "POST", f"{path}/items", {"documents": documents, "replaceUploadedFieldsOnly": False})
