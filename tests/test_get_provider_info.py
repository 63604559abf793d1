from __future__ import annotations

import ast
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import airflow
import jsonschema  # type: ignore[import-untyped]  # Airflow depends on it; its stubs are another package
import pytest

from airflow_provider_iterable import get_provider_info as module
from airflow_provider_iterable import operators
from airflow_provider_iterable.get_provider_info import get_provider_info
from airflow_provider_iterable.hooks.iterable import IterableHook

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
    """Null, which is what the form sends for an empty field, is valid for each of them."""
    schema = CONNECTION["conn-fields"][name]["schema"]
    jsonschema.validate(None, schema)
    jsonschema.validate(schema.get("default"), schema)


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
