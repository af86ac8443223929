"""What `infer` says of wrong input: one line, exit code 2, nothing started and nothing written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoalign.cli.main import main
from tests.unit.chat_tokenizers import byte_level

GOOD = '{"id": "a", "prompt": "Hi."}\n'


@pytest.fixture(scope="module")
def folder_of_a_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is looked at before an engine starts; the weights are one number."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    byte_level(adds_bos=False).save_pretrained(folder)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return folder


class Tried:
    """Runs `infer` in a folder of its own."""

    def __init__(self, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.model, self._capsys = folder, model, capsys

    def refused(self, content: str | None = GOOD, *flags: str) -> str:
        """The one line on stderr, for a file of prompts with `content`; None: there is no file."""
        prompts = self.folder / "q.jsonl"
        if content is not None:
            prompts.write_text(content)
        before = sorted(self.folder.rglob("*"))
        args = ["--backend", "fake", "--model-path", str(self.model), "--test-file", str(prompts)]
        args += ["--template", "chatml", "--output-dir", str(self.folder / "out"), *flags]
        assert main(["infer", *args]) == 2
        out, err = self._capsys.readouterr()
        assert out == ""
        assert sorted(self.folder.rglob("*")) == before
        told = [line for line in err.splitlines() if not line.startswith("warning:")]
        assert told[0].startswith("error: ")
        return "\n".join(told).removeprefix("error: ")


@pytest.fixture
def tried(tmp_path: Path, folder_of_a_model: Path, capsys: pytest.CaptureFixture[str]) -> Tried:
    return Tried(tmp_path, folder_of_a_model, capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"q\.jsonl.*(no such file|does not exist|not found)"),
        ("", r"q\.jsonl: .*(no prompts|empty)"),
        ("\n\n", r"q\.jsonl: .*(no prompts|empty)"),
        (GOOD * 3 + '{"id": "b", "prompt": "torn\n', r"q\.jsonl:4: "),
        (GOOD + '{"id": "b", "prompt": ""}\n', r"q\.jsonl:2: prompt: .*empty"),
        (GOOD + '{"id": "b", "prompt": 7}\n', r"q\.jsonl:2: prompt: "),
        (GOOD + "[1, 2]\n", r"q\.jsonl:2: .*object"),
        ('{"color": "red"}\n', r"q\.jsonl:1: no format has the keys color"),
        ('{"messages": [{"role": "robot", "content": "x"}]}\n', r"q\.jsonl:1: messages\[0\]\.role"),
    ],
)
def test_a_file_of_prompts(tried: Tried, content: str | None, message: str) -> None:
    assert re.search(message, tried.refused(content), re.IGNORECASE)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--n 0", "'n'"),
        ("--n many", "'n'"),
        ("--temperature -1", "'temperature'.*out of range"),
        ("--temperature warm", "'temperature'.*a number is expected"),
        ("--temperature nan", "'temperature'"),
        ("--temperature 0.5 0.5", "'temperature'.*given twice"),
        ("--top-p 0", "'top_p'.*out of range"),
        ("--top-p 1.5", "'top_p'.*out of range"),
        ("--min-p 2", "'min_p'.*out of range"),
        ("--top-k 1.5", "'top_k'.*whole number"),
        ("--repetition-penalty 0", "'repetition_penalty'.*out of range"),
        ("--max-new-tokens 0", "'max_new_tokens'"),
        ("--max-error-rate 2", "'max_error_rate'"),
        ("--num-replicas 0", "'num_replicas'"),
        ("--concurrency 0", "'concurrency'"),
        ("--seed -1", "'seed'"),
        ("--limit 0", "'limit'"),
        ("--temprature 1", "did you mean '--temperature'"),
        ("--max-model-len 9999", "max_model_len is 9999, but the model's context is 512"),
        ("--template nosuch", "nosuch"),
        ("--model-path nowhere/at-all", "nowhere/at-all"),
        ("--backend llama", "'backend'"),
        ("--json-schema nowhere.json --backend vllm", "nowhere.json"),
        ("--system-message-file nowhere.txt", "nowhere.txt"),
        ("--few-shot-path nowhere.jsonl", "nowhere.jsonl"),
    ],
)
def test_a_value(tried: Tried, flags: str, message: str) -> None:
    assert re.search(message, tried.refused(GOOD, *flags.split()))


def test_a_model_without_a_chat_template(tried: Tried) -> None:
    bare = shutil.copytree(tried.model, tried.folder / "bare")
    for name in ("chat_template.jinja",):
        (bare / name).unlink(missing_ok=True)
    args = ["--model-path", str(bare), "--template", "null"]
    assert "template" in tried.refused(GOOD, *args)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: (folder / "out").write_text("a file"), "out"),
        (lambda folder: (folder / "out/tiny/tiny_q.jsonl").mkdir(parents=True), "is a folder"),
        (lambda folder: other_run(folder / "out/tiny"), "holds 1 answers that this job does not ask for"),
    ],
)
def test_an_output_that_is_something_else(tried: Tried, make: Callable[[Path], object], message: str) -> None:
    make(tried.folder)
    assert message in tried.refused()


def other_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "tiny_q.jsonl").write_text(json.dumps({"id": "z-0", "text": "hm", "key": "ab" * 16}) + "\n")
