"""The forms of Iterable's answers."""

import math
from typing import Any

import msgspec

from ..limits import Excess
from ..options import Options

JSON = "application/json"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
_PAGE = "<!DOCTYPE html>\n<html>\n<head><title>{0}</title></head>\n<body><h1>{0}</h1></body>\n</html>\n"


class Answer(msgspec.Struct):
    """A response, and for the call log its code, whether anything was written, and about whom.

    `counts` says how many records were accepted and how many were not, where the body does not say it.
    With `drip` it is sent byte by byte, so many seconds apart.
    """

    status: int
    body: bytes
    code: str | None = None
    applied: bool = False
    content_type: str = JSON
    headers: dict[str, str] = {}
    identifiers: list[tuple[str, str]] = []
    drip: float = 0.0
    counts: tuple[int, int] | None = None


def plain(value: Any, *, applied: bool = False) -> Answer:
    """Answer 200 with JSON that has no envelope."""
    return Answer(200, msgspec.json.encode(value), applied=applied)


def success(msg: str = "", params: Any = None, *, applied: bool) -> Answer:
    """Answer 200 in the envelope."""
    answer = refusal(200, "Success", msg, params)
    answer.applied = applied
    return answer


def refusal(status: int, code: str, msg: str, params: Any = None) -> Answer:
    """Answer in the envelope that single calls and errors share."""
    return Answer(status, msgspec.json.encode({"msg": msg, "code": code, "params": params}), code)


def text(status: int, body: str, content_type: str = TEXT) -> Answer:
    """Answer with something that is not JSON."""
    return Answer(status, body.encode(), content_type=content_type)


def page(status: int, title: str) -> Answer:
    """Answer with a page of HTML, as the servers in front of the API do."""
    return text(status, _PAGE.format(title), HTML)


def bad_key(ip: str, endpoint: str) -> Answer:
    """Refuse a key that is missing or unknown."""
    return refusal(401, "BadApiKey", "Invalid API key", {"ip": ip, "endpoint": endpoint})


def key_without_rights(ip: str, endpoint: str, identifier: str, kind: str) -> Answer:
    """Refuse a key that is disabled or may not make this call."""
    params = {"ip": ip, "endpoint": endpoint, "apiKeyIdentifier": identifier, "apiKeyType": kind}
    return refusal(401, "BadApiKey", "Disabled API key or insufficient privileges", params)


def bad_body(endpoint: str, violations: dict[str, str]) -> Answer:
    """Refuse a body of another JSON shape than the endpoint takes."""
    return refusal(400, "BadJsonBody", f"[{endpoint}] Invalid JSON body", violations or None)


def bad_body_error(endpoint: str, violations: dict[str, str]) -> Answer:
    """Refuse a body of another JSON shape in the second form of errors."""
    return error(400, f"[{endpoint}] Invalid JSON body", "BadJsonBody", violations)


def error(status: int, message: str, code: str, data: Any) -> Answer:
    """Answer in the second form of errors, which some endpoints use."""
    word = "NotFound" if status == 404 else "BadRequest"
    body = {"error": word, "message": message, "code": code, "data": data}
    return Answer(status, msgspec.json.encode(body), code)


def too_fast(endpoint: str, excess: Excess, options: Options, *, with_params: bool) -> Answer:
    """Refuse a request over the rate: with numbers in params, or in words, as the endpoint does."""
    reset = excess.reset if options.exact_reset else math.ceil(excess.reset)
    if with_params:
        params = {
            "rateLimitLimit": math.floor(excess.size),
            "rateLimitRemaining": excess.left,
            "rateLimitReset": reset,
        }
        answer = refusal(429, "RateLimitExceeded", "Rate limit exceeded", params)
    else:
        per, unit = _rate_words(excess.per_second)
        where = f"endpoint: {endpoint}, project: {options.project_id} "
        msg = f"Exceeded rate limit of {per} per {unit} for {where}"
        answer = refusal(429, "RateLimitExceeded", msg, {})
    if options.rate_limit_text:
        answer = text(429, "Too Many Requests")
    if options.retry_after_header:
        answer.headers = {"Retry-After": str(math.ceil(excess.reset))}
    return answer


def _rate_words(per_second: float) -> tuple[float, str]:
    """Return a rate as a number per unit of time, of the shortest unit in which it is one at least."""
    for seconds, unit in ((1.0, "second"), (60.0, "minute")):
        if round(per_second * seconds, 3) >= 1:
            return round(per_second * seconds, 3), unit
    return round(per_second * 86400.0, 3), "day"
