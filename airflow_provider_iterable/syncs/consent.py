"""What a row says beside whom it is about: which subscription, whether it stands, and since when there is consent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, tzinfo
from decimal import Decimal
from typing import Any

from airflow_provider_iterable.api.values import BadValue
from airflow_provider_iterable.columns import type_of

MOST_ID = (1 << 63) - 1


def reader(columns: Sequence[str], number: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what reads a column's values as its type promises them; one that cannot be read is an exception."""
    load = type_of(columns, number).load
    if load is None:
        return lambda values: values

    def read(values: Sequence[Any]) -> Sequence[Any]:
        found: list[Any] = []
        for value in values:
            try:
                found.append(None if value is None else load(value))
            except BadValue as error:
                found.append(error)
        return found

    return read


def subscription_id(value: Any) -> int | None:
    """Return the ID of a message type, channel or list; ``None``: it is none."""
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isascii() and text.isdigit() else None
    elif isinstance(value, Decimal | float):
        whole = math.isfinite(value) and value == int(value)
        value = int(value) if whole else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value <= MOST_ID else None


def state_of(value: Any, words: Mapping[str, bool] | None) -> bool | None:
    """Return whether a value says that somebody is subscribed; ``None``: it does not say.

    :param words: folded words and what they mean; ``None``: the value is a truth value, as 1 and 0 are
    """
    if words is None:
        return bool(value) if isinstance(value, int | Decimal) and value in (0, 1) else None
    return words.get(folded(str(value))) if isinstance(value, str | int) else None


def folded(word: str) -> str:
    """Return a word as it is compared with others."""
    return word.strip().casefold()


def lacks(value: Any, zone: tzinfo, now: datetime) -> str:
    """Say what is wrong with the moment at which somebody consented; empty when it lies in the past."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "there is none"
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return "it is no date-time"
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        return "it is no date-time"
    moment = value if value.tzinfo else value.replace(tzinfo=zone)
    return "it lies in the future" if moment > now else ""
