"""The options of the sandbox, mostly about behaviour that Iterable does not document."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec

ProjectType = Literal["email", "user_id", "hybrid"]
Positive = Annotated[float, msgspec.Meta(gt=0)]
PROJECT_TYPES: tuple[ProjectType, ...] = get_args(ProjectType)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options with their defaults; all of them may change while the sandbox runs."""

    # Keys
    api_key: str | None = None
    """The one server-side key that is accepted; any non-empty key when None."""
    read_only_keys: tuple[str, ...] = ()
    """Keys that may only make the calls of a read-only key."""
    disabled_keys: tuple[str, ...] = ()
    """Keys that exist and are disabled."""
    project_keys: dict[Annotated[str, msgspec.Meta(min_length=1)], int] = {}
    """Numbers of projects by server-side key: keys of one number share a project that is separate from all others,
    with users, lists, rates and channel IDs of its own. Any other key is of the project `project_id`."""

    # Rates and sizes
    rates: bool = True
    """Whether the documented rates per endpoint hold."""
    rate_overrides: dict[str, Positive] = {}
    """Requests per second by "METHOD /template", where no rate is documented, or instead of it."""
    burst_seconds: Positive = 1.0
    """Bucket size, in seconds of the rate."""
    retry_after_header: bool = False
    """Whether a 429 carries a Retry-After header."""
    rate_limit_text: bool = False
    """Whether the body of a 429 is plain text instead of JSON."""
    exact_reset: bool = False
    """Whether rateLimitReset is a fraction of seconds, instead of whole seconds rounded up."""
    forget_quota: int | None = 1000
    """Calls to forget, and as many to unforget, per 24 hours; None lifts the quota."""
    max_bytes: int = 4_000_000
    """Largest body of a bulk call."""
    max_records: int | None = None
    """Largest number of records in a bulk call; Iterable states none."""
    body_seconds: Positive = 60.0
    """Seconds in which a body must have come; after that the request is answered with 408 and not applied."""
    too_large: Literal["413", "BatchTooLarge"] = "413"
    """How a body over max_bytes is refused; too many records are always BatchTooLarge."""

    # Fields
    create_new_fields: bool = True
    """The project's setting, which holds when a request does not say createNewFields."""
    max_fields: int = 1000
    """Unique profile fields of the project, nested names counted, system fields not."""
    offending_value: Literal["single", "array"] = "single"
    """"array" also lists the value of the batch's first record before the culprit."""
    field_key_prefix: str = ""
    """Put before the field names in validationErrors, for instance "my_project_etl:::"."""
    hide_clues: bool = False
    """Whether a type mismatch leaves validationErrors out."""

    # Users
    update_only_enabled: bool = False
    """Whether Iterable has switched on `updateOnly` for bulkUpdate; otherwise it is an unknown key."""
    skipped: Literal["success", "listed", "uncounted", "not_found"] = "success"
    """How bulk answers report users skipped by updateOnly or updateExistingUsersOnly: as successes, as successes
    that are in notFound arrays, not at all, or as failures in notFound arrays."""
    reverse_order: bool = False
    """Whether a batch is applied last record first."""
    report_no_ops: bool = False
    """Whether noOpEmails and noOpUserIds list the profiles that a bulkUpdate did not change."""
    invalid_data: frozenset[str] = frozenset()
    """Identifiers whose records Iterable finds to hold invalid data."""
    forgotten_status: Literal[400, 409] = 409
    """Status of ForgottenUserError on single calls; both are documented."""
    forget_unknown: Literal["accept", "refuse"] = "accept"
    """What forgetting a user who does not exist answers."""
    unknown_user_id: Literal["coded", "envelope", "text", "empty"] = "coded"
    """How a read by unknown userId answers: the newest error code, UnknownUserIdError as of 2023, the plain text
    of 2017, or 200 `{}`."""
    unknown_user_id_status: int = 400
    """Status of the newest error code."""
    merge_lists: Literal["union", "destination"] = "union"
    """Which lists a merged user is on: those of both, or those of the destination."""
    merge_subscriptions: Literal["destination", "union"] = "destination"
    """Whose subscription arrays a merged user has: the destination's, or both joined."""
    merge_identifiers: bool = True
    """Whether a destination without an email or a user ID takes on that of the source."""
    merge_managed_arrays: Literal["refuse", "ignore"] = "refuse"
    """Whether arrayMerge of a field of Iterable's own refuses the merge, or is ignored."""
    visible_after: float = 0.0
    """Seconds before a new profile, or a new event, can be read."""

    # Events and commerce
    disallowed_events: frozenset[str] = frozenset()
    """Event names that Iterable answers 200 to, and does not track."""
    disallowed: Literal["failed", "success", "uncounted"] = "failed"
    """How trackBulk counts events of such a name."""
    max_event_fields: int = 8000
    """Unique fields of custom events, event names and nested names counted; purchases are counted apart."""
    event_field_names: Literal["bare", "named"] = "bare"
    """Whether answers name an event field alone or as `eventName.field`, as they always do over the limit."""
    event_category: str = "customEvent"
    """What a type mismatch calls the category of event fields."""
    event_update: Literal["replace", "merge"] = "replace"
    """Whether an event or purchase with a known ID takes the place of the old one, or is merged into it."""
    bad_event_ids: Literal["refuse", "fail", "accept"] = "refuse"
    """Whether an ill-formed ID refuses its request, fails its event in a batch without naming it, or is accepted."""
    unknown_event_user: Literal["accept", "refuse"] = "accept"
    """What events/track answers about an unknown user in an email-based project; the event is not stored."""
    events_make_emails: bool = True
    """Whether an event with an unknown email makes a profile in a hybrid project."""
    event_conflict: Literal["fail", "user_id"] = "fail"
    """Whether an event with the identifiers of two profiles fails, or is about the one with the user ID."""
    unknown_user_events: Literal["empty", "refuse"] = "empty"
    """How a read of the events of an unknown user answers."""
    purchase_id_returned: bool = True
    """Whether the answer to trackPurchase has the ID in params."""

    # Lists and subscriptions
    list_ready_after: float = 0.0
    """Seconds before a new list takes members; until then it is an invalidListId."""
    lists_visible_after: float = 0.0
    """Seconds before a new list shows among the lists."""
    lists_in_use: frozenset[int] = frozenset()
    """Lists that cannot be deleted."""
    static_lists_only: bool = False
    """Whether lists of other types than Standard refuse to take members; a recording of 2017 says no."""
    list_channel: int | None = None
    """The channel that channelUnsubscribe leaves; the first of the project when None."""
    opt_in: bool = True
    """Whether the project has the opt-in feature, which subscribedMessageTypeIds needs."""
    unknown_subscriptions: Literal["accept", "refuse"] = "accept"
    """What becomes of an unknown list, channel or message type in updateSubscriptions: it is stored, or refused."""
    subscriptions_conflict: Literal["whole", "listed"] = "whole"
    """Whether a forgotten user or a conflict refuses bulkUpdateSubscriptions as a whole or fails alone."""
    subscriptions_api: bool = True
    """Whether Iterable has switched on /api/subscriptions; otherwise its calls are answered with 404."""
    double_opt_in_api: bool = True
    """Whether Iterable has switched on subscribeToDoubleOptIn; otherwise it is answered with 404."""
    subscriptions_status: Literal[200, 202] = 202
    """Status of accepted changes by /api/subscriptions; both are documented."""
    subscriptions_code: Literal["Success", "Accepted"] = "Success"
    """Code of accepted changes by /api/subscriptions; the official client takes both."""
    unknown_group: Literal["refuse", "ignore"] = "refuse"
    """What /api/subscriptions does about an unknown list, channel or message type."""
    unknown_subscribers: Literal["create", "refuse", "ignore"] = "create"
    """What /api/subscriptions does about unknown users: create those whom the project can create and refuse the call
    for others, refuse it for all, or ignore them."""
    malformed_subscribers: Literal["ignore", "refuse"] = "ignore"
    """What a call about many users does about a malformed identifier: ignore it, or refuse them all."""
    forgotten_subscribers: Literal["refuse", "ignore"] = "refuse"
    """What a call about many users does about a forgotten one: refuse them all, or ignore the one."""
    transactional_unsubscribe: Literal["accept", "refuse"] = "accept"
    """Whether /api/subscriptions lets users leave a transactional channel."""
    double_opt_in_direct: Literal["accept", "refuse"] = "accept"
    """Whether /api/subscriptions subscribes to a message type with double opt-in without a confirmation."""
    double_opt_in_confirmed: bool = False
    """Whether users confirm at once what subscribeToDoubleOptIn asks them; otherwise they never do."""

    # Catalogs
    catalog_max_items: int = 1000
    """Most items in one upload."""
    catalog_max_item_bytes: int = 30_000
    """Largest item, as JSON."""
    catalog_max_fields: int | None = 350
    """Unique fields of a catalog, at the top level; None lifts the limit."""
    catalog_effect_after: float = 0.0
    """Seconds before an accepted change of items takes effect."""
    catalog_bad_items: Literal["refuse", "drop"] = "refuse"
    """Whether an item with a wrong ID, size or field name refuses its upload, or is dropped silently."""
    catalog_lost_items: frozenset[str] = frozenset()
    """IDs of items whose changes are accepted and never take effect."""
    catalog_status: Literal[200, 202] = 202
    """Status of accepted changes of items; 202 is documented, 200 has been seen."""
    catalog_created_status: Literal[200, 201] = 201
    """Status of a created catalog; both are documented."""
    catalog_wrapped: bool = True
    """Whether pages of catalogs and items, and mappings, come in the envelope; documented without, seen with it."""
    catalog_refusals: Literal["envelope", "error"] = "envelope"
    """Form of a 400 from catalogs: the envelope, or the one with `error` and `message`, which a 404 always has."""

    # The sandbox
    project_id: int = 10216
    """The project's number, which messages name and from which the IDs of its channels and message types come."""
    record_identifiers: bool = False
    """Whether the log of each call holds the identifiers that it wrote, deleted, forgot or unforgot."""
    record_bodies: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many of the newest calls keep their bodies, sent and answered, cut at 100,000 characters."""

    def changed(self, changes: Mapping[str, Any]) -> "Options":
        """Return these options with some changed; an unknown name or a wrong type is a ValueError."""
        known = {name: getattr(self, name) for name in self.__struct_fields__}
        try:
            return msgspec.convert({**known, **changes}, Options)
        except msgspec.ValidationError as error:
            raise ValueError(f"options: {error}") from None
