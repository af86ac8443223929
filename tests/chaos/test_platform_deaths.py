"""A whole platform whose processes are killed one after the other while five jobs are in flight."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from autoalign.client import Client
from autoalign.errors import AutoAlignError
from tests.integration.fake_models import write
from tests.integration.served_endpoint import Endpoint, served

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
LINE = json.dumps(ROW).encode() + b"\n"


class Data:
    """A file that does not end before it is let go: a job that reads it is in flight until then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path)
        self._writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def let_go(self) -> None:
        """Whoever waits reads a row and its end; whoever comes now finds a file like any other."""
        self._path.unlink()
        self._path.write_bytes(LINE)
        os.write(self._writer, LINE)
        os.close(self._writer)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOALIGN_ROOTS", str(tmp_path))
    home = tmp_path / "home"
    home.mkdir()
    (home / "platform.yaml").write_text("limits: {jobs: 6, jobs_per_user: 6}\n")
    write(tmp_path / "models", "first")
    return home


@contextlib.contextmanager
def platform(home: Path) -> Iterator[tuple[Endpoint, Client]]:
    flags = ["--jobs=true", "--backend=fake", f"--checkpoint_path={home.parent / 'models' / 'first'}"]
    with served(home, *flags, scopes=["infer", "jobs"]) as endpoint:
        yield endpoint, Client(endpoint.url, endpoint.token)


def submitted(client: Client, name: str) -> str:
    return client.submit("score", {"scorer": "length", "data_path": name}).id


def kill(endpoint: Endpoint, name: str) -> None:
    family = psutil.Process(endpoint.process.pid).children(recursive=True)
    (found,) = [each for each in family if f":{name}" in "".join(each.cmdline())]
    found.kill()


def until(condition: Callable[[], Any], seconds: float = 90) -> None:
    """Until it holds; what is refused meanwhile is asked again."""
    late = time.monotonic() + seconds
    while True:
        with contextlib.suppress(AutoAlignError, openai.InternalServerError, openai.APIConnectionError):
            if condition():
                return
        assert time.monotonic() < late, condition
        time.sleep(0.2)


def says_hello(endpoint: Endpoint) -> bool:
    client = openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=endpoint.token, max_retries=0)
    answer = client.chat.completions.create(model="first", messages=[{"role": "user", "content": "hello"}])
    return str(answer.choices[0].message.content).startswith("first")


def starts(home: Path, job: str) -> list[str]:
    """The attempts that ever began."""
    path = home / "jobs" / job / "started"
    return path.read_text().split() if path.is_file() else []


def test_five_jobs_outlive_gateway_fleet_and_engine(home: Path) -> None:
    data = [Data(home.parent / f"rows{number}.jsonl") for number in range(5)]
    with platform(home) as (endpoint, client):
        jobs = [submitted(client, f"rows{number}.jsonl") for number in range(5)]
        until(lambda: all(starts(home, job) for job in jobs))
        for name in ("Gateway", "Fleet", "Engine"):
            kill(endpoint, name)
            time.sleep(1)
            until(lambda: says_hello(endpoint))
            assert [client.job(job).state for job in jobs] == ["running"] * 5
        for each in data:
            each.let_go()
        until(lambda: all(client.job(job).state != "running" for job in jobs))
        assert [client.job(job).state for job in jobs] == ["succeeded"] * 5
    assert [starts(home, job) for job in jobs] == [[f"{job}-1"] for job in jobs]


def test_a_platform_that_is_stopped_goes_on_with_its_job_when_it_is_started_again(home: Path) -> None:
    data = Data(home.parent / "rows.jsonl")
    with platform(home) as (endpoint, client):
        job, owner = submitted(client, "rows.jsonl"), endpoint.token
        until(lambda: starts(home, job))
    data.let_go()
    with platform(home) as (endpoint, _):
        client = Client(endpoint.url, owner)  # another token would not see the job
        until(lambda: client.job(job).state == "succeeded")
    assert starts(home, job) == [f"{job}-1", f"{job}-2"]
