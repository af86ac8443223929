"""Sampling jobs that meet a fault: `python -m tests.sampling_faults JOB.json SEED...`.

Libraries are imported once; each life of a job is a fork of this process. A seed says what goes wrong
and at which answer, so that no clock decides; a second life follows where the first one ended badly. A
line of JSON a seed says what became of both. To have a node killed, a life prints `node` and waits for a
line on standard input. With `launcher: local` the engine is in the job's own process.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

KINDS = ("driver", "actor", "raylet", "disk", "engine")
MOMENTS = ("between", "torn", "writing", "rename", "renamed")
"""Of a killed driver: between two answers, in the middle of a line, while the final file is written,
before it gets its name, and before the ledger goes."""
BALLAST = "ballast"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and at which answer (driver, raylet, disk) or request of an engine (actor, engine)."""

    seed: int
    kind: str
    nth: int
    moment: str

    @classmethod
    def of(cls, seed: int) -> Fault:
        """The same seed is always the same fault; five seeds in a row are one of each kind."""
        moment = MOMENTS[seed // len(KINDS) % len(MOMENTS)]
        return cls(seed, KINDS[seed % len(KINDS)], random.Random(seed).randint(5, 50), moment)

    def __str__(self) -> str:
        return f"{self.kind}-{self.moment if self.kind == 'driver' else self.nth}-{self.seed}"


class Meddler:
    """Puts a fault into the job that this process is about to run."""

    def __init__(self, fault: Fault, output: Path) -> None:
        self._fault, self._output, self._left = fault, output, fault.nth

    def install(self) -> None:
        """Stand between the job and its engine, its files, its disk."""
        from autoalign.sampling import output, run

        prepare, flush, write = run.prepare_model, output.AnswerStore.flush, output.write_answers

        def prepared(config: Any) -> Any:
            setup = prepare(config)
            return setup._replace(options=replace(setup.options, extra=self._engine()))

        def flushed(store: output.AnswerStore) -> None:
            if store._unwritten:
                self._at_flush(store)
            flush(store)

        def written(path: Path, lines: Iterable[bytes], *rest: Any) -> None:
            write(path, self._broken_off(lines), *rest)

        run.prepare_model = prepared
        output.AnswerStore.flush = flushed  # type: ignore[method-assign]
        output.write_answers = written
        sys.addaudithook(self._on_event)

    def _engine(self) -> dict[str, Any]:
        extra: dict[str, Any] = {"latency": 0.01}
        if self._fault.kind in ("actor", "engine"):
            how = "kill" if self._fault.kind == "actor" else "dead"
            extra["fault"] = (how, self._fault.nth, f"{self._output}.happened")
        return extra

    def _at_flush(self, store: Any) -> None:
        before, self._left = self._left, self._left - len(store._unwritten)
        if not before > 0 >= self._left:
            return
        if self._fault.kind == "raylet":
            print("node", flush=True)
            sys.stdin.readline()
        elif self._fault.kind == "disk":
            _fill(self._output.with_name(BALLAST))
        elif self._is_killed("between"):
            die()
        elif self._is_killed("torn"):
            store._file.write(b"".join(store._unwritten)[:-20])
            die()

    def _broken_off(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for number, line in enumerate(lines):
            if number == self._fault.nth and self._is_killed("writing"):
                die()
            yield line

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(args[1]) == str(self._output) and self._is_killed("rename"):
            die()
        if event == "os.remove" and str(args[0]) == f"{self._output}.partial" and self._is_killed("renamed"):
            die()

    def _is_killed(self, moment: str) -> bool:
        return (self._fault.kind, self._fault.moment) == ("driver", moment)


def die() -> None:
    """`kill -9` of this very process."""
    os.kill(os.getpid(), signal.SIGKILL)


def _fill(path: Path) -> None:
    """Leave no byte free on the disk of `path`."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue


def live(config: dict[str, Any], log: Path, meddler: Meddler | None) -> int:
    """Run the job in a fork; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with log.open("w", encoding="utf-8") as file:
                os.dup2(file.fileno(), 2)
                code = _run(config, meddler)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(config: dict[str, Any], meddler: Meddler | None) -> int:
    from autoalign.config.sample import InferConfig
    from autoalign.errors import AutoAlignError
    from autoalign.sampling.run import run

    if meddler:
        meddler.install()
    try:
        run(InferConfig.build(config))
    except AutoAlignError as error:
        traceback.print_exc()
        return error.exit_code
    except BaseException:  # a fork's end: the log shows it
        traceback.print_exc()
        return 70
    finally:
        sys.stderr.flush()
    return 0


def whole_lines(path: Path) -> int:
    """Rows of a file that end in a newline, and are JSON."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return sum(json.loads(line) is not None for line in lines)


def outcome(config: dict[str, Any], fault: Fault, logs: Path) -> dict[str, Any]:
    """Both lives of one job; `kept` is how many rows the first one left for the second."""
    output = Path(config["output_file"])
    first = live(config, logs / f"{fault}-first.log", Meddler(fault, output))
    output.with_name(BALLAST).unlink(missing_ok=True)
    kept = whole_lines(Path(f"{output}.partial")) or whole_lines(output)
    second = live(config, logs / f"{fault}-second.log", None) if first else None
    return {"seed": fault.seed, "first": first, "kept": kept, "second": second}


def _warm_up(config: dict[str, Any]) -> None:
    """Import what a run imports; no tensor is computed, so no thread of torch's is lost by a fork."""
    from autoalign import model_folder

    lazy = (
        "numpy",
        "autoalign.sampling.engines.fake",
        "autoalign.sampling.pipeline",
        "autoalign.sampling.run",
    )
    for name in (*lazy, *(("ray.data",) if config["launcher"] == "ray" else ("autoalign.sampling.local",))):
        importlib.import_module(name)
    model_folder.load_tokenizer(config["model_path"])


def main(path: Path, seeds: list[int]) -> None:
    """An unbroken run, then one fault after the other, each with an output folder of its own."""
    config = json.loads(path.read_text(encoding="utf-8"))
    _warm_up(config)
    folders = {name: Path(folder) for name, folder in config.pop("folders").items()}
    unbroken = {**config, "output_file": str(folders["others"] / "unbroken" / "out.jsonl")}
    if live(unbroken, folders["logs"] / "unbroken.log", None):
        raise SystemExit((folders["logs"] / "unbroken.log").read_text())
    for seed in seeds:
        fault = Fault.of(seed)
        output = folders["disk" if fault.kind == "disk" else "others"] / str(fault) / "out.jsonl"
        told = outcome({**config, "output_file": str(output)}, fault, folders["logs"])
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])
