"""What the way through the gateway adds: `python -m benchmarks.serve_way`.

An engine without a model answers at once, asked directly and through `autoalign-cli serve`, in turns. Figures
are milliseconds to an answer's first byte; the differences are the gateway's own, on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

ENGINE = """
import asyncio, sys, uvicorn
from autoalign.serving.served.fake import FakeServed
from autoalign.serving.spec import EngineSpec
spec = EngineSpec("fake", "demo", ".", "0" * 16, None, False, False, False, ())
uvicorn.run(FakeServed(spec, {}).app, port=int(sys.argv[1]), log_level="error")
"""
_START = 120.0
_JSON = {"content-type": "application/json"}


def main() -> None:
    """Print one line for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=400, help="for each side and number of clients")
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds that a client waits between requests"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sides(Path(folder)) as (direct, gateway):
        for clients in given.clients:
            asyncio.run(_burst(gateway, clients, 3 * clients, 0.0))  # warm
            asked = given.requests, given.pause
            plain, through = (asyncio.run(_burst(url, clients, *asked)) for url in (direct, gateway))
            print(
                f"{clients} clients: direct {_shown(plain)}, through the gateway {_shown(through)}",
                flush=True,
            )


@contextmanager
def sides(folder: Path) -> Iterator[list[str]]:
    """URLs of the engine alone and of the endpoint."""
    model = folder / "demo"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "fake.json"):
        (model / name).write_text("{}")
    (model / "model.safetensors").write_text("")
    ports = [_free_port(), _free_port()]
    endpoint = ["-m", "autoalign.cli.main", "serve", "--backend=fake", f"--checkpoint_path={model}"]
    commands = [["-c", ENGINE, str(ports[0])], [*endpoint, f"--port={ports[1]}"]]
    processes = [
        subprocess.Popen([sys.executable, *each], stdout=subprocess.DEVNULL, env=dict(os.environ))
        for each in commands
    ]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        for url in urls:
            asyncio.run(_wait(url))
        yield urls
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
            process.wait(60)


async def _wait(url: str) -> None:
    late = time.monotonic() + _START
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.post(
                    f"{url}/v1/chat/completions", data=_body(False), headers=_JSON
                ) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            if time.monotonic() > late:
                raise SystemExit(f"{url} does not come up")
            await asyncio.sleep(0.3)


async def _burst(url: str, clients: int, requests: int, pause: float) -> list[float]:
    """Milliseconds to the first byte of each answer."""
    found: list[float] = []
    waiting = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def client() -> None:
            for _ in waiting:
                await asyncio.sleep(pause)
                began = time.perf_counter()
                async with session.post(
                    f"{url}/v1/chat/completions", data=_body(True), headers=_JSON
                ) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.content.readany()
                    found.append(1000 * (time.perf_counter() - began))
                    await answer.read()

        await asyncio.gather(*(client() for _ in range(clients)))
    return found


def _body(stream: bool) -> bytes:
    messages = [{"role": "user", "content": "Hello"}]
    return json.dumps({"model": "demo", "messages": messages, "max_tokens": 3, "stream": stream}).encode()


def _shown(milliseconds: list[float]) -> str:
    cuts = statistics.quantiles(milliseconds, n=100)
    return f"{cuts[49]:.2f} ms (p99 {cuts[98]:.2f})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
