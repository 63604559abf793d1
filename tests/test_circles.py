"""No file of the package imports another one that imports it, however far apart they are."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import airflow_provider_iterable

PACKAGE = Path(airflow_provider_iterable.__file__).parent

Graph = Mapping[str, Iterable[str]]


def modules(root: Path) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield what is imported anywhere in a file: on top, in functions and for types alone.

    :param package: the package that relative imports begin with
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def graph(root: Path) -> Graph:
    """Return which modules of a package each of them imports; packages that are only passed through do not count."""
    files = modules(root)
    found = {}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        wanted = set()
        for whole in imports(ast.parse(path.read_text()), package):
            imported = whole if whole in files else whole.rpartition(".")[0]
            if imported in files:
                wanted.add(imported)
        found[name] = sorted(wanted)
    return found


def circle(graph: Graph) -> list[str]:
    """Return modules that import one another in turn, the first one also at the end; nothing where there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [*reversed(error.args[1])]
    return []


def test_there_is_no_circle_in_the_package() -> None:
    """Each file can be read after those that it imports, and imports for types alone count, too."""
    found = circle(graph(PACKAGE))
    assert not found, " imports ".join(name.removeprefix(f"{PACKAGE.name}.") for name in found)


@pytest.mark.parametrize(
    "text",
    [
        "from made.two import name",
        "from made import two",
        "import made.two",
        "from . import two",
        "from .two import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made.two import name",
        "def later():\n    from made.two import name",
    ],
)
def test_a_circle_is_found_wherever_the_import_is(tmp_path: Path, text: str) -> None:
    """In whatever form it is written, and its members are named in their order."""
    package = tmp_path / "made"
    package.mkdir()
    for name, content in {"__init__": "", "one": text, "two": "import made.three", "three": "import made.one"}.items():
        (package / f"{name}.py").write_text(content)
    found = circle(graph(package))
    assert found[0] == found[-1]
    at = found.index("made.one")
    around = [*found[at:-1], *found[:at]]
    assert around == ["made.one", "made.two", "made.three"]
    (package / "three.py").write_text("import json")
    assert not circle(graph(package))


def test_who_takes_a_name_from_a_package_imports_what_it_gathers(tmp_path: Path) -> None:
    """A file below may not import from the top of its own package."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "__init__.py").write_text("from made.one import name")
    (tmp_path / "made" / "one.py").write_text("from made import other")
    assert sorted(set(circle(graph(tmp_path / "made")))) == ["made", "made.one"]
