"""Prints for a terminal of 100 columns."""

from __future__ import annotations

import os
import sys
import textwrap

WIDTH = 100
_MARGIN = 3
_LABEL = 11
_STYLES = {"bold": "1", "good": "32", "bad": "31", "dim": "2"}


class Console:
    """Prints plain text; with a little colour on a terminal.

    Colour is left out when standard output is no terminal, or when ``NO_COLOR`` is set.
    """

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def title(self, text: str) -> None:
        """Print a heading after an empty line."""
        print(f"\n{self._styled(text, 'bold')}", flush=True)

    def line(self, text: str, style: str = "") -> None:
        """Print a sentence, wrapped."""
        for part in textwrap.wrap(text, WIDTH - _MARGIN):
            print(" " * _MARGIN + self._styled(part, style), flush=True)

    def item(self, label: str, *lines: str, style: str = "") -> None:
        """Print lines beside a label; those that begin with spaces keep them, also where they are wrapped."""
        room = WIDTH - _MARGIN - _LABEL
        parts: list[str] = []
        for line in lines:
            indent = " " * (len(line) - len(line.lstrip()) + 2)
            parts += textwrap.wrap(line, room, subsequent_indent=indent, break_on_hyphens=False)
        for number, part in enumerate(parts):
            print(f"{'':{_MARGIN}}{'' if number else label:{_LABEL}}{self._styled(part, style)}", flush=True)

    def begin(self, label: str, text: str) -> None:
        """Print a line that :meth:`end` completes."""
        print(f"{'':{_MARGIN}}{label:{_LABEL}}{text}", end="", flush=True)

    def end(self, text: str) -> None:
        """Complete a line."""
        print(text, flush=True)

    def _styled(self, text: str, style: str) -> str:
        return f"\033[{_STYLES[style]}m{text}\033[0m" if self._colour and style else text
