"""``make matrix``: the wheel in fresh environments, one for each Python and Airflow that is supported.

Each row installs the wheel with its declared dependencies and nothing of the checkout, runs ``tests/smoke.py`` in an
empty folder, then those tests that depend on what is installed: they come from the sdist, the package from the wheel.
A table at the end has what was really installed. Needs uv, and Postgres for a few tests that are skipped without it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "build" / "matrix"
PAGE = ROOT / "docs" / "versions.md"
MARKS = ("<!-- make matrix-page -->\n", "<!-- end -->\n")
PACKAGE = "airflow_provider_iterable"
TIMEOUT = 900.0
"""Seconds for any one command."""
MYSQL = "apache-airflow-providers-mysql>=6.3.4"
"""Installed without its dependencies, as in the Makefile, for mysqlclient has to be compiled."""
SHOWN = {
    "Airflow": "apache-airflow",
    "common-sql": "apache-airflow-providers-common-sql",
    "common-compat": "apache-airflow-providers-common-compat",
    "SQLAlchemy": "sqlalchemy",
    "requests": "requests",
    "tenacity": "tenacity",
    "msgspec": "msgspec",
}
"""The columns of the table, and the packages whose versions they show."""
TESTS = (
    "tests/test_get_provider_info.py",
    "tests/test_public_names.py",
    "tests/test_example_dags.py",
    "tests/test_retry.py",
    "tests/test_approval.py",
    "tests/test_assets.py",
    "tests/testing",
    "tests/explain",
    "tests/hooks",
    "tests/operators/test_asset_dags.py",
    "tests/operators/test_base.py",
    "tests/operators/test_lineage.py",
    "tests/operators/test_links.py",
    "tests/operators/test_metrics.py",
    "tests/operators/test_on_failure.py",
    "tests/operators/test_parameters.py",
    "tests/operators/test_rendered_dags.py",
    "tests/operators/test_retry.py",
    "tests/operators/test_running.py",
    "tests/operators/test_signatures.py",
    "tests/state/test_object.py",
    "tests/state/test_xcom.py",
)
"""What depends on Airflow and the libraries; the rest is the same everywhere, and `make test` runs it."""


@dataclass(frozen=True)
class Row:
    """One environment.

    :param requirements: what is installed beside the wheel
    :param lowest: whether the oldest releases are taken that the project allows
    :param early: whether it is about a release that is still to come: it may be missing or fail, and says so
    """

    name: str
    python: str
    requirements: tuple[str, ...] = ()
    lowest: bool = False
    early: bool = False


ROWS = (
    Row("airflow-3.3-python-3.11", "3.11", ("apache-airflow==3.3.*",)),
    Row("airflow-3.3-python-3.13", "3.13", ("apache-airflow==3.3.*",)),
    Row("airflow-2.11", "3.12", ("apache-airflow==2.11.*",)),
    # Airflow 2.11.0 fails with the universal-pathlib that it gets without its constraints.
    Row("lowest", "3.11", ("universal-pathlib<0.3",), lowest=True),
    # A bound that names a pre-release lets this package be one, and the parts of Airflow that it pins.
    Row("airflow-3.4", "3.13", ("apache-airflow>=3.4.0a0,<3.5",), early=True),
)


class Failed(Exception):
    """A step of a row ended badly."""


@dataclass
class Outcome:
    """What became of a row."""

    row: Row
    result: str = "passed"
    tests: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def is_bad(self) -> bool:
        """Whether the matrix fails for it."""
        return self.result.startswith("failed")

    def cells(self) -> list[str]:
        """Return its line in the table."""
        installed = [self.versions.get(name, "") for name in SHOWN.values()]
        python = self.versions.get("python", self.row.python)
        return [self.row.name, python, *installed, self.result, self.tests, f"{self.seconds:.0f}"]


HEADINGS = ["row", "Python", *SHOWN, "result", "tests", "seconds"]


class Runner:
    """Runs commands in a clean environment, and keeps what they say in a row's log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        left_out = ("PYTHON", "AIRFLOW", "VIRTUAL_ENV")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        self.environment |= {"UV_COMPILE_BYTECODE": "1", "UV_PYTHON_DOWNLOADS": "never", "ITERABLE_TEST_INSTALLED": "1"}
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")

    def __call__(self, *command: str | Path, at: Path = ROOT) -> str:
        """Run a command to its end, and return what it printed; raise if it fails."""
        with self.log.open("a", encoding="utf-8") as log:
            print("\n$", *command, file=log, flush=True)
            done = subprocess.run(
                command, cwd=at, env=self.environment, text=True, timeout=TIMEOUT, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
            log.write(done.stdout)
        if done.returncode:
            raise Failed(" ".join(Path(part).name for part in map(str, command[:4])))
        return done.stdout


def interpreter(wanted: str) -> str | None:
    """Return a Python of that version: from the PATH, or one that pyenv has and does not show."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for path in (f"python{wanted}", "python3", *sorted(map(str, pyenv.glob(f"{wanted}.*/bin/python")))):
        code = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{wanted}')"
        if shutil.which(path) and subprocess.run([path, "-c", code], capture_output=True, check=False).returncode == 0:
            return path
    return None


def build(uv: str, folder: Path) -> tuple[Path, Path]:
    """Build sdist and wheel, see that both make the same wheel, and return wheel and the sdist's tests, unpacked."""
    run = Runner(LOGS / "build.log")
    run(uv, "build", "--out-dir", folder / "both", ROOT)
    run(uv, "build", "--wheel", "--out-dir", folder / "direct", ROOT)
    (sdist,), (wheel,) = (list((folder / "both").glob(pattern)) for pattern in ("*.tar.gz", "*.whl"))
    if wheel.read_bytes() != (folder / "direct" / wheel.name).read_bytes():
        raise Failed("the sdist builds another wheel than the checkout")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (tests,) = (folder / "sdist").iterdir()
    shutil.rmtree(tests / PACKAGE)  # so that the wheel's is the only one
    return wheel, tests


def install(run: Runner, uv: str, python: Path, row: Row, wheel: Path, extra: str = "") -> None:
    """Install the wheel, or the wheel with an extra."""
    # uv takes the requirements of a wheel for indirect ones; those of a file are direct.
    declared = ["--resolution", "lowest-direct", "-r", "pyproject.toml"] if row.lowest else []
    declared += ["--extra", extra] if row.lowest and extra else []
    run(uv, "pip", "install", "--python", python, *declared, f"{wheel}[{extra}]" if extra else wheel, *row.requirements)


def take(run: Runner, uv: str, row: Row, wheel: Path, tests: Path, smoke_only: bool, outcome: Outcome) -> None:
    """Do all that a row is for."""
    found = interpreter(row.python)
    if found is None:
        raise Failed(f"no Python {row.python} here")
    folder = Path(tempfile.mkdtemp(prefix=f"matrix-{row.name}-"))
    try:
        python, empty = folder / "venv" / "bin" / "python", folder / "empty"
        empty.mkdir()
        run(uv, "venv", "--python", found, folder / "venv")
        install(run, uv, python, row, wheel)
        listed = json.loads(run(uv, "pip", "list", "--quiet", "--format", "json", "--python", python))
        outcome.versions = {one["name"]: one["version"] for one in listed}
        outcome.versions["python"] = run(python, "-c", "import platform; print(platform.python_version())").strip()
        smoke = shutil.copy(ROOT / "tests" / "smoke.py", empty)
        run(python, smoke, "alone", at=empty)
        install(run, uv, python, row, wheel, "sqlite")
        run(python, smoke, "dag", at=empty)
        if not smoke_only:
            install(run, uv, python, row, wheel, "test")
            run(uv, "pip", "install", "--python", python, "--no-deps", MYSQL)
            run(python, smoke, "pytest", at=empty)
            command = ("-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "-p", "no:cacheprovider", *TESTS)
            try:
                run(python, *command, at=tests)
            finally:
                outcome.tests = summary(run.log.read_text("utf-8"))
    finally:
        shutil.rmtree(folder)


def summary(log: str) -> str:
    """Return what pytest counted."""
    counted = re.findall(r"^(?:=+ )?(\d+ (?:passed|failed|error).*?) in [\d.]+s", log, re.MULTILINE)
    return counted[-1] if counted else ""


def is_published(uv: str, row: Row) -> bool:
    """Return whether the package index has what a row is about."""
    command = [uv, "pip", "install", "--dry-run", "--no-deps", "--target", tempfile.gettempdir(), *row.requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 or "No solution found" not in done.stderr


def outcome_of(uv: str, row: Row, wheel: Path, tests: Path, smoke_only: bool) -> Outcome:
    """Return what became of a row."""
    outcome, started = Outcome(row), time.monotonic()
    run = Runner(LOGS / f"{row.name}.log")
    try:
        if row.early and not is_published(uv, row):
            outcome.result = "not in the package index"
        else:
            take(run, uv, row, wheel, tests, smoke_only, outcome)
    except (Failed, subprocess.TimeoutExpired) as error:
        outcome.result = f"{'warned' if row.early else 'failed'}: {error}"
        print("\n".join(run.log.read_text("utf-8").splitlines()[-40:]), file=sys.stderr)
    outcome.seconds = time.monotonic() - started
    return outcome


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines, the first of which are headings, as a Markdown table."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    shown.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in shown)


def write_page(outcomes: Sequence[Outcome]) -> None:
    """Put the table, but for the seconds, on the page of supported versions."""
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    lines = table([HEADINGS[:-1], *(outcome.cells()[:-1] for outcome in outcomes)])
    PAGE.write_text(f"{before}{MARKS[0]}{lines}{MARKS[1]}{after}", "utf-8")


def main() -> int:
    """Take the rows one after another, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"only these of {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--smoke", action="store_true", help="no tests after the smoke test")
    parser.add_argument("--page", action="store_true", help="write the table into docs/versions.md")
    given = parser.parse_args()
    unknown = set(given.rows) - {row.name for row in ROWS}
    if unknown or (given.page and (given.rows or given.smoke)):
        parser.error(f"no such row: {', '.join(sorted(unknown))}" if unknown else "the page has all rows, and tests")
    uv = shutil.which("uv", path=f"{os.environ['PATH']}:{Path(sys.executable).parent}")
    if uv is None:
        parser.error("uv is needed, on the PATH or beside this Python")
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        wheel, tests = build(uv, Path(folder))
        outcomes = []
        for row in ROWS:
            if not given.rows or row.name in given.rows:
                print(f"{row.name} ...", flush=True)
                outcomes.append(outcome_of(uv, row, wheel, tests, given.smoke))
                print(table([HEADINGS, outcomes[-1].cells()]), flush=True)
    print(table([HEADINGS, *(outcome.cells() for outcome in outcomes)]))
    if given.page:
        write_page(outcomes)
    return int(any(outcome.is_bad for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
