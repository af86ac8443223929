"""Parts of OpenCompass in its own environment: the look for data, IFEval's checkers, a seeded model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from autoalign.evaluation.opencompass.datasets import find_configs, look_into
from autoalign.evaluation.opencompass.environment import Environment
from tests.integration.test_eval_run import opencompass_python

pytestmark = pytest.mark.slow
README = """\
---
configs:
- config_name: generation
  data_files:
  - split: validation
    path: generation/v-*
---
"""
ROW = {
    "type": "a",
    "category": "b",
    "question": "Why?",
    "best_answer": "So.",
    "correct_answers": ["So."],
    "incorrect_answers": ["No."],
    "source": "here",
}
LOAD = """
import sys
from datasets import load_dataset
print(load_dataset(path=sys.argv[1], name="generation")["validation"][0]["question"])
"""
IFEVAL = """
import json
from opencompass.datasets.IFEval.ifeval import IFEvaluator
asked = [
    ("Antworte auf Deutsch.", "language:response_language", {"language": "de"}),
    ("Antworte auf Deutsch.", "language:response_language", {"language": "de"}),
    ("No commas.", "punctuation:no_comma", {}),
]
rows = [
    {"key": key, "prompt": prompt, "instruction_id_list": [name], "kwargs": [given]}
    for key, (prompt, name, given) in enumerate(asked)
]
said = ["Das ist ein kurzer Satz auf Deutsch.", "This is a short English sentence.", "None, here."]
told = IFEvaluator().score(said, rows, [row["prompt"] for row in rows])
print(json.dumps([told["details"][str(place)]["is_correct"] for place in range(3)]))
"""
SEEDED = """
import json
import torch
from opencompass.models import HuggingFacewithChatTemplate
from autoalign.evaluation.inside_opencompass.seeded_model import SeededChat

HuggingFacewithChatTemplate.__init__ = lambda self, **options: None
HuggingFacewithChatTemplate.generate = lambda self, inputs, *_, **__: [str(torch.rand(1).item())]
first, again, other = (SeededChat(path="m", seed=seed) for seed in (42, 42, 43))
draws = [first.generate(["a"]), first.generate(["b"])]
print(json.dumps([draws == [again.generate(["a"]), again.generate(["b"])], again.generate(["b"]) == draws[1],
    draws[0] == draws[1], other.generate(["a"]) == draws[0]]))
"""


def environment() -> Environment:
    python = opencompass_python()
    (package,) = python.parents[1].glob("lib/python3*/site-packages/opencompass")
    return Environment(python, package)


def said(code: str, data: Path, *args: str) -> str:
    """The last line of what the code says in OpenCompass's environment."""
    there = environment()
    variables = {**there.variables(data.parent, data), "HF_HOME": str(data.parent / "hub")}
    line = [str(there.python), "-c", code, *args]
    done = subprocess.run(line, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_what_the_core_set_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    there, data = environment(), tmp_path / "data"
    configs = find_configs(["truthfulqa_gen", "IFEval_gen"], there.package)
    truth, instructions = look_into(configs, there, data)
    assert (truth.found, truth.given_path) == (False, None)
    assert truth.path == f"{data / 'truthful_qa'}, and the cache {tmp_path / 'hub' / 'datasets'}"
    assert (instructions.evaluator, len(instructions.lacking)) == ("IFEvaluator", 1)
    assert f"tokenizers/ in one of {data / 'nltk_data'}, " in instructions.lacking[0]


def test_a_copy_of_truthfulqa_is_found_as_opencompass_loads_it(tmp_path: Path) -> None:
    there, data = environment(), tmp_path / "data"
    folder = data / "truthful_qa"
    (folder / "generation").mkdir(parents=True)
    (folder / "generation" / "v-0.jsonl").write_text(json.dumps(ROW) + "\n")
    (folder / "README.md").write_text(README)
    (truth,) = look_into(find_configs(["truthfulqa_gen"], there.package), there, data)
    assert (truth.found, truth.given_path) == (True, str(folder))
    assert said(LOAD, data, str(folder)) == "Why?"


def test_ifeval_tells_languages(tmp_path: Path) -> None:
    """The second answer is in English, and the third has a comma."""
    assert json.loads(said(IFEVAL, tmp_path / "data")) == [True, False, False]


def test_a_seed_draws_the_same_again_and_another_seed_something_else(tmp_path: Path) -> None:
    """The same over two calls; the same wherever the run goes on; unlike for other questions and seeds."""
    assert json.loads(said(SEEDED, tmp_path / "data")) == [True, True, False, False]
