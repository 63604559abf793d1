"""The events endpoints: what each takes and answers."""

import heapq
from typing import Any

from ..project.events import is_event_id
from ..project.identity import Refusal
from ..project.profiles import Profile
from ..project.project import Project
from ..project.tracking import Tracked, track, track_one
from ..shapes.answers import Answer, plain, refusal, success
from ..shapes.events import Track, TrackBulk
from ..shapes.request import Request
from ..shapes.values import is_email, number_in
from .reading import event_of, is_event_visible
from .refusals import bad_email, refused, ruled_out, wrong_project

USUAL_LIMIT, HIGHEST_LIMIT = 30, 200
_REASONS = ("invalid", "notFound", "forgotten")


def track_event(project: Project, request: Request[Track]) -> Answer:
    """Track one event."""
    event = request.body
    if _is_bad_id(project, event):
        return _bad_id(event)
    done = track_one(project, event)
    if done.ruling.refused:
        return ruled_out(project, done.ruling, bulk=False)
    if done.disallowed:
        return success(f"Event {event.event_name} is disallowed from tracking.", applied=False)
    if done.refusals:
        return _refused(project, event, done.refusals[0])
    answer = _tracked(done.ids[0], applied=True)
    answer.identifiers = done.written
    return answer


def _tracked(event_id: str, *, applied: bool) -> Answer:
    return success(f"Event with id: {event_id} tracked.", {"id": event_id}, applied=applied)


def _refused(project: Project, event: Track, reason: Refusal) -> Answer:
    """Answer about an event that was refused for its user: with an error, or with a success that stores nothing."""
    options = project.options
    if reason.reason == "unnamed":
        return refusal(400, "BadParams", "Either email or userId must be specified in a track call")
    if reason.reason == "notFound" and project.type == "email" and options.unknown_event_user == "accept":
        return _tracked(event.id or project.events.new_id(), applied=False)
    return refused(project, reason)


def _is_bad_id(project: Project, event: Track, *, bulk: bool = False) -> bool:
    """Return whether the ID of an event refuses the request it is in."""
    harmless = ("accept", "fail") if bulk else ("accept",)
    return event.id is not None and project.options.bad_event_ids not in harmless and not is_event_id(event.id)


def _bad_id(event: Track) -> Answer:
    return refusal(400, "BadParams", f"Invalid event id: {event.id}")


def track_bulk(project: Project, request: Request[TrackBulk]) -> Answer:
    """Track many events; an empty array is no error."""
    events = request.body.events
    for event in events:
        if _is_bad_id(project, event, bulk=True):
            return _bad_id(event)
    done = track(project, events)
    if done.ruling.refused:
        return ruled_out(project, done.ruling, bulk=True)
    answer = plain(_counted(done), applied=bool(done.ids))
    answer.identifiers = done.written
    return answer


def _counted(done: Tracked) -> dict[str, Any]:
    """Return the answer about many events; it holds no IDs."""
    failed: dict[str, list[str]] = {reason + suffix: [] for reason in _REASONS for suffix in ("Emails", "UserIds")}
    for reason in done.refusals:
        if reason.reason in _REASONS:
            failed[reason.reason + ("Emails" if reason.kind == "email" else "UserIds")].append(reason.value)
    return {
        "successCount": done.success,
        "failCount": done.failed,
        "invalidEmails": failed["invalidEmails"],
        "invalidUserIds": failed["invalidUserIds"],
        "disallowedEventNames": list(done.disallowed),
        "filteredOutFields": list(done.ruling.filtered),
        "createdFields": done.ruling.created,
        "failedUpdates": failed,
    }


def get_by_email(project: Project, request: Request[None]) -> Answer:
    """Read the newest events of the user with an email."""
    email = request.named["email"].lower()
    if project.type == "user_id":
        return wrong_project(project, "Reading events by email")
    if not is_email(email):
        return bad_email(email)
    return _newest(project, request, project.profiles.with_email(email), Refusal("notFound", "email", email))


def get_by_user_id(project: Project, request: Request[None]) -> Answer:
    """Read the newest events of the user with a user ID."""
    user_id = request.named["userId"]
    return _newest(project, request, project.profiles.with_user_id(user_id), Refusal("notFound", "user_id", user_id))


def _newest(project: Project, request: Request[None], profile: Profile | None, missing: Refusal) -> Answer:
    """Return the newest events of a user, purchases among them; of equal times the one written last comes first."""
    given = number_in(request.named.get("limit", str(USUAL_LIMIT)))
    if not 1 <= given <= HIGHEST_LIMIT:
        return refusal(400, "BadParams", f"limit must be between 1 and {HIGHEST_LIMIT}")
    if profile is None:
        return refused(project, missing) if project.options.unknown_user_events == "refuse" else plain({"events": []})
    events = [*project.events.of(profile), *project.purchases.of(profile)]
    visible = [event for event in reversed(events) if is_event_visible(event, project)]
    newest = heapq.nlargest(given, visible, key=lambda event: event.created)
    return plain({"events": [event_of(event) for event in newest]})
