"""The items of purchases and carts, and what else of an event has a form of its own; knows no row and no request."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct

from airflow_provider_iterable.api.field_types import coerce
from airflow_provider_iterable.api.values import BadValue, Unreadable, names_of, shape
from airflow_provider_iterable.masking import masked_name

FIRST_MILLISECONDS, FIRST_MICROSECONDS, FIRST_NANOSECONDS = 10**11, 10**14, 10**17
"""The smallest numbers that are times in these units: within the years 1973 to 5138 there is no other reading."""
_LAST_SECOND = 253_402_300_799
_MAX_ID_BYTES = 512
_EVENT_ID = re.compile(r"[A-Za-z0-9-]+", re.ASCII).fullmatch
_LONG = 2**63
_INT = 2**31
_NUMBER = re.compile(r"-?\d{9,}(\.\d+)?", re.ASCII).fullmatch
"""A number that is a time as text; eight digits are a date."""

Render = Callable[[Any], Any]


class Item(
    Struct,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"image_url": "imageUrl", "data_fields": "dataFields"},
    gc=False,
):
    """A line of a purchase or a cart, as Iterable takes it."""

    id: Annotated[str, Meta(pattern=r"\S")]
    name: str
    price: float
    quantity: Annotated[int, Meta(ge=-_LONG, le=_LONG - 1)]
    sku: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    image_url: str | None = None
    url: str | None = None
    data_fields: dict[str, Any] | None = None


_TYPES = {
    "id": "text",
    "name": "string",
    "price": "double",
    "quantity": "long",
    "sku": "text",
    "description": "string",
    "categories": "array of strings",
    "imageUrl": "string",
    "url": "string",
    "dataFields": "object",
}
_REQUIRED = ("id", "name", "price", "quantity")
_decode = msgspec.json.Decoder(list[Item]).decode


def items_of(value: Any, render: Render) -> list[Item]:
    """Return items from JSON text, from an array of objects or structs, or from what a driver made of one.

    :param render: turns what drivers return into JSON values
    :raises BadValue: with the position of the item, from 1, and the field
    """
    try:
        found = _decode(value) if isinstance(value, str | bytes) else msgspec.convert(value, list[Item])
        finite = all(map(math.isfinite, [item.price for item in found]))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        finite = False
    if not finite:
        found = _one_by_one(value, render)
    for number, item in enumerate(found, 1):
        if item.data_fields is not None:
            item.data_fields = _field(number, "dataFields", item.data_fields, render)
    return found


def _one_by_one(value: Any, render: Render) -> list[Item]:
    """Look at each field of each item: to convert what loses nothing by it, and to say what is wrong."""
    if isinstance(value, str | bytes):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise BadValue("text that is not JSON") from None
    if not isinstance(value, list | tuple) or names_of(value):
        raise BadValue(f"an array of objects expected, {shape(value)}")
    return [_item(number, _mapping(number, item), render) for number, item in enumerate(value, 1)]


def _mapping(number: int, item: Any) -> Mapping[str, Any]:
    fields = names_of(item)
    if fields:
        return dict(zip(fields, item, strict=True))
    if not isinstance(item, Mapping):
        raise BadValue(f"item {number}: an object expected, {shape(item)}")
    return item


def _item(number: int, item: Mapping[str, Any], render: Render) -> Item:
    unknown = [name for name in item if name not in _TYPES]
    if unknown:
        raise BadValue(
            f"item {number}, field {masked_name(unknown[0])}: Iterable's items have no such field; what is your own "
            "goes into the item's dataFields"
        )
    missing = [name for name in _REQUIRED if item.get(name) is None]
    if missing:
        raise BadValue(f"item {number}, field {missing[0]}: missing")
    fields = {name: _field(number, name, value, render) for name, value in item.items() if value is not None}
    return msgspec.convert(fields, Item)


def _field(number: int, name: str, value: Any, render: Render) -> Any:
    expected = _TYPES[name]
    try:
        found = text_id(value) if expected == "text" else _typed(render(value), expected)
    except BadValue as error:
        raise BadValue(f"item {number}, field {name}: {expected} expected, {error}") from None
    except RecursionError:
        raise BadValue(f"item {number}, field {name}: nested too deeply") from None
    if name == "id" and not found.strip():
        raise BadValue(f"item {number}, field id: blank")
    return found


def _typed(value: Any, expected: str) -> Any:
    if expected == "array of strings":
        if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
            raise BadValue(shape(value))
        return value
    if isinstance(value, list):
        raise BadValue(shape(value))
    return coerce(value, expected)


def text_id(value: Any) -> str:
    """Return an ID as text: numbers without a fraction and UUIDs are welcome.

    :raises BadValue: it identifies nothing
    """
    if type(value) is not str:
        if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int | UUID):
            raise BadValue(shape(value))
        if isinstance(value, int) and not -_LONG <= value < _LONG:
            raise BadValue("an integer beyond 64 bits")
        value = str(value)
    return str(value)


def event_id(value: Any) -> str:
    """Return the ID of a custom event.

    :raises BadValue: it is over 512 bytes, or has others than letters, digits and dashes
    """
    text = purchase_id(value)
    if _EVENT_ID(text) is None:
        raise BadValue(f"only letters, digits and dashes are allowed, {shape(text)}")
    return text


def purchase_id(value: Any) -> str:
    """Return the ID of a purchase.

    :raises BadValue: it is blank, or over 512 bytes
    """
    text = text_id(value)
    if not text.strip():
        raise BadValue("blank")
    if len(text) > _MAX_ID_BYTES or len(text.encode(errors="replace")) > _MAX_ID_BYTES:
        raise BadValue(f"longer than {_MAX_ID_BYTES} bytes")
    return text


def event_name(value: Any) -> str:
    """Return the name of an event.

    :raises BadValue: it is blank, or no text
    """
    if not isinstance(value, str):
        raise BadValue(shape(value))
    if not value.strip():
        raise BadValue("blank")
    return value


def seconds(value: Any, zone: tzinfo = UTC) -> Any:
    """Return a time as whole seconds since 1970, ``UNSET`` when it is empty.

    Takes date-times and dates, ISO text, and numbers of seconds, milli-, micro- or nanoseconds.

    :param zone: the zone of what names none
    :raises BadValue: it is no time
    """
    if isinstance(value, str):
        value = _read(value)
    if value is None:
        return UNSET
    try:
        if isinstance(value, datetime):
            return math.floor((value if value.tzinfo else value.replace(tzinfo=zone)).timestamp())
        if isinstance(value, date):
            return math.floor(datetime.combine(value, time(), zone).timestamp())
    except (OverflowError, ValueError):
        raise BadValue("a date beyond the years 1 to 9999") from None
    if isinstance(value, Unreadable):
        raise BadValue(value.why)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise BadValue(f"a time expected, {shape(value)}")
    return _epoch(value)


def _epoch(value: float | Decimal) -> int:
    try:
        whole = math.floor(value)
        steps = sum(abs(whole) >= first for first in (FIRST_MILLISECONDS, FIRST_MICROSECONDS, FIRST_NANOSECONDS))
        found = whole // int(1000**steps)
    except (ArithmeticError, ValueError):
        raise BadValue("a number that is infinite or none") from None
    if _is_day(whole):
        raise BadValue(
            f"a number that looks like a day or a month, {shape(str(whole))}: have the model make a date of it"
        )
    if abs(found) > _LAST_SECOND:
        raise BadValue("a number beyond the year 9999")
    return found


def _is_day(number: int) -> bool:
    """Whether a number has the digits of a day, of one with a time, or of a month between 1900 and 2100.

    As seconds a day would be in 1970 to 1973, as milliseconds one with a time from 2286 on. Other numbers of six
    digits are seconds.
    """
    text = str(number)
    form = {6: "%Y%m", 8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}.get(len(text))
    if form is None or (len(text) == 6 and not "1900" <= text[:4] <= "2100"):
        return False
    try:
        return bool(datetime.strptime(text, form))
    except ValueError:
        return False


def _read(text: str) -> Any:
    text = text.strip()
    if not text:
        return None
    if _NUMBER(text):  # first, for thirteen digits pass for a date and a time without separators
        return Decimal(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadValue(f"a time expected, {shape(text)}") from None


def number(value: Any, render: Render) -> float:
    """Return an amount.

    :raises BadValue: it is null, or no number
    """
    rendered = render(value)
    if rendered is None or isinstance(rendered, list):
        raise BadValue(f"a number expected, {shape(rendered)}")
    try:
        return float(coerce(rendered, "double"))
    except BadValue as error:
        raise BadValue(f"a number expected, {error}") from None


def attribution(value: Any, render: Render, short: bool) -> Any:
    """Return the ID of a campaign or template, ``UNSET`` when it is empty.

    :param short: whether it has 32 bits
    :raises BadValue: it is no whole number
    """
    rendered = render(value)
    if rendered is None or rendered == "":
        return UNSET
    try:
        found = coerce(rendered, "long")
    except BadValue as error:
        raise BadValue(f"a whole number expected, {error}") from None
    if not isinstance(found, int) or (short and not -_INT <= found < _INT):
        raise BadValue(f"a whole number of {32 if short else 64} bits expected")
    return found
