"""The endpoint that merges two users: what it takes and answers."""

from ..project.identity import Refusal
from ..project.merging import is_managed, merge_into, misfit, rename
from ..project.profiles import Profile
from ..project.project import Project, identifiers
from ..shapes.answers import Answer, refusal, success
from ..shapes.request import Request
from ..shapes.users import MergeUsers, OptionalUser
from .refusals import refused


def merge(project: Project, request: Request[MergeUsers]) -> Answer:
    """Merge the source into the destination; where there is no destination, the source takes its identifier."""
    body = request.body
    sides = (("source", body.source_email, body.source_user_id),
             ("destination", body.destination_email, body.destination_user_id))  # fmt: skip
    for side, email, user_id in sides:
        if (email is None) == (user_id is None):
            return refusal(400, "BadParams", f"Either {side}Email or {side}UserId must be set, but not both")
    merges = list({each.field: each for each in body.array_merge or ()}.values())
    managed = next((each.field for each in merges if is_managed(each.field, project)), None)
    if managed is not None and project.options.merge_managed_arrays == "refuse":
        return refusal(400, "BadParams", f"arrayMerge: {managed} is not a custom array")
    source, destination = (project.known(OptionalUser(email, user_id)) for _, email, user_id in sides)
    for found in (source, destination):
        if isinstance(found, Refusal) and (found is source or not _is_unknown(project, found)):
            return refused(project, found)
    assert isinstance(source, Profile)
    names = identifiers(source)
    if isinstance(destination, Refusal):
        rename(project, source, *_named(body))
        return _merged([*names, *identifiers(source)])
    if destination is source:
        return refusal(400, "BadParams", "Source and destination are the same user")
    custom = [each for each in merges if not is_managed(each.field, project)]
    wrong = misfit(source, destination, custom)
    if wrong is not None:
        return refusal(400, "BadParams", f"arrayMerge: dedupeBy needs an array of objects, which {wrong} is not")
    merge_into(project, source, destination, custom)
    return _merged([*names, *identifiers(destination)])


def _is_unknown(project: Project, found: Refusal) -> bool:
    """Return whether a destination does not exist and could; an email names nobody where users are known by ID."""
    return found.reason == "notFound" and (found.kind == "user_id" or project.type != "user_id")


def _named(body: MergeUsers) -> tuple[str | None, str | None]:
    email = body.destination_email.lower() if body.destination_email is not None else None
    return email, body.destination_user_id


def _merged(names: list[tuple[str, str]]) -> Answer:
    answer = success(applied=True)
    answer.identifiers = list(dict.fromkeys(names))
    return answer
