"""Jobs on the fake engine: the real reader, ledger, pipeline and files around it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import orjson

from autoalign import formats
from autoalign.cluster import ray_session
from autoalign.config.sample import InferConfig
from autoalign.sampling import local, messages, pipeline
from autoalign.sampling.collector import Collector
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.keys import SIZE, AnswerKeys
from autoalign.sampling.order import arranged
from autoalign.sampling.places import NameSet
from autoalign.sampling.progress import SampleProgress
from autoalign.sampling.prompts import PlainRenderer, Renderer, prepare
from autoalign.sampling.replicas import Replicas, answers_a_task
from autoalign.sampling.worker import WorkerSpec
from benchmarks.memory import MemoryWatch

# Requests in flight, of an engine that takes no time: of those that go through Ray, a task takes a quarter.
_CONCURRENCY = {"ray": 1024, "local": 512}
_LATENCY, _CONCURRENCY_OF_A_REPLICA = 0.5, 32


Launcher = Literal["ray", "local"]


def rows(folder: Path, count: int, chat: str | None = None, launcher: Launcher = "ray") -> dict[str, Any]:
    """One replica without latency: seconds of each part, and how memory grows after 5% of the rows."""
    test_file = _questions(folder, count)
    spec = _spec(EngineOptions("fake", concurrency=_CONCURRENCY[launcher]))
    config = _config(folder, test_file)
    cluster = ray_session("local", 2) if launcher == "ray" else nullcontext()
    began, cpu = time.perf_counter(), time.process_time()
    with cluster, Collector(config, (), AnswerKeys()) as collector, MemoryWatch() as watch:
        records: Any = formats.iter_records([str(test_file)], purpose="prompts")
        watch.note()
        collector.expect(prepare(records, _renderer(chat)))
        read = time.perf_counter()
        sizes = _sizes(collector, min(count, 10**6))
        taken = _run(collector, spec, Replicas(1, 1) if launcher == "ray" else None, watch)
        done = time.perf_counter()
        report = collector.finish(0.0)
        end, cpu = time.perf_counter(), time.process_time() - cpu
    size = report.output.stat().st_size
    report.output.unlink()
    test_file.unlink()
    if report.answers != count:
        raise SystemExit(f"{report.answers} answers of {count}")
    return {
        "rows": count,
        "rows_per_second": count / (end - began),
        "seconds": {"read": read - began, "answer": done - read, "finish": end - done},
        "answers_per_second": _steady(taken),
        "output_bytes_a_row": size / count,
        "driver_cpu_microseconds_a_row": cpu / count * 1e6,
        "writing_microseconds_a_row": report.writing_seconds / count * 1e6,
        **sizes,
        **watch.growth(),
    }


def replicas(folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """`count` replicas, each with 32 answers in the making, each of half a second: 64 answers a second."""
    import ray

    ideal = count * _CONCURRENCY_OF_A_REPLICA / _LATENCY
    test_file = _questions(folder, int(ideal * seconds))
    extra = {"latency": _LATENCY}
    spec = _spec(EngineOptions("fake", concurrency=_CONCURRENCY_OF_A_REPLICA, extra=extra))
    config = _config(folder, test_file)
    with ray_session("local", count + 1), Collector(config, (), AnswerKeys()) as collector:
        ray.data.DataContext.get_current().wait_for_min_actors_s = 300  # their start is not what is measured
        records: Any = formats.iter_records([str(test_file)], purpose="prompts")
        collector.expect(prepare(records, PlainRenderer()))
        taken = _run(collector, spec, Replicas(count, count))
        collector.finish(0.0).output.unlink()
    return {"replicas": count, "ideal": ideal, "answers_per_second": _steady(taken)}


def _run(
    collector: Collector, spec: WorkerSpec, pool: Replicas | None, watch: MemoryWatch | None = None
) -> list[tuple[float, int]]:
    """Answers there at each moment; without a pool one engine runs in this process."""
    taken: list[tuple[float, int]] = [(time.perf_counter(), 0)]
    total = collector.missing
    tasks = pipeline.Tasks(arranged(collector.open_tasks()), 1, total)
    reports = pipeline.reports(tasks, spec, pool, lambda: None) if pool else local.reports(tasks, spec)
    with SampleProgress(total) as progress:
        for message in reports:
            progress.heard(message.replica, message.in_flight)
            collector.take(message.answers, progress)
            now = time.perf_counter()
            if now - taken[-1][0] > 0.2 or not collector.missing:
                taken.append((now, total - collector.missing))
            if watch is not None and collector.missing < 0.95 * total:
                watch.start()
    return taken


def _sizes(collector: Collector, count: int) -> dict[str, float]:
    """Bytes of things that a job holds, for the model of a larger one."""
    prompts = [collector.prompts[number] for number in range(0, count, max(1, count // 100))]
    names = NameSet()
    for number in range(count):
        names.add(f"q{number}")
    per_task = answers_a_task(replace(_spec(EngineOptions("m")), backend="vllm"))
    task = messages.pack_task(0, [(prompt, [0]) for prompt in prompts[:per_task]])
    return {
        "prompt_bytes_a_row": sum(len(prompt.dumps()) for prompt in prompts) / len(prompts),
        "names_bytes_a_row": names.size / count,
        "key_bytes_a_row": len(orjson.dumps({"key": bytes(SIZE).hex()})) - 1,
        "task_bytes": len(task),
    }


def _steady(taken: list[tuple[float, int]]) -> float:
    """Answers a second between the first tenth of them and the last."""
    total = taken[-1][1]
    middle = [(when, count) for when, count in taken if 0.1 * total <= count <= 0.9 * total] or taken
    (begun, first), (ended, last) = middle[0], middle[-1]
    return (last - first) / max(ended - begun, 1e-9)


def _spec(options: EngineOptions) -> WorkerSpec:
    return WorkerSpec("fake", options, SamplingParams(), seed=42)


def _config(folder: Path, test_file: Path) -> InferConfig:
    given = {"backend": "fake", "model_path": "fake", "test_file": str(test_file), "output_dir": str(folder)}
    return InferConfig.build({**given, "fresh": True})


def _renderer(chat: str | None) -> Renderer:
    if chat is None:
        return PlainRenderer()
    from autoalign.sampling.renderer import ChatRenderer

    return ChatRenderer(Path(chat), None)


def _questions(folder: Path, count: int) -> Path:
    path = folder / f"questions-{count}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_lines(count))
    return path


def _lines(count: int) -> Iterator[str]:
    for number in range(count):
        question = f"A shop has {number} apples and sells {number % 97} of them. How many are left?"
        yield json.dumps({"id": f"q{number}", "prompt": question}) + "\n"
