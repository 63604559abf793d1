"""Explains one row on the command line."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

EXPLAINED, NO_ROW, FAILS, NO_TASK = 0, 1, 3, 4
"""Exit codes: there is a row or a memory of one; neither; the run would fail before it reads; the task cannot be had.
2 is for wrong arguments."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_iterable.explain",
        description="Say what the next run of a sync would do with one row, and why. Nothing is sent or written, and "
        "no lease is taken. People are masked and values are shown as shapes.",
        epilog="Exit codes: 0 the row is in the model or remembered; 1 neither; 2 wrong arguments; 3 the next run "
        "would fail before it reads a row, and says why; 4 there is no such task, or it cannot be rendered.",
    )
    parser.add_argument("--dag", required=True, metavar="DAG_ID")
    parser.add_argument("--task", required=True, metavar="TASK_ID")
    parser.add_argument(
        "--key", required=True, help="the key as the state has it, [42], or the value of a key of one column: 42, abc"
    )
    parser.add_argument("--map-index", type=int, default=-1, metavar="N", help="of a mapped task: which partition")
    parser.add_argument(
        "--run-date", metavar="DATE_OR_RUN_ID", help="for which run templates are rendered (default: one that is now)"
    )
    parser.add_argument("--dags", metavar="PATH", help="folder or file of the DAG (default: Airflow's dags_folder)")
    parser.add_argument("--no-types", action="store_true", help="do not ask Iterable for the types of its fields")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="log to standard error what is done")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the explanation, and return the exit code."""
    given = _parser().parse_args(arguments)
    with redirect_stdout(sys.stderr):  # what Airflow and DAG files print is no part of the explanation
        found = _explained(given)
    code, text = found
    print(text, file=sys.stderr if code == NO_TASK else sys.stdout)
    return code


def _explained(given: Any) -> tuple[int, str]:
    """Return the exit code, and what is to be printed."""
    from airflow_provider_iterable.explain.dags import NoSuchTask, pull, rendered
    from airflow_provider_iterable.explain.text import text_of
    from airflow_provider_iterable.masking import masked
    from airflow_provider_iterable.operators.explain import explain_row
    from airflow_provider_iterable.operators.failures import unforeseen
    from airflow_provider_iterable.runs.explained import Explanation, sentence

    if not given.verbose:
        logging.disable(logging.WARNING)
    try:
        operator, context = rendered(given.dag, given.task, given.map_index, given.run_date, given.dags)
        told = explain_row(operator, context, given.key, types=not given.no_types, pull=pull)  # type: ignore[arg-type]
    except NoSuchTask as error:
        return NO_TASK, masked(str(error))
    except Exception as error:  # what would fail the run, too: a connection that is missing
        said = unforeseen(error)
        words = str(said) if type(said).__name__ in str(said) else f"{type(said).__name__}: {said}"
        told = Explanation(sync_id="", action="fail", error=masked(words))
        told.verdict = sentence(told)
    finally:
        logging.disable(logging.NOTSET)
    code = FAILS if told.action == "fail" else NO_ROW if told.change == "unknown" else EXPLAINED
    return code, json.dumps(told.to_dict(), indent=2, ensure_ascii=False) if given.json else text_of(told)


if __name__ == "__main__":
    sys.exit(main())
