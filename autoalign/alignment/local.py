"""The loop's real machinery: engines and training jobs that take turns on the same machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from autoalign import manifest
from autoalign.algorithms import Ask, Reply
from autoalign.alignment import checks
from autoalign.alignment.machinery import Machinery
from autoalign.cluster import ray_session
from autoalign.config.align import AlignConfig
from autoalign.config.grpo import GRPOConfig
from autoalign.config.synthesize import SynthesizeConfig
from autoalign.sampling.setup import Setup, prepare_model
from autoalign.synthesizing import engines
from autoalign.synthesizing.texts import TextStore
from autoalign.synthesizing.writer import Engines, Writer


class _Up(NamedTuple):
    """A model's engines, and what ends them."""

    engines: Engines
    ending: ExitStack


class EngineSampler:
    """One model's engines at a time; those of the last model stay up until another is asked, or `release`.

    With `side_by_side` as many models' are up as there are roles with a model of their own, the policy and
    the first model; the one that was not asked for longest makes room.
    """

    def __init__(self, config: AlignConfig) -> None:
        self._config = config
        self._most = len(config.models) + 2 if config.side_by_side else 1
        self._up: dict[str, _Up] = {}
        self._session = ExitStack()

    def __call__(self, models: Mapping[str, str], asks: Sequence[Ask], store: Path) -> list[Reply]:
        """Replies in the asks' order; texts in `store` are not asked for again."""
        replies: list[Reply] = [Reply("", "error")] * len(asks)
        with TextStore(store, False) as texts:
            for role in _by_model(models, asks):
                places = [place for place, ask in enumerate(asks) if ask.model == role]
                writer = self._writer(self._config.engine_config(models[role], role), texts)
                written = writer([asks[place] for place in places])
                for place, reply in zip(places, written, strict=True):
                    replies[place] = reply
        return replies

    def release(self) -> None:
        """End the engines."""
        while self._up:
            self._end(next(reversed(self._up)))
        self._session.close()

    def _writer(self, config: SynthesizeConfig, texts: TextStore) -> Writer:
        setup = prepare_model(config)
        name = engines.identity(config, setup)

        def start() -> Engines:
            up = self._up.pop(name, None) or self._started(config, setup)
            self._up[name] = up  # the last one asked stands last
            return up.engines

        return Writer(setup, config.seed, name, texts, start)

    def _started(self, config: SynthesizeConfig, setup: Setup) -> _Up:
        while len(self._up) >= self._most:
            self._end(next(iter(self._up)))
        if self._most > 1 and not self._up:
            # The first engines to end would take a session of theirs along.
            self._session.enter_context(engines.session(config, self._most))
        with ExitStack() as ending:
            started = engines.start(config, setup, ending)
            return _Up(started, ending.pop_all())

    def _end(self, name: str) -> None:
        self._up.pop(name).ending.close()


class JobTrainer:
    """Training jobs, as `autoalign-cli sft`, `dpo` and `grpo` run them."""

    def __init__(self, config: AlignConfig) -> None:
        self._config = config

    def __call__(self, number: int, model: str, data: list[str], output: Path) -> dict[str, Any]:
        """Train, or go on from the last checkpoint in `output`."""
        from autoalign.reinforcement.run import run as run_grpo
        from autoalign.training.run import run

        config = self._config.train_config(number, model, data, str(output))
        address = self._config.ray_address
        with ExitStack() as stack:
            if address is not None and config.launcher == "ray":  # a training knows RAY_ADDRESS alone
                stack.enter_context(ray_session(address, config.max_workers))
            report = run_grpo(config) if isinstance(config, GRPOConfig) else run(config)
        figures = {"steps": report.steps, "loss": report.loss, "tokens": report.tokens}
        return {**figures, "training_seconds": round(report.seconds, 1)}


def machinery(config: AlignConfig) -> Machinery:
    """All of it; nothing is started yet.

    Raises:
        InputError: a scorer or one of its options is wrong.
    """
    verify = checks.verifier(config.verifier, config.verifier_options) if config.verifier else None
    sampler = EngineSampler(config)
    reward = None
    if config.reward_model:
        # On a GPU of its own it needs no room of the engines'.
        make_room = (lambda: None) if config.side_by_side else sampler.release
        reward = checks.RewardModel(config.reward_model, make_room)
    return Machinery(
        sample=sampler,
        train=JobTrainer(config),
        digest=cache(lambda folder: manifest.text_digest(Path(folder))),
        verify=verify,
        benchmark=checks.verifier(config.benchmark_verifier, config.benchmark_options),
        extract=checks.extractor(config.verifier),
        reward=reward,
        release_reward=reward.release if reward else lambda: None,
    )


def _by_model(models: Mapping[str, str], asks: Sequence[Ask]) -> list[str]:
    """The asks' roles, those of one model together: its engines start once."""
    roles = list(dict.fromkeys(ask.model for ask in asks))
    first: dict[str, int] = {}
    for place, role in enumerate(roles):
        first.setdefault(models[role], place)
    return sorted(roles, key=lambda role: first[models[role]])
