"""The example of docs/algorithms.md, as it stands there: found by its name, and passing its own test."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from autoalign import algorithms

DOC = (Path(__file__).resolve().parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)


def test_the_example_is_found_and_passes_its_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, test = BLOCKS
    (tmp_path / "concise.py").write_text(code)
    monkeypatch.setattr(algorithms, "__path__", [*algorithms.__path__, str(tmp_path)])
    assert "concise" in algorithms.names()
    found: dict[str, object] = {}
    try:
        exec(compile(test, "docs/algorithms.md", "exec"), found)
        found["test_concise_prefers_the_shorter_of_two_right_answers"]()  # type: ignore[operator]
    finally:
        sys.modules.pop("autoalign.algorithms.concise", None)


def test_the_example_is_about_40_lines() -> None:
    assert len(BLOCKS[0].splitlines()) <= 42


def test_every_algorithm_has_its_section_and_its_recipe() -> None:
    sections = set(re.findall(r"^## `(\w+)`$", DOC, re.MULTILINE))
    assert sections == set(algorithms.names())
    recipes = Path(__file__).resolve().parents[2] / "configs" / "align"
    assert {path.stem for path in recipes.glob("*.yaml")} == set(algorithms.names())
