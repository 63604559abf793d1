"""Runs a DAG in this process, with an Airflow of its own in a temporary folder."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

DAG_ID = "example_iterable_users"
LOGGER = "airflow_provider_iterable.operators.summary"
"""Where the operator logs what it did."""
OUTPUT = "output.log"
"""The file, in Airflow's home, that gets what Airflow prints."""


def example_dags() -> Path:
    """Return the folder of the example DAGs: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "example_dags", package.parent / "example_dags")
    return next(place for place in places if (place / "users.py").exists())


def connections(warehouse: Path, url: str, project_type: str) -> dict[str, dict[str, Any]]:
    """Return the connections that the example DAGs need: a warehouse in a SQLite file, and a local Iterable."""
    return {
        "warehouse": {"conn_type": "sqlite", "host": str(warehouse)},
        "iterable_default": {
            "conn_type": "iterable",
            "host": url,
            "password": "any-key-will-do-here",
            "extra": {"project_type": project_type, "shared_pace": False},  # nothing is left on this machine
        },
    }


def prepare(home: Path, connections: Mapping[str, Mapping[str, Any]]) -> None:
    """Set the environment variables of a separate Airflow; to be called before anything imports Airflow."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(example_dags()),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__UNIT_TEST_MODE="False",
        AIRFLOW__API_AUTH__JWT_SECRET="of the demo, which serves nobody",
        AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS="False",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(home / "logs"),
        AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
        AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
        NO_COLOR="1",
    )
    for name, connection in connections.items():
        os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)


@dataclass
class Run:
    """One run of a DAG: its state, the reports that its operators returned, and what they logged."""

    state: str
    reports: list[dict[str, Any]]
    logged: list[str]
    seconds: float
    output: str = ""
    """What Airflow printed meanwhile."""


class _Listener(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        self.lines += record.getMessage().splitlines()


class Airflow:
    """Airflow in this process, quiet: what it prints goes into a file.

    :param home: where its files go; the same as for :func:`prepare`
    """

    def __init__(self, home: Path) -> None:
        self._log = home / OUTPUT
        with _quiet(self._log):
            from airflow import __version__
            from airflow.utils.db import initdb

            initdb()
            self.dags = _load()
        self.version = __version__

    def run(self, dag_id: str = DAG_ID, leave_out: str | None = None) -> Run:
        """Run an example DAG once, as ``airflow dags test`` does.

        :param leave_out: a pattern of tasks that are marked as done instead of being run
        """
        started, listener = time.monotonic(), _Listener()
        logger = logging.getLogger(LOGGER)
        logger.addHandler(listener)
        before = self._log.stat().st_size
        try:
            with _quiet(self._log):
                dag_run = self.dags[dag_id].test(mark_success_pattern=leave_out)
        finally:
            logger.removeHandler(listener)
        returned = [task.xcom_pull(task_ids=task.task_id) for task in dag_run.get_task_instances()]
        reports = [report for report in returned if isinstance(report, dict)]
        seconds = time.monotonic() - started
        return Run(str(dag_run.state), reports, listener.lines, seconds, self._log.read_text("utf-8")[before:])


def _load() -> dict[str, Any]:
    try:
        module = import_module("airflow.dag_processing.dagbag")
    except ImportError:  # Airflow 2
        module = import_module("airflow.models.dagbag")
    bag = module.DagBag(str(example_dags()))
    if bag.import_errors:
        raise RuntimeError("\n".join(map(str, bag.import_errors.values())))
    for dag in bag.dags.values():
        for task in dag.tasks:
            task.retries = 0  # a retry would start after minutes, with nothing on the screen meanwhile
    return dict(bag.dags)


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send all that is printed, by whatever library and on whatever level, into a file."""
    streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for number in (1, 2):
            os.dup2(file, number)
        yield
    finally:
        for stream in streams:
            stream.flush()
        for number, was in zip((1, 2), kept, strict=True):
            os.dup2(was, number)
            os.close(was)
        os.close(file)
