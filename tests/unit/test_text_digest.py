"""What a model's texts depend on is in its digest; what is beside it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoalign import manifest
from autoalign.alignment import local
from autoalign.config.align import AlignConfig
from autoalign.errors import ModelError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name in ("config.json", "tokenizer.json", "README.md", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        ("chat_template.jinja", True),
        ("tokenizer_config.json", True),
        ("tokenizer.json", True),
        ("tokenizer.model", True),
        ("qwen.tiktoken", True),
        ("special_tokens_map.json", True),
        ("generation_config.json", True),
        ("config.json", True),
        ("model.safetensors", True),
        ("README.md", False),
        ("autoalign.json", False),
        ("tokenizer.json.bak", False),
    ],
)
def test_a_changed_file_is_another_writer_where_texts_depend_on_it(
    model: Path, name: str, matters: bool
) -> None:
    before = manifest.text_digest(model)
    (model / name).write_text("changed")
    assert (manifest.text_digest(model) != before) is matters


def test_weights_alone_have_their_own_digest(model: Path) -> None:
    before = manifest.model_digest(model)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert manifest.model_digest(model) == before


def test_a_text_moved_from_one_file_to_another_is_a_change(model: Path) -> None:
    (model / "vocab.txt").write_text("a")
    before = manifest.text_digest(model)
    (model / "vocab.txt").rename(model / "vocab.json")
    assert manifest.text_digest(model) != before


def test_what_is_no_model_has_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        manifest.text_digest(tmp_path)


def test_the_loop_tells_models_apart_by_their_templates(model: Path) -> None:
    values = {"model_name_or_path": "m", "output_dir": "o", "algorithm": "rlcd", "prompt_path": "p"}
    config = AlignConfig.build({**values, "metric": "judge"})
    before = local.machinery(config).digest(str(model))
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert local.machinery(config).digest(str(model)) != before
