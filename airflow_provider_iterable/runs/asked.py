"""Which row somebody asks about: the keys that the state may have for what they call it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_iterable.mapping import FieldError, key_text
from airflow_provider_iterable.syncs.identity import CHECKS
from airflow_provider_iterable.syncs.privacy import hashed
from airflow_provider_iterable.syncs.subscriptions import GROUPS, folded_key


def candidates(destination: Mapping[str, Any], given: str) -> list[str]:
    """Return the key texts that somebody may mean, the likeliest first.

    :param destination: what the sync is about: its type, and the identifier that members of lists are known by
    """
    texts: list[str] = []
    with suppress(ValueError, FieldError, OverflowError):
        parts = json.loads(given)
        text = key_text(parts if isinstance(parts, list) else [parts])
        texts += [] if text is None else [text]
    plain = key_text([given])
    texts += [plain] if plain is not None and not given.lstrip().startswith("[") else []
    if destination.get("type") in ("lists", "subscriptions"):
        texts += [found for text in texts if (found := _folded(destination, text)) is not None]
    if destination.get("type") == "privacy" or destination.get("keys") == "hashed":
        texts = [*map(hashed, texts), given]
    return list(dict.fromkeys(texts)) or [given]


def _folded(destination: Mapping[str, Any], text: str) -> str | None:
    """Return the key of a member as the state has it: of an address in other letters, too."""
    parts = json.loads(text)
    match = str(destination.get("match"))
    if destination.get("type") == "subscriptions":
        whole = folded_key(match, GROUPS[destination["group"]], destination.get("id"), parts)
        return None if whole is None else key_text(whole)
    (found,) = CHECKS[match][0](parts[:1])
    return None if found is None else key_text([found])
