"""What purchases and carts do to users and events."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..shapes.events import CartUpdate, CommerceItem, Purchase, Track
from ..shapes.users import UserUpdate
from .event_schema import Draft, EventSchema
from .identity import Refusal
from .profiles import Profile
from .project import CART_EVENT, Project, Update
from .schema import Ruling
from .tracking import named, record

CART = "shoppingCartItems"


class CommerceResult(msgspec.Struct):
    """The result of a purchase or a cart: refused by `ruling`, refused for its user, or stored."""

    update: Update
    ruling: Ruling = msgspec.field(default_factory=Ruling)
    id: str = ""


def purchase(project: Project, body: Purchase) -> CommerceResult:
    """Write the user, store the purchase and empty the cart."""
    fields = {**(body.data_fields or {}), CART: _items(body.items), "total": body.total}

    def buy(profile: Profile) -> str:
        if CART in profile.fields:
            profile.fields[CART] = []
        return record(project, project.purchases, body, profile, fields)

    return _write_and_store(project, body.user, project.purchase_schema, "purchase", fields, buy)


def update_cart(project: Project, body: CartUpdate) -> CommerceResult:
    """Write the user with the items as the cart, and store an event of it."""
    fields: dict[str, Any] = {CART: _items(body.items)}
    data = {**(body.user.data_fields or {}), CART: _items(body.items)}
    user = msgspec.structs.replace(body.user, data_fields=data)

    def fill(profile: Profile) -> str:
        return record(project, project.events, Track(CART_EVENT), profile, fields, CART_EVENT)

    return _write_and_store(project, user, project.event_schema, CART_EVENT, fields, fill)


def _write_and_store(
    project: Project,
    user: UserUpdate,
    schema: EventSchema,
    name: str,
    fields: dict[str, Any],
    store: Callable[[Profile], str],
) -> CommerceResult:
    """Write the user and store the event, or neither when either is refused."""
    found = project.find(user, create=True)
    if isinstance(found, Refusal):
        return CommerceResult(Update(Ruling(), refusals=[found], failed=1))
    options = project.options
    draft = Draft(name, fields, options.create_new_fields)
    trial = schema.read([draft], limit=options.max_event_fields, named=named(options))
    written: list[Profile] = []
    update = Update(Ruling())
    try:
        if not trial.ruling.refused:
            update = project.update_one(user, create=user.create_new_fields, also=written.append)
    finally:
        if written:
            trial.settle()
        else:
            trial.forget()
    return CommerceResult(update, trial.ruling, "".join(map(store, written)))


def _items(items: Sequence[CommerceItem]) -> list[dict[str, Any]]:
    """Return items as they are kept, each time as objects of their own."""
    kept: list[dict[str, Any]] = msgspec.to_builtins(items)
    return kept
