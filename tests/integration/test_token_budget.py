"""Micro-batches cut by tokens train as micro-batches of a fixed number of rows do."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from autoalign.cli.main import main
from tests.sft_runs import Runner, distance
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    scratch = tmp_path_factory.mktemp("budget")
    return Runner(save_tiny_model(scratch / "model"), write_conversations(scratch / "rows.jsonl"), scratch)


@pytest.mark.parametrize(
    "flags",
    [{}, {"padding_free": False}, {"deepspeed": "zero2"}, {"deepspeed": "zero3"}],
    ids=["plain", "padded", "zero2", "zero3"],
)
def test_a_budget_leaves_the_steps_as_they_are(sft: Runner, flags: dict[str, object]):
    # A row is 40 to 100 tokens: 150 cut a step's 8 rows into several micro-batches.
    whole = sft(per_device_train_batch_size=8)
    cut = sft(per_device_train_batch_size=8, max_tokens_per_batch=150, **flags)
    assert cut.column("loss") == pytest.approx(whole.column("loss"), abs=1e-5)
    assert cut.column("tokens") == whole.column("tokens")
    assert distance(cut.weights, whole.weights) < 1e-4


def test_evaluation_keeps_to_the_budget_and_gives_the_same_loss(sft: Runner):
    rows = [str(sft.data)]
    whole, cut = (sft(eval_data_path=rows, max_tokens_per_batch=tokens) for tokens in (None, 120))
    assert cut.report.eval_loss == pytest.approx(whole.report.eval_loss, abs=1e-5)


def test_packing_with_a_budget_is_refused(sft: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    paths = ["--model_name_or_path", str(sft.model), "--data_path", str(sft.data)]
    flags = ["--packing", "--max_tokens_per_batch", "100", "--output_dir", str(tmp_path / "out")]
    assert main(["sft", *paths, *flags]) == 2
    assert "with packing a bin holds model_max_length tokens" in capsys.readouterr().err
