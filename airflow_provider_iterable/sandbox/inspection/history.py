"""Stored events and purchases, with how often each was written; not part of Iterable's API."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from ..endpoints.reading import purchase_parts
from ..project.events import Event, Events
from ..service import Service, chosen
from ..shapes.values import date_of

Row = dict[str, Any]


def events(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return the custom events that the query asks for."""
    project = chosen(service, query)
    fields = project.event_schema.custom
    return {**_found(project.events, query, _event_row, "events"), "fields": fields}


def purchases(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return the purchases that the query asks for."""
    project = chosen(service, query)
    fields = project.purchase_schema.custom.get("purchase", {})
    return {**_found(project.purchases, query, _purchase_row, "purchases"), "fields": fields}


def stored_events(events: Iterable[Event]) -> list[Row]:
    """Return custom events as stored, the one that was first written first."""
    return [_event_row(event) for event in events]


def stored_purchases(purchases: Iterable[Event]) -> list[Row]:
    """Return purchases as stored, the one that was first written first."""
    return [_purchase_row(event) for event in purchases]


def _found(store: Events, query: dict[str, str], row: Callable[[Event], Row], word: str) -> Row:
    """Return how many events match, their writes, all writes ever accepted, and the events themselves.

    The first `limit` are returned, or the `newest`, newest first; by `by_user=1` also the counts per user.
    """
    wanted = [event for event in store if _matches(event, query)]
    shown: Iterable[Event] = wanted
    if "newest" in query:
        shown = islice(reversed(wanted), int(query["newest"]))
    elif "limit" in query:
        shown = islice(wanted, int(query["limit"]))
    found = {
        "count": len(wanted),
        "writes": sum(event.writes for event in wanted),
        "accepted": store.accepted,
        word: [row(event) for event in shown],
    }
    if query.get("by_user") == "1":
        found["users"] = _by_user(wanted)
    return found


def _matches(event: Event, query: dict[str, str]) -> bool:
    """Return whether an event is one that `email`, `userId`, `name`, `id` and `min_writes` ask for."""
    profile = event.profile
    has = {"email": profile.email, "userId": profile.user_id, "name": event.name, "id": event.id}
    if any(name in query and query[name] != value for name, value in has.items()):
        return False
    return event.writes >= int(query.get("min_writes", "1"))


def _by_user(events: Iterable[Event]) -> list[Row]:
    """Count the events of each user and their writes."""
    rows: dict[int, Row] = {}
    for event in events:
        profile = event.profile
        row = rows.setdefault(id(profile), {"email": profile.email, "userId": profile.user_id, "count": 0, "writes": 0})
        row["count"] += 1
        row["writes"] += event.writes
    return list(rows.values())


def _event_row(event: Event) -> Row:
    return {
        "id": event.id,
        "given": event.given,
        "eventName": event.name,
        "email": event.profile.email,
        "userId": event.profile.user_id,
        "createdAt": date_of(event.created),
        "campaignId": event.campaign_id,
        "templateId": event.template_id,
        "dataFields": event.fields,
        "writes": event.writes,
    }


def _purchase_row(event: Event) -> Row:
    row = _event_row(event)
    del row["eventName"]
    total, items, data = purchase_parts(event)
    return {**row, "total": total, "items": items, "dataFields": data}
