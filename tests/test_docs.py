from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from airflow_provider_iterable.engine.vocabulary import SENTENCES, Reason
from airflow_provider_iterable.operators import IterableUserSyncOperator
from airflow_provider_iterable.operators.base import IterableModelOperator

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
USERS = (ROOT / "docs" / "users.md").read_text("utf-8")


def cells(heading: str) -> list[list[str]]:
    """Return the rows of the tables under a heading of the page about users."""
    section = USERS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:3] == "| `"
    ]


def test_every_reason_is_explained() -> None:
    """The page about users lists each reason with the sentence that the log shows, and with what to do."""
    told = {row[0].strip("`"): row[2] for row in cells("Reasons")}
    assert told == {str(reason): SENTENCES[reason] for reason in Reason}
    assert all(len(row) == 4 and row[3] for row in cells("Reasons"))


def test_every_parameter_is_described() -> None:
    """The page about users lists each parameter of the operator, once, with its default."""
    known = {
        name: parameter.default
        for operator in (IterableModelOperator, IterableUserSyncOperator)
        for name, parameter in inspect.signature(operator.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    rows = cells("Parameters")
    assert sorted(row[0].strip("`") for row in rows) == sorted(known)
    for row in rows:
        default = known[row[0].strip("`")]
        if default not in (None, inspect.Parameter.empty):
            assert row[1] == f"`{default!r}`".replace("'", '"')


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of the project finds it, and each link to a heading finds that."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert heading in {title.lower().replace(" ", "-") for title in titles}, target
