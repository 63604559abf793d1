"""Compares Iterable with the warehouse, by rules written by hand: it shares no code with what it checks."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.request import ProxyHandler, build_opener

Profile = dict[str, Any]


@dataclass
class Finding:
    """What a comparison found."""

    users: int
    """Profiles at Iterable."""
    equal: int = 0
    """Profiles that equal their row."""
    kept: int = 0
    """Profiles that are as they were, because their row could not be sent."""
    fields: int = 0
    """Values compared."""
    differences: list[str] = field(default_factory=list)


class Check:
    """Compares a sandbox with the warehouse, and remembers what the sandbox should hold.

    :param url: where the sandbox is
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._due: dict[int, Profile] = {}

    def __call__(
        self, rows: Iterable[Mapping[str, Any]], refused: Collection[int] = (), beside: Collection[str] = ()
    ) -> Finding:
        """Compare profile by profile and field by field.

        :param rows: the customers
        :param refused: those whose row cannot be sent; their profiles stay as they were, or do not come to be
        :param beside: fields that others write, and that are not compared
        """
        due = {}
        for row in rows:
            key = row["id"]
            if key not in refused:
                due[key] = expected(row)
            elif key in self._due:
                due[key] = self._due[key]
        self._due = due
        stored = {profile["email"]: _flat(profile, beside) for profile in self._profiles()}
        finding = Finding(len(stored))
        for key, wanted in due.items():
            found = stored.pop(wanted["email"], None)
            different = _differences(key, wanted, found)
            finding.differences += different
            finding.fields += len(wanted)
            if not different:
                finding.equal += key not in refused
                finding.kept += key in refused
        finding.differences += [f"{email} is at Iterable and should not be" for email in stored]
        return finding

    def _profiles(self) -> list[dict[str, Any]]:
        with build_opener(ProxyHandler({})).open(f"{self._url}/sandbox/state?users=1", timeout=60) as answer:
            profiles: list[dict[str, Any]] = json.load(answer)["profiles"]
        return profiles


def expected(row: Mapping[str, Any]) -> Profile:
    """Return the profile of a customer: fields by dotted name, as Iterable stores them; without nulls."""
    pets = json.loads(row["pets"]) if row["pets"] else None
    for pet in pets or ():
        pet["bornOn"] = _date(pet["bornOn"])
    profile = {
        "email": row["email"].lower(),
        "firstName": row["first_name"],
        "lastName": row["last_name"],
        "birthDate": _date(row["birth_date"]),
        "signedUpAt": _date(row["signed_up_at"]),
        "lastOrderAt": _date(row["last_order_at"]),
        "orderCount": row["order_count"],
        "lifetimeValue": row["lifetime_value"],
        "address.street": row["street"],
        "address.city": row["city"],
        "address.postalCode": row["postal_code"],
        "address.country": row["country"],
        "pets": pets,
        "source": "warehouse",
    }
    return {name: value for name, value in profile.items() if value is not None}


def _date(text: str | None) -> str | None:
    return None if text is None else datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S +00:00")


def _flat(stored: Mapping[str, Any], beside: Collection[str] = ()) -> Profile:
    """Return a stored profile by dotted name, without some fields; an object without members is nothing."""
    flat: Profile = {"email": stored["email"]}
    if stored["userId"] is not None:
        flat["userId"] = stored["userId"]
    for name, value in stored["dataFields"].items():
        if name in beside:
            continue
        if isinstance(value, dict):
            flat.update({f"{name}.{member}": inner for member, inner in value.items()})
        else:
            flat[name] = value
    return flat


def _differences(key: int, wanted: Profile, found: Profile | None) -> list[str]:
    if found is None:
        return [f"customer {key} ({wanted['email']}) is not at Iterable"]
    return [
        f"customer {key}, field {name}: {wanted.get(name)!r} in the warehouse, {found.get(name)!r} at Iterable"
        for name in sorted({*wanted, *found})
        if _as_json(wanted.get(name)) != _as_json(found.get(name))
    ]


def _as_json(value: Any) -> str:
    """Return a value's JSON, in which 5 and 5.0 differ and the order of members does not count."""
    return json.dumps(value, sort_keys=True)
