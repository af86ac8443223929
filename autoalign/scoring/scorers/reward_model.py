"""The reward that a reward model gives the whole conversation (arXiv:2203.02155)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoalign import model_folder
from autoalign.curation.answers import Answer
from autoalign.errors import JobFailed, TemplateError
from autoalign.scoring.scorer import Job, Outcome, Score, Unscorable


@dataclass(frozen=True)
class Options:
    """Nothing: the model's keys are the job's (`model_path`, `batch_size`, ...)."""


class RewardScorer:
    """Scores the answers of a window together, those of similar length in one batch."""

    def __init__(self, job: Job) -> None:
        folder = model_folder.find(str(job.config.model_path), fetch=True)

        from autoalign.scoring.reward import RewardModel

        self._config = job.config
        self._model = RewardModel(job.config, folder)

    def score(self, answers: Sequence[Answer]) -> list[Outcome]:
        """One outcome for each answer, in order.

        Raises:
            JobFailed: the model gives rewards that are no numbers.
        """
        outcomes: list[Outcome] = [Unscorable("the answer is empty")] * len(answers)
        ids, marks = {}, {}
        for index, row in enumerate(self._model.encode([answer.conversation for answer in answers])):
            if isinstance(row, TemplateError):
                outcomes[index] = Unscorable(str(row))
            elif answers[index].text.strip():
                ids[index] = row.input_ids
                marks[index] = {"truncated": True} if row.truncated else {}
        rewards = self._model.score(list(ids.values()), self._config.batch_size)
        for index, reward in zip(ids, rewards, strict=True):
            outcomes[index] = Score(self._number(reward), marks[index])
        return outcomes

    def close(self) -> None:
        """Nothing outlives the process."""

    def _number(self, reward: float) -> float:
        if math.isfinite(reward):
            return reward
        raise JobFailed(
            f"{self._config.model_path}: a reward is no number; nothing is written. The model's "
            "training diverged, or --dtype float32 is needed"
        )


def create(options: Options, job: Job) -> RewardScorer:
    """Load the model.

    Raises:
        ModelError: it is no reward model, or can't be loaded.
        ConfigError: a GPU is asked for and there is none.
    """
    return RewardScorer(job)
