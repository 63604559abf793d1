"""The merge sync as an Airflow operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.forms import ARRAY_MERGE, COUNT, with_forms
from airflow_provider_iterable.operators.keywords import ModelKeywords
from airflow_provider_iterable.runs.merges import MergeRun
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.syncs.identity import Match
from airflow_provider_iterable.syncs.merges import MergeOptions


@with_forms(max_merges=COUNT, array_merge=ARRAY_MERGE)
class IterableMergeOperator(IterableModelOperator):
    """Merge users at Iterable into others, a pair for each row of a SQL model, once for each key.

    All parameters of :class:`~airflow_provider_iterable.operators.base.IterableModelOperator` but ``fields``, and:

    :param source_email_column: the column with the address of who is merged, and gone afterwards
    :param source_user_id_column: or the column with their user ID
    :param destination_email_column: the column with the address of whom they are merged into
    :param destination_user_id_column: or the column with their user ID
    :param array_merge: fields whose arrays are joined, instead of the destination's being kept: the field to the member
        that tells objects in it apart, or to ``None``: those that are equal are dropped
    :param create_destination: whether a source takes the identifier of a destination that does not exist, as Iterable
        would have it, instead of being skipped
    :param max_merges: most pairs merged in one run; ``None``: any number (templated)
    """

    sync_type = "merges"
    changes_requests = ("array_merge", "create_destination")
    template_fields: Sequence[str] = (*IterableModelOperator.template_fields, "max_merges")
    max_merges: Any

    def __init__(
        self,
        *,
        source_email_column: str | None = None,
        source_user_id_column: str | None = None,
        destination_email_column: str | None = None,
        destination_user_id_column: str | None = None,
        array_merge: Mapping[str, str | None] | None = None,
        create_destination: bool = False,
        max_merges: int | str | None = 1000,
        **kwargs: Unpack[ModelKeywords],
    ) -> None:
        self.source_email_column, self.source_user_id_column = source_email_column, source_user_id_column
        self.destination_email_column = destination_email_column
        self.destination_user_id_column = destination_user_id_column
        self.array_merge, self.create_destination, self.max_merges = array_merge, create_destination, max_merges
        super().__init__(**kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.state.tables is None:
            raise ConfigurationError(
                f"A merge sync remembers each pair before it is merged, and who was merged away, in tables; "
                f"{type(self.state).__name__} has none. Use state=TableState()."
            )
        if self._has("fields"):
            raise ConfigurationError("A merge sync sends two identifiers and nothing else: leave fields out.")
        self._side("source")
        self._side("destination")

    def _side(self, side: str) -> tuple[Match, str]:
        """Return which identifier names a side, and its column.

        :raises ConfigurationError: it is not one
        """
        columns: dict[Match, str | None] = {
            "email": getattr(self, f"{side}_email_column"),
            "user_id": getattr(self, f"{side}_user_id_column"),
        }
        found = [(match, column) for match, column in columns.items() if column]
        if len(found) != 1:
            raise ConfigurationError(f"Set {side}_email_column or {side}_user_id_column, one of the two.")
        return found[0]

    @property
    def hashes_keys(self) -> bool:
        """Whether the primary key has a column with identifiers, which would be remembered for ever."""
        people = {self._side(side)[1].lower() for side in ("source", "destination")}
        return not people.isdisjoint(column.lower() for column in self.primary_key)

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type, the identifiers of both sides, and whether keys are hashed."""
        sides = {side: self._side(side)[0] for side in ("source", "destination")}
        keys = {"keys": "hashed"} if self.hashes_keys else {}
        return {"host": hook.host, "type": "merges", **sides, **keys}

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the merge sync for one run.

        :raises ConfigurationError: the project cannot do it
        """
        (source, source_column), (destination, destination_column) = self._side("source"), self._side("destination")
        return MergeRun(
            self._options(
                MergeOptions,
                source=source,
                source_column=source_column,
                destination=destination,
                destination_column=destination_column,
                project_type=hook.project_type,
                array_merge=self.array_merge or {},
            )
        )
