"""A model, a state that watches what it is told, and a small Iterable: the stage on which the laws are tried."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from hypothesis import settings
from hypothesis import strategies as st

from airflow_provider_iterable.engine.doubt import with_receipts
from airflow_provider_iterable.engine.plan import Guards, Plan
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.run import Options, run
from airflow_provider_iterable.engine.tries import Patience
from airflow_provider_iterable.engine.vocabulary import NEVER_EQUAL, NO_INTENTS, Entry, Intents, Patch
from airflow_provider_iterable.errors import IterableSyncError
from airflow_provider_iterable.mapping import Mapper
from airflow_provider_iterable.state.memory import MemoryState
from airflow_provider_iterable.syncs.users import UserOptions, Users
from tests.fakes import FAULTS, Killed, TinyIterable, in_chunks

OnRemoved = Literal["keep", "clear", "delete"]
COLUMNS = ("id", "email", "n", "s")
PEOPLE = ("a@x.io", "b@x.io", "c@x.io", "d@x.io")


def budget(examples: int) -> settings:
    """Return settings for about so many examples; a profile that asks for more than 100 scales them up."""
    return settings(max_examples=max(1, examples * settings().max_examples // 100))


class Person(NamedTuple):
    """A row of the model."""

    id: int | None
    email: str | None
    n: Any = None
    s: str | None = None

    @property
    def key(self) -> str:
        """The key text, without the provider's help."""
        return f"[{self.id}]"

    @property
    def identity(self) -> str | None:
        """The address as Iterable stores it, if it is one."""
        folded = (self.email or "").strip().lower()
        return folded if folded in PEOPLE else None

    @property
    def sound(self) -> bool:
        """Whether the row alone can be sent."""
        return self.id is not None and self.identity is not None and self.n == self.n

    @property
    def fields(self) -> dict[str, Any]:
        """What Iterable should hold; nulls remove."""
        return {name: value for name, value in (("n", self.n), ("s", self.s)) if value is not None}


ids = st.sampled_from([1, 2, 3, 10, 11])
"""As text, 10 and 11 come before 2."""
emails = st.sampled_from([*PEOPLE, *PEOPLE, "A@x.io", " B@X.IO ", "C@X.io"])
numbers = st.sampled_from([None, 0, 1, 2])
sound_people = st.builds(Person, ids, emails, numbers, st.sampled_from([None, "x", "y"]))
people = st.builds(
    Person,
    ids | ids | ids | st.none(),
    emails | emails | emails | st.sampled_from([None, "nonsense"]),
    numbers | numbers | st.sampled_from([math.nan, "text"]),
    st.sampled_from([None, "x", "y"]),
)
"""Now and then without a key or an address, with a value that has no JSON form, or with text where a number goes."""
sound_models = st.lists(sound_people, unique_by=lambda person: person.id, max_size=5)
mixed_models = st.lists(
    st.builds(Person, ids, emails, st.sampled_from([None, 0, 1, "text"])),
    unique_by=lambda person: person.id,
    max_size=5,
)
"""Rows that are fine by themselves, and many that Iterable's types refuse."""
models = sound_models | st.lists(people, unique_by=lambda person: person.id, max_size=5) | st.lists(people, max_size=7)
"""The last ones have duplicate keys, too."""
faults = st.lists(st.sampled_from(["", "", *FAULTS]), max_size=12)
refusals = st.dictionaries(
    st.sampled_from(PEOPLE),
    st.sampled_from(["invalidEmails", "forgottenEmails", "notFoundEmails", "invalidDataEmails"]),
    max_size=2,
)
ways: st.SearchStrategy[OnRemoved] = st.sampled_from(["keep", "clear", "delete"])
commit_faults = st.lists(st.sampled_from(["", "", "", "kill", "kill_after"]), max_size=6)


class WatchedState(MemoryState):
    """A state that refuses to be told what Iterable did not accept, and dies as queued."""

    def __init__(self, world: World) -> None:
        super().__init__({})
        self._world = world
        self.faults: deque[str] = deque()

    def commit(self, patch: Patch, intents: Intents = NO_INTENTS) -> None:
        """Check a patch, then store it, dying before or after if that is queued; the dead store nothing."""
        if self._world.iterable.dead:
            raise Killed
        for key, entry in with_receipts(patch, intents).items():
            self._world.check(key, entry)
        fault = self.faults.popleft() if self.faults else ""
        if fault == "kill":
            self._world.iterable.dead = True
            raise Killed
        super().commit(patch, intents)
        if fault == "kill_after":
            self._world.iterable.dead = True
            raise Killed


class World:
    """Iterable, the state of one user sync, and the model as it is now.

    :param on_removed: of the sync
    :param batch_size: most records per request
    :param in_flight: bulk requests in flight
    :param commit_batches: batches per commit
    """

    def __init__(
        self, on_removed: OnRemoved = "keep", batch_size: int = 2, in_flight: int = 1, commit_batches: int = 1
    ) -> None:
        self.on_removed, self.batch_size = on_removed, batch_size
        self.patience = Patience(
            tries=2, first_wait=0, longest_wait=0, in_flight=in_flight, commit_batches=commit_batches
        )
        self.iterable = TinyIterable()
        self.state = WatchedState(self)
        self.model: Sequence[Person] = ()
        self.report = Report("sync", "run", {})
        self._plans: list[Plan] = []

    def sync(self) -> Users:
        """Return the sync, as each run makes it anew."""
        options = UserOptions(("id",), "email", "email", on_removed=self.on_removed, project_type="email")
        return Users(options, Mapper({"n": "n", "s": "s"}), COLUMNS)

    def run(self, *, dry_run: bool = False) -> Exception | None:
        """Run once; return how it failed, if it did."""
        self.report = Report("sync", "run", {}, dry_run=dry_run)
        options = Options(
            guards=Guards(allow_empty=True, max_removed=None),
            patience=self.patience,
            batch_size=self.batch_size,
            max_rejected=1.0,
            dry_run=dry_run,
            check=self._plans.append,
        )
        self._plans.clear()
        send = self.iterable.begin()
        failed: Exception | None = None
        try:
            run(self.sync(), lambda: in_chunks(self.model), self.state, send, self.report, options)
        except Killed as error:
            return error
        except IterableSyncError as error:
            failed = error
        finally:
            self.iterable.end()
        self.check_report()
        return failed

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.iterable.heal()
        self.state.faults.clear()

    def check(self, key: str, entry: Entry | None) -> None:
        """Law: what is remembered was accepted, and what is forgotten was removed unless others bear it."""
        if entry is not None:
            in_doubt = entry.fingerprint == NEVER_EQUAL
            assert in_doubt or entry.fingerprint in self.iterable.accepted, f"{key} was never accepted"
            return
        identity = identity_of(self.state.entries[key])
        assert key not in {person.key for person in self.model}, f"{key} is present and was forgotten"
        if identity in borne(self.model) or self.on_removed == "keep":
            return
        profile = self.iterable.users.get(identity)
        assert profile is None or (self.on_removed == "clear" and not profile), f"{key} was forgotten, not removed"

    def settle(self) -> None:
        """Law: once nothing goes wrong, a run makes Iterable equal to the model, and the next sends nothing."""
        self.heal()
        self.state.settle_intents()
        doubtful = contested(self.state.entries, self.model)
        wanted = ideal(self.iterable.users, self.state.entries, self.model, self.on_removed)
        assert self.run() is None
        found = {name: fields for name, fields in self.iterable.users.items() if name not in doubtful}
        assert {name: fields for name, fields in wanted.items() if name not in doubtful} == found
        remembered = dict(self.state.entries)
        assert {person.key for person in sound(self.model)} <= remembered.keys()
        present = {person.key for person in self.model}
        unheard = borne(self.model) - {str(person.identity) for person in sound(self.model)}
        assert all(key in present or identity_of(entry) in unheard for key, entry in remembered.items())
        self.check_silence()
        assert remembered == self.state.entries

    def check_silence(self) -> None:
        """Law: a run without news makes no request."""
        requests = len(self.iterable.history)
        assert self.run() is None
        assert requests == len(self.iterable.history), "a run without news made requests"

    def check_report(self) -> None:
        """Law: the report adds up, and what makes a call ends in exactly one fate."""
        told = self.report.to_dict()
        assert len(self.model) == told["read"]
        assert told["read"] == told["added"] + told["changed"] + told["unchanged"] + told["invalid"]
        assert told["rejected"] >= told["invalid"]
        if not told["dry_run"]:
            ends = told["accepted"] + told["rejected"] + told["skipped"] + told["deferred"]
            assert ends - told["invalid"] == self._plans[0].sends


def identity_of(entry: Entry) -> str:
    """Return whom an entry is about."""
    return str(msgspec.json.decode(entry.ref)[1])


def sound(model: Iterable[Person]) -> list[Person]:
    """Return the rows that can be sent, in the order of their key text."""
    model = list(model)
    times = Counter(person.id for person in model)
    found = [person for person in model if person.sound and times[person.id] == 1]
    return sorted(found, key=lambda person: person.key)


def borne(model: Iterable[Person]) -> set[str]:
    """Return the identities that rows bear, whether or not they can be sent."""
    return {person.identity for person in model if person.id is not None and person.identity is not None}


def contested(entries: dict[str, Entry], model: Sequence[Person]) -> set[str]:
    """Return the identities that a row bore when it was accepted, and that cannot be sent now.

    What Iterable should hold for them until the row is mended is nobody's to say.
    """
    fine = {person.key for person in sound(model)}
    present = {person.key for person in model}
    return {identity_of(entry) for key, entry in entries.items() if key in present - fine}


def ideal(
    users: dict[str, dict[str, Any]], entries: dict[str, Entry], model: Sequence[Person], on_removed: OnRemoved
) -> dict[str, dict[str, Any]]:
    """Return what Iterable should hold: removals done, then all rows applied in the order of their key text."""
    wanted = {name: dict(fields) for name, fields in users.items()}
    present, bearers = {person.key for person in model}, borne(model)
    for key, entry in entries.items():
        identity = identity_of(entry)
        if key in present or identity in bearers:
            continue
        if on_removed == "delete":
            wanted.pop(identity, None)
        elif on_removed == "clear" and identity in wanted:
            wanted[identity] = {}
    for person in sound(model):
        assert person.identity is not None
        wanted[person.identity] = person.fields
    return wanted
