"""The catalog sync as an Airflow operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from airflow_provider_iterable.api.values import CATALOG_OFFSET
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.operators.base import IterableModelOperator
from airflow_provider_iterable.operators.forms import CATALOG, COUNT, FIELD_TYPES, with_forms
from airflow_provider_iterable.operators.keywords import ModelKeywords
from airflow_provider_iterable.runs.catalogs import CatalogRun
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.syncs.catalogs import CatalogOptions, FieldType, OnRemoved


@with_forms(catalog_name=CATALOG, field_types=FIELD_TYPES, max_deletes=COUNT)
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
        **kwargs: Unpack[ModelKeywords],
    ) -> None:
        self.catalog_name, self.item_id_column, self.on_removed = catalog_name, item_id_column, on_removed
        self.replace_uploaded_fields_only = replace_uploaded_fields_only
        self.create_catalog, self.field_types = create_catalog, field_types
        self.max_deletes, self.salvage = max_deletes, salvage
        super().__init__(**kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._options(CatalogOptions, field_types=self.field_types or {})

    def destination(self, hook: IterableHook) -> dict[str, Any]:
        """Return host, sync type and catalog, whose name is the same in upper and lower case."""
        return {"host": hook.host, "type": "catalogs", "catalog": self.catalog_name.lower()}

    def kind(self, hook: IterableHook) -> SyncKind:
        """Return the catalog sync for one run."""
        mapper = self._mapper(self.fields, self.item_id_column, offset=CATALOG_OFFSET)
        options = self._options(CatalogOptions, field_types=self.field_types or {})
        return CatalogRun(options, mapper, create=self.create_catalog, check_types=self.check_types)
