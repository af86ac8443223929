"""Sampling with real engines through Ray Data: the demo model on GSM8K questions, an endpoint over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autoalign.config.sample import InferConfig
from autoalign.errors import JobFailed, ModelError, TemplateError
from autoalign.sampling.report import SampleReport
from autoalign.sampling.run import run

pytestmark = pytest.mark.slow

QUESTIONS = 16
SEEDED: dict[str, Any] = {"backend": "vllm", "temperature": 1.0}


@pytest.fixture(scope="module", autouse=True)
def ray_for_the_module() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def questions(shared_dir: Path) -> Path:
    return shared_dir / "data" / "gsm8k" / "test.jsonl"


def infer(folder: Path, **values: Any) -> SampleReport:
    defaults = {"output_dir": str(folder), "source": "s", "limit": QUESTIONS, "max_new_tokens": 24}
    return run(
        InferConfig.build(
            {**defaults, **{key: str(v) if isinstance(v, Path) else v for key, v in values.items()}}
        )
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def vllm_rows(
    tmp_path_factory: pytest.TempPathFactory, demo_model: Path, questions: Path
) -> tuple[list[dict[str, Any]], SampleReport]:
    folder = tmp_path_factory.mktemp("vllm")
    report = infer(folder, **SEEDED, model_path=demo_model, test_file=questions)
    return rows_of(report.output), report


def test_vllm_answers_in_the_files_order(
    vllm_rows: tuple[list[dict[str, Any]], SampleReport], questions: Path
) -> None:
    rows, report = vllm_rows
    asked = [json.loads(line)["question"] for line in questions.read_text().splitlines()[:QUESTIONS]]
    assert [row["messages"][0]["content"] for row in rows] == asked
    assert all(row["text"] and row["messages"][-1]["content"] == row["text"] for row in rows)
    assert (report.answers, report.failed) == (QUESTIONS, 0)
    assert report.output_tokens == sum(row["completion_tokens"] for row in rows)


def test_prompts_have_the_tokens_of_the_models_own_template(
    vllm_rows: tuple[list[dict[str, Any]], SampleReport], demo_model: Path
) -> None:
    from transformers import AutoTokenizer

    from autoalign.records import Message
    from autoalign.sampling.renderer import ChatRenderer

    rows, _ = vllm_rows
    tokenizer: Any = AutoTokenizer.from_pretrained(demo_model)
    renderer = ChatRenderer(demo_model, None)
    for row in rows:
        prompt = row["messages"][:-1]
        expected = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
        assert renderer.encode([Message(m["role"], m["content"]) for m in prompt]) == expected
        assert row["prompt_tokens"] == len(expected)


def test_a_rerun_of_a_part_gives_the_same_texts(
    vllm_rows: tuple[list[dict[str, Any]], SampleReport], tmp_path: Path, demo_model: Path, questions: Path
) -> None:
    """At temperature 1, with other neighbours in the batch."""
    report = infer(tmp_path, **SEEDED, model_path=demo_model, test_file=questions, limit=3)
    assert [row["text"] for row in rows_of(report.output)] == [row["text"] for row in vllm_rows[0][:3]]


@pytest.mark.parametrize("backend", ["hf", "vllm"])
def test_chat_answers_a_piped_question(backend: str, demo_model: Path) -> None:
    """Greedy, streamed, in a process of its own."""
    command = [sys.executable, "-m", "autoalign.cli", "chat", "--model-path", str(demo_model)]
    done = subprocess.run(
        [*command, "--backend", backend, "--temperature", "0", "--max-new-tokens", "12"],
        input="What is the capital of France?\n",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "The capital of France is Paris.\n"), done.stderr


def test_transformers_seeds_do_not_depend_on_the_batch(
    tmp_path: Path, demo_model: Path, questions: Path
) -> None:
    """In fp32, where padding changes no token."""
    common: dict[str, Any] = {
        "backend": "hf", "model_path": demo_model, "test_file": questions, "dtype": "float32",
        "temperature": 1.0, "max_new_tokens": 8,
    }  # fmt: skip
    three = rows_of(infer(tmp_path, **common, limit=3).output)
    one = rows_of(infer(tmp_path, **common, limit=1, overwrite=True).output)
    assert one[0]["text"] == three[0]["text"]


class Endpoint(BaseHTTPRequestHandler):
    """Says back the question; the first call of each question is told to come again."""

    seen: set[str] = set()  # noqa: RUF012
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        if body["model"] == "missing":
            self._send(404, {"error": {"message": "no such model"}})
        elif "shut" in said:
            self._send(400, {"error": {"message": "I won't"}})
        elif said not in self.seen:
            self.seen.add(said)
            self._send(429, {"error": {"message": "slow down"}}, {"retry-after-ms": "10"})
        else:
            self._send(200, completion(f"{said}? seed {body['seed']}"))

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def prompts(folder: Path, *texts: str) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return file


def test_an_endpoint_is_asked_again_when_it_is_busy(tmp_path: Path, endpoint: str) -> None:
    file = prompts(tmp_path, "one", "please shut up", "two")
    report = infer(
        tmp_path, backend="openai", model_name="m", base_url=endpoint, test_file=file, max_error_rate=0.5
    )
    assert [row["text"].split("?")[0] for row in rows_of(report.output)] == ["one", "two"]
    (error,) = rows_of(report.errors or Path())
    assert error["error"] == "the endpoint answered 400: I won't"


def test_a_wrong_model_at_an_endpoint_ends_the_job(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(JobFailed, match="404: no such model"):
        infer(
            tmp_path,
            backend="openai",
            model_name="missing",
            base_url=endpoint,
            test_file=prompts(tmp_path, "a"),
        )
    assert not list(tmp_path.glob("missing/*"))


def test_too_many_failures_fail_the_job(tmp_path: Path, demo_model: Path) -> None:
    file = prompts(tmp_path, "fine", "word " * 60)
    with pytest.raises(JobFailed, match="1 of 2 answers failed"):
        infer(tmp_path, backend="fake", model_path=demo_model, test_file=file, max_model_len=60)
    assert len(rows_of(tmp_path / demo_model.name / "s_prompts.jsonl")) == 1


def test_a_model_that_the_engine_refuses_is_an_input_error(tmp_path: Path, demo_model: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in demo_model.iterdir():
        if file.suffix != ".safetensors" and file.is_file():
            (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(ModelError, match="broken: transformers can't load it"):
        infer(tmp_path, backend="hf", model_path=broken, test_file=prompts(tmp_path, "a"))


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path, demo_model: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in demo_model.iterdir():
        if file.is_file() and file.name != "chat_template.jinja":
            (bare / file.name).symlink_to(file)
    with pytest.raises(TemplateError, match="template"):
        infer(tmp_path, backend="vllm", model_path=bare, test_file=prompts(tmp_path, "a"))


def test_a_killed_process_leaves_no_engine_behind(tmp_path: Path) -> None:
    """A parent with a child, guarded; SIGKILL gives the parent no chance to clean up."""
    script = (
        "import subprocess, sys, time\n"
        "from autoalign.sampling.orphans import guard_children\n"
        "guard_children()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "time.sleep(2)\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.time() + 10
    while alive(child) and time.time() < deadline:
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Running, and not merely unburied by whoever adopted it."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
