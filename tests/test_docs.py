from __future__ import annotations

import inspect
import re
from email.message import Message
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_iterable import operators
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.operators import pages
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.pages import page_of, site
from airflow_provider_iterable.operators.people import IterablePeopleOperator
from airflow_provider_iterable.state import ObjectState, TableState, XComState
from tests.documents import PAGES, ROOT

DOCS = ROOT / "docs"

PARAMETERS: dict[str, type] = {
    "parameters.md": IterableModelOperator,
    "users.md": operators.IterableUserSyncOperator,
    "events.md": operators.IterableEventOperator,
    "lists.md": operators.IterableListOperator,
    "subscriptions.md": operators.IterableSubscriptionOperator,
    "catalogs.md": operators.IterableCatalogOperator,
    "privacy.md": operators.IterablePrivacyOperator,
    "merges.md": operators.IterableMergeOperator,
    "partitions.md": operators.IterableSyncSummaryOperator,
}
"""The page with the parameters of each operator; those that all have are on the first one."""
ALSO = {"events.md": {"fields"}, "lists.md": {"fields"}}
"""Parameters that all have, and that mean something of their own here."""
WORDS: dict[Any, set[str]] = {
    None: {"none", "see right", "as the project", "the system's", "the primary key", "`<dag_id>.<task_id>`"},
    inspect.Parameter.empty: {"required"},
    (): {"none"},
}
"""How defaults that are no values are told; state and fields have words of their own."""


def section(page: str, heading: str) -> str:
    """Return what is under a heading, up to the next one of the same level or above."""
    level = heading.partition(" ")[0]
    text = (DOCS / page).read_text("utf-8")
    assert f"\n{heading}\n" in text, f"{page}: {heading}"
    rest = text.partition(f"\n{heading}\n")[2]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def cells(text: str) -> list[list[str]]:
    """Return the rows of tables whose first cell is code."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:3] == "| `"]


def described(text: str) -> dict[str, list[str]]:
    """Return the other cells of each parameter; one row may be about several."""
    rows = [(name, row[1:]) for row in cells(text) for name in re.findall(r"`(\w+)`", row[0])]
    names = [name for name, _ in rows]
    assert sorted(set(names)) == sorted(names), "a parameter is described twice"
    return dict(rows)


def own_parameters(owner: type) -> dict[str, Any]:
    """Return the parameters that a class takes by name, with their defaults, but for those that all syncs take."""
    classes = takewhile(lambda one: one is owner or issubclass(one, IterablePeopleOperator), owner.__mro__)
    return {
        parameter.name: parameter.default
        for one in reversed(list(classes))
        for parameter in inspect.signature(one.__init__).parameters.values()  # type: ignore[misc]
        if parameter.name != "self"
        and parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    }


def test_every_reason_is_explained_once() -> None:
    """The page of reasons lists each with the sentence that the log shows, and with what to do."""
    rows = [
        row
        for heading in ("## Rejected", "## Skipped", "## Deferred", "## Accepted, with a remark")
        for row in cells(section("reasons.md", heading))
    ]
    names = [row[0].split("`")[1] for row in rows]
    assert sorted(names) == sorted(map(str, Reason))
    for name, row in zip(names, rows, strict=True):
        assert len(row) == 3, row
        assert Reason(name).sentence == row[1]
        assert row[2]


def test_every_reason_has_the_place_that_the_log_names() -> None:
    """Each is where the summary of a run says that it is, once on the page."""
    for reason in Reason:
        page, _, anchor = page_of(reason).rpartition("/")[2].partition("#")
        text = (DOCS / page).with_suffix(".md").read_text("utf-8")
        assert text.count(f'| `{reason}`<a id="{anchor}"></a> |') == 1, reason


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (
            ["Source, https://code.example.com", "Documentation, https://docs.example.com/main/"],
            "https://docs.example.com/main/reasons.html#conflict",
        ),
        ([], "docs/reasons.md#conflict"),
    ],
)
def test_places_are_at_the_address_that_the_package_names(
    monkeypatch: pytest.MonkeyPatch, urls: list[str], expected: str
) -> None:
    """Its project URLs have one of the site; otherwise it is the page in the source."""
    about = Message()
    for url in urls:
        about["Project-URL"] = url
    site.cache_clear()
    try:
        monkeypatch.setattr(pages, "metadata", lambda name: about)
        assert page_of(Reason.CONFLICT) == expected
    finally:
        site.cache_clear()


def test_every_operator_has_its_page() -> None:
    """No operator is added without a page that describes its parameters."""
    assert {getattr(operators, name) for name in operators.__all__} == set(PARAMETERS.values()) - {
        IterableModelOperator
    }


@pytest.mark.parametrize("page", PARAMETERS)
def test_every_parameter_is_described(page: str) -> None:
    """Each parameter is on the page of what takes it, once, with its default; and nothing else is."""
    known = own_parameters(PARAMETERS[page])
    text = (DOCS / page).read_text("utf-8") if page == "parameters.md" else section(page, "## Parameters")
    told = described(text.partition("\n## Identity\n")[0])
    common = own_parameters(IterableModelOperator) if page != "parameters.md" else {}
    assert known.keys() == told.keys() - ALSO.get(page, set())
    for name, (default, *rest) in told.items():
        assert rest[-1], name
        value = known.get(name, common.get(name))
        if name == "state":
            assert default == "`XComState()`"
        elif value in WORDS:
            assert default in WORDS[value], name
        else:
            assert default == f"`{value!r}`".replace("'", '"'), name


@pytest.mark.parametrize("store", [TableState, ObjectState, XComState])
def test_every_parameter_of_a_store_is_described(store: type) -> None:
    """Some page describes each parameter that a store takes, with its default."""
    rows = [row for page in DOCS.glob("*.md") for row in cells(page.read_text("utf-8")) if len(row) == 3]
    for name, value in own_parameters(store).items():
        if value in (None, inspect.Parameter.empty):
            shown = {"required"} if value is inspect.Parameter.empty else {"none", "the model's"}
        else:
            shown = {f"`{value!r}`".replace("'", '"')}
        assert any(row[0] == f"`{name}`" and row[1] in shown and row[2] for row in rows), name


@pytest.mark.parametrize("page", PARAMETERS)
def test_whoever_was_paged_finds_the_reasons(page: str) -> None:
    """Each operator's page has a heading for failures, and leads on to all reasons from there."""
    if page != "parameters.md":
        assert "(reasons.md)" in section(page, "## If it fails")


def test_the_index_lists_every_page() -> None:
    """Every page is reached from the index, and so is the first decision, which leads to the others."""
    index = (DOCS / "index.md").read_text("utf-8")
    linked = re.findall(r"\]\(([\w/.-]+\.md)\)", index)
    assert {path for path in linked if "/" not in path} == {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    databases = {f"databases/{page.name}" for page in (DOCS / "databases").glob("*.md")}
    assert {path for path in linked if path.startswith("databases/")} == databases
    assert "decisions/0001-record-decisions.md" in linked


def test_the_readme_lists_every_operator_and_example() -> None:
    """The table of operators in the README has all of them, with page and example DAG."""
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = [row for row in cells(readme) if row[0].startswith("`Iterable")]
    assert [row[0].strip("`") for row in rows] == [owner.__name__ for owner in list(PARAMETERS.values())[1:]]
    linked = set(re.findall(r"\]\(([^)#]+)\)", "".join(cell for row in rows for cell in row)))
    examples = {f"example_dags/{path.name}" for path in (ROOT / "example_dags").glob("*.py")}
    of_the_hook = "example_dags/questions.py"
    assert f"]({of_the_hook})" in readme
    examples.remove(of_the_hook)
    assert linked == examples | {f"docs/{page}" for page in PARAMETERS if page != "parameters.md"} | {
        "docs/change_email.md"
    }


def anchors(file: Path) -> set[str]:
    """Return the names by which the headings of a page are linked."""
    titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


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
            assert heading in anchors(file), target
