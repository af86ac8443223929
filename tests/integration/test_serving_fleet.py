"""Real Ray Serve around an engine without a model: loading on demand, rolling over, overload, deaths."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.integration.fake_models import write
from tests.integration.served_endpoint import Endpoint, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("first", "rolled", "killed"):
        write(folder, name)
    for name in ("slow", "dying"):
        write(folder, name, seconds_per_word=0.05)
    write(folder, "broken", broken=True)
    return folder


@pytest.fixture(scope="module")
def endpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    models = [f"--checkpoint_path={root / 'first'}", f"--model_roots={root}", "--max_loaded_models=6"]
    limits = ["--backend=fake", "--max_in_flight=4", "--max_queued=4"]
    with served(tmp_path_factory.mktemp("home"), *models, *limits) as running:
        yield running


@pytest.fixture
def client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=endpoint.token, max_retries=0)


def say(client: openai.OpenAI, model: str, text: str = "hello", **options: Any) -> Any:
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], **options
    )


def words(client: openai.OpenAI, model: str) -> list[str]:
    """The model, its folder's state, the engine's process."""
    return str(say(client, model).choices[0].message.content).split()


def test_models_are_loaded_when_asked_for(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {
        *("first", "rolled", "killed", "slow", "dying", "broken")
    }
    assert [words(client, name)[0] for name in ("first", "rolled", "first")] == ["first", "rolled", "first"]


def test_a_model_that_cannot_start_is_503(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        say(client, "broken")
    assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "30")


def test_a_new_checkpoint_is_rolled_in_without_a_request_lost(client: openai.OpenAI, root: Path) -> None:
    before = words(client, "rolled")
    write(root, "rolled", "new weights", seconds_to_start=1)
    late = time.monotonic() + 60
    while (now := words(client, "rolled")) == before and time.monotonic() < late:
        time.sleep(0.02)  # each of these is answered, or the test fails
    assert now[1] != before[1]
    for _ in range(200):  # past the moment in which the old engine is put away
        assert words(client, "rolled") == now
        time.sleep(0.02)


def test_ten_times_the_capacity_is_answered_or_refused(client: openai.OpenAI, endpoint: Endpoint) -> None:
    words(client, "slow")

    async def flood() -> list[Any]:
        async with openai.AsyncOpenAI(
            base_url=f"{endpoint.url}/v1", api_key=endpoint.token, max_retries=0
        ) as many:
            question: Any = [{"role": "user", "content": "hello"}]
            asks = [many.chat.completions.create(model="slow", messages=question) for _ in range(80)]
            return await asyncio.gather(*asks, return_exceptions=True)

    answers = asyncio.run(flood())
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert 8 <= len(answers) - len(refused) < 80
    assert {type(error) for error in refused} == {openai.RateLimitError}
    assert refused[0].response.headers["retry-after"] == "1"
    assert words(client, "slow")[0] == "slow"


def test_clients_that_hang_up_mid_stream_are_generated_for_no_longer(
    client: openai.OpenAI, endpoint: Endpoint
) -> None:
    streams = [say(client, "slow", max_tokens=100_000, stream=True) for _ in range(4)]
    for stream in streams:
        next(iter(stream))
        stream.close()
    late = time.monotonic() + 30
    while endpoint.metric("autoalign_in_flight") and time.monotonic() < late:
        time.sleep(0.05)
    time.sleep(1)
    counts = []
    for _ in range(2):
        counts.append(say(client, "slow", "count").choices[0].message.content)
        time.sleep(0.5)
    assert counts[0] == counts[1]


def test_a_killed_engine_comes_back_by_itself(client: openai.OpenAI) -> None:
    _, _, process = words(client, "killed")
    os.kill(int(process), signal.SIGKILL)
    late = time.monotonic() + 60
    while time.monotonic() < late:
        try:
            assert words(client, "killed")[2] != process
            return
        except openai.InternalServerError as error:
            assert error.status_code == 503
            time.sleep(0.1)
    pytest.fail("it never came back")


def test_a_killed_fleet_takes_no_engine_along(client: openai.OpenAI, endpoint: Endpoint) -> None:
    before = words(client, "first")
    family = psutil.Process(endpoint.process.pid).children(recursive=True)
    (fleet,) = [
        each for each in family if each.name().endswith(":Fleet") or ":Fleet" in "".join(each.cmdline())
    ]
    fleet.kill()
    late, refused = time.monotonic() + 60, True
    for _ in range(100):  # past the moment for which a placement is known
        try:
            assert words(client, "first") == before  # the same process
        except openai.InternalServerError as error:
            assert error.status_code == 503
        time.sleep(0.05)
    while refused and time.monotonic() < late:
        try:
            assert words(client, "first") == before
            refused = len(list(client.models.list())) != 6
        except openai.InternalServerError as error:
            assert error.status_code == 503
            time.sleep(0.2)
    assert not refused


def test_a_killed_engine_leaves_no_request_without_an_answer(client: openai.OpenAI) -> None:
    process = int(words(client, "dying")[2])
    texts: list[str] = []

    def ask(stream: bool) -> str:
        try:
            answer = say(client, "dying", max_tokens=60, stream=stream, timeout=60)
            for event in answer if stream else ():
                texts.append(event.choices[0].delta.content)
            return "answered"
        except openai.APIError as error:
            return str(error)

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, stream) for stream in (True, True, False, False)]
        while len(texts) < 10:
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
        ends = [each.result(timeout=90) for each in asked]
    assert all("went away" in end for end in ends[:2]), ends
    # Nothing was said of the others, so another engine may answer them.
    assert all(end == "answered" or "503" in end or "try again" in end for end in ends[2:]), ends


def test_a_chat_through_the_litellm_client(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would look prices up in the internet
    import litellm

    def chat(**options: Any) -> Any:
        given = {"model": "openai/first", "api_base": f"{endpoint.url}/v1", "api_key": endpoint.token}
        return litellm.completion(**given, messages=[{"role": "user", "content": "hello"}], **options)

    whole = chat()
    pieces = [chunk.choices[0].delta.content or "" for chunk in chat(stream=True)]
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.usage.completion_tokens == 3
    with pytest.raises(litellm.BadRequestError, match="be set by a request"):
        chat(extra_body={"chat_template": "{{ 1 }}"})
