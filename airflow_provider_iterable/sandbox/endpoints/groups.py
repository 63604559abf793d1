"""The endpoints that subscribe users to one list, channel or message type, or unsubscribe them."""

from collections.abc import Collection

from ..project.channels import Channel, MessageType
from ..project.identity import Reason, Refusal
from ..project.lists import MailingList
from ..project.profiles import Profile
from ..project.project import Project
from ..project.subscriptions import Group, GroupKind, group, subscribe, unsubscribe
from ..shapes import answers
from ..shapes.answers import Answer, refusal
from ..shapes.lists import DoubleOptIn, GroupAction
from ..shapes.request import Request
from ..shapes.users import OptionalUser
from ..shapes.values import number_in
from .refusals import refused

_KINDS: dict[str, GroupKind] = {
    "emaillist": "emailList",
    "messagetype": "messageType",
    "messagechannel": "messageChannel",
}


def change_many(project: Project, request: Request[GroupAction]) -> Answer:
    """Subscribe or unsubscribe many users; one who may not be written refuses the request as a whole."""
    action, body, options = request.named.get("action", "subscribe"), request.body, project.options
    if action not in ("subscribe", "unsubscribe"):
        return refusal(400, "BadParams", "Invalid action")
    users = [OptionalUser(email=email) for email in body.users or ()]
    users += [OptionalUser(user_id=user_id) for user_id in body.users_by_user_id or ()]
    choices: tuple[tuple[Reason, str], ...] = (
        ("invalid", options.malformed_subscribers),
        ("forgotten", options.forgotten_subscribers),
    )
    ignored = {reason for reason, choice in choices if choice == "ignore"}
    return _changed(project, request.named, users, ignored, wanted=action == "subscribe")


def subscribe_one(project: Project, request: Request[None]) -> Answer:
    """Subscribe the user in the path."""
    return _changed(project, request.named, [_user(request)], (), wanted=True)


def unsubscribe_one(project: Project, request: Request[None]) -> Answer:
    """Unsubscribe the user in the path."""
    return _changed(project, request.named, [_user(request)], (), wanted=False)


def _user(request: Request[None]) -> OptionalUser:
    """Return the user in the path, in which an email and a user ID are never both."""
    return OptionalUser(request.named.get("email"), request.named.get("userId"))


def _changed(
    project: Project, named: dict[str, str], users: list[OptionalUser], ignored: Collection[Reason], *, wanted: bool
) -> Answer:
    """Subscribe or unsubscribe all users but those who are left out for a reason to ignore, or refuse all."""
    options = project.options
    chosen = _group(project, named)
    if isinstance(chosen, Answer):
        return chosen
    complaint = _complaint(project, chosen, wanted)
    if complaint is not None:
        return refusal(400, "BadParams", complaint)
    unknown: tuple[Reason, ...] = ("notFound",) if options.unknown_subscribers == "ignore" else ()
    meant: list[OptionalUser] = []
    for user in users if chosen is not None else ():
        found = project.find(user, create=options.unknown_subscribers == "create")
        if not isinstance(found, Refusal):
            meant.append(user)
        elif found.reason not in (*ignored, *unknown):
            return refused(project, found)

    def change(profile: Profile) -> None:
        if chosen is not None:
            (subscribe if wanted else unsubscribe)(profile, chosen, project)

    done = project.update(meant, create=None, also=change)
    answer = refusal(options.subscriptions_status, options.subscriptions_code, "")
    answer.applied, answer.identifiers = done.applied, done.written
    answer.counts = len(meant), len(users) - len(meant)
    return answer


def _group(project: Project, named: dict[str, str]) -> Group | Answer | None:
    """Return what the path names; where an unknown one is ignored, None."""
    kind = _KINDS.get(named["group"].lower())
    number = number_in(named["id"])
    if kind is None or number < 0:
        return _no_group()
    found = group(project, kind, number)
    if isinstance(found, MailingList) and project.clock() < found.created + project.options.list_ready_after:
        found = None
    if found is None and project.options.unknown_group == "refuse":
        return _no_group()
    return found


def _no_group() -> Answer:
    return refusal(400, "BadParams", "Invalid subscription group")


def _complaint(project: Project, chosen: Group | None, wanted: bool) -> str | None:
    """Return why nobody can be subscribed to something, or leave it."""
    options = project.options
    match chosen:
        case MailingList(type=kind) if options.static_lists_only and kind != "Standard":
            return f"List {chosen.id} is not a static list"
        case Channel(type="Transactional") if not wanted and options.transactional_unsubscribe == "refuse":
            return f"Channel {chosen.id} is transactional"
        case MessageType(policy="OptIn" | "DoubleOptIn") if wanted and not options.opt_in:
            return f"Message type {chosen.id} requires the opt-in feature"
        case MessageType(policy="DoubleOptIn") if wanted and options.double_opt_in_direct == "refuse":
            return f"Message type {chosen.id} requires a double opt-in"
        case _:
            return None


def subscribe_to_double_opt_in(project: Project, request: Request[DoubleOptIn]) -> Answer:
    """Ask a user, who must exist, to confirm a subscription by SMS; answers are plain text."""
    body = request.body
    user = OptionalUser(body.email, body.user_id)
    if isinstance(project.known(user), Refusal):
        return answers.text(400, f"User not found for userId: {body.user_id or ''} or email: {body.email or ''}")
    kinds = [kind for kind in map(project.channels.get_type, body.message_type_ids) if kind is not None]
    if not kinds or len(kinds) < len(body.message_type_ids) or any(kind.policy != "DoubleOptIn" for kind in kinds):
        return answers.text(400, "Invalid messageTypeIds: SMS message types with double opt-in expected")

    def confirm(profile: Profile) -> None:
        for kind in kinds if project.options.double_opt_in_confirmed else ():
            subscribe(profile, kind, project)

    if body.phone_number is not None:
        user.data_fields = {"phoneNumber": body.phone_number}
    answer = answers.text(202, "Request for double opt-in subscription accepted")
    if user.data_fields or project.options.double_opt_in_confirmed:
        done = project.update_one(user, create=None, also=confirm)
        answer.applied, answer.identifiers = done.applied, done.written
    answer.counts = 1, 0
    return answer
