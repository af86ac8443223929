"""The plan against what training really takes: peak resident memory, and what autograd keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.cli.main import main  # noqa: E402
from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.training import lean_modules, plan  # noqa: E402
from autoalign.training.acceleration.attention_choice import attention_name  # noqa: E402
from autoalign.training.footprint import MicroBatch, activation_bytes, read_architecture  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CHILD = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stderr=2); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024); sys.exit(code)"
)


def measured_peak(job: str, flags: list[str]) -> int:
    """Bytes: the largest resident size of the job's process."""
    command = [sys.executable, "-m", "autoalign.cli.main", job, *flags]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ.copy(),
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("job", "data", "values"),
    [
        ("sft", "dummy_sft.json", {}),
        ("sft", "dummy_sft.json", {"save_steps": 1, "async_save": False}),
        ("sft", "dummy_sft.json", {"use_lora": True}),
        ("dpo", "dummy_dpo.json", {}),
        ("dpo", "dummy_dpo.json", {"precompute_ref_log_probs": False}),
    ],
    ids=["sft", "checkpoint", "lora", "dpo", "dpo with a kept reference"],
)
def test_the_planned_peak_is_within_15_percent(
    job: str, data: str, values: dict[str, Any], demo_model: Path, tmp_path: Path
):
    settings = {
        "model_name_or_path": str(demo_model),
        "data_path": [str(ROOT / "data" / data)],
        "output_dir": str(tmp_path / "out"),
        "cache_dir": str(tmp_path / "cache"),
        "launcher": "local",
        "max_steps": 2,
        "max_train_samples": 4,
        "per_device_train_batch_size": 2,
        **values,
    }
    config = (SFTConfig if job == "sft" else DPOConfig)(**settings)
    planned = plan.make_plan(config).memory.peak
    flags = [
        word
        for key, value in settings.items()
        for word in (f"--{key}", *(map(str, value) if isinstance(value, list) else [str(value)]))
    ]
    assert planned == pytest.approx(measured_peak(job, flags), rel=0.15)


def kept_bytes(folder: Path, layers: int, values: dict[str, Any]) -> int:
    """Bytes of the storages that autograd keeps of two rows of 20 and 12 tokens, the parameters apart."""
    from transformers import AutoConfig, LlamaForCausalLM

    sizes = AutoConfig.from_pretrained(folder, num_hidden_layers=layers)
    config = SFTConfig(model_name_or_path="m", data_path=["d"], output_dir="o", attn_implementation="rows")
    sizes._attn_implementation = attention_name(config, padded=None)
    model: Any = LlamaForCausalLM(sizes).to(torch.bfloat16)
    if values:
        from peft import LoraConfig, get_peft_model

        adapter = LoraConfig(
            task_type="CAUSAL_LM",
            r=values["lora_rank"],
            lora_dropout=values.get("lora_dropout", 0.0),
            target_modules="all-linear",
        )
        model = get_peft_model(model, adapter).get_base_model()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Any] = {}

    lean_modules.make_lean(model)

    def keep(tensor: Any) -> Any:
        packed = made_again(tensor)
        if packed is tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return packed

    made_again = lean_modules._made_again._pack
    with (
        lean_modules.make_again_instead_of_keeping(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        positions = torch.cat([torch.arange(20), torch.arange(12)])[None]
        ids = torch.ones_like(positions)
        model.get_decoder()(input_ids=ids, position_ids=positions, use_cache=False, row_lengths=(20, 12))
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"use_lora": True, "lora_rank": 4},
        {"use_lora": True, "lora_rank": 4, "lora_dropout": 0.1},
    ],
    ids=["full", "lora", "lora with dropout"],
)
def test_a_layers_activations_are_what_autograd_keeps(values: dict[str, Any], tmp_path: Path):
    folder = save_tiny_model(tmp_path / "model")
    config = SFTConfig(model_name_or_path="m", data_path=["d"], output_dir="o", **values)
    sizes = read_architecture(folder)
    thick = type(sizes)(**{**vars(sizes), "layers": 3})
    batch = MicroBatch(32, 8)
    planned = activation_bytes(thick, config, batch) - activation_bytes(sizes, config, batch)
    assert planned == kept_bytes(folder, 3, values) - kept_bytes(folder, 2, values)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("plan")
    model = save_tiny_model(folder / "model")
    data = write_conversations(folder / "rows.jsonl", count=10)
    flags = {"model_name_or_path": model, "data_path": data, "output_dir": folder / "out", "seed": 3}
    flags |= {"cache_dir": folder / "cache", "conv_template_name": "chatml", "num_train_epochs": 2}
    return ["plan", *(word for key, value in flags.items() for word in (f"--{key}", str(value)))]


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The table's names and values."""
    return {
        line[:28].strip(): line[28:].strip().split("  ")[0] for line in capsys.readouterr().out.splitlines()
    }


def test_steps_rows_and_time_are_those_of_the_data(job: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*job, "--tokens_per_second", "10"]) == 0
    table = shown(capsys)
    tokens = int(table["tokens of the data"])
    assert table["rows"] == "10"
    assert table["steps"] == "6"  # 10 rows are three batches of 4, twice
    assert int(table["tokens to train on"]) == 2 * tokens
    assert table["time"] == f"{2 * tokens / 10 / 60:.1f} min"


def test_an_earlier_run_gives_the_speed(job: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"step": step, "tokens_per_second": speed} for step, speed in enumerate((1, 20, 30, 20), 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([*job, "--output_dir", str(tmp_path)]) == 0
    assert "at 20 tokens/s, from" in capsys.readouterr().out


def test_without_a_speed_it_estimates_this_cpus(job: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(job) == 0
    assert "tokens/s, estimated: 60% of the " in capsys.readouterr().out


def test_of_a_gpu_it_says_what_to_give(job: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*job, "--gpu_memory_gib", "80"]) == 0
    assert "give --gpu_tflops X or --tokens_per_second X" in capsys.readouterr().out
    assert main([*job, "--gpu_memory_gib", "80", "--gpu_tflops", "312"]) == 0
    assert "tokens/s, estimated: 40% of 1 x 312 TFLOP/s" in capsys.readouterr().out


def test_what_cannot_fit_is_refused(job: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*job, "--gpu_memory_gib", "0.25"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "the GPU has 0.2 GiB: this job cannot fit" in message


def test_it_writes_nothing_and_loads_no_weight(job: list[str], tmp_path: Path):
    """A model folder whose weights are cut off after the header is enough."""
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(job[job.index("--model_name_or_path") + 1], folder)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: 8 + int.from_bytes(content[:8], "little")])
    assert main([*job, "--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out").exists()
