"""Knows every choice the sandbox leaves open, mostly where Iterable documents nothing; decides nothing."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec

ProjectType = Literal["email", "user_id", "hybrid"]
Positive = Annotated[float, msgspec.Meta(gt=0)]
PROJECT_TYPES: tuple[ProjectType, ...] = get_args(ProjectType)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The open choices with their defaults; all of them may change while the sandbox runs."""

    # Keys
    api_key: str | None = None
    """The one server-side key that is accepted; any non-empty key when None."""
    read_only_keys: tuple[str, ...] = ()
    """Keys that may only make the calls of a read-only key."""
    disabled_keys: tuple[str, ...] = ()
    """Keys that are known, yet may call nothing."""

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
    skipped: Literal["success", "uncounted", "not_found"] = "success"
    """How bulk answers report users skipped by updateOnly."""
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
    unknown_user_id: Literal["coded", "text", "empty"] = "coded"
    """How a read by unknown userId answers: an error code, the older plain text, or 200 `{}`."""
    unknown_user_id_status: int = 400
    """Status of that error code."""
    visible_after: float = 0.0
    """Seconds before a new profile can be read."""

    # The sandbox
    project_id: int = 10216
    """The number that messages name."""
    record_identifiers: bool = False
    """Whether each call remembers the identifiers it got accepted."""

    def changed(self, changes: Mapping[str, Any]) -> "Options":
        """Return these options with some changed; an unknown name or a wrong type is a ValueError."""
        known = {name: getattr(self, name) for name in self.__struct_fields__}
        try:
            return msgspec.convert({**known, **changes}, Options)
        except msgspec.ValidationError as error:
            raise ValueError(f"options: {error}") from None
