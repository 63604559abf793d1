"""The endpoints of lists: what each takes and answers."""

import contextlib
from collections.abc import Iterable

from ..project.identity import Refusal
from ..project.lists import MailingList
from ..project.profiles import Profile
from ..project.project import Project, Update, identifiers
from ..project.schema import Ruling
from ..shapes import answers
from ..shapes.answers import Answer, plain, refusal, success
from ..shapes.lists import NewList, Subscribe, Unsubscribe
from ..shapes.request import Request
from ..shapes.users import OptionalUser
from ..shapes.values import number_in
from .reading import is_visible
from .refusals import ruled_out
from .users import counted

PREVIEW_SIZE = 1000
LARGEST_PREVIEW = 5000


def get_lists(project: Project, request: Request[None]) -> Answer:
    """List all lists that show yet, the newest first."""
    now, wait = project.clock(), project.options.lists_visible_after
    return plain({"lists": [shown(found) for found in reversed(project.lists) if now >= found.created + wait]})


def shown(found: MailingList) -> dict[str, object]:
    """Return a list as GET /api/lists shows it."""
    row: dict[str, object] = {
        "id": found.id,
        "name": found.name,
        "createdAt": int(found.created * 1000),
        "listType": found.type,
    }
    if found.description is not None:
        row["description"] = found.description
    if found.type == "Suppression":
        row["isGlobalSuppressionEnabled"] = False
    return row


def create(project: Project, request: Request[NewList]) -> Answer:
    """Make a static list; one of the same name may exist."""
    body = request.body
    made = project.lists.create(body.name, body.description, "Standard", project.clock())
    return plain({"listId": made.id}, applied=True)


def delete(project: Project, request: Request[None]) -> Answer:
    """Delete a list, unless it is in use."""
    named = request.named["listId"]
    found = _numbered(project, named)
    where = f"list {named} in Project {project.options.project_id}"
    if found is None:
        return refusal(400, "BadParams", f"Unable to delete {where}, which does not exist.")
    if found.id in project.options.lists_in_use:
        return refusal(409, "Conflict", f"Unable to delete {where}, which is in use.")
    project.lists.delete(found, project.profiles)
    return success(f"{where[0].upper()}{where[1:]} was successfully deleted.", applied=True)


def subscribe(project: Project, request: Request[Subscribe]) -> Answer:
    """Put users on a list; they are created or updated as well."""
    body = request.body
    found = _writable(project, body.list_id)
    if isinstance(found, Answer):
        return found
    done = project.update(
        body.subscribers,
        create=None,
        update_only=body.update_existing_users_only is True and project.type != "email",
        also=lambda profile: project.lists.subscribe(profile, found),
    )
    return ruled_out(project, done.ruling, bulk=True) if done.ruling.refused else _result(done)


def unsubscribe(project: Project, request: Request[Unsubscribe]) -> Answer:
    """Take users off a list, and off its channel only when the request says so."""
    body = request.body
    found = _writable(project, body.list_id)
    if isinstance(found, Answer):
        return found
    found.channel_unsubscribes[body.channel_unsubscribe] += 1
    done = Update(Ruling())
    for named in body.subscribers:
        profile = project.known(OptionalUser(named.email, named.user_id))
        if isinstance(profile, Profile):
            project.lists.unsubscribe(profile, found, project.clock())
            if body.channel_unsubscribe is True:
                _leave_channel(profile, project)
        _count(done, profile)
    return _result(done)


def _leave_channel(profile: Profile, project: Project) -> None:
    channel = project.options.list_channel or project.channels.all[0].id
    held = profile.fields.get("unsubscribedChannelIds")
    left = held if isinstance(held, list) else []
    if channel not in left:
        profile.fields["unsubscribedChannelIds"] = [*left, channel]


def _count(done: Update, outcome: Profile | Refusal) -> None:
    if isinstance(outcome, Refusal):
        done.failed += 1
        done.refusals.append(outcome)
    else:
        done.success += 1
        done.applied = True
        done.written += identifiers(outcome)


def _result(done: Update) -> Answer:
    answer = plain(counted(done), applied=done.applied)
    answer.identifiers = done.written
    return answer


def _writable(project: Project, number: int) -> MailingList | Answer:
    """Return the list that takes members, or the refusal: unknown, created too recently, or not static."""
    options = project.options
    found = project.lists.get(number)
    if found is None or project.clock() < found.created + options.list_ready_after:
        params = {"projectId": str(options.project_id), "listId": str(number)}
        return refusal(400, "Success", f"error.lists.invalidListId({number})", params)
    if options.static_lists_only and found.type != "Standard":
        return refusal(400, "BadParams", f"List {number} is not a static list")
    return found


def _numbered(project: Project, text: str) -> MailingList | None:
    """Return the list whose ID is written in a path or a query."""
    with contextlib.suppress(ValueError):
        return project.lists.get(int(text))
    return None


def get_users(project: Project, request: Request[None]) -> Answer:
    """Name all members, one a line."""
    found = _readable(project, request)
    return found if isinstance(found, Answer) else _lines(project, request, found)


def size(project: Project, request: Request[None]) -> Answer:
    """Count the members."""
    found = _readable(project, request)
    return found if isinstance(found, Answer) else answers.text(200, str(len(found)))


def preview_users(project: Project, request: Request[None]) -> Answer:
    """Name some members, chosen at random."""
    found = _readable(project, request)
    if isinstance(found, Answer):
        return found
    wanted = number_in(request.named.get("size", str(PREVIEW_SIZE)))
    if not 0 <= wanted <= LARGEST_PREVIEW:
        return refusal(400, "BadParams", f"size must be a number of at most {LARGEST_PREVIEW}")
    return _lines(project, request, project.lists.sample(found, wanted))


def _readable(project: Project, request: Request[None]) -> list[Profile] | Answer:
    """Return the members of the list that is asked for; of one that does not exist, a refusal."""
    named = request.named.get("listId", "")
    found = _numbered(project, named)
    if found is None:
        params = {"projectId": str(project.options.project_id), "listId": named}
        return refusal(400, "BadParams", "Invalid email list id", params)
    return [profile for profile in project.lists.members(found, project.profiles) if is_visible(profile, project)]


def _lines(project: Project, request: Request[None], members: Iterable[Profile]) -> Answer:
    """Name members by email or user ID as the project type has it; in a hybrid one, of two the caller chooses."""
    by_user_id = project.type == "user_id"
    if project.type == "hybrid":
        by_user_id = request.named.get("preferUserId", "").lower() == "true"
    names = (
        (profile.user_id or profile.email) if by_user_id else (profile.email or profile.user_id) for profile in members
    )
    return answers.text(200, "".join(f"{name}\n" for name in names))
