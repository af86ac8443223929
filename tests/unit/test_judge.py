"""Verdicts read from text, and a judge whose answers are scripted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoalign.config.evaluate import EvalConfig
from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError, JobFailed
from autoalign.evaluation.tools import Tools
from autoalign.judging.prompts import JudgePrompt
from autoalign.judging.verdicts import agreed, read_grade, read_preference
from autoalign.records import Conversation, Message
from autoalign.sampling.engines.base import (
    Completion,
    EngineDead,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
    RequestRefused,
    SamplingParams,
)
from autoalign.sampling.prompts import PlainRenderer, Renderer
from autoalign.sampling.setup import Setup
from autoalign.scoring.judge import Judge, JudgeSettings, Question
from autoalign.scoring.scorer import Score, Unscorable
from autoalign.scoring.scorers.judge import JudgeScorer, Options
from autoalign.scoring.verdict_store import VerdictStore


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("Good. [[7]]", 7), ("[[3]] no, rather [[8.5]]", 8.5), ("[[ 9/10 ]]", 9), ("Rating: 6", 6),
        ("**Score**: 4/10", 4), ("评分：8", 8), ("[[11]]", None), ("[[0]]", None),
        ("Rating: 4/5", None), ("[[4/5]]", None), ("Score: 8.5 / 10.", 8.5), ("Score: 7/100", None),
        ("Rating: 4/5.5", None), ("Score: 3/5, on the usual scale\nRating: 6/10", 6),
        ("fine", None), ("", None),
    ],
)  # fmt: skip
def test_a_grade_is_read(text, grade):
    assert read_grade(text) == grade


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("[[A]]", "A"), ("first [[A]], then [[B]]", "B"), ("[[C]]", "tie"), ("[[Tie]]", "tie"),
        ("Verdict: B", "B"), ("My verdict is a tie.", "tie"), ("Verdict: A tie", "tie"),
        ("verdict: TIE", "tie"), ("The winner is a bit unclear.", None),
        ("The better answer is Answer B", "B"), ("WINNER: Assistant A", "A"), ("A is fine, B too.", None),
        ("[[D]]", None),
    ],
)  # fmt: skip
def test_a_preference_is_read(text, choice):
    assert read_preference(text) == choice


@given(st.text(alphabet="[]AB tie019./:rating", max_size=80))
def test_no_text_breaks_the_readers(text):
    assert read_preference(text) in ("A", "B", "tie", None)
    grade = read_grade(text)
    assert grade is None or 1 <= grade <= 10


def test_only_both_orders_together_decide():
    assert agreed("A", "B") == 1
    assert agreed("B", "A") == 0
    assert agreed("A", "A") == agreed("B", "B") == agreed("tie", "A") == agreed("tie", "tie") == 0.5


class Scripted:
    """Says what a function makes of the judge's question and of how often it was asked."""

    def __init__(self, says: Callable[[str, int], str]) -> None:
        self._says, self.asked = says, 0

    async def generate(self, request: GenerationRequest) -> Completion:
        self.asked += 1
        attempt = int(request.id.rsplit("-", 1)[1])
        return Completion(self._says(str(request.messages[0]["content"]), attempt), "stop", 1, 1)

    async def close(self) -> None:
        """Nothing is held."""


def judge_of(path: Path, engine: Scripted, model: str = "m", renderer: Renderer | None = None) -> Judge:
    async def start():
        return engine

    setup = Setup(EngineOptions(model), SamplingParams(), renderer or PlainRenderer())
    return Judge(start, setup, JudgeSettings("m"), VerdictStore(path))


def scorer(path: Path, engine: Scripted, **options) -> JudgeScorer:
    return JudgeScorer(judge_of(path, engine), Options(judge_model="m", **options))


def answers(*texts: str, group: str = "g") -> list[Answer]:
    return [
        Answer(Conversation(f"a{i}", (Message("user", "Q?"), Message("assistant", text))), 1, {}, group=group)
        for i, text in enumerate(texts)
    ]


def longer(question: str, attempt: int) -> str:
    """Prefers the longer of two answers, and A of equal ones."""
    a, b = (question.split(f"<answer_{x}>\n")[1].split(f"\n</answer_{x}>")[0] for x in "ab")
    return "[[B]]" if len(b) > len(a) else "[[A]]"


def test_a_grade_is_the_score_and_every_verdict_is_kept(tmp_path):
    judge = scorer(tmp_path / "v.jsonl", Scripted(lambda question, attempt: "Well. [[7]]"))
    assert judge.score(answers("x")) == [Score(7.0)]
    judge.close()
    row = json.loads((tmp_path / "v.jsonl").read_text())
    assert (row["id"], row["verdict"], row["text"], row["attempt"]) == ("a0", 7.0, "Well. [[7]]", 0)


def test_a_verdict_that_cannot_be_read_is_asked_for_again(tmp_path):
    engine = Scripted(lambda question, attempt: "[[5]]" if attempt == 2 else "hm")
    judge = scorer(tmp_path / "v.jsonl", engine)
    assert judge.score(answers("x")) == [Score(5.0)]
    assert [json.loads(line)["verdict"] for line in (tmp_path / "v.jsonl").read_text().splitlines()] == [
        None, None, 5.0
    ]  # fmt: skip
    judge.close()


def test_no_verdict_at_all_leaves_the_answer_unscored(tmp_path):
    judge = scorer(tmp_path / "v.jsonl", Scripted(lambda question, attempt: "hm"))
    assert judge.score(answers("x")) == [
        Unscorable("no verdict could be had or read in 3 tries; what the judge said is in v.jsonl")
    ]
    judge.close()


class Rendered(PlainRenderer):
    """A template of so many tokens."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def encode(self, messages: Sequence[Message], tools: Any = ()) -> list[int]:
        return [0] * self._tokens


def test_verdicts_are_kept_for_the_same_weights_and_template(tmp_path):
    folder = tmp_path / "judge"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    engine, question = Scripted(lambda question, attempt: "[[A]]"), [Question("q", {})]

    def asked(weights: bytes, tokens: int) -> int:
        (folder / "model.safetensors").write_bytes(weights)
        with closing(judge_of(tmp_path / "v.jsonl", engine, str(folder), Rendered(tokens))) as judge:
            assert judge.ask(question, read_preference) == ["A"]
        return engine.asked

    assert [asked(b"1", 3), asked(b"1", 3), asked(b"2", 3), asked(b"2", 4)] == [1, 1, 2, 3]


class Gone(Scripted):
    """An endpoint that is not there."""

    async def generate(self, request: GenerationRequest) -> Completion:
        self.asked += 1
        raise RequestFailed("connection refused", retry=False)


def test_a_judge_that_is_gone_is_not_asked_for_ever(tmp_path):
    engine = Gone(lambda question, attempt: "")
    judge = scorer(tmp_path / "v.jsonl", engine)
    assert all(isinstance(outcome, Unscorable) for outcome in judge.score(answers(*map(str, range(200)))))
    # Of 600 texts 32 are asked for at once, until more than 64 in a row have failed.
    assert 64 < engine.asked <= 64 + 32
    judge.close()


class Killed(Scripted):
    """An endpoint that is killed after so many texts."""

    def __init__(self, says: Callable[[str, int], str], left: int) -> None:
        super().__init__(says)
        self._left = left

    async def generate(self, request: GenerationRequest) -> Completion:
        if self.asked == self._left:
            raise RequestFailed("connection refused (6 tries)", retry=False)
        return await super().generate(request)


def ask_of_tools(path: Path, engine: Scripted) -> list[str]:
    """Four verdicts, as an evaluation asks for them; of the question 'q3' none can be read."""
    tools = Tools(EvalConfig.build({"model_path": "m"}), "bench", path.parent)
    with closing(judge_of(path, engine)) as judge:
        return tools.ask("j", judge, [Question(f"q{place}", {}) for place in range(4)], read_preference)


def says_a(question: str, attempt: int) -> str:
    return "hm" if question == "q3" else "[[A]]"


class TooLong(Scripted):
    """An endpoint that refuses one question."""

    async def generate(self, request: GenerationRequest) -> Completion:
        if "q1" in request.messages[-1]["content"]:
            self.asked += 1
            raise RequestRefused("the endpoint answered 400: too long")
        return await super().generate(request)


def test_a_question_that_the_judge_refuses_has_no_verdict_and_the_others_count(tmp_path):
    engine = TooLong(says_a)
    assert ask_of_tools(tmp_path / "v.jsonl", engine) == ["A", None, "A", None]


def test_a_judge_that_is_killed_midway_gives_no_figure_until_the_rest_is_asked_for(tmp_path):
    path = tmp_path / "v.jsonl"
    # q0 and q1 have their verdict, q2 and q3 are not answered.
    with pytest.raises(
        JobFailed, match=r"^2 of 4 verdicts of the judge j can't be had: connection refused \(6 tries\)$"
    ):
        ask_of_tools(path, Killed(says_a, left=2))
    # One text of q2, and one of q3 that can't be read; it is asked for again, and its other tries fail.
    with pytest.raises(JobFailed, match="1 of 4 verdicts"):
        ask_of_tools(path, Killed(says_a, left=2))
    again = Scripted(says_a)
    assert ask_of_tools(path, again) == ["A", "A", "A", None]
    assert again.asked == 2


class Dead(Scripted):
    """An engine that is gone."""

    async def generate(self, request: GenerationRequest) -> Completion:
        raise EngineDead("no answer from http://127.0.0.1:9")


def test_an_engine_that_is_dead_fails_the_job_with_its_reason(tmp_path):
    judge = scorer(tmp_path / "v.jsonl", Dead(lambda question, attempt: ""))
    with pytest.raises(JobFailed, match="no answer from http"):
        judge.score(answers("x", "y"))
    judge.close()


def test_pairwise_counts_wins_and_ties(tmp_path):
    judge = scorer(tmp_path / "v.jsonl", Scripted(longer), judge_mode="pairwise")
    assert judge.score(answers("xxx", "x", "y")) == [
        Score(1.0, {"won": 2, "tied": 0, "lost": 0}),
        Score(0.25, {"won": 0, "tied": 1, "lost": 1}),
        Score(0.25, {"won": 0, "tied": 1, "lost": 1}),
    ]
    judge.close()


def test_rounds_limit_the_comparisons(tmp_path):
    engine = Scripted(longer)
    judge = scorer(tmp_path / "v.jsonl", engine, judge_mode="pairwise", judge_rounds=1)
    judge.score(answers(*"abcdef"))
    assert engine.asked == 6 * 2
    judge.close()


def test_an_answer_alone_has_no_opponent(tmp_path):
    judge = scorer(tmp_path / "v.jsonl", Scripted(longer), judge_mode="pairwise")
    (outcome,) = judge.score(answers("x"))
    assert isinstance(outcome, Unscorable)
    judge.close()


def test_a_second_run_asks_only_for_what_is_missing(tmp_path):
    path = tmp_path / "v.jsonl"
    first = scorer(path, Scripted(lambda question, attempt: "[[7]]"))
    first.score(answers("x"))
    first.close()
    path.write_bytes(path.read_bytes() + b'{"key": "torn')
    engine = Scripted(lambda question, attempt: "[[2]]")
    second = scorer(path, engine)
    assert second.score(answers("x", "new")) == [Score(7.0), Score(2.0)]
    assert engine.asked == 1
    second.close()


def test_a_prompt_of_ones_own(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("{{ answer }}|{{ nothing }}")
    with pytest.raises(ConfigError, match="'nothing' is undefined; there are: answer"):
        JudgePrompt(str(file)).fill(answer="x")
    with pytest.raises(ConfigError, match=r"give a file, or one of .*pairwise.*rubric"):
        JudgePrompt("rubrik")
