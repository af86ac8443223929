"""A server of our own that dies while it is asked: the job is not held up, and says why."""

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import JobFailed
from autoalign.evaluation import deployment
from autoalign.evaluation.answering import Answering
from autoalign.evaluation.ask import Ask
from autoalign.evaluation.deployment import Served, end_of, server_lives, wait_until_ready
from autoalign.evaluation.proxies import here_past_proxies, past_proxies
from autoalign.sampling.cpu_cores import Cores


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
    asking = Answering(config, None, Served("http://127.0.0.1:9/v1", "m", end))
    try:
        asking.answer("quiz", [Ask(str(id), ("?",)) for id in range(asks)], 8, tmp_path / "quiz.jsonl")
    finally:
        asking.close()


def test_a_server_that_is_gone_is_not_asked(tmp_path):
    with pytest.raises(JobFailed, match=r"^it is gone$"):
        answered(tmp_path, lambda: "it is gone")
    assert not (tmp_path / "quiz.jsonl").exists()


def test_a_server_of_ours_has_every_core(tmp_path, monkeypatch):
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    monkeypatch.setattr(deployment, "has_gpu", lambda: False)
    monkeypatch.setattr(deployment, "require_vllm", lambda: None)
    monkeypatch.setattr(deployment, "wait_until_ready", lambda *_: None)
    program = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['VLLM_CPU_OMP_THREADS_BIND'])"
    monkeypatch.setattr(deployment, "server_command", lambda *_: [sys.executable, "-c", program])
    log = tmp_path / "server.log"
    cores = Cores()  # the server's, unless something else on this machine has them
    free = cores.variables()
    cores.release()
    with deployment.served(EvalConfig.build({"model_path": "m"}), tmp_path, log) as server:
        while server.end() is None:
            time.sleep(0.01)
    assert log.read_text().split() == list(free.values())


def test_nothing_is_known_of_other_servers():
    assert Served("http://host/v1", "m").end is server_lives
    assert server_lives() is None


def test_this_machine_is_added_to_the_hosts_without_a_proxy():
    both = dict.fromkeys(("NO_PROXY", "no_proxy"), ".corp,10.0.0.1,127.0.0.1,localhost")
    assert past_proxies({"NO_PROXY": ".corp", "no_proxy": "10.0.0.1, .corp"}) == both
    assert past_proxies({})["no_proxy"] == "127.0.0.1,localhost"
    assert past_proxies({"no_proxy": "*"})["no_proxy"] == "*"


def test_the_process_has_its_own_hosts_again_afterwards(monkeypatch):
    monkeypatch.setenv("NO_PROXY", ".corp")
    monkeypatch.delenv("no_proxy", raising=False)
    with here_past_proxies():
        assert os.environ["no_proxy"] == ".corp,127.0.0.1,localhost"
    assert (os.environ["NO_PROXY"], os.environ.get("no_proxy")) == (".corp", None)


class Healthy(BaseHTTPRequestHandler):
    """A server that is up."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_server_of_ours_is_seen_behind_a_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody listens
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"])  # ends the wait at last
    wait_until_ready(process, f"http://127.0.0.1:{server.server_port}/health", tmp_path / "log")
    process.kill()
    process.wait()
    server.shutdown()
