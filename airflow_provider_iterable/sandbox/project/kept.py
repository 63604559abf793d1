"""A project as JSON can hold it, so that it outlives the process; without options."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from ..options import ProjectType
from .catalogs import Catalog, Item
from .channels import Channel, MessageType
from .events import Event, Events
from .lists import ListType, MailingList
from .profiles import Profile
from .project import Project


class _KeptEvent(msgspec.Struct, omit_defaults=True):
    """An event; `profile` is the position of its user among all profiles."""

    id: str
    name: str | None
    profile: int
    created: float
    received: float
    fields: dict[str, Any]
    campaign_id: int | None = None
    template_id: int | None = None
    given: bool = False
    writes: int = 1


class _KeptList(msgspec.Struct):
    """A list; `said` counts what requests said of channelUnsubscribe: true, false, nothing."""

    id: int
    name: str
    description: str | None
    type: ListType
    created: float
    subscribes: int
    unsubscribes: int
    said: tuple[int, int, int]


class _KeptCatalog(msgspec.Struct):
    name: str
    types: dict[str, str]
    fields: list[str]
    items: list[Item]
    writes: int
    deletes: int


class Kept(msgspec.Struct):
    """All that a project holds."""

    type: ProjectType
    number: int
    profiles: list[Profile]
    sharing: dict[str, list[int]]
    """Positions of the profiles that share a user ID, the oldest first."""
    fields: dict[str, str]
    events: list[_KeptEvent]
    events_accepted: int
    event_fields: dict[str, dict[str, str]]
    purchases: list[_KeptEvent]
    purchases_accepted: int
    purchase_fields: dict[str, dict[str, str]]
    lists: list[_KeptList]
    lists_created: dict[str, int]
    lists_deleted: list[int]
    catalogs: list[_KeptCatalog]
    catalogs_created: dict[str, int]
    catalogs_deleted: dict[str, int]
    forgotten_emails: list[str]
    forgotten_user_ids: list[str]
    quotas: dict[str, list[float]]
    channels: list[Channel] = []
    message_types: list[MessageType] = []
    """Those that were added; older files have none."""


_SAID = (True, False, None)


def keep(project: Project) -> Kept:
    """Return what a project holds; changes of catalogs that have not taken effect yet are no part of it."""
    project.catalogs.settle(project.clock())
    profiles = list(project.profiles)
    places = {profile: place for place, profile in enumerate(profiles)}
    lists, catalogs = project.lists, project.catalogs
    return Kept(
        type=project.type,
        number=project.options.project_id,
        profiles=profiles,
        sharing={name: [places[one] for one in found] for name, found in project.profiles.sharing.items()},
        fields=project.schema.custom,
        events=_kept_events(project.events, places),
        events_accepted=project.events.accepted,
        event_fields=project.event_schema.custom,
        purchases=_kept_events(project.purchases, places),
        purchases_accepted=project.purchases.accepted,
        purchase_fields=project.purchase_schema.custom,
        lists=[
            _KeptList(
                found.id,
                found.name,
                found.description,
                found.type,
                found.created,
                found.subscribes,
                found.unsubscribes,
                (said[True], said[False], said[None]),
            )
            for found in lists
            for said in (found.channel_unsubscribes,)
        ],
        lists_created=dict(lists.created),
        lists_deleted=lists.deleted,
        catalogs=[
            _KeptCatalog(
                found.name, found.types, list(found.fields), list(found.items.values()), found.writes, found.deletes
            )
            for found in catalogs
        ],
        catalogs_created=dict(catalogs.created),
        catalogs_deleted=dict(catalogs.deleted),
        forgotten_emails=list(project.forgotten_emails),
        forgotten_user_ids=list(project.forgotten_user_ids),
        quotas={name: list(quota.calls) for name, quota in project.quotas.items()},
        channels=project.channels.added,
        message_types=project.channels.added_types,
    )


def restored(kept: Kept, project: Project) -> Project:
    """Return a new project, of the same type, that holds what was kept."""
    project.profiles.restore(
        kept.profiles, {name: [kept.profiles[place] for place in places] for name, places in kept.sharing.items()}
    )
    project.schema.restore(kept.fields)
    project.event_schema.restore(kept.event_fields)
    project.purchase_schema.restore(kept.purchase_fields)
    project.events.restore(_events(kept.events, kept.profiles), kept.events_accepted)
    project.purchases.restore(_events(kept.purchases, kept.profiles), kept.purchases_accepted)
    project.lists.restore(map(_list, kept.lists), kept.lists_created, kept.lists_deleted)
    project.catalogs.restore(map(_catalog, kept.catalogs), kept.catalogs_created, kept.catalogs_deleted)
    project.channels.restore(kept.channels, kept.message_types)
    project.forgotten_emails = dict.fromkeys(kept.forgotten_emails)
    project.forgotten_user_ids = dict.fromkeys(kept.forgotten_user_ids)
    for name, calls in kept.quotas.items():
        project.quotas[name].calls.extend(calls)
    return project


def _kept_events(events: Events, places: dict[Profile, int]) -> list[_KeptEvent]:
    rows = (({name: getattr(event, name) for name in event.__struct_fields__}, event.profile) for event in events)
    return [_KeptEvent(**{**row, "profile": places[profile]}) for row, profile in rows]


def _events(kept: Iterable[_KeptEvent], profiles: list[Profile]) -> Iterable[Event]:
    for event in kept:
        row: dict[str, Any] = {name: getattr(event, name) for name in event.__struct_fields__}
        yield Event(**{**row, "profile": profiles[event.profile]})


def _list(kept: _KeptList) -> MailingList:
    said = Counter(dict(zip(_SAID, kept.said, strict=True)))
    about = (kept.id, kept.name, kept.description, kept.type, kept.created, kept.subscribes, kept.unsubscribes)
    return MailingList(*about, said)


def _catalog(kept: _KeptCatalog) -> Catalog:
    made = Catalog(kept.name)
    made.types, made.fields = kept.types, dict.fromkeys(kept.fields)
    made.items = {item.id: item for item in kept.items}
    made.writes, made.deletes = kept.writes, kept.deletes
    return made
