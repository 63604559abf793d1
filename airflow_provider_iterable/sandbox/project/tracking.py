"""Stores tracked events, or finds why they are refused."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ..options import Options
from ..shapes.events import Purchase, Track
from ..shapes.users import OptionalUser
from .event_schema import Draft
from .events import Event, Events, is_event_id, moment
from .identity import Found, Refusal
from .profiles import Profile
from .project import Project, identifiers
from .schema import Ruling


class Tracked(msgspec.Struct):
    """The result of a request that tracks events: refused as a whole by `ruling`, or one result per event."""

    ruling: Ruling
    refusals: list[Refusal] = []
    disallowed: dict[str, None] = {}
    ids: list[str] = []
    written: list[tuple[str, str]] = []
    success: int = 0
    failed: int = 0


def track(project: Project, events: Sequence[Track]) -> Tracked:
    """Store all events of one request, or nothing when the schema refuses one value of it.

    Values are judged before users, so an event refused for its user still has its values judged; those
    of a disallowed event are not.
    """
    options = project.options
    for event in events:
        event.data_fields = event.data_fields or {}
    drafts = [_draft(event, options) for event in events if event.event_name not in options.disallowed_events]
    done = Tracked(project.event_schema.rule(drafts, limit=options.max_event_fields, named=named(options)))
    if not done.ruling.refused:
        for event in reversed(events) if options.reverse_order else events:
            _settle(project, event, done)
    return done


def track_one(project: Project, event: Track) -> Tracked:
    """Store one event, unless refused for its user, before its values are judged."""
    if event.event_name not in project.options.disallowed_events:
        found = _profile_for(project, event)
        if isinstance(found, Refusal):
            return Tracked(Ruling(), refusals=[found], failed=1)
    return track(project, [event])


def _draft(event: Track, options: Options) -> Draft:
    create = options.create_new_fields if event.create_new_fields is None else event.create_new_fields
    return Draft(event.event_name, event.data_fields or {}, create)


def named(options: Options) -> bool:
    """Return whether answers name event fields together with their events."""
    return options.event_field_names == "named"


def _settle(project: Project, event: Track, done: Tracked) -> None:
    """Store one event whose values the schema has approved, or note why not."""
    options = project.options
    if event.event_name in options.disallowed_events:
        done.disallowed[event.event_name] = None
        done.failed += options.disallowed == "failed"
        done.success += options.disallowed == "success"
        return
    if options.bad_event_ids == "fail" and event.id is not None and not is_event_id(event.id):
        done.failed += 1
        return
    found = _profile_for(project, event)
    if isinstance(found, Refusal):
        done.failed += 1
        done.refusals.append(found)
        return
    profile = project.profile_for_event(found)
    done.ids.append(record(project, project.events, event, profile, event.data_fields or {}, event.event_name))
    done.success += 1
    if options.record_identifiers:
        done.written.extend(identifiers(profile))


def _profile_for(project: Project, event: Track) -> Found | Refusal:
    """Return whom an event is about; in an email-based project the user must exist."""
    by_email_alone = event.user_id is None
    makes = project.options.events_make_emails if project.type == "hybrid" and by_email_alone else True
    create = project.type != "email" and makes
    found = project.find(OptionalUser(event.email, event.user_id), create=create)
    conflict = isinstance(found, Refusal) and found.reason == "conflict"
    if conflict and project.options.event_conflict == "user_id":
        return project.find(OptionalUser(user_id=event.user_id), create=create)
    return found


def record(
    project: Project,
    store: Events,
    body: Track | Purchase,
    profile: Profile,
    fields: dict[str, Any],
    name: str | None = None,
) -> str:
    """Store an event, or write it over the one with its ID; return the ID."""
    now = project.clock()
    merge = project.options.event_update == "merge"
    before = store.with_id(body.id) if merge and body.id is not None else None
    event = Event(
        id=store.new_id() if body.id is None else body.id,
        name=name,
        profile=profile,
        created=moment(body.created_at, now if before is None else before.created),
        received=now,
        fields=fields,
        campaign_id=body.campaign_id,
        template_id=body.template_id,
        given=body.id is not None,
    )
    store.write(event, merge=merge)
    return event.id
