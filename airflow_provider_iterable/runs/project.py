"""Sees that an API key belongs to the project that a state is about: keys differ between projects, and are renewed."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_iterable.api.client import Client
from airflow_provider_iterable.api.project import get_channels
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.errors import DestinationChanged, WorthRetrying
from airflow_provider_iterable.hooks.iterable import IterableHook
from airflow_provider_iterable.masking import logger
from airflow_provider_iterable.state.project import PROJECT_NOTE, Project, differing, key_digest
from airflow_provider_iterable.state.store import Session

log = logger(__name__)


def recognise(hook: IterableHook, client: Client, session: Session, report: Report) -> Project:
    """Return the project of the connection's key, which is the one that the state is about; note what is new of it.

    Nothing is asked about a key that is known. A dry run asks and notes nothing.

    :raises DestinationChanged: it is another project, or might be one, and the run does not take the state there
    :raises Halted: Iterable refuses the key
    :raises WorthRetrying: Iterable did not answer what only it knows
    """
    known = Project.noted(session.notes.get(PROJECT_NOTE))
    here = Project((key_digest(hook.host, hook.api_key),), None, hook.project)
    same = known is None or known.same(here)
    if same is None and report.dry_run:
        _warn(report, hook.iterable_conn_id)
        same = True
    if same is None and known is not None:
        here = replace(here, channels=tuple(get_channels(client)))
        same = known.same(here)
        if same:
            log.info("Sync %s: its project has another API key than before, which is noted.", report.name)
    if not same and known is not None:
        if report.resync == "changes":
            raise DestinationChanged(_refusal(report.name, hook.iterable_conn_id, known, here, unsure=same is None))
        session.move()
        known = None
    now = here if known is None else known.joined(here)
    if now != known and not report.dry_run:
        session.note_along(PROJECT_NOTE, now.note())
    return now


def note_channels(hook: IterableHook, client: Client, session: Session, sync: str) -> Project | None:
    """Ask for the channels of a project whose key is known, unless that was done; return what is known of it then.

    Called where there is something to send: so a run without news calls nobody.

    :raises Halted: Iterable refuses the key
    """
    project = Project.noted(session.notes.get(PROJECT_NOTE))
    if project is None or project.name or project.channels is not None:
        return project
    try:
        project = replace(project, channels=tuple(get_channels(client, tries=1)))
    except WorthRetrying as error:
        log.info("Sync %s: the next run asks again what identifies the project. %s", sync, error)
        return project
    if not project.channels:
        log.warning(
            "Sync %s: connection %s may not read the project's message channels. Should its API key change, nothing "
            "would show whether that is one of another project: give its extra a project.",
            sync,
            hook.iterable_conn_id,
        )
    session.note_along(PROJECT_NOTE, project.note())
    return project


def _warn(report: Report, connection: str) -> None:
    report.notes.append(
        f"Connection {connection} has an API key that this sync has not used yet. A dry run asks nothing; another run "
        "asks Iterable whether the project is the same, and sends nothing if it is not."
    )
    log.warning("Sync %s: %s", report.name, report.notes[-1])


def _refusal(sync: str, connection: str, known: Project, here: Project, *, unsure: bool) -> str:
    if unsure:
        why = "its message channels are not remembered" if not known.channels else "the key may not read them"
        verb, what = "may belong", f"the key is a new one, which is compared by message channels, and {why}"
    else:
        verb, what = "belongs", differing(known, here)
    named = (
        f"set project to {known.name!r} in the connection's extra"
        if known.name
        else "restore the former key, give the connection's extra a project, run once, and change the key then"
    )
    return (
        f"The state of sync {sync!r} {verb} to another project at Iterable than the API key of connection {connection} "
        f'({what}). Nothing was read or sent. Set another sync_id to start afresh there, resync="full" to send every '
        'row there, or resync="baseline" if Iterable holds the rows there already; or restore the former key. If the '
        f"project is the same, {named}."
    )
