"""What a run read and wrote, as OpenLineage has it: tables, Iterable's dataset, and which column became which field.

OpenLineage's packages are imported when its provider asks, and never otherwise. No value of a row is in any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_iterable.assets import host_of, target_of
from airflow_provider_iterable.columns import Columns, type_of
from airflow_provider_iterable.engine.reasons import Fate
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.mapping import FIELD_TYPES, Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.run import SyncKind
from airflow_provider_iterable.sql.lineage import Source, read_from
from airflow_provider_iterable.sql.model import Model

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

log = logger(__name__)

PARAMETER_FIELDS = {
    "email_column": "email",
    "user_id_column": "userId",
    "new_email_column": "email",  # of a profile that had another one
    "destination_email_column": "email",
    "destination_user_id_column": "userId",
    "event_name_column": "eventName",
    "event_id_column": "id",
    "timestamp_column": "createdAt",
    "items_column": "items",
    "total_column": "total",
    "campaign_id_column": "campaignId",
    "template_id_column": "templateId",
    "item_id_column": "itemId",
}
"""Parameters that name a column, and the field of Iterable's that it becomes."""


@dataclass
class Ran:
    """What is known of a run once it has ended, however it did.

    :param report: its account
    :param hook: its connection to Iterable; ``None``: it was not reached, and nor was the rest
    :param kind: its kind of sync
    :param model: its model, whose columns are known if it was opened
    :param mappers: what made fields of columns: those of the record, then those of a profile that ride along
    """

    report: Report
    hook: IterableHook | None = None
    kind: SyncKind | None = None
    model: Model | None = None
    mappers: list[Mapper] = field(default_factory=list)


def lineage_of(task: Any, ran: Ran, hook: Callable[[], DbApiHook]) -> OperatorLineage[Any, Any] | None:
    """Return what a run read and wrote; ``None`` without the OpenLineage provider.

    A dry run, and one that only remembers, writes nothing.

    :param task: the operator
    :param hook: returns the hook of the model's database
    """
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    found: OperatorLineage[Any, Any] = OperatorLineage()
    sources: dict[str, list[Source]] = {}
    columns = Columns() if ran.model is None else ran.model.columns
    if ran.model is not None:
        try:
            found, sources = read_from(hook(), ran.model.sql, columns, bound=bool(ran.model.parameters))
        except Exception as error:  # what was written is known all the same
            log.warning("OpenLineage gets no tables of the model: %s", type(error).__name__)
    report = ran.report
    if report.destination and not report.dry_run and report.resync != "baseline":
        found.outputs = [_written(task, ran, columns, sources)]
    return found


def _written(task: Any, ran: Ran, columns: Sequence[str], sources: Mapping[str, list[Source]]) -> Any:
    """Return Iterable's dataset, with the fields of this run and where they come from."""
    from airflow.providers.common.compat.openlineage import facet

    destination, fields = ran.report.destination, dict(_fields(task, ran, columns))
    lineage = {
        name: facet.Fields(inputFields=[facet.InputField(*source) for source in sources[column]])
        for name, (column, _) in fields.items()
        if sources.get(column)
    }
    schema = [facet.SchemaDatasetFacetFields(name=name, type=kind) for name, (_, kind) in fields.items()]
    facets: dict[str, Any] = {}
    if schema:
        facets["schema"] = facet.SchemaDatasetFacet(fields=schema)
    if lineage:
        facets["columnLineage"] = facet.ColumnLineageDatasetFacet(fields=lineage)
    rows = facet.OutputStatisticsOutputDatasetFacet(rowCount=ran.report.fates[Fate.ACCEPTED])
    return facet.OutputDataset(
        namespace=f"iterable://{host_of(destination)}",
        name=target_of(destination, getattr(task, "event_name", None)),
        facets=facets,
        outputFacets={"outputStatistics": rows},
    )


def _fields(task: Any, ran: Ran, columns: Sequence[str]) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Yield each of Iterable's fields with its column in lower case, and with its type, where that is certain."""
    for parameter, name in PARAMETER_FIELDS.items():
        column = getattr(task, parameter, None)
        if column is None and parameter == "item_id_column" and task.sync_type == "catalogs":
            (column,) = task.primary_key
        if column is not None:
            yield name, (column.lower(), "string" if name in ("email", "userId", "itemId") else None)
    for prefix, mapper in zip(("", "user."), ran.mappers, strict=False):
        for name, number in mapper.sources.items():
            column = "" if number is None else columns[number]
            kind = None if number is None else FIELD_TYPES.get(type_of(columns, number).kind)
            yield prefix + name, (column.lower(), kind)
