"""The guide's example, run as a reader would run it: in a project of its own, by the plugin alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "testing.md"
PLUGIN = "airflow_provider_iterable.testing.plugin"


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run pytest in a folder, and return how it ended and what it printed."""
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "--rootdir", ".", *arguments]
    home = {"AIRFLOW_HOME": str(folder / "airflow"), "PYTHONPATH": str(GUIDE.parents[1])}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **home}, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


def code(language: str, containing: str = "") -> str:
    """Return the guide's first block of a language that has a text in it."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return next(block for block in blocks if containing in block)


@pytest.mark.slow
def test_the_example_passes_and_sees_changes(tmp_path: Path) -> None:
    """All passes once the plan is written; another model fails plan and contract, in the guide's words."""
    example, plan = tmp_path / "test_users_sync.py", tmp_path / "plans" / "sync_users.json"
    text = code("python")
    example.write_text(text, "utf-8")
    ended, said = run(tmp_path, "-q")
    assert ended == 1, said
    assert "There is no expected plan sync_users.json" in said
    assert "1 failed, 5 passed" in said
    ended, said = run(tmp_path, "-q", "--iterable-update-plans")
    assert ended == 0, said
    written = json.loads(plan.read_text("utf-8"))
    assert written["rows"]["added"] == 3
    assert "example.com" not in plan.read_text("utf-8")
    ended, said = run(tmp_path, "-q")
    assert ended == 0, said

    changed = text.replace('"birthDate": "date"', '"birthDate": "string", "pets": "object"')
    changed = changed.replace("only=True, ", "").replace("(3, ", "(4, 'x@example.com', 'X', '2000-01-01', 1.5), (3, ")
    example.write_text(changed, "utf-8")
    ended, said = run(tmp_path, "-q")
    assert ended == 1, said
    for line in code("text", "contract").splitlines():
        assert line in said
    assert '-    "read": 3,' in said
    assert '+    "read": 4,' in said


def test_the_plugin_imports_nothing_at_the_start(tmp_path: Path) -> None:
    """Neither Airflow nor the sandbox, until a test asks for a fixture."""
    (tmp_path / "test_imports.py").write_text(
        "import sys\n"
        "def test_none():\n"
        "    assert 'airflow_provider_iterable.testing.plugin' in sys.modules\n"
        "    found = {name.split('.')[0] for name in sys.modules} & {'airflow', 'requests', 'msgspec', 'sqlalchemy'}\n"
        "    assert not found\n"
        "    assert not [name for name in sys.modules if name.startswith('airflow_provider_iterable.sandbox')]\n",
        "utf-8",
    )
    ended, said = run(tmp_path, "-q", "--strict-markers")
    assert ended == 0, said


@pytest.mark.slow
def test_tests_do_not_see_each_other(tmp_path: Path) -> None:
    """Content, faults and options of one test are gone in the next, and the marker makes the project."""
    (tmp_path / "test_both.py").write_text(
        "import os, json, pytest\n"
        "def test_first(iterable_sandbox):\n"
        "    iterable_sandbox.seed(users=[{'email': 'a@example.com'}])\n"
        "    iterable_sandbox.faults({'kind': 'slow'})\n"
        "    iterable_sandbox.set(max_fields=1)\n"
        "    assert len(iterable_sandbox.users) == 1\n"
        "@pytest.mark.iterable_sandbox(project_type='hybrid', conn_id='other', "
        "extra={'rate_share': 0.5}, max_bytes=9)\n"
        "def test_second(iterable_sandbox):\n"
        "    options = iterable_sandbox.project.options\n"
        "    assert iterable_sandbox.users == iterable_sandbox.service.faults.listed() == []\n"
        "    assert (options.max_fields, options.max_bytes, options.rates) == (1000, 9, False)\n"
        "    connection = json.loads(os.environ['AIRFLOW_CONN_OTHER'])\n"
        "    assert connection['extra'] == {'project_type': 'hybrid', 'rate_share': 0.5}\n"
        "    assert (connection['host'], iterable_sandbox.project.type) == (iterable_sandbox.url, 'hybrid')\n"
        "    assert 'AIRFLOW_CONN_ITERABLE_DEFAULT' not in os.environ\n"
        "def test_third():\n"
        "    assert 'AIRFLOW_CONN_OTHER' not in os.environ\n",
        "utf-8",
    )
    ended, said = run(tmp_path, "-q", "--strict-markers")
    assert ended == 0, said
