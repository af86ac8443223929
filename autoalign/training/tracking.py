"""Hands a job's lines on to its trackers, without ever keeping the job waiting or failing it.

It runs in the process that the user started, beside the display, and sends from a thread of its
own. `trackers.json` in the output folder holds each tracker's run and how far it has come, so
that a resumed job goes on with the same runs: no point is sent twice, and what was missed is
made up for from metrics.jsonl.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoalign import plugins
from autoalign.config.train import TrainConfig
from autoalign.errors import StoppedEarly
from autoalign.training import pictures
from autoalign.training.metrics import METRICS_NAME, read_metrics
from autoalign.training.reporting import Display
from autoalign.training.trackers._tracker import BEGINNING, Outcome, Position, TrackedRun, Tracker

LEDGER_NAME = "trackers.json"
_PACKAGE = "autoalign.training.trackers"
_RETRY_EVERY = 60.0  # seconds between tries of a tracker that failed
_CLOSE_WITHIN = 60.0  # seconds that the job's end waits for slow trackers

Row = Mapping[str, Any]


def require(config: TrainConfig) -> None:
    """Check that every tracker asked for can work here.

    Raises:
        InputError: a library or a login is missing.
    """
    for name in config.report_to:
        plugins.load(_PACKAGE, name).require()


@contextmanager
def tracked(config: TrainConfig, display: Display) -> Iterator[None]:
    """Send what `display` is shown inside the block to the config's trackers."""
    if not config.report_to:
        yield
        return
    tracking = Tracking(config, display.note)
    outcome: Outcome = "failed"
    display.watcher = tracking.show
    try:
        yield
        outcome = "finished"
    except StoppedEarly:
        outcome = "stopped"
        raise
    finally:
        display.watcher = None
        tracking.close(outcome)


def position(row: Row) -> Position:
    """A line's place in the order in which lines are sent."""
    return Position(row["step"], "eval_loss" in row)


def figures(row: Row) -> dict[str, float]:
    """A line of metrics.jsonl under the names that trackers group by: `train/...`, `eval/...`."""
    return {
        f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}": value
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }


class Tracking:
    """The thread that sends."""

    def __init__(self, config: TrainConfig, note: Callable[[str], None]) -> None:
        self._folder = Path(config.output_dir)
        ledger = Ledger(self._folder / LEDGER_NAME)
        self._senders = [Sender(name, config, ledger, note) for name in config.report_to]
        self._queue: queue.SimpleQueue[Row | Outcome] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._note = note

    def show(self, event: Mapping[str, Any]) -> None:
        """Take an event of the loop: its `start`, which says from which step on, and each `row`."""
        if event["kind"] == "row":
            self._queue.put(event["row"])
        elif event["kind"] == "start":
            for row in read_metrics(self._folder / METRICS_NAME):
                if row["step"] <= event["step"]:
                    self._queue.put(row)
            if not self._thread.is_alive():
                self._thread.start()

    def close(self, outcome: Outcome) -> None:
        """Send what is left, and the pictures."""
        if not self._thread.is_alive():
            return
        self._queue.put(outcome)
        self._thread.join(_CLOSE_WITHIN)
        if self._thread.is_alive():
            self._note("warning: a tracker still has not answered; the job ends without it")

    def _run(self) -> None:
        for sender in self._senders:
            sender.send()
        while True:
            try:
                item = self._queue.get(timeout=_RETRY_EVERY)
            except queue.Empty:
                item = {}
            for sender in self._senders:
                if isinstance(item, str):
                    sender.finish(item, self._folder)
                    continue
                if item:
                    sender.add(item)
                sender.send()
            if isinstance(item, str):
                return


class Sender:
    """One tracker: its lines yet to be sent, and what to do when it fails."""

    def __init__(self, name: str, config: TrainConfig, ledger: Ledger, note: Callable[[str], None]) -> None:
        self._name, self._config, self._ledger, self._note = name, config, ledger, note
        self._tracker: Tracker | None = None
        self._waiting: deque[Row] = deque()
        self._latest = self._sent = ledger.sent(name)
        self._retry_at = 0.0
        self._has_warned = False

    def add(self, row: Row) -> None:
        """Keep a line until it is sent; one that was sent before is dropped."""
        if position(row) > self._latest:
            self._latest = position(row)
            self._waiting.append(row)

    def send(self) -> None:
        """Send all lines that wait, unless the tracker has just failed."""
        if time.monotonic() < self._retry_at:
            return
        try:
            self._send_all()
        except Exception as error:  # a process boundary: whatever a service does, training goes on
            self._failed(error)

    def finish(self, outcome: Outcome, folder: Path) -> None:
        """The last lines, the pictures, and how the job ended."""
        try:
            tracker = self._send_all()
            for path in (folder / pictures.LOSS_NAME, folder / pictures.REWARDS_NAME):
                if path.is_file():
                    tracker.picture(path, max(0, self._latest.step))
            tracker.close(outcome)
        except Exception as error:  # the same boundary
            self._failed(error)
            self._note(f"warning: {self._name} lacks {len(self._waiting)} lines of {METRICS_NAME}")

    def _send_all(self) -> Tracker:
        tracker = self._tracker = self._tracker or self._start()
        while self._waiting:
            row = self._waiting[0]
            if position(row) > self._sent:
                tracker.log(row["step"], figures(row))
                self._sent = position(row)
                self._ledger.write(self._name, tracker.run_id, self._sent)
            self._waiting.popleft()
        return tracker

    def _start(self) -> Tracker:
        config = self._config
        folder = Path(config.output_dir)
        run = TrackedRun(
            folder,
            config.project,
            config.run_name or folder.name,
            config.job,
            config.model_dump(mode="json"),
            self._ledger.run_id(self._name),
        )
        tracker: Tracker = plugins.load(_PACKAGE, self._name).start(run)
        self._sent = max(self._sent, tracker.sent)
        self._ledger.write(self._name, tracker.run_id, self._sent)
        self._note(f"{self._name}: {tracker.place}")
        return tracker

    def _failed(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + _RETRY_EVERY
        if not self._has_warned:
            self._has_warned = True
            lines = str(error).strip().splitlines() or [repr(error)]
            self._note(
                f"warning: {self._name} failed ({lines[0][:200]}); training goes on, {METRICS_NAME} has "
                "every figure, and what is missing is sent when it answers again"
            )


class Ledger:
    """`trackers.json`: each tracker's run, and the last line that it has."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content: dict[str, Any] = {}
        if path.is_file():
            self._content = json.loads(path.read_text(encoding="utf-8"))

    def run_id(self, name: str) -> str | None:
        """The run to go on with."""
        found = self._content.get(name)
        return None if found is None else str(found["run_id"])

    def sent(self, name: str) -> Position:
        """The last line that was sent."""
        found = self._content.get(name)
        return BEGINNING if found is None else Position(found["step"], found["is_evaluation"])

    def write(self, name: str, run_id: str, sent: Position) -> None:
        """Note it down."""
        self._content[name] = {"run_id": run_id, **sent._asdict()}
        # Not named like a job's own unfinished files, which its end clears away.
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(self._content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self._path)
