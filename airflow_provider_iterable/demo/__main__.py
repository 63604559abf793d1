"""Runs the demo and prints what happens; exits with 1 when Iterable does not end up equal to the warehouse."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_provider_iterable.demo import local_airflow, telling
from airflow_provider_iterable.demo.check import Check, Finding
from airflow_provider_iterable.demo.choices import MERGES, Choices
from airflow_provider_iterable.demo.console import Console
from airflow_provider_iterable.demo.local_airflow import Airflow, Run
from airflow_provider_iterable.demo.others import Others, Step
from airflow_provider_iterable.demo.warehouse import FEWEST, Story, Warehouse
from airflow_provider_iterable.sandbox import Sandbox

LINES_SHOWN = 40
"""Lines of Airflow's output that are shown when something went wrong."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_iterable.demo",
        description="Syncs a SQLite warehouse with a local Iterable, by the example DAGs, in an Airflow of its own.",
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
    """Three scenes, printed as they happen: five runs of the users' DAG, and two times three rounds of others.

    :param sandbox: a serving sandbox
    :param warehouse: the model's database
    :param airflow: what runs the DAG
    """

    def __init__(self, console: Console, sandbox: Sandbox, warehouse: Warehouse, airflow: Airflow) -> None:
        self._console, self._sandbox, self._warehouse, self._airflow = console, sandbox, warehouse, airflow
        self._check = Check(sandbox.url)
        self._refused: list[str] = []
        self._rounds = self._runs = self._requests = self._rows = 0
        self.faults: list[str] = []
        """What was not as it should be."""

    def run(self) -> None:
        """Run all of it.

        :raises RunFailed: a run failed, and the demo ends early
        """
        self._run("First load", Story(["nothing is remembered yet, so every row is new"]))
        self._console.item("example", *self._example())
        self._run("An hour later", Story(["nothing changed"]), silent=True)
        spoilt = self._warehouse.change_some()
        self._run("A day later: changes, and bad data", spoilt)
        self._run("An hour later", Story(["nothing changed since, the bad data included"], spoilt.spoilt))
        self._run("After the repair", self._warehouse.mend())
        self._others()
        self._choices()
        self._conclude()

    def _others(self) -> None:
        """The second scene: what else there is, by the example DAGs of all operators."""
        others = Others(self._warehouse.path, self._sandbox.url)
        self._console.title("The second scene: the same shop, and all operators")
        self._console.item(
            "warehouse", "the customers as before, and what they do: visits, carts, orders; and products"
        )
        self._console.item("DAGs", f"{_files(others.steps)}; of the first, the task that changes addresses")
        self._scene("First load", others, others.happen())
        self._scene("A day later", others, others.go_on())
        self._scene("An hour later", others, ["nothing changed"], silent=True)

    def _choices(self) -> None:
        """The third scene: what cannot be taken back, or needs somebody's consent."""
        choices = Choices(self._warehouse.path, self._sandbox.url)
        self._console.title("The third scene: whom to write to, and who is one person")
        self._console.item("warehouse", "customers' choices, with their consent; and profiles to be merged")
        self._console.item("DAGs", _files(choices.steps))
        self._console.item(
            "Iterable", "merges by email address, as here, are not for user-ID-based projects: those merge by user ID"
        )
        self._scene("First load", choices, choices.happen())
        self._scene("A day later", choices, choices.go_on())
        self._scene("A chain of merges", choices, choices.chain(), silent=True, refused=MERGES)

    def _scene(
        self, title: str, others: Others | Choices, story: list[str], silent: bool = False, refused: str = ""
    ) -> None:
        """Run all DAGs of a scene once.

        :param silent: whether no request is to be made
        :param refused: the DAG whose run is to fail
        """
        console, started, quiet = self._console, time.monotonic(), []
        self._sandbox.service.calls.clear()  # the story may have made some
        self._rounds += 1
        console.title(f"{self._rounds}. {title}")
        console.item("warehouse", *story)
        for step in others.steps:
            reports, calls, failed = self._step(step, step.dag_id == refused)
            because = telling.reasons(reports)
            if step.dag_id == refused:
                console.item(step.label, *(failed or ["were not refused"]), *telling.requests(calls, "record"))
                self.faults += [] if failed else [f"{step.dag_id} was to be refused and was not"]
            elif calls or because:
                console.item(
                    step.label, telling.news(reports, step.about), *telling.requests(calls, "record"), *because
                )
            else:
                quiet.append(step.about)
            if silent and calls:
                self.faults.append(f"{step.dag_id} had nothing to say and made {len(calls)} requests")
        if quiet:
            console.item("no news", ", ".join(quiet))
        differences, compared = others.differences(self._check, self._warehouse.rows())
        console.item("time", f"{time.monotonic() - started:.1f} s with Airflow around it")
        if differences:
            console.item("checked", *differences, style="bad")
        else:
            console.item("checked", "Iterable equals the warehouse: " + ", ".join(compared), style="good")
        self.faults += differences

    def _step(self, step: Step, may_fail: bool) -> tuple[list[dict[str, Any]], list[tuple[str, int, int]], list[str]]:
        """Run a DAG of a later scene; return its reports, its calls, and what it said if it failed.

        :raises RunFailed: a run failed that was not to, and the demo ends early
        """
        run = self._airflow.run(step.dag_id, step.leave_out)
        if run.state != "success" and not may_fail:
            raise RunFailed(f"A run of {step.dag_id} ended as {run.state}.")
        return run.reports, self._account(run), [] if run.state == "success" else telling.refused(run.logged)

    def _example(self) -> list[str]:
        """Return one profile as Iterable has it."""
        return [
            json.dumps({"email": profile.email, "dataFields": profile.fields}, ensure_ascii=False)
            for profile in self._sandbox.project.profiles
            if "pets" in profile.fields
        ][:1]

    def _run(self, title: str, story: Story, silent: bool = False) -> None:
        console = self._console
        self._rounds += 1
        console.title(f"{self._rounds}. {title}")
        console.item("warehouse", *story.lines)
        run = self._airflow.run()
        if run.state != "success":
            raise RunFailed(f"Run {self._rounds} of the DAG ended as {run.state}.")
        calls = self._account(run)
        finding = self._check(self._warehouse.rows(), story.spoilt)
        self._tell_run(run, calls)
        self._tell_finding(finding, story)
        if silent and calls:
            self.faults.append(f"run {self._rounds} had nothing to say and made {len(calls)} requests")
        self.faults += finding.differences

    def _account(self, run: Run) -> list[tuple[str, int, int]]:
        """Count a run; return its calls from the log of the sandbox: method and path, status, records."""
        calls = [(f"{call.method} {call.template}", call.status, call.records) for call in self._sandbox.calls]
        self._sandbox.service.calls.clear()
        self._runs += 1
        self._requests += len(calls)
        self._rows += sum(report["read"] for report in run.reports)
        return calls

    def _tell_run(self, run: Run, calls: list[tuple[str, int, int]]) -> None:
        console, report = self._console, telling.summed(run.reports)
        invalid = f", {report['invalid']} invalid" if report["invalid"] else ""
        console.item(
            "rows",
            f"{report['read']:,} read: {report['added']:,} added, {report['changed']:,} changed, "
            f"{report['unchanged']:,} unchanged{invalid}; {report['removed']:,} gone",
        )
        console.item("requests", *telling.requests(calls))
        if report["rejected"]:
            console.item("refused", *self._new_refusals(f"{report['rejected']} rows", telling.refused(run.logged)))
        sync = sum(sum(report["seconds"].values()) for report in run.reports)
        once = ", which sets up its own API in its first run" if self._rounds == 1 else ""
        console.item("time", f"{sync:.1f} s in the sync, {run.seconds:.1f} s with Airflow around it{once}")
        if any(sign in run.output for sign in ("[error", "ERROR", "Traceback")):
            console.item("Airflow", *run.output.splitlines()[-LINES_SHOWN:], style="bad")

    def _new_refusals(self, rows: str, refused: list[str]) -> list[str]:
        """Return what was refused, unless it is what was refused before."""
        before, self._refused = self._refused, refused
        if refused == before:
            return [f"the same {rows} for the same reasons: what Iterable did not accept is tried again"]
        return [f"{rows}; the task's log says which and why:", *refused]

    def _tell_finding(self, finding: Finding, story: Story) -> None:
        if finding.differences:
            self._console.item("checked", *finding.differences[:5], style="bad")
            self._console.item("", f"{len(finding.differences):,} differences", style="bad")
            return
        kept = f"; the {finding.kept} whose rows were refused are as they were" if story.spoilt else ""
        self._console.item(
            "checked",
            f"Iterable holds {finding.users:,} users: {finding.equal:,} equal their row in every field{kept}",
            style="good",
        )

    def _conclude(self) -> None:
        console = self._console
        console.title("In the end" if not self.faults else "Something is wrong")
        if self.faults:
            for fault in self.faults[:10]:
                console.line(fault, "bad")
            return
        console.line("Iterable equals the warehouse. Both sides were read without the provider.", "good")
        dags = len({step.dag_id for step in (*Others.steps, *Choices.steps)})
        console.line(f"{self._runs} runs of {dags} DAGs read {self._rows:,} rows and made {self._requests} requests.")
        console.line("The DAGs are in example_dags; README.md says how to point one at your own warehouse and project.")


def _files(steps: Sequence[Step]) -> str:
    return ", ".join(step.dag_id.removeprefix("example_iterable_") + ".py" for step in steps)


def run_demo(given: argparse.Namespace, home: Path) -> int:
    """Prepare the warehouse, the sandbox and Airflow, run the demo, and return the exit code."""
    console = Console()
    console.title("Reverse ETL from a warehouse to Iterable, on this machine only")
    warehouse = Warehouse(home / "warehouse.db", given.users)
    with Sandbox(given.project_type) as sandbox:
        console.item("warehouse", f"SQLite, {given.users:,} customers with addresses and pets")
        console.item("Iterable", f"a local sandbox at {sandbox.url}, {given.project_type} project")
        console.item("DAG", "example_dags/users.py: one IterableUserSyncOperator; the others come in the second scene")
        console.begin("Airflow", "starts in this process, which takes the most time here ... ")
        started = time.monotonic()
        local_airflow.prepare(home, local_airflow.connections(warehouse.path, sandbox.url, given.project_type))
        airflow = Airflow(home)
        console.end(f"{airflow.version}, {time.monotonic() - started:.1f} s")
        demo = Demo(console, sandbox, warehouse, airflow)
        demo.run()
    return 1 if demo.faults else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo in a temporary folder, which is removed."""
    given = arguments(argv)
    with tempfile.TemporaryDirectory(prefix="iterable-demo-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        try:
            return run_demo(given, home)
        except KeyboardInterrupt:
            print("\nInterrupted.", file=sys.stderr)
            return 130
        except RunFailed as error:
            return _report_failure(str(error), home)
        except Exception:
            return _report_failure(traceback.format_exc(), home)


def _report_failure(message: str, home: Path) -> int:
    """Print what went wrong, with Airflow's last output; return the exit code."""
    log = home / local_airflow.OUTPUT
    said = log.read_text("utf-8", "replace").splitlines()[-LINES_SHOWN:] if log.exists() else []
    print("\n".join(("", message, *(["What Airflow printed last:", *said] if said else []))), file=sys.stderr)
    return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Airflow's threads and modules take seconds to wind down, and there is nothing left to save.
    os._exit(code)
