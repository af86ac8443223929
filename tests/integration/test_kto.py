"""KTO on the tiny model: TRL's loss and gradients, forms of the reference, pairs taken apart, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign import model_folder  # noqa: E402
from autoalign.cli.main import main  # noqa: E402
from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.training.examples import Layout  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402
from autoalign.training.model import load_model  # noqa: E402
from autoalign.training.prepare import prepare  # noqa: E402
from autoalign.training.reporting import Display  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from autoalign.training.singles import Singles  # noqa: E402
from autoalign.training.unpaired import UnpairedModel  # noqa: E402
from tests.compare import same_tensors  # noqa: E402
from tests.tiny import save_tiny_model, tiny_job  # noqa: E402

pytestmark = pytest.mark.slow

ANSWERS = [
    (f"What is {i} plus {i}?", f"It is {2 * i}." if i % 2 else "No idea. " * (1 + i % 3), bool(i % 2))
    for i in range(12)
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "answers.jsonl"
    rows = [{"prompt": p, "completion": c.strip(), "label": good} for p, c, good in ANSWERS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def config(tiny: Path, data: Path, tmp_path: Path):
    def make(**values: Any) -> DPOConfig:
        return DPOConfig(**tiny_job(tiny, data, tmp_path, **{"loss_type": ["kto"], **values}))

    return make


def _lines(config: DPOConfig) -> list[dict[str, Any]]:
    return read_metrics(run(config).output_dir / "metrics.jsonl")


def _losses(config: DPOConfig) -> list[float]:
    return [line["loss"] for line in _lines(config)]


def test_training_begins_at_one_half_and_tells_good_from_bad(config):
    lines = _lines(config(max_steps=15, beta=0.5, per_device_train_batch_size=12, save_steps=100))
    # Policy and reference are one: every answer's loss is 1 - sigmoid(0).
    assert lines[0]["loss"] == pytest.approx(0.5, abs=1e-5)
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert lines[-1]["rewards/chosen"] > lines[-1]["rewards/rejected"]
    assert lines[-1]["loss"] < 0.45


def test_every_form_of_the_reference_gives_the_same_losses(config, tmp_path: Path):
    cached = _losses(config())
    kept = config(precompute_ref_log_probs=False, output_dir=str(tmp_path / "kept"))
    assert _losses(kept) == pytest.approx(cached, abs=1e-5)
    adapter = {"use_lora": True, "learning_rate": 1e-2}
    switched = {**adapter, "precompute_ref_log_probs": False, "output_dir": str(tmp_path / "off")}
    on_disk = _losses(config(**adapter, output_dir=str(tmp_path / "lora")))
    assert _losses(config(**switched)) == pytest.approx(on_disk, abs=1e-5)


@pytest.mark.parametrize(
    "cut",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
        {"max_tokens_per_batch": 120, "deepspeed": "zero3"},
    ],
    ids=["accumulated", "budget-zero3"],
)
def test_a_step_is_the_same_however_it_is_cut(config, tmp_path: Path, cut: dict[str, Any]):
    """The KL term is the whole step's."""
    whole = _losses(config(beta=0.5, learning_rate=1e-2))
    parts = config(beta=0.5, learning_rate=1e-2, output_dir=str(tmp_path / "cut"), **cut)
    assert _losses(parts) == pytest.approx(whole, abs=1e-4)


def test_a_resumed_run_ends_at_the_same_weights_and_evaluates(config, data: Path, tmp_path: Path):
    unbroken = run(config(max_steps=6, eval_data_path=[str(data)]))
    again = {"output_dir": str(tmp_path / "again"), "resume": str(tmp_path / "out" / "checkpoint-4")}
    report = run(config(max_steps=6, eval_data_path=[str(data)], **again))
    assert same_tensors(unbroken.output_dir, report.output_dir)
    assert report.eval_loss == pytest.approx(unbroken.eval_loss, abs=1e-6)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_pairs_are_taken_apart(config, tmp_path: Path, loss: str):
    rows = [{"prompt": p, "chosen": "Yes.", "rejected": "No."} for p, _, _ in ANSWERS]
    pairs, singles = tmp_path / "pairs.jsonl", tmp_path / "singles.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "convert", str(pairs), "--to", "trl_unpaired", "--output", str(singles)]) == 0
    left = _losses(config(data_path=[str(pairs)], loss_type=[loss]))
    right = config(data_path=[str(singles)], loss_type=[loss], output_dir=str(tmp_path / "singles"))
    assert _losses(right) == left


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--per_device_train_batch_size", "1"], "it needs two or more"),
        (["--ld_alpha", "0.5"], "'ld_alpha' compares a pair's lengths"),
        (["--rpo_alpha", "1"], "cannot be mixed"),
        (["--loss_type", "sigmoid"], "preference rows are expected; trl_unpaired holds unpaired rows"),
    ],
)
def test_what_cannot_be_is_refused(capsys, tiny: Path, data: Path, tmp_path: Path, flags, message):
    paths = ["--model_name_or_path", str(tiny), "--data_path", str(data), "--output_dir", str(tmp_path / "o")]
    assert main(["dpo", *paths, "--conv_template_name", "chatml", "--loss_type", "kto", *flags]) == 2
    assert message in capsys.readouterr().err


def test_loss_and_gradients_equal_trls(config, tiny: Path, tmp_path: Path):
    """TRL's KTOTrainer on the same four answers: one step's loss and gradients, in float32."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    from transformers import AutoModelForCausalLM

    # A reference that differs from the policy, so that neither the rewards nor the KL are 0.
    reference = save_tiny_model(tmp_path / "reference", seed=1)
    tokenizer = model_folder.load_tokenizer(tiny)
    tokenizer.eos_token = "<|im_end|>"
    text = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    rows = [{"prompt": text.format(p), "completion": c.strip(), "label": good} for p, c, good in ANSWERS[:4]]
    weights = {"beta": 0.1, "desirable_weight": 1.3, "undesirable_weight": 0.7}
    arguments = trl.KTOConfig(
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
        **weights,
    )
    seen: dict[str, Any] = {}

    class Spy(trl.KTOTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            seen["loss"] = super().training_step(model, inputs, num_items_in_batch).item()
            seen["grads"] = {n: p.grad.clone() for n, p in model.named_parameters()}
            seen["kl"] = self._metrics["train"]["kl"][-1]
            return torch.tensor(seen["loss"])

    Spy(
        model=AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32),
        ref_model=AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train()

    ours = config(ref_model=str(reference), max_train_samples=4, precompute_ref_log_probs=False, **weights)
    _, tables = prepare(ours, str(tiny), tmp_path / "bad.jsonl", Display("dpo", quiet=True))
    module = UnpairedModel(load_model(ours, str(tiny)), ours, frozen=load_model(ours, str(reference)))
    answers, layout = Singles(tables.train, ours.model_max_length), Layout(True, 0)
    with torch.no_grad():
        kl = module(answers.mismatched(range(4), layout, range(4))) / 4
    assert kl.clamp(min=0).item() == pytest.approx(seen["kl"], abs=1e-4)
    loss = module(replace(answers.batch(range(4), layout, range(4)), kl=kl)) / 4
    loss.backward()
    assert loss.item() == pytest.approx(seen["loss"], abs=1e-4)
    for name, parameter in module.model.named_parameters():
        torch.testing.assert_close(parameter.grad, seen["grads"][name], atol=1e-4, rtol=1e-4)
