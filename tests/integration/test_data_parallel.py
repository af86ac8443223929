"""Preference training and reward models in plain data parallelism: two ranks do what one does.

Seven rows in steps of four: the second step's share is uneven, 2 and 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.config.rm import RMConfig  # noqa: E402
from autoalign.config.train import TrainConfig  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from tests import rank_group  # noqa: E402
from tests.tiny import save_tiny_model, tiny_job  # noqa: E402

pytestmark = pytest.mark.slow

ROWS = 7
QUESTIONS = [f"What is {i} plus {i}?" for i in range(ROWS)]
RIGHT = [f"It is {2 * i}." for i in range(ROWS)]
WRONG = [("No idea. " * (1 + i % 3)).strip() for i in range(ROWS)]
PAIRS = [
    {"prompt": question, "chosen": right, "rejected": wrong}
    for question, right, wrong in zip(QUESTIONS, RIGHT, WRONG, strict=True)
]
SINGLES = [
    {"prompt": question, "completion": RIGHT[i] if i % 2 else WRONG[i], "label": bool(i % 2)}
    for i, question in enumerate(QUESTIONS)
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.mark.parametrize(
    ("kind", "rows", "values"),
    [
        (DPOConfig, PAIRS, {}),
        (DPOConfig, PAIRS, {"precompute_ref_log_probs": False, "rpo_alpha": 0.5}),
        (DPOConfig, SINGLES, {"loss_type": ["kto"], "beta": 0.5}),
        (RMConfig, PAIRS, {}),
    ],
    ids=["dpo", "dpo with a kept reference", "kto", "rm"],
)
def test_two_ranks_end_where_one_does(
    kind: type[TrainConfig], rows: list[dict[str, Any]], values: dict[str, Any], tiny: Path, tmp_path: Path
):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {**values, "eval_data_path": [str(data)], "max_steps": 4, "group_by_length": False}
    alone = run(kind(**tiny_job(tiny, data, tmp_path, **values, per_device_train_batch_size=4))).output_dir
    shared = tmp_path / "shared"
    values |= {"per_device_train_batch_size": 2, "output_dir": str(shared)}
    rank_group.together(2, rank_group.train, kind(**tiny_job(tiny, data, tmp_path, **values)))
    ours, expected = (read_metrics(folder / "metrics.jsonl") for folder in (shared, alone))
    assert len(expected) > 4
    for name in {name for line in expected for name in line} - {"seconds", "tokens_per_second"}:
        assert [line.get(name) for line in ours] == [
            value if value is None else pytest.approx(value, rel=1e-4, abs=1e-4)
            for value in (line.get(name) for line in expected)
        ], name
    left, right = (load_file(folder / "model.safetensors") for folder in (shared, alone))
    for name, weight in right.items():
        torch.testing.assert_close(left[name], weight, atol=1e-5, rtol=1e-4)
