from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_iterable.errors import ConfigurationError
from airflow_provider_iterable.sandbox.options import ProjectType
from airflow_provider_iterable.state import TableState, XComState
from tests.operators.conftest import BULK, Make, World, email, uid

pytestmark = pytest.mark.slow

COLUMNS = ("id", "email", "uid", "new")
UPDATE = "POST /api/users/updateEmail"
BY_EMAIL = "GET /api/users/getByEmail"
BY_ID = "GET /api/users/byUserId"

WAYS: list[tuple[ProjectType, str]] = [
    ("email", "email"),
    ("email", "user_id"),
    ("hybrid", "email"),
    ("hybrid", "user_id"),
    ("user_id", "user_id"),
]
BY_ADDRESS = [way for way in WAYS if way[1] == "email"]
ways = pytest.mark.parametrize(("project_type", "match"), WAYS)
by_address = pytest.mark.parametrize("project_type", [project_type for project_type, _ in BY_ADDRESS])
by_user_id = pytest.mark.parametrize("project_type", ["email", "hybrid", "user_id"])


def new(number: int) -> str:
    """Return the address that a person moves to."""
    return f"new{number}@example.com"


def move(number: int, **changes: Any) -> tuple[Any, ...]:
    """Return the row of a person's move."""
    whole = {"id": number, "email": email(number), "uid": uid(number), "new": new(number)}
    return tuple({**whole, **changes}[column] for column in COLUMNS)


class Moves:
    """A world whose model is moves.

    :param match: the identifier that selects the profiles
    """

    def __init__(self, world: World, match: str) -> None:
        self.world = world
        column = {"email_column": "email"} if match == "email" else {"user_id_column": "uid"}
        self.options: dict[str, Any] = {"mode": "change_email", "new_email_column": "new", "fields": None, **column}

    def rows(self, *rows: tuple[Any, ...]) -> None:
        """Let the model be these moves."""
        self.world.rows(*rows, columns=COLUMNS)

    def run(self, **options: Any) -> Any:
        """Run the operator as a new DAG run; the calls are counted from here on."""
        self.world.forget_calls()
        return self.world.run(**{**self.options, **options})

    @property
    def people(self) -> dict[str | None, str | None]:
        """The addresses at Iterable by user ID."""
        return {profile.user_id: profile.email for profile in self.world.sandbox.project.profiles}


def test_the_calls_of_each_way(make_world: Make) -> None:
    """Email projects have a call for it; the others look the user up, lest one be created, and update in bulk."""
    calls: dict[tuple[str, str], dict[str, int]] = {
        ("email", "email"): {UPDATE: 2},
        ("email", "user_id"): {UPDATE: 2},
        ("hybrid", "email"): {BY_EMAIL: 2, BULK: 1},
        ("hybrid", "user_id"): {BY_ID: 2, BULK: 1},
        ("user_id", "user_id"): {BY_ID: 2, BULK: 1},
    }
    for project_type, match in WAYS:
        world = make_world(project_type)
        moves = Moves(world, match)
        for number in (1, 2, 3):
            world.create(number, vip=True)
        moves.rows(move(1), move(2))
        report = moves.run()
        assert moves.people == {uid(1): new(1), uid(2): new(2), uid(3): email(3)}
        assert [profile.fields for profile in world.sandbox.project.profiles] == [{"vip": True}] * 3
        made = world.calls
        assert 0 <= made[BULK] - calls[project_type, match].get(BULK, 0) <= 1  # a look-up in flight makes two of one
        assert {**calls[project_type, match], BULK: made[BULK]} == {**made, BULK: made[BULK]}
        assert (report["added"], report["accepted"], report["reasons"]) == (2, 2, {})
        assert report["destination"]["action"] == "change_email"


ONLY = {"update_only": True}
by_switch = pytest.mark.parametrize("project_type", ["hybrid", "user_id"])


@by_switch
@pytest.mark.parametrize("skipped", ["not_found", "listed", "uncounted"])
def test_by_user_id_update_only_spares_the_look_ups(
    make_world: Make, project_type: ProjectType, skipped: str, heard: Callable[[], str]
) -> None:
    """Nobody is created, whom Iterable skips is skipped here, and an address of somebody else is not taken."""
    world = make_world(project_type, ONLY, update_only_enabled=True, skipped=skipped)
    moves = Moves(world, "user_id")
    for number in (1, 2, 3):
        world.create(number, vip=True)
    rows = [move(1), move(2), move(9)]
    moves.rows(*rows)
    report = moves.run()
    assert moves.people == {uid(1): new(1), uid(2): new(2), uid(3): email(3)}
    assert (report["accepted"], report["skipped"], report["reasons"]) == (2, 1, {"unknown_user": 1})
    assert set(world.calls) == {BULK}
    assert world.remembered == ["[1]", "[2]"]
    assert "way: bulk update with updateOnly." in heard()

    moves.rows(*rows[:2], move(3, new=new(1)))
    report = moves.run(max_rejected=1.0)
    taken = project_type == "hybrid"
    assert report["reasons"] == ({"target_exists": 1} if taken else {})
    assert moves.people[uid(3)] == (email(3) if taken else new(1))
    assert all(profile.fields == {"vip": True} for profile in world.sandbox.project.profiles)


@by_switch
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "malformed", "5xx_html"])
def test_with_update_only_lost_answers_do_no_harm(make_world: Make, project_type: ProjectType, kind: str) -> None:
    """A change by user ID may go twice, and rows about one user are sent in the order of their keys."""
    world = make_world(project_type, ONLY, update_only_enabled=True, skipped="not_found", seed=17)
    moves = Moves(world, "user_id")
    for number in range(1, 7):
        world.create(number, vip=True)
    moves.rows(*map(move, range(1, 7)), move(7, uid=uid(6)), move(9))
    world.sandbox.faults({"kind": kind, "path": "/api/users/bulkUpdate", "times": 14, "probability": 0.5})
    world.patiently(**moves.options, batch_size=2, tries=12)
    world.sandbox.service.faults.clear()
    assert moves.people == {**{uid(number): new(number) for number in range(1, 6)}, uid(6): new(7)}
    report = moves.run()
    assert (report["unchanged"], report["reasons"]) == (7, {"unknown_user": 1})
    assert BY_ID not in world.calls


def test_update_only_changes_nothing_where_it_would_not_be_safe(make_world: Make) -> None:
    """Matched by email, somebody who is skipped may have moved; in email projects there is a call of its own."""
    ways: list[tuple[ProjectType, str, set[str]]] = [
        ("hybrid", "email", {BY_EMAIL, BULK}),
        ("email", "user_id", {UPDATE}),
    ]
    for project_type, match, calls in ways:
        world = make_world(project_type, ONLY, update_only_enabled=True)
        moves = Moves(world, match)
        world.create(1)
        moves.rows(move(1))
        assert moves.run()["accepted"] == 1
        assert set(world.calls) == calls


def test_the_log_says_what_would_be_faster(make_world: Make, heard: Callable[[], str]) -> None:
    """Where the switch would spare the look-ups."""
    world = make_world("hybrid")
    moves = Moves(world, "user_id")
    moves.rows(move(1))
    moves.run()
    assert "then changed in bulk; faster (5,000 rows a second) with Iterable's updateOnly switch" in heard()


@by_address
def test_matched_by_email_a_key_fires_once_ever(make_world: Make, project_type: ProjectType) -> None:
    """Changed, gone and back again: nothing is sent for a key that fired; a new key fires."""
    world = make_world(project_type)
    moves = Moves(world, "email")
    world.create(1)
    moves.rows(move(1))
    assert moves.run()["accepted"] == 1

    for rows in ([move(1)], [move(1, email=new(1), new="third@example.com")], [], [move(1)], []):
        moves.rows(*rows)
        report = moves.run()
        assert (report["accepted"], report["removed"], world.calls) == (0, 0, {})
        assert world.remembered == ["[1]"]
    assert moves.people == {uid(1): new(1)}

    moves.rows(move(2, email=new(1), new="third@example.com"))
    assert moves.run()["accepted"] == 1
    assert moves.people == {uid(1): "third@example.com"}
    assert world.remembered == ["[1]", "[2]"]


@by_user_id
def test_matched_by_user_id_each_change_fires(make_world: Make, project_type: ProjectType) -> None:
    """A changed row moves the profile again; one that left is forgotten, and fires when it comes back."""
    world = make_world(project_type)
    moves = Moves(world, "user_id")
    world.create(1)
    moves.rows(move(1))
    assert moves.run()["accepted"] == 1
    assert moves.run()["unchanged"] == 1
    assert world.calls == {}

    moves.rows(move(1, new="third@example.com"))
    report = moves.run()
    assert (report["changed"], report["accepted"]) == (1, 1)
    assert moves.people == {uid(1): "third@example.com"}

    moves.rows()
    report = moves.run(allow_empty=True)
    assert (report["removed"], world.calls, world.remembered) == (1, {}, [])
    assert moves.people == {uid(1): "third@example.com"}

    moves.rows(move(1))
    assert moves.run()["accepted"] == 1
    assert moves.people == {uid(1): new(1)}


@ways
def test_nobody_is_ever_created(make_world: Make, project_type: ProjectType, match: str) -> None:
    """An unknown user is skipped, not remembered, and moves once they exist."""
    world = make_world(project_type)
    moves = Moves(world, match)
    moves.rows(move(1))
    for _ in range(2):
        report = moves.run()
        assert (report["skipped"], report["reasons"]) == (1, {"unknown_user": 1})
        assert (moves.people, world.remembered) == ({}, [])
    world.create(1)
    assert moves.run()["accepted"] == 1
    assert moves.people == {uid(1): new(1)}


@ways
def test_an_address_of_somebody_else_is_not_taken(make_world: Make, project_type: ProjectType, match: str) -> None:
    """Where addresses are unique the row is rejected, and goes through once the address is free."""
    world = make_world(project_type)
    moves = Moves(world, match)
    world.create(1)
    world.create(2)
    moves.rows(move(1, new=email(2)))
    if project_type == "user_id":
        assert moves.run()["accepted"] == 1
        assert moves.people == {uid(1): email(2), uid(2): email(2)}
        return
    report = moves.run(max_rejected=1.0)
    assert (report["rejected"], report["reasons"]) == (1, {"target_exists": 1})
    assert (moves.people, world.remembered) == ({uid(1): email(1), uid(2): email(2)}, [])
    project = world.sandbox.project
    project.delete([profile for profile in project.profiles if profile.user_id == uid(2)])
    assert moves.run()["accepted"] == 1
    assert moves.people == {uid(1): email(2)}


@ways
def test_bad_rows_are_named(make_world: Make, project_type: ProjectType, match: str, heard: Callable[[], str]) -> None:
    """Malformed and missing identifiers are rejected before anything is sent; what Iterable rejects, after."""
    world = make_world(project_type)
    moves = Moves(world, match)
    for number in range(1, 8):
        world.create(number)
    moves.rows(
        move(1, new="nobody"),
        move(2, new=None),
        move(3, new=" "),
        move(4, email=None, uid=None),
        move(5, email="@", uid="x" * 53),
        move(6, new="a@x.notatld"),
        move(7),
    )
    report = moves.run(max_rejected=1.0)
    bad = "invalid_email" if match == "email" else "invalid_user_id"
    expected = {"invalid_email": 4, "no_identifier": 1}
    assert report["reasons"] == {**expected, bad: expected.get(bad, 0) + 1}
    assert (report["accepted"], report["invalid"], world.remembered) == (1, 5, ["[7]"])
    assert "key [1]: the new address" in heard()
    assert "nobody" not in heard()


@ways
@pytest.mark.parametrize("who", ["current", "new"])
def test_forgotten_users_are_skipped(make_world: Make, project_type: ProjectType, match: str, who: str) -> None:
    """Neither does somebody forgotten move, nor does anybody move to a forgotten address."""
    world = make_world(project_type)
    moves = Moves(world, match)
    world.create(1)
    project = world.sandbox.project
    if who == "new":
        project.forget(new(1), None)
    else:
        project.forget(email(1) if match == "email" else None, None if match == "email" else uid(1))
    moves.rows(move(1))
    report = moves.run()
    assert (report["skipped"], report["rejected"], world.remembered) == (1, 0, [])
    assert set(report["reasons"]) <= {"forgotten_user", "unknown_user"}
    assert new(1) not in moves.people.values()


@by_address
def test_a_row_without_a_change_waits_for_one(make_world: Make, project_type: ProjectType) -> None:
    """Two equal addresses are no move: nothing is sent and nothing remembered, until they differ."""
    world = make_world(project_type)
    moves = Moves(world, "email")
    world.create(1)
    moves.rows(move(1, new=" PERSON1@example.com"))
    for _ in range(2):
        assert moves.run()["added"] == 1
        assert (world.calls, world.remembered) == ({}, [])
    moves.rows(move(1))
    assert moves.run()["accepted"] == 1
    assert moves.people == {uid(1): new(1)}


@by_user_id
def test_an_address_that_the_user_has_already(make_world: Make, project_type: ProjectType) -> None:
    """It is done, whatever Iterable says about it."""
    world = make_world(project_type)
    moves = Moves(world, "user_id")
    world.create(1)
    moves.rows(move(1, new=email(1)))
    report = moves.run()
    assert (report["accepted"], report["rejected"], world.remembered) == (1, 0, ["[1]"])
    assert report["reasons"] == ({"already_changed": 1} if project_type == "email" else {})


FAULTS = ["drop_before", "drop_after", "malformed", "5xx_html"]
CHANGES = {"email": "/api/users/updateEmail", "hybrid": "/api/users/bulkUpdate", "user_id": "/api/users/bulkUpdate"}


@ways
@pytest.mark.parametrize("kind", FAULTS)
def test_a_lost_answer_is_made_up_for(make_world: Make, project_type: ProjectType, match: str, kind: str) -> None:
    """Within the run a look-up tells whether the change was made; it is made once, and nobody is created."""
    world = make_world(project_type)
    moves = Moves(world, match)
    for number in (1, 2, 3):
        world.create(number)
    world.sandbox.faults({"kind": kind, "path": CHANGES[project_type], "times": 1})
    moves.rows(move(1), move(2))
    report = moves.run()
    assert (report["accepted"], report["rejected"], report["skipped"], report["deferred"]) == (2, 0, 0, 0)
    assert moves.people == {uid(1): new(1), uid(2): new(2), uid(3): email(3)}
    assert world.remembered == ["[1]", "[2]"]
    lost = kind in ("drop_after", "malformed")
    if match == "email":
        assert ("already_changed" in report["reasons"]) == lost
    moves.run()
    assert world.calls == {}


@ways
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("path", ["change", "/api/users", "/api/users/getByEmail", "/api/users/byUserId"])
def test_lost_answers_do_no_harm(make_world: Make, project_type: ProjectType, match: str, kind: str, path: str) -> None:
    """Many lost and broken answers, anywhere: once it is over, all is as if nothing had happened."""
    world = make_world(project_type, seed=5)
    moves = Moves(world, match)
    for number in range(1, 9):
        world.create(number, vip=True)
    moves.rows(*map(move, range(1, 7)), move(7, new=email(8)), move(9))
    where = CHANGES[project_type] if path == "change" else path
    world.sandbox.faults({"kind": kind, "path": where, "times": 14, "probability": 0.5})
    world.patiently(**moves.options, batch_size=2, max_rejected=1.0, tries=12)
    world.sandbox.service.faults.clear()
    report = moves.run(max_rejected=1.0)
    taken = project_type == "user_id"
    expected = {uid(number): new(number) for number in range(1, 7)}
    assert moves.people == {**expected, uid(7): email(8) if taken else email(7), uid(8): email(8)}
    assert all(profile.fields == {"vip": True} for profile in world.sandbox.project.profiles)
    assert world.remembered == [f"[{number}]" for number in range(1, 7 + taken)]
    assert (report["rejected"], report["deferred"]) == (0 if taken else 1, 0)


@by_address
@pytest.mark.parametrize("kind", ["drop_after", "5xx_html"])
def test_when_no_answer_comes_at_all(make_world: Make, project_type: ProjectType, kind: str) -> None:
    """The row waits for the retry, which finds out whether it was done."""
    world = make_world(project_type)
    moves = Moves(world, "email")
    world.create(1)
    world.sandbox.faults({"kind": kind, "path": "/api/users", "times": -1})
    moves.rows(move(1))
    message, report = world.failure(AirflowException, **moves.options)
    assert "1 rows were deferred (no_answer 1)" in message
    assert (report["deferred"], world.remembered) == (1, [])
    world.sandbox.service.faults.clear()
    assert moves.run()["accepted"] == 1
    assert (moves.people, world.remembered) == ({uid(1): new(1)}, ["[1]"])


def test_a_change_that_cannot_be_seen_yet(make_world: Make) -> None:
    """Iterable answers before a profile can be read at its new address: the row is skipped, and accepted later."""
    now = [1000.0]
    world = make_world("email", visible_after=60.0, clock=lambda: now[0])
    moves = Moves(world, "email")
    world.create(1)
    now[0] += 100.0
    world.sandbox.faults({"kind": "drop_after", "path": "/api/users/updateEmail", "times": 1})
    moves.rows(move(1))
    report = moves.run()
    assert (report["skipped"], report["reasons"], world.remembered) == (1, {"unknown_user": 1}, [])
    now[0] += 100.0
    report = moves.run()
    assert (report["accepted"], report["reasons"], world.remembered) == (1, {"already_changed": 1}, ["[1]"])
    assert moves.people == {uid(1): new(1)}


def test_a_connection_that_names_the_wrong_project_type(make_world: Make) -> None:
    """A project that is not email-based refuses the call of those that are; nothing is remembered."""
    world = make_world("hybrid", {"project_type": "email"})
    moves = Moves(world, "email")
    world.create(1)
    moves.rows(move(1))
    message, report = world.failure(AirflowFailException, **moves.options)
    assert "1 of 1 rows were rejected (refused 1; 0 rejected before, 1 new)" in message
    assert (report["accepted"], world.remembered, moves.people) == (0, [], {uid(1): email(1)})


def test_a_change_that_must_not_go_twice_ends_after_two_tries(make_world: Make) -> None:
    """In a hybrid project each further try follows a look-up, and there are two; then the row waits."""
    world = make_world("hybrid")
    moves = Moves(world, "email")
    world.create(1)
    world.sandbox.faults({"kind": "drop_before", "path": "/api/users/bulkUpdate", "times": -1})
    moves.rows(move(1))
    message, report = world.failure(AirflowException, **moves.options)
    assert "(no_answer 1)" in message
    assert world.calls == {BY_EMAIL: 3, BULK: 2}
    assert (moves.people, report["deferred"]) == ({uid(1): email(1)}, 1)


@ways
def test_a_refused_batch_costs_its_bad_row(make_world: Make, project_type: ProjectType, match: str) -> None:
    """Among a hundred moves the taken address is found, and the others arrive."""
    world = make_world(project_type)
    moves = Moves(world, match)
    for number in range(1, 101):
        world.create(number)
    moves.rows(*(move(number, **({"new": email(99)} if number == 40 else {})) for number in range(1, 99)))
    report = moves.run(batch_size=50)
    expected = {"target_exists": 1} if project_type != "user_id" else {}
    assert (report["reasons"], report["rejected"]) == (expected, len(expected))
    assert moves.people[uid(1)] == new(1)
    assert moves.people[uid(98)] == new(98)
    assert len(moves.people) == 100


@pytest.mark.parametrize(("project_type", "match"), [("email", "email"), ("hybrid", "email")])
def test_chains_of_moves_come_to_rest(make_world: Make, project_type: ProjectType, match: str) -> None:
    """A row that wants an address which another row frees arrives in the same run or the next."""
    world = make_world(project_type)
    moves = Moves(world, match)
    world.create(1)
    world.create(2)
    moves.rows(move(1, new=email(2)), move(2))
    for _ in range(2):
        moves.run(max_rejected=1.0)
    assert moves.people == {uid(1): email(2), uid(2): new(2)}
    moves.run()
    assert world.calls == {}


@by_user_id
def test_rows_about_one_user_are_sent_in_key_order(make_world: Make, project_type: ProjectType) -> None:
    """The greatest key has the last word, whatever the order of rows."""
    world = make_world(project_type)
    moves = Moves(world, "user_id")
    world.create(1)
    moves.rows(move(3, uid=uid(1)), move(1), move(2, uid=uid(1)))
    report = moves.run(sql="SELECT * FROM users ORDER BY id DESC")
    assert moves.people == {uid(1): new(3)}
    assert report["accepted"] == 3
    moves.run()
    assert world.calls == {}


def test_both_identifiers(make_world: Make) -> None:
    """With both mapped the project type decides which one matches; the other one is not sent."""
    for project_type, calls in (
        ("email", {UPDATE: 1}),
        ("hybrid", {BY_ID: 1, BULK: 1}),
        ("user_id", {BY_ID: 1, BULK: 1}),
    ):
        world = make_world(project_type)
        moves = Moves(world, "email")
        world.create(1)
        moves.rows(move(1))
        assert moves.run(user_id_column="uid")["accepted"] == 1
        assert (world.calls, moves.people) == (calls, {uid(1): new(1)})


def test_what_a_project_cannot_do_fails_first(make_world: Make) -> None:
    """Matching by email in a user-ID project, and a project of unknown type: nothing is sent."""
    world = make_world("user_id")
    moves = Moves(world, "email")
    moves.rows(move(1))
    message, _ = world.failure(AirflowFailException, **moves.options)
    assert "A user-ID-based project cannot match by email" in message
    for match in ("email", "user_id"):
        world = make_world("email", {"project_type": None})
        moves = Moves(world, match)
        moves.rows(move(1))
        message, _ = world.failure(AirflowFailException, **moves.options)
        assert "Set project_type in the connection" in message
        assert world.calls == {}


def test_an_empty_model_is_no_surprise_where_keys_are_kept(make_world: Make) -> None:
    """Matched by email, rows that leave cost nothing; matched by user ID, they are forgotten, and so asked about."""
    world = make_world("email")
    Moves(world, "email").rows()
    assert Moves(world, "email").run()["read"] == 0
    message, _ = world.failure(AirflowFailException, **Moves(world, "user_id").options, sync_id="other")
    assert "The model returned no rows" in message


def test_a_sync_of_profiles_does_not_turn_into_one_of_addresses(world: World) -> None:
    """Its state is about something else; the task fails before it calls anything."""
    world.people(1)
    world.run()
    moves = Moves(world, "email")
    moves.rows(move(1))
    world.forget_calls()
    message, _ = world.failure(AirflowFailException, **moves.options)
    assert 'action: remembered null, now "change_email"' in message
    assert world.calls == {}


def test_what_fires_once_is_not_sent_in_full_again(make_world: Make) -> None:
    """Matched by email, a full resync is refused; matched by user ID, it moves everybody where they should be."""
    world = make_world("hybrid")
    world.create(1)
    moves = Moves(world, "email")
    moves.rows(move(1))
    message, _ = world.failure(AirflowFailException, **moves.options, resync="full")
    assert "fires once for each key" in message
    assert world.calls == {}
    by_id = Moves(world, "user_id")
    assert by_id.run(sync_id="by id")["accepted"] == 1
    world.sandbox.project.change_email(next(iter(world.sandbox.project.profiles)), email(1))
    assert by_id.run(sync_id="by id")["unchanged"] == 1
    assert by_id.run(sync_id="by id", resync="full")["accepted"] == 1
    assert by_id.people == {uid(1): new(1)}


@ways
def test_changes_that_were_made_elsewhere(make_world: Make, project_type: ProjectType, match: str) -> None:
    """A baseline remembers them without a call; what comes later fires."""
    world = make_world(project_type)
    moves = Moves(world, match)
    world.create(2)
    moves.rows(move(1))
    moves.run(resync="baseline")
    assert (world.calls, world.remembered) == ({}, ["[1]"])
    moves.rows(move(1), move(2))
    report = moves.run()
    assert (report["unchanged"], report["accepted"], moves.people) == (1, 1, {uid(2): new(2)})


def test_state_that_forgets_is_refused_where_a_key_fires_once(make_world: Make) -> None:
    """When the DAG is parsed, or when the project type has decided the match; by user ID any state will do."""
    world = make_world("email")
    moves = Moves(world, "email")
    moves.rows(move(1))
    for parameters in ({}, {"user_id_column": "uid", "match_by": "email"}):
        with pytest.raises(ConfigurationError, match=r"fires once for each key.* Use state=TableState\(\)"):
            world.make(**{**moves.options, **parameters, "state": XComState()})
    message, _ = world.failure(AirflowFailException, **moves.options, user_id_column="uid", state=XComState())
    assert "fires once for each key" in message
    world.create(1)
    assert moves.run(email_column=None, user_id_column="uid", state=XComState())["accepted"] == 1
    assert moves.run(email_column=None, user_id_column="uid", state=XComState())["unchanged"] == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fields": {"a": "b"}}, "leave out fields"),
        ({"nulls": "skip"}, "leave out nulls"),
        ({"on_removed": "delete", "salvage": True}, "leave out on_removed, salvage"),
        ({"merge_nested_objects": False}, "leave out merge_nested_objects"),
        ({"create_new_fields": True}, "leave out create_new_fields"),
        ({"recheck_known_users": "never"}, "leave out recheck_known_users"),
        ({"allow_shared_user_id": True}, "leave out allow_shared_user_id"),
        ({"new_email_column": None}, "go together"),
        ({"mode": "insert"}, 'mode must be "upsert", "update", "create" or "change_email", not \'insert\''),
        ({"mode": "upsert"}, "go together"),
        ({"email_column": None}, "Map email_column, user_id_column or both"),
    ],
)
def test_parameters_out_of_place(world: World, parameters: dict[str, Any], message: str) -> None:
    """What says nothing about addresses is refused when the DAG is parsed."""
    with pytest.raises(ConfigurationError, match=message):
        world.make(**{**Moves(world, "email").options, **parameters})


@pytest.mark.parametrize("column", ["email_column", "new_email_column", "primary_key"])
def test_a_missing_column_is_found_before_the_first_call(world: World, column: str) -> None:
    """The message lists the columns there are."""
    moves = Moves(world, "email")
    moves.rows(move(1))
    message, _ = world.failure(AirflowFailException, **{**moves.options, column: "nope"})
    assert "no column 'nope'. Its columns are: id, email, uid, new" in message
    assert world.calls == {}


def test_addresses_are_not_in_the_log(make_world: Make, heard: Callable[[], str]) -> None:
    """Neither the old one nor the new one, though both are the key."""
    for project_type, match in WAYS:
        world = make_world(project_type)
        moves = Moves(world, match)
        world.create(1)
        world.create(3)
        moves.rows(move(1, new=email(3)), move(2), move(4, new="no one"))
        moves.run(primary_key=["email", "new"] if match == "email" else "new", max_rejected=1.0, state=TableState())
    said = heard()
    assert "target_exists" in said
    for number in range(1, 5):
        for told in (email(number), new(number), uid(number), "no one"):
            assert told not in said
