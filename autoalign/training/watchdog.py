"""Is a worker still moving, was it told to leave, and where does it stand if it hangs?

In each worker a thread looks at the training thread's stack. A thread that waits for ever
in a collective shows the same stack each time; one that trains, loads or saves does not.
What it may wait for in other threads, as uploads, calls `touch` when it gets on.
As workers of a step wait for each other, a job hangs when none of them moves.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoalign.training.mailbox import Sign

_ANSWER_TIME = 10.0  # seconds that workers get to hand in their stacks
_touched = threading.Event()


def touch() -> None:
    """Say that the job gets on, from a thread other than the one that trains."""
    _touched.set()


class Movement:
    """Tells since when a thread has stood in one place, and nothing was touched.

    Args:
        thread: its id.
        clock: seconds.
    """

    def __init__(self, thread: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._thread, self._clock = thread, clock
        self._stack: tuple[tuple[int, int], ...] = ()
        self._moved_at = clock()

    def idle(self) -> float:
        """Seconds without movement, as seen by the calls of this method."""
        stack = stack_of(self._thread)
        if stack != self._stack or _touched.is_set():
            _touched.clear()
            self._stack, self._moved_at = stack, self._clock()
        return self._clock() - self._moved_at


def look_every(hang_timeout: float) -> float:
    """Seconds between two looks at a worker."""
    return min(5.0, max(0.2, hang_timeout / 20))


class Pulse:
    """A worker's signs of life, from the thread that makes it on behalf of the one that trains."""

    def __init__(self, mailbox: Any, rank: int, every: float) -> None:
        import ray

        context = ray.get_runtime_context()
        where = f"process {os.getpid()} on {socket.gethostname()}"
        self._sign = Sign(context.current_actor, context.get_node_id(), where)
        self._mailbox, self._rank, self._every = mailbox, rank, every
        self._movement = Movement(threading.get_ident())
        self._done = threading.Event()
        self._handed_in = False

    def start(self) -> None:
        """Give signs of life until `stop`, and say so when the process is told to end."""
        threading.Thread(target=self._run, daemon=True).start()
        self._no_longer_on_sigterm = on_sigterm(self._leave)

    def stop(self) -> None:
        """The training thread is done: to be told to end, as Ray Train does then, is no news any more."""
        self._done.set()
        self._no_longer_on_sigterm()

    def _run(self) -> None:
        import ray

        while not self._done.wait(self._every):
            sign = self._sign._replace(idle=self._movement.idle())
            if ray.get(self._mailbox.sign.remote(self._rank, sign)) and not self._handed_in:
                self._handed_in = True
                self._mailbox.put.remote({"kind": "stacks", "rank": self._rank, "text": all_stacks()})

    def _leave(self) -> None:
        self._mailbox.put.remote({"kind": "leave", "text": f"{self._sign.where} was told to end (SIGTERM)"})
        self._mailbox.request_stop.remote()


def stack_of(thread: int) -> tuple[tuple[int, int], ...]:
    """Where a thread stands: code and instruction of every frame."""
    frame, places = sys._current_frames().get(thread), []
    while frame is not None:
        places.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return tuple(places)


def all_stacks() -> str:
    """The Python stacks of all threads of this process."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def on_sigterm(call: Callable[[], None]) -> Callable[[], None]:
    """Call `call` in a thread at the first SIGTERM; the second one does what it did before.

    Ray Train runs a worker's function beside the main thread, where `signal.signal` is not
    to be had. faulthandler's C handler is; here it writes into a pipe.

    Returns:
        Ends that: SIGTERM does what it did before.
    """
    read_end, write_end = os.pipe()
    faulthandler.register(signal.SIGTERM, file=write_end, all_threads=False, chain=False)

    def wait() -> None:
        if os.read(read_end, 1):
            faulthandler.unregister(signal.SIGTERM)
            call()
        else:
            os.close(read_end)

    def end() -> None:
        faulthandler.unregister(signal.SIGTERM)
        os.close(write_end)

    threading.Thread(target=wait, daemon=True).start()
    return end


def collect_stacks(mailbox: Any, events: Callable[[], dict[int, str]], every: float, folder: Path) -> Path:
    """Write the stacks of all workers to `folder`/TIME/rank-N.txt.

    Args:
        events: the stacks that have come in so far, by rank.
        every: seconds between a worker's looks at the mailbox.
    """
    import ray

    signs: dict[int, Sign] = ray.get(mailbox.signs.remote())
    mailbox.request_stacks.remote()
    deadline = time.monotonic() + _ANSWER_TIME + 2 * every
    while len(found := events()) < len(signs) and time.monotonic() < deadline:
        time.sleep(0.1)
    place = folder / time.strftime("%Y%m%d-%H%M%S")
    place.mkdir(parents=True, exist_ok=True)
    for rank, sign in sorted(signs.items()):
        silent = "It did not answer: the process is stopped, or native code holds its interpreter.\n"
        text = f"rank {rank}, {sign.where}\n{found.get(rank, silent)}"
        (place / f"rank-{rank}.txt").write_text(text, encoding="utf-8")
    return place


def kill_workers(mailbox: Any) -> None:
    """End all workers of an attempt at once, also such as don't answer."""
    import ray

    for sign in ray.get(mailbox.signs.remote()).values():
        ray.kill(sign.worker)


def draining_nodes(mailbox: Any) -> list[str]:
    """Ids of the workers' nodes that are about to be taken away (a spot instance, `ray drain-node`)."""
    import ray

    # Ray Train's own get_preemption_info is a collective of all workers: too dear for every step.
    draining = ray._private.state.state.get_draining_nodes()
    return sorted({s.node_id for s in ray.get(mailbox.signs.remote()).values()} & draining.keys())
