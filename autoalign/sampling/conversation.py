"""The state of a chat in the terminal: turns, and the commands that change them. No model, no printing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from autoalign.errors import InputError, nearest
from autoalign.records import Message

COMMANDS = {
    "/reset": "forget the conversation",
    "/regen": "answer the last question again, differently",
    "/undo": "take back the last question and its answer",
    "/system": "TEXT: set the system message and start over; without TEXT: remove it",
    "/save": "FILE: write the conversation as a ShareGPT row (.json) or append it (.jsonl)",
    "/help": "this list",
    "/exit": "leave (also Ctrl-D)",
}
_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}


class ChatError(InputError):
    """A command that can't be done; the chat goes on."""


@dataclass(slots=True)
class ChatSession:
    """Turns so far. `tries` counts the answers to the last question, so each gets another seed."""

    system_message: str | None = None
    turns: list[Message] = field(default_factory=list)
    tries: int = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the model is shown, the system message first."""
        system = [] if self.system_message is None else [Message("system", self.system_message)]
        return (*system, *self.turns)

    def ask(self, text: str) -> None:
        """The user's turn."""
        self.turns.append(Message("user", text))
        self.tries = 0

    def answered(self, text: str) -> None:
        """The model's turn."""
        self.turns.append(Message("assistant", text))
        self.tries += 1

    def take_back_question(self) -> None:
        """Forget a question that got no answer."""
        if self.turns and self.turns[-1].role == "user":
            self.turns.pop()

    def reset(self) -> None:
        """Forget all turns; the system message stays."""
        self.turns.clear()
        self.tries = 0

    def regenerate(self) -> None:
        """Forget the last answer, so that its question waits again.

        Raises:
            ChatError: there is none.
        """
        if not self.turns or self.turns[-1].role != "assistant":
            raise ChatError("nothing to answer again yet")
        self.turns.pop()

    def undo(self) -> None:
        """Forget the last question and its answer.

        Raises:
            ChatError: there is none.
        """
        if not self.turns:
            raise ChatError("nothing to take back")
        while self.turns.pop().role != "user":
            pass
        self.tries = 0

    def set_system(self, text: str) -> None:
        """Another system message (empty: none), and no turns."""
        self.system_message = text or None
        self.reset()

    def save(self, path: Path) -> None:
        """Write a ShareGPT row that `sft` can be trained on: a list in .json, a line more in .jsonl.

        Raises:
            ChatError: no turns, a `.json` file that exists, or a file that can't be written.
        """
        if not self.turns:
            raise ChatError("nothing to save yet")
        turns = [{"from": _SPEAKERS[m.role], "value": m.content} for m in self.messages]
        row = {"id": path.stem, "conversations": turns, "source": "chat"}
        try:
            if path.suffix == ".jsonl":
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
            else:
                with path.open("x", encoding="utf-8") as file:
                    file.write(json.dumps([row], ensure_ascii=False, indent=2) + "\n")
        except FileExistsError:
            raise ChatError(f"{path} exists already; choose another name") from None
        except OSError as error:
            raise ChatError(f"{path}: {error.strerror or error}") from None


def parse_command(line: str) -> tuple[str, str] | None:
    """`/name rest` as (`/name`, `rest`); None for a line that is said to the model.

    Raises:
        ChatError: there is no such command.
    """
    if not line.startswith("/"):
        return None
    name, _, rest = line.strip().partition(" ")
    if name not in COMMANDS:
        raise ChatError(f"no command '{name}'{nearest(name, COMMANDS)}; /help lists them")
    return name, rest.strip()
