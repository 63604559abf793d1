"""The command line of the sandbox; serves until a signal stops it."""

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from .keeping import Keeper
from .options import PROJECT_TYPES
from .server import HOST, Sandbox

OPEN = (
    "WARNING: {} is open to the network. Whoever reaches it reads and changes everything here, without a key: "
    "users, bodies, options. Keep real people's data out of it."
)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_iterable.sandbox",
        description="A local Iterable: answers REST calls as Iterable does.",
    )
    parser.add_argument(
        "--host", default=HOST, help="the address to listen on; others than %(default)s are open to the network"
    )
    parser.add_argument("--port", type=int, default=8090, help="0: a free port (default: %(default)s)")
    parser.add_argument("--project-type", choices=PROJECT_TYPES, default="email", help="default: %(default)s")
    parser.add_argument("--no-rates", action="store_true", help="no limits to the rate of requests")
    parser.add_argument("--api-key", help="the only key accepted (default: any)")
    parser.add_argument("--random-seed", type=int, default=0, help="of chance in faults and made-up addresses")
    parser.add_argument(
        "--seed",
        type=Path,
        metavar="FILE",
        help="JSON of users, channels, lists, events and so on to begin with",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE",
        help="where the content is kept: read at the start if it is there, and then nothing is seeded; written every "
        "few seconds and at the end",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="any other option, for instance max_fields=20; a value that is no JSON is a string",
    )
    return parser.parse_args(argv)


def options_from(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that the command line sets; it records identifiers, for the page to tell a user's story."""
    options: dict[str, Any] = {"record_identifiers": True}
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
        where: dict[str, Any] = {"host": given.host, "port": given.port, "seed": given.random_seed}
        sandbox = Sandbox(given.project_type, **where, **options_from(given))
        keeper = Keeper(sandbox.service, given.keep) if given.keep is not None else nullcontext()
        loaded = isinstance(keeper, Keeper) and keeper.load()
        if given.seed is not None and not loaded:
            sandbox.seed(**msgspec.json.decode(given.seed.read_bytes(), type=dict[str, Any]))
        with keeper, sandbox:
            if not is_loopback(given.host):
                print(OPEN.format(given.host), file=sys.stderr, flush=True)
            print(f"Iterable sandbox ({sandbox.project.type} project) at {sandbox.url}", flush=True)
            stopped.wait()
    except (ValueError, TypeError, OSError, msgspec.DecodeError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    return 0


def is_loopback(host: str) -> bool:
    """Return whether an address, or the name of one, is reached from this machine alone."""
    try:
        return ip_address(socket.gethostbyname(host)).is_loopback
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
