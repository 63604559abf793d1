"""What Airflow loads in each of its processes; the page itself is imported when somebody opens it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

Message = MutableMapping[str, Any]
PREFIX = "/iterable"
"""Below the address of Airflow; extra links lead there, too."""


class LazyApp:
    """An ASGI application that is made by its first request: making one takes a second that tasks need not spend."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer a request."""
        if self._app is None:
            self._app = import_module("airflow_provider_iterable.ui.app").build_app()
        await self._app(scope, receive, send)


class IterablePlugin(AirflowPlugin):
    """The sync-runs page: in the menu, and as a tab of each Dag and each of its runs. Airflow 2 does without."""

    name = "iterable"
    # Airflow has these as lists of the class.
    fastapi_apps = [  # noqa: RUF012
        {"app": LazyApp(), "url_prefix": PREFIX, "name": "Iterable syncs"}
    ]
    external_views = [  # noqa: RUF012
        {
            "name": "Iterable syncs",
            "href": "iterable/",
            "destination": "nav",
            "category": "browse",
            "url_route": "iterable_syncs",
        },
        {
            "name": "Iterable",
            "href": "iterable/?dag_id={DAG_ID}",
            "destination": "dag",
            "url_route": "iterable_syncs_of_dag",
        },
        {
            "name": "Iterable",
            "href": "iterable/?dag_id={DAG_ID}&run_id={RUN_ID}",
            "destination": "dag_run",
            "url_route": "iterable_syncs_of_run",
        },
    ]
