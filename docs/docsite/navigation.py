"""The site's navigation: the list of docs/index.md, in its order and with its words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from docsite import reference
from docsite.links import ELSEWHERE, on_site
from docsite.project import DOCS, ROOT


@dataclass
class Entry:
    """A page in the navigation: its name, what the index calls it, and what is below it."""

    docname: str
    title: str
    below: list[Entry] = field(default_factory=list)


@cache
def entries() -> list[Entry]:
    """Return what the index links in its lists, each page once and where it is linked first, and the reference.

    What is in a list below an item is below the page that the item begins with.
    """
    tree = SyntaxTreeNode(MarkdownIt().enable("table").parse((DOCS / "index.md").read_text("utf-8")))
    known: set[str] = {"index"}
    found = [entry for node in tree.children for entry in _listed(node, known)]
    for entry in list(_all(found)):
        # Of examples and decisions the index links the first, which stands for all.
        folder = DOCS / entry.docname.rpartition("/")[0]
        if not entry.below and folder in (DOCS / "examples", DOCS / "decisions"):
            names = [
                f"{folder.name}/{file.stem}" for file in sorted(folder.glob("*")) if file.suffix in (".md", ".rst")
            ]
            entry.below = [Entry(name, "") for name in names if name not in known]
    return [*found, Entry(reference.INDEX, "Reference")]


def below(docname: str, suffix: str) -> str:
    """Return what is appended to a page: a hidden list of the pages below it, in the page's own notation."""
    children = entries() if docname == "index" else next((e.below for e in _all(entries()) if e.docname == docname), [])
    if not children:
        return ""
    lines = [f"{entry.title} </{entry.docname}>" if entry.title else f"/{entry.docname}" for entry in children]
    if suffix == ".rst":
        return "\n".join(["", ".. toctree::", "   :hidden:", "", *(f"   {line}" for line in lines), ""])
    return "\n".join(["", "```{toctree}", ":hidden:", "", *lines, "```", ""])


def parents() -> list[str]:
    """Return the pages that others are below; what they show changes with the index."""
    return ["index", *(entry.docname for entry in _all(entries()) if entry.below)]


def _all(some: list[Entry]) -> Iterator[Entry]:
    for entry in some:
        yield entry
        yield from _all(entry.below)


def _listed(node: SyntaxTreeNode, known: set[str]) -> Iterator[Entry]:
    """Give the pages that a list has."""
    if node.type not in ("bullet_list", "ordered_list"):
        return
    for item in node.children:
        own: list[Entry] = []
        begins = False
        for part in item.children:
            if part.type == "paragraph":
                words = [one for one in part.children[0].children if one.content or one.children]
                begins = words[0].type == "link"
                own += _linked(part, known)
            elif own and begins:
                own[0].below += _listed(part, known)
            else:
                own += _listed(part, known)
        yield from own


def _linked(paragraph: SyntaxTreeNode, known: set[str]) -> Iterator[Entry]:
    """Give the pages that a paragraph links, and that no other has linked before."""
    for link in paragraph.walk():
        docname = _docname(str(link.attrs["href"])) if link.type == "link" else None
        if docname is not None and docname not in known:
            known.add(docname)
            words = "".join(text.content for text in link.walk() if not text.children)
            yield Entry(docname, words[:1].upper() + words[1:])


def _docname(href: str) -> str | None:
    path = href.partition("#")[0]
    if not path or ELSEWHERE.match(path):
        return None
    file: Path = (DOCS / path).resolve()
    shown = on_site(file) if file.is_relative_to(ROOT) else None
    return None if shown is None else shown.relative_to(DOCS).with_suffix("").as_posix()
