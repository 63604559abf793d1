"""Each block of code in the documentation is of a kind that tests check, or is listed here as output."""

from __future__ import annotations

import re

import pytest

from airflow_provider_iterable.api.endpoints import NAMES
from airflow_provider_iterable.engine.reasons import Reason
from tests.documents import Block, blocks, blocks_of, commands, each

OUTPUT = {
    ("README.md", "your warehouse                  an Airflow task                            Iterable"): "a drawing",
    ("docs/architecture.md", "operator ──▶ run ──▶ state opened, model opened ──▶ plan ──▶ guards ──▶ delivery ──▶ "
     "report"): "a drawing",
    ("docs/approval.md", "### Plan of `crm.sync_users`: nothing has been sent"): "a plan, not run",
    ("docs/delivery.md", "40,000 rows through GET /api/users/getByEmail: about 40,000 requests, 6.7 min at the rate "
     "limit of 100 a second; 11 min at the pace measured in an earlier run."): "a log, not run",
    ("docs/explain.md", "The next run sends it (upsert users, POST /api/users/bulkUpdate): its payload is not the one "
     "that was accepted."): "an explanation, not run",
    ("docs/reasons.md", "Sync crm.sync_users, for 40 s: running the model's query"): "a log, not run",
    ("docs/reasons.md", "Sync crm.sync_users succeeded: host https://api.iterable.com, type users, match email"): (
        "a log, not run"
    ),
    ("docs/testing.md", "The fields are not as the contract says:"): "compared by tests/testing/test_guide.py",
}  # fmt: skip
"""What is shown and not executed, by page and first line; whatever is in none of these has to be executable."""


def test_every_block_is_of_a_known_kind() -> None:
    """A block in a language that nobody checks is none that may be written."""
    assert [f"{block.page}:{block.line} {block.language}" for block in blocks() if block.kind is None] == []


def test_output_is_listed() -> None:
    """And nothing is listed that is no more."""
    assert {(block.page, block.first) for block in blocks("output")} == OUTPUT.keys()


@each("output")
def test_output_has_the_words_of_the_code(block: Block) -> None:
    """Reasons with their sentences and places, and endpoints that there are."""
    for name, sentence in re.findall(r"`?\b([a-z]+(?:_[a-z]+)*)`?(?:, \d+ rows? \(.*?\))?: (.+)", block.text):
        if name in set(Reason):
            assert sentence == Reason(name).sentence
    for place in re.findall(r"see (\S+#\w+)$", block.text, re.MULTILINE):
        assert place == f".../reasons.html#{Reason(place.partition('#')[2])}"  # as operators/pages.py has it
    for endpoint in re.findall(r"(?:GET|POST|PUT|PATCH|DELETE) /api/[\w/{}]+", block.text):
        assert endpoint in NAMES, endpoint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```\nmake demo\n```", "shell"),
        ("```\nSync failed\n```", "output"),
        ("- a\n  ```python\n  x = 1\n  ```\n", "python"),
        ("```cobol\nSTOP RUN.\n```", None),
        ("````text\n```\n````", "output"),
    ],
)
def test_blocks_are_found(text: str, expected: str | None) -> None:
    """Also indented ones, and those in languages that nobody knows."""
    (block,) = blocks_of("page.md", text)
    assert block.kind == expected


def test_commands_are_parted() -> None:
    """At separators, with what stands before them, and without comments."""
    (block,) = blocks_of("page.md", "```bash\nA=1 make demo \\\n  X='a b' && pip install x # now\n```")
    assert commands(block) == [({"A": "1"}, ["make", "demo", "X=a b"]), ({}, ["pip", "install", "x"])]
