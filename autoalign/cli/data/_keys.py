"""Keys from a terminal, one at a time, without Enter."""

from __future__ import annotations

import os
import select
from typing import Protocol

SEQUENCES = {b"\x1b[C": "right", b"\x1b[D": "left", b"\x1b[A": "up", b"\x1b[B": "down"}
# In the cursor-key mode that some programs leave behind, O takes the place of [.
SEQUENCES |= {sequence.replace(b"[", b"O"): name for sequence, name in SEQUENCES.items()}


class Keys(Protocol):
    """Where keys come from."""

    def key(self) -> str:
        """The next key: a character, `right`, `left`, `up` or `down`; empty where there are no more."""
        ...

    def line(self, prompt: str) -> str:
        """What is typed up to Enter."""
        ...


class TerminalKeys:
    """Keys of the terminal behind a file descriptor."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor

    def key(self) -> str:
        """Read as they are typed; the terminal is as it was afterwards."""
        import termios
        import tty

        before = termios.tcgetattr(self._descriptor)
        try:
            tty.setcbreak(self._descriptor, termios.TCSADRAIN)
            typed = os.read(self._descriptor, 1)
            if typed == b"\x1b" and select.select([self._descriptor], [], [], 0.05)[0]:
                typed += os.read(self._descriptor, 2)
        finally:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)
        return SEQUENCES.get(typed) or typed.decode("utf-8", "replace")[:1]

    def line(self, prompt: str) -> str:
        """With the terminal's own editing; nothing at the end of input or after Ctrl-C."""
        try:
            return input(prompt)
        except (EOFError, KeyboardInterrupt):
            return ""
