"""Models that say what a test wrote down, for algorithms and synthesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autoalign import algorithms
from autoalign.algorithms import Ask, Job, Made, Prompt, Reply
from autoalign.records import Message

Script = Callable[[Ask], "str | Reply"]


class Scripted:
    """Answers by a function; remembers what it was asked."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.asks: list[Ask] = []

    def __call__(self, asks: Sequence[Ask]) -> list[Reply]:
        self.asks += asks
        said = [self._script(ask) for ask in asks]
        return [one if isinstance(one, Reply) else Reply(one) for one in said]

    @property
    def keys(self) -> list[str]:
        """In the order in which they were asked."""
        return [ask.key for ask in self.asks]

    def ask(self, key: str) -> Ask:
        """The ask under `key`."""
        (found,) = (ask for ask in self.asks if ask.key == key)
        return found

    def shown(self, key: str) -> str:
        """The last turn of the ask under `key`."""
        return self.ask(key).messages[-1].content


def by_key(replies: dict[str, str | Reply]) -> Script:
    """What is said under a whole key, or under what follows the prompt's id."""

    def script(ask: Ask) -> str | Reply:
        return replies[ask.key] if ask.key in replies else replies[ask.key.split("/", 1)[1]]

    return script


def prompt(question: str, id: str = "p", **fields: Any) -> Prompt:
    """A prompt of one user turn."""
    return Prompt(id, (Message("user", question),), **fields)


def make(
    name: str, script: Script, prompts: Sequence[Prompt], options: dict[str, Any] | None = None, **job: Any
) -> tuple[list[Made], Scripted]:
    """What the algorithm makes, and the models that it asked."""
    built, models = algorithms.build(name, **(options or {})), Scripted(script)
    return list(built.run(Job(prompts, built.prompts(), models, **job))), models


def rules(made: Sequence[Made]) -> list[str]:
    """The rules by which rows were dropped."""
    return [one.rule for one in made if isinstance(one, algorithms.Dropped)]


def pairs(made: Sequence[Made]) -> list[tuple[str, str]]:
    """Chosen and rejected of the pairs."""
    return [(one.chosen, one.rejected) for one in made if isinstance(one, algorithms.Pair)]


def answers(made: Sequence[Made]) -> list[str]:
    """What the examples' assistant says last."""
    return [one.messages[-1].content for one in made if isinstance(one, algorithms.Example)]
