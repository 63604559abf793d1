"""What a run works with, and what each kind of sync does its own way in one."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.project import get_fields
from airflow_provider_iterable.engine.forecast import Waiting
from airflow_provider_iterable.engine.plan import Plan
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.refused import Refused
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Send
from airflow_provider_iterable.errors import CannotRetry, IterableSyncError, WorthRetrying
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs import fields, left_out
from airflow_provider_iterable.state.scope import Scope
from airflow_provider_iterable.state.store import Session, Store
from airflow_provider_iterable.syncs.sync import BaseSync

log = logger(__name__)


@dataclass
class Run:
    """One run of a sync.

    :param hook: the connection to Iterable
    :param client: performs its requests
    :param session: the state, opened for this run
    :param report: its account, filled in as it goes
    :param stop: set to end it early
    """

    hook: IterableHook
    client: Client
    session: Session
    report: Report
    stop: threading.Event

    @cached_property
    def profile_fields(self) -> Mapping[str, str]:
        """The types of Iterable's profile fields, read once in a run.

        :raises IterableSyncError: Iterable did not answer with fields
        """
        return get_fields(self.client)

    def learn_profile_types(self, sync: BaseSync, creates: bool = True) -> None:
        """Have values compared with the types of Iterable's profile fields; without an answer they are sent as is.

        :param creates: whether Iterable may create fields that it does not have
        :raises CannotRetry: Iterable refused the key
        """
        known: Mapping[str, str] = {}
        try:
            sync.existing = known = self.profile_fields
            sync.creates = creates
            sync.learn_types({**(fields.created(sync, known, self.report.dry_run) if creates else {}), **known})
        except WorthRetrying as error:
            log.warning("Values are sent without comparing them with Iterable's field types: %s", error)
            sync.told_types = False
        own = sync.profile.names if sync.profile is not None else ()
        sync.unproven = [name.split(".") for name in own if creates and name in sync.fresh and name not in known]

    def existing_profile_fields(self, fields: Collection[str]) -> Collection[str]:
        """Return those of some profile fields that Iterable has by now; none where it does not say so.

        :raises CannotRetry: Iterable refused the key
        """
        try:
            return left_out.having(self.profile_fields, fields)
        except CannotRetry:
            raise
        except IterableSyncError as error:
            log.warning("It is not known whether Iterable has the fields that it left out by now: %s", error)
            return ()


class SyncKind(ABC):
    """A kind of sync in one run, as far as it is like most others; made anew for each run."""

    harm: str | None = None
    """Why sending every row again would do harm, as a clause; ``None``: it does none."""
    outlook = ""
    """How the sync learns that Iterable has fields that it left out, and what can be done about them, as sentences."""

    checks_types = False
    """Whether values are compared with Iterable's field types, as far as these are known."""

    anonymous = False
    """Whether its rows are about people who are gone afterwards, so that the audit keeps nothing about whom."""

    most_in_flight: int | None = None
    """Most of its requests under way at once; ``None``: as many as the client's."""

    def open_state(self, store: Store, scope: Scope) -> Session:
        """Open the state."""
        return store.open(scope)

    @abstractmethod
    def build(self, run: Run, columns: Sequence[str]) -> Sync:
        """Return the sync type bound to the model's columns."""

    def sender(self, run: Run) -> Send:
        """Return what performs the requests."""
        return run.client.send

    def learn(self, run: Run, sync: Sync) -> None:  # noqa: B027 - some kinds have no types to learn
        """Have the sync know the types of Iterable's fields, as far as they can be read; makes nothing."""

    def prepare(self, run: Run, sync: Sync) -> None:
        """Do what is to be done once before the first operation is sent, if any is: at least learn the types."""
        self.learn(run, sync)

    def note(self, run: Run, sync: Sync) -> None:  # noqa: B027 - likewise
        """Note beside the state what the next run is to know; it is stored when the run finishes."""

    def waiting(self, run: Run, rows: int) -> Sequence[Waiting]:
        """Return which of some rows that are to be sent have to wait for a later run."""
        return ()

    def refuse(self, run: Run, sync: Sync, plan: Plan) -> Refused | None:
        """Return the rows because of which nothing of a plan is to be sent, if there are any."""
        return None

    def existing_fields(self, run: Run, fields: Collection[str]) -> Collection[str]:
        """Return those of some fields that Iterable has by now, or is to create, as far as it is known."""
        return ()

    def filled(self) -> Mapping[str, object]:
        """Return the ``list_id`` of the list that is filled, if one is and its ID is known by now."""
        return {}

    def close(self, report: Report) -> None:  # noqa: B027 - likewise
        """Account for what only this kind knows, and give back what it holds; called however the run ended."""
