"""Runs of an operator without a scheduler, a database of Airflow or a DAG run."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from airflow_provider_iterable.runs import review
from airflow_provider_iterable.state import xcom

ALL_FIELDS = 8000
"""As many as Iterable lets a project have of any kind; a plan shows all of them in tests."""


@dataclass
class TaskInstance:
    """As much of a task instance as an operator asks for: XComs, by key."""

    run_id: str
    task: Any
    try_number: int = 1
    map_index: int = -1
    xcoms: dict[str, Any] = field(default_factory=dict)

    @property
    def task_id(self) -> str:
        """The task's name."""
        return str(self.task.task_id)

    @property
    def dag_id(self) -> str:
        """The DAG's name."""
        return str(self.task.dag_id)

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value as Airflow does, as JSON."""
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: Any = None, key: str = "return_value", **_: Any) -> Any:
        """Return a value of this run."""
        return self.xcoms.get(key)


@dataclass
class Runs:
    """Runs operators, one after another, as successive DAG runs do: XCom states and asset events are kept between them.

    What else a sync remembers is where its `state` says, so a table state needs its own connection in the test.
    """

    events: dict[Any, list[Any]] = field(default_factory=lambda: defaultdict(list), repr=False)
    number: int = 0

    def __call__(self, operator: Any, *, dry_run: bool | None = None, **context: Any) -> dict[str, Any]:
        """Render the templates of an operator, run it, and return its report; the operator itself stays as it is.

        :param dry_run: whether nothing is sent; as the operator says when not given
        :param context: members of the context beside ``run_id``, ``ds``, ``ts``, ``logical_date``, ``params``, ``dag``,
            ``task`` and ``ti``, or others in their place
        :raises AirflowException: as in Airflow
        """
        self.number += 1
        task = operator.prepare_for_execution()
        task.allow_nested_operators = True  # or Airflow refuses what no task runner has started
        known = self._context(task) | context
        task.render_template_fields(known)
        if dry_run is not None:
            task.dry_run = dry_run
        with (
            patch.object(xcom, "pull_from", lambda event: event.pushed),
            patch.object(review, "MOST_FIELDS", ALL_FIELDS),
        ):
            report: dict[str, Any] = task.execute(known)
        if not report["dry_run"]:
            self.events[task.asset].append(
                SimpleNamespace(
                    source_dag_id=task.dag_id,
                    source_task_id=task.task_id,
                    source_run_id=known["run_id"],
                    source_map_index=-1,
                    pushed=known["ti"].xcoms.get(xcom.XCOM_KEY),
                )
            )
        return report

    def _context(self, task: Any) -> dict[str, Any]:
        now, run_id = datetime.now(UTC), f"test-{self.number}"
        dag = task.get_dag() if hasattr(task, "get_dag") else task.dag
        params = {**(dag.params if dag is not None else {}), **task.params}
        return {
            "run_id": run_id,
            "ds": now.strftime("%Y-%m-%d"),
            "ds_nodash": now.strftime("%Y%m%d"),
            "ts": now.isoformat(),
            "logical_date": now,
            "data_interval_start": now,
            "data_interval_end": now,
            "params": params,
            "dag": dag,
            "dag_run": SimpleNamespace(run_id=run_id, conf={}, logical_date=now),
            "task": task,
            "ti": TaskInstance(run_id, task),
            "inlet_events": self.events,
            "outlet_events": defaultdict(lambda: SimpleNamespace(extra=None)),
        }
