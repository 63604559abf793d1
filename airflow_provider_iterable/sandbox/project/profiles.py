"""The profiles of a project, found by their identifiers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..options import ProjectType


class Profile(msgspec.Struct, gc=False, eq=False):
    """One user: the identifiers and the values that were written, without system fields.

    `signup` is the signupDate that Iterable made, until null removes it.
    """

    email: str | None
    user_id: str | None
    fields: dict[str, Any]
    created: float
    updated: float
    signup: float | None
    writes: int = 0

    @property
    def name(self) -> tuple[str, str]:
        """The identifier the profile is called by, the email if it has one: its kind and its value."""
        return ("email", self.email) if self.email is not None else ("user_id", self.user_id or "")


class Profiles:
    """All profiles; which identifiers are unique depends on the project type."""

    def __init__(self, project_type: ProjectType) -> None:
        """Start empty."""
        self._emails_unique = project_type != "user_id"
        self._user_ids_unique = project_type != "email"
        self._by_email: dict[str, Profile] = {}
        self._by_user_id: dict[str, Profile] = {}
        self._sharing: dict[str, list[Profile]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Profile]:
        if not self._emails_unique:
            yield from self._by_user_id.values()
            return
        yield from self._by_email.values()
        if self._user_ids_unique:
            yield from (profile for profile in self._by_user_id.values() if profile.email is None)

    def with_email(self, email: str | None) -> Profile | None:
        """Return the profile with the email; never one in a project where emails are not unique."""
        return self._by_email.get(email) if email is not None else None

    def with_user_id(self, user_id: str | None) -> Profile | None:
        """Return the profile with the user ID, the oldest of those that share it."""
        return self._by_user_id.get(user_id) if user_id is not None else None

    def all_with_user_id(self, user_id: str) -> list[Profile]:
        """Return all profiles that share the user ID."""
        first = self._by_user_id.get(user_id)
        return [] if first is None else [first, *self._sharing.get(user_id, ())]

    @property
    def sharing(self) -> dict[str, list[Profile]]:
        """The profiles of each user ID that more than one has, the oldest first."""
        return {user_id: self.all_with_user_id(user_id) for user_id in self._sharing}

    def restore(self, profiles: Iterable[Profile], sharing: Mapping[str, list[Profile]]) -> None:
        """Take in profiles that were kept, with those that share a user ID, as `sharing` returned them."""
        for profile in profiles:
            self.add(profile)
        for user_id, (first, *others) in sharing.items():
            self._by_user_id[user_id], self._sharing[user_id] = first, others

    def add(self, profile: Profile) -> None:
        """Take in a new profile."""
        self._count += 1
        self._index_email(profile)
        self._index_user_id(profile)

    def remove(self, profile: Profile) -> None:
        """Drop a profile."""
        self._count -= 1
        self._unindex_email(profile)
        self._unindex_user_id(profile)

    def rename(self, profile: Profile, email: str | None, user_id: str | None) -> None:
        """Give a profile other identifiers, which no other profile may own where they are unique."""
        if profile.email != email:
            self._unindex_email(profile)
            profile.email = email
            self._index_email(profile)
        if profile.user_id != user_id:
            self._unindex_user_id(profile)
            profile.user_id = user_id
            self._index_user_id(profile)

    def _index_email(self, profile: Profile) -> None:
        if self._emails_unique and profile.email is not None:
            self._by_email[profile.email] = profile

    def _unindex_email(self, profile: Profile) -> None:
        if self._emails_unique and profile.email is not None:
            del self._by_email[profile.email]

    def _index_user_id(self, profile: Profile) -> None:
        user_id = profile.user_id
        if user_id is None:
            return
        if self._by_user_id.setdefault(user_id, profile) is not profile:
            self._sharing.setdefault(user_id, []).append(profile)

    def _unindex_user_id(self, profile: Profile) -> None:
        user_id = profile.user_id
        if user_id is None:
            return
        others = self._sharing.pop(user_id, [])
        if self._by_user_id[user_id] is profile:
            del self._by_user_id[user_id]
            if others:
                self._by_user_id[user_id] = others.pop(0)
        else:
            others.remove(profile)
        if others:
            self._sharing[user_id] = others


def numbers_in(profile: Profile, field: str) -> list[int]:
    """Return the whole numbers in a field, which may be missing, one number, or hold anything."""
    held = profile.fields.get(field, ())
    return [number for number in (held if isinstance(held, list) else [held]) if isinstance(number, int)]


def write_fields(profile: Profile, data: dict[str, Any], *, merge: bool) -> None:
    """Write data over the fields of a profile, one level deep when merging.

    Fields not mentioned stay, null removes a field, an object or array replaces the stored one. When
    merging, members of a stored object that are not mentioned stay, and a null member is removed.
    """
    fields = profile.fields
    if not fields and not merge and None not in data.values():
        profile.fields = data
        return
    for name, value in data.items():
        if value is None:
            fields.pop(name, None)
            if name == "signupDate":
                profile.signup = None
        elif merge and isinstance(value, dict):
            fields[name] = _merged(fields.get(name), value)
        else:
            fields[name] = value


def _merged(stored: Any, sent: dict[str, Any]) -> dict[str, Any]:
    merged = {**stored, **sent} if isinstance(stored, dict) else sent
    return {name: value for name, value in merged.items() if name not in sent or value is not None}
