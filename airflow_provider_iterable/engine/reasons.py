"""What can become of a row, and why: closed sets, of which logs, reports and tables know the values."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an operation was not simply accepted, with the sentence that explains it."""

    __hash__ = str.__hash__  # an enum hashes in Python, and these are counted per row
    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> Reason:
        """Make a member of a value and its sentence."""
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason.sentence = sentence
        return reason

    NULL_KEY = "null_key", "the primary key is null"
    DUPLICATE_KEY = "duplicate_key", "several rows have this primary key; none of them was sent"
    KEY_TOO_LONG = "key_too_long", "the primary key is longer than 500 characters"
    NO_IDENTIFIER = "no_identifier", "the column that identifies the user is null or blank"
    INVALID_EMAIL = "invalid_email", "the email address is malformed"
    INVALID_USER_ID = "invalid_user_id", "the user ID is blank, over 52 characters, or has characters Iterable refuses"
    INVALID_ITEM_ID = (
        "invalid_item_id",
        "the item ID is blank, over 255 characters, or has others than letters, digits and dashes",
    )
    INVALID_EVENT = "invalid_event", "the event's name, ID, time, items or another part of it is missing or malformed"
    INVALID_SUBSCRIPTION = (
        "invalid_subscription",
        "the row does not say which message type, channel or list it is about, or whether the person is subscribed",
    )
    UNKNOWN_SUBSCRIPTION = (
        "unknown_subscription",
        "Iterable has no such message type, channel or list, or nobody but the person can subscribe to it",
    )
    NO_CONSENT = "no_consent", "the row would subscribe somebody, and has no consent that lies in the past"
    INVALID_VALUE = "invalid_value", "a value has no JSON form that Iterable could store"
    TYPE_MISMATCH = "type_mismatch", "a value does not have the type that the field has at Iterable"
    TOO_LARGE = "too_large", "the record alone is larger than a request, or a catalog item, may be"
    INVALID_DATA = "invalid_data", "Iterable found the profile fields invalid and did not say which"
    CONFLICT = "conflict", "the identifier belongs to another profile at Iterable"
    REFUSED = "refused", "Iterable refused the record"
    UNATTRIBUTED = "unattributed", "Iterable counted a failure and did not say whose"
    UNKNOWN_USER = "unknown_user", "there is no such user at Iterable; the row goes again with the next run"
    FORGOTTEN_USER = "forgotten_user", "the user was forgotten at Iterable, which takes nothing about them"
    ALREADY_GONE = "already_gone", "there was nobody left to remove"
    ALREADY_CHANGED = "already_changed", "the change had happened already"
    ALREADY_EXISTS = "already_exists", "Iterable has the user already; nothing was written"
    TARGET_EXISTS = "target_exists", "the new email address belongs to another user"
    PARTIAL = "partial", "the record was accepted without the fields whose values have the wrong type"
    FIELDS_LEFT_OUT = "fields_left_out", "the record was accepted without fields that Iterable does not have"
    NO_ANSWER = "no_answer", "Iterable gave no usable answer after all tries; the row goes again with the next run"
    SERVER_ERROR = (
        "server_error",
        "Iterable fails at this row with an error of its own, and answers others; the row goes again with the next run",
    )
    RATE_LIMITED = "rate_limited", "Iterable's rate limit left no time; the row goes again with the next run"
    SPLIT_BUDGET = "split_budget", "too many batches had to be taken apart; the row goes again with the next run"
    HALTED = "halted", "the run was halted before this row was sent"
    CANARY = "canary", "the rows that went first did not pass, so this row was not sent"
    STOPPED = "stopped", "the task was stopped before this row was sent, or before it was answered"
    UNCONFIRMED = "unconfirmed", "Iterable may have taken it or not; it does not go again, or it might be there twice"
    REPEATED = "repeated", "an answer was lost and the cart went again: its updateCart event may be at Iterable twice"
    QUOTA = "quota", "Iterable's daily quota is used up; the row waits for a later run"
    NOT_MOVED = "not_moved", "the row has another identity now, which was not accepted, so the former one stays"
    MAX_ACTIONS = "max_actions", "the run did as much as max_actions allows; the row waits for a later run"
    ERASED_PERSON = (
        "erased_person",
        "a privacy sync erased the person, or a merge sync merged them into another; the row is left out",
    )
    PAIR_CHANGED = "pair_changed", "under this key another pair was merged, and a merge cannot be made again"
    MERGES_ITSELF = "merges_itself", "source and destination of the merge are the same; nothing was sent"
    SAME_MERGE = "same_merge", "several rows ask for the same merge; nothing was sent"
    SOURCE_TWICE = "source_twice", "several rows merge this source into different destinations; nothing was sent"
    MERGE_CYCLE = "merge_cycle", "the merges lead from this source back to itself; nothing was sent"
    MERGE_CHAIN = "merge_chain", "the destination of one merge is the source of another; nothing was sent"
    MERGE_OF_ERASED = "merge_of_erased", "a privacy sync erased the source or the destination; nothing was sent"
    UNKNOWN_DESTINATION = (
        "unknown_destination",
        "there is no such destination at Iterable; the row goes again with the next run",
    )
    ALREADY_MERGED = "already_merged", "an answer was lost, and the source is gone: it had been merged already"


class Fate(StrEnum):
    """What became of an operation."""

    __hash__ = str.__hash__  # an enum hashes in Python, and these are counted per row

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    DEFERRED = "deferred"


class Kind(StrEnum):
    """How a row differs from what the sync remembers."""

    __hash__ = str.__hash__  # an enum hashes in Python, and these are counted per row

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    INVALID = "invalid"
