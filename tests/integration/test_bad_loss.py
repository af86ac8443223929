"""A loss that is not finite: stopped at, or passed over without a trace in weights and optimizer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from autoalign.errors import JobFailed  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from autoalign.training.supervised import SupervisedModel  # noqa: E402
from tests.compare import same_tensors  # noqa: E402
from tests.sft_runs import Runner, distance, read_weights  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow

WHOLE = {"per_device_train_batch_size": 24, "group_by_length": False}
"""Every step has all 24 rows: one step less is as good as one skipped."""


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    scratch = tmp_path_factory.mktemp("bad_loss")
    return Runner(save_tiny_model(scratch / "model"), write_conversations(scratch / "rows.jsonl"), scratch)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch):
    """`spoil({2: nan})`: the loss of the second forward pass from now is multiplied by that."""
    forward = SupervisedModel.forward

    def patch(factors: dict[int, float]) -> None:
        seen = iter(range(1, 1000))
        monkeypatch.setattr(
            SupervisedModel,
            "forward",
            lambda self, batch: forward(self, batch) * factors.get(next(seen), 1.0),
        )

    return patch


NAN = float("nan")


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("engine", ["none", "zero0", "zero2", "zero3"])
def test_a_skipped_step_leaves_no_trace(sft: Runner, spoil, engine: str, bf16: bool):
    """An update moves a weight by about the learning rate, 1e-3; bf16 rounds these weights to 1e-4."""
    shared = {"deepspeed": engine, "bf16": bf16, "on_bad_loss": "skip", **WHOLE}
    three = sft(max_steps=3, **shared)
    spoil({2: NAN})
    four = sft.fresh(max_steps=4, **shared)
    assert four.column("skipped_steps") == [0, 1, 1, 1]
    assert distance(four.weights, three.weights) < (3e-4 if bf16 else 1e-5)


def test_accumulated_gradients_of_a_skipped_step_are_dropped(sft: Runner, spoil):
    shared = {"deepspeed": "zero2", "on_bad_loss": "skip", "per_device_train_batch_size": 12}
    shared |= {"gradient_accumulation_steps": 2, "group_by_length": False}
    spoil({3: NAN})  # the first half of step 2
    four = sft.fresh(max_steps=4, **shared)
    assert four.column("skipped_steps") == [0, 1, 1, 1]
    assert distance(four.weights, sft(max_steps=3, on_bad_loss="skip", **WHOLE).weights) < 1e-5


def test_the_line_of_a_skipped_step_has_no_loss(sft: Runner, spoil):
    spoil({2: NAN})
    lines = sft.fresh(max_steps=3, on_bad_loss="skip").lines
    assert ["loss" in line for line in lines] == [True, False, True]
    assert ["grad_norm" in line for line in lines] == [True, False, True]


@pytest.mark.parametrize("engine", ["none", "zero2"])
def test_by_default_the_job_ends_and_saves_nothing_of_it(sft: Runner, spoil, engine: str):
    spoil({3: NAN})
    config = sft.config(max_steps=4, save_steps=1, deepspeed=engine)
    with pytest.raises(JobFailed, match="step 3: loss nan"):
        run(config)
    names = sorted(path.name for path in Path(config.output_dir).glob("checkpoint-*"))
    assert names == ["checkpoint-1", "checkpoint-2"]


def test_a_checkpoint_waits_for_a_good_step(sft: Runner, spoil):
    spoil({2: NAN, 3: NAN})
    assert sft.fresh(max_steps=6, save_steps=2, on_bad_loss="skip").checkpoints == ["checkpoint-4"]


def test_too_many_in_a_row_end_the_job(sft: Runner, spoil):
    spoil(dict.fromkeys(range(2, 10), NAN))
    with pytest.raises(JobFailed, match=r"step 4: .* the last 3 steps were all bad"):
        sft.fresh(max_steps=9, on_bad_loss="skip", max_bad_steps=3)


def test_a_job_without_a_good_step_is_no_model(sft: Runner, spoil):
    spoil(dict.fromkeys(range(1, 4), NAN))
    with pytest.raises(JobFailed, match="all 3 steps were skipped"):
        sft.fresh(max_steps=3, on_bad_loss="skip")


def test_a_resumed_run_skips_what_an_unbroken_one_skips(sft: Runner, spoil):
    """Step 5 is a spike against the losses of steps 1, 3 and 4, which the checkpoint knows."""
    rule = {"on_bad_loss": "skip", "loss_spike_factor": 5, "loss_spike_window": 3, "max_steps": 7}
    spoil({2: NAN, 5: 50.0})
    unbroken = sft.fresh(save_steps=4, **rule)
    assert unbroken.lines[-1]["skipped_steps"] == 2
    config = sft.config(save_steps=4, **rule)
    spoil({2: NAN, 5: 50.0, 6: "break"})
    with pytest.raises(TypeError):
        run(config)
    spoil({1: 50.0})
    run(config)
    assert read_metrics(Path(config.output_dir) / "metrics.jsonl")[-1]["skipped_steps"] == 2
    assert same_tensors(unbroken.folder, Path(config.output_dir))


@pytest.mark.parametrize("engine", ["none", "zero3"])
def test_all_ranks_skip_what_is_bad_on_one(sft: Runner, tmp_path: Path, engine: str):
    """Rank 1 alone has a bad loss at step 2; the same rows on one worker, without that step's update."""
    ranks = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    rows = [sft.model, sft.data, tmp_path / "out", engine]
    done = subprocess.run(
        [*ranks, "-m", "tests.bad_loss_job", *map(str, rows)], capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr
    assert read_metrics(tmp_path / "out" / "metrics.jsonl")[-1]["skipped_steps"] == 1
    assert (
        distance(read_weights(tmp_path / "out"), sft(max_steps=3, on_bad_loss="skip", **WHOLE).weights) < 1e-5
    )
