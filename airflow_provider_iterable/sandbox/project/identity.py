"""Finds the profile that a record is about, by the rules of the three project types."""

from collections.abc import Callable
from typing import Literal

import msgspec

from ..options import ProjectType
from ..shapes.values import is_email, is_user_id
from .profiles import Profile, Profiles

Kind = Literal["email", "user_id"]
Reason = Literal["invalid", "notFound", "invalidData", "conflict", "forgotten", "skipped", "unnamed"]


class Refusal(msgspec.Struct, frozen=True):
    """Why a record is not written, and the identifier by which Iterable reports it."""

    reason: Reason
    kind: Kind
    value: str


class Claim(msgspec.Struct, gc=False):
    """The identifiers in a record: those on top select, those in dataFields are to be taken on."""

    email: str | None
    user_id: str | None
    new_email: str | None = None
    new_user_id: str | None = None
    prefer_user_id: bool = False

    @property
    def own(self) -> tuple[Kind, str]:
        """The identifier the record is reported by: the email on top, else the user ID."""
        return ("email", self.email) if self.email is not None else ("user_id", self.user_id or "")


class Found(msgspec.Struct, gc=False):
    """The profile a record is about (None: one must be made) and the identifiers it has afterwards."""

    profile: Profile | None
    email: str | None
    user_id: str | None


def malformed(claim: Claim, profiles: Profiles) -> Refusal | None:
    """Return the first malformed identifier; one that a profile bears is known to be well-formed."""
    if claim.email is None and claim.user_id is None:
        return Refusal("unnamed", "email", "")
    for email in (claim.email, claim.new_email):
        if email is not None and profiles.with_email(email) is None and not is_email(email):
            return Refusal("invalid", "email", email)
    for user_id in (claim.user_id, claim.new_user_id):
        if user_id is not None and not is_user_id(user_id):
            return Refusal("invalid", "user_id", user_id)
    return None


def in_email_project(claim: Claim, profiles: Profiles) -> Found | Refusal:
    """Find by email, which is unique; a user ID is written onto the profile and may be shared.

    A record with only an unknown user ID makes a profile only when it prefers the user ID; its email
    is then left open here, since Iterable makes one up. The email cannot change this way.
    """
    wanted = claim.new_user_id or claim.user_id
    if claim.email is not None:
        profile = profiles.with_email(claim.email)
        if profile is None:
            return Found(None, claim.email, wanted)
        return Found(profile, profile.email, wanted or profile.user_id)
    profile = profiles.with_user_id(claim.user_id)
    if profile is not None:
        return Found(profile, profile.email, wanted)
    if claim.prefer_user_id:
        return Found(None, None, wanted)
    return Refusal("notFound", "user_id", claim.user_id or "")


def in_user_id_project(claim: Claim, profiles: Profiles) -> Found | Refusal:
    """Find by user ID, which is unique; an email selects nothing and is written onto the profile."""
    if claim.user_id is None:
        return Refusal("notFound", "email", claim.email or "")
    profile = profiles.with_user_id(claim.user_id)
    email = claim.new_email or claim.email or (profile.email if profile else None)
    user_id = claim.new_user_id or claim.user_id
    if profiles.with_user_id(user_id) not in (None, profile):
        return Refusal("conflict", "user_id", user_id)
    return Found(profile, email, user_id)


def in_hybrid_project(claim: Claim, profiles: Profiles) -> Found | Refusal:
    """Find by either identifier, both unique; a known profile gains the other one, two known conflict."""
    by_user_id = profiles.with_user_id(claim.user_id)
    by_email = profiles.with_email(claim.email)
    if by_user_id is not None and by_email is not None and by_user_id is not by_email:
        return Refusal("conflict", "email", claim.email or "")
    profile = by_user_id or by_email
    email = claim.new_email or claim.email or (profile.email if profile else None)
    user_id = claim.new_user_id or claim.user_id or (profile.user_id if profile else None)
    if profiles.with_email(email) not in (None, profile):
        return Refusal("conflict", "email", email or "")
    if profiles.with_user_id(user_id) not in (None, profile):
        return Refusal("conflict", "user_id", user_id or "")
    return Found(profile, email, user_id)


FIND: dict[ProjectType, Callable[[Claim, Profiles], Found | Refusal]] = {
    "email": in_email_project,
    "user_id": in_user_id_project,
    "hybrid": in_hybrid_project,
}
