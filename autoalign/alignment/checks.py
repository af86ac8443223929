"""What says that an answer is right: scorers of `autoalign.scoring`, one answer at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign.algorithms import Prompt, Reward, Verify
from autoalign.config.score import ScoreConfig
from autoalign.curation.answers import Answer
from autoalign.records import Conversation, Message
from autoalign.scoring import scorer
from autoalign.scoring.numbers import find_number

_RIGHT = 0.5


def verifier(name: str, options: Mapping[str, Any]) -> Verify:
    """An answer is right where the scorer gives it 0.5 or more; None where it can't be scored.

    Raises:
        UnknownName: no such scorer.
        ConfigError: an option that it lacks.
    """
    score = _scorer(name, options)

    def verify(prompt: Prompt, text: str) -> bool | None:
        (outcome,) = score.score([_answer(prompt, text)])
        return outcome.value >= _RIGHT if isinstance(outcome, scorer.Score) else None

    return verify


def reward(model: str) -> Reward:
    """The scores of a reward model, which is loaded at the first call.

    Raises:
        ModelError: it is no reward model.
    """
    loaded: list[scorer.Scorer] = []

    def score(asked: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        if not loaded:
            loaded.append(_scorer("reward_model", {"model_path": model}))
        outcomes = loaded[0].score([_answer(prompt, text) for prompt, text in asked])
        return [one.value if isinstance(one, scorer.Score) else None for one in outcomes]

    return score


def final_number(text: str) -> str | None:
    """What a solution comes to: the number that it ends in."""
    number = find_number(text)
    return None if number is None else str(number)


def _scorer(name: str, options: Mapping[str, Any]) -> scorer.Scorer:
    values = {"scorer": [name], "data_path": ["unused.jsonl"], "output_file": "unused.jsonl", **options}
    config = ScoreConfig.build(values)
    return scorer.build(scorer.Job(config, Path(config.output_file)))[name]


def _answer(prompt: Prompt, text: str) -> Answer:
    messages = (*prompt.messages, Message("assistant", text))
    return Answer(Conversation(prompt.id, messages), 1, {"reference": prompt.reference})
