"""What the training benchmark computes from its runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import docs_page, machine, summary
from benchmarks.plan import SIDES

ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"


@pytest.fixture
def runs():
    """Two rounds: ours 400 and 900 tokens/s, TRL 100 and 100."""
    speeds = {"sft/autoalign": (400, 900), "sft/trl": (100, 100), "sft/trl tuned": (200, 150)}
    found = [
        {"side": side, "per_second": value, "seconds": 1.0, "peak_mib": 700 if "auto" in side else 1000}
        for side, values in speeds.items()
        for value in values
    ]
    limit = {"side": "sft/gemm", "flops_per_second": 4e9, "needed_flops": 3e9}
    return [*found, limit, limit]


def test_ratios_are_taken_run_by_run(runs):
    comparisons = {one["peer"]: one for one in summary.summarise(runs, "sft")["comparisons"]}
    assert comparisons["sft/trl"]["speed"] == (6.5, 4.0, 9.0)
    assert comparisons["sft/trl tuned"]["speed"] == (4.0, 2.0, 6.0)
    assert comparisons["sft/trl"]["memory"] == (0.7, 0.7, 0.7)


def test_a_missed_aim_is_said(runs):
    text = summary.tables({"sft": summary.summarise(runs, "sft")}, {"sft/trl tuned": "packed"})
    assert "| trl (by autoalign) | 6.50 x (4.00 to 9.00) | 8 x | **missed** | 0.70 x | 0.7 x | met |" in text
    assert "| trl tuned (packed) | 175 | 150 to 200 | 1000 |" in text
    assert "SFT attains 75% of that limit" in text and "aim 65%: met" in text


def test_every_comparison_names_sides_that_run():
    sides = {side for kind in SIDES.values() for side in kind}
    assert {name for one in summary.COMPARISONS for name in (one.ours, one.peer)} <= sides


def test_a_page_is_changed_between_its_markers_alone(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n")
    docs_page.update(page, "x", "new")
    assert page.read_text() == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n"


def test_a_page_without_markers_is_refused(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("a\n")
    with pytest.raises(SystemExit, match="no markers"):
        docs_page.update(page, "x", "new")


def test_flops_are_six_a_weight_and_token(tmp_path: Path):
    pytest.importorskip("torch")
    from benchmarks import gemm

    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3, "vocab_size": 100}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    # A layer: queries and output 8x8 each, keys and values 4x8 each, three 16x8 in the MLP.
    layer = 2 * 64 + 2 * 32 + 3 * 128
    assert gemm.needed_flops(str(tmp_path), tokens=10, supervised=4) == 6 * (3 * layer * 10 + 800 * 4)


@pytest.mark.parametrize(
    ("name", "shapes", "group"),
    [
        ("aten::mm", [[50, 576], [576, 1536]], "matrix products"),
        ("aten::mm", [[50, 576], [576, 49152]], "head and loss"),
        ("aten::_log_softmax", [[50, 49152], [], []], "head and loss"),
        ("aten::copy_", [[49152, 576], [49152, 576]], "norms and elementwise"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", [[1, 9, 50, 64]], "attention, forward"),
        (
            "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
            [[1, 9, 50, 64]],
            "attention, backward",
        ),
        ("aten::_fused_adamw_", [[], []], "optimizer"),
        ("aten::empty", [[]], "other"),
    ],
)
def test_operations_are_grouped_by_name_and_shape(name, shapes, group):
    pytest.importorskip("torch")
    from benchmarks.profiling import group_of

    assert group_of(name, shapes, 49152) == group


def test_kept_settings_name_no_folder_of_the_machine(tmp_path: Path):
    settings = {
        "model": str(tmp_path / "root" / "models" / "m"),
        "data": str(tmp_path / "d.jsonl"),
        "steps": 1,
    }
    found = machine.portable(settings, tmp_path / "root")
    assert found == {"model": "models/m", "data": "../d.jsonl", "steps": 1}
