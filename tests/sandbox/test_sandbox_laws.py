"""What holds after any sequence of calls, in every project type."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_iterable.sandbox.options import Options, ProjectType
from airflow_provider_iterable.sandbox.project.project import Project
from airflow_provider_iterable.sandbox.service import Service

from .conftest import Client, Clock

EMAILS = st.sampled_from(["a@x.io", "A@x.io", "b@x.io", "c@x.io", "foo@", ""])
USER_IDS = st.sampled_from(["1", "2", "3", "x ", ""])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.just(1.5),
    st.sampled_from(["text", "2024-11-25"]),
    st.lists(st.integers(0, 2), max_size=2),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 2), max_size=2),
)
DATA = st.fixed_dictionaries(
    {},
    optional={"email": EMAILS, "userId": USER_IDS, "n": st.integers(0, 3), "v": VALUES, "w": VALUES},
)
USERS = st.fixed_dictionaries(
    {},
    optional={
        "email": EMAILS,
        "userId": USER_IDS,
        "dataFields": DATA,
        "preferUserId": st.booleans(),
        "mergeNestedObjects": st.booleans(),
    },
)
CALLS = st.one_of(
    st.tuples(st.just("bulkUpdate"), st.lists(USERS, min_size=1, max_size=4)),
    st.tuples(st.just("update"), USERS),
    st.tuples(st.just("updateEmail"), st.fixed_dictionaries({"currentEmail": EMAILS, "newEmail": EMAILS})),
    st.tuples(st.just("delete"), st.one_of(EMAILS, USER_IDS).filter(bool)),
    st.tuples(
        st.sampled_from(["forget", "unforget"]),
        st.fixed_dictionaries({}, optional={"email": EMAILS, "userId": USER_IDS}),
    ),
)


def everything(project: Project) -> Any:
    """Return all that the project holds."""
    profiles = [(p.email, p.user_id, copy.deepcopy(p.fields), p.writes) for p in project.profiles]
    forgotten = (set(project.forgotten_emails), set(project.forgotten_user_ids))
    return profiles, dict(project.schema.types), forgotten


def make_call(client: Client, name: str, body: Any) -> int:
    """Make a call, check its own law, and return its status."""
    if name == "delete":
        folder = "" if "@" in body else "byUserId/"
        return client.send("DELETE", f"/api/users/{folder}{body.replace(' ', '%20')}").status
    if name != "bulkUpdate":
        return client.post(f"users/{name}", body).status
    reply = client.bulk(*body)
    if reply.status == 200:
        answer = reply.json
        named = sum(len(values) for values in answer["failedUpdates"].values())
        unnamed = sum(record.get("email") is None and record.get("userId") is None for record in body)
        assert answer["successCount"] + answer["failCount"] == len(body)
        assert named <= answer["failCount"] <= named + unnamed
    return reply.status


def check(project: Project, project_type: ProjectType) -> None:
    """Check that profiles are found by their identifiers, and unique where they must be."""
    profiles = list(project.profiles)
    assert len(profiles) == len(project.profiles) == len({id(profile) for profile in profiles})
    for profile in profiles:
        if project_type != "user_id":
            assert profile.email is None or project.profiles.with_email(profile.email) is profile
        if profile.user_id is not None:
            sharing = project.profiles.all_with_user_id(profile.user_id)
            assert profile in sharing
            assert project_type == "email" or sharing == [profile]
        assert profile.writes >= 1
        assert not {"email", "userId"} & profile.fields.keys()
        assert None not in profile.fields.values()
        assert profile.email is not None or project_type != "email"
        assert profile.user_id is not None or project_type != "user_id"


@given(st.sampled_from(["email", "user_id", "hybrid"]), st.lists(CALLS, max_size=12))
def test_any_calls_leave_a_sound_project(project_type: ProjectType, calls: list[tuple[str, Any]]) -> None:
    """Counts add up, a refused call changes nothing, and every profile is found by what it is called."""
    clock = Clock()
    options = Options().changed({"rates": False})
    client = Client(Service(project_type, options=options, clock=clock), clock)
    for name, body in calls:
        before = everything(client.project)
        status = make_call(client, name, body)
        assert status in (200, 400, 409)
        if status != 200:
            assert everything(client.project) == before
        check(client.project, project_type)
