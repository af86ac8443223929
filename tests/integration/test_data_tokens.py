"""`autoalign-cli data` with a real tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoalign.cli.main import main
from autoalign.formats import load

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SFT, DPO = str(ROOT / "data/dummy_sft.json"), str(ROOT / "data/dummy_dpo.json")


def test_preview_marks_what_is_trained_on(demo_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--tokenizer", str(demo_model), "--template", "chatml", "--n", "1"]
    assert main(["data", "preview", SFT, *flags]) == 0
    answer = load(SFT).conversations[0].messages[-1].content
    assert f"<|im_start|>assistant\n«{answer}<|im_end|>»" in capsys.readouterr().out


def test_preview_of_a_pair_trains_on_the_last_answers_alone(
    demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "preview", DPO, "--tokenizer", str(demo_model), "--n", "8"]) == 0
    last = capsys.readouterr().out.split("== ")[-1]
    assert "Do you tend to stop" in last
    assert last.count("«") == 2


def test_validate_names_rows_of_which_nothing_is_left(
    demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--tokenizer", str(demo_model), "--model-max-length", "10"]
    assert main(["data", "validate", SFT, *flags]) == 2
    assert "nothing to train on is left" in capsys.readouterr().err


def test_validate_counts_rows_that_are_cut(demo_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--tokenizer", str(demo_model), "--template", "chatml", "--model-max-length", "60"]
    main(["data", "validate", SFT, *flags])
    assert "cut at 60 tokens" in capsys.readouterr().out


def test_stats_counts_tokens(demo_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", SFT, "--tokenizer", str(demo_model)]) == 0
    assert "answer (tokens)" in capsys.readouterr().out


def test_a_tokenizer_needs_no_weights_beside_it(
    demo_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).symlink_to(demo_model / name)
    assert main(["data", "preview", SFT, "--tokenizer", str(tmp_path), "--n", "1"]) == 0
    assert "trained on" in capsys.readouterr().out


def test_a_folder_without_tokenizer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", SFT, "--tokenizer", str(tmp_path)]) == 2
    assert f"{tmp_path}: no tokenizer in this folder" in capsys.readouterr().err
