"""`--eval_config` and `--eval_every`: checkpoints are evaluated, and the final model with them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from ray_jobs_of_tests import Job, steps_done

from autoalign.cli.train import _train
from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError
from autoalign.evaluation.checkpoints import evaluated
from autoalign.manifest import model_digest
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


def test_without_save_steps_eval_every_makes_the_checkpoints(job, tmp_path: Path):
    del job["save_steps"]
    assert _train(SFTConfig.build(job)) == 0
    assert sorted(path.name for path in (tmp_path / "evals").glob("out-*")) == ["out-final", "out-step-2"]


def test_results_of_an_earlier_training_are_not_taken_for_this_ones(job, tmp_path: Path):
    for changed in ({}, {"learning_rate": 1e-2, "overwrite_output_dir": True}):
        assert _train(SFTConfig.build({**job, **changed})) == 0
        keys = json.loads((tmp_path / "evals" / "out-final" / "eval.json").read_text())
        assert keys["model_digest"] == model_digest(tmp_path / "out")


def test_checkpoints_are_evaluated_in_ray_tasks_while_training_goes_on(job, tmp_path: Path):
    own = ("output_dir", "launcher", "data_path", "bf16")
    flags = {key: value for key, value in job.items() if key not in own}
    flags |= {"data_path": tmp_path / "data.jsonl", "bf16": "false"}
    endless = {**flags, "max_steps": 100_000, "save_steps": 20, "eval_every": 20, "save_total_limit": 2}
    running = Job.start({**endless, "num_workers": 1, "cpus_per_worker": 1}, tmp_path / "out")
    running.wait(lambda: (tmp_path / "evals" / "out-step-20" / "results.json").is_file())
    done = steps_done(running.output)
    running.wait_for_step(done + 20)  # training has not waited for it, and goes on
    running.process.send_signal(signal.SIGTERM)
    code, told = running.end()
    assert (code, done > 20) == (3, True), told
    (result,) = json.loads((tmp_path / "evals" / "out-step-20" / "results.json").read_text())
    assert (result["benchmark"], result["value"]) == ("quiz", 100.0)


def test_a_wrong_evaluation_is_found_before_training(job, tmp_path: Path):
    (tmp_path / "eval.yaml").write_text("benchmark: quiz\n")
    with pytest.raises(ConfigError, match="unknown key 'benchmark'"), evaluated(SFTConfig.build(job)):
        pytest.fail("training started")
