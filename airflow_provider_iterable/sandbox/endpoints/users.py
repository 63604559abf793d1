"""The users endpoints: what each takes and answers."""

from typing import Any

from ..project.identity import Refusal
from ..project.profiles import Profile
from ..project.project import Project, Update, identifiers
from ..shapes import answers
from ..shapes.answers import Answer, plain, refusal, success
from ..shapes.request import Request
from ..shapes.users import BulkUpdate, EmailChange, Named, UserUpdate
from ..shapes.values import is_email, is_user_id, number_in
from .reading import is_visible, user_of
from .refusals import bad_email, bad_user_id, forgotten, refused, ruled_out, wrong_project

MOST_MESSAGES = 1000
_REASONS = ("invalid", "notFound", "invalidData", "conflict", "forgotten")


def update(project: Project, request: Request[UserUpdate]) -> Answer:
    """Create or update one user."""
    user = request.body
    done = project.update_one(user, create=user.create_new_fields)
    if done.ruling.refused:
        return ruled_out(project, done.ruling, bulk=False)
    if done.refusals:
        return refused(project, done.refusals[0])
    answer = success("User successfully created/updated.", applied=True)
    answer.identifiers = done.written
    return answer


def bulk_update(project: Project, request: Request[BulkUpdate]) -> Answer:
    """Create or update many users."""
    body = request.body
    if not body.users:
        return refusal(400, "InvalidEmailAddressError", "Emails invalid: ")
    update_only = project.options.update_only_enabled and body.update_only is True
    done = project.update(body.users, create=body.create_new_fields, update_only=update_only)
    if done.ruling.refused:
        return ruled_out(project, done.ruling, bulk=True)
    answer = plain(counted(done), applied=done.applied)
    answer.identifiers = done.written
    return answer


def counted(done: Update) -> dict[str, Any]:
    """Return the answer about many users: counts, and identifiers by reason."""
    failed: dict[str, list[str]] = {reason + suffix: [] for reason in _REASONS for suffix in ("Emails", "UserIds")}
    for refused_ in done.refusals:
        if refused_.reason in _REASONS:
            failed[refused_.reason + _suffix(refused_.kind)].append(refused_.value)
    return {
        "successCount": done.success,
        "failCount": done.failed,
        "invalidEmails": failed["invalidEmails"],
        "invalidUserIds": failed["invalidUserIds"],
        "filteredOutFields": list(done.ruling.filtered),
        "createdFields": done.ruling.created,
        "noOpEmails": [value for kind, value in done.unchanged if kind == "email"],
        "noOpUserIds": [value for kind, value in done.unchanged if kind == "user_id"],
        "failedUpdates": failed,
    }


def _suffix(kind: str) -> str:
    return "Emails" if kind == "email" else "UserIds"


def update_email(project: Project, request: Request[EmailChange]) -> Answer:
    """Move a user of an email-based project to another address."""
    body = request.body
    if project.type != "email":
        return wrong_project(project, "updateEmail")
    new = body.new_email.lower()
    if not is_email(new):
        return refusal(400, "InvalidEmailAddressError", f"Invalid newEmail {body.new_email}")
    profile = _current(project, body)
    if isinstance(profile, Answer):
        return profile
    if project.is_forgotten(new):
        return forgotten(project, new)
    if project.profiles.with_email(new) is not None:
        return refusal(400, "EmailAlreadyExists", f"Email already exists: {new}")
    before = identifiers(profile)
    project.change_email(profile, new)
    answer = success(applied=True)
    answer.identifiers = list(dict.fromkeys([*before, *identifiers(profile)]))
    return answer


def _current(project: Project, body: EmailChange) -> Profile | Answer:
    """Return the user whose email changes: found by the current email, else by user ID."""
    if body.current_email is not None:
        current = body.current_email.lower()
        if not is_email(current):
            return refusal(400, "InvalidEmailAddressError", f"Invalid currentEmail {body.current_email}")
        if project.is_forgotten(current):
            return forgotten(project, current)
        missing = Refusal("notFound", "email", current)
        return project.profiles.with_email(current) or refused(project, missing)
    if body.current_user_id is None:
        return refusal(400, "BadParams", "Either currentEmail or currentUserId must be set")
    if not is_user_id(body.current_user_id):
        return bad_user_id(body.current_user_id)
    missing = Refusal("notFound", "user_id", body.current_user_id)
    return project.profiles.with_user_id(body.current_user_id) or refused(project, missing)


def get_by_email(project: Project, request: Request[None]) -> Answer:
    """Read a user by email; an unknown one is an empty object."""
    email = request.named.get("email", "").lower()
    if project.type == "user_id":
        return wrong_project(project, "Reading by email")
    if not is_email(email):
        return bad_email(email)
    profile = project.profiles.with_email(email)
    if profile is None or not is_visible(profile, project):
        return plain({})
    return plain({"user": user_of(profile, project)})


def get_by_user_id(project: Project, request: Request[None]) -> Answer:
    """Read a user by user ID."""
    user_id = request.named.get("userId", "")
    profile = project.profiles.with_user_id(user_id)
    if profile is not None:
        return plain({"user": user_of(profile, project)} if is_visible(profile, project) else {})
    match project.options.unknown_user_id:
        case "empty":
            return plain({})
        case "envelope":
            return refused(project, Refusal("notFound", "user_id", user_id))
        case "text":
            return answers.text(400, "No user with that id exists!")
        case _:
            status = project.options.unknown_user_id_status
            return refusal(status, "error.users.noUserWithIdExists", "No user with that id exists!")


def get_sent_messages(project: Project, request: Request[None]) -> Answer:
    """List the messages sent to a user: there are none here."""
    email, user_id = (request.named.get(name) for name in ("email", "userId"))
    if email is not None and not is_email(email.lower()):
        return bad_email(email.lower())
    if email is None and user_id is None:
        return refusal(400, "BadParams", "Either email or userId must be set")
    if not 1 <= number_in(request.named.get("limit", "10")) <= MOST_MESSAGES:
        return refusal(400, "BadParams", f"limit must be between 1 and {MOST_MESSAGES}")
    return plain({"messages": []})


def get_fields(project: Project, request: Request[None]) -> Answer:
    """List the profile fields and their types."""
    return plain({"fields": project.schema.shown()})


def delete_by_email(project: Project, request: Request[None]) -> Answer:
    """Delete the user with an email; one who does not exist counts as deleted."""
    email = request.named["email"].lower()
    if project.type == "user_id":
        return wrong_project(project, "Deleting by email")
    if not is_email(email):
        return bad_email(email)
    profile = project.profiles.with_email(email)
    gone = identifiers(profile) if profile else []
    project.delete([profile] if profile else [])
    answer = success(applied=profile is not None)
    answer.identifiers = gone
    return answer


def delete_by_user_id(project: Project, request: Request[None]) -> Answer:
    """Delete all users who share a user ID."""
    user_id = request.named["userId"]
    doomed = project.profiles.all_with_user_id(user_id)
    if not doomed:
        return refusal(400, "BadParams", f"User does not exist. Email:  UserId: {user_id}")
    answer = success(f"All users associated with {user_id} were successfully deleted", applied=True)
    answer.identifiers = list({name: None for profile in doomed for name in identifiers(profile)})
    project.delete(doomed)
    return answer


def forget(project: Project, request: Request[Named]) -> Answer:
    """Delete a user and refuse further data about the identifier."""
    return _forgetting(project, request, "forget")


def unforget(project: Project, request: Request[Named]) -> Answer:
    """Accept data about a forgotten identifier again."""
    return _forgetting(project, request, "unforget")


def _forgetting(project: Project, request: Request[Named], action: str) -> Answer:
    """Forget or unforget by the identifier that the project type allows."""
    email = request.body.email.lower() if request.body.email is not None else None
    user_id = request.body.user_id
    if project.type == "email":
        user_id = None
    elif project.type == "user_id":
        email = None
    if email is None and user_id is None:
        return refusal(400, "BadParams", "Either email or userId must be set")
    if email is not None and not is_email(email):
        return bad_email(email)
    if email is None and user_id is not None and not is_user_id(user_id):
        return bad_user_id(user_id)
    answer = success(applied=True)
    answer.identifiers = [("email", email)] if email is not None else [("user_id", user_id or "")]
    if action == "unforget":
        project.unforget(email, user_id)
        return answer
    known = project.profiles.with_email(email) or project.profiles.with_user_id(user_id)
    if known is None and project.options.forget_unknown == "refuse":
        msg = f"User does not exist. Email: {email or ''} UserId: {user_id or ''}"
        return refusal(400, "BadParams", msg)
    if known is not None:
        answer.identifiers = list(dict.fromkeys([*answer.identifiers, *identifiers(known)]))
    project.forget(email, user_id)
    return answer


def forgotten_emails(project: Project, request: Request[None]) -> Answer:
    """List the hashes of the forgotten addresses."""
    if project.type == "user_id":
        return wrong_project(project, "forgotten")
    return plain({"hashedEmails": list(project.forgotten_emails)})


def forgotten_user_ids(project: Project, request: Request[None]) -> Answer:
    """List the hashes of the forgotten user IDs."""
    if project.type == "email":
        return wrong_project(project, "forgottenUserIds")
    return plain({"hashedUserIds": list(project.forgotten_user_ids)})
