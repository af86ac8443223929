"""Rate limits, waits and the choice between URLs: arithmetic on a clock that the tests hold."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError
from autoalign.sampling.engines import _endpoints
from autoalign.sampling.engines._endpoints import Endpoints, retry_after
from autoalign.sampling.engines._pace import Pace, backoff
from autoalign.sampling.engines._serve_app import urls_in
from autoalign.sampling.engines._spread import Place, least_loaded
from autoalign.sampling.engines.base import EngineDead, EngineOptions
from autoalign.sampling.setup import prepare_model


def test_requests_are_spaced_so_that_a_minute_holds_no_more_than_the_limit() -> None:
    pace = Pace(per_minute=120)
    assert [pace.reserve(1, now=10.0) for _ in range(4)] == [0, 0.5, 1.0, 1.5]


def test_time_that_passed_unused_is_not_saved_up() -> None:
    pace = Pace(per_minute=60)
    pace.reserve(1, now=0.0)
    assert [pace.reserve(1, now=100.0) for _ in range(2)] == [0, 1.0]


def test_tokens_that_were_booked_and_not_used_come_back() -> None:
    """600 a minute are 10 a second: 100 booked hold for 10 s, 30 used for 3 s."""
    pace = Pace(per_minute=600)
    pace.reserve(100, now=0.0)
    pace.give_back(70)
    assert pace.reserve(1, now=0.0) == pytest.approx(3.0)


def test_without_a_limit_nothing_waits() -> None:
    pace = Pace(None)
    assert [pace.reserve(10**9, now=0.0) for _ in range(2)] == [0, 0]


def test_waits_double_up_to_a_minute_and_half_of_each_is_chance() -> None:
    assert [backoff(n, lambda: 1.0) for n in (0, 1, 2, 20)] == [0.5, 1.0, 2.0, 60.0]
    assert backoff(2, lambda: 0.0) == 1.0


@pytest.mark.parametrize(("urls", "waits"), [(1, [0, 1, 2]), (2, [0, 1]), (3, [0])])
def test_after_every_url_was_tried_all_get_time(
    monkeypatch: pytest.MonkeyPatch, urls: int, waits: list[int]
) -> None:
    """Four tries that are answered 429 without `Retry-After`."""
    openai, httpx = pytest.importorskip("openai"), pytest.importorskip("httpx")
    waited: list[int] = []

    def wait(number: int) -> float:
        waited.append(number)
        return 0.0

    async def refuse(client: Any) -> Any:
        response = httpx.Response(429, request=httpx.Request("POST", "http://here/v1"))
        raise openai.RateLimitError("slow down", response=response, body=None)

    async def ask() -> None:
        endpoints = Endpoints(EngineOptions("m", max_retries=3), [f"http://h{n}/v1" for n in range(urls)])
        try:
            await endpoints.call(refuse, booked=0)
        finally:
            await endpoints.close()

    monkeypatch.setattr(_endpoints, "backoff", wait)
    with pytest.raises(EngineDead, match="429"):
        asyncio.run(ask())
    assert waited == waits


def test_the_place_with_the_fewest_requests_in_flight_is_next() -> None:
    places = [Place("a", None, in_flight=3), Place("b", None, in_flight=1)]
    assert least_loaded(places, now=0.0) is places[1]


def test_a_dead_place_is_left_out_and_tried_again_after_a_growing_rest() -> None:
    dead, other = Place("a", None), Place("b", None, in_flight=9)
    dead.failed(now=100.0)
    assert least_loaded([dead, other], now=100.1) is other
    assert least_loaded([dead, other], now=100.6) is dead
    first = dead.rests_until - 100.0
    dead.failed(now=200.0)
    assert 0.25 <= first <= 0.5 <= dead.rests_until - 200.0 <= 1.0


def test_requests_that_fail_together_count_as_one_failure() -> None:
    place = Place("a", None)
    for _ in range(32):
        place.failed(now=0.0)
    assert place.failures == 1


def test_nobody_is_asked_while_all_rest() -> None:
    place = Place("a", None)
    place.rest(now=0.0, seconds=5.0)
    assert least_loaded([place], now=4.9) is None
    assert least_loaded([place], now=5.0) is place


def test_a_request_goes_elsewhere_after_a_failure_where_it_can() -> None:
    places = [Place("a", None), Place("b", None, in_flight=5)]
    assert least_loaded(places, 0.0, avoid=places[0]) is places[1]
    assert least_loaded(places[:1], 0.0, avoid=places[0]) is places[0]


def test_retry_after_is_read_as_seconds_milliseconds_or_a_date() -> None:
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)
    assert retry_after({"retry-after": date}) == pytest.approx(3600, abs=60)
    assert retry_after({}) is None and retry_after({"retry-after": "soon"}) is None


DETAILS = {
    "http_options": {"port": 8000, "root_path": ""},
    "applications": {
        "llm": {"route_prefix": "/"},
        "other": {"route_prefix": "/b"},
        "own": {"route_prefix": None},
    },
    "proxies": {
        "n1": {"node_ip": "10.0.0.2", "status": "HEALTHY"},
        "n2": {"node_ip": "10.0.0.1", "status": "HEALTHY"},
        "n3": {"node_ip": "10.0.0.3", "status": "UNHEALTHY"},
    },
}


def test_a_serve_application_is_asked_at_every_proxy_that_is_up() -> None:
    """Keys as in ray.serve.schema.ServeInstanceDetails."""
    assert urls_in(DETAILS, "llm") == ("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1")
    assert urls_in(DETAILS, "other")[0] == "http://10.0.0.1:8000/b/v1"
    with pytest.raises(
        ConfigError, match=r"no application 'lm'.*did you mean 'llm'.*there are: llm, other, own"
    ):
        urls_in(DETAILS, "lm")
    with pytest.raises(ConfigError, match="give the address it listens on with --base-url"):
        urls_in(DETAILS, "own")


def config(**values: object) -> InferConfig:
    return InferConfig.build({"test_file": "q.jsonl", "model_name": "m", "backend": "openai", **values})


def test_a_replica_keeps_its_share_of_the_limits() -> None:
    options = prepare_model(config(num_replicas=4, requests_per_minute=100, tokens_per_minute=1e6)).options
    assert (options.requests_per_minute, options.tokens_per_minute) == (25, 250_000)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"base_url": "localhost:8000/v1"}, "begins with http"),
        ({"serve_app": "llm"}, "is for backend serve, not openai"),
        ({"backend": "serve", "model_path": "m"}, "either 'base_url' or 'serve_app'"),
        ({"requests_per_minute": 0}, "greater than 0"),
    ],
)
def test_endpoint_settings_that_make_no_sense(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**wrong)
