"""What trackPurchase and updateCart take, and what they do to users and events."""

from typing import Any

import pytest

from airflow_provider_iterable.sandbox.options import ProjectType

from .conftest import START, Client, Clock, Make, Reply

CART = "shoppingCartItems"
USER = {"email": "a@x.io"}


def item(**rest: Any) -> dict[str, Any]:
    """Return an item."""
    return {"id": "i1", "name": "Tea", "price": 2.5, "quantity": 2, **rest}


def buy(client: Client, *items: Any, user: Any = USER, total: Any = 5.0, **rest: Any) -> Reply:
    """Track a purchase."""
    body = {"user": user, "items": list(items) or [item()], "total": total, **rest}
    return client.post("commerce/trackPurchase", body)


def fill(client: Client, *items: Any, user: Any = USER, **rest: Any) -> Reply:
    """Update a cart."""
    return client.post("commerce/updateCart", {"user": user, "items": list(items), **rest})


def bought(client: Client) -> list[tuple[str, Any, str | None]]:
    """Return ID, fields and email of all purchases."""
    return [(found.id, found.fields, found.profile.email) for found in client.project.purchases]


def everything(client: Client) -> Any:
    """Return all that purchases and carts can change."""
    project = client.project
    return (
        [(p.email, p.user_id, dict(p.fields), p.writes) for p in project.profiles],
        [(e.id, e.fields) for e in project.events],
        bought(client),
        dict(project.schema.types),
        project.event_schema.custom,
        project.purchase_schema.custom,
    )


def test_a_purchase_is_stored(make: Make) -> None:
    """The user is written, the purchase kept with items, total and data; the ID is made up and answered."""
    client = make()
    reply = buy(client, item(sku="s"), user={**USER, "dataFields": {"vip": True}}, dataFields={"shop": "B"})
    event_id = reply.json["params"]["id"]
    assert (reply.status, reply.json) == (200, {"msg": "", "code": "Success", "params": {"id": event_id}})
    assert client.fields_of("a@x.io") == {"vip": True}
    assert bought(client) == [(event_id, {"shop": "B", CART: [item(sku="s")], "total": 5.0}, "a@x.io")]
    assert (len(event_id), int(event_id, 16) > 0) == (30, True)
    assert list(client.project.events) == []
    assert client.service.calls.after()[-1].applied is True


def test_the_id_may_not_be_answered(make: Make) -> None:
    """Recordings of 2017 have no params."""
    assert buy(make(purchase_id_returned=False)).json == {"msg": "", "code": "Success", "params": None}


def test_purchases_without_an_id_repeat(make: Make) -> None:
    """The same purchase sent twice is two purchases."""
    client = make()
    buy(client)
    buy(client)
    assert len({event_id for event_id, _, _ in bought(client)}) == 2


def test_a_purchase_with_an_id_is_overwritten(make: Make, clock: Clock) -> None:
    """The later one takes the place of the earlier, whoever it is about; IDs of events are other IDs."""
    client = make()
    assert buy(client, id="p_1", dataFields={"f": 1}, campaignId=7, createdAt=1).json["params"] == {"id": "p_1"}
    client.post("events/track", {"email": "a@x.io", "eventName": "seen", "id": "p"})
    clock.pass_(10)
    buy(client, item(quantity=1), user={"email": "b@x.io"}, total=1, id="p_1")
    assert bought(client) == [("p_1", {CART: [item(quantity=1)], "total": 1.0}, "b@x.io")]
    [found] = client.project.purchases
    assert (found.writes, found.created, found.campaign_id) == (2, START + 10, None)
    assert len(client.project.events) == 1
    assert client.get("events/b@x.io").json["events"][0]["total"] == 1.0


def test_a_purchase_with_an_id_may_be_merged(make: Make) -> None:
    """With event_update="merge", data fields that the later purchase does not mention stay."""
    client = make(event_update="merge")
    buy(client, id="p", dataFields={"f": 1, "g": 1})
    assert buy(client, id="p", dataFields={"g": 2}, total=9).status == 200
    assert bought(client)[0][1] == {"f": 1, "g": 2, CART: [item()], "total": 9.0}


@pytest.mark.parametrize(("purchase_id", "status"), [("é" * 256, 200), ("é" * 257, 400), ("x" * 513, 400), ("", 400)])
def test_ids_of_purchases(make: Make, purchase_id: str, status: int) -> None:
    """An ID has 1 to 512 bytes, of whatever characters; by option any."""
    reply = buy(make(), id=purchase_id)
    assert reply.status == status
    assert status == 200 or (reply.code, reply.json["msg"]) == ("BadParams", f"Invalid purchase id: {purchase_id}")
    assert buy(make(bad_event_ids="accept"), id=purchase_id).json["params"] == {"id": purchase_id}


def test_a_cart_is_kept_on_the_profile_and_as_an_event(make: Make) -> None:
    """The items replace those in shoppingCartItems, and an event `updateCart` tells of each cart."""
    client = make()
    reply = fill(client, item(), item(id="i2"), user={**USER, "dataFields": {"vip": True}})
    assert (reply.status, reply.json) == (200, {"msg": "", "code": "Success", "params": None})
    assert client.fields_of("a@x.io") == {"vip": True, CART: [item(), item(id="i2")]}
    fill(client, item(quantity=5))
    assert client.fields_of("a@x.io") == {"vip": True, CART: [item(quantity=5)]}
    found = [(event.name, event.given, event.fields) for event in client.project.events]
    assert found == [
        ("updateCart", False, {CART: [item(), item(id="i2")]}),
        ("updateCart", False, {CART: [item(quantity=5)]}),
    ]
    assert client.read("a@x.io")["user"]["dataFields"][CART] == [item(quantity=5)]


def test_an_empty_cart_is_one(make: Make) -> None:
    """No items empty the cart, which is told like any other."""
    client = make()
    fill(client, item())
    assert fill(client).status == 200
    assert client.fields_of("a@x.io") == {CART: []}
    assert len(client.project.events) == 2


def test_a_purchase_empties_the_cart(make: Make) -> None:
    """Only the buyer's; a buyer without a cart gets none, and the cart's events stay as they were."""
    client = make()
    fill(client, item())
    fill(client, item(), user={"email": "b@x.io"})
    buy(client)
    assert (client.fields_of("a@x.io"), client.fields_of("b@x.io")) == ({CART: []}, {CART: [item()]})
    assert [event.fields for event in client.project.events] == [{CART: [item()]}] * 2
    buy(client, user={"email": "c@x.io"})
    assert client.fields_of("c@x.io") == {}


def test_a_purchase_needs_no_items(make: Make) -> None:
    """An empty list of items is a purchase too, and the total is not checked."""
    client = make()
    reply = client.post("commerce/trackPurchase", {"user": USER, "items": [], "total": -1})
    assert (reply.status, bought(client)[0][1]) == (200, {CART: [], "total": -1.0})


@pytest.mark.parametrize("name", ["trackPurchase", "updateCart"])
@pytest.mark.parametrize(
    ("bad", "params"),
    [
        ({"id": None}, {"id": "error.path.missing"}),
        ({"name": 5}, {"name": "String value expected"}),
        ({"price": "2.5"}, {"price": "Number value expected"}),
        ({"price": True}, {"price": "Number value expected"}),
        ({"quantity": 1.5}, {"quantity": "Number value expected"}),
        ({"quantity": 2**63}, {"quantity": "Number value expected"}),
        ({"quantity": "2", "sku": 5}, {"quantity": "Number value expected", "sku": "String value expected"}),
        ({"categories": "tea"}, {"categories": "Array value expected"}),
        ({"categories": ["tea", 5]}, {"categories[1]": "String value expected"}),
        ({"dataFields": []}, {"dataFields": "Object value expected"}),
        ({"imageUrl": 1, "url": 1, "description": 1}, dict.fromkeys(
            ("imageUrl", "url", "description"), "String value expected")),
    ],
)  # fmt: skip
def test_items_have_their_types(make: Make, name: str, bad: Any, params: dict[str, str]) -> None:
    """Another JSON type, or a missing member that must be there, refuses the call and says at which item."""
    client = make()
    before = everything(client)
    body = {"user": USER, "items": [item(), item(**bad)], "total": 5}
    reply = client.post(f"commerce/{name}", body)
    assert reply.status == 400
    assert reply.json == {
        "msg": f"[/api/commerce/{name}] Invalid JSON body",
        "code": "BadJsonBody",
        "params": {f"obj.items[1].{member}": text for member, text in params.items()},
    }
    assert everything(client) == before


@pytest.mark.parametrize(
    ("changes", "params"),
    [
        ({"total": "5"}, {"obj.total": "Number value expected"}),
        ({"total": None}, {"obj.total": "error.path.missing"}),
        ({"items": None}, {"obj.items": "error.path.missing"}),
        ({"items": {}}, {"obj.items": "Array value expected"}),
        ({"user": None}, {"obj.user": "error.path.missing"}),
        ({"user": "a@x.io"}, {"obj.user": "Object value expected"}),
        ({"user": {"email": 5}}, {"obj.user.email": "String value expected"}),
        ({"id": 5}, {"obj.id": "String value expected"}),
        ({"createdAt": "now"}, {"obj.createdAt": "Number value expected"}),
        ({"campaignId": 2**31}, {"obj.campaignId": "Number value expected"}),
        ({"dataFields": 5}, {"obj.dataFields": "Object value expected"}),
    ],
)
def test_purchases_have_their_types(make: Make, changes: Any, params: dict[str, str]) -> None:
    """user, items and total must be there; a campaign is a 32-bit number, unlike that of an event."""
    reply = make().post("commerce/trackPurchase", {"user": USER, "items": [item()], "total": 5, **changes})
    assert (reply.status, reply.code, reply.json["params"]) == (400, "BadJsonBody", params)


def test_whole_numbers_pass_as_prices(make: Make) -> None:
    """Price and total may be written without a point; members that are null are absent, unknown ones ignored."""
    client = make()
    assert buy(client, item(price=2, sku=None, other=1), total=5, campaignId=2**31 - 1, id=None).status == 200
    assert bought(client)[0][1] == {CART: [item(price=2.0)], "total": 5.0}


def test_all_members_of_an_item_are_kept(make: Make) -> None:
    """Also the optional ones, with dates in data fields in the normal form."""
    full = item(
        sku="s",
        description="d",
        categories=["tea"],
        imageUrl="u",
        url="v",
        dataFields={"at": "2024-11-25"},
    )
    kept = {**full, "dataFields": {"at": "2024-11-25 00:00:00 +00:00"}}
    client = make()
    fill(client, full)
    buy(client, full, user={"email": "b@x.io"})
    assert client.fields_of("a@x.io") == {CART: [kept]}
    assert next(iter(client.project.events)).fields == {CART: [kept]}
    assert bought(client)[0][1][CART] == [kept]


def test_a_user_must_be_named(make: Make) -> None:
    """A call that names none is refused in the words recorded."""
    client = make()
    for reply in (fill(client, user={}), buy(client, user={"dataFields": {}})):
        assert (reply.status, reply.code) == (400, "BadParams")
        assert reply.json["msg"] == "Either email or userId must be set: ApiUserUpdateRequest(None,None,None,None)"


@pytest.mark.parametrize("call", [buy, fill])
@pytest.mark.parametrize(
    ("project_type", "user", "made"),
    [
        ("email", {"email": "A@x.io"}, [("a@x.io", None)]),
        ("email", {"email": "a@x.io", "userId": "1"}, [("a@x.io", "1")]),
        ("user_id", {"userId": "1"}, [(None, "1")]),
        ("user_id", {"userId": "1", "email": "a@x.io"}, [("a@x.io", "1")]),
        ("hybrid", {"userId": "1"}, [(None, "1")]),
        ("hybrid", {"email": "a@x.io"}, [("a@x.io", None)]),
    ],
)
def test_unknown_users_are_made(make: Make, call: Any, project_type: ProjectType, user: Any, made: Any) -> None:
    """Purchases and carts make their users, as updates do, in every project type."""
    client = make(project_type)
    assert call(client, user=user).status == 200
    assert [(profile.email, profile.user_id) for profile in client.project.profiles] == made


@pytest.mark.parametrize("call", [buy, fill])
def test_email_project_makes_no_user_of_a_user_id_alone(make: Make, call: Any) -> None:
    """Unless the user ID is preferred; a known one will do."""
    client = make("email")
    reply = call(client, user={"userId": "1"})
    assert (reply.status, reply.code) == (400, "UnknownUserIdError")
    assert call(client, user={"userId": "1", "preferUserId": True}).status == 200
    assert call(client, user={"userId": "1"}).status == 200
    [profile] = client.project.profiles
    assert (profile.user_id, profile.writes) == ("1", 2)


@pytest.mark.parametrize("call", [buy, fill])
@pytest.mark.parametrize(
    ("project_type", "user", "status", "code"),
    [
        ("hybrid", {"email": "foo@"}, 400, "InvalidEmailAddressError"),
        ("hybrid", {"userId": "x "}, 400, "InvalidUserIdError"),
        ("hybrid", {"email": "b@x.io", "userId": "3"}, 409, "ExternalKeyConflict"),
        ("hybrid", {"userId": "3", "dataFields": {"userId": "2"}}, 409, "ExternalKeyConflict"),
        ("hybrid", {"email": "gone@x.io"}, 409, "ForgottenUserError"),
        ("user_id", {"email": "b@x.io"}, 400, "UnknownEmailError"),
        ("email", {"email": "gone@x.io"}, 409, "ForgottenUserError"),
    ],
)
def test_users_are_refused(make: Make, call: Any, project_type: ProjectType, user: Any, status: int, code: str) -> None:
    """A bad, barred or ambiguous user refuses the call, and nothing is left of it."""
    client = make(project_type)
    client.bulk({"email": "b@x.io", "userId": "2"}, {"email": "c@x.io", "userId": "3"})
    client.post("users/forget", {"email": "gone@x.io"})
    before = everything(client)
    reply = call(client, item(dataFields={"new": 1}), user=user)
    assert (reply.status, reply.code) == (status, code)
    assert everything(client) == before
    assert client.service.calls.after()[-1].applied is False


def test_the_user_is_judged_first(make: Make) -> None:
    """A bad user is told before a bad value."""
    client = make()
    buy(client, dataFields={"f": 1})
    assert buy(client, user={"email": "foo@"}, dataFields={"f": "x"}).code == "InvalidEmailAddressError"
    assert buy(client, dataFields={"f": "x"}).code == "RequestFieldsTypesMismatched"


def test_the_user_part_is_typed_as_a_profile(make: Make) -> None:
    """Its values are judged with those of profiles; a wrong one refuses purchase and cart."""
    client = make()
    client.bulk({**USER, "dataFields": {"f": 1}})
    before = everything(client)
    for call in (buy, fill):
        reply = call(client, item(dataFields={"new": 1}), user={**USER, "dataFields": {"f": "x", "g": 1}})
        assert (reply.status, reply.code) == (400, "RequestFieldsTypesMismatched")
        assert reply.json["params"]["validationErrors"]["f"]["category"] == "user"
        assert everything(client) == before


def test_purchases_have_fields_of_their_own(make: Make) -> None:
    """Data and items' data are typed apart from profiles and custom events; a wrong value refuses the purchase."""
    client = make()
    client.post("events/track", {**USER, "eventName": "purchase", "dataFields": {"f": "x"}})
    assert buy(client, item(dataFields={"size": 1}), dataFields={"f": 1}).status == 200
    assert client.project.purchase_schema.custom == {"purchase": {"f": "long", f"{CART}.dataFields.size": "long"}}
    assert client.project.schema.custom == {}
    before = everything(client)
    reply = buy(client, item(dataFields={"size": "L"}), user={"email": "n@x.io"}, dataFields={"f": "y"})
    errors = reply.json["params"]["validationErrors"]
    assert {name: error["offendingValue"] for name, error in errors.items()} == {
        "f": "y",
        f"{CART}.dataFields.size": "L",
    }
    assert {error["category"] for error in errors.values()} == {"purchase"}
    assert everything(client) == before


def test_carts_are_typed_as_profile_and_as_event(make: Make) -> None:
    """Items' data are fields of profiles; a wrong value refuses the cart."""
    client = make()
    assert fill(client, item(dataFields={"size": 1})).status == 200
    assert client.project.schema.custom == {f"{CART}.dataFields.size": "long"}
    assert client.project.event_schema.custom == {"updateCart": {f"{CART}.dataFields.size": "long"}}
    before = everything(client)
    reply = fill(client, item(dataFields={"size": "L"}), user={"email": "n@x.io"})
    assert (reply.status, reply.code) == (400, "RequestFieldsTypesMismatched")
    assert everything(client) == before


def test_new_fields_may_be_dropped(make: Make) -> None:
    """createNewFields of the user is about the profile; events follow the project's setting."""
    client = make()
    user = {**USER, "createNewFields": False, "dataFields": {"new": 1}}
    fill(client, item(dataFields={"size": 1}), user=user)
    assert client.fields_of("a@x.io") == {CART: [item(dataFields={})]}
    assert next(iter(client.project.events)).fields == {CART: [item(dataFields={"size": 1})]}
    client = make(create_new_fields=False)
    buy(client, item(dataFields={"size": 1}), dataFields={"f": 1})
    assert bought(client)[0][1] == {CART: [item(dataFields={})], "total": 5.0}


def test_the_number_of_fields_is_limited(make: Make) -> None:
    """Too many fields of the profile, or of purchases, refuse the call as a whole."""
    client = make(max_fields=1, max_event_fields=2)
    before = everything(client)
    reply = buy(client, user={**USER, "dataFields": {"f": 1, "g": 1}}, dataFields={"h": 1})
    assert (reply.code, reply.json["params"]["limit"]) == ("UniqueFieldsLimitExceeded", 1)
    reply = buy(client, dataFields={"h": 1, "i": 1})
    assert reply.json["params"] == {
        "limit": 2,
        "requestedTotal": 3,
        "newFields": ["purchase", "purchase.h", "purchase.i"],
    }
    assert everything(client) == before
    assert buy(client, user={**USER, "dataFields": {"f": 1}}, dataFields={"h": 1}).status == 200


def test_reads_show_purchases_among_events(make: Make, clock: Clock) -> None:
    """A purchase has no name but a kind, and its total and items beside its data; a cart is a custom event."""
    client = make()
    buy(client, id="p1", dataFields={"f": 1}, createdAt=1_700_000_000_000, campaignId=5)
    clock.pass_(1)
    fill(client, item())
    cart, purchase = client.get("events/a@x.io").json["events"]
    assert purchase == {
        "_id": "p1",
        "email": "a@x.io",
        "campaignId": 5,
        "createdAt": "2023-11-14 22:13:20 +00:00",
        "eventType": "purchase",
        "total": 5.0,
        CART: [item()],
        "dataFields": {"f": 1},
    }
    assert (cart["eventName"], cart["eventType"]) == ("updateCart", "customEvent")
    assert (cart["createdAt"], cart["dataFields"]) == ("2025-10-09 08:53:21 +00:00", {CART: [item()]})


def test_purchases_go_with_their_user(make: Make) -> None:
    """Deleting or forgetting a user ends purchases and carts."""
    client = make()
    buy(client)
    fill(client, user={"email": "b@x.io"})
    buy(client, user={"email": "b@x.io"})
    client.send("DELETE", "/api/users/a@x.io")
    assert [email for _, _, email in bought(client)] == ["b@x.io"]
    client.post("users/forget", {"email": "b@x.io"})
    assert (bought(client), list(client.project.events)) == ([], [])


def test_no_rate_is_stated(make: Make) -> None:
    """Purchases and carts have no rate unless one is set."""
    client = make(rates=True)
    assert {buy(client).status for _ in range(600)} == {200}
    client = make(rates=True, rate_overrides={"POST /api/commerce/trackPurchase": 2})
    assert [buy(client).status for _ in range(3)] == [200, 200, 429]
    assert fill(client).status == 200
