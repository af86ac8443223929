"""What the tests of sampling faults share: a cluster of two nodes, a small disk, an unbroken run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.sampling_faults import Fault
from tests.tiny import save_tiny_model

PROMPTS, N = 60, 2
ROOT = Path(__file__).resolve().parents[1]
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@contextmanager
def small_disk(folder: Path, kilobytes: int = 4096) -> Iterator[Path | None]:
    """A tmpfs; None where mounting one is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Nodes:
    """A head and one more node of a CPU each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(
            initialize_head=True, head_node_args={**NODE, "include_dashboard": False}
        )
        self._second = self._cluster.add_node(**NODE)
        self.address: str = self._cluster.address

    def lose_one(self) -> None:
        """Kill the second node's raylet and all that runs on it."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def add_one(self) -> None:
        """A new one in its place."""
        self._second = self._cluster.add_node(**NODE)

    def shutdown(self) -> None:
        """End both."""
        self._cluster.shutdown()


def write_job(folder: Path, address: str | None) -> Path:
    """The job that all faults befall: 60 prompts, 2 answers each, on two nodes or in its own process."""
    prompts = folder / "prompts.jsonl"
    rows = [{"id": f"q{i}", "prompt": f"What is {i} and {i}?", "topic": i % 3} for i in range(PROMPTS)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "others").mkdir()
    (folder / "logs").mkdir()
    job = {
        "backend": "fake",
        "model_path": str(save_tiny_model(folder / "tiny")),
        "template": "chatml",
        "test_file": str(prompts),
        "n": N,
        "temperature": 1.0,
        "num_replicas": 2 if address else 1,
        "cpus_per_replica": 1,
        # One engine's first answers come together, and every fault is to find some of them kept.
        "concurrency": 8 if address else 2,
        "launcher": "ray" if address else "local",
        "ray_address": address,
        "folders": {name: str(folder / name) for name in ("others", "logs", "disk")},
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def befall(job: Path, nodes: Nodes | None, seeds: list[int]) -> dict[int, dict[str, Any]]:
    """What became of the job under each seed's fault."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.sampling_faults", str(job), *map(str, seeds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT,
    )  # fmt: skip
    found = {}
    with process:
        assert process.stdout is not None and process.stdin is not None
        for line in process.stdout:
            if line.startswith("node") and nodes:
                nodes.lose_one()
                process.stdin.write("\n")
                process.stdin.flush()
                nodes.add_one()
            elif line.startswith("{"):
                told = json.loads(line)
                found[told["seed"]] = told
    return found


class Befallen(NamedTuple):
    """The job, and what became of it under each seed's fault."""

    job: Path
    told: dict[int, dict[str, Any]]


@contextmanager
def befallen_jobs(folder: Path, seeds: Iterable[int], with_ray: bool = True) -> Iterator[Befallen]:
    """The job under each seed's fault, on a cluster that goes with the block or without Ray."""
    nodes = Nodes() if with_ray else None
    try:
        with small_disk(folder / "disk") as disk:
            job = write_job(folder, nodes.address if nodes else None)
            possible = [seed for seed in seeds if disk or Fault.of(seed).kind != "disk"]
            yield Befallen(job, befall(job, nodes, possible))
    finally:
        if nodes:
            nodes.shutdown()


def check(fault: Fault, befallen: Befallen) -> None:
    """The output is the unbroken run's to the byte; nothing was lost, repeated, or left lying about."""
    job = befallen.job
    if fault.kind == "disk" and fault.seed not in befallen.told:
        pytest.skip("mounting a tmpfs takes root")
    told = befallen.told[fault.seed]
    folder = job.parent
    log = "".join(path.read_text() for path in sorted((folder / "logs").glob(f"{fault}-*.log")))
    assert told["first"] == {"driver": -9, "disk": 1}.get(fault.kind, 0), log
    assert told["second"] in (None, 0), log
    if told["second"] == 0:
        assert told["kept"]
        assert f"{told['kept']} of {PROMPTS * N} answers are there" in log
    output = folder / ("disk" if fault.kind == "disk" else "others") / str(fault) / "out.jsonl"
    unbroken = (folder / "others" / "unbroken" / "out.jsonl").read_bytes()
    assert output.read_bytes() == unbroken
    assert len({json.loads(line)["key"] for line in unbroken.splitlines()}) == PROMPTS * N
    happened = {"out.jsonl.happened"} if fault.kind in ("actor", "engine") else set()
    left = {path.name for path in output.parent.iterdir()} - {"sample.png"}
    assert left == {"out.jsonl"} | happened
