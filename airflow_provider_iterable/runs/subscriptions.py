"""A subscription sync in one run: says which way it goes, and asks which message types and channels there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_provider_iterable.api import questions
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.errors import CannotRetry, IterableSyncError, RequestRefused
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.syncs.subscriptions import SubscriptionOptions, Subscriptions

log = logger(__name__)


class SubscriptionRun(SyncKind):
    """A subscription sync in one run."""

    checks_types = True

    def __init__(self, options: SubscriptionOptions) -> None:
        self._options = options

    def build(self, run: Run, columns: Sequence[str]) -> Subscriptions:
        """Return the subscription sync bound to the model's columns."""
        sync = Subscriptions(self._options, columns)
        log.info("People are matched by %s; way: %s.", self._options.match, sync.way)
        if waived := self._options.consent_waived:
            note = f"Nobody's consent is looked at: {waived}"
            log.warning("Sync %s: %s", run.report.name, note)
            if note not in run.report.notes:
                run.report.notes.append(note)
        return sync

    def learn(self, run: Run, sync: Sync) -> None:
        """Learn which message types or channels there are; of lists, Iterable's answers tell it.

        :raises IterableSyncError: they are not known, and nothing can be sent without that
        """
        assert isinstance(sync, Subscriptions)
        if sync.group == "emailList":
            return
        try:
            sync.learn_groups(_groups(run, sync))
        except IterableSyncError as error:
            needed = self._options.exclusive and sync.group == "messageType"
            if needed or (isinstance(error, CannotRetry) and not isinstance(error, RequestRefused)):
                raise
            log.warning("It is not known beforehand which of the IDs Iterable has: %s", error)


def _groups(run: Run, sync: Subscriptions) -> Mapping[int, str]:
    """Return the message types with their policies, or the channels."""
    if sync.group == "messageChannel":
        return {each["id"]: "" for each in questions.channels(run.client)}
    return {each["id"]: each["subscription_policy"] for each in questions.message_types(run.client)}
