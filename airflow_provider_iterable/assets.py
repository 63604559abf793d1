"""What Iterable keeps, as Airflow's assets and OpenLineage's datasets; Airflow reads it with DAG files.

There are two kinds of URI. ``iterable://<sync type>/<sync_id>`` is a sync itself: its events are the history of its
runs, and the way to its state in XCom. ``iterable://<host>/users``, ``/events/<name>``, ``/lists/<name>``,
``/catalogs/<name>`` and ``/subscriptions/<type>`` are what syncs write into, whichever of them does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from airflow_provider_iterable.masking import logger

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

__all__ = ["create_asset"]

log = logger(__name__)

GROUP = "iterable"
HOST = "api.iterable.com"
"""The host of projects in the United States; those in the EU have ``api.eu.iterable.com``."""
_HOST = re.compile(r"localhost|.*[.:\[].*").fullmatch
"""Told from the type of a sync by a dot or a port."""
_TRACKED = {"purchase": "purchase", "cart": "updateCart"}
"""As which event Iterable tracks what is no custom event."""
_COUNTS = ("added", "changed", "removed", "accepted", "rejected", "skipped", "deferred")


def create_asset(target: str, *, host: str = HOST, extra: dict[str, Any] | None = None) -> Asset:
    """Return what syncs write into, as an asset that DAGs can be scheduled on.

    :param target: ``users``, ``events/<name>``, ``lists/<name or ID>``, ``catalogs/<name>`` or
        ``subscriptions/<type>``, with the name as it is at Iterable; ``events`` is what a sync tracks whose names are
        in a column
    :param host: the host of the connection: ``api.iterable.com``, ``api.eu.iterable.com``, or an override with its port
    :param extra: what the asset says about itself
    :raises ValueError: there is no such target
    """
    kind, _, name = target.partition("/")
    uri = sanitize_uri(SplitResult("iterable", host, f"/{kind}/{quote(name, safe='')}", "", ""))
    if not _HOST(host):
        raise ValueError(f"{host!r} is not a host that an asset can name: it needs a dot or a port")
    return _asset(urlunsplit(uri), extra)  # normalized before Airflow does it, which would keep the name as it was


def sync_asset(sync_type: str, sync_id: str) -> Asset:
    """Return the asset of a sync itself."""
    return _asset(f"iterable://{sync_type}/{sync_id}")


def target_alias(sync_type: str, sync_id: str) -> AssetAlias:
    """Return the stand-in for what a sync writes into, which is known once its connection can be read."""
    from airflow.providers.common.compat.sdk import AssetAlias

    return AssetAlias(f"iterable-target://{sync_type}/{sync_id}", **_group())


def target_of(destination: Mapping[str, Any], event_name: str | None) -> str:
    """Return what a sync writes into, as :func:`create_asset` takes it.

    :param destination: what its report says about that
    :param event_name: the name of all its events; ``None``: they are in a column
    """
    match destination.get("type"):
        case "events":
            name = _TRACKED.get(str(destination.get("event_type")), event_name)
            return f"events/{name}" if name else "events"
        case "lists":
            return f"lists/{destination['list']}"
        case "catalogs":
            return f"catalogs/{destination['catalog']}"
        case "subscriptions":
            return f"subscriptions/{destination['group']}"
    return "users"


def host_of(destination: Mapping[str, Any]) -> str:
    """Return the host, with its port, that a sync writes to."""
    return urlsplit(str(destination["host"])).netloc.lower()


def tell(outlet_events: Any, alias: AssetAlias, account: Mapping[str, Any], event_name: str | None) -> None:
    """Have Airflow note that a sync has written into its target, unless nothing can have been sent.

    :param account: the report of the run
    """
    if account["resync"] == "baseline":
        return
    said = {"sync_id": account["sync_id"], **{name: account[name] for name in _COUNTS}}
    try:
        asset = create_asset(target_of(account["destination"], event_name), host=host_of(account["destination"]))
        outlet_events[alias].add(asset, extra=said)
    except Exception as failed:  # everything is delivered and remembered
        log.warning("What the sync wrote into gets no asset event: %s", type(failed).__name__)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return a URI as it is compared with others; those of syncs stay as they are, for states are found by them.

    :raises ValueError: it names nothing that Iterable keeps
    """
    if not uri.netloc:
        raise ValueError("URI format iterable:// must contain a host, as in iterable://api.iterable.com/users")
    if not _HOST(uri.netloc):
        return uri
    kind, _, rest = uri.path.strip("/").partition("/")
    name = unquote(rest)
    named = {"users": not name, "events": True} | dict.fromkeys(("lists", "catalogs", "subscriptions"), bool(name))
    if "@" in uri.netloc or uri.query or not named.get(kind):
        raise ValueError(
            "URI format iterable:// must name /users, /events/<name>, /lists/<name>, /catalogs/<name> or "
            "/subscriptions/<type> of a host, without user or query"
        )
    if kind == "catalogs":
        name = name.lower()  # upper and lower case are one catalog
    path = f"/{kind}" + (f"/{quote(name, safe='')}" if name else "")
    return uri._replace(netloc=uri.netloc.lower().removesuffix(":443"), path=path)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset | None:
    """Return what is written into as a dataset; ``None`` for a sync, which holds no data."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = urlsplit(asset.uri)
    if not _HOST(uri.netloc):
        return None
    return Dataset(namespace=f"iterable://{uri.netloc}", name=unquote(uri.path.strip("/")))


def _asset(uri: str, extra: dict[str, Any] | None = None) -> Asset:
    from airflow.providers.common.compat.sdk import Asset

    given: dict[str, Any] = {} if extra is None else {"extra": extra}
    return Asset(uri=uri, **given, **_group())


def _group() -> dict[str, Any]:
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

    return {"group": GROUP} if AIRFLOW_V_3_0_PLUS else {}  # Airflow 2 has none
