"""What to do about rows that were not accepted, by reason; docs/reasons.md says the same, with links."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_iterable.engine.reasons import Reason

REMEDIES: Mapping[Reason | None, str] = {
    Reason.NULL_KEY: "leave such rows out of the model, or give them a key",
    Reason.DUPLICATE_KEY: "find the join that multiplies rows; the log counts the rows of each key",
    Reason.KEY_TOO_LONG: "use a shorter key, such as a hash of the long one",
    Reason.NO_IDENTIFIER: "leave such rows out of the model",
    Reason.INVALID_EMAIL: "mend the address; found before sending, or by Iterable",
    Reason.INVALID_USER_ID: "mend the ID; it has 1 to 52 printable ASCII characters and no spaces around it",
    Reason.INVALID_ITEM_ID: "mend the ID in SQL, such as with replace(sku, '_', '-'); catalogs only",
    Reason.INVALID_EVENT: "mend the row; the log names the column; events only",
    Reason.INVALID_SUBSCRIPTION: "mend the row, or name the word in subscribed_words; subscriptions only",
    Reason.UNKNOWN_SUBSCRIPTION: (
        "look for the ID at Iterable; a double opt-in is confirmed by the person; subscriptions only"
    ),
    Reason.NO_CONSENT: "find out when the person consented; who did not is not to be subscribed; subscriptions only",
    Reason.INVALID_VALUE: "convert the column in SQL; the log names the field and the type",
    Reason.TYPE_MISMATCH: (
        "mend the value or cast the column; a field's type at Iterable never changes, so a new field is the other way"
    ),
    Reason.TOO_LARGE: "map less, or shorten the largest values; a request holds 4,000,000 bytes, a catalog item 30,000",
    Reason.INVALID_DATA: "look for reserved fields and odd values in the row; Iterable's support can tell more",
    Reason.CONFLICT: "two profiles claim one identifier: merge them at Iterable, or mend the row",
    Reason.TARGET_EXISTS: "merge the two profiles with a merge sync, or mend the row; changes of address only",
    Reason.REFUSED: "read the code in the log, and look it up in Iterable's documentation",
    Reason.UNATTRIBUTED: (
        "wait for the next run; if it stays, tell Iterable's support the request's time. Events without any "
        "ID are remembered and do not go again"
    ),
    Reason.UNCONFIRMED: "look at Iterable; it is remembered as sent; events without any ID only",
    Reason.PAIR_CHANGED: "restore the row, or give the new pair a key of its own; merges only",
    Reason.MERGES_ITSELF: "leave the row out of the model; merges only",
    Reason.SAME_MERGE: "let one of the rows stand for the pair; merges only",
    Reason.SOURCE_TWICE: "decide for one of the destinations; merges only",
    Reason.MERGE_CYCLE: "find out which profile is to stay, and mend the other rows; merges only",
    Reason.MERGE_CHAIN: "have each source go to where its chain ends; merges only",
    Reason.MERGE_OF_ERASED: "take the row out of the model, or unforget the person; merges only",
    Reason.UNKNOWN_USER: 'nothing, if users come to be elsewhere; else sync users first, with mode="upsert"',
    Reason.FORGOTTEN_USER: "leave the row out of the model, or unforget the user",
    Reason.ERASED_PERSON: "take the row out of the model, or unforget the person",
    Reason.UNKNOWN_DESTINATION: "nothing, if the destination comes to be; else leave the row out; merges only",
    Reason.NOT_MOVED: "mend the row; the former item goes once the new one is accepted; catalogs only",
    Reason.NO_ANSWER: "let Airflow retry; see Iterable's status page if it stays",
    Reason.SERVER_ERROR: (
        "look for what is odd in the row: a very large or deeply nested value, characters of another kind; "
        "leave it out of the model, or tell Iterable's support the request's time"
    ),
    Reason.RATE_LIMITED: (
        "let Airflow retry; the detail says when Iterable asks to come back, if that is later than a batch "
        "may wait; share the limits with rate_share if other programs use them"
    ),
    Reason.SPLIT_BUDGET: "mend the rows that the log names first: hundreds of requests were refused as a whole",
    Reason.HALTED: "mend what the task's message says, then clear the task",
    Reason.CANARY: "mend what the task's message says, then clear the task; see the canary",
    Reason.STOPPED: "nothing; the next run sends it; see stopping",
    Reason.QUOTA: "nothing; a later run sends it; privacy only",
    Reason.MAX_ACTIONS: "nothing; a later run sends it; privacy only",
    Reason.ALREADY_GONE: "nothing",
    Reason.ALREADY_EXISTS: 'nothing; mode="create" only',
    Reason.ALREADY_CHANGED: "nothing; see changes of address",
    Reason.ALREADY_MERGED: "nothing; merges only",
    Reason.PARTIAL: "mend the values the log names; only with salvage=True",
    Reason.FIELDS_LEFT_OUT: (
        "nothing: the row goes again once they are there; to make them, create_new_fields=True; if they are "
        "not wanted, leave them out of fields"
    ),
    Reason.REPEATED: "nothing; the profile is right; carts only",
}
