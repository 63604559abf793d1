"""Masks people in texts: everything that is logged, raised or reported about rows passes through here.

Masked is whatever looks like an email address, wherever it stands, and whatever a caller says that a person is called
by. What is left finds the row again for those who have the data: ``ad***@ex***``, ``us***``. Masking twice changes
nothing more, so texts may pass as often as they like.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

_AT = re.compile(r"@|\uff20|\ufe6b|%(?:25)*40|\\+u(?:0040|ff20|fe6b)|&#0*64;|&#x0*40;|&commat;", re.IGNORECASE)
"""An at sign, also as URLs, JSON and HTML write it."""
_TOKEN = re.compile(r"[^\s\"\[\](),;:<>]+")
"""As far as an address reaches at most, unless its local part is quoted."""
_QUOTED = re.compile(r"\"([^\"\n]*)\"(?=@)")
_AROUND = "'`{}|\\"
_MASKED = re.compile(r"(?:.*\.)?[^.]{0,2}\*\*\*@.{0,2}\*\*\*[.:]?")
"""A masked address, within the fields that it is in."""
_PLAIN = re.compile(r"[A-Za-z_][\w$:/-]*")
"""What the name of a member of an object looks like."""
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")
SHORT_NAME = 5
"""Shorter names are looked for as words of their own only: they may be parts of other words by chance."""


def masked(text: str, names: Iterable[str] = ()) -> str:
    """Return a text with addresses masked, and these names.

    :param names: what the people are called whom the text is about
    """
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = _without(text, name)
    if _AT.search(text) is None:
        return text
    text = _QUOTED.sub(lambda found: _shown(found[1].rstrip("\\")), _AT.sub("@", text))
    return _TOKEN.sub(lambda found: _address(found[0]), text)


def masked_name(text: str, names: Iterable[str] = (), mapped: Collection[str] = ()) -> str:
    """Return the name of a field, which data may have made, as one thing: blanks and quotes end no address in it.

    :param mapped: what the mapping calls fields; the name of one stays before the names within it
    """
    top, dot, rest = text.partition(".")
    if dot and top in mapped:
        return f"{top}.{'.'.join(map(_member, masked_name(rest, names).split('.')))}"
    text = masked(text, names)
    return _hidden(text) if _AT.search(text) else text


def _member(name: str) -> str:
    """Return the name of a member of an object as it may be shown: where keys are data, they may name people."""
    return name if _PLAIN.fullmatch(name) or "***" in name else _hidden(name)


def masked_key(key: str, names: Collection[str] = (), identifying: Collection[int] = ()) -> str:
    """Return a key text with its parts masked that name people.

    :param names: what the person is called
    :param identifying: which parts are identifiers, whatever they look like
    """
    try:
        parts = json.loads(key)
    except ValueError:
        parts = None
    if not isinstance(parts, list):  # cut off, or no key text
        return _hidden(key.strip("[]\"'")) if identifying else masked(key, names)
    called = {name.casefold() for name in names}
    shown = []
    for number, part in enumerate(parts):
        whole = number in identifying or str(part).casefold() in called
        shown.append(_hidden(str(part)) if whole else masked_name(part, names) if isinstance(part, str) else part)
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def masked_all(value: Any) -> Any:
    """Return a JSON value with the addresses in all its texts masked, in names of members as well."""
    match value:
        case str():
            return masked(value)
        case Mapping():
            return {masked_all(name): masked_all(member) for name, member in value.items()}
        case list() | tuple():
            return [masked_all(member) for member in value]
    return value


def word(text: object) -> str:
    """Return a text that Iterable sent if it is one word, such as a code; anything else may hold values."""
    return text if isinstance(text, str) and _WORD.fullmatch(text) else ""


def _without(text: str, name: str) -> str:
    """Mask a name, also as JSON and URLs write it."""
    forms = {name}
    if "\\" in text:
        forms.update((json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1]))
    if "%" in text:
        forms.add(quote(name, safe=""))
    for form in forms:
        if form.casefold() in text.casefold():
            edges = (r"(?<![^\W_])", r"(?![^\W_])") if len(form) < SHORT_NAME else ("", "")
            shown = _hidden(name)
            shown_as_it_is = shown.replace("\\", r"\\")
            text = re.sub(re.escape(form).join(edges), shown_as_it_is, text, flags=re.IGNORECASE)
    return text


def _hidden(text: str) -> str:
    """Mask a whole text that names somebody."""
    found = _AT.search(text)
    if found is None:
        return _shown(text) if len(text) > 2 else "***"
    return f"{_shown(text[: found.start()])}@{_shown(text[found.end() :])}"


def _shown(text: str) -> str:
    return f"{text[:2].removesuffix('*').removesuffix('*')}***"


def _address(token: str) -> str:
    if _AT.search(token) is None or _MASKED.fullmatch(token):
        return token
    inner = token.strip(_AROUND)
    start = token.index(inner)
    found = _AT.search(inner)
    if found is None or found.start() == 0:  # nobody before the sign
        return token
    return token[:start] + _hidden(inner) + token[start + len(inner) :]


class _MaskingFilter(logging.Filter):
    """Masks the messages of a logger before any handler gets them."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = masked(record.getMessage()), None
        return True


_masking_filter = _MaskingFilter()


def logger(name: str) -> logging.Logger:
    """Return the logger of a module, which masks its messages; all modules of the package log through it."""
    found = logging.getLogger(name)
    found.addFilter(_masking_filter)
    return found
