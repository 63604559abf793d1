"""Which fields a sync sends for the first time, and the types that Iterable gives them for ever."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import msgspec

from airflow_provider_iterable.api import field_types
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.errors import ModelError
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.masking import logger, masked_name
from airflow_provider_iterable.state.store import Session
from airflow_provider_iterable.syncs.sync import BaseSync

log = logger(__name__)

NOTE = "fields"
"""The note beside the state that holds the names of the fields of the last run."""
EVENTS_NOTE = "event_types"
"""The one that holds which events were sent, and what Iterable told of the types of their fields."""


def look(sync: BaseSync, session: Session, report: Report) -> None:
    """Compare the fields with those of the last run, and have the types of new ones noted.

    :raises ModelError: columns differ only in case from those of the last run, and nothing says what is meant
    """
    known = _known(session.notes.get(NOTE))
    names = {name for mapper in sync.mappers for name in mapper.names}
    new = names - known if known is not None else names
    sync.fresh = new
    for mapper in sync.mappers:
        mapper.watch(new)
    if known is None or report.resync == "full":
        return
    gone = known - names
    if not new and not gone:
        return
    lower = {name.lower(): name for name in gone}
    renamed = {name: lower[name.lower()] for name in sorted(new) if name.lower() in lower}
    if renamed and any(mapper.follows_columns for mapper in sync.mappers):
        raise ModelError(
            f"The model's columns {', '.join(map(shown, renamed))} were {', '.join(map(shown, renamed.values()))} in "
            "the last run. As fields these are others, which Iterable would have for ever beside the former ones. "
            "Nothing was sent. Name the columns as before (AS), or map them in fields."
        )
    if not any(mapper.follows_columns for mapper in sync.mappers):  # otherwise the mapping itself has changed
        return
    parts = [f"new: {', '.join(map(shown, sorted(new)))}"] * bool(new)
    parts += [f"no longer sent: {', '.join(map(shown, sorted(gone)))}"] * bool(gone)
    reason = f"the fields are others than in the last run ({'; '.join(parts)})"
    report.resend_reason = report.resend_reason or reason
    log.info("Sync %s: %s.", report.name, reason)


def note(sync: BaseSync, session: Session) -> None:
    """Note the fields of the run in place of those of the last one; they are stored when it finishes."""
    session.notes[NOTE] = json.dumps(sorted({name for mapper in sync.mappers for name in mapper.names}))


def forecast(sync: BaseSync, report: Report) -> None:
    """Enter the types of the fields that the sync has not sent yet, and say which ones disagree among themselves."""
    seen = {path: counts for mapper in sync.mappers for path, counts in mapper.seen.items()}
    types = _types(sync.mappers, seen)
    report.new_fields = types
    if report.dry_run:
        report.notes.extend(_disagreements([name for mapper in sync.mappers for name in mapper.names], seen))


def created(sync: BaseSync, existing: Mapping[str, str], dry_run: bool) -> Mapping[str, str]:
    """Return what values have to be for the fields that Iterable does not have, and say which types they get.

    Only fields whose values disagree are looked at again before they are sent.

    :param existing: the types of Iterable's fields
    :param dry_run: whether the plan says it
    """
    if sync.profile is None:
        return {}
    seen = {path: counts for path, counts in sync.profile.seen.items() if path not in existing}
    types = _types([sync.profile], seen)
    if types and not dry_run:
        log.info("Iterable has no such fields yet, and types them for ever by this run: %s.", _listed(types))
    for sentence in () if dry_run else _disagreements(sync.profile.names, seen):
        log.warning("%s", sentence)
    # Where all values have one type there is nothing to be looked at again.
    return {path: kind for path, counts in seen.items() if len(counts) > 1 and (kind := field_types.required(counts))}


def _types(mappers: Collection[Mapper], seen: field_types.Seen) -> dict[str, str]:
    """Return the types of mapped fields; members of objects are left out, for what names them may be data."""
    names = {name for mapper in mappers for name in mapper.names}
    return {path: kind for path, counts in seen.items() if path in names and (kind := field_types.chosen(counts))}


def _disagreements(names: Collection[str], seen: field_types.Seen) -> list[str]:
    return [
        f"The values of {shown(path)} disagree: "
        f"{', '.join(f'{count} {kind}' for kind, count in counts.most_common())}. If Iterable does not have the field "
        f"yet, it becomes a {field_types.chosen(counts)}; other values are converted where nothing is lost by it, "
        "their rows are rejected otherwise, and texts that look like dates go with the next run."
        for path, counts in seen.items()
        if path in names and field_types.differing(counts)
    ]


def _known(text: str | None) -> set[str] | None:
    try:
        return None if text is None else set(msgspec.json.decode(text, type=list[str]))
    except msgspec.MsgspecError:
        return None


def _listed(types: Mapping[str, str]) -> str:
    return ", ".join(f"{shown(path)} ({kind})" for path, kind in sorted(types.items()))


def shown(path: str) -> str:
    """Return the name of a field with the people masked that its members may name."""
    first = path.partition(".")[0]
    return masked_name(path, mapped=[first])
