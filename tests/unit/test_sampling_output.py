"""Files of a sampling job: order, formats, errors.jsonl, what stays after a failure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from autoalign import formats
from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError, TemplateError
from autoalign.records import Conversation, Message, Sample
from autoalign.sampling.collector import Collector
from autoalign.sampling.messages import Answer
from autoalign.sampling.output import refuse_existing, write_errors
from autoalign.sampling.progress import SampleProgress, Settled
from autoalign.sampling.prompts import prepare, with_system


class Words:
    """A token a word; refuses the word `no`."""

    stop_token_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    context: int | None = 4

    def encode(self, messages: Sequence[Message], tools: Any = ()) -> list[int]:
        words = " ".join(message.content for message in messages).split()
        if "no" in words:
            raise TemplateError("the template refuses 'no'")
        return list(range(len(words)))


def asked(*texts: str) -> list[Conversation]:
    return [Conversation(f"q{i}", (Message("user", text),)) for i, text in enumerate(texts)]


def answer(prompt: int, index: int = 0, error: str | None = None) -> Answer:
    return Answer(prompt, index, f"answer {prompt}.{index}", "stop", 2, 3, 5, error, 1.0)


def job(tmp_path: Path, **values: Any) -> InferConfig:
    return InferConfig.build(
        {"model_path": "m", "test_file": "q.json", "source": "s", "output_dir": str(tmp_path), **values}
    )


def collect(config: InferConfig, conversations: list[Conversation], answers: list[Answer]) -> Any:
    with Collector(config) as collector:
        collector.expect(prepare(conversations, Words(), config.system_message))
        collector.take(answers, SampleProgress(len(answers)))
        return collector.finish(0.0)


def test_who_watches_is_told_of_whole_prompts(tmp_path: Path) -> None:
    told: list[Settled] = []
    with Collector(job(tmp_path, n=2)) as collector:
        collector.expect(prepare(asked("a", "no", "c"), Words(), None))
        told.append(collector.settled_before())
        progress = SampleProgress(4, told.append)
        for answers in ([answer(0, 0), answer(2, 1)], [answer(0, 1)], [answer(2, 0, "too long")]):
            collector.take(answers, progress)
    # The template refuses the second prompt; the third one lacks an answer for good.
    assert told == [Settled(0, 1), Settled(0, 1), Settled(1, 1), Settled(1, 2)]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_are_written_in_the_inputs_order(tmp_path: Path) -> None:
    answers = [answer(1, 1), answer(0, 1), answer(1, 0), answer(0, 0)]
    report = collect(job(tmp_path, n=2), asked("a", "b"), answers)
    assert [row["id"] for row in rows_of(report.output)] == ["q0-0", "q0-1", "q1-0", "q1-1"]
    assert (report.prompts, report.answers, report.output_tokens) == (2, 4, 12)


def test_a_row_has_the_documented_keys_in_order(tmp_path: Path) -> None:
    (row,) = rows_of(collect(job(tmp_path), asked("a"), [answer(0)]).output)
    assert row == {
        "id": "q0-0", "prompt_id": "q0", "index": 0,
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "answer 0.0"}],
        "text": "answer 0.0", "finish_reason": "stop", "prompt_tokens": 2, "completion_tokens": 3,
        "seed": 5, "model": "m", "source": "s", "key": row["key"],
    }  # fmt: skip
    assert list(row) == [
        "id", "prompt_id", "index", "messages", "text", "finish_reason", "prompt_tokens",
        "completion_tokens", "seed", "model", "source", "key",
    ]  # fmt: skip


def test_a_row_is_that_of_its_sample(tmp_path: Path) -> None:
    """What `RowMaker` puts together by hand, for speed, is what `Sample.to_dict` gives."""
    asker = Conversation("q", (Message("system", "be brief"), Message("user", "a")), extra={"level": 2})
    (row,) = rows_of(collect(job(tmp_path), [asker], [answer(0)]).output)
    sample = Sample(
        "q-0", "q", 0, (*asker.messages, Message("assistant", "answer 0.0")), "answer 0.0", "stop",
        2, 3, 5, "m", "s", {"level": 2},
    )  # fmt: skip
    assert list(row.items()) == [*sample.to_dict().items(), ("key", row["key"])]


def test_sharegpt_rows_keep_the_prompts_id(tmp_path: Path) -> None:
    report = collect(job(tmp_path, output_format="sharegpt"), asked("a"), [answer(0)])
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "answer 0.0"}]
    assert json.loads(report.output.read_text()) == [{"id": "q0", "conversations": turns, "source": "s"}]


def test_the_report_tells_how_varied_a_prompts_answers_are(tmp_path: Path) -> None:
    """ "answer 0 0" and "answer 0 1": 3 different of 6 words, 3 different of 4 pairs."""
    report = collect(job(tmp_path, n=2), asked("a"), [answer(0, 0), answer(0, 1)])
    assert (report.diversity.distinct_1, report.diversity.distinct_2) == (3 / 6, 3 / 4)
    assert collect(job(tmp_path, source="t"), asked("a"), [answer(0)]).diversity is None


def test_an_answer_that_comes_twice_is_kept_once(tmp_path: Path) -> None:
    report = collect(job(tmp_path), asked("a"), [answer(0), answer(0)])
    assert (report.answers, report.output_tokens, len(rows_of(report.output))) == (1, 3, 1)


def test_failures_go_to_errors_with_their_reasons(tmp_path: Path) -> None:
    conversations = asked("fine", "no", "one two three four", "broken")
    report = collect(job(tmp_path), conversations, [answer(0), answer(3, error="engine trouble")])
    reasons = {row["prompt_id"]: row["error"] for row in rows_of(tmp_path / "m" / "errors.jsonl")}
    assert reasons["q1"] == "the template refuses 'no'"
    assert reasons["q2"].startswith("the prompt has 4 tokens; the context holds 4")
    assert reasons["q3"] == "engine trouble"
    assert (report.answers, report.failed, report.error_rate) == (1, 3, 0.75)


def test_errors_of_other_outputs_stay(tmp_path: Path) -> None:
    write_errors(tmp_path, "a.jsonl", [b'{"output": "a.jsonl"}\n'])
    write_errors(tmp_path, "b.jsonl", [b'{"output": "b.jsonl"}\n'])
    assert write_errors(tmp_path, "a.jsonl", []) is None
    assert rows_of(tmp_path / "errors.jsonl") == [{"output": "b.jsonl"}]
    write_errors(tmp_path, "b.jsonl", [])
    assert not (tmp_path / "errors.jsonl").exists()


def test_a_job_that_breaks_off_keeps_its_answers_beside(tmp_path: Path) -> None:
    config = job(tmp_path)
    with pytest.raises(RuntimeError), Collector(config) as collector:
        collector.expect(prepare(asked("a", "b"), Words(), None))
        collector.take([answer(1)], SampleProgress(2))
        assert "1 of 2 answers" in collector.what_is_kept()
        raise RuntimeError
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["s_q.jsonl.partial"]
    assert rows_of(tmp_path / "m" / "s_q.jsonl.partial")[0]["id"] == "q1-0"


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("")
    with pytest.raises(ConfigError, match="--overwrite"):
        refuse_existing(file, overwrite=False)
    refuse_existing(file, overwrite=True)


def test_a_repeated_id_is_numbered() -> None:
    twice = [Conversation("x", (Message("user", "a"),)) for _ in range(3)]
    prompts = list(prepare(twice, Words(), None))
    assert [prompt.id for prompt in prompts] == ["x", "x#2", "x#3"]
    assert [prompt.renamed for prompt in prompts] == [False, True, True]


def test_the_system_message_takes_the_place_of_the_prompts_own() -> None:
    messages = (Message("system", "old"), Message("user", "a"))
    assert with_system(messages, "new") == (Message("system", "new"), Message("user", "a"))
    assert with_system(messages, None) == messages


def test_the_prompts_other_keys_and_its_answer_go_into_extra(tmp_path: Path) -> None:
    source = tmp_path / "gsm8k.jsonl"
    source.write_text(json.dumps({"question": "2 + 3?", "answer": "#### 5", "level": 1}) + "\n")
    (prompt,) = formats.load(source, purpose="prompts").conversations
    (row,) = rows_of(collect(job(tmp_path), [prompt], [answer(0)]).output)
    assert row["extra"] == {"level": 1, "reference": "#### 5"}


def test_answers_to_a_samples_prompt_keep_the_reference_that_it_had(tmp_path: Path) -> None:
    source = tmp_path / "samples.jsonl"
    turns = [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "4"}]
    row = {"id": "p-0", "prompt_id": "p", "index": 0, "messages": turns, "text": "4", "model": "m"}
    source.write_text(json.dumps({**row, "extra": {"reference": "5"}, "topic": "sums"}) + "\n")
    (prompt,) = formats.load(source, purpose="prompts").conversations
    (found,) = rows_of(collect(job(tmp_path), [prompt], [answer(0)]).output)
    assert found["extra"] == {"topic": "sums", "reference": "5"}
