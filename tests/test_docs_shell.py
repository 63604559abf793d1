"""The commands of the documentation exist with the options that they are given, and where it is cheap they are run."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

import pytest
import requests
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from packaging.requirements import Requirement

from airflow_provider_iterable.explain import __main__ as explain
from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.sandbox import __main__ as sandbox_command
from airflow_provider_iterable.state import __main__ as state
from tests.documents import ROOT, Block, blocks_of, commands, each
from tests.test_docs_data import accept

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
VARIABLES = {"AIRFLOW_HOME"}
"""Variables that are no setting of Airflow's."""


class Checker:
    """Checks commands, those of one block against one sandbox."""

    def __init__(
        self,
        sandbox: Sandbox,
        config: pytest.Config,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.sandbox, self.config, self.monkeypatch, self.caplog = sandbox, config, monkeypatch, caplog

    def check(self, block: Block) -> None:
        """See that each command of a block is one, with these options."""
        found = commands(block)
        assert found, f"{block.page}:{block.line} has no command"
        for variables, words in found:
            self.variables(variables)
            if words:
                check = getattr(self, words[0].replace("-", "_"), None)
                assert check is not None, f"{block.page}:{block.line}: nobody knows how to check {words[0]}"
                check(*words[1:])

    def variables(self, variables: dict[str, str]) -> None:
        """Settings and connections are Airflow's, and the hook takes those of Iterable."""
        for name, value in variables.items():
            if name.startswith("AIRFLOW_CONN_"):
                connection = json.loads(value)
                if connection["conn_type"] == "iterable":
                    accept(self.monkeypatch, self.caplog, connection)
            elif setting := re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", name):
                section, key = (part.lower() for part in setting.groups())
                assert conf.has_option(section, key), name
            else:
                assert name in VARIABLES, name

    def export(self, *words: str) -> None:
        """Only sets variables."""
        self.variables(dict(word.split("=", 1) for word in words))

    def cd(self, folder: str) -> None:
        """Goes to a folder, of the checkout or one that a command before it makes."""
        assert folder

    def make(self, *words: str) -> None:
        """Has the targets, and the variables."""
        for word in words:
            name, sets, _ = word.partition("=")
            pattern = rf"^#? *{name} *\??=|\$\(({name})\)|^#   {name}=" if sets else rf"^{re.escape(name)}:.*## "
            assert re.search(pattern, MAKEFILE, re.MULTILINE), word

    def pip(self, verb: str, *words: str) -> None:
        """Installs what there is: this package with extras that it has."""
        assert verb == "install"
        for word in words:
            if word.startswith("-"):
                assert word in ("-e", "--editable", "--upgrade", "-U"), word
                continue
            text = f"{PROJECT['name']}{word[1:]}" if word.startswith(".") else word
            required = Requirement(text)
            if required.name == PROJECT["name"]:
                assert required.extras <= PROJECT["optional-dependencies"].keys(), word

    def pytest(self, *words: str) -> None:
        """Has the options."""
        parser = self.config._parser
        known = {name for option in parser._anonymous.options for name in option.names()}
        known |= {name for group in parser._groups for option in group.options for name in option.names()}
        for word in words:
            assert not word.startswith("-") or word.partition("=")[0] in known, word

    def airflow(self, *words: str) -> None:
        """Takes the arguments; a connection that is added is one that the hook takes."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(argparse.ArgumentParser, "error", refuse)
            given = get_parser().parse_args(list(words))
        if words[:2] == ("connections", "add") and given.conn_type == "iterable":
            extra = json.loads(given.conn_extra or "{}")
            accept(self.monkeypatch, self.caplog, {"host": given.conn_host, "extra": extra})

    def python(self, flag: str, *words: str) -> None:
        """Runs a module that there is, with options that it has."""
        assert flag == "-m", flag
        module, *arguments = words
        match module:
            case "venv":
                return
            case "airflow_provider_iterable.state":
                state.main(arguments)
            case "airflow_provider_iterable.sandbox":
                given = sandbox_command.arguments(arguments)
                Sandbox(given.project_type, port=0, **sandbox_command.options_from(given))
            case "airflow_provider_iterable.explain":
                explain._parser().parse_args(arguments)
            case _:
                told = help_of(module)
                for word in arguments:
                    option = word.partition("=")[0]
                    assert not word.startswith("-") or re.search(rf"(?<!\S){option}(?![\w-])", told), word

    def curl(self, *words: str) -> None:
        """Is answered by the sandbox, and not refused."""
        parser = argparse.ArgumentParser()
        parser.add_argument("url")
        parser.add_argument("-X", default=None)
        parser.add_argument("-H", action="append", default=[])
        parser.add_argument("-d")
        given = parser.parse_args(words)
        address = urlsplit(given.url)
        assert address.netloc == "127.0.0.1:8090"
        url = urlunsplit(address._replace(netloc=urlsplit(self.sandbox.url).netloc))
        headers = dict(header.split(": ", 1) for header in given.H)
        method = given.X or ("POST" if given.d else "GET")
        answer = requests.request(method, url, headers=headers, data=given.d, timeout=10)
        assert answer.status_code == 200, answer.text


def refuse(parser: argparse.ArgumentParser, message: str) -> None:
    """Fail with the words of a parser, which would end the process."""
    raise AssertionError(f"{parser.prog}: {message}")


@cache
def help_of(module: str) -> str:
    """Return what a module of this repository says when it is asked for help."""
    assert find_spec(module) is not None, module
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def checker(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Checker]:
    """What checks commands."""
    with Sandbox(record_identifiers=True) as sandbox:  # as its command line does
        user = {"email": "ada@example.com"}
        requests.post(f"{sandbox.url}/api/users/update", json=user, headers={"Api-Key": "any"}, timeout=10)
        yield Checker(sandbox, pytestconfig, monkeypatch, caplog)


@pytest.mark.slow
@each("shell", "session")
def test_commands(block: Block, checker: Checker) -> None:
    """They are there, with these options."""
    checker.check(block)


@pytest.mark.parametrize(
    "line",
    [
        "make demos",
        "make demo USRS=3",
        "pip install '.[postgress]'",
        "pip install airflow-provider-iterable[oracle]",
        "pip uninstall airflow-provider-iterable",
        "airflow connections ad it --conn-type iterable",
        "airflow connections add it --con-type iterable",
        """airflow connections add it --conn-type iterable --conn-extra '{"data_centre": "us"}'""",
        "export AIRFLOW__DATABASE__LOAD_DEFAULTS=1",
        "HOME=/ make demo",
        "python -m airflow_provider_iterable.sandbox --prt 1",
        "python -m airflow_provider_iterable.sandbox --option max_field=1",
        "python -m airflow_provider_iterable.state --ddl oracle",
        "python -m airflow_provider_iterable.explain --dag d --task t",
        "python -m airflow_provider_iterable.demo --user 3",
        "python -m tests.benchmarks.paces",
        "pytest tests --iterable-update-plan",
        "curl http://127.0.0.1:8090/sandbox/stat",
        "rm -rf build",
    ],
)
def test_wrong_commands_are_noticed(line: str, checker: Checker) -> None:
    """Each of these is a slip of the pen."""
    (block,) = blocks_of("page.md", f"```bash\n{line}\n```")
    with pytest.raises((AssertionError, SystemExit, ValueError, TypeError)):
        checker.check(block)
