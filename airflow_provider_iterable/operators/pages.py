"""Where the documentation is: the page that explains a reason."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

from airflow_provider_iterable.engine.reasons import Reason

PACKAGE = "airflow-provider-iterable"
LABEL = "Documentation"
"""The project URL of the package that leads to the folder of the pages."""


@cache
def docs() -> str:
    """Return the address of the documentation, or its folder in the source where the package gives none."""
    try:
        urls = metadata(PACKAGE).get_all("Project-URL") or []
    except PackageNotFoundError:  # imported from a folder that nobody installed
        urls = []
    found = dict(url.partition(", ")[::2] for url in urls)
    return str(found.get(LABEL, "docs")).rstrip("/")


def page_of(reason: Reason) -> str:
    """Return where a reason is explained, and what to do about it."""
    return f"{docs()}/reasons.md#{reason}"
