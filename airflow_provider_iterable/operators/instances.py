"""What names a run and its plan: which part of the sync it is, what other runs get to know, what a plan is about."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.partitions import NEEDS_PARTITION, name_of, names_of, sync_ids_of
from airflow_provider_iterable.state.scope import Holder, Part
from airflow_provider_iterable.state.store import Store


def part_of(
    sync_id: str,
    partition: str | int | None,
    partitions: Sequence[str | int],
    mapped: int | None,
    repartition: bool,
    run_id: str,
    dry_run: bool,
) -> Part:
    """Return which part of a sync a run is about.

    :param mapped: the index of a mapped task; negative or ``None``: it is not mapped
    :raises ConfigurationError: it is not known, or is none of the partitions
    """
    if partition is None:
        if (-1 if mapped is None else mapped) >= 0:
            _check_own(sync_id, partitions)
        return Part(sync_id, repartition=repartition, run=run_id, dry=dry_run)
    name, names = name_of(partition), names_of(partitions)
    if name not in names:
        raise ConfigurationError(
            f"The partition {name!r} is none of partitions ({', '.join(names) or 'none'}). Nothing was read or "
            "sent. Leave partitions out where .expand(partition=[...]) names them, or name all of them."
        )
    return Part(sync_id, name, names, repartition, run_id, dry_run)


def _check_own(sync_id: str, mapped: Sequence[Any]) -> None:
    """Refuse a mapped task that is no partition, unless it is a sync of its own.

    :param mapped: what it was expanded over
    """
    try:
        if sync_id not in sync_ids_of(mapped):
            raise ConfigurationError(NEEDS_PARTITION)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} Nothing was read or sent.") from None


def at_once(task: BaseOperator, part: Part) -> int:
    """Return how many partitions may run at the same time, and so share Iterable's rate limits."""
    limits = (task.max_active_tis_per_dagrun, task.max_active_tis_per_dag) if part.name else ()
    return max(1, min([len(part.names), *(limit for limit in limits if limit is not None)]))


def holder_of(task_instance: Any, run_id: str, dag_id: str, task_id: str) -> Holder:
    """Return what names a run of a sync to others."""
    number, mapped = getattr(task_instance, "try_number", 1), getattr(task_instance, "map_index", -1)
    instance = json.dumps([dag_id, task_id, run_id, mapped])
    which = f" (map index {mapped})" if mapped >= 0 else ""
    return Holder(
        instance=hashlib.sha256(instance.encode()).hexdigest(),
        attempt=number,
        label=f"task {dag_id}.{task_id}{which}, run {run_id}, try {number}, on {socket.gethostname()}",
    )


def about_plan(hook: IterableHook, destination: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return what the hash of a plan covers of where it leads, and how.

    :param parameters: those that change what requests say or do, beside rows and target
    """
    where = {name: str(value) for name, value in destination.items()}
    host, match = where.pop("host"), where.pop("match", "")
    how = {**parameters, "project_type": hook.project_type, "update_only": hook.update_only}
    given = {name: value for name, value in how.items() if value is not None}
    return {"host": host, "target": _joined(where), "match": match, "options": _joined(given)}


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value}"
        for name, value in values.items()
    )


def about_state(store: Store, model_conn_id: str, identifying: Collection[int]) -> dict[str, Any]:
    """Return where a sync remembers, for whoever looks at a run later.

    :param model_conn_id: the connection of the model
    :param identifying: which parts of the key are identifiers of people
    """
    where, tables = {"store": type(store).__name__}, store.tables
    if tables is None:
        return where
    return {
        **where,
        "conn_id": tables.conn_id or model_conn_id,
        "schema": tables.schema,
        "audit": tables.audit,
        "identifying": sorted(identifying),
    }
