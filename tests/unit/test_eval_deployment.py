"""A server of our own that dies while it is asked: the job is not held up, and says why."""

import subprocess
import sys

import pytest

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import JobFailed
from autoalign.evaluation.answering import Answering
from autoalign.evaluation.ask import Ask
from autoalign.evaluation.deployment import Served, end_of, server_lives


def test_why_a_server_ended(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("INFO: up\nMemoryError: no room\n")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert end_of(process, log) is None
    process.kill()
    process.wait()
    assert end_of(process, log) == f"the vLLM server ended by signal 9: MemoryError: no room (its log: {log})"


def answered(tmp_path, end, asks=200):
    config = EvalConfig.build({"model_path": "m", "endpoint": "http://127.0.0.1:9/v1", "batch_size": 4})
    asking = Answering(config, None, Served("http://127.0.0.1:9/v1", "m", 1.0, end))
    try:
        asking.answer("quiz", [Ask(str(id), ("?",)) for id in range(asks)], 8, tmp_path / "quiz.jsonl")
    finally:
        asking.close()


def test_a_server_that_is_gone_is_not_asked(tmp_path):
    with pytest.raises(JobFailed, match=r"^it is gone$"):
        answered(tmp_path, lambda: "it is gone")
    assert not (tmp_path / "quiz.jsonl").exists()


def test_nothing_is_known_of_other_servers():
    assert Served("http://host/v1", "m").end is server_lives
    assert server_lives() is None
