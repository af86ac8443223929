"""What a sampling job shows of itself, and conversations of several turns, on the fake engine."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("torch")

from autoalign.cli.main import main
from autoalign.cluster import ray_session
from autoalign.sampling import metrics
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.messages import pack_task
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.worker import EngineWorker, WorkerSpec
from tests.tiny import save_tiny_model

pytestmark = pytest.mark.slow

ROWS = 20


@pytest.fixture(scope="module", autouse=True)
def ray_for_the_module() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "500")
        with ray_session("local", min_cpus=4):
            yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With room for conversations: its tokens are characters."""
    folder = save_tiny_model(tmp_path_factory.mktemp("figures") / "tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    return folder


def infer(folder: Path, model: Path, texts: list[str], **flags: object) -> list[dict[str, Any]]:
    prompts, output = folder / "prompts.jsonl", folder / "out" / "answers.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    given = {"model_path": model, "test_file": prompts, "output_file": output, "template": "chatml", **flags}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    assert main(["infer", "--backend", "fake", *words]) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


def figures(name: str) -> dict[str, float]:
    """Of each replica, at the metrics endpoint of the cluster's one node."""
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    lines = re.findall(rf'^ray_{name}\{{.*model="seen".*replica="(.+?)".*\}} (\S+)$', text, re.MULTILINE)
    return {replica: float(value) for replica, value in lines}


def test_a_job_shows_what_it_did(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`echo: q N` has three words."""
    infer(tmp_path, model, [f"q {number}" for number in range(ROWS)], num_replicas=2)
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("infer:")]
    assert re.search(rf"^infer: {ROWS}/{ROWS} answers, .* in \d+ out, replicas [12], .* errors 0$", lines[-1])
    assert f"stop {ROWS} (100%)" in shown.out and "median 3, 95% 3, longest 3" in shown.out
    assert (tmp_path / "out" / "sample.png").read_bytes().startswith(b"\x89PNG")


def test_every_engine_tells_prometheus_its_figures() -> None:
    """Two engines, two answers of two words each to a prompt of three tokens; one more prompt fails."""
    import ray

    class Host:  # in here, so that it travels to the actor's process whole
        """An engine's actor that outlives its work, so that there is time to look at its figures."""

        def __init__(self, spec: WorkerSpec) -> None:
            self._worker = EngineWorker(spec)

        def answer(self, task: bytes) -> int:
            """How many messages it took."""
            return len(list(self._worker(pa.table({"task": pa.array([task], pa.binary())}))))

    options = EngineOptions("models/seen", extra={"fail_ids": ["p1-0", "p1-0-again"]})
    spec = WorkerSpec("fake", options, SamplingParams(), seed=1)
    prompts = [Prompt(n, f"p{n}", ({"role": "user", "content": "q"},), (1, 2, 3)) for n in range(2)]
    task = pack_task(0, [(prompts[0], [0, 1]), (prompts[1], [0])])
    hosts = [ray.remote(Host).remote(spec) for _ in range(2)]
    ray.get([host.answer.remote(task) for host in hosts])
    assert in_time(lambda: list(figures(f"{metrics.ROWS}_total").values()) == [2, 2])
    assert in_time(lambda: list(figures(f"{metrics.ERRORS}_total").values()) == [1, 1])
    assert list(figures(f"{metrics.PROMPT_TOKENS}_total").values()) == [6, 6]
    assert list(figures(f"{metrics.OUTPUT_TOKENS}_total").values()) == [4, 4]


def in_time(holds: Any) -> bool:
    """Within half a minute: the nodes tell their figures now and then."""
    until = time.monotonic() + 30
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.2)
    return bool(held)


def test_a_conversation_of_three_turns(tmp_path: Path, model: Path) -> None:
    (row,) = infer(tmp_path, model, ["hello"], turns=3, temperature=1, user_system_message="Be curious.")
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * 3
    assert row["messages"][0]["content"] == "hello" and row["text"] == row["messages"][-1]["content"]
    assert row["completion_tokens"] == sum(turn["completion_tokens"] for turn in row["turns"])
    assert len({turn["seed"] for turn in row["turns"]}) == 3
