"""What says that an answer is right: scorers of `autoalign.scoring`, one answer at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign.algorithms import Extract, Prompt, Verify
from autoalign.config.score import ScoreConfig
from autoalign.curation.answers import Answer
from autoalign.records import Conversation, Message
from autoalign.sampling.setup import has_gpu
from autoalign.scoring import scorer
from autoalign.scoring.numbers import find_number
from autoalign.scoring.scorers.choice import find_letter
from autoalign.scoring.scorers.math import find_formula

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


class RewardModel:
    """A reward model that is loaded when it is asked first, and again after `release`.

    Args:
        model: its folder.
        make_room: called before it is loaded onto a GPU.
    """

    def __init__(self, model: str, make_room: Callable[[], None]) -> None:
        self._model, self._make_room = model, make_room
        self._loaded: scorer.Scorer | None = None

    def __call__(self, asked: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        """Scores of answers to prompts; None where there is none.

        Raises:
            ModelError: it is no reward model.
        """
        if self._loaded is None:
            if has_gpu():
                self._make_room()
            self._loaded = _scorer("reward_model", {"model_path": self._model})
        outcomes = self._loaded.score([_answer(prompt, text) for prompt, text in asked])
        return [one.value if isinstance(one, scorer.Score) else None for one in outcomes]

    def release(self) -> None:
        """Free its memory."""
        if self._loaded is None:
            return
        from torch import cuda

        self._loaded = None
        cuda.empty_cache()  # nothing where CUDA was never used


def extractor(verifier: str | None) -> Extract | None:
    """What a solution comes to, as its verifier would read it; None where that is no part of its text."""
    return {None: _number, "numeric": _number, "choice": find_letter, "math": find_formula}.get(verifier)


def _number(text: str) -> str | None:
    number = find_number(text)
    return None if number is None else str(number)


def _scorer(name: str, options: Mapping[str, Any]) -> scorer.Scorer:
    values = {"scorer": [name], "data_path": ["unused.jsonl"], "output_file": "unused.jsonl", **options}
    config = ScoreConfig.build(values)
    return scorer.build(scorer.Job(config, Path(config.output_file)))[name]


def _answer(prompt: Prompt, text: str) -> Answer:
    messages = (*prompt.messages, Message("assistant", text))
    return Answer(Conversation(prompt.id, messages), 1, {"reference": prompt.reference})
