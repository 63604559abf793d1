"""Fields that only profiles without them are to get: what they go together with, and what is left of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_iterable.api.answers import values_at
from airflow_provider_iterable.api.profile_verdicts import Spare
from airflow_provider_iterable.engine.vocabulary import Operation
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.syncs import types
from airflow_provider_iterable.syncs.chunk import encode


def check(names: Sequence[str], mode: str, merge_nested_objects: bool | None, recheck_known_users: str) -> None:
    """Refuse options that contradict such fields.

    :param names: theirs
    :raises ConfigurationError: one does
    """
    if not names:
        return
    said = f"only_if_empty ({', '.join(names)})"
    if mode == "create":
        raise ConfigurationError(
            f'{said} says nothing with mode="create": whoever is created has no fields. Leave it out.'
        )
    if mode == "update" and recheck_known_users == "never":
        raise ConfigurationError(
            f'{said} looks each user up, and recheck_known_users="never" is not to: leave out one of them.'
        )
    nested = [name for name in names if "." in name]
    if merge_nested_objects is False and nested:
        raise ConfigurationError(
            f"only_if_empty ({', '.join(nested)}) needs objects to be merged: with merge_nested_objects=False the rest "
            "of the object would replace what the profile has. Leave out merge_nested_objects, or map the parent."
        )


def refuse(names: Sequence[str], what: str) -> None:
    """Refuse such fields where nothing is looked up.

    :param what: which records they would be in, in the plural
    :raises ConfigurationError: there are some
    """
    if names:
        raise ConfigurationError(
            f"only_if_empty ({', '.join(names)}) is for the profile fields of IterableUserSyncOperator: {what} are "
            "written without a look-up. Leave it out, or sync the field by an operator of users."
        )


def sparing(names: Sequence[str]) -> Spare:
    """Return what takes those of some fields out of a record that a profile has."""
    paths = {name: name.split(".") for name in names}

    def spare(operation: Operation, profile: Mapping[str, Any]) -> Operation:
        had = [name for name, path in paths.items() if any(found is not None for found in values_at(profile, path))]
        if not had:
            return operation
        body = msgspec.json.decode(operation.body)
        fields = body["dataFields"]
        types.drop(fields, had)
        for top in {path[0] for name, path in paths.items() if name in had and len(path) > 1}:
            if fields.get(top) == {}:
                del fields[top]
        return msgspec.structs.replace(operation, body=encode(body))

    return spare
