"""Pages that are made for the site from what is elsewhere: files beside docs, example DAGs, the reference."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from docsite import reference
from docsite.links import for_site, on_site
from docsite.project import DOCS, ROOT

FOLDERS = ("examples", "project", "reference")
"""Where they are; nothing else is there, and Git does not see them."""


def write() -> None:
    """Bring the generated pages up to date; what did not change is not touched, and Sphinx does not read it again."""
    wanted = dict(pages())
    for folder in FOLDERS:
        for old in (DOCS / folder).glob("*"):
            if old not in wanted:
                old.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")


def pages() -> Iterator[tuple[Path, str]]:
    """Give file and text of each page."""
    for file in ROOT.glob("*.md"):
        place = on_site(file)
        assert place is not None
        yield place, for_site(file.read_text("utf-8"), file, place)
    for file in sorted((ROOT / "example_dags").glob("*.py")):
        place = on_site(file)
        assert place is not None
        yield place, example(file)
    for name, text in reference.pages():
        yield DOCS / f"{name}.rst", text


def example(file: Path) -> str:
    """Return the page of an example DAG: what it says about itself, and all of it."""
    title = f"Example DAG: ``{file.name}``"
    about = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    first = about.partition("\n")[0]
    lines = [title, "=" * len(title), "", first, "", f".. literalinclude:: ../../example_dags/{file.name}"]
    queries = sorted(path for path in (ROOT / "example_dags").rglob("*.sql") if path.name in file.read_text("utf-8"))
    for query in queries:
        heading = f"``{query.relative_to(ROOT / 'example_dags')}``"
        lines += ["", heading, "-" * len(heading), "", f".. literalinclude:: ../../{query.relative_to(ROOT)}"]
    return "\n".join([*lines, ""])
