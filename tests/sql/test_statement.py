from __future__ import annotations

import pytest

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.sql.statement import select_all, single_statement


@pytest.mark.parametrize("table", ["users", "analytics.users", "DB.Schema_1.users$x", "_t", "größen"])
def test_a_table_is_a_query(table: str) -> None:
    """A table's name becomes a query, unquoted."""
    assert select_all(table) == f"SELECT * FROM {table}"


@pytest.mark.parametrize(
    "table", ["", "a b", "a;b", '"a"', "a..b", ".a", "a.", "1a", "a-b", "a--b", "(SELECT 1)", "a\n"]
)
def test_a_table_is_nothing_but_a_dotted_name(table: str) -> None:
    """Whatever else it is belongs into sql=."""
    with pytest.raises(ConfigurationError, match="plain table name"):
        select_all(table)


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT 1 ;; \n", "SELECT 1"),
        ("SELECT 1; -- one\n/* ; */;", "SELECT 1"),
        ("SELECT ';' AS a, \";\" AS b -- c;", "SELECT ';' AS a, \";\" AS b -- c;"),
        ("SELECT 1 -- one\n;", "SELECT 1 -- one"),
        ("/* who; */ SELECT $$a;b$$;", "/* who; */ SELECT $$a;b$$"),
        ("SELECT a # b", "SELECT a # b"),
        ("\ufeffSELECT 1 AS id", "SELECT 1 AS id"),
        ("-- one file\nSELECT 1\n-- and another\n\ufeff, 2;", "-- one file\nSELECT 1\n-- and another\n, 2"),
        ("SELECT\u00a0a,\u202fb\u200b FROM t", "SELECT a, b FROM t"),
        ("\u00a0SELECT 1;\u00a0\ufeff;\u200b", "SELECT 1"),
        ("/* a /* b ; */ c ; */ SELECT 1 AS id;", "/* a /* b ; */ c ; */ SELECT 1 AS id"),
        ("SELECT 1; /* a /* ; */ b */ ;", "SELECT 1"),
        ("SELECT 1 AS a // a note; or two\n, 2 AS b;", "SELECT 1 AS a // a note; or two\n, 2 AS b"),
        (
            "SELECT 1 AS a // it's a note;\n, 'x;' AS b // done;\n;",
            "SELECT 1 AS a // it's a note;\n, 'x;' AS b // done;",
        ),
        ("SELECT 7 // 2 AS a;", "SELECT 7 // 2 AS a"),
    ],
)
def test_a_statement_ends_at_its_semicolon(sql: str, statement: str) -> None:
    """Semicolons in texts and comments end nothing; comments that no semicolon precedes stay."""
    assert single_statement(sql) == statement


@pytest.mark.parametrize("blank", ["\u00a0", "\ufeff", "\u200b"])
@pytest.mark.parametrize("quotes", ["''", '""', "``", "[]", ("$$", "$$"), ("$x$", "$x$")])
def test_what_is_quoted_is_left_alone(blank: str, quotes: tuple[str, str]) -> None:
    """A value may have any character, and so may the name of a column."""
    sql = f"SELECT {quotes[0]}a{blank};b{quotes[1]}"
    assert single_statement(f"\ufeff{sql}{blank};") == sql


@pytest.mark.parametrize(
    "sql",
    [
        *("SELECT 1; SELECT 2", "SET x = 1;\nSELECT 1;", "SELECT 1; ' "),
        *("/* a /* ; */ b */ SELECT 1; SELECT 2", "SELECT 1 // one\n; SELECT 2", "SELECT 1;\u00a0SELECT 2"),
    ],
)
def test_several_statements_are_refused(sql: str) -> None:
    """A model is one query, not a script."""
    with pytest.raises(ConfigurationError, match="several statements"):
        single_statement(sql)


@pytest.mark.parametrize(
    "sql", ["", " \n", ";", "-- SELECT 1", "/* SELECT 1 */ ;", "\ufeff", "\u00a0;", "/* ; /* ; */ ; */"]
)
def test_no_statement_is_refused(sql: str) -> None:
    """Blanks and comments are no query."""
    with pytest.raises(ConfigurationError, match="no statement"):
        single_statement(sql)


@pytest.mark.parametrize("sql", ["SELECT 1 INTO OUTFILE 'users.csv'", "select 1 into /* a */\n dumpfile 'users.csv'"])
def test_a_query_that_writes_a_file_is_refused(sql: str) -> None:
    """MySQL does it in a transaction that may only read; names and texts are no reason."""
    with pytest.raises(ConfigurationError, match=r"writes a file at the server \(INTO (OUTFILE|DUMPFILE)\)"):
        single_statement(sql)
    harmless = "SELECT 'into outfile' AS into_outfile, outfile FROM `into` outfile -- into outfile"
    assert single_statement(harmless) == harmless
