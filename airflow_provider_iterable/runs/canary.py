"""Which profile fields came to be at Iterable in a run, and were approved by nobody."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from airflow_provider_iterable.api.project import get_fields
from airflow_provider_iterable.errors import CannotRetry, IterableSyncError
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.fields import shown
from airflow_provider_iterable.runs.run import Run
from airflow_provider_iterable.syncs.sync import BaseSync

log = logger(__name__)


class Made:
    """The profile fields that Iterable makes of a sync's values.

    Those that ``fields`` names are approved by whoever wrote it. Columns that are fields because they are there, and
    members of objects, are approved by nobody.

    :param approved: whether somebody approved all that is sent
    """

    def __init__(self, run: Run, sync: BaseSync, *, approved: bool) -> None:
        self._run = run
        self._mapper: Mapper | None = None if approved else sync.profile
        self._before: Mapping[str, str] | None = None

    def begin(self) -> None:
        """Note which fields are there before the first row is sent.

        :raises CannotRetry: Iterable refused the key
        """
        if self._mapper is None or not self._mapper.names:
            return
        try:
            self._before = self._run.profile_fields
        except CannotRetry:
            raise
        except IterableSyncError as error:
            log.warning("Nobody will know which fields the canary makes: %s", error)

    def unapproved(self) -> Collection[str]:
        """Return the fields that are there by now, and that nobody approved; as they may be shown."""
        if self._mapper is None or self._before is None:
            return ()
        try:
            made = get_fields(self._run.client).keys() - self._before.keys()
        except IterableSyncError as error:
            log.warning("It is not known which fields the canary made: %s", error)
            return ()
        names = self._mapper.names
        tops = {name.partition(".")[0] for name in names}
        approved = set() if self._mapper.follows_columns else _with_parents(names)
        return sorted(shown(name) for name in made - approved if name.partition(".")[0] in tops)


def _with_parents(names: Collection[str]) -> set[str]:
    """Return dotted names, and those of the objects that they are in."""
    return {".".join(parts[:end]) for name in names for parts in [name.split(".")] for end in range(1, len(parts) + 1)}
