"""Stored lists and catalogs, with what was written to them; not part of Iterable's API."""

from itertools import islice
from typing import Any

import msgspec

from ..project.lists import ListType
from ..project.project import Project
from ..service import Service, chosen


def lists(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return the lists, how often names were created, and the deleted IDs; with `members=1` members; of all or `id`."""
    project = chosen(service, query)
    limit = _limit(query, "members")
    only = int(query["id"]) if "id" in query else None
    return {
        "lists": [row for row in stored_lists(project, limit) if only in (None, row["id"])],
        "created": dict(project.lists.created),
        "deleted": project.lists.deleted,
    }


def stored_lists(project: Project, limit: int | None = None) -> list[dict[str, Any]]:
    """Return lists with their size, the writes they accepted, what channelUnsubscribe said, and first members."""
    members = project.lists.all_members(project.profiles)
    rows = []
    for found in project.lists:
        said = found.channel_unsubscribes
        rows.append(
            {
                "id": found.id,
                "name": found.name,
                "description": found.description,
                "listType": found.type,
                "size": len(members[found.id]),
                "subscribes": found.subscribes,
                "unsubscribes": found.unsubscribes,
                "channelUnsubscribe": {"true": said[True], "false": said[False], "absent": said[None]},
            }
        )
        if limit != 0:
            rows[-1]["members"] = [
                {"email": profile.email, "userId": profile.user_id, "writes": profile.writes}
                for profile in members[found.id][:limit]
            ]
    return rows


def add_list(service: Service, query: dict[str, str], body: Any) -> Any:
    """Make a list of any type, which the API cannot."""
    wanted = msgspec.convert(body, _NewList)
    project = chosen(service, query)
    made = project.lists.create(wanted.name, wanted.description, wanted.listType, service.clock())
    return {"listId": made.id}


class _NewList(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    listType: ListType = "Standard"  # noqa: N815


def catalogs(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return the catalogs, how often names were created and deleted; with `items=1` items; of all or `name`."""
    project = chosen(service, query)
    limit = _limit(query, "items")
    return {
        "catalogs": [row for row in stored_catalogs(project, limit) if query.get("name") in (None, row["name"])],
        "created": dict(project.catalogs.created),
        "deleted": dict(project.catalogs.deleted),
        "waiting": project.catalogs.waiting,
    }


def stored_catalogs(project: Project, limit: int | None = None) -> list[dict[str, Any]]:
    """Return catalogs with their field types and first items, each with its indexed fields and accepted writes."""
    project.catalogs.settle(project.clock())
    rows = []
    for catalog in project.catalogs:
        rows.append(
            {
                "name": catalog.name,
                "items": len(catalog.items),
                "writes": catalog.writes,
                "deletes": catalog.deletes,
                "definedMappings": dict(catalog.types),
                "undefinedFields": catalog.undefined,
            }
        )
        if limit != 0:
            rows[-1]["values"] = [
                {"id": item.id, "value": item.value, "indexed": sorted(item.indexed), "writes": item.writes}
                for item in islice(catalog.items.values(), limit)
            ]
    return rows


def _limit(query: dict[str, str], wanted: str) -> int | None:
    """Return how many members or items are asked for: none, `limit`, or all (None)."""
    if query.get(wanted) != "1":
        return 0
    return int(query["limit"]) if "limit" in query else None
