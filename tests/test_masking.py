"""Words about rows name nobody, and still find the row."""

from __future__ import annotations

import ast
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import airflow_provider_iterable
from airflow_provider_iterable import errors
from airflow_provider_iterable.engine import vocabulary
from airflow_provider_iterable.engine.reasons import Fate, Kind, Reason
from airflow_provider_iterable.engine.report import Report
from airflow_provider_iterable.engine.vocabulary import Entry, Operation, Outcome, Reply, Request
from airflow_provider_iterable.errors import IterableSyncError, RequestRefused, RequestUnanswered
from airflow_provider_iterable.masking import logger, masked, masked_all, masked_key, masked_name, word

ATEXT = st.characters(categories=["L", "N"]) | st.sampled_from("!#$%&'*+/=?^_`{|}~-.")
LOCALS = st.text(ATEXT, min_size=6, max_size=30).filter(lambda text: "***" not in text and text[0].isalnum())
DOMAINS = st.from_regex(r"[a-z0-9]{4,12}(\.[a-z]{2,6}){1,2}", fullmatch=True)
ADDRESSES = st.builds("{}@{}".format, LOCALS, DOMAINS)
WRITTEN = (
    str,
    str.upper,
    lambda address: address.replace("@", "%40"),
    lambda address: address.replace("@", "%2540"),
    lambda address: quote(address, safe=""),
    lambda address: address.replace("@", "\\u0040"),
    lambda address: address.replace("@", "\uff20"),
    lambda address: address.replace("@", "&#64;"),
    lambda address: json.dumps({address: [address]}),
    lambda address: json.dumps(json.dumps([address])),
    lambda address: f"mailto:{address}?subject=x",
    lambda address: f"<{address}>, ({address}); '{address}' {address}.",
)
"""How an address may be written into a text."""


@pytest.mark.parametrize("written", WRITTEN, ids=map(str, range(len(WRITTEN))))
@given(local=LOCALS, domain=DOMAINS, before=st.sampled_from(["", "field ", "key [", "x=", "a.b."]))
@example(local="o'brien+news", domain="example.com", before="")
@example(local="Ada.Lovelace", domain="example.com", before="field scores.")
def test_an_address_is_masked_however_it_is_written(written: Any, local: str, domain: str, before: str) -> None:
    """Of its two parts no more than two letters each are left."""
    said = masked(before + written(f"{local}@{domain}")).casefold()
    for part in (local[2:], domain[2:]):
        for form in (part, written(part), json.dumps(part)[1:-1], quote(part, safe="")):
            assert form.casefold() not in said
    assert "***@" in said


@given(st.text(st.sampled_from("ab@.*\"'%40\\u ,:[]{}") | st.characters(), max_size=60), st.lists(st.text(max_size=8)))
def test_masking_twice_changes_nothing_more(text: str, names: list[str]) -> None:
    """So words may pass the door as often as they like."""
    once = masked(text)
    assert masked(once) == once
    shown = masked_name(text, names)
    assert masked(shown) == shown


@given(st.text(st.characters(exclude_characters="@\uff20\ufe6b%&\\"), max_size=80))
def test_other_texts_stay_as_they_are(text: str) -> None:
    """Where there is no at sign, and nobody is named, nothing is masked."""
    assert masked(text) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | ADDRESSES,
        lambda inner: st.lists(inner) | st.dictionaries(ADDRESSES, inner),
    )
)
def test_whole_values_are_masked(value: Any) -> None:
    """In members and in their names; the form stays."""
    said = masked_all(value)
    assert type(said) is type(value)
    assert "@" not in json.dumps(said).replace("***@", "")


@pytest.mark.parametrize(
    ("text", "names", "shown"),
    [
        ("field age: integer", (), "field age: integer"),
        ("ada@example.com", (), "ad***@ex***"),
        ("a@x.io", (), "a***@x.***"),
        ("lost: 'ada@example.com'", (), "lost: 'ad***@ex***'"),
        ('"ada lovelace"@example.com', (), "ad***@ex***"),
        ("ada@", (), "ad***@***"),
        ("@property and x @ y", (), "@property and x @ y"),
        ("field scores.user-17: long expected", ("user-17",), "field scores.us***: long expected"),
        ("field scores.USER-17x: long expected", ("user-17",), "field scores.us***x: long expected"),
        ("field scores.42: 142 of 42x", ("42",), "field scores.***: 142 of 42x"),
        ('primary key ["a\\"b-c"]', ('a"b-c',), 'primary key ["a"***"]'),
        ("GET /users/user%2F17", ("user/17",), "GET /users/us***"),
        ("field a", ("", "b"), "field a"),
    ],
)
def test_names_are_masked(text: str, names: tuple[str, ...], shown: str) -> None:
    """Addresses always, other identifiers where it is known whom the text is about; short ones as whole words."""
    assert masked(text, names) == shown


@pytest.mark.parametrize(
    ("name", "mapped", "shown"),
    [
        ("address.city", ("address",), "address.city"),
        ("scores.ada lovelace@x.io", ("scores",), "scores.ad***@x.***"),
        ("scores.ada lovelace@x.io", (), "sc***@x.***"),
        ("ada.l@x.io", ("ada l",), "ad***@x.***"),
        ("scores.Ada Lovelace.4155550188", ("scores",), "scores.Ad***.41***"),
        ("scores.2026-11-30.won", ("scores",), "scores.20***.won"),
        ("scores.***.won", ("scores",), "scores.***.won"),
        ("First Name", ("First Name",), "First Name"),
    ],
)
def test_field_names_keep_what_the_mapping_calls_them(name: str, mapped: tuple[str, ...], shown: str) -> None:
    """A name within a field may be data: with an address in it, it is masked as a whole; other members if they are no
    plain words, for keys that are data may be names and numbers of people."""
    assert masked_name(name, mapped=mapped) == shown


@pytest.mark.parametrize(
    ("key", "names", "identifying", "shown"),
    [
        ("[7]", (), (), "[7]"),
        ('["ada@example.com"]', (), (), '["ad***@ex***"]'),
        ('["acme","ada.lovelace@example.com",7]', (), (), '["acme","ad***@ex***",7]'),
        ('["a@x.io"]', (), (), '["a***@x.***"]'),
        ('["ada lovelace@x.io"]', (), (), '["ad***@x.***"]'),
        ('["acme","user-17"]', (), (1,), '["acme","us***"]'),
        ('["acme","user-17"]', ("user-17",), (), '["acme","us***"]'),
        ("[4711]", (), (0,), '["47***"]'),
        ("[4711]", ("4711",), (), '["47***"]'),
        ('["Ü"]', (), (), '["Ü"]'),
        ('["a part that was cut', (), (0,), "a ***"),
        ("5f1c", (), (), "5f1c"),
    ],
)
def test_keys_are_masked(key: str, names: tuple[str, ...], identifying: tuple[int, ...], shown: str) -> None:
    """The parts that name somebody, by what they look like, whom the row is about, or which column they come from."""
    assert masked_key(key, names, identifying) == shown


def test_codes_are_words() -> None:
    """Whatever else stands where a server says a code may echo what was sent."""
    for text in ("BadApiKey", "error.lists.invalidListId", "Success"):
        assert word(text) == text
    for other in ("Invalid email: ada", "ada@x.io", "user-17", "", None, 7, "x" * 101):
        assert word(other) == ""


def an_operation(**changes: Any) -> Operation:
    """Return an operation about Ada."""
    whole: dict[str, Any] = {
        "key": '["user-17"]', "kind": Kind.ADDED, "call": None, "body": b'{"name":"Ada"}',
        "handles": (("user_id", "user-17"), ("email", "ada@example.com")),
        "remember": Entry(b"", '["user_id","user-17"]'),
    }  # fmt: skip
    return Operation(**{**whole, **changes})


def test_what_became_of_a_row_is_masked_when_it_is_said() -> None:
    """Whoever tells it has nothing to hide: of the person no name is left, nor in a copy."""
    outcome = Outcome("[1]", Kind.ADDED, Fate.REJECTED, Reason.REFUSED, "field a.user-17 of bob@x.io", an_operation())
    assert outcome.detail == "field a.us*** of bo***@x.***"
    assert msgspec.structs.replace(outcome, detail="no user-17").detail == "no us***"
    named = Outcome("[1]", Kind.INVALID, Fate.REJECTED, Reason.REFUSED, "field a.ü-17-x", names=("ü-17-x",))
    assert named.detail == "field a.ü-***"


def test_a_report_keeps_masked_keys_and_texts() -> None:
    """Of a key cut off nothing but its first letters; what the run is about stays as it is."""
    report = Report("sync@home", "run@home", {"list": "a@b"}, identifying=(1,), resend_reason="of ada@example.com")
    for reason, key in ((Reason.CONFLICT, '["acme","user-18","user-17"]'), (Reason.KEY_TOO_LONG, '["long ada.love')):
        report.add(Outcome(key, Kind.ADDED, Fate.REJECTED, reason, "", an_operation()))
    report.accept([an_operation(partial="field user-17")])
    shown = {
        reason: (sample.outcome.key, sample.outcome.detail)
        for reason, samples in report.samples.items()
        for sample in samples
    }
    assert shown == {
        Reason.CONFLICT: ('["acme","us***","us***"]', ""),
        Reason.KEY_TOO_LONG: ("lo***", ""),
        Reason.PARTIAL: ('["us***"]', "field us***"),
    }
    told = report.to_dict()
    assert (told["sync_id"], told["run_id"], told["destination"]) == ("sync@home", "run@home", {"list": "a@b"})
    assert told["resend_reason"] == "of ad***@ex***"


def test_errors_are_masked_when_they_are_made() -> None:
    """Whatever becomes of them: text, arguments, repr."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, IterableSyncError)]
    assert len(kinds) > 10
    for kind in kinds:
        status: Any = [400] if kind in (RequestRefused, RequestUnanswered) else []
        error = kind("no ada@example.com", *status)
        assert str(error) == "no ad***@ex***"
        assert "ada" not in f"{error!r} {error.args}"


def test_what_is_shown_of_nouns_is_nobody() -> None:
    """An error that nobody foresaw may be made of them."""
    operation = an_operation()
    nouns = [
        operation,
        Outcome('["user-17"]', Kind.ADDED, Fate.REJECTED, None, "", operation),
        Request("GET", "/api/users/ada@example.com", "/api/users/{email}", {"email": "ada@example.com"}, b"Ada"),
        Reply(200, b'{"email":"ada@example.com"}', 1.5, request_id="ada"),
        vocabulary.Settled({0: Outcome("user-17", Kind.ADDED, Fate.REJECTED, None, "", operation)}),
        vocabulary.Present(["user-17"], [("user-17", "Ada")], [None]),
        vocabulary.Gone("user-17", Entry(b"", "user-17")),
    ]
    for noun in nouns:
        assert "user-17" not in repr(noun)
        assert "ada" not in repr(noun).lower()
    assert repr(operation).startswith("Operation(key=<11>, kind=added, call=None, body=<14>")


def test_loggers_say_masked_words(caplog: pytest.LogCaptureFixture) -> None:
    """Before any handler hears them, arguments included."""
    log = logger("airflow_provider_iterable.test")
    assert log is logger("airflow_provider_iterable.test")
    with caplog.at_level(logging.DEBUG):
        log.debug("no %s of %d", "ada@example.com", 7)
    assert [record.getMessage() for record in caplog.records] == ["no ad***@ex*** of 7"]


def test_nothing_is_logged_but_through_the_door() -> None:
    """No module has a logger of its own making, or Airflow's; the sandbox and the demo have no people."""
    root = Path(airflow_provider_iterable.__file__).parent
    modules = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in ("sandbox", "demo")]
    assert len(modules) > 40
    found = []
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            ours = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            said = f"{node.value.id}.{node.attr}" if ours else ""  # type: ignore[attr-defined]
            if said in ("logging.getLogger", "self.log", "logging.info", "logging.warning", "traceback.print_exc"):
                found.append(f"{path.relative_to(root)}: {said}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{path.relative_to(root)}: print")
    for command in ("state", "explain"):  # what they print is what they are asked for
        found.remove(f"{command}/__main__.py: print")
    assert sorted(found) == ["api/connections.py: logging.getLogger", "masking.py: logging.getLogger"]


@given(LOCALS, DOMAINS)
def test_the_door_of_names_and_addresses_agree(local: str, domain: str) -> None:
    """An address is shown alike whether it is known whom it names or not, so a reader finds it again."""
    assume('"' not in local)
    address = f"{local}@{domain}"
    (alone,) = json.loads(masked_key(json.dumps([address])))
    assert alone == json.loads(masked_key(json.dumps([address]), (address,)))[0]
