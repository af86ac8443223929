"""The servers that are compared, each a process group of its own, with the same model and arguments."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

SIDES = ("vllm", "autoalign", "ray.serve.llm")
_START = 300.0  # seconds a server may take to answer
_END = 60.0


class Side:
    """One server."""

    def __init__(self, name: str, model: str, root: Path, log: Path) -> None:
        self.name, self._log = name, log
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *_command(name, model, port)],
                cwd=root,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Until it lists its model.

        Raises:
            SystemExit: it ended, or took too long; with the end of its log.
        """
        path = "/readyz" if self.name == "autoalign" else "/v1/models"
        late = time.monotonic() + _START
        while time.monotonic() < late and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.url + path, timeout=5):  # noqa: S310
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise SystemExit(f"{self.name} does not come up:\n{self._log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """Ctrl-C, and after a while the end."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)


def _command(name: str, model: str, port: int) -> list[str]:
    if name == "autoalign":
        return ["autoalign.cli.main", "serve", f"--checkpoint_path={model}", f"--port={port}"]
    if name == "ray.serve.llm":
        return ["benchmarks.ray_llm_side", model, str(port)]
    flags = ["--enforce-eager", "--no-enable-chunked-prefill", "--chat-template-content-format=string"]
    flags += ["--enable-auto-tool-choice", "--tool-call-parser=hermes", "--disable-uvicorn-access-log"]
    served = [f"--model={model}", f"--served-model-name={Path(model).name}", f"--port={port}"]
    return ["vllm.entrypoints.openai.api_server", "--host=127.0.0.1", *served, *flags]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
