"""Finds rows that share an identity, by hashes of the identities of all rows."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from itertools import pairwise

_PARTS = 64


class Identities:
    """Hashes of the identities of a plan's rows, in arrays of 8 bytes each."""

    def __init__(self) -> None:
        self.sent = array("q")
        """Of rows that are sent."""
        self.unchanged = array("q")
        """Of rows that are there and not sent."""
        self.refused = array("q")
        """Of rows that are there and cannot be sent: invalid ones, and duplicates."""
        self.left: set[int] = set()
        """Of rows that are gone, and of removals."""
        self.removed: set[int] = set()
        """Of removals."""
        self.removed_twice: set[int] = set()
        """Of which several rows left, so that each of their removals is about the same record."""
        self.moved_at = array("q")
        """Positions of rows whose identity changed under the same key."""
        self.moved_from = array("q")
        """The identities that they had."""

    def move(self, position: int, before: int) -> None:
        """Note that the row at a position had another identity before."""
        self.moved_at.append(position)
        self.moved_from.append(before)

    def forget_moves(self, positions: Collection[int]) -> None:
        """Take back what was noted about the rows at these positions."""
        kept = [number for number, position in enumerate(self.moved_at) if position not in positions]
        self.moved_at = array("q", (self.moved_at[number] for number in kept))
        self.moved_from = array("q", (self.moved_from[number] for number in kept))

    def remove(self, identity: int) -> None:
        """Note a removal."""
        if identity in self.removed:
            self.removed_twice.add(identity)
        self.removed.add(identity)
        self.left.add(identity)

    def to_resend(self) -> set[int]:
        """Return identities that the run changes while other, unchanged rows bear them too.

        Those rows have to be sent again, in key order: of rows that share an identity, the one with the greatest key is
        to be at Iterable in the end.
        """
        if not self.unchanged:
            return set()
        touched = self.left.union(self.moved_from)
        touched.update(self.sent)
        return {identity for identity in self.unchanged if identity in touched}

    def shared(self) -> set[int]:
        """Return identities that several rows are sent with; a part at a time, for a set takes ten times the memory."""
        parts = [array("q") for _ in range(_PARTS)]
        for identity in self.sent:
            parts[identity % _PARTS].append(identity)
        found: set[int] = set()
        for part in parts:
            if len(set(part)) < len(part):
                found.update(one for one, other in pairwise(sorted(part)) if one == other)
        return found

    def borne(self) -> set[int]:
        """Return identities with which a row left, and which a row that is there bears."""
        if not self.left:
            return set()
        return {
            identity for row in (self.sent, self.unchanged, self.refused) for identity in row if identity in self.left
        }
