"""Answers scored by a verifier (1 or 0) or a reward model."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.algorithms._drawing import Drawn
from autoalign.algorithms._job import Job, Prompt
from autoalign.errors import ConfigError

SOURCES = ("verifier", "reward")


def values(
    job: Job, source: str, prompts: Sequence[Prompt], drawn: Sequence[Drawn]
) -> list[list[float | None]]:
    """For each prompt the scores of its texts, in order; None where there is none.

    Raises:
        ConfigError: the job has no such source.
    """
    if source == "verifier":
        verify = job.verifier()
        right = [
            [verify(prompt, text.text) for text in answers.texts]
            for prompt, answers in zip(prompts, drawn, strict=True)
        ]
        return [[None if one is None else float(one) for one in of_prompt] for of_prompt in right]
    if job.reward is None:
        raise ConfigError(
            "this algorithm scores answers with a reward model: set 'reward_model' in the config"
        )
    asked = [
        (prompt, text.text) for prompt, answers in zip(prompts, drawn, strict=True) for text in answers.texts
    ]
    scores = iter(job.reward(asked))
    return [[next(scores) for _ in answers.texts] for answers in drawn]
