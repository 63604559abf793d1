"""The commerce endpoints: what each takes and answers."""

from ..project.commerce import CommerceResult, purchase, update_cart
from ..project.events import is_purchase_id
from ..project.project import Project
from ..shapes.answers import Answer, refusal, success
from ..shapes.events import CartUpdate, Purchase
from ..shapes.request import Request
from .refusals import refused, ruled_out


def track_purchase(project: Project, request: Request[Purchase]) -> Answer:
    """Write a user, store what it bought, and empty its cart."""
    body = request.body
    if body.id is not None and project.options.bad_event_ids != "accept" and not is_purchase_id(body.id):
        return refusal(400, "BadParams", f"Invalid purchase id: {body.id}")
    done = purchase(project, body)
    return _answer(project, done, {"id": done.id} if project.options.purchase_id_returned else None)


def replace_cart(project: Project, request: Request[CartUpdate]) -> Answer:
    """Write a user with another cart."""
    return _answer(project, update_cart(project, request.body), None)


def _answer(project: Project, done: CommerceResult, params: dict[str, str] | None) -> Answer:
    """Answer by what became of the event and of the user."""
    for ruling in (done.ruling, done.update.ruling):
        if ruling.refused:
            return ruled_out(project, ruling, bulk=False)
    if done.update.refusals:
        return refused(project, done.update.refusals[0])
    answer = success(params=params, applied=True)
    answer.identifiers = done.update.written
    return answer
