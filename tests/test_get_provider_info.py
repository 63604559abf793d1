from __future__ import annotations

import ast
import json
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import airflow
import jsonschema  # type: ignore[import-untyped]  # Airflow depends on it; its stubs are another package
import pytest

from airflow_provider_iterable import get_provider_info as module
from airflow_provider_iterable import operators
from airflow_provider_iterable.get_provider_info import get_provider_info
from airflow_provider_iterable.hooks.connection import DataCenter, ProjectType
from airflow_provider_iterable.hooks.form import SETTINGS
from airflow_provider_iterable.hooks.iterable import IterableHook
from tests.airflow_db import AIRFLOW as AIRFLOW_VERSION

AIRFLOW = Path(airflow.__path__[0])
INFO: Any = get_provider_info()
CONNECTION: Any = INFO["connection-types"][0]


def test_it_satisfies_airflows_schema() -> None:
    """Airflow skips a provider whose metadata its schema refuses."""
    schema = json.loads((AIRFLOW / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_the_form_satisfies_the_schema_of_apaches_own_providers() -> None:
    """Where Airflow ships the stricter schema of ``provider.yaml``, the connection form is checked by it too."""
    path = AIRFLOW / "provider.yaml.schema.json"
    schema = json.loads(path.read_text()) if path.exists() else {}
    properties = schema.get("properties", {}).get("connection-types", {})
    if "conn-fields" in properties.get("items", {}).get("properties", {}):
        jsonschema.validate(INFO["connection-types"], {**schema.get("definitions", {}), **properties})


@pytest.mark.parametrize("name", CONNECTION["conn-fields"])
def test_a_field_may_be_left_empty(name: str) -> None:
    """The form takes a field for required unless null, which it sends for an empty one, is among its types."""
    schema = CONNECTION["conn-fields"][name]["schema"]
    assert "null" in schema["type"]
    jsonschema.validate(None, {"type": schema["type"]})
    if "default" in schema:
        jsonschema.validate(schema["default"], schema)


def test_no_field_has_a_choice_called_null() -> None:
    """The form shows a choice by what Python or JavaScript calls it; an empty field is emptied by its cross."""
    choices = {name: one["schema"].get("enum", []) for name, one in CONNECTION["conn-fields"].items()}
    assert all(isinstance(choice, str) and choice for of_field in choices.values() for choice in of_field)
    assert choices["data_center"] == list(get_args(DataCenter))
    assert choices["project_type"] == list(get_args(ProjectType))


def test_the_form_knows_what_the_hook_reads() -> None:
    """A setting is in the form, or it is one that nobody is to set by accident; the others are warned about."""
    assert set(CONNECTION["conn-fields"]) | {"allow_http"} == set(SETTINGS)


def test_guides_and_logo_are_there() -> None:
    """They are files of the repository."""
    (integration,) = INFO["integrations"]
    root = Path(__file__).parent.parent
    for path in (*integration["how-to-guide"], integration["logo"]):
        assert path.startswith("/docs/")
        assert (root / path.removeprefix("/")).is_file(), path
    assert integration["external-doc-url"].startswith("https://")


def test_every_part_is_of_the_one_integration() -> None:
    """Airflow's registry lists hooks and operators by it."""
    (integration,) = INFO["integrations"]
    assert {entry["integration-name"] for kind in ("hooks", "operators") for entry in INFO[kind]} == {
        integration["integration-name"]
    }


@pytest.mark.parametrize("sync_id", ["dag.task", "a/b", *(["Größe ?x=1"] if AIRFLOW_VERSION >= (3, 0) else []), "x#y"])
def test_assets_keep_their_uris(sync_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """States in XCom are found by them, and DAGs are scheduled on them."""
    from airflow.providers.common.compat.sdk import Asset

    module = import_module(Asset.__module__)
    uri = f"iterable://users/{sync_id}"
    monkeypatch.setattr(module, "_get_uri_normalizer", lambda scheme: None)
    before = Asset(uri).uri
    monkeypatch.setattr(module, "_get_uri_normalizer", lambda scheme: lambda parts: parts)
    assert Asset(uri).uri == before


def test_it_agrees_with_the_hook() -> None:
    """The form that Airflow before 3.2 asks the hook for is the one in the metadata."""
    assert CONNECTION["connection-type"] == IterableHook.conn_type
    assert CONNECTION["hook-name"] == IterableHook.hook_name
    path, _, name = CONNECTION["hook-class-name"].rpartition(".")
    assert getattr(import_module(path), name) is IterableHook
    declared = {key.replace("-", "_"): value for key, value in CONNECTION["ui-field-behaviour"].items()}
    assert declared == IterableHook.get_ui_field_behaviour()


def test_what_it_names_exists() -> None:
    """Every module it lists is there, and each operator that DAG authors import is in one of them."""
    found = {
        kind: {name for entry in INFO[kind] for name in entry["python-modules"]} for kind in ("hooks", "operators")
    }
    modules = {name: import_module(name) for names in found.values() for name in names}
    for name in operators.__all__:
        assert any(name in vars(modules[place]) for place in found["operators"]), name


def test_it_imports_nothing() -> None:
    """Airflow reads it at every start of every command."""
    tree = ast.parse(Path(module.__file__).read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
