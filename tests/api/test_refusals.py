from __future__ import annotations

import json

import msgspec
import pytest

from airflow_provider_iterable.engine.vocabulary import Batch, Reply
from tests.api.conftest import KEY
from tests.api.judging import CATALOGS, EVENTS, LISTS, PRIVACY, call_of, operations, strings, told

SECRETS = {
    "name": "Lovelace",
    "born": "1815-12-10T00:00",
    "phone": "+44 7911 123456",
    "address": {"city": "Ockham", "lines": ["Horsley Towers"]},
}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
@pytest.mark.parametrize("code", ["BadParams", "RequestFieldsTypesMismatched", "ForgottenUserError", "Success", ""])
@pytest.mark.parametrize("name", ["bulk", "delete", "look up", *LISTS, *CATALOGS, *EVENTS, *PRIVACY])
def test_what_a_refusal_echoes_is_not_shown(status: int, code: str, name: str) -> None:
    """Iterable echoes identifiers, values and headers in its texts; verdicts tell code, field, type and shape only."""
    users = [
        {"email": f"user{number}@example.com", "dataFields": SECRETS} for number in range(3 if name == "bulk" else 1)
    ]
    call = call_of(name, users[0])
    echo = json.dumps(users) + " Api-Key: " + KEY
    errors = {
        field: {"expectedType": "long", "offendingValue": SECRETS.get(field), "incomingTypes": ["string"]}
        for field in ("name", "born", "phone", "address.city", "address.lines")
    }
    body = {"msg": echo, "code": code, "params": {"validationErrors": errors, "echo": echo}, "message": echo}
    verdict = call.judge(Batch(call, operations(users, call)), Reply(status, msgspec.json.encode(body)))
    said = told(verdict)
    for secret in ["user0", "user1", "example.com", KEY, *strings(SECRETS)]:
        assert secret not in said
