"""Reward models on the tiny model: TRL's loss and gradients, engines, adapters, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign import model_folder  # noqa: E402
from autoalign.cli.main import main  # noqa: E402
from autoalign.config.rm import RMConfig  # noqa: E402
from autoalign.losses.reward import Options  # noqa: E402
from autoalign.training.examples import Layout, Pairs  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402
from autoalign.training.model import REWARD, load_model  # noqa: E402
from autoalign.training.prepare import prepare  # noqa: E402
from autoalign.training.reporting import Display  # noqa: E402
from autoalign.training.reward_model import RewardModel  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from tests.compare import same_tensors  # noqa: E402
from tests.tiny import save_tiny_model, tiny_job  # noqa: E402

pytestmark = pytest.mark.slow

PAIRS = [
    (f"What is {i} plus {i}?", f"It is {2 * i}.", ("No idea. " * (1 + i % 3)).strip()) for i in range(12)
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every third pair has a margin."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [
        {"prompt": p, "chosen": c, "rejected": r, **({"margin": 0.5 + i} if i % 3 == 0 else {})}
        for i, (p, c, r) in enumerate(PAIRS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def config(tiny: Path, data: Path, tmp_path: Path):
    def make(**values: Any) -> RMConfig:
        return RMConfig(**tiny_job(tiny, data, tmp_path, **values))

    return make


def _losses(config: RMConfig) -> list[float]:
    report = run(config)
    return [row["loss"] for row in read_metrics(report.output_dir / "metrics.jsonl")]


def test_it_learns_to_prefer(config):
    report = run(config(max_steps=30))
    rows = read_metrics(report.output_dir / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["rewards/accuracies"] == 1
    assert rows[-1]["rewards/chosen"] > rows[-1]["rewards/rejected"]
    assert (report.output_dir / "rewards.png").read_bytes().startswith(b"\x89PNG")


def test_evaluation_reports_accuracy(config, data: Path):
    report = run(config(eval_data_path=[str(data)], eval_steps=2))
    rows = [row for row in read_metrics(report.output_dir / "metrics.jsonl") if "eval_loss" in row]
    assert [row["step"] for row in rows] == [2, 4]
    assert 0 <= rows[-1]["eval_rewards/accuracies"] <= 1


@pytest.mark.parametrize("engine", ["zero0", "zero2", "zero3"])
def test_deepspeed_gives_the_same_losses(config, tmp_path: Path, engine: str):
    plain = _losses(config())
    assert _losses(config(deepspeed=engine, output_dir=str(tmp_path / engine))) == pytest.approx(
        plain, abs=1e-4
    )


def test_zero3_exports_every_weight(config, tmp_path: Path):
    from safetensors.torch import load_file

    plain = run(config())
    sharded = run(config(deepspeed="zero3", output_dir=str(tmp_path / "zero3")))
    left, right = (load_file(r.output_dir / "model.safetensors") for r in (plain, sharded))
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=1e-4, rtol=1e-3)


def test_padding_changes_nothing(config, tmp_path: Path):
    padded = config(padding_free=False, attn_implementation="sdpa", output_dir=str(tmp_path / "padded"))
    assert _losses(padded) == pytest.approx(_losses(config()), abs=1e-5)


def test_accumulation_changes_nothing(config, tmp_path: Path):
    whole = _losses(config(per_device_train_batch_size=4))
    cut = config(
        per_device_train_batch_size=1, gradient_accumulation_steps=4, output_dir=str(tmp_path / "cut")
    )
    assert _losses(cut) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("adapter", [False, True])
def test_a_resumed_run_ends_at_the_same_weights(config, tmp_path: Path, adapter: bool):
    values = {"max_steps": 6, "use_lora": adapter}
    unbroken = run(config(**values))
    checkpoint = str(tmp_path / "out" / "checkpoint-4")
    report = run(config(**values, output_dir=str(tmp_path / "again"), resume=checkpoint))
    assert same_tensors(unbroken.output_dir, report.output_dir)


@pytest.mark.parametrize("engine", ["none", "zero3"])
def test_an_adapter_trains_the_head_in_full(config, tiny: Path, engine: str):
    from safetensors.torch import load_file

    values = {"use_lora": True, "lora_rank": 4, "deepspeed": engine}
    before = load_model(config(), str(tiny), kind=REWARD).score.weight
    report = run(config(**values, max_steps=20))
    rows = read_metrics(report.output_dir / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"]
    adapter = load_file(report.output_dir / "adapter" / "adapter_model.safetensors")
    merged = load_file(report.output_dir / "model.safetensors")
    (head,) = (tensor for name, tensor in adapter.items() if "score" in name)
    assert torch.equal(head, merged["score.weight"])
    assert not torch.equal(head, before)


def test_transformers_own_forward_gives_the_trained_rewards(config, data: Path):
    """A padded batch through AutoModelForSequenceClassification, as any other tool would."""
    from transformers import AutoModelForSequenceClassification

    report = run(config(max_steps=30, eval_data_path=[str(data)]))
    row = read_metrics(report.output_dir / "metrics.jsonl")[-1]
    model = AutoModelForSequenceClassification.from_pretrained(report.output_dir)
    tokenizer = model_folder.load_tokenizer(report.output_dir)
    tokenizer.padding_side = "right"
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": p}, {"role": "assistant", "content": c}], tokenize=False
        )
        for p, c, _ in PAIRS
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        rewards = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits
    assert rewards.shape == (12, 1)
    assert rewards.mean().item() == pytest.approx(row["eval_rewards/chosen"], abs=1e-4)


def test_going_on_from_a_reward_model_keeps_its_head(config, tmp_path: Path):
    first = run(config()).output_dir
    second = load_model(config(), str(first), kind=REWARD)
    from safetensors.torch import load_file

    assert torch.equal(second.score.weight, load_file(first / "model.safetensors")["score.weight"])


def test_margins_stay_with_their_pairs_when_others_are_dropped(config, tiny: Path, tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    long = {"prompt": "Why?", "chosen": "Because. " * 80, "rejected": "So.", "margin": 9.0}
    kept = [{"prompt": f"{i}?", "chosen": "Yes.", "rejected": "No.", "margin": float(i)} for i in (1, 2)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in (kept[0], long, kept[1])))
    wanted = config(data_path=[str(rows)], model_max_length=100, overlong="drop")
    _, tables = prepare(wanted, str(tiny), tmp_path / "bad.jsonl", Display("rm", quiet=True))
    batch = Pairs(tables.train).batch(range(2), Layout(True, 0), range(2))
    assert batch.margins.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--packing"], "'packing' is for sft"),
        (["--center_rewards_coefficient", "-1"], "center_rewards_coefficient"),
        (["--loss_type", "ipo"], "unknown flag '--loss_type'"),
        (["--use_lora", "--lora_target_modules", "q_prj"], "no module 'q_prj'"),
    ],
)
def test_what_cannot_be_is_refused(
    capsys, tiny: Path, data: Path, tmp_path: Path, flags: list[str], message: str
):
    paths = ["--model_name_or_path", str(tiny), "--data_path", str(data), "--output_dir", str(tmp_path / "o")]
    assert main(["rm", *paths, "--launcher", "local", "--conv_template_name", "chatml", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_model_with_weights_missing_is_refused(capsys, config, tiny: Path, tmp_path: Path):
    import shutil

    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(tiny, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    flags = {"model_name_or_path": str(broken), "data_path": config().data_path[0]}
    words = [word for key, value in flags.items() for word in (f"--{key}", value)]
    words += ["--output_dir", str(tmp_path / "o"), "--launcher", "local", "--conv_template_name", "chatml"]
    assert main(["rm", *words]) == 2
    assert "weights are missing: model.norm.weight" in capsys.readouterr().err


def test_loss_and_gradients_equal_trls(config, tiny: Path, tmp_path: Path):
    """TRL's RewardTrainer on the same four pairs, with margins, centring and our head, in float32."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")

    ours = config(max_train_samples=4, center_rewards_coefficient=0.01)
    _, tables = prepare(ours, str(tiny), tmp_path / "bad.jsonl", Display("rm", quiet=True))
    model = load_model(ours, str(tiny), kind=REWARD)
    rows = [tables.train.row(index).input_ids.tolist() for index in range(8)]
    margins = [0.5, 0.0, 0.0, 3.5]
    pairs = [
        {"chosen_ids": rows[2 * i], "rejected_ids": rows[2 * i + 1], "margin": margins[i]} for i in range(4)
    ]
    model.save_pretrained(tmp_path / "start")
    seen: dict[str, Any] = {}

    class Spy(trl.RewardTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            seen["loss"] = super().training_step(model, inputs, num_items_in_batch).item()
            seen["grads"] = {n: p.grad.clone() for n, p in model.named_parameters()}
            return torch.tensor(seen["loss"])

    from transformers import AutoModelForSequenceClassification

    Spy(
        model=AutoModelForSequenceClassification.from_pretrained(tmp_path / "start", dtype=torch.float32),
        args=trl.RewardConfig(
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
            center_rewards_coefficient=0.01,
        ),
        train_dataset=datasets.Dataset.from_list(pairs),
        processing_class=model_folder.load_tokenizer(tiny),
    ).train()

    module = RewardModel(model, Options(0.01))
    loss = module(Pairs(tables.train).batch(range(4), Layout(True, 0), range(4))) / 4
    loss.backward()
    assert loss.item() == pytest.approx(seen["loss"], abs=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, seen["grads"][name], atol=1e-4, rtol=1e-4)
