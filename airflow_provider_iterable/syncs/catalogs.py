"""What a catalog sync means: items written, whole or in part, and deleted; knows neither SQL nor Airflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, get_args

import msgspec

from airflow_provider_iterable.api import endpoints, field_types, values
from airflow_provider_iterable.engine.reasons import Kind, Reason
from airflow_provider_iterable.engine.vocabulary import (
    Changed,
    Entry,
    Invalid,
    Operation,
    Outcome,
    Records,
    Removed,
    Row,
)
from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.mapping import Mapper, position
from airflow_provider_iterable.syncs.chunk import Chunk, encode, namer
from airflow_provider_iterable.syncs.sync import BaseSync, SentField, mapped_fields, recipe_of

OnRemoved = Literal["keep", "delete"]
FieldType = Literal["boolean", "date", "geo_location", "long", "double", "object", "string"]
FIELD_TYPES: tuple[FieldType, ...] = get_args(FieldType)
MAX_ITEM_BYTES = 30_000
"""Largest item, as JSON without its ID: Iterable documents 30 kB."""

_FRAME = len(b'{"":}')
"""Bytes of a body around an item and its ID."""


@dataclass(frozen=True)
class CatalogOptions:
    """How a catalog is synced: parameters of ``IterableCatalogOperator``.

    :raises ConfigurationError: the options make no sense
    """

    catalog_name: str
    primary_key: tuple[str, ...]
    item_id_column: str | None = None
    on_removed: OnRemoved = "keep"
    replace_uploaded_fields_only: bool = False
    field_types: Mapping[str, str] = field(default_factory=dict)
    salvage: bool = False

    def __post_init__(self) -> None:
        if self.item_id_column is None and len(self.primary_key) > 1:
            raise ConfigurationError(
                f"The primary key has {len(self.primary_key)} columns, and an item has one ID: name item_id_column"
            )
        for name, kind in self.field_types.items():
            if not name or "." in name:
                raise ConfigurationError(
                    f"field_types: {name!r} is no top-level field. Iterable's field names have no periods; the type "
                    'of a parent is "object".'
                )
            if kind not in FIELD_TYPES:
                raise ConfigurationError(
                    f"field_types: the type of {name!r} must be one of {', '.join(FIELD_TYPES)}, not {kind!r}"
                )

    @property
    def id_column(self) -> str:
        """The column of the item ID."""
        return self.item_id_column or self.primary_key[0]


class Catalogs(BaseSync):
    """The catalog sync: a row is an item.

    :param options: see :class:`CatalogOptions`
    :param mapper: the item's fields
    :param columns: the model's columns
    :raises ModelError: a column is missing
    :raises ConfigurationError: a type is declared for a field that is not mapped
    """

    def __init__(self, options: CatalogOptions, mapper: Mapper, columns: Sequence[str]) -> None:
        self._mapper = mapper
        self.keys = namer(columns, options.primary_key)
        self._item_id = position(columns, options.id_column)
        mapper.bind(columns)
        self.mappers = (mapper,)
        self.typed = {name.partition(".")[0] for name in mapper.names}
        self.sent_fields = [SentField("item ID", ("id",), columns[self._item_id])]
        self.sent_fields += mapped_fields(mapper, "item", "item")
        self.declared = options.field_types
        unknown = sorted(options.field_types.keys() - self.typed)
        if unknown:
            raise ConfigurationError(
                f"field_types names {', '.join(unknown)}, which the sync does not send. A field that was given a type "
                f"stays for ever, so nothing was sent. The fields are: {', '.join(sorted(self.typed))}."
            )
        only = options.replace_uploaded_fields_only
        self._salt = b"some fields" if only else None
        said = (columns[self._item_id], only, mapper.text)
        read = (self._item_id, *mapper.positions)
        self.recipe = recipe_of(columns, options.primary_key, read, said, mapper.json_positions)
        self._write = endpoints.write_items(options.catalog_name, replace_uploaded_fields_only=only)
        self._delete = endpoints.delete_items(options.catalog_name) if options.on_removed == "delete" else None
        self.salvages = options.salvage

    def records(self, keys: Sequence[str], rows: Sequence[Row], fingerprints: Sequence[bytes] = ()) -> Records:
        """Map rows: each body is an object with one member, the item under its ID."""
        chunk = Chunk(keys, rows, fingerprints)
        names = values.item_ids(chunk.columns[self._item_id])
        chunk.name("item", names, Reason.INVALID_ITEM_ID)
        items = self._mapper.payloads(chunk.columns, chunk.refuse_value)
        salts = None if self._salt is None else [self._salt] * len(rows)
        records = chunk.records([{name or "": item} for name, item in zip(names, items, strict=True)], salts)
        return records if max(map(len, records.bodies)) <= MAX_ITEM_BYTES else _without_large(records)

    def removed(self, change: Removed) -> Operation:
        """The item of a row that left is kept or deleted."""
        return self._leave(change.key, change.before)

    def moved(self, change: Changed) -> Operation | None:
        """The item that a row was before follows ``on_removed``, under a key that no row has."""
        if self._delete is None:
            return None
        # As short as a state can hold, whatever the row's key; another one for each item that a row leaves.
        digest = blake2b(f"{change.after.key} {change.before.ref}".encode(), digest_size=16).hexdigest()
        return self._leave(f"left {digest}", change.before)

    def _leave(self, key: str, before: Entry) -> Operation:
        item = self.identity(before.ref)
        return Operation(key, Kind.REMOVED, self._delete, encode(item[1]), (item,), None)

    def fields_of(self, body: Any) -> dict[str, Any]:
        """Return the item in a body."""
        item: dict[str, Any]
        (item,) = body.values()
        return item

    def opened(self, body: Any) -> Any:
        """Return an item beside its ID."""
        ((name, item),) = body.items()
        return {"id": name, "item": item}

    def learn_types(self, found: Mapping[str, str]) -> None:
        """Take the types of the catalog's fields; only those of mapped fields matter.

        :param found: field to type, as the catalog's mappings have it
        """
        super().learn_types({name: field_types.CATALOG_TYPES.get(kind, kind) for name, kind in found.items()})

    def screen(self, operation: Operation) -> Operation | Outcome:
        """Look at each item: Iterable takes a value of the wrong type, and never finds it again."""
        return operation if operation.kind is Kind.REMOVED else self.inspect(operation)

    def faults(self, fields: dict[str, Any]) -> tuple[dict[str, str], bool, Reason]:
        """Compare an item with the catalog's field types, and look for names that a catalog does not take."""
        wrong, converted, reason = super().faults(fields)
        for name, value in fields.items():
            if type(value) in (dict, list) and _has_period(value):
                # The names inside are not repeated: they may be data.
                wrong[name], reason = f"field {name}: a name inside it has a period", Reason.INVALID_VALUE
        return wrong, converted, reason


def _without_large(records: Records) -> Records:
    """Put aside items that are larger than Iterable takes."""
    fingerprints, bodies = list(records.fingerprints), list(records.bodies)
    for number, body in enumerate(bodies):
        size = len(body) - len(records.names[number] or "") - _FRAME
        if size > MAX_ITEM_BYTES:
            detail = f"an item of {size} bytes; Iterable takes {MAX_ITEM_BYTES}"
            fingerprints[number] = Invalid(records.keys[number], Reason.TOO_LARGE, detail, records.handles(number))
            bodies[number] = b""
    return msgspec.structs.replace(records, fingerprints=fingerprints, bodies=bodies)


def _has_period(value: Any) -> bool:
    if isinstance(value, dict):
        return any("." in name or _has_period(member) for name, member in value.items())
    return isinstance(value, list) and any(map(_has_period, value))
