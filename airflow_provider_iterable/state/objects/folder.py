"""The objects in a sync's folder: their names and how they are encoded.

Each object holds what shows whether it is complete. A name begins with its kind and ends with numbers, in order.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_provider_iterable.errors import ConfigurationError

Line = tuple[str, str | None, str]
"""Key, fingerprint in hexadecimal digits or ``None`` for a forgotten key, reference."""

CHUNK = 1 << 20
"""Bytes of a snapshot that are read at a time."""
MAGIC = b"iterable-sync-state"
FORMAT = 2
"""The format that is written. Format 1 had no announced requests; a version that knows only that would lose them."""
_MAGIC_LINE = re.compile(MAGIC + rb" (\d{1,9}) ([0-9a-f]{64})\n")
_NAME = re.compile(r"(journal|marker|snapshot)-(\d{8}-[0-9a-f]{8})(?:-(\d{6}))?")


class IncompleteObject(Exception):
    """An object was not written to its end, or was altered later."""


class LaterFormat(ConfigurationError):
    """An object that a later version wrote."""


@dataclass(frozen=True)
class Folder:
    """A folder of a storage.

    :param fs: the storage as an ``fsspec`` file system
    :param path: the folder, as the file system names it
    :param name: the folder, as messages name it
    """

    fs: Any
    path: str
    name: str

    def inside(self, name: str) -> Folder:
        """Return a folder inside this one."""
        return Folder(self.fs, f"{self.path}/{name}", f"{self.name}/{name}")

    def names(self) -> list[str]:
        """Return the names of what is in the folder; nothing is cached."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def read(self, name: str) -> bytes:
        """Return an object."""
        return bytes(self.fs.cat_file(f"{self.path}/{name}"))

    def open(self, name: str, mode: str) -> Any:
        """Open an object for reading or writing bytes."""
        return self.fs.open(f"{self.path}/{name}", mode)

    def write(self, name: str, data: bytes) -> None:
        """Write an object."""
        try:
            self.fs.pipe_file(f"{self.path}/{name}", data)
        except FileNotFoundError:  # this storage has real folders, which must exist
            self.make()
            self.fs.pipe_file(f"{self.path}/{name}", data)

    def make(self) -> None:
        """Make the folder."""
        self.fs.makedirs(self.path, exist_ok=True)

    def delete(self, name: str) -> None:
        """Delete an object."""
        self.fs.rm_file(f"{self.path}/{name}")


class Head(msgspec.Struct, frozen=True):
    """The first line of an object: what it is, and the sync's header as of then."""

    sync_id: str
    destination: dict[str, Any]
    mapping: str
    notes: dict[str, str] = {}
    void: bool = False
    """Journal: whether every entry was voided before those that the object holds."""
    snapshot: str = ""
    """Marker: digest of the snapshot."""
    holds: dict[str, int] = {}
    """Marker: how many journal objects of which runs the snapshot holds."""
    begun: dict[str, list[tuple[str, str, str]]] = {}
    """Requests that are announced, by run and number; marker: all that are not settled."""
    ended: list[str] = []
    """Journal: announced requests that are settled."""


def encode(head: Head, lines: Sequence[Line] = ()) -> bytes:
    """Return an object in the form in which it is written, with a digest of itself."""
    rest = msgspec.json.encode(head) + b"\n" + zlib.compress(msgspec.json.encode(lines))
    return MAGIC + f" {FORMAT} {hashlib.sha256(rest).hexdigest()}\n".encode() + rest


def decode(data: bytes) -> tuple[Head, list[Line]]:
    """Read what :func:`encode` wrote.

    :raises IncompleteObject: part of it is missing or altered
    :raises LaterFormat: a later version wrote it
    :raises ConfigurationError: it is something else
    """
    found = _MAGIC_LINE.match(data)
    if found is None:
        if (MAGIC + b" ").startswith(data[: len(MAGIC) + 1]):
            raise IncompleteObject
        raise ConfigurationError("is no object of a sync's state")
    if int(found[1]) > FORMAT:
        raise LaterFormat(f"has format {int(found[1])}, and this version of the provider knows format {FORMAT}")
    rest = data[found.end() :]
    if hashlib.sha256(rest).hexdigest().encode() != found[2]:
        raise IncompleteObject
    head, _, body = rest.partition(b"\n")
    return msgspec.json.decode(head, type=Head), msgspec.json.decode(zlib.decompress(body), type=list[Line])


@dataclass
class Contents:
    """The objects of a folder by kind; a run's name is the number of its beginning and a token of its own."""

    markers: list[str] = field(default_factory=list)
    """Oldest first, each with the name of its snapshot after the dash."""
    snapshots: list[str] = field(default_factory=list)
    journals: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> Contents:
        """Sort names; those of other files are left out."""
        contents = cls()
        for name in sorted(names):
            found = _NAME.fullmatch(name)
            if found is None:
                continue
            kind, key, number = found.groups()
            if kind == "journal" and number:
                contents.journals.setdefault(key, []).append(int(number))
            elif kind == "marker" and not number:
                contents.markers.append(key)
            elif kind == "snapshot" and not number:
                contents.snapshots.append(key)
        return contents


def key_of(number: int) -> str:
    """Return a name that sorts by its number, and that no other run makes."""
    return f"{number:08d}-{secrets.token_hex(4)}"


def number_of(key: str) -> int:
    """Return the number in a name that :func:`key_of` made."""
    return int(key.partition("-")[0])


def journal_name(run: str, number: int) -> str:
    """Return the name of a run's journal object."""
    return f"journal-{run}-{number:06d}"


def blocks(file: Any, digest: Any) -> Iterator[list[Line]]:
    """Yield the blocks of a snapshot as it is read."""
    unpack, rest = zlib.decompressobj(), b""
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        *whole, rest = (rest + unpack.decompress(chunk)).split(b"\n")
        for block in whole:
            yield msgspec.json.decode(block, type=list[Line])


def last_head(folder: Folder) -> Head | None:
    """Return the newest readable head in a folder; ``None``: there is none."""
    contents = Contents.of(folder.names())
    names = [journal_name(run, number) for run in sorted(contents.journals) for number in contents.journals[run]][-2:]
    for name in [*reversed(names), *(f"marker-{key}" for key in reversed(contents.markers))]:
        with suppress(IncompleteObject, ConfigurationError):
            return decode(folder.read(name))[0]
    return None


def folder_of(sync_id: str) -> str:
    """Return the name of a sync's folder: its ``sync_id``, and a digest that makes it unique."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", sync_id)[:80].lstrip(".")
    return f"{readable}-{hashlib.sha256(sync_id.encode()).hexdigest()[:16]}"
