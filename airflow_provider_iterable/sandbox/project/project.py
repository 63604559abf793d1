"""An Iterable project, and what each write of users does to it; no HTTP."""

import hashlib
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ..options import Options, ProjectType
from ..shapes.users import OptionalUser
from .catalogs import Catalogs
from .channels import Channels
from .event_schema import EventSchema
from .events import Events
from .identity import FIND, Claim, Found, Kind, Refusal, malformed
from .lists import Lists
from .profiles import Profile, Profiles, write_fields
from .schema import CART_FIELDS, Ruling, Schema

DAY = 24 * 3600.0
CART_EVENT = "updateCart"
_HELD_BY_IDENTITY = ("email", "userId")


class Update(msgspec.Struct):
    """The result of a request that updates users: refused as a whole by `ruling`, or one result per record."""

    ruling: Ruling
    refusals: list[Refusal] = []
    written: list[tuple[str, str]] = []
    unchanged: list[tuple[str, str]] = []
    success: int = 0
    failed: int = 0
    applied: bool = False


class Quota:
    """A limit of calls in any 24 hours."""

    def __init__(self) -> None:
        """Start with no call made."""
        self.calls: deque[float] = deque()

    def take(self, now: float, most: int | None) -> bool:
        """Count a call, unless `most` were made in the last 24 hours."""
        while self.calls and self.calls[0] <= now - DAY:
            self.calls.popleft()
        if most is not None and len(self.calls) >= most:
            return False
        self.calls.append(now)
        return True

    def reset(self, now: float) -> float:
        """Seconds until the oldest call no longer counts."""
        return self.calls[0] + DAY - now if self.calls else DAY


class Project:
    """One Iterable project: its type, profiles, field types and forgotten users."""

    def __init__(
        self, project_type: ProjectType, *, options: Options, clock: Callable[[], float], seed: int = 0
    ) -> None:
        """Start without users; `clock` returns seconds since the epoch."""
        self.type = project_type
        self.options = options
        self.clock = clock
        self.profiles = Profiles(project_type)
        list_field = "emailListIds" if project_type == "email" else "userListIds"
        self.schema = Schema(list_field)
        self.lists = Lists(list_field, seed)
        self.channels = Channels(lambda: self.options.project_id)
        self.catalogs = Catalogs()
        self.events = Events(seed)
        self.purchases = Events(seed)
        self.event_schema = EventSchema("event", {CART_EVENT: CART_FIELDS})
        self.purchase_schema = EventSchema("purchase", {"purchase": {**CART_FIELDS, "total": "double"}})
        self.forgotten_emails: dict[str, None] = {}
        self.forgotten_user_ids: dict[str, None] = {}
        self.quotas = {"forget": Quota(), "unforget": Quota()}
        self._find = FIND[project_type]
        self._random = random.Random(seed)

    def update(
        self,
        users: Sequence[OptionalUser],
        *,
        create: bool | None,
        update_only: bool = False,
        also: Callable[[Profile], None] | None = None,
    ) -> Update:
        """Write all users of one request, or nothing when the schema refuses one value of it.

        Values are judged before identities, so a record refused for its user still has its values judged.
        What `also` does to a profile happens after each of its writes.
        """
        ruling = self.schema.rule(
            [user.data_fields for user in users],
            create=self.options.create_new_fields if create is None else create,
            limit=self.options.max_fields,
        )
        update = Update(ruling)
        if not ruling.refused:
            now = self.clock()
            for user in reversed(users) if self.options.reverse_order else users:
                outcome = self._write(user, now, update_only, update)
                if also is not None and isinstance(outcome, Profile):
                    also(outcome)
                self._settle(update, outcome)
        return update

    def update_one(
        self, user: OptionalUser, *, create: bool | None, also: Callable[[Profile], None] | None = None
    ) -> Update:
        """Write one user, unless refused for its identifiers, before its values are judged."""
        found = self._resolve(user)
        if isinstance(found, Refusal):
            return Update(Ruling(), refusals=[found], failed=1)
        return self.update([user], create=create, also=also)

    def known(self, user: OptionalUser) -> Profile | Refusal:
        """Return the profile a record is about, or why it is about none."""
        found = self._resolve(user)
        if isinstance(found, Refusal):
            return found
        return found.profile or Refusal("notFound", *_own(user))

    def find(self, user: OptionalUser, *, create: bool) -> Found | Refusal:
        """Return whom a record is about; where none may be made, an unknown user is not found."""
        found = self._resolve(user, update_only=not create)
        if isinstance(found, Refusal) and found.reason == "skipped":
            return Refusal("notFound", found.kind, found.value)
        return found

    def profile_for_event(self, found: Found) -> Profile:
        """Return the profile that an event is about; if it had to be made, that counts as a write."""
        profile = self._identified(found, self.clock())
        profile.writes = max(1, profile.writes)
        return profile

    def _settle(self, update: Update, outcome: Profile | Refusal) -> None:
        if isinstance(outcome, Profile):
            update.success += 1
            update.applied = True
            if self.options.record_identifiers:
                update.written.extend(identifiers(outcome))
        elif outcome.reason != "skipped":
            update.failed += 1
            update.refusals.append(outcome)
        elif self.options.skipped in ("success", "listed"):
            update.success += 1
            if self.options.skipped == "listed":
                update.refusals.append(Refusal("notFound", outcome.kind, outcome.value))
        elif self.options.skipped == "not_found":
            update.failed += 1
            update.refusals.append(Refusal("notFound", outcome.kind, outcome.value))

    def _write(self, user: OptionalUser, now: float, update_only: bool, update: Update) -> Profile | Refusal:
        """Write one record whose values the schema has approved."""
        found = self._resolve(user, update_only)
        if isinstance(found, Refusal):
            return found
        data = user.data_fields or {}
        before = _snapshot(found.profile) if self.options.report_no_ops else None
        profile = self._identified(found, now)
        for name in _HELD_BY_IDENTITY:
            data.pop(name, None)
        write_fields(profile, data, merge=user.merge_nested_objects is True)
        profile.updated = now
        profile.writes += 1
        if before is not None and before == _snapshot(profile):
            update.unchanged.append(profile.name)
        return profile

    def _resolve(self, user: OptionalUser, update_only: bool = False) -> Found | Refusal:
        """Return whom a record is about, or why it is refused."""
        claim = _claim(user)
        if isinstance(claim, Refusal):
            return claim
        refusal = self._forgotten_refusal(claim)
        if refusal is not None:
            return refusal
        found = self._find(claim, self.profiles)
        unknown = found.reason == "notFound" if isinstance(found, Refusal) else found.profile is None
        return Refusal("skipped", *claim.own) if update_only and unknown else found

    def _forgotten_refusal(self, claim: Claim) -> Refusal | None:
        """Return why a record with these identifiers is not written, whoever it is about."""
        refusal = malformed(claim, self.profiles)
        if refusal is not None:
            return refusal
        if self.forgotten_emails or self.forgotten_user_ids:
            for email in (claim.email, claim.new_email):
                if email is not None and digest(email) in self.forgotten_emails:
                    return Refusal("forgotten", "email", email)
            for user_id in (claim.user_id, claim.new_user_id):
                if user_id is not None and digest(user_id) in self.forgotten_user_ids:
                    return Refusal("forgotten", "user_id", user_id)
        bad = self.options.invalid_data
        if bad and (claim.email in bad or claim.user_id in bad):
            return Refusal("invalidData", *claim.own)
        return None

    def _identified(self, found: Found, now: float) -> Profile:
        """Return the profile with the identifiers it shall have, made if it is new."""
        profile = found.profile
        if profile is not None:
            self.profiles.rename(profile, found.email, found.user_id)
            return profile
        email = found.email
        if email is None and self.type == "email":
            email = self._placeholder(found.user_id or "")
        profile = Profile(email, found.user_id, {}, now, now, signup=now)
        self.profiles.add(profile)
        return profile

    def _placeholder(self, user_id: str) -> str:
        """Return a made-up address for a user of an email-based project who has only a user ID."""
        local = re.sub(r"[^a-z0-9_-]", "", user_id.lower())
        while True:
            email = f"{local}+{self._random.randrange(10**8, 10**9)}@placeholder.email"
            if self.profiles.with_email(email) is None:
                return email

    def change_email(self, profile: Profile, email: str) -> None:
        """Move a profile to a new address; the document is a new one, and one without a signupDate gets it."""
        self.profiles.rename(profile, email, profile.user_id)
        profile.created = profile.updated = now = self.clock()
        if profile.signup is None and "signupDate" not in profile.fields:
            profile.signup = now
        profile.writes += 1

    def delete(self, doomed: Iterable[Profile]) -> None:
        """Delete profiles with their events; they may be created again."""
        for profile in list(doomed):
            self.profiles.remove(profile)
            self.events.drop(profile)
            self.purchases.drop(profile)

    def forget(self, email: str | None, user_id: str | None) -> None:
        """Delete the user with the identifier and refuse further data about it."""
        if email is not None:
            self.forgotten_emails[digest(email)] = None
            found = self.profiles.with_email(email)
            self.delete([found] if found else [])
        elif user_id is not None:
            self.forgotten_user_ids[digest(user_id)] = None
            self.delete(self.profiles.all_with_user_id(user_id))

    def unforget(self, email: str | None, user_id: str | None) -> None:
        """Accept data about a forgotten user again; the old data stay lost."""
        if email is not None:
            self.forgotten_emails.pop(digest(email), None)
        elif user_id is not None:
            self.forgotten_user_ids.pop(digest(user_id), None)

    def is_forgotten(self, email: str) -> bool:
        """Return whether the address is forgotten."""
        return digest(email) in self.forgotten_emails


def _claim(user: OptionalUser) -> Claim | Refusal:
    """Return the identifiers of a record with emails folded; null or a list is none."""
    data = user.data_fields or {}
    email = user.email.lower() if user.email is not None else None
    claim = Claim(email, user.user_id, prefer_user_id=user.prefer_user_id is True)
    if "email" in data:
        if not isinstance(data["email"], str):
            return Refusal("invalid", "email", "")
        claim.new_email = data["email"].lower()
    if "userId" in data:
        if not isinstance(data["userId"], str):
            return Refusal("invalid", "user_id", "")
        claim.new_user_id = data["userId"]
    return claim


def _own(user: OptionalUser) -> tuple[Kind, str]:
    return Claim(user.email.lower() if user.email is not None else None, user.user_id).own


def _snapshot(profile: Profile | None) -> tuple[str | None, str | None, dict[str, Any]] | None:
    return None if profile is None else (profile.email, profile.user_id, dict(profile.fields))


def identifiers(profile: Profile) -> list[tuple[str, str]]:
    """Return all identifiers of a profile, each with its kind."""
    pairs = (("email", profile.email), ("user_id", profile.user_id))
    return [(kind, value) for kind, value in pairs if value is not None]


def digest(identifier: str) -> str:
    """Return the hash under which a forgotten identifier is kept: SHA-256 of it trimmed and in lower case."""
    return hashlib.sha256(identifier.strip().lower().encode()).hexdigest()
