"""The Test button of Airflow's list of connections, as its page calls it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_iterable.sandbox import Sandbox
from tests.airflow_db import AIRFLOW

if AIRFLOW >= (3, 3):

    @pytest.mark.slow
    @pytest.mark.usefixtures("airflow_db")
    def test_a_stored_connection_with_port_0_can_be_tested(monkeypatch: pytest.MonkeyPatch) -> None:
        """The page of 3.3.1 and 3.3.2 sends 0 for an empty port, and Airflow takes that for another server than the
        stored one, whose key it then keeps to itself; so the form has a port, in which 0 means none here.
        """
        from airflow.api_fastapi.app import create_app, get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from fastapi.testclient import TestClient

        monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
        with Sandbox("email") as sandbox:
            app = create_app(apps="core")
            token: Any = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
            page = TestClient(app, headers={"Authorization": f"Bearer {token}"})
            stored = {
                "connection_id": "button",
                "conn_type": "iterable",
                "host": sandbox.url,
                "password": "0123456789abcdef0123456789abcdef",
                "port": 0,
                "extra": json.dumps({"project_type": "email"}),
            }
            assert page.post("/api/v2/connections", json=stored).status_code == 201
            try:
                shown = page.get("/api/v2/connections/button").json()
                sent = {name: shown[name] or "" for name in stored if name != "port"} | {"port": shown["port"] or 0}
                assert sent["password"] == "***"
                told = page.post("/api/v2/connections/test", json=sent)
            finally:
                page.delete("/api/v2/connections/button")
        assert (told.status_code, told.json()["status"]) == (200, True), told.text
        assert told.json()["message"].startswith("Connected to 127.0.0.1")
