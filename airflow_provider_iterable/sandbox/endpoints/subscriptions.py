"""The endpoints of a user's subscriptions: what each takes and answers."""

from collections.abc import Callable

from ..project.identity import Claim, Refusal
from ..project.lists import CHANNELS_LEFT, TYPES_JOINED, TYPES_LEFT
from ..project.profiles import Profile
from ..project.project import Project, Update
from ..project.schema import Ruling
from ..shapes.answers import Answer, plain, refusal, success
from ..shapes.lists import BulkSubscriptionUpdate, SubscriptionUpdate
from ..shapes.request import Request
from ..shapes.users import OptionalUser
from .refusals import refused

_WHOLE = ("forgotten", "conflict")


def update_subscriptions(project: Project, request: Request[SubscriptionUpdate]) -> Answer:
    """Replace the subscriptions of one user, who is created if need be."""
    complaint = _complaint(project, request.body)
    if complaint is not None:
        return refusal(400, "BadParams", complaint)
    done = _written(project, request.body)
    if done.refusals:
        return refused(project, done.refusals[0])
    answer = success(applied=True)
    answer.identifiers = done.written
    return answer


def bulk_update_subscriptions(project: Project, request: Request[BulkSubscriptionUpdate]) -> Answer:
    """Replace the subscriptions of many users; a forgotten one or a conflict refuses the whole request."""
    updates = request.body.update_subscriptions_requests
    if project.options.subscriptions_conflict == "whole":
        for update in updates:
            known = project.known(_user(update))
            if isinstance(known, Refusal) and known.reason in _WHOLE:
                return _conflict(project, known)
    failed: dict[str, list[str]] = {
        name: [] for name in ("invalidEmails", "invalidUserIds", "validEmailFailures", "validUserIdFailures")
    }
    written, success_count = [], 0
    for update in updates:
        done = _attempted(project, update)
        success_count += done.success
        written += done.written
        for reason in done.refusals:
            if reason.reason != "unnamed":
                failed[_member(reason)].append(reason.value)
    counts = {"successCount": success_count, "failCount": len(updates) - success_count}
    answer = plain({**counts, **failed}, applied=success_count > 0)
    answer.identifiers = written
    return answer


def _member(reason: Refusal) -> str:
    """Return the array that reports a user: one for malformed identifiers, one for valid ones that failed."""
    if reason.reason == "invalid":
        return "invalidEmails" if reason.kind == "email" else "invalidUserIds"
    return "validEmailFailures" if reason.kind == "email" else "validUserIdFailures"


def _conflict(project: Project, reason: Refusal) -> Answer:
    answer = refused(project, reason)
    answer.status = 409
    return answer


def _attempted(project: Project, update: SubscriptionUpdate) -> Update:
    """Write one element of a bulk call; one whose subscriptions are refused fails under its own name."""
    known = project.known(_user(update))
    barred = isinstance(known, Refusal) and known.reason != "notFound"
    if barred or _complaint(project, update) is None:
        return _written(project, update)
    own = Claim(update.email.lower() if update.email is not None else None, update.user_id).own
    return Update(Ruling(), refusals=[Refusal("invalidData", *own)], failed=1)


def _written(project: Project, update: SubscriptionUpdate) -> Update:
    """Write the arrays that are there over those of the profile."""
    arrays = _arrays(project, update)

    def replace(profile: Profile) -> None:
        profile.fields.update({name: list(values) for name, values in arrays.items()})

    return project.update_one(_user(update), create=None, also=replace)


def _user(update: SubscriptionUpdate) -> OptionalUser:
    return OptionalUser(update.email, update.user_id)


def _arrays(project: Project, update: SubscriptionUpdate) -> dict[str, list[int]]:
    """Return the arrays of a request by the profile field they replace."""
    lists = update.email_list_ids
    if project.type != "email" and update.user_list_ids is not None:
        lists = update.user_list_ids
    arrays = {
        project.lists.field: lists,
        CHANNELS_LEFT: update.unsubscribed_channel_ids,
        TYPES_LEFT: update.unsubscribed_message_type_ids,
        TYPES_JOINED: update.subscribed_message_type_ids,
    }
    return {name: values for name, values in arrays.items() if values is not None}


def _complaint(project: Project, update: SubscriptionUpdate) -> str | None:
    """Return what is wrong: an unknown ID, or a message type without opt-in or in a channel the user has left."""
    unknown = _unknown(project, update) if project.options.unknown_subscriptions == "refuse" else None
    if unknown is not None:
        return unknown
    wanted = update.subscribed_message_type_ids
    if wanted is None:
        return None
    if not project.options.opt_in:
        return "subscribedMessageTypeIds requires the opt-in feature"
    if update.validate_channel_alignment is False:
        return None
    left = update.unsubscribed_channel_ids
    if left is None:
        known = project.known(_user(update))
        left = known.fields.get(CHANNELS_LEFT) if isinstance(known, Profile) else None
    for number in wanted:
        kind = project.channels.get_type(number)
        if kind is not None and isinstance(left, list) and kind.channel_id in left:
            return f"Message type {number} belongs to channel {kind.channel_id}, which is unsubscribed"
    return None


def _unknown(project: Project, update: SubscriptionUpdate) -> str | None:
    """Return which of the IDs is none of the project's."""
    channels = project.channels
    known: dict[str, tuple[str, Callable[[int], object]]] = {
        project.lists.field: ("list", project.lists.get),
        CHANNELS_LEFT: ("channel", channels.get),
        TYPES_LEFT: ("message type", channels.get_type),
        TYPES_JOINED: ("message type", channels.get_type),
    }
    for name, numbers in _arrays(project, update).items():
        word, find = known[name]
        for number in numbers:
            if find(number) is None:
                return f"{name}: unknown {word} {number}"
    return None
