"""The quickstart, followed from its first file to its last run: what it says a log shows is what the log shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_iterable.sandbox import Sandbox

PAGE = (Path(__file__).parent.parent / "docs" / "quickstart.md").read_text("utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
WHAT_VARIES = re.compile(r"http://127\.0\.0\.1:\d+|^  time .*$", re.MULTILINE)
pytestmark = pytest.mark.slow


def said(language: str, word: str) -> str:
    """Return the one block of a language in which something stands."""
    (found,) = [text for name, text in BLOCKS if name == language and word in text]
    return found


class Reader:
    """Somebody who does what the page says, in a folder that stands for a home."""

    def __init__(self, home: Path, sandbox: str) -> None:
        """Have the settings of the page, and the two connections."""
        self.folder = home / "iterable-quickstart"
        (self.folder / "venv" / "bin").mkdir(parents=True)
        (self.folder / "venv" / "bin" / "activate").write_text("")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
        iterable = {"conn_type": "iterable", "host": sandbox, "password": "k", "extra": {"project_type": "email"}}
        self.environment = {
            **kept,
            "HOME": str(home),
            "PATH": path,
            "AIRFLOW_CONN_ITERABLE_DEFAULT": json.dumps(iterable),
            "NO_COLOR": "1",
        }

    def types(self, script: str) -> str:
        """Run commands in the folder, and return what is shown."""
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def runs_the_dag(self) -> str:
        """Run it with the settings that the page exports, as its button would."""
        settings = said("bash", "airflow standalone").replace("airflow standalone\n", "")
        return self.types(f"{settings}airflow db migrate >/dev/null 2>&1\nairflow dags test customers")


def shows(log: str, block: str) -> None:
    """See that each line of a block is in a log, but for what varies."""
    told = WHAT_VARIES.sub("", log)
    for line in WHAT_VARIES.sub("", block).splitlines():
        assert line.strip() in told, line


def test_the_quickstart_is_true(tmp_path: Path) -> None:
    """Files, DAG, first run with its rejected row, change, second run: as the page says."""
    with Sandbox("email", port=0) as sandbox:
        reader = Reader(tmp_path, sandbox.url)
        reader.types(said("bash", "CREATE TABLE"))
        (reader.folder / "dags" / "customers.py").write_text(said("python", "DAG("))
        log = reader.runs_the_dag()
        shows(log, said("text", "rejected 1"))
        assert len(sandbox.users) == 19
        reader.types(said("bash", "age = age + 1"))
        log = reader.runs_the_dag()
        shows(log, said("text", "unchanged 18"))
        assert len(sandbox.users) == 20


def test_nothing_that_the_page_installs_or_adds_is_unknown() -> None:
    """The commands that the test above leaves out: an extra that there is, and the connection of the sandbox."""
    assert "pip install '.[sqlite]'" in said("bash", "pip install")
    assert "--conn-type iterable --conn-host http://127.0.0.1:8090" in said("bash", "connections add")
