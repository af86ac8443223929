"""A real endpoint on the demo model, through the published `openai` client. One server for all tests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from autoalign.records import Message, messages_to_dicts
from autoalign.sampling.engines.base import EngineOptions, GenerationRequest, SamplingParams, create_engine
from autoalign.sampling.renderer import ChatRenderer
from tests.integration.served_endpoint import Endpoint, served

pytestmark = pytest.mark.slow

MODEL = "smollm2-135m-instruct"
CAPITAL: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
STORY: list[Any] = [{"role": "user", "content": "Tell me a very long story."}]


@pytest.fixture(scope="module")
def endpoint(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    limits = ["--max_in_flight=2", "--max_queued=2", "--max_body_bytes=100000", "--dtype=float32"]
    flags = [f"--checkpoint_path={demo_model}", f"--model_name={MODEL}", *limits]
    with served(tmp_path_factory.mktemp("home"), *flags) as running:
        yield running


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=endpoint.token, max_retries=0)


def chat(client: openai.OpenAI, **options: Any) -> Any:
    given = {"model": MODEL, "messages": CAPITAL, "max_tokens": 12, "temperature": 0, **options}
    return client.chat.completions.create(**given)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "autoalign"


def test_greedy_answers_equal_those_of_infer(client: openai.OpenAI, demo_model: Path) -> None:
    questions = ["What is the capital of France?", "Name three colours.", "What is 2+2?"]
    assert [
        chat(client, messages=[{"role": "user", "content": text}]).choices[0].message.content
        for text in questions
    ] == asyncio.run(infer(demo_model, questions))


async def infer(model: Path, questions: list[str]) -> list[str]:
    """What the `hf` engine of `infer` answers; in float32 it gives vLLM's tokens."""
    renderer = ChatRenderer(model, None)
    engine = await create_engine("hf", EngineOptions(str(model), dtype="float32"))
    params = SamplingParams(max_new_tokens=12, stop_token_ids=renderer.stop_token_ids)
    talks = [(Message("user", text),) for text in questions]
    try:
        answers = [
            await engine.generate(
                GenerationRequest(
                    str(number), tuple(messages_to_dicts(talk)), tuple(renderer.encode(talk)), params
                )
            )
            for number, talk in enumerate(talks)
        ]
    finally:
        await engine.close()
    return [answer.text for answer in answers]


def test_a_stream_says_what_the_whole_answer_says_and_ends_with_its_usage(client: openai.OpenAI) -> None:
    whole = chat(client)
    events = list(chat(client, stream=True, stream_options={"include_usage": True}))
    said = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert (said, events[-1].usage) == (whole.choices[0].message.content, whole.usage)


def test_several_answers_of_one_seed_come_again(client: openai.OpenAI) -> None:
    first, again = (chat(client, n=3, temperature=1.0, seed=7).choices for _ in range(2))
    assert [choice.message.content for choice in first] == [choice.message.content for choice in again]
    assert len({choice.message.content for choice in first}) > 1


def test_logprobs_come_with_their_alternatives(client: openai.OpenAI) -> None:
    tokens = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)
    assert all(token.logprob == max(each.logprob for each in token.top_logprobs) for token in tokens)


def test_a_stop_text_ends_the_answer_before_it(client: openai.OpenAI) -> None:
    choice = chat(client, stop=["Paris"]).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("The capital of France is ", "stop")


def test_logit_bias_keeps_a_token_out(client: openai.OpenAI) -> None:
    def tokens(**options: Any) -> list[str]:
        said = chat(client, logprobs=True, **options).choices[0].logprobs.content
        return [token.token for token in said]

    ids: Any = client.post("/../tokenize", body={"model": MODEL, "prompt": " Paris"}, cast_to=object)
    assert " Paris" in tokens()
    assert " Paris" not in tokens(logit_bias={str(token): -100 for token in ids["tokens"]})


def test_an_answer_follows_its_json_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"capital": {"enum": ["Paris", "Rome"]}, "ok": {"type": "boolean"}},
        "required": ["capital", "ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = json.loads(chat(client, response_format=form, max_tokens=60).choices[0].message.content)
    assert answer.keys() == {"capital", "ok"} and answer["capital"] in ("Paris", "Rome")


def test_an_answer_follows_a_regular_expression(client: openai.OpenAI) -> None:
    answer = chat(client, extra_body={"structured_outputs": {"regex": "[A-C]{2}"}})
    assert answer.choices[0].message.content in [a + b for a in "ABC" for b in "ABC"]


def test_a_text_is_completed(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="1, 2, 3, 4,", max_tokens=4, temperature=0)
    assert answer.choices[0].text.startswith(" 5")


def test_tokens_and_text_are_each_others_inverse(client: openai.OpenAI) -> None:
    ids: Any = client.post("/../tokenize", body={"model": MODEL, "prompt": "a b"}, cast_to=object)
    asked = {"model": MODEL, "tokens": ids["tokens"]}
    back: Any = client.post("/../detokenize", body=asked, cast_to=object)
    assert back["prompt"] == "a b"


def test_a_conversation_becomes_the_ids_of_training(client: openai.OpenAI, demo_model: Path) -> None:
    ids: Any = client.post("/../tokenize", body={"model": MODEL, "messages": CAPITAL}, cast_to=object)
    assert ids["tokens"] == ChatRenderer(demo_model, None).encode((Message("user", CAPITAL[0]["content"]),))


def test_a_tool_is_called_with_arguments_of_its_schema(client: openai.OpenAI) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    named = {"type": "function", "function": {"name": "weather"}}
    # Room enough for the end of the arguments: a model of this size puts many spaces between them.
    (call,) = chat(client, tools=[tool], tool_choice=named, max_tokens=200).choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"model": "nobody"}, openai.NotFoundError),
        ({"messages": []}, openai.BadRequestError),
        ({"max_tokens": 100_000}, openai.BadRequestError),
        ({"temperature": -1}, openai.BadRequestError),
        ({"extra_body": {"chat_template": "{{ 1 }}"}}, openai.BadRequestError),
        ({"messages": [{"role": "user", "content": "x" * 100_000}]}, openai.APIStatusError),
    ],
)
def test_a_wrong_request_is_refused_in_openais_words(client: openai.OpenAI, options: Any, kind: Any) -> None:
    with pytest.raises(kind) as refused:
        chat(client, **options)
    assert refused.value.body["type"] == "invalid_request_error" and refused.value.status_code < 500


def test_no_route_answers_without_the_token(endpoint: Endpoint) -> None:
    stranger = openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        chat(stranger)


def test_more_than_the_queue_holds_is_429_with_retry_after(client: openai.OpenAI, endpoint: Endpoint) -> None:
    async def flood() -> list[Any]:
        async with openai.AsyncOpenAI(
            base_url=f"{endpoint.url}/v1", api_key=endpoint.token, max_retries=0
        ) as many:
            asks = [
                many.chat.completions.create(model=MODEL, messages=CAPITAL, max_tokens=40) for _ in range(20)
            ]
            return await asyncio.gather(*asks, return_exceptions=True)

    answers = asyncio.run(flood())
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert 0 < len(refused) < 20
    assert all(isinstance(error, openai.RateLimitError) for error in refused)
    assert refused[0].response.headers["retry-after"] == "1"
    assert chat(client).choices[0].message.content == "The capital of France is Paris."


def test_hanging_up_frees_the_engine_within_a_second(client: openai.OpenAI, endpoint: Endpoint) -> None:
    streams = [chat(client, messages=STORY, max_tokens=4000, stream=True) for _ in range(2)]
    for stream in streams:
        next(iter(stream))
    family = psutil.Process(endpoint.process.pid).children(recursive=True)
    engine, busy = max(cpu_shares(family, 1.0).items(), key=lambda item: item[1])
    for stream in streams:
        stream.close()
    time.sleep(1)
    assert cpu_shares([engine], 2.0)[engine] < 0.2 * busy  # it has nothing to do any more
    assert endpoint.metric("autoalign_in_flight") == 0
    began = time.monotonic()  # both places were taken: an answer now means that they were given back
    assert chat(client, max_tokens=1).choices
    assert time.monotonic() - began < 60  # 4,000 tokens take far longer


def cpu_shares(processes: list[psutil.Process], seconds: float) -> dict[psutil.Process, float]:
    """CPU seconds a second of each that lives."""
    before = {each: _cpu_seconds(each) for each in processes}
    time.sleep(seconds)
    return {each: (_cpu_seconds(each) - then) / seconds for each, then in before.items()}


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return 0.0
