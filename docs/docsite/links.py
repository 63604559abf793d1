"""Links of Markdown pages that leave the folder of the documentation, and where the site has what they lead to."""

from __future__ import annotations

import re
from os.path import relpath
from pathlib import Path

from docsite.project import DOCS, PROJECT, ROOT

FENCED = re.compile(r"^( *)(```+|~~~+).*?^ *\2 *$", re.DOTALL | re.MULTILINE)
TARGET = re.compile(r"(?<=\]\()([^)\s#]+)")
ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:|//", re.IGNORECASE)


def for_site(text: str, page: Path, place: Path) -> str:
    """Return a page's text with its links as the site needs them; blocks of code are left alone.

    :param page: the file the text is from, which its links start from
    :param place: where the site has it
    """

    def mended(found: re.Match[str]) -> str:
        return _target(found[1], page, place)

    parts, end = [], 0
    for block in FENCED.finditer(text):
        parts += [TARGET.sub(mended, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, TARGET.sub(mended, text[end:])])


def on_site(file: Path) -> Path | None:
    """Return which file of the site shows a file or folder of the repository, if one does."""
    path = file.relative_to(ROOT)
    if file.is_relative_to(DOCS):
        return min(file.glob("*.md"), default=None) if file.is_dir() else file
    if path.parent == Path("example_dags") and file.suffix == ".py":
        return DOCS / "examples" / f"{file.stem}.rst"
    if path.parent == Path() and file.suffix == ".md":
        return DOCS / "project" / f"{file.stem.lower()}.markdown"
    return None


def _target(target: str, page: Path, place: Path) -> str:
    if ELSEWHERE.match(target):
        return target
    file = (page.parent / target).resolve()
    if not (file.exists() and file.is_relative_to(ROOT)):
        return target  # Sphinx says that it leads nowhere
    shown = on_site(file)
    return PROJECT.source_of(file.relative_to(ROOT).as_posix()) if shown is None else relpath(shown, place.parent)
