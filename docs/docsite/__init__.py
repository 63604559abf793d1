"""What the site has beyond Sphinx: pages from elsewhere in the repository, their links, the order, and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docsite import checks, generated, links, navigation, reference

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx what is called when."""
    app.connect("config-inited", lambda app, config: generated.write())
    app.connect("env-get-outdated", lambda app, env, added, changed, removed: navigation.parents())
    app.connect("source-read", _read)
    app.connect("autodoc-process-signature", reference.own_signature)
    app.connect("build-finished", checks.check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Complete the text of a page before Sphinx parses it."""
    page = app.env.doc2path(docname)
    text = links.for_site(source[0], page, page) if page.suffix == ".md" else source[0]
    source[0] = text + navigation.below(docname, page.suffix)
