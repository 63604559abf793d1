"""What is remembered of whom a record is about, as text; may say that the sync itself made them at Iterable."""

from __future__ import annotations

_MADE = ",1]"
"""Plain references are arrays of two texts, so none of them ends like this."""


def made(ref: str) -> str:
    """Return the reference of somebody whom the sync made."""
    return plain(ref)[:-1] + _MADE


def is_made(ref: str) -> bool:
    """Whether a reference says that the sync made them."""
    return ref.endswith(_MADE)


def plain(ref: str) -> str:
    """Return a reference that says nothing about who made them."""
    return ref[: -len(_MADE)] + "]" if is_made(ref) else ref


def forms(ref: str) -> tuple[str, str]:
    """Return both references of somebody."""
    return plain(ref), made(ref)
