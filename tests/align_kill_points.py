"""A life of an `align` job that ends by SIGKILL.

    python -m tests.align_kill_points CONFIG.json [ROUND KIND NTH]

The moment is counted from inside, so no clock decides. Without ROUND, KIND and NTH the job runs to its end.
KIND "engine" kills the engine's process instead, and the job goes on.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

STEPS = 4
COUNTS = {
    "sampler": 12,  # a text that the policy wrote for the data, kept
    "judge": 6,  # a verdict on the data, kept
    "answers": 8,  # a text for the evaluation, kept
    "trainer": STEPS - 1,  # the start of an optimizer step
    "checkpoint": 1,  # a checkpoint about to get its name
    "driver": 1,  # the finished training about to get its name
    "evaluation": 4,  # a verdict of the evaluation, kept
}
"""Kinds of moments, and how many of each there surely are in a round."""

_FIRST = ("sampler", "judge", "answers", "trainer", "checkpoint", "driver", "evaluation")
# The policy of the second round has answered in the first, as its new model.
_SECOND = ("sampler", "judge", "trainer", "checkpoint", "driver", "answers", "evaluation")
ORDER = [(1, kind) for kind in _FIRST] + [(2, kind) for kind in _SECOND]


class Moment(NamedTuple):
    """Where a life ends."""

    round: int
    kind: str
    nth: int


def moments(seed: int, count: int) -> list[Moment]:
    """So many moments of one job, in the order in which it reaches them."""
    draw = random.Random(seed)
    places = sorted(draw.sample(range(len(ORDER)), count))
    return [Moment(*ORDER[place], draw.randint(1, COUNTS[ORDER[place][1]])) for place in places]


class Killer:
    """Counts down to its moment."""

    def __init__(self, moment: Moment) -> None:
        self._moment, self._left = moment, moment.nth
        self._stage, self._role, self._round = "", "", 0

    def install(self) -> None:
        """Listen to the stages, the kept texts, the steps and to renames."""
        from autoalign.alignment.stages import Done, Stage, StageStore
        from autoalign.synthesizing.texts import TextStore
        from autoalign.synthesizing.writer import Writer
        from autoalign.training.engines.plain import PlainEngine

        run, write, add, step = StageStore.run, Writer.__call__, TextStore.add, PlainEngine.train_step

        def watched_run(store: StageStore, stage: Stage) -> Done:
            self._stage = stage.kind
            self._round += stage.kind == "data"
            return run(store, stage)

        def watched_write(writer: Writer, asks: Sequence[Any]) -> Any:
            self._role = asks[0].model if asks else ""
            return write(writer, asks)

        def watched_add(store: TextStore, *args: Any) -> None:
            add(store, *args)
            self._kept_a_text()

        def watched_step(engine: PlainEngine, *args: Any) -> Any:
            self._reached("trainer")
            return step(engine, *args)

        for owner, name, function in (
            (StageStore, "run", watched_run),
            (Writer, "__call__", watched_write),
            (TextStore, "add", watched_add),
            (PlainEngine, "train_step", watched_step),
        ):
            setattr(owner, name, function)
        sys.addaudithook(self._on_event)

    def _kept_a_text(self) -> None:
        if self._stage == "data":
            self._reached("judge" if self._role == "judge" else "sampler")
            if self._role != "judge":
                self._reached("engine")
        else:
            self._reached(self._stage)

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "os.rename":
            return
        name = Path(str(args[0])).name
        if name.startswith(".checkpoint") and Path(str(args[1])).name.startswith("checkpoint-"):
            self._reached("checkpoint")
        elif name.startswith(".train-") and name.endswith(".partial"):
            self._reached("driver")

    def _reached(self, kind: str) -> None:
        if (self._round, kind) != self._moment[:2]:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(engine_process() if kind == "engine" else os.getpid(), signal.SIGKILL)


def engine_process() -> int:
    """The one engine of the cluster whose head's pid is in KILL_HEAD."""
    family = psutil.Process(int(os.environ["KILL_HEAD"])).children(recursive=True)
    (found,) = (each.pid for each in family if each.cmdline()[:1] == ["ray::EngineHost"])
    return found


def main(words: Sequence[str]) -> None:
    """One life."""
    from autoalign.alignment.run import run
    from autoalign.config.align import AlignConfig

    config = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    if len(words) > 1:
        Killer(Moment(int(words[1]), words[2], int(words[3]))).install()
    run(AlignConfig.build(config))


if __name__ == "__main__":
    main(sys.argv[1:])
