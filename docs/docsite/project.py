"""What the site is about, as pyproject.toml says it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent


@dataclass(frozen=True)
class Project:
    """The project's version and addresses."""

    version: str
    urls: dict[str, str]

    def source_of(self, path: str) -> str:
        """Return where the code host shows a file or folder."""
        return f"{self.urls['Source']}/blob/main/{path}"


def read() -> Project:
    """Read pyproject.toml, and the version from where it says that this is."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    version = (ROOT / about["tool"]["hatch"]["version"]["path"]).read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', version, re.MULTILINE)
    assert found is not None
    return Project(found[1], about["project"]["urls"])


PROJECT = read()
