"""One user's story: profile, subscriptions, events, purchases, calls about the user; not part of Iterable's API."""

from itertools import islice
from typing import Any
from urllib.parse import unquote_plus

from ..calls import Call
from ..project.profiles import Profile
from ..project.project import Project, digest, identifiers
from ..service import Service, chosen
from ..shapes.values import date_of
from .history import stored_events, stored_purchases
from .messaging import subscriptions_of

MOST = 200
"""Events, purchases and calls in a story, each; the newest."""


def users(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return the first `limit` profiles (50) whose email or user ID has `q` in it, in any case, and their number."""
    project = chosen(service, query)
    wanted = query.get("q", "").strip().lower()
    found = [one for one in project.profiles if any(wanted in value.lower() for _, value in identifiers(one))]
    shown = islice(found, int(query.get("limit", "50")))
    return {"count": len(found), "users": [stored_profile(profile) for profile in shown]}


def stored_profile(profile: Profile) -> dict[str, Any]:
    """Return a profile as stored, without system fields, with the number of its accepted writes."""
    return {
        "email": profile.email,
        "userId": profile.user_id,
        "dataFields": profile.fields,
        "writes": profile.writes,
    }


def story(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return all there is about the user whose `email` or `userId` is given, also of one who is gone.

    There may be several profiles: in an email-based project they can share a user ID. Calls are known by the
    identifiers that the option `record_identifiers` keeps, and otherwise only where the path names the user.
    """
    project = chosen(service, query)
    if ("email" in query) == ("userId" in query):
        raise ValueError("either email or userId")
    email, user_id = query.get("email"), query.get("userId")
    found = project.profiles.all_with_user_id(user_id) if user_id is not None else []
    if email is not None:
        email = email.lower()
        found = [one for one in project.profiles if one.email == email]
    names = {("email", email)} if email is not None else {("user_id", user_id or "")}
    names |= {name for profile in found for name in identifiers(profile)}
    calls = {call.seq: call for call in service.calls.about(names)}
    calls |= {call.seq: call for call in service.calls.after() if _is_named(call, names)}
    return {
        "profiles": [_whole(profile, project) for profile in found],
        "forgotten": [value for kind, value in sorted(names) if _is_forgotten(project, kind, value)],
        "calls": [call_row(calls[seq]) for seq in sorted(calls, reverse=True)[:MOST]],
        "recorded": project.options.record_identifiers,
    }


def call_row(call: Call, *also: str) -> dict[str, Any]:
    """Return a call without whom it wrote and without bodies, but for those that are named."""
    left_out = {"identifiers", "request", "answer"}.difference(also)
    return {name: getattr(call, name) for name in call.__struct_fields__ if name not in left_out}


def _whole(profile: Profile, project: Project) -> dict[str, Any]:
    lists = {found.id: found.name for found in project.lists}
    events, purchases = project.events.of(profile), project.purchases.of(profile)
    return {
        **stored_profile(profile),
        "createdAt": date_of(profile.created),
        "updatedAt": date_of(profile.updated),
        "lists": [{"id": number, "name": lists[number]} for number in project.lists.of(profile) if number in lists],
        "subscriptions": subscriptions_of(profile, project),
        "events": stored_events(events[: -MOST - 1 : -1]),
        "eventCount": len(events),
        "purchases": stored_purchases(purchases[: -MOST - 1 : -1]),
        "purchaseCount": len(purchases),
    }


def _is_named(call: Call, names: set[tuple[str, str]]) -> bool:
    """Return whether the path of a call about one user names the user."""
    for variable, kind in (("{email}", "email"), ("{userId}", "user_id")):
        if call.template is not None and call.template.endswith(variable):
            value = unquote_plus(call.path.rpartition("/")[2])
            return (kind, value.lower() if kind == "email" else value) in names
    return False


def _is_forgotten(project: Project, kind: str, value: str) -> bool:
    return digest(value) in (project.forgotten_emails if kind == "email" else project.forgotten_user_ids)
