"""The URLs by which users of the sandbox see and change it; not part of Iterable's API."""

from collections.abc import Callable
from importlib.resources import files
from itertools import islice
from typing import Any

import msgspec

from ..options import Options
from ..project.project import Project
from ..service import Service, chosen
from ..shapes.answers import Answer, plain
from . import history, messaging, people, stock
from .people import call_row, stored_profile
from .seeding import seed

Inspect = Callable[[Service, dict[str, str], Any], Any]


def state(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return what the project holds; with `users=1` also all profiles as stored, or the first `limit`.

    Like lists, catalogs, events and purchases, it is that of the project whose number `project` is.
    """
    project = chosen(service, query)
    found: dict[str, Any] = {
        "project_type": project.type,
        "users": len(project.profiles),
        "lists": len(project.lists),
        "channels": len(project.channels.all),
        "catalogs": len(project.catalogs),
        "events": len(project.events),
        "purchases": len(project.purchases),
        "fields": project.schema.custom,
        "forgotten": {
            "emails": list(project.forgotten_emails),
            "user_ids": list(project.forgotten_user_ids),
        },
        "options": options_of(project.options),
    }
    if query.get("users") == "1":
        limit = int(query["limit"]) if "limit" in query else None
        found["profiles"] = stored(project, limit)
    return found


def stored(project: Project, limit: int | None = None) -> list[dict[str, Any]]:
    """Return profiles as stored, without system fields, each with the number of its accepted writes."""
    return [stored_profile(profile) for profile in islice(project.profiles, limit)]


def options_of(options: Options) -> dict[str, Any]:
    """Return the options by name, keys only as how many there are."""
    shown: dict[str, Any] = {name: getattr(options, name) for name in options.__struct_fields__}
    shown["api_key"] = None if options.api_key is None else "(set)"
    for name in ("read_only_keys", "disabled_keys", "project_keys"):
        shown[name] = len(shown[name])
    return shown


def calls(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return the calls after `after`, at most the `newest`; with `identifiers=1` also whom each wrote."""
    wanted = query.get("identifiers") == "1"
    found = []
    after = int(query.get("after", "0"))
    if "newest" in query:
        after = max(after, service.calls.last - int(query["newest"]))
    for call in service.calls.after(after):
        found.append(call_row(call, "identifiers") if wanted else call_row(call))
    return {"calls": found}


def one_call(service: Service, query: dict[str, str], body: Any) -> Any:
    """Return the call whose number `seq` is, with whom it wrote and its bodies, as far as they are recorded."""
    found = service.calls.numbered(int(query.get("seq", "")))
    if found is None:
        raise ValueError("no such call")
    return call_row(found, "identifiers", "request", "answer")


def forget_calls(service: Service, query: dict[str, str], body: Any) -> Any:
    """Forget the calls."""
    service.calls.clear()
    return {}


def summary(service: Service, query: dict[str, str], body: Any) -> Any:
    """Count the calls."""
    return service.calls.summary()


def reset(service: Service, query: dict[str, str], body: Any) -> Any:
    """Start again, with another project type if the body names one."""
    service.reset(body.get("project_type") if isinstance(body, dict) else None)
    return {}


def list_faults(service: Service, query: dict[str, str], body: Any) -> Any:
    """List the faults."""
    return {"faults": service.faults.listed()}


def add_faults(service: Service, query: dict[str, str], body: Any) -> Any:
    """Add the faults in the body."""
    service.faults.add(body if isinstance(body, list) else [body])
    return list_faults(service, query, body)


def end_faults(service: Service, query: dict[str, str], body: Any) -> Any:
    """End all faults, or the one at the `position` that it has among those listed, counted from 0."""
    if "position" in query:
        service.faults.remove(int(query["position"]))
    else:
        service.faults.clear()
    return list_faults(service, query, body)


def change_options(service: Service, query: dict[str, str], body: Any) -> Any:
    """Change the options in the body."""
    if not isinstance(body, dict):
        raise ValueError("options: an object expected")
    service.project.options = service.project.options.changed(body)
    return options_of(service.project.options)


INSPECTIONS: dict[tuple[str, str], Inspect] = {
    ("GET", "/sandbox/state"): state,
    ("GET", "/sandbox/users"): people.users,
    ("GET", "/sandbox/user"): people.story,
    ("GET", "/sandbox/lists"): stock.lists,
    ("POST", "/sandbox/lists"): stock.add_list,
    ("GET", "/sandbox/channels"): messaging.channels,
    ("POST", "/sandbox/channels"): messaging.add_channel,
    ("POST", "/sandbox/messageTypes"): messaging.add_message_type,
    ("GET", "/sandbox/catalogs"): stock.catalogs,
    ("GET", "/sandbox/events"): history.events,
    ("GET", "/sandbox/purchases"): history.purchases,
    ("GET", "/sandbox/calls"): calls,
    ("GET", "/sandbox/call"): one_call,
    ("DELETE", "/sandbox/calls"): forget_calls,
    ("GET", "/sandbox/summary"): summary,
    ("POST", "/sandbox/reset"): reset,
    ("POST", "/sandbox/seed"): seed,
    ("GET", "/sandbox/faults"): list_faults,
    ("POST", "/sandbox/faults"): add_faults,
    ("DELETE", "/sandbox/faults"): end_faults,
    ("POST", "/sandbox/options"): change_options,
}


def inspect(service: Service, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
    """Answer an inspection: 200 with JSON, 400 when it is wrong, 404 when there is none such."""
    action = INSPECTIONS.get((method, path))
    if action is None:
        return _error(404, "no such inspection")
    try:
        value = msgspec.json.decode(body) if body else None
        with service.lock:
            service.changes += method != "GET"
            return plain(action(service, query, value))
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        return _error(400, str(error))


def page() -> str:
    """Return the page that shows the inspections in a browser."""
    return files(__package__).joinpath("page.html").read_text("utf-8")


def _error(status: int, message: str) -> Answer:
    answer = plain({"error": message})
    answer.status = status
    return answer
