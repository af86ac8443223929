"""A ZeRO-3 export holds every weight of the live model, bit for bit, on one worker and on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from autoalign.training.saving import Saver  # noqa: E402
from tests import live_weights  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", [1, 2])
def test_every_weight_is_exported(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from safetensors.torch import load_file

    config = {
        "model_name_or_path": str(save_tiny_model(tmp_path / "model", tie=False)),
        "data_path": [str(write_conversations(tmp_path / "rows.jsonl"))],
        "output_dir": str(tmp_path / "out"),
        "cache_dir": str(tmp_path / "cache"),
        "conv_template_name": "chatml",
        "launcher": "local",
        "deepspeed": "zero3",
        "max_steps": 2,
        "save_steps": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    live = tmp_path / "live.safetensors"
    if workers == 1:
        monkeypatch.setattr(Saver, "final", Saver.final)  # what is put in its place goes with the test
        live_weights.main(tmp_path / "config.json", live)
    else:
        _on_two_ranks(tmp_path / "config.json", live)
    held, exported = load_file(live), load_file(tmp_path / "out" / "model.safetensors")
    assert held.keys() == exported.keys() == load_file(tmp_path / "model" / "model.safetensors").keys()
    assert all(torch.equal(held[name], exported[name]) for name in held)
    assert (tmp_path / "out" / "checkpoint-1" / "autoalign.json").is_file()


def _on_two_ranks(config: Path, live: Path) -> None:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, "-m", *torchrun, "-m", "tests.live_weights", str(config), str(live)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr
