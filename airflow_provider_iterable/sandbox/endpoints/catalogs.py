"""The endpoints of catalogs: what each takes and answers."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..project.catalogs import FIELD_TYPES, Catalog, Item, fields_with_period
from ..project.project import Project
from ..shapes.answers import Answer, error, plain, refusal, success
from ..shapes.catalogs import Documents, ItemIds, Mappings, Patch, Replacement
from ..shapes.request import Request
from ..shapes.values import number_in

PAGE_SIZE = 10
LARGEST_PAGE = 1000
_NAME = re.compile(r"[a-zA-Z0-9-]{1,255}")


def is_name(text: str) -> bool:
    """Return whether a text may name a catalog or an item: letters, digits and dashes, at most 255."""
    return _NAME.fullmatch(text) is not None


def get_catalogs(project: Project, request: Request[None]) -> Answer:
    """Name the catalogs, page by page."""
    names = [{"name": catalog.name} for catalog in project.catalogs]
    return _paged(project, request, "/api/catalogs", names, ("catalogNames", "totalCatalogsCount"), lambda row: row)


def create(project: Project, request: Request[None]) -> Answer:
    """Make a catalog."""
    name = request.named["name"]
    if not is_name(name):
        return _refused(project, f"Invalid catalog name: {name}", name)
    if project.catalogs.get(name) is not None:
        return _refused(project, f"Catalog already exists: {name}", name)
    project.catalogs.create(name)
    return _accepted(project.options.catalog_created_status, f"Catalog {name} created")


def delete(project: Project, request: Request[None]) -> Answer:
    """Delete a catalog with its items."""
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    project.catalogs.delete(catalog)
    return success(f"Catalog {catalog.name} deleted", applied=True)


def get_mappings(project: Project, request: Request[None]) -> Answer:
    """List the fields that have a type, and those that have none."""
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    return _wrapped(project, {"definedMappings": catalog.types, "undefinedFields": catalog.undefined})


def put_mappings(project: Project, request: Request[Mappings]) -> Answer:
    """Give fields their types, all or none; a type that is set stays."""
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    types: dict[str, str] = {}
    for mapping in request.body.mappings_updates:
        name, word = mapping.field_name, mapping.field_type
        if word not in FIELD_TYPES:
            return _refused(project, f"Unknown field type: {word}", word)
        if not name or "." in name:
            return _refused(project, f"Invalid field name: {name}", name)
        held = types.get(name, catalog.types.get(name, word))
        if held != word:
            return _refused(project, f"Field {name} has the type {held}, which cannot change", name)
        types[name] = word
    over = _too_many_fields(project, catalog, catalog.grown([types]))
    if over is not None:
        return over
    catalog.define(types)
    return success(applied=bool(types))


def get_items(project: Project, request: Request[None]) -> Answer:
    """Show the items, page by page."""
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    order = request.named.get("orderBy")
    if (order is not None and order not in catalog.types) or (order is None and "sortAscending" in request.named):
        return _refused(project, "orderBy must be a field with a defined mapping", order or "")
    ascending = request.named.get("sortAscending", "").lower() == "true"
    items = catalog.ordered(order, ascending=ascending)
    members = ("catalogItemsWithProperties", "totalItemsCount")
    return _paged(project, request, f"/api/catalogs/{catalog.name}/items", items, members, _shower(catalog))


def write_items(project: Project, request: Request[Documents]) -> Answer:
    """Write many items; the answer does not say what became of each."""
    body = request.body
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    if len(body.documents) > project.options.catalog_max_items:
        msg = f"At most {project.options.catalog_max_items} items can be uploaded at once"
        return _refused(project, msg, str(len(body.documents)), "BatchTooLarge")
    msg = f"Request to bulk-upload documents into {catalog.name} processed successfully"
    return _write(project, catalog, body.documents, msg, merge=body.replace_uploaded_fields_only)


def delete_items(project: Project, request: Request[ItemIds]) -> Answer:
    """Delete many items; those that do not exist count as deleted."""
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    doomed = request.body.item_ids
    msg = f"Request to bulk-delete documents from {catalog.name} processed successfully"
    return _remove(project, catalog, doomed, msg)


def get_item(project: Project, request: Request[None]) -> Answer:
    """Show one item, without an envelope."""
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    number = request.named["itemId"]
    item = catalog.items.get(number)
    if item is None:
        return _error(404, f"Catalog item not found: {number}", "error.catalogs.items.notFound", number)
    return plain(_shower(catalog)(item))


def put_item(project: Project, request: Request[Replacement]) -> Answer:
    """Replace one item, or make it."""
    return _write_one(project, request, request.body.value, merge=False)


def patch_item(project: Project, request: Request[Patch]) -> Answer:
    """Write some fields of one item, or make it."""
    return _write_one(project, request, request.body.update, merge=True)


def delete_item(project: Project, request: Request[None]) -> Answer:
    """Delete one item; one that does not exist counts as deleted."""
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    return _remove(project, catalog, [request.named["itemId"]], "Request to delete the item accepted")


def _write_one(project: Project, request: Request[Any], value: dict[str, Any], *, merge: bool) -> Answer:
    catalog = _named(project, request)
    if isinstance(catalog, Answer):
        return catalog
    documents = {request.named["itemId"]: value}
    return _write(project, catalog, documents, "Request to write the item accepted", merge=merge)


def _write(
    project: Project, catalog: Catalog, documents: Mapping[str, dict[str, Any]], msg: str, *, merge: bool
) -> Answer:
    """Store items after checking names, sizes and fields; one wrong item refuses all, or is dropped, by option."""
    options = project.options
    kept = dict(documents)
    for number, value in documents.items():
        complaint = _complaint(number, value, options.catalog_max_item_bytes)
        if complaint is not None and options.catalog_bad_items == "refuse":
            return _refused(project, complaint, number)
        if complaint is not None or number in options.catalog_lost_items:
            del kept[number]
    over = _too_many_fields(project, catalog, catalog.grown(kept.values()))
    if over is not None:
        return over

    def write(now: float) -> None:
        for number, value in kept.items():
            catalog.write(number, value, now, merge=merge)

    _schedule(project, write)
    return _accepted(options.catalog_status, msg, applied=bool(kept), items=kept if options.record_identifiers else ())


def _complaint(number: str, value: dict[str, Any], most: int) -> str | None:
    """Return what is wrong with an item."""
    if not is_name(number):
        return f"Invalid catalog item id: {number}"
    size = len(msgspec.json.encode(value))
    if size > most:
        return f"Catalog item {number} has {size} bytes, the maximum is {most}"
    for name in fields_with_period(value):
        return f"Field names may not contain periods: {name}"
    return None


def _too_many_fields(project: Project, catalog: Catalog, grown: set[str]) -> Answer | None:
    limit = project.options.catalog_max_fields
    total = len(catalog.fields.keys() | catalog.types.keys()) + len(grown)
    if not grown or limit is None or total <= limit:
        return None
    msg = f"Catalog {catalog.name} would have {total} fields, which exceeds the limit of {limit}"
    return _refused(project, msg, catalog.name, "UniqueFieldsLimitExceeded")


def _remove(project: Project, catalog: Catalog, doomed: list[str], msg: str) -> Answer:
    lost = project.options.catalog_lost_items

    def remove(now: float) -> None:
        for number in doomed:
            if number not in lost:
                catalog.remove(number)

    _schedule(project, remove)
    items = doomed if project.options.record_identifiers else ()
    return _accepted(project.options.catalog_status, msg, applied=bool(doomed), items=items)


def _schedule(project: Project, change: Callable[[float], None]) -> None:
    now = project.clock()
    project.catalogs.schedule(change, now + project.options.catalog_effect_after, now)


def _named(project: Project, request: Request[Any]) -> Catalog | Answer:
    """Return the catalog that the path names, with due changes made, or the answer that there is none."""
    project.catalogs.settle(project.clock())
    name = request.named["name"]
    found = project.catalogs.get(name)
    return found or _error(404, f"Catalog not found: {name}", "error.catalogs.notFound", name)


def _shower(catalog: Catalog) -> Callable[[Item], dict[str, Any]]:
    def show(item: Item) -> dict[str, Any]:
        return {
            "catalogName": catalog.name,
            "itemId": item.id,
            "lastModified": int(item.modified * 1000),
            "size": item.size,
            "value": item.value,
        }

    return show


def _paged(
    project: Project,
    request: Request[None],
    path: str,
    rows: list[Any],
    members: tuple[str, str],
    show: Callable[[Any], Any],
) -> Answer:
    """Answer with one page of the rows, their number, and the pages beside it."""
    page = number_in(request.named.get("page", "1"))
    size = number_in(request.named.get("pageSize", str(PAGE_SIZE)))
    if page < 1 or not 1 <= size <= LARGEST_PAGE:
        return _refused(project, f"page starts at 1 and pageSize is at most {LARGEST_PAGE}", "")
    rest = "".join(f"&{n}={request.named[n]}" for n in ("orderBy", "sortAscending") if n in request.named)
    shown = [show(row) for row in rows[(page - 1) * size : page * size]]
    params: dict[str, Any] = {members[0]: shown, members[1]: len(rows)}
    if page * size < len(rows):
        params["nextPageUrl"] = f"{path}?page={page + 1}&pageSize={size}{rest}"
    if page > 1:
        params["previousPageUrl"] = f"{path}?page={page - 1}&pageSize={size}{rest}"
    return _wrapped(project, params)


def _wrapped(project: Project, params: dict[str, Any]) -> Answer:
    return success(params=params, applied=False) if project.options.catalog_wrapped else plain(params)


def _accepted(status: int, msg: str, *, applied: bool = True, items: Any = ()) -> Answer:
    answer = success(msg, applied=applied)
    answer.status = status
    answer.identifiers = [("item_id", number) for number in items]
    return answer


def _refused(project: Project, msg: str, argument: str, code: str = "BadParams") -> Answer:
    """Refuse a call in the form that the options choose."""
    if project.options.catalog_refusals == "error":
        return _error(400, msg, code, argument)
    return refusal(400, code, msg)


def _error(status: int, message: str, code: str, argument: str) -> Answer:
    """Refuse a call in the second form of errors."""
    return error(status, message, code, {"args": [argument]})
