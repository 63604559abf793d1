"""Knows the story of the demo and tells it; exits with 1 when Iterable does not end up equal to the warehouse."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_provider_iterable.demo import local_airflow
from airflow_provider_iterable.demo.check import Check, Finding
from airflow_provider_iterable.demo.local_airflow import Airflow, Run
from airflow_provider_iterable.demo.others import DAGS, Others
from airflow_provider_iterable.demo.paper import Paper
from airflow_provider_iterable.demo.warehouse import FEWEST, Story, Warehouse
from airflow_provider_iterable.sandbox import Sandbox

TELLING_LINES = 40
"""Lines of Airflow's output that are shown when something went wrong."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_iterable.demo",
        description="Syncs a SQLite warehouse with a local Iterable, by the example DAG, in an Airflow of its own.",
    )
    parser.add_argument("--users", type=int, default=10_000, metavar="N", help="customers (default: %(default)s)")
    parser.add_argument("--project-type", choices=("email", "hybrid"), default="email", help="default: %(default)s")
    given = parser.parse_args(argv)
    if given.users < FEWEST:
        parser.error(f"--users: at least {FEWEST}")
    return given


class RunFailed(Exception):
    """A run of the DAG did not succeed."""


class Demo:
    """Five runs of the example DAG, told as they happen.

    :param sandbox: a serving sandbox
    :param warehouse: the model's database
    :param airflow: what runs the DAG
    """

    def __init__(self, paper: Paper, sandbox: Sandbox, warehouse: Warehouse, airflow: Airflow) -> None:
        self._paper, self._sandbox, self._warehouse, self._airflow = paper, sandbox, warehouse, airflow
        self._check = Check(sandbox.url)
        self._refused: list[str] = []
        self._runs = self._records = self._requests = self._rows = 0
        self.faults: list[str] = []
        """What was not as it should be."""

    def tell(self) -> None:
        """Run after run.

        :raises RunFailed: the story ends early
        """
        self._run("First load", Story(["nothing is remembered yet, so every row is new"]))
        self._paper.item("example", self._example())
        self._run("An hour later", Story(["nothing changed"]), silent=True)
        spoilt = self._warehouse.live_a_little()
        self._run("A day later: changes, and bad data", spoilt)
        self._run("An hour later", Story(["nothing changed since, the bad data included"], spoilt.spoilt))
        last = self._run("After the repair", self._warehouse.mend())
        self._others()
        self._conclude(last)

    def _others(self) -> None:
        """The second scene: what else there is, by the other operators' example DAGs."""
        others = Others(self._warehouse.path, self._sandbox.url)
        self._scene("6. The other operators: first load", others, others.happen())
        self._scene("7. A day later", others, others.go_on())
        self._scene("8. An hour later", others, ["nothing changed"], silent=True)

    def _scene(self, title: str, others: Others, story: list[str], silent: bool = False) -> None:
        paper, started = self._paper, time.monotonic()
        paper.title(title)
        paper.item("warehouse", *story)
        for dag_id, about in DAGS.items():
            run = self._airflow.run(dag_id)
            if run.state != "success":
                raise RunFailed(f"A run of {dag_id} ended as {run.state}.")
            calls = [(f"{call.method} {call.template}", call.status, call.records) for call in self._sandbox.calls]
            self._sandbox.service.calls.clear()
            paper.item(dag_id.removeprefix("example_iterable_"), about, *_requests(calls, "records"))
            self._requests += len(calls)
            if silent and calls:
                self.faults.append(f"{dag_id} had nothing to say and made {len(calls)} requests")
        differences, compared = others.differences()
        self._sandbox.service.calls.clear()  # the comparison asks whom Iterable has forgotten
        paper.item("time", f"{time.monotonic() - started:.1f} s with Airflow around it")
        paper.item("checked", *(differences or [f"equal to the warehouse: {compared}"]),
                   style="bad" if differences else "good")  # fmt: skip
        self.faults += differences

    def _example(self) -> str:
        """Return one profile as Iterable has it."""
        profile = next(profile for profile in self._sandbox.project.profiles if "pets" in profile.fields)
        return json.dumps({"email": profile.email, "dataFields": profile.fields}, ensure_ascii=False)

    def _run(self, title: str, story: Story, silent: bool = False) -> Finding:
        paper = self._paper
        self._runs += 1
        paper.title(f"{self._runs}. {title}")
        paper.item("warehouse", *story.lines)
        run = self._airflow.run()
        if run.state != "success":
            raise RunFailed(f"Run {self._runs} of the DAG ended as {run.state}.")
        calls = [(f"{call.method} {call.template}", call.status, call.records) for call in self._sandbox.calls]
        self._sandbox.service.calls.clear()
        finding = self._check(self._warehouse.rows(), story.spoilt)
        self._tell_run(run, calls)
        self._tell_finding(finding, story)
        self._records += sum(records or path.startswith("DELETE") for path, status, records in calls if status == 200)
        self._requests += len(calls)
        self._rows += run.report.get("read", 0)
        if silent and calls:
            self.faults.append(f"run {self._runs} had nothing to say and made {len(calls)} requests")
        self.faults += finding.differences
        return finding

    def _tell_run(self, run: Run, calls: list[tuple[str, int, int]]) -> None:
        paper, report = self._paper, Counter[str]()
        report.update({name: value for name, value in run.report.items() if isinstance(value, int)})
        invalid = f", {report['invalid']} invalid" if report["invalid"] else ""
        paper.item(
            "rows",
            f"{report['read']:,} read: {report['added']:,} added, {report['changed']:,} changed, "
            f"{report['unchanged']:,} unchanged{invalid}; {report['removed']:,} gone",
        )
        paper.item("requests", *_requests(calls))
        if report["rejected"]:
            paper.item("refused", *self._told(f"{report['rejected']} rows", _refused(run.logged)))
        sync = sum(run.report.get("seconds", {}).values())
        once = ", which sets up its own API in its first run" if self._runs == 1 else ""
        paper.item("time", f"{sync:.1f} s in the sync, {run.seconds:.1f} s with Airflow around it{once}")
        if any(sign in run.output for sign in ("[error", "ERROR", "Traceback")):
            paper.item("Airflow", *run.output.splitlines()[-TELLING_LINES:], style="bad")

    def _told(self, rows: str, refused: list[str]) -> list[str]:
        """Return what was refused, unless it is what was refused before."""
        before, self._refused = self._refused, refused
        if refused == before:
            return [f"the same {rows} for the same reasons: what Iterable did not accept is tried again"]
        return [f"{rows}; the task's log says which and why:", *refused]

    def _tell_finding(self, finding: Finding, story: Story) -> None:
        if finding.differences:
            self._paper.item("checked", *finding.differences[:5], style="bad")
            self._paper.item("", f"{len(finding.differences):,} differences", style="bad")
            return
        kept = f"; the {finding.kept} whose rows were refused are as they were" if story.spoilt else ""
        self._paper.item(
            "checked",
            f"Iterable holds {finding.users:,} users: {finding.equal:,} equal their row in every field{kept}",
            style="good",
        )

    def _conclude(self, finding: Finding) -> None:
        paper = self._paper
        paper.title("In the end" if not self.faults else "Something is wrong")
        if self.faults:
            for fault in self.faults[:10]:
                paper.line(fault, "bad")
            return
        paper.line(
            f"Iterable equals the warehouse: {finding.users:,} users and {finding.fields:,} values were compared, "
            "read from both sides without the provider.",
            "good",
        )
        paper.line(
            f"{self._runs} runs read {self._rows:,} rows, made {self._requests} requests, and wrote or deleted "
            f"{self._records:,} users."
        )
        paper.line("The DAGs are in example_dags; README.md says how to point one at your own warehouse and project.")


def _requests(calls: list[tuple[str, int, int]], noun: str = "users") -> list[str]:
    """Return one line per endpoint, as the sandbox saw it."""
    if not calls:
        return ["none"]
    counts: Counter[tuple[str, int]] = Counter()
    records: Counter[tuple[str, int]] = Counter()
    for path, status, number in calls:
        counts[path, status] += 1
        records[path, status] += number
    return [
        f"{count:>3} {path} -> {status}" + _about(path, records[path, status], noun)
        for (path, status), count in counts.items()
    ]


def _about(path: str, records: int, noun: str) -> str:
    if path.endswith("getFields"):
        return " (field types, to check values before sending)"
    return f" ({records:,} {noun})" if records else ""


def _refused(logged: list[str]) -> list[str]:
    """Return the part of the operator's summary that names rows; it comes after the times, and is indented."""
    start = next((number for number, line in enumerate(logged) if line.startswith("  time ")), len(logged))
    return [line for line in logged[start + 1 :] if not line.startswith("  note ")]


def _connections(warehouse: Warehouse, sandbox: Sandbox, project_type: str) -> dict[str, dict[str, Any]]:
    return {
        "warehouse": {"conn_type": "sqlite", "host": str(warehouse.path)},
        "iterable_default": {
            "conn_type": "iterable",
            "host": sandbox.url,
            "password": "any-key-will-do-here",
            "extra": {"project_type": project_type},
        },
    }


def play(given: argparse.Namespace, home: Path) -> int:
    """Set the stage, tell the story, and say how it ended."""
    paper = Paper()
    paper.title("Reverse ETL from a warehouse to Iterable, on this machine only")
    warehouse = Warehouse(home / "warehouse.db", given.users)
    with Sandbox(given.project_type) as sandbox:
        paper.item("warehouse", f"SQLite, {given.users:,} customers with addresses and pets")
        paper.item("Iterable", f"a local sandbox at {sandbox.url}, {given.project_type} project")
        paper.item("DAG", "example_dags/users.py: one IterableUserSyncOperator")
        paper.begin("Airflow", "starts in this process, which takes the most time here ... ")
        started = time.monotonic()
        local_airflow.prepare(home, _connections(warehouse, sandbox, given.project_type))
        airflow = Airflow(home)
        paper.end(f"{airflow.version}, {time.monotonic() - started:.1f} s")
        demo = Demo(paper, sandbox, warehouse, airflow)
        demo.tell()
    return 1 if demo.faults else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Play in a temporary folder, which is removed."""
    given = arguments(argv)
    with tempfile.TemporaryDirectory(prefix="iterable-demo-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        try:
            return play(given, home)
        except KeyboardInterrupt:
            print("\nInterrupted.", file=sys.stderr)
            return 130
        except RunFailed as error:
            return _excuse(str(error), home)
        except Exception:
            return _excuse(traceback.format_exc(), home)


def _excuse(message: str, home: Path) -> int:
    """Say what went wrong, with what Airflow printed last."""
    log = home / local_airflow.OUTPUT
    said = log.read_text("utf-8", "replace").splitlines()[-TELLING_LINES:] if log.exists() else []
    print("\n".join(("", message, *(["What Airflow printed last:", *said] if said else []))), file=sys.stderr)
    return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Airflow's threads and modules take seconds to wind down, and there is nothing left to save.
    os._exit(code)
