"""docs/algorithms.md as it stands: the example algorithm passes its own test, and rows have the form."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoalign import algorithms
from autoalign.algorithms import Example, Pair, Question
from autoalign.alignment.data import _row
from autoalign.records import Message
from tests.alignment_fakes import job

ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
KINDS = {"examples": Example, "pairs": Pair, "prompts": Question}
ROWS: list[tuple[str, dict[str, Any]]] = [
    (section.split("`")[0], json.loads(line))
    for section in DOC.split("\n## `")[1:]
    for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    for line in block.splitlines()
]


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


def test_an_edited_algorithm_of_the_users_makes_its_data_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does none of ours: their files change with releases."""
    own = tmp_path / "concise.py"
    own.write_text(BLOCKS[0])
    monkeypatch.setattr(algorithms, "__path__", [*algorithms.__path__, str(tmp_path)])
    names = []
    try:
        for code in (BLOCKS[0], BLOCKS[0].replace("right[0], right[-1]", "right[-1], right[0]"), BLOCKS[0]):
            own.write_text(code)
            names.append(job(tmp_path, algorithm="concise").data_stage(1).name)
        assert algorithms.build("concise").own_file == own
    finally:
        sys.modules.pop("autoalign.algorithms.concise", None)
    assert names[0] == names[2] != names[1]
    ours = [name for name in algorithms.names() if name != "concise"]
    assert [name for name in ours if algorithms.build(name).own_file is not None] == []


def test_the_example_is_about_40_lines() -> None:
    assert len(BLOCKS[0].splitlines()) <= 42


def test_every_algorithm_has_its_section_and_its_recipe() -> None:
    sections = set(re.findall(r"^## `(\w+)`$", DOC, re.MULTILINE))
    assert sections == set(algorithms.names())
    recipes = {path.stem: path for path in (ROOT / "configs" / "align").glob("*.yaml")}
    assert set(recipes) >= set(algorithms.names())
    for name, path in recipes.items():
        named = yaml.safe_load(path.read_text(encoding="utf-8"))["algorithm"]
        assert name == named or name.startswith(f"{named}_")


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_an_example_row_is_what_the_data_stage_writes(name: str, row: dict[str, Any]) -> None:
    """The row, read back into what its algorithm makes, is written as it stands."""
    number, _, own = row["id"].removeprefix("round-").partition("/")
    assert row["id"] == f"round-{number}/{own}" and number.isdigit() and own
    made = _made(row, own)
    written = _row(made, {"algorithm": name, "round": int(number)})
    about = written.pop("alignment")
    assert about == {"algorithm": name, "round": int(number), "prompt_id": "x", "reason": "y"} | made.facts
    assert {**written, "id": row["id"], "alignment": made.facts} == row
    assert type(made) in [KINDS[kind] for kind in _kinds(name)]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_the_facts_of_an_example_row_are_those_that_its_algorithm_knows(
    name: str, row: dict[str, Any]
) -> None:
    folder = ROOT / "autoalign" / "algorithms"
    code = "".join((folder / f"{each}.py").read_text() for each in (name, "_pairing", "_contrast"))
    assert [fact for fact in row["alignment"] if f'"{fact}"' not in code] == []


def test_every_algorithm_shows_a_row_and_self_rewarding_one_of_each_stage() -> None:
    assert {name for name, _ in ROWS} == set(algorithms.names())
    kinds = {type(_made(row, "x")) for name, row in ROWS if name == "self_rewarding"}
    assert kinds == {Example, Pair}


def _made(row: dict[str, Any], id: str) -> Example | Pair | Question:
    if "chosen" in row:
        (chosen,), (rejected,) = row["chosen"], row["rejected"]
        texts = chosen["content"], rejected["content"]
        return Pair(id, "x", _turns(row["prompt"]), *texts, "y", row["alignment"])
    turns = _turns(row["messages"])
    if turns[-1].role == "assistant":
        return Example(id, "x", turns, "y", row["alignment"])
    return Question(id, "x", turns, row.get("reference"), "y", row["alignment"])


def _turns(shown: list[dict[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in shown)


def _kinds(name: str) -> set[str]:
    """What it makes, in any of its stages."""
    stages = {"cai": ("revision", "feedback"), "self_rewarding": ("judge", "answer")}
    options: list[dict[str, Any]] = [{"stage": stage} for stage in stages.get(name, ())] or [{}]
    return {algorithms.build(name, **each).makes for each in options}
