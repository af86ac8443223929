"""`grpo` jobs of the tiny model in float32, answered by transformers: whole, stopped, with an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from autoalign.config.grpo import GRPOConfig
from autoalign.errors import StoppedEarly
from autoalign.reinforcement.run import run
from autoalign.reinforcement.sampler import EngineThread
from autoalign.sampling.engines.base import EngineDead
from autoalign.training import reporting
from autoalign.training.metrics import read_metrics
from tests import rank_group
from tests.sft_runs import read_weights
from tests.tiny import save_tiny_model, tiny_job

pytestmark = pytest.mark.slow
CLOCKS = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grpo")
    save_tiny_model(folder / "model")
    rows = [{"question": f"Say {number}", "answer": str(number)} for number in range(12)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def job(home: Path, name: str, **keys: Any) -> GRPOConfig:
    """Four steps of two prompts with four answers each; shorter answers are better."""
    values = {
        "reward": ["length"],
        "reward_options": {"unit": "characters"},
        "reward_weights": [-1.0],
        "backend": "hf",
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 8,
        "eval_data_path": [str(home / "prompts.jsonl")],
        "beta": 0.04,
        **keys,
    }
    return GRPOConfig.build(tiny_job(home / "model", home / "prompts.jsonl", home / name, **values))


def figures(config: GRPOConfig) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock says."""
    rows = read_metrics(Path(config.output_dir) / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not any(clock in k for clock in CLOCKS)} for row in rows]


@pytest.fixture(scope="module")
def whole(home: Path) -> GRPOConfig:
    config = job(home, "whole")
    run(config)
    return config


def test_a_job_logs_its_rewards_and_draws_them(whole: GRPOConfig) -> None:
    rows, folder = figures(whole), Path(whole.output_dir)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    assert rows[0]["reward"] == pytest.approx(-rows[0]["rewards/length/mean"])
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[3]["kl"] > 0
    assert "eval_reward" in rows[-1]
    assert (folder / "rewards.png").is_file() and (folder / "model.safetensors").is_file()


def test_on_policy_the_engine_agrees_with_the_trainer(whole: GRPOConfig) -> None:
    """After each hand-over, too: a ratio of the two models' probabilities that is 1, and clips nothing."""
    for row in figures(whole)[:-1]:
        assert row["sampling/importance_sampling_ratio"] == pytest.approx(1, abs=1e-5)
        assert row["clip_ratio/region_mean"] == 0


def test_the_reward_rises(home: Path) -> None:
    """Random answers of 8 bytes or so end at once when shorter is better."""
    keys = {"max_steps": 30, "learning_rate": 1e-2, "lr_scheduler_type": "constant", "warmup_ratio": 0}
    config = job(home, "rises", **keys, gradient_accumulation_steps=4, beta=0, save_steps=None)
    run(config)
    rewards = [row["reward"] for row in figures(config) if "reward" in row]
    assert sum(rewards[:5]) / 5 < -6 and sum(rewards[-5:]) / 5 > -2


def test_a_stopped_job_goes_on_to_the_same_weights(
    home: Path, whole: GRPOConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = job(home, "stopped")
    plain = reporting.LocalReporter.emit

    def stop_after_two(self: Any, event: Any) -> None:
        plain(self, event)
        if event["kind"] == "step" and event["step"] == 2:
            self.request_stop()

    with monkeypatch.context() as patched, pytest.raises(StoppedEarly):
        patched.setattr(reporting.LocalReporter, "emit", stop_after_two)
        run(config)
    run(config)
    assert figures(config) == figures(whole)
    before, after = read_weights(Path(whole.output_dir)), read_weights(Path(config.output_dir))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_two_workers_compute_what_one_would(home: Path, whole: GRPOConfig) -> None:
    """Rank 0 answers for both; each takes half of the micro-batches."""
    config = job(home, "two", gradient_accumulation_steps=1)
    rank_group.together(2, rank_group.train_on_answers, config)
    for mine, one in zip(figures(config), figures(whole), strict=True):
        assert mine == pytest.approx(one, rel=1e-4, abs=1e-5)


def test_an_engine_that_dies_of_the_stop_is_no_failure(
    home: Path, whole: GRPOConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal to the whole group ends the engine, too, in the third step's rollouts."""
    config = job(home, "signalled")
    stops: list[Any] = []
    plain_init, plain_answer = reporting.LocalReporter.__init__, EngineThread.answer

    def note_reporter(self: Any, display: Any) -> None:
        plain_init(self, display)
        stops.append(self.request_stop)

    def answer(self: Any, requests: Any) -> Any:
        if requests[0].id.startswith("2/"):
            stops[-1]()
            raise EngineDead("the engine is gone")
        return plain_answer(self, requests)

    with monkeypatch.context() as patched, pytest.raises(StoppedEarly, match="stopped at step 2 of 4"):
        patched.setattr(reporting.LocalReporter, "__init__", note_reporter)
        patched.setattr(EngineThread, "answer", answer)
        run(config)
    run(config)
    assert figures(config) == figures(whole)


def test_steps_on_the_same_answers_hold_the_policy_against_the_first(home: Path) -> None:
    config = job(home, "twice", num_iterations=2, eval_data_path=None, learning_rate=1e-2, warmup_ratio=0)
    run(config)
    rows = figures(config)
    assert ["reward" in row for row in rows] == [True, False, True, False]
    assert rows[0]["clip_ratio/region_mean"] == 0 < rows[1]["clip_ratio/region_mean"]


def test_an_adapter_is_handed_over_with_its_base(home: Path) -> None:
    config = job(home, "lora", use_lora=True, lora_rank=4, eval_data_path=None, learning_rate=1e-2)
    run(config)
    ratios = [row["sampling/importance_sampling_ratio"] for row in figures(config)]
    assert ratios == pytest.approx([1] * 4, abs=1e-5)
