"""Knows the text of a model: one statement, whatever a file or a dialect has around it; runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

from airflow_provider_iterable.errors import ConfigurationError

_TABLE = re.compile(r"[^\W\d][\w$]*(\.[^\W\d][\w$]*)*")
_BLANKS: dict[int, str] = {
    **dict.fromkeys(map(ord, "\u00a0\u2007\u202f"), " "),  # no-break spaces, which databases take for letters
    **dict.fromkeys(map(ord, "\ufeff\u200b\u2060"), ""),  # byte order marks, and spaces without a width
}
_FILES = ("outfile", "dumpfile")
"""What MySQL writes a result into, in a transaction that may only read, too."""
_EDGE = re.compile(r"/\*|\*/")
Reading = Literal["as most", "nested comments", "slash comments"]


def select_all(table: str) -> str:
    """Return the query that reads a whole table; nothing is quoted.

    :param table: a name such as ``users`` or ``analytics.users``.
    :raises ConfigurationError: for anything but identifiers joined by dots.
    """
    if not _TABLE.fullmatch(table):
        raise ConfigurationError(
            f"{table!r} is not a plain table name such as analytics.users. Names that need quotes go into sql=, "
            "quoted as the database wants them."
        )
    return f"SELECT * FROM {table}"


def single_statement(sql: str) -> str:
    """Return the one statement in ``sql`` without its closing semicolons and the comments after them.

    A comment without a semicolon before it stays: what looks like one can be an operator of the database's own. So a
    query that embeds the statement puts it on lines of its own. Byte order marks are removed and no-break spaces
    become spaces, but for those within quotes.

    Postgres has comments within comments, Snowflake has comments that begin with ``//``. What is one statement in any
    of these readings is left to the database.

    :param sql: SQL text; comments and blanks may surround the statement.
    :raises ConfigurationError: when there is no statement, or more than one, or one that writes a file at the server.
    """
    readings: tuple[Reading, ...] = ("as most", "nested comments", "slash comments")
    found = next(filter(None, map(partial(_read, sql), readings)), None)
    if found is None:
        raise ConfigurationError("The model's SQL holds several statements; a model is one query.")
    return found


def _read(sql: str, reading: Reading) -> str | None:
    """Return the statement of a text that is read so; ``None``: there are several.

    :raises ConfigurationError: there is none, or it writes a file
    """
    from sqlparse import tokens

    kept, begun, ended, before = list[str](), False, False, ""
    for kind, text in _pieces(sql, reading):
        if kind not in tokens.Literal and text[0] not in '"`[':
            text = text.translate(_BLANKS)
        if kind is tokens.Punctuation and text == ";":
            ended = True
        elif text.strip() and kind not in tokens.Comment:
            if ended:
                return None
            begun = True
            if before == "into" and text.lower() in _FILES:
                raise ConfigurationError(
                    f"The model's SQL writes a file at the server (INTO {text.upper()}); a model is a query that "
                    "returns rows. Nothing was run."
                )
            before = text.lower()
        if not ended:
            kept.append(text)
    if not begun:
        raise ConfigurationError("The model's SQL holds no statement.")
    return "".join(kept).strip()


def _pieces(sql: str, reading: Reading) -> Iterator[tuple[Any, str]]:
    """Yield what a text is made of, as kinds and texts of sqlparse, with the comments of a dialect as comments."""
    # Imported here because DAG files import this module, and lexing happens in a task. common-sql depends on it.
    from sqlparse import lexer, tokens

    start, end = 0, len(sql)
    while start < end:
        for kind, text in lexer.tokenize(sql[start:]):  # type: ignore[no-untyped-call]  # sqlparse has no types
            stop = start + len(text)
            if reading == "nested comments" and kind in tokens.Comment and text.startswith("/*"):
                stop = _comment_end(sql, start)
            elif reading == "slash comments" and kind is tokens.Operator and text.startswith("//"):
                kind, stop = tokens.Comment.Single, (sql.find("\n", start) + 1) or end
            yield kind, sql[start:stop]
            longer, start = stop != start + len(text), stop
            if longer:  # what the lexer made of the rest of the comment is to be forgotten
                break


def _comment_end(sql: str, start: int) -> int:
    """Return where a comment ends that has comments within."""
    depth = 0
    for edge in _EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)
