"""Vectors of texts: the mean of a model's hidden states, whatever stands in the same batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoalign.cli.main import main
from autoalign.diversity import embedding_spread
from autoalign.embedding import Embedder
from autoalign.errors import ModelError
from tests.tiny import save_tiny_model

torch = pytest.importorskip("torch")

TEXTS = ["a", "a much longer text, so that the others are padded", "two words"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("embedder"))


def alone(model: Path, text: str) -> list[float]:
    """One forward pass of transformers without padding; the mean by hand."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(model, dtype=torch.float32)(tokens["input_ids"]).last_hidden_state
    return (hidden[0].sum(0) / hidden.shape[1]).tolist()


def test_padding_changes_no_vector(model: Path) -> None:
    found = Embedder(str(model)).vectors(TEXTS)
    for vector, text in zip(found, sorted(TEXTS, key=len), strict=True):
        assert vector == pytest.approx(alone(model, text), abs=1e-5)


def test_a_text_without_a_token_is_left_out(model: Path) -> None:
    embedder = Embedder(str(model))
    assert embedder.vectors([""]) == [] and len(embedder.vectors(["", "a"])) == 1


def test_stats_tell_the_spread(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "q", "completion": text} for text in TEXTS]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "stats", str(file), "--diversity", "--embedder", str(model)]) == 0
    expected = embedding_spread([alone(model, text) for text in TEXTS])
    assert f"embedding spread {expected:.3f} (mean cosine distance of 3 answers)" in capsys.readouterr().out


def test_a_missing_embedder_is_an_input_error() -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        Embedder("nowhere/to/be/found")
