"""The metadata database of the tests' own Airflow, and DAG runs in it, on Airflow 2 and 3."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])


@cache
def migrate() -> None:
    """Create the database, once in a process."""
    from airflow.utils.db import initdb

    initdb()


@dataclass
class Dags:
    """A folder of DAG files that Airflow knows as its own."""

    folder: Path
    files: list[Path] = field(default_factory=list)

    def write(self, dag_id: str, source: str) -> Any:
        """Write a DAG file and return its DAG, named ``dag`` in the file."""
        path = self.folder / f"{dag_id}.py"
        path.write_text(source, "utf-8")
        self.files.append(path)
        spec = importlib.util.spec_from_file_location(f"dags_of_tests_{dag_id}", path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        # Its loader takes the bytecode of a source of the same length that was written in the same second.
        exec(compile(source, path, "exec"), module.__dict__)
        return module.dag


def run_dag(dag: Any, logical_date: datetime | None, run_after: datetime | None = None) -> Any:
    """Run a DAG with Airflow's own task runner, in this process, and return its run.

    :param logical_date: ``None`` only on Airflow 3, which then needs ``run_after``
    """
    if AIRFLOW >= (3, 0):
        return dag.test(logical_date=logical_date, run_after=run_after)
    assert logical_date is not None, "Airflow 2 has no runs without a logical date"
    prepare_2(dag)
    return dag.test(execution_date=logical_date)


def prepare_2(dag: Any) -> None:
    """Make a DAG's assets known, as Airflow 2's scheduler does when it has parsed the file."""
    from airflow.models.dagbag import DagBag

    bag: Any = DagBag(dag_folder="/dev/null", include_examples=False)  # type: ignore[call-arg, unused-ignore]
    bag.dags[dag.dag_id] = dag
    bag.sync_to_db()
