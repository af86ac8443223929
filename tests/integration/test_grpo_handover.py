"""vLLM takes new weights while it stays up, and then answers as if it had been started with them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from autoalign.config.grpo import GRPOConfig
from autoalign.reinforcement.handover import Handover
from autoalign.reinforcement.sampler import EngineThread
from autoalign.sampling.engines.base import Completion, EngineOptions, GenerationRequest, SamplingParams
from autoalign.training.engines.base import whole_weights
from autoalign.training.world import World

pytestmark = pytest.mark.slow
ALONE = World(0, 1, torch.device("cpu"))
# Of the answers' log-probs in bfloat16; the same numbers, as the batches are the same.
CLOSE = 1e-3


def trainer(folder: Path, noise: float) -> SimpleNamespace:
    """A training engine's view of the model, each weight changed a little (the tied embeddings, too)."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * noise * weight.std())
    return SimpleNamespace(module=SimpleNamespace(model=model), weights=lambda: whole_weights(model))


def answers(engine: EngineThread, when: str) -> list[Completion]:
    """Greedy ones, asked one after the other."""
    params = SamplingParams(max_new_tokens=12, logprobs=True)
    prompts = [tuple(range(40, 60)), tuple(range(900, 970))]
    asked = [GenerationRequest(f"{when}-{n}", (), ids, params) for n, ids in enumerate(prompts)]
    found = [engine.answer([request])[0] for request in asked]
    return [answer for answer in found if answer is not None]


def differences(some: list[Completion], others: list[Completion]) -> float:
    """The largest difference of two tokens' log-probs."""
    pairs = zip(some, others, strict=True)
    return max(abs(a - b) for x, y in pairs for a, b in zip(x.logprobs or (), y.logprobs or (), strict=True))


def test_weights_handed_over_are_those_of_a_fresh_engine(demo_model: Path, tmp_path: Path) -> None:
    config = GRPOConfig.build({"model_name_or_path": "m", "data_path": ["d"], "output_dir": str(tmp_path)})
    old, new = trainer(demo_model, 0.0), trainer(demo_model, 0.1)
    saved = tmp_path / "saved"
    new.module.model.save_pretrained(saved)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (saved / name).write_bytes((demo_model / name).read_bytes())
    handover = Handover(config, 0)
    engine = EngineThread("vllm", EngineOptions(str(saved), dtype="bfloat16", max_model_len=256))
    try:
        fresh = answers(engine, "fresh")
        engine.load_weights(handover.write(old, ALONE))
        before = answers(engine, "before")
        engine.load_weights(handover.write(new, ALONE))
        after = answers(engine, "after")
    finally:
        engine.close()
        handover.close()
    assert [answer.token_ids for answer in before] != [answer.token_ids for answer in fresh]
    assert [answer.token_ids for answer in after] == [answer.token_ids for answer in fresh]
    assert [answer.text for answer in after] == [answer.text for answer in fresh]
    assert differences(after, fresh) < CLOSE
