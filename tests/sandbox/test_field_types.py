"""Profile fields get a type with their first value, keep it, and fail whole requests that break it."""

from typing import Any

import pytest

from .conftest import Make

MSG = (
    "Project 10216: The request does not have the same data types as the data previously submitted{}."
    " Field '{}' already exists for type 'user' and has a data type of '{}'"
    " but possible types '{}' in the request."
)
RANGE = ", or the input value is not within the correct range"


def user(name: str, **fields: Any) -> dict[str, Any]:
    """Return a record with data fields."""
    return {"email": f"{name}@example.com", "dataFields": fields}


FIRST_VALUES: list[tuple[Any, str]] = [
    ("text", "string"),
    ("", "string"),
    (5, "long"),
    (-5, "long"),
    (5.0, "double"),
    (5.5, "double"),
    (True, "boolean"),
    ("2024-11-25", "date"),
    ("2024-11-25T13:37:19Z", "string"),
    (["a"], "string"),
    ([None, 5], "long"),
    (["2024-11-25"], "date"),
    ([[1.5]], "double"),
    ({}, "object"),
]


@pytest.mark.parametrize(("value", "word"), FIRST_VALUES)
def test_the_first_value_decides_the_type(make: Make, value: Any, word: str) -> None:
    """The literal decides; a list has the type of its elements; null and an empty list decide nothing."""
    client = make()
    assert client.bulk(user("a", nothing=None, empty=[], f=value)).json["createdFields"] == ["f"]
    fields = client.get("users/getFields").json["fields"]
    assert fields["f"] == word
    assert "nothing" not in fields
    assert "empty" not in fields


def test_nested_names_are_flattened(make: Make) -> None:
    """Members of objects, also of objects in lists, are fields of their own; getFields shows the parents, too."""
    client = make()
    reply = client.bulk(user("a", home={"zip": "1", "at": {"n": 1}}, pets=[{"name": "x"}, {"age": 2}]))
    assert set(reply.json["createdFields"]) == {
        "home", "home.zip", "home.at", "home.at.n", "pets", "pets.name", "pets.age",
    }  # fmt: skip
    fields = client.get("users/getFields").json["fields"]
    assert {name: word for name, word in fields.items() if name.startswith(("home", "pets"))} == {
        "home": "object",
        "home.zip": "string",
        "home.at": "object",
        "home.at.n": "long",
        "pets": "object",
        "pets.name": "string",
        "pets.age": "long",
    }
    system = {"itblInternal": "object", "itblInternal.regionCode": "string", "devices": "object"}
    assert system.items() <= fields.items()
    assert (fields["email"], fields["userId"], fields["emailListIds"]) == ("string", "string", "long")


def test_a_location_needs_its_name(make: Make) -> None:
    """`{lat, lon}` is a location only in a field whose name ends in `_geo_location`."""
    client = make()
    client.bulk(user("a", home_geo_location={"lat": 1.5, "lon": 2}, place={"lat": 1.5, "lon": 2}))
    custom = client.project.schema.custom
    assert custom == {
        "home_geo_location": "geo_location",
        "place": "object",
        "place.lat": "double",
        "place.lon": "long",
    }
    assert client.bulk(user("a", home_geo_location="here")).code == "RequestFieldsTypesMismatched"
    assert client.bulk(user("a", home_geo_location={"lat": "1", "lon": 2})).status == 400


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (5.5, 5),
        (5.5, 2**60),
        ("text", "2024-11-25"),
        ("2024-11-25", "2025-01-01T00:00:00.000Z"),
        (5, [6, 7]),
        ([5], 6),
        ("text", None),
        ({"a": 1}, {"b": "new"}),
        (5, -(2**63)),
    ],
)
def test_values_that_fit(make: Make, first: Any, later: Any) -> None:
    """An integer passes as a double, any text as a string; a list and a single value are of one type."""
    client = make()
    client.bulk(user("a", f=first))
    assert client.bulk(user("b", f=later)).status == 200


@pytest.mark.parametrize(
    ("first", "later", "incoming"),
    [
        ("2024-11-25", "GGG", ["string", "keyword"]),
        ("2024-11-25", "0000-00-00 00:00:00", ["string", "keyword"]),
        ("2024-11-25", 5, ["long"]),
        ("text", 5, ["long"]),
        ("text", True, ["boolean"]),
        ("text", {"a": 1}, ["object"]),
        (5, 5.5, ["double"]),
        (5, 5.0, ["double"]),
        (5, "5", ["string", "keyword"]),
        (5, "2024-11-25", ["date", "string", "keyword"]),
        (5, True, ["boolean"]),
        (5, 2**63, ["long"]),
        (5.5, "5.5", ["string", "keyword"]),
        (5.5, True, ["boolean"]),
        (True, 1, ["long"]),
        (True, "true", ["string", "keyword"]),
        ({"a": 1}, "text", ["string", "keyword"]),
        ({"a": 1}, 7, ["long"]),
    ],
)
def test_values_that_do_not_fit(make: Make, first: Any, later: Any, incoming: list[str]) -> None:
    """Nothing else is coerced; the answer names field, types and value."""
    client = make()
    client.bulk(user("a", f=first))
    reply = client.bulk(user("b", f=later))
    expected = client.project.schema.custom["f"]
    assert reply.status == 400
    assert reply.json == {
        "msg": MSG.format(RANGE, "f", expected, ", ".join(incoming)),
        "code": "RequestFieldsTypesMismatched",
        "params": {
            "validationErrors": {
                "f": {
                    "incomingTypes": incoming,
                    "expectedType": expected,
                    "category": "user",
                    "offendingValue": later,
                    "_type": "UnexpectedType",
                }
            }
        },
    }


def test_a_single_call_words_it_without_the_range(make: Make) -> None:
    """users/update answers with the shorter message, system fields are typed from the start."""
    client = make()
    reply = client.post("users/update", user("a", signupDate="GGG"))
    assert (reply.status, reply.json["msg"]) == (400, MSG.format("", "signupDate", "date", "string, keyword"))


def test_one_bad_value_fails_the_batch(make: Make) -> None:
    """Nothing of such a batch is applied, and it types no field."""
    client = make()
    client.bulk(user("a", age=1))
    reply = client.bulk(user("a", age=2, new=1), user("b", age="x"), user("c", other=True))
    assert reply.status == 400
    assert client.fields_of("a@example.com") == {"age": 1}
    assert len(client.project.profiles) == 1
    assert client.project.schema.custom == {"age": "long"}
    assert client.bulk(user("c", new="now a string")).status == 200


def test_a_batch_may_disagree_with_itself(make: Make) -> None:
    """The first record of a batch types a new field for the others."""
    client = make()
    reply = client.bulk(user("a", f=1), user("b", f="x"))
    assert reply.json["params"]["validationErrors"]["f"]["expectedType"] == "long"
    assert client.project.schema.custom == {}


def test_every_wrong_field_is_listed_once(make: Make) -> None:
    """validationErrors maps each wrong field, nested ones by dotted name, to its first wrong value."""
    client = make()
    client.bulk(user("a", f=1, home={"zip": "1"}, tags=["x"]))
    reply = client.bulk(user("a", f="x"), user("b", f="y", home={"zip": 2}), user("c", tags=["ok", 3]))
    errors = reply.json["params"]["validationErrors"]
    assert {name: error["offendingValue"] for name, error in errors.items()} == {
        "f": "x",
        "home.zip": 2,
        "tags": 3,
    }


def test_the_array_form_lists_a_good_value_first(make: Make) -> None:
    """With offending_value="array" the value of the batch's first record comes before the culprit."""
    client = make(offending_value="array")
    client.bulk(user("a", at="2023-01-01", f={"g": 1}))
    good, bad = "2023-04-19 12:15:30", "0000-00-00 00:00:00"
    reply = client.bulk(user("a", at=good, f={"g": 3}), user("b", at=good), user("c", at=bad, f={"g": "x"}))
    errors = reply.json["params"]["validationErrors"]
    assert errors["at"]["offendingValue"] == [good, bad]
    assert errors["f.g"]["offendingValue"] == [3, "x"]
    first = client.bulk(user("a", at=bad), user("b", at=good)).json["params"]["validationErrors"]
    assert first["at"]["offendingValue"] == [bad]


def test_clues_may_be_prefixed_or_hidden(make: Make) -> None:
    """field_key_prefix comes before the names; hide_clues leaves neither field nor value."""
    client = make(field_key_prefix="my_project_etl:::")
    client.bulk(user("a", f=1))
    reply = client.bulk(user("a", f="x"))
    assert list(reply.json["params"]["validationErrors"]) == ["my_project_etl:::f"]
    assert "Field 'f'" in reply.json["msg"]
    client.service.project.options = client.project.options.changed({"hide_clues": True})
    reply = client.bulk(user("a", f="x"))
    assert (reply.status, reply.code, reply.json["params"]) == (400, "RequestFieldsTypesMismatched", {})
    assert "'f'" not in reply.json["msg"]


def test_dates_are_stored_in_the_normal_form(make: Make) -> None:
    """Every date, nested or in a list, is kept in one form; a date in a string field stays as sent."""
    client = make()
    client.bulk(user("a", s="text"))
    client.bulk(user("a", s="2024-11-25", d="2024-11-25", o={"d": "2024-11-25"}, l=["2024-11-25"]))
    normal = "2024-11-25 00:00:00 +00:00"
    stored = {"s": "2024-11-25", "d": normal, "o": {"d": normal}, "l": [normal]}
    assert client.fields_of("a@example.com") == stored


@pytest.mark.parametrize("said", [True, False])
def test_new_fields_may_be_dropped(make: Make, said: bool) -> None:
    """Unknown fields are dropped, not refused, when the request, or else the project, says so."""
    client = make(create_new_fields=said)
    client.bulk(user("a", known=1, home={"zip": "1"}), createNewFields=True)
    extra = {"createNewFields": False} if said else {}
    reply = client.bulk(user("b", known=2, new=3, home={"zip": "2", "street": "x"}, l=[5], o={"x": 1}, n=None), **extra)
    assert reply.json["successCount"] == 1
    assert set(reply.json["filteredOutFields"]) == {"new", "home.street", "l", "o"}
    assert reply.json["createdFields"] == []
    assert client.fields_of("b@example.com") == {"known": 2, "home": {"zip": "2"}}
    assert set(client.project.schema.custom) == {"known", "home", "home.zip"}


def test_a_single_call_may_drop_new_fields(make: Make) -> None:
    """createNewFields belongs to a single call's user, but in a bulk call to the request."""
    client = make()
    client.post("users/update", user("a", new=1) | {"createNewFields": False})
    assert client.fields_of("a@example.com") == {}
    client.bulk(user("b", new=1) | {"createNewFields": False})
    assert client.fields_of("b@example.com") == {"new": 1}


def test_the_number_of_fields_is_limited(make: Make) -> None:
    """A request that would go over the limit fails as a whole; nested names count, known fields do not."""
    client = make(max_fields=4)
    assert client.bulk(user("a", f=1, o={"p": 1})).status == 200
    reply = client.bulk(user("b", f=2, a=1), user("c", b={"c": 1}))
    assert reply.status == 400
    assert reply.json == {
        "msg": "Project 10216: The request would increase the number of object fields to 6 by adding"
        " [a, b, b.c], which exceeds the limit of 4",
        "code": "UniqueFieldsLimitExceeded",
        "params": {"limit": 4, "requestedTotal": 6, "newFields": ["a", "b", "b.c"]},
    }
    assert client.fields_of("b@example.com") is None
    assert client.bulk(user("b", f=2, a=1)).status == 200
    assert client.bulk(user("b", f=3)).status == 200


def test_field_names_are_case_and_space_sensitive(make: Make) -> None:
    """`Plan`, `plan` and `plan ` are three fields."""
    client = make()
    assert client.bulk(user("a", Plan=1, plan="x"), user("b", **{"plan ": True})).status == 200
    assert len(client.project.schema.custom) == 3
