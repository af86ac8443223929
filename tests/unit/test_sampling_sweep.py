"""A prompt answered in several ways: their product, their rows, their seeds; what engines refuse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from autoalign.cli.flags import config_from_args
from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError
from autoalign.records import Conversation, Message
from autoalign.sampling.collector import Collector
from autoalign.sampling.engines.base import EngineOptions, SamplingParams, derive_seed, require_support
from autoalign.sampling.keys import AnswerKeys
from autoalign.sampling.messages import Answer, pack_task, unpack
from autoalign.sampling.progress import SampleProgress
from autoalign.sampling.prompts import PlainRenderer, Prompt, prepare
from autoalign.sampling.reasoning import split_reasoning
from autoalign.sampling.run import run_each
from autoalign.sampling.setup import prepare_model
from autoalign.sampling.sweep import Sweep
from autoalign.sampling.worker import EngineWorker, WorkerSpec


def config(**values: Any) -> InferConfig:
    return InferConfig.build({"model_path": "m", "test_file": "q.json", **values})


def sweep_of(**values: Any) -> Sweep:
    return Sweep.of(config(**values), SamplingParams())


def asked(*texts: str) -> list[Conversation]:
    return [Conversation(f"q{i}", (Message("user", text),)) for i, text in enumerate(texts)]


def prompts_of(sweep: Sweep, conversations: Sequence[Conversation]) -> list[Prompt]:
    return [p for p in prepare(conversations, PlainRenderer(), sweep=sweep) if isinstance(p, Prompt)]


def test_lists_are_combined_each_with_each() -> None:
    sweep = sweep_of(temperature=[0.5, 1], top_p=[0.9, 1.0], system_message=["A", "B"])
    found = [(v.system_message, v.params.temperature, v.params.top_p) for v in sweep.variants]
    assert found == [(s, t, p) for s in "AB" for t in (0.5, 1) for p in (0.9, 1.0)]
    assert sweep.recorded[-1] == {"temperature": 1, "top_p": 1.0, "system_message": "B"}


def test_one_value_is_no_sweep() -> None:
    sweep = sweep_of(temperature=[0.5], system_message=["A"])
    assert (len(sweep.variants), sweep.recorded) == (1, ())
    assert [p.key for p in prompts_of(sweep, asked("x"))] == ["q0"]


def test_a_flag_takes_one_value_or_several() -> None:
    args = ["--model-path", "m", "--test-file", "q", "--temperature", "0.5", "1", "--top-k", "5"]
    parsed = config_from_args(InferConfig, args, "infer")
    assert (parsed.temperature, parsed.top_k) == ([0.5, 1.0], 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": [0.5, -1]}, "'temperature': -1 is out of range: 0 or more"),
        ({"top_p": [0, 1]}, "'top_p': 0 is out of range: above 0, at most 1"),
        ({"temperature": [1, 1.0]}, "given twice"),
        ({"top_k": 2.5}, "a whole number is expected"),
        ({"temperature": True}, "a number is expected"),
        ({"temperature": []}, "at least one"),
        ({"temperature": float("nan")}, "out of range"),
        ({"system_message": "A", "system_message_file": "x"}, "give one of them"),
        ({"models": ["a", "b"]}, "takes the place of"),
    ],
)
def test_what_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**values)


def test_each_way_has_a_key_and_all_have_the_prompts_id() -> None:
    prompts = prompts_of(sweep_of(temperature=[0.5, 1]), asked("x", "y"))
    assert [(p.index, p.id, p.key) for p in prompts] == [
        (0, "q0", "q0~0"), (1, "q0", "q0~1"), (2, "q1", "q1~0"), (3, "q1", "q1~1"),
    ]  # fmt: skip
    assert Prompt.loads(prompts[3].dumps()) == prompts[3]


def test_principles_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "principles.txt"
    file.write_text("Be kind.\n\nBe brief.\nBe kind.\n")
    sweep = sweep_of(system_message_file=str(file))
    assert [v.system_message for v in sweep.variants] == ["Be kind.", "Be brief."]
    assert [p.messages[0]["content"] for p in prompts_of(sweep, asked("x"))] == ["Be kind.", "Be brief."]


@pytest.fixture
def examples(tmp_path: Path) -> str:
    rows = [{"id": f"q{i}", "prompt": f"Q{i}", "completion": f"A{i}"} for i in range(6)]
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_examples_are_shown_but_are_no_part_of_the_row(examples: str) -> None:
    sweep = sweep_of(few_shot_path=examples, few_shot=2, system_message="S")
    (prompt,) = prompts_of(sweep, asked("x"))
    said = [m["content"] for m in prompt.messages]
    assert (len(said), said[0], said[-1]) == (6, "S", "x")
    assert said[2] == said[1].replace("Q", "A")
    assert [m["content"] for m in prompt.own_messages] == ["S", "x"]


def test_examples_follow_from_seed_and_prompt_and_are_never_the_prompt_itself(examples: str) -> None:
    sweep = sweep_of(few_shot_path=examples, few_shot=3, few_shot_sets=20)
    draws = [[e.id for e in sweep.drawn("q0", number)] for number in range(20)]
    assert draws == [[e.id for e in sweep.drawn("q0", number)] for number in range(20)]
    assert all("q0" not in draw and len(set(draw)) == 3 for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 10


def test_a_worker_answers_each_way_with_its_parameters_and_one_seed() -> None:
    sweep = sweep_of(temperature=[0, 1])
    spec = WorkerSpec("fake", EngineOptions("m"), SamplingParams(), 7, sweep.params)
    prompts = prompts_of(sweep, asked("hi"))
    task = pack_task(0, [(prompt, [0]) for prompt in prompts if isinstance(prompt, Prompt)])
    tables = EngineWorker(spec)(pa.table({"task": pa.array([task], pa.binary())}))
    answers = [answer for one in tables for answer in unpack(one["message"].to_pylist()[0]).answers]
    texts = {answer.prompt: answer.text for answer in answers}
    assert texts == {0: "echo: hi", 1: f"echo: hi [{derive_seed(7, 'q0', 0)}]"}


def rows(tmp_path: Path, answers: Sequence[Answer], **values: Any) -> list[dict[str, Any]]:
    given = config(source="s", output_dir=str(tmp_path), **values)
    sweep = Sweep.of(given, SamplingParams())
    with Collector(given, sweep.recorded, AnswerKeys(ways=sweep.params)) as collector:
        collector.expect(prepare(asked("x"), PlainRenderer(), sweep=sweep))
        collector.take(answers, SampleProgress(len(answers)))
        report = collector.finish(0.0)
    return [json.loads(line) for line in report.output.read_text().splitlines()]


def answer(prompt: int, text: str = "y", logprobs: tuple[float, ...] | None = None) -> Answer:
    return Answer(prompt, 0, text, "stop", 2, 3, 5, None, 1.0, logprobs)


def test_a_row_tells_its_parameters(tmp_path: Path) -> None:
    found = rows(tmp_path, [answer(1), answer(0)], min_p=[0, 0.1])
    assert [(row["id"], row["prompt_id"], row["params"]) for row in found] == [
        ("q0~0-0", "q0", {"min_p": 0}),
        ("q0~1-0", "q0", {"min_p": 0.1}),
    ]


def test_reasoning_and_log_probs_have_fields_of_their_own(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, [answer(0, "<think>hm</think>Yes", (-0.5, -1.0))], split_reasoning=True)
    assert (row["text"], row["reasoning"], row["logprobs"]) == ("Yes", "hm", [-0.5, -1.0])
    assert row["messages"][-1] == {"role": "assistant", "content": "Yes"}


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\nA\n</think>\n\nB", "A", "B"),
        ("A</think>B", "A", "B"),
        ("<think>A and", "A and", ""),
        ("B with <think> in it", None, "B with <think> in it"),
        ("<think></think>B", "", "B"),
    ],
)
def test_reasoning_is_split_off(text: str, reasoning: str | None, answer: str) -> None:
    assert split_reasoning(text) == (reasoning, answer)


@pytest.mark.parametrize("backend", ["hf", "fake"])
def test_an_engine_without_json_schemas_says_so(backend: str) -> None:
    with pytest.raises(
        ConfigError, match=f"the {backend} backend has no json_schema; use openai or serve or vllm"
    ):
        require_support(backend, SamplingParams(json_schema="{}"))


@pytest.mark.parametrize("backend", ["vllm", "openai", "hf", "fake"])
def test_engines_that_have_log_probs_are_let_through(backend: str) -> None:
    require_support(backend, SamplingParams(logprobs=True))


def test_a_wrong_schema_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text("[1]")
    with pytest.raises(ConfigError, match=r"s\.json: a JSON object is expected"):
        prepare_model(config(backend="openai", json_schema=str(file)))


def test_models_of_one_name_are_refused(tmp_path: Path) -> None:
    given = {"models": ["a/m", "b/m"], "test_file": "q.json", "output_dir": str(tmp_path)}
    with pytest.raises(ConfigError, match="the same name"):
        list(run_each(InferConfig.build(given)))
