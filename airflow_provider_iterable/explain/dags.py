"""Loads a task of a DAG and renders its templates, as ``airflow tasks render`` does; runs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import signature
from types import SimpleNamespace
from typing import Any

from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.state.xcom import EVENTS_LOOKED_AT, XCOM_KEY


class NoSuchTask(Exception):
    """The DAG or the task cannot be had, or is no sync; the message says why."""


def rendered(
    dag_id: str, task_id: str, map_index: int, run: str | None, folder: str | None
) -> tuple[IterableModelOperator, Mapping[str, Any]]:
    """Return a task with its templates rendered, and the context of its run.

    :param map_index: of a mapped task; -1: it is not mapped
    :param run: a logical date or a run ID; ``None``: now, of a run that is in memory only
    :param folder: where the DAGs are; ``None``: the configured folder
    :raises NoSuchTask: there is none, or it does not parse, or is no sync
    """
    # As Airflow's own commands do: connections are in its database, too.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    dag = _dag(dag_id, folder)
    if task_id not in dag.task_dict:
        raise NoSuchTask(f"The DAG {dag_id} has no task {task_id}. Its tasks: {', '.join(sorted(dag.task_dict))}.")
    try:
        task, context = _render(dag, dag.task_dict[task_id], map_index, run)
    except Exception as error:  # whatever a template or Airflow raises
        raise NoSuchTask(
            f"The templates of task {dag_id}.{task_id} could not be rendered: {type(error).__name__}: {error}. A "
            "mapped task takes --map-index; a template that needs a run that was takes --run-date."
        ) from None
    if not isinstance(task, IterableModelOperator):
        raise NoSuchTask(f"The task {dag_id}.{task_id} is no sync ({type(task).__name__}).")
    # Into the context itself: Airflow 2's warns of each deprecated name that a copy of it would read.
    context["run_id"], context["inlet_events"] = context.get("run_id") or "next", _Events()
    return task, context


def _dag(dag_id: str, folder: str | None) -> Any:
    from airflow import settings

    try:
        bags = import_module("airflow.dag_processing.dagbag")
    except ImportError:  # Airflow 2, and 3 before 3.2
        bags = import_module("airflow.models.dagbag")
    options = {"include_examples": False} if "include_examples" in signature(bags.DagBag.__init__).parameters else {}
    bag = bags.DagBag(folder or settings.DAGS_FOLDER, **options)
    if dag_id not in bag.dags:
        broken = ", ".join(sorted(bag.import_errors))
        raise NoSuchTask(
            f"There is no DAG {dag_id} in {folder or settings.DAGS_FOLDER}"
            + (f"; these files do not parse: {broken}." if broken else ". --dags names another folder or file.")
        )
    return bag.dags[dag_id]


def _render(dag: Any, task: Any, map_index: int, run: str | None) -> tuple[Any, Any]:
    """Render with what Airflow's command of that name uses, which differs between Airflow 2 and 3."""
    commands = import_module("airflow.cli.commands.task_command")
    name = next(name for name in ("logical_date_or_run_id", "exec_date_or_run_id") if _takes(commands._get_ti, name))
    if name == "exec_date_or_run_id":
        instance, _ = commands._get_ti(task, map_index, exec_date_or_run_id=run, create_if_necessary="memory")
        context = instance.get_template_context()
    else:
        serialized = _serialized(dag).get_task(task_id=task.task_id)
        instance, _ = commands._get_ti(serialized, map_index, logical_date_or_run_id=run, create_if_necessary="memory")
        instance.dag_run.run_id = instance.run_id = instance.run_id or "next"
        context = commands._get_template_context(instance, task)
    task.render_template_fields(context)
    return context["task"], context


def _serialized(dag: Any) -> Any:
    """Return a DAG as Airflow 3's scheduler knows it."""
    module = import_module("airflow.serialization.serialized_objects")
    serialization = getattr(module, "DagSerialization", None) or module.SerializedDAG
    return serialization.from_dict(serialization.to_dict(dag))


def _takes(function: Any, parameter: str) -> bool:
    return parameter in signature(function).parameters


class _Events(dict[Any, Any]):
    """The events of an asset, the newest last, read from Airflow's database when they are asked for."""

    def __missing__(self, asset: Any) -> list[Any]:
        return list(_events(asset.uri))[::-1]


def _events(uri: str) -> Iterator[Any]:
    """Yield the events of an asset from Airflow's database, the newest first."""
    from airflow.utils.session import create_session
    from sqlalchemy import select

    try:
        module = import_module("airflow.models.asset")
        event, asset, key = module.AssetEvent, module.AssetModel, "asset_id"
    except ImportError:  # Airflow 2
        module = import_module("airflow.models.dataset")
        event, asset, key = module.DatasetEvent, module.DatasetModel, "dataset_id"
    query = (
        select(event).join(asset, asset.id == getattr(event, key)).where(asset.uri == uri)
        .order_by(event.timestamp.desc(), event.id.desc()).limit(EVENTS_LOOKED_AT)
    )  # fmt: skip
    with create_session() as session:
        for found in session.scalars(query):
            yield SimpleNamespace(
                source_run_id=found.source_run_id,
                source_dag_id=found.source_dag_id,
                source_task_id=found.source_task_id,
                source_map_index=found.source_map_index,
            )


def pull(event: Any) -> Any:
    """Return the state that the run of an asset event pushed, from Airflow's database."""
    from airflow.utils.session import create_session
    from sqlalchemy import select

    module = import_module("airflow.models.xcom")
    model = getattr(module, "XComModel", None) or module.XCom
    # The column alone: Airflow 2 decodes a row that it loads, and would write that back when the session ends.
    query = select(model.value).where(
        model.run_id == event.source_run_id,
        model.dag_id == event.source_dag_id,
        model.task_id == event.source_task_id,
        model.map_index == event.source_map_index,
        model.key == XCOM_KEY,
    )
    with create_session() as session:
        found = session.execute(query).first()
        if found is None:
            return None
        # Airflow 3 keeps a text as it was pushed; Airflow 2 keeps its JSON, as bytes.
        return found.value if model.__name__ == "XComModel" else model.deserialize_value(found)
