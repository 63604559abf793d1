"""The site is built of all pages; links that lead nowhere, and anything from elsewhere, fail its build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from airflow_provider_iterable.engine.reasons import Reason
from tests.documents import ROOT
from tests.test_public_names import NAMES

pytest.importorskip("sphinx", reason="the site is built with the extra `docs`")

from docsite import links, navigation, reference  # needs what the site needs
from docsite.checks import problems

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
BROKEN = """
[a page](nowhere.md), [a heading](reasons.md#nowhere), [here](#nowhere), [an example](../example_dags/nowhere.py),
[the README](../README.md#nowhere)
"""


def build(source: Path, target: Path) -> tuple[int, str]:
    """Build the site, and return how that ended and what was said."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(source), str(target)]
    environment = {**os.environ, "PYTHONPATH": str(source.parent), "AIRFLOW_HOME": str(target / "airflow")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the site is made of."""
    for name in ("docs", "example_dags", "airflow_provider_iterable"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), ROOT / "LICENSE", ROOT / "pyproject.toml"):
        shutil.copy(file, tmp_path)
    return tmp_path / "docs"


@pytest.mark.slow
def test_the_site(copy: Path, tmp_path: Path) -> None:
    """It is built without a warning, has the places that logs name, and each link that is broken then is told."""
    site = tmp_path / "site"
    ended, said = build(copy, site)
    assert said == ""
    assert ended == 0
    reasons = (site / "reasons.html").read_text("utf-8")
    assert [reason for reason in Reason if f'id="{reason}"' not in reasons] == []
    pages = "".join(page.read_text("utf-8") for page in (site / "reference").glob("*.html"))
    assert [name for names in NAMES.values() for name in names - {"get_provider_info"} if name not in pages] == []

    page = copy / "users.md"
    page.write_text(page.read_text("utf-8") + BROKEN, "utf-8")
    ended, said = build(copy, site)
    assert ended == 1
    assert len(re.findall(r"users\.md:\d+: WARNING", said)) == 5, said


def test_what_pages_load_is_checked(tmp_path: Path) -> None:
    """Scripts, fonts and pictures from elsewhere, and links that lead nowhere; links to other sites are none."""
    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.example.com/x.js"></script><link rel="stylesheet" href="//fonts.example.com/f.css">'
        '<img srcset="https://cdn.example.com/x.png 2x"><a href="https://example.com">x</a><a href="#b">x</a>'
        '<a href="b.html">x</a><h2 id="c"><a href="#c">x</a></h2>'
    )
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.example.com/f.woff) }")
    assert len(problems(tmp_path)) == 6


def test_the_order_is_that_of_the_index() -> None:
    """Each page once, those in a list below an item below its page."""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    wanted = dict.fromkeys(re.findall(r"\]\(([\w/]+)\.md\)", index.partition("\n## Words")[0]))
    found = [entry.docname for entry in navigation._all(navigation.entries()) if entry.title]
    assert [name for name in found if name in wanted] == list(wanted)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("state.md#resync", "state.md#resync"),
        ("../README.md#install", "project/readme.markdown#install"),
        ("../example_dags/users.py", "examples/users.rst"),
        ("decisions", "decisions/0001-record-decisions.md"),
        ("../LICENSE", f"{PROJECT['project']['urls']['Source']}/blob/main/LICENSE"),
        ("https://example.com/../x", "https://example.com/../x"),
        ("#here", "#here"),
    ],
)
def test_links(target: str, expected: str) -> None:
    """They lead to what the site has of a file, or to the code host; in blocks of code they are none."""
    page = ROOT / "docs" / "users.md"
    assert links.for_site(f"[x]({target})", page, page) == f"[x]({expected})"
    block = f"```\n[x]({target})\n```\n"
    assert links.for_site(block, page, page) == block


@pytest.mark.parametrize("part", reference.PARTS, ids=lambda part: part.name)
def test_the_reference_is_of_what_is_public(part: reference.Part) -> None:
    """What a module says is public is what DAG authors may rely on."""
    for module in part.modules:
        name = f"airflow_provider_iterable.{module}"
        assert set(import_module(name).__all__) == NAMES.get(name, set(import_module(name).__all__))


def test_every_public_name_is_in_the_reference() -> None:
    """No part of the public API is without its page."""
    shown = {
        name
        for part in reference.PARTS
        for module in part.modules
        for name in import_module(f"airflow_provider_iterable.{module}").__all__
    }
    assert {name for names in NAMES.values() for name in names} - shown == {"get_provider_info"}


def test_addresses_agree() -> None:
    """Those of the project, and those that the README's links get on PyPI."""
    urls = PROJECT["project"]["urls"]
    assert urls.keys() == {"Documentation", "Source", "Changelog", "Issues"}
    rules = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    for address in (urls["Changelog"], urls["Issues"], *(rule["replacement"][2:] for rule in rules)):
        assert address.startswith(f"{urls['Source']}/")


def test_the_readme_of_pypi_has_no_relative_links() -> None:
    """They lead to the code host."""
    text = (ROOT / "README.md").read_text("utf-8") + "\n![x](docs/x.svg)\n"
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    source = PROJECT["project"]["urls"]["Source"]
    assert [one for one in re.findall(r"\]\(([^)]+)\)", text) if not one.startswith(("https://", "#"))] == []
    assert f"]({source}/blob/main/docs/index.md)" in text
    assert f"![x]({source}/raw/main/docs/x.svg)" in text
