"""`eval` with the real OpenCompass, against an endpoint whose answers are written here."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.endpoint import Endpoint, completion

pytestmark = pytest.mark.slow
RIGHT, ASKED = 5, 8


def opencompass_python() -> Path:
    """Its environment; skips where it was not made."""
    python = Path(os.environ.get("AUTOALIGN_EVAL_PYTHON") or ROOT / ".venv-eval" / "bin" / "python")
    if not python.is_file():
        pytest.skip("OpenCompass's environment is absent: make setup-eval")
    return python


class Pupil(Endpoint):
    """Knows the answers to the first `RIGHT` questions, and 0 for the others; its functions return 0."""

    known: dict[str, str] = {}  # noqa: RUF012
    seeds: list[int] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Pupil.seeds.append(body["seed"])
        said = body["messages"][-1]["content"]
        answer = next((answer for question, answer in self.known.items() if question in said), "0")
        function = re.search(r"def \w+\(\):", said)
        self._send(200, completion(f"{function[0]}\n    return 0" if function else f"So it is {answer}."))


@pytest.fixture
def endpoint(data_root) -> Iterator[str]:
    rows = [json.loads(line) for line in (data_root / "gsm8k" / "test.jsonl").read_text().splitlines()]
    Pupil.seeds = []
    Pupil.known = {row["question"]: row["answer"].split("#### ")[1] for row in rows[:RIGHT]}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pupil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.fixture
def data_root(tmp_path) -> Path:
    """The demo's questions; HumanEval's file is broken."""
    folder = tmp_path / "data"
    (folder / "humaneval").mkdir(parents=True)
    (folder / "gsm8k").symlink_to(ROOT / "data" / "gsm8k")
    (folder / "humaneval" / "human-eval-v2-20210705.jsonl").write_text('{"task_id": "torn\n')
    return folder


def evaluate(tmp_path, endpoint, *flags):
    """The command, with stdin closed."""
    command = [sys.executable, "-m", "autoalign.cli", "eval", "--endpoint", endpoint, "--model_path", "pupil"]
    command += ["--model_id", "pupil_1", "--data_root", str(tmp_path / "data"), "--limit", str(ASKED)]
    command += ["--opencompass_python", str(opencompass_python()), "--datasets", "gsm8k_gen", "humaneval_gen"]
    return subprocess.run(
        [*command, *flags], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=400, check=False,
    )  # fmt: skip


def test_a_broken_set_is_told_and_reuse_finishes_it(tmp_path, endpoint):
    first = evaluate(tmp_path, endpoint)
    assert first.returncode == 1, first.stderr
    header, row = csv.reader((tmp_path / "outputs" / "pupil_1" / "ordered_res.csv").open())
    cells = dict(zip(header, row, strict=True))
    assert cells["gsm8k_gen"].startswith(f"{100 * RIGHT / ASKED:.2f} [")
    assert cells["humaneval_gen"].startswith("failed: json.decoder.JSONDecodeError")

    refused = evaluate(tmp_path, endpoint)
    assert (refused.returncode, "--reuse" in refused.stderr) == (2, True)

    broken = tmp_path / "data" / "humaneval" / "human-eval-v2-20210705.jsonl"
    problems = [problem("zero", 0), problem("one", 1)]
    broken.write_text("".join(json.dumps(row) + "\n" for row in problems))
    again = evaluate(tmp_path, endpoint, "--reuse")
    assert again.returncode == 0, again.stderr
    # Every program returns 0, which is right for one of the two.
    assert "humaneval_gen  50.00 [" in again.stdout
    kept = (tmp_path / "outputs" / "pupil_1" / "questions" / "gsm8k_gen.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"] for line in kept] == [1.0] * RIGHT + [0.0] * (ASKED - RIGHT)


def test_each_run_of_drawn_answers_has_a_seed(tmp_path, endpoint):
    done = evaluate(tmp_path, endpoint, "--datasets", "gsm8k_gen", "--num_runs", "2", "--temperature", "0.7")
    assert done.returncode == 0, done.stderr
    assert sorted(Pupil.seeds) == [42] * ASKED + [43] * ASKED
    assert f"gsm8k_gen  {100 * RIGHT / ASKED:.2f} [" in done.stdout


def by_hand(tmp_path, endpoint, tokenizer):
    """OpenCompass's own command over a config as its documentation has them, without a file of ours."""
    (tmp_path / "hand.py").write_text(f"""
from mmengine.config import read_base
with read_base():
    from opencompass.configs.datasets.gsm8k.gsm8k_gen import gsm8k_datasets as datasets
datasets[0]["reader_cfg"]["test_range"] = "[0:{ASKED}]"
turns = [dict(role="HUMAN", api_role="HUMAN"), dict(role="BOT", api_role="BOT", generate=True)]
models = [dict(
    abbr="hand", type="opencompass.models.OpenAISDK", path="pupil", openai_api_base="{endpoint}", key="ENV",
    tokenizer_path="{tokenizer}", meta_template=dict(round=turns), batch_size=4, max_out_len=64,
    max_seq_len=8192, temperature=0.0, openai_extra_kwargs=dict(seed=1), query_per_second=100,
)]
""")
    command = [opencompass_python().with_name("opencompass"), "hand.py", "-w", tmp_path / "by_hand"]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {"COMPASS_DATA_CACHE": str(tmp_path), "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=300,
        check=False,
    )  # fmt: skip
    (table,) = (tmp_path / "by_hand").glob("*/summary/summary_*.csv")
    (row,) = csv.DictReader(table.open())
    return row["hand"], done


def test_the_number_is_the_one_of_opencompass_run_by_hand(tmp_path, endpoint, demo_model):
    number, done = by_hand(tmp_path, endpoint, demo_model)
    assert number == f"{100 * RIGHT / ASKED:.2f}", done.stdout + done.stderr
    ours = evaluate(tmp_path, endpoint, "--datasets", "gsm8k_gen")
    assert f"{number} [" in ours.stdout, ours.stdout + ours.stderr


def problem(name: str, value: int) -> dict[str, str]:
    """A function to complete, as HumanEval has them."""
    test = f"def check(candidate):\n    assert candidate() == {value}\n"
    return {"task_id": name, "prompt": f'def {name}():\n    """It."""\n', "entry_point": name, "test": test}
