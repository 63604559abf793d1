"""Knows how a stored profile looks when read through the API, system fields and all; changes nothing."""

from typing import Any

from .profiles import Profile
from .project import Project
from .values import date_of


def user_of(profile: Profile, project: Project) -> dict[str, Any]:
    """Return the profile as reads show it: identifiers, and all fields including those Iterable adds."""
    names = {"email": profile.email, "userId": profile.user_id}
    named = {name: value for name, value in names.items() if value is not None}
    return {**named, "dataFields": {**_system(profile, project), **profile.fields, **named}}


def is_visible(profile: Profile, project: Project) -> bool:
    """Tell whether a new profile can be read yet."""
    return project.clock() >= profile.created + project.options.visible_after


def _system(profile: Profile, project: Project) -> dict[str, Any]:
    internal = {
        "documentCreatedAt": date_of(profile.created),
        "documentUpdatedAt": date_of(profile.updated),
    }
    if profile.email is not None:
        internal["emailDomain"] = profile.email.rpartition("@")[2]
    fields: dict[str, Any] = {"itblInternal": internal, "profileUpdatedAt": date_of(profile.updated)}
    if profile.signup_shown:
        fields |= {"signupDate": date_of(profile.created), "signupSource": "API"}
    if project.type != "email":
        fields["itblUserId"] = profile.user_id or profile.email
    return fields
