"""A Ray cluster that does not answer, without Ray: a socket stands for its head."""

import socket
import time

import pytest

from autoalign.jobs.runners import ray as ray_runner
from autoalign.jobs.runners.base import Run, RunnerUnreachable

pytest.importorskip("ray")


@pytest.fixture
def frozen():
    """A head that is stopped: the kernel accepts for it, and nothing ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("ask", ["submit", "status", "stop"])
def test_a_head_that_is_silent_is_unreachable(frozen, ask, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_runner, "_PATIENCE", (5.0, 0.2))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    runner = ray_runner.RayRunner(frozen)
    asked = Run("job-1", "sft", tmp_path) if ask == "submit" else "job-1"
    begin = time.monotonic()
    with pytest.raises(RunnerUnreachable, match="does not answer"):
        getattr(runner, ask)(asked)
    assert time.monotonic() - begin < 30  # importing Ray included
