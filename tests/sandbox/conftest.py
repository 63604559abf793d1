"""Knows how tests speak to the sandbox: with a clock they turn, and without sockets."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from airflow_provider_iterable.sandbox.options import Options, ProjectType
from airflow_provider_iterable.sandbox.project.project import Project
from airflow_provider_iterable.sandbox.service import Incoming, Service
from airflow_provider_iterable.sandbox.shapes.answers import Answer

START = 1_760_000_000.0


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        """Stand at the start."""
        self.now = START

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Reply(NamedTuple):
    """An answer as a client sees it; status 0 is none."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def code(self) -> Any:
        """The code in the envelope."""
        return self.json["code"]


class Client:
    """Speaks to a service without a socket."""

    def __init__(self, service: Service, clock: Clock) -> None:
        """Take the service and the clock it goes by."""
        self.service = service
        self.clock = clock

    @property
    def project(self) -> Project:
        """The project behind the service."""
        return self.service.project

    def send(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        """Make a call; bytes are sent as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        path, _, query = target.partition("?")
        given = {"api-key": "key"} | {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.service.handle(Incoming(method, path, query, given, raw), self.clock.pass_)
        return _reply(answer)

    def post(self, name: str, body: Any = None, **headers: str) -> Reply:
        """POST to an endpoint below /api."""
        return self.send("POST", f"/api/{name}", body, **headers)

    def get(self, name: str, **headers: str) -> Reply:
        """GET an endpoint below /api."""
        return self.send("GET", f"/api/{name}", **headers)

    def bulk(self, *users: Any, **rest: Any) -> Reply:
        """Make a bulkUpdate."""
        return self.post("users/bulkUpdate", {"users": list(users), **rest})

    def fields_of(self, identifier: str) -> Any:
        """Return what is stored under an email or a user ID, or None."""
        profiles = self.project.profiles
        profile = profiles.with_email(identifier) or profiles.with_user_id(identifier)
        return None if profile is None else profile.fields

    def read(self, email: str) -> Any:
        """Read a user by email through the API."""
        return self.get(f"users/{quote(email, safe='')}").json


def _reply(answer: Answer | None) -> Reply:
    if answer is None:
        return Reply(0, "", {})
    return Reply(answer.status, answer.body.decode(), {"Content-Type": answer.content_type, **answer.headers})


Make = Callable[..., Client]


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Make:
    """Make a sandbox of a project type, with options; rates are off unless asked for."""

    def make_(project_type: ProjectType = "email", *, seed: int = 0, **options: Any) -> Client:
        chosen = Options().changed({"rates": False, **options})
        return Client(Service(project_type, options=chosen, clock=clock, seed=seed), clock)

    return make_
