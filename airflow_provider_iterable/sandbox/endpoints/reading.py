"""How profiles and events look when read through the API, with their system fields."""

from typing import Any

from ..project.events import Event
from ..project.profiles import Profile
from ..project.project import Project
from ..shapes.values import date_of


def user_of(profile: Profile, project: Project) -> dict[str, Any]:
    """Return the profile as reads show it: identifiers, and all fields including those Iterable adds."""
    names = {"email": profile.email, "userId": profile.user_id}
    named = {name: value for name, value in names.items() if value is not None}
    return {**named, "dataFields": {**_system(profile, project), **profile.fields, **named}}


def is_visible(profile: Profile, project: Project) -> bool:
    """Return whether a new profile can be read yet."""
    return project.clock() >= profile.created + project.options.visible_after


def event_of(event: Event) -> dict[str, Any]:
    """Return the event as reads show it; a purchase has its items and total beside its data fields."""
    named = {
        "_id": event.id,
        "email": event.profile.email,
        "userId": event.profile.user_id,
        "campaignId": event.campaign_id,
        "templateId": event.template_id,
        "createdAt": date_of(event.created),
    }
    shown = {name: value for name, value in named.items() if value is not None}
    if event.name is not None:
        return {**shown, "eventName": event.name, "eventType": "customEvent", "dataFields": event.fields}
    total, items, data = purchase_parts(event)
    return {**shown, "eventType": "purchase", "total": total, "shoppingCartItems": items, "dataFields": data}


def purchase_parts(event: Event) -> tuple[Any, Any, dict[str, Any]]:
    """Return the total, the items and the data fields of a purchase."""
    fields = event.fields
    data = {name: value for name, value in fields.items() if name not in ("total", "shoppingCartItems")}
    return fields["total"], fields["shoppingCartItems"], data


def is_event_visible(event: Event, project: Project) -> bool:
    """Return whether a new event can be read yet."""
    return project.clock() >= event.received + project.options.visible_after


def _system(profile: Profile, project: Project) -> dict[str, Any]:
    internal = {
        "documentCreatedAt": date_of(profile.created),
        "documentUpdatedAt": date_of(profile.updated),
    }
    if profile.email is not None:
        internal["emailDomain"] = profile.email.rpartition("@")[2]
    fields: dict[str, Any] = {
        "itblInternal": internal,
        "profileUpdatedAt": date_of(profile.updated),
        "signupSource": "API",
    }
    if profile.signup is not None:
        fields["signupDate"] = date_of(profile.signup)
    if project.type != "email":
        fields["itblUserId"] = profile.user_id or profile.email
    return fields
