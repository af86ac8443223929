"""Every route is closed but the open ones, however a path is written."""

import asyncio
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoalign.serving.access import Principal, RequireToken, principal_of
from autoalign.serving.token_cache import TokenCache

READER = Principal("tok_1", "ada", frozenset({"infer"}))
ADMIN = Principal("tok_2", "root", frozenset({"admin"}))
SCOPES = {"/v1": "infer", "/v1/files": "jobs", "/api": "jobs"}


class Book:
    def find(self, token):
        return {"reader": READER, "root": ADMIN}.get(token)


class Request:
    def __init__(self, scope):
        self.scope = scope


def ask(path, *, method="GET", headers=(), raw=None, kind="http", book=None):
    """(status, principal that the application saw, headers) of one request."""
    seen, sent = [], []

    async def app(scope, receive, send):
        seen.append(scope.get("autoalign.principal"))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {
        "type": kind,
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode() if raw is None else raw,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    asyncio.run(RequireToken(app, book or Book(), scopes=SCOPES)(scope, None, send))
    return sent[0].get("status", sent[0]["type"]), seen, dict(sent[0].get("headers", ()))


def bearer(token):
    return [("authorization", f"Bearer {token}")]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_open_paths_need_no_token(path):
    assert ask(path)[0] == 200


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "ABC"]
)
def test_no_method_opens_a_route(method):
    assert ask("/v1/models", method=method) == (401, [], ask("/v1/models")[2])


@pytest.mark.parametrize(
    "path",
    [
        *("/", "", "//healthz", "/healthz/", "/healthz//", "/./healthz", "/v1/../healthz", "/%68ealthz"),
        *("/healthz%2f", "/healthz%00", "/HEALTHZ", "/healthz;x=1", "/healthz/../v1/models", "/metrics"),
        "http://localhost/healthz",
    ],
)
def test_no_spelling_opens_a_route(path):
    assert ask(path)[0] == 401


@given(st.text(max_size=40), st.binary(max_size=40))
def test_only_the_very_open_paths_are_open(path, raw):
    status = ask("/", raw=raw)[0] if path == "/" else ask(path.replace("%", ""), raw=raw)[0]
    assert status == 401 or (path in ("/healthz", "/readyz") and raw == path.encode())


@given(st.text(alphabet="healthzrdy/%.;2f0 ", max_size=14))
def test_paths_near_the_open_ones_stay_closed(tail):
    assert ask(f"/healthz{tail}")[0] == (200 if tail == "" else 401)


def test_a_host_header_opens_nothing():
    assert ask("/v1/models", headers=[("host", "localhost/healthz")])[0] == 401


def test_a_valid_token_is_let_through_and_named():
    assert ask("/v1/models", headers=bearer("reader"))[:2] == (200, [READER])


@pytest.mark.parametrize(
    "headers",
    [
        bearer("wrong"),
        bearer(""),
        bearer("réader"),
        [("authorization", "Basic reader")],
        [("authorization", "reader")],
        bearer("reader") + bearer("root"),
        [("x-api-key", "reader")],
    ],
)
def test_what_is_no_valid_token_is_401(headers):
    status, seen, answer = ask("/v1/models", headers=headers)
    assert (status, seen, answer[b"www-authenticate"]) == (401, [], b"Bearer")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *(("/v1/chat/completions", 200), ("/v1/files", 403), ("/v1/files/", 403), ("/v1/files/x", 403)),
        *(("/v1/filesystem", 200), ("/api/jobs", 403), ("//api//jobs", 403), ("/v1/../api/jobs", 403)),
        *(("/%61pi/jobs", 403), ("/", 200)),
    ],
)
def test_the_longest_prefix_says_which_scope_is_needed(path, status):
    assert ask(path, headers=bearer("reader"))[0] == status


def test_admin_opens_everything():
    assert ask("/api/jobs", headers=bearer("root"))[0] == 200


def test_a_websocket_without_token_is_closed():
    assert ask("/healthz", kind="websocket")[:2] == ("websocket.close", [])


def test_principal_of_reads_the_scope():
    assert principal_of(Request({"autoalign.principal": ADMIN})) == ADMIN


def test_a_token_is_looked_up_once_a_second_and_closed_within_one():
    now, asked, valid = [100.0], [], {"reader": READER}

    class Counted:
        def find(self, token):
            asked.append(token)
            return valid.get(token)

    cache = TokenCache(Counted(), clock=lambda: now[0])

    async def find(*tokens):
        return [await cache.find(token) for token in tokens]

    assert asyncio.run(find("reader", "reader", "other", "other")) == [READER, READER, None, None]
    assert asked == ["reader", "other", "other"]
    valid.clear()
    now[0] += 1.0
    assert asyncio.run(find("reader")) == [None]
