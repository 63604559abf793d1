"""The subscription sync as an Airflow operator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Unpack

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.forms import COLUMNS, COUNT, LIST_ID, OPTIONAL_TEXT, WORDS, with_forms
from airflow_provider_iterable.operators.keywords import PeopleRowKeywords
from airflow_provider_iterable.operators.people import IterablePeopleOperator
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.runs.subscriptions import SubscriptionRun
from airflow_provider_iterable.syncs.subscriptions import OnRemoved, SubscriptionOptions, SubscriptionType


@with_forms(
    primary_key=COLUMNS,
    subscription_id=LIST_ID,
    subscribed_words=WORDS,
    consent_waived=OPTIONAL_TEXT,
    max_subscribed=COUNT,
)
class IterableSubscriptionOperator(IterablePeopleOperator):
    """Subscribe people to message types, channels or lists, and unsubscribe them, as a SQL model says.

    A row is a person and one message type, channel or list; its key is made of these. All parameters of
    :class:`~airflow_provider_iterable.operators.people.IterablePeopleOperator` but ``fields``, and:

    :param primary_key: optional here: names rows in the log
    :param subscription_type: what the rows are about: ``"message_type"``, ``"channel"`` or ``"list"``
    :param subscription_id: the ID of the one that all rows are about (templated)
    :param subscription_id_column: instead: the column with the ID
    :param subscribed_column: the column that says whether the person is subscribed; default: each row subscribes
    :param subscribed_words: what the words in that column mean, as ``{"yes": True, "no": False}``, in any case;
        default: it holds truth values
    :param on_removed: what becomes of a row that has left: ``"keep"`` what it left at Iterable, or ``"unsubscribe"``
    :param exclusive: replace whole arrays of each person, of whom nothing but the rows' subscriptions changes; for
        projects without the Subscriptions API, at the cost of a look-up for each row
    :param max_subscribed: most rows that subscribe somebody in one run; ``None``: any number (templated)
    :param allow_channels: lets ``subscription_type`` be ``"channel"``, which is all of its message types
    :param consent_at_column: the column that says since when the person consents; a row that subscribes is rejected
        where it is empty or lies in the future
    :param consent_waived: why rows may subscribe people without that, as a text for log and report
    """

    sync_type = "subscriptions"
    changes_requests = ("on_removed", "exclusive")
    template_fields: Sequence[str] = (*IterablePeopleOperator.template_fields, "subscription_id", "max_subscribed")
    subscription_id: Any

    def __init__(
        self,
        *,
        subscription_type: SubscriptionType,
        primary_key: str | Sequence[str] = (),
        subscription_id: int | str | None = None,
        subscription_id_column: str | None = None,
        subscribed_column: str | None = None,
        subscribed_words: Mapping[str, bool] | None = None,
        on_removed: OnRemoved = "keep",
        exclusive: bool = False,
        max_subscribed: int | str | None = 1000,
        allow_channels: bool = False,
        consent_at_column: str | None = None,
        consent_waived: str | None = None,
        **kwargs: Unpack[PeopleRowKeywords],
    ) -> None:
        self.subscription_type, self.allow_channels = subscription_type, allow_channels
        self.subscription_id, self.subscription_id_column = subscription_id, subscription_id_column
        self.subscribed_column, self.subscribed_words = subscribed_column, subscribed_words
        self.on_removed, self.exclusive, self.max_subscribed = on_removed, exclusive, max_subscribed
        self.consent_at_column, self.consent_waived = consent_at_column, consent_waived
        super().__init__(primary_key=primary_key, **kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self._has("fields"):
            raise ConfigurationError("A subscription has no fields: leave fields out, and sync users beside it.")
        if self._has("subscription_id") is self._has("subscription_id_column"):
            raise ConfigurationError("Give subscription_id or subscription_id_column, one of the two.")
        if self.subscription_type == "channel" and not self.allow_channels:
            raise ConfigurationError(
                "Who leaves a channel gets none of its messages, whatever their type; who enters it gets all again. "
                "Name message types instead, or set allow_channels=True if channels are meant."
            )
        if self._has("subscribed_words") and not self._has("subscribed_column"):
            raise ConfigurationError("subscribed_words are those of subscribed_column: set both, or leave them out.")
        if self._has("consent_at_column") and self._has("consent_waived"):
            raise ConfigurationError("Consent is looked at or waived: leave out consent_at_column or consent_waived.")
        consent = self._has("consent_at_column") or self._has("consent_waived")
        if not consent and not self._has("subscribed_column"):
            raise ConfigurationError(
                "Each row subscribes somebody, and nothing says that they consented. Set consent_at_column to the "
                'column that says since when, or say in consent_waived="..." why none is needed.'
            )
        if self.exclusive and self.partition is not None:
            raise ConfigurationError(
                "exclusive=True replaces arrays as they were read, so partitions would overwrite one another's changes "
                "of a person; and all of them share the rate of look-ups. Run it as one task."
            )

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type, what is subscribed to, which one if that is one, and matching identifier."""
        one = {} if self.subscription_id is None else {"id": self.subscription_id}
        group = {"type": "subscriptions", "group": self.subscription_type}
        return {"host": hook.host, **group, **one, "match": self.match(hook)}

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the subscription sync for one run."""
        return SubscriptionRun(self._options_for(SubscriptionOptions, hook))

    def identifying(self) -> Collection[int]:
        """The key begins with the person's identifier."""
        return (0,)
