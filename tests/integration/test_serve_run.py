"""`serve run` with the shipped file, over an engine without a model: the way of those who know Ray Serve."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from tests.integration.fake_models import write
from tests.integration.served_endpoint import token_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SERVE = Path(sys.executable).with_name("serve")


def test_serve_run_brings_the_platform_up(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve" / "platform.yaml").read_text(encoding="utf-8"))
    model = write(tmp_path / "models", "first")
    config["applications"][0]["args"] |= {"checkpoint_path": str(model), "port": port, "backend": "fake"}
    (tmp_path / "home").mkdir()
    file = tmp_path / "platform.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"AUTOALIGN_HOME": str(tmp_path / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
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
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


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
