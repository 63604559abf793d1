"""Fakes with a queue and a history: a small Iterable, and the few things that the engine's tests are told in."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

import msgspec

from airflow_provider_iterable.engine.doubt import with_receipts
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.spool import Spool
from airflow_provider_iterable.engine.vocabulary import (
    NO_INTENTS,
    Accepted,
    Added,
    Batch,
    Call,
    Changed,
    Entry,
    Handle,
    Intents,
    Invalid,
    Operation,
    Outcome,
    Patch,
    Recipe,
    Record,
    Records,
    Removed,
    Reply,
    Request,
    Row,
    Settled,
    Verdict,
)
from airflow_provider_iterable.state.memory import MemoryState


class Killed(Exception):
    """The worker died here."""


class _BulkUser(msgspec.Struct, rename="camel"):
    email: str
    data_fields: dict[str, Any] = {}
    merge_nested_objects: bool = False


class _Bulk(msgspec.Struct):
    users: list[msgspec.Raw]


FAULTS = (
    "lost_before",
    "lost_after",
    "429",
    "500_before",
    "500_after",
    "garbled_before",
    "garbled_after",
    "nameless",
    "uncounted",
    "413",
    "401",
    "kill_before",
    "kill_after",
    "die_before",
    "die_after",
)
"""What may befall a request of :class:`TinyIterable`; ``after`` and ``before`` tell whether it was applied. A task that
is killed may still commit, one that dies may not."""


@dataclass
class TinyIterable:
    """An email-based project without types and limits, in which the next requests go wrong as queued.

    ``refused`` maps an address to the array of ``failedUpdates`` that names it. With ``typed``, a value of field
    ``n`` that is no integer fails its whole batch; with ``clues``, the answer names the value.
    """

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: deque[str] = field(default_factory=deque)
    refused: dict[str, str] = field(default_factory=dict)
    typed: bool = False
    clues: bool = True
    history: list[Request] = field(default_factory=list)
    accepted: set[bytes] = field(default_factory=set)
    """Digests of all records that were ever written."""
    dead: bool = False
    """Whether whoever sends has died: nothing reaches Iterable from there, until the next run begins."""
    run: int = 0
    """The run whose requests arrive; threads of one that has ended reach nobody."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def heal(self) -> None:
        """End all faults and refusals."""
        self.faults.clear()
        self.refused.clear()
        self.typed = False

    def begin(self) -> Callable[[Batch], Reply]:
        """Let a run begin, and return what answers its requests until it ends."""
        with self._lock:
            self.run += 1
            self.dead = False
        return partial(self.send, run=self.run)

    def end(self) -> None:
        """Let nothing arrive any more from the run."""
        with self._lock:
            self.run += 1

    def send(self, batch: Batch, run: int | None = None) -> Reply:
        """Answer one request."""
        request = batch.call.wrap(batch.operations)
        with self._lock:
            if self.dead or run not in (None, self.run):
                raise Killed
            self.history.append(request)
            fault = self.faults.popleft() if self.faults else ""
            match fault:
                case "lost_before":
                    return Reply(0, error="ConnectionError")
                case "429":
                    return Reply(429, b'{"code":"RateLimitExceeded"}', retry_after=0.0)
                case "500_before":
                    return Reply(500, b"<html>oops</html>")
                case "garbled_before":
                    return Reply(200, b'{"successCount":1,"fa')
                case "413":
                    return Reply(413, b"<html>too large</html>")
                case "401":
                    return Reply(401, b'{"msg":"Invalid API key","code":"BadApiKey"}')
                case "kill_before":
                    raise Killed
                case "die_before":
                    self.dead = True
                    raise Killed
            reply = self._apply(request, fault)
            match fault:
                case "lost_after":
                    return Reply(0, error="ReadTimeout")
                case "500_after":
                    return Reply(502, b"<html>bad gateway</html>")
                case "garbled_after":
                    return Reply(200, reply.body[:20])
                case "kill_after":
                    raise Killed
                case "die_after":
                    self.dead = True
                    raise Killed
            return reply

    def _apply(self, request: Request, fault: str) -> Reply:
        if request.template == "/api/users/bulkUpdate":
            assert request.body is not None
            return self._bulk(msgspec.json.decode(request.body, type=_Bulk).users, fault)
        if request.method == "DELETE":
            self.users.pop(unquote(request.path.rpartition("/")[2]).lower(), None)
            return Reply(200, b'{"msg":"","code":"Success","params":null}')
        assert request.template == "/api/users/getByEmail"
        email = str(request.query["email"]).lower()
        found = self.users.get(email)
        user = {"user": {"email": email, "dataFields": found}}
        return Reply(200, b"{}" if found is None else msgspec.json.encode(user))

    def _bulk(self, raws: Sequence[msgspec.Raw], fault: str) -> Reply:
        people = [msgspec.json.decode(raw, type=_BulkUser) for raw in raws]
        wrong = [n for person in people if type(n := person.data_fields.get("n")) not in (int, type(None))]
        if self.typed and wrong:
            return _mismatched(people[0].data_fields.get("n"), wrong[0], self.clues)
        failed: dict[str, list[str]] = {}
        done = 0
        for raw, person in zip(raws, people, strict=True):
            email = person.email.strip().lower()
            if email in self.refused:
                if self.refused[email] == "notFoundEmails":
                    self.users.pop(email, None)  # or it would not be true
                failed.setdefault(self.refused[email], []).append(email)
                continue
            done += 1
            self.accepted.add(blake2b(bytes(raw), digest_size=12).digest())
            _merge(self.users.setdefault(email, {}), person.data_fields, person.merge_nested_objects)
        answer: dict[str, Any] = {"successCount": done, "failCount": len(people) - done, "failedUpdates": failed}
        if fault in ("nameless", "uncounted"):
            del answer["failedUpdates"]
        if fault == "uncounted":
            answer["failCount"] = 0
        return Reply(200, msgspec.json.encode(answer))


def _mismatched(first: Any, wrong: Any, clues: bool) -> Reply:
    error = {"expectedType": "long", "offendingValue": wrong if first == wrong else [first, wrong]}
    params = {"validationErrors": {"n": error}} if clues else {}
    return Reply(400, msgspec.json.encode({"code": "RequestFieldsTypesMismatched", "params": params}))


def _merge(profile: dict[str, Any], fields: Mapping[str, Any], deep: bool) -> None:
    for name, value in fields.items():
        if value is None:
            profile.pop(name, None)
        elif deep and isinstance(value, dict) and isinstance(profile.get(name), dict):
            _merge(profile[name], value, deep=False)
        else:
            profile[name] = value


Judge = Callable[[Batch, Reply], Verdict]


def accept(batch: Batch, reply: Reply) -> Verdict:
    """Judge that all was accepted."""
    return Settled()


def outcomes_of(told: Iterable[Outcome | Accepted]) -> Iterator[Outcome]:
    """Yield one outcome for each operation."""
    for item in told:
        if isinstance(item, Outcome):
            yield item
        else:
            yield from (Outcome(op.key, op.kind, Fate.ACCEPTED, operation=op) for op in item.operations)


def settled(verdict: Settled, operations: Sequence[Operation]) -> list[Outcome]:
    """Return the outcomes of a settled batch in the order of its operations."""
    assert verdict.outcomes.keys() <= set(range(len(operations)))
    return [
        verdict.outcomes.get(number) or Outcome(op.key, op.kind, Fate.ACCEPTED, operation=op)
        for number, op in enumerate(operations)
    ]


def a_call(
    judge: Judge = accept,
    *,
    items: int = 1000,
    size: int = 4_000_000,
    envelope: int = 0,
    rate: float = 0,
    then: Call | None = None,
    name: str = "/call",
    reads: bool = False,
) -> Call:
    """Return a call whose requests are the bodies, joined by commas."""

    def wrap(operations: Sequence[Operation]) -> Request:
        return Request("POST", name, name, body=b",".join(op.body for op in operations))

    return Call("POST", name, items, size, wrap, judge, rate, envelope=envelope, then=then, reads=reads)


def an_operation(
    key: str,
    call: Call | None,
    *,
    kind: Kind = Kind.ADDED,
    body: bytes | None = None,
    identity: str | None = None,
    forget: bool = False,
) -> Operation:
    """Return an operation that remembers its own key as fingerprint."""
    handles: tuple[Handle, ...] = (("email", identity or f"{key}@x.io"),)
    entry = None if forget else Entry(key.encode(), handles[0][1])
    return Operation(key, kind, call, key.encode() if body is None else body, handles, entry)


@dataclass
class Sender:
    """Gives the queued replies, then successes; keeps the keys of every batch. An exception in the queue is raised."""

    replies: deque[Reply | Exception] = field(default_factory=deque)
    history: list[list[str]] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Reply:
        """Answer a batch."""
        self.history.append([operation.key for operation in batch.operations])
        reply = self.replies.popleft() if self.replies else Reply(200)
        if isinstance(reply, Exception):
            raise reply
        return reply


@dataclass
class Committer:
    """Keeps every patch; raises the queued errors first, ``None`` lets one pass."""

    errors: deque[Exception | None] = field(default_factory=deque)
    history: list[Patch] = field(default_factory=list)
    intents: list[Intents] = field(default_factory=list)

    def __call__(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store a patch and intents."""
        error = self.errors.popleft() if self.errors else None
        if error is not None:
            raise error
        self.history.append(dict(with_receipts(patch, intents)))
        self.intents.append(intents)

    @property
    def state(self) -> dict[str, Entry | None]:
        """All patches, one over the other."""
        return {key: entry for patch in self.history for key, entry in patch.items()}


class PlainSync:
    """A sync whose rows are ``(key, identity, value)``: null keys and the value ``"bad"`` are invalid.

    :param call: of additions and changes
    :param removal: of removals; ``None``: forget silently
    """

    def __init__(
        self,
        call: Call | None,
        removal: Call | None = None,
        *,
        removals_first: bool = False,
        exclusive: bool = True,
        keeps_leavers: bool = False,
        collapses: bool = False,
    ) -> None:
        self.call, self.removal = call, removal
        self.looks_back = False
        self.removals_first, self.exclusive = removals_first, exclusive
        self.keeps_leavers, self.collapses = keeps_leavers, collapses
        self.plural = self.in_turn = False
        self.recipe: Recipe | None = None
        self.left: Call | None = None
        """What is called for the identity that a row had before."""
        self.refused: dict[str, Reason] = {}
        """Keys that the last look before packing rejects."""
        self.fate = Fate.REJECTED
        self.salvages = False

    def forms(self, ref: str) -> tuple[str]:
        """Remember somebody in one way."""
        return (ref,)

    def keys(self, rows: Sequence[Row]) -> list[str | Invalid]:
        """Name the rows."""
        return [Invalid("", Reason.NULL_KEY) if row[0] is None else str(row[0]) for row in rows]

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map the rows."""
        own = [self._fingerprint(key, row) for key, row in zip(keys, rows, strict=True)]
        if fingerprints:
            own = [one if isinstance(one, Invalid) else two for one, two in zip(own, fingerprints, strict=True)]
        bodies = [f"{key}={row[2]}".encode() for key, row in zip(keys, rows, strict=True)]
        return Records(keys, own, bodies, "email", [row[1] for row in rows])

    def _fingerprint(self, key: str, row: Row) -> bytes | Invalid:
        _, identity, value = row
        if identity is None:
            return Invalid(key, Reason.NO_IDENTIFIER)
        if value == "bad":
            return Invalid(key, Reason.INVALID_VALUE, handles=(("email", identity),))
        return str(value).encode()

    def identity(self, ref: str) -> Handle:
        """Tell whom an entry is about."""
        return ("email", ref)

    def added(self, change: Added) -> Operation:
        """Send a new row."""
        return self._operation(Kind.ADDED, change.after)

    def changed(self, change: Changed) -> Operation:
        """Send a changed row."""
        return self._operation(Kind.CHANGED, change.after)

    def _operation(self, kind: Kind, record: Record) -> Operation:
        remember = Entry(record.fingerprint, record.handles[0][1])
        return Operation(record.key, kind, self.call, record.body, record.handles, remember)

    def removed(self, change: Removed) -> Operation:
        """Send a removal."""
        handles = (self.identity(change.before.ref),)
        return Operation(change.key, Kind.REMOVED, self.removal, b"-" + change.key.encode(), handles, None)

    def moved(self, change: Changed) -> Operation | None:
        """Send a removal of the identity that was left, if this is the way of the test."""
        if self.left is None:
            return None
        key, handles = change.after.key + "/left", (self.identity(change.before.ref),)
        return Operation(key, Kind.REMOVED, self.left, b"-" + key.encode(), handles, None)

    def ranks(self, rows: Sequence[Row]) -> list[str]:
        """The value decides."""
        return [str(row[2]) for row in rows]

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Take a last look."""
        reason = self.refused.get(operation.key)
        if reason is None:
            return operation
        return Outcome(operation.key, operation.kind, self.fate, reason, operation=operation)

    def salvage(self, operation: Operation, fields: Collection[str], detail: str) -> Operation | None:
        """Send a refused row without the fields that are to blame, if this is the way of the test."""
        if not self.salvages:
            return None
        return msgspec.structs.replace(operation, body=operation.body + b"*", partial=detail)


def in_chunks(rows: Sequence[Row], size: int = 3) -> list[Sequence[Row]]:
    """Cut rows into chunks, as a model comes."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def remembering(*rows: Row) -> MemoryState:
    """Return a state in which these rows of a :class:`PlainSync` were accepted."""
    return MemoryState({str(key): Entry(str(value).encode(), identity) for key, identity, value in rows})


_spools: list[Spool] = []


def a_spool(directory: str | None = None) -> Spool:
    """Return a spool that :func:`close_spools` closes."""
    _spools.append(Spool(directory))
    return _spools[-1]


def close_spools() -> None:
    """Close all spools of a test."""
    while _spools:
        _spools.pop().close()


def keys(operations: Iterable[Operation]) -> list[str]:
    """Return the operations' keys."""
    return [operation.key for operation in operations]
