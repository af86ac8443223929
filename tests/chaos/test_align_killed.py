"""An `align` job killed at 20 seeded moments of all its stages ends with the same model and the same data.

Real engines on a Ray cluster, real training; the judge is an endpoint whose verdicts follow from the answers.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tests import ray_head
from tests.align_kill_points import COUNTS, STEPS, Moment, moments
from tests.compare import same_tensors
from tests.integration.endpoint import Endpoint, completion, serve
from tests.tiny import save_tiny_model

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
JOBS, KILLS = 5, 4
ANSWERS = re.compile(r"<answer_[ab]>\n(.*?)\n</answer_[ab]>", re.DOTALL)


class Judge(Endpoint):
    """Prefers the answer with the smaller hash, whichever place it stands in."""

    models = ("judge",)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shown = ANSWERS.findall(body["messages"][-1]["content"])
        one, other = (hashlib.sha256(text.encode()).hexdigest() for text in shown)
        self._send(200, completion("[[tie]]" if one == other else "[[A]]" if one < other else "[[B]]"))


@pytest.fixture(scope="module")
def head() -> Iterator[ray_head.Head]:
    with ray_head.running_head() as running:
        yield running


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    with serve(Judge) as url:
        yield url


def talker(folder: Path) -> Path:
    """A random model that comes to an end: every tenth of its tokens is one."""
    path = save_tiny_model(folder) / "generation_config.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "eos_token_id": [kept["eos_token_id"], *range(100, 126)]}))
    return folder


@pytest.fixture(scope="module")
def config(head: ray_head.Head, judge: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two rounds over a model of two layers, sampled by a real engine."""
    folder = tmp_path_factory.mktemp("killed")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"question": f"Is {n} odd?"}) + "\n" for n in range(28)))
    port = next(flag for flag in head.flags if flag.startswith("--port=")).partition("=")[2]
    return {
        "model_name_or_path": str(talker(folder / "model")),
        "output_dir": str(folder / "unbroken"),
        "algorithm": "online_dpo",
        "models": {"judge": {"backend": "openai", "model_path": "judge", "base_url": judge}},
        "rounds": 2,
        "prompt_path": [str(prompts)],
        "prompts_per_round": 8,
        "held_out": 8,
        "backend": "hf",
        "template": "chatml",
        "max_new_tokens": 40,
        "metric": "judge",
        "promote_when": "always",
        "ray_address": f"127.0.0.1:{port}",
        "training": {
            "conv_template_name": "chatml", "bf16": False, "launcher": "local", "max_steps": STEPS,
            "save_steps": 1, "learning_rate": 3e-2, "warmup_ratio": 0.0, "model_max_length": 256,
            "cache_dir": str(folder / "cache"), "per_device_train_batch_size": 2,
        },
    }  # fmt: skip


def live(head: ray_head.Head, config: dict[str, Any], moment: Moment | None = None) -> tuple[int, str]:
    """The job's process to its end: exit code, and what it said."""
    path = Path(config["output_dir"]).with_suffix(".json")
    path.write_text(json.dumps(config))
    words = [sys.executable, "-m", "tests.align_kill_points", str(path), *map(str, moment or ())]
    env = {**head.env, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    env["KILL_HEAD"] = str(head.process.pid) if head.process else ""
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env, cwd=ROOT, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def unbroken(head: ray_head.Head, config: dict[str, Any]) -> Path:
    """A job that nothing killed."""
    code, said = live(head, config)
    assert code == 0, said
    return Path(config["output_dir"])


def made(folder: Path) -> dict[str, Any]:
    """Rows, answers and figures of every stage; a stage's name holds the digests of what went into it."""
    names = ("data.jsonl", "dropped.jsonl", "prompts.json", "answers.json")
    files = [path for name in names for path in folder.glob(f"stages/*/{name}")]
    rows = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}
    records = [json.loads(path.read_text()) for path in folder.glob("stages/*/stage.json")]
    figures = {each["name"]: {**each["figures"], "training_seconds": None} for each in records}
    assert len(figures) == len(list((folder / "stages").iterdir()))  # nothing half-done is left
    return rows | figures


def finished(folder: Path) -> dict[str, float]:
    """When each finished stage was."""
    return {path.parent.name: path.stat().st_mtime for path in folder.glob("stages/[a-z]*/stage.json")}


def test_the_seeds_reach_every_kind_of_moment() -> None:
    found = [moment for seed in range(JOBS) for moment in moments(seed, KILLS)]
    assert len(found) == 20
    assert {moment.kind for moment in found} == set(COUNTS)


@pytest.mark.parametrize("seed", range(JOBS))
def test_killed_and_run_again_it_ends_alike(
    seed: int, head: ray_head.Head, config: dict[str, Any], unbroken: Path
) -> None:
    output = unbroken.with_name(f"seed-{seed}")
    own = {**config, "output_dir": str(output)}
    for moment in moments(seed, KILLS):
        before = finished(output)
        code, said = live(head, own, moment)
        assert code == -9, f"{moment}: {said}"
        after = finished(output)
        assert {name: after[name] for name in before} == before, moment
    code, said = live(head, own)
    assert code == 0, said
    assert made(output) == made(unbroken)
    assert same_tensors(output / "promoted", unbroken / "promoted")


def test_an_engine_that_is_killed_is_started_again(
    head: ray_head.Head, config: dict[str, Any], unbroken: Path
) -> None:
    output = unbroken.with_name("engine")
    code, said = live(head, {**config, "output_dir": str(output)}, Moment(1, "engine", 3))
    assert code == 0, said
    assert made(output) == made(unbroken)
    assert same_tensors(output / "promoted", unbroken / "promoted")
