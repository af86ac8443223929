"""`serve run` with the shipped file, over an engine without a model: the way of those who know Ray Serve."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests import ray_head
from tests.integration.fake_models import write
from tests.integration.served_endpoint import token_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SERVE = Path(sys.executable).with_name("serve")
WAITING = ("queued", "running")


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ray_head.Head]:
    """A cluster with ports of its own: Ray's usual ones may be another's on this machine.

    The platform's settings are read where the head's processes run.
    """
    monkeypatch.setenv("AUTOALIGN_HOME", str(tmp_path / "home"))
    with ray_head.running_head() as running:
        yield running


def test_serve_run_brings_the_platform_up(tmp_path: Path, head: ray_head.Head) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve" / "platform.yaml").read_text(encoding="utf-8"))
    model = write(tmp_path / "models", "first")
    config["applications"][0]["args"] |= {"checkpoint_path": str(model), "port": port, "backend": "fake"}
    (tmp_path / "home").mkdir()
    file = tmp_path / "platform.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    (gcs,) = [flag.removeprefix("--port=") for flag in head.flags if flag.startswith("--port=")]
    environment = {**head.env, "RAY_ADDRESS": f"127.0.0.1:{gcs}"}
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen([SERVE, "run", file], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key=token_of(tmp_path / "home", ["infer", "jobs"]),
            max_retries=0,
        )
        said = first_answer(client, process, tmp_path / "log.txt")
        assert said.split()[0] == "first"
        assert [each.id for each in client.models.list()] == ["first"]
        content = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
        assert client.files.create(file=("rows.jsonl", content), purpose="fine-tune").bytes == len(content)
        assert_a_job_is_a_ray_job(client, head)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def assert_a_job_is_a_ray_job(client: openai.OpenAI, head: ray_head.Head) -> None:
    """The file asks for it, and the head knows its run; the job fails, since the model is none."""
    url = str(client.base_url).removesuffix("/v1/")
    headers = {"Authorization": f"Bearer {client.api_key}"}
    order = {"kind": "merge", "config": {"models": ["first"]}}
    job = httpx.post(f"{url}/api/jobs", json=order, headers=headers).json()["id"]
    late = time.monotonic() + 120
    while (now := httpx.get(f"{url}/api/jobs/{job}", headers=headers).json())["state"] in WAITING:
        assert time.monotonic() < late, now
        time.sleep(0.5)
    assert now["state"] == "failed" and "can't be read as safetensors" in now["message"], now
    runs = httpx.get(f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"}).json()
    assert any(str(run["submission_id"]).startswith(job) for run in runs)


def first_answer(client: openai.OpenAI, process: subprocess.Popen[bytes], log: Path) -> str:
    """Once it is up."""
    late = time.monotonic() + 120
    question: Any = [{"role": "user", "content": "hello"}]
    while time.monotonic() < late and process.poll() is None:
        try:
            answer = client.chat.completions.create(model="first", messages=question)
            return str(answer.choices[0].message.content)
        except (openai.APIConnectionError, openai.InternalServerError):
            time.sleep(0.5)
    pytest.fail(log.read_text()[-3000:])
