"""The loop's losses and gradients against TRL's, against itself in other layouts, and across workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign import chat, formats, model_folder  # noqa: E402
from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.losses.cross_entropy import cross_entropy_sum  # noqa: E402
from autoalign.training.batches import collate  # noqa: E402
from autoalign.training.model import load_model  # noqa: E402
from autoalign.training.supervised import SupervisedModel, answer_logits  # noqa: E402
from autoalign.training.tokens import TokenizeOptions, TokenTable, tokenize  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_conversations(tmp_path_factory.mktemp("data") / "rows.jsonl")


def _config(model: Path, rows: Path, **values: Any) -> SFTConfig:
    return SFTConfig(
        model_name_or_path=str(model),
        data_path=[str(rows)],
        output_dir="unused",
        conv_template_name="chatml",
        bf16=False,
        **values,
    )


@pytest.fixture(scope="module")
def table(tiny: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenTable:
    tokenizer = model_folder.load_tokenizer(tiny)
    cache = tmp_path_factory.mktemp("cache")
    options = TokenizeOptions(str(tiny), chat.get_template("chatml"), 512, "truncate", cache)
    return tokenize(formats.load(rows).conversations, tokenizer, options, "rows")


def _loss_and_gradients(config: SFTConfig, table: TokenTable, wanted: list[int], padding_free: bool = True):
    """Mean loss of rows `wanted` and the gradient of every weight."""
    module = SupervisedModel(load_model(config, config.model_name_or_path))
    batch = collate([table.row(row) for row in wanted], padding_free)
    loss = module(batch) / len(batch.targets)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in module.model.named_parameters()}


def _assert_same(left, right, tolerance: float) -> None:
    assert left[0] == pytest.approx(right[0], abs=tolerance)
    assert left[1].keys() == right[1].keys()
    for name, gradient in left[1].items():
        torch.testing.assert_close(
            gradient, right[1][name], atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_padding_free_equals_padded(tiny: Path, rows: Path, table: TokenTable):
    free = _loss_and_gradients(_config(tiny, rows), table, [0, 3, 4, 9])
    padded = _loss_and_gradients(
        _config(tiny, rows, padding_free=False), table, [0, 3, 4, 9], padding_free=False
    )
    _assert_same(free, padded, 1e-5)


def test_a_rows_loss_does_not_change_with_its_neighbours(tiny: Path, rows: Path, table: TokenTable):
    module = SupervisedModel(load_model(_config(tiny, rows), str(tiny)))
    alone = [module(collate([table.row(row)], True)).item() for row in (2, 5)]
    together = module(collate([table.row(2), table.row(5)], True)).item()
    assert together == pytest.approx(sum(alone), abs=1e-4)


def test_the_models_own_head_gives_the_chunked_loss(tiny: Path, rows: Path, table: TokenTable):
    model = load_model(_config(tiny, rows), str(tiny))
    batch = collate([table.row(row) for row in range(4)], True)
    whole = cross_entropy_sum(answer_logits(model, batch), batch.targets)
    assert SupervisedModel(model)(batch).item() == pytest.approx(whole.item(), rel=1e-5)


def test_sliding_windows_are_kept(rows: Path, table: TokenTable, tmp_path: Path):
    """A Mistral with a window shorter than the rows: row-by-row attention equals transformers' own mask."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MistralConfig(vocab_size=512, num_key_value_heads=2, sliding_window=8, **shape)
    MistralForCausalLM(config).save_pretrained(tmp_path)
    free = _loss_and_gradients(_config(tmp_path, rows), table, [1, 4])
    padded = _loss_and_gradients(
        _config(tmp_path, rows, padding_free=False), table, [1, 4], padding_free=False
    )
    _assert_same(free, padded, 1e-5)


def test_loss_and_gradients_equal_trls(tiny: Path, rows: Path, table: TokenTable, tmp_path: Path):
    """TRL's SFTTrainer on the same 8 rows: one optimizer step's loss and gradients, in float32."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    from transformers import AutoModelForCausalLM

    wanted = list(range(8))
    examples = [
        {"input_ids": row.input_ids.tolist(), "labels": [t if s else -100 for t, s in zip(*row, strict=True)]}
        for row in map(table.row, wanted)
    ]
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        max_steps=1,
        learning_rate=0.0,
        max_grad_norm=0.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    seen: dict[str, Any] = {}

    class Spy(trl.SFTTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            seen["loss"] = super().training_step(model, inputs, num_items_in_batch).item()
            seen["grads"] = {n: p.grad.clone() for n, p in model.named_parameters()}
            return torch.tensor(seen["loss"])

    tokenizer = model_folder.load_tokenizer(tiny)
    dataset = datasets.Dataset.from_list(examples)
    Spy(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer).train()
    ours = _loss_and_gradients(_config(tiny, rows), table, wanted)
    _assert_same(ours, (seen["loss"], seen["grads"]), 1e-4)
