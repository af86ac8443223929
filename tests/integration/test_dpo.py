"""Preference training on the tiny model: TRL's loss and gradients, forms of the reference, resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign import model_folder  # noqa: E402
from autoalign.cli.main import main  # noqa: E402
from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.errors import StoppedEarly  # noqa: E402
from autoalign.training import reference  # noqa: E402
from autoalign.training.examples import Layout, Pairs  # noqa: E402
from autoalign.training.loop import train  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402
from autoalign.training.model import load_model  # noqa: E402
from autoalign.training.preference import PreferenceModel  # noqa: E402
from autoalign.training.prepare import prepare  # noqa: E402
from autoalign.training.reporting import Display, counted  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from autoalign.training.task import TrainTask  # noqa: E402
from autoalign.training.world import World  # noqa: E402
from tests import rank_group  # noqa: E402
from tests.compare import same_tensors  # noqa: E402
from tests.tiny import save_tiny_model, tiny_job  # noqa: E402

pytestmark = pytest.mark.slow

PAIRS = [(f"What is {i} plus {i}?", f"It is {2 * i}.", "No idea. " * (1 + i % 3)) for i in range(12)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"prompt": p, "chosen": c, "rejected": r.strip()} for p, c, r in PAIRS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def config(tiny: Path, data: Path, tmp_path: Path):
    def make(**values: Any) -> DPOConfig:
        return DPOConfig(**tiny_job(tiny, data, tmp_path, **values))

    return make


def _losses(config: DPOConfig) -> list[float]:
    report = run(config)
    return [row["loss"] for row in read_metrics(report.output_dir / "metrics.jsonl")]


def test_training_begins_at_log_2_and_learns_to_prefer(config):
    report = run(config(max_steps=30))
    rows = read_metrics(report.output_dir / "metrics.jsonl")
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["rewards/accuracies"] == 1
    assert rows[-1]["rewards/chosen"] > rows[-1]["rewards/rejected"]
    assert (report.output_dir / "rewards.png").read_bytes().startswith(b"\x89PNG")


def test_a_reference_in_memory_gives_the_precomputed_losses(config, tmp_path: Path):
    precomputed = _losses(config())
    kept = _losses(config(precompute_ref_log_probs=False, output_dir=str(tmp_path / "kept")))
    assert kept == pytest.approx(precomputed, abs=1e-5)


def test_an_adapter_is_its_own_reference(config, tmp_path: Path):
    values = {"use_lora": True, "lora_rank": 4}
    precomputed = _losses(config(**values))
    switched_off = _losses(config(**values, precompute_ref_log_probs=False, output_dir=str(tmp_path / "off")))
    assert switched_off == pytest.approx(precomputed, abs=1e-5)


def test_the_references_pass_is_counted_and_can_be_stopped(config, tmp_path: Path):
    """Twelve pairs, eight at a time: counted before each group; nothing of a stopped pass is cached."""
    rows = tmp_path / "other.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": p, "chosen": c + "!", "rejected": r}) + "\n" for p, c, r in PAIRS)
    )
    seen: list[dict[str, Any]] = []

    class Watcher:
        def __init__(self, stops_after: int) -> None:
            self.stops_after = stops_after

        def emit(self, event: Any) -> None:
            seen.append(dict(event))

        def should_stop(self) -> bool:
            return len(seen) >= self.stops_after

    job = config(data_path=[str(rows)], max_steps=1)
    task, tables = prepare(job, job.model_name_or_path, tmp_path / "bad.jsonl", Display("dpo", quiet=True))
    world = World(0, 1, torch.device("cpu"))
    with pytest.raises(StoppedEarly, match="before the first step"):
        train(task, tables, world, Watcher(stops_after=1))
    assert seen == [counted("reference log-probs", 0, 24)]
    seen.clear()
    train(task, tables, world, Watcher(stops_after=99))
    assert seen[:2] == [counted("reference log-probs", done, 24) for done in (0, 16)]


@pytest.mark.parametrize("engine", ["zero0", "zero2", "zero3"])
def test_deepspeed_gives_the_same_losses(config, tmp_path: Path, engine: str):
    plain = _losses(config())
    assert _losses(config(deepspeed=engine, output_dir=str(tmp_path / engine))) == pytest.approx(
        plain, abs=1e-4
    )


def test_the_head_is_taken_in_chunks_under_zero3(config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain = _losses(config())
    heads = []

    def five(weight: Any) -> int:
        heads.append(tuple(weight.shape))
        return 5

    monkeypatch.setattr("autoalign.losses.token_logps.positions_held", five)
    sharded = config(deepspeed="zero3", output_dir=str(tmp_path / "zero3"))
    assert _losses(sharded) == pytest.approx(plain, abs=1e-4)
    model = load_model(sharded, sharded.model_name_or_path)
    assert set(heads) == {tuple(model.get_output_embeddings().weight.shape)}


def test_a_reference_in_memory_is_loaded_in_shards_under_zero3(
    config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load, sharded = reference.load, []

    def watched(task: TrainTask) -> Any:
        model = load(task)
        sharded.append({hasattr(weight, "ds_id") for weight in model.parameters()})
        return model

    plain = _losses(config())
    monkeypatch.setattr(reference, "load", watched)
    values = {"precompute_ref_log_probs": False, "deepspeed": "zero3"}
    assert _losses(config(**values, output_dir=str(tmp_path / "kept"))) == pytest.approx(plain, abs=1e-4)
    assert sharded == [{True}]


def test_a_worker_without_pairs_takes_part_in_the_references_pass(config, data: Path, tmp_path: Path):
    """Three pairs on two workers, one at a time: the fourth micro-batch of steps and evaluations is empty."""
    three = tmp_path / "three.jsonl"
    three.write_text("".join(data.read_text().splitlines(keepends=True)[:3]))
    values = {
        "data_path": [str(three)],
        "eval_data_path": [str(three)],
        "per_device_eval_batch_size": 1,
        "precompute_ref_log_probs": False,
        "max_steps": 2,
    }
    alone = run(config(**values)).output_dir
    shared = config(
        **values,
        deepspeed="zero3",
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        hang_timeout=60,
        output_dir=str(tmp_path / "shared"),
    )
    rank_group.together(2, rank_group.train, shared)
    for name in ("loss", "eval_loss"):
        ours, expected = (
            [line[name] for line in read_metrics(folder / "metrics.jsonl") if name in line]
            for folder in (tmp_path / "shared", alone)
        )
        assert ours == pytest.approx(expected, abs=1e-4)


def test_accumulation_gives_the_same_weights(config, tmp_path: Path):
    """The global batch decides, also for a loss that is averaged over tokens."""
    values = {"loss_type": ["sigmoid"], "rpo_alpha": 0.5}
    whole = run(config(**values, per_device_train_batch_size=4))
    cut = config(
        **values,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        output_dir=str(tmp_path / "cut"),
    )
    from safetensors.torch import load_file

    left, right = (load_file(r.output_dir / "model.safetensors") for r in (whole, run(cut)))
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("loss", ["ipo", "hinge", "simpo", "orpo", "cpo", "apo_zero", "sppo_hard", "wpo"])
def test_every_kind_of_loss_trains(config, loss: str):
    losses = _losses(config(loss_type=[loss], max_steps=10))
    assert losses[-1] < losses[0]


def test_ld_dpo_and_several_losses_train(config):
    losses = _losses(
        config(loss_type=["sigmoid", "hinge"], loss_weights=[0.7, 0.3], ld_alpha=0.5, max_steps=10)
    )
    assert losses[-1] < losses[0]


def test_evaluation_reports_accuracy(config, data: Path):
    report = run(config(eval_data_path=[str(data)], eval_steps=2))
    rows = [row for row in read_metrics(report.output_dir / "metrics.jsonl") if "eval_loss" in row]
    assert [row["step"] for row in rows] == [2, 4]
    assert 0 <= rows[-1]["eval_rewards/accuracies"] <= 1


def test_a_resumed_run_ends_at_the_same_weights(config, tmp_path: Path):
    unbroken = run(config(max_steps=6))
    report = run(
        config(max_steps=6, output_dir=str(tmp_path / "again"), resume=str(tmp_path / "out" / "checkpoint-4"))
    )
    assert same_tensors(unbroken.output_dir, report.output_dir)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--loss_type", "sigmoyd"], "no preference plugin is named 'sigmoyd'"),
        (["--loss_type", "ipo", "--label_smoothing", "0.1"], "label_smoothing is no option of loss_type ipo"),
        (["--packing"], "'packing' is for sft"),
    ],
)
def test_what_cannot_be_is_refused(
    capsys, tiny: Path, data: Path, tmp_path: Path, flags: list[str], message: str
):
    paths = ["--model_name_or_path", str(tiny), "--data_path", str(data), "--output_dir", str(tmp_path / "o")]
    assert main(["dpo", *paths, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_sft_data_are_refused(capsys, tiny: Path, tmp_path: Path):
    rows = tmp_path / "sft.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    paths = ["--model_name_or_path", str(tiny), "--data_path", str(rows), "--output_dir", str(tmp_path / "o")]
    assert main(["dpo", *paths, "--conv_template_name", "chatml"]) == 2
    assert "preference" in capsys.readouterr().err


def test_loss_and_gradients_equal_trls(config, tiny: Path, tmp_path: Path):
    """TRL's DPOTrainer on the same four pairs: one step's loss and gradients, in float32."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    from transformers import AutoModelForCausalLM

    # A reference that differs from the policy, so that the margin is not 0.
    reference = save_tiny_model(tmp_path / "reference", seed=1)
    tokenizer = model_folder.load_tokenizer(tiny)
    tokenizer.eos_token = "<|im_end|>"
    text = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    rows = [{"prompt": text.format(p), "chosen": c, "rejected": r.strip()} for p, c, r in PAIRS[:4]]
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"),
        per_device_train_batch_size=4,
        max_steps=1,
        learning_rate=0.0,
        max_grad_norm=0.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        beta=0.1,
    )
    seen: dict[str, Any] = {}

    class Spy(trl.DPOTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            seen["loss"] = super().training_step(model, inputs, num_items_in_batch).item()
            seen["grads"] = {n: p.grad.clone() for n, p in model.named_parameters()}
            return torch.tensor(seen["loss"])

    Spy(
        model=AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32),
        ref_model=AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train()

    ours = config(ref_model=str(reference), max_train_samples=4, precompute_ref_log_probs=False)
    _, tables = prepare(ours, str(tiny), tmp_path / "bad.jsonl", Display("dpo", quiet=True))
    module = PreferenceModel(load_model(ours, str(tiny)), ours, frozen=load_model(ours, str(reference)))
    loss = module(Pairs(tables.train).batch(range(4), Layout(True, 0), range(4))) / 4
    loss.backward()
    assert loss.item() == pytest.approx(seen["loss"], abs=1e-4)
    for name, parameter in module.model.named_parameters():
        torch.testing.assert_close(parameter.grad, seen["grads"][name], atol=1e-4, rtol=1e-4)
