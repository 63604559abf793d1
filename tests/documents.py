"""The blocks of code on the pages of the documentation, and of which kind each is: every kind has its tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLLOWED = {"docs/quickstart.md"}
"""Pages that a test of their own follows from their first block to their last."""
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<language>\S*)[^\n]*\n(?P<text>.*?)^ *(?P=fence) *$", re.S | re.M)
LANGUAGES = {
    "python": "python",
    "sql": "sql",
    "json": "data",
    "yaml": "data",
    "toml": "data",
    "bash": "shell",
    "sh": "shell",
    "shell": "shell",
    "console": "session",
    "text": "output",
}
COMMANDS = {"airflow", "cd", "curl", "export", "git", "make", "pip", "pytest", "python"}
"""A block that names no language and begins with one of these is for a shell, any other is output."""


@dataclass(frozen=True)
class Block:
    """A block of code: its page, the number of its first line, and what it holds."""

    page: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """What it begins with; with the page it names the block, wherever it moves."""
        return next((line.strip() for line in self.text.splitlines() if line.strip()), "")

    @property
    def kind(self) -> str | None:
        """How it is checked; None: nobody knows."""
        if self.language:
            return LANGUAGES.get(self.language)
        return "shell" if self.first.split(" ")[0] in COMMANDS else "output"


def blocks(kind: str | None = None) -> list[Block]:
    """Return the blocks of a kind, or all of them, but those that a test of their own follows."""
    pages = [page for page in PAGES if str(page.relative_to(ROOT)) not in FOLLOWED]
    found = [block for page in pages for block in blocks_of(str(page.relative_to(ROOT)), page.read_text("utf-8"))]
    return [block for block in found if kind is None or block.kind == kind]


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Give the blocks of a page."""
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        yield Block(page, line, found["language"], dedent(found["text"]))


def each(*kinds: str) -> pytest.MarkDecorator:
    """Run a test with each block of some kinds, as the parameter `block`."""
    found = [pytest.param(block, id=f"{block.page}:{block.line}") for kind in kinds for block in blocks(kind)]
    return pytest.mark.parametrize("block", found)


def commands(block: Block) -> list[tuple[dict[str, str], list[str]]]:
    """Return the commands of a block for a shell, each with the variables that stand before it, and its words."""
    text = block.text.replace("\\\n", " ")
    lines = text.splitlines()
    if block.kind == "session":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    found = []
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;"):
                if words:
                    found.append(_parted(words))
                words = []
            else:
                words.append(word)
    return found


def _parted(words: list[str]) -> tuple[dict[str, str], list[str]]:
    variables: dict[str, str] = {}
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, words
