"""The catalog sync as an Airflow operator; boring on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.values import CATALOG_OFFSET
from airflow_provider_iterable.engine.guards import Guards
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.errors import ConfigurationError, Halted, WorthRetrying
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.parameters import (
    CATALOG,
    COUNT,
    FIELD_TYPES,
    FLAG,
    OPTIONAL_COLUMN,
    Form,
    choice,
)
from airflow_provider_iterable.syncs.catalogs import CatalogOptions, Catalogs, FieldType, OnRemoved

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logger(__name__)

TRIES = 5
"""How often a catalog is looked for, and its types are set, before the run gives up."""


class IterableCatalogOperator(IterableModelOperator):
    """Keep a catalog at Iterable equal to a SQL model: only the differences are sent.

    All parameters of :class:`~airflow_provider_iterable.operators.base.IterableModelOperator`, and:

    :param catalog_name: the catalog: letters, digits and dashes, at most 255; case makes no difference (templated)
    :param item_id_column: the column with the item ID; default: the primary key, which is one column then
    :param on_removed: what happens to an item whose row has left the model: ``"keep"`` or ``"delete"`` it
    :param replace_uploaded_fields_only: leave the fields of an existing item that are not mapped as they are, instead
        of replacing the whole item
    :param create_catalog: create the catalog when it is missing; otherwise the task fails then
    :param field_types: top-level field to the type it is to have (``boolean``, ``date``, ``geo_location``, ``long``,
        ``double``, ``object`` or ``string``); set once, for Iterable never changes a type
    :param max_deletes: most items deleted in one run; ``None``: no limit (templated)
    :param salvage: send an item without the fields whose values have the wrong type, instead of rejecting the row; it
        is counted as accepted and as ``partial``
    """

    sync_type = "catalogs"
    changes_requests = ("on_removed", "replace_uploaded_fields_only", "create_catalog", "field_types", "salvage")
    template_fields: Sequence[str] = (*IterableModelOperator.template_fields, "catalog_name", "max_deletes")
    forms: ClassVar[Mapping[str, Form]] = {
        **IterableModelOperator.forms,
        "catalog_name": CATALOG,
        "item_id_column": OPTIONAL_COLUMN,
        "on_removed": choice(OnRemoved),
        "replace_uploaded_fields_only": FLAG,
        "create_catalog": FLAG,
        "field_types": FIELD_TYPES,
        "max_deletes": COUNT,
        "salvage": FLAG,
    }
    max_deletes: Any

    def __init__(
        self,
        *,
        catalog_name: str,
        item_id_column: str | None = None,
        on_removed: OnRemoved = "keep",
        replace_uploaded_fields_only: bool = False,
        create_catalog: bool = True,
        field_types: Mapping[str, FieldType] | None = None,
        max_deletes: int | str | None = 1000,
        salvage: bool = False,
        **kwargs: Any,
    ) -> None:
        self.catalog_name, self.item_id_column, self.on_removed = catalog_name, item_id_column, on_removed
        self.replace_uploaded_fields_only = replace_uploaded_fields_only
        self.create_catalog, self.field_types = create_catalog, field_types
        self.max_deletes, self.salvage = max_deletes, salvage
        self._report: Report | None = None
        super().__init__(**kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._options("rendered-later")

    def _options(self, catalog: str) -> CatalogOptions:
        return CatalogOptions(
            catalog=catalog,
            primary_key=self.primary_key,
            item_id_column=self.item_id_column,
            on_removed=self.on_removed,
            replace_uploaded_fields_only=self.replace_uploaded_fields_only,
            field_types=self.field_types or {},
            salvage=self.salvage,
        )

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type and catalog, whose name is the same in upper and lower case."""
        return {"host": hook.host, "type": "catalogs", "catalog": self.catalog_name.lower()}

    def guards(self) -> Guards:
        """Return the guards; deletions have one of their own."""
        return Guards(
            allow_empty=self.allow_empty,
            max_removed=self.max_removed,
            max_deletes=self.max_deletes if self.on_removed == "delete" else None,
        )

    def build_sync(self, hook: IterableHook, columns: Sequence[str]) -> Sync:
        """Return the catalog sync bound to the model's columns."""
        used = frozenset({*self.primary_key, *([self.item_id_column] if self.item_id_column else [])})
        mapper = Mapper(self.fields, self.nulls, ZoneInfo(self.timezone), used, CATALOG_OFFSET)
        return Catalogs(self._options(self.catalog_name), mapper, columns)

    def _run(self, context: Context, hook: IterableHook, client: Client, report: Report) -> None:
        self._report = report
        super()._run(context, hook, client, report)

    def _prepare(self, hook: IterableHook, client: Client, sync: Sync) -> Callable[[], None] | None:
        assert isinstance(sync, Catalogs)
        catalogs = sync

        def prepare() -> None:
            found = self._with_types(hook, client, self._found(hook, client))
            if self.check_types:
                catalogs.learn_types(found)

        return prepare

    def _found(self, hook: IterableHook, client: Client) -> dict[str, str]:
        """Return the types of the catalog's fields; create the catalog if it is missing.

        An answer to the creation may get lost, and a new catalog may take a moment to be seen: it is looked for again
        before it is created again.
        """
        found, refusal = hook.get_catalog_types(client, self.catalog_name), "none"
        for attempt in range(TRIES):
            if found is not None:
                return found
            if attempt == 0:
                self._may_create()
            else:
                client.pause(2.0**attempt)
            if refusal:
                refusal = hook.create_catalog(client, self.catalog_name)
            found = hook.get_catalog_types(client, self.catalog_name)
        if found is not None:
            return found
        raise WorthRetrying(
            f"The catalog {self.catalog_name} is not there after {TRIES} tries to create it (last answer: "
            f"{refusal or 'created'}). Nothing was sent. A retry tries again; if that does not help, create the "
            "catalog at Iterable."
        )

    def _may_create(self) -> None:
        """Refuse to create a catalog that must exist, or has existed.

        :raises ConfigurationError: the catalog is not to be created
        :raises Halted: the sync remembers items in it
        """
        if not self.create_catalog:
            raise ConfigurationError(
                f"There is no catalog {self.catalog_name} at Iterable, and create_catalog is False. Nothing was sent. "
                "Create it at Iterable, set create_catalog=True, or mend catalog_name."
            )
        assert self._report is not None
        remembered = self._report.remembered
        if remembered and self._report.resync != "full":
            raise Halted(
                f"The catalog {self.catalog_name} has vanished from Iterable, and sync {self.sync_id} remembers "
                f"{remembered} items in it. Nothing was sent. If it was deleted on purpose, run once with "
                'resync="full": the catalog is created anew and every row is sent. If not, find out who deleted it.'
            )
        log.info("The catalog %s is missing and is created.", self.catalog_name)

    def _with_types(self, hook: IterableHook, client: Client, found: dict[str, str]) -> dict[str, str]:
        """Give declared fields that have no type theirs; return the types of all fields.

        :raises ConfigurationError: a field has another type at Iterable than was declared
        """
        declared = self.field_types or {}
        for attempt in range(TRIES):
            others = [
                f"{name} ({kind} declared, {found[name]} there)"
                for name, kind in declared.items()
                if found.get(name, kind) != kind
            ]
            if others:
                raise ConfigurationError(
                    f"field_types contradicts the catalog {self.catalog_name}: {', '.join(others)}. Nothing was sent. "
                    "Iterable never changes a field's type: declare the type that is there, or send another field."
                )
            missing = {name: kind for name, kind in declared.items() if name not in found}
            if not missing:
                return found
            if attempt:
                client.pause(2.0**attempt)
            if hook.set_catalog_types(client, self.catalog_name, missing):
                log.info(
                    "Catalog %s: types were given to %s. Items that were sent before are found by these fields once "
                    "they are sent again.",
                    self.catalog_name,
                    ", ".join(missing),
                )
                return {**found, **missing}
            found = hook.get_catalog_types(client, self.catalog_name) or {}
        raise WorthRetrying(
            f"The types of {', '.join(declared)} could not be set in catalog {self.catalog_name}: Iterable gave no "
            f"usable answer {TRIES} times. No item was sent. A retry tries again."
        )
