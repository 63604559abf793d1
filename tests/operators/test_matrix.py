"""Each sync in each type of project, by each way of telling who somebody is: one table to be held against the SPEC.

A cell says by which identifier the sync matches, which calls it makes, and what becomes of a user whom Iterable does
not know; one it knows is always reached, unless the sync creates only. A cell with an exclamation mark is refused
before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_iterable.mapping import Column
from airflow_provider_iterable.operators import (
    IterableEventOperator,
    IterableListOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import TableState
from tests.operators.conftest import Make, World, email, uid

pytestmark = pytest.mark.slow

TABLE = """
mapped, match_by   | email project     | user_id project  | hybrid project    | type not told
------------------ | ----------------- | ---------------- | ----------------- | -------------

users, mode="upsert"
email              | email B created   | !unique          | email B created   | email B created
user_id            | user_id B created | user_id B created| user_id B created | user_id B created
both               | email B created   | user_id B created| user_id B created | !told
both, email        | email B created   | !unique          | email B created   | email B created
both, user_id      | user_id B created | user_id B created| user_id B created | user_id B created

users, mode="update"
email              | email E B skipped | !unique          | email E B skipped | email E B skipped
user_id            | user_id B skipped | user_id I B skipped | user_id I B skipped | user_id I B skipped
both               | email E B skipped | user_id I B skipped | user_id I B skipped | !told
both, email        | email E B skipped | !unique          | email E B skipped | email E B skipped
both, user_id      | user_id B skipped | user_id I B skipped | user_id I B skipped | user_id I B skipped

users, mode="update", updateOnly
email              | email B skipped   | !unique          | email B skipped   | email B skipped
user_id            | user_id B skipped | user_id B skipped| user_id B skipped | user_id B skipped
both               | email B skipped   | user_id B skipped| user_id B skipped | !told
both, email        | email B skipped   | !unique          | email B skipped   | email B skipped
both, user_id      | user_id B skipped | user_id B skipped| user_id B skipped | user_id B skipped

users, mode="create"
email              | email E B created | !unique          | email E B created | email E B created
user_id            | user_id I B created | user_id I B created | user_id I B created | user_id I B created
both               | email E B created | user_id I B created | user_id I B created | !told
both, email        | email E B created | !unique          | email E B created | email E B created
both, user_id      | user_id I B created | user_id I B created | user_id I B created | user_id I B created

users, only_if_empty
email              | email E B created | !unique          | email E B created | email E B created
user_id            | user_id I B created | user_id I B created | user_id I B created | user_id I B created
both               | email E B created | user_id I B created | user_id I B created | !told
both, email        | email E B created | !unique          | email E B created | email E B created
both, user_id      | user_id I B created | user_id I B created | user_id I B created | user_id I B created

users, only_if_empty, mode="update"
email              | email E B skipped | !unique          | email E B skipped | email E B skipped
user_id            | user_id I B skipped | user_id I B skipped | user_id I B skipped | user_id I B skipped
both               | email E B skipped | user_id I B skipped | user_id I B skipped | !told
both, email        | email E B skipped | !unique          | email E B skipped | email E B skipped
both, user_id      | user_id I B skipped | user_id I B skipped | user_id I B skipped | user_id I B skipped

users, mode="change_email"
email              | email U E skipped | !unique          | email E B skipped | !type
user_id            | user_id U I skipped | user_id I B skipped | user_id I B skipped | !type
both               | email U E skipped | user_id I B skipped | user_id I B skipped | !told
both, email        | email U E skipped | !unique          | email E B skipped | !type
both, user_id      | user_id U I skipped | user_id I B skipped | user_id I B skipped | !type

users, mode="change_email", updateOnly
email              | email U E skipped | !unique          | email E B skipped | !type
user_id            | user_id U I skipped | user_id B skipped | user_id B skipped | !type
both               | email U E skipped | user_id B skipped | user_id B skipped | !told
both, email        | email U E skipped | !unique          | email E B skipped | !type
both, user_id      | user_id U I skipped | user_id B skipped | user_id B skipped | !type

events, event_type="custom"
email              | email T skipped   | !unique          | email T created   | email T ?
user_id            | user_id T skipped | user_id T created| user_id T created | user_id T ?
both               | email T skipped   | user_id T created| user_id T created | !told
both, email        | email T skipped   | !unique          | email T created   | email T ?
both, user_id      | user_id T skipped | user_id T created| user_id T created | user_id T ?

events, event_type="purchase"
email              | email P created   | !unique          | email P created   | email P created
user_id            | user_id P created | user_id P created| user_id P created | user_id P created
both               | email P created   | user_id P created| user_id P created | !told
both, email        | email P created   | !unique          | email P created   | email P created
both, user_id      | user_id P created | user_id P created| user_id P created | user_id P created

events, event_type="cart"
email              | email C created   | !unique          | email C created   | email C created
user_id            | user_id C created | user_id C created| user_id C created | user_id C created
both               | email C created   | user_id C created| user_id C created | !told
both, email        | email C created   | !unique          | email C created   | email C created
both, user_id      | user_id C created | user_id C created| user_id C created | user_id C created

lists
email              | email S created   | !unique          | email S created   | email S created
user_id            | user_id S created | user_id S created| user_id S created | user_id S created
both               | email S created   | user_id S created| user_id S created | !told
both, email        | email S created   | !unique          | email S created   | email S created
both, user_id      | user_id S created | user_id S created| user_id S created | user_id S created
"""
"""`?`: as in the type that the project is of after all, which those of unknown type cannot tell."""

CALLS = {
    "B": "POST /api/users/bulkUpdate",
    "C": "POST /api/commerce/updateCart",
    "E": "GET /api/users/getByEmail",
    "I": "GET /api/users/byUserId",
    "P": "POST /api/commerce/trackPurchase",
    "S": "POST /api/lists/subscribe",
    "T": "POST /api/events/trackBulk",
    "U": "POST /api/users/updateEmail",
}
BESIDES = {"GET /api/users/getFields", "GET /api/lists", "POST /api/lists"}
"""Calls that are about no user."""

REFUSED = {
    "!unique": "A user-ID-based project cannot match by email",
    "!told": "the connection does not say the project type",
    "!type": 'mode="change_email" needs the project type',
}

USERS: dict[str, Any] = {"fields": {"firstName": "name"}}
SPARED: dict[str, Any] = {"fields": {"firstName": Column("name", only_if_empty=True)}}
SYNCS: dict[str, tuple[type[IterableModelOperator], dict[str, Any]]] = {
    'users, mode="upsert"': (IterableUserSyncOperator, USERS),
    'users, mode="update"': (IterableUserSyncOperator, {**USERS, "mode": "update"}),
    'users, mode="update", updateOnly': (IterableUserSyncOperator, {**USERS, "mode": "update"}),
    'users, mode="create"': (IterableUserSyncOperator, {**USERS, "mode": "create"}),
    "users, only_if_empty": (IterableUserSyncOperator, SPARED),
    'users, only_if_empty, mode="update"': (IterableUserSyncOperator, {**SPARED, "mode": "update"}),
    'users, mode="change_email", updateOnly': (
        IterableUserSyncOperator,
        {"mode": "change_email", "new_email_column": "new"},
    ),
    'users, mode="change_email"': (IterableUserSyncOperator, {"mode": "change_email", "new_email_column": "new"}),
    'events, event_type="custom"': (IterableEventOperator, {"event_name": "Seen", "fields": {}}),
    'events, event_type="purchase"': (
        IterableEventOperator,
        {"event_type": "purchase", "items_column": "items", "total_column": "total", "fields": {}},
    ),
    'events, event_type="cart"': (IterableEventOperator, {"event_type": "cart", "items_column": "items"}),
    "lists": (IterableListOperator, {"list_name": "VIP"}),
}
PROJECTS: tuple[ProjectType, ...] = ("email", "user_id", "hybrid")
COLUMNS = ("id", "email", "uid", "name", "new", "items", "total")
SCREW = json.dumps([{"id": "s-1", "name": "Screw", "price": 0.5, "quantity": 10}])


def row(number: int) -> tuple[Any, ...]:
    """Return the row of a person, which serves every sync."""
    return (number, email(number), uid(number), f"Name {number}", f"new{number}@example.com", SCREW, 5.0)


def cases() -> Iterator[Any]:
    """Read the table: sync, mapped identifiers, type of project, whether the connection tells it, and the cell."""
    sync = ""
    for line in TABLE.splitlines()[3:]:
        mapped, *cells = [cell.strip() for cell in line.split("|")]
        if not cells:
            sync = mapped or sync
            continue
        told = list(zip(PROJECTS, cells, strict=False))
        untold = [(project_type, cells[3]) for project_type in PROJECTS]
        for is_told, found in ((True, told), (False, untold)):
            for project_type, cell in found:
                if not is_told and project_type == "user_id" and cell.startswith("email"):
                    continue  # nobody can know that it will not work
                if cell.endswith("?"):
                    cell = cell.replace("?", "skipped" if project_type == "email" else "created")
                name = f"{sync} | {mapped} | {project_type if is_told else 'not told, ' + project_type}"
                yield pytest.param(sync, mapped, project_type, is_told, cell, id=name)


class Matrix(World):
    """A world in which any sync may run."""

    kind: type[IterableModelOperator] = IterableUserSyncOperator

    def make(self, **parameters: Any) -> IterableModelOperator:
        """Make the operator."""
        return self.kind(
            task_id="sync_users",
            sql="SELECT * FROM users ORDER BY id",
            sql_conn_id="warehouse",
            primary_key="id",
            state=TableState(),
            **parameters,
        )

    def reached(self) -> set[int]:
        """Return the persons to whom the sync did what it does."""
        project = self.sandbox.project
        found = set()
        for number in (1, 2):
            for profile in project.profiles:
                if profile.user_id != uid(number) and profile.email not in (email(number), f"new{number}@example.com"):
                    continue
                done = (
                    profile.fields.get("firstName") == f"Name {number}",
                    profile.email == f"new{number}@example.com",
                    bool(project.events.of(profile)),
                    bool(project.purchases.of(profile)),
                    any(profile in project.lists.members(found, project.profiles) for found in project.lists),
                )
                if any(done):
                    found.add(number)
        return found


def expected_identity(project_type: str, match: str, both: bool) -> tuple[bool, bool]:
    """Return whether a user who was created has an email and a user ID."""
    return match == "email" or both or project_type == "email", match == "user_id" or both


@pytest.mark.parametrize(("sync", "mapped", "project_type", "told", "cell"), list(cases()))
def test_the_table(make_world: Make, sync: str, mapped: str, project_type: ProjectType, told: bool, cell: str) -> None:
    """Each cell holds, over HTTP, with one user whom Iterable knows and one whom it does not."""
    switch = sync.endswith("updateOnly")
    extra = {"project_type": project_type if told else None, "update_only": switch}
    world = make_world(project_type, extra, update_only_enabled=switch, skipped="not_found")
    world = Matrix(world.sandbox, world.warehouse, project_type)
    world.kind, options = SYNCS[sync]
    mapped, _, match_by = mapped.partition(", ")
    if mapped in ("email", "both"):
        options = {**options, "email_column": "email"}
    if mapped in ("user_id", "both"):
        options = {**options, "user_id_column": "uid"}
    if match_by:
        options = {**options, "match_by": match_by}
    world.create(1, vip=True)
    world.rows(row(1), row(2), columns=COLUMNS)

    if cell in REFUSED:
        message, _ = world.failure(AirflowFailException, **options)
        assert REFUSED[cell] in message
        assert world.calls == {}
        return

    match, *calls, unknown = cell.split()
    report = world.run(**options)
    assert match == report["destination"]["match"]
    assert {CALLS[letter] for letter in calls} == world.calls.keys() - BESIDES
    created = unknown == "created"
    assert (1 + created, 1 - created, 0) == (report["accepted"], report["skipped"], report["rejected"])
    spared = "create" in sync
    assert report["reasons"] == ({"already_exists": 1} if spared else {} if created else {"unknown_user": 1})
    assert world.reached() == ({2} if spared else {1, 2} if created else {1})
    people = {(profile.email, profile.user_id) for profile in world.sandbox.project.profiles}
    moved = "change_email" in sync
    assert ("new1@example.com" if moved else email(1), uid(1)) in people
    assert len(people) == 1 + created
    if created:
        (other,) = people - {(email(1), uid(1))}
        writes_both = mapped == "both" and world.kind is not IterableEventOperator
        assert expected_identity(project_type, match, writes_both) == (other[0] is not None, other[1] is not None)
    if world.kind is not IterableListOperator:
        assert world.remembered == (["[1]", "[2]"] if created else ["[1]"])

    world.forget_calls()
    again = world.run(**options)
    assert again["unchanged"] == 1 + created
    if created:
        assert world.calls == {}


def test_the_table_is_whole() -> None:
    """Twelve syncs, five ways of mapping, three types told and not told."""
    found = [cast(Any, case).values for case in cases()]
    assert set(SYNCS) == {values[0] for values in found}
    told = [values for values in found if values[3]]
    assert len(SYNCS) * 5 * 3 == len(told)
    assert len({values[:4] for values in found}) == len(found)
