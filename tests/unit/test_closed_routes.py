"""Every route of the whole application, over a real socket: 401 without a token, however it is asked for."""

import http.client
from urllib.parse import urlsplit

import pytest

from autoalign.serving.access import OPEN_PATHS
from autoalign.serving.app import routes
from tests.platforms import open_platform
from tests.whole_endpoint import parts, whole_endpoint

PATHS = sorted(path.replace("{", "").replace("}", "") for path in routes(parts(None)).openapi()["paths"])
CLOSED = ["/", "/console/files", *(path for path in PATHS if path not in OPEN_PATHS)]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
HOSTS = ("test", "localhost", "localhost/healthz", "127.0.0.1:8000", "healthz", "")


def spellings(path):
    """The path as it is, and as it may be written to get past a guard."""
    encoded = "".join(f"%{ord(letter):02x}" for letter in path[1:])
    return [
        *(path, f"{path}/", f"{path}//", f"/{path}", f"{path}?token=x", f"{path}%2f", f"{path}%00"),
        *(f"/{encoded}", f"/%2e{path}", f"/healthz/..{path}", f"/healthz/%2e%2e{path}", f"/readyz;{path}"),
        *(path.upper(), f"http://localhost{path}", f"http://healthz{path}"),
    ]


@pytest.fixture(scope="module")
def status(tmp_path_factory):
    """Asks over a connection that is kept."""
    platform = open_platform(tmp_path_factory.mktemp("platform"))
    with whole_endpoint(platform) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

        def ask(method, target, host="test"):
            connection.putrequest(method, target, skip_host=True)
            connection.putheader("Host", host)
            connection.endheaders()
            answer = connection.getresponse()
            answer.read()
            return answer.status

        yield ask
        connection.close()


def test_the_routes_are_all_there():
    assert {"/v1/chat/completions", "/v1/files", "/v1/batches", "/api/jobs", "/metrics", "/"} <= set(CLOSED)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_and_no_spelling_of_a_path_opens_a_route(status, method):
    answers = {target: status(method, target) for path in CLOSED for target in spellings(path)}
    assert {target: code for target, code in answers.items() if code != 401} == {}


@pytest.mark.parametrize("host", HOSTS)
def test_no_host_opens_a_route(status, host):
    assert {path: code for path in CLOSED if (code := status("GET", path, host)) != 401} == {}


def test_what_is_no_route_is_closed_too(status):
    assert {status("GET", path) for path in ("/docs", "/openapi.json", "/static/x", "/console", "/v2")} == {
        401
    }


@pytest.mark.parametrize("path", OPEN_PATHS)
def test_the_open_ones_are_open(status, path):
    assert status("GET", path) == 200
