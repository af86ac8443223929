"""Runs of `sft` that are killed at chosen moments: `python -m tests.kill_points CONFIG.json FIRST_SEED END`.

Torch is imported once; each life is a fork of this process. A first life ends by SIGKILL at the
moment its seed says, from inside, so that no clock decides; a second one resumes. A line of JSON a
seed says what became of both; their output is in CONFIG's folder, `seed-N`.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MOMENTS = {
    "step": 11,  # the start of an optimizer step
    "snapshot": 200,  # a tensor of the state, asked for
    "write": 25,  # a file of a checkpoint, opened to be written
    "hash": 40,  # a file of a checkpoint, opened to be read
    "rename": 5,  # a checkpoint about to get its name
    "prune": 3,  # an old checkpoint about to be deleted
    "pruning": 3,  # half deleted
    "final": 5,  # the model's files on their way up
}
"""Kinds of moments, and how many of each there surely are in 12 steps with a checkpoint every 2."""


def moment_of(seed: int) -> tuple[str, int]:
    """The kind, and which of them."""
    kind = list(MOMENTS)[seed % len(MOMENTS)]
    return kind, random.Random(seed).randint(1, MOMENTS[kind])


class Killer:
    """Kills this process at the `nth` moment of a kind."""

    def __init__(self, kind: str, nth: int) -> None:
        self._kind, self._left, self._removals = kind, nth, 0

    def install(self) -> None:
        """Listen to file operations, to the engine's steps and to its state."""
        from autoalign.training.engines.plain import PlainEngine

        step, state = PlainEngine.train_step, PlainEngine.state

        def train_step(engine: PlainEngine, *args: Any) -> Any:
            self.reached("step")
            return step(engine, *args)

        def watched_state(engine: PlainEngine) -> Iterator[Any]:
            for pair in state(engine):
                self.reached("snapshot")
                yield pair

        PlainEngine.train_step = train_step  # type: ignore[method-assign]
        PlainEngine.state = watched_state  # type: ignore[method-assign]
        sys.addaudithook(self.on_event)

    def reached(self, kind: str) -> None:
        """Count a moment down."""
        if kind == self._kind:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def on_event(self, event: str, args: tuple[Any, ...]) -> None:
        """What an audit event says of a checkpoint."""
        path = str(args[0]) if args else ""
        if event == "open" and "/.checkpoint-" in path and isinstance(args[1], str):
            self.reached("write" if set(args[1]) & set("wax+") else "hash")
        elif event == "os.rename" and path.endswith(".tmp") and Path(str(args[1])).name.startswith("check"):
            self.reached("rename")
        elif event == "os.rename" and str(args[1]).endswith(".old.tmp"):
            self.reached("prune")
        elif event == "os.rename" and "/.final.tmp/" in path:
            self.reached("final")
        elif event == "shutil.rmtree" and path.endswith(".old.tmp"):
            self._removals = 3
        elif event == "os.remove" and self._removals:
            self._removals -= 1
            if self._removals == 0:
                self.reached("pruning")


def live(config: dict[str, Any], log: Path, before: Callable[[], None]) -> int:
    """Run the job in a fork; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with log.open("w", encoding="utf-8") as file:
                os.dup2(file.fileno(), 2)
            _run(config, before)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(config: dict[str, Any], before: Callable[[], None]) -> None:
    import traceback

    from autoalign.config.sft import SFTConfig
    from autoalign.training.run import run

    before()
    try:
        run(SFTConfig(**config))
    except Exception:  # a fork's end: the test shows it
        traceback.print_exc()
        raise


def _warm_up(config: dict[str, Any]) -> None:
    """Import what a run imports; no tensor is computed, so no thread of torch's is lost by a fork."""
    from autoalign import model_folder

    for name in (
        "matplotlib.figure",
        "transformers.models.llama.modeling_llama",
        "autoalign.training.engines.plain",
        "autoalign.training.run",
    ):
        importlib.import_module(name)
    model_folder.load_tokenizer(config["model_name_or_path"])


def main(path: Path, first: int, end: int) -> None:
    """Kill and resume once a seed."""
    config = json.loads(path.read_text(encoding="utf-8"))
    _warm_up(config)
    for seed in range(first, end):
        kind, nth = moment_of(seed)
        own = {**config, "output_dir": str(path.parent / f"seed-{seed}")}
        killed = live(own, path.parent / f"killed-{seed}.log", Killer(kind, nth).install)
        resumed = live(own, path.parent / f"resumed-{seed}.log", lambda: None)
        print(
            json.dumps({"seed": seed, "kind": kind, "nth": nth, "killed": killed, "resumed": resumed}),
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
