"""The JSON, YAML and TOML of the documentation is some; what a connection holds, the hook takes."""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from airflow_provider_iterable.hooks.form import SETTINGS
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.sandbox import Sandbox
from tests.documents import ROOT, Block, each

OTHERS = {
    ("docs/sandbox.md", "{"): "a seed of the sandbox",
    ("docs/retries.md", '{"phase": "running", "status": "running", "sync": "crm.sync_users", "run_id": '
     '"scheduled__2026-05-31T06:00:00+00:00",'): "the counts of a run under way",
}  # fmt: skip
"""What is neither a connection nor the extra of one."""


def accept(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, connection: dict[str, Any]) -> None:
    """See that the hook takes all of a connection, and warns of nothing."""
    monkeypatch.setenv("AIRFLOW_CONN_IT", json.dumps({"password": "k" * 32, "conn_type": "iterable", **connection}))
    hook = IterableHook("it")
    with caplog.at_level(logging.WARNING):
        for name in SETTINGS:
            if hasattr(IterableHook, name):
                getattr(hook, name)
        assert hook.api_key
        assert hook.host.startswith("http")
    assert [record.message for record in caplog.records if record.name.startswith("airflow_provider_iterable")] == []


@each("data")
def test_data(block: Block, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It can be read; what is not listed as something else is a connection, or the extra of one."""
    loaders: dict[str, Callable[[str], Any]] = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
    data = loaders[block.language](block.text)
    match OTHERS.get((block.page, block.first)):
        case "a seed of the sandbox":
            with Sandbox() as sandbox:
                sandbox.seed(**data)
        case "the counts of a run under way":
            code = "".join(path.read_text("utf-8") for path in (ROOT / "airflow_provider_iterable").rglob("*.py"))
            assert [name for name in data if f'"{name}"' not in code and f" {name}:" not in code] == []
        case None:
            accept(monkeypatch, caplog, data if "conn_type" in data else {"extra": data})


@pytest.mark.parametrize(
    "extra", [{"data_centre": "eu"}, {"data_center": "mars"}, {"rate_share": 2}, {"links": {"lists": "x"}}]
)
def test_a_wrong_extra_is_noticed(
    extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Names and values alike."""
    with pytest.raises(Exception, match=r"data_centre|mars|rate_share|links"):
        accept(monkeypatch, caplog, {"extra": extra})
