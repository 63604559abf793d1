"""What merging two users does: the destination keeps what it has and gains the rest, and the source is gone."""

from collections.abc import Iterable
from typing import Any

from ..shapes.users import ArrayMerge
from .lists import SUBSCRIPTION_FIELDS
from .profiles import Profile
from .project import Project
from .schema import SYSTEM_FIELDS

DEVICES = "devices"


def is_managed(field: str, project: Project) -> bool:
    """Return whether a field is one of Iterable's own."""
    return field in SYSTEM_FIELDS or field == project.lists.field


def misfit(source: Profile, destination: Profile, merges: Iterable[ArrayMerge]) -> str | None:
    """Return a field that is to be freed of duplicates by a member, and that holds something else than objects."""
    for merge in merges:
        held = [*_array(source, merge.field), *_array(destination, merge.field)]
        if merge.dedupe_by is not None and not all(isinstance(each, dict) for each in held):
            return merge.field
    return None


def merge_into(project: Project, source: Profile, destination: Profile, merges: Iterable[ArrayMerge]) -> None:
    """Write what the source has over the destination where that has nothing; events move, and the source is deleted."""
    email, user_id = source.email, source.user_id
    for store in (project.events, project.purchases):
        store.move(source, destination)
    _merge_fields(project, source, destination, merges)
    project.delete([source])
    if project.options.merge_identifiers:
        project.profiles.rename(destination, destination.email or email, destination.user_id or user_id)
    destination.updated = project.clock()
    destination.writes += 1


def rename(project: Project, source: Profile, email: str | None, user_id: str | None) -> None:
    """Give the source the identifier of a destination that does not exist."""
    project.profiles.rename(source, email or source.email, user_id or source.user_id)
    source.updated = project.clock()
    source.writes += 1


def _merge_fields(project: Project, source: Profile, destination: Profile, merges: Iterable[ArrayMerge]) -> None:
    fields, options = destination.fields, project.options
    union = [DEVICES]
    if options.merge_lists == "union":
        union.append(project.lists.field)
    if options.merge_subscriptions == "union":
        union += SUBSCRIPTION_FIELDS
    own = {*union, project.lists.field, *SUBSCRIPTION_FIELDS}
    joined = {merge.field: _joined(source, destination, merge.field, merge.dedupe_by) for merge in merges}
    joined |= {field: _joined(source, destination, field, None) for field in union}
    for name, value in source.fields.items():
        if name not in own:
            fields.setdefault(name, value)
    fields.update({name: values for name, values in joined.items() if name in fields or name in source.fields})


def _array(profile: Profile, field: str) -> list[Any]:
    """Return the contents of an array; one of what is no array, and nothing of a field that is not there."""
    if field not in profile.fields:
        return []
    held = profile.fields[field]
    return held if isinstance(held, list) else [held]


def _joined(source: Profile, destination: Profile, field: str, dedupe_by: str | None) -> list[Any]:
    """Return the contents at the destination, and then those of the source that do not equal one of them."""
    there = _array(destination, field)
    return [
        *there,
        *(each for each in _array(source, field) if not any(_is_twin(each, one, dedupe_by) for one in there)),
    ]


def _is_twin(mine: Any, other: Any, dedupe_by: str | None) -> bool:
    """Return whether two objects have the same value of a member; without one, whether two values are equal."""
    if dedupe_by is None:
        return is_same(mine, other)
    return dedupe_by in mine and dedupe_by in other and is_same(mine[dedupe_by], other[dedupe_by])


def is_same(mine: Any, other: Any) -> bool:
    """Return whether JSON is equal: objects by members, arrays in their order; true and false are no numbers."""
    if isinstance(mine, dict) and isinstance(other, dict):
        return mine.keys() == other.keys() and all(is_same(value, other[name]) for name, value in mine.items())
    if isinstance(mine, list) and isinstance(other, list):
        return len(mine) == len(other) and all(map(is_same, mine, other))
    return isinstance(mine, bool) == isinstance(other, bool) and bool(mine == other)
