"""How full the bins are on real rows: GSM8K's train set, as sft renders it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autoalign import chat, model_folder
from autoalign.records import Message
from autoalign.training.packing import pack

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, 42])
def test_bins_of_1024_tokens_are_995_per_mille_full(lengths: list[int], seed: int):
    order = np.random.default_rng(seed).permutation(len(lengths)).tolist()
    bins = pack(order, lengths, 1024)
    assert sum(lengths) / (1024 * len(bins)) >= 0.995
    assert sorted(row for bin_ in bins for row in bin_) == list(range(len(lengths)))


@pytest.fixture(scope="module")
def lengths(shared_dir: Path, demo_model: Path) -> list[int]:
    tokenizer = model_folder.load_tokenizer(demo_model)
    path = shared_dir / "data" / "gsm8k" / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    turns = [(Message("user", row["question"]), Message("assistant", row["answer"])) for row in rows]
    encoded = chat.encode_batch(turns, tokenizer, chat.get_template(None, tokenizer))
    return [len(row.input_ids) for row in encoded]
