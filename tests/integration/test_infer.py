"""Sampling through Ray Data: the demo model on GSM8K questions with real engines, an endpoint over HTTP.

One Ray session and one job on vLLM serve the module; what an engine does with
a request is in `test_engines.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from endpoint import Endpoint, serve

from autoalign import model_folder
from autoalign.cluster import ray_session
from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError, DataError, JobFailed, ModelError, TemplateError
from autoalign.records import Message
from autoalign.sampling.renderer import ChatRenderer
from autoalign.sampling.report import SampleReport
from autoalign.sampling.run import run

pytestmark = pytest.mark.slow

QUESTIONS = 16


@pytest.fixture(scope="module", autouse=True)
def ray_for_the_module() -> Iterator[None]:
    with ray_session("local", min_cpus=4):
        yield


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serve() as url:
        yield url


@pytest.fixture(scope="module")
def questions(shared_dir: Path) -> Path:
    return shared_dir / "data" / "gsm8k" / "test.jsonl"


def infer(folder: Path, **values: Any) -> SampleReport:
    given = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
    return run(InferConfig.build({"output_dir": str(folder), "source": "s", **given}))


def rows_of(path: Path | None) -> list[dict[str, Any]]:
    assert path is not None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prompts(folder: Path, *texts: str) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return file


class Done(NamedTuple):
    """A finished job."""

    rows: list[dict[str, Any]]
    report: SampleReport


@pytest.fixture(scope="module")
def on_vllm(tmp_path_factory: pytest.TempPathFactory, demo_model: Path, questions: Path) -> Done:
    report = infer(
        tmp_path_factory.mktemp("vllm"), backend="vllm", model_path=demo_model, test_file=questions,
        limit=QUESTIONS, max_new_tokens=24, temperature=1.0, seed=7,
    )  # fmt: skip
    return Done(rows_of(report.output), report)


def test_answers_are_in_the_files_order(on_vllm: Done, questions: Path) -> None:
    asked = [json.loads(line)["question"] for line in questions.read_text().splitlines()[:QUESTIONS]]
    assert [row["messages"][0]["content"] for row in on_vllm.rows] == asked
    assert all(row["text"] and row["messages"][-1]["content"] == row["text"] for row in on_vllm.rows)


def test_the_report_counts_what_is_in_the_file(on_vllm: Done) -> None:
    rows, report = on_vllm
    assert (report.prompts, report.answers, report.failed) == (QUESTIONS, QUESTIONS, 0)
    assert report.prompt_tokens == sum(row["prompt_tokens"] for row in rows)
    assert report.output_tokens == sum(row["completion_tokens"] for row in rows)
    assert 0 < report.startup_seconds < report.seconds


def test_no_answer_is_longer_than_max_new_tokens(on_vllm: Done) -> None:
    cut = [row for row in on_vllm.rows if row["finish_reason"] == "length"]
    assert cut
    assert {row["completion_tokens"] for row in cut} == {24}
    assert all(row["completion_tokens"] <= 24 for row in on_vllm.rows)


def test_prompts_have_the_tokens_of_the_models_own_template(on_vllm: Done, demo_model: Path) -> None:
    tokenizer = model_folder.load_tokenizer(demo_model)
    renderer = ChatRenderer(demo_model, None)
    for row in on_vllm.rows:
        prompt = row["messages"][:-1]
        expected = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
        assert renderer.encode([Message(m["role"], m["content"]) for m in prompt]) == expected
        assert row["prompt_tokens"] == len(expected)


def test_transformers_with_another_template_and_system_message(tmp_path: Path, demo_model: Path) -> None:
    (row,) = rows_of(
        infer(
            tmp_path, backend="hf", model_path=demo_model, test_file=prompts(tmp_path, "Hi."), n=1,
            template="vicuna_v1.1", system_message="Be brief.", max_new_tokens=4,
        ).output
    )  # fmt: skip
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]
    # The template's own wording: https://github.com/lm-sys/FastChat, conversation "vicuna_v1.1".
    text = "Be brief. USER: Hi. ASSISTANT:"
    assert row["prompt_tokens"] == len(model_folder.load_tokenizer(demo_model)(text)["input_ids"])


def test_several_files_replicas_and_answers_each(tmp_path: Path, demo_model: Path) -> None:
    """ShareGPT, messages and plain prompts in; `source` and `model_name` out."""
    sharegpt, messages = tmp_path / "a.json", tmp_path / "b.jsonl"
    turns = [{"from": "human", "value": "one"}, {"from": "gpt", "value": "left out"}]
    sharegpt.write_text(json.dumps([{"id": "a", "conversations": turns}]))
    messages.write_text(json.dumps({"id": "b", "messages": [{"role": "user", "content": "two"}]}) + "\n")
    files = [str(sharegpt), str(messages), str(prompts(tmp_path, "three"))]
    report = infer(
        tmp_path, backend="fake", model_path=demo_model, test_file=files, n=2, temperature=1.0,
        num_replicas=2, model_name="mine", source="mix",
    )  # fmt: skip
    rows = rows_of(report.output)
    assert report.output == tmp_path / "mine" / "mix_a.jsonl"
    assert [row["text"].split()[1] for row in rows] == ["one", "one", "two", "two", "three", "three"]
    assert [row["id"] for row in rows[:4]] == ["a-0", "a-1", "b-0", "b-1"]
    assert {(row["model"], row["source"]) for row in rows} == {("mine", "mix")}
    assert len({row["seed"] for row in rows}) == 6


def test_bad_rows_stop_the_job_or_go_to_errors(tmp_path: Path, demo_model: Path) -> None:
    file = prompts(tmp_path, "fine")
    file.write_text(file.read_text() + '{"prompt": 7}\n')
    common: dict[str, Any] = {"backend": "fake", "model_path": demo_model, "test_file": file}
    with pytest.raises(DataError, match=r"prompts\.jsonl:2"):
        infer(tmp_path, **common)
    report = infer(tmp_path, **common, on_bad_row="quarantine")
    assert (report.answers, report.quarantined) == (1, 1)
    assert [row["output"] for row in rows_of(report.errors)] == [report.output.name]


def test_all_that_can_be_wrong_with_a_row_costs_no_other_row(tmp_path: Path, demo_model: Path) -> None:
    """Of 1,000 rows one is torn, one empty, one of another format, one too long, and two share an id."""
    rows = [json.dumps({"id": f"q{i}", "prompt": f"say {i}"}) for i in range(1000)]
    rows[100] = rows[100][:-3]
    rows[200] = json.dumps({"id": "q200", "prompt": ""})
    rows[300] = json.dumps({"id": "q300", "messages": []})
    rows[400] = json.dumps({"id": "q400", "prompt": "word " * 200})
    rows[500] = rows[499]
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(rows) + "\n")
    report = infer(
        tmp_path, backend="fake", model_path=demo_model, test_file=file, max_model_len=100,
        on_bad_row="quarantine",
    )  # fmt: skip
    assert (report.prompts, report.answers, report.failed, report.quarantined) == (997, 996, 1, 3)
    wrong = rows_of(report.errors)
    assert [row["prompt_id"] for row in wrong if "prompt_id" in row] == ["q400"]
    assert [row["line"] for row in wrong if "line" in row] == [101, 201, 301]
    bad = {100, 200, 300, 400}
    names = ["q499#2" if i == 500 else f"q{i}" for i in range(1000) if i not in bad]
    assert [row["prompt_id"] for row in rows_of(report.output)] == names


def test_an_endpoint_is_asked_again_when_it_is_busy(tmp_path: Path, endpoint: str) -> None:
    file = prompts(tmp_path, "busy one", "please shut up", "two")
    report = infer(
        tmp_path, backend="openai", model_name="m", base_url=endpoint, test_file=file, max_error_rate=0.5
    )
    assert [row["text"].split("?")[0] for row in rows_of(report.output)] == ["busy one", "two"]
    (error,) = rows_of(report.errors)
    assert error["error"] == "the endpoint answered 400: I won't"


def test_a_wrong_model_at_an_endpoint_ends_the_job(tmp_path: Path, endpoint: str) -> None:
    file = prompts(tmp_path, "a")
    with pytest.raises(JobFailed, match="404: no such model"):
        infer(tmp_path, backend="openai", model_name="missing", base_url=endpoint, test_file=file)
    assert not list(tmp_path.glob("missing/*"))


def test_too_many_failures_fail_the_job(tmp_path: Path, demo_model: Path) -> None:
    file = prompts(tmp_path, "fine", "word " * 60)
    with pytest.raises(JobFailed, match="1 of 2 answers failed"):
        infer(tmp_path, backend="fake", model_path=demo_model, test_file=file, max_model_len=60)
    assert len(rows_of(tmp_path / demo_model.name / "s_prompts.jsonl")) == 1


def test_a_model_that_the_engine_refuses_is_an_input_error(tmp_path: Path, demo_model: Path) -> None:
    broken = copy_without(demo_model, tmp_path / "broken", "model.safetensors")
    (broken / "model.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(ModelError, match="broken: transformers can't load it"):
        infer(tmp_path, backend="hf", model_path=broken, test_file=prompts(tmp_path, "a"))


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path, demo_model: Path) -> None:
    bare = copy_without(demo_model, tmp_path / "bare", "chat_template.jinja")
    with pytest.raises(TemplateError, match="template"):
        infer(tmp_path, model_path=bare, test_file=prompts(tmp_path, "a"))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_a_model_folder_lacks_is_named(tmp_path: Path, demo_model: Path, missing: str) -> None:
    folder = copy_without(demo_model, tmp_path / "part", missing)
    with pytest.raises(ModelError, match=r"not a whole model folder: .* missing"):
        infer(tmp_path, model_path=folder, test_file=prompts(tmp_path, "a"))
    assert not (tmp_path / "part" / "s_prompts.jsonl").exists()


def test_replicas_that_no_cluster_can_hold_are_refused(tmp_path: Path, demo_model: Path) -> None:
    """Ray would wait for ever without a word."""
    file = prompts(tmp_path, "a")
    with pytest.raises(ConfigError, match="99 replicas need as many CPUs; the cluster has 4"):
        infer(tmp_path, backend="fake", model_path=demo_model, test_file=file, num_replicas=99)


def copy_without(model: Path, folder: Path, missing: str) -> Path:
    folder.mkdir()
    for file in model.iterdir():
        if file.is_file() and file.name != missing:
            (folder / file.name).symlink_to(file)
    return folder


def test_chat_answers_a_piped_question(demo_model: Path) -> None:
    command = [sys.executable, "-m", "autoalign.cli", "chat", "--model-path", str(demo_model)]
    done = subprocess.run(
        [*command, "--temperature", "0", "--max-new-tokens", "12"],
        input="What is the capital of France?\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "The capital of France is Paris.\n", "")


def on_an_endpoint(url: str, folder: Path) -> subprocess.Popen[str]:
    """A job of three prompts with a Ray of its own; the third is answered when `Endpoint.released` is set."""
    file = prompts(folder, "one", "two", "wait for ever")
    flags = {"backend": "openai", "model-name": "m", "base-url": url, "test-file": file, "source": "s"}
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "autoalign.cli", "infer", *words, "--output-dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=without_ray(),
    )


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_ended_keeps_what_it_has_and_leaves_no_process(
    tmp_path: Path, kind: signal.Signals
) -> None:
    partial = tmp_path / "m" / "s_prompts.jsonl.partial"
    with serve() as url:
        job = on_an_endpoint(url, tmp_path)
        wait_until(lambda: partial.exists() and len(rows_of(partial)) == 2, 60)
        family = psutil.Process(job.pid).children(recursive=True)
        job.send_signal(kind)
        out, err = job.communicate(timeout=60)
        Endpoint.released.set()
    assert (job.returncode, out) == (-9 if kind == signal.SIGKILL else 3, "")
    if kind != signal.SIGKILL:
        assert err.splitlines()[-1].startswith("error: stopped: 2 of 3 answers")
        assert len(err.splitlines()) <= 3, err
    assert sorted(row["text"].split("?")[0] for row in rows_of(partial)) == ["one", "two"]
    wait_until(lambda: not any(process.is_running() and alive(process.pid) for process in family), 10)


def without_ray() -> dict[str, str]:
    """The environment without what this module's own Ray session has put there."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}


def test_a_killed_process_leaves_no_engine_behind() -> None:
    """A parent with a child, guarded; SIGKILL gives the parent no chance to clean up."""
    script = (
        "import subprocess, sys, time\n"
        "from autoalign.orphans import guard_children\n"
        "guard = guard_children()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "time.sleep(2)\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not alive(child), 10)


def wait_until(holds: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Running, and not merely unburied by whoever adopted it."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
