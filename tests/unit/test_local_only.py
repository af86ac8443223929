"""Without tokens, what a browser brings from elsewhere is refused."""

import pytest

from autoalign.config.serve import ServeConfig
from autoalign.serving.app import Parts, build_app
from autoalign.serving.local_only import LocalOnly
from autoalign.serving.metrics import Metrics
from tests.unit.asgi_calls import ask, ok

HERE = ("host", "127.0.0.1:8000")


def status(*headers, bound="127.0.0.1"):
    return ask(LocalOnly(ok, bound), "/v1/files", method="POST", headers=headers).status


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "127.9.9.9:1", "localhost:8000", "LocalHost", "[::1]:8000", "[::1]"],
)
def test_this_machines_names_are_answered(host):
    assert status(("host", host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.org", "evil.org:8000", "localhost.evil.org", "127.0.0.1.evil.org", "127.0.0.1@evil.org", ""),
        *("10.0.0.1:8000", "0.0.0.0", "127.0.0.1:8000:1", "[::1]evil.org", "[::2]:8000", "testserver"),
    ],
)
def test_a_name_that_was_made_to_point_here_is_refused(host):
    assert status(("host", host)) == 403


def test_the_address_that_it_listens_on_is_answered():
    assert status(("host", "10.0.0.1:8000"), bound="10.0.0.1") == 200


def test_two_hosts_are_refused_and_none_is_no_browser():
    assert (status(HERE, ("host", "localhost")), status()) == (403, 200)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        *(("http://127.0.0.1:8000", 200), ("http://evil.org", 403), ("null", 403), ("", 403)),
        *(("http://127.0.0.1:3000", 403), ("http://127.0.0.1", 403), ("http://127.0.0.1:8000.evil.org", 403)),
    ],
)
def test_a_page_of_another_origin_is_refused(origin, expected):
    assert status(HERE, ("origin", origin)) == expected


@pytest.mark.parametrize(("book", "expected"), [(None, 403), ("a book", 401)])
def test_the_whole_application_looks_at_it_where_there_are_no_tokens(book, expected):
    config = ServeConfig.build({"model_roots": ["x"]})
    app = build_app(Parts(config, None, None, Metrics(), None, book))
    answer = ask(app, "/metrics", headers=[("host", "evil.org")])
    assert answer.status == expected
    assert answer.json["error"]["code"] == ("not_local" if book is None else "invalid_api_key")
