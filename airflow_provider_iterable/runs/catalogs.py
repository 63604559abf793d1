"""A catalog sync in one run: finds or makes the catalog, and gives its fields their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_provider_iterable.api import project
from airflow_provider_iterable.engine.protocols import Sync
from airflow_provider_iterable.errors import ConfigurationError, Halted, WorthRetrying
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.runs.run import Run, SyncKind
from airflow_provider_iterable.syncs.catalogs import CatalogOptions, Catalogs

log = logger(__name__)

FIRST_WAIT = 2.0
"""Seconds before a catalog that was created is looked for once more, and before types are set once more."""


class CatalogRun(SyncKind):
    """A catalog sync in one run.

    :param mapper: the item's fields
    :param create: whether the catalog is created when it is missing
    :param check_types: whether values are compared with the catalog's field types
    """

    def __init__(self, options: CatalogOptions, mapper: Mapper, *, create: bool, check_types: bool) -> None:
        self._options, self._mapper, self._create, self.checks_types = options, mapper, create, check_types
        self._catalog = options.catalog_name

    def build(self, run: Run, columns: Sequence[str]) -> Catalogs:
        """Return the catalog sync bound to the model's columns."""
        return Catalogs(self._options, self._mapper, columns)

    def prepare(self, run: Run, sync: Sync) -> None:
        """Find or make the catalog, give declared fields their types, and learn those of all fields."""
        assert isinstance(sync, Catalogs)
        found = self._with_types(run, self._found(run))
        self._take(sync, found)

    def learn(self, run: Run, sync: Sync) -> None:
        """Learn the types of the fields of a catalog that is there, and those that are declared."""
        assert isinstance(sync, Catalogs)
        sync.existing = found = project.get_catalog_types(run.client, self._catalog) or {}
        self._take(sync, {**found, **self._missing(found)})

    def _take(self, sync: Catalogs, found: Mapping[str, str]) -> None:
        if self.checks_types:
            sync.learn_types(found)
            sync.unproven = [[name] for name in sync.typed if name in sync.fresh_tops and name not in found]

    def _found(self, run: Run) -> dict[str, str]:
        """Return the types of the catalog's fields; create the catalog if it is missing.

        An answer to the creation may get lost, and a new catalog may take a moment to be seen: it is looked for again
        before it is created again.
        """
        found, refusal = project.get_catalog_types(run.client, self._catalog), "none"
        if found is not None:
            return found
        self._may_create(run)

        def made() -> dict[str, str] | None:
            nonlocal refusal
            if refusal:
                refusal = project.create_catalog(run.client, self._catalog)
            return project.get_catalog_types(run.client, self._catalog)

        found = project.tried(run.client, made, lambda found: found is not None, first=FIRST_WAIT)
        if found is not None:
            return found
        raise WorthRetrying(
            f"The catalog {self._catalog} is not there after {project.TRIES} tries to create it (last answer: "
            f"{refusal or 'created'}). Nothing was sent. A retry tries again; if that does not help, create the "
            "catalog at Iterable."
        )

    def _may_create(self, run: Run) -> None:
        """Refuse to create a catalog that must exist, or has existed.

        :raises ConfigurationError: the catalog is not to be created
        :raises Halted: the sync remembers items in it
        """
        if not self._create:
            raise ConfigurationError(
                f"There is no catalog {self._catalog} at Iterable, and create_catalog is False. Nothing was "
                "sent. Create it at Iterable, set create_catalog=True, or mend catalog_name."
            )
        remembered = run.report.remembered
        if remembered and run.report.resync != "full":
            raise Halted(
                f"The catalog {self._catalog} has vanished from Iterable, and sync {run.report.sync_id} "
                f"remembers {remembered} items in it. Nothing was sent. If it was deleted on purpose, run once with "
                'resync="full": the catalog is created anew and every row is sent. If not, find out who deleted it.'
            )
        log.info("The catalog %s is missing and is created.", self._catalog)

    def _with_types(self, run: Run, found: dict[str, str]) -> dict[str, str]:
        """Give declared fields that have no type theirs; return the types of all fields.

        :raises ConfigurationError: a field has another type at Iterable than was declared
        """
        missing = self._missing(found)
        if not missing:
            return found

        def given() -> dict[str, str] | None:
            nonlocal found, missing
            if project.set_catalog_types(run.client, self._catalog, missing):
                log.info(
                    "Catalog %s: types were given to %s. Items that were sent before are found by these fields once "
                    "they are sent again.",
                    self._catalog,
                    ", ".join(missing),
                )
                return {**found, **missing}
            found = project.get_catalog_types(run.client, self._catalog) or {}
            missing = self._missing(found)
            return None if missing else found

        known = project.tried(run.client, given, lambda known: known is not None, first=FIRST_WAIT)
        if known is not None:
            return known
        raise WorthRetrying(
            f"The types of {', '.join(self._options.field_types)} could not be set in catalog {self._catalog}: "
            f"Iterable gave no usable answer {project.TRIES} times. No item was sent. A retry tries again."
        )

    def _missing(self, found: Mapping[str, str]) -> dict[str, str]:
        """Return the declared types of fields that have none.

        :raises ConfigurationError: a field has another type at Iterable than was declared
        """
        declared = self._options.field_types
        others = [
            f"{name} ({kind} declared, {found[name]} there)"
            for name, kind in declared.items()
            if found.get(name, kind) != kind
        ]
        if others:
            raise ConfigurationError(
                f"field_types contradicts the catalog {self._catalog}: {', '.join(others)}. Nothing was sent. "
                "Iterable never changes a field's type: declare the type that is there, or send another field."
            )
        return {name: kind for name, kind in declared.items() if name not in found}
