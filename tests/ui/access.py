from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

HIDDEN = "example_iterable_lists"
"""The Dag that the stranger may not see."""


class AuthManager(SimpleAuthManager):
    """Airflow's simple one, which has no rights for single Dags, with one Dag that one user may not see."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        """Refuse the stranger."""
        if user.username == "stranger" and details is not None and details.id == HIDDEN:
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
