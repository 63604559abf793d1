"""Content that is there from the start, and content that outlives the process."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from airflow_provider_iterable.sandbox import Sandbox
from airflow_provider_iterable.sandbox.__main__ import is_loopback
from airflow_provider_iterable.sandbox.keeping import Keeper

from .conftest import Client, Make
from .test_faults_and_calls import ask

ITEM = {"id": "sku-1", "name": "Teapot", "price": 12.5, "quantity": 1}
SEED: dict[str, Any] = {
    "users": [
        {"email": "a@x.io", "userId": "1", "dataFields": {"name": "A", "born": "1990-01-02"}},
        {"email": "b@x.io", "userId": "2", "dataFields": {"score": 1.5}},
    ],
    "channels": [
        {
            "name": "Texts",
            "messageMedium": "SMS",
            "id": 900,
            "messageTypes": [{"name": "Alerts", "subscriptionPolicy": "DoubleOptIn", "id": 901}, {"name": "News"}],
        },
        {"name": "Bills", "channelType": "Transactional"},
    ],
    "subscriptions": [{"userId": "2", "subscribedMessageTypeIds": [901], "unsubscribedChannelIds": [102161]}],
    "lists": [
        {"name": "VIP", "description": "few", "members": [{"email": "a@x.io", "userId": "1"}]},
        {"name": "All", "listType": "Dynamic"},
    ],
    "catalogs": [
        {"name": "Shop", "types": {"price": "double"}, "items": {"sku-1": {"title": "Teapot", "price": 12.5}}}
    ],
    "events": [{"email": "a@x.io", "userId": "1", "eventName": "seen", "id": "e1", "dataFields": {"n": 1}}],
    "purchases": [{"user": {"email": "a@x.io", "userId": "1"}, "total": 12.5, "items": [ITEM], "id": "p1"}],
}
PATHS = ("state?users=1", "lists?members=1", "catalogs?items=1", "events", "purchases", "channels")


def content(client: Client) -> list[Any]:
    """Return all that a project holds."""
    return [ask(client, "GET", f"/sandbox/{path}").json for path in PATHS]


@pytest.mark.parametrize("project_type", ["email", "user_id", "hybrid"])
def test_a_seed_is_there(make: Make, project_type: Any) -> None:
    """As if calls had made it, without being one."""
    client = make(project_type)
    answer = ask(client, "POST", "/sandbox/seed", SEED)
    assert (answer.status, answer.json) == (200, {name: len(rows) for name, rows in SEED.items()})
    state, lists, catalogs, events, purchases, channels = content(client)
    assert [user["userId"] for user in state["profiles"]] == ["1", "2"]
    assert state["fields"]["score"] == "double"
    assert [(row["name"], row["listType"], row["size"]) for row in lists["lists"]] == [
        ("VIP", "Standard", 1),
        ("All", "Dynamic", 0),
    ]
    assert catalogs["catalogs"][0]["values"][0]["indexed"] == ["price"]
    assert (events["count"], purchases["count"]) == (1, 1)
    texts, bills = channels["channels"][-2:]
    assert (texts["id"], texts["messageMedium"], texts["channelType"]) == (900, "SMS", "Marketing")
    assert [(row["id"], row["subscriptionPolicy"], row["subscribed"]) for row in texts["messageTypes"]] == [
        (901, "DoubleOptIn", 1),
        (10216001, "OptOut", 2),
    ]
    assert (bills["id"], bills["channelType"], bills["messageTypes"]) == (10216002, "Transactional", [])
    assert channels["channels"][0]["subscribed"] == 1
    assert ask(client, "GET", "/sandbox/summary").json["total"] == 0
    more = {"catalogs": [{"name": "Shop", "items": {"sku-2": {}}}]}
    assert ask(client, "POST", "/sandbox/seed", more).status == 200
    assert [item["id"] for item in content(client)[2]["catalogs"][0]["values"]] == ["sku-1", "sku-2"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": [{"email": "c@x.io"}, {"email": "foo@"}]},
        {"users": [{"email": "c@x.io", "dataFields": {"score": "text"}}]},
        {"users": [{"email": 5}]},
        {"users": SEED["users"], "lists": [{"name": "x", "members": [{"email": "foo@"}]}]},
        {"users": [{"email": "c@x.io"}], "catalogs": [{"name": "no such name!"}]},
        {"channels": [{"name": "x"}, {"name": "y", "id": 102161}]},
        {"channels": [{"name": "x", "messageTypes": [{"name": "y", "subscriptionPolicy": "DoubleOptIn"}]}]},
        {"channels": [{"name": "x"}], "subscriptions": [{"email": "foo@"}]},
        {"users": [{"email": "c@x.io"}], "events": [{"eventName": "nobody's"}]},
        {"users": [{"email": "c@x.io"}], "purchases": [{}]},
        {"people": []},
        [],
        None,
    ],
)
def test_a_wrong_seed_adds_nothing(make: Make, wrong: Any) -> None:
    """What is refused is said, and what came before it is taken back."""
    client = make()
    ask(client, "POST", "/sandbox/seed", SEED)
    before = content(client)
    answer = ask(client, "POST", "/sandbox/seed", wrong)
    assert answer.status == 400
    assert answer.json["error"].startswith("seed: ")
    assert content(client) == before


def filled(make: Make, project_type: Any = "email", **options: Any) -> Client:
    """Return a sandbox with something of everything."""
    client = make(project_type, project_keys={"second": 7}, **options)
    ask(client, "POST", "/sandbox/seed", SEED)
    ask(
        client,
        "POST",
        "/sandbox/seed?project=7",
        {"users": [{"email": "z@x.io", "userId": "9"}]},
    )
    client.post("lists/unsubscribe", {"listId": 3001, "subscribers": [{"userId": "2"}], "channelUnsubscribe": True})
    client.post("users/forget", {"email": "gone@x.io"} if project_type == "email" else {"userId": "gone"})
    number = client.post("lists", {"name": "brief"}).json["listId"]
    client.send("DELETE", f"/api/lists/{number}")
    client.post("catalogs/Attic")
    client.send("DELETE", "/api/catalogs/Attic")
    client.post("events/track", {"userId": "1", "eventName": "seen", "id": "e1", "dataFields": {"n": 2}})
    return client


@pytest.mark.parametrize("project_type", ["email", "user_id", "hybrid"])
def test_what_is_kept_is_all_there_again(make: Make, project_type: Any) -> None:
    """All content of all projects, and what follows from it: types, forgotten users, IDs that are not used again."""
    client, other = filled(make, project_type), make("email", project_keys={"second": 7})
    other.service.restore(client.service.kept())
    assert content(other) == content(client)
    for path in PATHS:
        query = "&" if "?" in path else "?"
        asked = f"/sandbox/{path}{query}project=7"
        assert ask(other, "GET", asked).json == ask(client, "GET", asked).json
    for one in (client, other):
        assert one.bulk({"userId": "1", "email": "a@x.io", "dataFields": {"score": "x"}}).status == 400
        assert one.post("lists", {"name": "new"}).json["listId"] == 3004
        assert one.project.quotas["forget"].calls
    assert other.service.kept() == client.service.kept()
    forgotten = {"email": "gone@x.io"} if project_type == "email" else {"userId": "gone"}
    assert other.post("users/update", forgotten).code == "ForgottenUserError"


def test_the_oldest_of_a_shared_user_id_stays_the_oldest(make: Make) -> None:
    """Also where its address has changed since."""
    client, other = make("email"), make("email")
    client.bulk({"email": "a@x.io", "userId": "1"}, {"email": "b@x.io", "userId": "1"})
    client.post("users/updateEmail", {"currentEmail": "a@x.io", "newEmail": "c@x.io"})
    other.service.restore(client.service.kept())
    for one in (client, other):
        assert one.get("users/byUserId/1").json["user"]["email"] == "c@x.io"


def test_no_key_is_kept(make: Make) -> None:
    """Options are none of the content."""
    assert b"secret" not in filled(make, api_key="key", disabled_keys=["secret-key"]).service.kept()


@pytest.mark.parametrize("wrong", [b"", b"{}", b'{"projects": []}', b"[1]", b'{"projects": [{}], "format": 1}'])
def test_another_file_is_refused(make: Make, tmp_path: Path, wrong: bytes) -> None:
    """It is said, and nothing changes; a file that is not there is none."""
    client, path = filled(make), tmp_path / "kept.json"
    before = content(client)
    assert not Keeper(client.service, path).load()
    path.write_bytes(wrong)
    with pytest.raises(ValueError, match="not a kept sandbox"):
        Keeper(client.service, path).load()
    kept = json.loads(client.service.kept())
    kept["projects"][0]["events"][0]["profile"] = 99
    path.write_text(json.dumps(kept), "utf-8")
    with pytest.raises(ValueError, match="not a kept sandbox"):
        Keeper(client.service, path).load()
    assert content(client) == before


def test_the_file_is_written_when_something_happened(make: Make, tmp_path: Path) -> None:
    """By a call or an inspection that may change something; for its owner only, and with nothing beside it."""
    client, path = make(), tmp_path / "kept.json"
    keeper = Keeper(client.service, path)
    keeper.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    keeper.save()
    ask(client, "GET", "/sandbox/state")
    keeper.save()
    assert not path.exists()
    for change in (lambda: client.bulk({"email": "a@x.io"}), lambda: ask(client, "POST", "/sandbox/seed", {})):
        change()
        keeper.save()
        assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]
        path.unlink()


def test_a_failed_write_leaves_the_former_file(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs neither it nor leaves half a file."""
    client, path = make(), tmp_path / "kept.json"
    keeper = Keeper(client.service, path)
    keeper.save()
    before = path.read_bytes()
    client.bulk({"email": "a@x.io"})

    def full(number: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            keeper.save()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]
    keeper.save()
    assert b"a@x.io" in path.read_bytes()


def test_it_is_written_while_it_serves(tmp_path: Path) -> None:
    """Every few seconds, not only at the end."""
    path = tmp_path / "kept.json"
    with Sandbox() as sandbox, Keeper(sandbox.service, path, seconds=0.01):
        sandbox.seed(users=[{"email": "a@x.io"}])
        until = time.monotonic() + 60
        while b"a@x.io" not in path.read_bytes():
            assert time.monotonic() < until
            time.sleep(0.01)


def command(*arguments: str) -> list[str]:
    """Return the command line on a free port."""
    return [sys.executable, "-m", "airflow_provider_iterable.sandbox", "--port", "0", *arguments]


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve until the end of the block, whatever happens in it; give the first line of output."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command(*arguments), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline(), process
        finally:
            process.send_signal(signal.SIGTERM)


def test_the_command_seeds_once_and_keeps(tmp_path: Path) -> None:
    """A second start finds what the first one left, its project type included, and does not seed again."""
    seed, kept = tmp_path / "seed.json", tmp_path / "kept.json"
    seed.write_text(json.dumps(SEED), "utf-8")
    for start, expected in enumerate((2, 3)):
        options = ["--seed", str(seed), "--keep", str(kept)] + ["--project-type", "hybrid"] * (start == 0)
        with served(*options) as (line, process):
            assert "hybrid project" in line
            url = line.split()[-1]
            body = json.dumps({"email": f"new{start}@x.io"}).encode()
            with urlopen(f"{url}/sandbox/state", timeout=10) as answer:
                state = json.load(answer)
            assert (state["users"], state["events"], state["lists"]) == (expected, 1, 2)
            assert state["options"]["record_identifiers"] is True
            urlopen(Request(f"{url}/api/users/update", body, {"Api-Key": "k"}), timeout=10).close()
        assert process.returncode == 0


@pytest.mark.parametrize("option", ["--seed", "--keep"])
def test_the_command_says_what_is_wrong_with_a_file(tmp_path: Path, option: str) -> None:
    """It ends with 2, and does not serve."""
    path = tmp_path / "wrong.json"
    path.write_text('{"people": []}', "utf-8")
    done = subprocess.run(command(option, str(path)), capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sandbox: ")
    assert path.read_text("utf-8") == '{"people": []}'


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.2", False), ("0.0.0.0", True)])
def test_an_open_address_is_warned_of(host: str, warned: bool) -> None:
    """It is said that whoever reaches it needs no key; the address that is printed is one that answers."""
    with served("--host", host) as (line, process):
        url = line.split()[-1]
        with urlopen(f"{url}/sandbox/summary", timeout=10) as answer:
            assert json.load(answer)["total"] == 0
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert ("WARNING: 0.0.0.0 is open to the network" in said) is warned
    assert url.startswith("http://127.0.0.2:" if not warned else "http://127.0.0.1:")


def test_which_addresses_are_this_machine_alone() -> None:
    """Loopback addresses and their names."""
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "0.0.0.0", "192.0.2.1", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
