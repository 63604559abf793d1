"""What a state remembers about its project at Iterable; makes no request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256

import msgspec

from airflow_provider_iterable.errors import ConfigurationError

PROJECT_NOTE = "project"
"""Note that holds what identifies the project."""
KEYS_KEPT = 8
"""Most API keys that are remembered of a project: those of several Airflows, and former ones."""


@dataclass(frozen=True)
class Project:
    """What identifies a project: no endpoint returns its ID, and an API key belongs to exactly one project.

    :param keys: digests of its API keys, the one known for longest first
    :param channels: IDs of its message channels, which no other project has; ``None``: they were not asked for yet;
        empty: Iterable did not return any
    :param name: what the connection calls it; empty: nothing
    """

    keys: tuple[str, ...]
    channels: tuple[int, ...] | None = None
    name: str = ""

    @classmethod
    def noted(cls, text: str | None) -> Project | None:
        """Read what :meth:`note` wrote; ``None``: nothing was noted.

        :raises ConfigurationError: the text is something else
        """
        if not text:
            return None
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            raise ConfigurationError(
                f"The note {PROJECT_NOTE!r} of the state is none that this version can read. Nothing was read or sent."
            ) from None

    def note(self) -> str:
        """Return the text of the note."""
        return msgspec.json.encode(self).decode()

    def same(self, other: Project) -> bool | None:
        """Return whether another one is the same project; ``None``: not enough is known."""
        if self.name and other.name:
            return self.name == other.name
        if not set(self.keys).isdisjoint(other.keys):
            return True
        if self.channels and other.channels:  # some may have been added, others deleted
            return not set(self.channels).isdisjoint(other.channels)
        return None

    def joined(self, other: Project) -> Project:
        """Return the project with what another one knows of it, and the newest keys of both."""
        keys = (*self.keys, *(key for key in other.keys if key not in self.keys))
        channels = self.channels if other.channels is None else other.channels
        return replace(self, keys=keys[-KEYS_KEPT:], channels=channels, name=other.name or self.name)

    @property
    def identity(self) -> str:
        """What stands for the project in the hash of a plan."""
        return self.name or self.keys[0]

    def counted_as(self, host: str) -> str | None:
        """Return an ID by which requests of all its keys are counted; ``None``: neither channels nor name are known."""
        if self.channels:
            return sha256(f"{host}\nchannel {min(self.channels)}".encode()).hexdigest()
        return sha256(f"{host}\nname {self.name}".encode()).hexdigest() if self.name else None


def key_digest(host: str, api_key: str) -> str:
    """Return a digest by which an API key is recognised, and which does not reveal it."""
    salt = sha256(host.encode()).digest()
    return blake2b(api_key.encode(), digest_size=8, key=salt, person=b"iterable api key").hexdigest()


def differing(remembered: Project, now: Project) -> str:
    """Say in what two projects differ."""
    if remembered.name and now.name:
        return f"project: remembered {remembered.name!r}, now {now.name!r}"
    return f"message channels: remembered {_shown(remembered.channels)}, now {_shown(now.channels)}"


def _shown(channels: Sequence[int] | None) -> str:
    few = list(channels or ())
    return ", ".join(map(str, few[:5])) + (", ..." if len(few) > 5 else "") or "none"
