"""``python -m tests.ui.stage HOME PORT``: an Airflow with users and syncs that ran; serves until it is ended."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

USERS = {"viewer": "viewer", "stranger": "viewer"}
PASSWORD = "of the tests"
RUNNING = "example_iterable_privacy"
HOLDER = "run of yesterday, try 1"
"""What the sync of that Dag is held by."""


def prepare(home: Path, port: int, sandbox: str) -> None:
    """Set what this Airflow needs, before anything reads its settings."""
    from airflow_provider_iterable.demo import local_airflow

    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(dict.fromkeys(USERS, PASSWORD)))
    local_airflow.prepare(home, local_airflow.connections(home / "warehouse.db", sandbox, "email"))
    os.environ.update(
        AIRFLOW__API__BASE_URL=f"http://127.0.0.1:{port}",
        AIRFLOW__API_AUTH__JWT_SECRET="of the tests, and long enough for what signs with it, which counts bytes",
        AIRFLOW__CORE__AUTH_MANAGER="tests.ui.access.AuthManager",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=",".join(f"{name}:{role}" for name, role in USERS.items()),
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=str(passwords),
    )


def save(dags: dict[str, Any]) -> None:
    """Have Airflow know the Dags, as its processor does when it has parsed their files."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
    bag = DagBag(dag_folder="/dev/null")
    for dag in dags.values():
        bag.bag_dag(dag)
    sync_bag_to_db(bag, bundle_name="tests", bundle_version="1")


def let_run(dag_id: str) -> None:
    """Have the last run of a Dag look as if it were under way, with some rows settled."""
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        task = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == dag_id)).one()
        task.state, task.hostname = "running", "worker-7"
        counts = {"phase": "running", "to_send": 40, "accepted": 9, "rejected": 1, "updated_at": "2026-11-30T12:00:00Z"}
        session.scalars(
            select(TaskStateStoreModel).where(TaskStateStoreModel.dag_id == dag_id)
        ).one().value = json.dumps(counts)


def main() -> None:
    """Run some syncs, then serve."""
    home, port = Path(sys.argv[1]), int(sys.argv[2])
    from airflow_provider_iterable.demo.ui import play
    from airflow_provider_iterable.demo.warehouse import Warehouse
    from airflow_provider_iterable.sandbox import Sandbox

    with Sandbox("email") as sandbox:
        prepare(home, port, sandbox.url)
        from airflow_provider_iterable.demo.local_airflow import Airflow

        warehouse, airflow = Warehouse(home / "warehouse.db", 400), Airflow(home)
        save(airflow.dags)
        play(airflow, warehouse, sandbox)
        with closing(sqlite3.connect(warehouse.path)) as database:
            database.execute("DELETE FROM customers")  # which the sync takes for a mistake
            database.commit()
        assert airflow.run().state == "failed"
        with closing(sqlite3.connect(warehouse.path)) as database:
            lease = (f"{RUNNING}.forget_people", "a", "b", 1, HOLDER, 1 << 60)
            database.execute("INSERT INTO iterable_sync_lease VALUES (?, ?, ?, ?, ?, ?)", lease)
            database.commit()
        let_run(RUNNING)
        import uvicorn
        from airflow.api_fastapi.app import create_app

        uvicorn.run(create_app("core"), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
