"""Parameters and templates of an operator: read strictly when the DAG is parsed, and once they are rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Column, Constant, Fields, Json
from airflow_provider_iterable.operators.forms import Form
from airflow_provider_iterable.operators.parameters import (
    NOTHING,
    check_literals,
    is_nothing,
    is_template,
    rendered,
)


class StrictOperator(BaseOperator):
    """An operator that knows what each of its parameters must be, and whose model is a query or a table."""

    forms: ClassVar[Mapping[str, Form]] = {}
    """What each parameter must be."""
    sql: str | None
    table: str | None
    dry_run: Any  # Airflow's method of this name renders templates for `airflow tasks test --dry-run` of Airflow 2
    model_source: str | None = None

    def _check_literals(self) -> None:
        """Read what is no template; what is one is remembered as such, and read when it is rendered."""
        given = {name: getattr(self, name) for name in self.forms}
        self._templates = frozenset(name for name in self.template_fields if is_template(given[name]))
        for name, value in check_literals(self.forms, self.template_fields, given).items():
            setattr(self, name, value)

    def _read_rendered(self, report: Report) -> ConfigurationError | None:
        """Read what became of the templates; return what is wrong with one of them, to be reported where runs are.

        Whether it is a dry run is read first: the account of one says so, and is written nowhere.
        """
        try:
            for name in ("dry_run", *self.template_fields):
                value = rendered(name, self.forms[name], getattr(self, name), name in self._templates)
                setattr(self, name, value)
                report.dry_run = self.dry_run
        except ConfigurationError as error:
            return error
        return None

    def _has(self, name: str) -> bool:
        """Whether a parameter was given, as a value or as a template."""
        return getattr(self, name) is not None

    def _mapping(self, name: str) -> Fields | None:
        """Return a mapping of fields as the DAG has it: only what fields come from may be a template in it."""
        given = getattr(self, name, None)
        return given if isinstance(given, Mapping) else None

    def resolve_template_files(self) -> None:
        """Put the text of a ``.sql`` file in the place of its name, and keep the name."""
        self.model_source = self.model_source or self.sql
        super().resolve_template_files()

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render a field; of a mapped task this is where the name of its ``.sql`` file becomes the file's text.

        What a field comes from is made anew: Airflow would change it in place, for other tasks and runs too.
        """
        if isinstance(content, str) and content is self.sql:
            self.model_source = self.model_source or content
        if isinstance(content, Column | Json):
            return replace(content, name=self.render_template(content.name, *args, **kwargs))
        if isinstance(content, Constant):
            value = self.render_template(content.value, *args, **kwargs)
            return replace(content, value=NOTHING if is_template(content.value) and is_nothing(value) else value)
        return super().render_template(content, *args, **kwargs)

    def model_name(self) -> str | None:
        """Return the model's name: that of its file or table; ``None`` where the query stands in the DAG."""
        source = self.model_source or self.sql
        if isinstance(source, str) and source.endswith(".sql") and "\n" not in source:
            return PurePosixPath(source).stem
        return self.table.rpartition(".")[2] if isinstance(self.table, str) else None
