"""What the benchmarks share: a sandbox in a process of its own, a phase in another, and what a process has used."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import requests

from airflow_provider_iterable.api.endpoints import NAMES

WATCH_SECONDS = 0.2
UNPACED = 1_000_000
"""Requests per second that nobody reaches."""
UNPACED_IN_FLIGHT = 8
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class SandboxProcess:
    """A sandbox that runs elsewhere, and its inspections."""

    url: str
    pid: int

    def inspect(self, method: str, path: str, body: Any = None) -> Any:
        """Call an inspection and return what it answers."""
        answer = requests.request(method, f"{self.url}/sandbox/{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Any) -> None:
        """Make a call of Iterable's API, as somebody else than the client that is measured."""
        answer = requests.post(f"{self.url}/api/{path}", json=body, headers={"Api-Key": "benchmark"}, timeout=60)
        answer.raise_for_status()

    def cpu(self) -> float:
        """Return the CPU seconds that the process has used."""
        return cpu_of(self.pid)


@contextmanager
def sandbox(*arguments: str) -> Iterator[SandboxProcess]:
    """Run a sandbox on a free port, with further arguments of its command line."""
    command = [sys.executable, "-m", "airflow_provider_iterable.sandbox", "--port", "0"]
    command += ["--option", "record_identifiers=false", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield SandboxProcess(next(word.rstrip("/.,") for word in line.split() if "http" in word), process.pid)
        finally:
            process.terminate()


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process of this machine has used."""
    with open(f"/proc/{pid}/stat") as file:
        times = file.read().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / CLOCK_TICKS


def environment(uri: str, url: str, home: str, *, unpaced: bool = False, shared: bool = True) -> dict[str, str]:
    """Return the environment of a phase: an Airflow of its own, with connections to the warehouse and to Iterable.

    :param unpaced: as fast as it goes, with few requests under way at once, instead of as Iterable allows
    :param shared: whether tasks keep a pace together
    """
    extra: dict[str, Any] = {"project_type": "email", "shared_pace": shared}
    if unpaced:
        extra |= {"rates": dict.fromkeys(NAMES, UNPACED), "max_in_flight": UNPACED_IN_FLIGHT}
    iterable = {"conn_type": "iterable", "host": url, "password": "benchmark", "extra": extra}
    return {
        **os.environ,
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_WAREHOUSE": uri.replace("postgresql://", "postgres://"),
        "AIRFLOW_CONN_ITERABLE_DEFAULT": json.dumps(iterable),
    }


def context() -> Any:
    """Return as much of a task's context as an operator asks for."""
    return {
        "ti": SimpleNamespace(xcom_push=lambda key, value: None),
        "run_id": "bench",
        "outlet_events": defaultdict(lambda: SimpleNamespace(extra=None)),
    }


def used(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do some work in this process, and return what it tells, with its seconds, CPU seconds and memory.

    Memory is in bytes: the most that was resident, and by how much that was more than before.
    """
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    told = work()
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = {"peak": after.ru_maxrss * 1024, "more": (after.ru_maxrss - before.ru_maxrss) * 1024}
    return {"wall": wall, "cpu": cpu, **memory, **told}


def phase(
    module: str, arguments: list[str], env: dict[str, str], watch: Callable[[int], None] = lambda pid: None
) -> dict[str, Any]:
    """Run a phase of a benchmark in a process of its own and return the figures in its last line.

    :param watch: called with the ID of the process a few times a second while it runs
    """
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", "--phase", *arguments]
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, env=env, stdout=output) as process:
        while process.poll() is None:
            watch(process.pid)
            time.sleep(WATCH_SECONDS)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        output.seek(0)
        figures: dict[str, Any] = json.loads(output.read().splitlines()[-1])
    return figures
