"""vLLM on the demo model, killed in several ways; two replicas next to one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("vllm")

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

PROMPTS = 24


class Job:
    """`infer` on vLLM as a process of its own, a thread an engine."""

    def __init__(self, demo_model: Path, questions: Path, output: Path, **flags: object) -> None:
        given = {
            "model_path": demo_model, "test_file": questions, "output_file": output, "limit": PROMPTS,
            "max_new_tokens": 48, "concurrency": 2, "cpus_per_replica": 1, "dtype": "float32", **flags,
        }  # fmt: skip
        words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.output = output
        self.process = subprocess.Popen(
            [sys.executable, "-m", "autoalign.cli", "infer", *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip

    def wait_for_answers(self, count: int) -> list[psutil.Process]:
        """Until so many are finished; the processes that it has started."""
        partial = Path(f"{self.output}.partial")
        wait_until(lambda: partial.exists() and partial.read_bytes().count(b"\n") >= count, 240)
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        _, stderr = self.process.communicate(timeout=300)
        return self.process.returncode, stderr

    def rows(self) -> list[dict[str, Any]]:
        """Of the output."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.05)


def alive(process: psutil.Process) -> bool:
    """Running, and not merely unburied by whoever adopted it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def named(processes: list[psutil.Process], *names: str) -> psutil.Process:
    """The one whose name or command line has one of `names` in it."""
    told = {process: f"{process.name()} {' '.join(process.cmdline())}" for process in processes}
    found = [process for process, text in told.items() if any(name in text for name in names)]
    assert found, sorted(told.values())
    return found[0]


@pytest.fixture(scope="module")
def start(demo_model: Path, shared_dir: Path) -> Callable[..., Job]:
    questions = shared_dir / "data" / "gsm8k" / "test.jsonl"
    return lambda output, **flags: Job(demo_model, questions, output, **flags)


@pytest.fixture(scope="module")
def unbroken(start: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = start(tmp_path_factory.mktemp("unbroken") / "out.jsonl")
    code, stderr = job.end()
    assert code == 0, stderr
    assert len(job.rows()) == PROMPTS
    return job.output


def test_two_replicas_give_the_greedy_texts_of_one(
    start: Callable[..., Job], unbroken: Path, tmp_path: Path
) -> None:
    job = start(tmp_path / "out.jsonl", num_replicas=2)
    code, stderr = job.end()
    assert code == 0, stderr
    assert job.output.read_bytes() == unbroken.read_bytes()


@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_a_killed_driver_leaves_no_engine_and_the_next_run_goes_on(
    launcher: str, start: Callable[..., Job], unbroken: Path, tmp_path: Path
) -> None:
    job = start(tmp_path / "out.jsonl", launcher=launcher)
    family = job.wait_for_answers(3)
    named(family, "EngineCore")
    job.process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    job.process.wait()
    wait_until(lambda: not any(map(alive, family)), 20)
    print(f"{len(family)} processes gone after {time.monotonic() - killed:.1f} s")
    again = start(tmp_path / "out.jsonl")
    code, stderr = again.end()
    assert code == 0, stderr
    assert f" of {PROMPTS} answers are there" in stderr
    assert again.output.read_bytes() == unbroken.read_bytes()


@pytest.mark.parametrize(
    ("victim", "launcher"), [("EngineCore", "local"), ("EngineCore", "ray"), ("ray::MapWorker", "ray")]
)
def test_a_job_survives_the_death_of(
    victim: str, launcher: str, start: Callable[..., Job], unbroken: Path, tmp_path: Path
) -> None:
    job = start(tmp_path / "out.jsonl", launcher=launcher)
    named(job.wait_for_answers(3), victim).send_signal(signal.SIGKILL)
    code, stderr = job.end()
    print(stderr)
    assert code == 0, stderr
    assert job.output.read_bytes() == unbroken.read_bytes()
