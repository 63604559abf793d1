"""The values that the parts of the engine hand to one another; their ``repr`` shows no personal data.

Values are ``msgspec`` structs (frozen, slotted, cheap to make a million times); variants are classes, closed by
``match`` and ``assert_never``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import force_setattr

from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.masking import masked

Row = Sequence[Any]
"""What SQL returned, in the order of the model's columns."""

Handle = tuple[str, str]
"""A name by which Iterable may report a record: ``("email", "a@x.io")``; folded when made."""


def people(handles: Iterable[Handle]) -> tuple[str, ...]:
    """Return the handles' values that are identifiers of people."""
    return tuple(value for kind, value in handles if kind in ("email", "user_id"))


class MaskedRepr(Struct, frozen=True):
    """Its ``repr`` shows lengths of texts, not texts: it may become part of the message of an unforeseen error."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_outline(getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({shown})"


def _outline(value: Any) -> str:
    if isinstance(value, str | bytes | tuple | list | dict) and not isinstance(value, StrEnum):
        return f"<{len(value)}>"
    return str(value) if isinstance(value, int | float | None | StrEnum | MaskedRepr) else f"<{type(value).__name__}>"


NEVER_EQUAL = bytes(12)
"""A fingerprint that no record has: the entry is in doubt, so its row is a change, whatever it holds."""


class Entry(MaskedRepr, frozen=True, gc=False):
    """What is remembered of a record: enough to compare, and to undo."""

    fingerprint: bytes
    """12 bytes: short enough to keep millions in memory, long enough that no change is ever missed."""
    ref: str = ""
    """The smallest JSON text that finds the record again when its row is gone; empty until recalled."""


class Record(MaskedRepr, frozen=True, gc=False):
    """A row, mapped."""

    key: str
    fingerprint: bytes
    body: bytes
    handles: tuple[Handle, ...]
    """The first one is the identity; the others are further names by which Iterable may blame the record."""


class Invalid(MaskedRepr, frozen=True, gc=False):
    """A row that cannot be sent, and why. Its key, if it has one, still counts as present."""

    key: str
    reason: Reason
    detail: str = ""
    handles: tuple[Handle, ...] = ()
    names: tuple[str, ...] = ()
    """What else the person is called, such as by an identifier that is malformed: to be masked, not to be matched."""


class Records(MaskedRepr, frozen=True, gc=False):
    """Rows of a chunk, mapped, column by column: a million rows go through without an object for each."""

    keys: Sequence[str]
    fingerprints: Sequence[bytes | Invalid]
    """A row that cannot be sent has the reason in the place of a fingerprint."""
    bodies: Sequence[bytes]
    kind: str
    """What names the records at Iterable: the kind of their first handles."""
    names: Sequence[str | None]
    """Their values; ``None`` where a row has none, and so cannot be sent."""
    others: Mapping[int, tuple[Handle, ...]] = {}
    """Further handles of some rows."""

    def handles(self, number: int) -> tuple[Handle, ...]:
        """Return all handles of a row; none without the first."""
        name = self.names[number]
        if name is None:
            return ()
        first = ((self.kind, name),)
        return first + self.others[number] if number in self.others else first

    def record(self, number: int) -> Record | Invalid:
        """Return a row's record by itself."""
        fingerprint = self.fingerprints[number]
        if isinstance(fingerprint, Invalid):
            return fingerprint
        return Record(self.keys[number], fingerprint, self.bodies[number], self.handles(number))


class Recipe(Struct, frozen=True):
    """What a database needs to compare the rows of a sync by itself: what names them, what their payload is made of.

    A sync whose rows have to be seen to be named has none.
    """

    key: tuple[int, ...]
    """Positions of the columns whose values are the key text."""
    columns: tuple[int, ...]
    """Positions of the columns that the payload and the identifiers come from."""
    text: str
    """Everything else that decides how a payload looks: fields, constants, options."""
    json: tuple[int, ...] = ()
    """Positions of columns of whose text nothing counts but the JSON that it is."""
    again: tuple[int, ...] = ()
    """Positions of columns: where one of them has a value, an unchanged row is to be looked at as well."""


class Present(MaskedRepr, frozen=True, gc=False):
    """Rows of the model and the fingerprints that are remembered under their keys, column by column."""

    keys: Sequence[str]
    rows: Sequence[Row]
    before: Sequence[bytes | None]
    fingerprints: Sequence[bytes] = ()
    """The rows' own, where a database computed them; empty: the sync does."""
    refs: Sequence[str | None] = ()
    """The references that are remembered as well, where they came along; empty: they are still to be recalled."""


class Unseen(Protocol):
    """Unchanged rows that stayed in the database; some of them may have to be read later."""

    def bearers(self, refs: Sequence[str]) -> Mapping[str, str]:
        """Return the keys that are remembered with one of these references, and with which."""
        ...

    def present(self, keys: Sequence[str]) -> Iterator[Present]:
        """Read the rows that have these keys, with their fingerprints."""
        ...


class UnchangedInDatabase(Struct, frozen=True, gc=False):
    """A number of unchanged rows, as the database that compared them found.

    The first one, with 0 rows, comes before all other pairs: it hands over ``unseen``.
    """

    rows: int
    unseen: Unseen


class Gone(MaskedRepr, frozen=True, gc=False):
    """A remembered key that no row of the model has."""

    key: str
    before: Entry


class Duplicate(MaskedRepr, frozen=True, gc=False):
    """A key that ``rows`` rows share; known after the last row, its first row was among the :class:`Present`."""

    key: str
    rows: int


class Erased(MaskedRepr, frozen=True, gc=False):
    """Keys of rows about people whom a privacy sync erased, one for each row: no request is made for them."""

    keys: Sequence[str]


Pair = Present | UnchangedInDatabase | Gone | Duplicate | Invalid | Erased


class Added(Struct, frozen=True, gc=False):
    """A record Iterable has not accepted yet."""

    after: Record


class Fresh(Struct, frozen=True, gc=False):
    """Rows of a chunk under whose keys nothing is remembered: all of them are :class:`Added`, or cannot be sent."""

    records: Records


class Changed(Struct, frozen=True, gc=False):
    """A record that differs from the one Iterable accepted under its key."""

    before: Entry
    after: Record


class Removed(Struct, frozen=True, gc=False):
    """A record Iterable accepted whose row has left the model."""

    key: str
    before: Entry


class Incomplete(Struct, frozen=True, gc=False):
    """A record as Iterable accepted it, but without fields that it has by now."""

    after: Record


class Overwritten(Struct, frozen=True, gc=False):
    """A record without news whose identity another row of the run changes, so that it goes again."""

    after: Record


class Bearer(Struct, frozen=True, gc=False):
    """A row that cannot be sent and bears an identity: its hash."""

    identity: int


class Unchanged(MaskedRepr, frozen=True, gc=False):
    """Rows without news; their first handles are the identities that are present without being sent."""

    kind: str
    names: Sequence[str | None]


Change = Added | Changed | Removed
News = (
    Change | Fresh | Incomplete | Overwritten | Bearer | Unchanged | UnchangedInDatabase | Invalid | Duplicate | Erased
)


class Request(MaskedRepr, frozen=True):
    """One HTTP request as plain values; the host and the key are the client's business."""

    method: str
    path: str
    template: str
    """The path as it may appear in logs and reports, without identifiers."""
    query: Mapping[str, str | Sequence[str]] = {}
    body: bytes | None = None


class Reply(MaskedRepr, frozen=True):
    """One HTTP answer as plain values."""

    status: int
    """HTTP status; 0 when there was no answer, or none that could be read."""
    body: bytes = b""
    retry_after: float | None = None
    """Seconds Iterable asked to wait, from ``Retry-After`` or ``rateLimitReset``."""
    milliseconds: float = 0.0
    request_id: str = ""
    server: str = ""
    """What the server calls itself, if that is a product's name: it may be a gateway, and not Iterable."""
    error: str = ""
    """For status 0: what went wrong on the way, as an exception's class name."""
    sent: bool = True
    """Whether any of the request may have left this machine; an unanswered request that did not was not applied."""


@dataclass(frozen=True, eq=False)
class Call:
    """An endpoint with its fixed options; hashable by identity, it is the batch key."""

    method: str
    template: str
    max_items: int
    max_bytes: int
    wrap: Callable[[Sequence[Operation]], Request]
    judge: Callable[[Batch, Reply], Verdict]
    rate: float
    """Requests per second that Iterable documents for the project; 0 where it documents none."""
    envelope: int = 64
    """Bytes of a request around the joined bodies."""
    repeatable: bool = True
    """Whether sending an operation twice leaves Iterable as sending it once does; when not, an operation whose fate is
    unknown is remembered as if it were accepted, and reported as unconfirmed."""
    reads: bool = False
    """Whether it only looks something up: it changes nothing, so that an answer may be lost."""
    looks_back: bool = False
    """Whether what became of an operation in doubt is looked up before it goes again, and makes a difference: then new
    rows of syncs that remember their keys for ever are in doubt, too, and all are with their fingerprint."""
    then: Call | None = None
    """The call an operation goes on to once this one accepted it (a look-up before an update)."""
    does: str = ""
    """What it does, for people: ``"upsert users"``."""
    subscribes: bool = False
    """Whether it, or what it goes on to, subscribes people to messages, of which ``max_subscribed`` is a limit."""


class Operation(MaskedRepr, frozen=True, gc=False):
    """One thing to do at Iterable, with its own receipt: what to remember if Iterable accepts it."""

    key: str
    kind: Kind
    call: Call | None
    """None: nothing is called, ``remember`` is stored as it stands."""
    body: bytes
    handles: tuple[Handle, ...]
    remember: Entry | None
    """None: forget the key."""
    partial: str = ""
    """What had to be left out for the rest to be accepted; empty when nothing was."""
    before: str = ""
    """The reference that is remembered under the key, of a removal and of a row whose identity changed."""


class Batch(Struct, frozen=True, gc=False):
    """Operations that travel in one request."""

    call: Call
    operations: Sequence[Operation]


class Outcome(MaskedRepr, frozen=True, gc=False):
    """What became of one row."""

    key: str
    kind: Kind
    fate: Fate
    reason: Reason | None = None
    detail: str = ""
    """Which field, which type; what the person is called is masked in it as soon as the outcome is made."""
    operation: Operation | None = None
    names: tuple[str, ...] = ()
    """What the person is called, where there is no operation that knows."""

    def __post_init__(self) -> None:
        if self.detail:
            force_setattr(self, "detail", masked(self.detail, self.called))

    @property
    def called(self) -> tuple[str, ...]:
        """What the person is called whom the row is about."""
        operation = self.operation
        return self.names if operation is None else (*self.names, *people(operation.handles))


class Accepted(Struct, frozen=True, gc=False):
    """Operations that Iterable accepted, and of which nothing else is to be reported."""

    operations: Sequence[Operation]


class Settled(Struct, frozen=True):
    """Every operation of the batch has its outcome: in ``outcomes`` by its number, or else it was accepted."""

    outcomes: Mapping[int, Outcome] = {}
    left_out: frozenset[str] | None = None
    """Fields that were left out of some of the records, as the answer names them; ``None``: it is no such answer."""
    onward: Mapping[int, Operation] = {}
    """What some of the operations go on to the next call as, where the answer makes others of them."""


class Again(Struct, frozen=True):
    """The same batch may go once more, not before ``after`` seconds."""

    reason: Reason
    after: float | None = None


class Split(Struct, frozen=True):
    """The batch was refused as a whole: ``rejected`` are to blame, ``suspects`` go as a batch of their own, then
    the rest; without either it is halved, down to one operation, which is rejected with ``reason`` and ``detail``."""

    reason: Reason
    detail: str = ""
    rejected: Mapping[int, str] = {}
    fields: Mapping[int, frozenset[str]] = {}
    """For some of the rejected: the fields that are to blame, without which the rest might be accepted."""
    types: Mapping[str, str] = {}
    """The types that these fields have at Iterable, as the answer says."""
    suspects: frozenset[int] = frozenset()
    last: Fate = Fate.REJECTED
    """What an operation that stands alone becomes."""


class Halt(Struct, frozen=True):
    """Nothing sent after this could succeed."""

    message: str


Verdict = Settled | Again | Split | Halt
Patch = dict[str, Entry | None]

Doubt = tuple[str, str, str, str]
"""What a request that is never answered leaves behind: key, fingerprint in hexadecimal digits, reference; and the
fingerprint that is remembered once it is accepted.

Without the first fingerprint it is in doubt. The second is there for all operations of a request or for none.
"""


class Intents(MaskedRepr, frozen=True):
    """Requests that a commit announces before they are sent, and those of which it settles every operation.

    Whoever opens the state finds the announced requests that no commit settled, and takes what they would leave
    behind for entries: the run that announced them was killed.
    """

    begun: Mapping[int, Sequence[Doubt]] = {}
    """By a number that the run may use again once the request has ended."""
    ended: Collection[int] = ()
    accepted: Mapping[int, Sequence[Doubt]] = {}
    """Those of them of which every operation was accepted, with what was announced: that is remembered now. None of it
    is in the patch."""


NO_INTENTS = Intents()

Send = Callable[[Batch], Reply]


class Commit(Protocol):
    """Stores a patch and intents, all or nothing."""

    def __call__(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Store them, or raise."""
        ...
