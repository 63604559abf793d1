"""The command line of the sandbox; serves until a signal stops it."""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

import msgspec

from .options import PROJECT_TYPES
from .server import Sandbox


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_iterable.sandbox",
        description="A local Iterable: answers REST calls as Iterable does.",
    )
    parser.add_argument("--port", type=int, default=8090, help="0: a free port (default: %(default)s)")
    parser.add_argument("--project-type", choices=PROJECT_TYPES, default="email", help="default: %(default)s")
    parser.add_argument("--no-rates", action="store_true", help="no limits to the rate of requests")
    parser.add_argument("--api-key", help="the only key accepted (default: any)")
    parser.add_argument("--seed", type=int, default=0, help="of chance in faults and made-up addresses")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="any other option, for instance max_fields=20; a value that is no JSON is a string",
    )
    return parser.parse_args(argv)


def options_from(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that the command line sets."""
    options: dict[str, Any] = {}
    for item in given.option:
        name, _, value = item.partition("=")
        try:
            options[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            options[name] = value
    if given.no_rates:
        options["rates"] = False
    if given.api_key is not None:
        options["api_key"] = given.api_key
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    given = arguments(argv)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        sandbox = Sandbox(given.project_type, port=given.port, seed=given.seed, **options_from(given))
    except (ValueError, TypeError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    with sandbox:
        print(f"Iterable sandbox ({given.project_type} project) at {sandbox.url}", flush=True)
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
