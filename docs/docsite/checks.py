"""Checks of the built pages: nothing is loaded from elsewhere, and each link within the site leads somewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

log = logging.getLogger(__name__)
SAYS_WHERE = {"canonical", "next", "prev", "index", "search", "author"}
"""Relations of `<link>` that name a page; all others load something."""


@dataclass
class Page(HTMLParser):
    """What a page loads, what it links, and the places that can be linked in it."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at a tag."""
        has = {name: value or "" for name, value in attrs}
        self.places |= {has[name] for name in ("id", "name") if name in has}
        for name in ("src", "data", "poster"):
            if name in has and not (name == "data" and tag != "object"):
                self.loads.append(has[name])
        self.loads += [one.split()[0] for one in has.get("srcset", "").split(",") if one.strip()]
        if "href" in has:
            loading = tag == "link" and not set(has.get("rel", "").split()) & SAYS_WHERE
            (self.loads if loading else self.links).append(has["href"])


def problems(folder: Path) -> list[str]:
    """Return a line for each thing that is loaded from elsewhere, and for each link that leads nowhere."""
    pages: dict[Path, Page] = {}
    for file in sorted(folder.rglob("*.html")):
        pages[file.resolve()] = page = Page()
        page.feed(file.read_text("utf-8"))
    found = [
        f"{style.relative_to(folder)}: loads something from elsewhere"
        for style in sorted(folder.rglob("*.css"))
        if any(text in style.read_text("utf-8") for text in ("url(http", 'url("http', "url(//", "@import"))
    ]
    for file, page in pages.items():
        name = file.relative_to(folder.resolve())
        found += [f"{name}: loads {one}" for one in page.loads if urlsplit(one).netloc]
        for link in [*page.links, *page.loads]:
            if link and not _leads(link, file, pages):
                found.append(f"{name}: {link} leads nowhere")
    return found


def _leads(link: str, file: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if target.is_dir():
        target /= "index.html"
    place = unquote(parts.fragment)
    return target.is_file() and (not place or target not in pages or place in pages[target].places)


def check(app: Sphinx, exception: Exception | None) -> None:
    """Warn of what is wrong with the pages; the build takes a warning for an error."""
    if exception is None and app.builder.name == "html":
        for problem in problems(Path(app.outdir)):
            log.warning("%s", problem)
