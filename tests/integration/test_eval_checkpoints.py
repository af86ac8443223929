"""`--eval_config` and `--eval_every`: checkpoints are evaluated, and the final model with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoalign.cli.train import _train
from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError
from autoalign.evaluation.checkpoints import evaluated
from tests.tiny import save_tiny_model, tiny_job, write_conversations

pytestmark = pytest.mark.slow
QUIZ = """\
name: quiz
scorer: length
options: {longest: 100000}
max_new_tokens: 4
questions: [{question: "Hm?"}]
"""


@pytest.fixture
def job(tmp_path: Path) -> dict[str, object]:
    """Four steps with a checkpoint behind the second; any answer is right."""
    (tmp_path / "quiz.yaml").write_text(QUIZ)
    keys = {"backend": "hf", "benchmarks": [str(tmp_path / "quiz.yaml")], "template_name": "chatml"}
    places = {"output_dir": str(tmp_path / "evals"), "config_dir": str(tmp_path / "configs")}
    (tmp_path / "eval.yaml").write_text(json.dumps({**keys, **places}))
    model = save_tiny_model(tmp_path / "model")
    job = tiny_job(model, write_conversations(tmp_path / "data.jsonl"), tmp_path, save_steps=2)
    return {**job, "eval_config": str(tmp_path / "eval.yaml"), "eval_every": 2}


def test_the_checkpoint_and_the_final_model_are_evaluated(job, tmp_path: Path, capsys):
    assert _train(SFTConfig.build(job)) == 0
    told = capsys.readouterr().err
    assert "eval: step-2: quiz 100.00" in told
    assert "eval: final: quiz 100.00" in told
    assert sorted(path.name for path in (tmp_path / "evals").glob("out-*")) == ["out-final", "out-step-2"]


def test_a_wrong_evaluation_is_found_before_training(job, tmp_path: Path):
    (tmp_path / "eval.yaml").write_text("benchmark: quiz\n")
    with pytest.raises(ConfigError, match="unknown key 'benchmark'"), evaluated(SFTConfig.build(job)):
        pytest.fail("training started")
