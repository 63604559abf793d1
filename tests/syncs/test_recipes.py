from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.mapping import Column, Constant, Json, Mapper
from airflow_provider_iterable.syncs.catalogs import CatalogOptions, Catalogs
from airflow_provider_iterable.syncs.change_email import ChangeEmail, EmailChangeOptions
from airflow_provider_iterable.syncs.event_options import EventOptions
from airflow_provider_iterable.syncs.events import Events
from airflow_provider_iterable.syncs.users import UserOptions, Users

ROW: dict[str, tuple[Any, Any]] = {
    "id": (1, 2),
    "email": ("a@x.io", "b@x.io"),
    "new_email": ("c@x.io", "d@x.io"),
    "user_id": ("u-1", "u-2"),
    "event": ("Signed Up", "Left"),
    "event_id": ("e-1", "e-2"),
    "at": (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)),
    "items": (
        '[{"id": "1", "name": "Tea", "price": 2.5, "quantity": 1}]',
        '[{"id": "2", "name": "Tea", "price": 2.5, "quantity": 1}]',
    ),
    "total": (2.5, 3.5),
    "campaign": (1, 2),
    "template": (1, 2),
    "naive": (datetime(2024, 1, 1), datetime(2024, 1, 2)),
    "plain": ("x", None),
    "pets": ('{"a": 1}', '{"a": 2}'),
    "other": (1, 2),
}
"""Columns with two values each, both of them sound."""
COLUMNS = tuple(ROW)
FIELDS: dict[str, Any] = {
    "at": "naive",
    "profile.plain": Column("plain", nulls="skip"),
    "pets": Json("pets"),
    "from": Constant("here"),
}


def mapper(fields: Mapping[str, Any] | None = None, zone: str = "UTC", nulls: Any = "send") -> Mapper:
    """Return a mapper of some columns."""
    return Mapper(FIELDS if fields is None else fields, nulls, ZoneInfo(zone))


def users(mapper: Mapper, **how: Any) -> Users:
    """Return a user sync by email, with user ID beside it."""
    options = {"email_column": "email", "user_id_column": "user_id", "project_type": "hybrid"} | how
    return Users(UserOptions(("id",), options.pop("match", "email"), **options), mapper, COLUMNS)


def events(mapper: Mapper, **how: Any) -> Events:
    """Return a sync of custom events that uses every column it can."""
    options = EventOptions(
        **{
            "sync_id": "s",
            "primary_key": ("id",),
            "match": "email",
            "identifier_column": "email",
            "project_type": "email",
            "event_type": "custom",
            "event_name_column": "event",
            "event_id_column": "event_id",
            "timestamp_column": "at",
            "campaign_id_column": "campaign",
            "template_id_column": "template",
        }
        | how
    )
    return Events(options, mapper, Mapper({}), COLUMNS)


def purchases(mapper: Mapper, **how: Any) -> Events:
    """Return a sync of purchases with profile fields."""
    who: Any = {"match": "email", "identifier_column": "email", "project_type": "email", "primary_key": ("id",)}
    options = EventOptions(event_type="purchase", items_column="items", total_column="total", sync_id="s", **who, **how)
    return Events(options, Mapper({"other": "other"}), mapper, COLUMNS)


def catalogs(mapper: Mapper, **how: Any) -> Catalogs:
    """Return a catalog sync."""
    return Catalogs(CatalogOptions("shop", ("id",), **{"item_id_column": "event_id"} | how), mapper, COLUMNS)


def moves(mapper: Mapper, **how: Any) -> ChangeEmail:
    """Return a sync of email changes."""
    options = {"match": "email", "identifier_column": "email", "new_email_column": "new_email", "project_type": "email"}
    return ChangeEmail(EmailChangeOptions(primary_key=("id",), **options | how), COLUMNS)


FLAT = {name.replace("profile.", ""): source for name, source in FIELDS.items()}
SYNCS: Mapping[str, Callable[..., Any]] = {
    "users": users,
    "events": events,
    "purchases": purchases,
    "catalogs": catalogs,
    "moves": moves,
}
MAPPED = {name: FLAT if name == "catalogs" else FIELDS for name in SYNCS}


def looks(sync: Sync, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a row looks like to Iterable, and by which names."""
    records = sync.records(["[1]"], [tuple(row.values())])
    assert isinstance(records.fingerprints[0], bytes), records.fingerprints
    return records.fingerprints[0], records.bodies[0], records.handles(0)


@pytest.mark.parametrize("name", SYNCS)
def test_every_column_that_counts_is_in_the_recipe(name: str) -> None:
    """A column whose value changes the payload or an identifier is digested by the database; others are not."""
    sync = SYNCS[name](mapper(MAPPED[name]))
    first = {column: values[0] for column, values in ROW.items()}
    counting = {
        COLUMNS.index(column)
        for column, values in ROW.items()
        if looks(sync, first) != looks(sync, first | {column: values[1]})
    }
    assert counting == set(sync.recipe.columns)
    assert (0,) == sync.recipe.key


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "users": [
        {},
        {"match": "user_id"},
        {"user_id_column": None},
        {"email_column": "new_email"},
        {"match": "user_id", "project_type": "email"},
        {"merge_nested_objects": False},
        {"mode": "update"},
        {"recheck_known_users": "never"},
    ],
    "events": [
        {},
        {"match": "user_id", "identifier_column": "user_id"},
        {"identifier_column": "new_email"},
        {"event_id_column": None},
        {"event_name": "x", "event_name_column": None},
        {"create_new_fields": True},
        {"timestamp_column": None},
        {"retry_unsafe": True},
    ],
    "purchases": [{}, {"event_id_column": "event_id"}, {"derive_ids": False}, {"timestamp_column": "naive"}],
    "catalogs": [{}, {"item_id_column": "user_id"}, {"replace_uploaded_fields_only": True}, {"on_removed": "delete"}],
    "moves": [{}, {"new_email_column": "email"}, {"match": "user_id", "identifier_column": "user_id"}],
}


@pytest.mark.parametrize("name", SYNCS)
def test_every_option_that_counts_is_in_the_recipe(name: str) -> None:
    """Options and mappings that make another payload of the same row make another recipe; equal ones do not."""
    row = {column: values[0] for column, values in ROW.items()} | {"plain": None}
    fields = MAPPED[name]
    mappers: list[dict[str, Any]] = [
        {},
        {"zone": "America/Lima"},
        {"fields": {**fields, "from": Constant("there")}},
        {"fields": {"plain": Column("plain", nulls="send"), **{k: v for k, v in fields.items() if "plain" not in k}}},
        {"fields": {**fields, "pets": "pets"}},
        {"fields": {**fields, "extra": "other"}},
    ]
    found: dict[tuple[Any, ...], Any] = {}
    for how in OPTIONS[name]:
        for given in mappers:
            sync = SYNCS[name](mapper(**{"fields": fields, **given}), **how)
            found.setdefault((sync.recipe.text, sync.recipe.columns), set()).add(looks(sync, row))
    assert [] == [recipe for recipe, all_looks in found.items() if len(all_looks) > 1]
    assert len({one for all_looks in found.values() for one in all_looks}) > 2 or name == "moves"


@pytest.mark.parametrize("name", ["users", "events", "purchases", "catalogs"])
def test_the_recipe_names_the_columns_that_are_read_as_json_and_as_nothing_else(name: str) -> None:
    """A database may compare their texts by value; one that is sent as it stands as well counts as text."""
    number = COLUMNS.index("pets")
    fields = MAPPED[name]
    assert SYNCS[name](mapper(fields)).recipe.json == (number,)
    assert SYNCS[name](mapper({**fields, "again": Json("pets")})).recipe.json == (number,)
    assert SYNCS[name](mapper({**fields, "text": "pets"})).recipe.json == ()
    assert SYNCS[name](mapper({**fields, "pets": "pets"})).recipe.json == ()
