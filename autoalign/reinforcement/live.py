"""Rollouts while the job trains: weights to the engine, answers back, rewards, advantages.

The engine belongs to rank 0, which answers the prompts of the whole step; every rank gets all of it,
and takes its own micro-batches, so that a step is the same for any number of workers. An answer's seed
follows from the job's seed, the step, the prompt and the answer's number: a resumed run draws what the
unbroken one would have drawn.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autoalign.config.grpo import GRPOConfig
from autoalign.reinforcement import start
from autoalign.reinforcement.figures import Figures, describe
from autoalign.reinforcement.group import Groups, rows_of
from autoalign.reinforcement.handover import Handover
from autoalign.reinforcement.prompts import PromptTable
from autoalign.reinforcement.rewards import Rewards
from autoalign.reinforcement.rows import RolloutRows
from autoalign.reinforcement.sampler import Sampler
from autoalign.sampling.engines.base import GenerationRequest, SamplingParams, derive_seed
from autoalign.sampling.prompts import Prompt
from autoalign.training.engines.base import Engine
from autoalign.training.examples import Layout
from autoalign.training.objective import StepWork
from autoalign.training.order import Budget
from autoalign.training.task import Tables, TrainTask
from autoalign.training.world import World


class LiveRollouts:
    """The answers that each step learns from.

    Args:
        tables: `PromptTable`s.
    """

    def __init__(self, task: TrainTask, tables: Tables, world: World, layout: Layout) -> None:
        config = task.config
        assert isinstance(config, GRPOConfig) and isinstance(tables.train, PromptTable)
        self._task, self._config, self._world, self._layout = task, config, world, layout
        self._prompts = tables.train.prompts
        self._held_out = tables.evaluation.prompts if isinstance(tables.evaluation, PromptTable) else ()
        self.evaluates = bool(self._held_out)
        self._handover = Handover(config, start.model_bytes(task))
        self._figures = Figures()
        self._rows: RolloutRows | None = None
        self._weights_of = 0
        self._params = start.sampling_params(task)
        self._rewards: Rewards | None = None
        self._sampler: Sampler | None = None
        if world.is_main:
            self._rewards, self._sampler = Rewards(config), start.sampler(config, task, world)
            self._rest()

    def step(self, step: int, sources: Sequence[int], engine: Engine) -> StepWork:
        """The work of a step; answers are new every `num_iterations` steps."""
        if self._rows is None or step % self._config.num_iterations == 0:
            self._hand_over(step, engine)
            content = self._roll_out(step, [self._prompts[source] for source in sources])
            self._rows = RolloutRows.loads(self._world.share(content))
            if self._config.num_iterations > 1:
                self._rows = self._with_old_logps(self._rows, engine)
        self._figures.trains_from = time.monotonic()
        return StepWork(self._rows, self._parts(self._rows))

    def figures(self) -> dict[str, float]:
        """Means over the steps since the last call."""
        return self._figures.take()

    def evaluate(self, step: int, engine: Engine) -> dict[str, float]:
        """Rewards of one greedy answer to each held-out prompt."""
        self._hand_over(step, engine)
        found = b""
        if self._sampler is not None and self._rewards is not None:
            params = start.greedy(self._params)
            requests = [self._request(prompt, "eval", 0, params) for prompt in self._held_out]
            answers = self._sampler.answer(requests)
            texts = [None if answer is None else answer.text for answer in answers]
            scores = self._rewards.of(self._held_out, texts)
            figures = describe(self._rewards, scores, answers)
            found = json.dumps({name: value for name, value in figures.items() if value == value}).encode()
            self._rest()
        shared: dict[str, float] = json.loads(self._world.share(found))
        return shared

    def is_midway(self, step: int) -> bool:
        """Whether the next step learns from the same answers again."""
        return step % self._config.num_iterations != 0

    def close(self) -> None:
        """End the engine."""
        self._handover.close()
        if self._rewards is not None:
            self._rewards.close()
        if self._sampler is not None:
            self._sampler.close()

    def _hand_over(self, step: int, engine: Engine) -> None:
        """The policy's weights of `step` into the engine, unless it has them; one that slept has none."""
        if self._weights_of == step and not self._config.sleep_level:
            return
        began = time.monotonic()
        folder = self._handover.write(engine, self._world)
        if self._sampler is not None:
            if self._config.sleep_level:
                self._sampler.wake_up()
            self._sampler.load_weights(folder)
        self._weights_of = step
        self._figures.add({"seconds/handover": time.monotonic() - began})

    def _rest(self) -> None:
        """Leave the GPU to the trainer, where they share it."""
        if self._config.sleep_level and self._sampler is not None:
            self._sampler.sleep(self._config.sleep_level)

    def _roll_out(self, step: int, prompts: Sequence[Prompt]) -> bytes:
        """Groups of answers with their rewards, on rank 0."""
        if self._sampler is None or self._rewards is None:
            return b""
        began, number = time.monotonic(), self._config.num_generations
        asked = [prompt for prompt in prompts for _ in range(number)]
        answers = self._sampler.answer(
            [
                self._request(prompt, str(step), place % number, self._params)
                for place, prompt in enumerate(asked)
            ]
        )
        rolled = time.monotonic()
        self._rest()
        texts = [None if answer is None else answer.text for answer in answers]
        groups = Groups(asked, answers, self._rewards.of(asked, texts), number)
        made = rows_of(groups, self._rewards.weights, self._config)
        seconds = {"seconds/rollout": rolled - began, "seconds/reward": time.monotonic() - rolled}
        tokens = sum(answer.completion_tokens for answer in answers if answer is not None)
        self._figures.add(
            {
                **describe(self._rewards, groups.scores, answers, made.rewards),
                "frac_reward_zero_std": made.flat_share,
                **seconds,
                "rollout_tokens_per_second": tokens / max(seconds["seconds/rollout"], 1e-9),
            }
        )
        if self._config.log_completions:
            groups.write(self._task.output_dir / "completions" / f"step-{step + 1:06d}.jsonl", made)
        return made.rows.dumps()

    def _request(self, prompt: Prompt, when: str, number: int, params: SamplingParams) -> GenerationRequest:
        seed = derive_seed(self._config.seed, f"{when}:{prompt.id}", number)
        return start.request(f"{when}/{prompt.id}/{number}", prompt, params, seed)

    def _parts(self, rows: RolloutRows) -> list[list[int]]:
        """Micro-batches, neighbours of a group together; as many on every worker."""
        config, workers, learned = self._config, self._world.size, rows.learned
        if config.max_tokens_per_batch is not None:
            return Budget(
                config.max_tokens_per_batch, rows.lengths, not self._layout.padding_free, workers
            ).parts(learned)
        size = config.per_device_train_batch_size
        parts = [learned[begin : begin + size] for begin in range(0, len(learned), size)] or [[]]
        return parts + [[] for _ in range(-len(parts) % workers)]

    @torch.no_grad()
    def _with_old_logps(self, rows: RolloutRows, engine: Engine) -> RolloutRows:
        """The answers' log-probs under the policy before it learns from them."""
        module: Any = engine.module
        world = self._world
        module.eval()
        found = []
        for part in self._parts(rows)[world.rank :: world.size]:
            batch = rows.batch(part, self._layout, part).to(world.device)
            logps: Tensor = module.token_logps(batch)
            answers = torch.split(logps.cpu(), list(batch.answer_lengths)) if part else ()
            found += [(row, answer.numpy()) for row, answer in zip(part, answers, strict=True)]
        module.train()
        return rows.with_old_logps(found)
