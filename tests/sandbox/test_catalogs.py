"""Catalogs, their field types and their items, and what calls about them answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.sandbox.options import Options, ProjectType
from airflow_provider_iterable.sandbox.service import Service

from .conftest import START, Client, Clock, Make, Reply
from .test_faults_and_calls import ask, last, spoil

MISSING = {
    "error": "NotFound",
    "message": "Catalog not found: none",
    "code": "error.catalogs.notFound",
    "data": {"args": ["none"]},
}
Made = tuple[Client, Reply]


def upload(client: Client, documents: Any, *, name: str = "shops", only_given: Any = False) -> Reply:
    """Write many items."""
    body = {"documents": documents, "replaceUploadedFieldsOnly": only_given}
    return client.post(f"catalogs/{name}/items", body)


def item(client: Client, number: str, name: str = "shops") -> Any:
    """Return the value of an item as read, or None."""
    reply = client.get(f"catalogs/{name}/items/{number}")
    return reply.json["value"] if reply.status == 200 else None


def define(client: Client, **types: str) -> Reply:
    """Give fields their types."""
    updates = [{"fieldName": name, "fieldType": word} for name, word in types.items()]
    return client.send("PUT", "/api/catalogs/shops/fieldMappings", {"mappingsUpdates": updates})


def with_shops(make: Make, **options: Any) -> Client:
    """Return a project with one empty catalog."""
    client = make(**options)
    assert client.post("catalogs/shops").status in (200, 201)
    return client


def indexed(client: Client) -> dict[str, list[str]]:
    """Return which fields of each item can be searched."""
    [catalog] = ask(client, "GET", "/sandbox/catalogs?items=1").json["catalogs"]
    return {row["id"]: row["indexed"] for row in catalog["values"]}


@pytest.mark.parametrize("project_type", ["email", "user_id", "hybrid"])
def test_a_catalog_is_made_once(make: Make, project_type: ProjectType) -> None:
    """A new catalog answers 201 in the envelope; its name, in any case, is taken then."""
    client = make(project_type)
    reply = client.post("catalogs/Shops-1")
    assert (reply.status, reply.code) == (201, "Success")
    for name in ("Shops-1", "shops-1"):
        again = client.post(f"catalogs/{name}")
        assert (again.status, again.code) == (400, "BadParams")
    assert client.get("catalogs").json["params"]["catalogNames"] == [{"name": "Shops-1"}]
    assert upload(client, {"a": {"f": 1}}, name="SHOPS-1").status == 202
    assert item(client, "a", "Shops-1") == {"f": 1}
    assert make(catalog_created_status=200).post("catalogs/shops").status == 200


@pytest.mark.parametrize("name", ["a_b", "a.b", "a%20b", "%C3%A9", "x" * 256])
def test_names_are_letters_digits_and_dashes(make: Make, name: str) -> None:
    """Another name, or one of more than 255 characters, is refused for a catalog and for an item."""
    client = with_shops(make)
    assert client.post(f"catalogs/{name}").code == "BadParams"
    assert client.send("PUT", f"/api/catalogs/shops/items/{name}", {"value": {}}).code == "BadParams"
    assert client.send("PATCH", f"/api/catalogs/shops/items/{name}", {"update": {}}).code == "BadParams"
    assert len(client.project.catalogs) == 1
    assert client.post(f"catalogs/{'x' * 255}").status == 201
    assert client.send("PUT", f"/api/catalogs/shops/items/{'x' * 255}", {"value": {}}).status == 202


def test_a_catalog_is_deleted_with_its_items(make: Make) -> None:
    """It may come again, empty and without types; how often it was made and deleted is remembered."""
    client = with_shops(make)
    define(client, f="long")
    upload(client, {"a": {"f": 1}})
    reply = client.send("DELETE", "/api/catalogs/shops")
    assert (reply.status, reply.code) == (200, "Success")
    assert client.send("DELETE", "/api/catalogs/shops").status == 404
    client.post("catalogs/shops")
    assert item(client, "a") is None
    assert client.get("catalogs/shops/fieldMappings").json["params"]["definedMappings"] == {}
    shown = ask(client, "GET", "/sandbox/catalogs").json
    assert (shown["created"], shown["deleted"]) == ({"shops": 2}, {"shops": 1})


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("DELETE", "", None),
        ("GET", "/fieldMappings", None),
        ("PUT", "/fieldMappings", {"mappingsUpdates": []}),
        ("GET", "/items", None),
        ("POST", "/items", {"documents": {}, "replaceUploadedFieldsOnly": False}),
        ("DELETE", "/items", {"itemIds": []}),
        ("GET", "/items/a", None),
        ("PUT", "/items/a", {"value": {}}),
        ("PATCH", "/items/a", {"update": {}}),
        ("DELETE", "/items/a", None),
    ],
)
def test_a_missing_catalog_is_not_found(make: Make, method: str, rest: str, body: Any) -> None:
    """Every call about one answers 404 in the second form of errors."""
    reply = make().send(method, f"/api/catalogs/none{rest}", body)
    assert (reply.status, reply.json) == (404, MISSING)


def test_an_upload_replaces_items(make: Make) -> None:
    """It answers 202 in the envelope; an item that is there is replaced whole, others stay."""
    client = with_shops(make)
    reply = upload(client, {"a": {"f": 1, "g": 2}, "b": {"f": 3}})
    assert reply.status == 202
    assert reply.json == {
        "msg": "Request to bulk-upload documents into shops processed successfully",
        "code": "Success",
        "params": None,
    }
    upload(client, {"a": {"f": 9}})
    assert (item(client, "a"), item(client, "b")) == ({"f": 9}, {"f": 3})
    assert with_shops(make, catalog_status=200).project.options.catalog_status == 200
    assert upload(with_shops(make, catalog_status=200), {"a": {}}).status == 200


def test_an_upload_may_write_only_the_given_fields(make: Make) -> None:
    """With replaceUploadedFieldsOnly other fields stay; an object is replaced whole, a new item is made."""
    client = with_shops(make)
    upload(client, {"a": {"f": 1, "o": {"x": 1, "y": 2}, "l": [1, 2]}})
    upload(client, {"a": {"o": {"y": 3}, "l": [3], "g": None}, "b": {"f": 2}}, only_given=True)
    assert item(client, "a") == {"f": 1, "o": {"y": 3}, "l": [3], "g": None}
    assert item(client, "b") == {"f": 2}


def test_one_item_is_written_read_and_deleted(make: Make, clock: Clock) -> None:
    """PUT replaces, PATCH merges, both make it; GET shows it without an envelope, DELETE never finds it missing."""
    client = with_shops(make)
    path = "/api/catalogs/shops/items/a-1"
    assert client.send("PATCH", path, {"update": {"f": 1}}).status == 202
    clock.pass_(7)
    assert client.send("PATCH", path, {"update": {"g": 2}}).code == "Success"
    assert client.send("GET", path).json == {
        "catalogName": "shops",
        "itemId": "a-1",
        "lastModified": int((START + 7) * 1000),
        "size": len('{"f":1,"g":2}'),
        "value": {"f": 1, "g": 2},
    }
    assert client.send("PUT", path, {"value": {"h": 3}}).status == 202
    assert item(client, "a-1") == {"h": 3}
    assert item(client, "A-1") is None
    for _ in range(2):
        assert client.send("DELETE", path).status == 202
    reply = client.send("GET", path)
    assert (reply.status, reply.json["error"], reply.json["data"]) == (404, "NotFound", {"args": ["a-1"]})


def test_many_items_are_deleted(make: Make) -> None:
    """Those that are not there do no harm."""
    client = with_shops(make)
    upload(client, {name: {"f": 1} for name in "abc"})
    reply = client.send("DELETE", "/api/catalogs/shops/items", {"itemIds": ["a", "c", "z", "no_id"]})
    assert (reply.status, reply.code, last(client)["records"]) == (202, "Success", 4)
    assert [item(client, name) for name in "abc"] == [None, {"f": 1}, None]


@pytest.mark.parametrize(
    ("bad", "value"),
    [("a_b", {"f": 1}), ("", {}), ("x" * 256, {}), ("b", {"f.g": 1}), ("b", {"f": [{"g": {"h.i": 1}}]}),
     ("b", {"f": "x" * 30_000})],
)  # fmt: skip
@pytest.mark.parametrize("form", ["envelope", "error"])
def test_one_bad_item_refuses_its_upload(make: Make, bad: str, value: Any, form: str) -> None:
    """A wrong ID, a field name with a period or too many bytes: nothing of the request is written."""
    client = with_shops(make, catalog_refusals=form)
    reply = upload(client, {"a": {"f": 1}, bad: value})
    assert (reply.status, reply.code) == (400, "BadParams")
    assert ("msg" in reply.json, "message" in reply.json) == (form == "envelope", form == "error")
    assert item(client, "a") is None
    assert last(client)["applied"] is False
    client.project.options = client.project.options.changed({"catalog_bad_items": "drop"})
    assert upload(client, {"a": {"f": 1}, bad: value}).status == 202
    [catalog] = ask(client, "GET", "/sandbox/catalogs?items=1").json["catalogs"]
    assert [row["id"] for row in catalog["values"]] == ["a"]


@pytest.mark.parametrize(("method", "member"), [("PUT", "value"), ("PATCH", "update"), ("POST", "documents")])
def test_an_item_has_a_largest_size(make: Make, method: str, member: str) -> None:
    """30,000 bytes of JSON in UTF-8 pass, one more does not."""
    client = with_shops(make)
    path = "/api/catalogs/shops/items" + ("" if method == "POST" else "/a")
    for letters, status in ((14_996, 202), (14_997, 400)):
        value: Any = {"f": "é" * letters}
        if letters == 14_996:
            assert len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) == 30_000
        body = {member: {"a": value} if method == "POST" else value, "replaceUploadedFieldsOnly": False}
        assert client.send(method, path, body).status == status
    assert len(item(client, "a")["f"]) == 14_996


def test_an_upload_has_a_largest_number_of_items(make: Make) -> None:
    """A thousand items pass; one more refuses them all. The size of the whole request has no limit of its own."""
    client = with_shops(make)
    assert upload(client, {f"i{n}": {"f": "x" * 5000} for n in range(1000)}).status == 202
    reply = upload(client, {f"j{n}": {} for n in range(1001)})
    assert (reply.status, reply.code) == (400, "BatchTooLarge")
    assert last(client)["records"] == 1001
    assert client.get("catalogs/shops/items").json["params"]["totalItemsCount"] == 1000


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({"documents": {"a": {}}}, {"obj.replaceUploadedFieldsOnly": "error.path.missing"}),
        ({"replaceUploadedFieldsOnly": True}, {"obj.documents": "error.path.missing"}),
        ({"documents": [{}], "replaceUploadedFieldsOnly": 0},
         {"obj.documents": "Object value expected", "obj.replaceUploadedFieldsOnly": "Boolean value expected"}),
        ({"documents": {"a": {}, "b": 5}, "replaceUploadedFieldsOnly": True},
         {"obj.documents.b": "Object value expected"}),
    ],
)  # fmt: skip
def test_wrong_json_types_refuse_an_upload(make: Make, body: Any, params: dict[str, str]) -> None:
    """Both members are required, and every document is an object."""
    client = with_shops(make)
    reply = client.post("catalogs/shops/items", body)
    assert (reply.status, reply.code, reply.json["params"]) == (400, "BadJsonBody", params)
    assert item(client, "a") is None


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("DELETE", "/items", "itemIds"),
        ("PUT", "/items/a", "value"),
        ("PATCH", "/items/a", "update"),
        ("PUT", "/fieldMappings", "mappingsUpdates"),
    ],
)
def test_bodies_have_a_member(make: Make, method: str, path: str, name: str) -> None:
    """A body without it is refused."""
    client = with_shops(make)
    reply = client.send(method, f"/api/catalogs/shops{path}", {})
    assert (reply.status, reply.code, reply.json["params"]) == (
        400,
        "BadJsonBody",
        {f"obj.{name}": "error.path.missing"},
    )


def test_fields_are_undefined_until_they_are_defined(make: Make) -> None:
    """An upload types no field; a field defined later can be searched only in items uploaded since."""
    client = with_shops(make)
    upload(client, {"a": {"f": 1, "g": "x"}})
    params = client.get("catalogs/shops/fieldMappings").json["params"]
    assert params == {"definedMappings": {}, "undefinedFields": ["f", "g"]}
    reply = define(client, f="long", h="date")
    assert (reply.status, reply.code) == (200, "Success")
    params = client.get("catalogs/shops/fieldMappings").json["params"]
    assert params == {"definedMappings": {"f": "long", "h": "date"}, "undefinedFields": ["g"]}
    assert indexed(client) == {"a": []}
    upload(client, {"a": {"g": "y"}, "b": {"f": 1}}, only_given=True)
    assert indexed(client) == {"a": [], "b": ["f"]}
    upload(client, {"a": {"f": 2}}, only_given=True)
    upload(client, {"a": {"g": "z"}}, only_given=True)
    assert indexed(client)["a"] == ["f"]


@pytest.mark.parametrize(
    ("word", "good", "bad"),
    [
        ("boolean", [True, [False]], [1, "true", None]),
        ("long", [5, -(2**63), [1, 2]], [5.5, "5", True, 2**63, [1, "x"]]),
        ("double", [5.5, 5], ["5.5", False]),
        ("string", ["x", ""], [5, {}]),
        ("object", [{"x": 1}, [{}]], ["x", 1]),
        ("geo_location", [{"lat": 1, "lon": 2.5}], [{"lat": 1}, {"lat": "1", "lon": 2}, "1,2"]),
        ("date",
         ["2024-11-25", "2024-11-25 13:37:19", "2024-11-25 13:37:19 -0400", "2024-11-25T13:37:19.000-0400",
          "2024-11-25 13:37:19 -04:00"],
         ["0000-00-00 00:00:00", "2024-11-25T13:37:19Z", "soon", 5]),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_kept_but_not_indexed(
    make: Make, word: str, good: list[Any], bad: list[Any]
) -> None:
    """It is accepted without a word; only a value of the field's type can be searched."""
    client = with_shops(make)
    define(client, f=word)
    documents = {f"good-{n}": {"f": value} for n, value in enumerate(good)}
    documents |= {f"bad-{n}": {"f": value} for n, value in enumerate(bad)}
    assert upload(client, documents).status == 202
    assert {number: item(client, number) for number in documents} == documents
    assert indexed(client) == {number: ["f"] if number.startswith("good") else [] for number in documents}


def test_a_value_that_turns_wrong_leaves_the_index(make: Make) -> None:
    """The index follows the last write of the field."""
    client = with_shops(make)
    define(client, f="long", g="long")
    upload(client, {"a": {"f": 1, "g": 1}})
    upload(client, {"a": {"f": "x"}}, only_given=True)
    assert indexed(client) == {"a": ["g"]}


@pytest.mark.parametrize(
    ("name", "word"),
    [("f", "string"), ("g", "text"), ("g", "String"), ("g.h", "long"), ("", "long")],
)
def test_wrong_mappings_are_refused(make: Make, name: str, word: str) -> None:
    """A type cannot change, and must be one of seven; one wrong mapping refuses all."""
    client = with_shops(make)
    define(client, f="long")
    reply = define(client, other="long", **{name: word})
    assert (reply.status, reply.code) == (400, "BadParams")
    assert client.get("catalogs/shops/fieldMappings").json["params"]["definedMappings"] == {"f": "long"}
    assert define(client, f="long").status == 200


def test_a_mapping_contradicts_no_other(make: Make) -> None:
    """One request cannot give a field two types."""
    client = with_shops(make)
    updates = [{"fieldName": "f", "fieldType": word} for word in ("long", "string")]
    reply = client.send("PUT", "/api/catalogs/shops/fieldMappings", {"mappingsUpdates": updates})
    assert (reply.status, reply.code) == (400, "BadParams")


def test_a_mapping_may_name_its_members(make: Make) -> None:
    """`children` are taken in silence."""
    client = with_shops(make)
    child = {"fieldName": "x", "fieldType": "long"}
    mapping = {"fieldName": "o", "fieldType": "object", "children": [child]}
    body = {"mappingsUpdates": [mapping]}
    assert client.send("PUT", "/api/catalogs/shops/fieldMappings", body).status == 200


def test_a_catalog_has_so_many_fields(make: Make) -> None:
    """350 fields pass, typed ones included; one more refuses the upload or the mapping."""
    client = with_shops(make)
    define(client, typed="long")
    assert upload(client, {"a": {f"f{n}": n for n in range(349)}}).status == 202
    assert upload(client, {"b": {"f1": 1, "typed": 1}}).status == 202
    reply = upload(client, {"c": {"more": 1}})
    assert (reply.status, reply.code) == (400, "UniqueFieldsLimitExceeded")
    assert item(client, "c") is None
    assert define(client, more="long").code == "UniqueFieldsLimitExceeded"
    assert define(client, f1="long").status == 200
    client.project.options = client.project.options.changed({"catalog_max_fields": None})
    assert upload(client, {"c": {"more": 1}}).status == 202


def test_catalogs_come_in_pages(make: Make) -> None:
    """Ten at a time unless asked otherwise, with the addresses of the pages beside."""
    client = make()
    for number in range(12):
        client.post(f"catalogs/c{number}")
    reply = client.get("catalogs").json
    assert (reply["code"], reply["params"]["totalCatalogsCount"]) == ("Success", 12)
    assert [row["name"] for row in reply["params"]["catalogNames"]] == [f"c{n}" for n in range(10)]
    assert "previousPageUrl" not in reply["params"]
    second = client.send("GET", reply["params"]["nextPageUrl"]).json["params"]
    assert [row["name"] for row in second["catalogNames"]] == ["c10", "c11"]
    assert "nextPageUrl" not in second
    assert client.send("GET", second["previousPageUrl"]).json == reply
    assert len(client.get("catalogs?pageSize=12").json["params"]["catalogNames"]) == 12
    assert client.get("catalogs?page=9").json["params"]["catalogNames"] == []


def test_items_come_in_pages(make: Make) -> None:
    """All items are met once, each as it is read alone."""
    client = with_shops(make)
    upload(client, {f"i{n}": {"f": n} for n in range(25)})
    target, seen = "/api/catalogs/shops/items", []
    while target:
        params = client.send("GET", target).json["params"]
        assert params["totalItemsCount"] == 25
        seen += params["catalogItemsWithProperties"]
        target = params.get("nextPageUrl", "")
    assert [row["itemId"] for row in seen] == [f"i{n}" for n in range(25)]
    assert seen[7] == client.get("catalogs/shops/items/i7").json
    assert set(client.get(f"catalogs/shops/items?pageSize={len(seen)}").json["params"]) == {
        "catalogItemsWithProperties",
        "totalItemsCount",
    }


def test_pages_follow_the_items(make: Make) -> None:
    """A page shows what was written and deleted since the last one was read."""
    client = with_shops(make)

    def shown() -> list[str]:
        rows = client.get("catalogs/shops/items").json["params"]["catalogItemsWithProperties"]
        return [row["itemId"] for row in rows]

    assert shown() == []
    upload(client, {"a": {}, "b": {}})
    assert shown() == ["a", "b"]
    client.send("DELETE", "/api/catalogs/shops/items/a")
    assert shown() == ["b"]


@pytest.mark.parametrize("query", ["page=0", "page=x", "pageSize=0", "pageSize=1001", "pageSize=-1"])
def test_wrong_pages_are_refused(make: Make, query: str) -> None:
    """Pages start at 1 and have at most 1000 rows."""
    client = with_shops(make)
    assert client.get(f"catalogs?{query}").code == "BadParams"
    assert client.get(f"catalogs/shops/items?{query}").code == "BadParams"


def test_items_come_in_order(make: Make) -> None:
    """By a field with a type, descending unless asked otherwise; items where it is not indexed come last."""
    client = with_shops(make)
    define(client, f="long")
    upload(client, {"a": {"f": 2}, "b": {"f": "x"}, "c": {"f": 10}, "d": {"f": 1}})

    def order(query: str) -> str:
        rows = client.get(f"catalogs/shops/items?{query}").json["params"]["catalogItemsWithProperties"]
        return "".join(row["itemId"] for row in rows)

    assert (order(""), order("orderBy=f"), order("orderBy=f&sortAscending=true")) == ("abcd", "cadb", "dacb")
    following = client.get("catalogs/shops/items?orderBy=f&sortAscending=true&pageSize=2").json["params"]["nextPageUrl"]
    assert order(following.partition("?")[2]) == "cb"
    for query in ("orderBy=g", "sortAscending=true"):
        assert client.get(f"catalogs/shops/items?{query}").code == "BadParams"


def test_answers_may_come_without_the_envelope(make: Make) -> None:
    """Pages and mappings are bare by option, as documented."""
    client = with_shops(make, catalog_wrapped=False)
    assert client.get("catalogs").json == {"catalogNames": [{"name": "shops"}], "totalCatalogsCount": 1}
    assert client.get("catalogs/shops/items").json == {"catalogItemsWithProperties": [], "totalItemsCount": 0}
    assert client.get("catalogs/shops/fieldMappings").json == {"definedMappings": {}, "undefinedFields": []}


def test_changes_may_take_time(make: Make, clock: Clock) -> None:
    """Within catalog_effect_after accepted changes do not show; then they do in the order they came."""
    client = with_shops(make, catalog_effect_after=60)
    upload(client, {"a": {"f": 1}, "b": {"f": 1}})
    clock.pass_(30)
    client.send("DELETE", "/api/catalogs/shops/items/b")
    client.send("PATCH", "/api/catalogs/shops/items/a", {"update": {"g": 2}})
    assert (item(client, "a"), ask(client, "GET", "/sandbox/catalogs").json["waiting"]) == (None, 3)
    clock.pass_(30)
    assert (item(client, "a"), item(client, "b")) == ({"f": 1}, {"f": 1})
    client.project.options = client.project.options.changed({"catalog_effect_after": 0})
    client.send("PUT", "/api/catalogs/shops/items/b", {"value": {"h": 1}})
    assert item(client, "b") == {"f": 1}
    clock.pass_(40)
    [catalog] = ask(client, "GET", "/sandbox/catalogs?items=1").json["catalogs"]
    assert [(row["id"], row["value"]) for row in catalog["values"]] == [("a", {"f": 1, "g": 2}), ("b", {"h": 1})]
    assert client.get("catalogs/shops/items/a").json["lastModified"] == int((START + 90) * 1000)


def test_changes_may_get_lost(make: Make) -> None:
    """Items named by catalog_lost_items are accepted and stay as they were."""
    client = with_shops(make)
    upload(client, {"old": {"f": 1}})
    client.project.options = client.project.options.changed({"catalog_lost_items": ["a", "old"]})
    assert upload(client, {"a": {}, "b": {}, "old": {"f": 2}}).status == 202
    assert client.send("DELETE", "/api/catalogs/shops/items", {"itemIds": ["old", "b"]}).status == 202
    assert (item(client, "a"), item(client, "b"), item(client, "old")) == (None, None, {"f": 1})


def test_catalogs_can_be_inspected(make: Make) -> None:
    """Types, accepted writes and items are shown, the items only on demand."""
    client = with_shops(make)
    define(client, f="long")
    upload(client, {"a": {"f": 1, "g": 1}, "b": {"f": "x"}})
    upload(client, {"a": {"f": 2}}, only_given=True)
    client.send("DELETE", "/api/catalogs/shops/items", {"itemIds": ["z"]})
    row = {
        "name": "shops",
        "items": 2,
        "writes": 3,
        "deletes": 1,
        "definedMappings": {"f": "long"},
        "undefinedFields": ["g"],
    }
    shown = {"catalogs": [row], "created": {"shops": 1}, "deleted": {}, "waiting": 0}
    assert ask(client, "GET", "/sandbox/catalogs").json == shown
    row["values"] = [
        {"id": "a", "value": {"f": 2, "g": 1}, "indexed": ["f"], "writes": 2},
        {"id": "b", "value": {"f": "x"}, "indexed": [], "writes": 1},
    ]
    assert ask(client, "GET", "/sandbox/catalogs?items=1").json == shown
    row["values"] = row["values"][:1]  # type: ignore[index]
    assert ask(client, "GET", "/sandbox/catalogs?items=1&limit=1").json == shown
    assert ask(client, "GET", "/sandbox/state").json["catalogs"] == 1
    ask(client, "POST", "/sandbox/reset")
    assert ask(client, "GET", "/sandbox/catalogs").json["catalogs"] == []


@pytest.mark.parametrize(
    ("kind", "status", "value"),
    [
        ("429", 429, {"f": 1}),
        ("5xx_html", 503, {"f": 1}),
        ("drop_before", 0, {"f": 1}),
        ("drop_after", 0, {"f": 2}),
        ("malformed", 200, {"f": 2}),
        ("slow", 202, {"f": 2}),
    ],
)
def test_faults_befall_catalogs(make: Make, kind: str, status: int, value: Any) -> None:
    """Uploads and deletions go wrong as other calls do, before or after being applied."""
    client = with_shops(make)
    upload(client, {"a": {"f": 1}, "b": {"f": 1}})
    spoil(client, {"kind": kind, "path": "/api/catalogs/shops", "times": 2})
    assert upload(client, {"a": {"f": 2}}).status == status
    reply = client.send("DELETE", "/api/catalogs/shops/items", {"itemIds": ["b"]})
    applied = value == {"f": 2}
    assert (reply.status, last(client)["applied"]) == (status, applied)
    assert (item(client, "a"), item(client, "b")) == (value, None if applied else {"f": 1})


@pytest.mark.parametrize(
    ("method", "path", "body", "rate"),
    [
        ("GET", "/api/catalogs", None, 100),
        ("GET", "/api/catalogs/shops/items", None, 100),
        ("POST", "/api/catalogs/shops/items", {"documents": {"a": {}}, "replaceUploadedFieldsOnly": True}, 100),
        ("PUT", "/api/catalogs/shops/items/a", {"value": {}}, 1000),
    ],
)
def test_catalog_rates_are_per_key(make: Make, clock: Clock, method: str, path: str, body: Any, rate: int) -> None:
    """An endpoint takes a second's worth at once from each key, then one request per interval."""
    client = with_shops(make, rates=True)
    assert 429 not in {client.send(method, path, body).status for _ in range(rate)}
    assert client.send(method, path, body).status == 429
    assert client.send(method, path, body, api_key="other").status < 300
    clock.pass_(1.5 / rate)
    assert [client.send(method, path, body).status == 429 for _ in range(2)] == [False, True]


def test_a_project_s_rate_is_shared_by_its_keys(make: Make) -> None:
    """Where the rate is the project's, another key has no requests of its own."""
    client = make(rates=True)
    assert [client.get("users/getFields").status for _ in range(3)] == [200] * 3
    assert client.get("users/getFields", api_key="other").status == 429


def test_a_read_only_key_sees_no_catalogs(make: Make) -> None:
    """Catalogs are none of the calls it may make."""
    client = with_shops(make, api_key="key", read_only_keys=["reader"])
    for target in ("catalogs", "catalogs/shops/items", "catalogs/shops/fieldMappings", "catalogs/shops/items/a"):
        assert client.get(target, api_key="reader").status == 401


def test_accepted_items_are_remembered_on_demand(make: Make) -> None:
    """With record_identifiers the log names the items written and deleted; lost ones are not among them."""
    client = with_shops(make, record_identifiers=True, catalog_lost_items=["c"])
    upload(client, {"a": {}, "b": {}, "c": {}})
    client.send("DELETE", "/api/catalogs/shops/items/a")
    calls = ask(client, "GET", "/sandbox/calls?identifiers=1").json["calls"]
    assert [call["identifiers"] for call in calls[1:]] == [[["item_id", "a"], ["item_id", "b"]], [["item_id", "a"]]]
    assert (calls[1]["template"], calls[1]["records"]) == ("/api/catalogs/{name}/items", 3)


VALUES = st.dictionaries(st.sampled_from("fgh"), st.one_of(st.integers(0, 3), st.just("x")), max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("upload"), st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), st.booleans()),
        st.tuples(st.just("delete"), st.lists(st.sampled_from("abc"), max_size=2), st.booleans()),
    ),
    max_size=12,
)


@given(STEPS, st.sampled_from([0, 5]))
def test_items_are_those_written_and_not_deleted(steps: list[tuple[str, Any, bool]], delay: int) -> None:
    """Once all changes are through, the catalog is what a dict would be after the same steps."""
    clock = Clock()
    options = Options().changed({"rates": False, "catalog_effect_after": delay})
    client = Client(Service("email", options=options, clock=clock), clock)
    client.post("catalogs/shops")
    expected: dict[str, dict[str, Any]] = {}
    for call, content, only_given in steps:
        if call == "delete":
            client.send("DELETE", "/api/catalogs/shops/items", {"itemIds": content})
            expected = {number: value for number, value in expected.items() if number not in content}
            continue
        upload(client, content, only_given=only_given)
        for number, value in content.items():
            expected[number] = {**expected.get(number, {}), **value} if only_given else value
    clock.pass_(5)
    rows = client.get("catalogs/shops/items?pageSize=1000").json["params"]["catalogItemsWithProperties"]
    assert {row["itemId"]: row["value"] for row in rows} == expected
