"""The approval example in an Airflow of its own, with a person who answers through the REST API as the UI does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from airflow_provider_iterable.sandbox import Sandbox
from tests.airflow_db import AIRFLOW
from tests.executors import Stage, stage, unscheduled

DAG = "example_iterable_approval"
CUSTOMERS = 30


class Person:
    """Somebody who looks at the Airflow UI: it shows what its API answers."""

    def __init__(self, at: Stage) -> None:
        self.at, self.url = at, f"http://127.0.0.1:{at.port}"
        self.token = self.ask("GET", "/auth/token")["access_token"]

    def ask(self, method: str, path: str, **given: Any) -> Any:
        """Send a request and return the answer."""
        headers = {"Content-Type": "application/json"}
        if path != "/auth/token":
            headers["Authorization"] = f"Bearer {self.token}"
        body = json.dumps(given).encode() if given else None
        with urlopen(Request(self.url + path, body, headers, method=method), timeout=60) as answer:
            return json.load(answer)

    def start(self) -> str:
        """Start a run, and return its ID."""
        run = self.ask("POST", f"/api/v2/dags/{DAG}/dagRuns", logical_date=None, conf={})
        return f"/api/v2/dags/{DAG}/dagRuns/{run['dag_run_id']}"

    def asked(self, run: str) -> dict[str, Any]:
        """Wait until the run asks for an answer, and return what it shows.

        An answer within the moment before the scheduler has seen that the asking process is gone makes Airflow 3.3 take
        the task for lost, and try it again after its delay. No person is that quick.
        """
        key = f"TaskInstanceKey(dag_id='{DAG}', task_id='approve', run_id='{run.rpartition('/')[2]}'"

        def is_gone() -> bool:
            lines = (self.at.folder / "scheduler.log").read_text("utf-8").splitlines()
            return any("Received executor event with state success" in line and key in line for line in lines)

        def waits() -> bool:
            states = self.states(run)
            assert "failed" not in states.values(), self.log("plan")
            return states["approve"] == "awaiting_input" and is_gone()

        self.at.until("the question", waits)
        found: dict[str, Any] = self.ask("GET", f"{run}/taskInstances/approve/-1/hitlDetails")
        return found

    def answer(self, run: str, option: str) -> dict[str, str]:
        """Answer, wait for the end of the run, and return the states of its tasks."""
        self.ask("PATCH", f"{run}/taskInstances/approve/-1/hitlDetails", chosen_options=[option], params_input={})
        return self.end(run)

    def end(self, run: str) -> dict[str, str]:
        """Wait for the end of a run."""
        self.at.until("the end of the run", lambda: self.ask("GET", run)["state"] in ("success", "failed"))
        return self.states(run)

    def states(self, run: str) -> dict[str, str]:
        """Return the states of all tasks of a run."""
        return {task["task_id"]: task["state"] for task in self.ask("GET", f"{run}/taskInstances")["task_instances"]}

    def log(self, task: str) -> str:
        """Return what a task has logged in all runs."""
        logs = sorted(Path(self.at.folder / "logs").glob(f"**/task_id={task}/*.log"))
        return "\n".join(path.read_text("utf-8") for path in logs)


def people(sandbox: Sandbox) -> dict[str, Any]:
    """Return the first names at Iterable, by address."""
    return {user["email"]: user["dataFields"]["firstName"] for user in sandbox.users}


@pytest.mark.slow
@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow of before 3.3 is started in another way")
def test_nothing_is_sent_that_nobody_approved() -> None:
    """A plan that is rejected sends nothing, nor does one that is void by then; the one that is approved sends all."""
    with stage("local", CUSTOMERS, "approval.py", unscheduled("approval.py")) as at:
        at.change(
            "ALTER TABLE customers ADD birth_date date DEFAULT '1990-05-31', ADD signed_up_at timestamp, "
            "ADD last_order_at timestamp, ADD lifetime_value float, ADD pets text"
        )
        at.change("CREATE TABLE addresses (customer_id int, street text, city text, postal_code text, country text)")
        at.until("the DAG", lambda: at.ask("SELECT count(*) FROM dag_version") == [(1,)])
        person = Person(at)

        def sent() -> list[str]:
            return [call.template or "" for call in at.sandbox.calls if call.method != "GET"]

        # Rejected.
        run = person.start()
        shown = person.asked(run)
        assert shown["options"] == ["Approve", "Reject"]
        assert shown["subject"] == f"Users to Iterable: upsert users {CUSTOMERS}, in 0.2 s"
        assert "| `birthDate`  | `birth_date`  | **new: date**" in shown["body"]
        assert "`0000-00-00`" in shown["body"]
        assert sent() == []
        states = person.answer(run, "Reject")
        assert (states["approve"], states["apply"]) == ("success", "skipped")
        assert (sent(), at.sandbox.users) == ([], [])

        # Approved, but no longer what was shown.
        run = person.start()
        person.asked(run)
        at.change("UPDATE customers SET first_name = 'New' WHERE id = 1")
        assert person.answer(run, "Approve")["apply"] == "failed"
        assert "The plan changed since it was approved; what differs: the rows and what is sent" in person.log("apply")
        assert (sent(), at.sandbox.users) == ([], [])

        # Approved.
        run = person.start()
        shown = person.asked(run)
        assert (sent(), at.sandbox.users) == ([], [])
        states = person.answer(run, "Approve")
        assert set(states.values()) == {"success"}, person.log("apply")
        assert people(at.sandbox) == dict(at.change("SELECT email, first_name FROM customers"))
        assert sent() == ["/api/users/bulkUpdate"]

        # Nothing to do: nobody is asked.
        states = person.end(person.start())
        assert (states["plan"], states["approve"], states["apply"]) == ("success", "skipped", "skipped")
        assert sent() == ["/api/users/bulkUpdate"]

        # What is shown names nobody.
        for word in ("customer1", "First 1", "example.com"):
            assert word not in shown["subject"] + shown["body"] + person.log("plan")
