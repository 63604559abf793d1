"""``make ui``: Airflow with the example DAGs, some runs of them to look at, and a local Iterable beside it."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from airflow_provider_iterable.demo import local_airflow
from airflow_provider_iterable.demo.local_airflow import Airflow
from airflow_provider_iterable.demo.others import STEPS, Others
from airflow_provider_iterable.demo.warehouse import Warehouse
from airflow_provider_iterable.sandbox import Sandbox

CUSTOMERS = 2_000
AIRFLOW_PORT, SANDBOX_PORT = 8080, 8090
"""Where the two are, if nobody else is there."""
PATIENCE_SECONDS = 120.0
OPEN = build_opener(ProxyHandler({})).open


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_iterable.demo.ui",
        description="Airflow 3 with the example DAGs and some runs of them, and a local Iterable, until Ctrl-C.",
    )
    parser.add_argument("--port", type=int, default=AIRFLOW_PORT, help="of Airflow, if it is free (%(default)s)")
    parser.add_argument("--sandbox-port", type=int, default=SANDBOX_PORT, help="of the sandbox (%(default)s)")
    return parser.parse_args(argv)


def free(port: int) -> int:
    """Return a port of this machine that is free: this one, if it is."""
    for tried in (port, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", tried))
            return int(probe.getsockname()[1])
    raise OSError("No port of this machine is free.")


def prepare(home: Path, sandbox: Sandbox, warehouse: Warehouse, port: int) -> None:
    """Set the environment variables of an Airflow that everybody on this machine may use."""
    local_airflow.prepare(home, local_airflow.connections(warehouse.path, sandbox.url, "email"))
    # Airflow starts its parts by their command, which is beside this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ.update(
        AIRFLOW__API__HOST="127.0.0.1",
        AIRFLOW__API__PORT=str(port),
        AIRFLOW__API__BASE_URL=f"http://127.0.0.1:{port}",
        AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"http://127.0.0.1:{port}/execution/",
        AIRFLOW__CORE__PARALLELISM="2",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        AIRFLOW__CORE__TEST_CONNECTION="Enabled",
        AIRFLOW__API_AUTH__JWT_SECRET=os.urandom(32).hex(),
        AIRFLOW__LOGGING__LOGGING_LEVEL="INFO",
    )


def play(airflow: Airflow, warehouse: Warehouse, sandbox: Sandbox) -> int:
    """Run the example DAGs as the demo does, so that there is something to look at; return how many runs there were."""
    others = Others(warehouse.path, sandbox.url)
    runs = [airflow.run()]
    spoilt = warehouse.change_some()
    runs.append(airflow.run())
    others.happen()
    runs += [airflow.run(step.dag_id, step.leave_out) for step in STEPS]
    del spoilt
    return len(runs)


def wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers.

    :raises RuntimeError: it does not, or its process has ended
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(URLError, OSError), OPEN(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"Airflow does not answer at {url}.")


def serve(home: Path, given: argparse.Namespace) -> int:
    """Start everything, say where it is, and wait for Ctrl-C."""
    started, port = time.monotonic(), free(given.port)
    warehouse = Warehouse(home / "warehouse.db", CUSTOMERS)
    with Sandbox("email", port=free(given.sandbox_port)) as sandbox:
        prepare(home, sandbox, warehouse, port)
        print("Airflow starts, and runs the example DAGs ...", flush=True)
        runs = play(Airflow(home), warehouse, sandbox)
        log = home / "standalone.log"
        command = [sys.executable, "-m", "airflow", "standalone"]
        with (
            log.open("wb") as output,
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True) as process,
        ):
            try:
                wait(f"http://127.0.0.1:{port}/api/v2/monitor/health", process)
                print(f"Airflow:  http://127.0.0.1:{port}/  (no login; {runs} runs; Browse, Iterable syncs)")
                print(f"Iterable: {sandbox.url}/  (a local sandbox; any API key will do)")
                print(f"Ready after {time.monotonic() - started:.0f} s. Ctrl-C stops both.", flush=True)
                return process.wait()
            except RuntimeError as error:
                print("\n".join([str(error), *log.read_text("utf-8", "replace").splitlines()[-20:]]), file=sys.stderr)
                return 1
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve from a temporary folder, which is removed."""
    given = arguments(argv)
    with tempfile.TemporaryDirectory(prefix="iterable-ui-", ignore_cleanup_errors=True) as folder:
        try:
            return serve(Path(folder), given)
        except KeyboardInterrupt:
            print("\nStopped.")
            return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # Airflow's threads and modules take seconds to wind down
