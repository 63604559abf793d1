"""The hash of a plan, by which a plan that was approved is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.vocabulary import Operation
from airflow_provider_iterable.errors import GuardTripped

PLAN_PARTS = {
    "rows": "the rows and what is sent of them",
    "host": "the host",
    "project": "the project or its API key",
    "target": "the target",
    "match": "the matching identifier",
    "options": "options that change requests",
    "state": "what is remembered of the sync",
}
"""What the hash of a plan covers, part by part, and what messages call it."""
SHOWN_PARTS = ("host", "target", "match", "options")
"""Parts whose present value a message shows."""


def plan_hash(plan: Plan, about: Mapping[str, str], remembered: int) -> str:
    """Digest what the plan would do, whatever the order of its rows, and where it leads: a digest for each part.

    :param about: where the plan leads, by the names in ``PLAN_PARTS``
    :param remembered: entries in the state
    """
    total = 0
    for operation in plan.operations():
        total += int.from_bytes(_operation_digest(operation), "big")
    for outcome in plan.invalid:
        total += int.from_bytes(hashlib.blake2b(f"{outcome.key}\0{outcome.reason}".encode()).digest()[:16], "big")
    about = {**about, "state": f"{about.get('state', '')} {remembered}"}
    others = [about.get(name, "") for name in PLAN_PARTS if name != "rows"]
    digests = [hashlib.blake2b(text.encode(), digest_size=4).hexdigest() for text in others]
    return "-".join([f"{total % (1 << 128):032x}", *digests])


def with_resync(about: Mapping[str, str], resync: str) -> dict[str, str]:
    """Return where a plan leads, with the kind of resync as one of the options."""
    more = about.get("options")
    return {**about, "options": f"resync={resync}" + (f", {more}" if more else "")}


def _operation_digest(operation: Operation) -> bytes:
    call = "" if operation.call is None else f"{operation.call.method} {operation.call.template}"
    digest = hashlib.blake2b(f"{operation.kind}\0{operation.key}\0{call}\0".encode(), digest_size=16)
    digest.update(operation.body)
    return digest.digest()


def check_approved(approved: str, now: str, about: Mapping[str, str]) -> None:
    """Refuse a plan that is not the approved one.

    :raises GuardTripped: nothing was sent; the message says what differs
    """
    if approved == now:
        return
    parts, parts_now = approved.split("-"), now.split("-")
    if len(parts) == len(parts_now):
        differing = [name for name, one, other in zip(PLAN_PARTS, parts, parts_now, strict=True) if one != other]
        what = "The plan changed since it was approved; what differs: " + "; ".join(
            PLAN_PARTS[name] + (f" (now {about.get(name) or 'none'})" if name in SHOWN_PARTS else "")
            for name in differing
        )
    elif len(approved) == 32 and len(parts) == 1:
        what = "The approved plan has the hash of an earlier version, which says nothing of where it leads"
    else:
        what = "What was approved is not the hash of a plan"
    raise GuardTripped(
        f"{what}. Nothing was sent. Make a new plan with dry_run=True and have it approved (approved {approved!r}, now "
        f"{now})."
    )
