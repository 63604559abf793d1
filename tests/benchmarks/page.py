"""``python -m tests.benchmarks.page``: measure again what docs/benchmarks.md shows.

Each of the page's ``console`` blocks begins with a command of this package, which is run again; its output takes the
place of the old one, below the commit at which it was measured. With words, only commands that have one of them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BLOCK = re.compile(r"(?<=^```console\n)\$ python (-m tests\.benchmarks.*)\n[^`]*(?=^```$)", re.MULTILINE)


def commit() -> str:
    """Return the commit that is checked out, and whether the provider differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(("git", *arguments), stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "airflow_provider_iterable")
    return git("rev-parse", "--short=8", "HEAD") + (" with changes" if changed else "")


def measured(block: re.Match[str]) -> str:
    """Return a block with what its command prints now."""
    print(f"$ python {block[1]}", file=sys.stderr, flush=True)
    at, load = commit(), os.getloadavg()[0]
    done = subprocess.run([sys.executable, *block[1].split()], stdout=subprocess.PIPE, text=True, check=True)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    said = f"commit {at}, {datetime.now(UTC):%Y-%m-%d}, load before: {load:.1f}"
    return "\n".join([f"$ python {block[1]}", said, *lines, ""])


def main() -> None:
    """Measure again, block by block."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.page", description=__doc__)
    parser.add_argument("words", nargs="*", help="measure only commands that have one of these words")
    words = parser.parse_args().words
    for command in [found[1] for found in BLOCK.finditer(PAGE.read_text())]:
        if not words or any(word in command for word in words):
            text = PAGE.read_text()  # anew, for a block may take a quarter of an hour
            (block,) = (found for found in BLOCK.finditer(text) if found[1] == command)
            shown = measured(block)
            PAGE.write_text(text[: block.start()] + shown + text[block.end() :])


if __name__ == "__main__":
    main()
