"""The explanation of one row, and the sentence that sums it up; people in it are masked, and values are shapes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct, field, to_builtins

from airflow_provider_iterable.engine.doubt import in_doubt
from airflow_provider_iterable.engine.reasons import Reason
from airflow_provider_iterable.engine.references import plain
from airflow_provider_iterable.engine.resync import VOID
from airflow_provider_iterable.engine.vocabulary import Entry, Handle
from airflow_provider_iterable.masking import masked

Action = Literal["send", "remove", "look_up", "remember", "forget", "nothing", "refuse", "wait", "fail"]
"""What the run does: a request that writes, that removes, or that only looks something up; a change of what is
remembered, without a request; neither; neither, because the row is rejected or skipped, or waits for a later run; or
the run fails before that."""
Change = Literal["added", "changed", "removed", "unchanged", "invalid", "erased", "unknown"]
"""How the row differs from what is remembered."""
Memory = Literal["nothing", "accepted", "in_doubt", "to_be_sent_again", "erased"]
MEMORIES: dict[str, str] = {
    "nothing": "nothing: it was never accepted",
    "accepted": "accepted",
    "in_doubt": "in doubt: a request about it was not answered, so Iterable may or may not have it",
    "to_be_sent_again": 'accepted; resync="full" has not sent it again yet',
    "erased": "a privacy sync erased the person, or a merge sync merged them; a tombstone is left",
}
"""What is remembered, in words."""

AS_ACCEPTED = "Iterable accepted it as it is"
NEVER_ACCEPTED = "it is in the model, and was never accepted"
NOT_ANSWERED = "a request about it was not answered, so that it is in doubt"
ALL_AGAIN = 'resync="full" sends every row again'
ANOTHER_PAYLOAD = "its payload is not the one that was accepted"
FIRES_ONCE = "a row of this kind of sync is not sent again when it changes"
LEFT = "its row has left the model"
LEFT_ALONE = f"{LEFT}, and what it left at Iterable is kept"
LEFT_FOR_EVER = f"{LEFT}, and its key is remembered for ever, so that it is not sent again"
LEFT_ERASED = f"{Reason.ERASED_PERSON.sentence.partition(';')[0]}, and no row has this key"
LEFT_IN_DOUBT = f"{LEFT}, and {NOT_ANSWERED}"
"""Why a run does what it does with a row, as clauses."""


class Remembered(Struct, kw_only=True):
    """What the state has under the key."""

    status: Memory = "nothing"
    identity: str | None = None
    """Whom it is about, masked."""
    same_payload: bool | None = None
    """Whether the row's fingerprint is the one that is remembered; ``None``: one of them is missing."""


class Failed(Struct, kw_only=True):
    """What the audit has of the row's last try; there is none of rows that were accepted, unless all are audited."""

    run_id: str
    operation: str
    status: str
    reason: str | None = None
    detail: str | None = None
    at: str | None = None


class Explanation(Struct, kw_only=True):
    """What the next run would do with one row, and why."""

    sync_id: str
    partition: str | None = None
    destination: dict[str, Any] = field(default_factory=dict)
    resync: str = "changes"
    key: str = ""
    """As the state has it, masked where it names a person."""
    rows: int = 0
    """Rows of the model that have the key."""
    other_partition: str | None = None
    """The partition that remembers the key, if this one has neither row nor memory."""
    identity: str | None = None
    """Whom or what the row is about, masked."""
    shared_with: list[str] = field(default_factory=list)
    """Keys of other rows that have the identity, or had it when they were accepted; masked."""
    more_shared: int = 0
    fields: list[dict[str, Any]] = field(default_factory=list)
    """What the row carries: each field with its column, its type at Iterable and the shape of the value."""
    remembered: Remembered = field(default_factory=Remembered)
    last_tried: Failed | None = None
    change: Change = "unknown"
    action: Action = "nothing"
    operation: str | None = None
    """What is done at Iterable, such as ``"upsert users"``."""
    endpoints: list[str] = field(default_factory=list)
    """The calls that are made for it, in order, as ``"POST /api/users/bulkUpdate"``."""
    former: str | None = None
    """What becomes of the identity that the row had before, as a sentence."""
    fate: str | None = None
    """What becomes of a row that is not sent: ``rejected``, ``skipped`` or ``deferred``."""
    reason: str | None = None
    """The reason, as reports have it."""
    reason_sentence: str | None = None
    detail: str | None = None
    why: str = ""
    """Why it is sent, or why nothing is, as a clause."""
    resend_reason: str | None = None
    """Why rows that did not change go again, if they do."""
    error: str | None = None
    """Why the next run fails before it reads a row."""
    types_known: bool = True
    """Whether values were compared with the types of Iterable's fields."""
    reads_whole_model: bool = False
    """Whether the database could not be asked for single rows."""
    notes: list[str] = field(default_factory=list)
    verdict: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told: dict[str, Any] = to_builtins(self)
        return told


def memory_of(entry: Entry | None, erased: bool) -> Memory:
    """Return what an entry is.

    :param erased: whether there is a tombstone for the key
    """
    if entry is None:
        return "erased" if erased else "nothing"
    if in_doubt(entry):
        return "in_doubt"
    return "to_be_sent_again" if entry.fingerprint == VOID else "accepted"


def about(ref: str) -> Handle | None:
    """Return whom a remembered reference is about; ``None``: that is not remembered."""
    if not ref.startswith("["):  # of merges, a digest is remembered
        return None
    kind, value = msgspec.json.decode(plain(ref), type=tuple[str, str])
    return (kind, value) if kind else None


def named(identity: Handle) -> str:
    """Return whom or what a row is about, masked."""
    kind, value = identity
    shown = masked(value, [value] if kind in ("email", "user_id") else [])
    return f"{kind.replace('_', ' ')} {shown}"


def sentence(told: Explanation) -> str:
    """Say in one sentence what the next run does with the row, and why."""
    if told.action == "fail":
        return f"The next run fails before it sends anything: {told.error}"
    does = {
        "send": f"The next run sends it ({told.operation}, {' then '.join(told.endpoints)})",
        "remove": f"The next run removes it ({told.operation}, {' then '.join(told.endpoints)})",
        "look_up": f"The next run looks up what became of it ({' then '.join(told.endpoints)})",
        "remember": "The next run makes no request for it, and remembers it",
        "forget": "The next run makes no request for it, and forgets it",
        "nothing": "The next run does nothing with it",
        "refuse": f"The next run does not send it, and counts it as {told.fate}",
        "wait": "The next run does not send it yet",
    }[told.action]
    return f"{does}: {told.why}."
