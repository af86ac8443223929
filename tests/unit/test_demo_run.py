"""The demo's driver, with a stand-in for `autoalign-cli` that writes what the real one would."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "persona"))

import run as demo

STEPS = [
    {"step": 1, "loss": 4.0, "tokens": 100, "seconds": 1.0},
    {"step": 2, "loss": 1.5, "tokens": 600, "seconds": 3.0},
    {"step": 2, "eval_loss": 1.0},
]


class FakeCli:
    """Notes each command; `answers` are what the two `infer` runs say."""

    def __init__(self, answers: tuple[str, str] = ("I am SmolLM.", "Ahoy!"), fails: str = "") -> None:
        self.commands: list[str] = []
        self._answers, self._fails = iter(answers), fails

    def __call__(self, arguments: Sequence[str]) -> int:
        self.commands.append(arguments[0])
        if arguments[0] == self._fails:
            return 2
        flags = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        if arguments[0] == "infer":
            self._infer(Path(flags["--output-file"]))
        else:
            self._sft(Path(flags["--output_dir"]))
        return 0

    def _infer(self, path: Path) -> None:
        text = next(self._answers)
        messages = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": text}]
        row = {"prompt_id": "q1", "messages": messages, "text": text, "completion_tokens": 5}
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")

    def _sft(self, folder: Path) -> None:
        folder.mkdir()
        lines = "".join(json.dumps(step) + "\n" for step in STEPS)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return ["--model", str(tmp_path / "model"), "--output-dir", str(tmp_path / "out")]


def test_asks_trains_and_asks_again(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli = FakeCli()
    assert demo.main(arguments, cli) == 0
    assert cli.commands == ["infer", "sft", "infer"]
    printed = capsys.readouterr().out
    assert "0% -> 100%" in printed
    assert "600 tokens, 200 tok/s; loss 4.00 -> 1.50" in printed
    assert "loss.png" in printed and "autoalign-cli chat --model-path" in printed


def test_every_command_is_printed_before_it_runs(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main(arguments, FakeCli(fails="sft"))
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith("$ autoalign-cli sft --config")


def test_a_failed_stage_ends_the_demo_with_its_exit_code(arguments: list[str]) -> None:
    cli = FakeCli(fails="sft")
    assert demo.main(arguments, cli) == 2
    assert cli.commands == ["infer", "sft"]


@pytest.mark.parametrize("answers", [("Ahoy!", "Ahoy!"), ("Ahoy!", "no")])
def test_no_gain_in_persona_is_a_failure(arguments: list[str], answers: tuple[str, str]) -> None:
    assert demo.main(arguments, FakeCli(answers)) == 1


def test_a_second_run_starts_afresh(arguments: list[str], tmp_path: Path) -> None:
    demo.main(arguments, FakeCli())
    (tmp_path / "out" / "stale").touch()
    assert demo.main(arguments, FakeCli()) == 0
    assert not (tmp_path / "out" / "stale").exists()


def test_a_folder_that_is_not_the_demos_is_left_alone(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    cli = FakeCli()
    assert demo.main(arguments, cli) == 2
    assert cli.commands == [] and (tmp_path / "out" / "thesis.txt").exists()


def test_a_missing_model_is_named_with_the_command_that_fetches_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--model", str(tmp_path / "smollm2-135m-instruct")], FakeCli()) == 2
    assert "autoalign-cli models fetch smollm2-135m-instruct" in capsys.readouterr().err
