"""The steps in which a request is answered: fault, project, key, rate, endpoint, log."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec

from .calls import Call, Calls
from .endpoints.routes import Route, Table, query_of
from .faults import Fault, Faults
from .limits import Excess, Limits
from .options import PROJECT_TYPES, Options, ProjectType
from .project.kept import Kept, keep, restored
from .project.project import DAY, Project
from .shapes import answers
from .shapes.answers import Answer
from .shapes.bodies import BadBodyError, read
from .shapes.request import Request

MOST_BODY = 100_000
"""Characters of a body that are recorded."""
_BATCHES = (
    "users",
    "users_by_user_id",
    "events",
    "subscribers",
    "update_subscriptions_requests",
    "documents",
    "item_ids",
)


class Incoming(msgspec.Struct):
    """A request as it came in; header names in lower case, underscores as dashes."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = {}
    body: bytes = b""
    ip: str = "127.0.0.1"


class KeptService(msgspec.Struct, forbid_unknown_fields=True):
    """All projects, the first one first."""

    projects: Annotated[list[Kept], msgspec.Meta(min_length=1)]
    format: Literal[1] = 1


class Service:
    """Iterable's API in front of projects of one type, with their keys, rates, faults and log.

    There is one project, and others only where `project_keys` names them; each is made when it is first met.
    """

    def __init__(
        self, project_type: ProjectType, *, options: Options, clock: Callable[[], float], seed: int = 0
    ) -> None:
        """Start with an empty project."""
        _known(project_type)
        self.lock = threading.RLock()
        self.clock = clock
        self._first = (project_type, options, seed)
        self._table = Table()
        self.calls = Calls()
        self.changes = 0
        """Inspections that may have changed something."""
        self._begin(project_type, options, seed)

    def _begin(self, project_type: ProjectType, options: Options, seed: int) -> None:
        self.project = Project(project_type, options=options, clock=self.clock, seed=seed)
        self._others: dict[int, Project] = {}
        self._seed = seed
        self.faults = Faults(seed)
        self.limits = Limits()
        self.calls.clear()

    def reset(self, project_type: ProjectType | None = None) -> None:
        """Go back to the start: an empty project, no faults, full buckets, the first options."""
        _known(project_type)
        with self.lock:
            first_type, options, seed = self._first
            self._begin(project_type or first_type, options, seed)

    def kept(self) -> bytes:
        """Return what the projects hold, as JSON that `restore` takes; options, faults and calls are left out."""
        with self.lock:
            projects = [self.project, *self._others.values()]
            return msgspec.json.encode(KeptService([keep(project) for project in projects]))

    def restore(self, data: bytes) -> None:
        """Let the projects hold what `kept` returned; anything else is a ValueError, and changes nothing."""
        try:
            first, *others = msgspec.json.decode(data, type=KeptService).projects
        except (msgspec.DecodeError, UnicodeError, ValueError) as error:
            raise ValueError(f"not a kept sandbox: {error}") from None
        with self.lock:
            project, made = self._restored(first, self.project.options.project_id), {}
            for kept in others:
                made[kept.number] = self._restored(kept, kept.number)
            self.project, self._others = project, made

    def _restored(self, kept: Kept, number: int) -> Project:
        own = msgspec.structs.replace(self.project.options, project_id=number)
        try:
            return restored(kept, Project(kept.type, options=own, clock=self.clock, seed=self._seed))
        except (LookupError, ValueError) as error:
            raise ValueError(f"not a kept sandbox: {error!r}") from None

    def direct(self, project: Project, method: str, path: str, body: Any) -> Any:
        """Return the answer to an API call as JSON without key, rate, fault and log; a refusal is a ValueError."""
        found = self._table.find(method, path)
        assert found is not None, path
        route, variable = found
        try:
            sent: Any = read(msgspec.json.encode(body), route.body) if route.body is not None else None
        except BadBodyError as error:
            raise ValueError(f"{path}: {error.violations}") from None
        answer = route.action(project, Request(variable, sent))
        said = msgspec.json.decode(answer.body)
        if answer.status >= 300 or said.get("failCount"):
            raise ValueError(f"{path}: {answer.body.decode()}")
        return said

    def numbered(self, number: int) -> Project:
        """Return the project with the number, which has the options of the first; an unknown one is a ValueError."""
        options = self.project.options
        if number == options.project_id:
            return self.project
        if number not in options.project_keys.values():
            raise ValueError(f"no project {number}")
        own = msgspec.structs.replace(options, project_id=number)
        if number not in self._others:
            self._others[number] = Project(self.project.type, options=own, clock=self.clock, seed=self._seed)
        self._others[number].options = own
        return self._others[number]

    def project_of(self, key: str) -> Project:
        """Return the project that a key belongs to."""
        options = self.project.options
        return self.numbered(options.project_keys.get(key, options.project_id))

    def handle(self, incoming: Incoming, elapse: Callable[[float], None]) -> Answer | None:
        """Answer an API request and log it; None means to close the connection without an answer."""
        started = self.clock()
        found = self._table.find(incoming.method, incoming.path)
        with self.lock:
            project = self.project_of(incoming.headers.get("api-key", ""))
            call = _call_of(incoming, found[0] if found else None, started, project.options.project_id)
            fault = self.faults.next_fault(incoming.path, call.template or incoming.path, incoming.query, incoming.body)
        call.fault = fault.kind if fault else None
        answer = self._answered(project, incoming, found, fault, call)
        if fault is not None and fault.kind == "slow":
            elapse(fault.seconds)
        bodies = project.options.record_bodies
        if bodies:
            call.request = _text(incoming.body)
            call.answer = _text(answer.body) if answer is not None else ""
        with self.lock:
            call.finished = self.clock()
            self.calls.add(call, bodies)
        return answer

    def _answered(
        self,
        project: Project,
        incoming: Incoming,
        found: tuple[Route, dict[str, str]] | None,
        fault: Fault | None,
        call: Call,
    ) -> Answer | None:
        """Return the answer with its fault, and note it in the call."""
        if fault is not None and fault.kind == "drop_before":
            return None
        answer = _early_fault(project, fault, found, incoming) or self._judged(project, incoming, found, call)
        call.applied = answer.applied
        call.accepted, call.failed = _outcome(call, answer)
        if project.options.record_identifiers:
            call.identifiers = answer.identifiers
        if fault is not None and fault.kind == "drop_after":
            return None
        if fault is not None and fault.kind == "malformed":
            answer = Answer(200, b'{"msg":"","code":"Succ')
        if fault is not None and fault.kind == "drip":
            answer.drip = fault.seconds
        call.status, call.code = answer.status, answer.code
        return answer

    def _judged(
        self, project: Project, incoming: Incoming, found: tuple[Route, dict[str, str]] | None, call: Call
    ) -> Answer:
        """Return the answer without any fault."""
        if found is None:
            return answers.page(404, "Action not found")
        route, variable = found
        options = project.options
        with self.lock:
            barred = _key_refusal(incoming, route, options) or _shut(route, options)
            barred = barred or self._too_fast(project, route, incoming)
        if barred is not None:
            return barred
        if route.bulk and len(incoming.body) > options.max_bytes:
            return _too_large(options)
        try:
            body = read(incoming.body, route.body) if route.body is not None else None
        except BadBodyError as error:
            refuse = answers.bad_body_error if route.plain else answers.bad_body
            return refuse(route.template, error.violations)
        call.records = _records(body)
        if route.bulk and options.max_records is not None and call.records > options.max_records:
            return answers.refusal(400, "BatchTooLarge", f"Batch of more than {options.max_records} items")
        request: Request[Any] = Request({**query_of(incoming.query), **variable}, body)
        with self.lock:
            try:
                return route.action(project, request)
            except RecursionError:
                return answers.bad_body(route.template, {})

    def _too_fast(self, project: Project, route: Route, incoming: Incoming) -> Answer | None:
        """Count the request to the rate and the daily quota of its endpoint, or refuse it."""
        options, now = project.options, self.clock()
        rate = options.rate_overrides.get(route.endpoint, route.rate)
        excess = None
        if options.rates and rate is not None:
            counter = f"{options.project_id} {_counter(route, incoming)}"
            excess = self.limits.refuse(counter, rate, options.burst_seconds * route.period, now)
        if excess is None and route.quota is not None:
            excess = _over_quota(project, route.quota, now)
        if excess is None:
            return None
        return answers.too_fast(incoming.path, excess, options, with_params=route.exact)


def _early_fault(
    project: Project, fault: Fault | None, found: tuple[Route, dict[str, str]] | None, incoming: Incoming
) -> Answer | None:
    """Return the answer of a fault that keeps the request from the project."""
    if fault is None:
        return None
    if fault.kind == "5xx_html":
        return answers.page(fault.status, f"{fault.status} Service Unavailable")
    if fault.kind == "poison":
        return answers.refusal(fault.status, "GenericError", "An error occurred while processing the request")
    if fault.kind == "429":
        route = found[0] if found else None
        rate = (route.rate if route else None) or 1.0
        excess = Excess(rate, max(1.0, rate), 0, fault.seconds)
        exact = route is not None and route.exact
        return answers.too_fast(incoming.path, excess, project.options, with_params=exact)
    return None


def _over_quota(project: Project, name: str, now: float) -> Excess | None:
    quota, most = project.quotas[name], project.options.forget_quota
    if quota.take(now, most):
        return None
    return Excess((most or 0) / DAY, most or 0, 0, quota.reset(now))


def _counter(route: Route, incoming: Incoming) -> str:
    """Return by what the requests of an endpoint are counted: by itself, or by key as well."""
    return f"{route.endpoint} {incoming.headers.get('api-key')}" if route.per_key else route.endpoint


def _known(project_type: ProjectType | None) -> None:
    if project_type not in (None, *PROJECT_TYPES):
        raise ValueError(f"project_type: one of {', '.join(PROJECT_TYPES)}")


def _call_of(incoming: Incoming, route: Route | None, started: float, project: int) -> Call:
    return Call(
        seq=0,
        method=incoming.method,
        path=incoming.path,
        template=route.template if route else None,
        status=0,
        code=None,
        records=0,
        bytes=len(incoming.body),
        applied=False,
        accepted=0,
        failed=0,
        body_sha256=hashlib.sha256(incoming.body).hexdigest(),
        project=project,
        started=started,
        finished=started,
    )


def _records(body: Any) -> int:
    """Return how many records a body holds."""
    if body is None:
        return 0
    held = [getattr(body, name) for name in _BATCHES if hasattr(body, name)]
    return sum(len(batch or ()) for batch in held) if held else 1


class _Counts(msgspec.Struct):
    successCount: int | None = None  # noqa: N815
    failCount: int = 0  # noqa: N815


_counts = msgspec.json.Decoder(_Counts)


def _outcome(call: Call, answer: Answer) -> tuple[int, int]:
    """Return how many records of a call were accepted, and how many failed: as the answer counts them, or all alike."""
    if call.method == "GET":
        return 0, 0
    if answer.counts is not None:
        return answer.counts
    if answer.status == 200 and answer.content_type == answers.JSON:
        with suppress(msgspec.DecodeError):
            found = _counts.decode(answer.body)
            if found.successCount is not None:
                return found.successCount, found.failCount
    if answer.status < 300:
        return (max(call.records, 1), 0) if answer.applied else (0, 0)
    return 0, call.records


def _text(body: bytes) -> str:
    return body[: 4 * MOST_BODY].decode(errors="replace")[:MOST_BODY]


def _too_large(options: Options) -> Answer:
    if options.too_large == "413":
        return answers.page(413, "413 Request Entity Too Large")
    return answers.refusal(400, "BatchTooLarge", f"Request body is larger than {options.max_bytes} bytes")


def _shut(route: Route, options: Options) -> Answer | None:
    """Refuse a call that Iterable has not switched on for the project."""
    if route.gate is None or getattr(options, route.gate):
        return None
    return answers.refusal(404, "NotFound", f"Endpoint not found for project: {options.project_id}")


def _key_refusal(incoming: Incoming, route: Route, options: Options) -> Answer | None:
    """Return why the key in the header may not make this call."""
    key = incoming.headers.get("api-key", "")
    ip, endpoint = incoming.ip, incoming.path
    read_only, disabled = key in options.read_only_keys, key in options.disabled_keys
    if disabled or (read_only and not route.open):
        identifier = hashlib.sha256(key.encode()).hexdigest()[:8]
        return answers.key_without_rights(ip, endpoint, identifier, "ReadOnly" if read_only else "ServerSide")
    if read_only or key in options.project_keys or (key and options.api_key in (None, key)):
        return None
    return answers.bad_key(ip, endpoint)


def chosen(service: Service, query: dict[str, str]) -> Project:
    """Return the project that an inspection asks for: the first, unless `project` says another number."""
    return service.numbered(int(query["project"])) if "project" in query else service.project
