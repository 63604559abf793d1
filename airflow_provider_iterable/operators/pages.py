"""Where the documentation is: the page that explains a reason."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

from airflow_provider_iterable.engine.reasons import Reason

PACKAGE = "airflow-provider-iterable"
LABEL = "Documentation"
"""The project URL of the package that leads to the front page of the site."""


@cache
def site() -> str:
    """Return the address of the documentation; empty where the package gives none."""
    try:
        urls = metadata(PACKAGE).get_all("Project-URL") or []
    except PackageNotFoundError:  # imported from a folder that nobody installed
        urls = []
    found = dict(url.partition(", ")[::2] for url in urls)
    return str(found.get(LABEL, "")).rstrip("/")


def page_of(reason: Reason) -> str:
    """Return where a reason is explained, and what to do about it: on the site, or in the source if there is none."""
    return f"{site()}/reasons.html#{reason}" if site() else f"docs/reasons.md#{reason}"
