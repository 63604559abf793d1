"""What the hash of an approved plan covers, and that a refusal names what differs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_iterable import operators
from airflow_provider_iterable.engine.plan_hash import PLAN_PARTS
from airflow_provider_iterable.operators import (
    IterableCatalogOperator,
    IterableEventOperator,
    IterableListOperator,
    IterableMergeOperator,
    IterablePrivacyOperator,
    IterableSubscriptionOperator,
    IterableUserSyncOperator,
)
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.state import ObjectState, TableState
from tests.operators.conftest import KEY, OPT_IN, Make, World, email

OPERATORS: dict[str, Callable[..., IterableModelOperator]] = {
    "users": partial(IterableUserSyncOperator, primary_key="id", email_column="email", fields={"firstName": "name"}),
    "moves": partial(
        IterableUserSyncOperator, primary_key="id", user_id_column="uid", mode="change_email", new_email_column="email"
    ),
    "events": partial(
        IterableEventOperator, primary_key="id", email_column="email", event_name="seen", fields={"name": "name"}
    ),
    "lists": partial(IterableListOperator, email_column="email"),
    "subscriptions": partial(
        IterableSubscriptionOperator,
        email_column="email",
        subscription_type="message_type",
        subscription_id=1,
        consent_waived="a test",
    ),
    "catalogs": partial(IterableCatalogOperator, primary_key="id", fields={"name": "name"}, catalog_name="Shop"),
    "privacy": partial(IterablePrivacyOperator, primary_key="id", email_column="email", action="delete"),
    "merges": partial(
        IterableMergeOperator, primary_key="id", source_email_column="email", destination_email_column="name"
    ),
}
COMMON = {"task_id": "sync_users", "sql_conn_id": "warehouse", "sql": "SELECT * FROM users", "state": TableState()}

TARGETS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("lists", {"list_id": 1}, {"list_id": 2}, "the target (now type=lists, list=2)"),
    ("lists", {"list_name": "one"}, {"list_name": "two"}, "the target (now type=lists, list=two)"),
    (
        "subscriptions",
        {},
        {"subscription_id": 2},
        "the target (now type=subscriptions, group=message_type, id=2)",
    ),
    ("catalogs", {}, {"catalog_name": "Attic"}, "the target (now type=catalogs, catalog=attic)"),
    ("privacy", {}, {"action": "forget"}, "the target (now type=privacy, action=forget)"),
    ("events", {}, {"event_type": "custom", "event_name": "heard"}, "the rows and what is sent of them"),
    ("users", {}, {"email_column": None, "user_id_column": "uid"}, "the matching identifier (now user_id)"),
]
"""Kind of sync, what was approved, what is run, and what the refusal says."""

OPTIONS: dict[str, dict[str, Any]] = {
    "users": {
        "mode": "update",
        "on_removed": "delete",
        "merge_nested_objects": True,
        "create_new_fields": True,
        "recheck_known_users": "never",
        "salvage": True,
        "check_types": False,
    },
    "events": {"retry_unsafe": True, "create_new_fields": False, "check_types": False},
    "lists": {"list_description": "all", "update_existing_users_only": True, "salvage": True, "check_types": False},
    "subscriptions": {"on_removed": "unsubscribe", "exclusive": True, "check_types": False},
    "catalogs": {
        "on_removed": "delete",
        "replace_uploaded_fields_only": True,
        "create_catalog": False,
        "field_types": {"name": "string"},
        "salvage": True,
        "check_types": False,
    },
    "merges": {"array_merge": {"pets": None}, "create_destination": True, "check_types": False},
    "privacy": {"max_actions": 1, "requested_at_column": "age", "check_types": False},
}
"""Another value than the default for each parameter that changes requests."""

IN_OTHER_PARTS = {
    "sql table parameters sql_conn_id hook_params primary_key fields nulls timezone": "rows",
    "email_column user_id_column new_email_column item_id_column": "rows",
    "source_email_column source_user_id_column destination_email_column destination_user_id_column": "rows and target",
    "event_name event_name_column event_id_column timestamp_column": "rows",
    "items_column total_column user_fields campaign_id_column template_id_column derive_ids": "rows",
    "subscription_id_column subscribed_column subscribed_words consent_at_column consent_waived": "rows",
    "iterable_conn_id": "host and project",
    "list_id list_name catalog_name event_type action subscription_type subscription_id": "target",
    "match_by": "match",
    "state sync_id partition partitions repartition": "state",
    "resync": "options",
    "allow_empty max_removed max_changed max_rejected max_deletes allow_shared_user_id shared_list": "a guard",
    "deadline deadline_action canary canary_max_rejected max_subscribed allow_channels max_merges": "a guard",
    "dry_run approved_plan batch_size commit_batches max_in_flight spool_dir kwargs": "nothing that Iterable sees",
}
"""Every other parameter, and by what part of the hash it is covered, or why by none."""


@pytest.fixture
def world(make_world: Make) -> World:
    """A host with two projects, of which one has two keys."""
    world = make_world(project_keys={KEY: 10216, "rotated": 10216, "other": 77})
    world.people(1, 2)
    return world


def of(kind: str, world: World, **parameters: Any) -> IterableModelOperator:
    """Make an operator of a kind."""
    return OPERATORS[kind](**{**COMMON, **parameters})


def test_every_parameter_is_covered_or_told_not_to_be() -> None:
    """A parameter that is added has to be put into the hash, or among those that need not be."""
    syncs = {vars(operators)[name] for name in operators.__all__} - {operators.IterableSyncSummaryOperator}
    assert {made.func for made in OPERATORS.values()} == syncs  # type: ignore[attr-defined]
    told = {name for names in IN_OTHER_PARTS for name in names.split()}
    for kind, made in OPERATORS.items():
        operator = made.func  # type: ignore[attr-defined]
        parameters = {
            name for owner in (operator, IterableModelOperator) for name in inspect.signature(owner.__init__).parameters
        } - {"self"}
        assert not told & {"check_types", *operator.changes_requests}, kind
        assert parameters - told == {"check_types", *operator.changes_requests}, kind
        if kind in OPTIONS:
            assert OPTIONS[kind].keys() == {"check_types", *operator.changes_requests}


@pytest.mark.parametrize(("kind", "approved", "changed", "words"), TARGETS)
def test_a_plan_leads_where_it_was_approved_for(
    world: World, kind: str, approved: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    """Another target is another plan, although the rows are the same; the refusal names it, and nothing is called."""
    world.make = partial(of, kind, world)  # type: ignore[method-assign]
    plan = world.run(**approved, dry_run=True)["plan_hash"]
    message, report = world.failure(AirflowFailException, **{**approved, **changed}, approved_plan=plan)
    assert "The plan changed since it was approved; what differs: " in message
    assert words in message
    assert "Nothing was sent. Make a new plan with dry_run=True and have it approved" in message
    assert report["plan_hash"] in message
    assert all(call.method == "GET" for call in world.sandbox.calls)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in OPTIONS.items() for name in names])
def test_a_plan_is_made_with_its_options(world: World, kind: str, name: str) -> None:
    """Each option that changes requests makes another plan, which the refusal tells with the options as they are."""
    world.make = partial(of, kind, world)  # type: ignore[method-assign]
    plan = world.run(dry_run=True)["plan_hash"]
    value = OPTIONS[kind][name]
    message, _ = world.failure(AirflowFailException, **{name: value}, approved_plan=plan)
    told = json.dumps(value) if isinstance(value, dict) else value
    assert "options that change requests (now resync=changes, check_types=" in message
    assert f"{name}={told}" in message
    assert "the target" not in message
    assert all(call.method == "GET" for call in world.sandbox.calls)


def test_a_plan_is_for_one_kind_of_resync(world: World) -> None:
    """That the rows are the same does not make a baseline a first run."""
    plan = world.run(dry_run=True)["plan_hash"]
    message, _ = world.failure(AirflowFailException, approved_plan=plan, resync="baseline")
    assert "options that change requests (now resync=baseline, " in message


@pytest.mark.parametrize(
    ("key", "extra", "words"),
    [
        ("rotated", {}, "what differs: the project or its API key."),
        ("other", {}, "what differs: the project or its API key."),
        (KEY, {"project": "production"}, "what differs: the project or its API key."),
        (KEY, {"project_type": "hybrid"}, "project_type=hybrid"),
        (KEY, {"update_only": True}, "update_only=True"),
    ],
)
def test_a_plan_is_for_one_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str, extra: dict[str, Any], words: str
) -> None:
    """Another key, project or setting of the connection is another plan; digests of keys are not shown."""
    plan = world.run(dry_run=True)["plan_hash"]
    connection = {"conn_type": "iterable", "password": key, "host": world.sandbox.url}
    whole = {**connection, "extra": {"project_type": "email", **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(whole))
    message, _ = world.failure(AirflowFailException, approved_plan=plan)
    assert words in message
    assert all(call.method == "GET" for call in world.sandbox.calls)


def test_a_plan_is_for_one_host(world: World, make_world: Make) -> None:
    """One that was made on the sandbox is not applied to Iterable itself."""
    plan = world.run(dry_run=True)["plan_hash"]
    elsewhere = make_world()
    elsewhere.people(1, 2)
    message, _ = elsewhere.failure(AirflowFailException, approved_plan=plan)
    assert f"what differs: the host (now {elsewhere.sandbox.url}); the project" in message


def test_a_plan_is_for_one_state(world: World, tmp_path: Path) -> None:
    """What is remembered has changed by a run, a list that was made, or another store: it is another plan."""
    world.make = partial(of, "lists", world)  # type: ignore[method-assign]
    first = world.run(dry_run=True)["plan_hash"]
    world.people(1)
    world.run()
    world.people(1, 2)
    plan = world.run(dry_run=True)["plan_hash"]
    message, _ = world.failure(AirflowFailException, approved_plan=first)
    assert "what is remembered of the sync" in message
    message, _ = world.failure(AirflowFailException, approved_plan=plan, sync_id="another")
    assert "what is remembered of the sync" in message
    message, _ = world.failure(AirflowFailException, approved_plan=plan, state=ObjectState(f"file://{tmp_path}/state"))
    assert "what is remembered of the sync" in message
    assert world.run(approved_plan=plan)["accepted"] == 1


@pytest.mark.parametrize("kind", ["users", "events", "lists", "subscriptions", "catalogs", "privacy"])
def test_a_first_run_may_be_approved(world: World, kind: str) -> None:
    """Nothing is known of project and list when the plan is made, and it is the same plan when it is applied."""
    more = {"subscription_id": OPT_IN} if kind == "subscriptions" else {}
    world.make = partial(of, kind, world, **more)  # type: ignore[method-assign]
    for number in (1, 2):
        world.create(number)
    plan = world.run(dry_run=True)["plan_hash"]
    report = world.run(approved_plan=plan)
    assert (report["accepted"], report["plan_hash"]) == (2, plan)
    world.people(1, 2, 3)
    world.create(3)
    plan = world.run(dry_run=True)["plan_hash"]
    assert world.run(approved_plan=plan)["accepted"] == 1


def test_a_plan_may_be_approved_under_a_key_that_is_new(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run asks whether the project is the same; of two known keys either will do."""
    world.run()
    world.people(1, 2, 3)
    first = world.run(dry_run=True)["plan_hash"]
    connection = {"conn_type": "iterable", "password": "rotated", "host": world.sandbox.url}
    whole = {**connection, "extra": {"project_type": "email"}}
    monkeypatch.setenv("AIRFLOW_CONN_ITERABLE_DEFAULT", json.dumps(whole))
    assert world.run(dry_run=True)["plan_hash"] == first
    assert world.run(approved_plan=first)["accepted"] == 1
    assert set(world.profiles) == {email(1), email(2), email(3)}


def test_a_plan_of_an_earlier_version_is_refused(world: World) -> None:
    """Its hash says nothing of where it leads; the message says so."""
    plan = str(world.run(dry_run=True)["plan_hash"])
    message, _ = world.failure(AirflowFailException, approved_plan=plan.partition("-")[0])
    assert "The approved plan has the hash of an earlier version, which says nothing of where it leads" in message


def test_a_plans_hash_is_one_word(world: World) -> None:
    """It goes through XCom, templates and command lines."""
    parts = str(world.run(dry_run=True)["plan_hash"]).split("-")
    assert len(parts) == len(PLAN_PARTS)
    assert all(set(part) <= set("0123456789abcdef") for part in parts)
