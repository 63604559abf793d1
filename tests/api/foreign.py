"""Answers that are not Iterable's: of gateways, proxies, load balancers, login pages, and other applications."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.services import Answer

PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome, ada@example.com</body></html>"


def _json(status: int, body: Any, **headers: str) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})


def _page(status: int, body: bytes = PAGE, **headers: str) -> Answer:
    return Answer(status, body, {"Content-Type": "text/html", **headers})


FOREIGN: Mapping[str, Answer] = {
    # 404 of gateways
    "kong, no route": _json(404, {"message": "no Route matched with those values"}),
    "kong, with a request ID": _json(404, {"message": "no Route matched with those values", "request_id": "4be0"}),
    "nginx 404": _page(404, b"<html><head><title>404 Not Found</title></head><center>nginx/1.24.0</center></html>"),
    "envoy 404": Answer(404, b"", {"Server": "envoy"}),
    "istio text 404": Answer(404, b"fault filter abort"),
    "traefik 404": Answer(404, b"404 page not found\n", {"Content-Type": "text/plain"}),
    "kubernetes ingress 404": Answer(404, b"default backend - 404"),
    "kubernetes API 404": _json(404, {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}),
    "aws api gateway 404": _json(404, {"message": "Not Found"}),
    "aws s3 404": _page(404, b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>no key</Message></Error>"),
    "google 404": _json(404, {"error": {"code": 404, "message": "Method not found.", "status": "NOT_FOUND"}}),
    "apigee 404": _json(404, {"fault": {"faultstring": "Unable to identify proxy", "detail": {"errorcode": "x"}}}),
    "azure api management 404": _json(404, {"statusCode": 404, "message": "Resource not found"}),
    "azure 404": _json(404, {"error": {"code": "ResourceNotFound", "message": "The resource was not found."}}),
    "azure 404, code and message": _json(404, {"code": "NotFound", "message": "Not found."}),
    "cloudflare 404": _page(404, b"<html>error code: 1000</html>", Server="cloudflare"),
    "heroku 404": _page(404, b"<html>No such app</html>"),
    "express 404": _page(404, b"<pre>Cannot DELETE /api/users/ada@example.com</pre>"),
    "spring 404": _json(404, {"timestamp": "2026", "status": 404, "error": "Not Found", "path": "/api/users/x"}),
    "django 404": _json(404, {"detail": "Not found."}),
    "fastapi 404": _json(404, {"detail": "Not Found"}),
    "laravel 404": _json(404, {"message": "User not found", "exception": "NotFoundHttpException"}),
    "problem details 404": _json(404, {"type": "about:blank", "title": "Not Found", "status": 404}),
    "tyk 404": _json(404, {"error": "Not Found"}),
    "json-rpc 404": _json(
        404, {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": None}
    ),
    "another API's user 404": _json(404, {"error": "UserNotFound", "message": "No user with that id exists!"}),
    "another API's words 404": _json(404, {"code": 404, "msg": "User does not exist."}),
    "code without words 404": _json(404, {"code": "UnknownUserIdError"}),
    "kong-like catalog 404": _json(404, {"message": "Catalog not found"}),
    "text 404": Answer(404, b"User does not exist"),
    "array 404": _json(404, [{"message": "not found"}]),
    "null 404": _json(404, None),
    "object 404": _json(404, {}),
    "iterable-like code without msg 404": _json(404, {"code": "NotFound"}),
    "iterable's form, no words 404": _json(404, {"msg": "not found", "code": "BadParams", "params": None}),
    "iterable's form, other words 404": _json(404, {"msg": "no such page", "code": "PageNotFound", "params": None}),
    # 200 of somebody else
    "login page 200": _page(200),
    "captive portal 200": _page(200, b"<HTML><BODY>Success</BODY></HTML>"),
    "status ok 200": _json(200, {"status": "ok"}),
    "message Success 200": _json(200, {"message": "Success"}),
    "code Success 200": _json(200, {"code": "Success"}),
    "code and message Success 200": _json(200, {"code": "Success", "message": "Success"}),
    "code in capitals 200": _json(200, {"code": "SUCCESS", "msg": "success"}),
    "code 0 200": _json(200, {"code": 0, "msg": "success", "data": None}),
    "code 200 200": _json(200, {"code": 200, "msg": "success"}),
    "success true 200": _json(200, {"success": True}),
    "success count true 200": _json(200, {"successCount": True, "failCount": False}),
    "success count alone 200": _json(200, {"successCount": 2}),
    "counts as texts 200": _json(200, {"successCount": "2", "failCount": "0"}),
    "not authenticated 200": _json(200, {"msg": "please log in", "code": "Unauthorized", "params": None}),
    "guest user 200": _json(200, {"user": {"id": 7, "name": "guest"}}),
    "no user 200": _json(200, {"user": None}),
    "empty user 200": _json(200, {"user": {}}),
    "disallowed 200": _json(200, {"message": "POST is disallowed from tracking"}),
    "array 200": _json(200, []),
    "object 200": _json(200, {}),
    "null 200": _json(200, None),
    "true 200": _json(200, True),
    "number 200": _json(200, 1),
    "text 200": Answer(200, b"OK"),
    "quoted text 200": _json(200, "Success"),
    "nothing 200": Answer(200, b""),
    "blank 200": Answer(200, b" \n"),
    "cut off 200": Answer(200, b'{"msg":"","code":"Succ'),
    "201 nothing": Answer(201, b""),
    "201 status": _json(201, {"status": "created"}),
    "202 status": _json(202, {"status": "queued"}),
    "202 page": _page(202),
    "203 page": _page(203),
    "204": Answer(204, b""),
    "206 object": _json(206, {}),
    # Elsewhere
    "301": Answer(301, b"", {"Location": "https://example.com/"}),
    "302 login": _page(302, Location="/login"),
    "302 json": _json(302, {"msg": "", "code": "Success", "params": None}, Location="/login"),
    "303": Answer(303, b"", {"Location": "/login"}),
    "304": Answer(304, b""),
    "307 portal": Answer(307, b"", {"Location": "http://portal.example.com/"}),
    "308": Answer(308, b"", {"Location": "https://example.com/api"}),
    # Refusals of others
    "nginx 400": _page(400, b"<html><center>400 Bad Request</center></html>"),
    "aws 400": _json(400, {"message": "Bad Request"}),
    "text 400": Answer(400, b"No user with these credentials"),
    "another API's words 400": _json(400, {"error": "No user with that id exists!"}),
    "page 400": _page(400, b"<html>No user with that id exists!</html>"),
    "kong 401": _json(401, {"message": "No API key found in request"}),
    "credentials 401": _json(401, {"message": "No user with these credentials"}),
    "iterable's form 401": _json(401, {"msg": "User does not exist", "code": "BadParams", "params": None}),
    "proxy 401": _page(401),
    "waf 403": _page(403, b"<html>Attention Required! Cloudflare</html>", Server="cloudflare"),
    "aws 403": _json(403, {"message": "Missing Authentication Token"}),
    "aws waf 403": _json(403, {"message": "Forbidden"}),
    "user 403": _json(403, {"message": "user does not exist"}),
    "nginx 405": _page(405, b"<html>405 Not Allowed</html>"),
    "express 405": _json(405, {"error": "Method Not Allowed"}),
    "proxy 407": _page(407),
    "409": _json(409, {"message": "Conflict"}),
    "410": _page(410, b"<html>Gone</html>"),
    "418": Answer(418, b"teapot"),
    "421": Answer(421, b""),
    "451": _page(451),
    "502": _page(502, b"<html>502 Bad Gateway</html>"),
    "503": _json(503, {"message": "failure to get a peer from the ring-balancer"}),
    "alb 503": _page(503),
    "504": _json(504, {"message": "Endpoint request timed out"}),
    "user 500": _json(500, {"message": "no users with this name"}),
    "portal 511": _page(511),
}
"""What stands between a worker and Iterable, or in its place, answers so; some of it was chosen to look alike."""
