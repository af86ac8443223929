"""On a process's PYTHONPATH: each rank writes the rows that it batches to $RECORD_BATCHES/PID.jsonl.

The first steps of several ranks take a while each, so that what befalls a job comes before its end.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from pathlib import Path

LOOP = "autoalign.training.loop"
FIRST, PAUSE = 30, 0.05  # steps, seconds


class _Patching(importlib.abc.MetaPathFinder):
    """Finds the loop's module as usual, and patches it when it has been run."""

    def find_spec(self, name, path, target=None):
        if name != LOOP:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def run_and_patch(module):
            run(module)
            _patch(module.Trainer)

        spec.loader.exec_module = run_and_patch
        return spec


def _patch(trainer):
    batches = trainer._batches

    def recorded(self, examples, parts):
        if examples is self.examples:
            rows = [row for part in parts[self.world.rank :: self.world.size] for row in part]
            line = {"step": self.progress.step + 1, "workers": self.world.size, "rows": rows}
            with (Path(os.environ["RECORD_BATCHES"]) / f"{os.getpid()}.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            if self.world.size > 1 and self.progress.step < FIRST:
                time.sleep(PAUSE)
        return batches(self, examples, parts)

    trainer._batches = recorded


if "RECORD_BATCHES" in os.environ:
    sys.meta_path.insert(0, _Patching())
