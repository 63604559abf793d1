from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_iterable.assets import (
    GROUP,
    convert_asset_to_openlineage,
    create_asset,
    sanitize_uri,
    sync_asset,
    target_of,
    tell,
)
from airflow_provider_iterable.get_provider_info import get_provider_info
from tests.airflow_db import AIRFLOW
from tests.operators.conftest import Told

IDS = [
    "crm.sync_users",
    "dag.group.task",
    "with space",
    "UPPER.Case",
    "a/b/c",
    "100%",
    "users",
    "a:b",
    *(["übung"] if AIRFLOW >= (3, 0) else []),
]
"""Names of syncs: anything without square brackets."""


@pytest.mark.parametrize("sync_id", IDS)
@pytest.mark.parametrize("sync_type", ["users", "events", "lists", "catalogs", "privacy", "subscriptions", "merges"])
def test_the_asset_of_a_sync_is_called_as_it_always_was(sync_type: str, sync_id: str) -> None:
    """States in XCom are found by it: under another URI every row would be sent again."""
    asset = sync_asset(sync_type, sync_id)
    assert asset.uri == f"iterable://{sync_type}/{sync_id}"
    assert getattr(asset, "name", asset.uri) == asset.uri
    assert convert_asset_to_openlineage(asset, None) is None, "it holds no data"


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("users", "iterable://api.iterable.com/users"),
        ("events", "iterable://api.iterable.com/events"),
        ("events/Page seen", "iterable://api.iterable.com/events/Page%20seen"),
        ("events/a/b?c#d%", "iterable://api.iterable.com/events/a%2Fb%3Fc%23d%25"),
        ("lists/12345", "iterable://api.iterable.com/lists/12345"),
        ("lists/Treue Käufer", "iterable://api.iterable.com/lists/Treue%20K%C3%A4ufer"),
        ("subscriptions/channel", "iterable://api.iterable.com/subscriptions/channel"),
        ("catalogs/Shops", "iterable://api.iterable.com/catalogs/shops"),
    ],
)
def test_what_syncs_write_into_has_one_name(target: str, uri: str) -> None:
    """However it is given, it is the same asset for Airflow, and the dataset for OpenLineage has the name unquoted."""
    asset = create_asset(target)
    assert asset.uri == uri
    assert getattr(asset, "name", uri) == uri
    if AIRFLOW >= (3, 0):
        assert asset.group == GROUP
    written = uri.replace("iterable://api.iterable.com/", "Iterable://API.iterable.com:443/")
    assert Asset(uri=written).uri == uri, "Airflow asks the handler that the provider names"
    assert urlunsplit(sanitize_uri(urlsplit(uri))) == uri
    dataset: Any = convert_asset_to_openlineage(asset, None)
    if find_spec("airflow.providers.openlineage") is None:
        assert dataset is None, "there is nobody to be told"
        return
    assert dataset.namespace == "iterable://api.iterable.com"
    assert dataset.name == (target.lower() if target.startswith("catalogs") else target)


@pytest.mark.parametrize(
    "uri",
    [
        "iterable:users",
        "iterable://api.iterable.com",
        "iterable://api.iterable.com/campaigns/1",
        "iterable://api.iterable.com/users/1",
        "iterable://api.iterable.com/lists",
        "iterable://api.iterable.com/catalogs/",
        "iterable://somebody@api.iterable.com/users",
        "iterable://api.iterable.com/users?all=1",
    ],
)
def test_what_iterable_does_not_keep_is_no_asset(uri: str) -> None:
    """A typing error does not become an asset that is never updated."""
    with pytest.raises(ValueError, match="URI format iterable://"):
        sanitize_uri(urlsplit(uri))
    if AIRFLOW >= (3, 0):
        with pytest.raises(ValueError, match="URI format iterable://"):
            Asset(uri=uri)


@pytest.mark.parametrize(("target", "host"), [("user", "api.iterable.com"), ("users", "users"), ("users", "")])
def test_a_target_that_cannot_be_is_refused(target: str, host: str) -> None:
    """Also where Airflow itself would only warn."""
    with pytest.raises(ValueError, match=r"URI format|is not a host"):
        create_asset(target, host=host)


def test_the_provider_names_what_there_is() -> None:
    """Airflow 2 and 3 look under different names."""
    info: Any = get_provider_info()
    assert info["asset-uris"] == info["dataset-uris"]
    (entry,) = info["asset-uris"]
    for key in ("handler", "factory", "to_openlineage_converter"):
        module, _, name = entry[key].rpartition(".")
        assert callable(getattr(import_module(module), name))
    for path in info["extra-links"]:
        module, _, name = path.rpartition(".")
        assert getattr(import_module(module), name)().name


DESTINATION = {"host": "https://API.eu.iterable.com", "type": "users", "match": "email"}
ACCOUNT = {
    "sync_id": "crm.sync",
    "resync": "changes",
    "destination": DESTINATION,
    **dict.fromkeys(("added", "changed", "removed", "accepted", "rejected", "skipped", "deferred"), 1),
    "requests": {"POST /api/users/bulkUpdate": {"200": 1}},
}


@pytest.mark.parametrize(
    ("about", "name", "target"),
    [
        ({"type": "users"}, None, "users"),
        ({"type": "privacy", "action": "forget"}, None, "users"),
        ({"type": "merges"}, None, "users"),
        ({"type": "events", "event_type": "custom"}, "seen", "events/seen"),
        ({"type": "events", "event_type": "custom"}, None, "events"),
        ({"type": "events", "event_type": "purchase"}, None, "events/purchase"),
        ({"type": "events", "event_type": "cart"}, None, "events/updateCart"),
        ({"type": "subscriptions", "group": "list"}, None, "subscriptions/list"),
        ({"type": "lists", "list": 7}, None, "lists/7"),
        ({"type": "lists", "list": "VIP"}, None, "lists/VIP"),
        ({"type": "catalogs", "catalog": "shops"}, None, "catalogs/shops"),
    ],
)
def test_each_sync_writes_into_one_target(about: dict[str, Any], name: str | None, target: str) -> None:
    """Purchases and carts are events at Iterable, under names of its own."""
    assert target_of(about, name) == target
    told = Told()
    tell({"alias": told}, "alias", {**ACCOUNT, "destination": {**DESTINATION, **about}}, name)  # type: ignore[arg-type]
    ((asset, extra),) = told.events
    assert asset == create_asset(target, host="api.eu.iterable.com")
    assert extra == {"sync_id": "crm.sync", **{key: 1 for key in extra if key != "sync_id"}}
    assert len(extra) == 8


def test_a_baseline_writes_nothing() -> None:
    """It only remembers, so whatever waits for news at Iterable has none."""
    told = Told()
    tell({"alias": told}, "alias", {**ACCOUNT, "resync": "baseline"}, None)  # type: ignore[arg-type]
    assert told.events == []


def test_an_asset_that_cannot_be_told_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Everything was delivered by then."""
    tell({}, "alias", ACCOUNT, None)  # type: ignore[arg-type]
    assert "gets no asset event: KeyError" in caplog.text
