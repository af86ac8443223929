"""Bodies, rates, request ids and their log lines."""

import io
import logging

import pytest

from autoalign.principals import Principal
from autoalign.serving.engine_log import EngineLog
from autoalign.serving.limits import LimitBody, RateLimit
from autoalign.serving.metrics import Metrics
from autoalign.serving.request_log import RequestLog
from autoalign.serving.serve_log import join_serve_log
from tests.unit.asgi_calls import ask, ok

ADA = Principal("tok_ada", "ada", frozenset({"infer"}))
BOB = Principal("tok_bob", "bob", frozenset({"infer"}))


def test_a_body_at_the_limit_is_read():
    assert ask(LimitBody(ok, 10), pieces=[b"x" * 6, b"x" * 4]).body == b"10"


def test_an_announced_body_above_the_limit_is_refused_unread():
    answer = ask(LimitBody(ok, 10), headers=[("content-length", "11")])
    assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")


def test_an_unannounced_body_above_the_limit_is_refused():
    assert ask(LimitBody(ok, 10), pieces=[b"x" * 6, b"x" * 5]).status == 413


def test_uploads_have_a_limit_of_their_own():
    app = LimitBody(ok, 10, {"/v1/files": 20})
    assert [ask(app, path, pieces=[b"x" * 15]).status for path in ("/v1/files", "/v1/chat")] == [200, 413]


def test_a_token_that_used_up_its_minute_waits_as_long_as_it_is_told():
    now = [100.0]
    app = RateLimit(ok, 2, clock=lambda: now[0])
    ask_as = {"autoalign.principal": ADA}
    assert [ask(app, **ask_as).status for _ in range(3)] == [200, 200, 429]
    assert ask(app, **ask_as).headers["retry-after"] == "30"  # 2 a minute: one in 30 s
    now[0] += 30
    assert [ask(app, **ask_as).status for _ in range(2)] == [200, 429]


def test_each_token_has_a_rate_of_its_own():
    app = RateLimit(ok, 1)
    assert [ask(app, **{"autoalign.principal": who}).status for who in (ADA, BOB, ADA)] == [200, 200, 429]


@pytest.mark.parametrize("given", ["abc-123", "a" * 128])
def test_a_request_id_of_the_client_is_kept(given):
    assert ask(RequestLog(ok, Metrics()), headers=[("x-request-id", given)]).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "x\ny"])
def test_another_request_id_is_replaced(given):
    answer = ask(RequestLog(ok, Metrics()), headers=[("x-request-id", given)])
    assert answer.headers["x-request-id"].startswith("req-")


def test_the_log_line_holds_the_id_and_no_secret(caplog):
    caplog.set_level(logging.INFO, "autoalign.serving.requests")
    secret = [("authorization", "Bearer s3cret"), ("x-request-id", "r1")]
    ask(RequestLog(ok, Metrics()), "/v1/models", headers=secret, query_string=b"api_key=s3cret")
    assert caplog.messages[0].startswith("r1 - GET /v1/models 200 ")
    assert "s3cret" not in caplog.text


def test_a_path_cannot_forge_a_log_line(caplog):
    caplog.set_level(logging.INFO, "autoalign.serving.requests")
    ask(RequestLog(ok, Metrics()), "/x\nreq-1 tok_root GET / 200")
    assert len(caplog.messages[0].splitlines()) == 1


def test_a_fault_is_answered_500_and_names_the_request():
    async def broken(scope, receive, send):
        raise RuntimeError("secret detail")

    answer = ask(RequestLog(broken, Metrics()), headers=[("x-request-id", "r2")])
    assert answer.status == 500
    assert "r2" in answer.json["error"]["message"] and b"secret detail" not in answer.body


def test_requests_are_counted_by_status():
    metrics = Metrics()
    ask(RequestLog(ok, metrics))
    assert b'autoalign_requests_total{method="GET",route="unmatched",status="200"} 1.0' in metrics.text()


def test_an_engines_line_has_the_id_of_the_gateways_and_nothing_of_the_body(caplog):
    caplog.set_level(logging.INFO, "autoalign.serving.engine")
    headers = [("x-request-id", "r3"), ("x-autoalign-lease", "s3cret")]
    answer = ask(EngineLog(ok), "/v1/completions", headers=headers, pieces=[b"a prompt"])
    assert answer.body == b"8"
    assert caplog.messages[0].startswith("r3 /v1/completions 200 0.")
    assert "s3cret" not in caplog.text and "prompt" not in caplog.text


def test_an_engine_that_fails_before_its_answer_has_a_line_too(caplog):
    async def broken(scope, receive, send):
        raise RuntimeError("no memory")

    caplog.set_level(logging.INFO, "autoalign.serving.engine")
    with pytest.raises(RuntimeError):
        ask(EngineLog(broken), "/tokenize", headers=[("x-request-id", "r4")])
    assert caplog.messages[0].startswith("r4 /tokenize 0 0.")


def test_in_a_replica_our_lines_go_where_ray_serves_own_go():
    ours, serves = logging.getLogger("autoalign.serving"), logging.getLogger("ray.serve")
    stream, level = io.StringIO(), ours.level
    handler = logging.StreamHandler(stream)
    serves.addHandler(handler)
    try:
        join_serve_log()
        join_serve_log()  # a second replica in this process
        logging.getLogger("autoalign.serving.requests").info("r5 - GET / 200")
    finally:
        ours.setLevel(level)
        serves.removeHandler(handler)
        ours.handlers.clear()
    assert stream.getvalue() == "r5 - GET / 200\n"
